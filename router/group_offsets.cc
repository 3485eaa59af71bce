// GroupCoordinator's offsets: committed, fetched, and dropped with their topics.

#include <fmt/format.h>

#include <algorithm>
#include <atomic>

#include "router/catalogue.h"
#include "router/group_parts.h"

namespace polylog::router {

void GroupCoordinator::commit(GroupCommit commit, Done<Result<std::vector<Result<>>>> done) {
  std::string name = commit.group;
  onOwner(name,
          [this, commit = std::move(commit), done = backHere(std::move(done))](
              Owned& owned) mutable { commitHere(owned, std::move(commit), std::move(done)); });
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
      return done(fail(commit.knowsEpochs ? ErrorKind::kNotFound : ErrorKind::kIllegalGeneration,
                       "no group '" + commit.group + "'"));
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
  call->incarnation = entry->incarnation;
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
    if (place.topic != *topic) place = {std::nullopt, *topic, 0, {}};
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
  if (entry != nullptr && entry->incarnation != call.incarnation) entry = nullptr;
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
      // A transaction that the journal has behind it may have been heard of before.
      if (place.committed && place.at > result->position) continue;
      place.at = result->position;
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
    offsets.push_back({key.first, key.second, state->offset, state->leaderEpoch, state->metadata,
                       entry.isUndecided(key)});
  }
  return offsets;
}

void GroupCoordinator::fetchOffsets(
    std::string group, std::optional<GroupReader> reader,
    std::optional<std::vector<std::pair<std::string, int32_t>>> partitions,
    Done<Result<std::vector<GroupOffset>>> done) {
  std::string name = group;
  onOwner(name, [this, group = std::move(group), reader = std::move(reader),
                 partitions = std::move(partitions),
                 done = backHere(std::move(done))](Owned& owned) mutable {
    Entry* entry = find(owned, group);
    bool share = entry != nullptr && entry->group->kind() == GroupKind::kShare;
    if (share && !reader) reader.emplace();
    if (entry != nullptr && reader) {
      if (Result<> ok = entry->group->checkReader(*reader); !ok) {
        return done(std::unexpected(ok.error()));
      }
    }
    std::vector<GroupOffset> offsets;
    if (!partitions) {
      if (entry != nullptr) offsets = offsetsOf(*entry);
      return done(std::move(offsets));
    }
    for (auto& [topic, partition] : *partitions) {
      GroupOffset& offset = offsets.emplace_back();
      if (entry != nullptr) {
        offset.undecided = entry->isUndecided({topic, partition});
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

void GroupCoordinator::deleteOffsets(GroupOffsetDeletion deletion,
                                     Done<Result<std::vector<Result<>>>> done) {
  std::string name = deletion.group;
  onOwner(name, [this, deletion = std::move(deletion),
                 done = backHere(std::move(done))](Owned& owned) mutable {
    deleteOffsetsHere(owned, std::move(deletion), std::move(done));
  });
}

/// They go from memory at once, as a deleted group's do, and are told as gone when the journal has
/// it. What is being committed just now stays: it comes after this.
void GroupCoordinator::deleteOffsetsHere(Owned& owned, GroupOffsetDeletion deletion,
                                         Done<Result<std::vector<Result<>>>> done) {
  const std::string& group = deletion.group;
  Entry* entry = find(owned, group);
  bool share = entry != nullptr && entry->group->kind() == GroupKind::kShare;
  if (entry == nullptr || share) return done(noGroup(group));
  Result<std::set<std::string>> inUse;
  if (entry->group->hasMembers()) inUse = deletion.topicsInUse(entry->group->describe());
  if (!inUse) return done(std::unexpected(inUse.error()));
  std::vector<Result<>> results;
  std::vector<storage::StateChange> state;
  for (auto& [topic, partition] : deletion.partitions) {
    Result<>& result = results.emplace_back();
    if (inUse->contains(topic)) {
      result = fail(ErrorKind::kInUse, fmt::format("group '{}' reads topic '{}'", group, topic));
      continue;
    }
    auto at = entry->offsets.find({topic, partition});
    if (at == entry->offsets.end() || at->second.onTheirWay > 0) continue;
    state.push_back(
        {storage::StateTable::kGroupOffset, groupOffsetKey(group, topic, partition), std::nullopt});
    entry->offsets.erase(at);
  }
  if (state.empty()) return done(std::move(results));
  journalDeletion(owned, std::move(state),
                  [done = std::move(done), results = std::move(results)](Result<> result) mutable {
                    if (!result) return done(std::unexpected(result.error()));
                    done(std::move(results));
                  });
}

/// Of offsets that are gone from memory. `done` when all of it is durable; what could not be
/// journaled follows as soon as it can be.
void GroupCoordinator::journalDeletion(Owned& owned, std::vector<storage::StateChange> state,
                                       std::move_only_function<void(Result<>)> done) {
  std::vector<storage::StateChange> all = state;
  journalAll(owned, std::move(state),
             [this, &owned, all = std::move(all), done = std::move(done)](Result<> result) mutable {
               if (!result) deleteEventually(owned, std::move(all));
               done(std::move(result));
             });
}

/// In as many entries as it takes. `done` once, not inside the call, when all of it is durable or
/// has failed: none is written after one that failed.
void GroupCoordinator::journalAll(Owned& owned, std::vector<storage::StateChange> state,
                                  std::move_only_function<void(Result<>)> done) {
  if (state.empty()) return owned.worker.later([done = std::move(done)]() mutable { done({}); });
  auto told = std::make_shared<std::move_only_function<void(Result<>)>>(std::move(done));
  const uint64_t failures = core_.store.failures();
  while (!state.empty()) {
    storage::AppendRequest request;
    request.state = takePiece(state);
    request.durability = storage::Durability::kSynced;
    request.ifFailures = failures;
    if (state.empty()) {  // the last is durable after all the others, or fails with them
      request.sink = &owned.worker.sink;
      request.done = [this, told](const Result<storage::Appended>& result) {
        if (result) return (*told)({});
        ++core_.writeFailures;
        (*told)(std::unexpected(result.error()));
      };
    }
    if (auto appended = core_.store.append(std::move(request)); !appended) {
      return owned.worker.later(
          [told, error = appended.error()] { (*told)(std::unexpected(error)); });
    }
  }
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
    if (entry.group->kind() == GroupKind::kShare) {
      static_cast<ShareGroup&>(*entry.group).dropTopics();
      continue;
    }
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

}  // namespace polylog::router
