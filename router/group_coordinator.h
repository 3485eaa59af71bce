// Consumer and share groups: each on one worker, by its name's hash. Calls come from any worker and
// are brought to the owner; answers go back to the caller's worker, never from inside its call.
// Offsets are kept in memory and journaled (kGroupOffset), memberships too (kGroup, kGroupMember):
// those of the classic protocol when they become stable or empty, the others with every change. So
// is what share groups have done (kSharePartition).
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/model/broker.h"
#include "core/model/share_group.h"
#include "router/core.h"
#include "router/group.h"
#include "router/transaction_state.h"

namespace polylog::router {

class ConsumerGroup;
class ShareGroup;

class GroupCoordinator {
 public:
  explicit GroupCoordinator(Core& core);
  ~GroupCoordinator();
  Result<> load();
  void start(Worker& worker);
  void stop(Worker& worker);

  void join(GroupJoin join, Done<GroupJoined> done);
  void sync(GroupSync sync, Done<GroupSynced> done);
  void heartbeat(GroupHeartbeat beat, Done<Result<>> done);
  void leave(GroupLeave leave, Done<Result<std::vector<Result<>>>> done);
  void consumerHeartbeat(const PrincipalRef& who, ConsumerHeartbeat beat,
                         Done<Result<ConsumerHeartbeatAnswer>> done);
  // ---- share groups, as ShareGroups has them
  void shareHeartbeat(ShareHeartbeat beat, Done<Result<ConsumerHeartbeatAnswer>> done);
  void settleShares(const PrincipalRef& who, std::string group, std::string memberId,
                    std::vector<ShareSettlement> settlements, Done<Result<ShareSettled>> done);
  std::unique_ptr<WaitHandle> acquireShares(const PrincipalRef& who, ShareAcquire asked,
                                            Done<Result<ShareAcquired>> done);
  void releaseShares(std::string group, std::string memberId, Task done);
  void shareOffsets(std::string group,
                    std::optional<std::vector<std::pair<std::string, int32_t>>> partitions,
                    Done<Result<std::vector<ShareOffset>>> done);
  void alterShareOffsets(std::string group, std::vector<ShareOffset> offsets,
                         Done<Result<std::vector<Result<>>>> done);
  void deleteShareOffsets(std::string group, std::vector<std::string> topics,
                          Done<Result<std::vector<Result<>>>> done);

  void config(std::string group, Done<Result<GroupConfig>> done);
  void alterConfig(std::string group, Broker::GroupConfigChange change, Done<Result<>> done);
  void configured(Done<std::vector<std::string>> done);
  void commit(GroupCommit commit, Done<Result<std::vector<Result<>>>> done);
  /// Offsets that are committed with their transaction.
  void commitInTransaction(TransactionProducer who, GroupCommit commit,
                           Done<Result<std::vector<Result<>>>> done);
  /// The journal has the end of a transaction at `position`. `then` on the calling worker when the
  /// group knows.
  void transactionEnded(const std::string& id, PendingOffsets offsets, bool commit,
                        Position position, Task then);
  /// At start-up, after load().
  void restorePending(const std::string& group, const std::pair<std::string, int32_t>& partition,
                      const std::string& id);
  void fetchOffsets(std::string group, std::optional<GroupReader> reader,
                    std::optional<std::vector<std::pair<std::string, int32_t>>> partitions,
                    Done<Result<std::vector<GroupOffset>>> done);
  void deleteOffsets(GroupOffsetDeletion deletion, Done<Result<std::vector<Result<>>>> done);
  void list(Done<std::vector<GroupDescription>> done);
  void describe(std::string group, Done<Result<GroupDescription>> done);
  void remove(std::string group, Done<Result<>> done);
  /// Forgets what groups have committed for a topic; `done` on the calling worker when sequenced.
  void topicDeleted(std::string topic, Task done);

 private:
  /// What one worker owns.
  struct Owned;
  struct Entry;
  struct Leaving;
  struct CommitCall;
  struct Claim;
  class Claiming;
  class Host;

  Owned& ownerOf(BytesView group) const;
  void onOwner(const std::string& group, std::move_only_function<void(Owned&)> task);
  template <class T>
  Done<T> backHere(Done<T> done) const;
  Entry* find(Owned& owned, const std::string& group) const;
  Result<std::shared_ptr<Membership>> restored(BytesView name, BytesView value);
  Result<> loadMembers();
  Result<> loadShares();
  Result<> loadConfigs();
  void orphan(const std::string& group, storage::StateTable table, BytesView key);
  void makeEntry(Owned& owned, Entry& entry, std::shared_ptr<Membership> group);
  Result<Entry*> findOrMake(Owned& owned, const std::string& group);
  void forget(Owned& owned, const std::string& group);
  void forgetIfNew(Owned& owned, const std::string& group);

  Result<std::shared_ptr<ConsumerGroup>> consumersFor(Owned& owned, const ConsumerHeartbeat& beat);
  Result<std::shared_ptr<ShareGroup>> sharesFor(Owned& owned, const ShareHeartbeat& beat);
  Result<std::shared_ptr<ShareGroup>> findShares(Owned& owned, const std::string& group) const;
  Result<> upgrade(Entry& entry, ConsumerGroup& fresh);
  void downgrade(Owned& owned, const std::string& group);
  void makeClassicIfEmpty(Owned& owned, Entry& entry);
  void alterConfigHere(Owned& owned, const std::string& group, Broker::GroupConfigChange change,
                       Done<Result<>> done);
  void commitHere(Owned& owned, GroupCommit commit, Done<Result<std::vector<Result<>>>> done);
  void commitInTransactionHere(Owned& owned, const TransactionProducer& who, GroupCommit commit,
                               Done<Result<std::vector<Result<>>>> done);
  void decided(Owned& owned, const std::string& group, const std::string& id,
               const std::vector<std::pair<std::string, int32_t>>& keys);
  void committedWith(Owned& owned, PendingOffsets& offsets, Position position);
  Result<TopicId> checkOffset(const GroupOffset& offset) const;
  void deleteOffsetsHere(Owned& owned, GroupOffsetDeletion deletion,
                         Done<Result<std::vector<Result<>>>> done);
  void journalDeletion(Owned& owned, std::vector<storage::StateChange> state,
                       std::move_only_function<void(Result<>)> done);
  void journalAll(Owned& owned, std::vector<storage::StateChange> state,
                  std::move_only_function<void(Result<>)> done);
  void committed(Owned& owned, CommitCall& call, const Result<storage::Appended>& result);
  static bool isDeletedGroup(BytesView value);
  void removeHere(Owned& owned, const std::string& group, Done<Result<>> done);
  void deleteGroup(Owned& owned, const std::string& group,
                   std::move_only_function<void(Result<>)> done);
  void deleteLeaving(Owned& owned);
  void deleteNext(Owned& owned, const std::string& group);
  void pieceDeleted(Owned& owned, const std::string& group, const Result<>& result);
  void deleteEventually(Owned& owned, std::vector<storage::StateChange> state);
  void dropTopic(Owned& owned, const std::string& topic);
  void dropOld(Owned& owned);
  static std::vector<GroupOffset> offsetsOf(const Entry& entry);
  std::vector<storage::StateChange> deletionOf(const std::string& group, const Entry& entry) const;

  Core& core_;
  GroupLimits limits_;
  std::vector<std::unique_ptr<Owned>> owned_;
  std::atomic<uint64_t> claims_{0};
};

}  // namespace polylog::router
