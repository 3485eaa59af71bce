// DeleteRecords: what is below an offset goes, answered when that is durable.
#include "codecs/kafka/wire/delete_records.h"

#include <memory>
#include <optional>

#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {
namespace {

constexpr int64_t kAllThereAre = -1;

using Deletion = Pending<wire::DeleteRecordsResponse>;

Code check(const TopicRef& topic, int32_t partition, int64_t offset) {
  if (!hasPartition(topic, partition)) return Code::kUnknownTopicOrPartition;
  // Of a topic that is only compacted, nothing goes by its age.
  if (!topic->config.cleanup.deletes) return Code::kPolicyViolation;
  if (offset < kAllThereAre) return Code::kOffsetOutOfRange;
  return Code::kNone;
}

}  // namespace

void handleDeleteRecords(const CallRef& call, wire::DeleteRecordsRequest&& request) {
  auto deletion = std::make_shared<Deletion>(call);
  auto& topics = deletion->response.topics;
  topics.resize(request.topics.size());
  for (size_t i = 0; i < topics.size(); ++i) {
    topics[i].name = request.topics[i].name;
    topics[i].partitions.resize(request.topics[i].partitions.size());
    TopicRef topic = findTopic(*call, topics[i].name);
    for (size_t j = 0; j < topics[i].partitions.size(); ++j) {
      const auto& asked = request.topics[i].partitions[j];
      auto& answer = topics[i].partitions[j];
      answer.index = asked.index;
      answer.errorCode = code(check(topic, asked.index, asked.offset));
      if (answer.errorCode != 0) continue;
      std::optional<Offset> before;
      if (asked.offset != kAllThereAre) before = Offset(asked.offset);
      ++deletion->waiting;
      call->broker().deleteRecords(call->principal(), topic->name, asked.index, before,
                                   [deletion, &answer](const Result<Offset>& start) {
                                     if (start) {
                                       answer.lowWatermark = start->value();
                                     } else {
                                       answer.errorCode = code(start.error(), Area::kTopic);
                                     }
                                     deletion->release();
                                   });
    }
  }
  deletion->release();
}

}  // namespace polylog::kafka
