// GroupCoordinator's share groups: brings what is asked to the group's worker and answers back.
#include <algorithm>

#include "router/catalogue.h"
#include "router/group_parts.h"

namespace polylog::router {

// ---------------------------------------------------------------- surroundings

ShareTerms GroupCoordinator::Host::shareTermsOf(const std::string& group) const {
  const GroupDefaults& defaults = core_.options.groupDefaults;
  static const GroupConfig kNothing;
  auto at = owned_.configs.find(group);
  const GroupConfig& own = at == owned_.configs.end() ? kNothing : at->second;
  ShareTerms terms;
  terms.sessionMs = own.shareSessionTimeoutMs.value_or(defaults.shareSessionTimeoutMs);
  terms.heartbeatMs = own.shareHeartbeatIntervalMs.value_or(defaults.shareHeartbeatIntervalMs);
  terms.lockMs = own.shareLockMs.value_or(defaults.shareLockMs);
  terms.resetAgoMs = own.shareReset ? own.shareReset->agoMs : ShareReset::kLatest;
  terms.committedOnly = own.shareCommittedOnly.value_or(false);
  terms.deliveries = defaults.shareDeliveries;
  terms.recordLocks = defaults.shareRecordLocks;
  terms.maxPartitions = static_cast<size_t>(defaults.maxSharePartitions);
  return terms;
}

bool GroupCoordinator::Host::mayTakePart(const PrincipalRef& who, const std::string& group) const {
  return core_.authorizer.permits(who, Operation::kJoin, {ResourceKind::kGroup, group});
}

bool GroupCoordinator::Host::mayRead(const PrincipalRef& who, const std::string& topic) const {
  return core_.authorizer.permits(who, Operation::kRead, {ResourceKind::kTopic, topic});
}

void GroupCoordinator::Host::handedOut(const PrincipalRef& who, int64_t records, int64_t bytes) {
  core_.metrics.recordsOut(who->protocol).add(records);
  core_.metrics.bytesOut(who->protocol).add(bytes);
}

// ---------------------------------------------------------------- a restart

Result<> GroupCoordinator::loadShares() {
  Result<> result;
  using storage::StateTable;
  core_.store.scanState(StateTable::kSharePartition, "", [&](BytesView key, BytesView value) {
    auto place = parseSharePartitionKey(key);
    auto state =
        place ? SharePartition::decode(place->first, value) : std::unexpected(place.error());
    if (!state) {
      result = std::unexpected(state.error());
      return false;
    }
    auto group = findShares(ownerOf(place->first), place->first);
    if (!group || !core_.catalogue->find(place->second.topic)) {
      // Its group or topic was on its way out at the end.
      orphan(place->first, StateTable::kSharePartition, key);
      return true;
    }
    (*group)->restorePartition(place->second, std::move(*state));
    return true;
  });
  return result;
}

// ---------------------------------------------------------------- which group

Result<std::shared_ptr<ShareGroup>> GroupCoordinator::findShares(Owned& owned,
                                                                 const std::string& group) const {
  Entry* entry = find(owned, group);
  if (entry == nullptr) return noGroup(group);
  if (entry->group->kind() != GroupKind::kShare) {
    return fail(ErrorKind::kNotFound, "group '" + group + "' is not a share group");
  }
  return std::static_pointer_cast<ShareGroup>(entry->group);
}

/// The group of the heartbeat, made if need be. Groups don't change between this kind and others.
Result<std::shared_ptr<ShareGroup>> GroupCoordinator::sharesFor(Owned& owned,
                                                                const ShareHeartbeat& beat) {
  if (find(owned, beat.group) != nullptr || beat.epoch != ShareHeartbeat::kJoins) {
    return findShares(owned, beat.group);
  }
  auto fresh = std::make_shared<ShareGroup>(owned.host, limits_, beat.group);
  if (Result<> ok = fresh->check(beat); !ok) return std::unexpected(ok.error());
  auto made = findOrMake(owned, beat.group);
  if (!made) return std::unexpected(made.error());
  (*made)->group = fresh;
  return fresh;
}

// ---------------------------------------------------------------- calls

void GroupCoordinator::shareHeartbeat(ShareHeartbeat beat,
                                      Done<Result<ConsumerHeartbeatAnswer>> done) {
  std::string name = beat.group;
  onOwner(name,
          [this, beat = std::move(beat), done = backHere(std::move(done))](Owned& owned) mutable {
            auto group = sharesFor(owned, beat);
            if (!group) return done(std::unexpected(group.error()));
            (*group)->beat(std::move(beat), std::move(done));
            forgetIfNew(owned, (*group)->name());
          });
}

void GroupCoordinator::settleShares(const PrincipalRef& who, std::string group,
                                    std::string memberId, std::vector<ShareSettlement> settlements,
                                    Done<Result<ShareSettled>> done) {
  onOwner(group,
          [this, who, group, memberId = std::move(memberId), settlements = std::move(settlements),
           done = backHere(std::move(done))](Owned& owned) mutable {
            auto shares = findShares(owned, group);
            if (!shares) return done(std::unexpected(shares.error()));
            (*shares)->settle(who, memberId, settlements, std::move(done));
          });
}

/// A member's wish for records, while its connection is there.
struct GroupCoordinator::Claim {
  uint64_t id = 0;
  std::string group;
  Done<Result<ShareAcquired>> done;
  bool over = false;  ///< answered, or nobody is interested any more. On the caller's worker
};

class GroupCoordinator::Claiming final : public WaitHandle {
 public:
  Claiming(GroupCoordinator& groups, std::shared_ptr<Claim> claim)
      : groups_(groups), claim_(std::move(claim)) {}
  ~Claiming() override {
    if (std::exchange(claim_->over, true)) return;
    claim_->done = nullptr;
    groups_.onOwner(claim_->group, [&groups = groups_, claim = claim_](Owned& owned) {
      auto shares = groups.findShares(owned, claim->group);
      if (shares) (*shares)->cancel(claim->id);
    });
  }

 private:
  GroupCoordinator& groups_;
  std::shared_ptr<Claim> claim_;
};

std::unique_ptr<WaitHandle> GroupCoordinator::acquireShares(const PrincipalRef& who,
                                                            ShareAcquire asked,
                                                            Done<Result<ShareAcquired>> done) {
  auto claim = std::make_shared<Claim>();
  claim->id = ++claims_;
  claim->group = asked.group;
  claim->done = std::move(done);
  Done<Result<ShareAcquired>> answered = [this, claim](Result<ShareAcquired> got) {
    if (!std::exchange(claim->over, true)) return claim->done(std::move(got));
    if (!got || got->empty()) return;
    // Whoever asked has gone meanwhile.
    onOwner(claim->group, [this, claim, got = std::move(*got)](Owned& owned) {
      auto shares = findShares(owned, claim->group);
      if (shares) (*shares)->giveBack(got);
    });
  };
  onOwner(claim->group, [this, who, claim, asked = std::move(asked),
                         done = backHere(std::move(answered))](Owned& owned) mutable {
    auto shares = findShares(owned, claim->group);
    if (!shares) return done(std::unexpected(shares.error()));
    (*shares)->acquire(claim->id, who, std::move(asked), std::move(done));
  });
  return std::make_unique<Claiming>(*this, std::move(claim));
}

void GroupCoordinator::releaseShares(std::string group, std::string memberId, Task done) {
  Worker& caller = core_.here();
  onOwner(group, [this, group, memberId = std::move(memberId), &caller,
                  done = std::move(done)](Owned& owned) mutable {
    if (auto shares = findShares(owned, group)) (*shares)->releaseMember(memberId);
    if (done) caller.post(std::move(done));
  });
}

void GroupCoordinator::shareOffsets(
    std::string group, std::optional<std::vector<std::pair<std::string, int32_t>>> partitions,
    Done<Result<std::vector<ShareOffset>>> done) {
  onOwner(group, [this, group, partitions = std::move(partitions),
                  done = backHere(std::move(done))](Owned& owned) mutable {
    auto shares = findShares(owned, group);
    if (!shares) return done(std::unexpected(shares.error()));
    if (!partitions) return done((*shares)->offsets());
    std::vector<ShareOffset> offsets;
    for (const auto& [topic, partition] : *partitions) {
      offsets.push_back((*shares)->offsetOf(topic, partition));
    }
    done(std::move(offsets));
  });
}

void GroupCoordinator::alterShareOffsets(std::string group, std::vector<ShareOffset> offsets,
                                         Done<Result<std::vector<Result<>>>> done) {
  onOwner(group, [this, group, offsets = std::move(offsets),
                  done = backHere(std::move(done))](Owned& owned) mutable {
    auto shares = findShares(owned, group);
    if (!shares) return done(std::unexpected(shares.error()));
    (*shares)->alterOffsets(offsets, std::move(done));
  });
}

void GroupCoordinator::deleteShareOffsets(std::string group, std::vector<std::string> topics,
                                          Done<Result<std::vector<Result<>>>> done) {
  onOwner(group, [this, group, topics = std::move(topics),
                  done = backHere(std::move(done))](Owned& owned) mutable {
    auto shares = findShares(owned, group);
    if (!shares) return done(std::unexpected(shares.error()));
    (*shares)->deleteOffsets(topics, std::move(done));
  });
}

}  // namespace polylog::router
