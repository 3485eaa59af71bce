#include "mapping/kafka.h"

#include <algorithm>

namespace polylog::mapping {
namespace {

bool legal(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == '-';
}

bool needsKafkaMark(BytesView topic) {
  return isMarked(topic) || !validKafkaTopic(topic);
}

std::unexpected<Error> invalid(BytesView name, const char* why) {
  return fail(ErrorKind::kInvalid, "topic '" + std::string(name.substr(0, 256)) + "': " + why);
}

}  // namespace

bool validKafkaTopic(BytesView name) {
  return !name.empty() && name.size() <= kKafkaMaxTopic && name != "." && name != ".." &&
         std::all_of(name.begin(), name.end(), legal);
}

Result<BytesView> topicFromKafka(BytesView name, std::string& scratch) {
  if (!validKafkaTopic(name)) {
    return invalid(name, "use 1 to 249 of A-Z a-z 0-9 . _ -, not . or .. alone");
  }
  if (!isMarked(name)) return name;
  std::optional<std::string> inner = decodeMarked(name);
  if (!inner || !canonicalTopicPossible(*inner) || !needsKafkaMark(*inner)) {
    return invalid(name, "names that begin with enc-- stand for names that Kafka can't express");
  }
  scratch = std::move(*inner);
  return scratch;
}

bool appendKafkaTopic(BytesView topic, std::string& out) {
  if (!needsKafkaMark(topic)) {
    out.append(topic);
    return true;
  }
  if (kNameMarker.size() + (topic.size() * 4 + 2) / 3 > kKafkaMaxTopic) return false;
  appendMarked(topic, out);
  return true;
}

}  // namespace polylog::mapping
