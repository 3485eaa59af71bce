// One connection of a bridge: this broker as a client of another one. From CONNECT to the end, over
// Broker and Transport and nothing else, on the connection's thread. What goes out waits in the
// bridge's session here and is followed by OutboundDeliveries, what comes in is published by
// InboundPublishes, as for any client: a bridge is a session whose connection faces outwards.
//
// A connection goes through: a note that there will be a CONNECT, since that may give us a session
// at the remote of which we then never hear; CONNECT; the session here; what the remote has
// forgotten is forgotten here too; subscriptions on both sides. Where the remote may know the
// client identifier from an earlier life of this broker, a first connection ends the session that
// it has there, and another follows (BridgeEnd::again).
//
// What the remote sends is hostile input like any peer's: what can't be read ends the connection.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "codecs/mqtt/bridge_options.h"
#include "codecs/mqtt/bridge_side.h"
#include "codecs/mqtt/decoder.h"
#include "codecs/mqtt/inbound.h"
#include "codecs/mqtt/link.h"
#include "codecs/mqtt/outbound.h"
#include "core/event/dispatcher.h"
#include "core/net/transport.h"

namespace polylog::mqtt {

struct BridgeEnd {
  std::string why;           ///< with the remedy, where there is one
  bool again = false;        ///< not a failure: the next connection may follow at once
  bool progressed = false;   ///< the remote has taken or refused a message
  bool sessionGone = false;  ///< the session here was ended: prepareBridge() comes first
};

/// Who holds the bridge. Never called from inside a call of its own.
class BridgeObserver {
 public:
  virtual ~BridgeObserver() = default;
  /// Connected, and all subscriptions were asked for and answered.
  virtual void onBridgeUp() = 0;
  /// Something that doesn't end the connection and somebody should know of.
  virtual void onBridgeNotice(std::string what) = 0;
  /// The last call, once.
  virtual void onBridgeEnd(BridgeEnd end) = 0;
};

class BridgeSession final : public ProtocolSession {
 public:
  /// All outlive it.
  BridgeSession(Transport& transport, Broker& broker, std::shared_ptr<const BridgeOptions> options,
                BridgeMemory& memory, BridgeCounters& counters, BridgeObserver& observer);
  ~BridgeSession() override;

  size_t onBytes(const SharedBytes& input) override;
  size_t wanted() const override { return wanted_; }
  void onDrained() override;
  void onShutdown() override;
  void onClosed(std::string_view why) override;

 private:
  enum class State : uint8_t {
    kPreparing,   ///< that there will be a CONNECT is being kept; nothing is read meanwhile
    kConnecting,  ///< CONNACK is due
    kOpening,     ///< the session here is being opened; nothing is read meanwhile
    kOpen,
    kEnded,
  };
  class Relay;

  bool waits() const { return state_ == State::kPreparing || state_ == State::kOpening; }
  void announce();
  void sendConnect();
  std::optional<Fault> handle(Packet& packet);
  std::optional<Fault> handleConnack(const ConnackPacket& packet);
  void refused(const ConnackPacket& packet);
  void takeLimits(const ConnackPacket& packet);
  void cleaned();
  void openSession();
  void opened(Result<std::shared_ptr<SubscriberSession>> result);
  void forgetHeld(std::vector<uint16_t> ids);
  void forgetAccepted();
  void forgotten();
  void begin();
  void subscribeHere();
  void subscribeThere();
  void unsubscribeThere(const BridgeTopics::Filters& had, const BridgeTopics::Filters& wanted);
  void sendSubscribe(std::vector<std::pair<std::string, uint8_t>> filters);
  void sendUnsubscribe(std::vector<std::string> filters);
  std::optional<Fault> handleSuback(const SubackPacket& packet);
  void settle();
  void considerReading();
  void tick();
  void fail(std::string why, bool again = false);
  void end(const Fault& fault);
  void say(ReasonCode code);
  void leave();
  void closedUnanswered();
  void detach();
  uint16_t nextPacketId();
  int64_t now() const { return link_.transport.dispatcher().clock().monotonicMicros(); }

  Link link_;
  const std::shared_ptr<const BridgeOptions> options_;
  BridgeMemory& memory_;
  BridgeObserver& observer_;
  BridgeSide side_;
  Decoder decoder_;
  InboundPublishes inbound_;
  OutboundDeliveries outbound_;
  std::shared_ptr<Relay> relay_;

  State state_ = State::kPreparing;
  const bool cleaning_;  ///< this connection ends what the remote may have of old
  bool sentPrivateBit_ = false;
  bool knewUs_ = false;     ///< CONNACK's session present
  bool wasUnsure_ = false;  ///< BridgeMemory::unsure, before CONNECT
  bool lost_ = false;       ///< the remote's session is another than before, for all we know
  bool inInput_ = false;
  bool pumpDue_ = false;
  bool readingPaused_ = false;
  BridgeEnd end_;
  size_t wanted_ = 0;

  BridgeRecord next_;     ///< what the record will be when all is settled
  size_t unsettled_ = 0;  ///< answers that are due before that
  std::map<uint16_t, std::vector<std::pair<std::string, uint8_t>>> subscribing_;
  uint16_t lastPacketId_ = 0;

  int64_t lastInput_ = 0;
  int64_t keepAliveMicros_ = 0;
  std::unique_ptr<Timer> keepAlive_;
};

}  // namespace polylog::mqtt
