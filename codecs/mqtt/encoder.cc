#include "codecs/mqtt/encoder.h"

namespace polylog::mqtt {
namespace {

void header(ByteWriter& writer, PacketType type, unsigned flags, size_t length) {
  writer.u8(static_cast<uint8_t>(static_cast<unsigned>(type) << 4 | flags));
  writer.varuint(length);
}

/// Length and properties in 5.0, nothing in 3.1.1.
size_t blockSize(Version version, const Properties& properties) {
  if (version != Version::k5) return 0;
  const size_t size = propertiesSize(properties);
  return varintSize(size) + size;
}

void block(ByteWriter& writer, Version version, const Properties& properties) {
  if (version == Version::k5) writeProperties(writer, properties);
}

size_t publishLength(Version version, const PublishPacket& packet, size_t payloadBytes) {
  return 2 + packet.topic.size() + (packet.qos > 0 ? 2U : 0U) +
         blockSize(version, packet.properties) + payloadBytes;
}

struct Writer {
  ByteWriter& out;
  Version version;

  void operator()(const PublishPacket& packet) const {
    encodePublishHead(out, version, packet, packet.payload.size());
    out.bytes(packet.payload);
  }

  void operator()(const AckPacket& packet) const {
    if (version == Version::k311 || packet.properties.empty()) {
      encodeAck(out, version, packet.type, packet.packetId, packet.code);
      return;
    }
    header(out, packet.type, packet.type == PacketType::kPubrel ? 2 : 0,
           3 + blockSize(version, packet.properties));
    out.u16(packet.packetId);
    out.u8(static_cast<uint8_t>(packet.code));
    block(out, version, packet.properties);
  }

  void operator()(const PingPacket& packet) const { header(out, packet.type, 0, 0); }

  void operator()(const ConnectPacket& packet) const {
    const BytesView name = packet.is31() ? "MQIsdp" : "MQTT";
    size_t length =
        6 + name.size() + blockSize(version, packet.properties) + 2 + packet.clientId.size();
    unsigned flags = packet.cleanStart ? 2 : 0;
    if (packet.will) {
      length += blockSize(version, packet.will->properties) + 4 + packet.will->topic.size() +
                packet.will->payload.size();
      flags |=
          4U | static_cast<unsigned>(packet.will->qos) << 3 | (packet.will->retain ? 0x20U : 0U);
    }
    if (packet.username) {
      length += 2 + packet.username->size();
      flags |= 0x80U;
    }
    if (packet.password) {
      length += 2 + packet.password->size();
      flags |= 0x40U;
    }
    header(out, PacketType::kConnect, 0, length);
    out.bytes16(name);
    const unsigned level = packet.is31() ? 3 : static_cast<unsigned>(version);
    out.u8(static_cast<uint8_t>(level | (packet.bridge ? 0x80U : 0U)));
    out.u8(static_cast<uint8_t>(flags));
    out.u16(packet.keepAliveSeconds);
    block(out, version, packet.properties);
    out.bytes16(packet.clientId);
    if (packet.will) {
      block(out, version, packet.will->properties);
      out.bytes16(packet.will->topic);
      out.bytes16(packet.will->payload);
    }
    if (packet.username) out.bytes16(*packet.username);
    if (packet.password) out.bytes16(*packet.password);
  }

  void operator()(const ConnackPacket& packet) const {
    header(out, PacketType::kConnack, 0, 2 + blockSize(version, packet.properties));
    out.u8(packet.sessionPresent ? 1 : 0);
    out.u8(packet.code);
    block(out, version, packet.properties);
  }

  void operator()(const SubscribePacket& packet) const {
    size_t length = 2 + blockSize(version, packet.properties);
    for (const SubscribeEntry& entry : packet.entries) length += 3 + entry.filter.size();
    header(out, PacketType::kSubscribe, 2, length);
    out.u16(packet.packetId);
    block(out, version, packet.properties);
    for (const SubscribeEntry& entry : packet.entries) {
      out.bytes16(entry.filter);
      unsigned options = entry.qos;
      if (version == Version::k5) {
        options |= (entry.noLocal ? 4U : 0U) | (entry.retainAsPublished ? 8U : 0U) |
                   static_cast<unsigned>(entry.retainHandling) << 4;
      }
      out.u8(static_cast<uint8_t>(options));
    }
  }

  void operator()(const UnsubscribePacket& packet) const {
    size_t length = 2 + blockSize(version, packet.properties);
    for (BytesView filter : packet.filters) length += 2 + filter.size();
    header(out, PacketType::kUnsubscribe, 2, length);
    out.u16(packet.packetId);
    block(out, version, packet.properties);
    for (BytesView filter : packet.filters) out.bytes16(filter);
  }

  void operator()(const SubackPacket& packet) const {
    const bool bare = version == Version::k311 && packet.type == PacketType::kUnsuback;
    header(out, packet.type, 0,
           2 + blockSize(version, packet.properties) + (bare ? 0 : packet.codes.size()));
    out.u16(packet.packetId);
    block(out, version, packet.properties);
    if (bare) return;
    for (ReasonCode code : packet.codes) out.u8(static_cast<uint8_t>(code));
  }

  void operator()(const DisconnectPacket& packet) const {
    if (version == Version::k311) {
      header(out, PacketType::kDisconnect, 0, 0);
      return;
    }
    reason(PacketType::kDisconnect, packet.code, packet.properties);
  }

  void operator()(const AuthPacket& packet) const {
    reason(PacketType::kAuth, packet.code, packet.properties);
  }

  void reason(PacketType type, ReasonCode code, const Properties& properties) const {
    const bool brief = properties.empty();
    if (brief && code == ReasonCode::kSuccess) {
      header(out, type, 0, 0);
      return;
    }
    header(out, type, 0, 1 + (brief ? 0 : blockSize(version, properties)));
    out.u8(static_cast<uint8_t>(code));
    if (!brief) block(out, version, properties);
  }
};

}  // namespace

void encode(ByteWriter& writer, Version version, const Packet& packet) {
  std::visit(Writer{writer, version}, packet);
}

size_t publishSize(Version version, const PublishPacket& packet, size_t payloadBytes) {
  const size_t length = publishLength(version, packet, payloadBytes);
  return 1 + varintSize(length) + length;
}

void encodePublishHead(ByteWriter& writer, Version version, const PublishPacket& packet,
                       size_t payloadBytes) {
  header(
      writer, PacketType::kPublish,
      (packet.dup ? 8U : 0U) | static_cast<unsigned>(packet.qos) << 1 | (packet.retain ? 1U : 0U),
      publishLength(version, packet, payloadBytes));
  writer.bytes16(packet.topic);
  if (packet.qos > 0) writer.u16(packet.packetId);
  block(writer, version, packet.properties);
}

void encodeAck(ByteWriter& writer, Version version, PacketType type, uint16_t packetId,
               ReasonCode code) {
  const bool brief = version == Version::k311 || code == ReasonCode::kSuccess;
  header(writer, type, type == PacketType::kPubrel ? 2 : 0, brief ? 2 : 3);
  writer.u16(packetId);
  if (!brief) writer.u8(static_cast<uint8_t>(code));
}

}  // namespace polylog::mqtt
