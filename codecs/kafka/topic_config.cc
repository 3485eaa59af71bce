#include "codecs/kafka/topic_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>
#include <set>
#include <utility>

#include "codecs/kafka/config_words.h"
#include "codecs/kafka/topic_config_keys.h"
#include "core/model/broker.h"
#include "core/model/topic_defaults.h"

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

const ConfigKey* findDefault(BytesView brokerKey) {
  auto at = brokerKey.empty()
                ? topicConfigKeys().end()
                : std::ranges::find(topicConfigKeys(), brokerKey, &ConfigKey::brokerName);
  return at != topicConfigKeys().end() ? &*at : nullptr;
}

/// Whose configuration it is decides by which names it is kept as text.
enum class Whose : uint8_t { kTopic, kBroker };

BytesView nameOf(const ConfigKey& key, Whose whose) {
  return whose == Whose::kTopic ? key.name : key.brokerName;
}

const std::string* setText(const TopicConfig& config, BytesView name) {
  auto set = config.overrides.find(std::string(name));
  return set != config.overrides.end() ? &set->second : nullptr;
}

bool flushes(const ConfigKey& key) {
  return key.name == kFlushMessages || key.name == kFlushMs;
}

/// flush.messages and flush.ms ask for writes to be synced soon. A broker whose acknowledgements
/// wait for the disk does so anyway; where the operator has chosen otherwise, these choose for the
/// topic.
void applyFlush(TopicConfig& config, Whose whose) {
  config.own.remove(TopicField::kFlush);
  for (BytesView name : {kFlushMessages, kFlushMs}) {
    const std::string* set = setText(config, nameOf(*find(name), whose));
    if (set == nullptr || !asksForSync(name, *set)) continue;
    config.flush = FlushPolicy::kSafe;
    config.own.add(TopicField::kFlush);
  }
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ",") + word;
  return text;
}

/// What is kept of an accepted value: as short as it can be said, however long it came.
std::string canonical(const ConfigKey& key, BytesView value, const TopicConfig& config,
                      const TopicConfigLimits& limits) {
  // Of a list the order stays: tools compare what they are told with what they have said.
  if (key.text != nullptr && key.type != ConfigType::kList) return key.text(config, limits);
  std::string text(value);
  switch (key.type) {
    case ConfigType::kBoolean:
      for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
      return text;
    case ConfigType::kInt:
    case ConfigType::kLong: {
      int64_t number = 0;
      std::from_chars(value.data(), value.data() + value.size(), number);
      return std::to_string(number);
    }
    case ConfigType::kDouble: {
      double number = 0;
      std::from_chars(value.data(), value.data() + value.size(), number);
      std::array<char, 32> digits{};
      char* end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
      return {digits.data(), end};
    }
    case ConfigType::kList: {
      std::vector<std::string> words = wordsOf(value);
      std::set<std::string> seen;
      std::erase_if(words, [&](const std::string& word) { return !seen.insert(word).second; });
      return joined(words);
    }
    case ConfigType::kString: return text;
  }
  return text;
}

Result<> put(TopicConfig& config, const ConfigKey& key, Whose whose, BytesView value,
             const TopicConfigLimits& limits) {
  BytesView name = nameOf(key, whose);
  BytesView text = trimmed(value);
  if (auto remedy = key.set(config, text, key, limits); !remedy.empty()) {
    return fail(ErrorKind::kInvalid, std::string(name) + "=" + std::string(text) + ": " + remedy);
  }
  config.own.add(key.field);
  config.overrides[std::string(name)] = canonical(key, text, config, limits);
  if (flushes(key)) applyFlush(config, whose);
  return {};
}

void take(TopicConfig& config, const ConfigKey& key, Whose whose, const TopicConfig& defaults) {
  config.overrides.erase(std::string(nameOf(key, whose)));
  config.own.remove(key.field);
  if (flushes(key)) applyFlush(config, whose);
  config = resolved(std::move(config), defaults);
}

Result<> extend(TopicConfig& config, const ConfigKey& key, Whose whose, const std::string& before,
                BytesView words, bool remove, const TopicConfigLimits& limits) {
  if (key.type != ConfigType::kList) {
    return fail(ErrorKind::kInvalid,
                std::string(nameOf(key, whose)) + " is not a list: set it or delete it");
  }
  std::vector<std::string> all = wordsOf(before);
  for (const std::string& word : wordsOf(words)) {
    auto there = std::ranges::find(all, word);
    if (remove && there != all.end()) all.erase(there);
    if (!remove && there == all.end()) all.push_back(word);
  }
  return put(config, key, whose, joined(all), limits);
}

std::string fileText(const ConfigKey& key, const TopicConfigLimits& limits) {
  return key.text != nullptr ? key.text(limits.file, limits) : std::string(key.fallback);
}

std::string defaultText(const ConfigKey& key, const TopicConfigLimits& limits) {
  for (const TopicConfig* layer : {&limits.broker, &limits.cluster}) {
    const std::string* set = setText(*layer, key.brokerName);
    if (set != nullptr && !key.brokerName.empty()) return *set;
  }
  return fileText(key, limits);
}

std::string textOf(const ConfigKey& key, const TopicConfig& config,
                   const TopicConfigLimits& limits) {
  const std::string* set = setText(config, key.name);
  if (key.type == ConfigType::kList) {
    if (set != nullptr) return *set;
    if (!config.own.has(key.field)) return defaultText(key, limits);
  }
  if (key.text != nullptr) return key.text(config, limits);
  return set != nullptr ? *set : defaultText(key, limits);
}

ConfigEntry entryOf(const ConfigKey& key, std::string value) {
  ConfigEntry entry;
  entry.key = key.name;
  entry.value = std::move(value);
  entry.type = key.type;
  entry.documentation = key.documentation;
  return entry;
}

/// What a topic has that sets nothing: by the broker's key whatever sets it, what counts first, and
/// the default behind that.
void addBrokerSynonyms(const ConfigKey& key, const TopicConfigLimits& limits, ConfigEntry& entry) {
  if (key.brokerName.empty()) return;
  auto add = [&](std::string value, ConfigSource source) {
    entry.synonyms.push_back({key.brokerName, std::move(value), source});
  };
  if (auto* set = setText(limits.broker, key.brokerName)) add(*set, ConfigSource::kDynamicBroker);
  if (auto* set = setText(limits.cluster, key.brokerName)) {
    add(*set, ConfigSource::kDynamicDefault);
  }
  std::string file = fileText(key, limits);
  if (file != key.fallback) add(std::move(file), ConfigSource::kStaticBroker);
  add(std::string(key.fallback), ConfigSource::kDefault);
}

}  // namespace

TopicConfigLimits limitsFor(const Broker& broker, const DynamicDefaults* dynamic, Protocol origin) {
  TopicConfigLimits limits;
  limits.maxRecordBytes = broker.maxRecordBytes();
  if (dynamic == nullptr) {
    limits.defaults = limits.file = broker.topicDefaults(origin);
    return limits;
  }
  std::shared_ptr<const TopicDefaults> all = dynamic->current();
  limits.defaults = all->inForce(origin);
  limits.file = all->file(origin);
  if (!madeByDevice(origin)) {
    limits.cluster = all->cluster;
    limits.broker = all->broker;
  }
  return limits;
}

Result<> setTopicConfig(TopicConfig& config, BytesView name, const std::optional<BytesView>& value,
                        const TopicConfigLimits& limits) {
  const ConfigKey* key = find(name);
  if (key == nullptr) return unknown(name);
  if (!value) return fail(ErrorKind::kInvalid, std::string(name) + ": a value is missing");
  return put(config, *key, Whose::kTopic, *value, limits);
}

Result<> resetTopicConfig(TopicConfig& config, BytesView name, const TopicConfigLimits& limits) {
  const ConfigKey* key = find(name);
  if (key == nullptr) return unknown(name);
  take(config, *key, Whose::kTopic, limits.defaults);
  return {};
}

Result<> extendTopicConfig(TopicConfig& config, BytesView name, BytesView words, bool remove,
                           const TopicConfigLimits& limits) {
  const ConfigKey* key = find(name);
  if (key == nullptr) return unknown(name);
  return extend(config, *key, Whose::kTopic, textOf(*key, config, limits), words, remove, limits);
}

Result<> checkTopicConfig(const TopicConfig& config, const TopicConfigLimits& limits) {
  const TopicConfig inForce = resolved(config, limits.defaults);
  const CleanupPolicy& cleanup = inForce.cleanup;
  const bool lags = config.own.has(TopicField::kMinCompactionLag) ||
                    config.own.has(TopicField::kMaxCompactionLag);
  if (!lags || cleanup.minCompactionLagMs <= cleanup.maxCompactionLagMs) return {};
  return fail(ErrorKind::kInvalid,
              "min.compaction.lag.ms=" + std::to_string(cleanup.minCompactionLagMs) +
                  " is more than max.compaction.lag.ms=" +
                  std::to_string(cleanup.maxCompactionLagMs) + ": use no more than that");
}

bool isTopicDefault(BytesView brokerKey) {
  return findDefault(brokerKey) != nullptr;
}

BytesView topicDefaultOf(BytesView key) {
  const ConfigKey* known = find(key);
  return known != nullptr ? known->brokerName : BytesView();
}

Result<> setTopicDefault(TopicConfig& layer, BytesView brokerKey, BytesView value,
                         const TopicConfigLimits& limits) {
  const ConfigKey* key = findDefault(brokerKey);
  if (key == nullptr) return unknown(brokerKey);
  return put(layer, *key, Whose::kBroker, value, limits);
}

void resetTopicDefault(TopicConfig& layer, BytesView brokerKey) {
  // What isn't set means nothing in a layer: all of it is alike then.
  if (const ConfigKey* key = findDefault(brokerKey)) take(layer, *key, Whose::kBroker, {});
}

Result<> extendTopicDefault(TopicConfig& layer, BytesView brokerKey, BytesView words, bool remove,
                            const TopicConfigLimits& limits) {
  const ConfigKey* key = findDefault(brokerKey);
  if (key == nullptr) return unknown(brokerKey);
  const std::string* set = setText(layer, brokerKey);
  return extend(layer, *key, Whose::kBroker, set != nullptr ? *set : fileText(*key, limits), words,
                remove, limits);
}

std::vector<ConfigEntry> describeTopicConfig(const TopicConfig& config,
                                             const TopicConfigLimits& limits) {
  std::vector<ConfigEntry> entries;
  entries.reserve(topicConfigKeys().size());
  for (const ConfigKey& key : topicConfigKeys()) {
    ConfigEntry& entry = entries.emplace_back(entryOf(key, textOf(key, config, limits)));
    // It may have a value of its own that no Kafka client gave it: an AMQP stream's arguments.
    if (setText(config, key.name) != nullptr || config.own.has(key.field)) {
      entry.synonyms.push_back({key.name, *entry.value, ConfigSource::kTopic});
    }
    addBrokerSynonyms(key, limits, entry);
    if (!entry.synonyms.empty()) entry.source = entry.synonyms.front().source;
  }
  return entries;
}

std::vector<ConfigEntry> describeTopicDefaults(const TopicConfigLimits& limits) {
  std::vector<ConfigEntry> entries;
  for (const ConfigKey& key : topicConfigKeys()) {
    if (key.brokerName.empty()) continue;
    ConfigEntry& entry = entries.emplace_back(entryOf(key, defaultText(key, limits)));
    entry.key = key.brokerName;
    addBrokerSynonyms(key, limits, entry);
    entry.source = entry.synonyms.front().source;
  }
  return entries;
}

std::vector<ConfigEntry> describeClusterDefaults(const TopicConfigLimits& limits) {
  std::vector<ConfigEntry> entries;
  for (const ConfigKey& key : topicConfigKeys()) {
    const std::string* set = setText(limits.cluster, key.brokerName);
    if (set == nullptr) continue;
    ConfigEntry& entry = entries.emplace_back(entryOf(key, *set));
    entry.key = key.brokerName;
    entry.source = ConfigSource::kDynamicDefault;
    entry.synonyms.push_back({key.brokerName, *set, entry.source});
  }
  std::ranges::sort(entries, {}, &ConfigEntry::key);
  return entries;
}

}  // namespace polylog::kafka
