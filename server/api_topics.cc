// /api/topics: what there is, made and deleted. Their records: api_records.cc.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <iterator>
#include <map>
#include <string>
#include <utility>

#include "codecs/kafka/topic_config.h"
#include "server/api.h"
#include "server/json.h"
#include "server/topic_settings.h"

namespace polylog::server {
namespace {

constexpr int64_t kMaxPartitions = 10'000;
constexpr const char* kTopicKeys[] = {"partitions", "retention_ms", "retention_bytes",
                                      "cleanup_policy"};

/// Who made it.
const char* originOf(const Topic& topic) {
  return topic.origin == Protocol::kInternal ? "admin" : protocolName(topic.origin);
}

/// What is in force.
void describeConfig(Json& json, const TopicConfig& config) {
  json.object([&] {
    json.field("retention_ms", config.retentionMs);
    json.field("retention_bytes", config.retentionBytes);
    json.field("cleanup_policy", config.cleanup.compacts && config.cleanup.deletes
                                     ? "compact,delete"
                                 : config.cleanup.compacts ? "compact"
                                                           : "delete");
    json.field("flush", config.flush == FlushPolicy::kSafe       ? "safe"
                        : config.flush == FlushPolicy::kInterval ? "interval"
                                                                 : "never");
  });
}

/// Every key that somebody has set, by Kafka's names and an AMQP stream's arguments: the topic's
/// own, and what it follows.
void describeSettings(Json& json, const Topic& topic, const kafka::TopicConfigLimits& limits) {
  json.name("settings");
  json.array([&] {
    const auto entries = kafka::describeTopicConfig(topic.config, limits);
    for (const kafka::ConfigEntry& entry : entries) {
      if (entry.source != kafka::ConfigSource::kDefault) describeSetting(json, entry);
    }
    for (const auto& [key, value] : topic.config.overrides) {
      if (std::ranges::find(entries, key, &kafka::ConfigEntry::key) != entries.end()) continue;
      json.object([&] {
        json.octets("key", key);  // what a client has called it
        json.octets("value", value);
        json.field("source", sourceName(kafka::ConfigSource::kTopic));
      });
    }
  });
}

/// -1 where it isn't given. `unit` as in " of milliseconds".
Result<int64_t> numberIn(const std::map<std::string, std::string>& query, const char* key,
                         int64_t least, int64_t most, const char* unit) {
  auto found = query.find(key);
  if (found == query.end()) return -1;
  const std::string& text = found->second;
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  if (whole && value >= least && value <= most) return value;
  return fail(ErrorKind::kInvalid,
              fmt::format("{}={}: give a whole number{}, {}", key, text, unit,
                          least < 0 ? "or -1 for no limit" : fmt::format("{} to {}", least, most)));
}

/// What one line of the list of topics says of its contents, over all partitions.
struct Contents {
  int64_t records = 0;
  int64_t bytes = 0;
};

Contents contentsOf(Broker& broker, const PrincipalRef& principal, const Topic& topic) {
  Contents sum;
  for (size_t number = 0; number < topic.partitions.size(); ++number) {
    auto bounds = broker.bounds(principal, topic.name, static_cast<int32_t>(number));
    if (!bounds) continue;
    sum.records += bounds->highWatermark - bounds->logStart;
    sum.bytes += bounds->bytes;
  }
  return sum;
}

}  // namespace

void Api::handleTopics(Call call) {
  if (call.method != "GET") {
    return call.reply.error({ErrorKind::kInvalid, "topics are made at /api/topics/NAME"});
  }
  Json json;
  json.object([&] {
    json.name("topics");
    json.array([&] {
      for (const TopicRef& topic : broker_.topics(principal_)) {
        Contents contents = contentsOf(broker_, principal_, *topic);
        json.object([&] {
          json.field("name", topic->name);
          json.field("partitions", static_cast<int64_t>(topic->partitions.size()));
          json.field("records", contents.records);
          json.field("bytes", contents.bytes);
          json.field("origin", originOf(*topic));
        });
      }
    });
  });
  call.reply.json(200, json.text());
}

void Api::handleTopic(Call call) {
  if (call.path.size() == 4 && call.path[3] == "records") {
    if (call.method == "POST") return produce(std::move(call));
    if (call.method == "GET") return consume(std::move(call));
  } else if (call.path.size() == 3) {
    if (call.method == "GET") return describeTopic(std::move(call));
    if (call.method == "POST") return createTopic(std::move(call));
    if (call.method == "DELETE") {
      std::string name = call.path[2];
      return broker_.deleteTopic(principal_, name,
                                 acknowledged(std::move(call.reply), 200, notFound("topic", name)));
    }
  }
  call.reply.error({ErrorKind::kInvalid, "use GET, POST or DELETE on /api/topics/NAME[/records]"});
}

void Api::describeTopic(Call call) {
  TopicRef topic = broker_.findTopic(principal_, call.path[2]);
  if (!topic) return call.reply.error(notFound("topic", call.path[2]));
  Json json;
  json.object([&] {
    json.field("name", topic->name);
    json.field("origin", originOf(*topic));
    json.field("created_ms", topic->createdMs);
    json.name("config");
    describeConfig(json, topic->config);
    describeSettings(json, *topic, kafka::limitsFor(broker_, topicDefaults_, topic->origin));
    json.name("partitions");
    json.array([&] {
      for (int32_t number = 0; number < static_cast<int32_t>(topic->partitions.size()); ++number) {
        auto bounds = broker_.bounds(principal_, topic->name, number);
        json.object([&] {
          json.field("partition", static_cast<int64_t>(number));
          if (!bounds) return json.field("error", bounds.error().text);
          json.field("log_start", bounds->logStart.value());
          json.field("high_watermark", bounds->highWatermark.value());
          json.field("last_stable", bounds->lastStable.value());
          json.field("records", bounds->highWatermark - bounds->logStart);
          json.field("bytes", bounds->bytes);
        });
      }
    });
  });
  call.reply.json(200, json.text());
}

void Api::createTopic(Call call) {
  if (auto checked = checkTopicName(call.path[2]); !checked) {
    return call.reply.error(checked.error());
  }
  TopicSpec spec;
  spec.name = call.path[2];
  for (const auto& [key, value] : call.query) {
    if (std::ranges::find(kTopicKeys, key) != std::end(kTopicKeys)) continue;
    return call.reply.error(
        {ErrorKind::kInvalid,
         fmt::format(
             "`{}` is none of what a topic is made with: {}; other keys are set over Kafka, "
             "or for all topics (`polylog topic-default`)",
             key, fmt::join(kTopicKeys, ", "))});
  }
  auto partitions = numberIn(call.query, "partitions", 1, kMaxPartitions, "");
  auto millis = numberIn(call.query, "retention_ms", -1, INT64_MAX, " of milliseconds");
  auto bytes = numberIn(call.query, "retention_bytes", -1, INT64_MAX, " of octets");
  for (const auto* given : {&partitions, &millis, &bytes}) {
    if (!*given) return call.reply.error(given->error());
  }
  spec.partitions = static_cast<int32_t>(*partitions);
  auto policy = call.query.find("cleanup_policy");
  bool policyGiven = policy != call.query.end();
  if (policyGiven && policy->second != "delete" && policy->second != "compact" &&
      policy->second != "compact,delete") {
    return call.reply.error(
        {ErrorKind::kInvalid, "cleanup_policy is delete, compact or compact,delete"});
  }
  // What isn't given follows the defaults.
  TopicConfig& config = spec.config.emplace();
  auto given = [&](const char* key, TopicField field) {
    if (call.query.contains(key)) config.own.add(field);
  };
  given("retention_ms", TopicField::kRetentionMs);
  given("retention_bytes", TopicField::kRetentionBytes);
  given("cleanup_policy", TopicField::kCleanup);
  config.retentionMs = *millis;
  config.retentionBytes = *bytes;
  config.cleanup.compacts = policyGiven && policy->second.starts_with("compact");
  config.cleanup.deletes = !policyGiven || policy->second.ends_with("delete");
  broker_.createTopic(principal_, std::move(spec), acknowledged(std::move(call.reply), 201));
}

}  // namespace polylog::server
