#include "codecs/kafka/broker_config.h"

#include <algorithm>
#include <string>
#include <utility>

#include "codecs/kafka/call.h"
#include "codecs/kafka/limits.h"

namespace polylog::kafka {
namespace {

std::string endpoint(const HostPort& at) {
  bool v6 = at.host.find(':') != std::string::npos;
  return "PLAINTEXT://" + (v6 ? "[" + at.host + "]" : at.host) + ":" + std::to_string(at.port);
}

std::string word(bool value) {
  return value ? "true" : "false";
}

class Listing {
 public:
  void add(BytesView key, ConfigType type, std::string value, BytesView fallback,
           BytesView documentation) {
    ConfigEntry& entry = entries.emplace_back();
    entry.key = key;
    entry.type = type;
    entry.readOnly = true;
    entry.documentation = documentation;
    if (value != fallback) {
      entry.source = ConfigSource::kStaticBroker;
      entry.synonyms.push_back({key, value, ConfigSource::kStaticBroker});
    }
    if (!fallback.empty()) {
      entry.synonyms.push_back({key, std::string(fallback), ConfigSource::kDefault});
    }
    entry.value = std::move(value);
  }

  std::vector<ConfigEntry> entries;
};

void addIdentity(const Call& call, Listing& out) {
  std::string node = std::to_string(call.options().nodeId);
  out.add("advertised.listeners", ConfigType::kString, endpoint(call.advertised()), "",
          "Where clients are told to find the broker (kafka.advertised).");
  out.add("listeners", ConfigType::kString, endpoint(call.transport().local()), "",
          "The listener that this connection came in by (listeners).");
  out.add("broker.id", ConfigType::kInt, node, "", "The broker's number.");
  out.add("node.id", ConfigType::kInt, node, "", "The broker's number.");
  const std::string& directory = call.options().facts.dataDirectory;
  out.add("log.dir", ConfigType::kString, directory, "", "The data directory (data.dir).");
  out.add("log.dirs", ConfigType::kString, directory, "", "The data directory (data.dir).");
}

void addTopics(const Call& call, Listing& out) {
  out.add("auto.create.topics.enable", ConfigType::kBoolean, word(call.broker().autoCreateTopics()),
          "true", "Whether topics come by themselves (topics.auto_create).");
  out.add("default.replication.factor", ConfigType::kInt, "1", "1", "There is one broker.");
  out.add("delete.topic.enable", ConfigType::kBoolean, "true", "true", "Topics can be deleted.");
  out.add("fetch.max.bytes", ConfigType::kInt, std::to_string(call.options().maxFetchBytes),
          "16777216", "The most that one fetch is answered with, or one batch.");
  out.add("log.cleaner.enable", ConfigType::kBoolean, "true", "true",
          "Compacted topics are compacted.");
  out.add("max.incremental.fetch.session.cache.slots", ConfigType::kInt,
          std::to_string(call.options().maxFetchSessions), "1000",
          "The most fetch sessions of a listener's clients (kafka.max_fetch_sessions).");
  out.add("max.request.partition.size.limit", ConfigType::kInt,
          std::to_string(kMaxDescribedPartitions), "2000",
          "Partitions in one answer to DescribeTopicPartitions.");
  out.add("telemetry.max.bytes", ConfigType::kInt, std::to_string(kMaxTelemetryBytes), "1048576",
          "Octets of metrics that a client may push at one time.");
  out.add("num.partitions", ConfigType::kInt,
          std::to_string(call.options().facts.defaultPartitions), "1",
          "Of topics made without a number (topics.partitions).");
}

void addConsumerGroups(const Call& call, Listing& out) {
  GroupDefaults defaults = call.broker().groupDefaults();
  auto number = [&](BytesView key, int32_t value, BytesView fallback, BytesView documentation) {
    out.add(key, ConfigType::kInt, std::to_string(value), fallback, documentation);
  };
  out.add("group.consumer.assignors", ConfigType::kList, "uniform,range", "uniform,range",
          "What assigns partitions to members of the consumer protocol; the first where they name "
          "none.");
  out.add("group.consumer.migration.policy", ConfigType::kString, "bidirectional", "bidirectional",
          "Groups change between the classic and the consumer protocol with their members.");
  number("group.consumer.heartbeat.interval.ms", defaults.heartbeatIntervalMs, "5000",
         "How often members of the consumer protocol are to be heard of "
         "(kafka.group.consumer.heartbeat_interval_ms).");
  number("group.consumer.min.heartbeat.interval.ms", defaults.minHeartbeatIntervalMs, "1000",
         "The least that a group may have for it.");
  number("group.consumer.max.heartbeat.interval.ms", defaults.maxHeartbeatIntervalMs, "600000",
         "The most that a group may have for it.");
  number("group.consumer.session.timeout.ms", defaults.sessionTimeoutMs, "45000",
         "When a member of the consumer protocol that isn't heard of is given up "
         "(kafka.group.consumer.session_timeout_ms).");
  number("group.consumer.min.session.timeout.ms", defaults.minSessionTimeoutMs, "6000",
         "The least that a group may have for it.");
  number("group.consumer.max.session.timeout.ms", defaults.maxSessionTimeoutMs, "1800000",
         "The most that a group may have for it.");
  number("group.consumer.max.size", defaults.maxMembers, "10000",
         "The most members of a group of the consumer protocol.");
}

void addShareGroups(const Call& call, Listing& out) {
  GroupDefaults defaults = call.broker().groupDefaults();
  auto number = [&](BytesView key, int32_t value, BytesView fallback, BytesView documentation) {
    out.add(key, ConfigType::kInt, std::to_string(value), fallback, documentation);
  };
  number("group.share.heartbeat.interval.ms", defaults.shareHeartbeatIntervalMs, "5000",
         "How often members of share groups are to be heard of "
         "(kafka.group.share.heartbeat_interval_ms).");
  number("group.share.min.heartbeat.interval.ms", defaults.minShareHeartbeatIntervalMs, "1000",
         "The least that a group may have for it.");
  number("group.share.max.heartbeat.interval.ms", defaults.maxShareHeartbeatIntervalMs, "600000",
         "The most that a group may have for it.");
  number("group.share.session.timeout.ms", defaults.shareSessionTimeoutMs, "45000",
         "When a member of a share group that isn't heard of is given up "
         "(kafka.group.share.session_timeout_ms).");
  number("group.share.min.session.timeout.ms", defaults.minShareSessionTimeoutMs, "6000",
         "The least that a group may have for it.");
  number("group.share.max.session.timeout.ms", defaults.maxShareSessionTimeoutMs, "1800000",
         "The most that a group may have for it.");
  number("group.share.record.lock.duration.ms", defaults.shareLockMs, "30000",
         "How long a record is a share group's member's "
         "(kafka.group.share.record_lock_duration_ms).");
  number("group.share.min.record.lock.duration.ms", defaults.minShareLockMs, "1000",
         "The least that a group may have for it.");
  number("group.share.max.record.lock.duration.ms", defaults.maxShareLockMs, "3600000",
         "The most that a group may have for it.");
  number("group.share.delivery.count.limit", defaults.shareDeliveries, "5",
         "How often a record is delivered before a share group gives it up "
         "(kafka.group.share.delivery_count_limit).");
  number("group.share.partition.max.record.locks", defaults.shareRecordLocks, "2000",
         "Records of a partition that a share group's members have, or had and have not dealt with "
         "(kafka.group.share.max_record_locks).");
  number("group.share.max.share.sessions", static_cast<int32_t>(call.options().maxShareSessions),
         "2000", "Members of share groups that fetch at a time (kafka.max_share_sessions).");
  number("group.share.max.size", defaults.maxMembers, "10000",
         "The most members of a share group.");
}

void addGroups(const Call& call, Listing& out) {
  const KafkaOptions& options = call.options();
  out.add("group.coordinator.rebalance.protocols", ConfigType::kList, "classic,consumer,share",
          "classic,consumer,share", "The group protocols that are served.");
  addConsumerGroups(call, out);
  addShareGroups(call, out);
  out.add("group.initial.rebalance.delay.ms", ConfigType::kInt,
          std::to_string(options.facts.initialRebalanceDelayMs), "200",
          "How long an empty group's first member waits for others "
          "(kafka.group.initial_rebalance_delay_ms).");
  out.add("group.max.session.timeout.ms", ConfigType::kInt,
          std::to_string(options.maxSessionTimeoutMs), "1800000",
          "The longest session timeout of a group's member.");
  out.add("group.max.size", ConfigType::kInt, std::to_string(options.facts.maxGroupMembers),
          "10000", "The most members of a group.");
  out.add("group.min.session.timeout.ms", ConfigType::kInt,
          std::to_string(options.minSessionTimeoutMs), "6000",
          "The shortest session timeout of a group's member.");
  out.add("offset.metadata.max.bytes", ConfigType::kInt, std::to_string(kMaxOffsetMetadata), "4096",
          "The largest metadata of a committed offset.");
  out.add("offsets.retention.minutes", ConfigType::kInt,
          std::to_string(options.facts.offsetsRetentionMinutes), "10080",
          "How long an empty group's offsets are kept (kafka.offsets_retention_minutes).");
}

}  // namespace

std::vector<ConfigEntry> describeBroker(const Call& call, const TopicConfigLimits& topics) {
  Listing listing;
  addIdentity(call, listing);
  addTopics(call, listing);
  addGroups(call, listing);
  for (ConfigEntry& entry : describeTopicDefaults(topics)) {
    entry.readOnly = call.options().dynamicDefaults == nullptr;
    listing.entries.push_back(std::move(entry));
  }
  std::ranges::sort(listing.entries, {}, &ConfigEntry::key);
  return std::move(listing.entries);
}

}  // namespace polylog::kafka
