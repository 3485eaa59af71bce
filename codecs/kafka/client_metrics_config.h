// A subscription of clients' metrics by Kafka's keys (KIP-714): what can be set, what it means, and
// how what is in force is told. A table; pure, any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/topic_config.h"
#include "core/model/client_metrics.h"
#include "mapping/kafka_consumer.h"

namespace polylog::kafka {

/// What a client says of itself, and where it is.
struct ClientFacts {
  std::string instanceId;  ///< as Kafka writes UUIDs: 22 characters of base64url
  std::string clientId;
  std::string softwareName;
  std::string softwareVersion;
  std::string address;
  std::string port;
  uint64_t connection = 0;  ///< which of its listener's; no parameter of a subscription
};

/// What the settings say.
struct MetricsSubscription {
  int32_t intervalMs = 300'000;
  std::vector<std::string> metrics;  ///< what names begin with
  /// What of a client has to match which expression, each as a whole.
  std::vector<std::pair<std::string ClientFacts::*, std::shared_ptr<const mapping::NamePattern>>>
      match;

  bool matches(const ClientFacts& client) const;
};

/// Of settings that have been checked.
MetricsSubscription subscriptionOf(const ClientMetricsSettings& settings);

/// Sets `key` to what a client wrote. kInvalid for other keys than there are and values out of
/// bounds; kInvalidPattern for what no client can match.
Result<> setClientMetrics(ClientMetricsSettings& settings, BytesView key,
                          const std::optional<BytesView>& value);
/// `key` as if it had never been set. kInvalid for unknown ones.
Result<> resetClientMetrics(ClientMetricsSettings& settings, BytesView key);
/// Adds to, or takes away from, a key that is a list. kInvalid for others.
Result<> extendClientMetrics(ClientMetricsSettings& settings, BytesView key, BytesView words,
                             bool remove);
/// What is in force, every key there is, by name.
std::vector<ConfigEntry> describeClientMetrics(const ClientMetricsSettings& settings);

}  // namespace polylog::kafka
