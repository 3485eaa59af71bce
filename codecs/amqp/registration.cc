#include "codecs/amqp/registration.h"

#include <memory>
#include <utility>

#include "codecs/amqp/session.h"

namespace polylog::amqp {

SessionFactory makeSessionFactory(Broker& broker, AmqpOptions options) {
  auto shared = std::make_shared<const AmqpOptions>(std::move(options));
  return [&broker, shared](Transport& transport) -> std::unique_ptr<ProtocolSession> {
    return std::make_unique<Session>(transport, broker, shared);
  };
}

}  // namespace polylog::amqp
