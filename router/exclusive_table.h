// Who holds each exclusive subscription: one session a filter text, for as long as it has the
// subscription. Any thread; its lock is held with none of the others'.
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <unordered_map>

namespace polylog::router {

class Session;

class ExclusiveTable {
 public:
  /// False: another session has it. Once more by the same one changes nothing.
  bool claim(const std::string& text, const Session& session) {
    std::lock_guard lock(mutex_);
    auto [at, isNew] = holders_.try_emplace(text, &session);
    size_.store(holders_.size(), std::memory_order_relaxed);
    return isNew || at->second == &session;
  }
  /// If it has it. Costs nothing where there are none at all.
  void release(const std::string& text, const Session& session) {
    if (size_.load(std::memory_order_relaxed) == 0) return;
    std::lock_guard lock(mutex_);
    auto at = holders_.find(text);
    if (at != holders_.end() && at->second == &session) holders_.erase(at);
    size_.store(holders_.size(), std::memory_order_relaxed);
  }

 private:
  std::mutex mutex_;
  std::unordered_map<std::string, const Session*> holders_;
  std::atomic<size_t> size_{0};
};

}  // namespace polylog::router
