// Deliveries on their way out: pulled from the session as far as the client's window and the
// transport's watermark admit, encoded, and followed until the client has acknowledged them. One of
// the seams of Session, on its thread. Never holds a payload: what is in flight is an octet an id.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "codecs/mqtt/in_flight.h"
#include "codecs/mqtt/link.h"
#include "codecs/mqtt/outbound_aliases.h"
#include "codecs/mqtt/packet.h"

namespace polylog::mqtt {

class OutboundDeliveries {
 public:
  explicit OutboundDeliveries(Link& link) : link_(link) {}

  /// The session is open and the client's limits are known.
  void open();
  /// Takes and sends what may be.
  void pump();
  /// PUBACK, PUBREC or PUBCOMP. An acknowledgement makes room: pump() at the end of the round.
  std::optional<Fault> onAck(const AckPacket& packet);

 private:
  struct Workspace;

  static Workspace& workspace();
  TakeLimits limits() const;
  InFlight& laneOf(int64_t id) { return id >= kSharedIds ? shared_ : own_; }
  void send(const Delivery& delivery, int64_t nowMs);
  void sendRelease(int64_t id);
  bool name(const Delivery& delivery);
  void alias(PublishPacket& packet, size_t payloadBytes);
  void write(const Delivery& delivery, BytesView payload);
  void addPlace(const LogPlace& place, int64_t timestampMs);
  bool fillProperties(const Delivery& delivery, int64_t nowMs);
  void drop(const Delivery& delivery);
  void finish(int64_t id);
  std::optional<Fault> onPubrec(const AckPacket& packet, std::optional<int64_t> id);
  void accepted(int64_t id, const Result<>& result);

  Link& link_;
  InFlight own_{1, kOwnPacketIds};
  InFlight shared_{kOwnPacketIds + 1, kSharedPacketIds};
  bool sharedTurn_ = false;  ///< who may use what is left of the window
  int64_t window_ = 1;
  std::unique_ptr<OutboundAliases> aliases_;  ///< once one has been given
};

}  // namespace polylog::mqtt
