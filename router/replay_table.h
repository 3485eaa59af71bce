// The sessions that replay and are connected, by worker: new topics are made known to them. Any
// thread, but for join() and leave().
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "router/core.h"

namespace polylog::router {

class ReplayLane;

class ReplayTable {
 public:
  explicit ReplayTable(Core& core);

  /// On the worker.
  void join(Worker& worker, ReplayLane& lane);
  void leave(Worker& worker, ReplayLane& lane);
  /// A topic has come, or has more partitions. Whoever joins afterwards finds it in the catalogue.
  void topicAdded(const TopicRef& topic);

 private:
  struct PerWorker {
    std::set<ReplayLane*> lanes;  ///< the worker's
    std::atomic<size_t> count{0};
    std::mutex mutex;
    std::vector<TopicRef> added;
  };
  void tell(PerWorker& mine);

  Core& core_;
  std::vector<std::unique_ptr<PerWorker>> perWorker_;
};

}  // namespace polylog::router
