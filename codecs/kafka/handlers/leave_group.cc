// LeaveGroup: one member until version 2, any number from 3 on.
#include "codecs/kafka/wire/leave_group.h"

#include <memory>
#include <utility>

#include "codecs/kafka/errors.h"
#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {
namespace {

constexpr int16_t kFirstWithMany = 3;

}  // namespace

void handleLeaveGroup(const CallRef& call, wire::LeaveGroupRequest&& request) {
  if (request.groupId.empty()) {
    wire::LeaveGroupResponse response;
    response.errorCode = code(Code::kInvalidGroupId);
    return call->answer(response);
  }
  GroupLeave leave;
  leave.group = owned(request.groupId);
  if (call->version() < kFirstWithMany) {
    leave.members.emplace_back(owned(request.memberId), std::nullopt);
  }
  for (const auto& member : request.members) {
    leave.members.emplace_back(owned(member.memberId), owned(member.groupInstanceId));
  }
  auto members = std::make_shared<decltype(request.members)>(std::move(request.members));
  call->broker().leaveGroup(call->principal(), std::move(leave),
                            [call, members](const Result<std::vector<Result<>>>& results) {
                              wire::LeaveGroupResponse response;
                              if (!results) {
                                response.errorCode = memberCode(results.error());
                              } else if (call->version() < kFirstWithMany) {
                                if (!results->empty() && !results->front()) {
                                  response.errorCode = memberCode(results->front().error());
                                }
                              } else {
                                for (size_t i = 0; i < members->size() && i < results->size();
                                     ++i) {
                                  auto& out = response.members.emplace_back();
                                  out.memberId = (*members)[i].memberId;
                                  out.groupInstanceId = (*members)[i].groupInstanceId;
                                  if (!(*results)[i])
                                    out.errorCode = memberCode((*results)[i].error());
                                }
                              }
                              call->answer(response);
                            });
}

}  // namespace polylog::kafka
