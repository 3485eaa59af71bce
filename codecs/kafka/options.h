// What the operator sets for the Kafka listener. Plain data; the defaults are the documented ones.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/model/access.h"
#include "core/model/authentication.h"
#include "core/model/client.h"
#include "core/model/client_metrics.h"
#include "core/model/quotas.h"
#include "core/model/share_group.h"
#include "core/model/topic_defaults.h"
#include "core/net/transport.h"

namespace polylog::kafka {

class ClientTelemetry;

struct DiskSpace {
  int64_t totalBytes = -1;  ///< -1 = not known
  int64_t usableBytes = -1;
};

/// What is set elsewhere and told here, by DescribeConfigs and DescribeLogDirs.
struct BrokerFacts {
  std::string dataDirectory;
  int32_t defaultPartitions = 1;
  int64_t offsetsRetentionMinutes = 7 * 24 * 60;
  int64_t initialRebalanceDelayMs = 200;
  int32_t maxGroupMembers = 10'000;
  /// Of the data directory's file system; may be null. Any thread.
  std::function<DiskSpace()> disk;
};

struct KafkaOptions {
  /// `kafka.advertised`: where clients are told to find the broker; port 0 = the one reached.
  /// Nothing: the address that the client reached.
  std::optional<HostPort> advertised;
  int32_t nodeId = 1;
  /// The most that one Fetch answers with (at least one batch, whatever its size).
  size_t maxFetchBytes = 16 * 1024 * 1024;
  /// Kafka's max.incremental.fetch.session.cache.slots; 0 = no fetch sessions.
  size_t maxFetchSessions = 1000;
  /// Kafka's group.share.max.share.sessions.
  size_t maxShareSessions = 2000;
  /// Kafka's group.min.session.timeout.ms and group.max.session.timeout.ms.
  int32_t minSessionTimeoutMs = 6000;
  int32_t maxSessionTimeoutMs = 1'800'000;
  BrokerFacts facts{};
  /// Kafka's transaction.max.timeout.ms.
  int32_t maxTransactionTimeoutMs = 900'000;
  /// Null: nobody can log in, and everybody is anonymous.
  Authenticator* authenticator = nullptr;
  /// With an authenticator: clients that don't log in are served too.
  bool allowAnonymous = true;
  /// `kafka.reauthentication_ms`, Kafka's connections.max.reauth.ms: how long a login holds; 0 =
  /// for as long as the connection.
  int64_t reauthenticationMs = 0;
  /// Null: users and rules can't be seen nor changed.
  AccessControl* access = nullptr;
  /// Null: nobody is banned, and nobody knows who is connected.
  Clients* clients = nullptr;
  /// Null: there are no quotas.
  QuotaControl* quotas = nullptr;
  /// Null: clients can't be asked for metrics.
  ClientMetricsControl* clientMetrics = nullptr;
  /// Null: what topics follow is read-only.
  DynamicDefaults* dynamicDefaults = nullptr;
  /// Of all listeners together. Null: nobody is asked for metrics, nor may push any.
  std::shared_ptr<ClientTelemetry> telemetry{};
  /// Null: nobody takes part in share groups.
  ShareGroups* shareGroups = nullptr;
};

}  // namespace polylog::kafka
