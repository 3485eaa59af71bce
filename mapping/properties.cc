#include "mapping/properties.h"

#include <algorithm>
#include <charconv>

#include "core/model/record.h"

namespace polylog::mapping {
namespace {

constexpr PropertyRow kProperties[] = {
    {kContentType, "text", "Content Type", nullptr},
    {kCorrelationId, "any octets", "Correlation Data", nullptr},
    {kReplyTo, "an address, as MQTT writes it", "Response Topic", nullptr},
    {kMessageId, "text", nullptr, nullptr},
    {kUserId, "text", nullptr, nullptr},
    {kAppId, "text", nullptr, nullptr},
    {kType, "text", nullptr, nullptr},
    {kPriority, "decimal, 0 to 255", nullptr, nullptr},
    {kExpiry, "decimal milliseconds since 1970 UTC", "Message Expiry Interval", nullptr},
    {kDeliverAt, "decimal milliseconds since 1970 UTC", nullptr, nullptr},
    {kTag, "text", nullptr, nullptr},
    {kDurable, "`true` or `false`", nullptr, nullptr},
    {kPayloadFormat, "`utf-8` or `bytes`", "Payload Format Indicator", nullptr},
};

constexpr LossRow kLosses[] = {
    {"Kafka", "MQTT", "null value (tombstone)", "empty payload"},
    {"Kafka", "MQTT", "timestamp", "user property `timestamp`, milliseconds as text, the last one"},
    {"Kafka", "MQTT", "header value or name that is not text (UTF-8 without NUL)",
     "marked: `enc--` and base64url"},
    {"Kafka", "MQTT", "null header value", "user property value `enc--!null`"},
    {"Kafka", "MQTT", "header whose name or value, marked if need be, is over 65,535 octets",
     "left out"},
    {"Kafka", "MQTT", "header that begins with `polylog.`", "left out: such are the broker's own"},
    {"Kafka", "MQTT", "order between headers that become properties and others", "not kept"},
    {"Kafka", "MQTT", "topic and key that make a name over 65,535 octets, marked if need be",
     "not delivered, counted"},
    {"Kafka", "MQTT", "partition, offset, producer id", "not shown"},
    {"Kafka", "MQTT 3.1.1", "all headers and the timestamp", "not shown; `expiry` is obeyed"},
    {"MQTT", "MQTT 3.1.1", "all properties", "not shown; the expiry is obeyed"},
    {"MQTT", "Kafka", "topic whose Kafka name, marked, is over 249 octets", "not shown to Kafka"},
    {"MQTT", "Kafka", "QoS and retain flag", "not shown (kept in the record's unused attributes)"},
    {"MQTT", "Kafka", "user property named as a property that MQTT has a place for, or `polylog.*`",
     "header with `user.` before its name"},
    {"MQTT", "Kafka", "user property name or value that is a marked form",
     "what it stands for; the value `enc--!null` is null"},
    {"MQTT", "Kafka", "message expiry interval",
     "header `expiry`, the point in time; expired "
     "records stay readable until retention"},
    {"MQTT", "Kafka", "empty payload with retain (clears the retained message)", "null value"},
};

const char* ownPlace(const PropertyRow& row, Protocol protocol) {
  switch (protocol) {
    case Protocol::kMqtt: return row.mqtt;
    case Protocol::kKafka: return row.kafka;
    default: return nullptr;
  }
}

}  // namespace

std::span<const PropertyRow> canonicalProperties() {
  return kProperties;
}

std::span<const LossRow> losses() {
  return kLosses;
}

bool needsEscape(BytesView name, Protocol protocol) {
  // Kafka's batches are stored as they came: nothing in them can be renamed.
  if (protocol == Protocol::kKafka) return false;
  // However often it is escaped already: one more, so that taking one off is the exact reverse.
  while (name.starts_with(kUserPrefix)) name.remove_prefix(kUserPrefix.size());
  if (name.starts_with(kReservedHeaderPrefix)) return true;
  return std::ranges::any_of(kProperties, [&](const PropertyRow& row) {
    return ownPlace(row, protocol) != nullptr && row.name == name;
  });
}

std::optional<BytesView> unescaped(BytesView stored, Protocol protocol) {
  if (!stored.starts_with(kUserPrefix)) return std::nullopt;
  BytesView name = stored.substr(kUserPrefix.size());
  if (!needsEscape(name, protocol)) return std::nullopt;
  return name;
}

std::optional<int64_t> decimal(BytesView text) {
  int64_t value = 0;
  // from_chars alone would take a minus sign.
  if (text.empty() || text.front() < '0' || text.front() > '9') return std::nullopt;
  const char* end = text.data() + text.size();
  auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

}  // namespace polylog::mapping
