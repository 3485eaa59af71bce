// MQTT's control packets as plain values: what the decoder makes and the encoder takes. Texts and
// payloads are views into the input they were decoded from. No behaviour, no state. References:
// MQTT 3.1.1 (OASIS 2014) and MQTT 5.0 (OASIS 2019), section numbers as in the latter.
#pragma once

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include "codecs/mqtt/properties.h"
#include "core/base/bytes.h"

namespace polylog::mqtt {

/// The protocol level on the wire.
enum class Version : uint8_t { k311 = 4, k5 = 5 };

/// Section 2.1.2.
enum class PacketType : uint8_t {
  kConnect = 1,
  kConnack = 2,
  kPublish = 3,
  kPuback = 4,
  kPubrec = 5,
  kPubrel = 6,
  kPubcomp = 7,
  kSubscribe = 8,
  kSuback = 9,
  kUnsubscribe = 10,
  kUnsuback = 11,
  kPingreq = 12,
  kPingresp = 13,
  kDisconnect = 14,
  kAuth = 15,
};

/// Section 2.4. The codes that this codec sends or acts on; any other octet may arrive.
enum class ReasonCode : uint8_t {
  kSuccess = 0x00,  ///< also: granted QoS 0, normal disconnection
  kGrantedQos1 = 0x01,
  kGrantedQos2 = 0x02,
  kDisconnectWithWill = 0x04,
  kNoMatchingSubscribers = 0x10,
  kNoSubscriptionExisted = 0x11,
  kContinueAuthentication = 0x18,
  kReAuthenticate = 0x19,
  kUnspecifiedError = 0x80,
  kMalformedPacket = 0x81,
  kProtocolError = 0x82,
  kImplementationError = 0x83,
  kUnsupportedVersion = 0x84,
  kClientIdInvalid = 0x85,
  kBadCredentials = 0x86,
  kNotAuthorized = 0x87,
  kServerUnavailable = 0x88,
  kServerBusy = 0x89,
  kBanned = 0x8A,
  kServerShuttingDown = 0x8B,
  kBadAuthenticationMethod = 0x8C,
  kKeepAliveTimeout = 0x8D,
  kSessionTakenOver = 0x8E,
  kTopicFilterInvalid = 0x8F,
  kTopicNameInvalid = 0x90,
  kPacketIdInUse = 0x91,
  kPacketIdNotFound = 0x92,
  kReceiveMaximumExceeded = 0x93,
  kTopicAliasInvalid = 0x94,
  kPacketTooLarge = 0x95,
  kQuotaExceeded = 0x97,
  kAdministrativeAction = 0x98,
  kPayloadFormatInvalid = 0x99,
  kRetainNotSupported = 0x9A,
  kQosNotSupported = 0x9B,
  kUseAnotherServer = 0x9C,
  kServerMoved = 0x9D,
  kSharedSubscriptionsNotSupported = 0x9E,
};

inline bool isError(ReasonCode code) {
  return static_cast<uint8_t>(code) >= 0x80;
}

/// CONNACK's return codes of 3.1.1 (section 3.2.2.3 there).
enum class ConnectReturnCode : uint8_t {
  kAccepted = 0,
  kUnacceptableVersion = 1,
  kIdentifierRejected = 2,
  kServerUnavailable = 3,
  kBadCredentials = 4,
  kNotAuthorized = 5,
};

struct WillFields {
  BytesView topic;
  BytesView payload;
  uint8_t qos = 0;
  bool retain = false;
  Properties properties;
};

struct ConnectPacket {
  /// The level as it came: 3 (with the name "MQIsdp"), 4 or 5 (with "MQTT"). Anything else leaves
  /// the rest empty: it can't be read, only answered; 0 stands for a level that the name
  /// contradicts.
  uint8_t level = 0;
  bool nameKnown = true;
  /// The level's high bit, which mosquitto's bridges set and other brokers know them by: what such
  /// a client publishes doesn't come back to it, and retained messages come to it as retained.
  bool bridge = false;
  bool cleanStart = true;
  uint16_t keepAliveSeconds = 0;
  Properties properties;
  BytesView clientId;
  std::optional<WillFields> will;
  std::optional<BytesView> username;
  std::optional<BytesView> password;

  bool readable() const { return nameKnown && level >= 3 && level <= 5; }
  /// 3.1 is 3.1.1 with another name, but for what the handshake looks at.
  bool is31() const { return level == 3; }
  Version version() const { return level == 5 ? Version::k5 : Version::k311; }
};

struct ConnackPacket {
  bool sessionPresent = false;
  uint8_t code = 0;  ///< ReasonCode in 5.0, ConnectReturnCode in 3.1.1
  Properties properties;
};

struct PublishPacket {
  BytesView topic;  ///< empty in 5.0 where an alias stands for it
  BytesView payload;
  uint16_t packetId = 0;  ///< QoS 1 and 2 only
  uint8_t qos = 0;
  bool retain = false;
  bool dup = false;
  Properties properties;
};

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
struct AckPacket {
  PacketType type = PacketType::kPuback;
  uint16_t packetId = 0;
  ReasonCode code = ReasonCode::kSuccess;
  Properties properties;
};

struct SubscribeEntry {
  BytesView filter;
  uint8_t qos = 0;
  bool noLocal = false;
  bool retainAsPublished = false;
  uint8_t retainHandling = 0;
};

struct SubscribePacket {
  uint16_t packetId = 0;
  Properties properties;
  std::vector<SubscribeEntry> entries;
};

struct UnsubscribePacket {
  uint16_t packetId = 0;
  Properties properties;
  std::vector<BytesView> filters;
};

/// SUBACK or UNSUBACK (whose 3.1.1 form has no codes).
struct SubackPacket {
  PacketType type = PacketType::kSuback;
  uint16_t packetId = 0;
  Properties properties;
  std::vector<ReasonCode> codes;
};

/// PINGREQ or PINGRESP.
struct PingPacket {
  PacketType type = PacketType::kPingreq;
};

struct DisconnectPacket {
  ReasonCode code = ReasonCode::kSuccess;
  Properties properties;
};

/// 5.0 only.
struct AuthPacket {
  ReasonCode code = ReasonCode::kSuccess;
  Properties properties;
};

using Packet =
    std::variant<PublishPacket, AckPacket, PingPacket, ConnectPacket, ConnackPacket,
                 SubscribePacket, UnsubscribePacket, SubackPacket, DisconnectPacket, AuthPacket>;

}  // namespace polylog::mqtt
