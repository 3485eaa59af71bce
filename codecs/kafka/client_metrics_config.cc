#include "codecs/kafka/client_metrics_config.h"
#include "codecs/kafka/config_words.h"

#include <algorithm>
#include <charconv>
#include <iterator>

#include "mapping/address.h"

namespace polylog::kafka {
namespace {

constexpr BytesView kInterval = "interval.ms";
constexpr BytesView kMatch = "match";
constexpr BytesView kMetrics = "metrics";
constexpr int32_t kLeastIntervalMs = 100;
constexpr int32_t kMostIntervalMs = 3'600'000;
constexpr size_t kMaxValue = 4096;

struct Key {
  BytesView name;
  ConfigType type;
  BytesView fallback;
  BytesView documentation;
};
constexpr Key kKeys[] = {
    {kInterval, ConfigType::kInt, "300000", "How often clients push their metrics."},
    {kMatch, ConfigType::kList, "",
     "Which clients are meant: client_id=EXPRESSION and the like, all of which have to match."},
    {kMetrics, ConfigType::kList, "", "What the names of the metrics begin with; * is all."},
};

constexpr std::pair<BytesView, std::string ClientFacts::*> kParameters[] = {
    {"client_instance_id", &ClientFacts::instanceId},
    {"client_id", &ClientFacts::clientId},
    {"client_software_name", &ClientFacts::softwareName},
    {"client_software_version", &ClientFacts::softwareVersion},
    {"client_source_address", &ClientFacts::address},
    {"client_source_port", &ClientFacts::port},
};

Result<const Key*> find(BytesView name) {
  const Key* key = std::ranges::find(kKeys, name, &Key::name);
  if (key != std::end(kKeys)) return key;
  return fail(ErrorKind::kInvalid, "unknown client metrics configuration " + std::string(name));
}

std::optional<int32_t> number(BytesView text) {
  int32_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

using Condition =
    std::pair<std::string ClientFacts::*, std::shared_ptr<const mapping::NamePattern>>;

/// "client_id=EXPRESSION"
Result<Condition> conditionOf(const std::string& text) {
  size_t equals = text.find('=');
  BytesView name = trimmed(BytesView(text).substr(0, equals));
  const auto* known =
      std::ranges::find(kParameters, name, [](const auto& one) { return one.first; });
  if (equals == std::string::npos || text.find('=', equals + 1) != std::string::npos ||
      known == std::end(kParameters)) {
    std::string parameters;
    for (const auto& [parameter, member] : kParameters) {
      parameters += (parameters.empty() ? "" : ", ") + std::string(parameter);
    }
    return fail(ErrorKind::kInvalidPattern,
                "match: '" + text + "': write PARAMETER=EXPRESSION with one of " + parameters);
  }
  auto compiled =
      mapping::compileNamePattern(std::string(trimmed(BytesView(text).substr(equals + 1))));
  if (!compiled) return std::unexpected(compiled.error());
  return Condition(known->second, std::move(*compiled));
}

}  // namespace

bool MetricsSubscription::matches(const ClientFacts& client) const {
  return std::ranges::all_of(
      match, [&](const auto& one) { return one.second->matches(client.*one.first); });
}

MetricsSubscription subscriptionOf(const ClientMetricsSettings& settings) {
  MetricsSubscription subscription;
  if (auto at = settings.find(kInterval); at != settings.end()) {
    subscription.intervalMs = number(at->second).value_or(subscription.intervalMs);
  }
  if (auto at = settings.find(kMetrics); at != settings.end()) {
    subscription.metrics = wordsOf(at->second);
  }
  if (auto at = settings.find(kMatch); at != settings.end()) {
    for (const std::string& word : wordsOf(at->second)) {
      if (auto condition = conditionOf(word)) subscription.match.push_back(std::move(*condition));
    }
  }
  return subscription;
}

Result<> setClientMetrics(ClientMetricsSettings& settings, BytesView key,
                          const std::optional<BytesView>& value) {
  if (auto found = find(key); !found) return std::unexpected(found.error());
  if (!value || value->size() > kMaxValue) {
    return fail(ErrorKind::kInvalid, std::string(key) + ": use up to 4096 octets");
  }
  if (!mapping::isText(*value)) {
    return fail(ErrorKind::kInvalid, std::string(key) + ": use UTF-8");
  }
  if (key == kInterval) {
    std::optional<int32_t> interval = number(trimmed(*value));
    if (!interval || *interval < kLeastIntervalMs || *interval > kMostIntervalMs) {
      return fail(ErrorKind::kInvalid,
                  "interval.ms is a number of milliseconds from 100 to 3600000");
    }
  }
  if (key == kMatch) {
    for (const std::string& word : wordsOf(*value)) {
      if (auto condition = conditionOf(word); !condition) {
        return std::unexpected(condition.error());
      }
    }
  }
  settings[std::string(key)] = trimmed(*value);
  return {};
}

Result<> resetClientMetrics(ClientMetricsSettings& settings, BytesView key) {
  if (auto found = find(key); !found) return std::unexpected(found.error());
  settings.erase(std::string(key));
  return {};
}

Result<> extendClientMetrics(ClientMetricsSettings& settings, BytesView key, BytesView words,
                             bool remove) {
  auto found = find(key);
  if (!found) return std::unexpected(found.error());
  if ((*found)->type != ConfigType::kList) {
    return fail(ErrorKind::kInvalid, std::string(key) + " is not a list: set it or delete it");
  }
  auto set = settings.find(key);
  std::vector<std::string> all = wordsOf(set == settings.end() ? "" : BytesView(set->second));
  for (const std::string& word : wordsOf(words)) {
    auto there = std::ranges::find(all, word);
    if (remove && there != all.end()) all.erase(there);
    if (!remove && there == all.end()) all.push_back(word);
  }
  std::string value;
  for (const std::string& word : all) value += (value.empty() ? "" : ",") + word;
  return setClientMetrics(settings, key, BytesView(value));
}

std::vector<ConfigEntry> describeClientMetrics(const ClientMetricsSettings& settings) {
  std::vector<ConfigEntry> entries;
  for (const Key& key : kKeys) {
    ConfigEntry& entry = entries.emplace_back();
    entry.key = key.name;
    entry.type = key.type;
    entry.documentation = key.documentation;
    if (auto own = settings.find(key.name); own != settings.end()) {
      entry.synonyms.push_back({key.name, own->second, ConfigSource::kClientMetrics});
    }
    entry.synonyms.push_back({key.name, std::string(key.fallback), ConfigSource::kDefault});
    entry.value = entry.synonyms.front().value;
    entry.source = entry.synonyms.front().source;
  }
  return entries;
}

}  // namespace polylog::kafka
