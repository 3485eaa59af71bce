// What the configuration says about MQTT listeners. One immutable copy is shared by all sessions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/base/clock.h"
#include "core/model/authentication.h"
#include "core/model/subscriber_session.h"
#include "mapping/rules.h"

namespace polylog::mqtt {

struct MqttOptions {
  /// The largest packet taken; 0 = the broker's largest record and kPacketOverhead.
  size_t maxPacketBytes = 0;
  /// Publishes at QoS 1 and 2 that a client may have unacknowledged (>= 1).
  uint16_t receiveMaximum = 1024;
  /// Topic aliases that a client may use (each keeps a topic name in memory).
  uint16_t topicAliasMaximum = 32;
  /// Deliveries at QoS 1 and 2 on their way to a client, however many it says it takes (1..49150).
  uint16_t maxInflight = 1024;
  /// The longest keep-alive in seconds: clients that ask for more, or none, get this. 0 = any.
  uint16_t maxKeepAliveSeconds = 0;
  /// The longest a session may outlive its connection.
  uint32_t maxSessionExpirySeconds = kNeverExpires;
  uint8_t maxQos = 2;
  bool retainAvailable = true;
  mapping::Rules rules;
  /// Null: everybody is let in, under the name that they give.
  Authenticator* authenticator = nullptr;
  /// With an authenticator: clients without a user name are let in too.
  bool allowAnonymous = true;
  /// For client ids that the broker assigns.
  Random* random = &systemRandom();
};

}  // namespace polylog::mqtt
