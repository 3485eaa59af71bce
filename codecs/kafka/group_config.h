// A consumer group's configuration by Kafka's keys: what can be set for one group, and how what is
// in force is told. A table; pure, any thread.
#pragma once

#include <optional>
#include <vector>

#include "codecs/kafka/topic_config.h"
#include "core/model/consumer_group.h"

namespace polylog::kafka {

/// Sets `key` to what a client wrote. kInvalid for other keys than there are, and for values beyond
/// the broker's bounds.
Result<> setGroupConfig(GroupConfig& config, BytesView key, const std::optional<BytesView>& value,
                        const GroupDefaults& defaults);
/// `key` as if it had never been set. kInvalid for unknown ones.
Result<> resetGroupConfig(GroupConfig& config, BytesView key);
/// What has to hold between the keys. kInvalid.
Result<> checkGroupConfig(const GroupConfig& config, const GroupDefaults& defaults);
/// What is in force, every key there is, by name.
std::vector<ConfigEntry> describeGroupConfig(const GroupConfig& config,
                                             const GroupDefaults& defaults);

}  // namespace polylog::kafka
