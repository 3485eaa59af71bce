#include "codecs/mqtt/decoder.h"

#include <gtest/gtest.h>

#include <string>

#include "codecs/mqtt/encoder.h"
#include "codecs/mqtt/limits.h"

namespace polylog::mqtt {
namespace {

constexpr size_t kLargest = 1 << 20;

std::string encoded(Version version, const Packet& packet) {
  ByteWriter writer;
  encode(writer, version, packet);
  return writer.take();
}

Decoder decoderFor(Side side, std::optional<Version> version) {
  Decoder decoder(side, kLargest);
  if (version) decoder.use(*version);
  return decoder;
}

/// Decodes and encodes again: octets must be the same. Every proper prefix must need more.
template <class P>
P roundTrip(Side side, Version version, const P& packet, bool connected = true) {
  const std::string wire = encoded(version, packet);
  Decoder decoder = decoderFor(side, connected ? std::optional(version) : std::nullopt);
  for (size_t cut = 0; cut < wire.size(); ++cut) {
    EXPECT_TRUE(std::holds_alternative<NeedMore>(decoder.next(BytesView(wire).substr(0, cut))))
        << "cut at " << cut;
  }
  // The result's views point into it.
  static std::string kept;
  kept = wire + "more";
  Decoded decoded = decoder.next(kept);
  auto* whole = std::get_if<DecodedPacket>(&decoded);
  if (whole == nullptr) {
    ADD_FAILURE() << std::get<Fault>(decoded).what;
    return P{};
  }
  EXPECT_EQ(whole->size, wire.size());
  EXPECT_EQ(encoded(version, whole->packet), wire);
  return std::get<P>(whole->packet);
}

Properties manyProperties() {
  Properties properties;
  properties.add(PropertyId::kUserProperty, "a", "1");
  properties.add(PropertyId::kUserProperty, "a", "");
  properties.add(PropertyId::kUserProperty, "", "2");
  return properties;
}

class BothVersions : public testing::TestWithParam<Version> {};
INSTANTIATE_TEST_SUITE_P(Versions, BothVersions, testing::Values(Version::k311, Version::k5));

TEST_P(BothVersions, ConnectWithEverything) {
  ConnectPacket packet;
  packet.level = static_cast<uint8_t>(GetParam());
  packet.cleanStart = false;
  packet.keepAliveSeconds = 77;
  packet.clientId = "client";
  packet.will = WillFields{"will/topic", BytesView("pay\0load", 8), 2, true, {}};
  packet.username = "me";
  packet.password = BytesView("\0\1\xff", 3);
  if (GetParam() == Version::k5) {
    packet.properties.add(PropertyId::kSessionExpiry, 3600);
    packet.properties.add(PropertyId::kReceiveMaximum, 10);
    packet.properties.add(PropertyId::kMaximumPacketSize, 1000);
    packet.properties.add(PropertyId::kTopicAliasMaximum, 0);
    packet.properties.add(PropertyId::kRequestProblemInfo, 0);
    packet.will->properties.add(PropertyId::kWillDelay, 5);
    packet.will->properties.add(PropertyId::kContentType, "text/plain");
  }
  ConnectPacket back = roundTrip(Side::kServer, GetParam(), packet, false);
  EXPECT_EQ(back.version(), GetParam());
  EXPECT_FALSE(back.cleanStart);
  EXPECT_EQ(back.keepAliveSeconds, 77);
  EXPECT_EQ(back.clientId, "client");
  ASSERT_TRUE(back.will);
  EXPECT_EQ(back.will->payload.size(), 8U);
  EXPECT_EQ(back.will->qos, 2);
  EXPECT_TRUE(back.will->retain);
  EXPECT_EQ(back.username, "me");
  EXPECT_EQ(back.password->size(), 3U);
}

TEST_P(BothVersions, Publish) {
  for (uint8_t qos = 0; qos <= 2; ++qos) {
    PublishPacket packet;
    packet.topic = "a/\xC3\xA4";
    packet.payload = BytesView("\0x", 2);
    packet.qos = qos;
    packet.packetId = qos > 0 ? 65535 : 0;
    packet.retain = true;
    packet.dup = qos > 0;
    if (GetParam() == Version::k5) {
      packet.properties = manyProperties();
      packet.properties.add(PropertyId::kPayloadFormat, 1);
      packet.properties.add(PropertyId::kCorrelationData, BytesView("\0\xff", 2));
      packet.properties.add(PropertyId::kTopicAlias, 3);
    }
    PublishPacket back = roundTrip(Side::kServer, GetParam(), packet);
    EXPECT_EQ(back.topic, packet.topic);
    EXPECT_EQ(back.payload, packet.payload);
    EXPECT_EQ(back.packetId, packet.packetId);
    EXPECT_EQ(back.properties.items().size(), packet.properties.items().size());
  }
}

TEST_P(BothVersions, Acknowledgements) {
  for (PacketType type :
       {PacketType::kPuback, PacketType::kPubrec, PacketType::kPubrel, PacketType::kPubcomp}) {
    AckPacket packet{type, 7, ReasonCode::kSuccess, {}};
    EXPECT_EQ(roundTrip(Side::kServer, GetParam(), packet).packetId, 7);
    if (GetParam() == Version::k311) continue;
    const bool first = type == PacketType::kPuback || type == PacketType::kPubrec;
    packet.code = first ? ReasonCode::kPacketIdInUse : ReasonCode::kPacketIdNotFound;
    EXPECT_EQ(roundTrip(Side::kClient, GetParam(), packet).code, packet.code);
    packet.properties.add(PropertyId::kReasonString, "why");
    EXPECT_EQ(
        roundTrip(Side::kClient, GetParam(), packet).properties.text(PropertyId::kReasonString),
        "why");
  }
}

TEST_P(BothVersions, SubscribeAndUnsubscribe) {
  SubscribePacket packet;
  packet.packetId = 9;
  packet.entries = {{"a/#", 1, false, false, 0}, {"b/+", 2, false, false, 0}};
  if (GetParam() == Version::k5) {
    packet.entries.push_back({"c", 0, true, true, 2});
    packet.properties.add(PropertyId::kSubscriptionId, 268435455);
  }
  SubscribePacket back = roundTrip(Side::kServer, GetParam(), packet);
  EXPECT_EQ(back.entries.size(), packet.entries.size());
  EXPECT_EQ(back.entries[1].qos, 2);
  if (GetParam() == Version::k5) {
    EXPECT_TRUE(back.entries[2].noLocal);
    EXPECT_TRUE(back.entries[2].retainAsPublished);
    EXPECT_EQ(back.entries[2].retainHandling, 2);
  }
  UnsubscribePacket unsubscribe{10, {}, {"a/#", "b/+"}};
  EXPECT_EQ(roundTrip(Side::kServer, GetParam(), unsubscribe).filters.size(), 2U);
}

TEST_P(BothVersions, WhatServersSend) {
  ConnackPacket connack;
  connack.sessionPresent = true;
  if (GetParam() == Version::k5) connack.properties.add(PropertyId::kAssignedClientId, "x");
  EXPECT_TRUE(roundTrip(Side::kClient, GetParam(), connack).sessionPresent);
  SubackPacket suback{PacketType::kSuback, 3, {}, {ReasonCode::kGrantedQos2}};
  EXPECT_EQ(roundTrip(Side::kClient, GetParam(), suback).codes.size(), 1U);
  SubackPacket unsuback{PacketType::kUnsuback, 3, {}, {}};
  if (GetParam() == Version::k5) unsuback.codes = {ReasonCode::kNoSubscriptionExisted};
  EXPECT_EQ(roundTrip(Side::kClient, GetParam(), unsuback).packetId, 3);
  roundTrip(Side::kClient, GetParam(), PingPacket{PacketType::kPingresp});
  roundTrip(Side::kServer, GetParam(), PingPacket{PacketType::kPingreq});
  DisconnectPacket disconnect;
  roundTrip(Side::kServer, GetParam(), disconnect);
  if (GetParam() == Version::k311) return;
  disconnect.code = ReasonCode::kDisconnectWithWill;
  EXPECT_EQ(roundTrip(Side::kServer, GetParam(), disconnect).code, ReasonCode::kDisconnectWithWill);
  disconnect.properties.add(PropertyId::kSessionExpiry, 1);
  EXPECT_EQ(roundTrip(Side::kServer, GetParam(), disconnect)
                .properties.number(PropertyId::kSessionExpiry),
            1U);
}

// ---- faults
// ----------------------------------------------------------------------------------------

struct Bad {
  const char* name;
  std::optional<Version> version;  ///< nothing: before CONNECT
  std::string wire;
  ReasonCode code;
};

std::string bytes(std::initializer_list<int> octets) {
  std::string out;
  for (int octet : octets) out.push_back(static_cast<char>(octet));
  return out;
}

constexpr auto k3 = Version::k311;
constexpr auto k5 = Version::k5;
constexpr auto kMalformed = ReasonCode::kMalformedPacket;
constexpr auto kProtocol = ReasonCode::kProtocolError;

const std::string kConnectHead3 = bytes({0, 4, 'M', 'Q', 'T', 'T', 4});
const std::string kConnectHead5 = bytes({0, 4, 'M', 'Q', 'T', 'T', 5});

std::string frame(int first, std::string body) {
  return bytes({first, static_cast<int>(body.size())}) + body;
}

std::vector<Bad> badPackets() {
  std::string pairs;
  for (size_t i = 0; i <= kMaxUserProperties; ++i) pairs += bytes({0x26, 0, 0, 0, 0});
  ByteWriter crowded;
  crowded.bytes(bytes({0, 1, 'a'}));
  crowded.varuint(pairs.size());
  crowded.bytes(pairs);
  ByteWriter crowdedFrame;
  crowdedFrame.u8(0x30);
  crowdedFrame.varuint(crowded.size());
  crowdedFrame.bytes(crowded.view());
  return {
      {"type 0", k5, bytes({0x00, 0}), kMalformed},
      {"AUTH in 3.1.1", k3, bytes({0xF0, 0}), kProtocol},
      {"first is not CONNECT", {}, bytes({0xC0, 0}), kProtocol},
      {"http", {}, "GET / HTTP/1.1\r\n", kProtocol},
      {"a client's CONNACK", k5, bytes({0x20, 3, 0, 0, 0}), kProtocol},
      {"second CONNECT", k5, bytes({0x10, 0}), kProtocol},
      {"five octets of length", k5, bytes({0x30, 0x80, 0x80, 0x80, 0x80, 1}), kMalformed},
      {"too large", k5, bytes({0x30, 0xFF, 0xFF, 0xFF, 0x7F}), ReasonCode::kPacketTooLarge},
      {"large SUBSCRIBE", k5, bytes({0x82, 0x81, 0x80, 0x20}), ReasonCode::kQuotaExceeded},
      {"large CONNECT", {}, bytes({0x10, 0xFF, 0xFF, 0x7F}), ReasonCode::kPacketTooLarge},
      {"CONNECT flags", {}, bytes({0x11, 0}), kMalformed},
      {"PUBREL flags", k3, bytes({0x60, 2, 0, 1}), kMalformed},
      {"SUBSCRIBE flags", k3, bytes({0x80, 6, 0, 1, 0, 1, 'a', 0}), kMalformed},
      {"PINGREQ flags", k3, bytes({0xC1, 0}), kMalformed},
      {"PINGREQ body", k3, bytes({0xC0, 1, 0}), kMalformed},
      {"CONNECT empty", {}, bytes({0x10, 0}), kMalformed},
      {"CONNECT cut", {}, frame(0x10, kConnectHead3), kMalformed},
      {"CONNECT reserved flag",
       {},
       frame(0x10, kConnectHead3 + bytes({3, 0, 0, 0, 1, 'c'})),
       kMalformed},
      {"CONNECT will QoS without will",
       {},
       frame(0x10, kConnectHead3 + bytes({0x0A, 0, 0, 0, 1, 'c'})),
       kMalformed},
      {"CONNECT will retain without will",
       {},
       frame(0x10, kConnectHead3 + bytes({0x22, 0, 0, 0, 1, 'c'})),
       kMalformed},
      {"CONNECT will QoS 3",
       {},
       frame(0x10, kConnectHead3 + bytes({0x1E, 0, 0, 0, 1, 'c', 0, 1, 'w', 0, 0})),
       kMalformed},
      {"CONNECT will wildcard",
       {},
       frame(0x10, kConnectHead3 + bytes({0x06, 0, 0, 0, 1, 'c', 0, 1, '#', 0, 0})),
       ReasonCode::kTopicNameInvalid},
      {"CONNECT password alone",
       {},
       frame(0x10, kConnectHead3 + bytes({0x42, 0, 0, 0, 1, 'c', 0, 1, 'p'})),
       kMalformed},
      {"CONNECT trailing",
       {},
       frame(0x10, kConnectHead3 + bytes({2, 0, 0, 0, 1, 'c', 9})),
       kMalformed},
      {"CONNECT id NUL", {}, frame(0x10, kConnectHead3 + bytes({2, 0, 0, 0, 1, 0})), kMalformed},
      {"CONNECT id not UTF-8",
       {},
       frame(0x10, kConnectHead3 + bytes({2, 0, 0, 0, 1, 0xFF})),
       kMalformed},
      {"CONNECT id surrogate",
       {},
       frame(0x10, kConnectHead3 + bytes({2, 0, 0, 0, 3, 0xED, 0xA0, 0x80})),
       kMalformed},
      {"CONNECT receive maximum 0",
       {},
       frame(0x10, kConnectHead5 + bytes({2, 0, 0, 3, 0x21, 0, 0, 0, 1, 'c'})),
       kProtocol},
      {"CONNECT packet size 0",
       {},
       frame(0x10, kConnectHead5 + bytes({2, 0, 0, 5, 0x27, 0, 0, 0, 0, 0, 1, 'c'})),
       kProtocol},
      {"property twice",
       {},
       frame(0x10, kConnectHead5 + bytes({2, 0, 0, 6, 0x21, 0, 1, 0x21, 0, 1, 0, 1, 'c'})),
       kProtocol},
      {"property flag 2",
       {},
       frame(0x10, kConnectHead5 + bytes({2, 0, 0, 2, 0x17, 2, 0, 1, 'c'})),
       kProtocol},
      {"QoS 3", k3, bytes({0x36, 5, 0, 1, 'a', 0, 1}), kMalformed},
      {"DUP at QoS 0", k3, bytes({0x38, 3, 0, 1, 'a'}), kMalformed},
      {"topic cut", k3, bytes({0x30, 3, 0, 9, 'a'}), kMalformed},
      {"topic missing", k3, bytes({0x30, 0}), kMalformed},
      {"topic empty", k3, bytes({0x30, 2, 0, 0}), kProtocol},
      {"topic empty, no alias", k5, bytes({0x30, 3, 0, 0, 0}), kProtocol},
      {"topic NUL", k3, bytes({0x30, 3, 0, 1, 0}), kMalformed},
      {"topic overlong UTF-8", k3, bytes({0x30, 4, 0, 2, 0xC0, 0x80}), kMalformed},
      {"topic +", k3, bytes({0x30, 5, 0, 3, 'a', '/', '+'}), ReasonCode::kTopicNameInvalid},
      {"topic #", k5, bytes({0x30, 4, 0, 1, '#', 0}), ReasonCode::kTopicNameInvalid},
      {"PUBLISH id 0", k3, bytes({0x32, 5, 0, 1, 'a', 0, 0}), kProtocol},
      {"PUBLISH id cut", k3, bytes({0x32, 4, 0, 1, 'a', 0}), kMalformed},
      {"PUBLISH without property length", k5, bytes({0x30, 3, 0, 1, 'a'}), kMalformed},
      {"property length beyond", k5, bytes({0x30, 5, 0, 1, 'a', 2, 1}), kMalformed},
      {"property length too long a form", k5, bytes({0x30, 5, 0, 1, 'a', 0x80, 0}), kMalformed},
      {"unknown property", k5, bytes({0x30, 6, 0, 1, 'a', 2, 0x7F, 1}), kMalformed},
      {"property 0", k5, bytes({0x30, 6, 0, 1, 'a', 2, 0, 1}), kMalformed},
      {"property of another packet", k5, bytes({0x30, 7, 0, 1, 'a', 3, 0x21, 0, 1}), kMalformed},
      {"payload format 2", k5, bytes({0x30, 6, 0, 1, 'a', 2, 1, 2}), kProtocol},
      {"property cut", k5, bytes({0x30, 6, 0, 1, 'a', 2, 2, 0}), kMalformed},
      {"property text not UTF-8", k5, bytes({0x30, 8, 0, 1, 'a', 4, 3, 0, 1, 0xFF}), kMalformed},
      {"user property NUL", k5, bytes({0x30, 10, 0, 1, 'a', 6, 0x26, 0, 1, 0, 0, 0}), kMalformed},
      {"response topic wildcard", k5, bytes({0x30, 8, 0, 1, 'a', 4, 8, 0, 1, '+'}), kProtocol},
      {"subscription id from client", k5, bytes({0x30, 6, 0, 1, 'a', 2, 0x0B, 1}), kProtocol},
      {"too many user properties", k5, crowdedFrame.take(), ReasonCode::kQuotaExceeded},
      {"PUBACK cut", k3, bytes({0x40, 1, 0}), kMalformed},
      {"PUBACK id 0", k5, bytes({0x40, 2, 0, 0}), kProtocol},
      {"PUBACK trailing", k3, bytes({0x40, 3, 0, 1, 0}), kMalformed},
      {"PUBACK trailing 5", k5, bytes({0x40, 5, 0, 1, 0, 0, 0}), kMalformed},
      {"PUBACK with PUBREL's reason", k5, bytes({0x40, 3, 0, 1, 0x92}), kProtocol},
      {"PUBREC with no reason that is", k5, bytes({0x50, 3, 0, 1, 0x01}), kProtocol},
      {"PUBREL with PUBREC's reason", k5, bytes({0x62, 3, 0, 1, 0x80}), kProtocol},
      {"PUBCOMP with PUBACK's reason", k5, bytes({0x70, 3, 0, 1, 0x10}), kProtocol},
      {"DISCONNECT with PUBACK's reason", k5, bytes({0xE0, 1, 0x10}), kProtocol},
      {"DISCONNECT with CONNACK's reason", k5, bytes({0xE0, 1, 0x8C}), kProtocol},
      {"AUTH with a refusal", k5, bytes({0xF0, 1, 0x80}), kProtocol},
      {"SUBSCRIBE id 0", k3, bytes({0x82, 6, 0, 0, 0, 1, 'a', 0}), kProtocol},
      {"SUBSCRIBE nothing", k3, bytes({0x82, 2, 0, 1}), kProtocol},
      {"SUBSCRIBE empty filter", k3, bytes({0x82, 5, 0, 1, 0, 0, 0}), kMalformed},
      {"SUBSCRIBE no options", k3, bytes({0x82, 5, 0, 1, 0, 1, 'a'}), kMalformed},
      {"SUBSCRIBE QoS 3", k3, bytes({0x82, 6, 0, 1, 0, 1, 'a', 3}), kMalformed},
      {"SUBSCRIBE QoS 3 in 5.0", k5, bytes({0x82, 7, 0, 1, 0, 0, 1, 'a', 3}), kProtocol},
      {"SUBSCRIBE bits 3.1.1", k3, bytes({0x82, 6, 0, 1, 0, 1, 'a', 4}), kMalformed},
      {"SUBSCRIBE bits 5", k5, bytes({0x82, 7, 0, 1, 0, 0, 1, 'a', 0x40}), kMalformed},
      {"SUBSCRIBE retain handling 3", k5, bytes({0x82, 7, 0, 1, 0, 0, 1, 'a', 0x30}), kProtocol},
      {"SUBSCRIBE id property 0", k5, bytes({0x82, 9, 0, 1, 2, 0x0B, 0, 0, 1, 'a', 0}), kProtocol},
      {"SUBSCRIBE id property twice", k5,
       bytes({0x82, 11, 0, 1, 4, 0x0B, 1, 0x0B, 2, 0, 1, 'a', 0}), kProtocol},
      {"UNSUBSCRIBE nothing", k3, bytes({0xA2, 2, 0, 1}), kProtocol},
      {"UNSUBSCRIBE empty filter", k5, bytes({0xA2, 5, 0, 1, 0, 0, 0}), kMalformed},
      {"DISCONNECT body 3.1.1", k3, bytes({0xE0, 1, 0}), kMalformed},
      {"DISCONNECT trailing", k5, bytes({0xE0, 3, 0, 0, 0}), kMalformed},
      {"DISCONNECT property", k5, bytes({0xE0, 4, 0, 2, 0x24, 0}), kMalformed},
  };
}

TEST(DecoderFaults, EveryClass) {
  for (const Bad& bad : badPackets()) {
    Decoded decoded = decoderFor(Side::kServer, bad.version).next(bad.wire);
    auto* fault = std::get_if<Fault>(&decoded);
    ASSERT_NE(fault, nullptr) << bad.name << ": index " << decoded.index();
    EXPECT_EQ(static_cast<int>(fault->code), static_cast<int>(bad.code))
        << bad.name << ": " << fault->what;
  }
}

TEST(Decoder, TurnsAwayWhatIsNoMqttAtTheFirstOctet) {
  EXPECT_TRUE(std::holds_alternative<Fault>(decoderFor(Side::kServer, {}).next("G")));
  EXPECT_TRUE(std::holds_alternative<Fault>(decoderFor(Side::kServer, {}).next("\x16")));
  EXPECT_TRUE(std::holds_alternative<NeedMore>(decoderFor(Side::kServer, {}).next("\x10")));
}

TEST(Decoder, SaysHowMuchAPacketNeeds) {
  Decoded decoded = decoderFor(Side::kServer, k5).next(bytes({0x30, 0x80, 0x08, 0}));
  EXPECT_EQ(std::get<NeedMore>(decoded).total, 1024U + 3U);
}

TEST(Decoder, OtherVersionsAreReadAsFarAsTheirNumber) {
  auto connect = [](std::string body) {
    Decoded decoded = decoderFor(Side::kServer, {}).next(frame(0x10, body));
    return std::get<ConnectPacket>(std::get<DecodedPacket>(decoded).packet);
  };
  ConnectPacket old = connect(bytes({0, 4, 'M', 'Q', 'T', 'T', 3, 2, 0, 9}));
  EXPECT_FALSE(old.readable());
  EXPECT_EQ(old.level, 0) << "the name of another version";
  EXPECT_FALSE(connect(bytes({0, 6, 'M', 'Q', 'I', 's', 'd', 'p', 4})).readable());
  EXPECT_FALSE(connect(bytes({0, 4, 'M', 'Q', 'T', 'T', 6})).readable());
  EXPECT_FALSE(connect(bytes({0, 4, 'H', 'T', 'T', 'P', 4})).nameKnown);
}

TEST(Decoder, NamesTheVersionOfABrokenConnect) {
  EXPECT_EQ(namedVersion(frame(0x11, kConnectHead5)), k5);
  EXPECT_EQ(namedVersion(bytes({0x10, 0xFF, 0xFF, 0x7F}) + kConnectHead3), k3);
  EXPECT_EQ(namedVersion(bytes({0x10, 0xFF})), std::nullopt);
  EXPECT_EQ(namedVersion(""), std::nullopt);
  EXPECT_EQ(namedVersion("GET /"), std::nullopt);
}

TEST(PropertyTable, OneRowAnIdAndNoOthers) {
  size_t rows = 0;
  for (int id = 0; id < 256; ++id) {
    const PropertyDefinition* row = findProperty(static_cast<uint8_t>(id));
    if (row == nullptr) continue;
    ++rows;
    EXPECT_EQ(static_cast<int>(row->id), id);
    EXPECT_NE(row->scopes, 0U);
  }
  EXPECT_EQ(rows, 27U);  // section 2.2.2.2
  EXPECT_EQ(propertyTable().size(), rows);
}

/// Every property, in every packet: read where the table allows it, refused elsewhere.
TEST(PropertyTable, HoldsForEveryPacket) {
  for (const PropertyDefinition& row : propertyTable()) {
    Properties properties;
    Property property;
    property.id = row.id;
    property.number = row.least;
    property.text = "t";
    property.value = "v";
    properties.append(property);
    ByteWriter writer;
    writeProperties(writer, properties);
    EXPECT_EQ(writer.size(), propertiesSize(properties) + 1);
    for (unsigned scope = 0; scope <= 15; ++scope) {
      ByteReader reader(writer.view());
      Properties back;
      auto fault = readProperties(reader, static_cast<PropertyScope>(scope), back);
      EXPECT_EQ(!fault.has_value(), (row.scopes >> scope & 1U) != 0) << row.name << " " << scope;
      if (fault) continue;
      EXPECT_TRUE(back.has(row.id));
      EXPECT_TRUE(reader.complete());
    }
    ByteWriter twice;
    properties.append(property);
    writeProperties(twice, properties);
    for (unsigned scope = 0; scope <= 15; ++scope) {
      if ((row.scopes >> scope & 1U) == 0) continue;
      ByteReader reader(twice.view());
      Properties back;
      EXPECT_EQ(!readProperties(reader, static_cast<PropertyScope>(scope), back).has_value(),
                row.repeatable)
          << row.name;
    }
  }
}

}  // namespace
}  // namespace polylog::mqtt
