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

/// What of a TopicConfig can be set by itself, and otherwise follows the defaults.
enum class TopicField : uint16_t {
  kNone = 0,
  kRetentionMs = 1,
  kRetentionBytes = 2,
  kCleanup = 4,  ///< CleanupPolicy::deletes and compacts
  kMinCompactionLag = 8,
  kMaxCompactionLag = 16,
  kDeleteRetention = 32,
  kMinDirty = 64,
  kFlush = 128,
  kLogAppendTime = 256,
  kMaxBatchBytes = 512,
  kCompression = 1024,
};

class TopicFields {
 public:
  TopicFields() = default;
  explicit TopicFields(uint16_t bits) : bits_(bits) {}
  static TopicFields all() { return TopicFields(0xffff); }
  bool has(TopicField field) const { return (bits_ & static_cast<uint16_t>(field)) != 0; }
  void add(TopicField field) { bits_ |= static_cast<uint16_t>(field); }
  void add(TopicFields other) { bits_ |= other.bits_; }
  void remove(TopicField field) {
    bits_ = static_cast<uint16_t>(bits_ & ~static_cast<uint16_t>(field));
  }
  uint16_t bits() const { return bits_; }
  bool operator==(const TopicFields&) const = default;

 private:
  uint16_t bits_ = 0;
};

/// A topic's configuration as it is in force; or, of the defaults' layers (topic_defaults.h), what
/// one of them sets.
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
  /// The fields that were set for this very topic. The others follow the defaults, whatever becomes
  /// of those: whoever sets a field says so here.
  TopicFields own{};
  bool operator==(const TopicConfig&) const = default;
};

/// `config` with every field that isn't its own as in `defaults`. The one place where that is
/// decided.
TopicConfig resolved(TopicConfig config, const TopicConfig& defaults);
/// The fields in which they differ.
TopicFields differing(const TopicConfig& a, const TopicConfig& b);

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
