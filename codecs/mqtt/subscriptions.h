// SUBSCRIBE and UNSUBSCRIBE: filters parsed, handed to the session, answered in the order of the
// entries once they are in force. One of the seams of Session, on its thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "codecs/mqtt/link.h"
#include "codecs/mqtt/packet.h"

namespace polylog::mqtt {

class Subscriptions {
 public:
  explicit Subscriptions(Link& link) : link_(link) {}

  /// `idInUse`: the packet identifier belongs to a publish of the client's.
  std::optional<Fault> subscribe(const SubscribePacket& packet, bool idInUse);
  /// To what the configuration says, once the session is open.
  void subscribeAutomatically();
  std::optional<Fault> unsubscribe(const UnsubscribePacket& packet, bool idInUse);

 private:
  std::string rewritten(BytesView text) const;
  /// `why`: what was wrong with the first that is refused, for clients that want to know.
  void answer(PacketType type, uint16_t packetId, std::vector<ReasonCode> codes,
              std::string why = {});

  Link& link_;
};

}  // namespace polylog::mqtt
