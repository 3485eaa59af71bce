// One share group (Kafka's KIP-932): its members, each with partitions to read that others may read
// too, and what the group has done with each partition (SharePartition).
//
// What is changed is changed in memory at once and told when the journal has it, as in
// ConsumerGroup; what members said of records is taken back if it fails. Who is given records is
// told at once, since a crash only takes them back. Members that ask for records when there are
// none wait here.
//
// On the group's owner worker only; replies may run from inside a call.
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/model/share_group.h"
#include "router/consumer_group.h"
#include "router/share_partition.h"
#include "storage/log_store.h"

namespace polylog::router {

/// What is in force for a group.
struct ShareTerms {
  int32_t sessionMs = 0;
  int32_t heartbeatMs = 0;
  int32_t lockMs = 0;
  int64_t resetAgoMs = ShareReset::kLatest;
  bool committedOnly = false;
  int32_t deliveries = 0;
  int32_t recordLocks = 0;
  size_t maxPartitions = 0;
};

/// What a share group needs of its surroundings beside that.
class ShareGroupHost : public ConsumerGroupHost {
 public:
  virtual ShareTerms shareTermsOf(const std::string& group) const = 0;
  virtual bool mayTakePart(const PrincipalRef& who, const std::string& group) const = 0;
  virtual bool mayRead(const PrincipalRef& who, const std::string& topic) const = 0;
  virtual int64_t monotonicMicros() const = 0;
  virtual storage::LogStore& store() const = 0;
  virtual storage::CompletionSink& sink() const = 0;
  /// For metrics.
  virtual void handedOut(const PrincipalRef& who, int64_t records, int64_t bytes) = 0;
};

class ShareGroup final : public Membership, public std::enable_shared_from_this<ShareGroup> {
 public:
  using BeatReply = std::move_only_function<void(Result<ConsumerHeartbeatAnswer>)>;
  using AcquireReply = std::move_only_function<void(Result<ShareAcquired>)>;
  using SettleReply = std::move_only_function<void(Result<ShareSettled>)>;
  using Results = std::vector<Result<>>;
  using ResultsReply = std::move_only_function<void(Result<Results>)>;

  ShareGroup(ShareGroupHost& host, const GroupLimits& limits, std::string name);
  ~ShareGroup() override;
  /// As it was journaled; then its members and partitions.
  void restore(ConsumerGroupState state);
  void restoreMember(ConsumerMemberState state);
  void restorePartition(const SharePlace& place, SharePartition partition);

  Result<> check(const ShareHeartbeat& beat) const;
  void beat(ShareHeartbeat beat, BeatReply reply);

  /// Answers at once if there are records or errors, else when there are, or after the time asked
  /// for. `id` is the caller's, for cancel().
  void acquire(uint64_t id, const PrincipalRef& who, ShareAcquire asked, AcquireReply reply);
  void cancel(uint64_t id);
  /// What was acquired and reached nobody.
  void giveBack(const ShareAcquired& got);
  void settle(const PrincipalRef& who, const std::string& memberId,
              const std::vector<ShareSettlement>& settlements, SettleReply reply);
  void releaseMember(const std::string& memberId);
  /// For those who wait: where the group goes on, or what is in force for it, has changed.
  void lookAgain();

  std::vector<ShareOffset> offsets() const;
  ShareOffset offsetOf(const std::string& topic, int32_t partition) const;
  void alterOffsets(const std::vector<ShareOffset>& offsets, ResultsReply reply);
  void deleteOffsets(const std::vector<std::string>& topics, ResultsReply reply);
  /// Forgets partitions of topics that are gone.
  void dropTopics();
  bool hasPartitions() const { return !partitions_.empty(); }
  bool hasPartition(const SharePlace& place) const { return partitions_.contains(place); }

  GroupKind kind() const override { return GroupKind::kShare; }
  const std::string& name() const override { return name_; }
  bool hasMembers() const override { return !members_.empty(); }
  bool hasMember(const std::string& memberId) const override { return members_.contains(memberId); }
  bool isEmpty() const override { return members_.empty(); }
  int64_t changedMs() const override { return changedMs_; }
  GroupDescription describe() const override;
  void addDeletion(std::vector<storage::StateChange>& state) const override;

  void resume() override;
  void die(const Error& error) override;
  void whenDurable(std::move_only_function<void(Result<>)> then) override;

  // ---- what share groups don't have
  void join(GroupJoin join, JoinReply reply) override;
  void sync(GroupSync sync, SyncReply reply) override;
  Result<> heartbeat(const GroupHeartbeat& beat) override;
  Result<> leave(const std::string& memberId,
                 const std::optional<std::string>& instanceId) override;
  Result<> checkCommit(const GroupCommit& commit) override;
  Result<> checkReader(const GroupReader& reader) const override;

 private:
  struct Member {
    ConsumerMemberState state;
    std::unique_ptr<Timer> session;
    uint64_t heard = 0;  ///< of rounds_, when `session` was last started
  };
  /// An entry of the journal under way, and who waits for it.
  struct Flight {
    std::set<std::string> members;
    std::set<SharePlace> partitions;
    std::map<SharePlace, std::vector<SharePartition::Settled>> settled;
    bool group = false;
    std::vector<std::move_only_function<void(Result<>)>> waiting;
  };
  struct Waiter {
    uint64_t id = 0;
    PrincipalRef who;
    ShareAcquire asked;
    AcquireReply reply;
    std::unique_ptr<Timer> timer;
  };
  struct Watch {
    PartitionId partition;
    storage::LogStore::WatchId id = 0;
    uint64_t round = 0;  ///< of rounds_
  };
  struct Taking;
  struct Looking;

  // ---- members (share_group.cc)
  Result<Member*> admit(const ShareHeartbeat& beat);
  void leaveByBeat(const ShareHeartbeat& beat, BeatReply reply);
  void refresh(bool bump);
  void assign();
  void removeMember(const std::string& memberId);
  void keepAlive(Member& member);
  void silent(const std::string& memberId);
  void expire(const std::string& memberId, uint64_t round);

  // ---- records (share_group_records.cc)
  Taking take(const PrincipalRef& who, const ShareAcquire& asked);
  Result<> takePart(Taking& taking, ShareAcquired::Part& part);
  Result<SharePartition*> partitionFor(const SharePlace& place, PartitionId id);
  Result<int64_t> firstOffset(PartitionId id) const;
  Result<> readPart(Taking& taking, SharePartition& partition, PartitionId id,
                    ShareAcquired::Part& part);
  Result<int64_t> takeBatches(Taking& taking, SharePartition& partition,
                              std::vector<storage::ReadBatch> batches, const Looking& looking,
                              ShareAcquired::Part& part);
  bool keeps(Taking& taking);
  void answer(Taking taking, AcquireReply reply);
  void watch(const Taking& taking);
  void unwatchAll();
  void pumpSoon();
  void pump();
  void giveUp(uint64_t id);
  void armLocks(int64_t deadline);
  void expireLocks();

  // ---- the journal (share_group.cc)
  void flush(std::move_only_function<void(Result<>)> then);
  void landed(const std::shared_ptr<Flight>& flight, const Result<>& result);
  void takeBack(const Flight& flight);
  void keepSettled(const SharePlace& place);

  ShareGroupHost& host_;
  const GroupLimits& limits_;
  const std::string name_;
  int32_t epoch_ = 0;
  int64_t changedMs_ = 0;
  std::map<std::string, Member> members_;
  AssignorTopics topics_;       ///< that the assignments are made of
  uint64_t topicsVersion_ = 0;  ///< that topics_ is true of
  bool assignAnew_ = false;     ///< what was journaled isn't whole
  uint64_t rounds_ = 0;
  std::optional<Error> dead_;  ///< what whoever comes is told

  std::map<SharePlace, SharePartition> partitions_;
  std::set<SharePlace> unborn_;  ///< of them: not in the journal yet, where they begin
  std::list<Waiter> waiters_;
  std::map<SharePlace, Watch> watches_;
  std::unique_ptr<Timer> lockTimer_;
  int64_t lockTimerAt_ = INT64_MAX;
  bool pumpDue_ = false;

  std::set<std::string> dirtyMembers_;  ///< to be journaled: changed, or gone
  std::set<SharePlace> dirtyPartitions_;
  bool dirtyGroup_ = false;
  /// What members said of records since the last entry, to be taken back if the next one fails.
  std::map<SharePlace, std::vector<SharePartition::Settled>> settled_;
  bool failed_ = false;  ///< the latest entry: it may be that an earlier state has been journaled
  std::deque<std::shared_ptr<Flight>> flights_;
};

}  // namespace polylog::router
