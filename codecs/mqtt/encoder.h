// Packets to octets, for both versions. Properties are left out of 3.1.1's packets, reason codes
// where 3.1.1 has none. Appends to a buffer that the caller reuses; no state, never fails: texts
// must fit their 65,535 octets, whole packets 256 MiB.
#pragma once

#include "codecs/mqtt/packet.h"
#include "core/base/byte_writer.h"

namespace polylog::mqtt {

/// The whole packet.
void encode(ByteWriter& writer, Version version, const Packet& packet);

/// Octets of the whole PUBLISH, with a payload of `payloadBytes`.
size_t publishSize(Version version, const PublishPacket& packet, size_t payloadBytes);
/// All of a PUBLISH but its payload, which has `payloadBytes` and goes out separately.
void encodePublishHead(ByteWriter& writer, Version version, const PublishPacket& packet,
                       size_t payloadBytes);
/// The short forms that make up most of a connection's answers.
void encodeAck(ByteWriter& writer, Version version, PacketType type, uint16_t packetId,
               ReasonCode code = ReasonCode::kSuccess);

}  // namespace polylog::mqtt
