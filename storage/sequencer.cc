// append(): what is checked before the lock and under it, then positions, offsets, index entries
// and encoding in one step.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "storage/log_store_impl.h"

namespace polylog::storage {
namespace {

constexpr size_t kGroupBytes = 4U << 20;
constexpr size_t kGroupAppends = 16'384;
constexpr uint64_t kMaxPendingBytes = 256ULL << 20;
/// A segment is closed when its index takes up this much memory.
constexpr uint64_t kMaxIndexBytes = 48ULL << 20;
/// What a chunk takes up besides its run's octets, and an index entry, roughly.
constexpr uint64_t kChunkBytes = 256;
constexpr uint64_t kIndexEntryBytes = 10;
constexpr size_t kMaxParts = 60'000;
constexpr size_t kMaxWatchedBatch = 256U << 10;
/// Unwaited appends beyond this don't wait for more company.
constexpr size_t kUnwaitedBytes = 1U << 20;
constexpr auto kReplacing = std::chrono::milliseconds(1);

bool checksProducer(const MessagesPart& part, const RecordBatchHeader& header) {
  return part.checkProducer && header.producerId >= 0 && !header.control();
}

Result<> checkTargets(std::span<const Target> targets, int32_t offsetCount) {
  if (targets.empty()) return fail(ErrorKind::kInvalid, "a batch without targets");
  for (const Target& target : targets) {
    uint64_t end = uint64_t{target.firstRecord} + target.count;
    if (target.count == 0 ? target.firstRecord != 0 : end > static_cast<uint64_t>(offsetCount)) {
      return fail(ErrorKind::kInvalid,
                  fmt::format("a target's records are not in its batch of {}", offsetCount));
    }
  }
  return {};
}

}  // namespace

/// What append() finds out before it takes the lock.
struct LogStoreImpl::Prepared {
  struct Link {
    int64_t maxTimestamp = -1;
    int32_t offsetCount = 0;
    std::shared_ptr<Segment> segment;
  };
  std::vector<RecordBatchHeader> headers;
  std::vector<Link> links;
  std::vector<PartitionChange> changes;
  size_t bound = 0;  ///< on the encoded size

  void clear() {
    headers.clear();
    links.clear();
    changes.clear();
    bound = kEntryHeaderSize + kEntryAlignment;
  }
};

Result<> LogStoreImpl::prepareMessages(const MessagesPart& part, Prepared& prepared) const {
  auto header = parseRecordBatchHeader(part.batch.view());
  if (!header) return fail(ErrorKind::kInvalid, header.error().text);
  if (header->wholeSize() != part.batch.size() || header->offsetCount() <= 0) {
    return fail(ErrorKind::kInvalid, "not exactly one record batch");
  }
  if (auto ok = checkTargets(part.targets, header->offsetCount()); !ok) return ok;
  if (header->control() && !endMarkerOf(part.batch.view())) {
    return fail(ErrorKind::kInvalid, "a control batch that is no transaction's marker");
  }
  prepared.headers.push_back(*header);
  size_t inEntry = std::min(part.targets.size(), kMaxEntryTargets);
  prepared.bound += kPartBound + part.batch.size() + inEntry * kTargetBound;
  return {};
}

Result<> LogStoreImpl::prepareLink(const LinkPart& part, Prepared& prepared) {
  Prepared::Link link;
  auto batch = readAt(part.batch, link.segment);
  if (!batch) return std::unexpected(batch.error());
  auto header = parseRecordBatchHeader(batch->view());
  if (!header) return std::unexpected(header.error());
  if (auto ok = checkTargets(part.targets, header->offsetCount()); !ok) return ok;
  link.maxTimestamp = header->maxTimestamp;
  link.offsetCount = header->offsetCount();
  prepared.links.push_back(std::move(link));
  prepared.bound += kPartBound + std::min(part.targets.size(), kMaxEntryTargets) * kTargetBound;
  return {};
}

Result<> LogStoreImpl::prepareState(const AppendRequest& request, Prepared& prepared) const {
  for (const StateChange& change : request.state) {
    prepared.bound += kStateChangeBound + change.key.size();
    if (change.value) prepared.bound += change.value->size();
    if (change.table == StateTable::kDerived) {
      return fail(ErrorKind::kInvalid, "derived state isn't changed by entries");
    }
    if (change.table != StateTable::kPartition) continue;
    auto understood = parsePartitionChange(change);
    if (!understood) return fail(ErrorKind::kInvalid, "malformed change of a partition");
    prepared.changes.push_back(*understood);
  }
  return {};
}

Result<> LogStoreImpl::prepare(const AppendRequest& request, Prepared& prepared) {
  prepared.clear();
  if (request.messages.size() + request.links.size() > kMaxParts) {
    return fail(ErrorKind::kTooLarge, "too many parts in one entry");
  }
  for (const MessagesPart& part : request.messages) {
    if (auto ok = prepareMessages(part, prepared); !ok) return ok;
  }
  for (const LinkPart& part : request.links) {
    if (auto ok = prepareLink(part, prepared); !ok) return ok;
  }
  if (auto ok = prepareState(request, prepared); !ok) return ok;
  if (prepared.bound > kMaxEntrySize) {
    return fail(ErrorKind::kTooLarge,
                fmt::format("an entry of {} octets, {} at most", prepared.bound, kMaxEntrySize));
  }
  return {};
}

Result<> LogStoreImpl::admit(const AppendRequest& request) {
  if (fatal_) return std::unexpected(*fatal_);
  if (closed_) return fail(ErrorKind::kShutdown, "the log store is closed");
  if (pendingBytes_ > kMaxPendingBytes) {
    return fail(ErrorKind::kBusy, "too much waits to be written to the journal");
  }
  if (request.ifFailures && *request.ifFailures != failures_) {
    return fail(ErrorKind::kIo, "a write that this builds on has failed");
  }
  // State changes and deletions live off the reserve, or nothing could be freed.
  if (request.messages.empty()) return {};
  space_.sequenced(nextPosition_);
  if (space_.full() && !request.admitted) {
    return fail(ErrorKind::kNoSpace, "the disk of the journal is nearly full: free some space");
  }
  return {};
}

Result<> LogStoreImpl::applyBefore(const Prepared& prepared,
                                   std::vector<PartitionEffect>& effects) {
  for (const PartitionChange& change : prepared.changes) {
    if (change.kind != PartitionChange::Kind::kConfigured) continue;
    Partition* found = partitions_.find(change.partition);
    PartitionEffect effect;
    if (found == nullptr) {
      effect.kind = PartitionEffect::Kind::kCreated;
      effect.partition = &makePartition(change.partition, change.retention);
    } else {
      if (found->deleted) return fail(ErrorKind::kNotFound, "a deleted partition");
      effect.kind = PartitionEffect::Kind::kConfigured;
      effect.partition = found;
      effect.retention = found->retention();
      found->setRetention(change.retention);
    }
    effects.push_back(effect);
  }
  return {};
}

Result<> LogStoreImpl::resolve(const AppendRequest& request, const Prepared& prepared,
                               bool& moved) {
  resolved_.clear();
  auto one = [&](const std::vector<Target>& targets) -> Result<> {
    for (const Target& target : targets) {
      Partition* partition = findPartition(target.partition);
      if (partition == nullptr) {
        return fail(ErrorKind::kNotFound, fmt::format("no partition {}", target.partition.value()));
      }
      resolved_.push_back(partition);
    }
    return {};
  };
  for (const MessagesPart& part : request.messages) {
    if (auto ok = one(part.targets); !ok) return ok;
  }
  for (size_t i = 0; i < request.links.size(); ++i) {
    const LinkPart& part = request.links[i];
    // Under the lock: from here on the link itself keeps the batch.
    auto segment = journal_.at(part.batch.position);
    if (!segment) return fail(ErrorKind::kNotFound, "its segment is gone");
    if (segment != prepared.links[i].segment || segment->replaced) {
      moved = true;
      return fail(ErrorKind::kNotFound, "its segment is being rewritten");
    }
    if (auto ok = one(part.targets); !ok) return ok;
  }
  for (const Prepared::Link& link : prepared.links) ++link.segment->links;
  return {};
}

Result<> LogStoreImpl::checkLogStarts(const AppendRequest& request,
                                      const Prepared& prepared) const {
  for (const PartitionChange& change : prepared.changes) {
    if (change.kind != PartitionChange::Kind::kLogStart) continue;
    const Partition* partition = findPartition(change.partition);
    if (partition == nullptr) {
      return fail(ErrorKind::kNotFound, fmt::format("no partition {}", change.partition.value()));
    }
    int64_t added = 0;
    auto count = [&](const std::vector<Target>& targets, int32_t whole) {
      for (const Target& target : targets) {
        if (target.partition == change.partition) added += target.count == 0 ? whole : target.count;
      }
    };
    for (size_t i = 0; i < request.messages.size(); ++i) {
      count(request.messages[i].targets, prepared.headers[i].offsetCount());
    }
    for (size_t i = 0; i < request.links.size(); ++i) {
      count(request.links[i].targets, prepared.links[i].offsetCount);
    }
    if (change.logStart > partition->end + added || change.logStart < Offset(0)) {
      return fail(ErrorKind::kOutOfRange,
                  fmt::format("log start {} is beyond the end {}", change.logStart.value(),
                              partition->end.value()));
    }
  }
  return {};
}

Result<std::optional<ProducerBatch>> LogStoreImpl::checkProducers(const AppendRequest& request,
                                                                  const Prepared& prepared) const {
  for (size_t i = 0; i < request.messages.size(); ++i) {
    const RecordBatchHeader& header = prepared.headers[i];
    if (!checksProducer(request.messages[i], header)) continue;
    ProducerBatch batch = producerBatch(header);
    PartitionId partition = request.messages[i].targets[0].partition;
    // An earlier batch of the same producer in this very request comes first.
    bool follows = false;
    for (size_t j = i; j-- > 0 && !follows;) {
      if (!checksProducer(request.messages[j], prepared.headers[j]) ||
          prepared.headers[j].producerId != header.producerId ||
          request.messages[j].targets[0].partition != partition) {
        continue;
      }
      follows = true;
      auto next = ProducerTable::checkAfter(producerBatch(prepared.headers[j]), batch);
      if (!next) return std::unexpected(next.error());
    }
    const Partition* holder = findPartition(partition);
    if (follows || holder->producers() == nullptr) continue;
    auto original = holder->producers()->check(ProducerId(header.producerId), batch);
    if (!original) return std::unexpected(original.error());
    // The entry is atomic: if one batch of it is there, all are.
    if (*original != nullptr) return **original;
  }
  return std::nullopt;
}

void LogStoreImpl::applyAfter(const Prepared& prepared, CommitGroup& group) {
  for (const PartitionChange& change : prepared.changes) {
    if (change.kind == PartitionChange::Kind::kConfigured) continue;
    Partition* partition = findPartition(change.partition);
    if (partition == nullptr) continue;  // deleting twice does no harm
    PartitionEffect effect;
    effect.partition = partition;
    effect.logStart = partition->logStart;
    if (change.kind == PartitionChange::Kind::kDeleted) {
      effect.kind = PartitionEffect::Kind::kDeleted;
      partition->deleted = true;
    } else {
      effect.kind = PartitionEffect::Kind::kLogStart;
      effect.movedTo = change.logStart;
      partition->logStart = std::max(partition->logStart, change.logStart);
    }
    group.effects.push_back(effect);
  }
}

void LogStoreImpl::undo(const PartitionEffect& effect) {
  Partition& partition = *effect.partition;
  switch (effect.kind) {
    case PartitionEffect::Kind::kCreated: erasePartition(partition); break;
    case PartitionEffect::Kind::kConfigured: partition.setRetention(effect.retention); break;
    case PartitionEffect::Kind::kDeleted: partition.deleted = false; break;
    case PartitionEffect::Kind::kLogStart: partition.logStart = effect.logStart; break;
  }
}

Result<Appended> LogStoreImpl::append(AppendRequest request) {
  static thread_local Prepared prepared;
  bool wake = false;
  bool moved = false;
  bool filled = false;
  Result<Appended> appended;
  do {
    if (auto ok = prepare(request, prepared); !ok) return std::unexpected(ok.error());
    Lock lock(mutex_);
    moved = false;
    appended = sequence(request, prepared, wake, moved);
    filled = space_.full() && !spaceReported_;
    // Rare, and as short as two syncs: a link into a segment that is just giving way to its copy.
    if (moved) settled_.wait_for(lock, kReplacing);
  } while (moved);
  prepared.links.clear();  // and the segments that they hold
  if (wake) writerWork_.notify_one();
  if (filled) reportSpace();
  return appended;
}

Result<Appended> LogStoreImpl::sequence(AppendRequest& request, Prepared& prepared, bool& wake,
                                        bool& moved) {
  if (auto ok = admit(request); !ok) return std::unexpected(ok.error());
  std::vector<PartitionEffect> effects;
  Result<> ok = applyBefore(prepared, effects);
  if (ok) ok = resolve(request, prepared, moved);
  if (ok) ok = checkLogStarts(request, prepared);
  Result<std::optional<ProducerBatch>> repeat = std::nullopt;
  if (ok) repeat = checkProducers(request, prepared);
  if (!ok || !repeat || *repeat) {
    for (auto effect = effects.rbegin(); effect != effects.rend(); ++effect) undo(*effect);
    if (!ok) return std::unexpected(ok.error());
    if (!repeat) return std::unexpected(repeat.error());
    return sequenceRepeat(request, **repeat, wake);
  }
  CommitGroup& group = groupFor(prepared.bound);
  group.effects.insert(group.effects.end(), effects.begin(), effects.end());
  size_t targetsFrom = group.targets.size();
  Appended appended = encode(request, prepared, group);
  applyAfter(prepared, group);
  std::move(request.state.begin(), request.state.end(), std::back_inserter(group.state));
  finishAppend(request, appended, group, targetsFrom, wake);
  return appended;
}

Appended LogStoreImpl::sequenceRepeat(AppendRequest& request, const ProducerBatch& original,
                                      bool& wake) {
  Appended appended;
  appended.duplicate = true;
  appended.position = original.position;
  appended.batches.push_back({original.position, original.length});
  // Only the first target's partition remembers the batch.
  size_t targets = request.messages[0].targets.size();
  appended.offsets.assign(targets, Offset(-1));
  appended.offsets[0] = original.base;
  // Nothing to write: it completes with the group that gathers now, never before the original's.
  CommitGroup& group = groups_.empty() ? newGroup() : *groups_.back();
  finishAppend(request, appended, group, group.targets.size(), wake);
  return appended;
}

void LogStoreImpl::planRoll() {
  auto segment = std::make_shared<Segment>();
  SegmentInfo& info = segment->info;
  info.id = sequencing_->info.id + 1;
  info.incarnation = static_cast<uint32_t>(random_.next());
  info.base = nextPosition_;
  info.firstSequence = nextSequence_;
  info.createdMs = clock_.wallMillis();
  info.status = SegmentStatus::kPlanned;
  info.file = segmentFileName(info.id);
  journal_.add(segment);
  sequencing_ = std::move(segment);
  newGroup().beginsSegment = true;
}

CommitGroup& LogStoreImpl::newGroup() {
  std::unique_ptr<CommitGroup> group;
  if (spareGroups_.empty()) {
    group = std::make_unique<CommitGroup>();
  } else {
    group = std::move(spareGroups_.back());
    spareGroups_.pop_back();
  }
  group->segment = sequencing_;
  group->base = group->end = nextPosition_;
  group->firstSequence = nextSequence_;
  group->bornMicros = clock_.monotonicMicros();
  groups_.push_back(std::move(group));
  return *groups_.back();
}

CommitGroup& LogStoreImpl::groupFor(size_t bound) {
  uint64_t used = nextPosition_ - sequencing_->info.base;
  bool full = used + bound > options_.segmentBytes || sequencing_->indexBytes > kMaxIndexBytes;
  if (used > 0 && (full || rollAsked_)) planRoll();
  rollAsked_ = false;
  if (groups_.empty()) return newGroup();
  CommitGroup& group = *groups_.back();
  bool fits = group.segment == sequencing_ && group.entries.size() < kGroupBytes &&
              group.appends.size() < kGroupAppends;
  return fits ? group : newGroup();
}

void LogStoreImpl::beginEntry(CommitGroup& group, uint16_t flags) {
  group.entries.begin(sequencing_->info.incarnation, nextSequence_, nextPosition_, flags);
  entryTargets_ = 0;
}

void LogStoreImpl::finishEntry(CommitGroup& group, bool continues) {
  size_t size = group.entries.finish(continues);
  nextPosition_ += size;
  ++nextSequence_;
  pendingBytes_ += size;
  group.end = nextPosition_;
}

void LogStoreImpl::continueChain(CommitGroup& group) {
  finishEntry(group, true);
  beginEntry(group, kChainContinuation);
}

Appended LogStoreImpl::encode(AppendRequest& request, const Prepared& prepared,
                              CommitGroup& group) {
  Appended out;
  out.position = nextPosition_;
  out.batches.reserve(request.messages.size());
  out.offsets.reserve(resolved_.size());
  std::span<Partition* const> partitions = resolved_;
  beginEntry(group, 0);
  // State first: what it makes, targets may name.
  if (!request.state.empty()) group.entries.addState(request.state);
  for (size_t i = 0; i < request.messages.size(); ++i) {
    const MessagesPart& part = request.messages[i];
    encodeMessages(part, prepared.headers[i], partitions.first(part.targets.size()), group, out);
    partitions = partitions.subspan(part.targets.size());
  }
  for (size_t i = 0; i < request.links.size(); ++i) {
    const LinkPart& part = request.links[i];
    encodeLinks(part.batch, prepared.links[i].maxTimestamp, part.targets,
                partitions.first(part.targets.size()), prepared.links[i].offsetCount, group, out);
    partitions = partitions.subspan(part.targets.size());
  }
  finishEntry(group, false);
  return out;
}

void LogStoreImpl::encodeMessages(const MessagesPart& part, const RecordBatchHeader& header,
                                  std::span<Partition* const> partitions, CommitGroup& group,
                                  Appended& out) {
  if (entryTargets_ >= kMaxEntryTargets) continueChain(group);
  std::span<const Target> targets = part.targets;
  size_t count = std::min(targets.size(), kMaxEntryTargets - entryTargets_);
  placed_.clear();
  place(targets.first(count), partitions.first(count), header.offsetCount(), group, out);
  uint8_t flags = 0;
  if (part.routeAfterCommit) flags |= kRouteAfterCommit;
  if (checksProducer(part, header)) flags |= kProducerChecked;
  Position position = group.entries.addMessages(flags, placed_, part.batch);
  BatchPlace batch{position, static_cast<uint32_t>(part.batch.size())};
  out.batches.push_back(batch);
  index(batch, header.maxTimestamp, header.offsetCount(), partitions.first(count));
  if (checksProducer(part, header)) rememberProducer(part, header, batch, *partitions[0], group);
  if (header.transactional()) noteTransaction(part, header, batch, partitions.first(count));
  if (part.routeAfterCommit) {
    const PlacedTarget& first = placed_[0];
    group.routed.push_back(
        {first.partition,
         {part.batch, batch, first.base, first.firstRecord, first.count, first.attributes},
         group.entries.position()});
  }
  bool watched = std::any_of(partitions.begin(), partitions.end(),
                             [](const Partition* partition) { return partition->watched(); });
  if (watched && part.batch.size() <= kMaxWatchedBatch) {
    group.watched.push_back({position, part.batch});
  }
  if (count == targets.size()) return;
  encodeLinks(batch, header.maxTimestamp, targets.subspan(count), partitions.subspan(count),
              header.offsetCount(), group, out);
}

void LogStoreImpl::encodeLinks(BatchPlace batch, int64_t maxTimestamp,
                               std::span<const Target> targets,
                               std::span<Partition* const> partitions, int32_t offsetCount,
                               CommitGroup& group, Appended& out) {
  while (!targets.empty()) {
    if (entryTargets_ >= kMaxEntryTargets) continueChain(group);
    size_t count = std::min(targets.size(), kMaxEntryTargets - entryTargets_);
    placed_.clear();
    place(targets.first(count), partitions.first(count), offsetCount, group, out);
    group.entries.addLink(batch, maxTimestamp, placed_);
    index(batch, maxTimestamp, offsetCount, partitions.first(count));
    targets = targets.subspan(count);
    partitions = partitions.subspan(count);
  }
}

void LogStoreImpl::place(std::span<const Target> targets, std::span<Partition* const> partitions,
                         int32_t offsetCount, CommitGroup& group, Appended& out) {
  for (size_t i = 0; i < targets.size(); ++i) {
    const Target& target = targets[i];
    Partition& partition = *partitions[i];
    uint32_t count = target.count == 0 ? static_cast<uint32_t>(offsetCount) : target.count;
    placed_.push_back(
        {target.partition, partition.end, target.firstRecord, count, target.attributes});
    out.offsets.push_back(partition.end);
    Offset end = partition.end + count;
    group.targets.push_back({&partition, partition.end, end});
    partition.end = end;
  }
  entryTargets_ += targets.size();
}

Chunk& LogStoreImpl::chunkFor(Partition& partition, Segment& segment, Offset first) {
  if (Chunk* chunk = partition.chunkIn(segment.info.id); chunk != nullptr) return *chunk;
  Chunk& chunk = partition.chunks.emplace_back();
  chunk.segment = segment.info.id;
  chunk.base = segment.info.base;
  chunk.first = chunk.end = first;
  chunk.run = std::make_shared<IndexRun>(first, segment.info.base);
  ++segment.liveChunks;
  segment.everHadChunks = true;
  segment.partitions.push_back(partition.id);
  segment.indexBytes += kChunkBytes;
  return chunk;
}

void LogStoreImpl::addToIndex(Partition& partition, Segment& segment, IndexEntry entry,
                              int32_t offsetCount) {
  Chunk& chunk = chunkFor(partition, segment, entry.base);
  // Its share of a batch that others have too.
  entry.share = shareOf(entry.length, entry.count, offsetCount);
  chunk.add(entry);
  partition.bytes += entry.octets();
  segment.indexBytes += kIndexEntryBytes;
  if (entry.position >= chunk.base) return;
  linkedFrom_ = std::min(linkedFrom_, entry.position.value());
  linkedSince_ = std::min(linkedSince_, entry.position.value());
}

void LogStoreImpl::index(BatchPlace batch, int64_t maxTimestamp, int32_t offsetCount,
                         std::span<Partition* const> partitions) {
  for (size_t i = 0; i < placed_.size(); ++i) {
    const PlacedTarget& target = placed_[i];
    addToIndex(*partitions[i], *sequencing_,
               {target.base, target.count, batch.position, batch.length, target.firstRecord,
                target.attributes, maxTimestamp},
               offsetCount);
  }
}

void LogStoreImpl::rememberProducer(const MessagesPart& part, const RecordBatchHeader& header,
                                    BatchPlace batch, Partition& partition, CommitGroup& group) {
  ProducerBatch remembered = producerBatch(header);
  remembered.base = placed_[0].base;
  remembered.position = batch.position;
  remembered.length = static_cast<uint32_t>(part.batch.size());
  ProducerId id(header.producerId);
  partition.producersToChange().add(id, remembered, clock_.wallMillis(), durableEnd_);
  group.producers.push_back({&partition, id});
  markDirty(partition);
}

/// With placed_ as place() left it for the part.
void LogStoreImpl::noteTransaction(const MessagesPart& part, const RecordBatchHeader& header,
                                   BatchPlace batch, std::span<Partition* const> partitions) {
  auto end = header.control() ? endMarkerOf(part.batch.view()) : Result<EndMarker>();
  if (!end || (!header.control() && !checksProducer(part, header))) return;
  for (size_t i = 0; i < partitions.size(); ++i) {
    noteTransaction(*partitions[i], header, header.control() ? &*end : nullptr, placed_[i].base,
                    batch.position);
    if (!header.control()) return;
  }
}

/// A marker (`end`), or records of a transaction, at `base`.
void LogStoreImpl::noteTransaction(Partition& partition, const RecordBatchHeader& header,
                                   const EndMarker* end, Offset base, Position at) {
  ProducerId producer(header.producerId);
  if (end == nullptr) {
    partition.transactionsToChange().began(producer, header.producerEpoch, base, at);
  } else if (TransactionTable* known = partition.transactions()) {
    known->ended(producer, *end, base, at);
  }
  markDirty(partition);
}

void LogStoreImpl::finishAppend(AppendRequest& request, const Appended& appended,
                                CommitGroup& group, size_t targetsFrom, bool& wake) {
  bool watched = false;
  for (size_t i = targetsFrom; i < group.targets.size() && !watched; ++i) {
    watched = group.targets[i].partition->watched();
  }
  bool unwaited = request.durability == Durability::kUnwaited;
  group.hasWritten |= request.durability == Durability::kWritten;
  group.needsSync |= request.durability == Durability::kSynced || (unwaited && watched);
  group.urgent |= !unwaited || watched || group.entries.size() >= kUnwaitedBytes;
  bool told = request.sink != nullptr && request.done;
  if (told || request.durability == Durability::kWritten) {
    PendingAppend& pending = group.appends.emplace_back();
    pending.durability = request.durability;
    pending.targetsFrom = targetsFrom;
    pending.targetsTo = group.targets.size();
    if (told) {
      pending.sink = request.sink;
      pending.done = std::move(request.done);
      pending.result = appended;
    }
  }
  wake = wakeWriter(group.urgent);
}

}  // namespace polylog::storage
