// CreatePartitions: more partitions for topics, answered when they are durable.
#include "codecs/kafka/wire/create_partitions.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "codecs/kafka/handlers/configs.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/limits.h"

namespace polylog::kafka {
namespace {

/// Whose clients know THROTTLING_QUOTA_EXCEEDED (KIP-599).
constexpr int16_t kFirstStrict = 3;

using Asked = wire::CreatePartitionsRequest::Topic;
using Answer = wire::CreatePartitionsResponse::Result;
using Growth = Pending<wire::CreatePartitionsResponse>;

void refuse(Growth& growth, Answer& answer, int16_t errorCode, std::string text) {
  answer.errorCode = errorCode;
  answer.errorMessage = growth.texts.keep(std::move(text));
}

Refusal check(const Call& call, const Asked& asked, const TopicRef& topic) {
  if (topic == nullptr) {
    return {Code::kUnknownTopicOrPartition, "there is no topic " + owned(asked.name)};
  }
  auto there = static_cast<int32_t>(topic->partitions.size());
  if (asked.total <= there) {
    return {Code::kInvalidPartitions,
            "the topic has " + std::to_string(there) + " partitions already"};
  }
  if (asked.total > kMaxPartitions) {
    return {Code::kInvalidPartitions,
            "too many partitions: at most " + std::to_string(kMaxPartitions)};
  }
  if (!asked.assignments) return {};
  if (asked.assignments->size() != static_cast<size_t>(asked.total - there)) {
    return {Code::kInvalidReplicaAssignment, "there is to be one assignment a new partition"};
  }
  const std::vector<int32_t> here{call.options().nodeId};
  bool all = std::ranges::all_of(*asked.assignments,
                                 [&](const auto& one) { return one.brokerIds == here; });
  if (!all) {
    return {Code::kInvalidReplicaAssignment, "every partition's one replica is on this broker"};
  }
  return {};
}

}  // namespace

void handleCreatePartitions(const CallRef& call, wire::CreatePartitionsRequest&& request) {
  auto growth = std::make_shared<Growth>(call);
  MutationQuota quota(call, kFirstStrict);
  auto& answers = growth->response.results;
  answers.resize(request.topics.size());
  std::map<BytesView, int> named;
  for (const Asked& asked : request.topics) ++named[asked.name];
  for (size_t i = 0; i < answers.size(); ++i) {
    const Asked& asked = request.topics[i];
    Answer& answer = answers[i];
    answer.name = asked.name;
    TopicRef topic = findTopic(*call, asked.name);
    Refusal refusal = check(*call, asked, topic);
    if (named[asked.name] > 1) {
      refusal = {Code::kInvalidRequest, "the request names this topic twice"};
    }
    if (refusal.code != Code::kNone) {
      refuse(*growth, answer, code(refusal.code), std::move(refusal.text));
      continue;
    }
    if (request.validateOnly) continue;
    if (!quota.take(static_cast<size_t>(asked.total) - topic->partitions.size())) {
      refuse(*growth, answer, code(Code::kThrottlingQuotaExceeded), kQuotaExceeded);
      continue;
    }
    ++growth->waiting;
    call->broker().growTopic(
        call->principal(), topic->name, asked.total,
        [growth, &answer](const Result<TopicRef>& result) {
          if (!result) {
            // Somebody else was faster.
            bool number = result.error().kind == ErrorKind::kInvalid;
            refuse(*growth, answer,
                   number ? code(Code::kInvalidPartitions) : code(result.error(), Area::kTopic),
                   result.error().text);
          }
          growth->release();
        });
  }
  quota.tell(growth->response);
  growth->release();
}

}  // namespace polylog::kafka
