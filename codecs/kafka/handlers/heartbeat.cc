// Heartbeat: a group's member is alive; it learns of a rebalance by the error.
#include "codecs/kafka/wire/heartbeat.h"

#include <utility>

#include "codecs/kafka/errors.h"
#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {

void handleHeartbeat(const CallRef& call, wire::HeartbeatRequest&& request) {
  if (request.groupId.empty()) {
    wire::HeartbeatResponse response;
    response.errorCode = code(Code::kInvalidGroupId);
    return call->answer(response);
  }
  GroupHeartbeat beat;
  beat.group = owned(request.groupId);
  beat.memberId = owned(request.memberId);
  beat.instanceId = owned(request.groupInstanceId);
  beat.generation = request.generationId;
  call->broker().heartbeat(call->principal(), std::move(beat), [call](const Result<>& result) {
    wire::HeartbeatResponse response;
    if (!result) response.errorCode = memberCode(result.error());
    call->answer(response);
  });
}

}  // namespace polylog::kafka
