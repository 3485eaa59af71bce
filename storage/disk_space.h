// Whether the journal's disk has room for publishes: what the file system last told, less what has
// been sequenced since, against two marks. Publishes stop when fewer octets than the high mark's
// are free and go on when there are as many as the low mark's again, so that the state doesn't
// flutter. The log store calls it under its lock; full() may be asked on any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "core/base/strong.h"

namespace polylog::storage {

class DiskSpace {
 public:
  /// Octets free below which publishes stop, and from which on they go on (at least as many).
  DiskSpace(uint64_t highMark, uint64_t lowMark);

  /// The file system had `free` octets when the journal was written up to `written`.
  void seen(uint64_t free, Position written);
  /// The journal is sequenced up to `next`: that much of what was free is spoken for.
  void sequenced(Position next);
  /// A write found no room, whatever the file system says.
  void ranOut() { full_ = true; }

  /// Whether full() has ended since this was last asked.
  bool takeResumed() { return std::exchange(resumed_, false); }

  /// Publishes are not admitted.
  bool full() const { return full_; }
  /// So much of what was free above the high mark has been written that it should be looked at
  /// again.
  bool due(Position written) const;
  /// Octets free by our reckoning when the journal is written up to `next`.
  uint64_t left(Position next) const;

 private:
  const uint64_t highMark_;
  const uint64_t lowMark_;
  uint64_t free_ = UINT64_MAX;
  Position written_;  ///< when free_ was so much
  std::atomic<bool> full_{false};
  bool resumed_ = false;
};

}  // namespace polylog::storage
