// Deliveries that wait in memory for one session: first in, first out, bounded by count and octets.
// Only on the session's worker.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "core/model/record.h"
#include "router/routed_block.h"

namespace polylog::router {

struct LiveItem {
  RoutedBlockRef block;  ///< null: only `parked` is kept, the body is read again when taken
  std::shared_ptr<const BlockSource> parked;
  uint32_t index = 0;  ///< of the record in its batch
  DeliveryGuarantee guarantee = DeliveryGuarantee::kAtMostOnce;
  bool retain = false;
  size_t cost = 0;  ///< octets that it alone keeps alive
  std::vector<uint32_t> subscriptionIds;
};

class LiveQueue {
 public:
  bool empty() const { return count_ == 0; }
  size_t size() const { return count_; }
  size_t bytes() const { return bytes_; }
  LiveItem& front() { return ring_[head_]; }

  /// False, and nothing kept, when the queue is full: by count, or by octets of what can't be
  /// read again (at most once, ephemeral).
  bool push(LiveItem item, size_t mostItems, size_t mostBytes) {
    if (count_ >= mostItems) return false;
    LiveItem* last = count_ == 0 ? nullptr : &ring_[(head_ + count_ - 1) & (ring_.size() - 1)];
    // What one burst brought is kept alive together, whether one record of it waits or all.
    item.cost = last != nullptr && last->block == item.block ? sizeof(LiveItem)
                                                             : item.block->bytes + sizeof(LiveItem);
    if (bytes_ + item.cost > mostBytes && count_ > 0) {
      const BlockSource& source = item.block->source;
      if (!source.stored || item.guarantee == DeliveryGuarantee::kAtMostOnce) return false;
      bool shares = last != nullptr && last->parked &&
                    last->parked->place.position == source.place.position;
      item.parked = shares ? last->parked : std::make_shared<const BlockSource>(source);
      item.block = nullptr;
      item.cost = 0;
    }
    if (count_ == ring_.size()) grow();
    bytes_ += item.cost;
    ring_[(head_ + count_) & (ring_.size() - 1)] = std::move(item);
    ++count_;
    return true;
  }

  LiveItem pop() {
    LiveItem item = std::move(ring_[head_]);
    ring_[head_] = {};
    head_ = (head_ + 1) & (ring_.size() - 1);
    bytes_ -= item.cost;
    if (--count_ > 0) return item;
    if (ring_.size() > kKeptWhenEmpty) {
      clear();
    } else {
      head_ = 0;  // the same place again, which is the likeliest to be cached
    }
    return item;
  }

  void clear() {
    ring_ = {};
    head_ = count_ = bytes_ = 0;
  }

 private:
  static constexpr size_t kKeptWhenEmpty = 1024;

  void grow() {
    std::vector<LiveItem> larger(ring_.empty() ? 16 : ring_.size() * 2);
    for (size_t i = 0; i < count_; ++i) {
      larger[i] = std::move(ring_[(head_ + i) & (ring_.size() - 1)]);
    }
    ring_ = std::move(larger);
    head_ = 0;
  }

  std::vector<LiveItem> ring_;  ///< its size is a power of two
  size_t head_ = 0;
  size_t count_ = 0;
  size_t bytes_ = 0;
};

}  // namespace polylog::router
