// ShareGroupDescribe: state and members of share groups (KIP-932).
#include "codecs/kafka/wire/share_group_describe.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"
#include "mapping/kafka.h"

namespace polylog::kafka {
namespace {

using Response = wire::ShareGroupDescribeResponse;

struct Inquiry : Pending<Response> {
  using Pending::Pending;

  void fill(const GroupMemberDescription& from, Response::Group::Member& to);
  void fill(const Result<GroupDescription>& found, Response::Group& out);
  bool sees(const GroupDescription& group) const;

  bool operations = false;
};

void Inquiry::fill(const GroupMemberDescription& from, Response::Group::Member& to) {
  const ConsumerDescription& consumer = *from.consumer;
  to.memberId = texts.keep(from.memberId);
  if (consumer.rackId) to.rackId = texts.keep(*consumer.rackId);
  to.memberEpoch = consumer.epoch;
  to.clientId = texts.keep(from.clientId);
  to.clientHost = texts.keep(from.clientHost);
  for (const std::string& topic : consumer.topics) {
    std::string name;
    if (!mapping::appendKafkaTopic(topic, name)) continue;
    to.subscribedTopicNames.push_back(texts.keep(std::move(name)));
  }
  for (const NamedPartitions& one : consumer.assigned) {
    std::string name;
    if (!mapping::appendKafkaTopic(one.topic, name)) continue;
    to.assignment.topicPartitions.push_back({one.id, texts.keep(std::move(name)), one.partitions});
  }
}

/// Whether the client may see all the topics that would be told.
bool Inquiry::sees(const GroupDescription& group) const {
  auto seen = [&](const std::string& topic) {
    return call->broker().mayDescribeTopic(call->principal(), topic);
  };
  return std::ranges::all_of(group.members, [&](const GroupMemberDescription& member) {
    const ConsumerDescription& consumer = *member.consumer;
    return std::ranges::all_of(consumer.topics, seen) &&
           std::ranges::all_of(consumer.assigned, seen, &NamedPartitions::topic);
  });
}

void Inquiry::fill(const Result<GroupDescription>& found, Response::Group& out) {
  auto refuse = [&](int16_t errorCode, std::string why) {
    out.errorCode = errorCode;
    out.errorMessage = texts.keep(std::move(why));
  };
  if (!found) return refuse(code(found.error(), Area::kGroup), found.error().text);
  if (found->kind != GroupKind::kShare) {
    return refuse(code(Code::kGroupIdNotFound), "Group " + found->group + " is not a share group.");
  }
  if (!sees(*found)) {
    return refuse(code(Code::kTopicAuthorizationFailed),
                  "The group has topics that the client may not see.");
  }
  out.groupState = texts.keep(found->state);
  out.groupEpoch = found->epoch;
  out.assignmentEpoch = found->assignmentEpoch;
  out.assignorName = texts.keep(found->assignor);
  if (operations) {
    out.authorizedOperations = authorizedOperations(*call, ResourceKind::kGroup, found->group);
  }
  for (const GroupMemberDescription& member : found->members) {
    fill(member, out.members.emplace_back());
  }
}

}  // namespace

void handleShareGroupDescribe(const CallRef& call, wire::ShareGroupDescribeRequest&& request) {
  auto inquiry = std::make_shared<Inquiry>(call);
  inquiry->operations = request.includeAuthorizedOperations;
  auto& groups = inquiry->response.groups;
  groups.resize(request.groupIds.size());
  for (size_t i = 0; i < groups.size(); ++i) {
    groups[i].groupId = request.groupIds[i];
    if (groups[i].groupId.empty()) {
      groups[i].errorCode = code(Code::kInvalidGroupId);
      continue;
    }
    ++inquiry->waiting;
    call->broker().describeGroup(call->principal(), owned(groups[i].groupId),
                                 [inquiry, i](const Result<GroupDescription>& found) {
                                   inquiry->fill(found, inquiry->response.groups[i]);
                                   inquiry->release();
                                 });
  }
  inquiry->release();
}

}  // namespace polylog::kafka
