#include "tests/support/fake_log_store.h"

#include <algorithm>
#include <utility>

#include "core/base/byte_reader.h"
#include "core/model/record_batch.h"

namespace polylog::test {

using storage::Appended;
using storage::AppendRequest;
using storage::BatchPlace;
using storage::CommittedBatch;
using storage::MessagesPart;
using storage::ReadBatch;
using storage::StateChange;
using storage::StateTable;
using storage::Target;

namespace {

constexpr uint64_t kHeaderSize = 48;
constexpr size_t kConfigurationSize = 16;  // two integers; a log start is one

uint32_t countOf(const Target& target, const SharedBytes& batch) {
  if (target.count != 0) return target.count;
  auto header = parseRecordBatchHeader(batch.view());
  return header ? static_cast<uint32_t>(header->offsetCount()) : 0;
}

PartitionId partitionOf(const StateChange& change) {
  ByteReader in(change.key);
  return PartitionId(in.u64());
}

int64_t maxTimestampOf(const ReadBatch& batch) {
  auto header = parseRecordBatchHeader(batch.batch.view());
  return header ? header->maxTimestamp : -1;
}

}  // namespace

// ---------------------------------------------------------------- for tests

void FakeLogStore::refuseNext(Error error) {
  std::lock_guard lock(mutex_);
  refusal_ = std::move(error);
}

void FakeLogStore::setFull(bool full) {
  full_ = full;
  if (!full && spaceFeed_) spaceFeed_();
}

void FakeLogStore::damage(PartitionId partition, Offset offset) {
  std::lock_guard lock(mutex_);
  damaged_.emplace(partition.value(), offset.value());
}

size_t FakeLogStore::pending() const {
  std::lock_guard lock(mutex_);
  return pending_.size();
}

AppendRequest FakeLogStore::last() const {
  std::lock_guard lock(mutex_);
  AppendRequest copy;
  copy.messages = last_.messages;
  copy.links = last_.links;
  copy.state = last_.state;
  copy.durability = last_.durability;
  return copy;
}

size_t FakeLogStore::watches() const {
  std::lock_guard lock(mutex_);
  size_t count = 0;
  for (const auto& [id, partition] : partitions_) count += partition.watches.size();
  return count;
}

bool FakeLogStore::exists(PartitionId partition) const {
  std::lock_guard lock(mutex_);
  return find(partition) != nullptr;
}

storage::Retention FakeLogStore::retentionOf(PartitionId partition) const {
  std::lock_guard lock(mutex_);
  const Partition* found = find(partition);
  return found != nullptr ? found->now.retention : storage::Retention{};
}

std::unique_ptr<FakeLogStore> FakeLogStore::afterCrash() const {
  std::lock_guard lock(mutex_);
  auto after = std::make_unique<FakeLogStore>();
  for (const auto& [id, partition] : partitions_) {
    if (!partition.durable) continue;
    Partition& copy = after->partitions_[id];
    copy.now = *partition.durable;
    copy.durable = partition.durable;
    copy.batches = partition.batches;
  }
  for (const auto& [position, batch] : batches_) {
    if (Position(position) < durable_) after->batches_[position] = batch;
  }
  after->state_ = state_;
  after->routed_ = routed_;
  after->damaged_ = damaged_;
  after->next_ = after->durable_ = durable_;
  return after;
}

void FakeLogStore::commit() {
  Completions completions;
  std::vector<CommittedBatch> routed;
  std::function<void(std::vector<CommittedBatch>)> feed;
  {
    std::lock_guard lock(mutex_);
    std::vector<Pending> group = std::exchange(pending_, {});
    durable_ = next_;
    for (Pending& pending : group) {
      if (!pending.duplicate) makeDurable(pending, routed);
      if (!pending.request.done || pending.request.sink == nullptr) continue;
      completions[pending.request.sink].push_back(
          [done = std::move(pending.request.done), result = std::move(pending.result)]() mutable {
            done(std::move(result));
          });
    }
    for (auto& [id, partition] : partitions_) {
      partition.now.transactions.settle();
      partition.durable = partition.now;
    }
    routed_.insert(routed_.end(), routed.begin(), routed.end());
    fireWatches(completions);
    feed = feed_;
  }
  deliver(completions);
  if (feed && !routed.empty()) feed(std::move(routed));
}

void FakeLogStore::failPending(const Error& error) {
  Completions completions;
  {
    std::lock_guard lock(mutex_);
    ++failures_;
    std::vector<Pending> group = std::exchange(pending_, {});
    next_ = durable_;
    std::erase_if(batches_,
                  [this](const auto& entry) { return Position(entry.first) >= durable_; });
    std::erase_if(partitions_, [](const auto& entry) { return !entry.second.durable; });
    for (auto& [id, partition] : partitions_) partition.now = *partition.durable;
    for (Pending& pending : group) {
      if (!pending.request.done || pending.request.sink == nullptr) continue;
      completions[pending.request.sink].push_back(
          [done = std::move(pending.request.done), error]() mutable {
            done(std::unexpected(error));
          });
    }
  }
  deliver(completions);
}

void FakeLogStore::keepFirst(size_t entries) {
  std::lock_guard lock(mutex_);
  std::vector<CommittedBatch> none;
  for (size_t i = 0; i < std::min(entries, pending_.size()); ++i) makeDurable(pending_[i], none);
}

void FakeLogStore::deliver(Completions& completions) {
  for (auto& [sink, tasks] : completions) sink->completed(std::move(tasks));
}

// ---------------------------------------------------------------- transactions

const FakeLogStore::Transaction* FakeLogStore::Transactions::find(int64_t producer) const {
  auto found = std::ranges::find_if(
      open, [&](const Transaction& one) { return one.producer.id == producer && !one.end; });
  return found == open.end() ? nullptr : &*found;
}

void FakeLogStore::Transactions::began(ProducerIdentity producer, Offset first) {
  if (find(producer.id) == nullptr) open.push_back({producer, first, std::nullopt, {}});
}

void FakeLogStore::Transactions::ended(int64_t producer, EndMarker end, Offset marker) {
  for (Transaction& one : open) {
    if (one.producer.id != producer || one.end) continue;
    one.end = end;
    one.marker = marker;
  }
}

/// All is durable.
void FakeLogStore::Transactions::settle() {
  std::erase_if(open, [&](const Transaction& one) {
    if (one.end == EndMarker::kAbort) aborted.push_back({one.producer.id, one.first, one.marker});
    return one.end.has_value();
  });
}

// ---------------------------------------------------------------- appending

const FakeLogStore::Partition* FakeLogStore::find(PartitionId id) const {
  auto at = partitions_.find(id);
  return at == partitions_.end() || at->second.now.deleted ? nullptr : &at->second;
}

Result<> FakeLogStore::check(const AppendRequest& request) const {
  std::set<PartitionId> made;
  for (const StateChange& change : request.state) {
    if (change.table != StateTable::kPartition || !change.value) continue;
    if (change.value->size() == kConfigurationSize) {
      made.insert(partitionOf(change));
    } else if (find(partitionOf(change)) == nullptr) {
      return fail(ErrorKind::kNotFound, "no such partition");
    }
  }
  auto known = [&](const std::vector<Target>& targets) {
    return std::all_of(targets.begin(), targets.end(), [&](const Target& target) {
      return made.contains(target.partition) || find(target.partition) != nullptr;
    });
  };
  for (const MessagesPart& part : request.messages) {
    if (!known(part.targets)) return fail(ErrorKind::kNotFound, "no such partition");
    if (!validateRecordBatch(part.batch.view())) return fail(ErrorKind::kCorrupt, "bad batch");
  }
  for (const storage::LinkPart& link : request.links) {
    if (!known(link.targets)) return fail(ErrorKind::kNotFound, "no such partition");
    if (!batches_.contains(link.batch.position.value())) {
      return fail(ErrorKind::kNotFound, "its segment is gone");
    }
  }
  return {};
}

/// The original's base offset for a duplicate.
Result<std::optional<Offset>> FakeLogStore::checkProducer(const MessagesPart& part) const {
  auto header = parseRecordBatchHeader(part.batch.view());
  const Partition* partition = find(part.targets.front().partition);
  if (!part.checkProducer || !header || header->producerId < 0 || partition == nullptr) {
    return std::nullopt;
  }
  auto at = partition->now.producers.find(header->producerId);
  if (at == partition->now.producers.end()) return std::nullopt;
  const Producer& producer = at->second;
  if (header->producerEpoch < producer.epoch) return fail(ErrorKind::kProducerFenced, "old epoch");
  for (const ProducerBatch& batch : producer.recent) {
    if (header->producerEpoch == producer.epoch && batch.firstSequence == header->baseSequence) {
      return batch.base;
    }
  }
  int32_t expected =
      header->producerEpoch > producer.epoch ? 0 : producer.recent.back().lastSequence + 1;
  if (header->baseSequence != expected) {
    return fail(ErrorKind::kOutOfOrderSequence, "a sequence number was skipped");
  }
  return std::nullopt;
}

Result<Appended> FakeLogStore::append(AppendRequest request) {
  std::lock_guard lock(mutex_);
  if (closed_) return fail(ErrorKind::kShutdown, "closed");
  if (refusal_) return std::unexpected(*std::exchange(refusal_, std::nullopt));
  if (full_ && !request.messages.empty() && !request.admitted) {
    return fail(ErrorKind::kNoSpace, "full");
  }
  if (request.ifFailures && *request.ifFailures != failures_) {
    return fail(ErrorKind::kIo, "what this builds on has failed");
  }
  if (Result<> ok = check(request); !ok) return std::unexpected(ok.error());
  Appended out;
  out.position = next_;
  for (const MessagesPart& part : request.messages) {
    auto original = checkProducer(part);
    if (!original) return std::unexpected(original.error());
    if (!*original) continue;
    out.duplicate = true;
    out.offsets = {**original};
    pending_.push_back({std::move(request), out, true});
    return out;
  }
  ++appends_;
  sequence(request, out);
  last_ = {};
  last_.messages = request.messages;
  last_.links = request.links;
  last_.state = request.state;
  last_.durability = request.durability;
  pending_.push_back({std::move(request), out, false});
  return out;
}

void FakeLogStore::sequence(AppendRequest& request, Appended& out) {
  applyState(request.state, true);
  Position at = next_ + kHeaderSize;
  auto count = [&](const std::vector<Target>& targets, const SharedBytes& batch) {
    for (const Target& target : targets) {
      Facts& facts = partitions_.at(target.partition).now;
      out.offsets.push_back(facts.end);
      facts.end += countOf(target, batch);
    }
  };
  for (const MessagesPart& part : request.messages) {
    size_t first = out.offsets.size();
    count(part.targets, part.batch);
    batches_[at.value()] = part.batch;
    out.batches.push_back({at, static_cast<uint32_t>(part.batch.size())});
    at += part.batch.size();
    auto header = parseRecordBatchHeader(part.batch.view());
    for (size_t i = 0; header->control() && i < part.targets.size(); ++i) {
      partitions_.at(part.targets[i].partition)
          .now.transactions.ended(header->producerId, *endMarkerOf(part.batch.view()),
                                  out.offsets[first + i]);
    }
    if (!part.checkProducer || header->producerId < 0) continue;
    if (header->transactional()) {
      partitions_.at(part.targets.front().partition)
          .now.transactions.began({header->producerId, header->producerEpoch}, out.offsets[first]);
    }
    Facts& facts = partitions_.at(part.targets.front().partition).now;
    Producer& producer = facts.producers[header->producerId];
    if (header->producerEpoch != producer.epoch) producer = {header->producerEpoch, {}};
    producer.recent.push_back(
        {header->baseSequence, header->baseSequence + header->lastOffsetDelta, out.offsets[first]});
    if (producer.recent.size() > 5) producer.recent.erase(producer.recent.begin());
  }
  for (const storage::LinkPart& link : request.links) {
    count(link.targets, batches_.at(link.batch.position.value()));
  }
  applyState(request.state, false);
  next_ = at + 16;
}

void FakeLogStore::applyState(const std::vector<StateChange>& state, bool creations) {
  for (const StateChange& change : state) {
    if (change.table != StateTable::kPartition) continue;
    bool configures = change.value && change.value->size() == kConfigurationSize;
    if (configures != creations) continue;
    ByteReader in(change.value ? BytesView(*change.value) : BytesView());
    if (configures) {
      Facts& facts = partitions_[partitionOf(change)].now;
      facts.retention.millis = in.i64();
      facts.retention.bytes = in.i64();
      continue;
    }
    auto at = partitions_.find(partitionOf(change));
    if (at == partitions_.end()) continue;
    if (!change.value) {
      at->second.now.deleted = true;
    } else {
      at->second.now.logStart = std::max(at->second.now.logStart, Offset(in.i64()));
    }
  }
}

void FakeLogStore::place(const std::vector<Target>& targets, const SharedBytes& batch,
                         BatchPlace at, size_t& offsetIndex, const Pending& pending) {
  for (const Target& target : targets) {
    Offset base = pending.result.offsets[offsetIndex++];
    auto partition = partitions_.find(target.partition);
    if (partition == partitions_.end()) continue;
    partition->second.batches.push_back(
        {batch, at, base, target.firstRecord, countOf(target, batch), target.attributes});
  }
}

void FakeLogStore::makeDurable(Pending& pending, std::vector<CommittedBatch>& routed) {
  size_t offset = 0;
  for (size_t i = 0; i < pending.request.messages.size(); ++i) {
    const MessagesPart& part = pending.request.messages[i];
    size_t first = offset;
    place(part.targets, part.batch, pending.result.batches[i], offset, pending);
    if (!part.routeAfterCommit) continue;
    const Target& target = part.targets.front();
    routed.push_back({target.partition,
                      {part.batch, pending.result.batches[i], pending.result.offsets[first],
                       target.firstRecord, countOf(target, part.batch), target.attributes},
                      pending.result.position});
  }
  for (const storage::LinkPart& link : pending.request.links) {
    place(link.targets, batches_.at(link.batch.position.value()), link.batch, offset, pending);
  }
  for (const StateChange& change : pending.request.state) {
    if (change.table == StateTable::kPartition) continue;
    if (change.value) {
      state_[{change.table, change.key}] = *change.value;
    } else {
      state_.erase({change.table, change.key});
    }
  }
}

// ---------------------------------------------------------------- reading

Result<std::vector<ReadBatch>> FakeLogStore::read(PartitionId partition, Offset from,
                                                  size_t maxBytes) {
  std::lock_guard lock(mutex_);
  const Partition* found = find(partition);
  if (found == nullptr) return fail(ErrorKind::kNotFound, "no such partition");
  if (from < found->now.logStart || !found->durable || from > found->durable->end) {
    return fail(ErrorKind::kOutOfRange, "out of range");
  }
  if (damaged_.contains({partition.value(), from.value()})) {
    return fail(ErrorKind::kCorrupt, "damaged");
  }
  std::vector<ReadBatch> out;
  size_t bytes = 0;
  for (const ReadBatch& batch : found->batches) {
    if (batch.baseOffset + batch.count <= from) continue;
    if (!out.empty() && bytes + batch.batch.size() > maxBytes) break;
    if (!out.empty() && damaged_.contains({partition.value(), batch.baseOffset.value()})) break;
    bytes += batch.batch.size();
    out.push_back(batch);
  }
  return out;
}

Result<SharedBytes> FakeLogStore::readAt(BatchPlace place) {
  std::lock_guard lock(mutex_);
  auto at = batches_.find(place.position.value());
  if (at == batches_.end() || place.position >= durable_) {
    return fail(ErrorKind::kNotFound, "no such batch");
  }
  return at->second;
}

Result<std::vector<storage::ProducerInfo>> FakeLogStore::producers(PartitionId partition) const {
  std::lock_guard lock(mutex_);
  const Partition* found = find(partition);
  if (found == nullptr) return fail(ErrorKind::kNotFound, "no such partition");
  std::vector<storage::ProducerInfo> all;
  for (const auto& [id, producer] : found->now.producers) {
    const Transaction* open = found->now.transactions.find(id);
    all.push_back({ProducerId(id), producer.epoch, producer.recent.back().lastSequence, 0,
                   open != nullptr ? std::optional(open->first) : std::nullopt});
  }
  return all;
}

Result<storage::PartitionEnds> FakeLogStore::ends(PartitionId partition) const {
  std::lock_guard lock(mutex_);
  const Partition* found = find(partition);
  if (found == nullptr) return fail(ErrorKind::kNotFound, "no such partition");
  storage::PartitionEnds ends;
  ends.logStart = found->now.logStart;
  ends.highWatermark = found->visible();
  ends.lastStable = found->stable();
  ends.end = found->now.end;
  for (const ReadBatch& batch : found->batches) {
    ends.bytes += static_cast<int64_t>(batch.batch.size());
  }
  return ends;
}

Result<std::vector<storage::IndexedBatch>> FakeLogStore::indexed(PartitionId partition, Offset from,
                                                                 size_t most) {
  std::lock_guard lock(mutex_);
  const Partition* found = find(partition);
  if (found == nullptr) return fail(ErrorKind::kNotFound, "no such partition");
  std::vector<storage::IndexedBatch> out;
  from = std::max(from, found->now.logStart);
  auto add = [&](const SharedBytes& batch, Offset base, uint32_t count, uint32_t attributes,
                 Position position) {
    if (base + count <= from || out.size() == most) return;
    auto header = parseRecordBatchHeader(batch.view());
    const auto size = static_cast<int64_t>(batch.size());
    out.push_back({base, count, attributes, header->maxTimestamp,
                   size * count / header->offsetCount(), position});
  };
  for (const ReadBatch& batch : found->batches) {
    add(batch.batch, batch.baseOffset, batch.count, batch.attributes, batch.place.position);
  }
  for (const Pending& pending : pending_) {
    size_t at = 0;
    size_t part = 0;
    auto addAll = [&](const std::vector<Target>& targets, const SharedBytes& batch,
                      Position position) {
      for (const Target& target : targets) {
        const Offset base = pending.result.offsets[at++];
        if (target.partition == partition) {
          add(batch, base, countOf(target, batch), target.attributes, position);
        }
      }
    };
    if (pending.duplicate) continue;
    for (const MessagesPart& messages : pending.request.messages) {
      addAll(messages.targets, messages.batch, pending.result.batches[part++].position);
    }
    for (const storage::LinkPart& link : pending.request.links) {
      addAll(link.targets, batches_.at(link.batch.position.value()), link.batch.position);
    }
  }
  return out;
}

int64_t FakeLogStore::octetsFrom(PartitionId partition, Offset from) const {
  auto pieces = const_cast<FakeLogStore*>(this)->indexed(partition, from, SIZE_MAX);
  int64_t sum = 0;
  if (pieces) {
    for (const storage::IndexedBatch& piece : *pieces) sum += piece.octets;
  }
  return sum;
}

Result<storage::Stability> FakeLogStore::stability(PartitionId partition, Offset from,
                                                   Offset to) const {
  auto found = ends(partition);
  if (!found) return std::unexpected(found.error());
  if (from < found->logStart) return fail(ErrorKind::kOutOfRange, "below the log start");
  std::lock_guard lock(mutex_);
  storage::Stability stability{*found, {}};
  for (const AbortedTransaction& one : find(partition)->now.transactions.aborted) {
    if (one.last >= from && one.first < to) stability.aborted.push_back(one);
  }
  return stability;
}

Result<std::optional<Offset>> FakeLogStore::transactionStart(PartitionId partition,
                                                             ProducerId producer) const {
  std::lock_guard lock(mutex_);
  const Partition* found = find(partition);
  if (found == nullptr) return fail(ErrorKind::kNotFound, "no such partition");
  const Transaction* open = found->now.transactions.find(producer.value());
  return open != nullptr ? std::optional(open->first) : std::nullopt;
}

std::vector<storage::OpenTransaction> FakeLogStore::openTransactions() const {
  std::lock_guard lock(mutex_);
  std::vector<storage::OpenTransaction> all;
  for (const auto& [id, partition] : partitions_) {
    for (const Transaction& open : partition.now.transactions.open) {
      if (!open.end) all.push_back({id, open.producer, open.first});
    }
  }
  return all;
}

Result<std::optional<Offset>> FakeLogStore::offsetAt(PartitionId partition, int64_t timestampMs) {
  std::lock_guard lock(mutex_);
  const Partition* found = find(partition);
  if (found == nullptr) return fail(ErrorKind::kNotFound, "no such partition");
  for (const ReadBatch& batch : found->batches) {
    if (maxTimestampOf(batch) >= timestampMs) return batch.baseOffset;
  }
  return std::nullopt;
}

Result<std::optional<Offset>> FakeLogStore::offsetOfMaxTimestamp(PartitionId partition) {
  std::lock_guard lock(mutex_);
  const Partition* found = find(partition);
  if (found == nullptr) return fail(ErrorKind::kNotFound, "no such partition");
  std::optional<Offset> best;
  int64_t latest = INT64_MIN;
  for (const ReadBatch& batch : found->batches) {
    if (maxTimestampOf(batch) <= latest) continue;
    latest = maxTimestampOf(batch);
    best = batch.baseOffset;
  }
  return best;
}

// ---------------------------------------------------------------- watching

storage::LogStore::WatchId FakeLogStore::watch(PartitionId partition, Offset offset,
                                               storage::CompletionSink& sink,
                                               std::move_only_function<void()> task,
                                               WatchFor what) {
  Completions completions;
  WatchId id = 0;
  {
    std::lock_guard lock(mutex_);
    id = nextWatch_++;
    auto at = partitions_.find(partition);
    if (at == partitions_.end() || at->second.now.deleted) {
      completions[&sink].push_back(std::move(task));
    } else {
      at->second.watches.push_back({id, offset, what == WatchFor::kStable, &sink, std::move(task)});
      fireWatches(completions);
    }
  }
  deliver(completions);
  return id;
}

void FakeLogStore::unwatch(PartitionId partition, WatchId id) {
  std::lock_guard lock(mutex_);
  auto at = partitions_.find(partition);
  if (at == partitions_.end()) return;
  std::erase_if(at->second.watches, [id](const Watch& watch) { return watch.id == id; });
}

void FakeLogStore::fireWatches(Completions& completions) {
  for (auto& [id, partition] : partitions_) {
    bool gone = partition.durable && partition.durable->deleted;
    std::erase_if(partition.watches, [&](Watch& watch) {
      Offset reached = watch.stable ? partition.stable() : partition.visible();
      if (!gone && reached <= watch.offset) return false;
      completions[watch.sink].push_back(std::move(watch.task));
      return true;
    });
  }
}

// ---------------------------------------------------------------- feed and state

void FakeLogStore::setCommitFeed(std::function<void(std::vector<CommittedBatch>)> feed) {
  std::lock_guard lock(mutex_);
  feed_ = std::move(feed);
}

Result<Position> FakeLogStore::scanRouted(Position from,
                                          const std::function<bool(const CommittedBatch&)>& visit) {
  std::vector<CommittedBatch> all;
  Position end;
  {
    std::lock_guard lock(mutex_);
    all = routed_;
    end = durable_;
  }
  for (const CommittedBatch& batch : all) {
    if (batch.entry < from) continue;
    if (!visit(batch)) return batch.batch.place.position + batch.batch.place.length;
  }
  return std::max(from, end);
}

/// commit() feeds at once.
Position FakeLogStore::fedEnd() const {
  return durableEnd();
}

uint64_t FakeLogStore::failures() const {
  std::lock_guard lock(mutex_);
  return failures_;
}

Result<> FakeLogStore::waitDurable(Position /*position*/, uint64_t failures) {
  commit();
  if (this->failures() != failures) return fail(ErrorKind::kIo, "a write has failed");
  return {};
}

Position FakeLogStore::durableEnd() const {
  std::lock_guard lock(mutex_);
  return durable_;
}

void FakeLogStore::scanState(StateTable table, BytesView keyPrefix,
                             const std::function<bool(BytesView, BytesView)>& visit) const {
  std::vector<std::pair<std::string, std::string>> found;
  {
    std::lock_guard lock(mutex_);
    for (auto at = state_.lower_bound({table, std::string(keyPrefix)});
         at != state_.end() && at->first.first == table &&
         BytesView(at->first.second).starts_with(keyPrefix);
         ++at) {
      found.emplace_back(at->first.second, at->second);
    }
  }
  for (const auto& [key, value] : found) {
    if (!visit(key, value)) return;
  }
}

std::optional<std::string> FakeLogStore::getState(StateTable table, BytesView key) const {
  std::lock_guard lock(mutex_);
  auto at = state_.find({table, std::string(key)});
  if (at == state_.end()) return std::nullopt;
  return at->second;
}

void FakeLogStore::shutDown() {
  commit();
  std::lock_guard lock(mutex_);
  closed_ = true;
}

}  // namespace polylog::test
