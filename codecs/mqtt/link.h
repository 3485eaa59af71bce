// What the seams of one MQTT session share: its two ends (transport and broker), what CONNECT
// settled, and the octets on their way out, which gather here until the round's work is done. On
// the connection's thread only; owned by Session.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "codecs/mqtt/bridge_side.h"
#include "codecs/mqtt/counters.h"
#include "codecs/mqtt/encoder.h"
#include "codecs/mqtt/limits.h"
#include "codecs/mqtt/options.h"
#include "codecs/mqtt/packet.h"
#include "codecs/mqtt/trace.h"
#include "core/base/byte_writer.h"
#include "core/event/dispatcher.h"
#include "core/model/broker.h"
#include "core/net/transport.h"

namespace polylog::mqtt {

struct Link {
  Link(Transport& transportRef, Broker& brokerRef, std::shared_ptr<const MqttOptions> optionsRef)
      : transport(transportRef), broker(brokerRef), options(std::move(optionsRef)) {}

  Transport& transport;
  Broker& broker;
  std::shared_ptr<const MqttOptions> options;

  // Settled by CONNECT.
  Version version = Version::k311;
  PrincipalRef principal;
  std::shared_ptr<SubscriberSession> session;  ///< null before it is open and after the end
  uint32_t clientMaxPacket = 0xFFFFFFFF;
  uint16_t clientReceiveMaximum = 65535;
  uint16_t topicAliases = 0;       ///< towards the client, at most (3.1.2.11.5)
  bool problemInformation = true;  ///< the client wants reason strings (3.1.2.11.7)
  uint32_t publisherHash = 0;      ///< partition hash of records without a key
  std::string mount;               ///< before every name (MqttOptions::mountPoint)
  bool peerIsBridge = false;       ///< ConnectPacket::bridge
  std::string bridgeState;         ///< Admission::bridgeState
  /// Where the peer is a server and this broker its client: what is different then. Else null.
  BridgeSide* bridge = nullptr;

  /// Ends the connection at once, telling the peer why where the version can: for the session
  /// alone, since others are on the stack with views of what that takes away. They call end().
  std::move_only_function<void(const Fault&)> endNow;
  /// Why the connection has to end, noted by end(): nothing more is read, answered or delivered.
  std::optional<Fault> due;
  /// Something that waited is through: reading may go on, deliveries may be taken.
  std::move_only_function<void()> progressed;
  /// Callbacks of the broker's hold a weak reference and do nothing once this is gone.
  std::shared_ptr<char> alive = std::make_shared<char>();

  /// Requests that wait for the broker, other than publishes.
  size_t waitingRequests = 0;
  /// Octets of answers sent since the transport became congested.
  size_t unreadAnswers = 0;

  /// Where packets are encoded to, and how many since the last flush.
  ByteWriter out;
  int64_t packetsOut = 0;

  /// The peer's Topic Alias Maximum.
  void takeTopicAliases(uint32_t maximum) {
    topicAliases =
        static_cast<uint16_t>(std::min<uint32_t>(maximum, options->outboundTopicAliases));
  }
  std::weak_ptr<char> guard() const { return alive; }
  bool traced() const {
    return options->tracer != nullptr && options->tracer->any() && principal != nullptr;
  }
  /// Of a packet from (`inward`) or to the client, once it is known who that is.
  void trace(bool inward, const Packet& packet) const {
    if (traced()) options->tracer->packet(*principal, inward, packet);
  }
  bool open() const { return session != nullptr; }
  /// What the peer, a bridge, says of itself below $SYS; behind a mount point there is no $SYS.
  void tellBridgeState(bool connected) const {
    if (bridgeState.empty() || !mount.empty()) return;
    broker.publishConnection(principal, bridgeState, connected);
  }

  /// The connection has to end, which it does once its stack is unwound: with the round of input,
  /// else by itself. The first reason counts.
  void end(const Fault& fault) {
    if (due) return;
    due = fault;
    transport.dispatcher().post([this, guard = guard()] {
      if (!guard.expired()) endNow(*due);
    });
  }

  /// Hands what has gathered to the transport.
  void flush() {
    if (packetsOut > 0) counters().packetsSent.add(std::exchange(packetsOut, 0));
    if (out.size() == 0) return;
    transport.send(out.view());
    out.clear();
  }
  /// Encodes a packet. False: the peer takes none as large [MQTT-3.1.2-24], and gets none.
  template <class Encode>
  bool offer(Encode&& encodeIt) {
    const size_t before = out.size();
    encodeIt(out);
    if (out.size() - before > clientMaxPacket) {
      std::string fitting = out.take();
      fitting.resize(before);
      out = ByteWriter(std::move(fitting));
      return false;
    }
    ++packetsOut;
    return true;
  }
  bool offerPacket(const Packet& packet) {
    if (!offer([&](ByteWriter& w) { encode(w, version, packet); })) return false;
    trace(false, packet);
    return true;
  }
  /// An answer to something the peer sent. Those are counted while it doesn't read them. False: it
  /// didn't go out, and the connection ends.
  template <class Encode>
  bool answer(Encode&& encodeIt) {
    if (due) return false;
    const size_t before = out.size();
    if (!offer(encodeIt)) {
      end(bridge == nullptr
              ? Fault{ReasonCode::kPacketTooLarge,
                      "the client takes no packet as large as an answer"}
              : Fault{ReasonCode::kImplementationError,
                      "the remote broker takes no packet as large as one that is due to it: raise "
                      "the largest packet that it takes"});
      return false;
    }
    if (transport.congested()) unreadAnswers += out.size() - before;
    if (out.size() >= kOutputChunk) flush();
    return true;
  }
  void answerAck(PacketType type, uint16_t packetId, ReasonCode code = ReasonCode::kSuccess) {
    if (!answer([&](ByteWriter& w) { encodeAck(w, version, type, packetId, code); })) return;
    if (traced()) trace(false, AckPacket{type, packetId, code, {}});
  }
  /// Why something was refused, as it may be told; empty: the client isn't to have it, or takes no
  /// packet with it that has `rest` octets beside it (3.4.2.2.2, 3.1.2.11.7).
  std::string reasonFor(std::string why, size_t rest) const {
    // It may quote a name with the mount point, or that rewrites or rules have made of the
    // client's, of which it is to know nothing; or a bridge's own.
    const bool named = !mount.empty() || !options->rewrites.empty() || !options->rules.empty();
    if (version != Version::k5 || !problemInformation || named || bridge != nullptr) return {};
    why.resize(std::min(why.size(), kMaxReason));
    for (char& c : why) {
      if (static_cast<unsigned char>(c) >= 0x80) c = '?';  // may have been cut within a character
    }
    if (kReasonOverhead + why.size() + rest > clientMaxPacket) return {};
    return why;
  }
  void answerPacket(const Packet& packet) {
    if (answer([&](ByteWriter& w) { encode(w, version, packet); })) trace(false, packet);
  }
};

}  // namespace polylog::mqtt
