// ListOffsets: the ends of partitions, and offsets by timestamp.
#include "codecs/kafka/wire/list_offsets.h"

#include <optional>
#include <string>

#include "codecs/kafka/errors.h"
#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {
namespace {

// What a negative timestamp asks for, and the first version that has it.
constexpr int64_t kLatest = -1;
constexpr int64_t kEarliest = -2;
constexpr int64_t kMaxTimestamp = -3;     // 7
constexpr int64_t kEarliestLocal = -4;    // 8
constexpr int64_t kLatestTiered = -5;     // 9
constexpr int64_t kEarliestPending = -6;  // 11: to be moved to another tier

constexpr int8_t kReadCommitted = 1;

bool known(int64_t timestamp, int16_t version) {
  switch (timestamp) {
    case kMaxTimestamp: return version >= 7;
    case kEarliestLocal: return version >= 8;
    case kLatestTiered: return version >= 9;
    case kEarliestPending: return version >= 11;
    default: return timestamp >= kEarliest;
  }
}

using Found = Result<std::optional<OffsetAtTime>>;

Found find(const Call& call, const std::string& topic, int32_t partition, int64_t timestamp,
           bool committedOnly) {
  Result<PartitionBounds> bounds = call.broker().bounds(call.principal(), topic, partition);
  if (!bounds) return std::unexpected(std::move(bounds.error()));
  if (timestamp >= 0) {
    Found found = call.broker().offsetAtTime(call.principal(), topic, partition, timestamp);
    bool undecided = committedOnly && found && *found && (*found)->offset >= bounds->lastStable;
    return undecided ? Found(std::nullopt) : found;
  }
  if (timestamp == kMaxTimestamp) {
    return call.broker().offsetOfMaxTimestamp(call.principal(), topic, partition);
  }
  // Nothing is in another tier, nor on its way there.
  if (timestamp == kLatestTiered || timestamp == kEarliestPending) return std::nullopt;
  if (timestamp != kLatest) return OffsetAtTime{bounds->logStart, -1};
  return OffsetAtTime{committedOnly ? bounds->lastStable : bounds->highWatermark, -1};
}

}  // namespace

void handleListOffsets(const CallRef& call, wire::ListOffsetsRequest&& request) {
  wire::ListOffsetsResponse response;
  response.topics.reserve(request.topics.size());
  for (const auto& topic : request.topics) {
    auto& answer = response.topics.emplace_back();
    answer.name = topic.name;
    answer.partitions.reserve(topic.partitions.size());
    Result<std::string> name = canonicalTopic(topic.name);
    for (const auto& partition : topic.partitions) {
      auto& out = answer.partitions.emplace_back();
      out.index = partition.index;
      if (!name) {
        out.errorCode = code(Code::kUnknownTopicOrPartition);
        continue;
      }
      if (!known(partition.timestamp, call->version())) {
        out.errorCode = code(Code::kUnsupportedVersion);
        continue;
      }
      Found found = find(*call, *name, partition.index, partition.timestamp,
                         request.isolationLevel == kReadCommitted);
      if (!found) {
        out.errorCode = code(found.error(), Area::kTopic);
      } else if (*found) {
        out.offset = (*found)->offset.value();
        out.timestamp = (*found)->timestampMs;
        out.leaderEpoch = call->broker().leaderEpoch().value();
      }
    }
  }
  call->answer(response);
}

}  // namespace polylog::kafka
