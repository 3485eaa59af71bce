// Exchanges and bindings: how a publish that names an exchange and a routing key finds queues. The
// terms are AMQP 0-9-1's (section 3.1), the structures no protocol's.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/model/value.h"

namespace polylog {

enum class ExchangeType : uint8_t { kDirect = 1, kFanout = 2, kTopic = 3, kHeaders = 4 };

/// The exchange through which AMQP publishers reach topics, and queues what other protocols
/// publish.
inline constexpr std::string_view kTopicsExchange = "amq.topic";

struct ExchangeSpec {
  std::string name;  ///< "" = the default exchange
  ExchangeType type = ExchangeType::kDirect;
  bool durable = false;
  bool autoDelete = false;  ///< goes with its last binding
  bool internal = false;    ///< no client publishes to it
  Table arguments;
  bool operator==(const ExchangeSpec&) const = default;
};

struct BindingSpec {
  std::string source;  ///< an exchange
  bool toExchange = false;
  std::string destination;  ///< a queue (a stream too), or an exchange
  std::string routingKey;
  Table arguments;
  bool operator==(const BindingSpec&) const = default;
};

/// A publish's header table, for exchanges that route by it; decoded only when one asks.
class RoutingHeaders {
 public:
  virtual ~RoutingHeaders() = default;
  virtual const Table& table() const = 0;
};

/// Where an exchange sends a routing key. Immutable and shared; valid until the next round of the
/// worker's events (it is looked up again if something was deleted meanwhile).
class Route {
 public:
  virtual ~Route() = default;
  /// It reaches topics, by amq.topic or by a binding to a stream: the record will be seen by other
  /// protocols, and its Publish needs its canonical headers. Also address, topic and partitionHash
  /// if reachesAmqTopic().
  virtual bool reachesTopics() const = 0;
  virtual bool reachesAmqTopic() const = 0;
};
using RouteRef = std::shared_ptr<const Route>;

}  // namespace polylog
