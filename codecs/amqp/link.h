// What the seams of one AMQP connection share: its two ends (transport and broker), what the
// handshake settled, and the octets on their way out, which gather here until the round's work is
// done. On the connection's thread only; owned by Session.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "codecs/amqp/errors.h"
#include "codecs/amqp/frame.h"
#include "codecs/amqp/limits.h"
#include "codecs/amqp/methods.h"
#include "codecs/amqp/options.h"
#include "core/base/byte_writer.h"
#include "core/event/dispatcher.h"
#include "core/model/broker.h"
#include "core/net/transport.h"

namespace polylog::amqp {

class Consumer;

/// Deliveries that were sent while the transport was congested.
struct Unsent {
  int64_t count = 0;
  int64_t octets = 0;
};

struct Link {
  Link(Transport& transportRef, Broker& brokerRef, std::shared_ptr<const AmqpOptions> optionsRef)
      : transport(transportRef), broker(brokerRef), options(std::move(optionsRef)) {}

  Transport& transport;
  Broker& broker;
  std::shared_ptr<const AmqpOptions> options;

  // Settled by the handshake.
  PrincipalRef principal;
  std::string loginName;                ///< as the client says it
  std::unique_ptr<QueueClient> client;  ///< null before it is open and after the end
  uint32_t frameMax = kFrameMin;
  uint16_t channelMax = kChannelMax;
  bool cancelNotify = false;   ///< the client takes basic.cancel
  bool blockedNotify = false;  ///< the client takes connection.blocked
  uint32_t publisherHash = 0;  ///< partition hash of records without a key

  /// Closes the connection over a hard error. Idempotent.
  std::move_only_function<void(const Fault&)> end;
  /// Something that waited is through: reading may go on.
  std::move_only_function<void()> progressed;
  /// Callbacks of the broker's hold a weak reference and do nothing once this is gone.
  std::shared_ptr<char> alive = std::make_shared<char>();

  std::vector<Consumer*> consumers;  ///< on all channels, in no order
  size_t turn = 0;                   ///< which of them may go first
  DeliveryFlightRef flight = std::make_shared<DeliveryFlight>(kMaxInFlight, kMaxOctetsInFlight);
  Unsent unsent;               ///< in `flight`
  size_t unfinishedBytes = 0;  ///< of contents that have begun to come
  /// Octets of answers sent since the transport became congested.
  size_t unreadAnswers = 0;
  bool sentSince = false;  ///< anything, since the heartbeat last looked

  /// Where frames are encoded to.
  ByteWriter out;

  /// The transport has all that was sent: deliveries may go on.
  void deliveriesSent();
  /// Consumers that were refused for windows or `flight` may try again.
  void resumeConsumers();

  std::weak_ptr<char> guard() const { return alive; }
  bool open() const { return client != nullptr; }
  int64_t wallMillis() const { return transport.dispatcher().clock().wallMillis(); }

  /// Hands what has gathered to the transport.
  void flush() {
    if (out.size() == 0) return;
    sentSince = true;
    transport.send(out.view());
    if (out.size() > 4 * kOutputChunk) out = ByteWriter();  // most connections are idle
    out.clear();
  }
  void flushIfLarge() {
    if (out.size() >= kOutputChunk) flush();
  }
  /// A method's frame.
  template <class M>
  void encodeMethod(uint16_t channel, const M& method) {
    const size_t at = beginFrame(FrameType::kMethod, channel, out);
    encode(method, out);
    endFrame(at, out);
  }
  /// A method that answers something the peer sent. Those are counted while it doesn't read them.
  template <class M>
  void answer(uint16_t channel, const M& method) {
    const size_t before = out.size();
    encodeMethod(channel, method);
    countAnswer(out.size() - before);
    flushIfLarge();
  }
  void countAnswer(size_t octets) {
    if (transport.congested()) unreadAnswers += octets;
  }
};

}  // namespace polylog::amqp
