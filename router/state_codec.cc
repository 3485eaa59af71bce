#include "router/state_codec.h"

#include <algorithm>
#include <bit>
#include <type_traits>

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

std::string inboxKey(PartitionId inbox) {
  return encodeNumber(inbox.value());
}

std::string subscriptionKey(PartitionId inbox, BytesView filterText) {
  return inboxKey(inbox).append(filterText);
}

std::string encodeSubscription(const SubscriptionState& state) {
  const Subscription& subscription = state.subscription;
  ByteWriter out = begun();
  out.u8(static_cast<uint8_t>(subscription.guarantee));
  out.u8(static_cast<uint8_t>((subscription.noLocal ? 1 : 0) |
                              (subscription.retainAsPublished ? 2 : 0) |
                              (subscription.share.empty() ? 0 : 4) |
                              (subscription.exclusive ? 8 : 0)));
  out.u32(subscription.id);
  out.u64(state.since.value());
  out.varuint(subscription.filter.levels.size());
  for (const FilterLevel& level : subscription.filter.levels) {
    out.u8(static_cast<uint8_t>(level.kind));
    if (level.kind == FilterLevel::Kind::kLiteral) putText(out, level.text);
  }
  if (!subscription.share.empty()) putText(out, subscription.share);
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
  subscription.exclusive = (flags & 8U) != 0;
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
  if ((flags & 4U) != 0) subscription.share = getText(in);
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
  const auto& accepted = *state.accepted;
  const auto above = std::lower_bound(accepted.begin(), accepted.end(), from);
  out.varuint(static_cast<uint64_t>(accepted.end() - above));
  for (auto at = above; at != accepted.end(); from = *at++) {
    out.varuint(static_cast<uint64_t>(*at - from));
  }
  if (above == accepted.begin()) return out.take();  // as nearly always
  out.varuint(static_cast<uint64_t>(above - accepted.begin()));
  from = 0;
  for (auto at = accepted.begin(); at != above; from = *at++) {
    out.varuint(static_cast<uint64_t>(*at - from));
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
  auto ids = [&in, &step](int64_t last) {
    std::vector<int64_t> found;
    for (size_t left = in.count(in.varuint32(), 1); left > 0 && in.ok(); --left) {
      found.push_back(last = step(last));
    }
    return found;
  };
  std::vector<int64_t> accepted = ids(floor);
  if (in.ok() && in.remaining() > 0) {
    const std::vector<int64_t> below = ids(0);
    if (!below.empty() && below.back() >= floor) in.fail();
    accepted.insert(accepted.begin(), below.begin(), below.end());
  }
  if (!accepted.empty()) state.accepted.write() = std::move(accepted);
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

// ---------------------------------------------------------------- exchanges and queues

namespace {

constexpr int kMaxDepth = 64;

void putTable(ByteWriter& out, const Table& table);

void putValue(ByteWriter& out, const Value& value) {
  out.u8(static_cast<uint8_t>(value.is.index()));
  std::visit(
      [&out](const auto& is) {
        using T = std::decay_t<decltype(is)>;
        if constexpr (std::is_same_v<T, std::monostate>) {
        } else if constexpr (std::is_same_v<T, bool>) {
          out.u8(is ? 1 : 0);
        } else if constexpr (std::is_same_v<T, int64_t>) {
          out.i64(is);
        } else if constexpr (std::is_same_v<T, double>) {
          out.u64(std::bit_cast<uint64_t>(is));
        } else if constexpr (std::is_same_v<T, std::string>) {
          putText(out, is);
        } else if constexpr (std::is_same_v<T, Value::Octets>) {
          putText(out, is.bytes);
        } else if constexpr (std::is_same_v<T, Value::Decimal>) {
          out.u8(is.scale);
          out.u32(is.digits);
        } else if constexpr (std::is_same_v<T, Value::Timestamp>) {
          out.u64(is.seconds);
        } else if constexpr (std::is_same_v<T, Value::Array>) {
          out.varuint(is.size());
          for (const Value& element : is) putValue(out, element);
        } else {
          putTable(out, is);
        }
      },
      value.is);
}

void putTable(ByteWriter& out, const Table& table) {
  out.varuint(table.size());
  for (const auto& [name, value] : table) {
    putText(out, name);
    putValue(out, value);
  }
}

Table getTable(ByteReader& in, int depth);

Value getValue(ByteReader& in, int depth) {
  Value value;
  if (depth > kMaxDepth) in.fail();
  switch (in.u8()) {
    case 0: break;
    case 1: value.is = in.u8() != 0; break;
    case 2: value.is = in.i64(); break;
    case 3: value.is = std::bit_cast<double>(in.u64()); break;
    case 4: value.is = getText(in); break;
    case 5: value.is = Value::Octets{getText(in)}; break;
    case 6: {
      uint8_t scale = in.u8();
      value.is = Value::Decimal{scale, in.u32()};
      break;
    }
    case 7: value.is = Value::Timestamp{in.u64()}; break;
    case 8: {
      Value::Array array;
      size_t count = in.count(in.varuint32(), 1);
      for (size_t i = 0; i < count && in.ok(); ++i) array.push_back(getValue(in, depth + 1));
      value.is = std::move(array);
      break;
    }
    case 9: value.is = getTable(in, depth + 1); break;
    default: in.fail();
  }
  return value;
}

Table getTable(ByteReader& in, int depth) {
  Table table;
  size_t count = in.count(in.varuint32(), 2);
  for (size_t i = 0; i < count && in.ok(); ++i) {
    std::string name = getText(in);
    table.emplace_back(std::move(name), getValue(in, depth + 1));
  }
  return table;
}

}  // namespace

std::string encodeExchange(const ExchangeSpec& spec) {
  ByteWriter out = begun();
  out.u8(static_cast<uint8_t>(spec.type));
  out.u8(static_cast<uint8_t>((spec.autoDelete ? 1 : 0) | (spec.internal ? 2 : 0)));
  putTable(out, spec.arguments);
  return out.take();
}

Result<ExchangeSpec> decodeExchange(BytesView name, BytesView value) {
  ByteReader in = opened(value);
  ExchangeSpec spec;
  spec.name = std::string(name);
  spec.type = static_cast<ExchangeType>(in.u8());
  uint8_t flags = in.u8();
  spec.durable = true;  // others are not journaled
  spec.autoDelete = (flags & 1U) != 0;
  spec.internal = (flags & 2U) != 0;
  spec.arguments = getTable(in, 0);
  if (!in.complete() || spec.type < ExchangeType::kDirect || spec.type > ExchangeType::kHeaders) {
    return unreadable("exchange", name);
  }
  return spec;
}

std::string bindingKey(const BindingSpec& spec) {
  ByteWriter out;
  out.u8(spec.toExchange ? 1 : 0);
  putText(out, spec.source);
  putText(out, spec.destination);
  putText(out, spec.routingKey);
  putTable(out, spec.arguments);
  return out.take();
}

std::string encodeBinding(const BindingState& state) {
  ByteWriter out = begun();
  out.u64(state.since.value());
  return out.take();
}

Result<BindingState> decodeBinding(BytesView key, BytesView value) {
  BindingState state;
  ByteReader name(key);
  state.spec.toExchange = name.u8() != 0;
  state.spec.source = getText(name);
  state.spec.destination = getText(name);
  state.spec.routingKey = getText(name);
  state.spec.arguments = getTable(name, 0);
  ByteReader in = opened(value);
  state.since = Position(in.u64());
  if (!name.complete() || !in.complete()) return unreadable("binding of", state.spec.source);
  return state;
}

std::string encodeQueue(const QueueState& state) {
  const QueueSpec& spec = state.spec;
  ByteWriter out = begun();
  out.u64(state.partition.value());
  out.u8(static_cast<uint8_t>(spec.kind));
  out.u8(static_cast<uint8_t>((spec.durable ? 1 : 0) | (spec.exclusive ? 2 : 0) |
                              (spec.autoDelete ? 4 : 0)));
  putTable(out, spec.arguments);
  return out.take();
}

Result<QueueState> decodeQueue(BytesView name, BytesView value) {
  ByteReader in = opened(value);
  QueueState state;
  state.partition = PartitionId(in.u64());
  state.spec.name = std::string(name);
  state.spec.kind = static_cast<QueueKind>(in.u8());
  uint8_t flags = in.u8();
  state.spec.durable = (flags & 1U) != 0;
  state.spec.exclusive = (flags & 2U) != 0;
  state.spec.autoDelete = (flags & 4U) != 0;
  state.spec.arguments = getTable(in, 0);
  bool known = state.spec.kind == QueueKind::kClassic || state.spec.kind == QueueKind::kShared;
  if (!in.complete() || !known) return unreadable("queue", name);
  return state;
}

std::string queueAckKey(PartitionId partition, int64_t chunk) {
  ByteWriter out;
  out.u64(partition.value());
  out.i64(chunk);
  return out.take();
}

Result<QueueAckKey> parseQueueAckKey(BytesView key) {
  ByteReader in(key);
  QueueAckKey parsed;
  parsed.partition = PartitionId(in.u64());
  parsed.chunk = in.i64();
  if (!in.complete()) return unreadable("queue acknowledgement", "");
  return parsed;
}

std::string encodeSentMark(int64_t end, LeaderEpoch epoch) {
  ByteWriter out = begun();
  out.i64(end);
  out.i32(epoch.value());
  return out.take();
}

Result<std::pair<int64_t, LeaderEpoch>> decodeSentMark(BytesView value) {
  ByteReader in = opened(value);
  int64_t end = in.i64();
  LeaderEpoch epoch(in.i32());
  if (!in.complete()) return unreadable("queue's end of deliveries", "");
  return std::pair(end, epoch);
}

}  // namespace polylog::router
