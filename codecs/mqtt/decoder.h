// Octets to packets, for both versions and both sides. Every call looks at the front of the input
// and says one of three: need more, a packet, a fault. Zero-copy: packets hold views into the
// input. Checks all that can be judged from the packet alone; what depends on the session's state
// (aliases, quotas, ids in use) is the session's. Allocates only lists that the octets in hand can
// justify.
#pragma once

#include <cstddef>
#include <optional>
#include <variant>

#include "codecs/mqtt/packet.h"
#include "core/base/bytes.h"

namespace polylog::mqtt {

struct NeedMore {
  size_t total = 0;  ///< octets of the whole packet, 0 = not known yet
};

struct DecodedPacket {
  Packet packet;
  size_t size = 0;  ///< octets used up
};

using Decoded = std::variant<NeedMore, DecodedPacket, Fault>;

/// Who reads: a server gets CONNECT and SUBSCRIBE, a client CONNACK and SUBACK.
enum class Side : uint8_t { kServer, kClient };

/// The version that the CONNECT at the front of `input` names, whole or not and however broken, so
/// that a fault in it can be told in that version's words. Nothing if it can't be seen.
std::optional<Version> namedVersion(BytesView input);

class Decoder {
 public:
  /// `maxPacketBytes`: a packet larger than this, header included, is a fault. A server's decoder
  /// takes nothing but CONNECT until use() is called.
  Decoder(Side side, size_t maxPacketBytes) : side_(side), maxPacketBytes_(maxPacketBytes) {}

  /// The version that CONNECT has settled.
  void use(Version version) { version_ = version; }

  Decoded next(BytesView input) const;

 private:
  std::optional<Fault> checkHeader(PacketType type, uint8_t flags, size_t total) const;
  Decoded decodeBody(PacketType type, uint8_t flags, BytesView body, size_t total) const;

  Side side_;
  size_t maxPacketBytes_;
  std::optional<Version> version_;
};

}  // namespace polylog::mqtt
