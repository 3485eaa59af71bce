#include "core/event/event_dispatcher.h"

#include <event2/event.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>
#include <utility>

#include "core/event/timer_heap.h"

namespace polylog {
namespace {

/// How often deferred work may beget more within a round before sockets get their turn again.
constexpr int kDeferredPasses = 16;

void runEach(std::vector<Task>& tasks) {
  for (Task& task : tasks) {
    // Moved out first, so that what a task holds is let go as soon as it has run.
    Task now = std::move(task);
    now();
  }
  tasks.clear();
}

}  // namespace

EventDispatcher::EventDispatcher(const Clock& clock) : clock_(clock) {
  event_config* config = event_config_new();
  if (config != nullptr) {
    // One thread uses it, and timers are not libevent's: neither its locks nor its clock is needed.
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    event_config_set_flag(config, EVENT_BASE_FLAG_NO_CACHE_TIME);
    base_ = event_base_new_with_config(config);
    event_config_free(config);
  }
  wakeFd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (base_ == nullptr || wakeFd_ < 0) {
    throw std::system_error(errno, std::generic_category(), "event loop");
  }
  // Edge-triggered, so that each write wakes and nobody has to read the counter back.
  wakeEvent_ = event_new(
      base_, wakeFd_, EV_READ | EV_PERSIST | EV_ET,
      [](evutil_socket_t, short, void* self) { static_cast<EventDispatcher*>(self)->noteAwake(); },
      this);
  if (wakeEvent_ == nullptr || event_add(wakeEvent_, nullptr) != 0) {
    throw std::system_error(ENOMEM, std::generic_category(), "wake-up event");
  }
  timers_ = std::make_unique<TimerHeap>(*this, base_);
}

EventDispatcher::~EventDispatcher() {
  // What the tasks hold (connections, timers) may still need the base and the timers.
  {
    std::lock_guard lock(mutex_);
    running_.swap(posted_);
  }
  running_.clear();
  deferred_.clear();
  timers_.reset();
  event_free(wakeEvent_);
  close(wakeFd_);
  event_base_free(base_);
}

std::unique_ptr<Timer> EventDispatcher::makeTimer(Task onFire) {
  return timers_->makeTimer(std::move(onFire));
}

void EventDispatcher::run() {
  Dispatcher* before = current();
  setCurrent(this);
  while (!stopping_.load(std::memory_order_acquire)) oneRound();
  // Destroying a task may post or defer another.
  while (!nothingQueued()) {
    {
      std::lock_guard lock(mutex_);
      running_.swap(posted_);
    }
    running_.clear();
    std::exchange(deferred_, {}).clear();
  }
  stopping_.store(false, std::memory_order_release);
  setCurrent(before);
}

void EventDispatcher::stop() {
  stopping_.store(true, std::memory_order_release);
  wake();
}

void EventDispatcher::post(Task task) {
  {
    std::lock_guard lock(mutex_);
    posted_.push_back(std::move(task));
  }
  // The own thread looks at the queue before it sleeps. Sequentially consistent on both sides:
  // either the loop sees the task, or we see that it is asleep.
  if (isOwnThread()) return;
  if (asleep_.load(std::memory_order_seq_cst) && asleep_.exchange(false)) wake();
}

void EventDispatcher::wake() {
  uint64_t one = 1;
  // It can fail only with the counter full, when a wake-up is on its way anyhow.
  [[maybe_unused]] ssize_t written = write(wakeFd_, &one, sizeof one);
}

bool EventDispatcher::nothingQueued() {
  if (!deferred_.empty()) return false;
  std::lock_guard lock(mutex_);
  return posted_.empty();
}

void EventDispatcher::oneRound() {
  timers_->arm();
  asleep_.store(true, std::memory_order_seq_cst);
  int flags = EVLOOP_ONCE;
  if (!nothingQueued() || stopping_.load(std::memory_order_acquire)) {
    noteAwake();
    flags |= EVLOOP_NONBLOCK;
  }
  event_base_loop(base_, flags);
  noteAwake();
  runPosted();
  runDeferred();
}

void EventDispatcher::runPosted() {
  {
    std::lock_guard lock(mutex_);
    running_.swap(posted_);
  }
  runEach(running_);
}

void EventDispatcher::runDeferred() {
  for (int pass = 0; pass < kDeferredPasses && !deferred_.empty(); ++pass) {
    running_.swap(deferred_);
    runEach(running_);
  }
}

}  // namespace polylog
