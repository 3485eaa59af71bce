// One bridge: connects to the other broker, again and again, and tells how it stands. It lives on
// one worker, where its connection and its session are; status() may be called by any thread.
//
// States: preparing its session here; connecting (a name looked up, a socket connected, the
// handshakes of TLS and MQTT); connected; waiting for the next attempt, longer after each that
// fails. A bridge never gives up.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "codecs/mqtt/bridge_options.h"
#include "codecs/mqtt/bridge_session.h"
#include "core/model/broker.h"
#include "core/net/connection.h"
#include "core/net/connector.h"
#include "core/net/tls_client.h"
#include "server/bridge_config.h"

namespace polylog {
class EventDispatcher;
class Timer;
}  // namespace polylog

namespace polylog::server {

struct BridgeStatus {
  std::string name;
  std::string state;    ///< "connected", "connecting", "waiting"
  std::string address;  ///< as configured, of the last attempt
  std::string version;
  int64_t sinceMs = 0;  ///< in that state
  int64_t sent = 0;     ///< since the broker started
  int64_t received = 0;
  int64_t denied = 0;     ///< kept back: the local user may not read it
  int64_t refused = 0;    ///< by this broker: the local user may not publish it, among others
  std::string lastError;  ///< empty = none since the broker started
  int64_t lastErrorMs = 0;
  BridgeStore::Backlog backlog;
};

/// What all bridges share.
struct BridgeParts {
  Broker& broker;
  BridgeStore& store;
  Resolver& resolver;
  std::shared_ptr<const mqtt::MqttOptions> mqtt;  ///< of MQTT's listeners, packets' limit set
  size_t maxInput = 0;
  bool sysTopics = true;
};

/// The pauses between attempts: they double from `least` to `most`, and each is shortened by chance
/// to something between its half and itself, so that not all come at once.
class Backoff {
 public:
  Backoff(int64_t leastMillis, int64_t mostMillis, Random& random)
      : least_(leastMillis), most_(mostMillis), random_(random) {}
  /// Milliseconds until the next attempt.
  int64_t next();
  void reset() { failures_ = 0; }

 private:
  const int64_t least_;
  const int64_t most_;
  Random& random_;
  int failures_ = 0;
};

class Bridge final : public Connection::Owner, public mqtt::BridgeObserver {
 public:
  /// kInvalid, kCorrupt: what was configured can't be used, what was stored can't be read.
  static Result<std::unique_ptr<Bridge>> make(const BridgeConfig& config, const BridgeParts& parts,
                                              EventDispatcher& dispatcher);
  ~Bridge() override;
  Bridge(const Bridge&) = delete;
  Bridge& operator=(const Bridge&) = delete;

  EventDispatcher& dispatcher() const { return dispatcher_; }
  const std::string& name() const { return config_.name; }
  BridgeStatus status() const;
  /// Any thread: reads the files of TLS again, for connections to come.
  Result<> reload();
  std::string sessionId() const { return "$bridge/" + config_.name; }

  // On its worker.
  void start();
  /// Ends the connection; `done` when it is gone.
  void stop(Task done);

  // Connection::Owner
  void onHandshakeDone(Connection&) override {}
  void onConnectionGone(Connection& connection) override;
  // BridgeObserver
  void onBridgeUp() override;
  void onBridgeNotice(std::string what) override;
  void onBridgeEnd(mqtt::BridgeEnd end) override;

 private:
  Bridge(const BridgeConfig& config, const BridgeParts& parts, EventDispatcher& dispatcher);

  void prepare();
  void connect();
  void resolved(Result<std::vector<SocketAddress>> found);
  void tryNext(std::string why);
  void open(const Connector::Connected& connected);
  std::shared_ptr<const mqtt::BridgeOptions> optionsFor(std::string password) const;
  void failed(const std::string& why);
  void retry(int64_t millis);
  void tellState(bool connected);
  void setState(const char* state);
  void note(const std::string& what);
  void measure();
  const BridgeAddress& address() const;

  const BridgeConfig config_;
  const BridgeParts parts_;
  EventDispatcher& dispatcher_;
  const ConnectionLimits limits_;
  ConnectionMetrics metrics_;
  mqtt::BridgeCounters counters_;
  mqtt::BridgeMemory memory_;
  std::optional<int64_t> upAt_;  ///< since when it is connected
  Backoff backoff_;
  std::shared_ptr<OutgoingTls> tls_;  ///< null: no address is of TLS
  PrincipalRef principal_;

  bool prepared_ = false;
  bool stopping_ = false;
  int again_ = 0;  ///< connections one after the other that were no failures
  size_t nextAddress_ = 0;
  std::vector<SocketAddress> candidates_;
  std::unique_ptr<Connector> connector_;
  std::shared_ptr<Connection> connection_;
  mqtt::BridgeEnd end_;
  std::unique_ptr<Timer> retry_;
  std::unique_ptr<Timer> measure_;
  Task stopped_;

  mutable std::mutex lock_;
  BridgeStatus status_;  // guarded by lock_
};

}  // namespace polylog::server
