#include "codecs/mqtt/outbound.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "codecs/mqtt/properties_mapping.h"
#include "core/base/metrics.h"
#include "core/event/dispatcher.h"
#include "mapping/guarantee.h"
#include "mapping/mqtt.h"

namespace polylog::mqtt {
namespace {

using Stage = InFlight::Stage;

Fault protocolError(const char* what) {
  return {ReasonCode::kProtocolError, what};
}

constexpr const char* kDropped = "polylog_deliveries_dropped_total";
constexpr const char* kDroppedHelp = "Deliveries that were not made, by reason.";

Metric& droppedUnnameable() {
  static Metric& metric = counter(kDropped, kDroppedHelp, R"(protocol="mqtt",reason="name")");
  return metric;
}
Metric& droppedTooLarge() {
  static Metric& metric = counter(kDropped, kDroppedHelp, R"(protocol="mqtt",reason="too_large")");
  return metric;
}
Metric& droppedExpired() {
  static Metric& metric = counter(kDropped, kDroppedHelp, R"(protocol="mqtt",reason="expired")");
  return metric;
}

}  // namespace

/// Where a delivery is put together. A thread has one, not each of its connections, most of which
/// are idle at any time: nothing in it is of use beyond the delivery (`taken`: beyond a round of
/// pump()).
struct OutboundDeliveries::Workspace {
  std::vector<Delivery> taken;
  std::string topic;
  PublishPacket packet;
  mapping::MqttProperties properties;
  mapping::TextArena arena;
  std::string placeTexts[3];
};

OutboundDeliveries::Workspace& OutboundDeliveries::workspace() {
  thread_local Workspace space;
  return space;
}

void OutboundDeliveries::open() {
  window_ = std::min<int64_t>(link_.clientReceiveMaximum, link_.options->maxInflight);
}

/// What is free of the window, for the one lane or the other: together they must not go beyond it.
TakeLimits OutboundDeliveries::limits() const {
  const int64_t own = own_.inFlight();
  const int64_t shared = shared_.inFlight();
  return {own_.idLimit(link_.session->acknowledgedUpTo(), sharedTurn_ ? own : window_ - shared),
          shared_.idLimit(link_.session->sharedAcknowledgedUpTo(),
                          sharedTurn_ ? window_ - own : shared)};
}

void OutboundDeliveries::pump() {
  if (!link_.open() || link_.due) return;
  const int64_t nowMs = link_.transport.dispatcher().clock().wallMillis();
  // Taken away from the workspace: what a delivery sets off may pump another session.
  std::vector<Delivery> taken = std::exchange(workspace().taken, {});
  for (int idle = 0; idle < 2 && link_.open() && !link_.due && !link_.transport.congested();) {
    sharedTurn_ = !sharedTurn_;
    const size_t count = link_.session->take(kTakeAtOnce, limits(), taken);
    for (const Delivery& delivery : taken) send(delivery, nowMs);
    taken.clear();  // lets the records go
    link_.flush();
    // What was dropped made room, and no acknowledgement will say so: on until nothing comes.
    idle = count == 0 ? idle + 1 : 0;
  }
  workspace().taken = std::move(taken);
}

void OutboundDeliveries::sendRelease(int64_t id) {
  own_.add(id, Stage::kReleased);
  link_.answerAck(PacketType::kPubrel, own_.packetId(id));
}

/// The name under which the peer gets it. False: it isn't sent (counted).
bool OutboundDeliveries::name(const Delivery& delivery) {
  Workspace& work = workspace();
  work.topic.clear();
  // What is named as the mount point itself has no name under it.
  if (!mapping::appendMqttTopic(delivery.record->address, work.topic) ||
      work.topic == link_.mount) {
    droppedUnnameable().add();
    return false;
  }
  if (link_.bridge != nullptr && !link_.bridge->outward(work.topic, delivery.record->record)) {
    return false;
  }
  work.packet.topic = work.topic;
  if (work.packet.topic.starts_with(link_.mount))
    work.packet.topic.remove_prefix(link_.mount.size());
  return true;
}

void OutboundDeliveries::send(const Delivery& delivery, int64_t nowMs) {
  if (delivery.accepted) return sendRelease(delivery.id);
  if (!name(delivery)) return drop(delivery);
  if (!fillProperties(delivery, nowMs)) {
    droppedExpired().add();
    return drop(delivery);
  }
  PublishPacket& packet = workspace().packet;
  const bool afresh = link_.bridge != nullptr && link_.bridge->afresh;
  uint8_t qos = mapping::qosOf(delivery.guarantee);
  if (link_.bridge != nullptr) qos = std::min(qos, link_.bridge->maxQos);
  packet.qos = qos;
  packet.packetId = qos > 0 ? laneOf(delivery.id).packetId(delivery.id) : uint16_t{0};
  packet.retain = delivery.retain && (link_.bridge == nullptr || link_.bridge->retainAvailable);
  packet.dup = qos > 0 && delivery.redelivered && !afresh;
  const BytesView payload = mapping::mqttPayload(delivery.record->record);
  const BytesView named = packet.topic;
  if (link_.topicAliases > 0) alias(packet, payload.size());
  const size_t size = publishSize(link_.version, packet, payload.size());
  if (size > link_.clientMaxPacket || size > kMaxRemainingLength) {
    droppedTooLarge().add();  // [MQTT-3.1.2-25]: as if it had been sent
    return drop(delivery);
  }
  if (link_.traced()) {
    const BytesView asSent = std::exchange(packet.topic, named);  // people want to know
    packet.payload = payload;
    link_.trace(false, packet);
    packet.payload = {};
    packet.topic = asSent;
  }
  write(delivery, payload);
}

/// Gives the packet an alias, beside the name or in its place. One that the client doesn't know yet
/// only where the packet is sure to go out. At QoS 2 none: clients keep the packet until PUBREL,
/// and may not have the name with it then (npm's mqtt hasn't).
void OutboundDeliveries::alias(PublishPacket& packet, size_t payloadBytes) {
  if (packet.qos == 2 || !OutboundAliases::worthwhile(packet.topic)) return;
  const uint16_t known = aliases_ ? aliases_->find(packet.topic) : uint16_t{0};
  if (known > 0) {
    packet.properties.add(PropertyId::kTopicAlias, known);
    packet.topic = {};
    return;
  }
  const size_t size = publishSize(link_.version, packet, payloadBytes) + kAliasBytes;
  if (size > link_.clientMaxPacket || size > kMaxRemainingLength) return;
  if (!aliases_) {
    aliases_ = std::make_unique<OutboundAliases>(link_.topicAliases);
  }
  const uint16_t given = aliases_->give(packet.topic);
  if (given > 0) packet.properties.add(PropertyId::kTopicAlias, given);
}

/// The packet in the workspace, which is the delivery.
void OutboundDeliveries::write(const Delivery& delivery, BytesView payload) {
  const uint8_t qos = workspace().packet.qos;
  encodePublishHead(link_.out, link_.version, workspace().packet, payload.size());
  ++link_.packetsOut;
  if (payload.size() >= kByReferenceBytes) {
    link_.flush();
    link_.transport.send(SharedBytes(delivery.record->owner.owner(), payload));
  } else {
    link_.out.bytes(payload);
    if (link_.out.size() >= kOutputChunk) link_.flush();
  }
  if (link_.bridge != nullptr) link_.bridge->counters().sent.add();
  if (qos == 0) return drop(delivery);  // nothing more will be heard of it
  laneOf(delivery.id).add(delivery.id, qos == 1 ? Stage::kSentQos1 : Stage::kSentQos2);
}

/// False when the record has expired, unless its exactly-once delivery has begun [MQTT-4.3.3-7].
bool OutboundDeliveries::fillProperties(const Delivery& delivery, int64_t nowMs) {
  Workspace& work = workspace();
  work.packet.properties.clear();
  const Record& record = delivery.record->record;
  const bool expired = mapping::isExpired(record, nowMs);
  if (expired && !(delivery.redelivered && delivery.guarantee == DeliveryGuarantee::kExactlyOnce)) {
    return false;
  }
  if (link_.version != Version::k5) return true;
  if (!record.headers.empty() || record.guarantee == DeliveryGuarantee::kUnspecified) {
    work.arena.clear();
    work.properties.clear();
    // Of what is past nothing remains.
    const int64_t at = expired ? std::numeric_limits<int64_t>::min() : nowMs;
    (void)mapping::mqttFromHeaders(record, at, work.properties, work.arena);
    if (expired) work.properties.messageExpirySeconds = 0;
    appendTravelling(work.properties, work.packet.properties);
  }
  if (delivery.place) addPlace(*delivery.place, record.timestampMs);
  for (uint32_t id : delivery.subscriptionIds) {
    work.packet.properties.add(PropertyId::kSubscriptionId, id);
  }
  if (link_.bridge != nullptr) link_.bridge->mark(work.packet.properties);
  return true;
}

/// Where a replayed record stands in the log, so that the client can ask for what follows it.
void OutboundDeliveries::addPlace(const LogPlace& place, int64_t timestampMs) {
  constexpr BytesView kNames[] = {"polylog-partition", "polylog-offset", "polylog-time"};
  const int64_t values[] = {place.partition, place.offset, timestampMs};
  Workspace& work = workspace();
  for (size_t i = 0; i < std::size(kNames); ++i) {
    work.placeTexts[i] = std::to_string(values[i]);
    work.packet.properties.add(PropertyId::kUserProperty, kNames[i], BytesView(work.placeTexts[i]));
  }
}

void OutboundDeliveries::drop(const Delivery& delivery) {
  if (delivery.guarantee == DeliveryGuarantee::kAtMostOnce || delivery.id < 0) return;
  laneOf(delivery.id).skip(delivery.id);
  link_.session->acknowledge(delivery.id);
}

void OutboundDeliveries::finish(int64_t id) {
  laneOf(id).finish(id);
  link_.session->acknowledge(id);
}

std::optional<Fault> OutboundDeliveries::onAck(const AckPacket& packet) {
  const auto id = (shared_.owns(packet.packetId) ? shared_ : own_).find(packet.packetId);
  if (packet.type == PacketType::kPubrec) return onPubrec(packet, id);
  // Late answers to an earlier connection's deliveries are of no interest.
  if (!id) return std::nullopt;
  if (link_.bridge != nullptr && packet.type == PacketType::kPuback &&
      link_.bridge->refusedForNow(packet.code, *id)) {
    return Fault{packet.code, "the remote broker can't take a message now"};
  }
  const Stage due = packet.type == PacketType::kPuback ? Stage::kSentQos1 : Stage::kReleased;
  if (laneOf(*id).stage(*id) != due) return protocolError("acknowledgement of the wrong kind");
  finish(*id);
  return std::nullopt;
}

std::optional<Fault> OutboundDeliveries::onPubrec(const AckPacket& packet,
                                                  std::optional<int64_t> id) {
  if (!id) {
    if (!isError(packet.code)) {
      link_.answerAck(PacketType::kPubrel, packet.packetId, ReasonCode::kPacketIdNotFound);
    }
    return std::nullopt;
  }
  switch (laneOf(*id).stage(*id)) {
    case Stage::kSentQos2: break;
    case Stage::kAccepting: return std::nullopt;  // PUBREL follows
    case Stage::kReleased:
      link_.answerAck(PacketType::kPubrel, packet.packetId);
      return std::nullopt;
    default: return protocolError("PUBREC for QoS 1");
  }
  if (link_.bridge != nullptr && link_.bridge->refusedForNow(packet.code, *id)) {
    return Fault{packet.code, "the remote broker can't take a message now"};
  }
  if (link_.version == Version::k5 && isError(packet.code)) {
    finish(*id);
    return std::nullopt;
  }
  laneOf(*id).setStage(*id, Stage::kAccepting);
  ++link_.waitingRequests;
  link_.session->accept(*id, [this, guard = link_.guard(), id = *id](const Result<>& result) {
    if (!guard.expired()) accepted(id, result);
  });
  return std::nullopt;
}

void OutboundDeliveries::accepted(int64_t id, const Result<>& result) {
  --link_.waitingRequests;
  if (!link_.open() || laneOf(id).stage(id) != Stage::kAccepting) return;
  if (!result) {
    link_.end(Fault{ReasonCode::kUnspecifiedError, "an acknowledgement could not be stored"});
    return;
  }
  laneOf(id).setStage(id, Stage::kReleased);
  link_.answerAck(PacketType::kPubrel, laneOf(id).packetId(id));
  link_.flush();
  link_.progressed();
}

}  // namespace polylog::mqtt
