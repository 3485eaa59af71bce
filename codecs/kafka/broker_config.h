// The broker's configuration by Kafka's keys: what Polylog has under that name, all of it
// read-only, since the broker reads its own file at its start. Own thread of the call's session.
#pragma once

#include <vector>

#include "codecs/kafka/topic_config.h"

namespace polylog::kafka {

class Call;

/// By name. `call` must be open.
std::vector<ConfigEntry> describeBroker(const Call& call);

}  // namespace polylog::kafka
