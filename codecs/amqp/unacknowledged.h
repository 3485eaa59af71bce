// A channel's deliveries that the client has not acknowledged, by delivery tag. Tags rise; most are
// acknowledged from the front, some in between. Takes about 32 octets each, holes included, and
// there are never more holes than half. On the connection's thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/model/queue.h"

namespace polylog::amqp {

/// Where deliveries came from, for as long as some are unacknowledged: a consumer, or basic.get.
struct Source {
  std::shared_ptr<QueueRef> queue;
  std::string queueName;
  bool stream = false;
  DeliveryWindowRef window;             ///< the consumer's; null for basic.get
  DeliveryWindowRef channelWindow;      ///< likewise
  std::vector<Settlement> settlements;  ///< gathered, not yet with the queue
};
using SourceRef = std::shared_ptr<Source>;

class Unacknowledged {
 public:
  struct Entry {
    uint64_t tag = 0;
    int64_t id = 0;
    SourceRef source;  ///< null = settled
  };

  size_t size() const { return live_; }

  /// `tag` is higher than any before.
  void add(uint64_t tag, int64_t id, SourceRef source) {
    entries_.push_back({tag, id, std::move(source)});
    ++live_;
  }
  bool contains(uint64_t tag) const {
    auto found = find(tag);
    return found != entries_.end() && found->source != nullptr;
  }
  /// Whether `test(source)` is true for one of those that take() would take.
  template <class Test>
  bool any(uint64_t tag, bool throughTag, Test test) const {
    auto last = find(tag);
    auto first = throughTag ? entries_.begin() : last;
    if (last != entries_.end()) ++last;
    return std::any_of(first, last, [&](const Entry& entry) {
      return entry.source != nullptr && test(*entry.source);
    });
  }
  /// Hands the one of that tag to `with(id, source)`, or all through that tag, oldest first.
  template <class With>
  void take(uint64_t tag, bool throughTag, With with) {
    auto last = entries_.begin() + (find(tag) - entries_.cbegin());
    auto first = throughTag ? entries_.begin() : last;
    if (last != entries_.end()) ++last;
    for (auto it = first; it != last; ++it) give(*it, with);
    shrink();
  }
  template <class With>
  void takeAll(With with) {
    for (Entry& entry : entries_) give(entry, with);
    shrink();
  }

 private:
  static constexpr size_t kFewHoles = 1024;

  std::deque<Entry>::const_iterator find(uint64_t tag) const {
    auto found = std::ranges::lower_bound(entries_, tag, {}, &Entry::tag);
    return found != entries_.end() && found->tag == tag ? found : entries_.end();
  }
  template <class With>
  void give(Entry& entry, With& with) {
    if (entry.source == nullptr) return;
    --live_;
    with(entry.id, std::exchange(entry.source, nullptr));
  }
  void shrink() {
    while (!entries_.empty() && entries_.front().source == nullptr) entries_.pop_front();
    if (entries_.size() - live_ <= std::max(live_, kFewHoles)) return;
    std::erase_if(entries_, [](const Entry& entry) { return entry.source == nullptr; });
  }

  std::deque<Entry> entries_;
  size_t live_ = 0;
};

}  // namespace polylog::amqp
