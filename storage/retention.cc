// Retention: moves log starts past what is too old or too much, by journaled entries, and removes
// segments in which nothing is alive and which no checkpoint needs.
#include <fmt/format.h>

#include <algorithm>

#include "core/base/log.h"
#include "storage/log_store_impl.h"

namespace polylog::storage {
namespace {

constexpr size_t kChangesAtOnce = 1000;
/// A producer silent for so long is forgotten, as Kafka's brokers do by default.
constexpr int64_t kProducerExpiryMs = 24LL * 3600 * 1000;

}  // namespace

Offset LogStoreImpl::expiredUpTo(const Partition& partition, int64_t nowMs,
                                 bool& rollWanted) const {
  Offset start = partition.logStart;
  int64_t bytes = static_cast<int64_t>(partition.bytes);
  const Retention& retention = partition.retention();
  if (retention.millis < 0 && retention.bytes < 0) return start;
  for (const Chunk& chunk : partition.chunks) {
    // Waits for the disk still, or for its transaction's end.
    if (chunk.end > partition.lastStable()) break;
    int64_t newest = chunk.maxTimestamp;
    int64_t created = newest;
    if (auto segment = journal_.at(chunk.base)) {
      created = segment->info.createdMs;
      // A merged one may span a while; it ended when the next one was begun.
      auto next = segment->info.rewritten ? journal_.from(segment->info.end) : segment;
      if (newest < 0 && next) newest = next->info.createdMs;
    }
    if (newest < 0) newest = created;  // records without a time count from their segment's
    bool old = retention.millis >= 0 && newest < nowMs - retention.millis;
    bool much = retention.bytes >= 0 &&
                bytes - static_cast<int64_t>(chunk.bytes) >= retention.bytes && bytes > 0;
    if (!old && !much) {
      // Old and new records in one segment that still grows: let it end, so that it can die.
      rollWanted |= retention.millis >= 0 && chunk.segment == sequencing_->info.id &&
                    created < nowMs - retention.millis;
      break;
    }
    start = std::max(start, chunk.end);
    bytes -= static_cast<int64_t>(chunk.bytes);
  }
  return start;
}

Result<> LogStoreImpl::appendChanges(std::vector<StateChange> changes) {
  AppendRequest request;
  request.state = std::move(changes);
  uint64_t failures = this->failures();
  request.ifFailures = failures;
  auto appended = append(std::move(request));
  if (!appended) {
    // A partition may have been deleted since; the rest can wait for the next round.
    if (appended.error().kind == ErrorKind::kNotFound) return {};
    return std::unexpected(appended.error());
  }
  return waitDurable(appended->position, failures);
}

Result<> LogStoreImpl::moveLogStarts() {
  int64_t nowMs = clock_.wallMillis();
  bool rollWanted = false;
  bool compacted = false;
  std::vector<StateChange> changes;
  auto visit = [&](Partition& partition) {
    if (partition.deleted) return;
    compacted |= partition.retention().compaction != nullptr;
    ProducerTable* producers = partition.producers();
    if (producers != nullptr && producers->expire(nowMs - kProducerExpiryMs, durableEnd_)) {
      markDirty(partition);
    }
    Offset start = expiredUpTo(partition, nowMs, rollWanted);
    if (start > partition.logStart) changes.push_back(logStartMoved(partition.id, start));
  };
  auto append = [&]() -> Result<> {
    if (changes.size() < kChangesAtOnce) return {};
    return appendChanges(std::exchange(changes, {}));
  };
  // What is missed has its turn at the next round.
  if (auto done = visitPartitions(visit, append); !done) return done;
  anyCompacted_ = compacted;
  if (!changes.empty()) {
    if (auto done = appendChanges(std::move(changes)); !done) return done;
  }
  {
    Lock lock(mutex_);
    bool dead = sequencing_->everHadChunks && sequencing_->liveChunks == 0;
    if (!rollWanted && !dead) return {};
    rollAsked_ = true;
  }
  // The roll comes with the next append; this one is for that.
  return appendChanges({});
}

std::vector<std::shared_ptr<Segment>> LogStoreImpl::deadSegments(Position below) const {
  std::vector<std::shared_ptr<Segment>> dead;
  for (const auto& segment : journal_.segments()) {
    bool ended = segment->info.status == SegmentStatus::kClosed ||
                 segment->info.status == SegmentStatus::kSealed;
    if (!ended || segment->liveChunks != 0 || segment->info.end > below) continue;
    if (segment->info.end.value() > linkedFrom_) continue;
    dead.push_back(segment);
  }
  return dead;
}

Position LogStoreImpl::securedEnd() const {
  return std::min(view_->safePosition(), olderDerivedFloor_);
}

/// Takes checkpoints until the older one is above what could be removed or rewritten.
Result<> LogStoreImpl::secureCheckpoints(const std::vector<std::shared_ptr<Segment>>& scattered) {
  for (int i = 0; i < 2; ++i) {
    bool gain = false;
    {
      Lock lock(mutex_);
      Position secured = securedEnd();
      gain = deadSegments(Position(UINT64_MAX)).size() > deadSegments(secured).size() ||
             std::any_of(scattered.begin(), scattered.end(),
                         [&](const auto& segment) { return segment->info.end > secured; });
    }
    if (!gain) return {};
    // A checkpoint is named by its position: two at one position are one.
    if (auto done = appendChanges({}); !done) return done;
    if (auto done = checkpointLocked(); !done) return done;
  }
  return {};
}

Result<size_t> LogStoreImpl::dropDeadSegments() {
  std::vector<std::shared_ptr<Segment>> dead;
  {
    // Held from taking them off the list to the manifest without them.
    std::lock_guard manifest(manifestMutex_);
    std::vector<SegmentInfo> infos;
    {
      Lock lock(mutex_);
      dead = deadSegments(securedEnd());
      if (dead.empty()) return 0;
      for (const auto& segment : dead) segment->replaced = true;  // nothing links to it any more
      infos = journal_.infos();
    }
    std::erase_if(infos, [&](const SegmentInfo& info) {
      return std::any_of(dead.begin(), dead.end(),
                         [&](const auto& segment) { return segment->info.id == info.id; });
    });
    if (auto done = writeManifest(journal_.directory(), infos); !done) {
      if (done.error().fatal) fatalFromMaintenance(done.error().error);
      Lock lock(mutex_);
      for (const auto& segment : dead) segment->replaced = false;
      return std::unexpected(done.error().error);
    }
    Lock lock(mutex_);
    for (const auto& segment : dead) journal_.remove(segment->info.id);
    settled_.notify_all();  // links may try again, and learn that it has gone
  }
  for (const auto& segment : dead) {
    journal_.closeFile(*segment);
    // Whoever reads it still has it open. What can't be removed now goes at the next start.
    auto removed = journal_.directory().remove(segment->info.file);
    if (!removed) logWarning("retention: " + removed.error().text);
  }
  return dead.size();
}

Result<size_t> LogStoreImpl::retentionLocked() {
  if (auto done = moveLogStarts(); !done) return std::unexpected(done.error());
  if (auto done = sealSegments(); !done) return std::unexpected(done.error());
  auto scattered = scatteredSegments();
  if (auto done = planCompaction(scattered); !done) return std::unexpected(done.error());
  if (auto done = secureCheckpoints(scattered); !done) return std::unexpected(done.error());
  auto dropped = dropDeadSegments();
  if (!dropped) return dropped;
  if (*dropped != 0) checkSpace();
  if (auto done = rewriteScattered(scattered); !done) return std::unexpected(done.error());
  superseded_.clear();
  if (auto done = mergeRewritten(); !done) return std::unexpected(done.error());
  return dropped;
}

Result<size_t> LogStoreImpl::runRetention() {
  if (!options_.threads) {
    Lock lock(mutex_);
    drain(lock);
  }
  std::lock_guard maintenance(maintenanceMutex_);
  return retentionLocked();
}

}  // namespace polylog::storage
