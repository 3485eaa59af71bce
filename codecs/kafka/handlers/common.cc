#include "codecs/kafka/handlers/common.h"

#include <algorithm>

#include "codecs/kafka/acl.h"
#include "codecs/kafka/quota_meter.h"
#include "core/event/dispatcher.h"
#include "core/net/transport.h"
#include "mapping/kafka.h"

namespace polylog::kafka {

Result<std::string> canonicalTopic(BytesView name) {
  std::string scratch;
  Result<BytesView> canonical = mapping::topicFromKafka(name, scratch);
  if (!canonical) return std::unexpected(std::move(canonical.error()));
  return std::string(*canonical);
}

TopicRef findTopic(const Call& call, BytesView name) {
  Result<std::string> canonical = canonicalTopic(name);
  return canonical ? call.broker().findTopic(call.principal(), *canonical) : nullptr;
}

std::string kafkaName(const Topic& topic) {
  std::string name;
  if (!mapping::appendKafkaTopic(topic.name, name)) name.clear();
  return name;
}

bool permits(const Call& call, Operation operation, ResourceKind kind, BytesView name) {
  const AccessControl* access = call.options().access;
  return access == nullptr || access->permits(call.principal(), operation, kind, name);
}

int32_t authorizedOperations(const Call& call, ResourceKind kind, BytesView name) {
  if (kind == ResourceKind::kCluster && !permits(call, Operation::kDescribe, kind, name)) return 0;
  int32_t bits = 0;
  for (Operation operation : operationsOf(kind)) {
    // Taking part in a group is to Kafka reading it.
    bool joins = kind == ResourceKind::kGroup && operation == Operation::kRead;
    if (permits(call, joins ? Operation::kJoin : operation, kind, name)) {
      bits |= 1 << aclOperation(operation);
    }
  }
  return bits;
}

MutationQuota::MutationQuota(CallRef call, int16_t strictFrom)
    : call_(std::move(call)), strict_(call_->version() >= strictFrom) {}

bool MutationQuota::take(size_t partitions) {
  if (!call_->open()) return true;
  int64_t nowMs = call_->transport().dispatcher().clock().monotonicMicros() / 1000;
  int32_t held = call_->quotaMeter().countMutation(*call_->principal(),
                                                   static_cast<double>(partitions), strict_, nowMs);
  held_ = std::max(held_, held);
  return held == 0 || !strict_;
}

int16_t memberCode(const Error& error) {
  if (error.kind == ErrorKind::kNotFound) return code(Code::kUnknownMemberId);
  return code(error, Area::kGroup);
}

std::string clientHost(const std::string& peer) {
  return "/" + peer.substr(0, peer.rfind(':'));
}

}  // namespace polylog::kafka
