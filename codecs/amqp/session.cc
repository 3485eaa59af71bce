#include "codecs/amqp/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/base/log.h"
#include "mapping/partition.h"

namespace polylog::amqp {
namespace {

constexpr BytesView kHeader09{"AMQP\x01\x01\x00\x09", 8};  // 0-9, which 0-9-1 clients also send
constexpr BytesView kLowOnDisk = "low on disk";            // RabbitMQ's words
constexpr BytesView kEmptyHeartbeat{"\x08\0\0\0\0\0\0\xCE", 8};

template <class M>
bool is(const Frame& frame) {
  return frame.type == FrameType::kMethod &&
         idOf(frame.payload) == MethodId{M::kClassId, M::kMethodId};
}

}  // namespace

Session::Session(Transport& transport, Broker& broker, std::shared_ptr<const AmqpOptions> options)
    : link_(transport, broker, std::move(options)), publishing_(link_) {
  link_.end = [this](const Fault& fault) { end(fault); };
  link_.progressed = [this] {
    if (inInput_) return;
    stalled_ = false;
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
  stalled_ = false;
  wanted_ = 0;
  size_t used = 0;
  if (state_ == State::kHeader) used = onProtocolHeader(input.view());
  if (state_ != State::kHeader && state_ != State::kEnded) {
    publishing_.beginRound(input);
    used += onFrames(input.slice(used));
    endRound();
  }
  inInput_ = false;
  link_.flush();
  considerReading();
  return state_ == State::kEnded ? input.size() : used;
}

/// 4.2.2: anything we don't speak is answered with what we do.
size_t Session::onProtocolHeader(BytesView input) {
  const BytesView header = input.substr(0, kProtocolHeader.size());
  if (header.size() < kProtocolHeader.size()) return 0;
  if (header != kProtocolHeader && header != kHeader09) {
    link_.out.bytes(kProtocolHeader);
    leave("not AMQP 0-9-1");
    return input.size();
  }
  state_ = State::kStarting;
  const std::string properties = serverProperties(*link_.options);
  ConnectionStart start;
  start.versionMinor = 9;
  start.serverProperties = properties;
  start.mechanisms = mechanisms(!certified().empty());
  start.locales = "en_US";
  link_.encodeMethod(0, start);
  return header.size();
}

size_t Session::onFrames(const SharedBytes& input) {
  size_t used = 0;
  while (state_ != State::kEnded) {
    if (full()) break;
    const FrameResult result = readFrame(input.view().substr(used), link_.frameMax + kFrameFudge);
    if (result.error == FrameError::kIncomplete) {
      wanted_ = result.wanted;
      break;
    }
    if (result.error != FrameError::kNone) {
      onBrokenFrame(result);
      break;
    }
    if (mustWait(result.frame)) {
      stalled_ = true;
      break;
    }
    if (mustBlock(result.frame)) {
      block();
      break;
    }
    used += result.frame.size;
    onFrame(result.frame);
  }
  return used;
}

/// What follows can't be read any more.
void Session::onBrokenFrame(const FrameResult& result) {
  const Frame& frame = result.frame;
  std::string how = "unknown_frame";
  if (result.error == FrameError::kTooLarge) {
    how = fmt::format("{{frame_too_large,{},{}}}", frame.size - kFrameOverhead,
                      link_.frameMax - kFrameOverhead);
  } else if (result.error == FrameError::kBadEnd) {
    how = fmt::format("{{invalid_frame_end_marker,{}}}", result.end);
  }
  const Fault fault = badFrame(result.type, frame.payload, how);
  end(fault);
  leave(fault.text);
}

void Session::onFrame(const Frame& frame) {
  if (state_ == State::kClosing) return whileClosing(frame);
  Outcome outcome;
  if (frame.type == FrameType::kHeartbeat) {
    if (!frame.payload.empty()) {
      outcome = badFrame(static_cast<uint8_t>(frame.type), frame.payload, "unknown_frame");
    } else if (frame.channel != 0) {
      outcome = unexpectedFrame(static_cast<uint8_t>(frame.type), frame.payload);
    }
  } else if (frame.channel == 0) {
    outcome = onConnectionFrame(frame);
  } else if (state_ != State::kOpen) {
    outcome = unexpectedFrame(static_cast<uint8_t>(frame.type), frame.payload);
  } else {
    outcome = onChannelFrame(frame);
  }
  if (!outcome) return;
  const auto found = channels_.find(frame.channel);
  if (frame.channel == 0 || found == channels_.end()) return end(*outcome);
  if (isHardError(outcome->code)) return end(*outcome);
  // What came before it was in order.
  publishing_.flush();
  found->second->fail(*outcome);
}

void Session::endRound() {
  publishing_.flush();
  for (const auto& channel : touched_) channel->endRound();
  touched_.clear();
  publishing_.endRound();
}

// ---- channel 0

Outcome Session::onConnectionFrame(const Frame& frame) {
  if (frame.type != FrameType::kMethod) {
    return unexpectedFrame(static_cast<uint8_t>(frame.type), frame.payload);
  }
  const auto method = decodeMethod(frame.payload);
  const MethodId id = idOf(frame.payload);
  if (!method) return about(undecodable(frame.payload, method.error().kind), id);
  return about(std::visit([this](const auto& each) { return on(each); }, *method), id);
}

Outcome Session::unexpectedMethod() const {
  constexpr const char* kNames[] = {"starting", "starting", "tuning", "opening", "running"};
  const size_t state = std::min(static_cast<size_t>(state_), std::size(kNames) - 1);
  return fault(ReplyCode::kChannelError,
               fmt::format("unexpected method in connection state {}", kNames[state]));
}

Outcome Session::on(const ConnectionStartOk& method) {
  if (state_ != State::kStarting || loggingIn_) return unexpectedMethod();
  auto facts = clientFacts(method);
  if (!facts) return std::move(facts.error());
  link_.cancelNotify = facts->cancelNotify;
  link_.blockedNotify = facts->blockedNotify;
  failureClose_ = facts->failureClose;
  connectionName_ = std::move(facts->connectionName);
  Fault refusal = loginRefused(method.mechanism);
  Authenticator* authenticator = link_.options->authenticator;
  if (method.mechanism == kExternal && !certified().empty()) {
    link_.loginName = certified();
    loggedIn(authenticator->admitIdentified(loginPoint(), link_.loginName), refusal);
    return {};
  }
  auto credentials = credentialsOf(method);
  if (!credentials) return std::move(credentials.error());
  link_.loginName = credentials->user;
  if (authenticator == nullptr) {
    if (!admittedWithoutPassword(*link_.options, link_.transport.peer())) {
      logWarning(fmt::format("amqp {}: login of '{}' refused: not from this machine",
                             link_.transport.peer(), shown(link_.loginName)));
      refuseLogin(refusal);
      return {};
    }
    offerTuning();
    return {};
  }
  loggingIn_ = true;  // nothing is read meanwhile
  authenticator->admit(loginPoint(), std::move(*credentials),
                       [this, guard = std::weak_ptr(link_.alive),
                        refusal = std::move(refusal)](Result<LoginRef> login) {
                         if (guard.expired() || state_ != State::kStarting) return;
                         loggingIn_ = false;
                         loggedIn(std::move(login), refusal);
                         link_.flush();
                         considerReading();
                       });
  return {};
}

LoginPoint Session::loginPoint() const {
  return {Protocol::kAmqp, link_.transport.peer(), link_.options->allowAnonymous, connectionName_};
}

std::string Session::certified() const {
  const PeerIdentityRef shown = link_.transport.identity();
  return shown && link_.options->authenticator != nullptr ? shown->user : std::string();
}

void Session::loggedIn(Result<LoginRef> login, const Fault& refusal) {
  if (!login) return refuseLogin(refusal);
  login_ = std::move(*login);
  if (!login_->user().empty()) link_.loginName = login_->user();
  offerTuning();
}

void Session::refuseLogin(const Fault& refusal) {
  if (failureClose_) {
    end(refusal);
  } else {
    leave("login refused");
  }
}

void Session::offerTuning() {
  state_ = State::kTuning;
  ConnectionTune tune;
  tune.channelMax = kChannelMax;
  tune.frameMax = kFrameMax;
  tune.heartbeat = kHeartbeatSeconds;
  link_.encodeMethod(0, tune);
}

Outcome Session::on(const ConnectionTuneOk& method) {
  if (state_ != State::kTuning) return unexpectedMethod();
  if (auto problem = checkTuning(method)) return problem;
  link_.channelMax = method.channelMax;
  link_.frameMax = method.frameMax;
  state_ = State::kOpening;
  startHeartbeat(method.heartbeat);
  return {};
}

Outcome Session::on(const ConnectionOpen& method) {
  if (state_ != State::kOpening) return unexpectedMethod();
  if (method.virtualHost != "/") {
    return fault(ReplyCode::kNotAllowed, fmt::format("vhost {} not found", method.virtualHost));
  }
  auto principal = std::make_shared<Principal>();
  principal->user = login_ ? login_->user() : link_.loginName;
  if (login_) {
    principal->revoked = login_->revoked();
    principal->rights = login_->rights();
    watchLogin();
  }
  principal->clientId = connectionName_;
  principal->peer = link_.transport.peer();
  principal->protocol = Protocol::kAmqp;
  principal->certificate = link_.transport.identity();
  const std::string& identity = principal->clientId.empty() ? principal->peer : principal->clientId;
  link_.publisherHash = mapping::partitionHash(std::nullopt, identity);
  link_.principal = std::move(principal);
  if (auto refused = welcome(link_.principal)) return refused;
  link_.client = link_.broker.openQueueClient(link_.principal);
  state_ = State::kOpen;
  link_.encodeMethod(0, ConnectionOpenOk{});
  link_.transport.handshakeDone();
  return {};
}

/// Whether it may come in, whoever it is.
Outcome Session::welcome(const PrincipalRef& principal) {
  Clients* clients = link_.options->clients;
  if (clients == nullptr) return {};
  auto client = clients->admit(principal, "0-9-1", [this](ClientEnd why) {
    end(fault(ReplyCode::kConnectionForced,
              why == ClientEnd::kBanned ? "banned" : "ended by an operator"));
  });
  if (!client) return fault(ReplyCode::kNotAllowed, client.error().text);
  client_ = std::move(*client);
  return {};
}

Outcome Session::on(const ConnectionClose&) {
  publishing_.flush();
  detach();
  link_.encodeMethod(0, ConnectionCloseOk{});
  leave("closed by the client");
  return {};
}

/// RabbitMQ's: a new token in place of one that will expire. A password has been proved, and that
/// holds.
Outcome Session::on(const ConnectionUpdateSecret& method) {
  if (state_ != State::kOpen || loggingIn_) return unexpectedMethod();
  if (!login_ || login_->expiresAtMs() == Login::kNeverExpires) {
    link_.answer(0, ConnectionUpdateSecretOk{});
    return {};
  }
  Credentials credentials;
  credentials.password = method.newSecret;
  credentials.token = true;
  loggingIn_ = true;  // nothing is read meanwhile
  link_.options->authenticator->admit(
      loginPoint(), std::move(credentials),
      [this, guard = std::weak_ptr(link_.alive)](Result<LoginRef> login) {
        if (guard.expired()) return;
        loggingIn_ = false;
        if (state_ == State::kOpen) renewed(std::move(login));
        link_.flush();
        considerReading();
      });
  return {};
}

void Session::renewed(Result<LoginRef> login) {
  if (!login || (*login)->user() != login_->user()) {
    return end(fault(ReplyCode::kNotAllowed, "New secret was refused by one of the backends"));
  }
  login_->onEnd(nullptr);
  (*login)->succeed(*login_);
  if (!firstLogin_) firstLogin_ = std::move(login_);
  login_ = std::move(*login);
  watchLogin();
  link_.answer(0, ConnectionUpdateSecretOk{});
}

void Session::watchLogin() {
  login_->onEnd([this, guard = std::weak_ptr(link_.alive)](LoginEnd why) {
    if (guard.expired()) return;
    end(fault(ReplyCode::kConnectionForced,
              why == LoginEnd::kExpired ? std::string("the token has expired")
                                        : fmt::format("user '{}' was deleted", link_.loginName)));
  });
}

/// The client may have closed before it saw that we did.
void Session::whileClosing(const Frame& frame) {
  if (frame.channel != 0) return;
  if (is<ConnectionCloseOk>(frame)) return leave("closed over an error");
  if (is<ConnectionClose>(frame) && !std::exchange(closeAnswered_, true)) {
    link_.encodeMethod(0, ConnectionCloseOk{});
  }
}

// ---- channels

/// Whether the frame has to wait for the broker: its channel is at something that it has to finish
/// first, or it looks into a queue to which publishes are on their way. Closing waits for nothing.
bool Session::mustWait(const Frame& frame) const {
  if (frame.channel == 0 || state_ != State::kOpen) return false;
  const auto found = channels_.find(frame.channel);
  if (found == channels_.end() || !found->second->open()) return false;
  if (found->second->waiting()) return !is<ChannelClose>(frame);
  const bool looks = is<BasicGet>(frame) || is<QueuePurge>(frame) || is<QueueDelete>(frame);
  return looks && publishing_.outstanding();
}

/// A publish, or what follows of one that had begun: whatever is let in from here on is stored, so
/// a full disk has to be noticed at every frame.
bool Session::mustBlock(const Frame& frame) const {
  if (frame.channel == 0 || state_ != State::kOpen || !link_.broker.full()) return false;
  return is<BasicPublish>(frame) || frame.type == FrameType::kHeader ||
         frame.type == FrameType::kBody;
}

void Session::block() {
  blocked_ = link_.broker.awaitSpace([this] { unblock(); });
  if (!link_.blockedNotify) return;
  ConnectionBlocked method;
  method.reason = kLowOnDisk;
  link_.encodeMethod(0, method);
}

void Session::unblock() {
  blocked_.reset();
  if (link_.blockedNotify && state_ == State::kOpen) {
    link_.encodeMethod(0, ConnectionUnblocked{});
    link_.flush();
  }
  considerReading();
}

Outcome Session::onChannelFrame(const Frame& frame) {
  const auto found = channels_.find(frame.channel);
  if (found == channels_.end()) return openChannel(frame);
  const std::shared_ptr<Channel> channel = found->second;
  if (channel->closing()) return whileChannelCloses(frame);
  if (is<ChannelClose>(frame)) {
    if (auto method = decodeMethod(frame.payload); !method) {
      return about(undecodable(frame.payload, method.error().kind), idOf(frame.payload));
    }
    publishing_.flush();
    closeChannel(frame.channel);
    return {};
  }
  if (channel->touch()) touched_.push_back(channel);
  return channel->onFrame(frame);
}

Outcome Session::openChannel(const Frame& frame) {
  if (channels_.size() >= link_.channelMax) {
    return fault(ReplyCode::kNotAllowed,
                 fmt::format("number of channels opened ({}) has reached the negotiated "
                             "channel_max ({})",
                             channels_.size(), link_.channelMax));
  }
  if (frame.type != FrameType::kMethod) {
    return fault(ReplyCode::kUnexpectedFrame,
                 "expected method frame, got non method frame instead");
  }
  const MethodId id = idOf(frame.payload);
  if (auto method = decodeMethod(frame.payload); !method) {
    return about(undecodable(frame.payload, method.error().kind), id);
  }
  if (!is<ChannelOpen>(frame)) {
    return about(fault(ReplyCode::kChannelError, "expected 'channel.open'"), id);
  }
  channels_.emplace(frame.channel, std::make_shared<Channel>(link_, publishing_, frame.channel));
  link_.answer(frame.channel, ChannelOpenOk{});
  return {};
}

/// The server has closed it: what the client sent before it knew is dropped.
Outcome Session::whileChannelCloses(const Frame& frame) {
  if (is<ChannelCloseOk>(frame)) {
    channels_.erase(frame.channel);
  } else if (is<ChannelClose>(frame)) {
    link_.answer(frame.channel, ChannelCloseOk{});
  } else if (is<ChannelOpen>(frame)) {
    return about(fault(ReplyCode::kChannelError, "second 'channel.open' seen"),
                 idOf(frame.payload));
  }
  return {};
}

void Session::closeChannel(uint16_t number) {
  const auto found = channels_.find(number);
  const std::shared_ptr<Channel> channel = std::move(found->second);
  channels_.erase(found);
  channel->close();
  link_.answer(number, ChannelCloseOk{});
}

// ---- the end

/// Closes the connection over a hard error: says so and waits for close-ok.
void Session::end(const Fault& fault) {
  if (state_ == State::kEnded || state_ == State::kClosing) return;
  publishing_.flush();  // what came before the fault was in order
  const std::string text = replyText(fault);
  if (logEnabled(LogLevel::kInfo)) {
    const std::string& user = link_.loginName;
    logInfo(fmt::format("amqp {} user '{}': {}", link_.transport.peer(), shown(user), shown(text)));
  }
  if (state_ == State::kHeader) return leave(text);
  state_ = State::kClosing;
  detach();
  ConnectionClose close;
  close.replyCode = static_cast<uint16_t>(fault.code);
  close.replyText = text;
  close.classId = fault.classId;
  close.methodId = fault.methodId;
  link_.encodeMethod(0, close);
  link_.flush();
  heartbeatMicros_ = 0;
  timer_ = link_.transport.dispatcher().makeTimer([this] { leave("no connection.close-ok"); });
  timer_->start(kCloseWaitMicros);
  if (!inInput_) considerReading();
}

void Session::leave(std::string_view why) {
  if (state_ == State::kEnded) return;
  state_ = State::kEnded;
  link_.flush();
  if (timer_) timer_->cancel();
  detach();
  link_.transport.close(why);
}

/// Channels first, so that what is unacknowledged is back before the client's queues go.
void Session::detach() {
  client_ = nullptr;
  for (auto& [number, channel] : channels_) channel->close();
  channels_.clear();
  blocked_.reset();
  link_.client.reset();
}

void Session::onDrained() {
  link_.unreadAnswers = 0;
  for (auto& [number, channel] : channels_) channel->onDrained();
  link_.deliveriesSent();
  considerReading();
}

void Session::onShutdown() {
  if (state_ == State::kOpen) {
    end(fault(ReplyCode::kConnectionForced,
              "broker forced connection closure with reason 'shutdown'"));
  }
  leave("server shutting down");
}

void Session::onClosed(std::string_view) {
  state_ = State::kEnded;
  timer_.reset();
  detach();
}

/// The disk is full, records wait for the journal, or answers for a peer that doesn't read them,
/// beyond their limit.
bool Session::full() const {
  if (state_ == State::kClosing) return false;
  return blocked_ || loggingIn_ || publishing_.saturated() ||
         link_.unreadAnswers > kMaxUnreadAnswers;
}

/// Reading goes on unless too much waits, or the next frame's channel does.
void Session::considerReading() {
  if (state_ == State::kEnded) return;
  if (!link_.transport.congested()) link_.unreadAnswers = 0;
  const bool pause = full() || (stalled_ && state_ == State::kOpen);
  if (pause == readingPaused_) return;
  readingPaused_ = pause;
  // The time that we didn't listen is not the client's silence.
  if (!pause) lastInput_ = now();
  link_.transport.pauseReading(pause);
}

// ---- the heartbeat (4.2.7)

void Session::startHeartbeat(uint16_t seconds) {
  if (seconds == 0) return;
  heartbeatMicros_ = int64_t{seconds} * 1'000'000;
  lastInput_ = now();
  timer_ = link_.transport.dispatcher().makeTimer([this] { beat(); });
  timer_->start(heartbeatMicros_ / 2);
}

/// Twice an interval: says something if nothing was said, ends what was silent for two.
void Session::beat() {
  const int64_t silence = now() - lastInput_;
  // While we don't listen for the broker's sake the client can't be heard.
  const bool deaf = readingPaused_ && link_.unreadAnswers <= kMaxUnreadAnswers;
  if (silence > 2 * heartbeatMicros_ && !deaf) {
    leave("missed heartbeats from client");
    return;
  }
  if (!link_.sentSince && !link_.transport.congested()) {
    link_.out.bytes(kEmptyHeartbeat);
    link_.flush();
  }
  link_.sentSince = false;
  timer_->start(heartbeatMicros_ / 2);
}

}  // namespace polylog::amqp
