// AMQP 0-9-1 <-> canonical: routing keys of amq.topic, its binding keys, properties. Pure
// functions, any thread; every view returned points into the input, `scratch` or `arena`. For
// ordinary names nothing here allocates once `scratch` has grown. The tables are in
// docs/mapping.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/model/record.h"
#include "core/model/topic_filter.h"
#include "core/model/value.h"
#include "mapping/address.h"
#include "mapping/properties.h"

namespace polylog::mapping {

/// AMQP's short strings: names, routing keys, properties, names in tables.
inline constexpr size_t kAmqpMaxShortString = 255;
/// The longest that a message or queue may be told to live, in milliseconds: RabbitMQ's ten years.
inline constexpr int64_t kAmqpMaxExpirationMs = 315'360'000'000;
/// A record's timestamp to the millisecond, as RabbitMQ's own interceptor names it: AMQP's has
/// seconds.
inline constexpr BytesView kAmqpTimestampHeader = "timestamp_in_ms";

// ---- what was sent ----------------------------------------------------------------------------

/// Appends the value of a header kAmqpOriginal: version octet 1, exchange (u8 length and octets),
/// routing key (the same), then the content header's property flags and list as they came.
/// `exchange` and `routingKey` have at most 255 octets.
void appendAmqpOriginal(BytesView exchange, BytesView routingKey, BytesView properties,
                        std::string& out);

struct AmqpOriginal {
  BytesView exchange;
  BytesView routingKey;
  BytesView properties;  ///< flags and list; two octets at least, otherwise not checked
};
/// Nothing if absent or malformed. Kafka producers can write such a header too, so `properties` are
/// to be decoded before a client is sent them.
std::optional<AmqpOriginal> amqpOriginal(const Record& record);

// ---- names ------------------------------------------------------------------------------------

/// The canonical address of a routing key of amq.topic: '.' and '/' change places over the whole
/// key, then the topic is what stands before the first '/', the key the rest. kInvalid for keys
/// over 255 octets, for topics that begin with '$', and for marks that stand for nothing. A literal
/// '*' or '#' is taken as it is. `scratch` is overwritten if there is anything to change.
Result<Address> addressFromRoutingKey(BytesView key, std::string& scratch);

/// Appends the routing key under which AMQP sees the address. False, and nothing appended, when it
/// does not fit 255 octets: such a record can't be delivered to AMQP (drop and count it).
bool appendRoutingKey(const Address& address, std::string& out);

/// A binding key of amq.topic as a filter over addresses: words divided at '.', '*' for one, '#'
/// for any number anywhere. Marked names in it are decoded. kInvalid for keys over 255 octets and
/// for marks that stand for nothing.
Result<TopicFilter> filterFromBindingKey(BytesView key);

// ---- body -------------------------------------------------------------------------------------

/// A record's value as a body: null becomes empty. (A body is a value as it is, never null.)
inline BytesView amqpBody(const Record& record) {
  return record.value.value_or(BytesView());
}

// ---- properties -------------------------------------------------------------------------------

/// The properties of the class basic that other protocols can see.
struct AmqpProperties {
  std::optional<BytesView> contentType;
  std::optional<BytesView> contentEncoding;
  std::optional<BytesView> correlationId;
  std::optional<BytesView> replyTo;
  std::optional<BytesView> messageId;
  std::optional<BytesView> type;
  std::optional<BytesView> userId;
  std::optional<BytesView> appId;
  std::optional<uint8_t> deliveryMode;  ///< 1 or 2
  std::optional<uint8_t> priority;
  std::optional<int64_t> expirationMs;      ///< from now, >= 0
  std::optional<int64_t> timestampSeconds;  ///< since 1970 UTC
  Table headers;

  void clear();  ///< keeps the table's memory
};

/// Appends the headers under which other protocols see `properties`; some are views into
/// `properties.headers`. The expiry is stored as a point in time: `nowMs` (since 1970 UTC) plus the
/// expiration. The timestamp is the caller's to set (Record::timestampMs).
void headersFromAmqp(const AmqpProperties& properties, int64_t nowMs, std::vector<Header>& out,
                     TextArena& arena);

/// Sets `out` to the properties with which `record` is delivered to an AMQP client; for records
/// with amqpOriginal(), deliver that instead. The expiration becomes what remains of it. Records
/// that no AMQP client published bear their timestamp, and it again in milliseconds as a last
/// header kAmqpTimestampHeader. kExpired: don't deliver; kTooLarge: its headers are over `largest`
/// octets as AMQP writes them; `out` is then of no use.
Deliverable amqpFromHeaders(const Record& record, int64_t nowMs, AmqpProperties& out,
                            TextArena& arena, size_t largest = SIZE_MAX);

}  // namespace polylog::mapping
