#include "router/log_access.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "core/model/record_batch.h"
#include "router/address_tags.h"
#include "router/catalogue.h"
#include "router/feed_router.h"
#include "router/id_allocator.h"
#include "router/rewrite.h"
#include "router/transaction_coordinator.h"

namespace polylog::router {
namespace {

/// As many batches of the largest size as may come decompressed out of one request.
constexpr size_t kDecodedBatchesAtOnce = 4;

/// A reader that waits for several partitions at once, woken by the first.
struct Wait {
  storage::LogStore& store;
  std::move_only_function<void()> wake;
  std::vector<std::pair<PartitionId, storage::LogStore::WatchId>> watches;
  bool over = false;

  void unwatchAll() {
    for (const auto& [partition, id] : watches) store.unwatch(partition, id);
    watches.clear();
  }
  void fire() {
    if (over) return;
    over = true;
    unwatchAll();
    auto run = std::move(wake);
    run();
  }
};

class Waiting final : public WaitHandle {
 public:
  explicit Waiting(std::shared_ptr<Wait> wait) : wait_(std::move(wait)) {}
  ~Waiting() override {
    if (wait_->over) return;
    wait_->over = true;
    wait_->unwatchAll();
    wait_->wake = nullptr;
  }

 private:
  std::shared_ptr<Wait> wait_;
};

std::unexpected<Error> noPartition(const std::string& topic, int32_t partition) {
  return fail(ErrorKind::kNotFound, fmt::format("no partition {} of topic '{}'", partition, topic));
}

/// The first record of a partition's batches from `from` on that `accept` likes.
template <class Accept>
Result<std::optional<OffsetAtTime>> firstRecord(Core& core, PartitionId partition, Offset from,
                                                Accept&& accept) {
  auto read = core.store.read(partition, from, 1);
  if (!read) {
    // Retention may have been faster: what was there is not any more.
    if (read.error().kind == ErrorKind::kOutOfRange) return std::nullopt;
    return std::unexpected(read.error());
  }
  for (const storage::ReadBatch& batch : *read) {
    auto decoded = decodeRecordBatch(batch.batch, core.options.maxDecodedBytes);
    if (!decoded) return std::unexpected(decoded.error());
    for (size_t i = 0; i < decoded->records.size(); ++i) {
      Offset offset = batch.baseOffset + (decoded->offsetDeltas[i] - int32_t(batch.firstRecord));
      int64_t time = decoded->records[i].timestampMs;
      if (offset >= from && accept(time, decoded->header)) return OffsetAtTime{offset, time};
    }
  }
  return std::nullopt;
}

}  // namespace

Result<PartitionId> LogAccess::partitionOf(const std::string& topic, int32_t partition) const {
  TopicRef found = core_.catalogue->find(topic);
  if (!found || partition < 0 || static_cast<size_t>(partition) >= found->partitions.size()) {
    return noPartition(topic, partition);
  }
  return found->partitions[static_cast<size_t>(partition)];
}

// ---------------------------------------------------------------- producing

DecompressionBudget& LogAccess::budgetFor(const SharedBytes& batch) {
  Opened& opened = opened_[core_.here().index];
  const std::shared_ptr<const void>& octets = batch.owner();
  bool same = octets && !opened.octets.owner_before(octets) && !octets.owner_before(opened.octets);
  if (!same) {
    const size_t each = core_.options.maxDecodedBytes;
    opened = {octets, DecompressionBudget(each, each * kDecodedBatchesAtOnce)};
  }
  return opened.budget;
}

Result<> LogAccess::checkContents(const Topic& topic, const RecordBatchHeader& header,
                                  SharedBytes& batch) {
  DecompressionBudget& budget = budgetFor(batch);
  const bool reduced = budget.reduced();
  auto records = checkRecords(batch.view(), budget);
  if (!records) {
    // Not kCorrupt, which has a producer send the same again: it is not the way that changed it.
    if (records.error().kind == ErrorKind::kTooLarge) {
      if (!reduced) return std::unexpected(records.error());
      return fail(ErrorKind::kTooLarge,
                  fmt::format("the batches of one request decompress to more than {} octets",
                              core_.options.maxDecodedBytes * kDecodedBatchesAtOnce));
    }
    return fail(ErrorKind::kInvalid, records.error().text);
  }
  if (topic.config.cleanup.compacts && !records->allKeyed) {
    return fail(ErrorKind::kInvalid, "a record without a key, but the topic is compacted");
  }
  // Retention, compaction and look-ups by time go by what the header says. Some producers say
  // nothing.
  if (records->maxTimestamp != header.maxTimestamp) {
    batch = SharedBytes::own(withMaxTimestamp(batch.view(), records->maxTimestamp));
  }
  return {};
}

Result<> LogAccess::recompress(const Topic& topic, const RecordBatchHeader& header, int64_t limit,
                               SharedBytes& batch) const {
  const std::optional<Compression>& wanted = topic.config.compression;
  if (!wanted || *wanted == header.compression()) return {};
  auto packed = recompressRecordBatch(batch, core_.options.maxDecodedBytes, *wanted);
  if (!packed) return std::unexpected(packed.error());
  if (static_cast<int64_t>(packed->size()) > limit) {
    return fail(ErrorKind::kTooLarge,
                fmt::format("a batch of {} octets as topic '{}' compresses it, {} at most",
                            packed->size(), topic.name, limit));
  }
  batch = SharedBytes::own(std::move(*packed));
  return {};
}

Result<storage::AppendRequest> LogAccess::prepare(const PrincipalRef& principal,
                                                  ProduceBatch& batch, TopicRef& topic,
                                                  int64_t& stampedMs) {
  Resource resource{ResourceKind::kTopic, batch.topic};
  if (!core_.authorizer.permits(principal, Operation::kWrite, resource)) {
    return std::unexpected(notPermitted(resource));
  }
  topic = core_.catalogue->find(batch.topic);
  if (!topic || batch.partition < 0 ||
      static_cast<size_t>(batch.partition) >= topic->partitions.size()) {
    return noPartition(batch.topic, batch.partition);
  }
  auto header = parseRecordBatchHeader(batch.batch.view());
  if (!header) return std::unexpected(header.error());
  if (header->wholeSize() != batch.batch.size()) {
    return fail(ErrorKind::kCorrupt, "octets behind the end of a record batch");
  }
  int64_t limit = topic->config.maxBatchBytes >= 0 ? topic->config.maxBatchBytes
                                                   : core_.options.maxMessageBytes;
  if (static_cast<int64_t>(batch.batch.size()) > limit) {
    return fail(ErrorKind::kTooLarge, fmt::format("a batch of {} octets for topic '{}', {} at most",
                                                  batch.batch.size(), batch.topic, limit));
  }
  if (header->control()) return fail(ErrorKind::kInvalid, "control batches are the broker's own");
  if (header->transactional() && (header->producerId < 0 || batch.transactionalId.empty())) {
    return fail(ErrorKind::kInvalidTransaction, "a transactional batch without a transaction");
  }
  if (header->recordCount < 1 || header->recordCount != header->offsetCount()) {
    return fail(ErrorKind::kInvalid, "a batch whose records are not numbered one by one");
  }
  if (auto sound = checkContents(*topic, *header, batch.batch); !sound) {
    return std::unexpected(sound.error());
  }
  if (auto packed = recompress(*topic, *header, limit, batch.batch); !packed) {
    return std::unexpected(packed.error());
  }
  core_.metrics.recordsIn(principal->protocol).add(header->recordCount);
  core_.metrics.bytesIn(principal->protocol).add(static_cast<int64_t>(batch.batch.size()));
  stampedMs = -1;
  if (topic->config.logAppendTime) {
    stampedMs = core_.clock.wallMillis();
    std::string stamped(batch.batch.view());
    stampBatch(stamped, stampedMs);
    batch.batch = SharedBytes::own(std::move(stamped));
  }
  storage::AppendRequest request;
  storage::MessagesPart& part = request.messages.emplace_back();
  part.batch = std::move(batch.batch);
  part.targets.push_back({topic->partitions[static_cast<size_t>(batch.partition)], 0, 0,
                          originAttribute(Protocol::kKafka)});
  part.checkProducer = header->producerId >= 0;
  part.routeAfterCommit = core_.feed->wants(*topic);
  request.durability = !batch.waitForDurability                    ? storage::Durability::kUnwaited
                       : topic->config.flush == FlushPolicy::kSafe ? storage::Durability::kSynced
                                                                   : storage::Durability::kWritten;
  return request;
}

Result<storage::Appended> LogAccess::append(const ProduceBatch& batch,
                                            storage::AppendRequest request) {
  if (batch.transactionalId.empty()) return core_.store.append(std::move(request));
  const storage::MessagesPart& part = request.messages.front();
  auto header = parseRecordBatchHeader(part.batch.view());
  // Routed with its transaction's commit, or never.
  request.messages.front().routeAfterCommit = false;
  return core_.transactions->append(
      {batch.transactionalId, {header->producerId, header->producerEpoch}},
      part.targets.front().partition, std::move(request));
}

void LogAccess::produce(const PrincipalRef& principal, ProduceBatch batch,
                        Done<Result<Produced>> done) {
  Worker& worker = core_.here();
  TopicRef topic;
  int64_t stampedMs = -1;
  bool wait = batch.waitForDurability;
  auto partition = static_cast<size_t>(std::max(0, batch.partition));
  auto shared = std::make_shared<Done<Result<Produced>>>(std::move(done));
  auto answer = [shared](Result<Produced> result) {
    if (*shared) (*shared)(std::move(result));
  };
  auto request = prepare(principal, batch, topic, stampedMs);
  if (!request) {
    worker.later([answer, error = request.error()] { answer(std::unexpected(error)); });
    return;
  }
  PartitionId id = topic->partitions[partition];
  auto produced = [this, id, stampedMs](const storage::Appended& appended) {
    Produced result;
    result.baseOffset = appended.offsets.front();
    result.logAppendTimeMs = stampedMs;
    if (auto ends = core_.store.ends(id)) result.logStart = ends->logStart;
    return result;
  };
  if (wait) {
    request->sink = &worker.sink;
    request->done = [this, answer, produced](const Result<storage::Appended>& result) {
      if (result) return answer(produced(*result));
      ++core_.writeFailures;
      answer(std::unexpected(result.error()));
    };
  }
  auto appended = append(batch, std::move(*request));
  if (!appended) {
    worker.later([answer, error = appended.error()] { answer(std::unexpected(error)); });
  } else if (!wait) {
    worker.later([answer, result = produced(*appended)] { answer(result); });
  }
}

void LogAccess::initProducer(std::optional<ProducerIdentity> current,
                             Done<Result<ProducerIdentity>> done) {
  if (current && current->epoch >= 0 && current->epoch < std::numeric_limits<int16_t>::max() - 1) {
    ProducerIdentity next{current->id, static_cast<int16_t>(current->epoch + 1)};
    core_.here().later([done = std::move(done), next]() mutable { done(next); });
    return;
  }
  core_.ids->nextProducer([done = std::move(done)](Result<int64_t> id) mutable {
    if (!id) return done(std::unexpected(id.error()));
    done(ProducerIdentity{*id, 0});
  });
}

// ---------------------------------------------------------------- reading

Result<Fetched> LogAccess::fetch(const PrincipalRef& principal, const std::string& topic,
                                 int32_t partition, Offset from, size_t maxBytes) {
  Resource resource{ResourceKind::kTopic, topic};
  if (!core_.authorizer.permits(principal, Operation::kRead, resource)) {
    return std::unexpected(notPermitted(resource));
  }
  auto id = partitionOf(topic, partition);
  if (!id) return std::unexpected(id.error());
  auto read = core_.store.read(*id, from, maxBytes);
  if (!read) return std::unexpected(read.error());
  Offset end = read->empty() ? from : read->back().baseOffset + read->back().count;
  auto stability = core_.store.stability(*id, from, end);
  if (!stability) return std::unexpected(stability.error());
  Fetched fetched;
  fetched.highWatermark = stability->ends.highWatermark;
  fetched.lastStable = stability->ends.lastStable;
  fetched.logStart = stability->ends.logStart;
  fetched.aborted = std::move(stability->aborted);
  fetched.batches.reserve(read->size());
  int64_t records = 0;
  int64_t bytes = 0;
  for (storage::ReadBatch& batch : *read) {
    records += batch.count;
    bytes += static_cast<int64_t>(batch.batch.size());
    fetched.batches.push_back(
        {std::move(batch.batch), batch.baseOffset, batch.firstRecord, batch.count});
  }
  core_.metrics.recordsOut(principal->protocol).add(records);
  core_.metrics.bytesOut(principal->protocol).add(bytes);
  return fetched;
}

std::unique_ptr<WaitHandle> LogAccess::awaitRecords(std::span<const Broker::FetchPoint> points,
                                                    std::move_only_function<void()> wake) {
  Worker& worker = core_.here();
  auto wait = std::make_shared<Wait>(Wait{core_.store, std::move(wake), {}, false});
  for (const Broker::FetchPoint& point : points) {
    auto id = partitionOf(point.topic, point.partition);
    if (!id) {
      // Gone already: there is something to be told at once.
      worker.later([weak = std::weak_ptr(wait)] {
        if (auto alive = weak.lock()) alive->fire();
      });
      break;
    }
    using WatchFor = storage::LogStore::WatchFor;
    auto watch = core_.store.watch(
        *id, point.offset, worker.sink,
        [weak = std::weak_ptr(wait)] {
          if (auto alive = weak.lock()) alive->fire();
        },
        point.committed ? WatchFor::kStable : WatchFor::kVisible);
    wait->watches.emplace_back(*id, watch);
  }
  return std::make_unique<Waiting>(std::move(wait));
}

Result<PartitionBounds> LogAccess::bounds(const std::string& topic, int32_t partition) {
  auto id = partitionOf(topic, partition);
  if (!id) return std::unexpected(id.error());
  auto ends = core_.store.ends(*id);
  if (!ends) return std::unexpected(ends.error());
  return PartitionBounds{ends->logStart, ends->highWatermark, ends->lastStable, ends->bytes};
}

Result<std::optional<OffsetAtTime>> LogAccess::offsetAtTime(const std::string& topic,
                                                            int32_t partition,
                                                            int64_t timestampMs) {
  auto id = partitionOf(topic, partition);
  if (!id) return std::unexpected(id.error());
  auto batch = core_.store.offsetAt(*id, timestampMs);
  if (!batch) return std::unexpected(batch.error());
  if (!*batch) return std::nullopt;
  return firstRecord(core_, *id, **batch, [timestampMs](int64_t time, const RecordBatchHeader&) {
    return time >= timestampMs;
  });
}

Result<std::optional<OffsetAtTime>> LogAccess::offsetOfMaxTimestamp(const std::string& topic,
                                                                    int32_t partition) {
  auto id = partitionOf(topic, partition);
  if (!id) return std::unexpected(id.error());
  auto batch = core_.store.offsetOfMaxTimestamp(*id);
  if (!batch) return std::unexpected(batch.error());
  if (!*batch) return std::nullopt;
  return firstRecord(core_, *id, **batch, [](int64_t time, const RecordBatchHeader& header) {
    return time == header.maxTimestamp;
  });
}

}  // namespace polylog::router
