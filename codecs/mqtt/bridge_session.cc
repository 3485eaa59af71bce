#include "codecs/mqtt/bridge_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "codecs/mqtt/bridge_inbox.h"
#include "core/base/log.h"
#include "mapping/partition.h"

namespace polylog::mqtt {
namespace {

/// A reason string as it may stand in a log.
std::string inWords(const std::optional<BytesView>& reason) {
  constexpr size_t kMostReason = 256;
  if (!reason) return {};
  std::string text(reason->substr(0, kMostReason));
  for (char& c : text) {
    if (c < ' ' || c > '~') c = '?';  // control characters, and what was cut within a character
  }
  return " (" + text + ")";
}

/// Where the remote broker sends its clients (4.11), which is for people to follow.
std::string elsewhere(const Properties& properties, const std::string& bridge) {
  const auto server = properties.text(PropertyId::kServerReference);
  if (!server) return {};
  return fmt::format(", sent to another server{}: set bridges.{}.address", inWords(server), bridge);
}

/// What a CONNACK that refuses means to whoever has to do something about it.
std::string refusalText(const ConnackPacket& packet, Version version, const std::string& bridge) {
  const auto code = static_cast<ReasonCode>(packet.code);
  const auto old = static_cast<ConnectReturnCode>(packet.code);
  const bool v5 = version == Version::k5;
  const std::string key = "bridges." + bridge;
  std::string why = fmt::format("code 0x{:02X}", packet.code);
  if (v5 ? code == ReasonCode::kBadCredentials : old == ConnectReturnCode::kBadCredentials) {
    why += ", bad user name or password: check " + key + ".user and its password";
  } else if (v5 ? code == ReasonCode::kNotAuthorized : old == ConnectReturnCode::kNotAuthorized) {
    why += ", not authorized: give the user of " + key + ".user the right to connect there";
  } else if (v5 ? code == ReasonCode::kUnsupportedVersion || packet.code == 1
                : old == ConnectReturnCode::kUnacceptableVersion) {
    why += ", protocol version not served: set " + key + ".version to the other one";
  } else if (v5 ? code == ReasonCode::kClientIdInvalid
                : old == ConnectReturnCode::kIdentifierRejected) {
    why += ", client identifier refused: set " + key + ".client_id";
  } else if (v5 ? code == ReasonCode::kBanned : false) {
    why += ", banned";
  }
  why += elsewhere(packet.properties, bridge);
  why += inWords(packet.properties.text(PropertyId::kReasonString));
  return "the remote broker refuses the connection: " + why;
}

}  // namespace

/// The listener that the broker sees.
class BridgeSession::Relay final : public SubscriberListener {
 public:
  explicit Relay(BridgeSession* target) : target_(target) {}
  void onDeliverable() override {
    if (target_ != nullptr) target_->outbound_.pump();
  }
  void onTakenOver(bool) override {
    takenOver_ = true;
    if (target_ == nullptr) return;
    target_->link_.session.reset();  // it answers no further calls
    target_->end_.sessionGone = true;
    target_->fail("its session here was ended by an operator");
  }
  void drop() { target_ = nullptr; }
  bool wasTakenOver() const { return takenOver_; }

 private:
  BridgeSession* target_;
  bool takenOver_ = false;
};

BridgeSession::BridgeSession(Transport& transport, Broker& broker,
                             std::shared_ptr<const BridgeOptions> options, BridgeMemory& memory,
                             BridgeCounters& counters, BridgeObserver& observer)
    : link_(transport, broker, options->mqtt),
      options_(std::move(options)),
      memory_(memory),
      observer_(observer),
      side_(options_->topics, options_->brokerId, options_->name, memory.refusals, counters),
      decoder_(Side::kClient, options_->mqtt->maxPacketBytes),
      inbound_(link_),
      outbound_(link_),
      cleaning_(!memory.record.cleaned || memory.record.clientId != options_->clientId) {
  link_.version = options_->version;
  link_.bridge = &side_;
  link_.publisherHash = mapping::partitionHash(std::nullopt, options_->sessionId());
  auto principal = std::make_shared<Principal>(*options_->principal);
  principal->peer = transport.peer();
  link_.principal = std::move(principal);
  link_.endNow = [this](const Fault& fault) { end(fault); };
  link_.progressed = [this] {
    if (inInput_) return;
    outbound_.pump();
    considerReading();
  };
  decoder_.use(link_.version);
  lastInput_ = now();
  announce();
}

BridgeSession::~BridgeSession() {
  detach();
}

/// Keeps that a CONNECT goes out, before it does. One that cleans needs no note: until that is
/// kept, the next cleans again.
void BridgeSession::announce() {
  if (cleaning_ || memory_.record.connecting) return sendConnect();
  considerReading();
  BridgeRecord record = memory_.record;
  record.connecting = true;
  memory_.keep(std::move(record), [this, guard = link_.guard()](const Result<>& kept) {
    if (guard.expired() || state_ != State::kPreparing) return;
    if (!kept) return fail("its state can't be stored: " + kept.error().text);
    sendConnect();
    considerReading();
  });
}

void BridgeSession::sendConnect() {
  state_ = State::kConnecting;
  wasUnsure_ = memory_.unsure;
  memory_.unsure = memory_.unsure || !cleaning_;
  ConnectPacket packet;
  packet.level = static_cast<uint8_t>(link_.version);
  packet.clientId = options_->clientId;
  packet.username = options_->user;
  packet.password = options_->password;
  packet.cleanStart = cleaning_;
  packet.keepAliveSeconds = options_->keepAliveSeconds;
  if (link_.version == Version::k311) {
    packet.bridge = sentPrivateBit_ =
        options_->privateBit && memory_.privateBit == PrivateBit::kSend;
  } else {
    if (!cleaning_) packet.properties.add(PropertyId::kSessionExpiry, kNeverExpires);
    packet.properties.add(PropertyId::kReceiveMaximum, options_->mqtt->receiveMaximum);
    packet.properties.add(PropertyId::kMaximumPacketSize,
                          static_cast<uint32_t>(options_->mqtt->maxPacketBytes));
    packet.properties.add(PropertyId::kTopicAliasMaximum, options_->mqtt->topicAliasMaximum);
  }
  link_.answer([&](ByteWriter& out) { encode(out, link_.version, packet); });
  link_.flush();
}

// ---- what comes in

size_t BridgeSession::onBytes(const SharedBytes& input) {
  if (state_ == State::kEnded) return input.size();
  lastInput_ = now();
  inInput_ = true;
  size_t used = 0;
  wanted_ = 0;
  while (state_ != State::kEnded && !waits() && !link_.due) {
    if (inbound_.saturated() || link_.waitingRequests > kMaxWaitingRequests) break;
    Decoded decoded = decoder_.next(input.view().substr(used));
    if (const auto* more = std::get_if<NeedMore>(&decoded)) {
      wanted_ = more->total;
      break;
    }
    if (const auto* fault = std::get_if<Fault>(&decoded)) {
      end(*fault);
      break;
    }
    auto& packet = std::get<DecodedPacket>(decoded);
    used += packet.size;
    if (auto fault = handle(packet.packet)) end(*fault);
  }
  inbound_.flush();
  inInput_ = false;
  if (std::exchange(pumpDue_, false)) outbound_.pump();
  link_.flush();
  if (link_.due) end(*link_.due);
  considerReading();
  return state_ == State::kEnded ? input.size() : used;
}

std::optional<Fault> BridgeSession::handle(Packet& packet) {
  link_.trace(true, packet);
  const auto* connack = std::get_if<ConnackPacket>(&packet);
  if (state_ == State::kConnecting) {
    if (connack != nullptr) return handleConnack(*connack);
    return Fault{ReasonCode::kProtocolError, "a packet before CONNACK"};
  }
  if (const auto* publish = std::get_if<PublishPacket>(&packet)) return inbound_.publish(*publish);
  if (const auto* ack = std::get_if<AckPacket>(&packet)) {
    if (ack->type == PacketType::kPubrel) return inbound_.release(*ack);
    pumpDue_ = true;
    return outbound_.onAck(*ack);
  }
  if (const auto* suback = std::get_if<SubackPacket>(&packet)) return handleSuback(*suback);
  if (std::holds_alternative<PingPacket>(packet)) return std::nullopt;
  if (const auto* disconnect = std::get_if<DisconnectPacket>(&packet)) {
    fail(fmt::format("the remote broker has ended the connection: code 0x{:02X}{}{}",
                     static_cast<unsigned>(disconnect->code),
                     elsewhere(disconnect->properties, options_->name),
                     inWords(disconnect->properties.text(PropertyId::kReasonString))));
    return std::nullopt;
  }
  return Fault{ReasonCode::kProtocolError, "unexpected packet"};
}

std::optional<Fault> BridgeSession::handleConnack(const ConnackPacket& packet) {
  if (memory_.privateBit == PrivateBit::kTryWithout) memory_.privateBit = PrivateBit::kRefused;
  if (packet.code != 0) {
    memory_.unsure = wasUnsure_;
    refused(packet);
    return std::nullopt;
  }
  link_.clientMaxPacket =
      packet.properties.number(PropertyId::kMaximumPacketSize).value_or(link_.clientMaxPacket);
  if (cleaning_) {
    cleaned();
    return std::nullopt;
  }
  link_.transport.handshakeDone();
  takeLimits(packet);
  knewUs_ = packet.sessionPresent;
  lost_ = !knewUs_ || wasUnsure_;
  memory_.unsure = lost_;  // until it is kept
  openSession();
  return std::nullopt;
}

void BridgeSession::refused(const ConnackPacket& packet) {
  const bool version = packet.code == static_cast<uint8_t>(ConnectReturnCode::kUnacceptableVersion);
  if (sentPrivateBit_ && version) {
    memory_.privateBit = PrivateBit::kRefused;
    return fail("the remote broker doesn't know bridges by the protocol version's high bit", true);
  }
  fail(refusalText(packet, link_.version, options_->name));
}

void BridgeSession::takeLimits(const ConnackPacket& packet) {
  const Properties& given = packet.properties;
  link_.clientReceiveMaximum = static_cast<uint16_t>(
      given.number(PropertyId::kReceiveMaximum).value_or(link_.clientReceiveMaximum));
  link_.takeTopicAliases(given.number(PropertyId::kTopicAliasMaximum).value_or(0));
  side_.maxQos = static_cast<uint8_t>(given.number(PropertyId::kMaximumQos).value_or(2));
  side_.retainAvailable = given.number(PropertyId::kRetainAvailable).value_or(1) != 0;
  const auto expiry = given.number(PropertyId::kSessionExpiry);
  if (expiry && *expiry != kNeverExpires) {
    observer_.onBridgeNotice(fmt::format(
        "the remote broker forgets the bridge {} s after the connection is lost: what comes there "
        "after that is not received; raise its longest session expiry",
        *expiry));
  }
  const uint32_t seconds =
      given.number(PropertyId::kServerKeepAlive).value_or(options_->keepAliveSeconds);
  if (seconds == 0) return;
  keepAliveMicros_ = int64_t{seconds} * 1'000'000;
  keepAlive_ = link_.transport.dispatcher().makeTimer([this] { tick(); });
  keepAlive_->start(keepAliveMicros_ / 2);
}

/// What the remote had of the client identifier is gone; that it is so is kept, and then the bridge
/// connects for good.
void BridgeSession::cleaned() {
  state_ = State::kOpening;
  BridgeRecord record = memory_.record;
  record.clientId = options_->clientId;
  record.cleaned = record.afresh = record.forgetting = true;
  record.connecting = false;
  record.remoteFilters.clear();
  memory_.keep(std::move(record), [this, guard = link_.guard()](const Result<>& result) {
    if (guard.expired() || state_ != State::kOpening) return;
    if (!result) return fail("its state can't be stored: " + result.error().text);
    memory_.unsure = false;
    fail("begins anew at the remote broker", true);
  });
}

// ---- the session here

void BridgeSession::openSession() {
  state_ = State::kOpening;
  considerReading();
  relay_ = std::make_shared<Relay>(this);
  link_.broker.openSession(link_.principal, bridgeSession(*options_), relay_.get(),
                           [this, guard = link_.guard(),
                            relay = relay_](Result<std::shared_ptr<SubscriberSession>> result) {
                             if (!guard.expired() && state_ == State::kOpening)
                               return opened(std::move(result));
                             if (result && !relay->wasTakenOver()) (*result)->detach();
                           });
}

void BridgeSession::opened(Result<std::shared_ptr<SubscriberSession>> result) {
  if (!result) {
    return fail(fmt::format("its session here, `{}`, can't be opened: {}", options_->sessionId(),
                            result.error().text));
  }
  link_.session = std::move(*result);
  BridgeRecord record = memory_.record;
  // The packet identifiers begin again in a new session: so must the remote. That it is new may
  // have been said to a run of this broker that ended before it had kept that.
  const bool anew = !link_.session->resumed() || record.life != link_.session->life();
  if (anew) record = BridgeRecord{};
  record.life = link_.session->life();
  record.connecting = false;
  if (lost_) record.afresh = record.forgetting = true;
  // Where the remote may have them yet, those that are not wanted any more have to be ended.
  if (!knewUs_) record.remoteFilters.clear();
  auto go = [this, anew, guard = link_.guard()](const Result<>& kept) {
    if (guard.expired() || state_ != State::kOpening) return;
    if (!kept) return fail("its state can't be stored: " + kept.error().text);
    memory_.unsure = false;
    if (anew) return fail("its session here is new: begins anew at the remote broker, too", true);
    side_.afresh = !knewUs_;
    if (!memory_.record.forgetting) return begin();
    forgetHeld(link_.session->heldPublishIds());
  };
  if (record == memory_.record) return go({});
  memory_.keep(std::move(record), std::move(go));
}

/// The remote has forgotten which publishes it had begun: their identifiers stand for others now.
void BridgeSession::forgetHeld(std::vector<uint16_t> ids) {
  if (ids.empty()) return forgetAccepted();
  const uint16_t id = ids.back();
  ids.pop_back();
  link_.session->releasePublish(
      id, [this, guard = link_.guard(), ids = std::move(ids)](const Result<>& result) mutable {
        if (guard.expired() || state_ != State::kOpening) return;
        if (!result) return fail("its state can't be stored: " + result.error().text);
        forgetHeld(std::move(ids));
      });
}

/// Nor does it know what it had accepted of ours: a PUBREL would tell it nothing. That it is to be
/// published again must be durable before it is: the next connection may find a session again.
void BridgeSession::forgetAccepted() {
  link_.session->forgetAccepted([this, guard = link_.guard()](const Result<>& result) {
    if (guard.expired() || state_ != State::kOpening) return;
    if (!result) return fail("its state can't be stored: " + result.error().text);
    forgotten();
  });
}

void BridgeSession::forgotten() {
  BridgeRecord record = memory_.record;
  record.forgetting = false;
  memory_.keep(std::move(record), [this, guard = link_.guard()](const Result<>& kept) {
    if (guard.expired() || state_ != State::kOpening) return;
    if (!kept) return fail("its state can't be stored: " + kept.error().text);
    begin();
  });
}

void BridgeSession::begin() {
  state_ = State::kOpen;
  next_ = memory_.record;
  unsettled_ = 1;  // until everything has been asked for
  inbound_.open();
  outbound_.open();
  subscribeHere();
  subscribeThere();
  outbound_.pump();
  settle();
  link_.flush();
  considerReading();
}

// ---- while it is open

void BridgeSession::onDrained() {
  link_.unreadAnswers = 0;
  outbound_.pump();
  considerReading();
}

void BridgeSession::considerReading() {
  if (state_ == State::kEnded) return;
  if (!link_.transport.congested()) link_.unreadAnswers = 0;
  const bool pause = waits() || inbound_.saturated() ||
                     link_.waitingRequests > kMaxWaitingRequests ||
                     link_.unreadAnswers > kMaxUnreadAnswers;
  if (pause == readingPaused_) return;
  readingPaused_ = pause;
  if (!pause) lastInput_ = now();
  link_.transport.pauseReading(pause);
}

/// Twice a keep-alive: something is sent, and something has to have come.
void BridgeSession::tick() {
  if (state_ == State::kEnded) return;
  if (!readingPaused_ && now() - lastInput_ > keepAliveMicros_ + keepAliveMicros_ / 2) {
    return fail("nothing was heard from the remote broker for one and a half keep-alives");
  }
  if (state_ == State::kOpen) {
    link_.answerPacket(PingPacket{PacketType::kPingreq});
    link_.flush();
  }
  keepAlive_->start(keepAliveMicros_ / 2);
}

// ---- the end

void BridgeSession::end(const Fault& fault) {
  if (state_ == State::kEnded) return;
  inbound_.flush();
  std::string why = fmt::format("{} (0x{:02X})", fault.what, static_cast<unsigned>(fault.code));
  if (fault.code == ReasonCode::kPacketTooLarge) {
    why += "; raise limits.max_message_bytes here, or limit messages there";
  } else if (fault.code == ReasonCode::kMalformedPacket ||
             fault.code == ReasonCode::kProtocolError) {
    why += fmt::format(
        "; is `bridges.{}.address` a broker of MQTT {}, and TLS (mqtts=) where it expects it?",
        options_->name, link_.version == Version::k5 ? "5" : "3.1.1");
  }
  if (link_.version == Version::k5) say(fault.code);
  fail(std::move(why));
}

/// DISCONNECT, once CONNACK is in and where the remote takes one: the connection ends either way.
void BridgeSession::say(ReasonCode code) {
  if (state_ == State::kConnecting || state_ == State::kPreparing) return;
  DisconnectPacket packet;
  packet.code = code;
  (void)link_.offerPacket(packet);
}

void BridgeSession::fail(std::string why, bool again) {
  if (state_ == State::kEnded) return;
  if (again) say(ReasonCode::kSuccess);  // a normal end: there is no will
  end_.why = std::move(why);
  end_.again = again;
  leave();
}

void BridgeSession::leave() {
  state_ = State::kEnded;
  link_.flush();
  if (keepAlive_) keepAlive_->cancel();
  detach();
  link_.transport.close(end_.why);
}

void BridgeSession::detach() {
  if (link_.session) std::exchange(link_.session, nullptr)->detach();
  if (relay_) relay_->drop();
}

void BridgeSession::onShutdown() {
  if (state_ == State::kEnded) return;
  if (state_ == State::kOpen) say(ReasonCode::kSuccess);
  fail("this broker stops");
}

/// Closed before CONNACK.
void BridgeSession::closedUnanswered() {
  if (sentPrivateBit_) {
    // Some say nothing to a version that they don't know; a remote that only restarts neither.
    memory_.privateBit = PrivateBit::kTryWithout;
    end_.why += " before CONNACK; the next time without the bit by which mosquitto knows bridges";
  } else if (memory_.privateBit == PrivateBit::kTryWithout) {
    memory_.privateBit = PrivateBit::kSend;  // it wasn't that
  }
}

void BridgeSession::onClosed(std::string_view why) {
  if (end_.why.empty()) {
    end_.why = std::string(why);
    if (state_ == State::kConnecting) closedUnanswered();
  }
  state_ = State::kEnded;
  keepAlive_.reset();
  detach();
  end_.progressed = side_.progressed;
  observer_.onBridgeEnd(std::move(end_));
}

}  // namespace polylog::mqtt
