// A set of offsets of one partition: those that compaction leaves out. One bit an offset.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "core/base/strong.h"

namespace polylog::storage {

class OffsetSet {
 public:
  /// Of offsets in [first, end).
  OffsetSet(Offset first, Offset end)
      : first_(first),
        end_(std::max(first, end)),
        words_(static_cast<size_t>((end_ - first_ + 63) / 64)) {}

  void add(Offset offset) {
    if (offset < first_ || offset >= end_) return;
    auto at = static_cast<uint64_t>(offset - first_);
    words_[at / 64] |= uint64_t{1} << (at % 64);
  }
  bool contains(Offset offset) const {
    if (offset < first_ || offset >= end_) return false;
    auto at = static_cast<uint64_t>(offset - first_);
    return (words_[at / 64] >> (at % 64) & 1) != 0;
  }
  /// How many of [first, end) are in.
  uint64_t count(Offset first, Offset end) const {
    first = std::max(first, first_);
    end = std::min(end, end_);
    uint64_t sum = 0;
    for (Offset at = first; at < end;) {
      auto bit = static_cast<uint64_t>(at - first_);
      uint64_t wanted = ~uint64_t{0} << (bit % 64);
      auto left = static_cast<uint64_t>(end - at);
      uint64_t here = 64 - bit % 64;
      if (left < here) wanted &= ~uint64_t{0} >> (here - left);
      sum += static_cast<uint64_t>(std::popcount(words_[bit / 64] & wanted));
      at += static_cast<int64_t>(std::min(left, here));
    }
    return sum;
  }

 private:
  Offset first_;
  Offset end_;
  std::vector<uint64_t> words_;
};

}  // namespace polylog::storage
