#include "router/liveness.h"

#include "router/ack_set.h"
#include "router/delayed_store.h"
#include "router/state_codec.h"

namespace polylog::router {
namespace {

using storage::OffsetRange;
using storage::StateTable;

void add(std::vector<OffsetRange>& ranges, int64_t first, int64_t end) {
  if (!ranges.empty() && ranges.back().second == Offset(first)) {
    ranges.back().second = Offset(end);
  } else {
    ranges.emplace_back(first, end);
  }
}

void addChunk(std::vector<OffsetRange>& ranges, int64_t number, BytesView bits) {
  int64_t at = number * AckSet::kChunkBits;
  for (char octet : bits) {
    for (int bit = 0; bit < 8; ++bit, ++at) {
      if ((static_cast<uint8_t>(octet) >> bit & 1) != 0) add(ranges, at, at + 1);
    }
  }
}

}  // namespace

std::vector<OffsetRange> DurableLiveness::usedUp(PartitionId partition) const {
  std::vector<OffsetRange> ranges;
  if (auto value = store_.getState(StateTable::kInbox, inboxKey(partition))) {
    if (auto state = decodeInbox(*value)) {
      for (const auto& [first, end] : state->acknowledged.ranges()) add(ranges, first, end);
    }
    return ranges;
  }
  // Chunks come in ascending order.
  store_.scanState(StateTable::kQueueAck, inboxKey(partition), [&](BytesView key, BytesView value) {
    auto parsed = parseQueueAckKey(key);
    if (parsed && parsed->chunk != kSentMark) addChunk(ranges, parsed->chunk, value);
    return true;
  });
  if (ranges.empty() && isDelayed(partition)) return delayedUsedUp(partition);
  return ranges;
}

bool DurableLiveness::isDelayed(PartitionId partition) const {
  if (!delayed_) {
    auto value = store_.getState(StateTable::kMeta, kDelayedPartition);
    auto number = value ? decodeNumber(*value, kDelayedPartition) : Result<uint64_t>(0);
    if (!number || *number == 0) return false;
    delayed_ = PartitionId(*number);
  }
  return partition == *delayed_;
}

/// What is between those that wait. Of what is behind the last of them the state may not have heard
/// yet.
std::vector<OffsetRange> DurableLiveness::delayedUsedUp(PartitionId partition) const {
  std::vector<OffsetRange> ranges;
  Offset next(0);
  store_.scanState(StateTable::kDelayed, inboxKey(partition), [&](BytesView key, BytesView) {
    auto parsed = parseDelayedKey(key);
    if (!parsed) return true;
    if (parsed->second > next) ranges.emplace_back(next, parsed->second);
    next = parsed->second + 1;
    return true;
  });
  return ranges;
}

Position DurableLiveness::routedUpTo() const {
  auto value = store_.getState(StateTable::kMeta, kRoutedPosition);
  auto position = value ? decodeNumber(*value, kRoutedPosition) : Result<uint64_t>(0);
  return Position(position ? *position : 0);
}

}  // namespace polylog::router
