// ShareGroupHeartbeat: a member of a share group (KIP-932).
#include "codecs/kafka/wire/share_group_heartbeat.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/handlers/share_verdicts.h"
#include "codecs/kafka/limits.h"

namespace polylog::kafka {
namespace {

using Request = wire::ShareGroupHeartbeatRequest;
using Response = wire::ShareGroupHeartbeatResponse;

void refuse(Call& call, int16_t errorCode, const std::string& why) {
  Response response;
  response.errorCode = errorCode;
  response.errorMessage = why;
  call.answer(response);
}

/// What is wrong with the request, whoever it comes from; empty = nothing.
std::string fault(const Request& request) {
  if (request.groupId.empty()) return "GroupId can't be empty.";
  if (request.memberId.empty()) return "MemberId can't be empty.";
  if (request.memberId.size() > kMaxShareMemberId)
    return "MemberId is too long: 36 octets at most.";
  if (request.rackId && request.rackId->empty()) return "RackId can't be empty.";
  if (request.rackId && request.rackId->size() > kMaxRackId) {
    return "RackId is too long: 255 octets at most.";
  }
  return {};
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

void handleShareGroupHeartbeat(const CallRef& call, Request&& request) {
  ShareGroups* groups = call->options().shareGroups;
  if (groups == nullptr) {
    return refuse(*call, code(Code::kUnsupportedVersion), "There are no share groups here.");
  }
  if (std::string why = fault(request); !why.empty()) {
    return refuse(*call, code(Code::kInvalidRequest), why);
  }
  ShareHeartbeat beat;
  beat.group = owned(request.groupId);
  beat.memberId = owned(request.memberId);
  beat.epoch = request.memberEpoch;
  beat.rackId = owned(request.rackId);
  beat.clientId = call->principal()->clientId;
  beat.clientHost = clientHost(call->principal()->peer);
  if (request.subscribedTopicNames) {
    beat.topics.emplace();
    for (BytesView name : *request.subscribedTopicNames) {
      // One that no topic can have stands for a topic that isn't there.
      Result<std::string> topic = canonicalTopic(name);
      if (topic) beat.topics->push_back(std::move(*topic));
    }
    bool hidden = std::ranges::any_of(*beat.topics, [&](const std::string& topic) {
      return !call->broker().mayDescribeTopic(call->principal(), topic);
    });
    if (hidden) {
      return refuse(*call, code(Code::kTopicAuthorizationFailed),
                    "The client may not see all of the topics that it subscribes to.");
    }
  }
  groups->shareHeartbeat(
      call->principal(), std::move(beat),
      [call](const Result<ConsumerHeartbeatAnswer>& result) { answer(*call, result); });
}

}  // namespace polylog::kafka
