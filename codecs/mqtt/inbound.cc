#include "codecs/mqtt/inbound.h"

#include <fmt/format.h>

#include <utility>

#include "codecs/mqtt/handshake.h"
#include "codecs/mqtt/properties_mapping.h"
#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/event/dispatcher.h"
#include "mapping/errors.h"
#include "mapping/guarantee.h"
#include "mapping/partition.h"

namespace polylog::mqtt {
namespace {

Fault fault(ReasonCode code, const char* what) {
  return {code, what};
}

Metric& refused() {
  static Metric& metric =
      counter("polylog_publish_refused_total", "Publishes that were refused, told or not.",
              R"(protocol="mqtt")");
  return metric;
}

/// Whether it would be refused again, for what it is.
bool isPublishersFault(ErrorKind kind) {
  return kind == ErrorKind::kInvalid || kind == ErrorKind::kUnsupported ||
         kind == ErrorKind::kNotFound || kind == ErrorKind::kUnauthorized ||
         kind == ErrorKind::kTooLarge;
}

/// What a record costs while it waits, beside its octets.
constexpr size_t kRecordOverhead = 64;

/// What a connection keeps from one round to the next.
constexpr size_t kKeptRecords = 128;
constexpr size_t kKeptTexts = 4;

}  // namespace

void InboundPublishes::open() {
  for (uint16_t id : link_.session->heldPublishIds()) held_[id] = Held{Holding::kHeld, false};
}

std::optional<Fault> InboundPublishes::publish(const PublishPacket& packet) {
  BytesView topic = packet.topic;
  // An alias is what it is now: those behind it may give it to another name meanwhile.
  if (auto problem = resolveAlias(packet, topic)) return problem;
  if (!mustHoldBack(packet)) return take(packet, topic);
  holdBack(packet, topic);
  return std::nullopt;
}

bool InboundPublishes::mustHoldBack(const PublishPacket& packet) const {
  if (!holdsWhenFull() || packet.qos == 0) return false;
  return !heldBack_.empty() || link_.broker.full();  // none overtakes another
}

size_t InboundPublishes::HeldBack::bytes() const {
  return kRecordOverhead + topic.size() + payload.size() + properties.size();
}

void InboundPublishes::holdBack(const PublishPacket& packet, BytesView topic) {
  HeldBack& held = heldBack_.emplace_back(packet, std::string(topic), std::string(packet.payload));
  held.packet.topic = held.packet.payload = {};
  if (!packet.properties.empty()) {
    ByteWriter writer;
    writeProperties(writer, packet.properties);
    held.properties = writer.take();
    held.packet.properties.clear();
  }
  heldBackBytes_ += held.bytes();
  if (!space_) awaitSpace();
}

void InboundPublishes::awaitSpace() {
  space_ = link_.broker.awaitSpace([this] { resume(); });
}

/// There is space: goes on from where it stopped, as far as that goes.
void InboundPublishes::resume() {
  space_.reset();
  std::list<HeldBack> released;  // flush() needs their octets
  while (!heldBack_.empty() && link_.open() && !link_.due && !link_.broker.full()) {
    released.splice(released.end(), heldBack_, heldBack_.begin());
    HeldBack& held = released.back();
    heldBackBytes_ -= held.bytes();
    held.packet.payload = held.payload;
    if (!held.properties.empty()) {
      ByteReader reader(held.properties);
      (void)readProperties(reader, scopeOf(PacketType::kPublish), held.packet.properties);
    }
    if (auto fault = take(held.packet, held.topic)) {
      flush();
      return link_.end(*fault);
    }
  }
  flush();
  if (!link_.open() || link_.due) return;
  if (!heldBack_.empty()) awaitSpace();
  link_.flush();
  link_.progressed();
}

std::optional<Fault> InboundPublishes::take(const PublishPacket& packet, BytesView topic) {
  if (auto problem = admit(packet)) return problem;

  Answer answer{packet.packetId, packet.qos, ReasonCode::kSuccess, -1, false};
  if (packet.qos > 0) {
    auto found = held_.find(packet.packetId);
    if (found != held_.end() && (packet.qos == 1 || found->second.stage == Holding::kReleasing)) {
      if (link_.version == Version::k311) {  // which has no word for it: it would seem accepted
        return fault(ReasonCode::kPacketIdInUse, "packet identifier in use [MQTT-2.3.1-2]");
      }
      answer.code = ReasonCode::kPacketIdInUse;
      answers_.push_back(answer);
      return std::nullopt;
    }
    if (found != held_.end()) {  // a repeat: answered (after the original), not published
      if (!found->second.counted) ++inFlight_;
      found->second.counted = true;
      answer.repeat = true;
      answers_.push_back(answer);
      return std::nullopt;
    }
    ++inFlight_;
    if (packet.qos == 2) held_.emplace(packet.packetId, Held{});
  }

  if (link_.options->checkPayloadFormat && !payloadAsIndicated(packet.properties, packet.payload)) {
    refused().add();
    answer.code = ReasonCode::kPayloadFormatInvalid;
    if (packet.qos == 0) return fault(answer.code, "a payload that says it is UTF-8 and isn't");
    answers_.push_back(answer);
    return std::nullopt;
  }
  const bool passed =
      link_.bridge != nullptr && !link_.bridge->inward(topic, packet.properties, scratch());
  if (passed || takeBridgeState(topic, packet.payload)) {
    if (packet.qos > 0) answers_.push_back(answer);
    return std::nullopt;
  }
  const int64_t now =
      topic.starts_with('$') ? link_.transport.dispatcher().clock().wallMillis() : 0;
  const auto delay = mapping::takeMqttDelay(topic, now);
  if (delay) rewrite(topic);
  auto address = delay ? mapping::splitMqttTopic(topic, scratch())
                       : Result<Address>(std::unexpected(delay.error()));
  if (!address) {
    refused().add();
    if (link_.bridge != nullptr) link_.bridge->counters().refusedHere.add();
    if (packet.qos == 0) return std::nullopt;
    answer.code = static_cast<ReasonCode>(mapping::mqttError(address.error().kind).puback);
    if (link_.bridge == nullptr && link_.version == Version::k311 &&
        mapping::mqtt311PublishFailure(address.error().kind) ==
            mapping::Mqtt311PublishFailure::kClose) {
      return fault(answer.code, "publish to a topic that cannot be");
    }
    answers_.push_back(answer);
    return std::nullopt;
  }
  if (packet.qos > 0) {
    answer.result = static_cast<int32_t>(gathered_.size());
    answers_.push_back(answer);
  }
  gather(packet, *address, delay->timeFrom(now));
  if (gathered_.size() >= kMaxBatchRecords || gatheredBytes_ >= kMaxBatchBytes) flush();
  return std::nullopt;
}

/// Whether it tells of the client's own connection, as its will does: of that it may.
bool InboundPublishes::takeBridgeState(BytesView topic, BytesView payload) {
  if (link_.bridgeState.empty() || bridgeStateName(topic) != link_.bridgeState) return false;
  link_.tellBridgeState(payload == "1");
  return true;
}

/// The name that the configuration makes of it.
void InboundPublishes::rewrite(BytesView& topic) {
  const mapping::TopicRewrites& rewrites = link_.options->rewrites;
  // No name stays none, and is refused.
  if (topic.empty() || (rewrites.empty() && link_.mount.empty())) return;
  auto made = rewrites.apply(mapping::TopicRewrites::Action::kPublish, topic,
                             {link_.principal->clientId, link_.principal->user});
  if (!made && link_.mount.empty()) return;
  std::string name = made ? std::move(*made) : std::string(topic);
  if (!name.empty() && !name.starts_with('$')) name.insert(0, link_.mount);
  std::string& text = scratch();
  text = std::move(name);
  topic = text;
}

/// What CONNACK has told the client not to do.
std::optional<Fault> InboundPublishes::admit(const PublishPacket& packet) {
  const MqttOptions& options = *link_.options;
  if (packet.qos > options.maxQos) {
    return fault(ReasonCode::kQosNotSupported, "QoS not supported");
  }
  if (packet.retain && !options.retainAvailable) {
    return fault(ReasonCode::kRetainNotSupported, "retain not supported");
  }
  if (packet.qos > 0 && link_.version == Version::k5) {
    // A repeat of what already counts does not count again.
    auto found = held_.find(packet.packetId);
    const bool counts = found == held_.end() || !found->second.counted;
    if (counts && inFlight_ >= options.receiveMaximum) {
      return fault(ReasonCode::kReceiveMaximumExceeded, "receive maximum exceeded");
    }
  }
  return std::nullopt;
}

std::optional<Fault> InboundPublishes::resolveAlias(const PublishPacket& packet, BytesView& topic) {
  if (packet.properties.empty()) return std::nullopt;
  const auto alias = packet.properties.number(PropertyId::kTopicAlias);
  if (!alias) return std::nullopt;
  if (*alias == 0 || *alias > link_.options->topicAliasMaximum) {
    return fault(ReasonCode::kTopicAliasInvalid, "topic alias out of range");
  }
  const size_t index = *alias - 1;
  if (topic.empty()) {
    if (index >= aliases_.size() || aliases_[index].empty()) {
      return fault(ReasonCode::kProtocolError, "topic alias not set");
    }
    topic = aliases_[index];
    return std::nullopt;
  }
  if (index >= aliases_.size()) {
    flush();  // views of earlier publishes point into the names that would move
    aliases_.resize(index + 1);
  }
  if (aliases_[index] != topic) {
    if (!aliases_[index].empty()) flush();
    aliases_[index] = std::string(topic);
  }
  return std::nullopt;
}

std::string& InboundPublishes::scratch() {
  // One that the mapping leaves empty can be offered again.
  while (scratchUsed_ < scratch_.size() && !scratch_[scratchUsed_]->empty()) ++scratchUsed_;
  if (scratchUsed_ == scratch_.size()) scratch_.push_back(std::make_unique<std::string>());
  return *scratch_[scratchUsed_];
}

void InboundPublishes::gather(const PublishPacket& packet, const Address& address,
                              int64_t publishAtMs) {
  Publish& out = gathered_.emplace_back();
  out.address = address;
  out.topic = address.topic;
  out.record.key = address.key;
  if (!link_.options->rules.empty()) {
    const mapping::Route route = link_.options->rules.apply(address, scratch());
    out.topic = route.topic;
    out.record.key = route.key;
    out.ephemeral = route.ephemeral;
  }
  out.record.value = mapping::valueFromMqtt(packet.payload, packet.retain);
  out.record.guarantee = mapping::guaranteeFromQos(packet.qos);
  out.record.retain = packet.retain;
  out.partitionHash =
      out.record.key ? mapping::partitionHash(out.record.key, {}) : link_.publisherHash;
  if (packet.qos == 2) out.exactlyOnceId = packet.packetId;
  out.publishAtMs = publishAtMs;
  out.admitted = packet.qos > 0 && holdsWhenFull();
  size_t bytes = kRecordOverhead + packet.topic.size() + packet.payload.size();
  if (!packet.properties.empty()) {
    thread_local mapping::MqttProperties properties;  // its memory is used again
    travelling(packet.properties, properties);
    if (!properties.empty()) {
      // Its lifetime begins when it is published.
      const int64_t from =
          publishAtMs > 0 ? publishAtMs : link_.transport.dispatcher().clock().wallMillis();
      mapping::headersFromMqtt(properties, from, out.record.headers, arena_);
      for (const Header& header : out.record.headers) {
        bytes += header.name.size() + (header.value ? header.value->size() : 0);
      }
    }
  }
  if (link_.bridge != nullptr) link_.bridge->mark(out.record.headers);
  gatheredBytes_ += bytes;
}

void InboundPublishes::flush() {
  if (gathered_.empty() && answers_.empty()) return;
  if (!link_.open()) return reset();
  unaskedRecords_ += gathered_.size();
  unaskedBytes_ += gatheredBytes_;
  // A bridge counts what is refused at QoS 0, too.
  const bool rightsHold = link_.bridge != nullptr && !link_.principal->trusted;
  const bool ask = !answers_.empty() || rightsHold || unaskedRecords_ >= kProbeRecords ||
                   unaskedBytes_ >= kProbeBytes;
  Done<std::vector<PublishResult>> done;
  std::shared_ptr<Batch> batch;
  if (ask) {
    batch = std::make_shared<Batch>();
    batch->answers.swap(answers_);
    batch->records = std::exchange(unaskedRecords_, 0);
    batch->bytes = std::exchange(unaskedBytes_, 0);
    waitingRecords_ += batch->records;
    waitingBytes_ += batch->bytes;
    waiting_.push_back(batch);
    done = [this, guard = link_.guard(), batch](std::vector<PublishResult> results) {
      if (!guard.expired()) complete(*batch, std::move(results));
    };
  }
  if (!gathered_.empty()) {
    link_.broker.publish(link_.principal, link_.session.get(), gathered_, std::move(done));
  }
  const bool nothingPublished = gathered_.empty();
  reset();
  if (nothingPublished && batch) complete(*batch, {});
}

void InboundPublishes::reset() {
  gathered_.clear();
  // A burst's memory is not kept: most connections are idle most of the time.
  if (gathered_.capacity() > kKeptRecords) gathered_ = {};
  answers_.clear();
  gatheredBytes_ = 0;
  arena_.clear();
  if (scratch_.size() > kKeptTexts) scratch_.clear();
  for (const auto& text : scratch_) text->clear();
  scratchUsed_ = 0;
}

void InboundPublishes::complete(Batch& batch, std::vector<PublishResult> results) {
  batch.results = std::move(results);
  batch.done = true;
  answerFinished();
  link_.flush();
  link_.progressed();
}

/// Answers in the order of the packets [MQTT-4.6.0-2], however the broker's answers arrive.
void InboundPublishes::answerFinished() {
  while (!waiting_.empty() && waiting_.front()->done) {
    const std::shared_ptr<Batch> batch = std::move(waiting_.front());
    waiting_.pop_front();
    waitingRecords_ -= batch->records;
    waitingBytes_ -= batch->bytes;
    for (const PublishResult& result : batch->results) {
      if (!result.error) continue;
      refused().add();
      if (link_.bridge != nullptr && isPublishersFault(result.error->kind)) {
        link_.bridge->counters().refusedHere.add();
      }
    }
    for (const Answer& each : batch->answers) {
      if (!link_.open() || link_.due) return;
      answer(each, *batch);
    }
  }
}

/// The answer's code; nothing when the connection has to end over it.
std::optional<ReasonCode> InboundPublishes::judge(const Answer& answer, const Batch& batch) {
  if (answer.result < 0) return answer.code;
  const auto index = static_cast<size_t>(answer.result);
  // A broker that gives fewer results than records has promised nothing for the rest.
  static const PublishResult kMissing{Error{ErrorKind::kInternal, "no result"}, false};
  const PublishResult& result = index < batch.results.size() ? batch.results[index] : kMissing;
  if (link_.bridge != nullptr) return judgeForBridge(result);
  if (!result.error) {
    return result.matched ? ReasonCode::kSuccess : ReasonCode::kNoMatchingSubscribers;
  }
  if (link_.version == Version::k311 && mapping::mqtt311PublishFailure(result.error->kind) ==
                                            mapping::Mqtt311PublishFailure::kClose) {
    return std::nullopt;
  }
  return static_cast<ReasonCode>(mapping::mqttError(result.error->kind).puback);
}

/// What will never be taken is refused, what may be later is left with the remote.
std::optional<ReasonCode> InboundPublishes::judgeForBridge(const PublishResult& result) {
  if (!result.error) return ReasonCode::kSuccess;
  if (!isPublishersFault(result.error->kind)) return std::nullopt;
  return static_cast<ReasonCode>(mapping::mqttError(result.error->kind).puback);
}

void InboundPublishes::answer(const Answer& answer, const Batch& batch) {
  const auto code = judge(answer, batch);
  if (!code) {
    const auto index = static_cast<size_t>(answer.result);
    if (index < batch.results.size() && batch.results[index].error) {
      // The version has no word for it, so here is the only place where somebody finds it.
      logWarning(fmt::format("mqtt {} client '{}' is cut off for a publish that is refused: {}",
                             link_.transport.peer(), link_.principal->clientId,
                             batch.results[index].error->text));
    }
    return link_.end(fault(ReasonCode::kUnspecifiedError, "a publish could not be stored"));
  }
  if (answer.qos == 2) return answerExactlyOnce(answer, batch, *code);
  if (*code != ReasonCode::kPacketIdInUse) --inFlight_;
  acknowledge(answer, batch, *code);
}

/// PUBACK or PUBREC, with what the broker says of a refusal.
void InboundPublishes::acknowledge(const Answer& answer, const Batch& batch, ReasonCode code) {
  AckPacket packet{
      answer.qos == 1 ? PacketType::kPuback : PacketType::kPubrec, answer.packetId, code, {}};
  const auto index = static_cast<size_t>(answer.result);
  std::string why;
  if (answer.result >= 0 && index < batch.results.size() && batch.results[index].error) {
    const Error& error = *batch.results[index].error;
    if (isPublishersFault(error.kind)) why = link_.reasonFor(error.text, 0);
  }
  if (why.empty()) return link_.answerAck(packet.type, packet.packetId, code);
  packet.properties.add(PropertyId::kReasonString, BytesView(why));
  link_.answerPacket(std::move(packet));
}

void InboundPublishes::answerExactlyOnce(const Answer& answer, const Batch& batch,
                                         ReasonCode code) {
  auto found = held_.find(answer.packetId);
  if (answer.repeat && found == held_.end()) return;  // the original failed, and was told so
  if (code != ReasonCode::kPacketIdInUse && found != held_.end()) {
    if (isError(code)) {  // the identifier is free again (4.3.3)
      if (found->second.counted) --inFlight_;
      held_.erase(found);
    } else if (found->second.stage == Holding::kPublishing) {
      found->second.stage = Holding::kHeld;
    }
  }
  acknowledge(answer, batch, code);
}

std::optional<Fault> InboundPublishes::release(const AckPacket& packet) {
  flush();
  if (!link_.open()) return std::nullopt;
  auto found = held_.find(packet.packetId);
  if (found == held_.end()) {
    link_.answerAck(PacketType::kPubcomp, packet.packetId, ReasonCode::kPacketIdNotFound);
    return std::nullopt;
  }
  switch (found->second.stage) {
    case Holding::kPublishing: return fault(ReasonCode::kProtocolError, "PUBREL before PUBREC");
    case Holding::kReleasing: return std::nullopt;  // PUBCOMP is on its way
    case Holding::kHeld: break;
  }
  found->second.stage = Holding::kReleasing;
  ++link_.waitingRequests;
  link_.session->releasePublish(
      packet.packetId, [this, guard = link_.guard(), id = packet.packetId](const Result<>& result) {
        if (!guard.expired()) released(id, result);
      });
  return std::nullopt;
}

void InboundPublishes::released(uint16_t packetId, const Result<>& result) {
  --link_.waitingRequests;
  if (!link_.open()) return;
  if (!result) {
    link_.end(fault(ReasonCode::kUnspecifiedError, "a release could not be stored"));
    return;
  }
  auto found = held_.find(packetId);
  if (found != held_.end()) {
    if (found->second.counted) --inFlight_;
    held_.erase(found);
  }
  link_.answerAck(PacketType::kPubcomp, packetId);
  link_.flush();
  link_.progressed();
}

}  // namespace polylog::mqtt
