// ShareGroup's members, what they are to read, and its journal.
#include "router/share_group.h"

#include <algorithm>
#include <utility>

#include "core/base/log.h"

namespace polylog::router {
namespace {

constexpr size_t kMaxSubscribedTopics = 10'000;

std::unexpected<Error> unknownMember(const std::string& group, const std::string& member) {
  return fail(ErrorKind::kUnknownMember, "group '" + group + "' has no member '" + member + "'");
}

}  // namespace

ShareGroup::ShareGroup(ShareGroupHost& host, const GroupLimits& limits, std::string name)
    : host_(host), limits_(limits), name_(std::move(name)), changedMs_(host.wallMillis()) {}

ShareGroup::~ShareGroup() = default;

// ---------------------------------------------------------------- a restart

void ShareGroup::restore(ConsumerGroupState state) {
  epoch_ = state.epoch;
  changedMs_ = state.changedMs;
  topics_ = std::move(state.topics);
}

void ShareGroup::restoreMember(ConsumerMemberState state) {
  // A long list of assignments may have been cut off between two entries.
  if (state.targetEpoch > epoch_) assignAnew_ = true;
  Member& member = members_[state.id];
  member.state = std::move(state);
}

void ShareGroup::restorePartition(const SharePlace& place, SharePartition partition) {
  partitions_.insert_or_assign(place, std::move(partition));
}

void ShareGroup::resume() {
  for (auto& [id, member] : members_) keepAlive(member);
  dropTopics();
}

// ---------------------------------------------------------------- heartbeats

Result<> ShareGroup::check(const ShareHeartbeat& beat) const {
  if (dead_) return std::unexpected(*dead_);
  if (beat.epoch < ShareHeartbeat::kLeaves) {
    return fail(ErrorKind::kInvalid, "an epoch of " + std::to_string(beat.epoch));
  }
  if (beat.topics && beat.topics->size() > kMaxSubscribedTopics) {
    return fail(ErrorKind::kTooLarge, "a member may subscribe to 10,000 topics");
  }
  if (beat.epoch == ShareHeartbeat::kJoins && (!beat.topics || beat.topics->empty())) {
    return fail(ErrorKind::kInvalid, "a member that joins has to tell what it subscribes to");
  }
  return {};
}

void ShareGroup::beat(ShareHeartbeat beat, BeatReply reply) {
  if (Result<> ok = check(beat); !ok) return reply(std::unexpected(ok.error()));
  if (beat.epoch == ShareHeartbeat::kLeaves) return leaveByBeat(beat, std::move(reply));
  Result<Member*> admitted = admit(beat);
  if (!admitted) return reply(std::unexpected(admitted.error()));
  Member& member = **admitted;
  ConsumerMemberState& state = member.state;
  ConsumerMemberState before = state;
  if (beat.rackId) state.rackId = beat.rackId;
  state.clientId = beat.clientId;
  state.clientHost = beat.clientHost;
  if (beat.topics) state.topics = {beat.topics->begin(), beat.topics->end()};
  refresh(state.topics != before.topics || epoch_ == 0);
  if (state.epoch != epoch_) {
    state.previousEpoch = state.epoch;
    state.epoch = epoch_;
  }
  state.assigned = state.target;
  bool moved = state.epoch != before.epoch || state.assigned != before.assigned;
  if (moved || state.rackId != before.rackId || state.clientId != before.clientId ||
      state.clientHost != before.clientHost || state.topics != before.topics) {
    dirtyMembers_.insert(state.id);
  }
  keepAlive(member);

  ConsumerHeartbeatAnswer answer;
  answer.memberId = state.id;
  answer.epoch = state.epoch;
  answer.heartbeatIntervalMs = host_.shareTermsOf(name_).heartbeatMs;
  // Who is behind by an epoch may not have heard the last answer.
  bool behind = beat.epoch != before.epoch;
  if (beat.topics || behind || state.assigned != before.assigned)
    answer.assignment = state.assigned;
  flush([answer = std::move(answer), reply = std::move(reply)](const Result<>& stored) mutable {
    if (!stored) return reply(std::unexpected(stored.error()));
    reply(std::move(answer));
  });
}

Result<ShareGroup::Member*> ShareGroup::admit(const ShareHeartbeat& beat) {
  auto known = members_.find(beat.memberId);
  if (known == members_.end()) {
    if (beat.epoch != ShareHeartbeat::kJoins) return unknownMember(name_, beat.memberId);
    if (members_.size() >= limits_.maxMembers) {
      return fail(ErrorKind::kBusy, "group '" + name_ + "' has as many members as are allowed");
    }
    Member& fresh = members_[beat.memberId];
    fresh.state.id = beat.memberId;
    return &fresh;
  }
  const ConsumerMemberState& state = known->second.state;
  bool current = beat.epoch == ShareHeartbeat::kJoins || beat.epoch == state.epoch ||
                 beat.epoch == state.previousEpoch;
  if (current) return &known->second;
  return fail(ErrorKind::kFencedEpoch,
              "member '" + beat.memberId + "' of group '" + name_ + "' is at another epoch");
}

void ShareGroup::leaveByBeat(const ShareHeartbeat& beat, BeatReply reply) {
  if (!members_.contains(beat.memberId)) return reply(unknownMember(name_, beat.memberId));
  removeMember(beat.memberId);
  ConsumerHeartbeatAnswer answer;
  answer.memberId = beat.memberId;
  answer.epoch = beat.epoch;
  flush([answer = std::move(answer), reply = std::move(reply)](const Result<>& stored) mutable {
    if (!stored) return reply(std::unexpected(stored.error()));
    reply(std::move(answer));
  });
}

// ---------------------------------------------------------------- who reads what

/// Looks whether the topics are still what the assignments are made of, and makes new ones if not.
void ShareGroup::refresh(bool bump) {
  uint64_t version = host_.topicsVersion();
  bump = bump || std::exchange(assignAnew_, false);
  if (!bump && version == topicsVersion_) return;
  AssignorTopics now;
  for (const auto& [id, member] : members_) {
    for (const std::string& name : member.state.topics) {
      TopicRef topic = host_.findTopic(name);
      if (topic) now[topic->id] = static_cast<int32_t>(topic->partitions.size());
    }
  }
  topicsVersion_ = version;
  if (now != topics_) bump = true;
  topics_ = std::move(now);
  if (bump) assign();
}

void ShareGroup::assign() {
  ++epoch_;
  changedMs_ = host_.wallMillis();
  dirtyGroup_ = true;
  std::vector<AssignorMember> members;
  for (const auto& [id, member] : members_) {
    AssignorMember& one = members.emplace_back();
    one.id = id;
    one.current = &member.state.target;
    for (const std::string& name : member.state.topics) {
      TopicRef topic = host_.findTopic(name);
      if (topic && topics_.contains(topic->id)) one.topics.insert(topic->id);
    }
  }
  AssignorResult targets = assignShared(members, topics_);
  size_t next = 0;
  for (auto& [id, member] : members_) {
    Assignment& target = targets[next++];
    if (member.state.target == target) continue;
    member.state.target = std::move(target);
    member.state.targetEpoch = epoch_;
    dirtyMembers_.insert(id);
  }
}

void ShareGroup::removeMember(const std::string& memberId) {
  std::string id = memberId;
  if (members_.erase(id) == 0) return;
  dirtyMembers_.insert(id);
  releaseMember(id);
  refresh(true);
}

// ---------------------------------------------------------------- time

void ShareGroup::keepAlive(Member& member) {
  if (!member.session) {
    member.session = host_.makeTimer([weak = weak_from_this(), id = member.state.id] {
      if (auto self = weak.lock()) self->silent(id);
    });
  }
  member.heard = ++rounds_;
  member.session->start(int64_t{host_.shareTermsOf(name_).sessionMs} * 1000);
}

/// Its timer has fired, which must not end inside itself.
void ShareGroup::silent(const std::string& memberId) {
  auto at = members_.find(memberId);
  if (at == members_.end()) return;
  host_.later([weak = weak_from_this(), memberId, round = at->second.heard] {
    if (auto self = weak.lock()) self->expire(memberId, round);
  });
}

void ShareGroup::expire(const std::string& memberId, uint64_t round) {
  auto at = members_.find(memberId);
  if (dead_ || at == members_.end() || at->second.heard != round) return;
  logInfo("group '" + name_ + "': member '" + memberId +
          "' has not been heard of for its session timeout");
  removeMember(memberId);
  flush([](const Result<>&) {});
}

void ShareGroup::die(const Error& error) {
  dead_ = error;
  members_.clear();
  unwatchAll();
  lockTimer_ = nullptr;
  auto waiters = std::exchange(waiters_, {});
  for (Waiter& waiter : waiters) waiter.reply(std::unexpected(error));
}

// ---------------------------------------------------------------- what it looks like

GroupDescription ShareGroup::describe() const {
  GroupDescription description;
  description.group = name_;
  description.kind = GroupKind::kShare;
  description.protocolType = "share";
  description.epoch = epoch_;
  description.assignmentEpoch = epoch_;
  description.assignor = description.protocol = "simple";
  description.state = members_.empty() ? "Empty" : "Stable";
  for (const auto& [id, member] : members_) {
    const ConsumerMemberState& state = member.state;
    auto& out = description.members.emplace_back();
    out.memberId = id;
    out.clientId = state.clientId;
    out.clientHost = state.clientHost;
    auto& consumer = out.consumer.emplace();
    consumer.epoch = state.epoch;
    consumer.rackId = state.rackId;
    consumer.topics.assign(state.topics.begin(), state.topics.end());
    consumer.assigned = named(state.assigned, host_);
    consumer.target = named(state.target, host_);
  }
  for (const ShareOffset& offset : offsets()) {
    auto& out = description.offsets.emplace_back();
    out.topic = offset.topic;
    out.partition = offset.partition;
    out.offset = offset.start;
  }
  return description;
}

// ---------------------------------------------------------------- what share groups don't have

void ShareGroup::join(GroupJoin join, JoinReply reply) {
  GroupJoined answer;
  answer.error = Error{ErrorKind::kInconsistentProtocol, "group '" + name_ + "' is a share group"};
  answer.memberId = std::move(join.memberId);
  reply(std::move(answer));
}

void ShareGroup::sync(GroupSync sync, SyncReply reply) {
  GroupSynced answer;
  answer.error = unknownMember(name_, sync.memberId).error();
  reply(std::move(answer));
}

Result<> ShareGroup::heartbeat(const GroupHeartbeat& beat) {
  return unknownMember(name_, beat.memberId);
}

Result<> ShareGroup::leave(const std::string& memberId,
                           const std::optional<std::string>& /*instanceId*/) {
  return unknownMember(name_, memberId);
}

Result<> ShareGroup::checkCommit(const GroupCommit& /*commit*/) {
  return fail(ErrorKind::kNotFound,
              "group '" + name_ + "' is a share group: it commits no offsets");
}

Result<> ShareGroup::checkReader(const GroupReader& /*reader*/) const {
  return fail(ErrorKind::kNotFound,
              "group '" + name_ + "' is a share group: it commits no offsets");
}

// ---------------------------------------------------------------- the journal

/// Journals what has changed. `then` when that, and everything before, is durable or has failed.
void ShareGroup::flush(std::move_only_function<void(Result<>)> then) {
  if (dirtyMembers_.empty() && dirtyPartitions_.empty() && !dirtyGroup_) {
    if (flights_.empty()) return then({});
    flights_.back()->waiting.push_back(std::move(then));
    return;
  }
  auto flight = std::make_shared<Flight>();
  flight->members = std::exchange(dirtyMembers_, {});
  flight->partitions = std::exchange(dirtyPartitions_, {});
  flight->settled = std::exchange(settled_, {});
  flight->group = std::exchange(dirtyGroup_, false);
  flight->waiting.push_back(std::move(then));
  std::vector<storage::StateChange> changes;
  for (const std::string& id : flight->members) {
    auto at = members_.find(id);
    auto& change = changes.emplace_back();
    change.table = storage::StateTable::kGroupMember;
    change.key = groupMemberKey(name_, id);
    if (at != members_.end()) change.value = encodeConsumerMember(at->second.state);
  }
  for (const SharePlace& place : flight->partitions) {
    auto at = partitions_.find(place);
    auto& change = changes.emplace_back();
    change.table = storage::StateTable::kSharePartition;
    change.key = sharePartitionKey(name_, place);
    if (at != partitions_.end()) change.value = at->second.encode();
  }
  // Behind its members: whatever of a long list is missing after a crash, this tells.
  if (flight->group) {
    ConsumerGroupState state{epoch_, epoch_, changedMs_, topics_, {}};
    changes.push_back(
        {storage::StateTable::kGroup, name_, encodeConsumerGroup(state, GroupKind::kShare)});
  }
  flights_.push_back(flight);
  host_.journal(std::move(changes), [self = shared_from_this(), flight](const Result<>& result) {
    self->landed(flight, result);
  });
}

/// What could not be journaled has been told to nobody. What members said of records is taken back;
/// the rest goes with the next change, since what is in memory has moved on.
void ShareGroup::landed(const std::shared_ptr<Flight>& flight, const Result<>& result) {
  std::erase(flights_, flight);
  if (!result && !dead_) {
    dirtyMembers_.merge(flight->members);
    dirtyPartitions_.merge(flight->partitions);
    dirtyGroup_ = dirtyGroup_ || flight->group;
    takeBack(*flight);
  }
  if (result) {
    for (const SharePlace& place : flight->partitions) unborn_.erase(place);
  }
  // An entry that was written after the one that failed says what has been taken back since.
  bool again = std::exchange(failed_, !result) && result && !dead_;
  if (again && (!dirtyMembers_.empty() || !dirtyPartitions_.empty() || dirtyGroup_)) {
    flush([](const Result<>&) {});
  }
  for (auto& then : flight->waiting) then(result);
}

void ShareGroup::takeBack(const Flight& flight) {
  for (const auto& [place, changed] : flight.settled) {
    auto at = partitions_.find(place);
    if (at == partitions_.end()) continue;
    at->second.takeBack(changed);
    if (auto deadline = at->second.nextDeadline()) armLocks(*deadline);
  }
}

/// Where a partition goes on is said anew: what was said of its records before is not taken back.
void ShareGroup::keepSettled(const SharePlace& place) {
  settled_.erase(place);
  for (const auto& flight : flights_) flight->settled.erase(place);
}

void ShareGroup::whenDurable(std::move_only_function<void(Result<>)> then) {
  flush(std::move(then));
}

void ShareGroup::addDeletion(std::vector<storage::StateChange>& state) const {
  // What is gone, too: perhaps not from the journal.
  std::set<std::string> members = dirtyMembers_;
  std::set<SharePlace> places = dirtyPartitions_;
  for (const auto& flight : flights_) {
    members.insert(flight->members.begin(), flight->members.end());
    places.insert(flight->partitions.begin(), flight->partitions.end());
  }
  for (const auto& [id, member] : members_) members.insert(id);
  for (const auto& [place, partition] : partitions_) places.insert(place);
  using storage::StateTable;
  for (const std::string& id : members) {
    state.push_back({StateTable::kGroupMember, groupMemberKey(name_, id), std::nullopt});
  }
  for (const SharePlace& place : places) {
    state.push_back({StateTable::kSharePartition, sharePartitionKey(name_, place), std::nullopt});
  }
}

}  // namespace polylog::router
