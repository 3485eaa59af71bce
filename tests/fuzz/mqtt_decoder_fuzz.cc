// Any octets at the MQTT decoder, both sides, both versions and before CONNECT: never out of
// bounds, and what it takes, the encoder writes so that it is read again as the same.
#include <cstdint>
#include <string>

#include "codecs/mqtt/decoder.h"
#include "codecs/mqtt/encoder.h"
#include "tests/fuzz/check.h"

namespace {

using namespace polylog;
using namespace polylog::mqtt;
using polylog::test::check;

void run(Decoder decoder, std::optional<Version> version, BytesView input) {
  while (!input.empty()) {
    Decoded decoded = decoder.next(input);
    auto* whole = std::get_if<DecodedPacket>(&decoded);
    if (whole == nullptr) return;
    check(whole->size > 0 && whole->size <= input.size());
    Version written = version.value_or(Version::k311);
    if (const auto* connect = std::get_if<ConnectPacket>(&whole->packet)) {
      if (!connect->readable()) return;
      written = connect->version();
    }
    ByteWriter once;
    encode(once, written, whole->packet);
    Decoded again = decoder.next(once.view());
    auto* second = std::get_if<DecodedPacket>(&again);
    check(second != nullptr && second->size == once.size());
    ByteWriter twice;
    encode(twice, written, second->packet);
    check(once.view() == twice.view());
    input.remove_prefix(whole->size);
  }
}

}  // namespace

/// The first octet chooses side and version, the rest is the wire.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const Side side = (data[0] & 1) != 0 ? Side::kClient : Side::kServer;
  std::optional<Version> version;
  if ((data[0] & 6) == 2) version = Version::k311;
  if ((data[0] & 6) == 4) version = Version::k5;
  if (side == Side::kClient && !version) version = Version::k5;
  Decoder decoder(side, size_t{1} << 20);
  if (version) decoder.use(*version);
  run(decoder, version, BytesView(reinterpret_cast<const char*>(data) + 1, size - 1));
  return 0;
}
