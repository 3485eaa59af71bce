#include "router/state_codec.h"

#include <algorithm>

namespace polylog::router {
namespace {

constexpr uint8_t kVersion = 1;
constexpr BytesView kTagPrefix = "tag/";

std::unexpected<Error> unreadable(const char* what, BytesView key) {
  return fail(ErrorKind::kCorrupt,
              std::string("state of ") + what + " '" + std::string(key) + "' can't be read");
}

ByteWriter begun() {
  ByteWriter out;
  out.u8(kVersion);
  return out;
}

/// A reader behind the version octet.
ByteReader opened(BytesView value) {
  ByteReader in(value);
  if (in.u8() != kVersion) in.fail();
  return in;
}

void putOptional(ByteWriter& out, const std::optional<std::string>& text) {
  out.u8(text ? 1 : 0);
  if (text) putText(out, *text);
}
std::optional<std::string> getOptional(ByteReader& in) {
  if (in.u8() == 0) return std::nullopt;
  return getText(in);
}

}  // namespace

std::string encodeNumber(uint64_t value) {
  ByteWriter out;
  out.u64(value);
  return out.take();
}

Result<uint64_t> decodeNumber(BytesView value, const char* what) {
  ByteReader in(value);
  uint64_t number = in.u64();
  if (!in.complete()) return unreadable("number", what);
  return number;
}

std::string encodeTopic(const Topic& topic) {
  ByteWriter out = begun();
  out.bytes({reinterpret_cast<const char*>(topic.id.data()), topic.id.size()});
  out.u8(static_cast<uint8_t>(topic.origin));
  out.i64(topic.createdMs);
  const TopicConfig& config = topic.config;
  out.i64(config.retentionMs);
  out.i64(config.retentionBytes);
  out.u8(static_cast<uint8_t>(config.flush));
  out.u8(config.logAppendTime ? 1 : 0);
  out.i32(config.maxBatchBytes);
  out.varuint(config.overrides.size());
  for (const auto& [key, text] : config.overrides) {
    putText(out, key);
    putText(out, text);
  }
  out.varuint(topic.partitions.size());
  for (PartitionId partition : topic.partitions) out.u64(partition.value());
  return out.take();
}

Result<Topic> decodeTopic(BytesView name, BytesView value) {
  ByteReader in = opened(value);
  Topic topic;
  topic.name = name;
  BytesView id = in.bytes(topic.id.size());
  std::copy(id.begin(), id.end(), topic.id.begin());
  topic.origin = static_cast<Protocol>(in.u8());
  topic.createdMs = in.i64();
  TopicConfig& config = topic.config;
  config.retentionMs = in.i64();
  config.retentionBytes = in.i64();
  config.flush = static_cast<FlushPolicy>(in.u8());
  config.logAppendTime = in.u8() != 0;
  config.maxBatchBytes = in.i32();
  size_t overrides = in.count(in.varuint32(), 2);
  for (size_t i = 0; i < overrides; ++i) {
    std::string key = getText(in);
    config.overrides[std::move(key)] = getText(in);
  }
  size_t partitions = in.count(in.varuint32(), 8);
  for (size_t i = 0; i < partitions; ++i) topic.partitions.emplace_back(in.u64());
  if (!in.complete() || topic.partitions.empty() || topic.origin > Protocol::kRocketMq) {
    return unreadable("topic", name);
  }
  return topic;
}

std::string encodeSession(const SessionState& state) {
  ByteWriter out = begun();
  out.u64(state.inbox.value());
  out.u32(state.expirySeconds);
  out.i64(state.disconnectedMs);
  putText(out, state.user);
  return out.take();
}

Result<SessionState> decodeSession(BytesView clientId, BytesView value) {
  ByteReader in = opened(value);
  SessionState state;
  state.inbox = PartitionId(in.u64());
  state.expirySeconds = in.u32();
  state.disconnectedMs = in.i64();
  state.user = getText(in);
  if (!in.complete()) return unreadable("session", clientId);
  return state;
}

std::string inboxKey(PartitionId inbox) { return encodeNumber(inbox.value()); }

std::string subscriptionKey(PartitionId inbox, BytesView filterText) {
  return inboxKey(inbox).append(filterText);
}

std::string encodeSubscription(const SubscriptionState& state) {
  const Subscription& subscription = state.subscription;
  ByteWriter out = begun();
  out.u8(static_cast<uint8_t>(subscription.guarantee));
  out.u8(static_cast<uint8_t>((subscription.noLocal ? 1 : 0) |
                              (subscription.retainAsPublished ? 2 : 0)));
  out.u32(subscription.id);
  out.u64(state.since.value());
  out.varuint(subscription.filter.levels.size());
  for (const FilterLevel& level : subscription.filter.levels) {
    out.u8(static_cast<uint8_t>(level.kind));
    if (level.kind == FilterLevel::Kind::kLiteral) putText(out, level.text);
  }
  return out.take();
}

Result<SubscriptionState> decodeSubscription(BytesView key, BytesView value) {
  SubscriptionState state;
  Subscription& subscription = state.subscription;
  ByteReader name(key);
  name.u64();
  subscription.text = std::string(name.rest());
  ByteReader in = opened(value);
  subscription.guarantee = static_cast<DeliveryGuarantee>(in.u8() & 3U);
  uint8_t flags = in.u8();
  subscription.noLocal = (flags & 1U) != 0;
  subscription.retainAsPublished = (flags & 2U) != 0;
  subscription.id = in.u32();
  state.since = Position(in.u64());
  size_t levels = in.count(in.varuint32(), 1);
  for (size_t i = 0; i < levels; ++i) {
    FilterLevel level;
    level.kind = static_cast<FilterLevel::Kind>(in.u8());
    if (level.kind > FilterLevel::Kind::kRest) in.fail();
    if (level.kind == FilterLevel::Kind::kLiteral) level.text = getText(in);
    subscription.filter.levels.push_back(std::move(level));
  }
  if (!name.ok() || !in.complete() || levels == 0) return unreadable("subscription", name.rest());
  return state;
}

std::string encodeInbox(const InboxState& state) {
  ByteWriter out = begun();
  int64_t from = state.acknowledged.floor();
  out.varuint(static_cast<uint64_t>(from));
  out.varuint(state.acknowledged.ranges().size());
  for (const auto& [first, end] : state.acknowledged.ranges()) {
    out.varuint(static_cast<uint64_t>(first - from));
    out.varuint(static_cast<uint64_t>(end - first));
    from = end;
  }
  from = state.acknowledged.floor();
  out.varuint(state.accepted.size());
  for (int64_t id : state.accepted) {
    out.varuint(static_cast<uint64_t>(id - from));
    from = id;
  }
  return out.take();
}

Result<InboxState> decodeInbox(BytesView value) {
  ByteReader in = opened(value);
  InboxState state;
  auto floor = static_cast<int64_t>(in.varuint());
  if (floor < 0) in.fail();
  state.acknowledged = RangeSet(floor);
  // Numbers come from our own journal; the sums still must not overflow if it were wrong.
  auto step = [&in](int64_t from) {
    auto delta = static_cast<int64_t>(in.varuint());
    if (delta < 0 || from > INT64_MAX - delta) in.fail();
    return in.ok() ? from + delta : from;
  };
  std::vector<RangeSet::Range> ranges;
  size_t count = in.count(in.varuint32(), 2);
  int64_t from = floor;
  for (size_t i = 0; i < count && in.ok(); ++i) {
    int64_t first = step(from);
    int64_t end = step(first);
    ranges.emplace_back(first, end);
    from = end;
  }
  size_t accepted = in.count(in.varuint32(), 1);
  from = floor;
  for (size_t i = 0; i < accepted && in.ok(); ++i) {
    from = step(from);
    state.accepted.push_back(from);
  }
  if (!in.complete()) return unreadable("inbox", "");
  state.acknowledged = RangeSet(floor, std::move(ranges));
  return state;
}

std::string heldPublishKey(PartitionId inbox, uint16_t id) {
  ByteWriter out;
  out.u64(inbox.value());
  out.u16(id);
  return out.take();
}

std::optional<std::pair<PartitionId, uint16_t>> parseHeldPublishKey(BytesView key) {
  ByteReader in(key);
  PartitionId inbox(in.u64());
  uint16_t id = in.u16();
  if (!in.complete()) return std::nullopt;
  return std::pair(inbox, id);
}

std::string tagKey(uint32_t tag) {
  ByteWriter out{std::string(kTagPrefix)};
  out.u32(tag);
  return out.take();
}

std::string encodeTag(const TagState& state) {
  ByteWriter out = begun();
  putText(out, state.topic);
  out.u32(state.subscriptionId);
  out.u8(static_cast<uint8_t>(state.origin));
  return out.take();
}

Result<std::pair<uint32_t, TagState>> decodeTag(BytesView key, BytesView value) {
  ByteReader name(key);
  name.skip(kTagPrefix.size());
  uint32_t tag = name.u32();
  ByteReader in = opened(value);
  TagState state;
  state.topic = getText(in);
  state.subscriptionId = in.u32();
  state.origin = static_cast<Protocol>(in.u8());
  if (!name.complete() || !in.complete() || state.origin > Protocol::kRocketMq) {
    return unreadable("address tag", std::to_string(tag));
  }
  return std::pair(tag, std::move(state));
}

std::string encodeGroup(const GroupState& state) {
  ByteWriter out = begun();
  out.i32(state.generation);
  putText(out, state.protocolType);
  putText(out, state.protocol);
  putText(out, state.leader);
  out.i64(state.changedMs);
  out.varuint(state.members.size());
  for (const GroupMemberState& member : state.members) {
    putText(out, member.memberId);
    putOptional(out, member.instanceId);
    putText(out, member.clientId);
    putText(out, member.clientHost);
    out.i32(member.sessionTimeoutMs);
    out.i32(member.rebalanceTimeoutMs);
    putText(out, member.metadata);
    putText(out, member.assignment);
  }
  return out.take();
}

Result<GroupState> decodeGroup(BytesView name, BytesView value) {
  ByteReader in = opened(value);
  GroupState state;
  state.generation = in.i32();
  state.protocolType = getText(in);
  state.protocol = getText(in);
  state.leader = getText(in);
  state.changedMs = in.i64();
  size_t members = in.count(in.varuint32(), 14);
  for (size_t i = 0; i < members; ++i) {
    GroupMemberState member;
    member.memberId = getText(in);
    member.instanceId = getOptional(in);
    member.clientId = getText(in);
    member.clientHost = getText(in);
    member.sessionTimeoutMs = in.i32();
    member.rebalanceTimeoutMs = in.i32();
    member.metadata = getText(in);
    member.assignment = getText(in);
    state.members.push_back(std::move(member));
  }
  if (!in.complete()) return unreadable("group", name);
  return state;
}

std::string groupOffsetKey(BytesView group, BytesView topic, int32_t partition) {
  ByteWriter out;
  out.bytes16(group);
  out.bytes16(topic);
  out.i32(partition);
  return out.take();
}

std::string encodeOffset(const OffsetState& state) {
  ByteWriter out = begun();
  out.i64(state.offset);
  out.i32(state.leaderEpoch);
  out.i64(state.committedMs);
  putText(out, state.metadata);
  return out.take();
}

Result<GroupOffsetState> decodeGroupOffset(BytesView key, BytesView value) {
  ByteReader name(key);
  GroupOffsetState state;
  state.group = std::string(name.bytes16());
  state.topic = std::string(name.bytes16());
  state.partition = name.i32();
  ByteReader in = opened(value);
  state.offset.offset = in.i64();
  state.offset.leaderEpoch = in.i32();
  state.offset.committedMs = in.i64();
  state.offset.metadata = getText(in);
  if (!name.complete() || !in.complete()) return unreadable("group offset of", state.group);
  return state;
}

}  // namespace polylog::router
