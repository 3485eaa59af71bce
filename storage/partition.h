// One partition in memory: an ordered index over the journal, its ends, and who waits for it.
// Guarded by the store's lock. There may be a million: 88 octets while idle, and no allocation but
// its chunks'.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "core/base/linked_set.h"
#include "core/base/seldom.h"
#include "core/base/strong.h"
#include "storage/log_store.h"
#include "storage/partition_index.h"
#include "storage/producer_state.h"
#include "storage/transaction_state.h"

namespace polylog::storage {

/// What a partition has in one segment.
struct Chunk {
  uint64_t segment = 0;  ///< id
  Position base;         ///< the segment's: also finds the one that it has been merged into
  Offset first;
  Offset end;
  uint64_t bytes = 0;
  int64_t maxTimestamp = -1;
  uint64_t minLink = UINT64_MAX;
  /// The run's record in the footer; once there, `run` is null.
  uint32_t footerAt = 0;
  uint32_t footerLength = 0;
  bool dead = false;  ///< nothing of it is left; it stands for offsets that aren't damaged
  std::shared_ptr<IndexRun> run;

  void add(const IndexEntry& entry);
};

struct Watch {
  uint64_t id = 0;
  Offset offset;
  bool stable = false;  ///< for the last stable offset
  CompletionSink* sink = nullptr;
  std::move_only_function<void()> task;
};

struct Partition {
  /// What most partitions (inboxes, queues) don't have.
  struct Aside {
    Retention retention;
    std::unique_ptr<ProducerTable> producers;
    std::unique_ptr<TransactionTable> transactions;
    std::vector<Watch> watches;
  };

  std::unique_ptr<Partition> next;  ///< PartitionSet's
  PartitionId id;
  Offset logStart;
  Offset highWatermark;
  Offset end;
  uint64_t bytes = 0;
  std::vector<Chunk> chunks;  ///< ascending
  Seldom<Aside> aside;
  bool deleted = false;  ///< by an entry that isn't durable yet
  bool dirty = false;    ///< its derived record is to be written at the next checkpoint

  const Retention& retention() const { return aside->retention; }
  void setRetention(Retention retention);
  ProducerTable* producers() const { return aside->producers.get(); }
  /// Made if it has none.
  ProducerTable& producersToChange();
  TransactionTable* transactions() const { return aside->transactions.get(); }
  /// Made if it has none.
  TransactionTable& transactionsToChange();
  bool watched() const { return !aside->watches.empty(); }
  /// After something of it was taken away.
  void tidyAside();

  /// One past the last record of which it is decided whether it counts.
  Offset lastStable() const;
  /// Index of the chunk that holds `offset`, or the first one above it; chunks.size() if none.
  size_t chunkAt(Offset offset) const;
  Chunk* chunkIn(uint64_t segment);
  /// Nothing of chunk `at` is left.
  void bury(size_t at);
  /// Takes `offset` and all above back; `end` becomes `offset`. Rare, and slow.
  /// Returns the bases of segments in which it has no chunk any more.
  std::vector<Position> truncate(Offset offset);

  /// What a checkpoint keeps of it: chunks in segments based below `floor`, the end offset as of
  /// `floor`, and what producers and transactions did below `durable`.
  std::string encodeDerived(Position floor, Position durable) const;
  /// Takes a record back, leaving out what is based at or above `floor`. False when malformed.
  bool decodeDerived(BytesView record, Position floor);
};

struct PartitionTraits {
  using Link = std::unique_ptr<Partition>;
  static Link& next(Partition& partition) { return partition.next; }
  static size_t hash(PartitionId id) { return std::hash<PartitionId>{}(id); }
  static size_t hash(const Partition& partition) { return hash(partition.id); }
  static bool is(const Partition& partition, PartitionId id) { return partition.id == id; }
};
using PartitionSet = LinkedSet<Partition, PartitionTraits>;

}  // namespace polylog::storage
