// How groups whose partitions the broker assigns, share groups among them, stand in the state tables:
// one value of kGroup for the group, one of kGroupMember for each member, so that a change of one
// member costs as much as one member. Pure functions.
//
//   kGroup        group name          (first octet 2, a share group's 3; classic groups' have 1)
//   kGroupMember  u16 length and group name, member id
//   kGroupConfig  group name
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/model/consumer_group.h"
#include "core/model/group.h"
#include "router/assignors.h"

namespace polylog::router {

/// How far a member is on its way to its target.
enum class ConsumerPhase : uint8_t {
  kStable = 0,
  kUnrevoked = 1,   ///< has to give something up first
  kUnreleased = 2,  ///< waits for what others have to give up
};

/// What a member of the classic protocol has beside the others.
struct ClassicMemberState {
  int32_t sessionTimeoutMs = 0;
  std::vector<GroupProtocol> protocols = {};
};

struct ConsumerMemberState {
  std::string id;
  std::optional<std::string> instanceId = {};
  std::optional<std::string> rackId = {};
  std::string clientId = {};
  std::string clientHost = {};
  int32_t rebalanceTimeoutMs = 300'000;
  std::set<std::string> topics = {};
  std::string pattern = {};
  std::optional<std::string> assignor = {};
  int32_t epoch = 0;
  int32_t previousEpoch = -1;
  ConsumerPhase phase = ConsumerPhase::kStable;
  Assignment assigned = {};
  Assignment revoking = {};  ///< to be given up, and still its own
  Assignment target = {};
  int32_t targetEpoch = 0;  ///< at which its target last changed
  std::optional<ClassicMemberState> classic = {};
};

struct ConsumerGroupState {
  int32_t epoch = 0;
  int32_t assignmentEpoch = 0;
  int64_t changedMs = 0;
  AssignorTopics topics = {};  ///< that it subscribes to and that are there
  std::map<std::string, std::set<std::string>> patterns = {};  ///< and the topics they stand for
};

/// Of which kind a group is, by its value of kGroup.
GroupKind groupKindOf(BytesView value);
/// `kind`: kConsumer or kShare.
std::string encodeConsumerGroup(const ConsumerGroupState& state,
                                GroupKind kind = GroupKind::kConsumer);
Result<ConsumerGroupState> decodeConsumerGroup(BytesView name, BytesView value);

std::string groupMemberKey(BytesView group, BytesView member);
/// (group, member).
Result<std::pair<std::string, std::string>> parseGroupMemberKey(BytesView key);
std::string encodeConsumerMember(const ConsumerMemberState& state);
Result<ConsumerMemberState> decodeConsumerMember(BytesView member, BytesView value);

std::string encodeGroupConfig(const GroupConfig& config);
Result<GroupConfig> decodeGroupConfig(BytesView name, BytesView value);

}  // namespace polylog::router
