// AlterPartitionReassignments: a partition can only be where it is, and nothing is ever under way.
#include "codecs/kafka/wire/alter_partition_reassignments.h"

#include <optional>
#include <vector>

#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {
namespace {

using Answer = wire::AlterPartitionReassignmentsResponse::Topic::Partition;

void judge(const std::optional<std::vector<int32_t>>& replicas, int32_t node, Answer& out) {
  if (!replicas) {
    out.errorCode = code(Code::kNoReassignmentInProgress);
    out.errorMessage = "the partition is not on its way anywhere";
  } else if (*replicas != std::vector<int32_t>{node}) {
    out.errorCode = code(Code::kInvalidReplicaAssignment);
    out.errorMessage = "every partition's one replica is on this broker";
  }
}

}  // namespace

void handleAlterPartitionReassignments(const CallRef& call,
                                       wire::AlterPartitionReassignmentsRequest&& request) {
  wire::AlterPartitionReassignmentsResponse response;
  response.allowReplicationFactorChange = request.allowReplicationFactorChange;
  for (const auto& asked : request.topics) {
    auto& topic = response.responses.emplace_back();
    topic.name = asked.name;
    TopicRef found = findTopic(*call, asked.name);
    for (const auto& partition : asked.partitions) {
      Answer& out = topic.partitions.emplace_back();
      out.index = partition.index;
      if (hasPartition(found, partition.index)) {
        judge(partition.replicas, call->options().nodeId, out);
        continue;
      }
      out.errorCode = code(Code::kUnknownTopicOrPartition);
      out.errorMessage = "there is no such partition";
    }
  }
  call->answer(response);
}

}  // namespace polylog::kafka
