// The one door to this codec: what the composition root gives a listener of MQTT.
#pragma once

#include "codecs/mqtt/options.h"
#include "core/model/broker.h"
#include "core/net/transport.h"

namespace polylog::mqtt {

/// The options with what is left open settled, and within what packets can be.
MqttOptions withLimits(const Broker& broker, MqttOptions options);

/// Makes a session for each connection. The broker must outlive the factory and all sessions; the
/// factory may be called on any worker's thread.
SessionFactory makeSessionFactory(Broker& broker, MqttOptions options);

}  // namespace polylog::mqtt
