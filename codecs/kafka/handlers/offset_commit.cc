// OffsetCommit: a group's offsets, answered when they are durable.
#include "codecs/kafka/wire/offset_commit.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/errors.h"
#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/limits.h"

namespace polylog::kafka {
namespace {

constexpr int16_t kFirstWithMemberEpochs = 9;
constexpr int16_t kFirstWithTopicIds = 10;

using Results = Result<std::vector<Result<>>>;

/// One request under way. `places` are those in the response of the offsets that the broker got.
struct Commit {
  wire::OffsetCommitResponse response;
  std::vector<int16_t*> places;
};

int16_t wholeCode(const Error& error, int16_t version) {
  // A member's commit to a group that isn't there comes from a generation that is over.
  if (error.kind == ErrorKind::kNotFound && version < kFirstWithMemberEpochs) {
    return code(Code::kIllegalGeneration);
  }
  return code(error, Area::kGroup);
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

}  // namespace

void handleOffsetCommit(const CallRef& call, wire::OffsetCommitRequest&& request) {
  auto commit = std::make_shared<Commit>();
  GroupCommit out;
  out.group = owned(request.groupId);
  out.memberId = owned(request.memberId);
  out.instanceId = owned(request.groupInstanceId);
  out.generation = request.generationId;
  out.knowsEpochs = call->version() >= kFirstWithMemberEpochs;
  commit->response.topics.resize(request.topics.size());
  for (size_t i = 0; i < request.topics.size(); ++i) {
    auto& topic = commit->response.topics[i];
    topic.name = request.topics[i].name;
    topic.id = request.topics[i].id;
    topic.partitions.resize(request.topics[i].partitions.size());
    bool byId = call->version() >= kFirstWithTopicIds;
    TopicRef found =
        byId ? call->broker().findTopic(call->principal(), topic.id) : findTopic(*call, topic.name);
    for (size_t j = 0; j < topic.partitions.size(); ++j) {
      const auto& asked = request.topics[i].partitions[j];
      auto& answer = topic.partitions[j];
      answer.index = asked.index;
      BytesView metadata = asked.metadata.value_or(BytesView());
      if (request.groupId.empty()) {
        answer.errorCode = code(Code::kInvalidGroupId);
      } else if (byId && found == nullptr) {
        answer.errorCode = code(Code::kUnknownTopicId);
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
  call->broker().commitOffsets(call->principal(), std::move(out),
                               [call, commit](const Results& results) {
                                 fill(*commit, results, call->version());
                                 call->answer(commit->response);
                               });
}

}  // namespace polylog::kafka
