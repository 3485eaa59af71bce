// Key compaction: finds out which records of a compacted partition are superseded, in its sealed
// segments; rewriting leaves them out. A pass reads the partition once for each share of its keys
// that fits in memory.
#include "storage/compaction.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/log.h"
#include "storage/key_map.h"
#include "storage/log_store_impl.h"

namespace polylog::storage {
namespace {

/// Keys looked at in one pass over a partition: 128 MiB of memory.
constexpr size_t kMostKeys = 2U << 20;
/// A segment is rewritten if so much of it is superseded, in percent, or if that is overdue.
constexpr uint64_t kWorthPercent = 5;
constexpr size_t kMostDecoded = 256U << 20;

}  // namespace

/// A partition whose sealed part is to be compacted.
struct LogStoreImpl::CompactionDue {
  PartitionId partition;
  Offset from;
  Offset to;
  Offset tombstonesTo;  ///< those below have been there for long enough
  std::vector<AbortedTransaction> aborted;
  bool overdue = false;
  std::vector<Chunk> chunks;
};

/// Partitions of which enough is new, and what of them may be compacted.
std::vector<LogStoreImpl::CompactionDue> LogStoreImpl::partitionsToCompact() {
  std::vector<CompactionDue> due;
  int64_t nowMs = clock_.wallMillis();
  Position routed = liveness_ != nullptr ? liveness_->routedUpTo() : Position(UINT64_MAX);
  (void)visitPartitions([&](Partition& partition) {
    if (!partition.retention().compaction || partition.deleted) return;
    auto one = whatToCompact(partition, nowMs, routed);
    if (one) due.push_back(std::move(*one));
  });
  return due;
}

std::optional<LogStoreImpl::CompactionDue> LogStoreImpl::whatToCompact(const Partition& partition,
                                                                       int64_t nowMs,
                                                                       Position routed) {
  const Compaction& rule = *partition.retention().compaction;
  auto before = [nowMs](int64_t millis) { return millis > nowMs ? INT64_MIN : nowMs - millis; };
  CompactionDue due;
  due.partition = partition.id;
  due.from = due.to = due.tombstonesTo = partition.logStart;
  auto done = compactedTo_.find(partition.id);
  Offset cleaned = done == compactedTo_.end() ? Offset(0) : done->second;
  // What isn't decided yet may still become the latest of its key, or nothing at all.
  Offset stable = partition.lastStable();
  // What is committed is routed from its partition, as it was produced.
  if (TransactionTable* known = partition.transactions()) {
    stable = std::min(stable, known->firstCommitted(routed).value_or(stable));
  }
  uint64_t all = 0;
  uint64_t fresh = 0;
  for (size_t i = 0; i < partition.chunks.size(); ++i) {
    const Chunk& chunk = partition.chunks[i];
    if (chunk.dead || chunk.end <= partition.logStart) continue;
    auto segment = journal_.at(chunk.base);
    bool late =
        segment && chunk.first >= cleaned && segment->info.createdMs < before(rule.maxLagMillis);
    due.overdue |= late;
    if (!segment || chunk.run || segment->info.status != SegmentStatus::kSealed) {
      // It can't be compacted before it ends.
      if (late && segment == sequencing_) rollAsked_ = true;
      break;
    }
    if (segment->info.end > routed || chunk.end > stable) break;
    if (rule.minLagMillis > 0 && chunk.maxTimestamp > before(rule.minLagMillis)) break;
    due.chunks.push_back(chunk);
    due.to = chunk.end;
    all += chunk.bytes;
    if (chunk.first >= cleaned) fresh += chunk.bytes;
    // A segment ended when the next one was begun.
    auto next = journal_.from(segment->info.end);
    if (next && next->info.createdMs <= before(rule.deleteRetentionMillis))
      due.tombstonesTo = chunk.end;
  }
  if (fresh == 0) return std::nullopt;
  if (const TransactionTable* known = partition.transactions()) {
    due.aborted = known->aborted(due.from, due.to);
  }
  bool dirty = fresh * 100 >= all * static_cast<uint64_t>(rule.minDirtyPercent);
  return dirty || due.overdue ? std::optional(std::move(due)) : std::nullopt;
}

Result<> LogStoreImpl::forEachRecord(const CompactionDue& due,
                                     const std::function<void(Offset, const Record&)>& visit,
                                     const std::function<void(Offset, Offset)>& hole) {
  for (const Chunk& chunk : due.chunks) {
    auto run = runOf(due.partition, chunk);
    if (!run) return std::unexpected(run.error());
    IndexRun::Cursor cursor = (*run)->seek(due.from);
    for (IndexEntry entry; cursor.next(entry);) {
      if (stopping_.load()) return fail(ErrorKind::kShutdown, "the log store is closing");
      std::shared_ptr<Segment> segment;
      {
        Lock lock(mutex_);
        segment = journal_.at(entry.position);
      }
      if (!segment) continue;
      auto file = journal_.file(*segment);
      if (!file) return std::unexpected(file.error());
      auto batch = readUncached(*segment, **file, {entry.position, entry.length});
      if (!batch && batch.error().kind != ErrorKind::kCorrupt)
        return std::unexpected(batch.error());
      auto decoded = batch ? decodeRecordBatch(*batch, kMostDecoded)
                           : Result<DecodedBatch>(std::unexpected(batch.error()));
      // What can't be read stays as it is, and so do markers of transactions: readers that are told
      // of an aborted one have to meet its end.
      if (!decoded || decoded->header.control()) continue;
      if (hiddenFromCommitted(decoded->header, entry.base, due.aborted)) {
        hole(entry.base, entry.end());
        continue;
      }
      auto first = static_cast<int32_t>(entry.firstRecord);
      auto end = static_cast<int32_t>(entry.firstRecord + entry.count);
      int32_t next = first;
      for (size_t i = 0; i < decoded->records.size(); ++i) {
        int32_t delta = decoded->offsetDeltas[i];
        if (delta < first || delta >= end) continue;
        if (delta > next) hole(entry.base + (next - first), entry.base + (delta - first));
        visit(entry.base + (delta - first), decoded->records[i]);
        next = delta + 1;
      }
      if (next < end) hole(entry.base + (next - first), entry.end());
    }
  }
  return {};
}

Result<OffsetSet> LogStoreImpl::findSuperseded(const CompactionDue& due) {
  for (uint64_t shares = 1;; shares *= 2) {
    OffsetSet superseded(due.from, due.to);
    bool tooMany = false;
    for (uint64_t share = 0; share < shares && !tooMany; ++share) {
      KeyMap keys;
      auto visit = [&](Offset offset, const Record& record) {
        if (!record.key) return;  // nothing that comes later supersedes it
        KeyMap::Key key = KeyMap::keyOf(*record.key);
        if (tooMany || offset < due.from || key.high % shares != share) return;
        if (auto older = keys.put(key, offset, !record.value)) superseded.add(*older);
        tooMany = keys.size() > kMostKeys;
      };
      auto hole = [&](Offset first, Offset end) {
        for (Offset at = std::max(first, due.from); at < end; ++at) superseded.add(at);
      };
      if (auto read = forEachRecord(due, visit, hole); !read) return std::unexpected(read.error());
      // A tombstone that nothing older needs any more. The last record of all is kept for its
      // offset.
      keys.forEach([&](const KeyMap::Item& item) {
        if (item.tombstone && item.alone && item.latest < due.tombstonesTo) {
          superseded.add(item.latest);
        }
      });
    }
    if (!tooMany) return superseded;
  }
}

/// Finds what is superseded and adds the segments that are worth rewriting for it to `scattered`.
Result<> LogStoreImpl::planCompaction(std::vector<std::shared_ptr<Segment>>& scattered) {
  superseded_.clear();
  if (!anyCompacted_) return {};
  struct Share {
    uint64_t octets = 0;
    bool overdue = false;
  };
  std::unordered_map<uint64_t, Share> shares;
  for (const CompactionDue& due : partitionsToCompact()) {
    auto found = findSuperseded(due);
    if (!found) return std::unexpected(found.error());
    for (const Chunk& chunk : due.chunks) {
      uint64_t records = found->count(std::max(chunk.first, due.from), chunk.end);
      Share& share = shares[chunk.segment];
      share.octets += chunk.bytes * records / static_cast<uint64_t>(chunk.end - chunk.first);
      share.overdue |= due.overdue && records != 0;
    }
    superseded_.emplace(due.partition, std::move(*found));
    compactedTo_[due.partition] = due.to;
  }
  Lock lock(mutex_);
  for (const auto& [id, share] : shares) {
    auto segment = journal_.byId(id);
    if (!segment || segment->info.status != SegmentStatus::kSealed) continue;
    uint64_t size = segment->info.end - segment->info.base;
    if (segment->info.rewritten) size = std::max<uint64_t>(segment->judgedBytes, 1);
    if (!share.overdue && share.octets * 100 < size * kWorthPercent) continue;
    if (std::find(scattered.begin(), scattered.end(), segment) != scattered.end()) continue;
    scattered.push_back(segment);
  }
  std::sort(scattered.begin(), scattered.end(),
            [](const auto& a, const auto& b) { return a->info.id < b->info.id; });
  return {};
}

}  // namespace polylog::storage
