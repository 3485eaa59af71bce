// How transactions stand in the state table kTransaction: by their transactional id. As
// state_codec.h says.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/model/topic.h"
#include "core/model/transaction.h"
#include "router/state_codec.h"

namespace polylog::router {

/// An offset that becomes its group's with the commit.
struct PendingOffset {
  std::string topic;
  TopicId topicId{};  ///< there may be another of its name by then
  int32_t partition = 0;
  OffsetState offset;
};
struct PendingOffsets {
  std::string group;
  std::vector<PendingOffset> offsets;  ///< one a partition; the last counts
};

struct TransactionState {
  ProducerIdentity producer;  ///< id -1: nobody has it yet
  ProducerIdentity previous;  ///< who may have missed the answer that made it `producer`
  int32_t timeoutMs = 0;
  TransactionStatus status = TransactionStatus::kEmpty;
  int64_t changedMs = 0;
  int64_t startedMs = -1;
  std::vector<PartitionId> partitions;  ///< ascending
  std::vector<PendingOffsets> groups;
};

std::string encodeTransaction(const TransactionState& state);
Result<TransactionState> decodeTransaction(BytesView id, BytesView value);

}  // namespace polylog::router
