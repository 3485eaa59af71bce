// What rewriting knows of the segments that it copies. For rewriting.cc and rewriting_swap.cc alone,
// on the thread that runs retention.
#pragma once

#include <algorithm>
#include <memory>
#include <unordered_set>
#include <vector>

#include "storage/log_store_impl.h"

namespace polylog::storage {

/// A segment on its way to its copy, or several neighbours on theirs to one.
struct LogStoreImpl::Rewriting {
  /// An index entry that is alive.
  struct Alive {
    PartitionId partition;
    IndexEntry entry;
    bool own = false;      ///< of a chunk in here; otherwise a later one links here
    bool thinned = false;  ///< compaction takes records out of it
  };
  struct Batch {
    size_t from = 0;  ///< of `alive`
    size_t to = 0;
    size_t first = 0;  ///< the own one that it is sorted by; `to` if there is none
  };

  std::vector<std::shared_ptr<Segment>> sources;  ///< ascending
  std::vector<uint64_t> links;                    ///< into each of them when `alive` was gathered
  std::vector<Alive> alive;                       ///< of batches in here
  std::vector<Alive> foreign;           ///< own entries whose batches are in earlier segments
  std::vector<PartitionId> partitions;  ///< with a chunk here

  std::shared_ptr<Segment> copy;  ///< null: nothing is alive
  std::vector<PlacedBatch> map;
  std::unordered_set<uint64_t> taken;  ///< positions of batches, once compaction makes new ones
  std::vector<Position> thinned;       ///< those
  std::vector<FooterRun> runs;
  uint64_t bytes = 0;      ///< of batches that are alive
  bool compacted = false;  ///< worth it whatever is alive

  Position base() const { return sources.front()->info.base; }
  Position end() const { return sources.back()->info.end; }
  bool covers(Position position) const { return position >= base() && position < end(); }
  /// Null: in none of them.
  Segment* sourceOf(Position position) const {
    auto above = std::upper_bound(
        sources.begin(), sources.end(), position,
        [](Position p, const std::shared_ptr<Segment>& source) { return p < source->info.base; });
    if (above == sources.begin()) return nullptr;
    return position < above[-1]->info.end ? above[-1].get() : nullptr;
  }
  std::vector<Batch> inOrder() const;
  void index();
};

}  // namespace polylog::storage
