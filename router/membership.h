// Who is in a consumer group, whichever way its members agree on what each reads: Group (the
// classic protocol) and ConsumerGroup (the broker assigns). Offsets are GroupCoordinator's. On the
// group's owner worker only; replies may run from inside a call.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/event/dispatcher.h"
#include "core/model/group.h"
#include "router/state_codec.h"
#include "storage/log_store.h"

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

/// Octets of a client's id that the id of a member of its begins with.
inline constexpr size_t kMaxIdClientBytes = 255;

class Membership {
 public:
  using JoinReply = std::move_only_function<void(GroupJoined)>;
  using SyncReply = std::move_only_function<void(GroupSynced)>;

  virtual ~Membership() = default;
  virtual GroupKind kind() const = 0;
  virtual const std::string& name() const = 0;
  virtual bool hasMembers() const = 0;
  virtual bool hasMember(const std::string& memberId) const = 0;
  /// Nobody is in it, and no rebalance is under way.
  virtual bool isEmpty() const = 0;
  /// By the wall clock, when its membership last changed.
  virtual int64_t changedMs() const = 0;
  virtual GroupDescription describe() const = 0;
  /// What deletes the members' own entries in the journal.
  virtual void addDeletion(std::vector<storage::StateChange>& state) const = 0;

  /// After a restart: its members have a session timeout to come back in.
  virtual void resume() = 0;
  /// Answers everybody who waits and takes no more calls.
  virtual void die(const Error& error) = 0;
  /// Runs when what has been changed is durable, or with why it can't be made so.
  virtual void whenDurable(std::move_only_function<void(Result<>)> then) = 0;

  // ---- the classic protocol
  virtual void join(GroupJoin join, JoinReply reply) = 0;
  virtual void sync(GroupSync sync, SyncReply reply) = 0;
  virtual Result<> heartbeat(const GroupHeartbeat& beat) = 0;
  virtual Result<> leave(const std::string& memberId,
                         const std::optional<std::string>& instanceId) = 0;

  // ---- offsets
  /// Whether offsets may be committed by whom and when it says.
  virtual Result<> checkCommit(const GroupCommit& commit) = 0;
  virtual Result<> checkReader(const GroupReader& reader) const = 0;
};

}  // namespace polylog::router
