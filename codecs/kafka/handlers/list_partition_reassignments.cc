// ListPartitionReassignments: there are none, ever.
#include "codecs/kafka/wire/list_partition_reassignments.h"

#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {

void handleListPartitionReassignments(const CallRef& call,
                                      wire::ListPartitionReassignmentsRequest&&) {
  call->answer(wire::ListPartitionReassignmentsResponse{});
}

}  // namespace polylog::kafka
