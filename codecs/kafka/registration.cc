#include "codecs/kafka/registration.h"

#include <memory>
#include <utility>

#include "codecs/kafka/session.h"

namespace polylog::kafka {

SessionFactory makeSessionFactory(Broker& broker, KafkaOptions options) {
  auto services = std::make_shared<const Services>(broker, std::move(options));
  return
      [services](Transport& transport) { return std::make_unique<Session>(transport, services); };
}

}  // namespace polylog::kafka
