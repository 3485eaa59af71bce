#include "core/model/topic.h"

#include "core/model/topic_defaults.h"

namespace polylog {
namespace {

/// Calls `visit` with every field's name and what gets at it; the cleanup policy has two parts.
template <class Visit>
void eachField(Visit visit) {
  using enum TopicField;
  visit(kRetentionMs, [](auto& config) { return &config.retentionMs; });
  visit(kRetentionBytes, [](auto& config) { return &config.retentionBytes; });
  visit(kCleanup, [](auto& config) { return &config.cleanup.deletes; });
  visit(kCleanup, [](auto& config) { return &config.cleanup.compacts; });
  visit(kMinCompactionLag, [](auto& config) { return &config.cleanup.minCompactionLagMs; });
  visit(kMaxCompactionLag, [](auto& config) { return &config.cleanup.maxCompactionLagMs; });
  visit(kDeleteRetention, [](auto& config) { return &config.cleanup.deleteRetentionMs; });
  visit(kMinDirty, [](auto& config) { return &config.cleanup.minDirtyPercent; });
  visit(kFlush, [](auto& config) { return &config.flush; });
  visit(kLogAppendTime, [](auto& config) { return &config.logAppendTime; });
  visit(kMaxBatchBytes, [](auto& config) { return &config.maxBatchBytes; });
  visit(kCompression, [](auto& config) { return &config.compression; });
}

}  // namespace

TopicConfig resolved(TopicConfig config, const TopicConfig& defaults) {
  eachField([&](TopicField field, auto part) {
    if (!config.own.has(field)) *part(config) = *part(defaults);
  });
  return config;
}

TopicFields differing(const TopicConfig& a, const TopicConfig& b) {
  TopicFields fields;
  eachField([&](TopicField field, auto part) {
    if (*part(a) != *part(b)) fields.add(field);
  });
  return fields;
}

TopicConfig TopicDefaults::inForce(Protocol origin) const {
  TopicConfig config = file(origin);
  if (!madeByDevice(origin)) {
    for (const TopicConfig* layer : {&cluster, &broker}) config = resolved(*layer, config);
  }
  config.overrides.clear();
  config.own = {};
  return config;
}

const char* protocolName(Protocol protocol) {
  switch (protocol) {
    case Protocol::kInternal: return "internal";
    case Protocol::kMqtt: return "mqtt";
    case Protocol::kKafka: return "kafka";
    case Protocol::kAmqp: return "amqp";
    case Protocol::kRocketMq: return "rocketmq";
  }
  return "unknown";
}

}  // namespace polylog
