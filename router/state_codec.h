// How the router's facts stand in the state tables. Every value begins with a version octet;
// integers are big-endian, texts a varint length and octets. Keys that must sort or share a prefix
// hold big-endian integers. Pure functions. What can't be read is kCorrupt, with the table and key.
//
//   kMeta         "cluster_id", "leader_epoch", "routed_position", "routed_within", id blocks,
//   "tag/" +
//                 u32
//   kTopic        topic name
//   kTopicDefaults "cluster", "broker"
//   kSession      client id
//   kSubscription u64 inbox, filter text
//   kInbox        u64 inbox
//   kHeldPublish  u64 inbox, u16 id
//   kWill         u64 inbox
//   kDelayed      u64 partition, u64 offset (delayed_store.h)
//   kBan          octet kind, what (ban_list.h)
//   kRetained     address text
//   kGroup        group name (consumer_group_state.h has kGroupMember and kGroupConfig)
//   kGroupOffset  u16 length and group name, u16 length and topic name, u32 partition
//   kExchange     exchange name
//   kBinding      kind octet, texts: source, destination, routing key, and the arguments
//   kQueue        queue name
//   kQueueAck     u64 partition, u64 number of the chunk (all ones: the end of what was delivered)
//   kTransaction  transactional id (transaction_state.h)
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"
#include "core/base/error.h"
#include "core/base/seldom.h"
#include "core/base/strong.h"
#include "core/model/exchange.h"
#include "core/model/group.h"
#include "core/model/queue.h"
#include "core/model/subscriber_session.h"
#include "core/model/topic.h"
#include "router/range_set.h"

namespace polylog::router {

inline void putText(ByteWriter& out, BytesView text) {
  out.varuint(text.size());
  out.bytes(text);
}
inline std::string getText(ByteReader& in) {
  return std::string(in.bytes(in.varuint32()));
}

inline constexpr const char* kRoutedPosition = "routed_position";
inline constexpr const char* kRoutedWithin = "routed_within";
/// kMeta values.
std::string encodeNumber(uint64_t value);
Result<uint64_t> decodeNumber(BytesView value, const char* what);

std::string encodeTopic(const Topic& topic);
/// Of topics written before it was kept what had been set for them, `unmarked` says so, and the
/// fields that what they keep as text is about are marked.
Result<Topic> decodeTopic(BytesView name, BytesView value, bool* unmarked = nullptr);

/// A layer of the topics' defaults.
std::string encodeTopicDefaults(const TopicConfig& layer);
Result<TopicConfig> decodeTopicDefaults(BytesView key, BytesView value);

struct SessionState {
  PartitionId inbox;
  uint32_t expirySeconds = 0;
  int64_t disconnectedMs = -1;  ///< wall clock; -1 = connected when this was written
  std::string user;
};
std::string encodeSession(const SessionState& state);
Result<SessionState> decodeSession(BytesView clientId, BytesView value);

struct SubscriptionState {
  Subscription subscription;  ///< retain handling is not kept: it is of the moment
  Position since;
};
std::string inboxKey(PartitionId inbox);
std::string subscriptionKey(PartitionId inbox, BytesView filterText);
std::string encodeSubscription(const SubscriptionState& state);
Result<SubscriptionState> decodeSubscription(BytesView key, BytesView value);

struct InboxState {
  RangeSet acknowledged;
  /// Ascending. Those below what is acknowledged were dropped while they were with the client at
  /// QoS 2: only their release is due.
  Seldom<std::vector<int64_t>> accepted;
};
std::string encodeInbox(const InboxState& state);
Result<InboxState> decodeInbox(BytesView value);

std::string heldPublishKey(PartitionId inbox, uint16_t id);
/// (inbox, id), or nothing for a key that is not one.
std::optional<std::pair<PartitionId, uint16_t>> parseHeldPublishKey(BytesView key);

/// What a tag in a target's attributes stands for.
struct TagState {
  std::string topic;
  uint32_t subscriptionId = 0;
  Protocol origin = Protocol::kInternal;
};
std::string tagKey(uint32_t tag);
std::string encodeTag(const TagState& state);
Result<std::pair<uint32_t, TagState>> decodeTag(BytesView key, BytesView value);

struct GroupMemberState {
  std::string memberId;
  std::optional<std::string> instanceId;
  std::string clientId;
  std::string clientHost;
  int32_t sessionTimeoutMs = 0;
  int32_t rebalanceTimeoutMs = 0;
  std::string metadata;  ///< for the group's protocol
  std::string assignment;
};
struct GroupState {
  int32_t generation = 0;
  std::string protocolType;
  std::string protocol;
  std::string leader;
  int64_t changedMs = 0;
  std::vector<GroupMemberState> members;
};
std::string encodeGroup(const GroupState& state);
Result<GroupState> decodeGroup(BytesView name, BytesView value);

struct OffsetState {
  int64_t offset = -1;
  int32_t leaderEpoch = -1;
  int64_t committedMs = 0;
  std::string metadata;
};
std::string groupOffsetKey(BytesView group, BytesView topic, int32_t partition);
std::string encodeOffset(const OffsetState& state);
struct GroupOffsetState {
  std::string group;
  std::string topic;
  int32_t partition = 0;
  OffsetState offset;
};
Result<GroupOffsetState> decodeGroupOffset(BytesView key, BytesView value);

std::string encodeExchange(const ExchangeSpec& spec);
Result<ExchangeSpec> decodeExchange(BytesView name, BytesView value);

struct BindingState {
  BindingSpec spec;
  Position since;
};
std::string bindingKey(const BindingSpec& spec);
/// The specification is all in the key.
std::string encodeBinding(const BindingState& state);
Result<BindingState> decodeBinding(BytesView key, BytesView value);

struct QueueState {
  QueueSpec spec;
  PartitionId partition;
};
std::string encodeQueue(const QueueState& state);
Result<QueueState> decodeQueue(BytesView name, BytesView value);

/// The chunk number under which a queue's end of deliveries is kept after a clean stop.
inline constexpr int64_t kSentMark = -1;
std::string queueAckKey(PartitionId partition, int64_t chunk);
struct QueueAckKey {
  PartitionId partition;
  int64_t chunk = 0;
};
Result<QueueAckKey> parseQueueAckKey(BytesView key);
/// The sent mark: ids below `end` were delivered by the run of that epoch, which ended cleanly.
std::string encodeSentMark(int64_t end, LeaderEpoch epoch);
Result<std::pair<int64_t, LeaderEpoch>> decodeSentMark(BytesView value);

}  // namespace polylog::router
