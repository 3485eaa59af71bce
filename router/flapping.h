// Client ids that connect again and again: who does so more than `connects` times within a window is
// to be banned for a while. A bounded number of ids is watched; beyond it those that were seen first
// are forgotten. Any thread.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <unordered_map>

namespace polylog::router {

class Flapping {
 public:
  struct Options {
    int64_t connects = 0;  ///< 0 = nobody is watched
    int64_t windowMillis = 60'000;
    int64_t banMillis = 300'000;
  };

  explicit Flapping(Options options) : options_(options) {}
  const Options& options() const { return options_; }

  /// Counts a connection. True: one too many, and counting begins anew.
  bool connected(const std::string& clientId, int64_t nowMillis) {
    if (options_.connects == 0) return false;
    std::lock_guard hold(lock_);
    while (!order_.empty() && (order_.size() >= kMaxWatched ||
                               nowMillis - order_.front().since >= options_.windowMillis)) {
      forgetFirst();
    }
    auto [at, isNew] = counts_.try_emplace(clientId, Count{0, nowMillis});
    if (isNew) order_.push_back({clientId, nowMillis});
    if (++at->second.connects <= options_.connects) return false;
    at->second.connects = 0;
    return true;
  }

 private:
  static constexpr size_t kMaxWatched = 100'000;
  struct Count {
    int64_t connects = 0;
    int64_t since = 0;
  };
  struct Seen {
    std::string clientId;
    int64_t since = 0;
  };
  void forgetFirst() {
    counts_.erase(order_.front().clientId);
    order_.pop_front();
  }

  const Options options_;
  std::mutex lock_;
  std::unordered_map<std::string, Count> counts_;
  std::deque<Seen> order_;
};

}  // namespace polylog::router
