// OffsetForLeaderEpoch: consumers ask where an epoch ends to see whether the log was cut off below
// where they are. It never is: an offset that was answered is never given to another record, so
// that every epoch there has been reaches to the end.
#include "codecs/kafka/wire/offset_for_leader_epoch.h"

#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {
namespace {

constexpr int32_t kNoEpoch = -1;

Code check(int32_t theirs, int32_t now) {
  if (theirs == kNoEpoch || theirs == now) return Code::kNone;
  return theirs < now ? Code::kFencedLeaderEpoch : Code::kUnknownLeaderEpoch;
}

}  // namespace

void handleOffsetForLeaderEpoch(const CallRef& call, wire::OffsetForLeaderEpochRequest&& request) {
  int32_t now = call->broker().leaderEpoch().value();
  wire::OffsetForLeaderEpochResponse response;
  for (const auto& topic : request.topics) {
    auto& answer = response.topics.emplace_back();
    answer.name = topic.name;
    TopicRef found = findTopic(*call, topic.name);
    for (const auto& asked : topic.partitions) {
      auto& out = answer.partitions.emplace_back();
      out.index = asked.index;
      if (!hasPartition(found, asked.index)) {
        out.errorCode = code(Code::kUnknownTopicOrPartition);
        continue;
      }
      out.errorCode = code(check(asked.currentLeaderEpoch, now));
      if (out.errorCode != 0 || asked.leaderEpoch < 0 || asked.leaderEpoch > now) continue;
      auto bounds = call->broker().bounds(call->principal(), found->name, asked.index);
      if (!bounds) {
        out.errorCode = code(bounds.error(), Area::kTopic);
        continue;
      }
      out.leaderEpoch = asked.leaderEpoch;
      out.endOffset = bounds->highWatermark.value();
    }
  }
  call->answer(response);
}

}  // namespace polylog::kafka
