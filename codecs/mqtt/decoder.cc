#include "codecs/mqtt/decoder.h"

#include <algorithm>
#include <utility>

#include "codecs/mqtt/limits.h"
#include "core/base/byte_reader.h"
#include "mapping/address.h"

namespace polylog::mqtt {
namespace {

using MaybeFault = std::optional<Fault>;

Fault malformed(const char* what) {
  return {ReasonCode::kMalformedPacket, what};
}
Fault protocolError(const char* what) {
  return {ReasonCode::kProtocolError, what};
}

constexpr uint32_t bit(PacketType type) {
  return uint32_t{1} << static_cast<unsigned>(type);
}

// Table 2-1, "direction of flow".
constexpr uint32_t kBothWays = bit(PacketType::kPublish) | bit(PacketType::kPuback) |
                               bit(PacketType::kPubrec) | bit(PacketType::kPubrel) |
                               bit(PacketType::kPubcomp) | bit(PacketType::kDisconnect) |
                               bit(PacketType::kAuth);
constexpr uint32_t kToServer = kBothWays | bit(PacketType::kConnect) | bit(PacketType::kSubscribe) |
                               bit(PacketType::kUnsubscribe) | bit(PacketType::kPingreq);
constexpr uint32_t kToClient = kBothWays | bit(PacketType::kConnack) | bit(PacketType::kSuback) |
                               bit(PacketType::kUnsuback) | bit(PacketType::kPingresp);

/// The flags that section 2.1.3 fixes; PUBLISH has its own.
uint8_t fixedFlags(PacketType type) {
  return type == PacketType::kPubrel || type == PacketType::kSubscribe ||
                 type == PacketType::kUnsubscribe
             ? 2
             : 0;
}

BytesView readText(ByteReader& reader) {
  BytesView text = reader.bytes16();
  if (!mapping::isText(text)) reader.fail();
  return text;
}

bool hasWildcard(BytesView topic) {
  return std::any_of(topic.begin(), topic.end(), [](char c) { return c == '+' || c == '#'; });
}

MaybeFault checkResponseTopic(const Properties& properties) {
  const auto topic = properties.text(PropertyId::kResponseTopic);
  if (topic && (topic->empty() || hasWildcard(*topic))) {
    return protocolError("response topic is not a topic name");
  }
  return std::nullopt;
}

MaybeFault readId(ByteReader& reader, uint16_t& id) {
  id = reader.u16();
  if (reader.ok() && id == 0) return protocolError("packet identifier 0");
  return std::nullopt;
}

MaybeFault readPropertiesIf5(ByteReader& reader, Version version, PacketType type,
                             Properties& out) {
  if (version != Version::k5) return std::nullopt;
  return readProperties(reader, scopeOf(type), out);
}

MaybeFault decodeWill(ByteReader& reader, Version version, uint8_t flags, ConnectPacket& packet) {
  WillFields will;
  will.qos = static_cast<uint8_t>(flags >> 3 & 3U);
  will.retain = (flags & 0x20U) != 0;
  if (version == Version::k5) {
    if (auto fault = readProperties(reader, PropertyScope::kWill, will.properties)) return fault;
    if (auto fault = checkResponseTopic(will.properties)) return fault;
  }
  will.topic = readText(reader);
  will.payload = reader.bytes16();
  if (!reader.ok()) return malformed("will cut short or not UTF-8");
  if (will.topic.empty()) return malformed("empty will topic");
  if (hasWildcard(will.topic))
    return Fault{ReasonCode::kTopicNameInvalid, "wildcard in will topic"};
  packet.will = std::move(will);
  return std::nullopt;
}

/// The level without the bit that says that a bridge connects, if it is one that is served.
uint8_t levelOf(uint8_t octet, bool& bridge) {
  const auto level = static_cast<uint8_t>(octet & 0x7FU);
  bridge = octet != level && level >= 3 && level <= 5;
  return bridge ? level : octet;
}

MaybeFault decodeConnect(BytesView body, ConnectPacket& packet) {
  ByteReader reader(body);
  const BytesView name = reader.bytes16();
  packet.level = levelOf(reader.u8(), packet.bridge);
  if (!reader.ok()) return malformed("CONNECT cut short");
  packet.nameKnown = name == "MQTT" || name == "MQIsdp";
  if (!packet.readable()) return std::nullopt;
  if (packet.is31() != (name == "MQIsdp")) {
    packet.level = 0;
    return std::nullopt;
  }
  const Version version = packet.version();
  const uint8_t flags = reader.u8();
  packet.keepAliveSeconds = reader.u16();
  const bool hasWill = (flags & 4U) != 0;
  const bool hasUsername = (flags & 0x80U) != 0;
  const bool hasPassword = (flags & 0x40U) != 0;
  packet.cleanStart = (flags & 2U) != 0;
  if (!reader.ok()) return malformed("CONNECT cut short");
  // 3.1 says nothing of that bit.
  if ((flags & 1U) != 0 && !packet.is31()) return malformed("reserved CONNECT flag");
  if (!hasWill && (flags & 0x38U) != 0) return malformed("will flags without a will");
  if ((flags >> 3 & 3U) == 3) return malformed("will QoS 3");
  if (version == Version::k311 && hasPassword && !hasUsername) {
    return malformed("password without user name");
  }
  if (auto fault = readPropertiesIf5(reader, version, PacketType::kConnect, packet.properties)) {
    return fault;
  }
  packet.clientId = readText(reader);
  if (!reader.ok()) return malformed("client identifier");
  if (hasWill) {
    if (auto fault = decodeWill(reader, version, flags, packet)) return fault;
  }
  // 3.1: "it is valid for this flag to be set and no username included".
  if (packet.is31() && reader.ok() && reader.remaining() == 0) return std::nullopt;
  if (hasUsername) packet.username = readText(reader);
  if (hasPassword) packet.password = reader.bytes16();
  if (!reader.complete()) return malformed("CONNECT payload");
  return std::nullopt;
}

MaybeFault decodeConnack(BytesView body, Version version, ConnackPacket& packet) {
  ByteReader reader(body);
  const uint8_t flags = reader.u8();
  packet.sessionPresent = flags == 1;
  packet.code = reader.u8();
  if (auto fault = readPropertiesIf5(reader, version, PacketType::kConnack, packet.properties)) {
    return fault;
  }
  if (!reader.complete() || flags > 1) return malformed("CONNACK");
  return std::nullopt;
}

MaybeFault decodePublish(BytesView body, Version version, Side side, uint8_t flags,
                         PublishPacket& packet) {
  packet.retain = (flags & 1U) != 0;
  packet.qos = static_cast<uint8_t>(flags >> 1 & 3U);
  packet.dup = (flags & 8U) != 0;
  if (packet.qos == 3) return malformed("QoS 3");
  if (packet.dup && packet.qos == 0) return malformed("DUP at QoS 0");
  ByteReader reader(body);
  packet.topic = readText(reader);
  if (!reader.ok()) return malformed("topic name cut short or not UTF-8");
  if (packet.qos > 0) {
    if (auto fault = readId(reader, packet.packetId)) return fault;
  }
  if (!reader.ok()) return malformed("PUBLISH cut short");
  if (version == Version::k5) {
    if (auto fault = readProperties(reader, scopeOf(PacketType::kPublish), packet.properties)) {
      return fault;
    }
    if (side == Side::kServer && packet.properties.has(PropertyId::kSubscriptionId)) {
      return protocolError("subscription identifier from a client");
    }
    if (auto fault = checkResponseTopic(packet.properties)) return fault;
  }
  if (packet.topic.empty() && !packet.properties.has(PropertyId::kTopicAlias)) {
    return protocolError("empty topic name");
  }
  if (hasWildcard(packet.topic)) return Fault{ReasonCode::kTopicNameInvalid, "wildcard in topic"};
  packet.payload = reader.rest();
  return std::nullopt;
}

/// The reason codes of the packets that a client may send, as the tables of 3.4 to 3.7, 3.14 and
/// 3.15 have them; of DISCONNECT also the server's own.
bool hasReason(PacketType type, uint8_t code) {
  switch (type) {
    case PacketType::kPuback:
    case PacketType::kPubrec:
      return code == 0 || code == 0x10 || code == 0x80 || code == 0x83 || code == 0x87 ||
             code == 0x90 || code == 0x91 || code == 0x97 || code == 0x99;
    case PacketType::kPubrel:
    case PacketType::kPubcomp: return code == 0 || code == 0x92;
    case PacketType::kDisconnect:
      return code == 0 || code == 0x04 || (code >= 0x80 && code <= 0x83) || code == 0x87 ||
             code == 0x89 || code == 0x8B || (code >= 0x8D && code <= 0x90) ||
             (code >= 0x93 && code <= 0xA2);
    case PacketType::kAuth: return code == 0 || code == 0x18 || code == 0x19;
    default: return true;
  }
}

MaybeFault readReason(ByteReader& reader, PacketType type, ReasonCode& code) {
  const uint8_t octet = reader.u8();
  if (!hasReason(type, octet)) return protocolError("a reason code that the packet doesn't have");
  code = static_cast<ReasonCode>(octet);
  return std::nullopt;
}

MaybeFault decodeAck(BytesView body, Version version, AckPacket& packet) {
  ByteReader reader(body);
  if (auto fault = readId(reader, packet.packetId)) return fault;
  if (version == Version::k5 && reader.remaining() > 0) {
    if (auto fault = readReason(reader, packet.type, packet.code)) return fault;
    if (reader.remaining() > 0) {
      if (auto fault = readProperties(reader, scopeOf(packet.type), packet.properties)) {
        return fault;
      }
    }
  }
  if (!reader.complete()) return malformed("acknowledgement of a wrong length");
  return std::nullopt;
}

MaybeFault decodeEntryOptions(uint8_t octet, Version version, SubscribeEntry& entry) {
  entry.qos = octet & 3U;
  if (entry.qos == 3) {
    return version == Version::k5 ? protocolError("subscription QoS 3")
                                  : malformed("subscription QoS 3");
  }
  if (version == Version::k311) {
    return octet > 2 ? MaybeFault(malformed("reserved subscription bits")) : std::nullopt;
  }
  entry.noLocal = (octet & 4U) != 0;
  entry.retainAsPublished = (octet & 8U) != 0;
  entry.retainHandling = static_cast<uint8_t>(octet >> 4 & 3U);
  if ((octet & 0xC0U) != 0) return malformed("reserved subscription bits");
  if (entry.retainHandling == 3) return protocolError("retain handling 3");
  return std::nullopt;
}

MaybeFault decodeSubscribe(BytesView body, Version version, SubscribePacket& packet) {
  ByteReader reader(body);
  if (auto fault = readId(reader, packet.packetId)) return fault;
  if (auto fault = readPropertiesIf5(reader, version, PacketType::kSubscribe, packet.properties)) {
    return fault;
  }
  // Repeatable in PUBLISH only.
  size_t ids = 0;
  for (const Property& item : packet.properties.items()) {
    if (item.id == PropertyId::kSubscriptionId && ++ids > 1) {
      return protocolError("property given twice");
    }
  }
  while (reader.remaining() > 0) {
    SubscribeEntry entry;
    entry.filter = readText(reader);
    const uint8_t options = reader.u8();
    if (!reader.ok() || entry.filter.empty()) return malformed("topic filter");
    if (auto fault = decodeEntryOptions(options, version, entry)) return fault;
    packet.entries.push_back(entry);
  }
  if (!reader.ok()) return malformed("SUBSCRIBE cut short");
  if (packet.entries.empty()) return protocolError("SUBSCRIBE without a filter");
  return std::nullopt;
}

MaybeFault decodeUnsubscribe(BytesView body, Version version, UnsubscribePacket& packet) {
  ByteReader reader(body);
  if (auto fault = readId(reader, packet.packetId)) return fault;
  if (auto fault =
          readPropertiesIf5(reader, version, PacketType::kUnsubscribe, packet.properties)) {
    return fault;
  }
  while (reader.remaining() > 0) {
    const BytesView filter = readText(reader);
    if (!reader.ok() || filter.empty()) return malformed("topic filter");
    packet.filters.push_back(filter);
  }
  if (!reader.ok()) return malformed("UNSUBSCRIBE cut short");
  if (packet.filters.empty()) return protocolError("UNSUBSCRIBE without a filter");
  return std::nullopt;
}

MaybeFault decodeSuback(BytesView body, Version version, SubackPacket& packet) {
  ByteReader reader(body);
  if (auto fault = readId(reader, packet.packetId)) return fault;
  if (auto fault = readPropertiesIf5(reader, version, packet.type, packet.properties)) return fault;
  while (reader.remaining() > 0) packet.codes.push_back(static_cast<ReasonCode>(reader.u8()));
  const bool bare = version == Version::k311 && packet.type == PacketType::kUnsuback;
  if (!reader.ok() || bare != packet.codes.empty()) return malformed("SUBACK");
  return std::nullopt;
}

/// DISCONNECT and AUTH: a reason code and properties, both of which may be left out.
MaybeFault decodeReason(BytesView body, Version version, PacketType type, ReasonCode& code,
                        Properties& properties) {
  ByteReader reader(body);
  if (version == Version::k5 && reader.remaining() > 0) {
    if (auto fault = readReason(reader, type, code)) return fault;
    if (reader.remaining() > 0) {
      if (auto fault = readProperties(reader, scopeOf(type), properties)) return fault;
    }
  }
  if (!reader.complete()) return malformed("a packet of a wrong length");
  return std::nullopt;
}

/// Runs `decode` on a packet built in its place inside the result.
template <class P, class F>
Decoded decodeAs(P initial, size_t total, F&& decode) {
  Decoded result(std::in_place_type<DecodedPacket>, std::move(initial), total);
  if (MaybeFault fault = decode(std::get<P>(std::get<DecodedPacket>(result).packet))) return *fault;
  return result;
}

}  // namespace

std::optional<Version> namedVersion(BytesView input) {
  if (input.empty() || static_cast<uint8_t>(input[0]) >> 4 != 1) return std::nullopt;
  size_t at = 1;
  while (at < input.size() && at < 5 && (static_cast<uint8_t>(input[at]) & 0x80U) != 0) ++at;
  if (at + 1 >= input.size()) return std::nullopt;
  ByteReader reader(input.substr(at + 1));
  const BytesView name = reader.bytes16();
  bool bridge = false;
  const uint8_t level = levelOf(reader.u8(), bridge);
  if (reader.ok() && name == "MQIsdp" && level == 3) return Version::k311;
  if (name != "MQTT" || !reader.ok() || (level != 4 && level != 5)) return std::nullopt;
  return static_cast<Version>(level);
}

Decoded Decoder::next(BytesView input) const {
  if (input.empty()) return NeedMore{};
  const uint8_t first = static_cast<uint8_t>(input[0]);
  const auto type = static_cast<PacketType>(first >> 4);
  const uint8_t flags = first & 0x0FU;

  // Remaining Length (2.1.4). Longer forms than needed are let pass: some devices pad it.
  size_t length = 0;
  size_t at = 1;
  for (;; ++at) {
    if (at > 4) return malformed("remaining length");
    if (at >= input.size()) {
      // Enough to turn away what is no MQTT at all.
      if (auto fault = checkHeader(type, flags, 0)) return *fault;
      return NeedMore{};
    }
    const uint8_t octet = static_cast<uint8_t>(input[at]);
    length |= static_cast<size_t>(octet & 0x7FU) << (7 * (at - 1));
    if ((octet & 0x80U) == 0) break;
  }
  const size_t header = at + 1;
  const size_t total = header + length;
  if (auto fault = checkHeader(type, flags, total)) return *fault;
  if (input.size() < total) return NeedMore{total};
  return decodeBody(type, flags, input.substr(header, length), total);
}

std::optional<Fault> Decoder::checkHeader(PacketType type, uint8_t flags, size_t total) const {
  if (!version_ && side_ == Side::kServer && type != PacketType::kConnect) {
    return protocolError("the first packet is not CONNECT");
  }
  if (static_cast<uint8_t>(type) == 0) return malformed("packet type 0");
  if (type == PacketType::kAuth && version_ != Version::k5) {
    return protocolError("AUTH in MQTT 3.1.1");
  }
  const uint32_t allowed = side_ == Side::kServer ? kToServer : kToClient;
  if ((allowed & bit(type)) == 0) return protocolError("packet of the other direction");
  if (version_ && type == PacketType::kConnect) return protocolError("second CONNECT");
  if (type != PacketType::kPublish && flags != fixedFlags(type)) return malformed("header flags");
  if (total > maxPacketBytes_) return Fault{ReasonCode::kPacketTooLarge, "packet too large"};
  if (type == PacketType::kConnect && total > kMaxConnectBytes) {
    return Fault{ReasonCode::kPacketTooLarge, "CONNECT too large"};
  }
  if (type != PacketType::kPublish && total > kMaxControlBytes) {
    return Fault{ReasonCode::kQuotaExceeded, "control packet too large"};
  }
  return std::nullopt;
}

Decoded Decoder::decodeBody(PacketType type, uint8_t flags, BytesView body, size_t total) const {
  const Version version = version_.value_or(Version::k311);
  switch (type) {
    case PacketType::kPublish:
      return decodeAs(PublishPacket{}, total, [&](PublishPacket& packet) {
        return decodePublish(body, version, side_, flags, packet);
      });
    case PacketType::kPuback:
    case PacketType::kPubrec:
    case PacketType::kPubrel:
    case PacketType::kPubcomp:
      return decodeAs(AckPacket{type, 0, {}, {}}, total,
                      [&](AckPacket& packet) { return decodeAck(body, version, packet); });
    case PacketType::kConnect:
      return decodeAs(ConnectPacket{}, total,
                      [&](ConnectPacket& packet) { return decodeConnect(body, packet); });
    case PacketType::kConnack:
      return decodeAs(ConnackPacket{}, total,
                      [&](ConnackPacket& packet) { return decodeConnack(body, version, packet); });
    case PacketType::kSubscribe:
      return decodeAs(SubscribePacket{}, total, [&](SubscribePacket& packet) {
        return decodeSubscribe(body, version, packet);
      });
    case PacketType::kUnsubscribe:
      return decodeAs(UnsubscribePacket{}, total, [&](UnsubscribePacket& packet) {
        return decodeUnsubscribe(body, version, packet);
      });
    case PacketType::kSuback:
    case PacketType::kUnsuback:
      return decodeAs(SubackPacket{type, 0, {}, {}}, total,
                      [&](SubackPacket& packet) { return decodeSuback(body, version, packet); });
    case PacketType::kDisconnect:
      return decodeAs(DisconnectPacket{}, total, [&](DisconnectPacket& packet) {
        return decodeReason(body, version, PacketType::kDisconnect, packet.code, packet.properties);
      });
    case PacketType::kPingreq:
    case PacketType::kPingresp:
      if (!body.empty()) return malformed("ping with a body");
      return DecodedPacket{PingPacket{type}, total};
    case PacketType::kAuth:
      return decodeAs(AuthPacket{}, total, [&](AuthPacket& packet) {
        return decodeReason(body, version, PacketType::kAuth, packet.code, packet.properties);
      });
  }
  return malformed("packet type");
}

}  // namespace polylog::mqtt
