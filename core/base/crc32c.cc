#include "core/base/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <limits>

namespace polylog {

uint32_t crc32c(BytesView bytes, uint32_t previous) {
  uint32_t crc = ~previous;
  while (!bytes.empty()) {  // isa-l counts in int
    size_t step = std::min<size_t>(bytes.size(), std::numeric_limits<int>::max());
    auto* data = reinterpret_cast<unsigned char*>(const_cast<char*>(bytes.data()));
    crc = crc32_iscsi(data, static_cast<int>(step), crc);
    bytes.remove_prefix(step);
  }
  return ~crc;
}

}  // namespace polylog
