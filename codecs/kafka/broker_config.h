// The broker's configuration by Kafka's keys: what Polylog has under that name. Read-only, since
// the broker reads its own file at its start, but for what topics follow (topic_config.h). Own
// thread of the call's session.
#pragma once

#include <vector>

#include "codecs/kafka/topic_config.h"

namespace polylog::kafka {

class Call;

/// By name. `call` must be open; `topics` is of topics that Kafka's clients make.
std::vector<ConfigEntry> describeBroker(const Call& call, const TopicConfigLimits& topics);

}  // namespace polylog::kafka
