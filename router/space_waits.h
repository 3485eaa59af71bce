// Sessions that hold publishes until the disk has space again, woken by the store's space feed. A
// list a worker, on its thread; the feed comes from any.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "core/model/broker.h"
#include "router/core.h"

namespace polylog::router {

class SpaceWaits {
 public:
  /// Sets the store's space feed.
  explicit SpaceWaits(Core& core);
  ~SpaceWaits();
  /// As Broker::awaitSpace().
  std::unique_ptr<WaitHandle> wait(std::move_only_function<void()> wake);

 private:
  struct Waiting;
  /// A worker's, in the order in which they came.
  struct List {
    uint64_t next = 0;
    std::map<uint64_t, std::move_only_function<void()>> wakes;
    void wakeAll();
  };

  Core& core_;
  std::vector<std::shared_ptr<List>> lists_;  ///< by worker
};

}  // namespace polylog::router
