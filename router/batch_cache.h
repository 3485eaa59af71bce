// Batches opened lately, a few for each worker: a thousand sessions on one worker that get the same
// batch open it once. Only on the worker's own thread.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "router/core.h"
#include "router/routed_block.h"

namespace polylog::router {

class BatchCache {
 public:
  explicit BatchCache(Core& core) : core_(core), perWorker_(core.workers.size()) {}

  /// The batch at source.place, opened; `batch` is its octets.
  Result<RoutedBlockRef> open(Worker& worker, const SharedBytes& batch, BlockSource source);

 private:
  struct PerWorker {
    std::array<RoutedBlockRef, 16> blocks;
    size_t next = 0;
    size_t bytes = 0;
  };

  Core& core_;
  std::vector<PerWorker> perWorker_;
};

}  // namespace polylog::router
