// TxnOffsetCommit: offsets that become the group's with their transaction's commit.
#include "codecs/kafka/wire/txn_offset_commit.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/handlers/transactions.h"
#include "codecs/kafka/limits.h"

namespace polylog::kafka {
namespace {

using Results = Result<std::vector<Result<>>>;

constexpr int16_t kFirstWithAbortable = 4;
constexpr int16_t kFirstThatJoins = 5;

/// One request under way. `places` are those in the response of the offsets that the broker got.
struct Commit {
  wire::TxnOffsetCommitResponse response;
  std::vector<int16_t*> places;
};

int16_t wholeCode(const Error& error, int16_t version) {
  switch (error.kind) {
    case ErrorKind::kInvalidTransaction:
      if (version >= kFirstWithAbortable) return code(Code::kTransactionAbortable);
      return code(error, Area::kGroup);
    // A member's commit to a group that isn't there comes from a generation that is over.
    case ErrorKind::kNotFound:
    case ErrorKind::kStaleEpoch: return code(Code::kIllegalGeneration);
    case ErrorKind::kUnauthorized: return code(error, Area::kTransaction);
    default: return code(error, Area::kGroup);
  }
}

int16_t offsetCode(const Error& error) {
  if (error.kind == ErrorKind::kNotFound) return code(Code::kUnknownTopicOrPartition);
  if (error.kind == ErrorKind::kTooLarge) return code(Code::kOffsetMetadataTooLarge);
  return code(error, Area::kGroup);
}

void fill(Commit& commit, const Results& results, int16_t version) {
  for (size_t i = 0; i < commit.places.size(); ++i) {
    if (!results) {
      *commit.places[i] = wholeCode(results.error(), version);
    } else if (i < results->size() && !(*results)[i]) {
      *commit.places[i] = offsetCode((*results)[i].error());
    }
  }
}

/// The error of a request that the broker need not see.
Code refusal(const wire::TxnOffsetCommitRequest& request) {
  if (request.transactionalId.empty()) return Code::kInvalidRequest;
  if (request.groupId.empty()) return Code::kInvalidGroupId;
  return Code::kNone;
}

}  // namespace

void handleTxnOffsetCommit(const CallRef& call, wire::TxnOffsetCommitRequest&& request) {
  auto commit = std::make_shared<Commit>();
  GroupCommit out;
  out.group = owned(request.groupId);
  out.memberId = owned(request.memberId);
  out.instanceId = owned(request.groupInstanceId);
  out.generation = request.generationId;
  out.transactional = true;
  Code refused = refusal(request);
  commit->response.topics.resize(request.topics.size());
  for (size_t i = 0; i < request.topics.size(); ++i) {
    auto& topic = commit->response.topics[i];
    topic.name = request.topics[i].name;
    topic.partitions.resize(request.topics[i].partitions.size());
    TopicRef found = findTopic(*call, topic.name);
    for (size_t j = 0; j < topic.partitions.size(); ++j) {
      const auto& asked = request.topics[i].partitions[j];
      auto& answer = topic.partitions[j];
      answer.index = asked.index;
      BytesView metadata = asked.metadata.value_or(BytesView());
      if (refused != Code::kNone) {
        answer.errorCode = code(refused);
      } else if (!hasPartition(found, asked.index)) {
        answer.errorCode = code(Code::kUnknownTopicOrPartition);
      } else if (metadata.size() > kMaxOffsetMetadata) {
        answer.errorCode = code(Code::kOffsetMetadataTooLarge);
      } else {
        out.offsets.push_back(
            {found->name, asked.index, asked.offset, asked.leaderEpoch, owned(metadata)});
        commit->places.push_back(&answer.errorCode);
      }
    }
  }
  if (out.offsets.empty()) return call->answer(commit->response);
  call->broker().commitInTransaction(
      call->principal(),
      transactionProducer(request.transactionalId, request.producerId, request.producerEpoch,
                          call->version() >= kFirstThatJoins ? 2 : 1),
      std::move(out), [call, commit](const Results& results) {
        fill(*commit, results, call->version());
        call->answer(commit->response);
      });
}

}  // namespace polylog::kafka
