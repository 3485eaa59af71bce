// Group's joining: new members, members that come back, static members that are replaced, members
// from and for a group of the other kind.

#include <algorithm>
#include <utility>

#include "router/group.h"

namespace polylog::router {
namespace {

/// How long a new member may wait in a join before it is taken for gone (as in Kafka).
constexpr int64_t kNewMemberJoinMillis = 300'000;

GroupJoined joinError(Error error, std::string memberId) {
  GroupJoined answer;
  answer.error = std::move(error);
  answer.memberId = std::move(memberId);
  return answer;
}

}  // namespace

void Group::join(GroupJoin join, JoinReply reply) {
  if (Result<> ok = checkJoin(join); !ok) {
    return reply(joinError(ok.error(), join.memberId));
  }
  join.rebalanceTimeoutMs = std::max(join.rebalanceTimeoutMs, 1);
  if (join.memberId.empty()) return joinUnknown(std::move(join), std::move(reply));
  joinKnown(std::move(join), std::move(reply));
}

Result<> Group::checkJoin(const GroupJoin& join) const {
  if (state_ == State::kDead) {
    return fail(ErrorKind::kUnknownMember, "group '" + name_ + "' has been deleted");
  }
  if (join.sessionTimeoutMs < limits_.minSessionTimeoutMillis ||
      join.sessionTimeoutMs > limits_.maxSessionTimeoutMillis) {
    return fail(ErrorKind::kInvalid, "a session timeout of " +
                                         std::to_string(join.sessionTimeoutMs) + " ms");
  }
  if (!supports(join)) {
    return fail(ErrorKind::kInconsistentProtocol,
                "the members of group '" + name_ + "' have no protocol in common with this one");
  }
  bool isNew = !members_.contains(join.memberId) && !pending_.contains(join.memberId);
  if (isNew && members_.size() + pending_.size() >= limits_.maxMembers) {
    return fail(ErrorKind::kBusy, "group '" + name_ + "' has as many members as are allowed");
  }
  return {};
}

bool Group::supports(const GroupJoin& join) const {
  if (join.protocols.empty() || join.protocolType.empty()) return false;
  if (members_.empty()) return true;
  if (join.protocolType != protocolType_) return false;
  return std::any_of(join.protocols.begin(), join.protocols.end(), [&](const GroupProtocol& mine) {
    return std::all_of(members_.begin(), members_.end(), [&](const auto& entry) {
      const auto& theirs = entry.second.protocols;
      return std::any_of(theirs.begin(), theirs.end(),
                         [&](const GroupProtocol& p) { return p.name == mine.name; });
    });
  });
}

void Group::joinUnknown(GroupJoin join, JoinReply reply) {
  if (join.instanceId) {
    auto at = staticMembers_.find(*join.instanceId);
    if (at != staticMembers_.end()) {
      std::string old = at->second;
      return replaceStatic(old, std::move(join), std::move(reply));
    }
    std::string id = *join.instanceId + "-" + host_.randomName();
    return addMember(std::move(id), std::move(join), std::move(reply));
  }
  std::string id = join.clientId.substr(0, kMaxIdClientBytes) + "-" + host_.randomName();
  if (!join.requireKnownMemberId) return addMember(std::move(id), std::move(join), std::move(reply));
  auto& timer = pending_[id] = timerFor(id, true);
  timer->start(int64_t{join.sessionTimeoutMs} * 1000);
  reply(joinError({ErrorKind::kMemberIdRequired, "join again with the member id given"}, id));
}

void Group::joinKnown(GroupJoin join, JoinReply reply) {
  std::string id = join.memberId;
  if (!join.instanceId && pending_.contains(id)) {
    return addMember(std::move(id), std::move(join), std::move(reply));
  }
  auto current = currentMember(id, join.instanceId);
  if (!current) return reply(joinError(current.error(), id));
  Member& member = **current;
  switch (state_) {
    case State::kPreparingRebalance:
      updateMember(member, std::move(join), std::move(reply));
      return completeJoinIfAll();
    case State::kCompletingRebalance:
      // The same again: its answer was lost on the way.
      if (sameProtocols(member, join)) return reply(joined(member));
      updateMember(member, std::move(join), std::move(reply));
      return maybeRebalance();
    case State::kStable:
      // A leader that joins again has seen something change.
      if (id != leader_ && sameProtocols(member, join)) return reply(joined(member));
      updateMember(member, std::move(join), std::move(reply));
      return maybeRebalance();
    case State::kEmpty:
    case State::kDead:
      return reply(joinError({ErrorKind::kUnknownMember, "the group has no such member"}, id));
  }
}

void Group::addMember(std::string memberId, GroupJoin join, JoinReply reply) {
  pending_.erase(memberId);
  if (members_.empty()) protocolType_ = join.protocolType;
  Member& member = members_[memberId];
  member.id = memberId;
  member.instanceId = std::move(join.instanceId);
  member.clientId = std::move(join.clientId);
  member.clientHost = std::move(join.clientHost);
  member.sessionTimeoutMs = join.sessionTimeoutMs;
  member.rebalanceTimeoutMs = join.rebalanceTimeoutMs;
  member.protocols = std::move(join.protocols);
  member.isNew = true;
  member.awaitingJoin = std::move(reply);
  if (member.instanceId) staticMembers_[*member.instanceId] = memberId;
  joinOrder_.push_back(memberId);
  if (leader_.empty()) leader_ = memberId;
  keepAliveFor(member, kNewMemberJoinMillis);
  if (state_ == State::kPreparingRebalance) {
    newMemberAdded_ = true;
    return completeJoinIfAll();
  }
  maybeRebalance();
}

void Group::updateMember(Member& member, GroupJoin join, JoinReply reply) {
  member.protocols = std::move(join.protocols);
  member.clientId = std::move(join.clientId);
  member.clientHost = std::move(join.clientHost);
  member.sessionTimeoutMs = join.sessionTimeoutMs;
  member.rebalanceTimeoutMs = join.rebalanceTimeoutMs;
  if (member.awaitingJoin) {
    // The client has given that request up.
    member.awaitingJoin(joinError({ErrorKind::kRebalanceInProgress, "joined again meanwhile"},
                                  member.id));
  }
  member.awaitingJoin = std::move(reply);
}

/// A static member starts anew: a fresh member id takes over the place of the old one.
void Group::replaceStatic(const std::string& oldId, GroupJoin join, JoinReply reply) {
  std::string id = *join.instanceId + "-" + host_.randomName();
  auto node = members_.extract(oldId);
  Member old = std::move(node.mapped());
  Error fenced{ErrorKind::kFencedInstance,
               "instance '" + *join.instanceId + "' of group '" + name_ + "' has been replaced"};
  if (old.awaitingJoin) std::exchange(old.awaitingJoin, nullptr)(joinError(fenced, oldId));
  if (old.awaitingSync) {
    GroupSynced answer;
    answer.error = fenced;
    std::exchange(old.awaitingSync, nullptr)(std::move(answer));
  }
  bool sameAsBefore = sameProtocols(old, join);
  std::string leaderBefore = leader_;
  if (leader_ == oldId) leader_ = id;
  std::replace(joinOrder_.begin(), joinOrder_.end(), oldId, id);
  if (pendingSync_.erase(oldId) > 0) pendingSync_.insert(id);
  staticMembers_[*join.instanceId] = id;
  old.id = id;
  old.timer = nullptr;
  Member& member = members_[id] = std::move(old);
  updateMember(member, std::move(join), std::move(reply));
  keepAlive(member);
  switch (state_) {
    case State::kStable:
      // Nothing else has changed: it goes on with its old assignment, without a rebalance.
      if (sameAsBefore) {
        host_.persist(name_, snapshot(), nullptr);
        GroupJoined answer = joined(member);
        // It shall not think that it has to assign anything.
        answer.leader = leaderBefore;
        answer.members.clear();
        return std::exchange(member.awaitingJoin, nullptr)(std::move(answer));
      }
      return maybeRebalance();
    case State::kCompletingRebalance: return prepareRebalance();
    case State::kPreparingRebalance: return completeJoinIfAll();
    case State::kEmpty:
    case State::kDead: return;
  }
}

bool Group::sameProtocols(const Member& member, const GroupJoin& join) {
  return std::equal(member.protocols.begin(), member.protocols.end(), join.protocols.begin(),
                    join.protocols.end(), [](const GroupProtocol& a, const GroupProtocol& b) {
                      return a.name == b.name && a.metadata == b.metadata;
                    });
}

GroupJoined Group::joined(const Member& member) const {
  GroupJoined answer;
  answer.generation = generation_;
  answer.protocolType = protocolType_;
  answer.protocol = protocol_;
  answer.leader = leader_;
  answer.memberId = member.id;
  if (member.id != leader_) return answer;
  for (const std::string& id : joinOrder_) {
    const Member& one = members_.at(id);
    const std::string* metadata = metadataOf(one);
    answer.members.push_back({one.id, one.instanceId, metadata ? *metadata : std::string()});
  }
  return answer;
}

// ---------------------------------------------------------------- from one kind to the other

void Group::adopt(int32_t generation, std::vector<ClassicMember> members) {
  GroupState state;
  state.generation = generation;
  state.protocolType = "consumer";
  state.changedMs = host_.wallMillis();
  if (!members.empty() && !members.front().protocols.empty()) {
    state.protocol = members.front().protocols.front().name;
    state.leader = members.front().state.memberId;
  }
  for (const ClassicMember& member : members) state.members.push_back(member.state);
  restore(std::move(state));
  for (ClassicMember& member : members) {
    members_.at(member.state.memberId).protocols = std::move(member.protocols);
  }
}

std::vector<ClassicMember> Group::members() const {
  std::vector<ClassicMember> all;
  GroupState state = snapshot();
  for (GroupMemberState& member : state.members) {
    std::vector<GroupProtocol> protocols = members_.at(member.memberId).protocols;
    all.push_back({std::move(member), std::move(protocols)});
  }
  return all;
}

}  // namespace polylog::router
