#include "codecs/kafka/topic_config.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "codecs/kafka/config_words.h"
#include "codecs/kafka/topic_config_keys.h"

namespace polylog::kafka {
namespace {

const ConfigKey* find(BytesView key) {
  std::span<const ConfigKey> keys = topicConfigKeys();
  auto at = std::ranges::lower_bound(keys, key, {}, &ConfigKey::name);
  return at != keys.end() && at->name == key ? &*at : nullptr;
}

std::unexpected<Error> unknown(BytesView key) {
  return fail(ErrorKind::kInvalid, "unknown topic configuration " + std::string(key));
}

/// flush.messages and flush.ms ask for writes to be synced soon. A broker whose acknowledgements
/// wait for the disk does so anyway; where the operator has chosen otherwise, these choose for the
/// topic.
void applyFlush(TopicConfig& config, const TopicConfigLimits& limits) {
  config.flush = limits.defaults.flush;
  for (BytesView key : {kFlushMessages, kFlushMs}) {
    auto found = config.overrides.find(std::string(key));
    if (found == config.overrides.end()) continue;
    int64_t value = 0;
    std::from_chars(found->second.data(), found->second.data() + found->second.size(), value);
    bool anyway = key == kFlushMs ? value >= kUnwaitedSyncMs : value == INT64_MAX;
    if (!anyway) config.flush = FlushPolicy::kSafe;
  }
}

bool flushes(BytesView key) {
  return key == kFlushMessages || key == kFlushMs;
}

std::string textOf(const ConfigKey& key, const TopicConfig& config,
                   const TopicConfigLimits& limits) {
  if (key.text != nullptr) return key.text(config, limits);
  auto set = config.overrides.find(std::string(key.name));
  return set != config.overrides.end() ? set->second : std::string(key.fallback);
}

ConfigEntry entryOf(const ConfigKey& key, std::string value) {
  ConfigEntry entry;
  entry.key = key.name;
  entry.value = std::move(value);
  entry.type = key.type;
  entry.documentation = key.documentation;
  return entry;
}

/// What a topic has that sets nothing, as the broker's key and as the default behind that.
void addBrokerSynonyms(const ConfigKey& key, const std::string& value, ConfigEntry& entry) {
  if (key.brokerName.empty()) return;
  if (value != key.fallback) {
    entry.synonyms.push_back({key.brokerName, value, ConfigSource::kStaticBroker});
  }
  entry.synonyms.push_back({key.brokerName, std::string(key.fallback), ConfigSource::kDefault});
}

}  // namespace

Result<> setTopicConfig(TopicConfig& config, BytesView name, const std::optional<BytesView>& value,
                        const TopicConfigLimits& limits) {
  const ConfigKey* key = find(name);
  if (key == nullptr) return unknown(name);
  if (!value) return fail(ErrorKind::kInvalid, std::string(name) + ": a value is missing");
  BytesView text = trimmed(*value);
  if (auto remedy = key->set(config, text, *key, limits); !remedy.empty()) {
    return fail(ErrorKind::kInvalid, std::string(name) + "=" + std::string(text) + ": " + remedy);
  }
  config.overrides[std::string(name)] = std::string(text);
  if (flushes(name)) applyFlush(config, limits);
  return {};
}

Result<> resetTopicConfig(TopicConfig& config, BytesView name, const TopicConfigLimits& limits) {
  const ConfigKey* key = find(name);
  if (key == nullptr) return unknown(name);
  config.overrides.erase(std::string(name));
  if (key->reset != nullptr) key->reset(config, limits.defaults);
  if (flushes(name)) applyFlush(config, limits);
  return {};
}

Result<> extendTopicConfig(TopicConfig& config, BytesView name, BytesView words, bool remove,
                           const TopicConfigLimits& limits) {
  const ConfigKey* key = find(name);
  if (key == nullptr) return unknown(name);
  if (key->type != ConfigType::kList) {
    return fail(ErrorKind::kInvalid, std::string(name) + " is not a list: set it or delete it");
  }
  std::vector<std::string> all = wordsOf(textOf(*key, config, limits));
  for (const std::string& word : wordsOf(words)) {
    auto there = std::ranges::find(all, word);
    if (remove && there != all.end()) all.erase(there);
    if (!remove && there == all.end()) all.push_back(word);
  }
  std::string value;
  for (const std::string& word : all) value += (value.empty() ? "" : ",") + word;
  return setTopicConfig(config, name, BytesView(value), limits);
}

std::vector<ConfigEntry> describeTopicConfig(const TopicConfig& config,
                                             const TopicConfigLimits& limits) {
  std::vector<ConfigEntry> entries;
  entries.reserve(topicConfigKeys().size());
  for (const ConfigKey& key : topicConfigKeys()) {
    ConfigEntry& entry = entries.emplace_back(entryOf(key, textOf(key, config, limits)));
    std::string unset = textOf(key, limits.defaults, limits);
    // It may have a value of its own that no Kafka client gave it: an AMQP stream's arguments.
    if (config.overrides.contains(std::string(key.name)) || *entry.value != unset) {
      entry.source = ConfigSource::kTopic;
      entry.synonyms.push_back({key.name, *entry.value, ConfigSource::kTopic});
    } else if (unset != key.fallback) {
      entry.source = ConfigSource::kStaticBroker;
    }
    addBrokerSynonyms(key, unset, entry);
  }
  return entries;
}

std::vector<ConfigEntry> describeTopicDefaults(const TopicConfigLimits& limits) {
  std::vector<ConfigEntry> entries;
  for (const ConfigKey& key : topicConfigKeys()) {
    if (key.brokerName.empty()) continue;
    ConfigEntry& entry = entries.emplace_back(entryOf(key, textOf(key, limits.defaults, limits)));
    entry.key = key.brokerName;
    entry.readOnly = true;
    if (*entry.value != key.fallback) entry.source = ConfigSource::kStaticBroker;
    addBrokerSynonyms(key, *entry.value, entry);
  }
  return entries;
}

}  // namespace polylog::kafka
