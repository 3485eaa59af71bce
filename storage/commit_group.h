// What gathers while a write is in flight: the appends of one vectored write, with all that is needed
// to complete them or to take them back. Filled under the store's lock by the sequencer, then the
// writer thread's alone.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "storage/batch_cache.h"
#include "storage/entry.h"
#include "storage/log_store.h"
#include "storage/partition.h"
#include "storage/segment.h"

namespace polylog::storage {

struct PendingAppend {
  Durability durability = Durability::kSynced;
  CompletionSink* sink = nullptr;
  std::move_only_function<void(Result<Appended>)> done;
  Appended result;  ///< only if there is a `done`
  size_t targetsFrom = 0;
  size_t targetsTo = 0;
};

struct GroupTarget {
  Partition* partition = nullptr;
  Offset base;
  Offset end;
};

/// A change of a partition that took effect when it was sequenced.
struct PartitionEffect {
  enum class Kind : uint8_t { kCreated, kConfigured, kDeleted, kLogStart };
  Kind kind = Kind::kCreated;
  Partition* partition = nullptr;
  Retention retention;  ///< before
  Offset logStart;      ///< before
  Offset movedTo;       ///< the new log start
};

struct ProducerEffect {
  Partition* partition = nullptr;
  ProducerId producer;
};

struct CommitGroup {
  EntryBuffer entries;
  std::vector<PendingAppend> appends;
  std::vector<GroupTarget> targets;
  std::vector<StateChange> state;
  std::vector<PartitionEffect> effects;
  std::vector<ProducerEffect> producers;
  std::vector<CommittedBatch> routed;
  std::vector<BatchCache::Slice> watched;  ///< batches that somebody waits for

  std::shared_ptr<Segment> segment;
  bool beginsSegment = false;
  Position base;
  Position end;
  uint64_t firstSequence = 0;
  int64_t bornMicros = 0;
  bool urgent = false;      ///< is to be written at once
  bool needsSync = false;   ///< and synced at once
  bool hasWritten = false;  ///< some complete when written

  void clear() {
    entries.clear();
    appends.clear();
    targets.clear();
    state.clear();
    effects.clear();
    producers.clear();
    routed.clear();
    watched.clear();
    segment = nullptr;
    beginsSegment = urgent = needsSync = hasWritten = false;
  }
};

/// Completions by sink, in order.
class Completions {
 public:
  void add(CompletionSink* sink, std::move_only_function<void()> task);
  /// completed() once a sink; leaves this empty.
  void deliver();
  bool empty() const { return sinks_.empty(); }

 private:
  struct Sink {
    CompletionSink* sink = nullptr;
    std::vector<std::move_only_function<void()>> tasks;
  };
  std::vector<Sink> sinks_;
};

}  // namespace polylog::storage
