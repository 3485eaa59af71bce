// How a batch's records are compressed. The numbers are Kafka's, and on disk.
#pragma once

#include <cstdint>

namespace polylog {

enum class Compression : uint8_t { kNone = 0, kGzip = 1, kSnappy = 2, kLz4 = 3, kZstd = 4 };

}  // namespace polylog
