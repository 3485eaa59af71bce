// ConsumerGroup's members of the classic protocol: they join to be reconciled, sync to be told what
// they have, and are told by their heartbeats to join again. Nobody is the leader.

#include <algorithm>
#include <utility>

#include "router/consumer_group.h"

namespace polylog::router {
namespace {

constexpr const char* kConsumers = "consumer";

GroupJoined joinError(Error error, std::string memberId) {
  GroupJoined answer;
  answer.error = std::move(error);
  answer.memberId = std::move(memberId);
  return answer;
}
GroupSynced syncError(Error error) {
  GroupSynced answer;
  answer.error = std::move(error);
  return answer;
}

bool offers(const std::vector<GroupProtocol>& protocols, const std::string& name) {
  return std::ranges::any_of(protocols, [&](const GroupProtocol& p) { return p.name == name; });
}

}  // namespace

// ---------------------------------------------------------------- joining

void ConsumerGroup::join(GroupJoin join, JoinReply reply) {
  if (Result<> ok = checkJoin(join); !ok) return reply(joinError(ok.error(), join.memberId));
  if (join.memberId.empty() && join.requireKnownMemberId) {
    return reply(joinError({ErrorKind::kMemberIdRequired, "join again with the member id given"},
                           join.clientId.substr(0, kMaxIdClientBytes) + "-" + host_.randomName()));
  }
  auto subscription = host_.format().parseSubscription(join.protocols.front().metadata);
  if (!subscription) {
    return reply(
        joinError({ErrorKind::kInconsistentProtocol, subscription.error().text}, join.memberId));
  }
  Result<Member*> admitted = admitJoin(join);
  if (!admitted) return reply(joinError(admitted.error(), join.memberId));
  Member& member = **admitted;
  bool changed = updateFromJoin(member, join, *subscription);
  refresh(nullptr, changed);
  reconcile(member, byId(subscription->owned), changed);
  keepAlive(member);
  // With its sync, and with what it has to give up: joining again and again doesn't prolong that.
  if (!member.rebalance || member.state.phase != ConsumerPhase::kUnrevoked) {
    expectWithin(member, member.state.rebalanceTimeoutMs);
  }

  GroupJoined answer;
  answer.generation = member.state.epoch;
  answer.protocolType = kConsumers;
  answer.protocol = member.state.classic->protocols.front().name;
  answer.memberId = member.state.id;
  flush([answer = std::move(answer), reply = std::move(reply)](const Result<>& stored) mutable {
    if (!stored) answer.error = stored.error();
    reply(std::move(answer));
  });
}

Result<> ConsumerGroup::checkJoin(const GroupJoin& join) const {
  if (dead_) return std::unexpected(*dead_);
  if (join.sessionTimeoutMs < limits_.minSessionTimeoutMillis ||
      join.sessionTimeoutMs > limits_.maxSessionTimeoutMillis) {
    return fail(ErrorKind::kInvalid,
                "a session timeout of " + std::to_string(join.sessionTimeoutMs) + " ms");
  }
  if (join.protocolType != kConsumers || join.protocols.empty() || !commonProtocol(join)) {
    return fail(ErrorKind::kInconsistentProtocol,
                "the members of group '" + name_ + "' have no protocol in common with this one");
  }
  bool replaces = join.instanceId && staticMembers_.contains(*join.instanceId);
  if (full(join.memberId) && !replaces) {
    return fail(ErrorKind::kBusy, "group '" + name_ + "' has as many members as are allowed");
  }
  return {};
}

/// A protocol of the joining member's that the others of the classic protocol have as well.
std::optional<std::string> ConsumerGroup::commonProtocol(const GroupJoin& join) const {
  for (const GroupProtocol& protocol : join.protocols) {
    bool all = std::ranges::all_of(members_, [&](const auto& entry) {
      const auto& classic = entry.second.state.classic;
      return !classic || entry.first == join.memberId || offers(classic->protocols, protocol.name);
    });
    if (all) return protocol.name;
  }
  return std::nullopt;
}

Result<ConsumerGroup::Member*> ConsumerGroup::admitJoin(const GroupJoin& join) {
  Member* known = find(join.memberId);
  std::string id = join.memberId;
  if (!join.instanceId) {
    if (known != nullptr) return known;
    if (id.empty()) id = join.clientId.substr(0, kMaxIdClientBytes) + "-" + host_.randomName();
    return &addMember(id, std::nullopt);
  }
  auto holder = staticMembers_.find(*join.instanceId);
  if (!id.empty()) {
    if (holder == staticMembers_.end() || known == nullptr) {
      return fail(ErrorKind::kUnknownMember, "group '" + name_ + "' has no member '" + id + "'");
    }
    if (holder->second == id) return known;
    return fail(ErrorKind::kFencedInstance,
                "instance '" + *join.instanceId + "' of group '" + name_ + "' has been replaced");
  }
  id = *join.instanceId + "-" + host_.randomName();
  if (holder == staticMembers_.end()) return &addMember(id, join.instanceId);
  const std::string holderId = holder->second;
  return &replaceMember(holderId, id);
}

/// Whether what it subscribes to has changed.
bool ConsumerGroup::updateFromJoin(Member& member, const GroupJoin& join,
                                   const ConsumerFormat::Subscription& subscription) {
  ConsumerMemberState& state = member.state;
  bool changed = state.epoch == 0 && state.previousEpoch < 0;
  state.rackId = subscription.rackId;
  state.clientId = join.clientId;
  state.clientHost = join.clientHost;
  state.rebalanceTimeoutMs = std::max(join.rebalanceTimeoutMs, 1);
  state.assignor = std::nullopt;
  state.classic = ClassicMemberState{join.sessionTimeoutMs, join.protocols};
  if (!state.pattern.empty()) {
    state.pattern.clear();
    prunePatterns();
    changed = true;
  }
  std::set<std::string> topics(subscription.topics.begin(), subscription.topics.end());
  if (topics != state.topics) {
    subscribe(member, std::move(topics));
    changed = true;
  }
  dirtyMembers_.insert(state.id);
  return changed;
}

// ---------------------------------------------------------------- syncs and heartbeats

Result<ConsumerGroup::Member*> ConsumerGroup::classicMember(
    const std::string& memberId, const std::optional<std::string>& instanceId, int32_t generation) {
  Result<Member*> found = memberToLeave(memberId, memberId.empty() ? std::nullopt : instanceId);
  if (!found) return found;
  if (!(*found)->state.classic) {
    return fail(ErrorKind::kUnknownMember,
                "member '" + memberId + "' of group '" + name_ + "' speaks the consumer protocol");
  }
  if ((*found)->state.epoch != generation) {
    return fail(ErrorKind::kIllegalGeneration, "group '" + name_ + "' is at another generation");
  }
  return found;
}

void ConsumerGroup::sync(GroupSync sync, SyncReply reply) {
  Result<Member*> found = classicMember(sync.memberId, sync.instanceId, sync.generation);
  if (!found) return reply(syncError(found.error()));
  Member& member = **found;
  const std::string& protocol = member.state.classic->protocols.front().name;
  if ((sync.protocolType && *sync.protocolType != kConsumers) ||
      (sync.protocol && *sync.protocol != protocol)) {
    return reply(syncError({ErrorKind::kInconsistentProtocol,
                            "group '" + name_ + "' has chosen protocol '" + protocol + "'"}));
  }
  bool revokes = member.state.phase == ConsumerPhase::kUnrevoked;
  if (epoch_ > member.state.epoch && !revokes) {
    if (!member.rebalance) expectWithin(member, member.state.rebalanceTimeoutMs);
    return reply(
        syncError({ErrorKind::kRebalanceInProgress, "group '" + name_ + "' is rebalancing"}));
  }
  if (!revokes) member.rebalance = nullptr;
  keepAlive(member);
  GroupSynced answer{std::nullopt, kConsumers, protocol, written(member)};
  flush([answer = std::move(answer), reply = std::move(reply)](const Result<>& stored) mutable {
    if (!stored) answer = syncError(stored.error());
    reply(std::move(answer));
  });
}

Result<> ConsumerGroup::heartbeat(const GroupHeartbeat& beat) {
  Result<Member*> found = classicMember(beat.memberId, beat.instanceId, beat.generation);
  if (!found) return std::unexpected(found.error());
  Member& member = **found;
  keepAlive(member);
  if (!mustJoinAgain(member)) return {};
  if (!member.rebalance) expectWithin(member, member.state.rebalanceTimeoutMs);
  return fail(ErrorKind::kRebalanceInProgress, "group '" + name_ + "' is rebalancing");
}

bool ConsumerGroup::mustJoinAgain(const Member& member) const {
  const ConsumerMemberState& state = member.state;
  if (state.epoch < epoch_ || state.phase == ConsumerPhase::kUnrevoked) return true;
  if (state.phase == ConsumerPhase::kStable) return false;
  // Once, when all that it waits for has been given up.
  return std::ranges::all_of(state.target, [&](const auto& entry) {
    return std::ranges::all_of(entry.second, [&](int32_t partition) {
      auto owner = owners_.find({entry.first, partition});
      return owner == owners_.end() || owner->second == state.id;
    });
  });
}

Result<> ConsumerGroup::leave(const std::string& memberId,
                              const std::optional<std::string>& instanceId) {
  Result<Member*> found = memberToLeave(memberId, instanceId);
  if (!found) return std::unexpected(found.error());
  removeMember((*found)->state.id);
  membersLeft();
  return {};
}

// ---------------------------------------------------------------- from one kind to the other

Result<> ConsumerGroup::adopt(int32_t generation, const std::vector<ClassicMember>& members) {
  epoch_ = assignmentEpoch_ = generation;
  dirtyGroup_ = true;
  const ConsumerFormat& format = host_.format();
  for (const ClassicMember& from : members) {
    auto subscription = format.parseSubscription(
        from.protocols.empty() ? BytesView() : BytesView(from.protocols.front().metadata));
    auto assignment = from.state.assignment.empty() ? Result<ConsumerFormat::Partitions>()
                                                    : format.parseAssignment(from.state.assignment);
    if (!subscription || !assignment) {
      return fail(ErrorKind::kInconsistentProtocol, "what member '" + from.state.memberId +
                                                        "' of group '" + name_ +
                                                        "' subscribes to can't be read");
    }
    Member& member = addMember(from.state.memberId, from.state.instanceId);
    ConsumerMemberState& state = member.state;
    state.rackId = subscription->rackId;
    state.clientId = from.state.clientId;
    state.clientHost = from.state.clientHost;
    state.rebalanceTimeoutMs = from.state.rebalanceTimeoutMs;
    state.epoch = state.previousEpoch = state.targetEpoch = generation;
    state.classic = ClassicMemberState{from.state.sessionTimeoutMs, from.protocols};
    subscribe(member, {subscription->topics.begin(), subscription->topics.end()});
    // Their leader may have assigned something twice.
    Assignment told = byId(*assignment);
    for (const auto& [topic, partitions] : told) {
      for (int32_t partition : partitions) {
        if (!owners_.contains({topic, partition})) state.assigned[topic].insert(partition);
      }
    }
    state.target = state.assigned;
    claim(member);
  }
  topics_ = subscribedTopics();
  return {};
}

std::vector<ClassicMember> ConsumerGroup::classicMembers() const {
  std::vector<ClassicMember> all;
  for (const auto& [id, member] : members_) {
    const ConsumerMemberState& state = member.state;
    if (!state.classic) continue;
    ClassicMember& out = all.emplace_back();
    out.state = {id,
                 state.instanceId,
                 state.clientId,
                 state.clientHost,
                 state.classic->sessionTimeoutMs,
                 state.rebalanceTimeoutMs,
                 state.classic->protocols.front().metadata,
                 written(member)};
    out.protocols = state.classic->protocols;
  }
  return all;
}

Assignment ConsumerGroup::byId(const ConsumerFormat::Partitions& partitions) const {
  Assignment assignment;
  for (const auto& [name, numbers] : partitions) {
    TopicRef topic = host_.findTopic(name);
    if (!topic) continue;
    for (int32_t number : numbers) {
      bool there = number >= 0 && static_cast<size_t>(number) < topic->partitions.size();
      if (there) assignment[topic->id].insert(number);
    }
  }
  return assignment;
}

/// What a member has, as it reads it.
std::string ConsumerGroup::written(const Member& member) const {
  ConsumerFormat::Partitions partitions;
  for (NamedPartitions& one : named(member.state.assigned, host_)) {
    partitions.emplace_back(std::move(one.topic), std::move(one.partitions));
  }
  const ConsumerFormat& format = host_.format();
  auto subscription = format.parseSubscription(member.state.classic->protocols.front().metadata);
  return format.writeAssignment(partitions, subscription ? subscription->version : int16_t{0});
}

}  // namespace polylog::router
