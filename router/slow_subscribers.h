// Which connected subscribers take long to fetch what is published to them: the worst of the last
// minutes, by the longest time that a record waited for one of them. A bounded number. Any thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/model/client.h"

namespace polylog::router {

class SlowSubscribers {
 public:
  /// `thresholdMillis`: what waits for less isn't looked at; 0 = nothing is.
  explicit SlowSubscribers(int64_t thresholdMillis) : threshold_(thresholdMillis) {}

  bool isSlow(int64_t millis) const { return threshold_ > 0 && millis >= threshold_; }
  /// A record has waited for so long.
  void waited(const std::string& clientId, int64_t millis, int64_t nowMillis) {
    std::lock_guard hold(lock_);
    forget(nowMillis);
    auto at = worst_.find(clientId);
    if (at != worst_.end()) {
      at->second.millis = std::max(at->second.millis, millis);
      at->second.atMs = nowMillis;
      return;
    }
    if (worst_.size() >= kMost) {
      auto least =
          std::ranges::min_element(worst_, {}, [](const auto& each) { return each.second.millis; });
      if (least->second.millis >= millis) return;
      worst_.erase(least);
    }
    worst_[clientId] = {clientId, millis, nowMillis};
  }
  /// The worst first.
  std::vector<SlowSubscriber> all(int64_t nowMillis) {
    std::lock_guard hold(lock_);
    forget(nowMillis);
    std::vector<SlowSubscriber> out;
    for (const auto& [name, each] : worst_) out.push_back(each);
    std::ranges::sort(out, std::greater<>(), &SlowSubscriber::millis);
    return out;
  }

 private:
  static constexpr size_t kMost = 100;
  static constexpr int64_t kKeptMillis = 300'000;

  void forget(int64_t nowMillis) {
    std::erase_if(worst_,
                  [&](const auto& each) { return nowMillis - each.second.atMs > kKeptMillis; });
  }

  const int64_t threshold_;
  std::mutex lock_;
  std::unordered_map<std::string, SlowSubscriber> worst_;
};

}  // namespace polylog::router
