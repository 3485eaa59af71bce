// How much one client may send: buckets of tokens, one of publishes and one of octets, each holding
// a second's worth. What has been read is always dealt with; a bucket that is overdrawn by it is
// waited for. On the connection's thread.
#pragma once

#include <algorithm>
#include <cstdint>

namespace polylog::mqtt {

class TokenBucket {
 public:
  /// `perSecond` 0 = no limit.
  explicit TokenBucket(int64_t perSecond) : perSecond_(perSecond), micro_(perSecond * kMicros) {}

  bool unlimited() const { return perSecond_ == 0; }
  void take(int64_t count, int64_t nowMicros) {
    if (perSecond_ == 0) return;
    refill(nowMicros);
    micro_ -= count * kMicros;
  }
  /// Microseconds until it is no longer overdrawn; 0 = it isn't.
  int64_t wait(int64_t nowMicros) {
    if (perSecond_ == 0) return 0;
    refill(nowMicros);
    return micro_ >= 0 ? 0 : (-micro_ + perSecond_ - 1) / perSecond_;
  }

 private:
  static constexpr int64_t kMicros = 1'000'000;

  void refill(int64_t nowMicros) {
    // What takes longer than an hour to fill is full by then in any case.
    const int64_t passed = std::clamp<int64_t>(nowMicros - last_, 0, 3600 * kMicros);
    last_ = nowMicros;
    const int64_t full = perSecond_ * kMicros;
    // Compared before it is multiplied, which would overflow with the largest rates.
    micro_ = passed > (full - micro_) / perSecond_ ? full : micro_ + passed * perSecond_;
  }

  int64_t perSecond_;
  int64_t micro_;  ///< millionths of a token
  int64_t last_ = 0;
};

}  // namespace polylog::mqtt
