// The loop of one worker thread. Everything a connection, session, group or queue does happens on
// its dispatcher's thread; other threads reach it through post() and nothing else.
// Interface only: EventDispatcher (libevent) runs the broker, ManualDispatcher runs tests.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "core/base/clock.h"

namespace polylog {

using Task = std::move_only_function<void()>;

/// One-shot timer, restartable. Only for the dispatcher's own thread. Destroying it cancels it.
class Timer {
 public:
  virtual ~Timer() = default;
  /// Fires once after `micros` microseconds (>= 0); replaces an earlier start().
  virtual void start(int64_t micros) = 0;
  virtual void cancel() = 0;
};

class Dispatcher {
 public:
  virtual ~Dispatcher() = default;

  /// Runs `task` soon on this dispatcher's thread, in the order posted. From any thread. Tasks
  /// still queued when the loop ends are destroyed without running.
  virtual void post(Task task) = 0;
  /// Own thread only: runs `task` when the current round of events is through (no wake-up). For
  /// work that gathers over a round: flushing output, sending what became deliverable.
  virtual void defer(Task task) = 0;
  /// Own thread only.
  virtual std::unique_ptr<Timer> makeTimer(Task onFire) = 0;
  virtual bool isOwnThread() const = 0;
  virtual const Clock& clock() const = 0;

  /// The dispatcher whose thread this is; null on threads that have none.
  static Dispatcher* current();

 protected:
  static void setCurrent(Dispatcher* dispatcher);
};

}  // namespace polylog
