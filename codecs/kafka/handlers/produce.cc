// Produce: appends record batches as they came. Their memory is the request's.
#include "codecs/kafka/wire/produce.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/errors.h"
#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/quota_meter.h"
#include "core/event/dispatcher.h"
#include "core/model/record_batch.h"
#include "mapping/address.h"

namespace polylog::kafka {
namespace {

using Partition = wire::ProduceResponse::Topic::Partition;

constexpr int16_t kOldestServed = 3;  ///< the first version with record batches of magic 2
constexpr int16_t kFirstWithStorageError = 4;
constexpr int16_t kFirstWithZstd = 7;
constexpr int16_t kFirstWithAbortable = 11;
constexpr int16_t kFirstThatJoins = 12;
constexpr int16_t kFirstByTopicId = 13;
constexpr size_t kMagicAt = 16;

struct Refusal {
  Code code = Code::kNone;
  const char* text = "";
  explicit operator bool() const { return code != Code::kNone; }
};

/// The checks that Kafka's broker makes of a client's batch, and their errors. Its records are
/// looked at behind Broker::produce(), once it is known that the client may write.
Refusal checkBatch(BytesView batch, int16_t version, int64_t maxBytes, bool transactional) {
  if (batch.size() <= kMagicAt) return {Code::kInvalidRecord, "a record batch is missing"};
  if (batch[kMagicAt] != 2)
    return {Code::kInvalidRecord, "only record batches of magic 2 are taken"};
  if (static_cast<int64_t>(batch.size()) > maxBytes) {
    return {Code::kMessageTooLarge, "the batch is over limits.max_message_bytes"};
  }
  Result<RecordBatchHeader> parsed = parseRecordBatchHeader(batch);
  if (!parsed) return {Code::kCorruptMessage, "malformed record batch"};
  const RecordBatchHeader& header = *parsed;
  if (header.wholeSize() != batch.size()) {
    return {Code::kInvalidRecord, "exactly one record batch a partition is taken"};
  }
  if (header.recordCount <= 0 || header.recordCount != header.offsetCount()) {
    return {Code::kInvalidRecord, "the record count doesn't agree with the last offset delta"};
  }
  if (header.control()) return {Code::kInvalidRecord, "clients don't write control batches"};
  if (header.transactional() && header.producerId < 0) {
    return {Code::kInvalidRecord, "a transactional batch needs a producer id"};
  }
  if (header.transactional() && !transactional) {
    return {Code::kTransactionalIdAuthorizationFailed, "a transactional batch without its id"};
  }
  if (header.logAppendTime())
    return {Code::kInvalidTimestamp, "only the broker sets log append time"};
  if (header.producerId >= 0 && (header.baseSequence < 0 || header.producerEpoch < 0)) {
    return {Code::kInvalidRecord, "an idempotent batch needs a sequence number and an epoch"};
  }
  if (header.compression() == Compression::kZstd && version < kFirstWithZstd) {
    return {Code::kUnsupportedCompressionType, "zstd is for Produce version 7 and up"};
  }
  if (!validateRecordBatch(batch)) return {Code::kCorruptMessage, "the batch's CRC does not hold"};
  return {};
}

/// A producer that can be told that its transaction is past help aborts it; others give up.
int16_t produceCode(const Error& error, int16_t version) {
  if (error.kind == ErrorKind::kInvalidTransaction && version >= kFirstWithAbortable) {
    return code(Code::kTransactionAbortable);
  }
  return code(error, Area::kProduce);
}

/// One request under way: its response, filled in as partitions get through.
struct Production {
  explicit Production(CallRef c, int16_t a) : call(std::move(c)), acks(a) {}

  void refuse(Partition& partition, int16_t errorCode, std::string text) {
    failed = true;
    if (errorCode == code(Code::kStorageError) && call->version() < kFirstWithStorageError) {
      errorCode = code(Code::kNotLeader);
    }
    partition.errorCode = errorCode;
    partition.baseOffset = -1;
    if (!text.empty()) partition.errorMessage = texts.keep(std::move(text));
  }

  void done(Partition& partition, const Result<Produced>& result) {
    if (result) {
      partition.baseOffset = result->baseOffset.value();
      partition.logAppendTimeMs = result->logAppendTimeMs;
      partition.logStartOffset = result->logStart.value();
    } else {
      refuse(partition, produceCode(result.error(), call->version()), result.error().text);
    }
    release();
  }

  void release() {
    if (--waiting > 0) return;
    if (acks != 0) return call->answer(response);
    // Closing is the only way to tell a producer that asked for no answer that something is wrong.
    if (failed) return call->abort("a produce with acks=0 failed");
    call->answerNothing();
  }

  CallRef call;
  int16_t acks;
  wire::ProduceResponse response;
  mapping::TextArena texts;
  std::string transactionalId;
  size_t waiting = 1;
  bool failed = false;
};
using ProductionRef = std::shared_ptr<Production>;

/// As it comes, and not when it is answered: a client need not wait for answers.
void countAgainstQuota(Production& production) {
  Call& call = *production.call;
  int64_t nowMs = call.transport().dispatcher().clock().monotonicMicros() / 1000;
  int32_t held =
      call.quotaMeter().count(QuotaKind::kProduce, *call.principal(), call.frame().size(), nowMs);
  production.response.throttleTimeMs = held;
  call.throttle(held);
}

/// What is wrong with the whole request.
Refusal checkRequest(int16_t version, const wire::ProduceRequest& request) {
  if (version < kOldestServed) {
    return {Code::kUnsupportedVersion, "Produce is served from version 3 on"};
  }
  if (request.acks < -1 || request.acks > 1)
    return {Code::kInvalidRequiredAcks, "acks is -1, 0 or 1"};
  return {};
}

/// What is asked of one partition and stands up to a look.
struct Planned {
  Partition* answer = nullptr;
  std::string topic;  ///< canonical
  BytesView batch;
  bool transactional = false;
};

/// The canonical name of a topic that is asked for, or why it isn't produced to.
Result<std::string> topicOf(const Call& call, const wire::ProduceRequest::Topic& topic) {
  if (call.version() < kFirstByTopicId) return canonicalTopic(topic.name);
  TopicRef found = call.broker().findTopic(call.principal(), topic.id);
  if (found == nullptr) return fail(ErrorKind::kNotFound, "no topic has that id");
  return found->name;
}

/// Refuses what can be seen to be wrong; the rest.
std::vector<Planned> plan(const ProductionRef& production, const wire::ProduceRequest& request) {
  const Call& call = *production->call;
  std::vector<Planned> planned;
  Refusal whole = checkRequest(call.version(), request);
  auto& topics = production->response.topics;
  for (size_t i = 0; i < topics.size(); ++i) {
    Result<std::string> topic = topicOf(call, request.topics[i]);
    for (size_t j = 0; j < topics[i].partitions.size(); ++j) {
      Partition& answer = topics[i].partitions[j];
      const auto& asked = request.topics[i].partitions[j];
      answer.index = asked.index;
      BytesView batch = asked.records.bytes.value_or(BytesView());
      Refusal refusal = whole;
      if (!refusal && !topic) {
        bool byId = call.version() >= kFirstByTopicId;
        production->refuse(answer, code(byId ? Code::kUnknownTopicId : Code::kInvalidTopic),
                           topic.error().text);
        continue;
      }
      if (!refusal) {
        refusal = checkBatch(batch, call.version(), call.broker().maxRecordBytes(),
                             !production->transactionalId.empty());
      }
      if (refusal) {
        production->refuse(answer, code(refusal.code), refusal.text);
        continue;
      }
      bool transactional = parseRecordBatchHeader(batch)->transactional();
      planned.push_back({&answer, *topic, batch, transactional});
    }
  }
  return planned;
}

void produceAll(const ProductionRef& production, std::vector<Planned> planned) {
  Call& call = *production->call;
  for (Planned& one : planned) {
    ProduceBatch out{std::move(one.topic), one.answer->index, call.share(one.batch),
                     production->acks != 0};
    if (one.transactional) out.transactionalId = production->transactionalId;
    ++production->waiting;
    call.broker().produce(call.principal(), std::move(out),
                          [production, answer = one.answer](Result<Produced> result) {
                            production->done(*answer, result);
                          });
  }
  production->release();
}

/// Has the partitions join the transaction first, unless they are in it (KIP-890).
void joinAndProduce(const ProductionRef& production, std::vector<Planned> planned) {
  Call& call = *production->call;
  std::vector<std::pair<std::string, int32_t>> joining;
  std::optional<TransactionProducer> who;
  for (const Planned& one : planned) {
    TopicRef topic = call.broker().findTopic(call.principal(), one.topic);
    if (!one.transactional || !hasPartition(topic, one.answer->index)) continue;
    // Producing refuses it by itself; the others go on.
    if (!permits(call, Operation::kWrite, ResourceKind::kTopic, one.topic)) continue;
    joining.emplace_back(one.topic, one.answer->index);
    if (who) continue;
    auto header = parseRecordBatchHeader(one.batch);
    who = TransactionProducer{
        production->transactionalId, {header->producerId, header->producerEpoch}, 2};
  }
  if (!who) return produceAll(production, std::move(planned));
  if (!permits(call, Operation::kWrite, ResourceKind::kTransaction, who->id)) {
    for (const Planned& one : planned) {
      production->refuse(*one.answer, code(Code::kTransactionalIdAuthorizationFailed), {});
    }
    return production->release();
  }
  call.broker().addToTransaction(
      call.principal(), std::move(*who), std::move(joining),
      [production, planned = std::move(planned)](const Result<>& joined) mutable {
        if (!production->call->open()) return;
        if (joined) return produceAll(production, std::move(planned));
        for (const Planned& one : planned) {
          production->refuse(*one.answer, produceCode(joined.error(), production->call->version()),
                             joined.error().text);
        }
        production->release();
      });
}

}  // namespace

void handleProduce(const CallRef& call, wire::ProduceRequest&& request) {
  auto production = std::make_shared<Production>(call, request.acks);
  if (request.transactionalId) production->transactionalId = owned(*request.transactionalId);
  countAgainstQuota(*production);
  auto& topics = production->response.topics;
  topics.resize(request.topics.size());
  // Places in the response must not move from here on: callbacks refer to them.
  for (size_t i = 0; i < topics.size(); ++i) {
    topics[i].name = request.topics[i].name;
    topics[i].id = request.topics[i].id;
    topics[i].partitions.resize(request.topics[i].partitions.size());
  }
  std::vector<Planned> planned = plan(production, request);
  if (call->version() >= kFirstThatJoins && !production->transactionalId.empty()) {
    return joinAndProduce(production, std::move(planned));
  }
  produceAll(production, std::move(planned));
}

}  // namespace polylog::kafka
