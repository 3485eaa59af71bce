#include "storage/batch_cache.h"

#include <utility>

namespace polylog::storage {
namespace {

constexpr uint64_t kSliceOverhead = 128;  // map node, list node, control block

}  // namespace

std::optional<SharedBytes> BatchCache::find(Position position, uint32_t length) {
  std::lock_guard lock(mutex_);
  auto found = byPosition_.find(position.value());
  if (found == byPosition_.end()) return std::nullopt;
  const SharedBytes& batch = found->second.extent->slices[found->second.slice].batch;
  if (batch.size() != length) return std::nullopt;
  extents_.splice(extents_.begin(), extents_, found->second.extent);
  return batch;
}

void BatchCache::insert(std::vector<Slice> slices, uint64_t charge) {
  charge += kSliceOverhead * slices.size();
  if (charge > capacity_ / 4 || slices.empty()) return;
  Extents evicted;  // freed after the lock
  std::lock_guard lock(mutex_);
  extents_.push_front({std::move(slices), charge});
  used_ += charge;
  auto extent = extents_.begin();
  for (size_t i = 0; i < extent->slices.size(); ++i) {
    byPosition_[extent->slices[i].position.value()] = {extent, i};
  }
  while (used_ > capacity_ && extents_.size() > 1) {
    auto last = std::prev(extents_.end());
    used_ -= last->charge;
    for (const Slice& slice : last->slices) {
      auto found = byPosition_.find(slice.position.value());
      if (found != byPosition_.end() && found->second.extent == last) byPosition_.erase(found);
    }
    evicted.splice(evicted.begin(), extents_, last);
  }
}

void BatchCache::forget(Position position) {
  std::lock_guard lock(mutex_);
  byPosition_.erase(position.value());
}

uint64_t BatchCache::used() const {
  std::lock_guard lock(mutex_);
  return used_;
}

}  // namespace polylog::storage
