// One consumer group's membership: the classic protocol's state machine, as Apache Kafka's group
// coordinator runs it (join, sync, heartbeat, leave; dynamic and static members). Offsets are
// GroupCoordinator's. On the group's owner worker only; replies may run from inside a call.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "router/membership.h"

namespace polylog::router {

/// A member as a group of another kind takes it over.
struct ClassicMember {
  GroupMemberState state;  ///< its metadata are those of the group's protocol
  std::vector<GroupProtocol> protocols;
};

class Group final : public Membership, public std::enable_shared_from_this<Group> {
 public:
  enum class State : uint8_t { kEmpty, kPreparingRebalance, kCompletingRebalance, kStable, kDead };

  Group(GroupHost& host, const GroupLimits& limits, std::string name);
  ~Group() override;
  /// As it was journaled.
  void restore(GroupState state);
  /// With the members of a group of another kind, which have what their assignments say.
  void adopt(int32_t generation, std::vector<ClassicMember> members);
  /// Has them all join again.
  void rebalance() { maybeRebalance(); }

  void join(GroupJoin join, JoinReply reply) override;
  void sync(GroupSync sync, SyncReply reply) override;
  Result<> heartbeat(const GroupHeartbeat& beat) override;
  Result<> leave(const std::string& memberId,
                 const std::optional<std::string>& instanceId) override;
  Result<> checkCommit(const GroupCommit& commit) override;
  /// Its members' epochs are no matter here.
  Result<> checkReader(const GroupReader& /*reader*/) const override { return {}; }

  void resume() override;
  void die(const Error& error) override;
  void whenDurable(std::move_only_function<void(Result<>)> then) override;

  GroupKind kind() const override { return GroupKind::kClassic; }
  const std::string& name() const override { return name_; }
  bool hasMembers() const override { return !members_.empty() || !pending_.empty(); }
  bool hasMember(const std::string& memberId) const override { return members_.contains(memberId); }
  bool isEmpty() const override { return state_ == State::kEmpty && !hasMembers(); }
  int64_t changedMs() const override { return changedMs_; }
  GroupDescription describe() const override;
  /// They stand in the group's own entry.
  void addDeletion(std::vector<storage::StateChange>& /*state*/) const override {}

  const std::string& protocolType() const { return protocolType_; }
  int32_t generation() const { return generation_; }
  /// In the order in which they joined.
  std::vector<ClassicMember> members() const;
  /// What restore() takes.
  GroupState snapshot() const;

 private:
  struct Member {
    std::string id;
    std::optional<std::string> instanceId;
    std::string clientId;
    std::string clientHost;
    int32_t sessionTimeoutMs = 0;
    int32_t rebalanceTimeoutMs = 0;
    std::vector<GroupProtocol> protocols;
    std::string assignment;
    JoinReply awaitingJoin;
    SyncReply awaitingSync;
    bool isNew = false;
    std::unique_ptr<Timer> timer;
    uint64_t heard = 0;  ///< of hearings_, when the timer was last started
  };

  // ---- joining
  Result<> checkJoin(const GroupJoin& join) const;
  void joinUnknown(GroupJoin join, JoinReply reply);
  void joinKnown(GroupJoin join, JoinReply reply);
  void addMember(std::string memberId, GroupJoin join, JoinReply reply);
  void updateMember(Member& member, GroupJoin join, JoinReply reply);
  void replaceStatic(const std::string& oldId, GroupJoin join, JoinReply reply);
  bool supports(const GroupJoin& join) const;
  static bool sameProtocols(const Member& member, const GroupJoin& join);
  GroupJoined joined(const Member& member) const;

  // ---- rebalancing
  void maybeRebalance();
  void prepareRebalance();
  void completeJoinIfAll();
  std::unique_ptr<Timer> rebalanceTimer(void (Group::*onFire)());
  void onJoinTimer();
  void completeJoin();
  bool electLeaderAmongJoined();
  void becomeEmpty();
  void nextGeneration();
  std::string choseProtocol() const;
  void assigned(std::vector<std::pair<std::string, std::string>> assignments);
  void propagateAssignments(const std::optional<Error>& error);
  void onSyncTimer();

  // ---- members
  Result<Member*> currentMember(const std::string& memberId,
                                const std::optional<std::string>& instanceId);
  void keepAlive(Member& member);
  void keepAliveFor(Member& member, int64_t millis);
  void expire(const std::string& memberId, uint64_t heard);
  void expirePending(std::string memberId);
  /// By value: the id is often the very one that goes with the member.
  void removeMember(std::string memberId);
  void afterRemoval();
  std::unique_ptr<Timer> timerFor(const std::string& memberId, bool pending);
  bool allJoined() const;
  int64_t rebalanceTimeout() const;
  const std::string* metadataOf(const Member& member) const;

  GroupHost& host_;
  const GroupLimits& limits_;
  const std::string name_;
  State state_ = State::kEmpty;
  int32_t generation_ = 0;
  std::string protocolType_;
  std::string protocol_;
  std::string leader_;
  int64_t changedMs_ = 0;
  /// By id. Order of joining in joinOrder_, which leaders and ties follow.
  std::map<std::string, Member> members_;
  std::vector<std::string> joinOrder_;
  std::map<std::string, std::string> staticMembers_;  ///< instance id -> member id
  std::map<std::string, std::unique_ptr<Timer>> pending_;  ///< given an id, not joined yet
  std::set<std::string> pendingSync_;
  std::unique_ptr<Timer> joinTimer_;
  std::unique_ptr<Timer> syncTimer_;
  bool initialJoin_ = false;      ///< the first rebalance of an empty group, which waits for more
  bool newMemberAdded_ = false;
  int64_t initialLeftMs_ = 0;
  // What a timer has to say is said after the round: it is of no interest if these have moved on.
  uint64_t rebalances_ = 0;
  uint64_t hearings_ = 0;
};

const char* describe(Group::State state);

}  // namespace polylog::router
