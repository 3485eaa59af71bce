// DescribeTopicPartitions: topics and partitions in order of names, a page at a time.
#include "codecs/kafka/wire/describe_topic_partitions.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/limits.h"

namespace polylog::kafka {
namespace {

using Request = wire::DescribeTopicPartitionsRequest;
using Response = wire::DescribeTopicPartitionsResponse;

/// By Kafka's name, which the pages follow; null for those that aren't there.
using Topics = std::map<std::string, TopicRef, std::less<>>;

Topics topicsOf(const Call& call, const Request& request) {
  Topics topics;
  if (request.topics.empty()) {
    for (TopicRef& topic : call.broker().topics(call.principal())) {
      std::string name = kafkaName(*topic);
      if (!name.empty()) topics.emplace(std::move(name), std::move(topic));
    }
  }
  for (const auto& asked : request.topics) {
    topics.emplace(owned(asked.name), findTopic(call, asked.name));
  }
  return topics;
}

/// Adds partitions from `from` on, at most `room`. Returns the first one that is left.
size_t addPartitions(const Call& call, const Topic& topic, size_t from, size_t room,
                     Response::Topic& out) {
  size_t end = std::min(topic.partitions.size(), from + std::min(room, topic.partitions.size()));
  const int32_t node = call.options().nodeId;
  for (size_t i = from; i < end; ++i) {
    auto& partition = out.partitions.emplace_back();
    partition.index = static_cast<int32_t>(i);
    partition.leaderId = node;
    partition.leaderEpoch = call.broker().leaderEpoch().value();
    partition.replicas = {node};
    partition.inSyncReplicas = {node};
    partition.eligibleLeaderReplicas.emplace();
    partition.lastKnownEligible.emplace();
  }
  return end;
}

int16_t errorOf(BytesView name) {
  return code(canonicalTopic(name) ? Code::kUnknownTopicOrPartition : Code::kInvalidTopic);
}

}  // namespace

void handleDescribeTopicPartitions(const CallRef& call,
                                   wire::DescribeTopicPartitionsRequest&& request) {
  Response response;
  if (request.cursor && request.cursor->partitionIndex < 0) {
    for (const auto& asked : request.topics) {
      auto& out = response.topics.emplace_back();
      out.name = asked.name;
      out.errorCode = code(Code::kInvalidRequest);
    }
    return call->answer(response);
  }
  Topics topics = topicsOf(*call, request);
  auto room =
      static_cast<size_t>(std::clamp(request.responsePartitionLimit, 1, kMaxDescribedPartitions));
  auto leaveOff = [&](BytesView name, size_t partition) {
    response.nextCursor = wire::DescribeTopicPartitionsResponse::Cursor{};
    auto& cursor = *response.nextCursor;
    cursor.topicName = name;
    cursor.partitionIndex = static_cast<int32_t>(partition);
  };
  auto at = request.cursor ? topics.lower_bound(request.cursor->topicName) : topics.begin();
  for (; at != topics.end(); ++at) {
    const auto& [name, topic] = *at;
    bool resumed = request.cursor && name == request.cursor->topicName;
    size_t from = resumed ? static_cast<size_t>(request.cursor->partitionIndex) : 0;
    if (topic != nullptr && from >= topic->partitions.size()) continue;
    if (room == 0) {
      leaveOff(name, from);
      break;
    }
    auto& out = response.topics.emplace_back();
    out.name = name;
    if (topic == nullptr) {
      out.errorCode = errorOf(name);
      continue;
    }
    out.id = topic->id;
    out.authorizedOperations = authorizedOperations(*call, ResourceKind::kTopic, topic->name);
    size_t end = addPartitions(*call, *topic, from, room, out);
    room -= end - from;
    if (end < topic->partitions.size()) {
      leaveOff(name, end);
      break;
    }
  }
  call->answer(response);
}

}  // namespace polylog::kafka
