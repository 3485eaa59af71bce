// CreateTopics: answered when the topics are durable.
#include "codecs/kafka/wire/create_topics.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/errors.h"
#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/configs.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/limits.h"
#include "mapping/address.h"

namespace polylog::kafka {
namespace {

/// Whose clients know THROTTLING_QUOTA_EXCEEDED (KIP-599).
constexpr int16_t kFirstStrict = 6;

using Asked = wire::CreateTopicsRequest::Topic;
using Answer = wire::CreateTopicsResponse::Topic;

struct Creation {
  explicit Creation(CallRef c) : call(std::move(c)) {}
  void release() {
    if (--waiting == 0) call->answer(response);
  }
  void refuse(Answer& answer, int16_t errorCode, std::string text) {
    answer.errorCode = errorCode;
    if (!text.empty()) answer.errorMessage = texts.keep(std::move(text));
  }
  void created(Answer& answer, const Result<TopicRef>& result);
  /// What creating it would tell.
  void wouldBe(Answer& answer, const TopicSpec& spec);
  void describe(Answer& answer, BytesView name, size_t partitions, const TopicConfig& config);

  CallRef call;
  wire::CreateTopicsResponse response;
  mapping::TextArena texts;
  size_t waiting = 1;
};

void Creation::created(Answer& answer, const Result<TopicRef>& result) {
  if (!result) {
    refuse(answer, code(result.error(), Area::kTopic), result.error().text);
  } else {
    answer.id = (*result)->id;
    describe(answer, (*result)->name, (*result)->partitions.size(), (*result)->config);
  }
  release();
}

void Creation::wouldBe(Answer& answer, const TopicSpec& spec) {
  int32_t partitions =
      spec.partitions < 0 ? call->options().facts.defaultPartitions : spec.partitions;
  describe(answer, spec.name, static_cast<size_t>(partitions),
           spec.config ? *spec.config : call->broker().topicDefaults(Protocol::kKafka));
}

void Creation::describe(Answer& answer, BytesView name, size_t partitions,
                        const TopicConfig& config) {
  answer.numPartitions = static_cast<int32_t>(partitions);
  answer.replicationFactor = 1;
  if (!permits(*call, Operation::kDescribeConfigs, ResourceKind::kTopic, name)) {
    answer.topicConfigErrorCode = code(Code::kTopicAuthorizationFailed);
    answer.numPartitions = answer.replicationFactor = -1;
    return;
  }
  auto& configs = answer.configs.emplace();
  for (ConfigEntry& entry : describeTopicConfig(config, limitsFor(*call, Protocol::kKafka))) {
    auto& out = configs.emplace_back();
    out.name = entry.key;
    if (entry.value) out.value = texts.keep(std::move(*entry.value));
    out.readOnly = entry.readOnly;
    out.configSource = static_cast<int8_t>(entry.source);
  }
}

/// A manual assignment can only say what is so: partitions 0 to n-1, each on this broker.
Refusal checkAssignments(const Asked& asked, int32_t node) {
  if (asked.numPartitions != -1 || asked.replicationFactor != -1) {
    return {Code::kInvalidRequest, "with an assignment, partitions and replication factor are -1"};
  }
  std::vector<int32_t> partitions;
  for (const auto& assignment : asked.assignments) {
    partitions.push_back(assignment.partition);
    if (assignment.brokerIds != std::vector<int32_t>{node}) {
      return {Code::kInvalidReplicaAssignment, "every partition's one replica is on this broker"};
    }
  }
  std::ranges::sort(partitions);
  for (size_t i = 0; i < partitions.size(); ++i) {
    if (partitions[i] != static_cast<int32_t>(i)) {
      return {Code::kInvalidReplicaAssignment, "partitions are numbered from 0 without gaps"};
    }
  }
  return {};
}

Refusal checkShape(const Asked& asked, int32_t node) {
  if (!asked.assignments.empty()) {
    if (Refusal wrong = checkAssignments(asked, node); wrong.code != Code::kNone) return wrong;
  } else {
    if (asked.numPartitions < -1 || asked.numPartitions == 0) {
      return {Code::kInvalidPartitions, "use 1 or more partitions, or -1 for the default"};
    }
    if (asked.replicationFactor != -1 && asked.replicationFactor != 1) {
      return {Code::kInvalidReplicationFactor,
              "there is one broker: use a replication factor of 1"};
    }
  }
  if (asked.numPartitions > kMaxPartitions || asked.assignments.size() > size_t{kMaxPartitions}) {
    return {Code::kInvalidPartitions,
            "too many partitions: at most " + std::to_string(kMaxPartitions)};
  }
  return {};
}

Refusal fillSpec(const Call& call, const Asked& asked, TopicSpec& spec) {
  Result<std::string> name = canonicalTopic(asked.name);
  if (!name) return {Code::kInvalidTopic, name.error().text};
  spec.name = std::move(*name);
  if (Refusal wrong = checkShape(asked, call.options().nodeId); wrong.code != Code::kNone)
    return wrong;
  spec.partitions = asked.assignments.empty() ? asked.numPartitions
                                              : static_cast<int32_t>(asked.assignments.size());
  if (asked.configs.empty()) return {};
  TopicConfigLimits limits = limitsFor(call, Protocol::kKafka);
  spec.config = limits.defaults;
  for (const auto& config : asked.configs) {
    Result<> set = setTopicConfig(*spec.config, config.name, config.value, limits);
    if (!set) return {Code::kInvalidConfig, set.error().text};
  }
  Result<> fits = checkTopicConfig(*spec.config, limits);
  if (!fits) return {Code::kInvalidConfig, fits.error().text};
  return {};
}

}  // namespace

void handleCreateTopics(const CallRef& call, wire::CreateTopicsRequest&& request) {
  auto creation = std::make_shared<Creation>(call);
  MutationQuota quota(call, kFirstStrict);
  auto& answers = creation->response.topics;
  answers.resize(request.topics.size());
  std::map<BytesView, int> named;
  for (const Asked& asked : request.topics) ++named[asked.name];

  for (size_t i = 0; i < answers.size(); ++i) {
    const Asked& asked = request.topics[i];
    Answer& answer = answers[i];
    answer.name = asked.name;
    if (named[asked.name] > 1) {
      creation->refuse(answer, code(Code::kInvalidRequest), "the request names this topic twice");
      continue;
    }
    TopicSpec spec;
    if (Refusal wrong = fillSpec(*call, asked, spec); wrong.code != Code::kNone) {
      creation->refuse(answer, code(wrong.code), std::move(wrong.text));
      continue;
    }
    if (request.validateOnly) {
      if (call->broker().findTopic(call->principal(), spec.name) != nullptr) {
        creation->refuse(answer, code(Code::kTopicAlreadyExists), "the topic exists");
      } else {
        creation->wouldBe(answer, spec);
      }
      continue;
    }
    size_t partitions = static_cast<size_t>(
        spec.partitions < 0 ? call->options().facts.defaultPartitions : spec.partitions);
    if (call->broker().findTopic(call->principal(), spec.name) == nullptr &&
        !quota.take(partitions)) {
      creation->refuse(answer, code(Code::kThrottlingQuotaExceeded), kQuotaExceeded);
      continue;
    }
    ++creation->waiting;
    call->broker().createTopic(
        call->principal(), std::move(spec),
        [creation, &answer](const Result<TopicRef>& result) { creation->created(answer, result); });
  }
  quota.tell(creation->response);
  creation->release();
}

}  // namespace polylog::kafka
