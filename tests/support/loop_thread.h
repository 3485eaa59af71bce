// An EventDispatcher on a thread of its own, for tests that need a real loop.
#pragma once

#include <future>
#include <thread>
#include <utility>

#include "core/event/event_dispatcher.h"

namespace polylog::test {

class LoopThread {
 public:
  LoopThread() : thread_([this] { dispatcher_.run(); }) {}
  ~LoopThread() {
    dispatcher_.stop();
    thread_.join();
  }
  LoopThread(const LoopThread&) = delete;
  LoopThread& operator=(const LoopThread&) = delete;

  EventDispatcher& dispatcher() { return dispatcher_; }

  /// Runs `work` on the loop and returns what it returns.
  template <class Work>
  auto call(Work work) {
    std::packaged_task<decltype(work())()> task(std::move(work));
    auto result = task.get_future();
    dispatcher_.post([&task] { task(); });
    return result.get();
  }

 private:
  EventDispatcher dispatcher_;
  std::thread thread_;
};

}  // namespace polylog::test
