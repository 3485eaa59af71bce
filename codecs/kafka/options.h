// What the operator sets for the Kafka listener. Plain data; the defaults are the documented ones.
#pragma once

#include <cstdint>
#include <optional>

#include "core/model/topic.h"
#include "core/net/transport.h"

namespace polylog::kafka {

struct KafkaOptions {
  /// `kafka.advertised`: where clients are told to find the broker; port 0 = the one reached.
  /// Nothing: the address that the client reached.
  std::optional<HostPort> advertised;
  int32_t nodeId = 1;
  /// The most that one Fetch answers with (at least one batch, whatever its size).
  size_t maxFetchBytes = 16 * 1024 * 1024;
  /// Kafka's group.min.session.timeout.ms and group.max.session.timeout.ms.
  int32_t minSessionTimeoutMs = 6000;
  int32_t maxSessionTimeoutMs = 1'800'000;
  /// What a CreateTopics request that sets some of a topic's configuration leaves out.
  TopicConfig topicDefaults{.retentionMs = 7LL * 24 * 60 * 60 * 1000, .overrides = {}};
};

}  // namespace polylog::kafka
