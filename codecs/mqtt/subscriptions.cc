#include "codecs/mqtt/subscriptions.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "core/base/log.h"
#include "mapping/errors.h"
#include "mapping/guarantee.h"
#include "mapping/mqtt.h"

namespace polylog::mqtt {
namespace {

/// Marks an entry whose code the session decides.
constexpr ReasonCode kOpen = static_cast<ReasonCode>(0xFF);

ReasonCode granted(DeliveryGuarantee guarantee) {
  return static_cast<ReasonCode>(mapping::qosOf(guarantee));
}

/// Where a replay begins that the packet's user property asks for.
Result<std::optional<ReplayStart>> replayOf(const Properties& properties) {
  std::optional<ReplayStart> start;
  for (const Property& property : properties.items()) {
    if (property.id != PropertyId::kUserProperty) continue;
    if (property.text != mapping::kReplayProperty) continue;
    auto parsed = mapping::parseReplayStart(property.value);
    if (!parsed) return std::unexpected(std::move(parsed.error()));
    if (start) return fail(ErrorKind::kInvalid, "more than one property polylog-replay");
    start = *parsed;
  }
  return start;
}

/// The subscription that an entry asks for.
Result<Subscription> subscriptionOf(const SubscribeEntry& entry, uint32_t id, uint8_t maxQos,
                                    const Result<std::optional<ReplayStart>>& replay) {
  auto parsed = mapping::parseMqttSubscription(entry.filter);
  if (!parsed) return std::unexpected(std::move(parsed.error()));
  if (!replay) return std::unexpected(replay.error());
  Subscription out;
  out.replay = parsed->replay ? parsed->replay : *replay;
  if (out.replay && parsed->shareName) {
    return fail(ErrorKind::kInvalid, "a shared subscription can't be of a replay");
  }
  if (out.replay && entry.filter.starts_with('$') && !parsed->replay) {
    return fail(ErrorKind::kInvalid, "of topics beginning with '$' nothing is stored");
  }
  if (out.replay && entry.noLocal) {
    return fail(ErrorKind::kInvalid, "no local can't be had of a replay: the log doesn't know it");
  }
  out.text = std::string(entry.filter);
  out.exclusive = parsed->exclusive;
  if (parsed->shareName) out.share = std::string(*parsed->shareName);
  out.filter = std::move(parsed->filter);
  out.guarantee = mapping::guaranteeFromQos(std::min(entry.qos, maxQos));
  out.noLocal = entry.noLocal;
  out.retainAsPublished = entry.retainAsPublished;
  out.retainHandling = static_cast<RetainHandling>(entry.retainHandling);
  out.id = id;
  return out;
}

}  // namespace

std::optional<Fault> Subscriptions::subscribe(const SubscribePacket& packet, bool idInUse) {
  if (idInUse && link_.version == Version::k5) {
    answer(PacketType::kSuback, packet.packetId,
           std::vector<ReasonCode>(packet.entries.size(), ReasonCode::kPacketIdInUse));
    return std::nullopt;
  }
  const uint32_t id = packet.properties.number(PropertyId::kSubscriptionId).value_or(0);
  const auto replay = replayOf(packet.properties);
  std::vector<ReasonCode> codes;
  std::string why;
  std::vector<Subscription> wanted;
  codes.reserve(packet.entries.size());
  for (SubscribeEntry entry : packet.entries) {
    const std::string filter = rewritten(entry.filter);
    entry.filter = filter;
    // MQTT 5 has options for what 3.1.1's bridges get by the level's high bit.
    if (link_.peerIsBridge && link_.version == Version::k311) {
      entry.retainAsPublished = true;
      entry.noLocal = mapping::mqttSubscriptionPrefix(entry.filter).empty();
    }
    if (entry.noLocal && entry.filter.starts_with("$share/")) {  // [MQTT-3.8.3-4]
      return Fault{ReasonCode::kProtocolError, "no local on a shared subscription"};
    }
    auto subscription = subscriptionOf(entry, id, link_.options->maxQos, replay);
    if (!subscription) {
      codes.push_back(ReasonCode::kTopicFilterInvalid);
      if (why.empty()) why = std::move(subscription.error().text);
      continue;
    }
    wanted.push_back(std::move(*subscription));
    codes.push_back(kOpen);
  }
  if (wanted.empty()) {
    answer(PacketType::kSuback, packet.packetId, std::move(codes), std::move(why));
    return std::nullopt;
  }
  ++link_.waitingRequests;
  link_.session->subscribe(
      std::move(wanted), [this, guard = link_.guard(), packetId = packet.packetId,
                          codes = std::move(codes), why = std::move(why)](auto results) mutable {
        if (guard.expired()) return;
        --link_.waitingRequests;
        auto next = results.begin();
        for (ReasonCode& code : codes) {
          if (code != kOpen) continue;
          if (next == results.end()) {
            code = ReasonCode::kUnspecifiedError;
            continue;
          }
          code = *next ? granted(**next)
                       : static_cast<ReasonCode>(mapping::mqttError(next->error().kind).suback);
          if (!*next && why.empty()) why = next->error().text;
          ++next;
        }
        answer(PacketType::kSuback, packetId, std::move(codes), std::move(why));
        link_.flush();
        link_.progressed();
      });
  return std::nullopt;
}

/// What stands before a filter proper stays.
std::string Subscriptions::rewritten(BytesView text) const {
  const mapping::TopicRewrites& rewrites = link_.options->rewrites;
  std::string out(text);
  if (rewrites.empty() && link_.mount.empty()) return out;
  const size_t prefix = mapping::mqttSubscriptionPrefix(text).size();
  auto made = rewrites.apply(mapping::TopicRewrites::Action::kSubscribe, text.substr(prefix),
                             {link_.principal->clientId, link_.principal->user});
  if (made) out.replace(prefix, BytesView::npos, *made);
  // Of what a rewrite has made, too, the mount point stands before the filter proper.
  const size_t proper = mapping::mqttSubscriptionPrefix(out).size();
  if (out.size() > proper && out[proper] != '$') out.insert(proper, link_.mount);
  return out;
}

void Subscriptions::subscribeAutomatically() {
  std::vector<Subscription> wanted;
  for (const auto& each : link_.options->automatic) {
    std::string filter =
        mapping::filledIn(each.filter, link_.principal->clientId, link_.principal->user);
    const size_t prefix = mapping::mqttSubscriptionPrefix(filter).size();
    if (filter.size() > prefix && filter[prefix] != '$') filter.insert(prefix, link_.mount);
    SubscribeEntry entry;
    entry.filter = filter;
    entry.qos = each.qos;
    entry.noLocal = each.noLocal;
    entry.retainAsPublished = each.retainAsPublished;
    entry.retainHandling = each.retainHandling;
    auto subscription = subscriptionOf(entry, 0, link_.options->maxQos, std::nullopt);
    // A client's name may make a filter of it that is none.
    if (subscription) wanted.push_back(std::move(*subscription));
  }
  if (wanted.empty()) return;
  ++link_.waitingRequests;
  link_.session->subscribe(std::move(wanted), [this, guard = link_.guard()](const auto& results) {
    if (guard.expired()) return;
    --link_.waitingRequests;
    for (const auto& result : results) {
      if (!result) {
        logInfo(fmt::format("mqtt client '{}': an automatic subscription was refused: {}",
                            link_.principal->clientId, result.error().text));
      }
    }
    link_.progressed();
  });
}

std::optional<Fault> Subscriptions::unsubscribe(const UnsubscribePacket& packet, bool idInUse) {
  const size_t count = packet.filters.size();
  if (idInUse && link_.version == Version::k5) {
    answer(PacketType::kUnsuback, packet.packetId,
           std::vector<ReasonCode>(count, ReasonCode::kPacketIdInUse));
    return std::nullopt;
  }
  std::vector<std::string> filters;
  for (BytesView filter : packet.filters) filters.push_back(rewritten(filter));
  ++link_.waitingRequests;
  link_.session->unsubscribe(std::move(filters), [this, guard = link_.guard(),
                                                  packetId = packet.packetId, count](auto results) {
    if (guard.expired()) return;
    --link_.waitingRequests;
    if (!link_.open()) return;
    if (!results && link_.version == Version::k311) {
      // UNSUBACK has no word for failure there; unanswered, the client asks again.
      link_.end(Fault{ReasonCode::kUnspecifiedError, "an unsubscribe could not be stored"});
      return;
    }
    std::vector<ReasonCode> codes(count, ReasonCode::kNoSubscriptionExisted);
    for (size_t i = 0; i < count; ++i) {
      if (!results) {
        codes[i] = static_cast<ReasonCode>(mapping::mqttError(results.error().kind).unsuback);
      } else if (i < results->size() && (*results)[i]) {
        codes[i] = ReasonCode::kSuccess;
      }
    }
    answer(PacketType::kUnsuback, packetId, std::move(codes));
    link_.flush();
    link_.progressed();
  });
  return std::nullopt;
}

void Subscriptions::answer(PacketType type, uint16_t packetId, std::vector<ReasonCode> codes,
                           std::string why) {
  if (!link_.open()) return;
  if (link_.version == Version::k311 && type == PacketType::kSuback) {
    for (ReasonCode& code : codes) {
      if (isError(code)) code = static_cast<ReasonCode>(mapping::kMqtt311SubackFailure);
    }
  }
  SubackPacket packet;
  packet.type = type;
  packet.packetId = packetId;
  packet.codes = std::move(codes);
  why = link_.reasonFor(std::move(why), packet.codes.size());
  if (!why.empty()) packet.properties.add(PropertyId::kReasonString, BytesView(why));
  link_.answerPacket(std::move(packet));
}

}  // namespace polylog::mqtt
