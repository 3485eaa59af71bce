// Who reads which partition: the server-side assignors of Kafka's KIP-848, `uniform` and `range`,
// whose partitions each go to exactly one subscriber of their topic; and that of share groups
// (KIP-932). Pure functions.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/model/consumer_group.h"

namespace polylog::router {

struct AssignorMember {
  std::string id;
  std::optional<std::string> instanceId;
  std::set<TopicId> topics;   ///< subscribed to; all of them are in the topics given beside
  const Assignment* current;  ///< its target so far
};
/// Topics and how many partitions they have.
using AssignorTopics = std::map<TopicId, int32_t>;
/// In the order of the members.
using AssignorResult = std::vector<Assignment>;

using Assignor = AssignorResult (*)(std::span<const AssignorMember> members,
                                    const AssignorTopics& topics);

/// As even as the subscriptions allow, and as much as possible as it was.
AssignorResult assignUniform(std::span<const AssignorMember> members, const AssignorTopics& topics);
/// Of each topic a contiguous range, in the order of members (static ones first), so that topics
/// with as many partitions and the same subscribers are divided alike.
AssignorResult assignRange(std::span<const AssignorMember> members, const AssignorTopics& topics);

/// Of share groups: a partition may have several readers. Every partition has one at least, every
/// member something to read, and both as evenly as can be.
AssignorResult assignShared(std::span<const AssignorMember> members, const AssignorTopics& topics);

/// The first is the one that groups have whose members name none.
inline constexpr const char* kAssignorNames[] = {"uniform", "range"};
/// Null if there is none of that name.
Assignor findAssignor(const std::string& name);

}  // namespace polylog::router
