// What the configuration says about AMQP listeners. One immutable copy is shared by all sessions.
#pragma once

#include <string>

#include "core/base/clock.h"
#include "mapping/rules.h"

namespace polylog::amqp {

struct AmqpOptions {
  /// Told to clients in connection.start.
  std::string version = "0";
  /// Clients from other machines may log in too. There are no passwords yet, so by default they may
  /// not, as RabbitMQ's guest.
  bool remoteLogins = false;
  mapping::Rules rules;
  /// For the names of queues and consumers that the broker makes up.
  Random* random = &systemRandom();
};

}  // namespace polylog::amqp
