// A topic's configuration by Kafka's keys: what can be set, what each key means for the canonical
// TopicConfig, and how what is in force is told. A table; pure, any thread.
//
// A key that is accepted is honoured, or says nothing that a client could see broken (how Kafka
// lays out its files): those are kept and told. What asks for something that isn't built is
// refused.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/error.h"
#include "core/model/topic.h"

namespace polylog {
class Broker;
class DynamicDefaults;
}  // namespace polylog

namespace polylog::kafka {

// In Kafka's numbers.
enum class ConfigSource : int8_t {
  kTopic = 1,
  kDynamicBroker = 2,
  kDynamicDefault = 3,  ///< of all brokers
  kStaticBroker = 4,
  kDefault = 5,
  kClientMetrics = 7,
  kGroup = 8
};
enum class ConfigType : int8_t {
  kBoolean = 1,
  kString = 2,
  kInt = 3,
  kLong = 5,
  kDouble = 6,
  kList = 7,
};

/// What values are judged by and fall back to.
struct TopicConfigLimits {
  TopicConfig defaults;  ///< in force for topics made as this one was
  int64_t maxRecordBytes = 0;
  // Where the defaults come from, the last one that sets something counts (topic_defaults.h).
  TopicConfig file{};
  TopicConfig cluster{};
  TopicConfig broker{};
};

/// For topics of that origin. `dynamic` null: nothing can be set while the broker runs.
TopicConfigLimits limitsFor(const Broker& broker, const DynamicDefaults* dynamic, Protocol origin);

/// Sets `key` to what a client wrote. kInvalid for keys that Kafka doesn't have, values that make
/// no sense, and ones that ask for what isn't built.
Result<> setTopicConfig(TopicConfig& config, BytesView key, const std::optional<BytesView>& value,
                        const TopicConfigLimits& limits);
/// `key` as if it had never been set. kInvalid for unknown ones.
Result<> resetTopicConfig(TopicConfig& config, BytesView key, const TopicConfigLimits& limits);
/// Adds to, or takes away from, a key that is a list. kInvalid for others.
Result<> extendTopicConfig(TopicConfig& config, BytesView key, BytesView words, bool remove,
                           const TopicConfigLimits& limits);

/// After a topic's keys were changed: whether they go together. kInvalid where what the topic
/// itself sets has min.compaction.lag.ms above max.compaction.lag.ms (Kafka's
/// LogConfig.validateValues).
Result<> checkTopicConfig(const TopicConfig& config, const TopicConfigLimits& limits);

/// Whether the broker has a key of that name for topics that don't set theirs.
bool isTopicDefault(BytesView brokerKey);
/// The broker's key for topics that don't set `key`. Empty: there is none.
BytesView topicDefaultOf(BytesView key);
// The same for the defaults that are set while the broker runs, by the broker's keys. `layer` is
// one of core/model/topic_defaults.h.
Result<> setTopicDefault(TopicConfig& layer, BytesView brokerKey, BytesView value,
                         const TopicConfigLimits& limits);
/// Other keys than the broker has are not set: nothing is to be done.
void resetTopicDefault(TopicConfig& layer, BytesView brokerKey);
/// What isn't set yet begins with what the operator's file says.
Result<> extendTopicDefault(TopicConfig& layer, BytesView brokerKey, BytesView words, bool remove,
                            const TopicConfigLimits& limits);

struct ConfigSynonym {
  BytesView key;
  std::string value;
  ConfigSource source;
};

struct ConfigEntry {
  BytesView key;
  std::optional<std::string> value;
  ConfigSource source = ConfigSource::kDefault;
  ConfigType type = ConfigType::kString;
  bool readOnly = false;
  BytesView documentation;
  std::vector<ConfigSynonym> synonyms;  ///< what would be in force, the first one is
};

/// What is in force, every key there is, by name.
std::vector<ConfigEntry> describeTopicConfig(const TopicConfig& config,
                                             const TopicConfigLimits& limits);
/// The same keys as the broker has them: what topics get that set nothing.
std::vector<ConfigEntry> describeTopicDefaults(const TopicConfigLimits& limits);
/// Only what was set for all brokers while they ran.
std::vector<ConfigEntry> describeClusterDefaults(const TopicConfigLimits& limits);

}  // namespace polylog::kafka
