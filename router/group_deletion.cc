// GroupCoordinator's deletions: of whole groups, asked for or for want of use, and of what else the
// journal has that is done with.
#include <fmt/format.h>

#include <algorithm>

#include "core/base/byte_reader.h"
#include "core/base/log.h"
#include "router/group_parts.h"

namespace polylog::router {
namespace {

constexpr int64_t kRetryMicros = 1'000'000;

/// The first octet of what stands in a group's own place while its deletion is under way, if that
/// takes several entries of the journal: whatever there is of it is done with.
constexpr char kDeletedGroup = 4;

}  // namespace

bool GroupCoordinator::isDeletedGroup(BytesView value) {
  return !value.empty() && value.front() == kDeletedGroup;
}

// ---------------------------------------------------------------- whole groups

void GroupCoordinator::remove(std::string group, Done<Result<>> done) {
  std::string name = group;
  onOwner(name, [this, group = std::move(group), done = backHere(std::move(done))](
                    Owned& owned) mutable { removeHere(owned, group, std::move(done)); });
}

void GroupCoordinator::removeHere(Owned& owned, const std::string& group, Done<Result<>> done) {
  Entry* entry = find(owned, group);
  if (owned.leaving.contains(group)) return done(beingDeleted(group));
  if (entry == nullptr) return done(noGroup(group));
  if (entry->group->hasMembers()) {
    return done(fail(ErrorKind::kGroupNotEmpty, "group '" + group + "' has members"));
  }
  deleteGroup(owned, group, std::move(done));
}

std::vector<storage::StateChange> GroupCoordinator::deletionOf(const std::string& group,
                                                               const Entry& entry) const {
  std::vector<storage::StateChange> state;
  entry.group->addDeletion(state);
  for (const auto& [key, place] : entry.offsets) {
    state.push_back({storage::StateTable::kGroupOffset,
                     groupOffsetKey(group, key.first, key.second), std::nullopt});
  }
  // The last, so that nothing is left of a group that is gone, to be found by the next of its name.
  state.push_back({storage::StateTable::kGroup, group, std::nullopt});
  return state;
}

/// From memory at once. `done`, if any, when it is durable or the first try has failed; then it
/// goes on until it succeeds.
void GroupCoordinator::deleteGroup(Owned& owned, const std::string& group,
                                   std::move_only_function<void(Result<>)> done) {
  const std::string name = group;  // it may be the very one that is forgotten
  Leaving leaving;
  leaving.rest = deletionOf(name, *find(owned, name));
  leaving.piece = takePiece(leaving.rest);
  if (!leaving.rest.empty()) {  // a crash in the middle would leave a part of it
    leaving.piece.insert(leaving.piece.begin(),
                         {storage::StateTable::kGroup, name, std::string(1, kDeletedGroup)});
  }
  leaving.done = std::move(done);
  forget(owned, name);
  owned.leaving.insert_or_assign(name, std::move(leaving));
  deleteNext(owned, name);
}

/// Whatever isn't on its way to the journal: after a start, or a failure.
void GroupCoordinator::deleteLeaving(Owned& owned) {
  std::vector<std::string> names;
  for (const auto& [name, leaving] : owned.leaving) {
    if (!leaving.appended) names.push_back(name);
  }
  for (const std::string& name : names) deleteNext(owned, name);
}

/// Each piece when what is before it is durable: the mark stands until all the rest has gone.
void GroupCoordinator::deleteNext(Owned& owned, const std::string& group) {
  Leaving& leaving = owned.leaving.at(group);
  if (leaving.piece.empty()) leaving.piece = takePiece(leaving.rest);
  leaving.appended = true;
  storage::AppendRequest request;
  request.state = leaving.piece;
  request.durability = storage::Durability::kSynced;
  request.sink = &owned.worker.sink;
  request.done = [this, &owned, group](const Result<storage::Appended>& result) {
    if (!result) ++core_.writeFailures;
    pieceDeleted(owned, group, result ? Result<>() : std::unexpected(result.error()));
  };
  if (auto appended = core_.store.append(std::move(request)); !appended) {
    owned.worker.later([this, &owned, group, error = appended.error()] {
      pieceDeleted(owned, group, std::unexpected(error));
    });
  }
}

void GroupCoordinator::pieceDeleted(Owned& owned, const std::string& group,
                                    const Result<>& result) {
  auto at = owned.leaving.find(group);
  Leaving& leaving = at->second;
  if (result) {
    leaving.piece.clear();
    if (!leaving.rest.empty()) return deleteNext(owned, group);
    auto done = std::move(leaving.done);
    owned.leaving.erase(at);
    if (done) done({});
    return;
  }
  leaving.appended = false;
  if (auto done = std::exchange(leaving.done, nullptr)) done(std::unexpected(result.error()));
  if (core_.stopping.load() || result.error().kind == ErrorKind::kShutdown) return;
  logWarning(fmt::format("journal: the deletion of group '{}' failed ({}); trying again", group,
                         result.error().text));
  if (!owned.retry) {
    owned.retry = owned.worker.dispatcher.makeTimer([this, &owned] { deleteLeaving(owned); });
  }
  owned.retry->start(kRetryMicros);
}

/// Groups that have been without members for as long as their offsets are kept.
void GroupCoordinator::dropOld(Owned& owned) {
  int64_t oldest = core_.clock.wallMillis() - core_.options.offsetsRetentionMillis;
  std::vector<std::string> old;
  for (auto& [name, entry] : owned.groups) {
    if (!entry.group->isEmpty()) continue;
    // What it has done stays until somebody deletes it, as in Kafka.
    bool share = entry.group->kind() == GroupKind::kShare;
    if (share && static_cast<ShareGroup&>(*entry.group).hasPartitions()) continue;
    bool busy = std::any_of(entry.offsets.begin(), entry.offsets.end(),
                            [](const auto& place) { return place.second.onTheirWay > 0; }) ||
                !entry.undecided.empty();
    bool expired = std::max(entry.lastCommitMs, entry.group->changedMs()) < oldest;
    if (!busy && (expired || entry.offsets.empty())) old.push_back(name);
  }
  for (const std::string& name : old) {
    const Entry& entry = *find(owned, name);
    if (entry.journaled || !entry.offsets.empty()) {
      deleteGroup(owned, name, nullptr);
    } else {
      forget(owned, name);
    }
  }
}

// ---------------------------------------------------------------- single entries

/// Only what no newer commit or member of the same name has written since: on this very worker.
void GroupCoordinator::deleteEventually(Owned& owned, std::vector<storage::StateChange> state) {
  auto superseded = [this, &owned](const storage::StateChange& change) {
    if (change.table == storage::StateTable::kGroupMember) {
      auto name = parseGroupMemberKey(change.key);
      Entry* entry = name ? find(owned, name->first) : nullptr;
      return entry != nullptr && entry->group->kind() != GroupKind::kClassic &&
             entry->group->hasMember(name->second);
    }
    if (change.table == storage::StateTable::kSharePartition) {
      auto place = parseSharePartitionKey(change.key);
      auto shares = place ? findShares(owned, place->first) : std::unexpected(place.error());
      return shares && (*shares)->hasPartition(place->second);
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

}  // namespace polylog::router
