#include "server/bridge.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "codecs/mqtt/bridge_inbox.h"
#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/event/event_dispatcher.h"
#include "core/net/address.h"

namespace polylog::server {
namespace {

constexpr int64_t kConnectMicros = 10'000'000;
constexpr size_t kHandshakeInput = size_t{64} * 1024;
constexpr int64_t kMeasureMicros = 5'000'000;
/// A connection that has stood so long was one.
constexpr int64_t kStoodMicros = 10'000'000;
/// More connections that end without being failures are one.
constexpr int kMaxAgain = 4;
constexpr size_t kIdPart = 12;

ConnectionLimits limitsOf(const BridgeParts& parts) {
  ConnectionLimits limits;
  limits.maxInput = parts.maxInput;
  limits.handshakeInput = std::min(parts.maxInput, kHandshakeInput);
  limits.handshakeMicros = kConnectMicros;
  return limits;
}

ConnectionMetrics metricsOf() {
  return {
      counter("polylog_received_bytes_total", "Octets read from clients", R"(protocol="bridge")"),
      counter("polylog_sent_bytes_total", "Octets written to clients", R"(protocol="bridge")")};
}

std::string labels(const std::string& bridge) {
  return fmt::format("bridge=\"{}\"", bridge);
}
Metric& connectedGauge(const std::string& bridge) {
  return gauge("polylog_bridge_connected", "1 while a bridge is connected", labels(bridge));
}
Metric& waitingGauge(const std::string& bridge) {
  return gauge("polylog_bridge_waiting_records", "Messages that wait for a bridge's remote broker",
               labels(bridge));
}
Metric& attempts(const std::string& bridge) {
  return counter("polylog_bridge_connects_total", "Attempts of a bridge to connect",
                 labels(bridge));
}

}  // namespace

int64_t Backoff::next() {
  constexpr int kMaxDoublings = 30;
  const int doublings = std::min(failures_++, kMaxDoublings);
  const int64_t longest = least_ > (most_ >> doublings) ? most_ : least_ << doublings;
  const auto half = static_cast<uint64_t>(longest / 2);
  return longest - static_cast<int64_t>(half == 0 ? 0 : random_.next() % (half + 1));
}

Result<std::unique_ptr<Bridge>> Bridge::make(const BridgeConfig& config, const BridgeParts& parts,
                                             EventDispatcher& dispatcher) {
  std::unique_ptr<Bridge> bridge(new Bridge(config, parts, dispatcher));
  if (auto loaded = bridge->memory_.load(); !loaded) return std::unexpected(loaded.error());
  if (config.usesTls()) {
    TlsClientOptions options = config.tls;
    options.keyPrefix = fmt::format("bridges.{}.", config.name);
    auto tls = OutgoingTls::load(std::move(options));
    if (!tls) return std::unexpected(tls.error());
    bridge->tls_ = *std::move(tls);
  }
  return bridge;
}

Bridge::Bridge(const BridgeConfig& config, const BridgeParts& parts, EventDispatcher& dispatcher)
    : config_(config),
      parts_(parts),
      dispatcher_(dispatcher),
      limits_(limitsOf(parts)),
      metrics_(metricsOf()),
      counters_(config.name),
      memory_(config.name, parts.store),
      backoff_(config.reconnectMinMs, config.reconnectMaxMs, systemRandom()) {
  auto principal = std::make_shared<Principal>();
  principal->user = config.localUser;
  principal->clientId = sessionId();
  principal->protocol = Protocol::kMqtt;
  principal->trusted = config.localUser.empty();
  principal_ = std::move(principal);
  status_.name = config.name;
  status_.version = config.version5 ? "5.0" : "3.1.1";
  status_.address = config.addressTexts.front();
  status_.state = "connecting";
}

Bridge::~Bridge() = default;

const BridgeAddress& Bridge::address() const {
  return config_.addresses[nextAddress_];
}

Result<> Bridge::reload() {
  return tls_ == nullptr ? Result<>() : tls_->reload();
}

// ---- life

void Bridge::start() {
  retry_ = dispatcher_.makeTimer([this] { prepared_ ? connect() : prepare(); });
  measure_ = dispatcher_.makeTimer([this] { measure(); });
  {
    std::lock_guard lock(lock_);
    status_.sinceMs = dispatcher_.clock().wallMillis();
  }
  connectedGauge(config_.name).set(0);  // it may never be
  tellState(false);
  prepare();
  measure();
}

void Bridge::prepare() {
  mqtt::prepareBridge(parts_.broker, optionsFor({}), memory_, [this](const Result<>& result) {
    if (stopping_) return;
    if (!result) {
      return failed(fmt::format("its session here, `{}`, can't be prepared: {}", sessionId(),
                                result.error().text));
    }
    prepared_ = true;
    connect();
  });
}

void Bridge::stop(Task done) {
  stopping_ = true;
  retry_ = nullptr;
  measure_ = nullptr;
  connector_ = nullptr;
  stopped_ = std::move(done);
  if (connection_ == nullptr) return std::exchange(stopped_, nullptr)();
  connection_->shutdown();
}

std::shared_ptr<const mqtt::BridgeOptions> Bridge::optionsFor(std::string password) const {
  auto options = std::make_shared<mqtt::BridgeOptions>();
  const std::string& id = parts_.broker.clusterId();
  options->name = config_.name;
  options->clientId = config_.clientId.empty()
                          ? fmt::format("{}-{}", config_.name, id.substr(0, kIdPart))
                          : config_.clientId;
  if (!config_.user.empty()) options->user = config_.user;
  if (!password.empty()) options->password = std::move(password);
  options->version = config_.version5 ? mqtt::Version::k5 : mqtt::Version::k311;
  options->keepAliveSeconds = static_cast<uint16_t>(config_.keepAliveSeconds);
  options->privateBit = config_.privateBit;
  if (config_.mark) options->brokerId = id;
  options->topics = mqtt::BridgeTopics(config_.topics);
  options->principal = principal_;
  auto own = std::make_shared<mqtt::MqttOptions>(*parts_.mqtt);
  own->maxInflight = static_cast<uint16_t>(config_.maxInflight);
  options->mqtt = std::move(own);
  return options;
}

// ---- connecting

void Bridge::connect() {
  setState("connecting");
  attempts(config_.name).add();
  {
    std::lock_guard lock(lock_);
    status_.address = config_.addressTexts[nextAddress_];
  }
  parts_.resolver.resolve(address().address, dispatcher_,
                          [this](Result<std::vector<SocketAddress>> found) {
                            if (!stopping_) resolved(std::move(found));
                          });
}

void Bridge::resolved(Result<std::vector<SocketAddress>> found) {
  if (!found) return failed(found.error().text);
  candidates_ = *std::move(found);
  std::ranges::reverse(candidates_);  // taken from the back
  tryNext(fmt::format("the name `{}` has no address", address().address.host));
}

/// The next address of the name; `why` the one before failed.
void Bridge::tryNext(std::string why) {
  if (candidates_.empty()) return failed(why);
  const SocketAddress next = candidates_.back();
  candidates_.pop_back();
  connector_ = std::make_unique<Connector>(
      dispatcher_, next, toText(next.numeric()), kConnectMicros,
      [this](Result<Connector::Connected> connected) {
        if (connected) return open(*connected);
        tryNext(connected.error().text + "; is a broker listening there?");
      });
}

void Bridge::open(const Connector::Connected& connected) {
  end_ = {};
  connection_ = std::make_shared<Connection>(dispatcher_, connected.fd,
                                             Connection::Addresses{connected.peer, connected.local},
                                             limits_, metrics_, *this);
  auto password = config_.readPassword();
  if (!password) {
    end_.why = password.error().text;
    return connection_->abort("no password");
  }
  SessionFactory sessions = [this, options = optionsFor(*std::move(password))](Transport& lower) {
    return std::make_unique<mqtt::BridgeSession>(lower, parts_.broker, options, memory_, counters_,
                                                 *this);
  };
  if (address().tls) {
    sessions = tls_->sessions(address().address.host, {limits_.maxInput, limits_.handshakeInput},
                              std::move(sessions));
  }
  connection_->start(sessions);
}

// ---- what comes of it

void Bridge::onBridgeUp() {
  again_ = 0;
  upAt_ = dispatcher_.clock().monotonicMicros();
  setState("connected");
  connectedGauge(config_.name).set(1);
  tellState(true);
  logInfo(fmt::format("bridge '{}': connected to {}", config_.name,
                      config_.addressTexts[nextAddress_]));
}

void Bridge::onBridgeNotice(std::string what) {
  note(what);
}

void Bridge::onBridgeEnd(mqtt::BridgeEnd end) {
  end_ = std::move(end);
}

void Bridge::onConnectionGone(Connection& connection) {
  if (end_.why.empty()) end_.why = connection.closeReason();
  if (end_.sessionGone) prepared_ = false;
  // Not by having been there: the remote may end it each time over the same message.
  const auto up = std::exchange(upAt_, std::nullopt);
  const bool stood = up && dispatcher_.clock().monotonicMicros() - *up >= kStoodMicros;
  if (end_.progressed || stood) backoff_.reset();
  // Still on the stack.
  dispatcher_.defer([gone = std::exchange(connection_, nullptr)] {});
  connectedGauge(config_.name).set(0);
  tellState(false);
  if (stopping_) {
    if (stopped_) std::exchange(stopped_, nullptr)();
    return;
  }
  if (end_.again && ++again_ <= kMaxAgain) {
    logInfo(fmt::format("bridge '{}': {}; connects again", config_.name, end_.why));
    setState("connecting");
    return retry(0);
  }
  failed(end_.why);
}

void Bridge::failed(const std::string& why) {
  again_ = 0;
  note(fmt::format("{}: {}", config_.addressTexts[nextAddress_], why));
  nextAddress_ = (nextAddress_ + 1) % config_.addresses.size();
  setState("waiting");
  retry(backoff_.next());
}

void Bridge::retry(int64_t millis) {
  if (retry_) retry_->start(millis * 1000);
}

// ---- what is told

void Bridge::tellState(bool connected) {
  if (!parts_.sysTopics) return;
  Principal itself;
  itself.clientId = sessionId();
  itself.trusted = true;
  parts_.broker.publishConnection(std::make_shared<const Principal>(std::move(itself)),
                                  config_.name, connected);
}

void Bridge::setState(const char* state) {
  std::lock_guard lock(lock_);
  if (status_.state == state) return;
  status_.state = state;
  status_.sinceMs = dispatcher_.clock().wallMillis();
}

/// The same thing again is said once in the log.
void Bridge::note(const std::string& what) {
  bool known = false;
  {
    std::lock_guard lock(lock_);
    known = std::exchange(status_.lastError, what) == what;
    status_.lastErrorMs = dispatcher_.clock().wallMillis();
  }
  const std::string line = fmt::format("bridge '{}': {}", config_.name, what);
  known ? logDebug(line) : logWarning(line);
}

void Bridge::measure() {
  parts_.store.backlog(sessionId(), [this](std::optional<BridgeStore::Backlog> found) {
    if (stopping_) return;
    // An operator has ended it; the next attempt makes it anew.
    if (!found && connection_ == nullptr) prepared_ = false;
    if (found) {
      waitingGauge(config_.name).set(found->waiting);
      std::lock_guard lock(lock_);
      status_.backlog = *found;
    }
    if (measure_) measure_->start(kMeasureMicros);
  });
}

BridgeStatus Bridge::status() const {
  std::lock_guard lock(lock_);
  BridgeStatus out = status_;
  out.sent = counters_.sent.value();
  out.received = counters_.received.value();
  out.denied = counters_.denied.value();
  out.refused = counters_.refusedHere.value();
  return out;
}

}  // namespace polylog::server
