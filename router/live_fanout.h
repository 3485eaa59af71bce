// Hands live deliveries to the sessions' workers: at once where the session lives on this worker,
// else gathered, one post a worker at flush(). What is on its way to a worker is bounded.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "router/core.h"
#include "router/live_queue.h"

namespace polylog::router {

class Session;

class LiveFanout {
 public:
  explicit LiveFanout(Core& core) : core_(core), perWorker_(core.workers.size()) {}

  /// `from`: the calling worker.
  void add(Worker& from, const std::shared_ptr<Session>& to, LiveItem item);
  void flush(Worker& from);

 private:
  using Crossing = std::pair<std::shared_ptr<Session>, LiveItem>;
  struct PerWorker {
    std::vector<std::vector<Crossing>> to;
    bool any = false;
  };
  void deliver(Worker& worker, std::vector<Crossing>& items);

  Core& core_;
  std::vector<PerWorker> perWorker_;
};

}  // namespace polylog::router
