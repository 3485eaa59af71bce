// DescribeQuorum (KIP-595): this broker is its own controller. What Kafka keeps in the topic
// __cluster_metadata is in the journal here, whose durable end is told as the high watermark.
#include "codecs/kafka/wire/describe_quorum.h"

#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"
#include "core/event/dispatcher.h"
#include "core/net/transport.h"

namespace polylog::kafka {
namespace {

using Request = wire::DescribeQuorumRequest;
using Response = wire::DescribeQuorumResponse;

constexpr BytesView kMetadataTopic = "__cluster_metadata";
constexpr BytesView kListener = "CONTROLLER";

bool asksForTheOne(const Request& request) {
  return request.topics.size() == 1 && request.topics[0].name == kMetadataTopic &&
         request.topics[0].partitions.size() == 1 && request.topics[0].partitions[0].index == 0;
}

void refuseAll(const Request& request, Response& response) {
  for (const auto& topic : request.topics) {
    auto& out = response.topics.emplace_back();
    out.name = topic.name;
    for (const auto& asked : topic.partitions) {
      auto& partition = out.partitions.emplace_back();
      partition.index = asked.index;
      partition.errorCode = code(Code::kUnknownTopicOrPartition);
      partition.errorMessage = "the quorum has partition 0 of __cluster_metadata and no other";
    }
  }
}

}  // namespace

void handleDescribeQuorum(const CallRef& call, wire::DescribeQuorumRequest&& request) {
  Response response;
  if (!permits(*call, Operation::kDescribe, ResourceKind::kCluster, kClusterName)) {
    response.errorCode = code(Code::kClusterAuthorizationFailed);
    response.errorMessage = "not permitted to describe the cluster";
    return call->answer(response);
  }
  if (!asksForTheOne(request)) {
    refuseAll(request, response);
    return call->answer(response);
  }
  const int32_t node = call->options().nodeId;
  const int64_t nowMs = call->transport().dispatcher().clock().wallMillis();
  auto& topic = response.topics.emplace_back();
  topic.name = kMetadataTopic;
  auto& partition = topic.partitions.emplace_back();
  partition.leaderId = node;
  partition.leaderEpoch = call->broker().leaderEpoch().value();
  partition.highWatermark = call->broker().journalEnd();
  partition.voters.push_back({node, {}, partition.highWatermark, nowMs, nowMs});
  HostPort told = call->advertised();
  auto& self = response.nodes.emplace_back();
  self.id = node;
  // An unsigned number on the wire.
  self.listeners.push_back({kListener, told.host, static_cast<int16_t>(told.port)});
  call->answer(response);
}

}  // namespace polylog::kafka
