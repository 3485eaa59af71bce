#include "codecs/kafka/group_config.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <string>

namespace polylog::kafka {
namespace {

struct Key {
  BytesView name;
  BytesView brokerName;
  int32_t fallback;  ///< Kafka's own, and ours
  std::optional<int32_t> GroupConfig::*own;
  int32_t GroupDefaults::*value;
  int32_t GroupDefaults::*least;
  int32_t GroupDefaults::*most;
  BytesView documentation;
};

constexpr Key kKeys[] = {
    {"consumer.heartbeat.interval.ms", "group.consumer.heartbeat.interval.ms", 5'000,
     &GroupConfig::heartbeatIntervalMs, &GroupDefaults::heartbeatIntervalMs,
     &GroupDefaults::minHeartbeatIntervalMs, &GroupDefaults::maxHeartbeatIntervalMs,
     "How often members of the consumer protocol are to be heard of."},
    {"consumer.session.timeout.ms", "group.consumer.session.timeout.ms", 45'000,
     &GroupConfig::sessionTimeoutMs, &GroupDefaults::sessionTimeoutMs,
     &GroupDefaults::minSessionTimeoutMs, &GroupDefaults::maxSessionTimeoutMs,
     "When a member of the consumer protocol that isn't heard of is given up."},
};

Result<const Key*> find(BytesView name) {
  const Key* key = std::ranges::find(kKeys, name, &Key::name);
  if (key != std::end(kKeys)) return key;
  return fail(ErrorKind::kInvalid, "groups have no configuration " + std::string(name));
}

std::optional<int32_t> number(BytesView text) {
  int32_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

Result<> setGroupConfig(GroupConfig& config, BytesView key, const std::optional<BytesView>& value,
                        const GroupDefaults& defaults) {
  Result<const Key*> found = find(key);
  if (!found) return std::unexpected(found.error());
  std::optional<int32_t> parsed = value ? number(*value) : std::nullopt;
  int32_t least = defaults.*(*found)->least;
  int32_t most = defaults.*(*found)->most;
  if (!parsed || *parsed < least || *parsed > most) {
    return fail(ErrorKind::kInvalid, std::string(key) + " is a number from " +
                                         std::to_string(least) + " to " + std::to_string(most));
  }
  config.*(*found)->own = parsed;
  return {};
}

Result<> resetGroupConfig(GroupConfig& config, BytesView key) {
  Result<const Key*> found = find(key);
  if (!found) return std::unexpected(found.error());
  config.*(*found)->own = std::nullopt;
  return {};
}

Result<> checkGroupConfig(const GroupConfig& config, const GroupDefaults& defaults) {
  int32_t session = config.sessionTimeoutMs.value_or(defaults.sessionTimeoutMs);
  int32_t interval = config.heartbeatIntervalMs.value_or(defaults.heartbeatIntervalMs);
  if (session > interval) return {};
  return fail(ErrorKind::kInvalid,
              "consumer.session.timeout.ms has to be greater than consumer.heartbeat.interval.ms");
}

std::vector<ConfigEntry> describeGroupConfig(const GroupConfig& config,
                                             const GroupDefaults& defaults) {
  std::vector<ConfigEntry> entries;
  for (const Key& key : kKeys) {
    ConfigEntry& entry = entries.emplace_back();
    entry.key = key.name;
    entry.type = ConfigType::kInt;
    entry.documentation = key.documentation;
    int32_t forAll = defaults.*key.value;
    if (const auto& own = config.*key.own) {
      entry.synonyms.push_back({key.name, std::to_string(*own), ConfigSource::kGroup});
    }
    if (forAll != key.fallback) {
      entry.synonyms.push_back(
          {key.brokerName, std::to_string(forAll), ConfigSource::kStaticBroker});
    }
    entry.synonyms.push_back(
        {key.brokerName, std::to_string(key.fallback), ConfigSource::kDefault});
    entry.value = entry.synonyms.front().value;
    entry.source = entry.synonyms.front().source;
  }
  return entries;
}

}  // namespace polylog::kafka
