#include "storage/run_cache.h"

namespace polylog::storage {
namespace {

constexpr uint64_t kItemOverhead = 160;

}  // namespace

std::shared_ptr<const IndexRun> RunCache::find(const Key& key) {
  std::lock_guard lock(mutex_);
  auto found = byKey_.find(key);
  if (found == byKey_.end()) return nullptr;
  items_.splice(items_.begin(), items_, found->second);
  return found->second->run;
}

void RunCache::insert(const Key& key, std::shared_ptr<const IndexRun> run) {
  uint64_t charge = run->footprint() + kItemOverhead;
  std::lock_guard lock(mutex_);
  if (auto found = byKey_.find(key); found != byKey_.end()) {
    used_ -= found->second->charge;
    items_.erase(found->second);
    byKey_.erase(found);
  }
  items_.push_front({key, std::move(run), charge});
  byKey_[key] = items_.begin();
  used_ += charge;
  while (used_ > capacity_ && items_.size() > 1) {
    used_ -= items_.back().charge;
    byKey_.erase(items_.back().key);
    items_.pop_back();
  }
}

}  // namespace polylog::storage
