#include "codecs/kafka/topic_config_keys.h"

#include <algorithm>
#include <charconv>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/config_words.h"
#include "core/base/units.h"

namespace polylog::kafka {
namespace {

template <class T>
bool parse(BytesView text, T lowest, T& out) {
  T value{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < lowest) return false;
  out = value;
  return true;
}

constexpr size_t kLongestList = 32'767;

bool sameWord(BytesView a, BytesView b) {
  auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

std::string useFrom(const ConfigKey& key, int64_t lowest) {
  return "use " + wholeNumberFor(key.name) + ", " + std::to_string(lowest) + " or more";
}

// ---- what is kept and told, and has no bearing on a broker that keeps no files per topic

std::string keep(TopicConfig&, BytesView value, const ConfigKey& key, const TopicConfigLimits&) {
  int64_t number = 0;
  switch (key.type) {
    case ConfigType::kBoolean:
      return sameWord(value, "true") || sameWord(value, "false") ? "" : "use true or false";
    case ConfigType::kInt:
      return parse(value, int64_t{0}, number) && number <= INT32_MAX
                 ? ""
                 : "use " + wholeNumberFor(key.name) + ", 0 to 2147483647";
    case ConfigType::kLong: return parse(value, int64_t{0}, number) ? "" : useFrom(key, 0);
    default: return "";
  }
}

/// `*`, or partitions and brokers as in `0:1,1:1`.
std::string keepReplicas(TopicConfig&, BytesView value, const ConfigKey&,
                         const TopicConfigLimits&) {
  if (value == "*") return "";
  const std::vector<std::string> words = wordsOf(value);
  for (const std::string& word : words) {
    const BytesView text = word;
    const size_t colon = std::min(text.find(':'), text.size());
    int32_t number = 0;
    if (colon == text.size() || !parse(text.substr(0, colon), int32_t{0}, number) ||
        !parse(text.substr(colon + 1), int32_t{0}, number)) {
      return "use * or PARTITION:BROKER, with commas between";
    }
  }
  return value.size() <= kLongestList ? "" : "use * for all: this is too long to keep";
}

/// What is not built can be said to be off.
std::string onlyFallback(TopicConfig&, BytesView value, const ConfigKey& key,
                         const TopicConfigLimits&) {
  if (sameWord(value, key.fallback)) return "";
  return "only " + std::string(key.fallback) + " is supported";
}

// ---- numbers

template <auto Field, int64_t Lowest>
std::string setNumber(TopicConfig& config, BytesView value, const ConfigKey& key,
                      const TopicConfigLimits&) {
  if (parse(value, Lowest, config.*Field)) return "";
  return useFrom(key, Lowest);
}
template <auto Field>
std::string numberText(const TopicConfig& config, const TopicConfigLimits&) {
  return std::to_string(config.*Field);
}

template <auto Field, int64_t Lowest>
std::string setCleanup(TopicConfig& config, BytesView value, const ConfigKey& key,
                       const TopicConfigLimits&) {
  if (parse(value, Lowest, config.cleanup.*Field)) return "";
  return useFrom(key, Lowest);
}
template <auto Field>
std::string cleanupText(const TopicConfig& config, const TopicConfigLimits&) {
  return std::to_string(config.cleanup.*Field);
}

// ---- cleanup.policy: "delete", "compact" or both, in any order, blanks around them

std::string setPolicy(TopicConfig& config, BytesView text, const ConfigKey&,
                      const TopicConfigLimits&) {
  bool deletes = false;
  bool compacts = false;
  while (true) {
    size_t comma = text.find(',');
    BytesView word = text.substr(0, comma);
    while (word.starts_with(' ')) word.remove_prefix(1);
    while (word.ends_with(' ')) word.remove_suffix(1);
    if (word != "delete" && word != "compact") {
      return "use delete, compact, or both with a comma between";
    }
    (word == "delete" ? deletes : compacts) = true;
    if (comma == BytesView::npos) break;
    text.remove_prefix(comma + 1);
  }
  config.cleanup.deletes = deletes;
  config.cleanup.compacts = compacts;
  return "";
}
std::string policyText(const TopicConfig& config, const TopicConfigLimits&) {
  const CleanupPolicy& policy = config.cleanup;
  if (policy.deletes && policy.compacts) return "compact,delete";
  return policy.compacts ? "compact" : "delete";
}

// ---- min.cleanable.dirty.ratio

std::string setRatio(TopicConfig& config, BytesView value, const ConfigKey&,
                     const TopicConfigLimits&) {
  double ratio = 0;
  if (!parse(value, 0.0, ratio) || !(ratio >= 0 && ratio <= 1)) return "use 0 to 1";  // NaN is none
  config.cleanup.minDirtyPercent = static_cast<int32_t>(ratio * 100 + 0.5);
  return "";
}

// ---- compression.type

constexpr std::pair<BytesView, Compression> kCodecs[] = {
    {"uncompressed", Compression::kNone}, {"gzip", Compression::kGzip},
    {"snappy", Compression::kSnappy},     {"lz4", Compression::kLz4},
    {"zstd", Compression::kZstd},
};

std::string setCompression(TopicConfig& config, BytesView value, const ConfigKey&,
                           const TopicConfigLimits&) {
  if (value == "producer") {
    config.compression.reset();
    return "";
  }
  for (const auto& [name, codec] : kCodecs) {
    if (name != value) continue;
    config.compression = codec;
    return "";
  }
  return "use producer, uncompressed, gzip, snappy, lz4 or zstd";
}
std::string compressionText(const TopicConfig& config, const TopicConfigLimits&) {
  for (const auto& [name, codec] : kCodecs) {
    if (config.compression == codec) return std::string(name);
  }
  return "producer";
}

// ---- max.message.bytes

std::string setLargest(TopicConfig& config, BytesView value, const ConfigKey& key,
                       const TopicConfigLimits& limits) {
  int32_t size = 0;
  if (!parse(value, int32_t{0}, size)) return useFrom(key, 0);
  if (size > limits.maxRecordBytes) {
    return "the broker takes no more than " + std::to_string(limits.maxRecordBytes) +
           " octets (limits.max_message_bytes)";
  }
  config.maxBatchBytes = size;
  return "";
}
std::string largestText(const TopicConfig& config, const TopicConfigLimits& limits) {
  return std::to_string(config.maxBatchBytes < 0 ? limits.maxRecordBytes
                                                 : int64_t{config.maxBatchBytes});
}

// ---- message.timestamp.type

std::string setTimestampType(TopicConfig& config, BytesView value, const ConfigKey&,
                             const TopicConfigLimits&) {
  if (value != "CreateTime" && value != "LogAppendTime") return "use CreateTime or LogAppendTime";
  config.logAppendTime = value == "LogAppendTime";
  return "";
}
std::string timestampTypeText(const TopicConfig& config, const TopicConfigLimits&) {
  return config.logAppendTime ? "LogAppendTime" : "CreateTime";
}

using F = TopicField;
using T = TopicConfig;
using P = CleanupPolicy;
using enum ConfigType;
constexpr BytesView kForEver = "9223372036854775807";
constexpr BytesView kNoEffect =
    "Kept and told; Polylog keeps all topics in one journal and has no use for it.";
constexpr BytesView kNotTiered = "Tiered storage is not there: it can only be off.";
constexpr BytesView kCodecsDefault = "The codec's level; only the default can be chosen.";
constexpr BytesView kAnyTime = "How far timestamps may be from the broker's clock: not limited.";

constexpr ConfigKey kKeys[] = {
    {"cleanup.policy", kList, "log.cleanup.policy", "delete",
     "What becomes of old records: delete, by retention; compact, of each key the latest stays; or "
     "both.",
     setPolicy, F::kCleanup, policyText},
    {"compression.gzip.level", kInt, "compression.gzip.level", "-1", kCodecsDefault, onlyFallback,
     F::kNone, nullptr},
    {"compression.lz4.level", kInt, "compression.lz4.level", "9", kCodecsDefault, onlyFallback,
     F::kNone, nullptr},
    {"compression.type", kString, "compression.type", "producer",
     "What batches are stored with: producer, as they came; uncompressed, gzip, snappy, lz4 or "
     "zstd, "
     "compressed anew by the broker.",
     setCompression, F::kCompression, compressionText},
    {"compression.zstd.level", kInt, "compression.zstd.level", "3", kCodecsDefault, onlyFallback,
     F::kNone, nullptr},
    {"delete.retention.ms", kLong, "log.cleaner.delete.retention.ms", "86400000",
     "How long a tombstone of a compacted topic stays at least.",
     setCleanup<&P::deleteRetentionMs, 0>, F::kDeleteRetention, cleanupText<&P::deleteRetentionMs>},
    {"file.delete.delay.ms", kLong, "log.segment.delete.delay.ms", "60000", kNoEffect, keep,
     F::kNone, nullptr},
    {kFlushMessages, kLong, "log.flush.interval.messages", kForEver,
     "Any number has acknowledgements wait for the disk, which they do unless the broker is told "
     "otherwise.",
     keep, F::kNone, nullptr},
    {kFlushMs, kLong, "log.flush.interval.ms", kForEver,
     "Less than 100 has acknowledgements wait for the disk, which they do unless the broker is "
     "told "
     "otherwise.",
     keep, F::kNone, nullptr},
    {"follower.replication.throttled.replicas", kList, "", "", "There is one replica: no effect.",
     keepReplicas, F::kNone, nullptr},
    {"index.interval.bytes", kInt, "log.index.interval.bytes", "4096", kNoEffect, keep, F::kNone,
     nullptr},
    {"leader.replication.throttled.replicas", kList, "", "", "There is one replica: no effect.",
     keepReplicas, F::kNone, nullptr},
    {"local.retention.bytes", kLong, "log.local.retention.bytes", "-2", kNotTiered, onlyFallback,
     F::kNone, nullptr},
    {"local.retention.ms", kLong, "log.local.retention.ms", "-2", kNotTiered, onlyFallback,
     F::kNone, nullptr},
    {"max.compaction.lag.ms", kLong, "log.cleaner.max.compaction.lag.ms", kForEver,
     "After so long a superseded record of a compacted topic has gone.",
     setCleanup<&P::maxCompactionLagMs, 1>, F::kMaxCompactionLag,
     cleanupText<&P::maxCompactionLagMs>},
    {"max.message.bytes", kInt, "message.max.bytes", "16777216",
     "The largest batch, as compressed, that is taken.", setLargest, F::kMaxBatchBytes,
     largestText},
    {"message.timestamp.after.max.ms", kLong, "log.message.timestamp.after.max.ms", kForEver,
     kAnyTime, onlyFallback, F::kNone, nullptr},
    {"message.timestamp.before.max.ms", kLong, "log.message.timestamp.before.max.ms", kForEver,
     kAnyTime, onlyFallback, F::kNone, nullptr},
    {"message.timestamp.type", kString, "log.message.timestamp.type", "CreateTime",
     "Whose time records bear: CreateTime, the producer's; LogAppendTime, the broker's.",
     setTimestampType, F::kLogAppendTime, timestampTypeText},
    {"min.cleanable.dirty.ratio", kDouble, "log.cleaner.min.cleanable.ratio", "0.5",
     "How much of a compacted topic must be new before it is compacted again.", setRatio,
     F::kMinDirty, nullptr},
    {"min.compaction.lag.ms", kLong, "log.cleaner.min.compaction.lag.ms", "0",
     "For so long a record of a compacted topic stays whatever comes after it.",
     setCleanup<&P::minCompactionLagMs, 0>, F::kMinCompactionLag,
     cleanupText<&P::minCompactionLagMs>},
    {"min.insync.replicas", kInt, "min.insync.replicas", "1", "There is one replica.", onlyFallback,
     F::kNone, nullptr},
    {"preallocate", kBoolean, "log.preallocate", "false", "Files are not preallocated.",
     onlyFallback, F::kNone, nullptr},
    {"remote.log.copy.disable", kBoolean, "", "false", kNotTiered, onlyFallback, F::kNone, nullptr},
    {"remote.log.delete.on.disable", kBoolean, "", "false", kNotTiered, onlyFallback, F::kNone,
     nullptr},
    {"remote.storage.enable", kBoolean, "", "false", kNotTiered, onlyFallback, F::kNone, nullptr},
    {"retention.bytes", kLong, "log.retention.bytes", "-1",
     "How much a partition keeps of a topic whose old records are deleted; -1 = without limit.",
     setNumber<&T::retentionBytes, -1>, F::kRetentionBytes, numberText<&T::retentionBytes>},
    {"retention.ms", kLong, "log.retention.ms", "604800000",
     "How long records stay in a topic whose old records are deleted; -1 = for ever.",
     setNumber<&T::retentionMs, -1>, F::kRetentionMs, numberText<&T::retentionMs>},
    {"segment.bytes", kInt, "log.segment.bytes", "1073741824", kNoEffect, keep, F::kNone, nullptr},
    {"segment.index.bytes", kInt, "log.index.size.max.bytes", "10485760", kNoEffect, keep, F::kNone,
     nullptr},
    {"segment.jitter.ms", kLong, "log.roll.jitter.ms", "0", kNoEffect, keep, F::kNone, nullptr},
    {"segment.ms", kLong, "log.roll.ms", "604800000", kNoEffect, keep, F::kNone, nullptr},
    {"unclean.leader.election.enable", kBoolean, "unclean.leader.election.enable", "false",
     "There is one replica: no effect.", keep, F::kNone, nullptr},
};

static_assert(std::ranges::is_sorted(kKeys, {}, &ConfigKey::name));

}  // namespace

std::span<const ConfigKey> topicConfigKeys() {
  return kKeys;
}

}  // namespace polylog::kafka
