// OffsetDelete: committed offsets of topics that the group doesn't read any more.
#include "codecs/kafka/wire/offset_delete.h"

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {
namespace {

constexpr BytesView kConsumers = "consumer";

std::unexpected<Error> notEmpty(const GroupDescription& group) {
  return fail(ErrorKind::kGroupNotEmpty, "group '" + group.group + "' has members");
}

/// What a consumer's metadata say that it subscribes to (ConsumerProtocolSubscription: version,
/// topics, and more). The group's other kinds of members can't be asked.
Result<std::set<std::string>> subscribedTopics(const GroupDescription& group) {
  if (group.protocolType != kConsumers) return notEmpty(group);
  std::set<std::string> topics;
  if (group.kind == GroupKind::kConsumer) {
    for (const GroupMemberDescription& member : group.members) {
      topics.insert(member.consumer->topics.begin(), member.consumer->topics.end());
      topics.insert(member.consumer->matched.begin(), member.consumer->matched.end());
    }
    return topics;
  }
  for (const GroupMemberDescription& member : group.members) {
    wire::Decoder in(member.metadata);
    in.i16();
    size_t count = in.arrayCount(false, 2);
    for (size_t i = 0; i < count && in.ok(); ++i) {
      Result<std::string> name = canonicalTopic(in.string(false));
      if (name) topics.insert(std::move(*name));
    }
    if (!in.ok()) return notEmpty(group);
  }
  return topics;
}

struct Places {
  explicit Places(CallRef c) : call(std::move(c)) {}
  CallRef call;
  wire::OffsetDeleteResponse response;
  std::vector<int16_t*> codes;  ///< of what the broker was asked for
};

void answer(Places& places, const Result<std::vector<Result<>>>& results) {
  if (!results) {
    places.response.errorCode = code(results.error(), Area::kGroup);
    places.response.topics.clear();
  } else {
    for (size_t i = 0; i < places.codes.size() && i < results->size(); ++i) {
      const Result<>& result = (*results)[i];
      if (result) continue;
      bool inUse = result.error().kind == ErrorKind::kInUse;
      *places.codes[i] =
          inUse ? code(Code::kGroupSubscribedToTopic) : code(result.error(), Area::kGroup);
    }
  }
  places.call->answer(places.response);
}

}  // namespace

void handleOffsetDelete(const CallRef& call, wire::OffsetDeleteRequest&& request) {
  auto places = std::make_shared<Places>(call);
  GroupOffsetDeletion deletion;
  deletion.group = owned(request.groupId);
  deletion.topicsInUse = subscribedTopics;
  auto& topics = places->response.topics;
  topics.resize(request.topics.size());
  for (size_t i = 0; i < topics.size(); ++i) {
    topics[i].name = request.topics[i].name;
    topics[i].partitions.resize(request.topics[i].partitions.size());
    TopicRef topic = findTopic(*call, topics[i].name);
    for (size_t j = 0; j < topics[i].partitions.size(); ++j) {
      auto& out = topics[i].partitions[j];
      out.index = request.topics[i].partitions[j].index;
      if (!hasPartition(topic, out.index)) {
        out.errorCode = code(Code::kUnknownTopicOrPartition);
        continue;
      }
      deletion.partitions.emplace_back(topic->name, out.index);
      places->codes.push_back(&out.errorCode);
    }
  }
  call->broker().deleteOffsets(
      call->principal(), std::move(deletion),
      [places](const Result<std::vector<Result<>>>& results) { answer(*places, results); });
}

}  // namespace polylog::kafka
