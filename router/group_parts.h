// What GroupCoordinator's files share: group_coordinator.cc (memberships, listing),
// group_deletion.cc, group_consumers.cc, group_shares.cc, group_offsets.cc and
// group_transactions.cc. For those alone.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/model/topic.h"
#include "router/consumer_group.h"
#include "router/group_coordinator.h"
#include "router/share_group.h"
#include "router/state_codec.h"

namespace polylog::router {

inline std::unexpected<Error> noGroup(const std::string& name) {
  return fail(ErrorKind::kNotFound, "no group '" + name + "'");
}
/// Which has clients try again: Kafka's COORDINATOR_LOAD_IN_PROGRESS.
inline std::unexpected<Error> beingDeleted(const std::string& name) {
  return fail(ErrorKind::kConcurrentTransaction,
              "group '" + name + "' is being deleted: try again in a moment");
}
inline Error unknownGroup(const std::string& name) {
  return {ErrorKind::kUnknownMember, "no group '" + name + "'"};
}

/// A group and its offsets.
struct GroupCoordinator::Entry {
  /// What is committed for a partition: nothing yet while the first commit is on its way to the
  /// disk.
  struct Place {
    std::optional<OffsetState> committed;
    TopicId topic{};  ///< there may have been another of its name
    int onTheirWay = 0;
    Position at{};  ///< of the entry that committed it in this run
  };
  using Key = std::pair<std::string, int32_t>;

  std::shared_ptr<Membership> group;
  uint64_t incarnation = 0;  ///< of the name: another one once it has been deleted
  int64_t lastCommitMs = 0;
  bool journaled = false;  ///< its membership
  std::map<Key, Place> offsets;
  /// Partitions for which open transactions have offsets, and whose.
  std::set<std::pair<Key, std::string>> undecided;

  bool isUndecided(const Key& key) const {
    auto first = undecided.lower_bound({key, {}});
    return first != undecided.end() && first->first == key;
  }
};

class GroupCoordinator::Host final : public ShareGroupHost {
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
  void journal(std::vector<storage::StateChange> changes,
               std::move_only_function<void(Result<>)> done) override;
  uint64_t topicsVersion() const override;
  TopicRef findTopic(const std::string& name) const override;
  TopicRef findTopic(const TopicId& id) const override;
  std::vector<TopicRef> topicsFor(const PrincipalRef& who) const override;
  ConsumerTimeouts timeoutsOf(const std::string& group) const override;
  const ConsumerFormat& format() const override;
  void onlyClassicLeft(const std::string& group) override;
  ShareTerms shareTermsOf(const std::string& group) const override;
  bool mayTakePart(const PrincipalRef& who, const std::string& group) const override;
  bool mayRead(const PrincipalRef& who, const std::string& topic) const override;
  int64_t monotonicMicros() const override { return core_.clock.monotonicMicros(); }
  storage::LogStore& store() const override { return core_.store; }
  storage::CompletionSink& sink() const override { return worker_.sink; }
  void handedOut(const PrincipalRef& who, int64_t records, int64_t bytes) override;

 private:
  Core& core_;
  Owned& owned_;
  Worker& worker_;
};

/// A group that is gone from memory, until the journal has that. Nobody makes one of its name
/// meanwhile: it would take what is left in the journal for its own after a crash.
struct GroupCoordinator::Leaving {
  std::vector<storage::StateChange> piece;  ///< on its way to the journal
  std::vector<storage::StateChange> rest;
  bool appended = false;  ///< the piece is; else it is to be, with the next try
  std::move_only_function<void(Result<>)> done;
};

struct GroupCoordinator::Owned {
  Owned(Core& core, Worker& itsWorker) : worker(itsWorker), host(core, *this, itsWorker) {}
  Worker& worker;
  Host host;
  std::unordered_map<std::string, Entry> groups;
  std::map<std::string, Leaving> leaving;
  std::vector<storage::StateChange> orphans;   ///< found by load(): to be deleted
  std::map<std::string, GroupConfig> configs;  ///< of groups that need not be there
  uint64_t incarnations = 0;
  std::unique_ptr<Timer> cleaning;
  std::unique_ptr<Timer> retry;  ///< of what is leaving
};

struct GroupCoordinator::CommitCall {
  std::string name;
  uint64_t incarnation = 0;
  std::vector<GroupOffset> offsets;
  std::vector<TopicId> topics;  ///< of the offsets
  std::vector<Result<>> results;
  Done<Result<std::vector<Result<>>>> done;
  int64_t nowMs = 0;
};

template <class T>
Done<T> GroupCoordinator::backHere(Done<T> done) const {
  Worker& caller = core_.here();
  return [&caller, done = std::move(done)](T value) mutable {
    caller.post([done = std::move(done), value = std::move(value)]() mutable {
      done(std::move(value));
    });
  };
}

}  // namespace polylog::router
