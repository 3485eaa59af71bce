#include "router/live_fanout.h"

#include "router/session.h"

namespace polylog::router {

void LiveFanout::add(Worker& from, const std::shared_ptr<Session>& to, LiveItem item) {
  uint32_t target = to->worker();
  if (target == from.index) return to->pushLive(std::move(item));
  PerWorker& mine = perWorker_[from.index];
  if (mine.to.empty()) mine.to.resize(core_.workers.size());
  mine.to[target].emplace_back(to, std::move(item));
  mine.any = true;
}

void LiveFanout::flush(Worker& from) {
  PerWorker& mine = perWorker_[from.index];
  if (!mine.any) return;
  mine.any = false;
  for (size_t i = 0; i < mine.to.size(); ++i) {
    if (mine.to[i].empty()) continue;
    std::vector<Crossing> items = std::exchange(mine.to[i], {});
    Worker& worker = *core_.workers[i];
    auto count = static_cast<int64_t>(items.size());
    int64_t bytes = 0;
    const RoutedBlock* before = nullptr;
    for (const auto& [session, item] : items) {
      if (item.block.get() != before) bytes += static_cast<int64_t>(item.block->bytes);
      before = item.block.get();
    }
    // One post is let through however large it is, or large records would never pass.
    int64_t waiting = worker.crossing.load(std::memory_order_relaxed);
    if (waiting > 0 &&
        (waiting + count > core_.options.crossingRecords ||
         worker.crossingBytes.load(std::memory_order_relaxed) + bytes >
             core_.options.crossingBytes)) {
      core_.metrics.dropped(DropReason::kWorkerBehind).add(count);
      continue;
    }
    worker.crossing.fetch_add(count, std::memory_order_relaxed);
    worker.crossingBytes.fetch_add(bytes, std::memory_order_relaxed);
    worker.post([this, &worker, bytes, items = std::move(items)]() mutable {
      worker.crossing.fetch_sub(static_cast<int64_t>(items.size()), std::memory_order_relaxed);
      worker.crossingBytes.fetch_sub(bytes, std::memory_order_relaxed);
      deliver(worker, items);
    });
  }
}

void LiveFanout::deliver(Worker& worker, std::vector<Crossing>& items) {
  for (auto& [session, item] : items) add(worker, session, std::move(item));
  flush(worker);  // sessions that have moved meanwhile
}

}  // namespace polylog::router
