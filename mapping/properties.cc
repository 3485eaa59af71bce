#include "mapping/properties.h"

#include <algorithm>
#include <charconv>

#include "core/model/record.h"

namespace polylog::mapping {
namespace {

constexpr PropertyRow kProperties[] = {
    {kContentType, "text", "Content Type", nullptr, "`content-type`"},
    {kContentEncoding, "text", nullptr, nullptr, "`content-encoding`"},
    {kCorrelationId, "any octets", "Correlation Data", nullptr, "`correlation-id`"},
    {kReplyTo, "an address as MQTT writes it, or an AMQP queue's name", "Response Topic", nullptr,
     "`reply-to`"},
    {kMessageId, "text", nullptr, nullptr, "`message-id`"},
    {kUserId, "text", nullptr, nullptr, "`user-id`"},
    {kAppId, "text", nullptr, nullptr, "`app-id`"},
    {kType, "text", nullptr, nullptr, "`type`"},
    {kPriority, "decimal, 0 to 255", nullptr, nullptr, "`priority`"},
    {kExpiry, "decimal milliseconds since 1970 UTC", "Message Expiry Interval", nullptr,
     "`expiration`"},
    {kDeliverAt, "decimal milliseconds since 1970 UTC", nullptr, nullptr, nullptr},
    {kTag, "text", nullptr, nullptr, nullptr},
    {kDurable, "`true` or `false`", nullptr, nullptr, "`delivery-mode`, 2 or 1"},
    {kPayloadFormat, "`utf-8` or `bytes`", "Payload Format Indicator", nullptr, nullptr},
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
    {"AMQP", "MQTT", "exchange", "not shown"},
    {"AMQP", "MQTT", "header that is neither text, octets nor void",
     "text: decimal, `true` or `false`; arrays and tables as JSON"},
    {"AMQP", "MQTT", "octets (`x`) in a header", "text if they are, else marked"},
    {"AMQP", "MQTT", "void (`V`) in a header", "user property value `enc--!null`"},
    {"AMQP", "MQTT", "header named as a property that AMQP has a place for and MQTT has none",
     "user property with `user.` before its name"},
    {"AMQP", "MQTT", "header `payload-format`",
     "Payload Format Indicator, if its value is valid there"},
    {"AMQP", "MQTT", "header `user.payload-format`", "user property `payload-format`"},
    {"AMQP", "MQTT", "header whose name, or property whose value, is a marked form",
     "what it stands for, if MQTT can say that"},
    {"AMQP", "MQTT", "`reply-to`",
     "Response Topic, as it is, if it can be a topic name, else a user property: a queue's name "
     "is not reached over MQTT"},
    {"AMQP", "MQTT", "`expiration`", "seconds, rounded up"},
    {"AMQP", "MQTT", "`timestamp`",
     "user property `timestamp`, milliseconds as text, the last one"},
    {"AMQP", "MQTT", "`delivery-mode` other than 1 and 2, `cluster-id`", "left out"},
    {"AMQP", "Kafka", "exchange, routing key and properties as they were sent",
     "only in the header `polylog.amqp`, in the broker's own layout"},
    {"AMQP", "Kafka", "topic whose Kafka name, marked if need be, is over 249 octets",
     "not shown to Kafka"},
    {"AMQP", "Kafka", "header that is neither text, octets nor void",
     "text: decimal, `true` or `false`; arrays and tables as JSON"},
    {"AMQP", "Kafka", "header named as a property that AMQP has a place for, or `polylog.*`",
     "header with `user.` before its name"},
    {"AMQP", "Kafka", "header whose name, or property whose value, is a marked form",
     "what it stands for"},
    {"AMQP", "Kafka", "`expiration`",
     "header `expiry`, the point in time; expired records stay readable until retention"},
    {"AMQP", "Kafka", "`delivery-mode` other than 1 and 2, `cluster-id`", "left out"},
    {"MQTT", "AMQP", "QoS and retain flag", "not shown"},
    {"MQTT", "AMQP", "topic name whose routing key, marked if need be, is over 255 octets",
     "not delivered, counted"},
    {"MQTT", "AMQP", "payload format indicator", "header `payload-format`"},
    {"MQTT", "AMQP", "response topic", "`reply-to`, as it is: a topic name, not a queue's"},
    {"MQTT", "AMQP", "correlation data that is not text", "marked: `enc--` and base64url"},
    {"MQTT", "AMQP", "property whose value, marked if need be, is over 255 octets",
     "header of the property's name"},
    {"MQTT", "AMQP",
     "user property named as a property that AMQP has a place for and MQTT has none",
     "that property, if its value is valid there"},
    {"MQTT", "AMQP",
     "`user.` before the name of a property that AMQP has a place for and MQTT none", "taken off"},
    {"MQTT", "AMQP", "user property whose name is over 255 octets", "left out"},
    {"MQTT", "AMQP", "user property value that is a marked form",
     "what it stands for; the value `enc--!null` is void (`V`)"},
    {"MQTT", "AMQP", "empty payload with retain (clears the retained message)", "empty body"},
    {"Kafka", "AMQP", "null value (tombstone)", "empty body"},
    {"Kafka", "AMQP", "timestamp",
     "`timestamp` in seconds, and header `timestamp_in_ms`, the last one"},
    {"Kafka", "AMQP", "header value that is not UTF-8", "octets (`x`)"},
    {"Kafka", "AMQP", "key that is not UTF-8",
     "marked: `enc--` and base64url"},
    {"Kafka", "AMQP", "null header value", "void (`V`)"},
    {"Kafka", "AMQP", "header name, or property's value, that is not text",
     "marked: `enc--` and base64url"},
    {"Kafka", "AMQP", "header whose name, marked if need be, is over 255 octets", "left out"},
    {"Kafka", "AMQP", "header that begins with `polylog.`", "left out: such are the broker's own"},
    {"Kafka", "AMQP", "`user.` before the name of a property that AMQP has a place for",
     "taken off"},
    {"Kafka", "AMQP", "order between headers that become properties and others", "not kept"},
    {"Kafka", "AMQP", "`expiry` more than 315,360,000,000 ms away", "an expiration of so many"},
    {"Kafka", "AMQP", "topic and key whose routing key, marked if need be, is over 255 octets",
     "not delivered, counted"},
    {"Kafka", "AMQP", "producer id", "not shown"},
};

const char* ownPlace(const PropertyRow& row, Protocol protocol) {
  switch (protocol) {
    case Protocol::kMqtt: return row.mqtt;
    case Protocol::kKafka: return row.kafka;
    case Protocol::kAmqp: return row.amqp;
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

std::optional<int64_t> expiryOf(const Header& header) {
  if (header.name != kExpiry || !header.value) return std::nullopt;
  return decimal(*header.value);
}

bool isExpired(const Record& record, int64_t nowMs) {
  for (const Header& header : record.headers) {
    if (std::optional<int64_t> expiry = expiryOf(header)) return *expiry <= nowMs;
  }
  return false;
}

bool publishedByMqtt(const Record& record) {
  return record.guarantee != DeliveryGuarantee::kUnspecified &&
         std::ranges::find(record.headers, kAmqpOriginal, &Header::name) == record.headers.end();
}

}  // namespace polylog::mapping
