#include "codecs/kafka/group_config.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <iterator>
#include <string>

#include "core/base/units.h"

namespace polylog::kafka {
namespace {

/// A number.
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
    {"share.heartbeat.interval.ms", "group.share.heartbeat.interval.ms", 5'000,
     &GroupConfig::shareHeartbeatIntervalMs, &GroupDefaults::shareHeartbeatIntervalMs,
     &GroupDefaults::minShareHeartbeatIntervalMs, &GroupDefaults::maxShareHeartbeatIntervalMs,
     "How often members of a share group are to be heard of."},
    {"share.record.lock.duration.ms", "group.share.record.lock.duration.ms", 30'000,
     &GroupConfig::shareLockMs, &GroupDefaults::shareLockMs, &GroupDefaults::minShareLockMs,
     &GroupDefaults::maxShareLockMs,
     "How long a record is a share group's member's before it goes to another."},
    {"share.session.timeout.ms", "group.share.session.timeout.ms", 45'000,
     &GroupConfig::shareSessionTimeoutMs, &GroupDefaults::shareSessionTimeoutMs,
     &GroupDefaults::minShareSessionTimeoutMs, &GroupDefaults::maxShareSessionTimeoutMs,
     "When a member of a share group that isn't heard of is given up."},
};

constexpr BytesView kReset = "share.auto.offset.reset";
constexpr BytesView kIsolation = "share.isolation.level";
constexpr BytesView kCommitted = "read_committed";
constexpr BytesView kUncommitted = "read_uncommitted";
constexpr BytesView kByDuration = "by_duration:";

const Key* find(BytesView name) {
  const Key* key = std::ranges::find(kKeys, name, &Key::name);
  return key != std::end(kKeys) ? key : nullptr;
}

std::unexpected<Error> unknown(BytesView name) {
  return fail(ErrorKind::kInvalid, "groups have no configuration " + std::string(name));
}

std::optional<int32_t> number(BytesView text) {
  int32_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// One part of a duration, "12H", taken from the front of `text`.
std::optional<double> takePart(BytesView& text, char unit) {
  double value = 0;
  auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  bool is = error == std::errc() && std::isfinite(value) && end != text.data() + text.size() &&
            std::toupper(static_cast<unsigned char>(*end)) == unit;
  if (!is || value < 0 || std::signbit(value)) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()) + 1);
  return value;
}

/// Milliseconds of PnDTnHnMn.nS (ISO 8601), as java.time.Duration reads it; nothing for others.
std::optional<int64_t> duration(BytesView text) {
  if (text.size() < 3 || std::toupper(static_cast<unsigned char>(text.front())) != 'P') return {};
  text.remove_prefix(1);
  double seconds = 0;
  bool any = false;
  auto part = [&](char unit, double worth) {
    auto value = takePart(text, unit);
    if (!value) return;
    seconds += *value * worth;
    any = true;
  };
  part('D', 86'400);
  if (!text.empty() && std::toupper(static_cast<unsigned char>(text.front())) == 'T') {
    text.remove_prefix(1);
    any = false;
    part('H', 3600);
    part('M', 60);
    part('S', 1);
  }
  constexpr double kMost = 1e12;
  if (!any || !text.empty() || seconds > kMost) return std::nullopt;
  return static_cast<int64_t>(seconds * 1000);
}

std::optional<ShareReset> resetOf(BytesView text) {
  ShareReset reset;
  reset.text = text;
  if (text == "latest") return reset;
  if (text == "earliest") {
    reset.agoMs = ShareReset::kEarliest;
    return reset;
  }
  if (!text.starts_with(kByDuration)) return std::nullopt;
  auto ago = duration(text.substr(kByDuration.size()));
  if (!ago) return std::nullopt;
  reset.agoMs = *ago;
  return reset;
}

Result<> setText(GroupConfig& config, BytesView key, BytesView value) {
  if (key == kReset) {
    config.shareReset = resetOf(value);
    if (config.shareReset) return {};
    return fail(ErrorKind::kInvalid, std::string(key) +
                                         " is latest, earliest or by_duration:PnDTnHnMn.nS "
                                         "(by_duration:PT1H, say)");
  }
  if (key != kIsolation) return unknown(key);
  if (value != kCommitted && value != kUncommitted) {
    return fail(ErrorKind::kInvalid, std::string(key) + " is read_committed or read_uncommitted");
  }
  config.shareCommittedOnly = value == kCommitted;
  return {};
}

ConfigEntry describeText(BytesView key, const std::optional<std::string>& own, BytesView fallback,
                         BytesView documentation) {
  ConfigEntry entry;
  entry.key = key;
  entry.documentation = documentation;
  if (own) entry.synonyms.push_back({key, *own, ConfigSource::kGroup});
  entry.synonyms.push_back({key, std::string(fallback), ConfigSource::kDefault});
  entry.value = entry.synonyms.front().value;
  entry.source = entry.synonyms.front().source;
  return entry;
}

}  // namespace

Result<> setGroupConfig(GroupConfig& config, BytesView key, const std::optional<BytesView>& value,
                        const GroupDefaults& defaults) {
  const Key* found = find(key);
  if (found == nullptr) return setText(config, key, value.value_or(""));
  std::optional<int32_t> parsed = value ? number(*value) : std::nullopt;
  int32_t least = defaults.*found->least;
  int32_t most = defaults.*found->most;
  if (!parsed || *parsed < least || *parsed > most) {
    return fail(ErrorKind::kInvalid, std::string(key) + " is " + wholeNumberFor(key) + ", " +
                                         std::to_string(least) + " to " + std::to_string(most));
  }
  config.*found->own = parsed;
  return {};
}

Result<> resetGroupConfig(GroupConfig& config, BytesView key) {
  if (const Key* found = find(key)) {
    config.*found->own = std::nullopt;
  } else if (key == kReset) {
    config.shareReset = std::nullopt;
  } else if (key == kIsolation) {
    config.shareCommittedOnly = std::nullopt;
  } else {
    return unknown(key);
  }
  return {};
}

Result<> checkGroupConfig(const GroupConfig& config, const GroupDefaults& defaults) {
  int32_t session = config.sessionTimeoutMs.value_or(defaults.sessionTimeoutMs);
  int32_t interval = config.heartbeatIntervalMs.value_or(defaults.heartbeatIntervalMs);
  if (session <= interval) {
    return fail(
        ErrorKind::kInvalid,
        "consumer.session.timeout.ms has to be greater than consumer.heartbeat.interval.ms");
  }
  session = config.shareSessionTimeoutMs.value_or(defaults.shareSessionTimeoutMs);
  interval = config.shareHeartbeatIntervalMs.value_or(defaults.shareHeartbeatIntervalMs);
  if (session > interval) return {};
  return fail(ErrorKind::kInvalid,
              "share.session.timeout.ms has to be greater than share.heartbeat.interval.ms");
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
  std::optional<std::string> reset;
  if (config.shareReset) reset = config.shareReset->text;
  entries.push_back(describeText(kReset, reset, "latest",
                                 "Where a share group begins with a partition that it has not read "
                                 "yet: latest, earliest, or by_duration: and how long ago."));
  std::optional<std::string> isolation;
  if (config.shareCommittedOnly) isolation = *config.shareCommittedOnly ? kCommitted : kUncommitted;
  entries.push_back(describeText(kIsolation, isolation, kUncommitted,
                                 "Whether a share group's members get committed records alone: "
                                 "read_committed or read_uncommitted."));
  std::ranges::sort(entries, {}, &ConfigEntry::key);
  return entries;
}

}  // namespace polylog::kafka
