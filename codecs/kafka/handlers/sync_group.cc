// SyncGroup: the leader hands out assignments, every member gets its own.
#include "codecs/kafka/wire/sync_group.h"

#include <utility>

#include "codecs/kafka/errors.h"
#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {

void handleSyncGroup(const CallRef& call, wire::SyncGroupRequest&& request) {
  if (request.groupId.empty()) {
    wire::SyncGroupResponse response;
    response.errorCode = code(Code::kInvalidGroupId);
    return call->answer(response);
  }
  GroupSync sync;
  sync.group = owned(request.groupId);
  sync.memberId = owned(request.memberId);
  sync.instanceId = owned(request.groupInstanceId);
  sync.generation = request.generationId;
  sync.protocolType = owned(request.protocolType);
  sync.protocol = owned(request.protocolName);
  sync.assignments.reserve(request.assignments.size());
  for (const auto& assignment : request.assignments) {
    sync.assignments.emplace_back(owned(assignment.memberId), owned(assignment.assignment));
  }
  call->broker().syncGroup(call->principal(), std::move(sync), [call](const GroupSynced& synced) {
    wire::SyncGroupResponse response;
    if (synced.error) {
      response.errorCode = memberCode(*synced.error);
    } else {
      response.protocolType = synced.protocolType;
      response.protocolName = synced.protocol;
      response.assignment = synced.assignment;
    }
    call->answer(response);
  });
}

}  // namespace polylog::kafka
