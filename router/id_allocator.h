// Numbers that are never given twice: partitions (topics' and inboxes'), producer ids, address tags.
// They come from blocks whose end is journaled (kMeta) before the block is used, so a crash wastes
// at most what was left of a block. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "core/base/error.h"
#include "core/base/strong.h"
#include "storage/log_store.h"

namespace polylog::router {

struct Core;

class IdAllocator {
 public:
  explicit IdAllocator(Core& core) : core_(core) {}
  /// From the store's state. kCorrupt.
  Result<> load();

  /// What the state at start-up uses, after load(): never given again, though the reservation that it
  /// came from failed. Before anything is allocated.
  void seen(PartitionId id) { passOver(partitions_, id.value()); }
  void seenTag(uint32_t tag) { passOver(tags_, tag); }

  /// For an entry that is appended afterwards: the reservation stands before it in the journal.
  Result<PartitionId> nextPartition();
  Result<uint32_t> nextTag();

  /// For somebody outside: `done` on the calling worker once the number is reserved durably.
  void nextProducer(std::move_only_function<void(Result<int64_t>)> done);

 private:
  struct Block {
    const char* key;
    uint64_t size;
    uint64_t next;
    uint64_t end;  ///< reserved below it
  };
  struct Waiting {
    uint32_t worker;
    std::move_only_function<void(Result<int64_t>)> done;
  };
  Result<> loadBlock(Block& block);
  static void passOver(Block& block, uint64_t used);
  Result<uint64_t> next(Block& block);
  Result<> reserve(Block& block);
  Result<> reserveProducers();
  void producersReserved(Result<storage::Appended> result, uint64_t end);

  Core& core_;
  std::mutex mutex_;
  Block partitions_{"partition_ids", 1024, 1, 1};
  Block tags_{"address_tags", 1024, 1, 1};
  Block producers_{"producer_ids", 1000, 1, 1};
  bool reserving_ = false;
  std::vector<Waiting> waiting_;
};

}  // namespace polylog::router
