// What the configuration says about AMQP listeners. One immutable copy is shared by all sessions.
#pragma once

#include <string>

#include "core/base/clock.h"
#include "core/model/authentication.h"
#include "core/model/client.h"
#include "mapping/rules.h"

namespace polylog::amqp {

struct AmqpOptions {
  /// Told to clients in connection.start.
  std::string version = "0";
  /// Null: there are no passwords; everybody is who they say.
  Authenticator* authenticator = nullptr;
  /// With an authenticator: clients that log in as guest with the password guest, which is what
  /// AMQP's clients do when they are told nothing, are let in as nobody in particular.
  bool allowAnonymous = true;
  /// Without an authenticator: clients from other machines may log in too, as RabbitMQ's guest may
  /// not.
  bool remoteLogins = false;
  mapping::Rules rules;
  /// For the names of queues and consumers that the broker makes up.
  Random* random = &systemRandom();
  /// Null: nobody is banned, and nobody knows who is connected.
  Clients* clients = nullptr;
};

}  // namespace polylog::amqp
