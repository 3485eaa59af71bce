// ConsumerGroup's members: who joins, lives, leaves and is given up; and its journal.
#include "router/consumer_group.h"

#include <algorithm>
#include <utility>

#include "core/base/log.h"

namespace polylog::router {
namespace {

constexpr size_t kMaxSubscribedTopics = 10'000;
/// Different ones of one group: each is held against all topics.
constexpr size_t kMaxPatterns = 100;

std::unexpected<Error> unknownMember(const std::string& group, const std::string& member) {
  return fail(ErrorKind::kUnknownMember, "group '" + group + "' has no member '" + member + "'");
}

bool isSubset(const Assignment& part, const Assignment& whole) {
  return std::ranges::all_of(part, [&](const auto& entry) {
    auto at = whole.find(entry.first);
    return entry.second.empty() ||
           (at != whole.end() && std::ranges::includes(at->second, entry.second));
  });
}

}  // namespace

ConsumerGroup::ConsumerGroup(ConsumerGroupHost& host, const GroupLimits& limits, std::string name)
    : host_(host), limits_(limits), name_(std::move(name)), changedMs_(host.wallMillis()) {}
ConsumerGroup::~ConsumerGroup() = default;

// ---------------------------------------------------------------- a restart

void ConsumerGroup::restore(ConsumerGroupState state) {
  epoch_ = state.epoch;
  assignmentEpoch_ = state.assignmentEpoch;
  changedMs_ = state.changedMs;
  topics_ = std::move(state.topics);
  for (auto& [pattern, topics] : state.patterns) patterns_[pattern].topics = std::move(topics);
}

void ConsumerGroup::restoreMember(ConsumerMemberState state) {
  // A long list of targets may have been cut off between two entries.
  if (state.targetEpoch > assignmentEpoch_) assignAnew_ = true;
  std::set<std::string> topics = std::exchange(state.topics, {});
  Member& member = members_[state.id];
  member.state = std::move(state);
  if (member.state.instanceId) staticMembers_[*member.state.instanceId] = member.state.id;
  subscribe(member, std::move(topics));
  settleOwnership(member);
  claim(member);
}

void ConsumerGroup::resume() {
  for (auto& [id, member] : members_) {
    keepAlive(member);
    if (member.state.phase == ConsumerPhase::kUnrevoked) {
      expectWithin(member, member.state.rebalanceTimeoutMs);
    }
  }
  if (onlyClassic()) host_.onlyClassicLeft(name_);
}

// ---------------------------------------------------------------- heartbeats

void ConsumerGroup::beat(const PrincipalRef& who, ConsumerHeartbeat beat, BeatReply reply) {
  if (beat.epoch < 0) return leaveByBeat(beat, std::move(reply));
  if (Result<> ok = check(beat); !ok) return reply(std::unexpected(ok.error()));
  if (beat.memberId.empty()) beat.memberId = host_.randomName();
  Result<Member*> admitted = admit(beat);
  if (!admitted) return reply(std::unexpected(admitted.error()));
  Member& member = **admitted;
  if (beat.pattern && !beat.pattern->empty()) patterns_[*beat.pattern];  // compiled when it is held
  Assignment before = member.state.assigned;
  bool changed = update(member, beat);
  refresh(who, changed || epoch_ == 0);
  reconcile(member, beat.owned, changed);
  keepAlive(member);

  ConsumerHeartbeatAnswer answer;
  answer.memberId = member.state.id;
  answer.epoch = member.state.epoch;
  answer.heartbeatIntervalMs = host_.timeoutsOf(name_).heartbeatMs;
  bool whole = beat.rebalanceTimeoutMs >= 0 && (beat.topics || beat.pattern) && beat.owned;
  if (beat.epoch == ConsumerHeartbeat::kJoins || whole || member.state.assigned != before) {
    answer.assignment = member.state.assigned;
  }
  flush([answer = std::move(answer), reply = std::move(reply)](const Result<>& stored) mutable {
    if (!stored) return reply(std::unexpected(stored.error()));
    reply(std::move(answer));
  });
}

Result<> ConsumerGroup::check(const ConsumerHeartbeat& beat) const {
  if (dead_) return std::unexpected(*dead_);
  if (beat.assignor && findAssignor(*beat.assignor) == nullptr) {
    return fail(ErrorKind::kUnsupportedAssignor,
                "there is no assignor '" + *beat.assignor + "': use uniform or range");
  }
  if (beat.topics && beat.topics->size() > kMaxSubscribedTopics) {
    return fail(ErrorKind::kTooLarge, "a member may subscribe to 10,000 topics: use a pattern");
  }
  if (beat.pattern && !beat.pattern->empty() && !patterns_.contains(*beat.pattern)) {
    auto compiled = host_.format().compilePattern(*beat.pattern);
    if (!compiled) return std::unexpected(compiled.error());
    if (patterns_.size() >= kMaxPatterns) {
      return fail(ErrorKind::kInvalid, "the members of group '" + name_ +
                                           "' subscribe to 100 different patterns already: use "
                                           "one of those, or topics");
    }
  }
  if (beat.epoch != ConsumerHeartbeat::kJoins) return {};
  if (beat.rebalanceTimeoutMs < 0 || (!beat.topics && !beat.pattern)) {
    return fail(ErrorKind::kInvalid,
                "a member that joins has to tell its rebalance timeout and what it subscribes to");
  }
  if (!beat.owned || !beat.owned->empty()) {
    return fail(ErrorKind::kInvalid, "a member that joins can't own partitions yet");
  }
  return {};
}

Result<ConsumerGroup::Member*> ConsumerGroup::admit(const ConsumerHeartbeat& beat) {
  Member* known = find(beat.memberId);
  if (known == nullptr && full(beat.memberId) &&
      !(beat.instanceId && staticMembers_.contains(*beat.instanceId))) {
    return fail(ErrorKind::kBusy, "group '" + name_ + "' has as many members as are allowed");
  }
  if (beat.instanceId) return admitStatic(beat, known);
  if (beat.epoch == ConsumerHeartbeat::kJoins) {
    return known != nullptr ? known : &addMember(beat.memberId, std::nullopt);
  }
  if (known == nullptr) return unknownMember(name_, beat.memberId);
  if (Result<> ok = checkEpoch(*known, beat); !ok) return std::unexpected(ok.error());
  return known;
}

Result<ConsumerGroup::Member*> ConsumerGroup::admitStatic(const ConsumerHeartbeat& beat,
                                                          Member* known) {
  auto holder = staticMembers_.find(*beat.instanceId);
  if (holder == staticMembers_.end()) {
    if (beat.epoch != ConsumerHeartbeat::kJoins) return unknownMember(name_, beat.memberId);
    // It was dynamic, and has found a name for itself.
    if (known != nullptr) removeMember(beat.memberId);
    return &addMember(beat.memberId, beat.instanceId);
  }
  const std::string holderId = holder->second;
  if (beat.epoch != ConsumerHeartbeat::kJoins) {
    if (holderId != beat.memberId) {
      return fail(ErrorKind::kFencedInstance,
                  "instance '" + *beat.instanceId + "' of group '" + name_ + "' has been replaced");
    }
    if (Result<> ok = checkEpoch(*known, beat); !ok) return std::unexpected(ok.error());
    return known;
  }
  // The same process, which was fenced.
  if (holderId == beat.memberId) return known;
  const ConsumerMemberState& held = members_.at(holderId).state;
  if (!held.classic && held.epoch != ConsumerHeartbeat::kLeavesForAWhile) {
    return fail(ErrorKind::kUnreleasedInstance, "instance '" + *beat.instanceId + "' of group '" +
                                                    name_ + "' is member '" + holderId +
                                                    "', which has not left");
  }
  if (known != nullptr) removeMember(beat.memberId);
  return &replaceMember(holderId, beat.memberId);
}

/// An epoch behind the one known is that of an answer which was lost, if the member has nothing
/// that it mustn't have.
Result<> ConsumerGroup::checkEpoch(const Member& member, const ConsumerHeartbeat& beat) const {
  const ConsumerMemberState& state = member.state;
  if (beat.epoch == state.epoch) return {};
  if (beat.epoch < state.epoch && beat.epoch == state.previousEpoch && beat.owned &&
      isSubset(*beat.owned, state.assigned)) {
    return {};
  }
  return fail(ErrorKind::kFencedEpoch, "member '" + state.id + "' of group '" + name_ +
                                           "' is at epoch " + std::to_string(state.epoch) +
                                           ", not " + std::to_string(beat.epoch) +
                                           ": give up all partitions and join again");
}

/// Whether what it subscribes to has changed.
bool ConsumerGroup::update(Member& member, const ConsumerHeartbeat& beat) {
  ConsumerMemberState& state = member.state;
  bool fresh = state.epoch == 0 && state.previousEpoch < 0;
  bool changed = fresh;
  bool dirty = fresh;
  auto set = [&dirty](auto& field, const auto& value) {
    if (field == value) return false;
    field = value;
    return dirty = true;
  };
  if (beat.rackId) set(state.rackId, beat.rackId);
  if (beat.rebalanceTimeoutMs >= 0) set(state.rebalanceTimeoutMs, beat.rebalanceTimeoutMs);
  set(state.clientId, beat.clientId);
  set(state.clientHost, beat.clientHost);
  if (state.classic) {
    state.classic = std::nullopt;
    dirty = true;
  }
  if (beat.assignor && set(state.assignor, beat.assignor)) changed = true;
  if (beat.topics) {
    std::set<std::string> topics(beat.topics->begin(), beat.topics->end());
    if (topics != state.topics) {
      subscribe(member, std::move(topics));
      dirty = changed = true;
    }
  }
  if (beat.pattern && set(state.pattern, *beat.pattern)) {
    prunePatterns();
    changed = true;
  }
  if (dirty) dirtyMembers_.insert(state.id);
  return changed;
}

// ---------------------------------------------------------------- leaving

Result<ConsumerGroup::Member*> ConsumerGroup::memberToLeave(
    const std::string& memberId, const std::optional<std::string>& instanceId) {
  if (dead_) return std::unexpected(*dead_);
  if (instanceId) {
    auto holder = staticMembers_.find(*instanceId);
    if (holder == staticMembers_.end()) return unknownMember(name_, *instanceId);
    // In the classic protocol an operator removes a static member by its instance id alone.
    if (memberId.empty()) return find(holder->second);
    if (holder->second != memberId) {
      return fail(ErrorKind::kFencedInstance,
                  "instance '" + *instanceId + "' of group '" + name_ + "' has been replaced");
    }
  }
  Member* member = find(memberId);
  if (member == nullptr) return unknownMember(name_, memberId);
  return member;
}

void ConsumerGroup::leaveByBeat(const ConsumerHeartbeat& beat, BeatReply reply) {
  if (beat.epoch < ConsumerHeartbeat::kLeavesForAWhile ||
      (beat.epoch == ConsumerHeartbeat::kLeavesForAWhile && !beat.instanceId)) {
    return reply(fail(ErrorKind::kInvalid, "an epoch of " + std::to_string(beat.epoch)));
  }
  Result<Member*> found = memberToLeave(beat.memberId, beat.instanceId);
  if (!found) return reply(std::unexpected(found.error()));
  Member& member = **found;
  if (beat.epoch == ConsumerHeartbeat::kLeavesForAWhile) {
    // It keeps what it has, until its session times out or another takes its place.
    setCurrent(member, ConsumerPhase::kStable, beat.epoch, member.state.assigned, {});
  } else {
    removeMember(member.state.id);
    membersLeft();
  }
  ConsumerHeartbeatAnswer answer;
  answer.memberId = beat.memberId;
  answer.epoch = beat.epoch;
  flush([answer = std::move(answer), reply = std::move(reply)](const Result<>& stored) mutable {
    if (!stored) return reply(std::unexpected(stored.error()));
    reply(std::move(answer));
  });
}

// ---------------------------------------------------------------- members

ConsumerGroup::Member* ConsumerGroup::find(const std::string& memberId) {
  auto at = members_.find(memberId);
  return at == members_.end() ? nullptr : &at->second;
}
const ConsumerGroup::Member* ConsumerGroup::find(const std::string& memberId) const {
  auto at = members_.find(memberId);
  return at == members_.end() ? nullptr : &at->second;
}

bool ConsumerGroup::full(const std::string& memberId) const {
  return members_.size() >= limits_.maxMembers && !members_.contains(memberId);
}

ConsumerGroup::Member& ConsumerGroup::addMember(const std::string& memberId,
                                                const std::optional<std::string>& instanceId) {
  Member& member = members_[memberId];
  member.state.id = memberId;
  member.state.instanceId = instanceId;
  if (instanceId) staticMembers_[*instanceId] = memberId;
  dirtyMembers_.insert(memberId);
  return member;
}

/// A static member starts anew: it has what the one before it had.
ConsumerGroup::Member& ConsumerGroup::replaceMember(const std::string& oldId,
                                                    const std::string& newId) {
  auto node = members_.extract(oldId);
  release(node.mapped());
  node.key() = newId;
  Member& member = members_.insert(std::move(node)).position->second;
  member.state.id = newId;
  member.state.epoch = 0;
  member.state.previousEpoch = 0;
  member.state.phase = ConsumerPhase::kStable;
  member.state.revoking.clear();
  member.session = nullptr;
  member.rebalance = nullptr;
  claim(member);
  staticMembers_[*member.state.instanceId] = newId;
  dirtyMembers_.insert(oldId);
  dirtyMembers_.insert(newId);
  return member;
}

void ConsumerGroup::removeMember(const std::string& memberId) {
  auto node = members_.extract(memberId);
  if (node.empty()) return;
  Member& member = node.mapped();
  release(member);
  subscribe(member, {});
  if (const auto& instance = member.state.instanceId) {
    auto holder = staticMembers_.find(*instance);
    if (holder != staticMembers_.end() && holder->second == memberId) staticMembers_.erase(holder);
  }
  if (!member.state.pattern.empty()) prunePatterns();
  dirtyMembers_.insert(node.key());
}

/// Those who stay get what there is.
void ConsumerGroup::membersLeft() {
  topics_ = subscribedTopics();
  assign();
  if (onlyClassic()) host_.onlyClassicLeft(name_);
}

void ConsumerGroup::subscribe(Member& member, std::set<std::string> topics) {
  for (const std::string& topic : topics) ++names_[topic];
  for (const std::string& topic : member.state.topics) {
    auto at = names_.find(topic);
    if (at != names_.end() && --at->second == 0) names_.erase(at);
  }
  member.state.topics = std::move(topics);
}

bool ConsumerGroup::onlyClassic() const {
  return !members_.empty() && std::ranges::all_of(members_, [](const auto& entry) {
    return entry.second.state.classic.has_value();
  });
}

// ---------------------------------------------------------------- time

void ConsumerGroup::keepAlive(Member& member) {
  if (!member.session) member.session = timerFor(member.state.id, true);
  member.heard = ++rounds_;
  const auto& classic = member.state.classic;
  int64_t millis = classic ? classic->sessionTimeoutMs : host_.timeoutsOf(name_).sessionMs;
  member.session->start(millis * 1000);
}

/// It has to be heard of in that time with what it is waited for, not only be alive.
void ConsumerGroup::expectWithin(Member& member, int64_t millis) {
  if (!member.rebalance) member.rebalance = timerFor(member.state.id, false);
  member.waiting = ++rounds_;
  member.rebalance->start(std::max<int64_t>(millis, 1) * 1000);
}

std::unique_ptr<Timer> ConsumerGroup::timerFor(const std::string& memberId, bool session) {
  return host_.makeTimer([weak = weak_from_this(), memberId, session] {
    auto self = weak.lock();
    const Member* member = self ? self->find(memberId) : nullptr;
    if (member == nullptr) return;
    // Not inside the timer itself, which this ends.
    uint64_t round = session ? member->heard : member->waiting;
    self->host_.later([weak, memberId, session, round] {
      if (auto again = weak.lock()) again->expire(memberId, session, round);
    });
  });
}

void ConsumerGroup::expire(const std::string& memberId, bool session, uint64_t round) {
  const Member* member = find(memberId);
  if (dead_ || member == nullptr) return;
  if ((session ? member->heard : member->waiting) != round) return;
  if (!session && !member->rebalance) return;
  logInfo("group '" + name_ + "': member '" + memberId +
          (session ? "' has not been heard of for its session timeout"
                   : "' has not given up its partitions within its rebalance timeout"));
  removeMember(memberId);
  membersLeft();
  flush([](const Result<>&) {});
}

void ConsumerGroup::die(const Error& error) {
  dead_ = error;
  members_.clear();
  staticMembers_.clear();
  owners_.clear();
  names_.clear();
}

// ---------------------------------------------------------------- offsets

Result<> ConsumerGroup::checkCommit(const GroupCommit& commit) {
  bool outside = commit.generation < 0 && commit.memberId.empty() && !commit.instanceId;
  if (commit.generation < 0 && members_.empty()) return {};
  // A producer that commits with its transaction is fenced by that, and may be no member.
  if (outside && commit.transactional) return {};
  const Member* member = find(commit.memberId);
  if (member == nullptr) return unknownMember(name_, commit.memberId);
  bool classic = member->state.classic.has_value();
  if (!classic && !commit.transactional && !commit.knowsEpochs) {
    return fail(ErrorKind::kUnsupported,
                "members of group '" + name_ + "' commit with their epochs: use OffsetCommit 9");
  }
  if (commit.generation == member->state.epoch) return {};
  return fail(classic ? ErrorKind::kIllegalGeneration : ErrorKind::kStaleEpoch,
              "member '" + commit.memberId + "' of group '" + name_ + "' is at another epoch");
}

Result<> ConsumerGroup::checkReader(const GroupReader& reader) const {
  const Member* member = find(reader.memberId);
  if (member == nullptr) return unknownMember(name_, reader.memberId);
  if (reader.epoch == member->state.epoch) return {};
  return fail(member->state.classic ? ErrorKind::kIllegalGeneration : ErrorKind::kStaleEpoch,
              "member '" + reader.memberId + "' of group '" + name_ + "' is at another epoch");
}

// ---------------------------------------------------------------- the journal

/// Journals what has changed. `then` when that, and everything before, is durable or has failed.
void ConsumerGroup::flush(std::move_only_function<void(Result<>)> then) {
  if (dirtyMembers_.empty() && !dirtyGroup_) {
    if (flights_.empty()) return then({});
    flights_.back()->waiting.push_back(std::move(then));
    return;
  }
  auto flight = std::make_shared<Flight>();
  flight->members = std::exchange(dirtyMembers_, {});
  flight->group = std::exchange(dirtyGroup_, false);
  flight->waiting.push_back(std::move(then));
  std::vector<storage::StateChange> changes;
  // Those who are there before those who are gone: of a long list that is cut off, a partition may
  // have two owners (settleOwnership), and not none that the other members know of.
  for (bool there : {true, false}) {
    for (const std::string& id : flight->members) {
      const Member* member = find(id);
      if ((member != nullptr) != there) continue;
      auto& change = changes.emplace_back();
      change.table = storage::StateTable::kGroupMember;
      change.key = groupMemberKey(name_, id);
      if (there) change.value = encodeConsumerMember(member->state);
    }
  }
  // Behind its members: whatever of a long list is missing after a crash, this tells.
  if (flight->group) {
    ConsumerGroupState state{epoch_, assignmentEpoch_, changedMs_, topics_, {}};
    for (const auto& [pattern, matched] : patterns_) state.patterns[pattern] = matched.topics;
    changes.push_back({storage::StateTable::kGroup, name_, encodeConsumerGroup(state)});
  }
  flights_.push_back(flight);
  host_.journal(std::move(changes), [self = shared_from_this(), flight](const Result<>& result) {
    self->landed(flight, result);
  });
}

/// What could not be journaled has been told to nobody; it goes with the next change, since what is
/// in memory has moved on.
void ConsumerGroup::landed(const std::shared_ptr<Flight>& flight, const Result<>& result) {
  std::erase(flights_, flight);
  if (!result) {
    dirtyMembers_.merge(flight->members);
    dirtyGroup_ = dirtyGroup_ || flight->group;
    for (const auto& later : flights_) {
      if (later->before) later->before = result;
    }
  }
  const Result<>& all = flight->before ? result : flight->before;
  for (auto& then : flight->waiting) then(all);
}

void ConsumerGroup::whenDurable(std::move_only_function<void(Result<>)> then) {
  flush(std::move(then));
}

void ConsumerGroup::addDeletion(std::vector<storage::StateChange>& state) const {
  auto add = [&](const std::string& id) {
    state.push_back({storage::StateTable::kGroupMember, groupMemberKey(name_, id), std::nullopt});
  };
  for (const auto& [id, member] : members_) add(id);
  // Gone, and perhaps not from the journal.
  std::set<std::string> gone = dirtyMembers_;
  for (const auto& flight : flights_) gone.insert(flight->members.begin(), flight->members.end());
  for (const std::string& id : gone) {
    if (!members_.contains(id)) add(id);
  }
}

}  // namespace polylog::router
