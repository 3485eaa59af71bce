// Metadata: this broker, and topics; asked for by name they come by themselves if that is allowed.
#include "codecs/kafka/wire/metadata.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/errors.h"
#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"
#include "mapping/address.h"
#include "mapping/kafka.h"

namespace polylog::kafka {
namespace {

constexpr int16_t kFirstWithChoiceOfCreation = 4;
constexpr int16_t kFirstWithNullForAll = 1;
/// A topic that comes by itself does so whatever is left of the quota, but counts.
constexpr int16_t kNeverStrict = INT16_MAX;

struct Wanted {
  std::optional<BytesView> name;  ///< as the client wrote it
  TopicId id{};
  int16_t errorCode = 0;
  TopicRef topic;
};

/// One request under way: topics may have to be created before it can be answered.
struct Inquiry {
  explicit Inquiry(CallRef c) : call(std::move(c)), quota(call, kNeverStrict) {}

  void release() {
    if (--waiting == 0 && call->open()) answer();
  }
  void answer();
  void describe(const Wanted& wanted, wire::MetadataResponse& response);

  CallRef call;
  MutationQuota quota;
  std::vector<Wanted> topics;
  bool topicOperations = false;
  bool clusterOperations = false;
  mapping::TextArena texts;
  size_t waiting = 1;
};
using InquiryRef = std::shared_ptr<Inquiry>;

void Inquiry::describe(const Wanted& wanted, wire::MetadataResponse& response) {
  auto& out = response.topics.emplace_back();
  out.name = wanted.name;
  out.id = wanted.id;
  out.errorCode = wanted.errorCode;
  if (wanted.topic == nullptr) return;
  const Topic& topic = *wanted.topic;
  if (topicOperations) {
    out.authorizedOperations = authorizedOperations(*call, ResourceKind::kTopic, topic.name);
  }
  int32_t node = call->options().nodeId;
  int32_t epoch = call->broker().leaderEpoch().value();
  out.id = topic.id;
  if (!out.name) {
    std::string name;
    if (mapping::appendKafkaTopic(topic.name, name)) out.name = texts.keep(std::move(name));
  }
  out.partitions.resize(topic.partitions.size());
  for (size_t i = 0; i < out.partitions.size(); ++i) {
    auto& partition = out.partitions[i];
    partition.index = static_cast<int32_t>(i);
    partition.leaderId = node;
    partition.leaderEpoch = epoch;
    partition.replicas = {node};
    partition.inSyncReplicas = {node};
  }
}

void Inquiry::answer() {
  wire::MetadataResponse response;
  HostPort told = call->advertised();
  response.brokers.push_back({call->options().nodeId, told.host, told.port, std::nullopt});
  response.clusterId = call->broker().clusterId();
  response.controllerId = call->options().nodeId;
  if (clusterOperations) {
    response.clusterAuthorizedOperations =
        authorizedOperations(*call, ResourceKind::kCluster, kClusterName);
  }
  response.topics.reserve(topics.size());
  for (const Wanted& wanted : topics) describe(wanted, response);
  quota.tell(response);
  call->answer(response);
}

void wantAll(Inquiry& inquiry) {
  for (TopicRef& topic : inquiry.call->broker().topics(inquiry.call->principal())) {
    std::string name;
    // A topic that has no name in Kafka isn't seen there.
    if (!mapping::appendKafkaTopic(topic->name, name)) continue;
    Wanted wanted;
    wanted.name = inquiry.texts.keep(std::move(name));
    wanted.topic = std::move(topic);
    inquiry.topics.push_back(std::move(wanted));
  }
}

void create(const InquiryRef& inquiry, size_t at, std::string name) {
  ++inquiry->waiting;
  Call& call = *inquiry->call;
  inquiry->quota.take(static_cast<size_t>(call.options().facts.defaultPartitions));
  TopicSpec spec;
  spec.name = name;
  call.broker().createTopic(
      call.principal(), std::move(spec),
      [inquiry, at, name = std::move(name)](Result<TopicRef> created) {
        Wanted& wanted = inquiry->topics[at];
        if (created) {
          wanted.topic = std::move(*created);
        } else if (created.error().kind == ErrorKind::kAlreadyExists) {
          wanted.topic = inquiry->call->broker().findTopic(inquiry->call->principal(), name);
        }
        if (!created && wanted.topic == nullptr) {
          // Somebody else is creating it just now: ask again.
          bool soon = created.error().kind == ErrorKind::kAlreadyExists;
          wanted.errorCode =
              soon ? code(Code::kLeaderNotAvailable) : code(created.error(), Area::kTopic);
        }
        inquiry->release();
      });
}

void want(const InquiryRef& inquiry, size_t at, bool mayCreate) {
  Wanted& wanted = inquiry->topics[at];
  Call& call = *inquiry->call;
  if (!wanted.name) {
    wanted.topic = call.broker().findTopic(call.principal(), wanted.id);
    if (wanted.topic == nullptr) wanted.errorCode = code(Code::kUnknownTopicId);
    return;
  }
  Result<std::string> name = canonicalTopic(*wanted.name);
  if (!name) {
    wanted.errorCode = code(Code::kInvalidTopic);
    return;
  }
  wanted.topic = call.broker().findTopic(call.principal(), *name);
  if (wanted.topic != nullptr) return;
  // Whether there is one is not for those to know who may not see it.
  if (!permits(call, Operation::kDescribe, ResourceKind::kTopic, *name)) {
    wanted.errorCode = code(Code::kTopicAuthorizationFailed);
    return;
  }
  if (mayCreate) return create(inquiry, at, std::move(*name));
  wanted.errorCode = code(Code::kUnknownTopicOrPartition);
}

}  // namespace

void handleMetadata(const CallRef& call, wire::MetadataRequest&& request) {
  auto inquiry = std::make_shared<Inquiry>(call);
  inquiry->topicOperations = request.includeTopicAuthorizedOperations;
  inquiry->clusterOperations = request.includeClusterAuthorizedOperations;
  bool all = !request.topics || (call->version() < kFirstWithNullForAll && request.topics->empty());
  if (all) {
    wantAll(*inquiry);
    return inquiry->release();
  }
  bool mayCreate = call->broker().autoCreateTopics() &&
                   (call->version() < kFirstWithChoiceOfCreation || request.allowAutoTopicCreation);
  for (const auto& topic : *request.topics) {
    Wanted wanted;
    // An id, where there is one, is meant rather than the name.
    if (isZero(topic.id)) wanted.name = topic.name.value_or(BytesView());
    wanted.id = topic.id;
    inquiry->topics.push_back(std::move(wanted));
  }
  for (size_t i = 0; i < inquiry->topics.size(); ++i) want(inquiry, i, mayCreate);
  inquiry->release();
}

}  // namespace polylog::kafka
