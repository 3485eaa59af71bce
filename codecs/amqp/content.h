// Content headers (AMQP 0-9-1, 4.2.6.1) of the class basic: body size and properties. Properties
// come and go as their octets; decoding is for what the broker itself has to know.
#pragma once

#include <cstdint>
#include <optional>

#include "core/base/byte_writer.h"
#include "core/base/bytes.h"
#include "core/base/error.h"

namespace polylog::amqp {

struct ContentHeader {
  uint16_t classId = 0;
  uint64_t bodySize = 0;
  BytesView properties;  ///< flags and list, as they came
};

/// A header frame's payload. kInvalid when it is too short or its weight is not zero (4.2.6.1).
Result<ContentHeader> decodeContentHeader(BytesView payload);

/// Views into the octets. Absent properties are nothing.
struct BasicProperties {
  std::optional<BytesView> contentType;
  std::optional<BytesView> contentEncoding;
  std::optional<BytesView> headers;  ///< a field table without its length, not decoded
  std::optional<uint8_t> deliveryMode;
  std::optional<uint8_t> priority;
  std::optional<BytesView> correlationId;
  std::optional<BytesView> replyTo;
  std::optional<BytesView> expiration;
  std::optional<BytesView> messageId;
  std::optional<uint64_t> timestamp;
  std::optional<BytesView> type;
  std::optional<BytesView> userId;
  std::optional<BytesView> appId;
  std::optional<BytesView> clusterId;
};

/// kInvalid unless `properties` is exactly flags and list (flags that no property has, and with
/// them continued flag words, are refused).
Result<BasicProperties> decodeProperties(BytesView properties);
/// Appends flags and list. Short strings are cut at 255 octets.
void encodeProperties(const BasicProperties& properties, ByteWriter& out);

}  // namespace polylog::amqp
