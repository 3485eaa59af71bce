// ConsumerGroup's assignments: what the group subscribes to, each member's target, and each
// member's way there.

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>

#include "router/consumer_group.h"

namespace polylog::router {
namespace {

/// How often a group's patterns are held against all topics, at most.
constexpr int64_t kMatchMillis = 1000;

bool has(const Assignment& assignment, const TopicId& topic, int32_t partition) {
  auto at = assignment.find(topic);
  return at != assignment.end() && at->second.contains(partition);
}

bool overlap(const Assignment& a, const Assignment& b) {
  return std::ranges::any_of(a, [&](const auto& entry) {
    return std::ranges::any_of(entry.second,
                               [&](int32_t partition) { return has(b, entry.first, partition); });
  });
}

/// Whether a member that owns `owned` still has some of what it is to give up. Who doesn't tell
/// has.
bool stillOwns(const Assignment& revoking, const std::optional<Assignment>& owned) {
  return !owned || overlap(revoking, *owned);
}

}  // namespace

// ---------------------------------------------------------------- targets

/// Looks whether the topics are still what the targets are made of, and makes new targets if not,
/// or if a subscription has changed. `who`: with whose rights patterns are resolved; null: they
/// aren't.
void ConsumerGroup::refresh(const PrincipalRef& who, bool bump) {
  uint64_t version = host_.topicsVersion();
  bump = bump || assignAnew_;
  if (!bump && version == topicsVersion_) return;
  bool matches = who != nullptr && patternsDue();
  if (matches && refreshPatterns(who, version)) bump = true;
  AssignorTopics now = subscribedTopics();
  if (matches || patterns_.empty()) topicsVersion_ = version;  // else at a later heartbeat
  if (now != topics_) bump = true;
  topics_ = std::move(now);
  if (bump) assign();
}

bool ConsumerGroup::patternsDue() const {
  bool fresh =
      std::ranges::any_of(patterns_, [](const auto& entry) { return entry.second.version == 0; });
  return fresh || std::abs(host_.wallMillis() - matchedMs_) >= kMatchMillis;
}

/// Whether any of them stands for other topics now. Resolved with the rights of whom the heartbeat
/// comes from that finds the topics changed, as Kafka does.
bool ConsumerGroup::refreshPatterns(const PrincipalRef& who, uint64_t version) {
  bool changed = false;
  if (!patterns_.empty()) matchedMs_ = host_.wallMillis();
  std::optional<std::vector<TopicRef>> seen;
  for (auto& [text, pattern] : patterns_) {
    if (pattern.version == version) continue;
    if (!pattern.compiled) {
      auto compiled = host_.format().compilePattern(text);
      if (!compiled) continue;
      pattern.compiled = std::move(*compiled);
    }
    std::set<std::string> before = std::exchange(pattern.topics, {});
    if (!seen) seen = host_.topicsFor(who);
    for (const TopicRef& topic : *seen) {
      if (pattern.compiled->matches(topic->name)) pattern.topics.insert(topic->name);
    }
    pattern.version = version;
    changed = changed || before != pattern.topics;
  }
  return changed;
}

void ConsumerGroup::prunePatterns() {
  std::set<std::string> used;
  for (const auto& [id, member] : members_) used.insert(member.state.pattern);
  if (std::erase_if(patterns_, [&](const auto& entry) { return !used.contains(entry.first); }) >
      0) {
    dirtyGroup_ = true;
  }
}

AssignorTopics ConsumerGroup::subscribedTopics() const {
  AssignorTopics topics;
  auto add = [&](const std::string& name) {
    if (TopicRef topic = host_.findTopic(name)) {
      topics[topic->id] = static_cast<int32_t>(topic->partitions.size());
    }
  };
  for (const auto& [name, members] : names_) add(name);
  for (const auto& [text, pattern] : patterns_) std::ranges::for_each(pattern.topics, add);
  return topics;
}

std::set<TopicId> ConsumerGroup::topicsOf(const Member& member) const {
  std::set<TopicId> topics;
  auto add = [&](const std::string& name) {
    TopicRef topic = host_.findTopic(name);
    if (topic && topics_.contains(topic->id)) topics.insert(topic->id);
  };
  std::ranges::for_each(member.state.topics, add);
  auto pattern = patterns_.find(member.state.pattern);
  if (pattern != patterns_.end()) std::ranges::for_each(pattern->second.topics, add);
  return topics;
}

/// What most of those want that want one.
std::string ConsumerGroup::assignorName() const {
  std::map<std::string, size_t> votes;
  for (const auto& [id, member] : members_) {
    if (member.state.assignor) ++votes[*member.state.assignor];
  }
  std::string best = kAssignorNames[0];
  for (const char* name : kAssignorNames) {
    if (votes[name] > votes[best]) best = name;
  }
  return best;
}

void ConsumerGroup::assign() {
  ++epoch_;
  std::vector<AssignorMember> members;
  members.reserve(members_.size());
  for (const auto& [id, member] : members_) {
    members.push_back({id, member.state.instanceId, topicsOf(member), &member.state.target});
  }
  AssignorResult targets = findAssignor(assignorName())(members, topics_);
  size_t next = 0;
  for (auto& [id, member] : members_) {
    Assignment& target = targets[next++];
    if (target == member.state.target) continue;
    member.state.target = std::move(target);
    member.state.targetEpoch = epoch_;
    dirtyMembers_.insert(id);
  }
  assignmentEpoch_ = epoch_;
  assignAnew_ = false;
  changedMs_ = host_.wallMillis();
  dirtyGroup_ = true;
}

// ---------------------------------------------------------------- ways there

/// One step of a member towards its target. `owned`: what it says that it has, if it says so.
/// `changed`: so has its subscription, of which nothing else may remain assigned.
void ConsumerGroup::reconcile(Member& member, const std::optional<Assignment>& owned,
                              bool changed) {
  const ConsumerMemberState& state = member.state;
  bool stays = false;
  switch (state.phase) {
    case ConsumerPhase::kStable: stays = state.epoch == assignmentEpoch_; break;
    case ConsumerPhase::kUnrevoked: stays = stillOwns(state.revoking, owned); break;
    case ConsumerPhase::kUnreleased: break;
  }
  if (!stays) return moveTowardsTarget(member, owned);
  if (changed) dropUnsubscribed(member, owned);
}

void ConsumerGroup::moveTowardsTarget(Member& member, const std::optional<Assignment>& owned) {
  const ConsumerMemberState& state = member.state;
  std::set<TopicId> subscribed = topicsOf(member);
  Assignment keeps;
  Assignment revoking;
  for (const auto& [topic, partitions] : state.assigned) {
    for (int32_t partition : partitions) {
      bool stays = subscribed.contains(topic) && has(state.target, topic, partition);
      (stays ? keeps : revoking)[topic].insert(partition);
    }
  }
  // First it gives up what it is to give up, in its old epoch.
  if (!revoking.empty() && stillOwns(revoking, owned)) {
    return setCurrent(member, ConsumerPhase::kUnrevoked, state.epoch, std::move(keeps),
                      std::move(revoking));
  }
  bool unreleased = false;
  for (const auto& [topic, partitions] : state.target) {
    if (!subscribed.contains(topic)) continue;
    for (int32_t partition : partitions) {
      auto owner = owners_.find({topic, partition});
      if (owner == owners_.end() || owner->second == state.id) {
        keeps[topic].insert(partition);
      } else {
        unreleased = true;
      }
    }
  }
  setCurrent(member, unreleased ? ConsumerPhase::kUnreleased : ConsumerPhase::kStable,
             assignmentEpoch_, std::move(keeps), {});
}

void ConsumerGroup::dropUnsubscribed(Member& member, const std::optional<Assignment>& owned) {
  const ConsumerMemberState& state = member.state;
  std::set<TopicId> subscribed = topicsOf(member);
  Assignment keeps = state.assigned;
  Assignment revoking = state.revoking;
  for (const auto& [topic, partitions] : state.assigned) {
    if (subscribed.contains(topic)) continue;
    keeps.erase(topic);
    revoking[topic].insert(partitions.begin(), partitions.end());
  }
  if (keeps == state.assigned) return;
  if (stillOwns(revoking, owned)) {
    return setCurrent(member, ConsumerPhase::kUnrevoked, state.epoch, std::move(keeps),
                      std::move(revoking));
  }
  setCurrent(member, state.phase, state.epoch, std::move(keeps), state.revoking);
}

void ConsumerGroup::setCurrent(Member& member, ConsumerPhase phase, int32_t epoch,
                               Assignment assigned, Assignment revoking) {
  ConsumerMemberState& state = member.state;
  if (phase == state.phase && epoch == state.epoch && assigned == state.assigned &&
      revoking == state.revoking) {
    return;
  }
  release(member);
  if (epoch != state.epoch) state.previousEpoch = state.epoch;
  state.phase = phase;
  state.epoch = epoch;
  state.assigned = std::move(assigned);
  state.revoking = std::move(revoking);
  claim(member);
  dirtyMembers_.insert(state.id);
  if (phase == ConsumerPhase::kUnrevoked) {
    expectWithin(member, state.rebalanceTimeoutMs);
  } else {
    member.rebalance = nullptr;
  }
}

void ConsumerGroup::claim(const Member& member) {
  for (const Assignment* mine : {&member.state.assigned, &member.state.revoking}) {
    for (const auto& [topic, partitions] : *mine) {
      for (int32_t partition : partitions) owners_[{topic, partition}] = member.state.id;
    }
  }
}

/// After a restart: what one has given up and another got in one long list of changes may have been
/// cut off in between. Nobody was told of that list, so whoever got something, which is the one
/// that is further, does without it until the next assignment.
void ConsumerGroup::settleOwnership(Member& member) {
  std::vector<std::pair<Place, Member*>> losers;
  for (const Assignment* mine : {&member.state.assigned, &member.state.revoking}) {
    for (const auto& [topic, partitions] : *mine) {
      for (int32_t partition : partitions) {
        auto owner = owners_.find({topic, partition});
        if (owner == owners_.end()) continue;
        Member* other = find(owner->second);
        bool further = other != nullptr && other->state.epoch > member.state.epoch;
        losers.emplace_back(Place{topic, partition}, further ? other : &member);
      }
    }
  }
  for (auto& [place, loser] : losers) {
    for (Assignment* theirs : {&loser->state.assigned, &loser->state.revoking}) {
      auto at = theirs->find(place.first);
      if (at == theirs->end()) continue;
      at->second.erase(place.second);
      if (at->second.empty()) theirs->erase(at);
    }
    if (loser == &member) continue;
    owners_.erase(place);
    dirtyMembers_.insert(loser->state.id);
  }
  if (losers.empty()) return;
  dirtyMembers_.insert(member.state.id);
  assignAnew_ = true;
}

void ConsumerGroup::release(const Member& member) {
  for (const Assignment* mine : {&member.state.assigned, &member.state.revoking}) {
    for (const auto& [topic, partitions] : *mine) {
      for (int32_t partition : partitions) {
        auto owner = owners_.find({topic, partition});
        if (owner != owners_.end() && owner->second == member.state.id) owners_.erase(owner);
      }
    }
  }
}

// ---------------------------------------------------------------- what it looks like

std::vector<NamedPartitions> named(const Assignment& assignment, const ConsumerGroupHost& host) {
  std::vector<NamedPartitions> all;
  for (const auto& [id, partitions] : assignment) {
    TopicRef topic = host.findTopic(id);
    if (!topic || partitions.empty()) continue;  // deleted
    all.push_back({id, topic->name, {partitions.begin(), partitions.end()}});
  }
  return all;
}

GroupDescription ConsumerGroup::describe() const {
  GroupDescription description;
  description.group = name_;
  description.kind = GroupKind::kConsumer;
  description.protocolType = "consumer";
  description.epoch = epoch_;
  description.assignmentEpoch = assignmentEpoch_;
  description.assignor = description.protocol = assignorName();
  bool stable = true;
  for (const auto& [id, member] : members_) {
    const ConsumerMemberState& state = member.state;
    stable = stable && state.phase == ConsumerPhase::kStable && state.epoch == assignmentEpoch_;
    auto& out = description.members.emplace_back();
    out.memberId = id;
    out.instanceId = state.instanceId;
    out.clientId = state.clientId;
    out.clientHost = state.clientHost;
    auto& consumer = out.consumer.emplace();
    consumer.classic = state.classic.has_value();
    consumer.epoch = state.epoch;
    consumer.rackId = state.rackId;
    consumer.topics.assign(state.topics.begin(), state.topics.end());
    consumer.pattern = state.pattern;
    if (auto at = patterns_.find(state.pattern); at != patterns_.end()) {
      consumer.matched.assign(at->second.topics.begin(), at->second.topics.end());
    }
    consumer.assigned = named(state.assigned, host_);
    consumer.target = named(state.target, host_);
  }
  description.state = members_.empty() ? "Empty" : (stable ? "Stable" : "Reconciling");
  return description;
}

}  // namespace polylog::router
