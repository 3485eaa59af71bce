#include "codecs/mqtt/session.h"

#include <fmt/format.h>

#include <utility>

#include "core/base/log.h"
#include "mapping/errors.h"
#include "mapping/partition.h"

namespace polylog::mqtt {

/// The listener that the broker sees. Outlives the connection where an openSession() is still on
/// its way when that goes.
class Session::Relay final : public SubscriberListener {
 public:
  explicit Relay(Session* target) : target_(target) {}
  void onDeliverable() override {
    if (target_ != nullptr) target_->outbound_.pump();
  }
  void onTakenOver(bool byOperator) override {
    takenOver_ = true;
    if (target_ != nullptr) target_->takenOver(byOperator);
  }
  void drop() { target_ = nullptr; }
  bool wasTakenOver() const { return takenOver_; }

 private:
  Session* target_;
  bool takenOver_ = false;
};

Session::Session(Transport& transport, Broker& broker, std::shared_ptr<const MqttOptions> options)
    : link_(transport, broker, std::move(options)),
      decoder_(Side::kServer, link_.options->maxPacketBytes),
      inbound_(link_),
      outbound_(link_),
      subscriptions_(link_),
      authentication_(*link_.options),
      publishes_(link_.options->publishesPerSecond),
      bytes_(link_.options->bytesPerSecond) {
  link_.endNow = [this](const Fault& fault) { end(fault); };
  link_.progressed = [this] {
    if (inInput_) return;
    outbound_.pump();
    considerReading();
  };
}

Session::~Session() {
  detach();
}

size_t Session::onBytes(const SharedBytes& input) {
  if (state_ == State::kEnded) return input.size();
  lastInput_ = now();
  inInput_ = true;
  size_t used = 0;
  int64_t received = 0;
  wanted_ = 0;
  while (used < input.size() && state_ != State::kEnded && state_ != State::kOpening &&
         !link_.due) {
    if (inbound_.saturated() || link_.waitingRequests > kMaxWaitingRequests) break;
    if (state_ == State::kOpen && throttled() > 0) break;
    Decoded decoded = decoder_.next(input.view().substr(used));
    if (const auto* more = std::get_if<NeedMore>(&decoded)) {
      wanted_ = more->total;
      break;
    }
    if (const auto* fault = std::get_if<Fault>(&decoded)) {
      if (namedVersion(input.view()) == Version::k5 && state_ == State::kAwaitingConnect) {
        turnAway(Refusal{fault->code, std::nullopt, Version::k5, true, fault->what});
      }
      end(*fault);
      break;
    }
    auto& packet = std::get<DecodedPacket>(decoded);
    used += packet.size;
    ++received;
    bytes_.take(static_cast<int64_t>(packet.size), lastInput_);
    if (std::holds_alternative<PublishPacket>(packet.packet)) publishes_.take(1, lastInput_);
    if (auto fault = handle(packet.packet)) end(*fault);
  }
  counters().packetsReceived.add(received);
  inbound_.flush();
  inInput_ = false;
  if (std::exchange(pumpDue_, false)) outbound_.pump();
  link_.flush();
  if (link_.due) end(*link_.due);
  considerReading();
  return state_ == State::kEnded ? input.size() : used;
}

std::optional<Fault> Session::handle(Packet& packet) {
  link_.trace(true, packet);
  if (state_ == State::kAuthenticating && !std::holds_alternative<AuthPacket>(packet)) {
    if (std::holds_alternative<DisconnectPacket>(packet)) {
      leave("disconnected while authenticating");
      return std::nullopt;
    }
    return Fault{ReasonCode::kProtocolError, "a packet before authentication is through"};
  }
  if (const auto* publish = std::get_if<PublishPacket>(&packet)) return inbound_.publish(*publish);
  if (const auto* ack = std::get_if<AckPacket>(&packet)) {
    if (ack->type == PacketType::kPubrel) return inbound_.release(*ack);
    pumpDue_ = true;
    return outbound_.onAck(*ack);
  }
  if (std::holds_alternative<PingPacket>(packet)) {
    link_.answerPacket(PingPacket{PacketType::kPingresp});
    return std::nullopt;
  }
  if (const auto* connect = std::get_if<ConnectPacket>(&packet)) return handleConnect(*connect);
  // The rest takes effect after the publishes in front of it.
  inbound_.flush();
  if (const auto* auth = std::get_if<AuthPacket>(&packet)) return handleAuth(*auth);
  if (state_ != State::kOpen) return std::nullopt;
  if (const auto* subscribe = std::get_if<SubscribePacket>(&packet)) {
    return subscriptions_.subscribe(*subscribe, inbound_.holds(subscribe->packetId));
  }
  if (const auto* unsubscribe = std::get_if<UnsubscribePacket>(&packet)) {
    return subscriptions_.unsubscribe(*unsubscribe, inbound_.holds(unsubscribe->packetId));
  }
  if (const auto* disconnect = std::get_if<DisconnectPacket>(&packet)) {
    return handleDisconnect(*disconnect);
  }
  return Fault{ReasonCode::kProtocolError, "unexpected packet"};
}

std::optional<Fault> Session::handleConnect(const ConnectPacket& packet) {
  counters().connects.add();
  link_.clientMaxPacket =
      packet.properties.number(PropertyId::kMaximumPacketSize).value_or(link_.clientMaxPacket);
  auto admission = judge(packet, *link_.options, link_.transport.peer(), link_.transport.identity(),
                         link_.transport.dispatcher().clock().wallMillis());
  if (!admission) {
    turnAway(admission.error());
    return std::nullopt;
  }
  link_.version = admission->version;
  link_.principal = admission->principal;
  if (link_.traced()) link_.trace(true, packet);
  link_.clientReceiveMaximum = admission->receiveMaximum;
  link_.takeTopicAliases(admission->topicAliasMaximum);
  link_.problemInformation =
      packet.properties.number(PropertyId::kRequestProblemInfo).value_or(1) != 0;
  link_.publisherHash = mapping::partitionHash(std::nullopt, admission->session.clientId);
  link_.peerIsBridge = packet.bridge;
  link_.bridgeState = admission->bridgeState;
  decoder_.use(admission->version);
  expiryWasZero_ = admission->session.expirySeconds == 0;
  admit(std::move(*admission));
  return std::nullopt;
}

// ---- who it is

LoginPoint Session::loginPoint() const {
  return {Protocol::kMqtt, link_.transport.peer(), link_.options->allowAnonymous,
          link_.principal ? link_.principal->clientId : std::string()};
}

void Session::admit(Admission admission) {
  Authenticator* authenticator = link_.options->authenticator;
  if (authenticator == nullptr) return proceed(std::move(admission));
  if (admission.method) return beginMethod(std::move(admission));
  const PeerIdentityRef shown = link_.transport.identity();
  if (shown && !shown->user.empty() && admission.credentials.password.empty()) {
    return loggedIn(std::move(admission),
                    authenticator->admitIdentified(loginPoint(), shown->user));
  }
  const Credentials& given = admission.credentials;
  if (given.user.empty() && given.password.empty() && link_.options->allowAnonymous) {
    return proceed(std::move(admission));
  }
  Credentials credentials = admission.credentials;
  logIn(std::move(admission), std::move(credentials));
}

void Session::logIn(Admission admission, Credentials credentials) {
  state_ = State::kOpening;
  link_.options->authenticator->admit(
      loginPoint(), std::move(credentials),
      [this, guard = link_.guard(),
       admission = std::move(admission)](Result<LoginRef> login) mutable {
        if (guard.expired() || state_ != State::kOpening) return;
        loggedIn(std::move(admission), std::move(login));
      });
}

void Session::loggedIn(Admission admission, Result<LoginRef> login) {
  if (!login) {
    const bool named = !admission.credentials.user.empty() && !admission.method;
    return turnAway(loginRefused(admission.version, login.error(), named));
  }
  authentication_.hold(std::move(*login));
  admission.credentials = {};
  proceed(std::move(admission));
}

void Session::beginMethod(Admission admission) {
  if (!admission.method->scram) {
    auto token = authentication_.beginToken(admission);
    if (!token) return turnAway(loginRefused(admission.version, token.error(), false));
    return logIn(std::move(admission), *std::move(token));
  }
  auto step = authentication_.begin(loginPoint(), admission);
  if (!step) return turnAway(loginRefused(admission.version, step.error(), true));
  state_ = State::kAuthenticating;
  admission_ = std::make_unique<Admission>(std::move(admission));
  link_.answerPacket(authentication_.packet(*step));
}

std::optional<Fault> Session::handleAuth(const AuthPacket& packet) {
  if (authentication_.byToken() && state_ == State::kOpen) return renewToken(packet);
  auto step = authentication_.onAuth(loginPoint(), packet, state_ == State::kOpen);
  if (state_ == State::kAuthenticating) {
    auto admission = std::move(*std::exchange(admission_, nullptr));
    if (!step) {
      const Fault& fault = step.error();
      turnAway(Refusal{fault.code, std::nullopt, Version::k5, true, fault.what});
      return std::nullopt;
    }
    admission.methodAnswer = std::move(step->data);
    proceed(std::move(admission));
    return std::nullopt;
  }
  return authenticated(std::move(step));
}

/// A newer token, in place of one that will expire. What comes meanwhile is processed.
std::optional<Fault> Session::renewToken(const AuthPacket& packet) {
  auto credentials = authentication_.onToken(packet);
  if (!credentials) return credentials.error();
  link_.options->authenticator->admit(loginPoint(), *std::move(credentials),
                                      [this, guard = link_.guard()](Result<LoginRef> login) {
                                        if (guard.expired() || state_ != State::kOpen) return;
                                        auto step = authentication_.renewed(std::move(login));
                                        if (!step) return end(step.error());
                                        watchLogin();
                                        tellRenewed(*std::move(step));
                                      });
  return std::nullopt;
}

/// Once the session goes by the newer token, over a crash too.
void Session::tellRenewed(Authentication::Step step) {
  link_.session->loginRenewed(
      [this, guard = link_.guard(), step = std::move(step)](const Result<>& stored) {
        if (guard.expired() || state_ != State::kOpen) return;
        if (!stored) {
          return end(Fault{ReasonCode::kUnspecifiedError, "the newer token could not be stored"});
        }
        link_.answerPacket(authentication_.packet(step));
        link_.flush();
      });
}

/// Re-authentication has gone a step further, or failed.
std::optional<Fault> Session::authenticated(std::expected<Authentication::Step, Fault> step) {
  if (!step) return step.error();
  if (step->done) watchLogin();
  link_.answerPacket(authentication_.packet(*step));
  return std::nullopt;
}

/// A user that is deleted is cut off, and so is one whose token has expired.
void Session::watchLogin() {
  authentication_.login()->onEnd([this, guard = link_.guard()](LoginEnd why) {
    if (guard.expired()) return;
    end(Fault{ReasonCode::kNotAuthorized,
              why == LoginEnd::kExpired ? "the token has expired" : "the user was deleted"});
  });
}

/// Opens the session for who it has turned out to be.
void Session::proceed(Admission admitted) {
  if (authentication_.login()) {
    admitted.identify(*authentication_.login());
    watchLogin();
  }
  link_.principal = admitted.principal;
  auto mount = mountOf(*link_.options, link_.principal->clientId, link_.principal->user);
  if (!mount) {
    return turnAway(Refusal{ReasonCode::kClientIdInvalid, ConnectReturnCode::kIdentifierRejected,
                            admitted.version, true, "its name can't be part of its mount point"});
  }
  link_.mount = std::move(*mount);
  if (auto refused = admitted.placeWill(*link_.options, link_.mount)) return turnAway(*refused);
  admitted.findResponseInformation(*link_.options);
  if (!welcome(admitted)) return;
  link_.transport.handshakeDone();
  state_ = State::kOpening;
  considerReading();

  auto admission = std::make_optional(std::move(admitted));
  relay_ = std::make_shared<Relay>(this);
  SubscriberOptions options = admission->session;
  link_.broker.openSession(
      link_.principal, std::move(options), relay_.get(),
      [this, guard = link_.guard(), relay = relay_, admission = std::move(*admission)](
          Result<std::shared_ptr<SubscriberSession>> result) mutable {
        if (!guard.expired() && state_ == State::kOpening) {
          opened(std::move(admission), std::move(result));
        } else if (result && !relay->wasTakenOver()) {
          (*result)->detach();  // nobody is left to have it
        }
      });
}

/// Whether it may come in, whoever it is.
bool Session::welcome(const Admission& admission) {
  Clients* clients = link_.options->clients;
  if (clients == nullptr) return true;
  const char* version = admission.is31 ? "3.1" : admission.version == Version::k5 ? "5.0" : "3.1.1";
  auto client = clients->admit(link_.principal, version, [this](ClientEnd why) {
    // 0x8A is for CONNACK alone (2.4).
    end(Fault{ReasonCode::kAdministrativeAction,
              why == ClientEnd::kBanned ? "banned" : "ended by an operator"});
  });
  if (client) {
    client_ = std::move(*client);
    return true;
  }
  logInfo(fmt::format("mqtt {}: {}", link_.transport.peer(), client.error().text));
  turnAway(Refusal{ReasonCode::kBanned, ConnectReturnCode::kNotAuthorized, admission.version, true,
                   "banned"});
  return false;
}

void Session::turnAway(const Refusal& refused) {
  if (auto packet = refusal(refused)) {
    auto offered = [&] {
      return link_.offer([&](ByteWriter& out) { encode(out, refused.answerAs, *packet); });
    };
    bool sent = offered();
    if (!sent) {  // [MQTT-3.2.2-19]
      packet->properties.clear();
      sent = offered();
    }
    if (sent) link_.trace(false, *packet);
    link_.flush();
  }
  leave(refused.why);
}

void Session::opened(Admission admission, Result<std::shared_ptr<SubscriberSession>> result) {
  if (!result) {
    const auto& row = mapping::mqttError(result.error().kind);
    turnAway(Refusal{static_cast<ReasonCode>(row.connack),
                     static_cast<ConnectReturnCode>(row.connack311), admission.version, true,
                     "the session could not be opened"});
    return;
  }
  link_.session = std::move(*result);
  state_ = State::kOpen;
  inbound_.open();
  outbound_.open();
  const bool resumed = link_.session->resumed() && !admission.session.cleanStart;
  bool sent = link_.offerPacket(acceptance(admission, *link_.options, resumed));
  if (!sent && !admission.responseInformation.empty()) {  // what the client can do without
    admission.responseInformation.clear();
    sent = link_.offerPacket(acceptance(admission, *link_.options, resumed));
  }
  if (!sent) return leave("the client takes no packet as large as its CONNACK");
  link_.flush();
  subscriptions_.subscribeAutomatically();
  startKeepAlive(admission.keepAliveSeconds);
  outbound_.pump();
  considerReading();
}

std::optional<Fault> Session::handleDisconnect(const DisconnectPacket& packet) {
  const auto expiry = packet.properties.number(PropertyId::kSessionExpiry);
  if (expiry) {
    if (expiryWasZero_ && *expiry != 0) {
      return Fault{ReasonCode::kProtocolError, "session expiry was 0 and can't be set now"};
    }
    link_.session->setExpiry(std::min(*expiry, link_.options->maxSessionExpirySeconds));
  }
  // [MQTT-3.14.4-3]: only a normal disconnection does away with the will.
  if (packet.code == ReasonCode::kSuccess) link_.session->setWill(std::nullopt);
  leave("disconnected by the client");
  return std::nullopt;
}

void Session::takenOver(bool byOperator) {
  if (state_ == State::kEnded) return;
  link_.tellBridgeState(false);
  link_.session.reset();  // it answers no further calls
  const Fault fault = byOperator ? Fault{ReasonCode::kAdministrativeAction, "ended by an operator"}
                                 : Fault{ReasonCode::kSessionTakenOver, "session taken over"};
  say(fault);
  leave(fault.what);
}

void Session::end(const Fault& fault) {
  if (state_ == State::kEnded) return;
  inbound_.flush();  // what came before the fault was in order
  if (logEnabled(LogLevel::kInfo)) {
    logInfo(fmt::format("mqtt {} client '{}': {} (0x{:02X})", link_.transport.peer(),
                        link_.principal ? link_.principal->clientId : std::string(), fault.what,
                        static_cast<unsigned>(fault.code)));
  }
  say(fault);
  leave(fault.what);
}

/// DISCONNECT where there is one to send (5.0, and CONNACK has gone out).
void Session::say(const Fault& fault) {
  if (state_ != State::kOpen || link_.version != Version::k5) return;
  DisconnectPacket packet;
  packet.code = fault.code;
  packet.properties.add(PropertyId::kReasonString, BytesView(fault.what));
  if (link_.offerPacket(packet)) return;
  packet.properties.clear();
  (void)link_.offerPacket(packet);  // the connection ends either way
}

void Session::leave(std::string_view why) {
  if (state_ == State::kEnded) return;
  state_ = State::kEnded;
  link_.flush();
  if (keepAlive_) keepAlive_->cancel();
  if (throttle_) throttle_->cancel();
  detach();
  link_.transport.close(why);
}

void Session::detach() {
  client_ = nullptr;
  if (link_.session) link_.tellBridgeState(false);  // its will, or as good as that
  if (link_.session) std::exchange(link_.session, nullptr)->detach();
  if (relay_) relay_->drop();
}

void Session::onDrained() {
  link_.unreadAnswers = 0;
  outbound_.pump();
  considerReading();
}

void Session::onShutdown() {
  const Fault fault{ReasonCode::kServerShuttingDown, "server shutting down"};
  say(fault);
  leave(fault.what);
}

void Session::onClosed(std::string_view) {
  state_ = State::kEnded;
  keepAlive_.reset();
  throttle_.reset();
  detach();
}

/// Reading goes on while nothing waits beyond its limit: records for the journal, requests for the
/// broker, answers for a peer that doesn't read them.
void Session::considerReading() {
  if (state_ == State::kEnded) return;
  if (!link_.transport.congested()) link_.unreadAnswers = 0;
  const int64_t tooMuch = state_ == State::kOpen ? throttled() : 0;
  if (tooMuch > 0) waitThrottled(tooMuch);
  const bool pause = tooMuch > 0 || state_ == State::kOpening || inbound_.saturated() ||
                     link_.waitingRequests > kMaxWaitingRequests ||
                     link_.unreadAnswers > kMaxUnreadAnswers;
  if (pause == readingPaused_) return;
  readingPaused_ = pause;
  // The time that we didn't listen is not the client's silence.
  if (!pause) lastInput_ = now();
  link_.transport.pauseReading(pause);
}

/// How long it has to be left alone until what it sent is within its rates.
int64_t Session::throttled() {
  if (publishes_.unlimited() && bytes_.unlimited()) return 0;
  const int64_t at = now();
  return std::max(publishes_.wait(at), bytes_.wait(at));
}

void Session::waitThrottled(int64_t micros) {
  if (!throttle_) {
    throttle_ = link_.transport.dispatcher().makeTimer([this] { considerReading(); });
  }
  if (!readingPaused_) counters().throttled.add();
  throttle_->start(micros);
}

void Session::startKeepAlive(uint16_t seconds) {
  if (seconds == 0) return;
  keepAliveMicros_ = int64_t{seconds} * 1'500'000;
  lastInput_ = now();
  keepAlive_ = link_.transport.dispatcher().makeTimer([this] { checkKeepAlive(); });
  keepAlive_->start(keepAliveMicros_);
}

/// The timer is not restarted for every packet; it looks, when it fires, how long ago the last was.
void Session::checkKeepAlive() {
  const int64_t silence = now() - lastInput_;
  // While we don't listen for the broker's sake the client can't be heard.
  const bool deaf = readingPaused_ && link_.unreadAnswers <= kMaxUnreadAnswers;
  if (silence < keepAliveMicros_ || deaf) {
    keepAlive_->start(deaf ? keepAliveMicros_ : keepAliveMicros_ - silence);
    return;
  }
  end(Fault{ReasonCode::kKeepAliveTimeout, "keep-alive timeout"});
}

}  // namespace polylog::mqtt
