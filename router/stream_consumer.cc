#include "router/stream_consumer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/base/log.h"
#include "core/model/record_batch.h"
#include "router/catalogue.h"

namespace polylog::router {
namespace {

constexpr int kDeliveriesAtATime = 1024;
constexpr int kLookBack = 1000;
constexpr int64_t kRetryMicros = 1'000'000;

/// The last committed record below `end`, not looking back for ever.
int64_t lastRecord(Core& core, PartitionId partition, int64_t first, int64_t end) {
  int64_t at = end - 1;
  for (int i = 0; i < kLookBack && at > first; ++i) {
    auto read = core.store.read(partition, Offset(at), 1);
    if (!read || read->empty()) break;
    const storage::ReadBatch& batch = read->front();
    auto header = parseRecordBatchHeader(batch.batch.view());
    auto stability = core.store.stability(partition, Offset(at), Offset(end));
    if (!header || !stability) break;
    if (!hiddenFromCommitted(*header, batch.baseOffset, stability->aborted)) break;
    at = batch.baseOffset.value() - 1;
  }
  return std::max(first, at);
}

Result<int64_t> startOf(Core& core, PartitionId partition, const StreamStart& start) {
  auto ends = core.store.ends(partition);
  if (!ends) return std::unexpected(ends.error());
  int64_t first = ends->logStart.value();
  int64_t next = ends->lastStable.value();
  switch (start.kind) {
    case StreamStart::Kind::kFirst: return first;
    case StreamStart::Kind::kLast: return lastRecord(core, partition, first, next);
    case StreamStart::Kind::kNext: return next;
    case StreamStart::Kind::kOffset: return std::max(first, start.value);
    case StreamStart::Kind::kTimestamp: {
      auto offset = core.store.offsetAt(partition, start.value);
      if (!offset) return std::unexpected(offset.error());
      return *offset ? (*offset)->value() : next;
    }
  }
  return next;
}

}  // namespace

Result<std::shared_ptr<StreamConsumer>> StreamConsumer::open(Core& core, Worker& worker,
                                                             TopicRef topic,
                                                             std::vector<PartitionId> partitions,
                                                             ConsumeOptions& options,
                                                             QueueListener* listener) {
  if (options.start.kind == StreamStart::Kind::kOffset && partitions.size() > 1) {
    return fail(
        ErrorKind::kInvalid,
        fmt::format("'{}' has {} partitions, in which an offset means nothing: consume one of "
                    "'{}-0' to '{}-{}'",
                    topic->name, partitions.size(), topic->name, topic->name,
                    partitions.size() - 1));
  }
  // A null key and the topic's name: what other protocols wrote has its address from these.
  auto name = std::shared_ptr<const std::string>(topic, &topic->name);
  auto consumer =
      std::make_shared<StreamConsumer>(core, worker, std::move(topic), options, listener);
  for (PartitionId partition : partitions) {
    Result<int64_t> start = startOf(core, partition, options.start);
    if (!start) return std::unexpected(start.error());
    Source& source = consumer->sources_.emplace_back();
    source.partition = partition;
    source.reader = std::make_unique<PartitionReader>(core, partition, name);
    source.next = *start;
  }
  return consumer;
}

StreamConsumer::StreamConsumer(Core& core, Worker& worker, TopicRef topic, ConsumeOptions& options,
                               QueueListener* listener)
    : core_(core),
      worker_(worker),
      topic_(std::move(topic)),
      consumer_(worker, listener, options) {}

StreamConsumer::~StreamConsumer() = default;

void StreamConsumer::settle(std::span<const Settlement> /*settlements*/) {
  resume();
}

void StreamConsumer::sent(int64_t count, int64_t octets) {
  consumer_.flight.give(count, octets);
  resume();
}

void StreamConsumer::resume() {
  if (consumer_.blocked.exchange(false)) pumpSoon();
}

void StreamConsumer::end() {
  consumer_.listener = nullptr;
  stopReading();
}

void StreamConsumer::stopReading() {
  over_ = true;
  retry_ = nullptr;
  for (Source& source : sources_) {
    if (source.watching) core_.store.unwatch(source.partition, source.watchId);
    source.watching = false;
  }
}

void StreamConsumer::pumpSoon() {
  if (pumpDue_ || over_) return;
  pumpDue_ = true;
  worker_.later([self = shared_from_this()] {
    self->pumpDue_ = false;
    self->pump();
  });
}

/// The right to read may have been taken away since it began.
bool StreamConsumer::cutOff() {
  Resource resource{ResourceKind::kTopic, topic_->name};
  if (core_.authorizer.permits(reader_, Operation::kRead, resource)) return false;
  stopReading();
  worker_.later([self = shared_from_this()] {
    auto* listener = std::exchange(self->consumer_.listener, nullptr);
    if (listener != nullptr) listener->onCancelled();
  });
  return true;
}

void StreamConsumer::pump() {
  if (over_ || cutOff()) return;
  std::vector<QueueDelivery> batch;
  bool blocked = false;
  size_t idle = 0;
  while (!blocked && !over_ && idle < sources_.size() && batch.size() < kDeliveriesAtATime) {
    size_t at = turn_++ % sources_.size();
    idle = advance(at, batch, blocked) ? 0 : idle + 1;
  }
  if (!batch.empty()) {
    auto self = shared_from_this();  // the listener may end us
    if (consumer_.listener != nullptr) consumer_.listener->onDeliveries(batch);
    if (batch.size() >= kDeliveriesAtATime) pumpSoon();
  }
}

bool StreamConsumer::advance(size_t at, std::vector<QueueDelivery>& out, bool& blocked) {
  Source& source = sources_[at];
  if (source.watching) return false;
  switch (source.reader->find(worker_, source.next)) {
    case PartitionReader::Found::kRecord: break;
    case PartitionReader::Found::kEnd: watch(at); return false;
    case PartitionReader::Found::kGone: source.next = source.reader->logStart(); return true;
    case PartitionReader::Found::kGap: source.next = source.reader->gapEnd(); return true;
    case PartitionReader::Found::kDamaged:
      logError(fmt::format("topic '{}': offsets {} to {} can't be read and are skipped: {}",
                           topic_->name, source.next, source.reader->damagedEnd() - 1,
                           source.reader->error().text));
      source.next = std::max(source.next + 1, source.reader->damagedEnd());
      return true;
    case PartitionReader::Found::kDeleted:
      stopReading();
      worker_.later([self = shared_from_this()] {
        auto* listener = std::exchange(self->consumer_.listener, nullptr);
        if (listener != nullptr) listener->onCancelled();
      });
      return false;
    case PartitionReader::Found::kFailed:
      if (!retry_) retry_ = worker_.dispatcher.makeTimer([this] { pumpSoon(); });
      retry_->start(kRetryMicros);
      return false;
  }
  auto octets = static_cast<int64_t>(source.reader->bytes());
  if (!consumer_.reserve(octets)) {
    blocked = true;
    return false;
  }
  QueueDelivery& delivery = out.emplace_back();
  delivery.record = source.reader->record();
  delivery.id = source.next++;
  delivery.octets = octets;
  core_.metrics.recordsOut(Protocol::kAmqp).add();
  core_.metrics.bytesOut(Protocol::kAmqp).add(octets);
  return true;
}

void StreamConsumer::watch(size_t at) {
  Source& source = sources_[at];
  source.watching = true;
  source.watchId = core_.store.watch(
      source.partition, Offset(source.next), worker_.sink,
      [weak = weak_from_this(), at] {
        auto self = weak.lock();
        if (!self || self->over_) return;
        self->sources_[at].watching = false;
        self->pumpSoon();
      },
      storage::LogStore::WatchFor::kStable);
}

}  // namespace polylog::router
