// What topics have that set nothing themselves. What the operator's file says, by who made the
// topic; over it, for topics that follow Kafka's defaults, what was set while the broker ran: for
// all brokers, and for this one. The router keeps those two layers and implements DynamicDefaults.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/base/done.h"
#include "core/base/error.h"
#include "core/model/principal.h"
#include "core/model/topic.h"

namespace polylog {

/// Whose defaults a topic of that origin follows.
inline bool madeByDevice(Protocol origin) {
  return origin == Protocol::kMqtt || origin == Protocol::kAmqp;
}

/// Which brokers a layer is for.
enum class DefaultsScope : uint8_t { kCluster = 0, kBroker = 1 };

/// Immutable. A layer is a TopicConfig of which only the fields that are its own count; its
/// `overrides` are what a client set, by its protocol's key for the broker.
struct TopicDefaults {
  TopicConfig fileMqtt;
  TopicConfig fileKafka;
  TopicConfig cluster;  ///< layer
  TopicConfig broker;   ///< layer: counts for more

  const TopicConfig& file(Protocol origin) const {
    return madeByDevice(origin) ? fileMqtt : fileKafka;
  }
  const TopicConfig& layer(DefaultsScope scope) const {
    return scope == DefaultsScope::kCluster ? cluster : broker;
  }
  /// What a topic of that origin has that sets nothing. Nothing in it is anybody's own.
  TopicConfig inForce(Protocol origin) const;
};

/// Every call but current() on a worker; `done` later, on that worker. The right is that to alter
/// the cluster's configuration (kUnauthorized).
class DynamicDefaults {
 public:
  virtual ~DynamicDefaults() = default;
  virtual Result<> mayAlter(const PrincipalRef& principal) const = 0;
  /// Applied to a layer as it stands when its turn comes; an error changes nothing.
  using Change = std::move_only_function<Result<>(TopicConfig& layer)>;
  /// `done` once the change is durable and in force for every topic. kBusy (too many wait), the
  /// change's own errors.
  virtual void alter(const PrincipalRef& principal, DefaultsScope scope, Change change,
                     Done<Result<>> done) = 0;
  /// What is in force. Never null; any thread.
  virtual std::shared_ptr<const TopicDefaults> current() const = 0;
};

}  // namespace polylog
