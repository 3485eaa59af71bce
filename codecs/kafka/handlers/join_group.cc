// JoinGroup: answered when the group's rebalance has gathered its members.
#include "codecs/kafka/wire/join_group.h"

#include <utility>

#include "codecs/kafka/errors.h"
#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/limits.h"

namespace polylog::kafka {
namespace {

constexpr int16_t kFirstWithKnownMemberId = 4;

Code check(const KafkaOptions& options, const wire::JoinGroupRequest& request) {
  if (request.groupId.empty()) return Code::kInvalidGroupId;
  if (request.memberId.size() > kMaxMemberId ||
      request.groupInstanceId.value_or(BytesView()).size() > kMaxInstanceId) {
    return Code::kInvalidRequest;
  }
  if (request.sessionTimeoutMs < options.minSessionTimeoutMs ||
      request.sessionTimeoutMs > options.maxSessionTimeoutMs) {
    return Code::kInvalidSessionTimeout;
  }
  if (request.protocolType.empty() || request.protocols.empty()) {
    return Code::kInconsistentGroupProtocol;
  }
  return Code::kNone;
}

void refuse(const Call& call, wire::JoinGroupResponse& response, BytesView memberId) {
  response.generationId = -1;
  response.memberId = memberId;
  response.leader = BytesView();
  // Null from version 7 on, empty before.
  response.protocolName = std::nullopt;
  if (call.version() < 7) response.protocolName = BytesView();
}

void answer(Call& call, const GroupJoined& joined) {
  wire::JoinGroupResponse response;
  if (joined.error) {
    response.errorCode = memberCode(*joined.error);
    refuse(call, response, joined.memberId);
    return call.answer(response);
  }
  response.generationId = joined.generation;
  response.protocolType = joined.protocolType;
  response.protocolName = joined.protocol;
  response.leader = joined.leader;
  response.memberId = joined.memberId;
  response.members.reserve(joined.members.size());
  for (const GroupMemberMetadata& member : joined.members) {
    auto& out = response.members.emplace_back();
    out.memberId = member.memberId;
    if (member.instanceId) out.groupInstanceId = *member.instanceId;
    out.metadata = member.metadata;
  }
  call.answer(response);
}

}  // namespace

void handleJoinGroup(const CallRef& call, wire::JoinGroupRequest&& request) {
  if (Code wrong = check(call->options(), request); wrong != Code::kNone) {
    wire::JoinGroupResponse response;
    response.errorCode = code(wrong);
    refuse(*call, response, request.memberId);
    return call->answer(response);
  }
  GroupJoin join;
  join.group = owned(request.groupId);
  join.memberId = owned(request.memberId);
  join.instanceId = owned(request.groupInstanceId);
  join.clientId = call->principal()->clientId;
  join.clientHost = clientHost(call->principal()->peer);
  join.protocolType = owned(request.protocolType);
  join.protocols.reserve(request.protocols.size());
  for (const auto& protocol : request.protocols) {
    join.protocols.push_back({owned(protocol.name), owned(protocol.metadata)});
  }
  join.sessionTimeoutMs = request.sessionTimeoutMs;
  join.rebalanceTimeoutMs =
      request.rebalanceTimeoutMs < 0 ? request.sessionTimeoutMs : request.rebalanceTimeoutMs;
  join.requireKnownMemberId = call->version() >= kFirstWithKnownMemberId && !join.instanceId;
  call->broker().joinGroup(call->principal(), std::move(join),
                           [call](const GroupJoined& joined) { answer(*call, joined); });
}

}  // namespace polylog::kafka
