// Every decoder of codecs/kafka/wire: the first octet picks a message, the second a version. What
// decodes must encode, and decode again to the same.
#include <cstdint>
#include <cstdlib>
#include <tuple>
#include <utility>

#include "codecs/kafka/decoder.h"
#include "codecs/kafka/wire/all.h"

namespace {

using namespace polylog;
using namespace polylog::kafka;

template <class Message>
void tryMessage(uint8_t choice, BytesView body) {
  int versions = Message::kMaxVersion - Message::kMinVersion + 1;
  auto version = static_cast<int16_t>(Message::kMinVersion + choice % versions);
  Message message;
  wire::Decoder in(body);
  message.decode(in, version);
  if (!in.ok()) return;
  wire::Encoder out;
  message.encode(out, version);
  Message back;
  wire::Decoder again(out.view());
  back.decode(again, version);
  if (!again.complete() || !(back == message)) std::abort();
}

template <class... Messages>
void pick(std::tuple<Messages...>*, size_t which, uint8_t version, BytesView body) {
  size_t at = 0;
  ((at++ == which ? tryMessage<Messages>(version, body) : void()), ...);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  BytesView input(reinterpret_cast<const char*>(data), size);
  RequestHeader header;
  decodeFrame(input, 1 << 20);
  if (decodeRequestHeader(input, header)) skipHeaderTags(header);
  if (size < 2) return 0;
  constexpr size_t kApis = std::tuple_size_v<wire::AllRequests>;
  size_t which = data[0] % (2 * kApis);
  if (which < kApis) {
    pick(static_cast<wire::AllRequests*>(nullptr), which, data[1], input.substr(2));
  } else {
    pick(static_cast<wire::AllResponses*>(nullptr), which - kApis, data[1], input.substr(2));
  }
  return 0;
}
