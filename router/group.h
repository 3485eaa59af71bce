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
#include "core/event/dispatcher.h"
#include "core/model/group.h"
#include "router/state_codec.h"

namespace polylog::router {

struct GroupLimits {
  int64_t initialRebalanceMillis = 0;
  int32_t minSessionTimeoutMillis = 1;
  int32_t maxSessionTimeoutMillis = 1'800'000;
  size_t maxMembers = 10'000;
};

/// What a group needs of its surroundings.
class GroupHost {
 public:
  virtual ~GroupHost() = default;
  virtual std::unique_ptr<Timer> makeTimer(Task onFire) = 0;
  /// Runs when the current round is through.
  virtual void later(Task task) = 0;
  /// 32 characters nobody can guess.
  virtual std::string randomName() = 0;
  virtual int64_t wallMillis() = 0;
  /// Journals the state; `done` when that is durable, or null when nobody waits.
  virtual void persist(const std::string& group, const GroupState& state,
                       std::move_only_function<void(Result<>)> done) = 0;
};

class Group : public std::enable_shared_from_this<Group> {
 public:
  using JoinReply = std::move_only_function<void(GroupJoined)>;
  using SyncReply = std::move_only_function<void(GroupSynced)>;
  enum class State : uint8_t { kEmpty, kPreparingRebalance, kCompletingRebalance, kStable, kDead };

  Group(GroupHost& host, const GroupLimits& limits, std::string name);
  ~Group();
  /// As it was journaled. resume() then gives its members a session timeout to come back in.
  void restore(GroupState state);
  void resume();

  void join(GroupJoin join, JoinReply reply);
  void sync(GroupSync sync, SyncReply reply);
  Result<> heartbeat(const GroupHeartbeat& beat);
  Result<> leave(const std::string& memberId, const std::optional<std::string>& instanceId);
  /// Whether offsets may be committed by whom and when it says.
  Result<> checkCommit(const GroupCommit& commit);
  /// Answers everybody who waits and takes no more calls.
  void die(const Error& error);

  const std::string& name() const { return name_; }
  State state() const { return state_; }
  /// What restore() takes.
  GroupState snapshot() const;
  bool hasMembers() const { return !members_.empty() || !pending_.empty(); }
  int64_t changedMs() const { return changedMs_; }
  GroupDescription describe() const;

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
