// The features whose versions clients choose by (KIP-584): ApiVersions tells them, and at which
// level each is. Levels are fixed; UpdateFeatures says so.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace polylog::kafka {

struct Feature {
  std::string_view name;
  int16_t min;
  int16_t max;
  int16_t level;  ///< in force
};

inline constexpr std::array kFeatures = {
    /// Producers give their transactions a new epoch each, and no partitions beforehand (KIP-890).
    Feature{"transaction.version", 0, 2, 2},
    /// There are share groups (KIP-932).
    Feature{"share.version", 0, 1, 1},
};

}  // namespace polylog::kafka
