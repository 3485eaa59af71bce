// When a worker's sleepers want to be woken: a heap of sixteen octets each; a sleeper remembers its
// place in it (`uint32_t wakePlace`, 0 = none), so that it can leave early, and it leaves before it
// goes. On that worker's thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace polylog::router {

template <class Sleeper>
class Deadlines {
 public:
  bool empty() const { return heap_.empty(); }
  /// The earliest; not when empty.
  int64_t next() const { return heap_.front().at; }

  /// Instead of what it wished before.
  void set(Sleeper& sleeper, int64_t at) {
    if (sleeper.wakePlace == 0) {
      heap_.push_back({at, &sleeper});
      sleeper.wakePlace = static_cast<uint32_t>(heap_.size());
    }
    heap_[sleeper.wakePlace - 1].at = at;
    settle(sleeper.wakePlace - 1);
  }
  void cancel(Sleeper& sleeper) {
    uint32_t place = std::exchange(sleeper.wakePlace, 0);
    if (place == 0) return;
    Item last = heap_.back();
    heap_.pop_back();
    if (place - 1 == heap_.size()) return;
    heap_[place - 1] = last;
    settle(place - 1);
  }
  /// Takes out the earliest if it is due; else null.
  Sleeper* takeDue(int64_t now) {
    if (empty() || next() > now) return nullptr;
    Sleeper* due = heap_.front().sleeper;
    cancel(*due);
    return due;
  }

 private:
  struct Item {
    int64_t at = 0;
    Sleeper* sleeper = nullptr;
  };

  void put(size_t index, Item item) {
    heap_[index] = item;
    item.sleeper->wakePlace = static_cast<uint32_t>(index + 1);
  }
  /// Up or down, to where it belongs.
  void settle(size_t index) {
    Item item = heap_[index];
    while (index > 0 && item.at < heap_[(index - 1) / 2].at) {
      put(index, heap_[(index - 1) / 2]);
      index = (index - 1) / 2;
    }
    for (size_t child = 2 * index + 1; child < heap_.size(); child = 2 * index + 1) {
      if (child + 1 < heap_.size() && heap_[child + 1].at < heap_[child].at) ++child;
      if (heap_[child].at >= item.at) break;
      put(index, heap_[child]);
      index = child;
    }
    put(index, item);
  }

  std::vector<Item> heap_;
};

}  // namespace polylog::router
