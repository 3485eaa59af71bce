// The Kafka codec's one registration: what a listener for `kafka` makes of a connection.
#pragma once

#include "codecs/kafka/options.h"
#include "core/net/transport.h"

namespace polylog {
class Broker;
}

namespace polylog::kafka {

/// Sessions for Kafka connections. `broker` must outlive them all. The factory may be called on any
/// worker's thread.
SessionFactory makeSessionFactory(Broker& broker, KafkaOptions options);

}  // namespace polylog::kafka
