// What several handlers need: topics by Kafka's names and ids, group requests' common checks.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "codecs/kafka/call.h"
#include "codecs/kafka/errors.h"
#include "core/model/access.h"
#include "core/model/topic.h"
#include "mapping/address.h"

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

/// The topic that a client calls `name`; null if there is none.
TopicRef findTopic(const Call& call, BytesView name);
/// Its name there; empty if it has none.
std::string kafkaName(const Topic& topic);
/// Whether `partition` is one of the topic's (null = no topic).
inline bool hasPartition(const TopicRef& topic, int32_t partition) {
  return topic != nullptr && partition >= 0 &&
         static_cast<size_t>(partition) < topic->partitions.size();
}

/// A request whose answer waits for several of the broker's. Held by the callbacks.
template <class Response>
struct Pending {
  explicit Pending(CallRef c) : call(std::move(c)) {}
  /// One is there. The handler itself counts as one.
  void release() {
    if (--waiting == 0) call->answer(response);
  }

  CallRef call;
  Response response;
  mapping::TextArena texts;  ///< what the response's views point into
  size_t waiting = 1;
};

/// Whether the client may do that with a resource, whose name is canonical.
bool permits(const Call& call, Operation operation, ResourceKind kind, BytesView name);

/// What of all that can be done with a topic, a group or the cluster the client may do, a bit each
/// by Kafka's numbers (KIP-430). Nothing of a cluster that it may not describe.
int32_t authorizedOperations(const Call& call, ResourceKind kind, BytesView name);

/// An error code in an answer about a member: to a member, a group that isn't there is one that
/// it isn't in.
int16_t memberCode(const Error& error);

/// Makes and deletes partitions as fast as the client's quota allows (KIP-599).
class MutationQuota {
 public:
  /// From request version `strictFrom` on clients know THROTTLING_QUOTA_EXCEEDED: what passes the
  /// quota is refused. Others are held afterwards.
  MutationQuota(CallRef call, int16_t strictFrom);
  /// False: refuse with that.
  bool take(size_t partitions);
  /// Has the client held, and the answer say so.
  template <class Response>
  void tell(Response& response) const {
    if (held_ == 0) return;
    response.throttleTimeMs = held_;
    call_->throttle(held_);
  }

 private:
  CallRef call_;
  bool strict_;
  int32_t held_ = 0;
};
inline constexpr const char* kQuotaExceeded = "The throttling quota has been exceeded.";

/// "/127.0.0.1" of "127.0.0.1:50123", as Kafka shows clients' hosts.
std::string clientHost(const std::string& peer);

}  // namespace polylog::kafka
