#include "tests/simulation/groups.h"

#include <algorithm>

namespace polylog::simulation {

// ---------------------------------------------------------------- committed offsets

void Committer::onEnd(bool) {
  fetching_ = false;
  checked_ = false;
}

void Committer::commit() {
  int64_t offset = next_++;
  undecided_.insert(offset);
  GroupCommit commit;
  commit.group = group_;
  commit.offsets.push_back({"steady", 0, offset, -1, "by " + std::to_string(offset)});
  machine_.on(1, [&] {  // one connection: they come in order
    machine_.router().commitOffsets(
        Machine::client("committer", Protocol::kKafka), std::move(commit),
        [this, offset](Result<std::vector<Result<>>> results) {
          if (!results || !results->at(0)) return;
          if (offset < told_) return;  // a later one was told already
          told_ = offset;
          undecided_.erase(undecided_.begin(), undecided_.upper_bound(offset));
        });
  });
}

void Committer::fetch() {
  fetching_ = true;
  int64_t atLeast = told_;
  machine_.on(machine_.pick(Machine::kWorkers), [&] {
    std::vector<std::pair<std::string, int32_t>> asked{{"steady", 0}};
    machine_.router().fetchOffsets(
        Machine::client("committer", Protocol::kKafka), group_, std::nullopt, std::move(asked),
        [this, atLeast](Result<std::vector<GroupOffset>> offsets) {
          fetching_ = false;
          if (!offsets) return machine_.fail(group_ + ": " + offsets.error().text);
          const GroupOffset& found = offsets->at(0);
          checked_ = true;
          if (found.offset < atLeast || found.offset >= next_) {
            machine_.fail(group_ + ": offset " + std::to_string(atLeast) + " was committed, " +
                          std::to_string(found.offset) + " is there");
          } else if (found.offset >= 0 && found.metadata != "by " + std::to_string(found.offset)) {
            machine_.fail(group_ + ": offset and metadata of two commits");
          }
        });
  });
}

void Committer::act() {
  if (machine_.chance(50)) {
    commit();
  } else if (!fetching_) {
    fetch();
  }
}

bool Committer::finish() {
  if (!fetching_ && !checked_) fetch();
  return !checked_;
}

void Committer::verify() {
  if (!checked_) machine_.fail(group_ + ": committed offsets aren't told");
}

// ---------------------------------------------------------------- membership

void Members::out(Member& member) {
  int attempt = member.attempt + 1;
  member = {};
  member.attempt = attempt;
}

void Members::onEnd(bool) {
  for (Member& member : members_) out(member);
  decided_.clear();
  leaders_.clear();
}

void Members::join(size_t place) {
  Member& member = members_[place];
  member.stage = Stage::kJoining;
  GroupJoin join;
  join.group = "team";
  join.memberId = member.id;
  join.clientId = "member" + std::to_string(place);
  join.clientHost = "/127.0.0.1";
  join.protocolType = "consumer";
  join.protocols = {{"range", "m" + std::to_string(place)}};
  join.sessionTimeoutMs = 3000;
  join.rebalanceTimeoutMs = 4000;
  join.requireKnownMemberId = machine_.chance(50);
  int attempt = ++member.attempt;
  machine_.on(place % Machine::kWorkers, [&] {
    machine_.router().joinGroup(Machine::client(join.clientId, Protocol::kKafka), join,
                                [this, place, attempt](const GroupJoined& answer) {
                                  if (members_[place].attempt == attempt) joined(place, answer);
                                });
  });
}

void Members::joined(size_t place, const GroupJoined& answer) {
  Member& member = members_[place];
  if (answer.error) {
    std::string id = answer.error->kind == ErrorKind::kMemberIdRequired ? answer.memberId : "";
    out(member);
    member.id = id;
    return;
  }
  if (answer.generation <= member.generation) {
    machine_.fail("member " + std::to_string(place) + " goes from generation " +
                  std::to_string(member.generation) + " to " + std::to_string(answer.generation));
  }
  member.stage = Stage::kJoined;
  member.id = answer.memberId;
  member.generation = answer.generation;
  member.leads = answer.leader == answer.memberId;
  member.all.clear();
  for (const GroupMemberMetadata& one : answer.members) member.all.push_back(one.memberId);
  auto [leader, first] = leaders_.try_emplace(answer.generation, answer.leader);
  if (!first && leader->second != answer.leader) {
    machine_.fail("generation " + std::to_string(answer.generation) + " has two leaders");
  }
  if (member.leads != !member.all.empty()) machine_.fail("who leads isn't told who is in");
}

void Members::sync(size_t place) {
  Member& member = members_[place];
  member.stage = Stage::kSyncing;
  GroupSync sync;
  sync.group = "team";
  sync.memberId = member.id;
  sync.generation = member.generation;
  if (member.leads) {
    for (const std::string& one : member.all) {
      std::string assignment = std::to_string(member.generation) + " for " + one;
      sync.assignments.emplace_back(one, assignment);
      decided_[member.generation][one] = assignment;
    }
  }
  int attempt = ++member.attempt;
  machine_.on(place % Machine::kWorkers, [&] {
    machine_.router().syncGroup(Machine::client("member", Protocol::kKafka), sync,
                                [this, place, attempt](const GroupSynced& answer) {
                                  if (members_[place].attempt == attempt) synced(place, answer);
                                });
  });
}

void Members::synced(size_t place, const GroupSynced& answer) {
  Member& member = members_[place];
  if (answer.error) {
    member.stage = Stage::kOut;  // joins again, as itself unless it is unknown
    if (answer.error->kind == ErrorKind::kUnknownMember) out(member);
    return;
  }
  member.stage = Stage::kStable;
  ++stables_;
  if (answer.assignment != decided_[member.generation][member.id]) {
    machine_.fail("member " + member.id + " of generation " + std::to_string(member.generation) +
                  " is assigned '" + answer.assignment + "'");
  }
}

void Members::beat(size_t place) {
  Member& member = members_[place];
  int attempt = member.attempt;
  machine_.on(place % Machine::kWorkers, [&] {
    machine_.router().heartbeat(Machine::client("member", Protocol::kKafka),
                                {"team", member.id, std::nullopt, member.generation},
                                [this, place, attempt](const Result<>& answer) {
                                  Member& now = members_[place];
                                  if (now.attempt != attempt || answer) return;
                                  if (answer.error().kind == ErrorKind::kUnknownMember) {
                                    out(now);
                                  } else if (now.stage == Stage::kStable) {
                                    now.stage = Stage::kOut;
                                  }
                                });
  });
}

void Members::depart(size_t place) {
  Member& member = members_[place];
  if (!member.id.empty()) {
    machine_.on(place % Machine::kWorkers, [&] {
      machine_.router().leaveGroup(Machine::client("member", Protocol::kKafka),
                                   {"team", {{member.id, std::nullopt}}},
                                   [](const Result<std::vector<Result<>>>&) {});
    });
  }
  out(member);
}

void Members::act() {
  size_t place = machine_.pick(kMembers);
  Member& member = members_[place];
  if (machine_.chance(4)) return out(member);  // dies without a word
  if (machine_.chance(4)) return depart(place);
  switch (member.stage) {
    case Stage::kOut: return join(place);
    case Stage::kJoined: return sync(place);
    case Stage::kStable: return beat(place);
    case Stage::kJoining:
    case Stage::kSyncing: return;
  }
}

/// Until all are in one generation.
bool Members::finish() {
  bool together = true;
  for (size_t place = 0; place < kMembers; ++place) {
    Member& member = members_[place];
    if (member.stage == Stage::kOut) join(place);
    if (member.stage == Stage::kJoined) sync(place);
    if (member.stage == Stage::kStable) beat(place);
    together &= member.stage == Stage::kStable && member.generation == members_[0].generation;
  }
  return !together;
}

void Members::verify() {
  std::set<std::string> assignments;
  for (const Member& member : members_) {
    if (member.stage != Stage::kStable || member.generation != members_[0].generation) {
      return machine_.fail("the group doesn't come to rest");
    }
    assignments.insert(decided_[member.generation][member.id]);
  }
  if (assignments.size() != kMembers) machine_.fail("two members have one assignment");
}

}  // namespace polylog::simulation
