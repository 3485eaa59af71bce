#include "codecs/kafka/handlers/common.h"

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

int16_t memberCode(const Error& error) {
  if (error.kind == ErrorKind::kNotFound) return code(Code::kUnknownMemberId);
  return code(error, Area::kGroup);
}

std::string clientHost(const std::string& peer) {
  return "/" + peer.substr(0, peer.rfind(':'));
}

}  // namespace polylog::kafka
