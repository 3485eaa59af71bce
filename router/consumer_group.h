// One consumer group whose partitions the broker assigns (Kafka's KIP-848, as Apache Kafka's group
// coordinator runs it): each change of subscriptions, members or topics raises the group's epoch
// and gives every member a target; each member goes to its target by itself, heartbeat by
// heartbeat, and gives up what it has to before another may have it. Members of the classic
// protocol take part with joins, syncs and heartbeats of theirs.
//
// Members and targets are journaled with every change, and nothing is told that isn't durable.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/model/principal.h"
#include "router/consumer_group_state.h"
#include "router/group.h"
#include "router/membership.h"

namespace polylog::router {

struct ConsumerTimeouts {
  int32_t sessionMs = 0;
  int32_t heartbeatMs = 0;
};

/// What a consumer group needs of its surroundings beside that.
class ConsumerGroupHost : public GroupHost {
 public:
  /// `done` when all of it is durable, or has failed.
  virtual void journal(std::vector<storage::StateChange> changes,
                       std::move_only_function<void(Result<>)> done) = 0;
  virtual uint64_t topicsVersion() const = 0;
  virtual TopicRef findTopic(const std::string& name) const = 0;
  virtual TopicRef findTopic(const TopicId& id) const = 0;
  /// What `who` may see.
  virtual std::vector<TopicRef> topicsFor(const PrincipalRef& who) const = 0;
  virtual ConsumerTimeouts timeoutsOf(const std::string& group) const = 0;
  virtual const ConsumerFormat& format() const = 0;
  /// The last member of the consumer protocol has left, and members of the classic one are there.
  virtual void onlyClassicLeft(const std::string& group) = 0;
};

/// What members are told of an assignment: its topics that are still there, by name.
std::vector<NamedPartitions> named(const Assignment& assignment, const ConsumerGroupHost& host);

class ConsumerGroup final : public Membership, public std::enable_shared_from_this<ConsumerGroup> {
 public:
  using BeatReply = std::move_only_function<void(Result<ConsumerHeartbeatAnswer>)>;

  ConsumerGroup(ConsumerGroupHost& host, const GroupLimits& limits, std::string name);
  ~ConsumerGroup() override;
  /// As it was journaled; then its members.
  void restore(ConsumerGroupState state);
  void restoreMember(ConsumerMemberState state);
  /// With the members of a classic group, who have what their assignments say.
  /// kInconsistentProtocol where those can't be read.
  Result<> adopt(int32_t generation, const std::vector<ClassicMember>& members);
  /// For a classic group, if there are but members of the classic protocol.
  std::vector<ClassicMember> classicMembers() const;
  bool onlyClassic() const;
  int32_t epoch() const { return epoch_; }

  /// Whether beat() may be asked this, as far as that can be told without knowing the member.
  Result<> check(const ConsumerHeartbeat& beat) const;
  void beat(const PrincipalRef& who, ConsumerHeartbeat beat, BeatReply reply);

  void join(GroupJoin join, JoinReply reply) override;
  void sync(GroupSync sync, SyncReply reply) override;
  Result<> heartbeat(const GroupHeartbeat& beat) override;
  Result<> leave(const std::string& memberId,
                 const std::optional<std::string>& instanceId) override;
  Result<> checkCommit(const GroupCommit& commit) override;
  Result<> checkReader(const GroupReader& reader) const override;

  void resume() override;
  void die(const Error& error) override;
  void whenDurable(std::move_only_function<void(Result<>)> then) override;

  GroupKind kind() const override { return GroupKind::kConsumer; }
  const std::string& name() const override { return name_; }
  bool hasMembers() const override { return !members_.empty(); }
  bool hasMember(const std::string& memberId) const override { return members_.contains(memberId); }
  bool isEmpty() const override { return members_.empty(); }
  int64_t changedMs() const override { return changedMs_; }
  GroupDescription describe() const override;
  void addDeletion(std::vector<storage::StateChange>& state) const override;

 private:
  struct Member {
    ConsumerMemberState state;
    std::unique_ptr<Timer> session;
    std::unique_ptr<Timer> rebalance;  ///< while it has to give something up, or to sync or join
    uint64_t heard = 0;                ///< of rounds_, when `session` was last started
    uint64_t waiting = 0;              ///< the same for `rebalance`
  };
  struct Pattern {
    std::shared_ptr<const TopicPattern> compiled;  ///< null after a restart, until it is refreshed
    std::set<std::string> topics;
    uint64_t version = 0;  ///< of the topics that it was matched with
  };
  /// An entry of the journal under way, and who waits for it.
  struct Flight {
    std::set<std::string> members;
    bool group = false;
    Result<> before;  ///< of those that were under way when it set out, the first failure
    std::vector<std::move_only_function<void(Result<>)>> waiting;
  };
  /// A place for one of a topic's partitions.
  using Place = std::pair<TopicId, int32_t>;

  // ---- members (consumer_group.cc)
  Result<Member*> admit(const ConsumerHeartbeat& beat);
  Result<Member*> admitStatic(const ConsumerHeartbeat& beat, Member* known);
  Result<> checkEpoch(const Member& member, const ConsumerHeartbeat& beat) const;
  bool update(Member& member, const ConsumerHeartbeat& beat);
  Result<Member*> memberToLeave(const std::string& memberId,
                                const std::optional<std::string>& instanceId);
  void leaveByBeat(const ConsumerHeartbeat& beat, BeatReply reply);
  Member* find(const std::string& memberId);
  const Member* find(const std::string& memberId) const;
  bool full(const std::string& memberId) const;
  Member& addMember(const std::string& memberId, const std::optional<std::string>& instanceId);
  Member& replaceMember(const std::string& oldId, const std::string& newId);
  void removeMember(const std::string& memberId);
  void membersLeft();
  void subscribe(Member& member, std::set<std::string> topics);
  void keepAlive(Member& member);
  void expectWithin(Member& member, int64_t millis);
  std::unique_ptr<Timer> timerFor(const std::string& memberId, bool session);
  void expire(const std::string& memberId, bool session, uint64_t round);

  // ---- assignments (consumer_group_assignment.cc)
  void refresh(const PrincipalRef& who, bool bump);
  bool patternsDue() const;
  bool refreshPatterns(const PrincipalRef& who, uint64_t version);
  void prunePatterns();
  AssignorTopics subscribedTopics() const;
  std::set<TopicId> topicsOf(const Member& member) const;
  std::string assignorName() const;
  void assign();
  void reconcile(Member& member, const std::optional<Assignment>& owned, bool changed);
  void moveTowardsTarget(Member& member, const std::optional<Assignment>& owned);
  void dropUnsubscribed(Member& member, const std::optional<Assignment>& owned);
  void setCurrent(Member& member, ConsumerPhase phase, int32_t epoch, Assignment assigned,
                  Assignment revoking);
  void claim(const Member& member);
  void release(const Member& member);
  void settleOwnership(Member& member);

  // ---- the classic protocol (consumer_group_classic.cc)
  Result<> checkJoin(const GroupJoin& join) const;
  Result<Member*> admitJoin(const GroupJoin& join);
  bool updateFromJoin(Member& member, const GroupJoin& join,
                      const ConsumerFormat::Subscription& subscription);
  Result<Member*> classicMember(const std::string& memberId,
                                const std::optional<std::string>& instanceId, int32_t generation);
  bool mustJoinAgain(const Member& member) const;
  Assignment byId(const ConsumerFormat::Partitions& partitions) const;
  std::string written(const Member& member) const;
  std::optional<std::string> commonProtocol(const GroupJoin& join) const;

  // ---- the journal (consumer_group.cc)
  void flush(std::move_only_function<void(Result<>)> then);
  void landed(const std::shared_ptr<Flight>& flight, const Result<>& result);

  ConsumerGroupHost& host_;
  const GroupLimits& limits_;
  const std::string name_;
  int32_t epoch_ = 0;
  int32_t assignmentEpoch_ = 0;
  int64_t changedMs_ = 0;
  std::map<std::string, Member> members_;
  std::map<std::string, std::string> staticMembers_;  ///< instance id -> member id
  std::map<std::string, size_t> names_;  ///< topics subscribed to by name, and by how many
  std::map<std::string, Pattern> patterns_;
  AssignorTopics topics_;                ///< that the targets are made of
  uint64_t topicsVersion_ = 0;           ///< that topics_ is true of
  int64_t matchedMs_ = 0;                ///< when patterns_ were last held against all topics
  bool assignAnew_ = false;              ///< what was journaled of the targets isn't whole
  std::map<Place, std::string> owners_;  ///< of what is assigned or to be given up
  std::optional<Error> dead_;            ///< what whoever comes is told
  uint64_t rounds_ = 0;

  std::set<std::string> dirtyMembers_;  ///< to be journaled: changed, or gone
  bool dirtyGroup_ = false;
  std::deque<std::shared_ptr<Flight>> flights_;
};

}  // namespace polylog::router
