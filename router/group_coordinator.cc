#include "router/group_coordinator.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/log.h"
#include "router/catalogue.h"
#include "router/state_codec.h"

namespace polylog::router {
namespace {

constexpr int64_t kCleaningMicros = 600'000'000;

std::unexpected<Error> noGroup(const std::string& name) {
  return fail(ErrorKind::kNotFound, "no group '" + name + "'");
}
Error unknownGroup(const std::string& name) {
  return {ErrorKind::kUnknownMember, "no group '" + name + "'"};
}

}  // namespace

/// A group and its offsets.
struct GroupCoordinator::Entry {
  /// What is committed for a partition: nothing yet while the first commit is on its way to the disk.
  struct Place {
    std::optional<OffsetState> committed;
    TopicId topic{};  ///< there may have been another of its name
    int onTheirWay = 0;
  };
  using Key = std::pair<std::string, int32_t>;

  std::shared_ptr<Group> group;
  int64_t lastCommitMs = 0;
  bool journaled = false;  ///< its membership
  std::map<Key, Place> offsets;
};

class GroupCoordinator::Host final : public GroupHost {
 public:
  Host(Core& core, Owned& owned, Worker& worker) : core_(core), owned_(owned), worker_(worker) {}
  std::unique_ptr<Timer> makeTimer(Task onFire) override {
    return worker_.dispatcher.makeTimer(std::move(onFire));
  }
  void later(Task task) override { worker_.later(std::move(task)); }
  std::string randomName() override { return randomHex(core_.random, 16); }
  int64_t wallMillis() override { return core_.clock.wallMillis(); }
  void persist(const std::string& group, const GroupState& state,
               std::move_only_function<void(Result<>)> done) override;

 private:
  Core& core_;
  Owned& owned_;
  Worker& worker_;
};

struct GroupCoordinator::Owned {
  Owned(Core& core, Worker& itsWorker) : worker(itsWorker), host(core, *this, itsWorker) {}
  Worker& worker;
  Host host;
  std::unordered_map<std::string, Entry> groups;
  std::unique_ptr<Timer> cleaning;
};

struct GroupCoordinator::CommitCall {
  std::string name;
  std::shared_ptr<Group> group;
  std::vector<GroupOffset> offsets;
  std::vector<TopicId> topics;  ///< of the offsets
  std::vector<Result<>> results;
  Done<Result<std::vector<Result<>>>> done;
  int64_t nowMs = 0;
};

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
    if (!entry.group) {
      entry.group = std::make_shared<Group>(owned.host, limits_, name);
      core_.metrics.groups.add(1);
    }
    return entry;
  };
  using storage::StateTable;
  core_.store.scanState(StateTable::kGroup, "", [&](BytesView key, BytesView value) {
    auto state = decodeGroup(key, value);
    if (!state) {
      result = std::unexpected(state.error());
      return false;
    }
    Entry& entry = entryOf(std::string(key));
    entry.group->restore(std::move(*state));
    entry.journaled = true;
    return true;
  });
  if (!result) return result;
  std::vector<storage::StateChange> orphans;
  core_.store.scanState(StateTable::kGroupOffset, "", [&](BytesView key, BytesView value) {
    auto state = decodeGroupOffset(key, value);
    if (!state) {
      result = std::unexpected(state.error());
      return false;
    }
    // Its topic was deleted just before the end.
    TopicRef topic = core_.catalogue->find(state->topic);
    if (!topic) {
      orphans.push_back({StateTable::kGroupOffset, std::string(key), std::nullopt});
      return true;
    }
    Entry& entry = entryOf(state->group);
    entry.lastCommitMs = std::max(entry.lastCommitMs, state->offset.committedMs);
    entry.offsets[{state->topic, state->partition}] = {std::move(state->offset), topic->id, 0};
    return true;
  });
  if (result && !orphans.empty()) {
    storage::AppendRequest request;
    request.state = std::move(orphans);
    request.durability = storage::Durability::kUnwaited;
    (void)core_.store.append(std::move(request));  // else at the next start
  }
  return result;
}

void GroupCoordinator::start(Worker& worker) {
  Owned& owned = *owned_[worker.index];
  for (auto& [name, entry] : owned.groups) entry.group->resume();
  owned.cleaning = worker.dispatcher.makeTimer([this, &owned] {
    dropOld(owned);
    owned.cleaning->start(kCleaningMicros);
  });
  owned.cleaning->start(kCleaningMicros);
}

void GroupCoordinator::stop(Worker& worker) {
  Owned& owned = *owned_[worker.index];
  owned.cleaning = nullptr;
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

template <class T>
Done<T> GroupCoordinator::backHere(Done<T> done) const {
  Worker& caller = core_.here();
  return [&caller, done = std::move(done)](T value) mutable {
    caller.post([done = std::move(done), value = std::move(value)]() mutable {
      done(std::move(value));
    });
  };
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
  if (owned.groups.size() >= core_.options.maxGroups) {
    return fail(ErrorKind::kBusy, "there are as many groups as are allowed");
  }
  Entry& entry = owned.groups[group];
  entry.group = std::make_shared<Group>(owned.host, limits_, group);
  core_.metrics.groups.add(1);
  return &entry;
}

/// A request that was refused leaves no group behind.
void GroupCoordinator::forgetIfNew(Owned& owned, const std::string& group) {
  Entry* entry = find(owned, group);
  if (entry == nullptr || entry->journaled || !entry->offsets.empty()) return;
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
    std::shared_ptr<Group> group = (*entry)->group;
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
    std::shared_ptr<Group> group = entry->group;
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
    std::shared_ptr<Group> group = entry != nullptr ? entry->group : nullptr;
    for (const auto& [member, instance] : leave.members) {
      if (group) {
        results.push_back(group->leave(member, instance));
      } else {
        results.push_back(std::unexpected(unknownGroup(leave.group)));
      }
    }
    if (!group || group->state() != Group::State::kEmpty) return done(std::move(results));
    // The last one out is told once the journal has it: after a crash the next member would wait for
    // the one that left until its session times out.
    owned.host.persist(leave.group, group->snapshot(),
                       [done = std::move(done), results = std::move(results)](Result<>) mutable {
                         done(std::move(results));
                       });
  });
}

// ---------------------------------------------------------------- offsets

void GroupCoordinator::commit(GroupCommit commit, Done<Result<std::vector<Result<>>>> done) {
  std::string name = commit.group;
  onOwner(name, [this, commit = std::move(commit),
                 done = backHere(std::move(done))](Owned& owned) mutable {
    commitHere(owned, std::move(commit), std::move(done));
  });
}

Result<TopicId> GroupCoordinator::checkOffset(const GroupOffset& offset) const {
  TopicRef topic = core_.catalogue->find(offset.topic);
  if (!topic || offset.partition < 0 ||
      static_cast<size_t>(offset.partition) >= topic->partitions.size()) {
    return fail(ErrorKind::kNotFound,
                fmt::format("no partition {} of topic '{}'", offset.partition, offset.topic));
  }
  if (offset.metadata.size() > core_.options.maxOffsetMetadataBytes) {
    return fail(ErrorKind::kTooLarge, "the offset's metadata are too large");
  }
  return topic->id;
}

void GroupCoordinator::commitHere(Owned& owned, GroupCommit commit,
                                  Done<Result<std::vector<Result<>>>> done) {
  Entry* entry = find(owned, commit.group);
  if (entry == nullptr) {
    if (commit.generation >= 0) {
      return done(fail(ErrorKind::kIllegalGeneration, "no group '" + commit.group + "'"));
    }
    auto made = findOrMake(owned, commit.group);
    if (!made) return done(std::unexpected(made.error()));
    entry = *made;
  }
  if (Result<> ok = entry->group->checkCommit(commit); !ok) {
    forgetIfNew(owned, commit.group);
    return done(std::unexpected(ok.error()));
  }
  auto call = std::make_shared<CommitCall>();
  call->name = std::move(commit.group);
  call->group = entry->group;
  call->done = std::move(done);
  call->nowMs = core_.clock.wallMillis();
  storage::AppendRequest request;
  for (GroupOffset& offset : commit.offsets) {
    Result<TopicId> topic = checkOffset(offset);
    call->topics.push_back(topic ? *topic : TopicId{});
    Result<>& result = call->results.emplace_back();
    if (!topic) {
      result = std::unexpected(topic.error());
      continue;
    }
    Entry::Place& place = entry->offsets[{offset.topic, offset.partition}];
    // Of an earlier topic: what was committed for it means nothing any more.
    if (place.topic != *topic) place = {std::nullopt, *topic, 0};
    ++place.onTheirWay;
    request.state.push_back(
        {storage::StateTable::kGroupOffset,
         groupOffsetKey(call->name, offset.topic, offset.partition),
         encodeOffset({offset.offset, offset.leaderEpoch, call->nowMs, offset.metadata})});
  }
  call->offsets = std::move(commit.offsets);
  if (request.state.empty()) {
    forgetIfNew(owned, call->name);
    return call->done(std::move(call->results));
  }
  request.durability = storage::Durability::kSynced;
  request.sink = &owned.worker.sink;
  request.done = [this, &owned, call](const Result<storage::Appended>& result) {
    if (!result) ++core_.writeFailures;
    committed(owned, *call, result);
  };
  if (auto appended = core_.store.append(std::move(request)); !appended) {
    committed(owned, *call, std::unexpected(appended.error()));
  }
}

void GroupCoordinator::committed(Owned& owned, CommitCall& call,
                                 const Result<storage::Appended>& result) {
  Entry* entry = find(owned, call.name);
  // Deleted meanwhile, and perhaps made anew.
  if (entry != nullptr && entry->group != call.group) entry = nullptr;
  if (entry != nullptr && result) entry->lastCommitMs = call.nowMs;
  std::vector<storage::StateChange> nothing;
  for (size_t i = 0; i < call.offsets.size(); ++i) {
    if (!call.results[i]) continue;
    if (!result) call.results[i] = std::unexpected(result.error());
    if (entry == nullptr) continue;
    GroupOffset& offset = call.offsets[i];
    auto at = entry->offsets.find({offset.topic, offset.partition});
    // Its topic was deleted meanwhile.
    if (at == entry->offsets.end() || at->second.topic != call.topics[i]) continue;
    Entry::Place& place = at->second;
    --place.onTheirWay;
    if (result) {
      place.committed = OffsetState{offset.offset, offset.leaderEpoch, call.nowMs,
                                    std::move(offset.metadata)};
    } else if (!place.committed && place.onTheirWay == 0) {
      // What an earlier group or topic of the name has left may have been spared for this.
      nothing.push_back({storage::StateTable::kGroupOffset,
                         groupOffsetKey(call.name, offset.topic, offset.partition), std::nullopt});
      entry->offsets.erase(at);
    }
  }
  if (!nothing.empty()) deleteEventually(owned, std::move(nothing));
  if (entry != nullptr) forgetIfNew(owned, call.name);
  call.done(std::move(call.results));
}

std::vector<GroupOffset> GroupCoordinator::offsetsOf(const Entry& entry) {
  std::vector<GroupOffset> offsets;
  for (const auto& [key, place] : entry.offsets) {
    const auto& state = place.committed;
    if (!state) continue;
    offsets.push_back({key.first, key.second, state->offset, state->leaderEpoch, state->metadata});
  }
  return offsets;
}

void GroupCoordinator::fetchOffsets(
    std::string group, std::optional<std::vector<std::pair<std::string, int32_t>>> partitions,
    Done<Result<std::vector<GroupOffset>>> done) {
  std::string name = group;
  onOwner(name, [this, group = std::move(group), partitions = std::move(partitions),
                 done = backHere(std::move(done))](Owned& owned) mutable {
    Entry* entry = find(owned, group);
    std::vector<GroupOffset> offsets;
    if (!partitions) {
      if (entry != nullptr) offsets = offsetsOf(*entry);
      return done(std::move(offsets));
    }
    for (auto& [topic, partition] : *partitions) {
      GroupOffset& offset = offsets.emplace_back();
      if (entry != nullptr) {
        auto at = entry->offsets.find({topic, partition});
        if (at != entry->offsets.end() && at->second.committed) {
          const OffsetState& committed = *at->second.committed;
          offset.offset = committed.offset;
          offset.leaderEpoch = committed.leaderEpoch;
          offset.metadata = committed.metadata;
        }
      }
      offset.topic = std::move(topic);
      offset.partition = partition;
    }
    done(std::move(offsets));
  });
}

// ---------------------------------------------------------------- listing and deleting

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
        mine.back().offsets = offsetsOf(entry);
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
    description.offsets = offsetsOf(*entry);
    done(std::move(description));
  });
}

std::vector<storage::StateChange> GroupCoordinator::deletionOf(const std::string& group,
                                                               const Entry& entry) const {
  std::vector<storage::StateChange> state;
  state.push_back({storage::StateTable::kGroup, group, std::nullopt});
  for (const auto& [key, place] : entry.offsets) {
    state.push_back({storage::StateTable::kGroupOffset,
                     groupOffsetKey(group, key.first, key.second), std::nullopt});
  }
  return state;
}

void GroupCoordinator::remove(std::string group, Done<Result<>> done) {
  std::string name = group;
  onOwner(name, [this, group = std::move(group),
                 done = backHere(std::move(done))](Owned& owned) mutable {
    removeHere(owned, group, std::move(done));
  });
}

void GroupCoordinator::removeHere(Owned& owned, const std::string& group, Done<Result<>> done) {
  Entry* entry = find(owned, group);
  if (entry == nullptr) return done(noGroup(group));
  if (entry->group->hasMembers()) {
    return done(fail(ErrorKind::kGroupNotEmpty, "group '" + group + "' has members"));
  }
  auto deletion = std::make_shared<std::vector<storage::StateChange>>(deletionOf(group, *entry));
  auto shared = std::make_shared<Done<Result<>>>(std::move(done));
  storage::AppendRequest request;
  std::vector<storage::StateChange> rest = *deletion;
  request.state = takePiece(rest);
  request.durability = storage::Durability::kSynced;
  request.sink = &owned.worker.sink;
  request.done = [this, shared, deletion, &owned](const Result<storage::Appended>& result) {
    if (result) return (*shared)({});
    ++core_.writeFailures;
    // It is gone from memory; what the journal has of it follows as soon as it can be written.
    deleteEventually(owned, std::move(*deletion));
    (*shared)(std::unexpected(result.error()));
  };
  if (auto appended = core_.store.append(std::move(request)); !appended) {
    return (*shared)(std::unexpected(appended.error()));
  }
  forget(owned, group);
  if (!rest.empty()) deleteEventually(owned, std::move(rest));
}

/// Only what no newer group, or commit, of the same name has written since: on this very worker.
void GroupCoordinator::deleteEventually(Owned& owned, std::vector<storage::StateChange> state) {
  auto superseded = [this, &owned](const storage::StateChange& change) {
    if (change.table == storage::StateTable::kGroup) {
      Entry* entry = find(owned, change.key);
      return entry != nullptr && entry->journaled;
    }
    ByteReader key(change.key);
    Entry* entry = find(owned, std::string(key.bytes16()));
    std::string topic(key.bytes16());
    return entry != nullptr && entry->offsets.contains({topic, key.i32()});
  };
  core_.appendEventually(owned.worker, std::move(state),
                         [superseded](auto& changes, const auto& append) {
                           std::erase_if(changes, superseded);
                           append();
                         });
}

void GroupCoordinator::topicDeleted(std::string topic, Task done) {
  struct Gather {
    std::atomic<size_t> left;
    Task done;
  };
  auto gather = std::make_shared<Gather>();
  gather->left = owned_.size();
  gather->done = std::move(done);
  Worker& caller = core_.here();
  for (auto& owned : owned_) {
    owned->worker.post([this, gather, topic, &caller, &mine = *owned] {
      dropTopic(mine, topic);
      if (--gather->left == 0) caller.post([gather] { gather->done(); });
    });
  }
}

void GroupCoordinator::dropTopic(Owned& owned, const std::string& topic) {
  // One that has taken its place has offsets of its own.
  TopicRef now = core_.catalogue->find(topic);
  std::vector<storage::StateChange> state;
  for (auto& [name, entry] : owned.groups) {
    auto at = entry.offsets.lower_bound({topic, INT32_MIN});
    while (at != entry.offsets.end() && at->first.first == topic) {
      if (now && at->second.topic == now->id) {
        ++at;
        continue;
      }
      state.push_back({storage::StateTable::kGroupOffset,
                       groupOffsetKey(name, topic, at->first.second), std::nullopt});
      at = entry.offsets.erase(at);
    }
  }
  if (!state.empty()) deleteEventually(owned, std::move(state));
}

void GroupCoordinator::dropOld(Owned& owned) {
  int64_t oldest = core_.clock.wallMillis() - core_.options.offsetsRetentionMillis;
  std::vector<std::string> old;
  for (auto& [name, entry] : owned.groups) {
    if (entry.group->hasMembers() || entry.group->state() != Group::State::kEmpty) continue;
    bool busy = std::any_of(entry.offsets.begin(), entry.offsets.end(),
                            [](const auto& place) { return place.second.onTheirWay > 0; });
    bool expired = std::max(entry.lastCommitMs, entry.group->changedMs()) < oldest;
    if (!busy && (expired || entry.offsets.empty())) old.push_back(name);
  }
  for (const std::string& name : old) {
    Entry& entry = *find(owned, name);
    std::vector<storage::StateChange> state;
    if (entry.journaled || !entry.offsets.empty()) state = deletionOf(name, entry);
    forget(owned, name);
    if (!state.empty()) deleteEventually(owned, std::move(state));
  }
}

}  // namespace polylog::router
