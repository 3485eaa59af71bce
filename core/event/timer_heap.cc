#include "core/event/timer_heap.h"

#include <event2/event.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <system_error>
#include <utility>

#include "core/event/event_dispatcher.h"

namespace polylog {
namespace {
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
constexpr size_t kOutside = std::numeric_limits<size_t>::max();
}  // namespace

/// `key` is where the node lies in the heap, `deadline` when it is to fire: a restart for later
/// moves only the deadline, and the node is put right when its key comes up.
struct TimerHeap::Node {
  Task onFire;
  int64_t key = 0;
  int64_t deadline = 0;
  size_t index = kOutside;
  bool running = false;
};

class TimerHeap::HeapTimer final : public Timer {
 public:
  HeapTimer(TimerHeap& heap, NodePtr node) : heap_(heap), node_(std::move(node)) {}
  ~HeapTimer() override {
    node_->running = false;
    heap_.remove(*node_);
  }
  void start(int64_t micros) override { heap_.start(node_, micros); }
  void cancel() override { node_->running = false; }

 private:
  TimerHeap& heap_;
  NodePtr node_;
};

TimerHeap::TimerHeap(EventDispatcher& dispatcher, event_base* base)
    : dispatcher_(dispatcher), armedFor_(kNever) {
  fd_ = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "timerfd_create");
  event_ = event_new(
      base, fd_, EV_READ | EV_PERSIST | EV_ET,
      [](evutil_socket_t, short, void* self) {
        auto* heap = static_cast<TimerHeap*>(self);
        heap->dispatcher_.noteAwake();
        heap->fireDue();
      },
      this);
  if (event_ == nullptr || event_add(event_, nullptr) != 0) {
    throw std::system_error(ENOMEM, std::generic_category(), "timer event");
  }
}

TimerHeap::~TimerHeap() {
  if (event_ != nullptr) event_free(event_);
  if (fd_ >= 0) close(fd_);
}

std::unique_ptr<Timer> TimerHeap::makeTimer(Task onFire) {
  auto node = std::make_shared<Node>();
  node->onFire = std::move(onFire);
  return std::make_unique<HeapTimer>(*this, std::move(node));
}

void TimerHeap::arm() {
  // Cancelled timers on top would wake the loop for nothing.
  while (!heap_.empty() && !heap_.front()->running) remove(*heap_.front());
  if (heap_.empty() || heap_.front()->key >= armedFor_) return;
  int64_t ahead = std::max<int64_t>(heap_.front()->key - dispatcher_.clock().monotonicMicros(), 0);
  itimerspec when{};
  when.it_value.tv_sec = ahead / 1'000'000;
  // Zero would disarm it.
  when.it_value.tv_nsec = std::max<int64_t>((ahead % 1'000'000) * 1000, 1);
  timerfd_settime(fd_, 0, &when, nullptr);
  armedFor_ = heap_.front()->key;
}

void TimerHeap::start(const NodePtr& node, int64_t micros) {
  int64_t now = dispatcher_.clock().monotonicMicros();
  micros = std::clamp<int64_t>(micros, 0, kNever - 1 - now);
  node->deadline = now + micros;
  node->running = true;
  if (node->index == kOutside) {
    node->key = node->deadline;
    insert(node);
  } else if (node->deadline < node->key) {
    node->key = node->deadline;
    siftUp(node->index);
  }
}

void TimerHeap::fireDue() {
  armedFor_ = kNever;
  int64_t now = dispatcher_.clock().monotonicMicros();
  while (!heap_.empty() && heap_.front()->key <= now) {
    NodePtr node = heap_.front();
    remove(*node);
    if (!node->running) continue;
    if (node->deadline > now) {
      node->key = node->deadline;
      insert(node);
    } else {
      due_.push_back(std::move(node));
    }
  }
  // One that fires may cancel, restart or destroy any other, or itself.
  for (NodePtr& node : due_) {
    if (!node->running || node->deadline > now) continue;
    node->running = false;
    node->onFire();
  }
  due_.clear();
}

void TimerHeap::place(size_t at, NodePtr node) {
  node->index = at;
  heap_[at] = std::move(node);
}

void TimerHeap::insert(const NodePtr& node) {
  heap_.push_back(node);
  node->index = heap_.size() - 1;
  siftUp(node->index);
}

void TimerHeap::remove(Node& node) {
  size_t at = std::exchange(node.index, kOutside);
  if (at == kOutside) return;
  NodePtr last = std::move(heap_.back());
  heap_.pop_back();
  if (at == heap_.size()) return;  // it was the last itself
  NodePtr keep = std::move(heap_[at]);
  place(at, std::move(last));
  siftDown(at);
  siftUp(at);
}

void TimerHeap::siftUp(size_t at) {
  NodePtr node = std::move(heap_[at]);
  while (at > 0) {
    size_t parent = (at - 1) / 2;
    if (heap_[parent]->key <= node->key) break;
    place(at, std::move(heap_[parent]));
    at = parent;
  }
  place(at, std::move(node));
}

void TimerHeap::siftDown(size_t at) {
  NodePtr node = std::move(heap_[at]);
  for (;;) {
    size_t child = 2 * at + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && heap_[child + 1]->key < heap_[child]->key) ++child;
    if (heap_[child]->key >= node->key) break;
    place(at, std::move(heap_[child]));
    at = child;
  }
  place(at, std::move(node));
}

}  // namespace polylog
