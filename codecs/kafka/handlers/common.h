// What several handlers need: topics by Kafka's names and ids, group requests' common checks.
#pragma once

#include <optional>
#include <string>

#include "codecs/kafka/call.h"
#include "codecs/kafka/errors.h"
#include "core/model/topic.h"

namespace polylog::kafka {

/// The canonical name of the topic that a client calls `name`.
Result<std::string> canonicalTopic(BytesView name);

inline bool isZero(const TopicId& id) {
  return id == TopicId{};
}

/// A view's owned twin.
inline std::string owned(BytesView view) {
  return std::string(view);
}
inline std::optional<std::string> owned(const std::optional<BytesView>& view) {
  if (!view) return std::nullopt;
  return std::string(*view);
}

/// An error code in an answer about a member: to a member, a group that isn't there is one that
/// it isn't in.
int16_t memberCode(const Error& error);

/// "/127.0.0.1" of "127.0.0.1:50123", as Kafka shows clients' hosts.
std::string clientHost(const std::string& peer);

}  // namespace polylog::kafka
