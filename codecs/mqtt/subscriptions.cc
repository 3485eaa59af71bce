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

/// The subscription that an entry asks for, or the code that refuses it.
std::variant<Subscription, ReasonCode> subscriptionOf(const SubscribeEntry& entry, uint32_t id,
                                                      uint8_t maxQos) {
  auto parsed = mapping::parseMqttSubscription(entry.filter);
  if (!parsed) return ReasonCode::kTopicFilterInvalid;
  Subscription out;
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
  std::vector<ReasonCode> codes;
  std::vector<Subscription> wanted;
  codes.reserve(packet.entries.size());
  for (SubscribeEntry entry : packet.entries) {
    if (entry.noLocal && entry.filter.starts_with("$share/")) {
      return Fault{ReasonCode::kProtocolError, "no local on a shared subscription"};
    }
    const std::string filter = rewritten(entry.filter);
    entry.filter = filter;
    auto subscription = subscriptionOf(entry, id, link_.options->maxQos);
    if (auto* refused = std::get_if<ReasonCode>(&subscription)) {
      codes.push_back(*refused);
      continue;
    }
    wanted.push_back(std::move(std::get<Subscription>(subscription)));
    codes.push_back(kOpen);
  }
  if (wanted.empty()) {
    answer(PacketType::kSuback, packet.packetId, std::move(codes));
    return std::nullopt;
  }
  ++link_.waitingRequests;
  link_.session->subscribe(
      std::move(wanted), [this, guard = link_.guard(), packetId = packet.packetId,
                          codes = std::move(codes)](auto results) mutable {
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
          ++next;
        }
        answer(PacketType::kSuback, packetId, std::move(codes));
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
  if (out.size() > prefix && out[prefix] != '$') out.insert(prefix, link_.mount);
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
    auto subscription = subscriptionOf(entry, 0, link_.options->maxQos);
    // A client's name may make a filter of it that is none.
    if (auto* made = std::get_if<Subscription>(&subscription)) wanted.push_back(std::move(*made));
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

void Subscriptions::answer(PacketType type, uint16_t packetId, std::vector<ReasonCode> codes) {
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
  link_.answerPacket(std::move(packet));
}

}  // namespace polylog::mqtt
