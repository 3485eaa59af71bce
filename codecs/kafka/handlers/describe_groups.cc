// DescribeGroups: state and members of groups.
#include "codecs/kafka/wire/describe_groups.h"

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "codecs/kafka/errors.h"
#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {
namespace {

constexpr int16_t kFirstWithNotFound = 6;

struct Inquiry {
  explicit Inquiry(CallRef c) : call(std::move(c)) {}

  void release() {
    if (--waiting == 0) answer();
  }
  void answer();
  void describe(BytesView name, const Result<GroupDescription>& found,
                wire::DescribeGroupsResponse::Group& out) const;

  CallRef call;
  std::vector<BytesView> names;
  std::vector<std::optional<Result<GroupDescription>>> found;
  bool operations = false;
  size_t waiting = 1;
};

void Inquiry::describe(BytesView name, const Result<GroupDescription>& description,
                       wire::DescribeGroupsResponse::Group& out) const {
  out.groupId = name;
  if (!description) {
    if (description.error().kind != ErrorKind::kNotFound) {
      out.errorCode = code(description.error(), Area::kGroup);
    } else {
      // Until version 5 a group that isn't there is a dead one.
      out.groupState = "Dead";
      if (call->version() >= kFirstWithNotFound) out.errorCode = code(Code::kGroupIdNotFound);
    }
    if (out.errorCode != 0) out.errorMessage = description.error().text;
    return;
  }
  if (description->kind != GroupKind::kClassic) {
    out.groupState = "Dead";
    if (call->version() < kFirstWithNotFound) return;
    out.errorCode = code(Code::kGroupIdNotFound);
    out.errorMessage = "The group is not a classic group.";
    return;
  }
  if (operations) {
    out.authorizedOperations = authorizedOperations(*call, ResourceKind::kGroup, name);
  }
  out.groupState = description->state;
  out.protocolType = description->protocolType;
  bool stable = description->state == "Stable";
  if (stable) out.protocolData = description->protocol;
  for (const GroupMemberDescription& member : description->members) {
    auto& to = out.members.emplace_back();
    to.memberId = member.memberId;
    if (member.instanceId) to.groupInstanceId = *member.instanceId;
    to.clientId = member.clientId;
    to.clientHost = member.clientHost;
    if (!stable) continue;
    to.memberMetadata = member.metadata;
    to.memberAssignment = member.assignment;
  }
}

void Inquiry::answer() {
  wire::DescribeGroupsResponse response;
  response.groups.resize(names.size());
  for (size_t i = 0; i < names.size(); ++i) {
    if (found[i]) describe(names[i], *found[i], response.groups[i]);
  }
  call->answer(response);
}

}  // namespace

void handleDescribeGroups(const CallRef& call, wire::DescribeGroupsRequest&& request) {
  auto inquiry = std::make_shared<Inquiry>(call);
  inquiry->operations = request.includeAuthorizedOperations;
  inquiry->names = std::move(request.groups);
  inquiry->found.resize(inquiry->names.size());
  for (size_t i = 0; i < inquiry->names.size(); ++i) {
    ++inquiry->waiting;
    call->broker().describeGroup(call->principal(), owned(inquiry->names[i]),
                                 [inquiry, i](Result<GroupDescription> found) {
                                   inquiry->found[i] = std::move(found);
                                   inquiry->release();
                                 });
  }
  inquiry->release();
}

}  // namespace polylog::kafka
