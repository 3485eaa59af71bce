// /api/topic_defaults: what topics have that set nothing themselves, as far as it can be changed
// while the broker runs (core/model/topic_defaults.h), by the broker's keys of Kafka.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/options.h"
#include "codecs/kafka/topic_config.h"
#include "core/model/topic_defaults.h"
#include "server/api.h"
#include "server/json.h"
#include "server/topic_settings.h"

namespace polylog::server {
namespace {

using Settings = std::vector<std::pair<std::string, std::string>>;

/// Takes `broker` out of the query: this one's number, or none where all are meant.
Result<DefaultsScope> scopeIn(std::map<std::string, std::string>& query) {
  auto at = query.find("broker");
  if (at == query.end()) return DefaultsScope::kCluster;
  const std::string number = fmt::to_string(kafka::KafkaOptions().nodeId);
  if (at->second != number) {
    return fail(ErrorKind::kInvalid,
                fmt::format("there is no broker `{}`: this one is {}; leave it out to mean all",
                            at->second, number));
  }
  query.erase(at);
  return DefaultsScope::kBroker;
}

Result<> checkKey(const std::string& key) {
  if (kafka::isTopicDefault(key)) return {};
  const BytesView meant = kafka::topicDefaultOf(key);
  if (!meant.empty()) {
    return fail(ErrorKind::kInvalid,
                fmt::format("`{}` is a topic's key: the default of it is `{}`", key, meant));
  }
  return fail(ErrorKind::kInvalid,
              fmt::format("`{}` is no default of topics that can be set while the broker runs; "
                          "`polylog topic-default list` shows those that can",
                          key));
}

Result<> apply(TopicConfig& layer, const Settings& settings, bool remove,
               const kafka::TopicConfigLimits& limits) {
  for (const auto& [key, value] : settings) {
    if (!remove) {
      if (auto set = kafka::setTopicDefault(layer, key, value, limits); !set) return set;
      continue;
    }
    if (!layer.overrides.contains(key)) {
      return fail(
          ErrorKind::kNotFound,
          fmt::format("`{}` isn't set there; `polylog topic-default list` shows what is and "
                      "where",
                      key));
    }
    kafka::resetTopicDefault(layer, key);
  }
  return {};
}

/// What the layers set, beside what is in force.
void describe(Json& json, const kafka::ConfigEntry& entry) {
  json.object([&] {
    json.field("key", entry.key);
    json.octets("value", entry.value.value_or(""));
    json.field("source", sourceName(entry.source));
    for (const kafka::ConfigSynonym& layer : entry.synonyms) {
      const bool dynamic = layer.source == kafka::ConfigSource::kDynamicBroker ||
                           layer.source == kafka::ConfigSource::kDynamicDefault;
      if (dynamic) json.field(sourceName(layer.source), layer.value);
    }
  });
}

}  // namespace

void Api::handleTopicDefaults(Call call) {
  if (topicDefaults_ == nullptr) {
    return call.reply.error(
        {ErrorKind::kUnsupported, "this listener has no defaults that can be changed"});
  }
  if (call.method == "POST" || call.method == "DELETE") return alterTopicDefaults(std::move(call));
  if (call.method != "GET") {
    return call.reply.error(
        {ErrorKind::kInvalid, "use GET, POST or DELETE on /api/topic_defaults"});
  }
  Json json;
  json.object([&] {
    json.name("topic_defaults");
    json.array([&] {
      auto entries = kafka::describeTopicDefaults(
          kafka::limitsFor(broker_, topicDefaults_, Protocol::kKafka));
      std::ranges::sort(entries, {}, &kafka::ConfigEntry::key);
      for (const auto& entry : entries) describe(json, entry);
    });
  });
  call.reply.json(200, json.text());
}

void Api::alterTopicDefaults(Call call) {
  const bool remove = call.method == "DELETE";
  auto scope = scopeIn(call.query);
  if (!scope) return call.reply.error(scope.error());
  if (call.query.empty()) {
    return call.reply.error(
        {ErrorKind::kInvalid, remove ? "name the keys to take back" : "give KEY=VALUE"});
  }
  Settings settings(call.query.begin(), call.query.end());
  for (const auto& [key, value] : settings) {
    if (auto known = checkKey(key); !known) return call.reply.error(known.error());
  }
  auto change = [settings = std::move(settings), remove,
                 limits = kafka::limitsFor(broker_, topicDefaults_, Protocol::kKafka)](
                    TopicConfig& layer) { return apply(layer, settings, remove, limits); };
  topicDefaults_->alter(principal_, *scope, std::move(change), acknowledged(std::move(call.reply)));
}

}  // namespace polylog::server
