// How much memory the process has, by what the kernel keeps anyway: malloc's own statistics walk every
// free piece under its locks, and hold all threads up for as long as that takes.
#pragma once

#include <cstdint>
#include <optional>

namespace polylog::server {

/// In octets.
struct ProcessMemory {
  int64_t resident = 0;
  int64_t own = 0;  ///< of it, what no file stands behind: the heap and the stacks
};

/// From /proc/self/statm; nothing where that can't be read. Any thread.
std::optional<ProcessMemory> processMemory();

}  // namespace polylog::server
