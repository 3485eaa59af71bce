#include "codecs/mqtt/handshake.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "codecs/mqtt/properties_mapping.h"
#include "core/model/bridge.h"
#include "mapping/guarantee.h"
#include "mapping/mqtt.h"
#include "mapping/partition.h"

namespace polylog::mqtt {
namespace {

using Code311 = ConnectReturnCode;

/// What we don't know is told so in the oldest form that it can read.
Refusal wrongVersion(const ConnectPacket& packet) {
  Refusal refusal{ReasonCode::kUnsupportedVersion, Code311::kUnacceptableVersion, Version::k311,
                  packet.nameKnown, "unacceptable protocol version"};
  // With the high bit, a bridge asks for a version that isn't there: it reads the 3.1.1 answer.
  if (packet.level > 5 && (packet.level & 0x80U) == 0) refusal.answerAs = Version::k5;
  return refusal;
}

std::unexpected<Refusal> refuse(Version version, ReasonCode code, std::optional<Code311> code311,
                                const char* why) {
  return std::unexpected(Refusal{code, code311, version, true, why});
}

/// All of it but where it is published, which depends on who it turns out to be: its `topic` is the
/// client's own word until Admission::placeWill().
std::expected<Will, Refusal> willOf(const ConnectPacket& packet, const MqttOptions& options,
                                    int64_t nowMs) {
  const WillFields& fields = *packet.will;
  const Version version = packet.version();
  if (fields.qos > options.maxQos) {
    return refuse(version, ReasonCode::kQosNotSupported, std::nullopt, "will QoS not supported");
  }
  if (fields.retain && !options.retainAvailable) {
    return refuse(version, ReasonCode::kRetainNotSupported, std::nullopt, "will retain");
  }
  if (options.checkPayloadFormat && !payloadAsIndicated(fields.properties, fields.payload)) {
    return refuse(version, ReasonCode::kPayloadFormatInvalid, std::nullopt, "will payload");
  }
  BytesView topic = fields.topic;
  const auto delay = mapping::takeMqttDelay(topic, nowMs);
  if (!delay) return refuse(version, ReasonCode::kTopicNameInvalid, std::nullopt, "will topic");
  Will will;
  will.publishDelaySeconds = delay->seconds;
  will.publishAtMs = delay->atMs;
  will.topic = std::string(topic);
  if (auto value = mapping::valueFromMqtt(fields.payload, fields.retain)) {
    will.value = std::string(*value);
  }
  mapping::MqttProperties properties;
  travelling(fields.properties, properties);
  // Counts from the will's publication, which nobody knows yet.
  will.expirySeconds = std::exchange(properties.messageExpirySeconds, std::nullopt);
  std::vector<Header> headers;
  mapping::TextArena arena;
  mapping::headersFromMqtt(properties, 0, headers, arena);
  for (const Header& header : headers) {
    std::optional<std::string> value;
    if (header.value) value = std::string(*header.value);
    will.headers.emplace_back(std::string(header.name), std::move(value));
  }
  will.guarantee = mapping::guaranteeFromQos(fields.qos);
  will.retain = fields.retain;
  will.delaySeconds = fields.properties.number(PropertyId::kWillDelay).value_or(0);
  return will;
}

}  // namespace

std::optional<BytesView> bridgeStateName(BytesView topic) {
  constexpr BytesView kBefore = "$SYS/broker/connection/";
  constexpr BytesView kBehind = "/state";
  constexpr size_t kMaxName = 255;
  if (!topic.starts_with(kBefore) || !topic.ends_with(kBehind)) return std::nullopt;
  if (topic.size() <= kBefore.size() + kBehind.size()) return std::nullopt;
  topic = topic.substr(kBefore.size(), topic.size() - kBefore.size() - kBehind.size());
  if (topic.size() > kMaxName || topic.find('/') != BytesView::npos) return std::nullopt;
  return topic;
}

std::optional<Method> methodOf(BytesView name, const MqttOptions& options) {
  static const Method kMethods[] = {
      {scram::mechanismName(scram::Hash::kSha256), scram::Hash::kSha256},
      {scram::mechanismName(scram::Hash::kSha512), scram::Hash::kSha512},
      {"OAUTHBEARER", std::nullopt},  // RFC 7628
      {"OAUTH2-JWT", std::nullopt},   // Azure Event Grid's; the data are the token
  };
  if (options.authenticator == nullptr) return std::nullopt;
  for (const Method& each : kMethods) {
    const bool offered = each.scram || options.authenticator->takesTokens();
    if (offered && name == each.name) return each;
  }
  return std::nullopt;
}

Refusal loginRefused(Version version, const Error& error, bool userGiven) {
  switch (error.kind) {
    case ErrorKind::kUnauthorized:
      if (!userGiven) break;
      return {ReasonCode::kBadCredentials, Code311::kBadCredentials, version, true,
              "bad user name or password"};
    case ErrorKind::kBusy:
      return {ReasonCode::kServerBusy, Code311::kServerUnavailable, version, true,
              "too many logins at once"};
    case ErrorKind::kInvalid:
      return {ReasonCode::kProtocolError, std::nullopt, version, true, "malformed SCRAM message"};
    default: break;
  }
  return {ReasonCode::kNotAuthorized, Code311::kNotAuthorized, version, true, "not authorized"};
}

void Admission::identify(const Login& login) {
  auto known = std::make_shared<Principal>(*principal);
  known->user = login.user();
  known->revoked = login.revoked();
  known->rights = login.rights();
  principal = std::move(known);
}

std::optional<Refusal> Admission::placeWill(const MqttOptions& options, const std::string& mount) {
  if (!session.will) return std::nullopt;
  Will& will = *session.will;
  std::string name = will.topic;
  if (!name.empty()) {
    auto rewritten = options.rewrites.apply(mapping::TopicRewrites::Action::kPublish, name,
                                            {principal->clientId, principal->user});
    if (rewritten) name = std::move(*rewritten);
  }
  // What has no name has none behind a mount point either.
  if (!name.empty() && !name.starts_with('$')) name.insert(0, mount);
  std::string scratch;
  auto address = mapping::splitMqttTopic(name, scratch);
  if (!address) {
    return Refusal{ReasonCode::kTopicNameInvalid, std::nullopt, version, true, "will topic"};
  }
  will.topic = std::string(address->topic);
  if (address->key) will.key = std::string(*address->key);
  std::string routed;  // the address may stand in `scratch`
  const mapping::Route route = options.rules.apply(*address, routed);
  will.storedTopic = std::string(route.topic);
  if (route.key) will.storedKey = std::string(*route.key);
  will.ephemeral = route.ephemeral;
  will.partitionHash = mapping::partitionHash(address->key, principal->clientId);
  return std::nullopt;
}

namespace {

/// The template filled in for a client; nothing where its names can't be a part: such a name would
/// reach into others' corners, or be in none.
std::optional<std::string> ownNames(const std::string& pattern, BytesView clientId,
                                    BytesView user) {
  auto unfit = [&](BytesView placeholder, BytesView name) {
    return pattern.find(placeholder) != std::string::npos &&
           name.find_first_of("/+#") != BytesView::npos;
  };
  if (unfit("%c", clientId) || unfit("%u", user)) return std::nullopt;
  std::string names = mapping::filledIn(pattern, clientId, user);
  // Names that begin with '$' are the broker's own.
  const bool fit = names.empty() || (names[0] != '$' && mapping::validMqttTopicName(names));
  if (fit) return names;
  return std::nullopt;
}

}  // namespace

std::optional<std::string> mountOf(const MqttOptions& options, BytesView clientId, BytesView user) {
  return ownNames(options.mountPoint, clientId, user);
}

void Admission::findResponseInformation(const MqttOptions& options) {
  if (!asksForResponseInformation) return;  // [MQTT-3.1.2-28]
  auto names = ownNames(options.responseInformation, principal->clientId, principal->user);
  if (names) responseInformation = std::move(*names);
}

std::expected<Admission, Refusal> judge(const ConnectPacket& packet, const MqttOptions& options,
                                        const std::string& peer, PeerIdentityRef certificate,
                                        int64_t nowMs) {
  if (!packet.readable()) return std::unexpected(wrongVersion(packet));
  const Version version = packet.version();
  if (!options.redirect.empty()) {
    const auto code =
        options.redirectForGood ? ReasonCode::kServerMoved : ReasonCode::kUseAnotherServer;
    Refusal refusal{code, Code311::kServerUnavailable, version, true, "sent to another server"};
    refusal.serverReference = options.redirect;
    return std::unexpected(std::move(refusal));
  }
  const bool v5 = version == Version::k5;
  const Properties& properties = packet.properties;

  const auto methodName = properties.text(PropertyId::kAuthenticationMethod);
  const auto method = methodName ? methodOf(*methodName, options) : std::nullopt;
  if (methodName && !method) {
    return refuse(version, ReasonCode::kBadAuthenticationMethod, std::nullopt,
                  "authentication method not supported");
  }
  if (!methodName && properties.has(PropertyId::kAuthenticationData)) {
    return refuse(version, ReasonCode::kProtocolError, std::nullopt,
                  "authentication data without a method");
  }
  if (packet.clientId.empty() && !v5 && (packet.is31() || !packet.cleanStart)) {
    return refuse(version, ReasonCode::kClientIdInvalid, Code311::kIdentifierRejected,
                  packet.is31() ? "no client identifier"
                                : "no client identifier for a session that is to be kept");
  }
  if (packet.clientId.starts_with(kBridgeSessions)) {
    return refuse(version, ReasonCode::kClientIdInvalid, Code311::kIdentifierRejected,
                  "client identifiers that begin with $bridge/ are the broker's own");
  }

  Admission admission;
  admission.version = version;
  admission.method = method;
  admission.methodData = properties.text(PropertyId::kAuthenticationData).value_or(BytesView());
  admission.credentials.user = packet.username.value_or(BytesView());
  admission.credentials.password = packet.password.value_or(BytesView());
  admission.is31 = packet.is31();
  admission.assignedId = packet.clientId.empty();
  admission.session.clientId = admission.assignedId ? "auto-" + randomHex(*options.random, 16)
                                                    : std::string(packet.clientId);
  admission.session.cleanStart = packet.cleanStart;
  uint32_t expiry = v5 ? properties.number(PropertyId::kSessionExpiry).value_or(0)
                       : (packet.cleanStart ? 0 : kNeverExpires);
  admission.expiryCapped = expiry > options.maxSessionExpirySeconds;
  admission.session.expirySeconds = std::min(expiry, options.maxSessionExpirySeconds);

  admission.keepAliveSeconds = packet.keepAliveSeconds;
  const uint16_t longest = options.maxKeepAliveSeconds;
  if (v5 && longest != 0 && (packet.keepAliveSeconds == 0 || packet.keepAliveSeconds > longest)) {
    admission.keepAliveSeconds = longest;
    admission.keepAliveImposed = true;
  }
  admission.receiveMaximum = static_cast<uint16_t>(
      properties.number(PropertyId::kReceiveMaximum).value_or(admission.receiveMaximum));
  admission.session.window = std::min(admission.receiveMaximum, options.maxInflight);
  admission.maximumPacketSize =
      properties.number(PropertyId::kMaximumPacketSize).value_or(admission.maximumPacketSize);

  admission.topicAliasMaximum =
      static_cast<uint16_t>(properties.number(PropertyId::kTopicAliasMaximum).value_or(0));
  admission.asksForResponseInformation =
      properties.number(PropertyId::kRequestResponseInfo).value_or(0) != 0;

  const auto state = packet.will ? bridgeStateName(packet.will->topic) : std::nullopt;
  if (state) admission.bridgeState = std::string(*state);
  if (packet.will && !state) {
    auto will = willOf(packet, options, nowMs);
    if (!will) return std::unexpected(will.error());
    admission.session.will = std::move(*will);
  }
  auto principal = std::make_shared<Principal>();
  if (options.authenticator == nullptr) principal->user = admission.credentials.user;
  principal->clientId = admission.session.clientId;
  principal->peer = peer;
  principal->protocol = Protocol::kMqtt;
  principal->certificate = std::move(certificate);
  admission.principal = std::move(principal);
  return admission;
}

ConnackPacket acceptance(const Admission& admission, const MqttOptions& options,
                         bool sessionPresent) {
  ConnackPacket packet;
  packet.sessionPresent = sessionPresent && !admission.is31;  // 3.1 knows of no such flag
  if (admission.version != Version::k5) return packet;
  Properties& out = packet.properties;
  if (admission.expiryCapped) {
    out.add(PropertyId::kSessionExpiry, admission.session.expirySeconds);
  }
  if (admission.assignedId) {
    out.add(PropertyId::kAssignedClientId, admission.session.clientId);
  }
  if (admission.keepAliveImposed) {
    out.add(PropertyId::kServerKeepAlive, admission.keepAliveSeconds);
  }
  out.add(PropertyId::kReceiveMaximum, options.receiveMaximum);
  if (admission.method) {
    out.add(PropertyId::kAuthenticationMethod, BytesView(admission.method->name));
    if (admission.method->scram) {
      out.add(PropertyId::kAuthenticationData, BytesView(admission.methodAnswer));
    }
  }
  if (options.maxQos < 2) out.add(PropertyId::kMaximumQos, options.maxQos);
  if (!options.retainAvailable) out.add(PropertyId::kRetainAvailable, 0);
  out.add(PropertyId::kMaximumPacketSize, static_cast<uint32_t>(options.maxPacketBytes));
  if (options.topicAliasMaximum > 0) {
    out.add(PropertyId::kTopicAliasMaximum, options.topicAliasMaximum);
  }
  if (!admission.responseInformation.empty()) {
    out.add(PropertyId::kResponseInfo, BytesView(admission.responseInformation));
  }
  // Wildcards, subscription identifiers and shared subscriptions are available, which is what their
  // absence means.
  return packet;
}

std::optional<ConnackPacket> refusal(const Refusal& refusal) {
  if (!refusal.answer) return std::nullopt;
  ConnackPacket packet;
  if (refusal.answerAs == Version::k5) {
    packet.code = static_cast<uint8_t>(refusal.code);
    // What a later version makes of properties isn't known.
    if (refusal.code != ReasonCode::kUnsupportedVersion) {
      packet.properties.add(PropertyId::kReasonString, BytesView(refusal.why));
    }
    if (!refusal.serverReference.empty()) {
      packet.properties.add(PropertyId::kServerReference, BytesView(refusal.serverReference));
    }
  } else if (refusal.code311) {
    packet.code = static_cast<uint8_t>(*refusal.code311);
  } else {
    return std::nullopt;
  }
  return packet;
}

}  // namespace polylog::mqtt
