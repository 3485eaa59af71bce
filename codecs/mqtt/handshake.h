// CONNECT judged: who the client is, what session and will it gets, or why it is turned away; and
// the CONNACK for either. Pure functions of the packet and the options (and chance, for assigned
// client ids).
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>

#include "codecs/mqtt/options.h"
#include "codecs/mqtt/packet.h"
#include "core/model/authentication.h"
#include "core/model/principal.h"

namespace polylog::mqtt {

/// Why a CONNECT is turned away, in the words of both versions.
struct Refusal {
  ReasonCode code = ReasonCode::kUnspecifiedError;
  /// Nothing: 3.1.1 has no word for it, the connection is closed without an answer.
  std::optional<ConnectReturnCode> code311;
  Version answerAs = Version::k311;
  bool answer = true;
  const char* why = "";
  std::string serverReference{};  ///< not empty: where the client is sent
};

/// A method of enhanced authentication (4.12): a SCRAM conversation, or a token in one packet.
struct Method {
  const char* name = "";
  std::optional<scram::Hash> scram;  ///< nothing: a token
  bool operator==(const Method& other) const { return name == other.name; }
};

/// What a CONNECT is admitted with.
struct Admission {
  Version version = Version::k311;
  PrincipalRef principal;
  bool is31 = false;
  /// Not empty: the client is a bridge, and its will tells that its connection of this name is down
  /// (bridgeStateName()). The will is then no will of the session's.
  std::string bridgeState;
  SubscriberOptions session;
  bool assignedId = false;
  bool expiryCapped = false;      ///< the session expires earlier than the client asked
  uint16_t keepAliveSeconds = 0;  ///< 0 = none
  bool keepAliveImposed = false;
  uint16_t receiveMaximum = 65535;
  uint32_t maximumPacketSize = 0xFFFFFFFF;
  uint16_t topicAliasMaximum = 0;
  bool asksForResponseInformation = false;
  std::string responseInformation;  ///< that CONNACK is to have, if it fits; empty = none

  Credentials credentials;
  /// Enhanced authentication (4.12): its method, and the client's first data.
  std::optional<Method> method;
  std::string methodData;
  /// The server's last data, for CONNACK.
  std::string methodAnswer;

  /// Who it has proved to be.
  void identify(const Login& login);
  /// Gives the will its address, under the mount point, once that is known. Refused: it can't have
  /// one.
  std::optional<Refusal> placeWill(const MqttOptions& options, const std::string& mount);
  /// Finds the response information, if it asks for any, once it is known who it is.
  void findResponseInformation(const MqttOptions& options);
};

/// NAME of `$SYS/broker/connection/NAME/state`, where mosquitto's bridges tell whether they are
/// connected, as their will does; nothing for any other topic.
std::optional<BytesView> bridgeStateName(BytesView topic);

/// What stands before every name of that client (MqttOptions::mountPoint); nothing if it can't have
/// such names.
std::optional<std::string> mountOf(const MqttOptions& options, BytesView clientId, BytesView user);

/// The authentication method of that name; nothing for what is not offered.
std::optional<Method> methodOf(BytesView name, const MqttOptions& options);
/// What a login that failed comes to.
Refusal loginRefused(Version version, const Error& error, bool userGiven);

/// `nowMs`: of the wall clock.
std::expected<Admission, Refusal> judge(const ConnectPacket& packet, const MqttOptions& options,
                                        const std::string& peer, PeerIdentityRef certificate,
                                        int64_t nowMs);

/// The CONNACK that admits.
ConnackPacket acceptance(const Admission& admission, const MqttOptions& options,
                         bool sessionPresent);
/// The CONNACK that refuses; nothing where silence is the answer.
std::optional<ConnackPacket> refusal(const Refusal& refusal);

}  // namespace polylog::mqtt
