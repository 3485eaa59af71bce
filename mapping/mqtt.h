// MQTT 3.1.1 and 5.0 <-> canonical: topic names, topic filters, properties. Pure functions, any
// thread; every view returned points into the input, `scratch` or `arena`. For ordinary names and
// records nothing here allocates. The tables are in docs/mapping.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/model/record.h"
#include "core/model/replay.h"
#include "core/model/topic_filter.h"
#include "mapping/address.h"
#include "mapping/properties.h"

namespace polylog::mapping {

inline constexpr size_t kMqttMaxString = 65535;
/// Levels of a topic filter; more are refused (a filter is held in memory for its session's life).
inline constexpr size_t kMqttMaxFilterLevels = 256;

// ---- names ------------------------------------------------------------------------------------

/// A topic name as of MQTT 4.7: 1 to 65,535 octets of text without '+' and '#'. For response
/// topics; publishes go through splitMqttTopic(), which checks this as well.
bool validMqttTopicName(BytesView name);

/// The canonical address of a PUBLISH's topic name. kInvalid for names that are not valid, begin
/// with '$', or bear the marker without being the marked form of anything. `scratch` is only
/// used (overwritten) for marked names.
Result<Address> splitMqttTopic(BytesView name, std::string& scratch);

/// The longest that a delayed publish may wait, as EMQX has it: 497 days.
inline constexpr uint32_t kMqttMaxDelaySeconds = 42'949'669;
struct MqttDelay {
  uint32_t seconds = 0;
  int64_t atMs = 0;  ///< not 0: at that time instead, of the wall clock

  /// When something that comes at `nowMs` is to be published; 0 = now.
  int64_t timeFrom(int64_t nowMs) const;
};
/// Of "$delayed/WHEN/TOPIC" the delay, and `name` becomes the topic; none for any other name, which
/// stays as it is. WHEN is a number of seconds or, if it is above the longest delay, the time in
/// seconds since 1970 UTC, which must not be further from `nowMs` than that. kInvalid if the name
/// begins so and is none.
Result<MqttDelay> takeMqttDelay(BytesView& name, int64_t nowMs);

/// Appends the topic name under which MQTT sees the address. False, and nothing appended, when it
/// does not fit 65,535 octets: such a record can't be delivered to MQTT (drop and count it).
bool appendMqttTopic(const Address& address, std::string& out);

/// A filter as of MQTT 4.7 ('+' and '#' alone in their level, '#' last, 1 to 65,535 octets). Marked
/// names in it are decoded. kInvalid otherwise. Not for "$share/...", see parseMqttSubscription().
Result<TopicFilter> parseMqttFilter(BytesView filter);

/// Where a replay begins, as subscribers write it: "earliest", "offset=N", "last=N", "time=N"
/// (milliseconds since 1970 UTC) or "time=-N" and a unit of s, m, h or d. kInvalid otherwise.
Result<ReplayStart> parseReplayStart(BytesView text);
/// The user property of a SUBSCRIBE that holds one.
inline constexpr BytesView kReplayProperty = "polylog-replay";

struct MqttSubscription {
  std::optional<BytesView> shareName;  ///< of "$share/NAME/FILTER"
  bool exclusive = false;              ///< of "$exclusive/FILTER", as EMQX has it
  std::optional<ReplayStart> replay;   ///< of "$replay/START/FILTER"
  TopicFilter filter;
};
/// What of a SUBSCRIBE's filter stands before the filter proper: "$share/NAME/", "$exclusive/",
/// "$replay/START/" or nothing.
BytesView mqttSubscriptionPrefix(BytesView text);
/// A SUBSCRIBE's filter, shared or not (MQTT 5, 4.8.2), or of a replay. kInvalid when malformed.
Result<MqttSubscription> parseMqttSubscription(BytesView text);

// ---- payload ----------------------------------------------------------------------------------

/// A PUBLISH's payload as a record's value: an empty one that clears a retained record is null, any
/// other is itself.
inline std::optional<BytesView> valueFromMqtt(BytesView payload, bool retain) {
  if (retain && payload.empty()) return std::nullopt;
  return payload;
}
/// A record's value as a payload: null becomes empty.
inline BytesView mqttPayload(const Record& record) {
  return record.value.value_or(BytesView());
}

// ---- properties -------------------------------------------------------------------------------

/// A PUBLISH's (or will's) properties that travel with the message. The others (topic alias,
/// subscription identifier) are between one client and the broker.
struct MqttProperties {
  std::optional<uint8_t> payloadFormat;  ///< 0 or 1
  std::optional<uint32_t> messageExpirySeconds;
  std::optional<BytesView> contentType;
  std::optional<BytesView> responseTopic;
  std::optional<BytesView> correlationData;
  std::vector<std::pair<BytesView, BytesView>> userProperties;

  bool empty() const {
    return !payloadFormat && !messageExpirySeconds && !contentType && !responseTopic &&
           !correlationData && userProperties.empty();
  }
  void clear();  ///< keeps the vector's memory
};

/// Appends the headers under which a record keeps `properties`. The expiry is stored as a point in
/// time: `nowMs` (since 1970 UTC) plus the interval.
void headersFromMqtt(const MqttProperties& properties, int64_t nowMs, std::vector<Header>& out,
                     TextArena& arena);

/// Sets `out` to the properties of a PUBLISH that delivers `record` to an MQTT 5 client; the expiry
/// becomes what remains of it. Records that no MQTT client published bear their timestamp as a last
/// user property `timestamp`. kExpired: don't deliver; `out` is of no use.
Deliverable mqttFromHeaders(const Record& record, int64_t nowMs, MqttProperties& out,
                            TextArena& arena);

}  // namespace polylog::mapping
