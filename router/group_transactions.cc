// GroupCoordinator's offsets that come with transactions: checked when they are given, kept as
// undecided while the transaction is open, committed with it.
#include <fmt/format.h>

#include <algorithm>

#include "router/catalogue.h"
#include "router/group_parts.h"
#include "router/transaction_coordinator.h"

namespace polylog::router {

void GroupCoordinator::commitInTransaction(TransactionProducer who, GroupCommit commit,
                                           Done<Result<std::vector<Result<>>>> done) {
  std::string name = commit.group;
  onOwner(name, [this, who = std::move(who), commit = std::move(commit),
                 done = backHere(std::move(done))](Owned& owned) mutable {
    commitInTransactionHere(owned, who, std::move(commit), std::move(done));
  });
}

void GroupCoordinator::commitInTransactionHere(Owned& owned, const TransactionProducer& who,
                                               GroupCommit commit,
                                               Done<Result<std::vector<Result<>>>> done) {
  if (commit.generation >= 0 && find(owned, commit.group) == nullptr) {
    return done(fail(ErrorKind::kIllegalGeneration, "no group '" + commit.group + "'"));
  }
  auto entry = findOrMake(owned, commit.group);
  if (!entry) return done(std::unexpected(entry.error()));
  if (Result<> ok = (*entry)->group->checkCommit(commit); !ok) {
    forgetIfNew(owned, commit.group);
    return done(std::unexpected(ok.error()));
  }
  PendingOffsets pending{commit.group, {}};
  std::vector<Result<>> results;
  std::vector<Entry::Key> fresh;
  int64_t nowMs = core_.clock.wallMillis();
  for (GroupOffset& offset : commit.offsets) {
    Result<TopicId> topic = checkOffset(offset);
    results.push_back(topic ? Result<>() : std::unexpected(topic.error()));
    if (!topic) continue;
    Entry::Key key{offset.topic, offset.partition};
    if ((*entry)->undecided.insert({key, who.id}).second) fresh.push_back(std::move(key));
    pending.offsets.push_back(
        {std::move(offset.topic),
         *topic,
         offset.partition,
         {offset.offset, offset.leaderEpoch, nowMs, std::move(offset.metadata)}});
  }
  if (pending.offsets.empty()) {
    forgetIfNew(owned, commit.group);
    return done(std::move(results));
  }
  core_.transactions->addOffsets(
      who, std::move(pending),
      [this, &owned, name = commit.group, id = who.id, fresh = std::move(fresh),
       results = std::move(results), done = std::move(done)](Result<> added) mutable {
        if (added) return done(std::move(results));
        decided(owned, name, id, fresh);
        done(std::unexpected(added.error()));
      });
}

/// What the transaction had for these partitions isn't undecided any more.
void GroupCoordinator::decided(Owned& owned, const std::string& group, const std::string& id,
                               const std::vector<std::pair<std::string, int32_t>>& keys) {
  Entry* entry = find(owned, group);
  if (entry == nullptr) return;
  for (const Entry::Key& key : keys) entry->undecided.erase({key, id});
  forgetIfNew(owned, group);
}

void GroupCoordinator::transactionEnded(const std::string& id, PendingOffsets offsets, bool commit,
                                        Position position, Task then) {
  std::string name = offsets.group;
  Worker& caller = core_.here();
  Owned& owned = ownerOf(name);
  owned.worker.post([this, &owned, &caller, id, offsets = std::move(offsets), commit, position,
                     then = std::move(then)]() mutable {
    std::vector<Entry::Key> keys;
    for (const PendingOffset& one : offsets.offsets) keys.emplace_back(one.topic, one.partition);
    if (commit) committedWith(owned, offsets, position);
    decided(owned, offsets.group, id, keys);
    caller.post(std::move(then));
  });
}

/// The journal has these offsets, at `position`.
void GroupCoordinator::committedWith(Owned& owned, PendingOffsets& offsets, Position position) {
  std::vector<storage::StateChange> orphans;
  for (PendingOffset& pending : offsets.offsets) {
    TopicRef topic = core_.catalogue->find(pending.topic);
    auto entry = findOrMake(owned, offsets.group);
    if (!topic || topic->id != pending.topicId || !entry) {
      orphans.push_back({storage::StateTable::kGroupOffset,
                         groupOffsetKey(offsets.group, pending.topic, pending.partition),
                         std::nullopt});
      continue;
    }
    Entry::Place& place = (*entry)->offsets[{pending.topic, pending.partition}];
    if (place.topic != topic->id) place = {std::nullopt, topic->id, 0, {}};
    (*entry)->lastCommitMs = std::max((*entry)->lastCommitMs, pending.offset.committedMs);
    // A commit outside of transactions that the journal has behind may have been heard of before.
    if (place.committed && place.at > position) continue;
    place.at = position;
    place.committed = std::move(pending.offset);
  }
  if (!orphans.empty()) deleteEventually(owned, std::move(orphans));
}

void GroupCoordinator::restorePending(const std::string& group,
                                      const std::pair<std::string, int32_t>& partition,
                                      const std::string& id) {
  Owned& owned = ownerOf(group);
  if (auto entry = findOrMake(owned, group)) (*entry)->undecided.insert({partition, id});
}

}  // namespace polylog::router
