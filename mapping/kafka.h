// Kafka <-> canonical. Only topic names differ: keys, values, headers and timestamps of a Kafka
// record are the canonical ones, since its batches are stored as they came. Pure functions, any
// thread.
#pragma once

#include <optional>
#include <string>

#include "core/base/error.h"
#include "mapping/address.h"

namespace polylog::mapping {

inline constexpr size_t kKafkaMaxTopic = 249;

/// Whether Kafka can have a topic of this name: 1 to 249 of [A-Za-z0-9._-], not "." or "..".
bool validKafkaTopic(BytesView name);

/// The canonical topic that a Kafka client means by `name`. kInvalid for names that are not valid,
/// or that bear the marker without being the marked form of anything. The result is a view of
/// `name`, or of `scratch` (overwritten) for marked names.
Result<BytesView> topicFromKafka(BytesView name, std::string& scratch);

/// Appends the name under which Kafka sees a canonical topic. False, and nothing appended, if there
/// is none (marked, it passes 249 octets): Kafka does not see the topic.
bool appendKafkaTopic(BytesView topic, std::string& out);

}  // namespace polylog::mapping
