// Keys that topics are configured by, as the admin API tells them. Pure.
#pragma once

#include "codecs/kafka/topic_config.h"
#include "server/json.h"

namespace polylog::server {

/// Who has set it: `topic`, `broker`, `cluster` (all brokers), `configuration` (polylog.yaml), or
/// nobody (`default`).
inline const char* sourceName(kafka::ConfigSource source) {
  switch (source) {
    case kafka::ConfigSource::kTopic: return "topic";
    case kafka::ConfigSource::kDynamicBroker: return "broker";
    case kafka::ConfigSource::kDynamicDefault: return "cluster";
    case kafka::ConfigSource::kStaticBroker: return "configuration";
    default: return "default";
  }
}

inline void describeSetting(Json& json, const kafka::ConfigEntry& entry) {
  json.object([&] {
    json.field("key", entry.key);
    json.octets("value", entry.value.value_or(""));
    json.field("source", sourceName(entry.source));
  });
}

}  // namespace polylog::server
