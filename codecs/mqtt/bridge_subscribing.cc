// The part of BridgeSession that subscribes, here and at the remote, and ends subscriptions that
// are not wanted any more.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "codecs/mqtt/bridge_inbox.h"
#include "codecs/mqtt/bridge_session.h"

namespace polylog::mqtt {
namespace {

/// Filters in one SUBSCRIBE.
constexpr size_t kFiltersAtOnce = 50;
/// Packet identifiers of SUBSCRIBE and UNSUBSCRIBE: deliveries of the bridge's have those below.
constexpr uint16_t kFirstRequestId = kOwnPacketIds + 1;

/// Octets of an entry of SUBSCRIBE or, without options, of UNSUBSCRIBE (3.8.3, 3.10.3).
size_t entryBytes(const std::string& filter, bool options) {
  return 2 + filter.size() + (options ? 1U : 0U);
}

/// Whether the remote takes a SUBSCRIBE or UNSUBSCRIBE whose entries are as large.
bool fits(const Link& link, size_t entries) {
  const size_t length = 2 + (link.version == Version::k5 ? 1U : 0U) + entries;
  return 1 + varintSize(length) + length <= link.clientMaxPacket;
}

}  // namespace

void BridgeSession::subscribeHere() {
  auto stale = staleFilters(next_.localFilters, options_->topics.local());
  next_.localFilters.clear();
  for (const auto& [filter, qos] : options_->topics.local()) next_.localFilters.push_back(filter);
  if (!stale.empty()) {
    ++unsettled_;
    link_.session->unsubscribe(std::move(stale), [this, guard = link_.guard()](auto result) {
      if (guard.expired() || state_ != State::kOpen) return;
      if (!result) return fail("can't end a subscription here: " + result.error().text);
      settle();
    });
  }
  auto wanted = bridgeSubscriptions(*options_, next_.afresh);
  if (wanted.empty()) return;
  ++unsettled_;
  link_.session->subscribe(std::move(wanted), [this, guard = link_.guard()](const auto& results) {
    if (guard.expired() || state_ != State::kOpen) return;
    for (const auto& result : results) {
      if (result) continue;
      return fail("can't subscribe here: " + result.error().text + "; check bridges." +
                  options_->name + ".local_user and its rights");
    }
    settle();
  });
}

// ---- the subscriptions there

uint16_t BridgeSession::nextPacketId() {
  lastPacketId_ = lastPacketId_ < kFirstRequestId || lastPacketId_ == 65535
                      ? kFirstRequestId
                      : static_cast<uint16_t>(lastPacketId_ + 1);
  return lastPacketId_;
}

void BridgeSession::subscribeThere() {
  const BridgeTopics::Filters& wanted = options_->topics.remote();
  const BridgeTopics::Filters had(next_.remoteFilters.begin(), next_.remoteFilters.end());
  next_.remoteFilters.clear();
  unsubscribeThere(had, wanted);
  std::vector<std::pair<std::string, uint8_t>> gathered;
  size_t bytes = 0;
  for (const auto& [filter, qos] : wanted) {
    auto found = had.find(filter);
    // Asking again would bring the retained messages again, in 3.1.1. Of QoS 0 some may have been
    // missed; and what the remote has granted, a session that it has since begun doesn't know.
    if (link_.version == Version::k311 && !next_.afresh && found != had.end() &&
        found->second == qos && qos > 0) {
      next_.remoteFilters.emplace_back(filter, qos);
      continue;
    }
    const size_t more = entryBytes(filter, true);
    if (!fits(link_, more)) {
      observer_.onBridgeNotice(fmt::format(
          "the remote broker takes no packet as large as a subscription to `{}`: nothing comes of "
          "it; raise the largest packet that it takes",
          filter));
      continue;
    }
    if (gathered.size() == kFiltersAtOnce || !fits(link_, bytes + more)) {
      sendSubscribe(std::exchange(gathered, {}));
      bytes = 0;
    }
    gathered.emplace_back(filter, qos);
    bytes += more;
  }
  if (!gathered.empty()) sendSubscribe(std::move(gathered));
}

/// Ends what the remote has and isn't wanted any more.
void BridgeSession::unsubscribeThere(const BridgeTopics::Filters& had,
                                     const BridgeTopics::Filters& wanted) {
  std::vector<std::string> gathered;
  size_t bytes = 0;
  for (const auto& [filter, qos] : had) {
    if (wanted.contains(filter)) continue;
    const size_t more = entryBytes(filter, false);
    if (!fits(link_, more)) {
      next_.remoteFilters.emplace_back(filter, qos);  // to be ended another time
      continue;
    }
    if (gathered.size() == kFiltersAtOnce || !fits(link_, bytes + more)) {
      sendUnsubscribe(std::exchange(gathered, {}));
      bytes = 0;
    }
    gathered.push_back(filter);
    bytes += more;
  }
  if (!gathered.empty()) sendUnsubscribe(std::move(gathered));
}

void BridgeSession::sendSubscribe(std::vector<std::pair<std::string, uint8_t>> filters) {
  SubscribePacket packet;
  packet.packetId = nextPacketId();
  for (const auto& [filter, qos] : filters) {
    const uint8_t retained = qos == 0 ? 0 : 1;  // always, or if the subscription is new
    packet.entries.push_back({filter, qos, true, true, retained});
  }
  link_.answerPacket(packet);
  subscribing_.emplace(packet.packetId, std::move(filters));
  ++unsettled_;
}

void BridgeSession::sendUnsubscribe(std::vector<std::string> filters) {
  UnsubscribePacket packet;
  packet.packetId = nextPacketId();
  packet.filters.assign(filters.begin(), filters.end());
  link_.answerPacket(packet);
  subscribing_[packet.packetId] = {};
  ++unsettled_;
}

std::optional<Fault> BridgeSession::handleSuback(const SubackPacket& packet) {
  auto found = subscribing_.find(packet.packetId);
  if (found == subscribing_.end()) {
    return Fault{ReasonCode::kProtocolError, "an answer to no request"};
  }
  const auto filters = std::move(found->second);
  subscribing_.erase(found);
  if (packet.type == PacketType::kSuback) {
    if (packet.codes.size() != filters.size()) {
      return Fault{ReasonCode::kProtocolError, "SUBACK with a wrong number of codes"};
    }
    for (size_t i = 0; i < filters.size(); ++i) {
      if (!isError(packet.codes[i])) {
        next_.remoteFilters.push_back(filters[i]);
        continue;
      }
      observer_.onBridgeNotice(fmt::format(
          "the remote broker refuses the subscription to `{}` (0x{:02X}): nothing comes of it; "
          "give the bridge's user there the right to read it",
          filters[i].first, static_cast<unsigned>(packet.codes[i])));
    }
  }
  settle();
  return std::nullopt;
}

/// One answer less is due. When all are in, what was reached is kept.
void BridgeSession::settle() {
  if (--unsettled_ > 0 || state_ != State::kOpen) return;
  std::ranges::sort(next_.remoteFilters);
  next_.afresh = false;
  auto up = [this, guard = link_.guard()](const Result<>& result) {
    if (guard.expired() || state_ != State::kOpen) return;
    if (!result) return fail("its state can't be stored: " + result.error().text);
    observer_.onBridgeUp();
  };
  if (next_ == memory_.record) return up({});
  memory_.keep(next_, std::move(up));
}

}  // namespace polylog::mqtt
