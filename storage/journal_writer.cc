// The writer thread: writes and syncs groups, begins segments, completes appends, and takes back
// what a failed write leaves undone.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <unordered_map>

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "storage/log_store_impl.h"

namespace polylog::storage {
namespace {

constexpr size_t kUnwaitedBytes = 1U << 20;
/// Unsynced octets beyond which nothing more is written, and lazy ones synced, first.
constexpr uint64_t kMostUnsynced = 16U << 20;
constexpr uint64_t kLazyUnsynced = 8U << 20;
constexpr size_t kSpareGroups = 4;

struct Metrics {
  Metric& bytes = counter("polylog_journal_bytes_total", "Octets written to the journal");
  Metric& writes = counter("polylog_journal_writes_total", "Write groups written to the journal");
  Metric& failures = counter("polylog_journal_write_failures_total",
                             "Writes to the journal that failed and were taken back");
  LatencyHistogram& syncs =
      latencyHistogram("polylog_journal_fsync_seconds", "Duration of the journal's fdatasync");
};

Metrics& metrics() {
  static Metrics all;
  return all;
}

std::unexpected<DiskFailure> diskFailure(Error error, bool fatal) {
  return std::unexpected(DiskFailure{std::move(error), fatal});
}

}  // namespace

LogStoreImpl::WriterAction LogStoreImpl::nextAction(int64_t nowMicros, bool force,
                                                    int64_t& waitMicros) const {
  waitMicros = -1;
  if (!ready_.empty()) return WriterAction::kTasks;
  if (fatal_) {
    // What was in flight meanwhile has to be told too.
    return unsynced_.empty() && groups_.empty() ? WriterAction::kNothing : WriterAction::kSync;
  }
  int64_t lazy = options_.unwaitedSyncMillis * 1000;
  if (!unsynced_.empty() && unsyncedUrgent_ && groups_.size() < 2) return WriterAction::kSync;
  if (unsyncedBytes_ >= kMostUnsynced) return WriterAction::kSync;
  if (!groups_.empty()) {
    const CommitGroup& group = *groups_.front();
    int64_t due = group.bornMicros + lazy;
    if (force || group.urgent || groups_.size() > 1 || group.entries.size() >= kUnwaitedBytes ||
        nowMicros >= due) {
      return WriterAction::kWrite;
    }
    waitMicros = due - nowMicros;
  }
  if (!unsynced_.empty()) {
    if (force || syncAsked_ || unsyncedBytes_ >= kLazyUnsynced || nowMicros >= syncDeadline_) {
      return WriterAction::kSync;
    }
    int64_t wait = syncDeadline_ - nowMicros;
    waitMicros = waitMicros < 0 ? wait : std::min(waitMicros, wait);
  }
  return WriterAction::kNothing;
}

bool LogStoreImpl::writerStep(Lock& lock, bool force, int64_t& waitMicros) {
  switch (nextAction(clock_.monotonicMicros(), force, waitMicros)) {
    case WriterAction::kNothing: return false;
    case WriterAction::kWrite: writeFront(lock); return true;
    case WriterAction::kSync: syncWritten(lock); return true;
    case WriterAction::kTasks: break;
  }
  Completions tasks = std::exchange(ready_, {});
  lock.unlock();
  tasks.deliver();
  lock.lock();
  return true;
}

void LogStoreImpl::drain(Lock& lock) {
  int64_t wait = 0;
  while (writerStep(lock, true, wait)) {
  }
}

void LogStoreImpl::writerLoop() {
  Lock lock(mutex_);
  int64_t wait = 0;
  while (true) {
    if (writerStep(lock, writerStop_, wait)) continue;
    if (writerStop_) return;
    writerWaiting_ = true;
    writerSignalled_ = false;
    writerTimed_ = wait >= 0;
    if (wait >= 0) {
      writerWork_.wait_for(lock, std::chrono::microseconds(wait));
    } else {
      writerWork_.wait(lock);
    }
    writerWaiting_ = false;
  }
}

bool LogStoreImpl::wakeWriter(bool atOnce) {
  if (!writerWaiting_ || writerSignalled_ || (writerTimed_ && !atOnce)) return false;
  writerSignalled_ = true;
  return true;
}

void LogStoreImpl::writeFront(Lock& lock) {
  std::unique_ptr<CommitGroup> group = std::move(groups_.front());
  groups_.pop_front();
  bool other = group->beginsSegment;
  if (other && !unsynced_.empty()) {
    // The old segment must be durable before a mark in the new one says so.
    groups_.push_front(std::move(group));
    syncWritten(lock);
    return;
  }
  lock.unlock();
  std::expected<void, DiskFailure> done = writeGroup(*group);
  if (!done && !done.error().fatal) {
    if (auto cut = truncateToWritten(); !cut) done = cut;
  }
  lock.lock();
  if (!done) {
    if (done.error().fatal) {
      unsynced_.push_back(std::move(group));
      failFatally(lock, std::move(done.error().error));
      return;
    }
    // Before anybody hears of the failure: what comes then is not tried in vain.
    bool ranOut = done.error().error.kind == ErrorKind::kNoSpace;
    if (ranOut) space_.ranOut();
    rewind(lock, std::move(group), done.error().error);
    if (!ranOut) return;
    lock.unlock();
    reportSpace();
    lock.lock();
    return;
  }
  size_t size = group->entries.size();
  pendingBytes_ -= size;
  unsyncedBytes_ += size;
  writtenEnd_ = group->end;
  group->entries.clear();
  if (unsynced_.empty()) {
    syncDeadline_ = group->bornMicros + options_.unwaitedSyncMillis * 1000;
    unsyncedUrgent_ = false;
  }
  unsyncedUrgent_ |= group->needsSync;
  CommitGroup& written = *group;
  unsynced_.push_back(std::move(group));
  bool look = space_.due(writtenEnd_);
  if (written.hasWritten && !written.needsSync) commitWritten(lock, written);
  if (!look) return;
  lock.unlock();
  checkSpace();
  lock.lock();
}

std::expected<void, DiskFailure> LogStoreImpl::writeGroup(CommitGroup& group) {
  if (group.beginsSegment) {
    if (auto begun = beginSegment(group.segment); !begun) return begun;
  }
  if (group.entries.empty()) return {};
  group.entries.seal(durableEnd_);  // only this thread moves it
  pieces_.clear();
  group.entries.pieces(pieces_);
  auto done = writingFile_->write(writing_->info.place(group.base), pieces_);
  if (!done) return diskFailure(std::move(done.error()), false);
  metrics().bytes.add(static_cast<int64_t>(group.entries.size()));
  metrics().writes.add();
  return {};
}

std::expected<void, DiskFailure> LogStoreImpl::beginSegment(
    const std::shared_ptr<Segment>& segment) {
  Directory& directory = journal_.directory();
  // Replaces what an attempt that failed may have left.
  auto file = directory.open(segment->info.file, OpenMode::kReplace);
  if (!file) return diskFailure(std::move(file.error()), false);
  std::string header = encodeSegmentHeader(segment->info);
  BytesView piece = header;
  if (auto done = (*file)->write(0, {&piece, 1}); !done) {
    return diskFailure(std::move(done.error()), false);
  }
  if (auto done = (*file)->sync(); !done) return diskFailure(std::move(done.error()), true);
  // Its name before the manifest's that names it.
  if (auto done = directory.sync(); !done) return diskFailure(std::move(done.error()), true);
  std::lock_guard manifest(manifestMutex_);
  std::vector<SegmentInfo> infos;
  {
    Lock lock(mutex_);
    infos = journal_.infos();
  }
  for (SegmentInfo& info : infos) {
    if (info.id != writing_->info.id) continue;
    info.status = SegmentStatus::kClosed;
    info.end = segment->info.base;
  }
  infos.push_back(segment->info);
  infos.back().status = SegmentStatus::kActive;
  if (auto done = writeManifest(directory, infos); !done) return done;
  {
    Lock lock(mutex_);
    writing_->info.status = SegmentStatus::kClosed;
    writing_->info.end = segment->info.base;
    segment->info.status = SegmentStatus::kActive;
    maintenanceAsked_ = true;
  }
  writing_ = segment;
  writingFile_ = *file;
  journal_.setFile(*segment, std::move(*file));
  maintenanceWork_.notify_one();
  return {};
}

/// Cuts a failed write off the file, for good: were it to come back after a crash, between entries
/// that were written over it, recovery would take up what has been told to have failed.
std::expected<void, DiskFailure> LogStoreImpl::truncateToWritten() {
  auto cut = writingFile_->truncate(writing_->info.place(writtenEnd_));
  if (!cut) return diskFailure(std::move(cut.error()), true);
  if (auto done = writingFile_->sync(); !done) return diskFailure(std::move(done.error()), true);
  return {};
}

void LogStoreImpl::failAppends(CommitGroup& group, const Error& error, Completions& out) {
  for (PendingAppend& pending : group.appends) {
    if (!pending.done) continue;
    out.add(pending.sink,
            [done = std::move(pending.done), error]() mutable { done(std::unexpected(error)); });
  }
  group.appends.clear();
}

void LogStoreImpl::rewind(Lock& lock, std::unique_ptr<CommitGroup> failed, const Error& error) {
  metrics().failures.add();
  ++failures_;
  std::vector<std::unique_ptr<CommitGroup>> doomed;
  doomed.push_back(std::move(failed));
  for (auto& group : groups_) doomed.push_back(std::move(group));
  groups_.clear();
  // What a sync that is still owed covers remains; the truncation has synced it besides.
  std::unordered_map<Partition*, Offset> cuts;
  Completions out;
  for (auto& group : doomed) {
    for (const GroupTarget& target : group->targets) {
      auto [cut, isNew] = cuts.try_emplace(target.partition, target.base);
      if (!isNew) cut->second = std::min(cut->second, target.base);
    }
    for (const ProducerEffect& effect : group->producers) {
      effect.partition->producers()->rewind(effect.producer, doomed.front()->base);
    }
    failAppends(*group, error, out);
  }
  for (const auto& [partition, end] : cuts) {
    if (partition->transactions() != nullptr) partition->transactions()->rewind(end);
    for (Position base : partition->truncate(end)) releaseChunk(base);
  }
  for (auto group = doomed.rbegin(); group != doomed.rend(); ++group) {
    auto& effects = (*group)->effects;
    for (auto effect = effects.rbegin(); effect != effects.rend(); ++effect) {
      if (effect->kind == PartitionEffect::Kind::kCreated) {
        fireWatches(*effect->partition, true, out);
      }
      undo(*effect);
    }
    const SegmentInfo& info = (*group)->segment->info;
    if (info.status == SegmentStatus::kPlanned) journal_.remove(info.id);
  }
  sequencing_ = writing_;
  nextPosition_ = doomed.front()->base;
  nextSequence_ = doomed.front()->firstSequence;
  pendingBytes_ = 0;
  settled_.notify_all();
  for (auto& group : doomed) recycle(std::move(group));
  lock.unlock();
  logError(fmt::format("a write to the journal failed and was taken back: {}", error.text));
  out.deliver();
  lock.lock();
}

void LogStoreImpl::fireWatches(Partition& partition, bool all, Completions& out) {
  if (!partition.watched()) return;
  auto& watches = partition.aside.write().watches;
  std::erase_if(watches, [&](Watch& watch) {
    Offset reached = watch.stable ? partition.lastStable() : partition.highWatermark;
    if (!all && reached <= watch.offset) return false;
    out.add(watch.sink, std::move(watch.task));
    return true;
  });
  partition.tidyAside();
}

void LogStoreImpl::advance(Partition& partition, Offset end, Completions& out) {
  if (end <= partition.highWatermark) return;
  partition.highWatermark = end;
  if (TransactionTable* transactions = partition.transactions()) {
    transactions->settle(end, partition.retention().compaction != nullptr);
  }
  fireWatches(partition, false, out);
}

/// What completes when written, though not synced: its own appends, and their records where all
/// before them are visible.
void LogStoreImpl::commitWritten(Lock& lock, CommitGroup& group) {
  Completions done;
  Completions watches;
  visibleEnd_ = writtenEnd_;
  for (PendingAppend& pending : group.appends) {
    if (pending.durability != Durability::kWritten) continue;
    for (size_t i = pending.targetsFrom; i < pending.targetsTo; ++i) {
      const GroupTarget& target = group.targets[i];
      if (target.partition->highWatermark == target.base) {
        advance(*target.partition, target.end, watches);
      }
    }
    if (!pending.done) continue;
    done.add(pending.sink,
             [run = std::move(pending.done), result = std::move(pending.result)]() mutable {
               run(std::move(result));
             });
    pending.done = nullptr;
  }
  lock.unlock();
  done.deliver();
  watches.deliver();
  lock.lock();
}

void LogStoreImpl::syncWritten(Lock& lock) {
  if (fatal_) {
    failFatally(lock, *fatal_);
    return;
  }
  Position end = writtenEnd_;
  bool needed = durableEnd_ < writtenEnd_;
  syncAsked_ = false;
  std::vector<std::unique_ptr<CommitGroup>> groups = std::exchange(unsynced_, {});
  unsyncedBytes_ = 0;
  unsyncedUrgent_ = false;
  lock.unlock();
  if (needed) {
    int64_t began = clock_.monotonicMicros();
    auto done = writingFile_->sync();
    metrics().syncs.observe(clock_.monotonicMicros() - began);
    if (!done) {
      lock.lock();
      unsynced_ = std::move(groups);
      failFatally(lock, std::move(done.error()));
      return;
    }
  }
  for (auto& group : groups) {
    for (BatchCache::Slice& slice : group->watched) {
      // A small one might pin a large buffer of the connection's.
      if (slice.batch.size() <= EntryBuffer::kCopiedBatch) {
        slice.batch = SharedBytes::copyOf(slice.batch.view());
      }
      uint64_t charge = slice.batch.size();
      cache_.insert({std::move(slice)}, charge);
    }
  }
  lock.lock();
  durableEnd_ = end;
  visibleEnd_ = std::max(visibleEnd_, end);
  Completions watches;
  for (auto& group : groups) settle(*group, watches);
  finish(lock, std::move(groups), std::move(watches));
}

/// Under the lock: makes a durable group visible and its partitions' changes final.
void LogStoreImpl::settle(CommitGroup& group, Completions& out) {
  for (const GroupTarget& target : group.targets) advance(*target.partition, target.end, out);
  for (const PartitionEffect& effect : group.effects) {
    Partition& partition = *effect.partition;
    if (effect.kind == PartitionEffect::Kind::kDeleted) {
      fireWatches(partition, true, out);
      erasePartition(partition);
    } else if (effect.kind == PartitionEffect::Kind::kLogStart) {
      // Not the partition's own log start: a later group may have moved that, and may still fail.
      if (TransactionTable* known = partition.transactions()) known->forget(effect.movedTo);
      size_t dead = 0;
      while (dead < partition.chunks.size() && partition.chunks[dead].end <= effect.movedTo) ++dead;
      if (dead != 0) {
        dropChunks(partition, dead);
        markDirty(partition);
      }
    }
  }
}

/// Without the lock: brings the view up to date, then tells everybody: who hears of a commit may
/// rely on the state that it left.
void LogStoreImpl::finish(Lock& lock, std::vector<std::unique_ptr<CommitGroup>> groups,
                          Completions watches) {
  Position end = durableEnd_;
  lock.unlock();
  Result<> applied;
  for (size_t i = 0; i < groups.size() && applied; ++i) {
    applied = applyState(*groups[i], i + 1 == groups.size() ? end : groups[i]->end);
  }
  // A view that fails is replaced at the next start; what the journal has is durable all the same.
  Completions done;
  std::vector<CommittedBatch> routed;
  for (auto& group : groups) {
    for (PendingAppend& pending : group->appends) {
      if (!pending.done) continue;
      done.add(pending.sink,
               [run = std::move(pending.done), result = std::move(pending.result)]() mutable {
                 run(std::move(result));
               });
    }
    std::move(group->routed.begin(), group->routed.end(), std::back_inserter(routed));
  }
  done.deliver();
  watches.deliver();
  if (!routed.empty() && feed_) feed_(std::move(routed));
  lock.lock();
  if (!applied) {
    failFatally(lock, std::move(applied.error()));
    return;
  }
  settledEnd_ = end;
  for (auto& group : groups) recycle(std::move(group));
  settled_.notify_all();
  if (end.value() - checkpointedAt_.load() >= options_.checkpointBytes && !maintenanceAsked_) {
    maintenanceAsked_ = true;
    maintenanceWork_.notify_one();
  }
}

Result<> LogStoreImpl::applyState(CommitGroup& group, Position end) {
  std::vector<ViewChange> changes;
  appendViewChanges(group.state, changes);
  // The position alone can wait for the next change: replay passes over what changes nothing.
  if (changes.empty()) return {};
  std::lock_guard view(viewMutex_);
  return view_->apply(changes, end);
}

void LogStoreImpl::recycle(std::unique_ptr<CommitGroup> group) {
  if (spareGroups_.size() >= kSpareGroups) return;
  group->clear();
  spareGroups_.push_back(std::move(group));
}

void LogStoreImpl::failFatally(Lock& lock, Error error) {
  bool first = !fatal_;
  if (first) fatal_ = error;
  ++failures_;
  Completions out;
  for (auto& group : unsynced_) failAppends(*group, error, out);
  for (auto& group : groups_) failAppends(*group, error, out);
  unsynced_.clear();
  groups_.clear();
  settled_.notify_all();
  lock.unlock();
  out.deliver();
  if (first) {
    logError(fmt::format("the journal can't be trusted any more, stopping: {}", error.text));
    if (onFatal_) onFatal_(error);
  }
  lock.lock();
}

Result<> LogStoreImpl::waitDurable(Position position, uint64_t failures) {
  Lock lock(mutex_);
  if (!options_.threads) drain(lock);
  settled_.wait(lock, [&] {
    return settledEnd_ > position || failures_ != failures || fatal_ || closed_;
  });
  if (fatal_) return std::unexpected(*fatal_);
  // Positions that were taken back are given out again: where the end is tells nothing then.
  if (failures_ != failures) return fail(ErrorKind::kIo, "a write to the journal failed");
  if (settledEnd_ <= position) return fail(ErrorKind::kShutdown, "the log store is closed");
  return {};
}

}  // namespace polylog::storage
