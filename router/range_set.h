// Numbers acknowledged out of order: a floor below which all are, and ranges above it. Small when
// acknowledgements come nearly in order. Not for sharing between threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/base/seldom.h"

namespace polylog::router {

class RangeSet {
 public:
  using Range = std::pair<int64_t, int64_t>;  ///< [first, second)

  RangeSet() = default;
  explicit RangeSet(int64_t floor) : floor_(floor) {}
  /// `ranges` ascending and apart.
  RangeSet(int64_t floor, std::vector<Range> ranges) : floor_(floor) {
    if (ranges.empty()) return;
    ranges_.write() = std::move(ranges);
    absorb();
  }

  int64_t floor() const { return floor_; }
  const std::vector<Range>& ranges() const { return *ranges_; }
  int64_t above() const {
    int64_t sum = 0;
    for (const Range& range : *ranges_) sum += range.second - range.first;
    return sum;
  }

  bool contains(int64_t id) const {
    if (id < floor_) return true;
    auto at = after(id);
    return at != ranges_->begin() && id < std::prev(at)->second;
  }

  /// False if it was there.
  bool add(int64_t id) {
    if (contains(id)) return false;
    if (id == floor_) {
      ++floor_;
      absorb();
      return true;
    }
    std::vector<Range>& ranges = ranges_.write();
    auto next = ranges.begin() + (after(id) - ranges.cbegin());
    bool joinsLeft = next != ranges.begin() && std::prev(next)->second == id;
    bool joinsRight = next != ranges.end() && next->first == id + 1;
    if (joinsLeft && joinsRight) {
      std::prev(next)->second = next->second;
      ranges.erase(next);
    } else if (joinsLeft) {
      ++std::prev(next)->second;
    } else if (joinsRight) {
      --next->first;
    } else {
      ranges.insert(next, {id, id + 1});
    }
    return true;
  }

  /// All below `floor` are in.
  void raiseFloor(int64_t floor) {
    if (floor <= floor_) return;
    floor_ = floor;
    absorb();
  }

 private:
  std::vector<Range>::const_iterator after(int64_t id) const {
    return std::upper_bound(ranges_->begin(), ranges_->end(), id,
                            [](int64_t value, const Range& range) { return value < range.first; });
  }
  void absorb() {
    if (ranges_->empty()) return;
    std::vector<Range>& ranges = ranges_.write();
    size_t gone = 0;
    while (gone < ranges.size() && ranges[gone].first <= floor_) {
      floor_ = std::max(floor_, ranges[gone].second);
      ++gone;
    }
    ranges.erase(ranges.begin(), ranges.begin() + static_cast<std::ptrdiff_t>(gone));
    if (ranges.empty()) ranges_.reset();
  }

  int64_t floor_ = 0;
  Seldom<std::vector<Range>> ranges_;
};

}  // namespace polylog::router
