#include "codecs/kafka/handlers/common.h"

#include "mapping/kafka.h"

namespace polylog::kafka {

Result<std::string> canonicalTopic(BytesView name) {
  std::string scratch;
  Result<BytesView> canonical = mapping::topicFromKafka(name, scratch);
  if (!canonical) return std::unexpected(std::move(canonical.error()));
  return std::string(*canonical);
}

int16_t memberCode(const Error& error) {
  if (error.kind == ErrorKind::kNotFound) return code(Code::kUnknownMemberId);
  return code(error, Area::kGroup);
}

std::string clientHost(const std::string& peer) {
  return "/" + peer.substr(0, peer.rfind(':'));
}

}  // namespace polylog::kafka
