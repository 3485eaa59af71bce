// What the process has allocated, for tests that hold a memory budget.
#pragma once

#include <malloc.h>

#include <cstddef>
#include <optional>

namespace polylog::test {

/// Octets in use, the allocator's own included. Nothing where another allocator stands in
/// (sanitizers).
inline std::optional<size_t> heapInUse() {
  struct mallinfo2 info = mallinfo2();
  if (info.uordblks == 0) return std::nullopt;
  return info.uordblks + info.hblkhd;
}

}  // namespace polylog::test
