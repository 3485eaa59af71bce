// Compressed bodies from hostile producers. The first octet chooses the codec, the second the
// limit.
#include <cstdint>
#include <cstdlib>

#include "core/model/compression.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace polylog;
  if (size < 2) return 0;
  auto codec = static_cast<Compression>(data[0] % 6);
  size_t limit = size_t{1} << (data[1] % 22);
  BytesView body(reinterpret_cast<const char*>(data + 2), size - 2);

  Result<std::string> plain = decompress(codec, body, limit);
  if (plain && plain->size() > limit) std::abort();
  if (codec > Compression::kZstd) return 0;
  // And our own output has to come back.
  Result<std::string> back = decompress(codec, compress(codec, body), body.size());
  if (!back || *back != body) std::abort();
  return 0;
}
