// Where a subscriber that asks for a topic's stored past wants it to begin.
#pragma once

#include <cstdint>

namespace polylog {

struct ReplayStart {
  enum class Kind : uint8_t {
    kEarliest = 0,  ///< with the oldest record there is
    kOffset = 1,    ///< with that offset, of a topic with one partition
    kTime = 2,      ///< with the first record of that time (milliseconds since 1970 UTC) or later
    kAgo = 3,       ///< the same, so many milliseconds before the subscription
    kLast = 4,      ///< with the last so many records of each partition which match
  };
  Kind kind = Kind::kEarliest;
  int64_t value = 0;  ///< >= 0
  bool operator==(const ReplayStart&) const = default;
};

/// Where a record stands in its topic.
struct LogPlace {
  int32_t partition = 0;
  int64_t offset = 0;
};

}  // namespace polylog
