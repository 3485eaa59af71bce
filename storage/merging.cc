// Merging: a queue through which much passes and in which little stays, or a compacted topic,
// leaves behind it a rewritten segment of a few octets for each segment that there was. Neighbours
// among them become one, by the same steps as any rewriting. An octet is copied only into a segment
// that at least doubles the one it was in, so that it is copied few times however long it lives.
#include <algorithm>
#include <span>
#include <utility>

#include "storage/log_store_impl.h"

namespace polylog::storage {
namespace {

/// How many are worth a turn, and how many files may be open at once for it.
constexpr size_t kFewest = 8;
constexpr size_t kMost = 128;
/// A partition's records of one segment expire together: what is merged for one that keeps them for
/// some time must not span more than this share of it.
constexpr int64_t kShareOfRetention = 8;

}  // namespace

/// A segment as merging sees it.
struct LogStoreImpl::Mergeable {
  std::shared_ptr<Segment> segment;
  uint64_t bytes = UINT64_MAX;  ///< of the file; if it may not be merged it fits nowhere
  int64_t begunMs = 0;
  int64_t endedMs = 0;
  int64_t mostMillis = INT64_MAX;  ///< from the first's begin to the last's end

  /// How many of the segments are to become one: the longest beginning that fits into `room` octets
  /// and of which none is larger than all the others. 0: too few.
  static size_t howMany(std::span<const Mergeable> all, uint64_t room) {
    size_t best = 0;
    uint64_t sum = 0;
    uint64_t largest = 0;
    int64_t most = INT64_MAX;
    for (size_t count = 1; count <= std::min(all.size(), kMost); ++count) {
      const Mergeable& last = all[count - 1];
      most = std::min(most, last.mostMillis);
      if (last.bytes > room - sum || last.endedMs - all[0].begunMs > most) break;
      sum += last.bytes;
      largest = std::max(largest, last.bytes);
      if (count >= kFewest && largest <= sum / 2) best = count;
    }
    return best;
  }
};

/// Sealed segments, rewritten or not, with what tells which may be merged.
Result<std::vector<LogStoreImpl::Mergeable>> LogStoreImpl::mergeableSegments() {
  std::vector<Mergeable> all;
  Position secured;
  {
    Lock lock(mutex_);
    secured = securedEnd();
    for (const auto& segment : journal_.segments()) {
      if (!all.empty()) all.back().endedMs = segment->info.createdMs;
      if (segment->info.status != SegmentStatus::kSealed) break;
      Mergeable& one = all.emplace_back();
      one.segment = segment;
      one.begunMs = segment->info.createdMs;
    }
  }
  for (Mergeable& one : all) {
    Segment& segment = *one.segment;
    if (!segment.info.rewritten || segment.info.end > secured) continue;
    if (segment.fileBytes == 0) {
      auto file = journal_.file(segment);
      auto size = file ? (*file)->size() : Result<uint64_t>(std::unexpected(file.error()));
      if (!size) return std::unexpected(size.error());
      segment.fileBytes = *size;
    }
    one.bytes = segment.fileBytes;
  }
  return all;
}

/// Partitions whose records expire limit how long a time a merged segment spans.
void LogStoreImpl::limitSpans(std::vector<Mergeable>& all) {
  (void)visitPartitions([&](Partition& partition) {
    int64_t millis = partition.retention().millis;
    if (millis < 0) return;
    auto one = all.begin();
    for (const Chunk& chunk : partition.chunks) {
      if (chunk.dead) continue;
      one = std::lower_bound(one, all.end(), chunk.base, [](const Mergeable& m, Position base) {
        return m.segment->info.base < base;
      });
      if (one == all.end()) return;
      if (one->segment->info.base != chunk.base) continue;
      one->mostMillis = std::min(one->mostMillis, millis / kShareOfRetention);
    }
  });
}

Result<> LogStoreImpl::mergeRewritten() {
  auto all = mergeableSegments();
  if (!all) return std::unexpected(all.error());
  // Half a segment at a time, as rewriting does: so much of a full disk is kept for that.
  uint64_t room = options_.segmentBytes / 2;
  bool limited = false;
  for (size_t from = 0; from + kFewest <= all->size();) {
    size_t count = Mergeable::howMany(std::span<const Mergeable>(*all).subspan(from), room);
    if (count != 0 && !std::exchange(limited, true)) {
      limitSpans(*all);
      continue;
    }
    if (count == 0) {
      ++from;
      continue;
    }
    {
      Lock lock(mutex_);
      if (fatal_) return std::unexpected(*fatal_);
      if (maintenanceStop_) return {};
    }
    std::vector<std::shared_ptr<Segment>> sources;
    for (size_t i = from; i < from + count; ++i) sources.push_back((*all)[i].segment);
    if (auto done = rewriteSegments(std::move(sources)); !done) return done;
    checkSpace();
    from += count;
  }
  return {};
}

}  // namespace polylog::storage
