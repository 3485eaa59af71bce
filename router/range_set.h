// Numbers acknowledged out of order: a floor below which all are, and ranges above it. Small when
// acknowledgements come nearly in order. Not for sharing between threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace polylog::router {

class RangeSet {
 public:
  using Range = std::pair<int64_t, int64_t>;  ///< [first, second)

  RangeSet() = default;
  explicit RangeSet(int64_t floor) : floor_(floor) {}
  /// `ranges` ascending and apart.
  RangeSet(int64_t floor, std::vector<Range> ranges) : floor_(floor), ranges_(std::move(ranges)) {
    absorb();
  }

  int64_t floor() const { return floor_; }
  const std::vector<Range>& ranges() const { return ranges_; }
  int64_t above() const {
    int64_t sum = 0;
    for (const Range& range : ranges_) sum += range.second - range.first;
    return sum;
  }

  bool contains(int64_t id) const {
    if (id < floor_) return true;
    auto at = after(id);
    return at != ranges_.begin() && id < std::prev(at)->second;
  }

  /// False if it was there.
  bool add(int64_t id) {
    if (contains(id)) return false;
    if (id == floor_) {
      ++floor_;
      absorb();
      return true;
    }
    auto next = ranges_.begin() + (after(id) - ranges_.cbegin());
    bool joinsLeft = next != ranges_.begin() && std::prev(next)->second == id;
    bool joinsRight = next != ranges_.end() && next->first == id + 1;
    if (joinsLeft && joinsRight) {
      std::prev(next)->second = next->second;
      ranges_.erase(next);
    } else if (joinsLeft) {
      ++std::prev(next)->second;
    } else if (joinsRight) {
      --next->first;
    } else {
      ranges_.insert(next, {id, id + 1});
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
    return std::upper_bound(ranges_.begin(), ranges_.end(), id,
                            [](int64_t value, const Range& range) { return value < range.first; });
  }
  void absorb() {
    size_t gone = 0;
    while (gone < ranges_.size() && ranges_[gone].first <= floor_) {
      floor_ = std::max(floor_, ranges_[gone].second);
      ++gone;
    }
    ranges_.erase(ranges_.begin(), ranges_.begin() + static_cast<std::ptrdiff_t>(gone));
  }

  int64_t floor_ = 0;
  std::vector<Range> ranges_;
};

}  // namespace polylog::router
