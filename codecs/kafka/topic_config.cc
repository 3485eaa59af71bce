#include "codecs/kafka/topic_config.h"

#include <algorithm>
#include <charconv>

namespace polylog::kafka {
namespace {

constexpr BytesView kRetentionMs = "retention.ms";
constexpr BytesView kRetentionBytes = "retention.bytes";
constexpr BytesView kMaxMessageBytes = "max.message.bytes";
constexpr BytesView kTimestampType = "message.timestamp.type";
constexpr BytesView kCleanupPolicy = "cleanup.policy";
constexpr BytesView kMinCompactionLag = "min.compaction.lag.ms";
constexpr BytesView kMaxCompactionLag = "max.compaction.lag.ms";
constexpr BytesView kDeleteRetention = "delete.retention.ms";
constexpr BytesView kDirtyRatio = "min.cleanable.dirty.ratio";
constexpr BytesView kCompressionType = "compression.type";
constexpr BytesView kMinInSync = "min.insync.replicas";

/// Hints about how Kafka keeps its files and replicates. They are kept and told, and have
/// no bearing on a broker that does none of it per topic.
constexpr BytesView kHints[] = {
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "follower.replication.throttled.replicas",
    "index.interval.bytes",
    "leader.replication.throttled.replicas",
    "message.downconversion.enable",
    "message.format.version",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.difference.max.ms",
    "preallocate",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
    "unclean.leader.election.enable",
};

std::unexpected<Error> invalid(BytesView key, BytesView value, const char* remedy) {
  return fail(ErrorKind::kInvalid, std::string(key) + "=" + std::string(value) + ": " + remedy);
}

template <class T>
bool parse(BytesView text, T lowest, T& out) {
  T value{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < lowest) return false;
  out = value;
  return true;
}

/// "delete", "compact" or both, in any order, blanks around them.
bool parsePolicy(BytesView text, CleanupPolicy& out) {
  bool deletes = false;
  bool compacts = false;
  while (true) {
    size_t comma = text.find(',');
    BytesView word = text.substr(0, comma);
    while (word.starts_with(' ')) word.remove_prefix(1);
    while (word.ends_with(' ')) word.remove_suffix(1);
    if (word != "delete" && word != "compact") return false;
    (word == "delete" ? deletes : compacts) = true;
    if (comma == BytesView::npos) break;
    text.remove_prefix(comma + 1);
  }
  out.deletes = deletes;
  out.compacts = compacts;
  return true;
}

std::string policyText(const CleanupPolicy& policy) {
  if (policy.deletes && policy.compacts) return "compact,delete";
  return policy.compacts ? "compact" : "delete";
}

Result<> apply(TopicConfig& config, BytesView key, BytesView value) {
  if (key == kRetentionMs) {
    if (!parse(value, int64_t{-1}, config.retentionMs))
      return invalid(key, value, "use -1 or more");
  } else if (key == kRetentionBytes) {
    if (!parse(value, int64_t{-1}, config.retentionBytes))
      return invalid(key, value, "use -1 or more");
  } else if (key == kMaxMessageBytes) {
    if (!parse(value, int32_t{0}, config.maxBatchBytes))
      return invalid(key, value, "use 0 or more");
  } else if (key == kTimestampType) {
    if (value != "CreateTime" && value != "LogAppendTime") {
      return invalid(key, value, "use CreateTime or LogAppendTime");
    }
    config.logAppendTime = value == "LogAppendTime";
  } else if (key == kCleanupPolicy) {
    if (!parsePolicy(value, config.cleanup)) {
      return invalid(key, value, "use delete, compact, or both with a comma between");
    }
  } else if (key == kMinCompactionLag) {
    if (!parse(value, int64_t{0}, config.cleanup.minCompactionLagMs))
      return invalid(key, value, "use 0 or more");
  } else if (key == kMaxCompactionLag) {
    if (!parse(value, int64_t{1}, config.cleanup.maxCompactionLagMs))
      return invalid(key, value, "use 1 or more");
  } else if (key == kDeleteRetention) {
    if (!parse(value, int64_t{0}, config.cleanup.deleteRetentionMs))
      return invalid(key, value, "use 0 or more");
  } else if (key == kDirtyRatio) {
    double ratio = 0;
    if (!parse(value, 0.0, ratio) || ratio > 1) return invalid(key, value, "use 0 to 1");
    config.cleanup.minDirtyPercent = static_cast<int32_t>(ratio * 100);
  } else if (key == kCompressionType) {
    if (value != "producer") return invalid(key, value, "only producer is supported");
  } else if (key == kMinInSync) {
    if (value != "1") return invalid(key, value, "there is one replica: use 1");
  } else if (std::ranges::find(kHints, key) == std::end(kHints)) {
    return fail(ErrorKind::kInvalid, "unknown topic configuration " + std::string(key));
  }
  return {};
}

}  // namespace

Result<> setTopicConfig(TopicConfig& config, BytesView key, const std::optional<BytesView>& value) {
  if (!value) return fail(ErrorKind::kInvalid, std::string(key) + ": a value is missing");
  if (Result<> applied = apply(config, key, *value); !applied) return applied;
  config.overrides[std::string(key)] = std::string(*value);
  return {};
}

std::vector<ConfigEntry> describeTopicConfig(const TopicConfig& config, int64_t maxRecordBytes) {
  std::vector<ConfigEntry> entries;
  auto add = [&](BytesView key, std::string value) {
    entries.push_back(
        {std::string(key), std::move(value), config.overrides.contains(std::string(key))});
  };
  add(kCleanupPolicy, policyText(config.cleanup));
  add(kCompressionType, "producer");
  add(kMaxMessageBytes,
      std::to_string(config.maxBatchBytes < 0 ? maxRecordBytes : int64_t{config.maxBatchBytes}));
  add(kTimestampType, config.logAppendTime ? "LogAppendTime" : "CreateTime");
  add(kMinInSync, "1");
  add(kRetentionBytes, std::to_string(config.retentionBytes));
  add(kRetentionMs, std::to_string(config.retentionMs));
  add(kDeleteRetention, std::to_string(config.cleanup.deleteRetentionMs));
  add(kMinCompactionLag, std::to_string(config.cleanup.minCompactionLagMs));
  add(kMaxCompactionLag, std::to_string(config.cleanup.maxCompactionLagMs));
  auto ratio = config.overrides.find(std::string(kDirtyRatio));
  add(kDirtyRatio, ratio == config.overrides.end() ? "0.5" : ratio->second);
  for (BytesView hint : kHints) {
    auto found = config.overrides.find(std::string(hint));
    if (found != config.overrides.end()) add(hint, found->second);
  }
  return entries;
}

}  // namespace polylog::kafka
