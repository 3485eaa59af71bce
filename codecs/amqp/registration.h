// The one door to this codec: what the composition root gives a listener of AMQP.
#pragma once

#include "codecs/amqp/options.h"
#include "core/model/broker.h"
#include "core/net/transport.h"

namespace polylog::amqp {

/// Makes a session for each connection. The broker must outlive the factory and all sessions; the
/// factory may be called on any worker's thread.
SessionFactory makeSessionFactory(Broker& broker, AmqpOptions options);

}  // namespace polylog::amqp
