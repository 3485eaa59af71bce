// A Dispatcher that runs when a test says so, on the test's own thread, in an order that depends on
// nothing but the calls made: posted tasks, then what they deferred, then timers by deadline.
//
//   FakeClock clock;
//   ManualDispatcher dispatcher(clock);
//   ManualDispatcher::Scope scope(dispatcher);   // Dispatcher::current() is it from here on
//   session.onBytes(...);
//   dispatcher.runAll();                         // everything posted and deferred, to the end
//   dispatcher.advance(30'000'000);              // 30 s pass; timers fire each at its own time
//
// post() may be called from any thread, everything else from one. Outside a Scope and outside
// runAll()/advance() current() is what it was; isOwnThread() is true there as long as no other
// dispatcher is current. Must outlive its timers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "core/event/dispatcher.h"
#include "tests/support/fake_clock.h"

namespace polylog::test {

class ManualDispatcher final : public Dispatcher {
 public:
  explicit ManualDispatcher(FakeClock& clock) : clock_(clock) {}

  /// Makes a dispatcher current for the lifetime of the scope; scopes nest.
  class Scope {
   public:
    explicit Scope(ManualDispatcher& dispatcher) : before_(Dispatcher::current()) {
      setCurrent(&dispatcher);
    }
    ~Scope() { setCurrent(before_); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Dispatcher* before_;
  };

  void post(Task task) override {
    std::lock_guard lock(mutex_);
    posted_.push_back(std::move(task));
  }
  void defer(Task task) override { deferred_.push_back(std::move(task)); }
  std::unique_ptr<Timer> makeTimer(Task onFire) override {
    auto state = std::make_shared<TimerState>();
    state->onFire = std::move(onFire);
    return std::make_unique<ManualTimer>(*this, std::move(state));
  }
  bool isOwnThread() const override {
    return current() == this || (current() == nullptr && std::this_thread::get_id() == thread_);
  }
  const Clock& clock() const override { return clock_; }

  /// One round: what is posted now, then all that is deferred. Returns how many tasks ran.
  size_t runRound() {
    Scope scope(*this);
    std::vector<Task> tasks;
    {
      std::lock_guard lock(mutex_);
      tasks.swap(posted_);
    }
    size_t ran = runEach(tasks);
    while (!deferred_.empty()) {
      tasks = std::exchange(deferred_, {});
      ran += runEach(tasks);
    }
    return ran;
  }

  /// What one turn of a loop does: a round, then the timers that are due. Returns how many tasks ran.
  size_t runTurn() { return runRound() + fireDue(); }

  /// Rounds until nothing is posted, deferred or due. Returns how many tasks ran.
  size_t runAll() {
    size_t ran = 0;
    while (size_t now = runTurn()) ran += now;
    return ran;
  }

  /// Lets `micros` pass, stopping at each timer's deadline on the way; runs all that follows.
  void advance(int64_t micros) {
    runAll();
    int64_t end = clock_.monotonicMicros() + micros;
    while (!timers_.empty() && timers_.begin()->first <= end) {
      int64_t ahead = timers_.begin()->first - clock_.monotonicMicros();
      if (ahead > 0) clock_.advance(ahead);
      runAll();
    }
    if (end > clock_.monotonicMicros()) clock_.advance(end - clock_.monotonicMicros());
    runAll();
  }

  bool idle() const {
    std::lock_guard lock(mutex_);
    return posted_.empty() && deferred_.empty();
  }
  size_t timersRunning() const { return timers_.size(); }

 private:
  struct TimerState;
  using Timers = std::multimap<int64_t, std::shared_ptr<TimerState>>;
  struct TimerState {
    Task onFire;
    Timers::iterator place;
    bool running = false;
  };

  class ManualTimer final : public Timer {
   public:
    ManualTimer(ManualDispatcher& dispatcher, std::shared_ptr<TimerState> state)
        : dispatcher_(dispatcher), state_(std::move(state)) {}
    ~ManualTimer() override { cancel(); }
    void start(int64_t micros) override {
      cancel();
      int64_t deadline = dispatcher_.clock_.monotonicMicros() + micros;
      state_->place = dispatcher_.timers_.emplace(deadline, state_);
      state_->running = true;
    }
    void cancel() override {
      if (state_->running) dispatcher_.timers_.erase(state_->place);
      state_->running = false;
    }

   private:
    ManualDispatcher& dispatcher_;
    std::shared_ptr<TimerState> state_;
  };

  static size_t runEach(std::vector<Task>& tasks) {
    for (Task& task : tasks) {
      // Moved out first, so that what a task holds is let go as soon as it has run.
      Task now = std::move(task);
      now();
    }
    return tasks.size();
  }

  /// Fires what is due now, but not what those timers start anew: that is for the next call.
  size_t fireDue() {
    Scope scope(*this);
    std::vector<std::shared_ptr<TimerState>> due;
    int64_t now = clock_.monotonicMicros();
    for (auto& [deadline, state] : timers_) {
      if (deadline > now) break;
      due.push_back(state);
    }
    size_t fired = 0;
    for (auto& state : due) {
      if (!state->running || state->place->first > now) continue;
      timers_.erase(state->place);
      state->running = false;
      state->onFire();
      ++fired;
    }
    return fired;
  }

  FakeClock& clock_;
  std::thread::id thread_ = std::this_thread::get_id();
  mutable std::mutex mutex_;
  std::vector<Task> posted_;
  std::vector<Task> deferred_;
  Timers timers_;
};

}  // namespace polylog::test
