// The canonical properties: what several protocols know about a message, under one name each. They
// are stored as record headers of these names, with text values unless said otherwise, so a Kafka
// consumer sees them and a Kafka producer can set them. Tables; pure, any thread.
//
// One rule for all protocols: a property has its own place in a protocol (MQTT's Content Type), and
// travels as a header (MQTT: user property) under its name in the others. A publisher's header
// which bears the name of a property with a place of its own *in the publisher's protocol*, or of a
// header of the broker's, is not that property: it is stored with kUserPrefix before it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "core/base/bytes.h"
#include "core/model/record.h"
#include "core/model/topic.h"

namespace polylog::mapping {

inline constexpr BytesView kContentType = "content-type";
inline constexpr BytesView kContentEncoding = "content-encoding";
inline constexpr BytesView kCorrelationId = "correlation-id";  ///< any octets
/// An address as MQTT writes it, or an AMQP queue's name: whichever the publisher's protocol has.
inline constexpr BytesView kReplyTo = "reply-to";
inline constexpr BytesView kMessageId = "message-id";
inline constexpr BytesView kUserId = "user-id";
inline constexpr BytesView kAppId = "app-id";
inline constexpr BytesView kType = "type";
inline constexpr BytesView kPriority = "priority";
inline constexpr BytesView kExpiry = "expiry";         ///< decimal milliseconds since 1970 UTC
inline constexpr BytesView kDeliverAt = "deliver-at";  ///< decimal milliseconds since 1970 UTC
inline constexpr BytesView kTag = "tag";
inline constexpr BytesView kDurable = "durable";
inline constexpr BytesView kPayloadFormat = "payload-format";  ///< "utf-8" or "bytes"

inline constexpr BytesView kPayloadFormatText = "utf-8";
inline constexpr BytesView kPayloadFormatBytes = "bytes";
/// What a record's timestamp becomes in protocols that have no place for it.
inline constexpr BytesView kTimestampProperty = "timestamp";
inline constexpr BytesView kUserPrefix = "user.";

/// A reserved header that keeps what an AMQP publisher sent, so that AMQP consumers get it back
/// octet for octet. Its layout is in mapping/amqp.h.
inline constexpr BytesView kAmqpOriginal = "polylog.amqp";

struct PropertyRow {
  BytesView name;
  const char* value;  ///< what the header's value holds
  const char* mqtt;   ///< its own place in MQTT 5; null = a user property of its name
  const char* kafka;  ///< its own place in Kafka; null = a header of its name
  const char* amqp;   ///< its own place in AMQP 0-9-1; null = a header of its name
};
std::span<const PropertyRow> canonicalProperties();

/// Whether the publisher's header `name` has to be escaped (see above), given the protocol.
bool needsEscape(BytesView name, Protocol protocol);
/// If `stored` is an escaped name of that protocol's, what the publisher had called it.
std::optional<BytesView> unescaped(BytesView stored, Protocol protocol);

/// A point in time or an interval as decimal text, 0 to INT64_MAX. Nothing if it is not one.
std::optional<int64_t> decimal(BytesView text);

/// When the record expires, milliseconds since 1970 UTC, if `header` says so.
std::optional<int64_t> expiryOf(const Header& header);
/// Whether the record's `expiry` lies at or before `nowMs`: it is not delivered then, to protocols
/// that know expiry. The ...FromHeaders() functions say the same.
bool isExpired(const Record& record, int64_t nowMs);

enum class Deliverable : uint8_t { kExpired, kYes, kTooLarge };

/// Whether an MQTT client published the record (as far as the record tells).
bool publishedByMqtt(const Record& record);

/// What does not survive a crossing between protocols.
struct LossRow {
  const char* from;
  const char* to;
  const char* what;
  const char* becomes;
};
std::span<const LossRow> losses();

}  // namespace polylog::mapping
