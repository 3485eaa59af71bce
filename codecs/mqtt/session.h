// One MQTT connection's state machine: from CONNECT to the end, over Broker and Transport and
// nothing else. Octets come in through onBytes(), packets go out through the transport. On the
// connection's thread only. Three seams do the work behind it: InboundPublishes, OutboundDeliveries
// and Subscriptions; this class does the handshake, the keep-alive, the end, and decides when to
// read.
//
// Lifetime: the broker's callbacks may come after the connection is gone; they hold a weak guard.
// The listener given to the broker is a relay of its own, kept until the broker can't call it.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "codecs/mqtt/authentication.h"
#include "codecs/mqtt/decoder.h"
#include "codecs/mqtt/handshake.h"
#include "codecs/mqtt/inbound.h"
#include "codecs/mqtt/link.h"
#include "codecs/mqtt/outbound.h"
#include "codecs/mqtt/subscriptions.h"
#include "codecs/mqtt/throttle.h"
#include "core/event/dispatcher.h"
#include "core/net/transport.h"

namespace polylog::mqtt {

class Session final : public ProtocolSession {
 public:
  Session(Transport& transport, Broker& broker, std::shared_ptr<const MqttOptions> options);
  ~Session() override;

  size_t onBytes(const SharedBytes& input) override;
  size_t wanted() const override { return wanted_; }
  void onDrained() override;
  void onShutdown() override;
  void onClosed(std::string_view why) override;

 private:
  enum class State : uint8_t {
    kAwaitingConnect,
    kAuthenticating,  ///< AUTH packets go to and fro, nothing else
    kOpening,         ///< the broker opens the session; nothing is read meanwhile
    kOpen,
    kEnded,  ///< closing or closed; nothing is read or sent any more
  };
  class Relay;

  std::optional<Fault> handle(Packet& packet);
  std::optional<Fault> handleConnect(const ConnectPacket& packet);
  std::optional<Fault> handleDisconnect(const DisconnectPacket& packet);
  void admit(Admission admission);
  void loggedIn(Admission admission, Result<LoginRef> login);
  void logIn(Admission admission, Credentials credentials);
  void beginMethod(Admission admission);
  std::optional<Fault> renewToken(const AuthPacket& packet);
  void tellRenewed(Authentication::Step step);
  std::optional<Fault> authenticated(std::expected<Authentication::Step, Fault> step);
  std::optional<Fault> handleAuth(const AuthPacket& packet);
  void watchLogin();
  void proceed(Admission admission);
  LoginPoint loginPoint() const;
  bool welcome(const Admission& admission);
  void turnAway(const Refusal& refusal);
  void opened(Admission admission, Result<std::shared_ptr<SubscriberSession>> result);
  void takenOver(bool byOperator);
  void end(const Fault& fault);
  void say(const Fault& fault);
  void leave(std::string_view why);
  void detach();
  void considerReading();
  int64_t throttled();
  void waitThrottled(int64_t micros);
  void startKeepAlive(uint16_t seconds);
  void checkKeepAlive();
  int64_t now() const { return link_.transport.dispatcher().clock().monotonicMicros(); }

  Link link_;
  Decoder decoder_;
  InboundPublishes inbound_;
  OutboundDeliveries outbound_;
  Subscriptions subscriptions_;
  Authentication authentication_;
  std::unique_ptr<Admission> admission_;  ///< while AUTH packets go to and fro
  std::shared_ptr<Relay> relay_;
  std::unique_ptr<ConnectedClient> client_;

  State state_ = State::kAwaitingConnect;
  bool inInput_ = false;  ///< onBytes() is on the stack: its end will pump and flush
  bool pumpDue_ = false;
  bool readingPaused_ = false;
  bool expiryWasZero_ = true;  ///< CONNECT's session expiry, which limits DISCONNECT's
  size_t wanted_ = 0;
  int64_t lastInput_ = 0;        ///< monotonic microseconds
  int64_t keepAliveMicros_ = 0;  ///< silence allowed, 0 = any
  std::unique_ptr<Timer> keepAlive_;
  TokenBucket publishes_;
  TokenBucket bytes_;
  std::unique_ptr<Timer> throttle_;  ///< while it has sent too much
};

}  // namespace polylog::mqtt
