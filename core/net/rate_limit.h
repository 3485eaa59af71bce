// How many of something there may be in a second, evenly and with bursts of a second's worth. One
// atomic number; any thread, no lock.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace polylog {

class RateLimit {
 public:
  /// `perSecond` 0 = no limit.
  explicit RateLimit(int64_t perSecond) : step_(perSecond > 0 ? kNanosPerSecond / perSecond : 0) {}

  /// True if one more may be at `nowMicros` (a clock that never goes back), and counts it then.
  bool take(int64_t nowMicros) {
    if (step_ == 0) return true;
    int64_t now = nowMicros * 1000;
    // The moment at which all that was taken is paid for; a second ahead of now is the most.
    int64_t paid = paid_.load(std::memory_order_relaxed);
    for (;;) {
      int64_t next = std::max(paid, now) + step_;
      if (next - now > kNanosPerSecond) return false;
      if (paid_.compare_exchange_weak(paid, next, std::memory_order_relaxed)) return true;
    }
  }

 private:
  static constexpr int64_t kNanosPerSecond = 1'000'000'000;

  int64_t step_;
  std::atomic<int64_t> paid_{0};
};

}  // namespace polylog
