// The Dispatcher that runs the broker: one libevent loop, run by one thread in run().
//
// A round is: socket events, timers that are due, tasks posted until then, deferred tasks. The
// loop sleeps in the kernel when a round leaves nothing to do; a post() wakes it with one write to
// an eventfd, and only if it sleeps, so a burst of posts costs one wake-up.
//
// post() and stop() may be called from any thread; everything else only from the thread that runs
// the loop, or before run() by the thread that will. Timers live in a heap of its own over one
// timerfd: microseconds exact, and restarting a timer for later (as each packet does with a
// keep-alive) costs neither a system call nor a heap operation. Timers, and events made on base(),
// must be gone before the dispatcher is, and threads that post be through with it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/event/dispatcher.h"

struct event;
struct event_base;

namespace polylog {

class TimerHeap;

class EventDispatcher final : public Dispatcher {
 public:
  /// Throws std::system_error when the kernel grants no descriptors (at start-up only).
  explicit EventDispatcher(const Clock& clock = systemClock());
  ~EventDispatcher() override;
  EventDispatcher(const EventDispatcher&) = delete;
  EventDispatcher& operator=(const EventDispatcher&) = delete;

  /// Runs rounds on the calling thread until stop(). Tasks left over then are destroyed. May be
  /// called again afterwards.
  void run();
  /// Makes run() return after the round that it is in. From any thread, also before run().
  void stop();

  void post(Task task) override;
  void defer(Task task) override { deferred_.push_back(std::move(task)); }
  std::unique_ptr<Timer> makeTimer(Task onFire) override;
  bool isOwnThread() const override { return current() == this; }
  const Clock& clock() const override { return clock_; }

  /// For core/net and the admin listener, which make their events on it. It has no locks.
  event_base* base() { return base_; }
  /// Event callbacks call it first: posts that come while they run need no wake-up then.
  void noteAwake() {
    if (asleep_.load(std::memory_order_relaxed)) asleep_.store(false, std::memory_order_relaxed);
  }

 private:
  void oneRound();
  bool nothingQueued();
  void runPosted();
  void runDeferred();
  void wake();

  const Clock& clock_;
  event_base* base_ = nullptr;
  int wakeFd_ = -1;
  event* wakeEvent_ = nullptr;
  std::unique_ptr<TimerHeap> timers_;

  std::mutex mutex_;
  std::vector<Task> posted_;  // guarded by mutex_
  std::atomic<bool> asleep_{false};
  std::atomic<bool> stopping_{false};

  std::vector<Task> running_;
  std::vector<Task> deferred_;
};

}  // namespace polylog
