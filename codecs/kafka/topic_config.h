// A topic's configuration by Kafka's keys. A table; pure, any thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/error.h"
#include "core/model/topic.h"

namespace polylog::kafka {

/// Sets `key` to what a client wrote (null = the default stays). kInvalid for keys that Kafka
/// doesn't have, values that make no sense, and ones that ask for what isn't built.
Result<> setTopicConfig(TopicConfig& config, BytesView key, const std::optional<BytesView>& value);

struct ConfigEntry {
  std::string key;
  std::string value;
  bool setByClient = false;  ///< else the default
};

/// What is in force, by Kafka's keys.
std::vector<ConfigEntry> describeTopicConfig(const TopicConfig& config, int64_t maxRecordBytes);

}  // namespace polylog::kafka
