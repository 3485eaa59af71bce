#include "codecs/kafka/session.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "codecs/kafka/api.h"
#include "codecs/kafka/errors.h"
#include "codecs/kafka/fetch_sessions.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/limits.h"
#include "codecs/kafka/quota_meter.h"
#include "codecs/kafka/share_sessions.h"
#include "core/base/metrics.h"
#include "core/net/ip_prefix.h"

namespace polylog::kafka {

namespace {

/// "127.0.0.1" of "127.0.0.1:50123"; empty for a peer that has no address.
std::string addressOf(std::string_view peer) {
  peer = peer.substr(0, peer.rfind(':'));
  if (peer.starts_with('[') && peer.ends_with(']')) peer = peer.substr(1, peer.size() - 2);
  std::optional<IpPrefix> address = IpPrefix::parse(peer);
  return address ? address->text() : std::string();
}

}  // namespace

// ---- Services

Services::Services(Broker& b, KafkaOptions o)
    : broker(b),
      options(std::move(o)),
      fetchSessions(std::make_unique<FetchSessions>(
          FetchSessions::Limits{options.maxFetchSessions, kMaxSessionPartitions,
                                kFetchSessionEvictionMs},
          systemRandom())),
      shareSessions(std::make_unique<ShareSessions>(
          ShareSessions::Limits{options.maxShareSessions, kMaxSessionPartitions,
                                kMaxShareSessionsOfConnection, kMaxSessionPartitionsOfConnection})),
      quotaMeter(std::make_unique<QuotaMeter>(options.quotas)) {}
Services::~Services() = default;

// ---- Call

Transport& Call::transport() const {
  return session_->transport_;
}

Sasl& Call::sasl() const {
  return session_->sasl_;
}

uint64_t Call::connection() const {
  return session_->connection_;
}

HostPort Call::advertised() const {
  const HostPort& local = session_->transport_.local();
  if (!options().advertised) return local;
  HostPort told = *options().advertised;
  if (told.port == 0) told.port = local.port;
  return told;
}

wire::Encoder Call::begin() const {
  wire::Encoder out;
  out.reserve(128);
  out.u32(0);
  out.i32(header_.correlationId);
  // A client must be able to read the answer to ApiVersions before it knows what we speak: its
  // response header never has tagged fields.
  if (api_.flexible(version()) && api_.key != kApiVersionsKey) out.varuint(0);
  return out;
}

void Call::finish(wire::Encoder out) {
  out.patchU32(0, static_cast<uint32_t>(out.size() - kFrameLengthSize));
  answer(Reply(out.take()));
}

void Call::answer(Reply reply) {
  if (!open()) return;
  ended_ = true;
  reply_ = std::move(reply);
  session_->ended(*this);
}

void Call::throttle(int32_t millis) {
  if (millis > 0 && open()) session_->mute(millis);
}

Call::Busy::Busy(Call& call) : call_(call) {
  if (call.open()) call.busySince_ = call.transport().dispatcher().clock().monotonicMicros();
}

Call::Busy::~Busy() {
  if (!call_.busySince_) return;
  // Gone with its session, whose clock it was, or answered: it has been counted then.
  if (call_.open()) {
    call_.busyMicros_ +=
        call_.transport().dispatcher().clock().monotonicMicros() - *call_.busySince_;
  }
  call_.busySince_.reset();
}

int32_t Call::countTime() {
  // Logging in is nobody's yet.
  const bool login = api_.key == kSaslHandshakeKey || api_.key == kSaslAuthenticateKey;
  if (!open() || login || std::exchange(timeCounted_, true)) return 0;
  const int64_t now = transport().dispatcher().clock().monotonicMicros();
  const int64_t micros = busyMicros_ + (busySince_ ? now - *busySince_ : 0);
  return quotaMeter().countTime(*principal_, micros, now / 1000);
}

const std::pair<std::string, std::string>& Call::software() const {
  return session_->software_;
}

void Call::softwareIs(BytesView name, BytesView version) {
  if (!open()) return;
  session_->software_ = {std::string(name.substr(0, kMaxSoftwareName)),
                         std::string(version.substr(0, kMaxSoftwareName))};
}

void Call::answerNothing() {
  if (!open()) return;
  throttle(countTime());
  ended_ = true;
  session_->ended(*this);
}

void Call::abort(std::string_view why) {
  if (open()) session_->close(why);
}

void Call::lastAnswer() {
  if (open()) session_->refused_ = true;
}

void Call::startTimer(int64_t micros) {
  if (open()) session_->startTimer(micros);
}

// ---- Session

Session::Session(Transport& transport, std::shared_ptr<const Services> services)
    : transport_(transport),
      services_(std::move(services)),
      connection_(services_->shareSessions->newConnection()),
      sasl_(*services_, transport) {
  sasl_.onLogin = [this] {
    principal_ = nullptr;
    client_ = nullptr;
    expired_ = false;
    greet();
  };
  sasl_.onEnd = [this](LoginEnd why) {
    if (why == LoginEnd::kRevoked) return close("the user was deleted");
    // What was begun before is answered, with what there is by now.
    expired_ = true;
    hurry();
    advance();
  };
  limitConnections();
  int64_t largest = std::clamp<int64_t>(services_->broker.maxRecordBytes(), 0, INT32_MAX / 2);
  maxRequest_ = static_cast<size_t>(largest) + kRequestOverhead;
}

Session::~Session() {
  detachCalls();
}

/// An address that connects too fast isn't read from, and closed after a while: closed at once it
/// would only come back the sooner.
void Session::limitConnections() {
  std::string address = addressOf(transport_.peer());
  if (address.empty()) return;
  int64_t nowMs = transport_.dispatcher().clock().monotonicMicros() / 1000;
  int32_t millis = services_->quotaMeter->countConnection(address, nowMs);
  if (millis == 0) return;
  muted_ = true;
  muteTimer_ = transport_.dispatcher().makeTimer(
      [this] { close("its address connects faster than its quota allows"); });
  muteTimer_->start(int64_t{millis} * 1000);
}

bool Session::mustWait() const {
  return calls_.size() >= kMaxWaitingRequests || waitingBytes_ >= kMaxWaitingBytes ||
         transport_.congested() || shuttingDown_ || muted_ || refused_ || sasl_.busy();
}

size_t Session::onBytes(const SharedBytes& input) {
  size_t used = 0;
  wanted_ = 0;
  if (!std::exchange(identified_, true) && !sasl_.identify()) close("the login was refused");
  while (!closing_) {
    if (used < input.size() && mustWait()) {
      paused_ = true;
      transport_.pauseReading(true);
      break;
    }
    FrameResult frame =
        decodeFrame(input.view().substr(used), greeted_ ? maxRequest_ : kMaxFirstRequest);
    if (frame.kind == FrameResult::Kind::kError) {
      close("a request's length is out of range");
      break;
    }
    if (frame.kind == FrameResult::Kind::kNeedMore) {
      wanted_ = frame.size;
      break;
    }
    SharedBytes request = input.slice(used + kFrameLengthSize, frame.size - kFrameLengthSize);
    used += frame.size;
    if (!accept(std::move(request))) break;
  }
  return used;
}

/// Before it has logged in, and once that no longer holds, a client may ask what there is and log
/// in.
bool Session::mayAsk(const RequestHeader& header) {
  if (header.apiKey == kApiVersionsKey || header.apiKey == kSaslHandshakeKey ||
      header.apiKey == kSaslAuthenticateKey) {
    return true;
  }
  if (sasl_.mayAsk(transport_.dispatcher().clock().monotonicMicros())) return true;
  close(sasl_.mustLogIn() ? "a request before authentication" : "the login is too old");
  return false;
}

/// A token without a request around it, and the answer likewise.
bool Session::acceptToken(const SharedBytes& token) {
  sasl_.step(token.view(), [this](const Result<Sasl::Step>& step) {
    if (closing_) return;
    if (!step) return close("authentication failed");
    wire::Encoder out;
    out.u32(static_cast<uint32_t>(step->data.size()));
    out.bytes(step->data);
    transport_.send(out.view());
    advance();
  });
  return !closing_;
}

/// What a connection may do is no longer held to the handshake's limits.
void Session::greet() {
  if (greeted_ || closing_ || sasl_.mustLogIn()) return;
  greeted_ = true;
  transport_.handshakeDone();
}

/// Who is to log in is not known before that.
bool Session::welcome(BytesView clientId) {
  Clients* clients = services_->options.clients;
  if (clients == nullptr || client_ || sasl_.mustLogIn()) return true;
  auto client = clients->admit(principalFor(clientId), {}, [this](ClientEnd why) {
    close(why == ClientEnd::kBanned ? "banned" : "ended by an operator");
  });
  if (!client) {
    close(client.error().text);
    return false;
  }
  client_ = std::move(*client);
  return true;
}

bool Session::accept(SharedBytes frame) {
  if (sasl_.raw()) return acceptToken(frame);
  RequestHeader header;
  if (!decodeRequestHeader(frame.view(), header)) {
    close("malformed request header");
    return false;
  }
  const Api* api = findApi(header.apiKey);
  if (api == nullptr) {
    close("unknown API key " + std::to_string(header.apiKey));
    return false;
  }
  if (!mayAsk(header) || !welcome(header.clientId)) return false;
  if (!api->supports(header.version) && !refuseVersion(header, *api)) return false;
  if (api->supports(header.version) && api->flexible(header.version) && !skipHeaderTags(header)) {
    close("malformed request header");
    return false;
  }
  requestsOf(*api).add();

  auto call = std::make_shared<Call>(*this, services_, principalFor(header.clientId), *api, header,
                                     std::move(frame));
  calls_.push_back(call);
  waitingBytes_ += call->frame_.size();
  bool wellFormed = true;
  if (api->supports(header.version)) {
    Call::Busy busy(*call);
    wellFormed = api->handle(call);
  } else {
    answerUnsupportedApiVersions(call);
  }
  if (!wellFormed) {
    close(std::string("malformed ") + api->name + " request, version " +
          std::to_string(header.version));
    return false;
  }
  greet();
  if (call->work_ != nullptr && !call->ended_) advance();
  return !closing_;
}

/// Kafka closes the connection for a version that it doesn't know; only the question that tells
/// which versions it knows gets an answer (KIP-511).
bool Session::refuseVersion(const RequestHeader& header, const Api& api) {
  if (header.apiKey == kApiVersionsKey && header.version >= 0) return true;
  close(std::string(api.name) + " version " + std::to_string(header.version) + " is not supported");
  return false;
}

const PrincipalRef& Session::principalFor(BytesView clientId) {
  // Clients name themselves in every request; it is the same name but for a few odd clients.
  if (principal_ == nullptr || principal_->clientId != clientId) {
    sasl_.clientIs(clientId);
    auto made = std::make_shared<Principal>(Principal{
        {}, std::string(clientId), transport_.peer(), Protocol::kKafka, transport_.identity()});
    if (sasl_.login()) {
      made->user = sasl_.login()->user();
      made->revoked = sasl_.login()->revoked();
      made->rights = sasl_.login()->rights();
    }
    principal_ = std::move(made);
  }
  return principal_;
}

void Session::ended(Call& call) {
  call.work_.reset();
  waitingBytes_ += call.reply_.size();
  advance();
}

void Session::advance() {
  if (advancing_) return;
  advancing_ = true;
  while (!closing_ && !calls_.empty() && step()) {
  }
  advancing_ = false;
  if (closing_) return;
  if (refused_ && calls_.empty()) return close("authentication failed");
  if (shuttingDown_ && calls_.empty()) return close("the broker is stopping");
  if (expired_ && calls_.empty()) return close("the token has expired");
  resume();
}

void Session::resume() {
  if (!paused_ || mustWait()) return;
  paused_ = false;
  transport_.pauseReading(false);
}

/// Nothing is read, and no fetch begun, for so long, or as long as one before it says: a client
/// that doesn't hold itself back is held. Not beyond kMaxMuteMs, since who doesn't read doesn't
/// notice that its peer has gone.
void Session::mute(int32_t millis) {
  int64_t now = transport_.dispatcher().clock().monotonicMicros();
  int64_t until = now + int64_t{std::min(millis, kMaxMuteMs)} * 1000;
  if (muted_ && until <= mutedUntil_) return;
  muted_ = true;
  mutedUntil_ = until;
  if (!paused_) {
    paused_ = true;
    transport_.pauseReading(true);
  }
  if (muteTimer_ == nullptr) {
    muteTimer_ = transport_.dispatcher().makeTimer([this] {
      muted_ = false;
      if (!closing_) advance();
    });
  }
  muteTimer_->start(until - now);
}

/// Deals with the first call. False if there is nothing to do about it now.
bool Session::step() {
  CallRef first = calls_.front();
  if (first->ended_) {
    calls_.pop_front();
    waitingBytes_ -= first->frame_.size() + first->reply_.size();
    first->session_ = nullptr;
    first->reply_.sendTo(transport_);
    return true;
  }
  if (first->work_ == nullptr || first->started_) return false;
  if (transport_.congested() && !shuttingDown_) return false;
  if (muted_ && !shuttingDown_ && !expired_) return false;
  // It was asked in time, and waited too long behind others.
  if (!sasl_.mayAsk(transport_.dispatcher().clock().monotonicMicros())) {
    close("the login is too old");
    return false;
  }
  first->started_ = true;
  std::shared_ptr<Work> work = first->work_;
  {
    Call::Busy busy(*first);
    work->start();
  }
  if ((shuttingDown_ || expired_) && !first->ended_) work->hurry();
  return first->ended_;
}

void Session::startTimer(int64_t micros) {
  if (shuttingDown_) return;
  if (timer_ == nullptr) timer_ = transport_.dispatcher().makeTimer([this] { onTimer(); });
  timer_->start(micros);
}

void Session::onTimer() {
  if (closing_) return;
  if (shuttingDown_) return close("the broker is stopping");
  if (calls_.empty()) return;
  CallRef first = calls_.front();
  std::shared_ptr<Work> work = first->work_;
  if (work != nullptr && first->started_ && !first->ended_) work->onTimer();
}

void Session::onDrained() {
  advance();
}

void Session::onShutdown() {
  if (closing_ || shuttingDown_) return;
  startTimer(kShutdownMicros);
  shuttingDown_ = true;
  hurry();
  advance();
}

/// The work under way is to answer with what it has.
void Session::hurry() {
  if (calls_.empty()) return;
  CallRef first = calls_.front();
  std::shared_ptr<Work> work = first->work_;
  if (work != nullptr && first->started_ && !first->ended_) work->hurry();
}

/// What members have got over this connection and said nothing of is for others.
void Session::dropShareSessions() {
  for (ShareMember& member : services_->shareSessions->closed(connection_)) {
    services_->options.shareGroups->releaseShares(std::move(member.group), std::move(member.member),
                                                  nullptr);
  }
}

void Session::onClosed(std::string_view) {
  closing_ = true;
  detachCalls();
}

void Session::close(std::string_view why) {
  if (closing_) return;
  closing_ = true;
  detachCalls();
  transport_.close(why);
}

void Session::detachCalls() {
  client_ = nullptr;
  dropShareSessions();
  // What a call's work holds may refer back to the call: let it go here.
  for (CallRef& call : calls_) {
    call->session_ = nullptr;
    call->work_.reset();
  }
  calls_.clear();
  waitingBytes_ = 0;
}

}  // namespace polylog::kafka
