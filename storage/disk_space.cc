#include "storage/disk_space.h"

#include <algorithm>

namespace polylog::storage {
namespace {

/// Of what was free above the high mark, how much may be written before the next look.
constexpr uint64_t kDuePart = 8;

}  // namespace

DiskSpace::DiskSpace(uint64_t highMark, uint64_t lowMark)
    : highMark_(highMark), lowMark_(std::max(highMark, lowMark)) {}

void DiskSpace::seen(uint64_t free, Position written) {
  free_ = free;
  written_ = written;
  bool wasFull = full_;
  full_ = free < (wasFull ? lowMark_ : highMark_);
  resumed_ |= wasFull && !full_;
}

void DiskSpace::sequenced(Position next) {
  if (left(next) < highMark_) full_ = true;
}

bool DiskSpace::due(Position written) const {
  if (full_ || free_ < highMark_) return false;
  return free_ - left(written) > (free_ - highMark_) / kDuePart;
}

uint64_t DiskSpace::left(Position next) const {
  // A write that was taken back moves the journal's end back too.
  uint64_t taken = next > written_ ? next - written_ : 0;
  return free_ - std::min(free_, taken);
}

}  // namespace polylog::storage
