// Any octets as a PROXY header: never out of bounds, and what more octets make of it agrees with
// what fewer did.
#include <cstdint>

#include "core/net/address.h"
#include "core/net/proxy_header.h"
#include "tests/fuzz/check.h"

namespace {

using namespace polylog;
using polylog::test::check;
using Outcome = ProxyHeader::Outcome;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  BytesView input(reinterpret_cast<const char*>(data), size);
  ProxyHeader header = readProxyHeader(input);
  if (header.outcome == Outcome::kNeedMore) {
    check(size < kMaxProxyHeader);
    return 0;
  }
  if (header.outcome == Outcome::kBad) {
    check(header.why[0] != '\0');
    return 0;
  }
  check(header.size > 0 && header.size <= size && header.size <= kMaxProxyHeader);
  check(header.source.has_value() == header.destination.has_value());
  if (header.source) {
    auto again = parseHostPort(toText(*header.source));
    check(again && again->host == header.source->host && again->port == header.source->port);
  }
  // It ends where it ends: what stands behind it, or isn't there yet, makes no difference.
  check(readProxyHeader(input.substr(0, header.size)).outcome == Outcome::kHeader);
  check(readProxyHeader(input.substr(0, header.size - 1)).outcome == Outcome::kNeedMore);
  return 0;
}
