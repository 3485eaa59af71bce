// Partitions' state changes, watches, reads of state, and the store's life cycle.
#include "storage/log_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"
#include "core/base/log.h"
#include "storage/log_store_impl.h"

namespace polylog::storage {
namespace {

constexpr char kConfiguration = 'c';
constexpr char kLogStart = 's';
constexpr size_t kBucketsAtOnce = 64;
/// A mutex goes to whoever asks first once it is free, which would be the visit itself: of a million
/// partitions nobody else would have a turn before the last. Long enough for a thread that waits to
/// wake up.
constexpr auto kTurnOfOthers = std::chrono::microseconds(100);

/// Of options.cacheBytes, what index runs of sealed segments get.
uint64_t runCacheShare(uint64_t cacheBytes) {
  return cacheBytes / 4;
}

PartitionEnds endsOf(const Partition* partition) {
  return {partition->logStart, partition->highWatermark, partition->end,
          static_cast<int64_t>(partition->bytes), partition->lastStable()};
}

}  // namespace

std::string partitionKey(PartitionId partition, char kind) {
  ByteWriter out;
  out.u64(partition.value());
  out.u8(static_cast<uint8_t>(kind));
  return out.take();
}

std::string derivedKey(PartitionId partition) {
  ByteWriter out;
  out.u8('p');
  out.u64(partition.value());
  return out.take();
}

std::string viewKey(StateTable table, BytesView key) {
  std::string out;
  out.reserve(key.size() + 1);
  out.push_back(static_cast<char>(table));
  out.append(key);
  return out;
}

StateChange partitionConfigured(PartitionId partition, Retention retention) {
  ByteWriter value;
  value.i64(retention.millis);
  value.i64(retention.bytes);
  if (retention.compaction) {
    value.i64(retention.compaction->minLagMillis);
    value.i64(retention.compaction->maxLagMillis);
    value.i64(retention.compaction->deleteRetentionMillis);
    value.i32(retention.compaction->minDirtyPercent);
  }
  return {StateTable::kPartition, partitionKey(partition, kConfiguration), value.take()};
}

StateChange partitionDeleted(PartitionId partition) {
  return {StateTable::kPartition, partitionKey(partition, kConfiguration), std::nullopt};
}

StateChange logStartMoved(PartitionId partition, Offset offset) {
  ByteWriter value;
  value.i64(offset.value());
  return {StateTable::kPartition, partitionKey(partition, kLogStart), value.take()};
}

std::optional<PartitionChange> parsePartitionChange(const StateChange& change) {
  ByteReader key(change.key);
  PartitionChange parsed;
  parsed.partition = PartitionId(key.u64());
  char kind = static_cast<char>(key.u8());
  if (!key.complete()) return std::nullopt;
  if (!change.value) {
    parsed.kind = PartitionChange::Kind::kDeleted;
    return kind == kConfiguration ? std::optional(parsed) : std::nullopt;
  }
  ByteReader value(*change.value);
  if (kind == kConfiguration) {
    parsed.retention.millis = value.i64();
    parsed.retention.bytes = value.i64();
    if (value.remaining() != 0) {
      auto compaction = std::make_shared<Compaction>();
      compaction->minLagMillis = value.i64();
      compaction->maxLagMillis = value.i64();
      compaction->deleteRetentionMillis = value.i64();
      compaction->minDirtyPercent = std::clamp(value.i32(), 0, 100);
      parsed.retention.compaction = std::move(compaction);
    }
  } else {
    parsed.kind = PartitionChange::Kind::kLogStart;
    parsed.logStart = Offset(value.i64());
  }
  if (!value.complete() || (kind != kConfiguration && kind != kLogStart)) return std::nullopt;
  return parsed;
}

void appendViewChanges(std::vector<StateChange>& changes, std::vector<ViewChange>& out) {
  for (StateChange& change : changes) {
    if (change.table == StateTable::kPartition && !change.value) {
      if (auto parsed = parsePartitionChange(change)) {
        out.push_back({viewKey(StateTable::kPartition, partitionKey(parsed->partition, kLogStart)),
                       std::nullopt});
        out.push_back({viewKey(StateTable::kDerived, derivedKey(parsed->partition)), std::nullopt});
      }
    }
    out.push_back({viewKey(change.table, change.key), std::move(change.value)});
  }
}

LogStoreImpl::LogStoreImpl(std::shared_ptr<Directory> directory, const LogStoreOptions& options,
                           const Clock& clock, Random& random,
                           std::function<void(const Error&)> onFatal)
    : directory_(std::move(directory)),
      options_(options),
      clock_(clock),
      random_(random),
      onFatal_(std::move(onFatal)),
      cache_(options.cacheBytes - runCacheShare(options.cacheBytes)),
      runs_(runCacheShare(options.cacheBytes)),
      space_(options.diskHighMark, options.diskLowMark) {}

LogStoreImpl::~LogStoreImpl() {
  close();
}

Partition* LogStoreImpl::findPartition(PartitionId id) const {
  Partition* found = partitions_.find(id);
  return found == nullptr || found->deleted ? nullptr : found;
}

Result<> LogStoreImpl::visitPartitions(const std::function<void(Partition&)>& visit,
                                       const std::function<Result<>()>& between) {
  for (size_t bucket = 0;; bucket += kBucketsAtOnce) {
    {
      Lock lock(mutex_);
      if (bucket >= partitions_.buckets()) return {};
      partitions_.visit(bucket, bucket + kBucketsAtOnce, visit);
    }
    if (between) {
      if (auto done = between(); !done) return done;
    }
    if (options_.threads) std::this_thread::sleep_for(kTurnOfOthers);
  }
}

Partition& LogStoreImpl::makePartition(PartitionId id, Retention retention) {
  auto partition = std::make_unique<Partition>();
  partition->id = id;
  partition->setRetention(std::move(retention));
  return partitions_.insert(std::move(partition));
}

void LogStoreImpl::releaseChunk(Position base) {
  if (auto found = journal_.at(base); found && found->liveChunks > 0) --found->liveChunks;
}

void LogStoreImpl::erasePartition(Partition& partition) {
  dropChunks(partition, partition.chunks.size());
  partitions_.remove(partition);
}

void LogStoreImpl::dropChunks(Partition& partition, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const Chunk& chunk = partition.chunks[i];
    if (!chunk.dead) releaseChunk(chunk.base);
    partition.bytes -= chunk.bytes;
  }
  partition.chunks.erase(partition.chunks.begin(),
                         partition.chunks.begin() + static_cast<std::ptrdiff_t>(count));
}

void LogStoreImpl::markDirty(Partition& partition) {
  if (partition.dirty) return;
  partition.dirty = true;
  dirty_.push_back(partition.id);
}

Result<const Partition*> LogStoreImpl::partitionOf(PartitionId id) const {
  const Partition* partition = findPartition(id);
  if (partition != nullptr) return partition;
  return fail(ErrorKind::kNotFound, fmt::format("no partition {}", id.value()));
}

Result<PartitionEnds> LogStoreImpl::ends(PartitionId id) const {
  Lock lock(mutex_);
  auto partition = partitionOf(id);
  if (!partition) return std::unexpected(partition.error());
  return endsOf(*partition);
}

int64_t LogStoreImpl::octetsFrom(PartitionId id, Offset from) const {
  Lock lock(mutex_);
  const Partition* partition = findPartition(id);
  if (partition == nullptr) return 0;
  from = std::max(from, partition->logStart);
  double sum = 0;
  for (size_t at = partition->chunkAt(from); at < partition->chunks.size(); ++at) {
    const Chunk& chunk = partition->chunks[at];
    const auto all = static_cast<double>(std::max<int64_t>(1, chunk.end - chunk.first));
    const auto part = static_cast<double>(chunk.end - std::max(from, chunk.first));
    sum += static_cast<double>(chunk.bytes) * (part / all);
  }
  return static_cast<int64_t>(sum);
}

Result<Stability> LogStoreImpl::stability(PartitionId id, Offset from, Offset to) const {
  Lock lock(mutex_);
  auto partition = partitionOf(id);
  if (!partition) return std::unexpected(partition.error());
  if (from < (*partition)->logStart) {
    return fail(ErrorKind::kOutOfRange, fmt::format("offset {} is below the log start {}",
                                                    from.value(), (*partition)->logStart.value()));
  }
  Stability found{endsOf(*partition), {}};
  if (const TransactionTable* known = (*partition)->transactions()) {
    found.aborted = known->aborted(from, to);
  }
  return found;
}

Result<std::optional<Offset>> LogStoreImpl::transactionStart(PartitionId id,
                                                             ProducerId producer) const {
  Lock lock(mutex_);
  auto partition = partitionOf(id);
  if (!partition) return std::unexpected(partition.error());
  if ((*partition)->transactions() == nullptr) return std::nullopt;
  const TransactionTable::Open* open = (*partition)->transactions()->find(producer);
  return open != nullptr ? std::optional(open->first) : std::nullopt;
}

std::vector<OpenTransaction> LogStoreImpl::openTransactions() const {
  std::vector<OpenTransaction> all;
  Lock lock(mutex_);
  partitions_.forEach([&](const Partition& partition) {
    if (partition.transactions() == nullptr || partition.deleted) return;
    for (const TransactionTable::Open& open : partition.transactions()->open()) {
      if (open.end) continue;
      all.push_back({partition.id, {open.producer.value(), open.epoch}, open.first});
    }
  });
  return all;
}

Result<std::vector<ProducerInfo>> LogStoreImpl::producers(PartitionId id) const {
  Lock lock(mutex_);
  auto partition = partitionOf(id);
  if (!partition) return std::unexpected(partition.error());
  std::vector<ProducerInfo> all;
  if (const ProducerTable* known = (*partition)->producers()) all = known->list();
  const TransactionTable* transactions = (*partition)->transactions();
  if (transactions == nullptr) return all;
  for (ProducerInfo& one : all) {
    const TransactionTable::Open* open = transactions->find(one.id);
    if (open != nullptr) one.transactionStart = open->first;
  }
  return all;
}

LogStore::WatchId LogStoreImpl::watch(PartitionId id, Offset offset, CompletionSink& sink,
                                      std::move_only_function<void()> task, WatchFor what) {
  bool wake = false;
  WatchId watchId = 0;
  {
    Lock lock(mutex_);
    watchId = nextWatch_++;
    Partition* partition = findPartition(id);
    bool stable = what == WatchFor::kStable;
    if (partition == nullptr ||
        (stable ? partition->lastStable() : partition->highWatermark) > offset) {
      ready_.add(&sink, std::move(task));
      wake = wakeWriter(true);
    } else {
      partition->aside.write().watches.push_back(
          {watchId, offset, stable, &sink, std::move(task)});
      // Something is on its way that nobody waited for until now.
      if (partition->end > offset) {
        for (auto& group : groups_) group->urgent = group->needsSync = true;
        syncAsked_ = true;
        wake = wakeWriter(true);
      }
    }
  }
  if (wake) writerWork_.notify_one();
  return watchId;
}

void LogStoreImpl::unwatch(PartitionId id, WatchId watchId) {
  std::move_only_function<void()> dropped;  // destroyed after the lock
  Lock lock(mutex_);
  Partition* partition = partitions_.find(id);
  if (partition == nullptr || !partition->watched()) return;
  auto& watches = partition->aside.write().watches;
  auto watch = std::find_if(watches.begin(), watches.end(),
                            [watchId](const Watch& w) { return w.id == watchId; });
  if (watch == watches.end()) return;
  dropped = std::move(watch->task);
  watches.erase(watch);
  partition->tidyAside();
  lock.unlock();
}

void LogStoreImpl::setCommitFeed(std::function<void(std::vector<CommittedBatch>)> feed) {
  Lock lock(mutex_);
  feed_ = std::move(feed);
}

void LogStoreImpl::setSpaceFeed(std::function<void()> resumed) {
  Lock lock(mutex_);
  spaceFeed_ = std::move(resumed);
}

void LogStoreImpl::setLiveness(const Liveness* liveness) {
  std::lock_guard maintenance(maintenanceMutex_);
  liveness_ = liveness;
}

Position LogStoreImpl::fedEnd() const {
  Lock lock(mutex_);
  return settledEnd_;
}

uint64_t LogStoreImpl::failures() const {
  Lock lock(mutex_);
  return failures_;
}

Position LogStoreImpl::durableEnd() const {
  Lock lock(mutex_);
  return durableEnd_;
}

void LogStoreImpl::scanState(
    StateTable table, BytesView keyPrefix,
    const std::function<bool(BytesView key, BytesView value)>& visit) const {
  if (!view_) return;
  view_->scan(viewKey(table, keyPrefix),
              [&](BytesView key, BytesView value) { return visit(key.substr(1), value); });
}

std::optional<std::string> LogStoreImpl::getState(StateTable table, BytesView key) const {
  return view_ ? view_->get(viewKey(table, key)) : std::nullopt;
}

void LogStoreImpl::runOnce() {
  {
    Lock lock(mutex_);
    drain(lock);
  }
  maintain(true);
  Lock lock(mutex_);
  drain(lock);
}

bool LogStoreImpl::runStep() {
  Lock lock(mutex_);
  int64_t wait = 0;
  return writerStep(lock, false, wait);
}

void LogStoreImpl::stopThreads() {
  {
    Lock lock(mutex_);
    maintenanceStop_ = true;
    stopping_ = true;
  }
  maintenanceWork_.notify_all();
  if (maintenance_.joinable()) maintenance_.join();
  {
    Lock lock(mutex_);
    closed_ = true;
    writerStop_ = true;
  }
  writerWork_.notify_all();
  if (writer_.joinable()) writer_.join();
  Lock lock(mutex_);
  drain(lock);
}

void LogStoreImpl::shutDown() {
  {
    Lock lock(mutex_);
    if (closed_) return;
    if (!options_.threads) drain(lock);
  }
  // Its mark says that all before it was durable: a fault in there is damage then, not a torn tail.
  if (view_) (void)appendChanges({});
  {
    Lock lock(mutex_);
    closed_ = true;
  }
  stopThreads();
  if (view_) {
    std::lock_guard maintenance(maintenanceMutex_);
    Result<> done = checkpointLocked();
    if (!done) logWarning("no checkpoint at closing: " + done.error().text);
  }
}

void LogStoreImpl::close() {
  shutDown();
  view_ = nullptr;
  directoryLock_ = nullptr;
}

Result<std::unique_ptr<LogStore>> openLogStore(std::shared_ptr<Directory> directory,
                                               const LogStoreOptions& options, const Clock& clock,
                                               Random& random,
                                               std::function<void(const Error&)> onFatal) {
  auto store = std::make_unique<LogStoreImpl>(std::move(directory), options, clock, random,
                                              std::move(onFatal));
  if (auto opened = store->open(); !opened) return std::unexpected(opened.error());
  return store;
}

}  // namespace polylog::storage
