// Consumer groups: the classic membership protocol (join, sync, heartbeat, leave), committed
// offsets, and descriptions of groups of every kind, in neutral terms. Plain data.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/strong.h"
#include "core/model/consumer_group.h"

namespace polylog {

struct GroupProtocol {
  std::string name;
  std::string metadata;  ///< opaque to the broker
};

struct GroupJoin {
  std::string group;
  std::string memberId;                   ///< empty at the first join
  std::optional<std::string> instanceId;  ///< static membership
  std::string clientId;
  std::string clientHost;
  std::string protocolType;
  std::vector<GroupProtocol> protocols;  ///< in the member's order of preference
  int32_t sessionTimeoutMs = 0;
  int32_t rebalanceTimeoutMs = 0;
  /// The first join only assigns a member id (kMemberIdRequired), which the client joins again
  /// with.
  bool requireKnownMemberId = false;
};

struct GroupMemberMetadata {
  std::string memberId;
  std::optional<std::string> instanceId;
  std::string metadata;
};

struct GroupJoined {
  std::optional<Error> error;  ///< memberId is set with kMemberIdRequired
  int32_t generation = -1;
  std::string protocolType;
  std::string protocol;
  std::string leader;
  std::string memberId;
  std::vector<GroupMemberMetadata> members;  ///< for the leader only
};

struct GroupSync {
  std::string group;
  std::string memberId;
  std::optional<std::string> instanceId;
  int32_t generation = -1;
  std::optional<std::string> protocolType;  ///< checked when given
  std::optional<std::string> protocol;
  std::vector<std::pair<std::string, std::string>>
      assignments;  ///< member id -> opaque; leader only
};

struct GroupSynced {
  std::optional<Error> error;
  std::string protocolType;
  std::string protocol;
  std::string assignment;
};

struct GroupHeartbeat {
  std::string group;
  std::string memberId;
  std::optional<std::string> instanceId;
  int32_t generation = -1;
};

struct GroupLeave {
  std::string group;
  /// (member id, instance id); an empty member id with an instance id removes a static member.
  std::vector<std::pair<std::string, std::optional<std::string>>> members;
};

struct GroupOffset {
  std::string topic;
  int32_t partition = 0;
  int64_t offset = -1;
  int32_t leaderEpoch = -1;
  std::string metadata;
  bool undecided = false;  ///< an open transaction has another for this partition
};

struct GroupCommit {
  std::string group;
  std::string memberId;  ///< empty and generation -1: a commit from outside the membership protocol
  std::optional<std::string> instanceId;
  int32_t generation = -1;
  std::vector<GroupOffset> offsets;
  bool transactional = false;  ///< as part of a transaction: also from outside the membership
  /// Whoever asks can be told that an epoch is stale, as members of consumer groups have to be.
  bool knowsEpochs = true;
};

struct GroupMemberDescription {
  std::string memberId;
  std::optional<std::string> instanceId;
  std::string clientId;
  std::string clientHost;
  std::string metadata;
  std::string assignment;
  std::optional<ConsumerDescription> consumer = {};  ///< in groups of that kind
};

enum class GroupKind : uint8_t {
  kClassic,   ///< its members agree on their assignments among themselves
  kConsumer,  ///< the broker assigns
  kShare,     ///< the broker assigns, and a partition may have several readers
};

struct GroupDescription {
  std::string group;
  /// Empty, Stable, Dead; PreparingRebalance, CompletingRebalance (classic); Reconciling
  /// (consumer).
  std::string state;
  std::string protocolType;
  std::string protocol;
  std::vector<GroupMemberDescription> members;
  std::vector<GroupOffset> offsets;
  GroupKind kind = GroupKind::kClassic;
  // Of a consumer or share group.
  int32_t epoch = 0;
  int32_t assignmentEpoch = 0;
  std::string assignor = {};
};

/// Who asks for committed offsets, where that is to be checked: a member and its epoch.
struct GroupReader {
  std::string memberId;
  int32_t epoch = -1;
};

/// Committed offsets to be forgotten.
struct GroupOffsetDeletion {
  std::string group;
  std::vector<std::pair<std::string, int32_t>> partitions;
  /// The topics that a group's members read, whose offsets stay; an error refuses the whole. Asked
  /// on the group's thread.
  std::function<Result<std::set<std::string>>(const GroupDescription& group)> topicsInUse;
};

}  // namespace polylog
