#include "router/group.h"

#include <algorithm>
#include <utility>

namespace polylog::router {
namespace {

Error unknownMember(const std::string& group, const std::string& member) {
  return {ErrorKind::kUnknownMember, "group '" + group + "' has no member '" + member + "'"};
}
Error rebalancing(const std::string& group) {
  return {ErrorKind::kRebalanceInProgress, "group '" + group + "' is rebalancing"};
}

GroupSynced syncError(Error error) {
  GroupSynced synced;
  synced.error = std::move(error);
  return synced;
}

}  // namespace

const char* describe(Group::State state) {
  switch (state) {
    case Group::State::kEmpty: return "Empty";
    case Group::State::kPreparingRebalance: return "PreparingRebalance";
    case Group::State::kCompletingRebalance: return "CompletingRebalance";
    case Group::State::kStable: return "Stable";
    case Group::State::kDead: return "Dead";
  }
  return "Dead";
}

Group::Group(GroupHost& host, const GroupLimits& limits, std::string name)
    : host_(host), limits_(limits), name_(std::move(name)), changedMs_(host.wallMillis()) {}
Group::~Group() = default;

void Group::restore(GroupState state) {
  generation_ = state.generation;
  protocolType_ = std::move(state.protocolType);
  protocol_ = std::move(state.protocol);
  leader_ = std::move(state.leader);
  changedMs_ = state.changedMs;
  for (GroupMemberState& from : state.members) {
    Member& member = members_[from.memberId];
    member.id = from.memberId;
    member.instanceId = std::move(from.instanceId);
    member.clientId = std::move(from.clientId);
    member.clientHost = std::move(from.clientHost);
    member.sessionTimeoutMs = from.sessionTimeoutMs;
    member.rebalanceTimeoutMs = from.rebalanceTimeoutMs;
    member.protocols = {{protocol_, std::move(from.metadata)}};
    member.assignment = std::move(from.assignment);
    if (member.instanceId) staticMembers_[*member.instanceId] = member.id;
    joinOrder_.push_back(member.id);
  }
  state_ = members_.empty() ? State::kEmpty : State::kStable;
}

void Group::resume() {
  for (auto& [id, member] : members_) keepAlive(member);
}

// ---------------------------------------------------------------- sync, heartbeat, leave, commit

void Group::sync(GroupSync sync, SyncReply reply) {
  auto member = currentMember(sync.memberId, sync.instanceId);
  if (!member) return reply(syncError(member.error()));
  if (sync.generation != generation_) {
    return reply(syncError({ErrorKind::kIllegalGeneration,
                            "group '" + name_ + "' is at another generation"}));
  }
  if ((sync.protocolType && *sync.protocolType != protocolType_) ||
      (sync.protocol && *sync.protocol != protocol_)) {
    return reply(syncError({ErrorKind::kInconsistentProtocol,
                            "group '" + name_ + "' has chosen protocol '" + protocol_ + "'"}));
  }
  switch (state_) {
    case State::kEmpty:
    case State::kDead: return reply(syncError(unknownMember(name_, sync.memberId)));
    case State::kPreparingRebalance: return reply(syncError(rebalancing(name_)));
    case State::kCompletingRebalance:
      pendingSync_.erase((*member)->id);
      // A repeat of a request that was given up: only the last is answered.
      if ((*member)->awaitingSync) (*member)->awaitingSync(syncError(rebalancing(name_)));
      (*member)->awaitingSync = std::move(reply);
      if ((*member)->id == leader_) assigned(std::move(sync.assignments));
      return;
    case State::kStable:
      pendingSync_.erase((*member)->id);
      keepAlive(**member);
      return reply({std::nullopt, protocolType_, protocol_, (*member)->assignment});
  }
}

void Group::assigned(std::vector<std::pair<std::string, std::string>> assignments) {
  std::map<std::string, std::string> byMember;
  for (auto& [id, assignment] : assignments) byMember[std::move(id)] = std::move(assignment);
  for (auto& [id, member] : members_) {
    auto at = byMember.find(id);
    member.assignment = at == byMember.end() ? std::string() : std::move(at->second);
  }
  changedMs_ = host_.wallMillis();
  auto stored = [weak = weak_from_this(), generation = generation_](Result<> result) {
    auto self = weak.lock();
    // Another rebalance may have begun meanwhile: it has told those who waited.
    if (!self || self->state_ != State::kCompletingRebalance || self->generation_ != generation) {
      return;
    }
    if (!result) {
      self->propagateAssignments(result.error());
      return self->maybeRebalance();
    }
    self->state_ = State::kStable;
    self->propagateAssignments(std::nullopt);
  };
  host_.persist(name_, snapshot(), std::move(stored));
}

void Group::propagateAssignments(const std::optional<Error>& error) {
  for (auto& [id, member] : members_) {
    if (error) member.assignment.clear();
    if (!member.awaitingSync) continue;
    SyncReply reply = std::exchange(member.awaitingSync, nullptr);
    keepAlive(member);
    if (error) {
      reply(syncError(*error));
    } else {
      reply({std::nullopt, protocolType_, protocol_, member.assignment});
    }
  }
}

Result<> Group::heartbeat(const GroupHeartbeat& beat) {
  auto member = currentMember(beat.memberId, beat.instanceId);
  if (!member) return std::unexpected(member.error());
  if (beat.generation != generation_) {
    return fail(ErrorKind::kIllegalGeneration, "group '" + name_ + "' is at another generation");
  }
  if (state_ == State::kEmpty || state_ == State::kDead) {
    return std::unexpected(unknownMember(name_, beat.memberId));
  }
  keepAlive(**member);
  if (state_ == State::kPreparingRebalance) return std::unexpected(rebalancing(name_));
  return {};
}

Result<> Group::leave(const std::string& memberId, const std::optional<std::string>& instanceId) {
  if (state_ == State::kDead) return std::unexpected(unknownMember(name_, memberId));
  if (pending_.erase(memberId) > 0) {
    if (state_ == State::kPreparingRebalance) completeJoinIfAll();
    return {};
  }
  std::string id = memberId;
  if (id.empty() && instanceId) {
    auto at = staticMembers_.find(*instanceId);
    if (at == staticMembers_.end()) return std::unexpected(unknownMember(name_, *instanceId));
    id = at->second;
  }
  auto member = currentMember(id, instanceId);
  if (!member) return std::unexpected(member.error());
  removeMember((*member)->id);
  afterRemoval();
  return {};
}

Result<> Group::checkCommit(const GroupCommit& commit) {
  bool outside = commit.generation < 0 && commit.memberId.empty() && !commit.instanceId;
  if (commit.generation < 0 && state_ == State::kEmpty) return {};
  // A producer that commits with its transaction is fenced by that, and may be no member.
  if (outside && commit.transactional) return {};
  if (outside) return std::unexpected(unknownMember(name_, commit.memberId));
  auto member = currentMember(commit.memberId, commit.instanceId);
  if (!member) return std::unexpected(member.error());
  if (commit.generation != generation_) {
    return fail(ErrorKind::kIllegalGeneration, "group '" + name_ + "' is at another generation");
  }
  if (state_ == State::kCompletingRebalance && !commit.transactional) {
    return std::unexpected(rebalancing(name_));
  }
  keepAlive(**member);
  return {};
}

// ---------------------------------------------------------------- rebalancing

void Group::maybeRebalance() {
  if (state_ == State::kStable || state_ == State::kCompletingRebalance ||
      state_ == State::kEmpty) {
    prepareRebalance();
  }
}

void Group::prepareRebalance() {
  if (state_ == State::kCompletingRebalance) propagateAssignments(rebalancing(name_));
  syncTimer_ = nullptr;
  pendingSync_.clear();
  initialJoin_ = state_ == State::kEmpty && limits_.initialRebalanceMillis > 0;
  state_ = State::kPreparingRebalance;
  ++rebalances_;
  joinTimer_ = rebalanceTimer(&Group::onJoinTimer);
  if (initialJoin_) {
    initialLeftMs_ = std::max<int64_t>(rebalanceTimeout() - limits_.initialRebalanceMillis, 0);
    newMemberAdded_ = false;
    joinTimer_->start(limits_.initialRebalanceMillis * 1000);
    return;
  }
  joinTimer_->start(rebalanceTimeout() * 1000);
  completeJoinIfAll();
}

std::unique_ptr<Timer> Group::rebalanceTimer(void (Group::*onFire)()) {
  return host_.makeTimer([weak = weak_from_this(), onFire, rebalance = rebalances_] {
    auto self = weak.lock();
    if (!self) return;
    // Not inside the timer itself, which this may end.
    self->host_.later([weak, onFire, rebalance] {
      auto again = weak.lock();
      if (again && again->rebalances_ == rebalance) (again.get()->*onFire)();
    });
  });
}

bool Group::allJoined() const {
  return pending_.empty() && std::all_of(members_.begin(), members_.end(), [](const auto& entry) {
    return static_cast<bool>(entry.second.awaitingJoin);
  });
}

void Group::completeJoinIfAll() {
  if (state_ == State::kPreparingRebalance && !initialJoin_ && allJoined()) completeJoin();
}

void Group::onJoinTimer() {
  if (state_ != State::kPreparingRebalance) return;
  if (initialJoin_ && newMemberAdded_ && initialLeftMs_ > 0) {
    // Others came meanwhile: more may follow.
    newMemberAdded_ = false;
    int64_t wait = std::min(limits_.initialRebalanceMillis, initialLeftMs_);
    initialLeftMs_ -= wait;
    joinTimer_->start(wait * 1000);
    return;
  }
  completeJoin();
}

void Group::completeJoin() {
  initialJoin_ = false;
  std::vector<std::string> missing;
  for (const auto& [id, member] : members_) {
    // Static members are given until their session ends.
    if (!member.awaitingJoin && !member.instanceId) missing.push_back(id);
  }
  for (const std::string& id : missing) removeMember(id);
  if (!members_.empty() && !electLeaderAmongJoined()) {
    // Only static members that have not come back: wait on.
    joinTimer_->start(rebalanceTimeout() * 1000);
    return;
  }
  joinTimer_ = nullptr;
  if (members_.empty()) return becomeEmpty();
  nextGeneration();
}

bool Group::electLeaderAmongJoined() {
  auto leader = members_.find(leader_);
  if (leader != members_.end() && leader->second.awaitingJoin) return true;
  for (const std::string& id : joinOrder_) {
    auto at = members_.find(id);
    if (at == members_.end() || !at->second.awaitingJoin) continue;
    leader_ = id;
    return true;
  }
  return false;
}

void Group::becomeEmpty() {
  ++generation_;
  state_ = State::kEmpty;
  protocol_.clear();
  leader_.clear();
  changedMs_ = host_.wallMillis();
  host_.persist(name_, snapshot(), nullptr);
}

void Group::nextGeneration() {
  ++generation_;
  protocol_ = choseProtocol();
  state_ = State::kCompletingRebalance;
  pendingSync_.clear();
  syncTimer_ = rebalanceTimer(&Group::onSyncTimer);
  syncTimer_->start(rebalanceTimeout() * 1000);
  for (auto& [id, member] : members_) {
    pendingSync_.insert(id);
    if (!member.awaitingJoin) continue;  // a static one that will be back
    JoinReply reply = std::exchange(member.awaitingJoin, nullptr);
    member.isNew = false;
    keepAlive(member);
    reply(joined(member));
  }
}

void Group::onSyncTimer() {
  if (state_ != State::kCompletingRebalance && state_ != State::kStable) return;
  if (pendingSync_.empty()) return;
  std::set<std::string> silent = std::exchange(pendingSync_, {});
  for (const std::string& id : silent) removeMember(id);
  maybeRebalance();
}

/// The protocol that all support and most prefer.
std::string Group::choseProtocol() const {
  std::vector<std::pair<std::string, size_t>> votes;  // the leader's order decides ties
  const Member& leader = members_.at(leader_);
  for (const GroupProtocol& protocol : leader.protocols) {
    bool all = std::all_of(members_.begin(), members_.end(), [&](const auto& entry) {
      return std::any_of(entry.second.protocols.begin(), entry.second.protocols.end(),
                         [&](const GroupProtocol& p) { return p.name == protocol.name; });
    });
    if (all) votes.emplace_back(protocol.name, 0);
  }
  for (const auto& [id, member] : members_) {
    for (const GroupProtocol& protocol : member.protocols) {
      auto at = std::find_if(votes.begin(), votes.end(),
                             [&](const auto& vote) { return vote.first == protocol.name; });
      if (at == votes.end()) continue;
      ++at->second;
      break;
    }
  }
  auto best = std::max_element(votes.begin(), votes.end(), [](const auto& a, const auto& b) {
    return a.second < b.second;
  });
  return best == votes.end() ? std::string() : best->first;
}

// ---------------------------------------------------------------- members

Result<Group::Member*> Group::currentMember(const std::string& memberId,
                                            const std::optional<std::string>& instanceId) {
  if (state_ == State::kDead) return std::unexpected(unknownMember(name_, memberId));
  if (instanceId) {
    auto at = staticMembers_.find(*instanceId);
    if (at == staticMembers_.end()) return std::unexpected(unknownMember(name_, memberId));
    if (at->second != memberId) {
      return fail(ErrorKind::kFencedInstance,
                  "instance '" + *instanceId + "' of group '" + name_ + "' has been replaced");
    }
  }
  auto at = members_.find(memberId);
  if (at == members_.end()) return std::unexpected(unknownMember(name_, memberId));
  return &at->second;
}

std::unique_ptr<Timer> Group::timerFor(const std::string& memberId, bool isPending) {
  return host_.makeTimer([weak = weak_from_this(), memberId, isPending] {
    auto self = weak.lock();
    if (!self) return;
    auto member = self->members_.find(memberId);
    uint64_t heard = member == self->members_.end() ? 0 : member->second.heard;
    self->host_.later([weak, memberId, isPending, heard] {
      auto again = weak.lock();
      if (!again) return;
      isPending ? again->expirePending(memberId) : again->expire(memberId, heard);
    });
  });
}

void Group::keepAlive(Member& member) { keepAliveFor(member, member.sessionTimeoutMs); }

void Group::keepAliveFor(Member& member, int64_t millis) {
  if (!member.timer) member.timer = timerFor(member.id, false);
  member.heard = ++hearings_;
  member.timer->start(millis * 1000);
}

void Group::expire(const std::string& memberId, uint64_t heard) {
  auto at = members_.find(memberId);
  if (at == members_.end() || at->second.heard != heard) return;
  Member& member = at->second;
  // Who waits for an answer of ours is alive, but for a new member that waits for ever.
  if ((member.awaitingJoin && !member.isNew) || member.awaitingSync) return keepAlive(member);
  removeMember(memberId);
  afterRemoval();
}

void Group::expirePending(std::string memberId) {
  if (pending_.erase(memberId) > 0) completeJoinIfAll();
}

void Group::removeMember(std::string memberId) {
  auto at = members_.find(memberId);
  if (at == members_.end()) return;
  Member member = std::move(at->second);
  members_.erase(at);
  std::erase(joinOrder_, memberId);
  pendingSync_.erase(memberId);
  if (member.instanceId) {
    auto mine = staticMembers_.find(*member.instanceId);
    if (mine != staticMembers_.end() && mine->second == memberId) staticMembers_.erase(mine);
  }
  if (leader_ == memberId) leader_ = joinOrder_.empty() ? std::string() : joinOrder_.front();
  Error error = unknownMember(name_, memberId);
  if (member.awaitingJoin) {
    GroupJoined answer;
    answer.error = error;
    answer.memberId = memberId;
    member.awaitingJoin(std::move(answer));
  }
  if (member.awaitingSync) member.awaitingSync(syncError(error));
}

void Group::afterRemoval() {
  switch (state_) {
    case State::kStable:
    case State::kCompletingRebalance: return maybeRebalance();
    case State::kPreparingRebalance: return completeJoinIfAll();
    case State::kEmpty:
    case State::kDead: return;
  }
}

int64_t Group::rebalanceTimeout() const {
  int64_t longest = 0;
  for (const auto& [id, member] : members_) {
    longest = std::max<int64_t>(longest, member.rebalanceTimeoutMs);
  }
  return longest;
}

void Group::die(const Error& error) {
  state_ = State::kDead;
  joinTimer_ = nullptr;
  syncTimer_ = nullptr;
  pending_.clear();
  auto members = std::exchange(members_, {});
  for (auto& [id, member] : members) {
    if (member.awaitingJoin) {
      GroupJoined answer;
      answer.error = error;
      answer.memberId = id;
      member.awaitingJoin(std::move(answer));
    }
    if (member.awaitingSync) member.awaitingSync(syncError(error));
  }
  joinOrder_.clear();
  staticMembers_.clear();
}

/// The last one out is told once the journal has it: after a crash the next member would wait for the
/// one that left until its session times out.
void Group::whenDurable(std::move_only_function<void(Result<>)> then) {
  if (state_ != State::kEmpty) return then({});
  host_.persist(name_, snapshot(), std::move(then));
}

// ---------------------------------------------------------------- what it looks like

const std::string* Group::metadataOf(const Member& member) const {
  for (const GroupProtocol& protocol : member.protocols) {
    if (protocol.name == protocol_) return &protocol.metadata;
  }
  return nullptr;
}

GroupState Group::snapshot() const {
  GroupState state{generation_, protocolType_, protocol_, leader_, changedMs_, {}};
  for (const std::string& id : joinOrder_) {
    const Member& member = members_.at(id);
    const std::string* metadata = metadataOf(member);
    state.members.push_back({member.id, member.instanceId, member.clientId, member.clientHost,
                             member.sessionTimeoutMs, member.rebalanceTimeoutMs,
                             metadata ? *metadata : std::string(), member.assignment});
  }
  return state;
}

GroupDescription Group::describe() const {
  GroupDescription description;
  description.group = name_;
  description.state = router::describe(state_);
  description.protocolType = protocolType_;
  if (state_ == State::kStable || state_ == State::kCompletingRebalance) {
    description.protocol = protocol_;
  }
  for (const std::string& id : joinOrder_) {
    const Member& member = members_.at(id);
    const std::string* metadata = metadataOf(member);
    bool stable = state_ == State::kStable;
    description.members.push_back({member.id, member.instanceId, member.clientId,
                                   member.clientHost,
                                   stable && metadata ? *metadata : std::string(),
                                   stable ? member.assignment : std::string()});
  }
  return description;
}

}  // namespace polylog::router
