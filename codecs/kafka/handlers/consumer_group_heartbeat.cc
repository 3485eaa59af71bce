// ConsumerGroupHeartbeat: a member of a group whose partitions the broker assigns (KIP-848).
#include "codecs/kafka/wire/consumer_group_heartbeat.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/limits.h"

namespace polylog::kafka {
namespace {

using Request = wire::ConsumerGroupHeartbeatRequest;
using Response = wire::ConsumerGroupHeartbeatResponse;

void refuse(Call& call, int16_t errorCode, const std::string& why) {
  Response response;
  response.errorCode = errorCode;
  response.errorMessage = why;
  call.answer(response);
}

/// What is wrong with the request, whoever it comes from; empty = nothing.
std::string fault(const Request& request, int16_t version) {
  if (request.memberId.empty() && (version >= 1 || request.memberEpoch != 0)) {
    return "MemberId can't be empty.";
  }
  if (request.instanceId && request.instanceId->empty()) return "InstanceId can't be empty.";
  if (request.rackId && request.rackId->empty()) return "RackId can't be empty.";
  if (request.memberId.size() > kMaxMemberId) return "MemberId is too long: 1024 octets at most.";
  if (request.instanceId && request.instanceId->size() > kMaxInstanceId) {
    return "InstanceId is too long: 255 octets at most.";
  }
  if (request.rackId && request.rackId->size() > kMaxRackId) {
    return "RackId is too long: 255 octets at most.";
  }
  return {};
}

Assignment assignmentOf(const std::vector<Request::TopicPartitions>& topics) {
  Assignment assignment;
  for (const auto& topic : topics) {
    if (topic.partitions.empty()) continue;
    assignment[topic.topicId].insert(topic.partitions.begin(), topic.partitions.end());
  }
  return assignment;
}

/// Canonical names. One that no topic can have stands for a topic that isn't there.
std::vector<std::string> topicsOf(const std::vector<BytesView>& names) {
  std::vector<std::string> topics;
  for (BytesView name : names) {
    Result<std::string> topic = canonicalTopic(name);
    if (topic) topics.push_back(std::move(*topic));
  }
  return topics;
}

/// Whether there is a topic among them that the client may not see.
bool hidden(const Call& call, const std::vector<std::string>& topics) {
  return std::ranges::any_of(topics, [&](const std::string& topic) {
    return !call.broker().mayDescribeTopic(call.principal(), topic);
  });
}

void answer(Call& call, const Result<ConsumerHeartbeatAnswer>& result) {
  if (!result) return refuse(call, code(result.error(), Area::kGroup), result.error().text);
  Response response;
  response.memberId = result->memberId;
  response.memberEpoch = result->epoch;
  response.heartbeatIntervalMs = result->heartbeatIntervalMs;
  if (result->assignment) {
    auto& topics = response.assignment.emplace().topicPartitions;
    for (const auto& [topic, partitions] : *result->assignment) {
      topics.push_back({topic, {partitions.begin(), partitions.end()}});
    }
  }
  call.answer(response);
}

}  // namespace

void handleConsumerGroupHeartbeat(const CallRef& call, Request&& request) {
  if (request.groupId.empty()) {
    return refuse(*call, code(Code::kInvalidRequest), "GroupId can't be empty.");
  }
  if (std::string why = fault(request, call->version()); !why.empty()) {
    return refuse(*call, code(Code::kInvalidRequest), why);
  }
  ConsumerHeartbeat beat;
  beat.group = owned(request.groupId);
  beat.memberId = owned(request.memberId);
  beat.epoch = request.memberEpoch;
  beat.instanceId = owned(request.instanceId);
  beat.rackId = owned(request.rackId);
  beat.clientId = call->principal()->clientId;
  beat.clientHost = clientHost(call->principal()->peer);
  beat.rebalanceTimeoutMs = request.rebalanceTimeoutMs;
  if (request.subscribedTopicNames) {
    beat.topics = topicsOf(*request.subscribedTopicNames);
    if (hidden(*call, *beat.topics)) {
      return refuse(*call, code(Code::kTopicAuthorizationFailed),
                    "The client may not see all of the topics that it subscribes to.");
    }
  }
  beat.pattern = owned(request.subscribedTopicRegex);
  beat.assignor = owned(request.serverAssignor);
  if (request.topicPartitions) beat.owned = assignmentOf(*request.topicPartitions);
  call->broker().consumerHeartbeat(
      call->principal(), std::move(beat),
      [call](const Result<ConsumerHeartbeatAnswer>& result) { answer(*call, result); });
}

}  // namespace polylog::kafka
