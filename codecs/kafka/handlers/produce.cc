// Produce: appends record batches as they came. Their memory is the request's.
#include "codecs/kafka/wire/produce.h"

#include <memory>
#include <string>
#include <utility>

#include "codecs/kafka/errors.h"
#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"
#include "core/base/byte_reader.h"
#include "core/model/record_batch.h"
#include "mapping/address.h"

namespace polylog::kafka {
namespace {

using Partition = wire::ProduceResponse::Topic::Partition;

constexpr int16_t kOldestServed = 3;  ///< the first version with record batches of magic 2
constexpr int16_t kFirstWithStorageError = 4;
constexpr int16_t kFirstWithZstd = 7;
constexpr int16_t kFirstWithAbortable = 11;
constexpr size_t kMagicAt = 16;

struct Refusal {
  Code code = Code::kNone;
  const char* text = "";
  explicit operator bool() const { return code != Code::kNone; }
};

/// Whether an uncompressed batch's records fill it exactly: their number decides the offsets of all
/// that comes later. What is inside a record is its reader's business.
bool recordsFit(BytesView batch, int32_t recordCount) {
  ByteReader in(batch.substr(kRecordBatchHeaderSize));
  for (int32_t i = 0; i < recordCount && in.ok(); ++i) {
    int32_t length = in.varint32();
    if (length < 0) return false;
    in.skip(static_cast<size_t>(length));
  }
  return in.complete();
}

/// The checks that Kafka's broker makes of a client's batch, and their errors.
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
  if (header.compression() == Compression::kNone && !recordsFit(batch, header.recordCount)) {
    return {Code::kInvalidRecord, "the records don't fill the batch"};
  }
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

/// What is wrong with the whole request.
Refusal checkRequest(int16_t version, const wire::ProduceRequest& request) {
  if (version < kOldestServed) {
    return {Code::kUnsupportedVersion, "Produce is served from version 3 on"};
  }
  if (request.acks < -1 || request.acks > 1)
    return {Code::kInvalidRequiredAcks, "acks is -1, 0 or 1"};
  return {};
}

void producePartition(const ProductionRef& production, Partition& answer, const std::string& topic,
                      const wire::ProduceRequest::Topic::Partition& partition) {
  Call& call = *production->call;
  BytesView batch = partition.records.bytes.value_or(BytesView());
  const std::string& transactionalId = production->transactionalId;
  if (Refusal refusal = checkBatch(batch, call.version(), call.broker().maxRecordBytes(),
                                   !transactionalId.empty())) {
    return production->refuse(answer, code(refusal.code), refusal.text);
  }
  ProduceBatch out{topic, partition.index, call.share(batch), production->acks != 0};
  if (!transactionalId.empty() && parseRecordBatchHeader(batch)->transactional()) {
    out.transactionalId = transactionalId;
  }
  ++production->waiting;
  call.broker().produce(
      call.principal(), std::move(out),
      [production, &answer](Result<Produced> result) { production->done(answer, result); });
}

}  // namespace

void handleProduce(const CallRef& call, wire::ProduceRequest&& request) {
  auto production = std::make_shared<Production>(call, request.acks);
  if (request.transactionalId) production->transactionalId = owned(*request.transactionalId);
  auto& topics = production->response.topics;
  topics.resize(request.topics.size());
  // Places in the response must not move from here on: callbacks refer to them.
  for (size_t i = 0; i < topics.size(); ++i) {
    topics[i].name = request.topics[i].name;
    topics[i].partitions.resize(request.topics[i].partitions.size());
  }
  Refusal refusal = checkRequest(call->version(), request);
  for (size_t i = 0; i < topics.size(); ++i) {
    Result<std::string> topic = canonicalTopic(topics[i].name);
    for (size_t j = 0; j < topics[i].partitions.size(); ++j) {
      Partition& answer = topics[i].partitions[j];
      answer.index = request.topics[i].partitions[j].index;
      if (refusal) {
        production->refuse(answer, code(refusal.code), refusal.text);
      } else if (!topic) {
        production->refuse(answer, code(Code::kInvalidTopic), topic.error().text);
      } else {
        producePartition(production, answer, *topic, request.topics[i].partitions[j]);
      }
    }
  }
  production->release();
}

}  // namespace polylog::kafka
