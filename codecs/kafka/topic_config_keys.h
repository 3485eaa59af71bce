// The rows of topic_config.h's table.
#pragma once

#include <span>
#include <string>

#include "codecs/kafka/topic_config.h"
#include "core/model/flush_keys.h"

namespace polylog::kafka {

struct ConfigKey {
  BytesView name;
  ConfigType type;
  /// The broker's key for topics that don't set this one; may be empty. It can be changed at any
  /// time.
  BytesView brokerName;
  BytesView fallback;  ///< what is in force if nobody sets anything
  BytesView documentation;
  /// Puts `value` into the fields that follow from it. Not empty: what is wrong with it.
  std::string (*set)(TopicConfig& config, BytesView value, const ConfigKey& key,
                     const TopicConfigLimits& limits);
  /// What those are. kNone: none, or more than this key has a say in it (flush.*).
  TopicField field;
  /// The fields as text. Null: what was set, else `fallback`.
  std::string (*text)(const TopicConfig& config, const TopicConfigLimits& limits);
};

/// By name.
std::span<const ConfigKey> topicConfigKeys();

}  // namespace polylog::kafka
