// What the process has allocated, for tests that hold a memory budget.
#pragma once

#include <malloc.h>

#include <cstddef>
#include <cstdlib>
#include <optional>

namespace polylog::test {

/// Octets in use, the allocator's own included. Nothing where the C library's isn't the allocator
/// (under sanitizers).
inline std::optional<size_t> heapInUse() {
  auto inUse = [] {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
  };
  static const bool counts = [&inUse] {
    constexpr size_t kProbe = 1U << 20;
    size_t before = inUse();
    void* volatile probe = std::malloc(kProbe);
    bool seen = inUse() >= before + kProbe;
    std::free(probe);
    return seen;
  }();
  if (!counts) return std::nullopt;
  return inUse();
}

}  // namespace polylog::test
