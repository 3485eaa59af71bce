// Topics as the catalogue knows them. Immutable snapshots, shared between threads.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/strong.h"
#include "core/model/compression_type.h"

namespace polylog {

/// Who made something, or who asks: decides defaults and metrics labels.
enum class Protocol : uint8_t { kInternal = 0, kMqtt = 1, kKafka = 2, kAmqp = 3, kRocketMq = 4 };

/// "mqtt", "kafka", ... as in metrics labels and listings.
const char* protocolName(Protocol protocol);

/// When appends to a topic are acknowledged and visible (configuration `flush`).
enum class FlushPolicy : uint8_t { kSafe = 0, kInterval = 1, kNever = 2 };

/// What becomes of old records (Kafka's cleanup.policy and what belongs to it).
struct CleanupPolicy {
  bool deletes = true;    ///< by retention
  bool compacts = false;  ///< of each key the latest record stays
  int64_t minCompactionLagMs = 0;
  int64_t maxCompactionLagMs = INT64_MAX;
  int64_t deleteRetentionMs = 24LL * 3600 * 1000;  ///< how long a tombstone stays at least
  int32_t minDirtyPercent = 50;
  bool operator==(const CleanupPolicy&) const = default;
};

struct TopicConfig {
  int64_t retentionMs = -1;     ///< -1 = for ever
  int64_t retentionBytes = -1;  ///< of one partition; -1 = without limit
  CleanupPolicy cleanup{};
  FlushPolicy flush = FlushPolicy::kSafe;
  bool logAppendTime = false;  ///< the broker's time replaces the producer's
  int32_t maxBatchBytes = -1;  ///< -1 = the broker's limit
  /// What batches are compressed with, whatever they came with; nothing: as they came.
  std::optional<Compression> compression{};
  /// What a client set, by its protocol's key ("retention.ms"), as text; the fields above follow
  /// it.
  std::map<std::string, std::string> overrides;
  bool operator==(const TopicConfig&) const = default;
};

using TopicId = std::array<uint8_t, 16>;

struct Topic {
  std::string name;  ///< canonical
  TopicId id{};      ///< random, never reused
  std::vector<PartitionId> partitions;
  TopicConfig config;
  Protocol origin = Protocol::kInternal;
  int64_t createdMs = 0;
};

using TopicRef = std::shared_ptr<const Topic>;

}  // namespace polylog
