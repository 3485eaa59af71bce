#include "router/group_coordinator.h"

#include <algorithm>

#include "core/base/log.h"
#include "router/catalogue.h"
#include "router/group_parts.h"
#include "router/state_codec.h"

namespace polylog::router {
namespace {

constexpr int64_t kCleaningMicros = 600'000'000;

}  // namespace

void GroupCoordinator::Host::persist(const std::string& group, const GroupState& state,
                                     std::move_only_function<void(Result<>)> done) {
  storage::AppendRequest request;
  request.state.push_back({storage::StateTable::kGroup, group, encodeGroup(state)});
  if (auto at = owned_.groups.find(group); at != owned_.groups.end()) at->second.journaled = true;
  request.durability = done ? storage::Durability::kSynced : storage::Durability::kUnwaited;
  auto shared = std::make_shared<std::move_only_function<void(Result<>)>>(std::move(done));
  if (*shared) {
    request.sink = &worker_.sink;
    request.done = [this, shared](const Result<storage::Appended>& result) {
      if (result) return (*shared)({});
      ++core_.writeFailures;
      (*shared)(std::unexpected(result.error()));
    };
  }
  auto appended = core_.store.append(std::move(request));
  if (appended) return;
  if (!*shared) return logWarning("a group's state can't be journaled: " + appended.error().text);
  worker_.later([shared, error = appended.error()] { (*shared)(std::unexpected(error)); });
}

GroupCoordinator::GroupCoordinator(Core& core) : core_(core) {
  limits_.initialRebalanceMillis = core.options.initialRebalanceMillis;
  limits_.minSessionTimeoutMillis = core.options.minSessionTimeoutMillis;
  limits_.maxSessionTimeoutMillis = core.options.maxSessionTimeoutMillis;
  limits_.maxMembers = core.options.maxGroupMembers;
  for (auto& worker : core.workers) owned_.push_back(std::make_unique<Owned>(core, *worker));
}
GroupCoordinator::~GroupCoordinator() = default;

// ---------------------------------------------------------------- life

Result<> GroupCoordinator::load() {
  Result<> result;
  auto entryOf = [&](const std::string& name) -> Entry& {
    Owned& owned = ownerOf(name);
    Entry& entry = owned.groups[name];
    if (!entry.group) makeEntry(owned, entry, std::make_shared<Group>(owned.host, limits_, name));
    return entry;
  };
  using storage::StateTable;
  core_.store.scanState(StateTable::kGroup, "", [&](BytesView key, BytesView value) {
    if (isDeletedGroup(value)) {
      ownerOf(key).leaving.try_emplace(std::string(key));
      return true;
    }
    auto group = restored(key, value);
    if (!group) {
      result = std::unexpected(group.error());
      return false;
    }
    Entry& entry = ownerOf(key).groups[std::string(key)];
    makeEntry(ownerOf(key), entry, std::move(*group));
    entry.journaled = true;
    return true;
  });
  if (!result) return result;
  if (result = loadMembers(); !result) return result;
  if (result = loadShares(); !result) return result;
  if (result = loadConfigs(); !result) return result;
  core_.store.scanState(StateTable::kGroupOffset, "", [&](BytesView key, BytesView value) {
    auto state = decodeGroupOffset(key, value);
    if (!state) {
      result = std::unexpected(state.error());
      return false;
    }
    // Its topic was deleted just before the end, or its group was on its way out.
    TopicRef topic = core_.catalogue->find(state->topic);
    if (!topic || ownerOf(state->group).leaving.contains(state->group)) {
      orphan(state->group, StateTable::kGroupOffset, key);
      return true;
    }
    Entry& entry = entryOf(state->group);
    entry.lastCommitMs = std::max(entry.lastCommitMs, state->offset.committedMs);
    entry.offsets[{state->topic, state->partition}] = {std::move(state->offset), topic->id, 0, {}};
    return true;
  });
  // The last, as in deletionOf().
  for (auto& owned : owned_) {
    for (auto& [name, leaving] : owned->leaving) {
      leaving.rest.push_back({StateTable::kGroup, name, std::nullopt});
    }
  }
  return result;
}

/// A group as kGroup has it.
Result<std::shared_ptr<Membership>> GroupCoordinator::restored(BytesView name, BytesView value) {
  Owned& owned = ownerOf(name);
  if (GroupKind kind = groupKindOf(value); kind != GroupKind::kClassic) {
    auto state = decodeConsumerGroup(name, value);
    if (!state) return std::unexpected(state.error());
    if (kind == GroupKind::kShare) {
      auto shares = std::make_shared<ShareGroup>(owned.host, limits_, std::string(name));
      shares->restore(std::move(*state));
      return shares;
    }
    auto group = std::make_shared<ConsumerGroup>(owned.host, limits_, std::string(name));
    group->restore(std::move(*state));
    return group;
  }
  auto state = decodeGroup(name, value);
  if (!state) return std::unexpected(state.error());
  auto group = std::make_shared<Group>(owned.host, limits_, std::string(name));
  group->restore(std::move(*state));
  return group;
}

/// What is done with goes once there is a thread for it, with its group if that is done with too.
void GroupCoordinator::orphan(const std::string& group, storage::StateTable table, BytesView key) {
  Owned& owned = ownerOf(group);
  auto leaving = owned.leaving.find(group);
  auto& changes = leaving == owned.leaving.end() ? owned.orphans : leaving->second.rest;
  changes.push_back({table, std::string(key), std::nullopt});
}

/// The members of groups that have them in entries of their own.
Result<> GroupCoordinator::loadMembers() {
  Result<> result;
  using storage::StateTable;
  core_.store.scanState(StateTable::kGroupMember, "", [&](BytesView key, BytesView value) {
    auto name = parseGroupMemberKey(key);
    auto state = name ? decodeConsumerMember(name->second, value) : std::unexpected(name.error());
    if (!state) {
      result = std::unexpected(state.error());
      return false;
    }
    Entry* entry = find(ownerOf(name->first), name->first);
    if (entry == nullptr || entry->group->kind() == GroupKind::kClassic) {
      // The group was on its way to be one of the other kind, or gone, at the end.
      orphan(name->first, StateTable::kGroupMember, key);
      return true;
    }
    if (entry->group->kind() == GroupKind::kShare) {
      static_cast<ShareGroup&>(*entry->group).restoreMember(std::move(*state));
    } else {
      static_cast<ConsumerGroup&>(*entry->group).restoreMember(std::move(*state));
    }
    return true;
  });
  return result;
}

void GroupCoordinator::makeEntry(Owned& owned, Entry& entry, std::shared_ptr<Membership> group) {
  entry.group = std::move(group);
  entry.incarnation = ++owned.incarnations;
  core_.metrics.groups.add(1);
}

void GroupCoordinator::start(Worker& worker) {
  Owned& owned = *owned_[worker.index];
  for (auto& [name, entry] : owned.groups) entry.group->resume();
  if (!owned.orphans.empty()) deleteEventually(owned, std::exchange(owned.orphans, {}));
  deleteLeaving(owned);
  owned.cleaning = worker.dispatcher.makeTimer([this, &owned] {
    dropOld(owned);
    owned.cleaning->start(kCleaningMicros);
  });
  owned.cleaning->start(kCleaningMicros);
}

void GroupCoordinator::stop(Worker& worker) {
  Owned& owned = *owned_[worker.index];
  owned.cleaning = nullptr;
  owned.retry = nullptr;
  Error error{ErrorKind::kShutdown, "the broker is stopping"};
  for (auto& [name, entry] : owned.groups) entry.group->die(error);
}

GroupCoordinator::Owned& GroupCoordinator::ownerOf(BytesView group) const {
  return *owned_[core_.workerOf(group)];
}

void GroupCoordinator::onOwner(const std::string& group,
                               std::move_only_function<void(Owned&)> task) {
  Owned& owned = ownerOf(group);
  if (&owned.worker.dispatcher == Dispatcher::current()) return task(owned);
  owned.worker.post([&owned, task = std::move(task)]() mutable { task(owned); });
}

GroupCoordinator::Entry* GroupCoordinator::find(Owned& owned, const std::string& group) const {
  auto at = owned.groups.find(group);
  return at == owned.groups.end() ? nullptr : &at->second;
}

Result<GroupCoordinator::Entry*> GroupCoordinator::findOrMake(Owned& owned,
                                                              const std::string& group) {
  if (Entry* entry = find(owned, group)) return entry;
  if (group.empty() || group.size() > UINT16_MAX) {
    return fail(ErrorKind::kInvalid, "a group's name has 1 to 65,535 octets");
  }
  if (owned.leaving.contains(group)) return beingDeleted(group);
  if (owned.groups.size() + owned.leaving.size() >= core_.options.maxGroups) {
    return fail(ErrorKind::kBusy, "there are as many groups as are allowed");
  }
  Entry& entry = owned.groups[group];
  makeEntry(owned, entry, std::make_shared<Group>(owned.host, limits_, group));
  return &entry;
}

/// A request that was refused leaves no group behind.
void GroupCoordinator::forgetIfNew(Owned& owned, const std::string& group) {
  Entry* entry = find(owned, group);
  if (entry == nullptr || entry->journaled || !entry->offsets.empty()) return;
  if (!entry->undecided.empty()) return;
  if (!entry->group->hasMembers()) forget(owned, group);
}

void GroupCoordinator::forget(Owned& owned, const std::string& group) {
  auto at = owned.groups.find(group);
  if (at == owned.groups.end()) return;
  at->second.group->die(unknownGroup(group));
  owned.groups.erase(at);
  core_.metrics.groups.add(-1);
}

// ---------------------------------------------------------------- membership

void GroupCoordinator::join(GroupJoin join, Done<GroupJoined> done) {
  std::string name = join.group;
  onOwner(name, [this, join = std::move(join),
                 done = backHere(std::move(done))](Owned& owned) mutable {
    auto refuse = [&](Error error) {
      GroupJoined answer;
      answer.error = std::move(error);
      answer.memberId = join.memberId;
      done(std::move(answer));
    };
    if (!join.memberId.empty() && find(owned, join.group) == nullptr) {
      return refuse(unknownGroup(join.group));
    }
    auto entry = findOrMake(owned, join.group);
    if (!entry) return refuse(entry.error());
    makeClassicIfEmpty(owned, **entry);
    std::shared_ptr<Membership> group = (*entry)->group;
    group->join(std::move(join), std::move(done));
    forgetIfNew(owned, group->name());
  });
}

void GroupCoordinator::sync(GroupSync sync, Done<GroupSynced> done) {
  std::string name = sync.group;
  onOwner(name, [this, sync = std::move(sync),
                 done = backHere(std::move(done))](Owned& owned) mutable {
    Entry* entry = find(owned, sync.group);
    if (entry == nullptr) {
      GroupSynced answer;
      answer.error = unknownGroup(sync.group);
      return done(std::move(answer));
    }
    std::shared_ptr<Membership> group = entry->group;
    group->sync(std::move(sync), std::move(done));
  });
}

void GroupCoordinator::heartbeat(GroupHeartbeat beat, Done<Result<>> done) {
  std::string name = beat.group;
  onOwner(name, [this, beat = std::move(beat),
                 done = backHere(std::move(done))](Owned& owned) mutable {
    Entry* entry = find(owned, beat.group);
    if (entry == nullptr) return done(std::unexpected(unknownGroup(beat.group)));
    done(entry->group->heartbeat(beat));
  });
}

void GroupCoordinator::leave(GroupLeave leave, Done<Result<std::vector<Result<>>>> done) {
  std::string name = leave.group;
  onOwner(name, [this, leave = std::move(leave),
                 done = backHere(std::move(done))](Owned& owned) mutable {
    std::vector<Result<>> results;
    Entry* entry = find(owned, leave.group);
    std::shared_ptr<Membership> group = entry != nullptr ? entry->group : nullptr;
    for (const auto& [member, instance] : leave.members) {
      if (group) {
        results.push_back(group->leave(member, instance));
      } else {
        results.push_back(std::unexpected(unknownGroup(leave.group)));
      }
    }
    if (!group) return done(std::move(results));
    group->whenDurable(
        [done = std::move(done), results = std::move(results)](Result<> stored) mutable {
          if (!stored) return done(std::unexpected(stored.error()));
          done(std::move(results));
        });
  });
}

// ---------------------------------------------------------------- listing

void GroupCoordinator::list(Done<std::vector<GroupDescription>> done) {
  struct Gather {
    std::mutex mutex;
    std::vector<GroupDescription> all;
    size_t left = 0;
    Done<std::vector<GroupDescription>> done;
  };
  auto gather = std::make_shared<Gather>();
  gather->left = owned_.size();
  gather->done = backHere(std::move(done));
  for (auto& owned : owned_) {
    owned->worker.post([gather, &groups = owned->groups] {
      std::vector<GroupDescription> mine;
      for (auto& [name, entry] : groups) {
        // With the offsets: listings and metrics tell each group's lag.
        mine.push_back(entry.group->describe());
        if (mine.back().kind != GroupKind::kShare) mine.back().offsets = offsetsOf(entry);
      }
      std::lock_guard lock(gather->mutex);
      std::move(mine.begin(), mine.end(), std::back_inserter(gather->all));
      if (--gather->left > 0) return;
      std::sort(gather->all.begin(), gather->all.end(),
                [](const auto& a, const auto& b) { return a.group < b.group; });
      gather->done(std::move(gather->all));
    });
  }
}

void GroupCoordinator::describe(std::string group, Done<Result<GroupDescription>> done) {
  std::string name = group;
  onOwner(name, [this, group = std::move(group),
                 done = backHere(std::move(done))](Owned& owned) mutable {
    Entry* entry = find(owned, group);
    if (entry == nullptr) return done(noGroup(group));
    GroupDescription description = entry->group->describe();
    if (description.kind != GroupKind::kShare) description.offsets = offsetsOf(*entry);
    done(std::move(description));
  });
}

}  // namespace polylog::router
