// The maintenance thread: footers of segments that are full, checkpoints of the state view with
// what partitions' indexes add to it, free space, and retention's timer.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "core/base/byte_writer.h"
#include "core/base/log.h"
#include "core/base/metrics.h"
#include "storage/log_store_impl.h"

namespace polylog::storage {
namespace {

/// Partitions looked at under one hold of the lock.
constexpr size_t kSlice = 512;
constexpr size_t kChangesAtOnce = 1024;
constexpr auto kTick = std::chrono::seconds(1);

struct Metrics {
  Metric& free = gauge("polylog_disk_free_bytes", "Octets free on the disk of the journal");
  Metric& full = gauge("polylog_disk_full", "1 while publishes are not taken for want of space");
};

Metrics& metrics() {
  static Metrics all;
  return all;
}

}  // namespace

void LogStoreImpl::fatalFromMaintenance(const Error& error) {
  Lock lock(mutex_);
  if (fatal_) return;
  failFatally(lock, error);
}

void LogStoreImpl::maintenanceLoop() {
  Lock lock(mutex_);
  while (!maintenanceStop_) {
    if (!maintenanceAsked_) maintenanceWork_.wait_for(lock, kTick);
    if (maintenanceStop_) return;
    maintenanceAsked_ = false;
    if (fatal_) continue;
    lock.unlock();
    maintain(true);
    lock.lock();
  }
}

void LogStoreImpl::maintain(bool timers) {
  std::lock_guard maintenance(maintenanceMutex_);
  checkSpace();
  bool due = false;
  {
    Lock lock(mutex_);
    if (fatal_) return;
    due = durableEnd_.value() - checkpointedAt_.load() >= options_.checkpointBytes;
  }
  Result<> done = due ? checkpointLocked() : sealSegments();
  if (!done) logWarning("storage maintenance: " + done.error().text);
  if (!timers || clock_.monotonicMicros() < retentionDue_) return;
  retentionDue_ = clock_.monotonicMicros() + options_.retentionCheckMillis * 1000;
  if (auto swept = retentionLocked(); !swept) {
    logWarning("retention: " + swept.error().text);
  }
}

/// Also the writer's, between two writes.
void LogStoreImpl::checkSpace() {
  Position written;
  {
    // Before the look: what is written meanwhile counts twice rather than not at all.
    Lock lock(mutex_);
    written = writtenEnd_;
  }
  auto free = directory_->freeBytes();
  if (!free) return;
  {
    Lock lock(mutex_);
    space_.seen(*free, written);
  }
  metrics().free.set(static_cast<int64_t>(*free));
  reportSpace();
}

/// Tells of a change, once. Whoever waits is woken even if it was over before it could be told.
void LogStoreImpl::reportSpace() {
  std::function<void()> resumed;
  bool full = false;
  bool changed = false;
  uint64_t free = 0;
  {
    Lock lock(mutex_);
    full = space_.full();
    changed = std::exchange(spaceReported_, full) != full;
    free = space_.left(nextPosition_);
    metrics().full.set(full ? 1 : 0);
    if (space_.takeResumed()) resumed = spaceFeed_;
  }
  if (resumed) resumed();
  if (!changed) return;
  if (full) {
    logError(fmt::format(
        "the disk is full: {} octets are free under {}, storage.disk.high_watermark_free_bytes is "
        "{}; publishes are refused or held until {} are free "
        "(storage.disk.low_watermark_free_bytes)",
        free, directory_->path(), options_.diskHighMark, options_.diskLowMark));
    return;
  }
  logInfo(
      fmt::format("there is space again: {} octets are free under {}, "
                  "storage.disk.low_watermark_free_bytes is {}; publishes are taken",
                  free, directory_->path(), options_.diskLowMark));
}

std::expected<void, DiskFailure> LogStoreImpl::saveManifest() {
  std::lock_guard manifest(manifestMutex_);
  std::vector<SegmentInfo> infos;
  {
    Lock lock(mutex_);
    infos = journal_.infos();
  }
  auto done = writeManifest(journal_.directory(), infos);
  if (!done && done.error().fatal) fatalFromMaintenance(done.error().error);
  return done;
}

Result<> LogStoreImpl::sealSegments() {
  bool sealed = false;
  while (true) {
    std::shared_ptr<Segment> closed;
    {
      Lock lock(mutex_);
      for (const auto& segment : journal_.segments()) {
        if (segment->info.status != SegmentStatus::kClosed) continue;
        closed = segment;
        break;
      }
    }
    if (!closed) break;
    if (auto done = sealSegment(closed); !done) return done;
    sealed = true;
  }
  if (!sealed) return {};
  auto saved = saveManifest();
  if (!saved) return std::unexpected(saved.error().error);
  return {};
}

Result<> LogStoreImpl::sealSegment(const std::shared_ptr<Segment>& segment) {
  std::vector<PartitionId> ids;
  SegmentInfo info;
  {
    Lock lock(mutex_);
    ids = segment->partitions;  // complete: nothing is sequenced into a closed segment
    info = segment->info;
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  std::vector<FooterRun> runs;
  for (size_t from = 0; from < ids.size(); from += kSlice) {
    Lock lock(mutex_);
    for (size_t i = from; i < std::min(from + kSlice, ids.size()); ++i) {
      Partition* partition = partitions_.find(ids[i]);
      Chunk* chunk = partition == nullptr ? nullptr : partition->chunkIn(info.id);
      if (chunk == nullptr || !chunk->run) continue;
      runs.push_back({ids[i], chunk->first, chunk->end, chunk->bytes, chunk->maxTimestamp,
                      chunk->minLink, chunk->run, 0, 0});
    }
  }
  auto file = journal_.file(*segment);
  if (!file) return std::unexpected(file.error());
  if (auto done = writeFooter(**file, info, info.place(info.end), runs); !done) return done;
  if (auto done = (*file)->sync(); !done) {
    fatalFromMaintenance(done.error());
    return done;
  }
  for (size_t from = 0; from < runs.size(); from += kSlice) {
    Lock lock(mutex_);
    for (size_t i = from; i < std::min(from + kSlice, runs.size()); ++i) {
      Partition* partition = partitions_.find(runs[i].partition);
      Chunk* chunk = partition == nullptr ? nullptr : partition->chunkIn(info.id);
      if (chunk == nullptr) continue;
      chunk->footerAt = runs[i].at;
      chunk->footerLength = runs[i].length;
      chunk->run = nullptr;
      markDirty(*partition);
    }
  }
  Lock lock(mutex_);
  segment->info.status = SegmentStatus::kSealed;
  segment->partitions = {};
  segment->indexBytes = 0;
  return {};
}

Result<> LogStoreImpl::applyDerived(std::vector<ViewChange>& changes) {
  Position applied;
  {
    Lock lock(mutex_);
    applied = settledEnd_;
  }
  applied = std::max(applied, view_->applied());
  auto done = view_->apply(changes, applied);
  changes.clear();
  if (!done) fatalFromMaintenance(done.error());
  return done;
}

/// Writes the derived records of the partitions that changed, then the floor they are good for.
Result<> LogStoreImpl::writeDerived(Position floor) {
  std::vector<PartitionId> ids;
  {
    Lock lock(mutex_);
    ids = std::exchange(dirty_, {});
  }
  std::vector<ViewChange> changes;
  for (size_t from = 0; from < ids.size(); from += kSlice) {
    // Held over reading and applying, so that a deletion's own change comes after.
    std::lock_guard view(viewMutex_);
    {
      Lock lock(mutex_);
      for (size_t i = from; i < std::min(from + kSlice, ids.size()); ++i) {
        Partition* found = partitions_.find(ids[i]);
        if (found == nullptr) continue;
        Partition& partition = *found;
        partition.dirty = false;
        changes.push_back({viewKey(StateTable::kDerived, derivedKey(partition.id)),
                           partition.encodeDerived(floor, durableEnd_)});
        // Its producers' pending batches, or chunks above the floor, are for the next one.
        bool more = !partition.chunks.empty() && partition.chunks.back().base >= floor &&
                    (partition.producers() != nullptr || partition.transactions() != nullptr);
        if (more) markDirty(partition);
      }
    }
    if (changes.size() < kChangesAtOnce && from + kSlice < ids.size()) continue;
    if (auto done = applyDerived(changes); !done) return done;
  }
  ByteWriter value;
  value.u64(floor.value());
  changes.push_back({viewKey(StateTable::kDerived, kFloorKey), value.take()});
  std::lock_guard view(viewMutex_);
  return applyDerived(changes);
}

Result<> LogStoreImpl::checkpointLocked() {
  if (auto done = sealSegments(); !done) return done;
  Position floor;
  Position at;
  {
    Lock lock(mutex_);
    if (fatal_) return std::unexpected(*fatal_);
    floor = journal_.footerFloor();
    at = settledEnd_;
  }
  if (auto done = writeDerived(floor); !done) return done;
  if (auto done = view_->checkpoint(); !done) return done;
  checkpointedAt_ = at.value();
  olderDerivedFloor_ = std::exchange(derivedFloor_, floor);
  return {};
}

Result<> LogStoreImpl::checkpoint() {
  if (!options_.threads) {
    Lock lock(mutex_);
    drain(lock);
  }
  std::lock_guard maintenance(maintenanceMutex_);
  {
    Lock lock(mutex_);
    if (closed_) return fail(ErrorKind::kShutdown, "the log store is closed");
  }
  return checkpointLocked();
}

}  // namespace polylog::storage
