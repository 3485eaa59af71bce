#include "router/consumer_group_state.h"

#include <algorithm>

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"
#include "router/state_codec.h"

namespace polylog::router {
namespace {

constexpr uint8_t kGroupVersion = 2;  // 1 = a classic group, 4 = one on its way out
constexpr uint8_t kShareGroupVersion = 3;
constexpr uint8_t kVersion = 1;
constexpr size_t kIdSize = std::tuple_size_v<TopicId>;

std::unexpected<Error> unreadable(const char* what, BytesView key) {
  return fail(ErrorKind::kCorrupt, "the state entry of " + std::string(what) + " '" +
                                       std::string(key) + "' can't be read");
}

void putOptional(ByteWriter& out, const std::optional<std::string>& text) {
  out.u8(text ? 1 : 0);
  if (text) putText(out, *text);
}
std::optional<std::string> getOptional(ByteReader& in) {
  if (in.u8() == 0) return std::nullopt;
  return getText(in);
}

void putId(ByteWriter& out, const TopicId& id) {
  out.bytes({reinterpret_cast<const char*>(id.data()), id.size()});
}
TopicId getId(ByteReader& in) {
  TopicId id{};
  BytesView octets = in.bytes(id.size());
  std::copy(octets.begin(), octets.end(), id.begin());
  return id;
}

void putTexts(ByteWriter& out, const std::set<std::string>& texts) {
  out.varuint(texts.size());
  for (const std::string& text : texts) putText(out, text);
}
std::set<std::string> getTexts(ByteReader& in) {
  std::set<std::string> texts;
  size_t count = in.count(in.varuint32(), 1);
  for (size_t i = 0; i < count; ++i) texts.insert(getText(in));
  return texts;
}

void putAssignment(ByteWriter& out, const Assignment& assignment) {
  out.varuint(assignment.size());
  for (const auto& [topic, partitions] : assignment) {
    putId(out, topic);
    out.varuint(partitions.size());
    for (int32_t partition : partitions) out.varuint(static_cast<uint32_t>(partition));
  }
}
Assignment getAssignment(ByteReader& in) {
  Assignment assignment;
  size_t topics = in.count(in.varuint32(), kIdSize + 1);
  for (size_t i = 0; i < topics; ++i) {
    auto& partitions = assignment[getId(in)];
    size_t count = in.count(in.varuint32(), 1);
    for (size_t j = 0; j < count; ++j) partitions.insert(static_cast<int32_t>(in.varuint32()));
  }
  return assignment;
}

}  // namespace

GroupKind groupKindOf(BytesView value) {
  uint8_t version = value.empty() ? 0 : static_cast<uint8_t>(value.front());
  if (version == kGroupVersion) return GroupKind::kConsumer;
  return version == kShareGroupVersion ? GroupKind::kShare : GroupKind::kClassic;
}

std::string encodeConsumerGroup(const ConsumerGroupState& state, GroupKind kind) {
  ByteWriter out;
  out.u8(kind == GroupKind::kShare ? kShareGroupVersion : kGroupVersion);
  out.i32(state.epoch);
  out.i32(state.assignmentEpoch);
  out.i64(state.changedMs);
  out.varuint(state.topics.size());
  for (const auto& [topic, partitions] : state.topics) {
    putId(out, topic);
    out.i32(partitions);
  }
  out.varuint(state.patterns.size());
  for (const auto& [pattern, topics] : state.patterns) {
    putText(out, pattern);
    putTexts(out, topics);
  }
  return out.take();
}

Result<ConsumerGroupState> decodeConsumerGroup(BytesView name, BytesView value) {
  ByteReader in(value);
  uint8_t version = in.u8();
  if (version != kGroupVersion && version != kShareGroupVersion) in.fail();
  ConsumerGroupState state;
  state.epoch = in.i32();
  state.assignmentEpoch = in.i32();
  state.changedMs = in.i64();
  size_t topics = in.count(in.varuint32(), kIdSize + 4);
  for (size_t i = 0; i < topics; ++i) {
    TopicId id = getId(in);
    state.topics[id] = in.i32();
  }
  size_t patterns = in.count(in.varuint32(), 2);
  for (size_t i = 0; i < patterns; ++i) {
    std::string pattern = getText(in);
    state.patterns[pattern] = getTexts(in);
  }
  if (!in.complete()) return unreadable("group", name);
  return state;
}

std::string groupMemberKey(BytesView group, BytesView member) {
  ByteWriter out;
  out.bytes16(group);
  out.bytes(member);
  return out.take();
}

Result<std::pair<std::string, std::string>> parseGroupMemberKey(BytesView key) {
  ByteReader in(key);
  std::string group(in.bytes16());
  std::string member(in.bytes(in.remaining()));
  if (!in.complete()) return unreadable("a member of group", group);
  return std::pair(std::move(group), std::move(member));
}

std::string encodeConsumerMember(const ConsumerMemberState& state) {
  ByteWriter out;
  out.u8(kVersion);
  putOptional(out, state.instanceId);
  putOptional(out, state.rackId);
  putText(out, state.clientId);
  putText(out, state.clientHost);
  out.i32(state.rebalanceTimeoutMs);
  putTexts(out, state.topics);
  putText(out, state.pattern);
  putOptional(out, state.assignor);
  out.i32(state.epoch);
  out.i32(state.previousEpoch);
  out.u8(static_cast<uint8_t>(state.phase));
  putAssignment(out, state.assigned);
  putAssignment(out, state.revoking);
  putAssignment(out, state.target);
  out.i32(state.targetEpoch);
  out.u8(state.classic ? 1 : 0);
  if (!state.classic) return out.take();
  out.i32(state.classic->sessionTimeoutMs);
  out.varuint(state.classic->protocols.size());
  for (const GroupProtocol& protocol : state.classic->protocols) {
    putText(out, protocol.name);
    putText(out, protocol.metadata);
  }
  return out.take();
}

Result<ConsumerMemberState> decodeConsumerMember(BytesView member, BytesView value) {
  ByteReader in(value);
  if (in.u8() != kVersion) in.fail();
  ConsumerMemberState state;
  state.id = member;
  state.instanceId = getOptional(in);
  state.rackId = getOptional(in);
  state.clientId = getText(in);
  state.clientHost = getText(in);
  state.rebalanceTimeoutMs = in.i32();
  state.topics = getTexts(in);
  state.pattern = getText(in);
  state.assignor = getOptional(in);
  state.epoch = in.i32();
  state.previousEpoch = in.i32();
  uint8_t phase = in.u8();
  if (phase > static_cast<uint8_t>(ConsumerPhase::kUnreleased)) in.fail();
  state.phase = static_cast<ConsumerPhase>(phase);
  state.assigned = getAssignment(in);
  state.revoking = getAssignment(in);
  state.target = getAssignment(in);
  state.targetEpoch = in.i32();
  if (in.u8() != 0) {
    auto& classic = state.classic.emplace();
    classic.sessionTimeoutMs = in.i32();
    size_t protocols = in.count(in.varuint32(), 2);
    if (protocols == 0) in.fail();
    for (size_t i = 0; i < protocols; ++i) {
      std::string name = getText(in);
      classic.protocols.push_back({std::move(name), getText(in)});
    }
  }
  if (!in.complete()) return unreadable("group member", member);
  return state;
}

std::string encodeGroupConfig(const GroupConfig& config) {
  ByteWriter out;
  out.u8(kVersion);
  out.i32(config.sessionTimeoutMs.value_or(-1));
  out.i32(config.heartbeatIntervalMs.value_or(-1));
  out.i32(config.shareSessionTimeoutMs.value_or(-1));
  out.i32(config.shareHeartbeatIntervalMs.value_or(-1));
  out.i32(config.shareLockMs.value_or(-1));
  out.u8(config.shareCommittedOnly ? (*config.shareCommittedOnly ? 2 : 1) : 0);
  out.u8(config.shareReset ? 1 : 0);
  if (config.shareReset) {
    out.i64(config.shareReset->agoMs);
    putText(out, config.shareReset->text);
  }
  return out.take();
}

namespace {
void getShareConfig(ByteReader& in, GroupConfig& config) {
  auto number = [&](std::optional<int32_t>& to) {
    int32_t value = in.i32();
    if (value >= 0) to = value;
  };
  number(config.shareSessionTimeoutMs);
  number(config.shareHeartbeatIntervalMs);
  number(config.shareLockMs);
  if (uint8_t committed = in.u8(); committed > 0) config.shareCommittedOnly = committed == 2;
  if (in.u8() == 0) return;
  ShareReset& reset = config.shareReset.emplace();
  reset.agoMs = in.i64();
  reset.text = getText(in);
}
}  // namespace

Result<GroupConfig> decodeGroupConfig(BytesView name, BytesView value) {
  ByteReader in(value);
  if (in.u8() != kVersion) in.fail();
  GroupConfig config;
  int32_t session = in.i32();
  int32_t interval = in.i32();
  if (session >= 0) config.sessionTimeoutMs = session;
  if (interval >= 0) config.heartbeatIntervalMs = interval;
  if (in.remaining() > 0) getShareConfig(in, config);  // else of before there were share groups
  if (!in.complete()) return unreadable("group configuration", name);
  return config;
}

}  // namespace polylog::router
