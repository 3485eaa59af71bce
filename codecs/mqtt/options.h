// What the configuration says about MQTT listeners. One immutable copy is shared by all sessions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/model/authentication.h"
#include "core/model/client.h"
#include "core/model/subscriber_session.h"
#include "mapping/rewrites.h"
#include "mapping/rules.h"

namespace polylog::mqtt {

class Tracer;

struct MqttOptions {
  /// The largest packet taken; 0 = the broker's largest record and kPacketOverhead.
  size_t maxPacketBytes = 0;
  /// Publishes at QoS 1 and 2 that a client may have unacknowledged (>= 1).
  uint16_t receiveMaximum = 1024;
  /// Topic aliases that a client may use (each keeps a topic name in memory).
  uint16_t topicAliasMaximum = 32;
  /// Topic aliases that are used towards a client which takes some (0..256).
  uint16_t outboundTopicAliases = 32;
  /// Deliveries at QoS 1 and 2 on their way to a client, however many it says it takes (1..49150).
  uint16_t maxInflight = 1024;
  /// The longest keep-alive in seconds: clients that ask for more, or none, get this. 0 = any.
  uint16_t maxKeepAliveSeconds = 0;
  /// The longest a session may outlive its connection.
  uint32_t maxSessionExpirySeconds = kNeverExpires;
  uint8_t maxQos = 2;
  bool retainAvailable = true;
  /// Publishes and wills that say they are UTF-8 and aren't are refused (3.3.2.3.2).
  bool checkPayloadFormat = false;
  mapping::Rules rules;
  /// Put before every name that a client uses, and taken off what it gets: its own corner, of which
  /// it knows nothing. %c and %u as below. Names that begin with '$' are as for everybody.
  std::string mountPoint;
  /// Told, as the Response Information, to a client that asks for it (3.1.2.11.6); empty = nothing
  /// is. %c and %u as below: a start of names that is to be that client's own.
  std::string responseInformation;
  /// Not empty: nobody is served, and CONNACK names this server instead.
  std::string redirect;
  bool redirectForGood = false;  ///< "server moved", not "use another server"
  /// What one client may publish and send in a second; beyond it reading pauses. 0 = anything.
  int64_t publishesPerSecond = 0;
  int64_t bytesPerSecond = 0;
  mapping::TopicRewrites rewrites;
  /// What every client is subscribed to when it connects. %c and %u in `filter` stand for its
  /// client identifier and its user's name.
  struct AutomaticSubscription {
    std::string filter;
    uint8_t qos = 0;
    bool noLocal = false;
    bool retainAsPublished = false;
    uint8_t retainHandling = 0;
  };
  std::vector<AutomaticSubscription> automatic;
  /// Null: everybody is let in, under the name that they give.
  Authenticator* authenticator = nullptr;
  /// With an authenticator: clients without a user name are let in too.
  bool allowAnonymous = true;
  /// Null: nothing can be traced.
  Tracer* tracer = nullptr;
  /// Null: nobody is banned, and nobody knows who is connected.
  Clients* clients = nullptr;
  /// For client ids that the broker assigns.
  Random* random = &systemRandom();
};

}  // namespace polylog::mqtt
