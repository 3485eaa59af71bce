// What ConsumerGroupDescribe and ShareGroupDescribe have alike: groups whose members are told what
// to read. `Fill` puts a member of `GroupMemberDescription` into the answer's.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "codecs/kafka/handlers/common.h"
#include "mapping/kafka.h"

namespace polylog::kafka {

struct DescribedKind {
  GroupKind kind;
  const char* name;   ///< as in "Group g is not a consumer group."
  bool tellsTargets;  ///< what members are to have, beside what they have
};

template <class Response>
struct GroupInquiry : Pending<Response> {
  using Pending<Response>::Pending;
  using Group = std::remove_reference_t<decltype(Response().groups.front())>;
  using Member = std::remove_reference_t<decltype(Group().members.front())>;

  /// Topics that Kafka can't name are left out.
  void fill(const std::vector<NamedPartitions>& from, auto& to) {
    for (const NamedPartitions& one : from) {
      std::string name;
      if (!mapping::appendKafkaTopic(one.topic, name)) continue;
      to.topicPartitions.push_back({one.id, this->texts.keep(std::move(name)), one.partitions});
    }
  }
  /// What members of both kinds are told by.
  void fillMember(const GroupMemberDescription& from, Member& to) {
    const ConsumerDescription& consumer = *from.consumer;
    to.memberId = this->texts.keep(from.memberId);
    if (consumer.rackId) to.rackId = this->texts.keep(*consumer.rackId);
    to.memberEpoch = consumer.epoch;
    to.clientId = this->texts.keep(from.clientId);
    to.clientHost = this->texts.keep(from.clientHost);
    for (const std::string& topic : consumer.topics) {
      std::string name;
      if (!mapping::appendKafkaTopic(topic, name)) continue;
      to.subscribedTopicNames.push_back(this->texts.keep(std::move(name)));
    }
    fill(consumer.assigned, to.assignment);
  }

  /// Whether the client may see all the topics that would be told.
  bool sees(const GroupDescription& group, bool targets) const {
    auto seen = [&](const std::string& topic) {
      return this->call->broker().mayDescribeTopic(this->call->principal(), topic);
    };
    return std::ranges::all_of(group.members, [&](const GroupMemberDescription& member) {
      const ConsumerDescription& consumer = *member.consumer;
      return std::ranges::all_of(consumer.topics, seen) &&
             std::ranges::all_of(consumer.assigned, seen, &NamedPartitions::topic) &&
             (!targets || std::ranges::all_of(consumer.target, seen, &NamedPartitions::topic));
    });
  }

  /// All but the members; false: refused.
  bool fillGroup(const Result<GroupDescription>& found, const DescribedKind& kind, Group& out) {
    auto refuse = [&](int16_t errorCode, std::string why) {
      out.errorCode = errorCode;
      out.errorMessage = this->texts.keep(std::move(why));
      return false;
    };
    if (!found) return refuse(code(found.error(), Area::kGroup), found.error().text);
    if (found->kind != kind.kind) {
      return refuse(code(Code::kGroupIdNotFound),
                    "Group " + found->group + " is not a " + kind.name + ".");
    }
    if (!sees(*found, kind.tellsTargets)) {
      return refuse(code(Code::kTopicAuthorizationFailed),
                    "The group has topics that the client may not see.");
    }
    out.groupState = this->texts.keep(found->state);
    out.groupEpoch = found->epoch;
    out.assignmentEpoch = found->assignmentEpoch;
    out.assignorName = this->texts.keep(found->assignor);
    if (operations) {
      out.authorizedOperations =
          authorizedOperations(*this->call, ResourceKind::kGroup, found->group);
    }
    return true;
  }

  bool operations = false;
};

/// Answers when every group has been heard of. `fill(inquiry, from, to)` for each member.
template <class Response, class Request, class Fill>
void describeGroups(const CallRef& call, const Request& request, DescribedKind kind, Fill fill) {
  auto inquiry = std::make_shared<GroupInquiry<Response>>(call);
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
                                 [inquiry, i, kind, fill](const Result<GroupDescription>& found) {
                                   auto& out = inquiry->response.groups[i];
                                   if (inquiry->fillGroup(found, kind, out)) {
                                     for (const GroupMemberDescription& member : found->members) {
                                       fill(*inquiry, member, out.members.emplace_back());
                                     }
                                   }
                                   inquiry->release();
                                 });
  }
  inquiry->release();
}

}  // namespace polylog::kafka
