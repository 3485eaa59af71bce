// The timers of one EventDispatcher: a heap by deadline over one timerfd. Own thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/event/dispatcher.h"

struct event;
struct event_base;

namespace polylog {

class EventDispatcher;

class TimerHeap {
 public:
  TimerHeap(EventDispatcher& dispatcher, event_base* base);
  ~TimerHeap();
  TimerHeap(const TimerHeap&) = delete;
  TimerHeap& operator=(const TimerHeap&) = delete;

  std::unique_ptr<Timer> makeTimer(Task onFire);
  /// Sets the timerfd for the earliest deadline if it isn't. Called before the loop sleeps.
  void arm();

 private:
  struct Node;
  class HeapTimer;
  using NodePtr = std::shared_ptr<Node>;

  void start(const NodePtr& node, int64_t micros);
  void remove(Node& node);
  void insert(const NodePtr& node);
  void siftUp(size_t at);
  void siftDown(size_t at);
  void place(size_t at, NodePtr node);
  void fireDue();

  EventDispatcher& dispatcher_;
  int fd_ = -1;
  event* event_ = nullptr;
  std::vector<NodePtr> heap_;
  std::vector<NodePtr> due_;
  int64_t armedFor_;
};

}  // namespace polylog
