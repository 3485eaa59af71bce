// The canonical record: what every protocol's publish becomes and every delivery comes from.
// No protocol's type. On disk, records stand in record batches (record_batch.h).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/base/bytes.h"

namespace polylog {

/// What is promised to happen with a record between publisher, broker and consumer. Not the same
/// as Durability, which says when the disk has it.
enum class DeliveryGuarantee : uint8_t {
  kUnspecified = 0,  ///< the publisher's protocol has no such notion: delivered as kAtLeastOnce
  kAtMostOnce = 1,
  kAtLeastOnce = 2,
  kExactlyOnce = 3,
};

/// Names are UTF-8, values any octets or null. Order and duplicates are kept.
struct Header {
  BytesView name;
  std::optional<BytesView> value;
};

/// Views into memory that somebody else keeps alive (a socket's input, a stored batch).
/// Properties that several protocols know (content-type, correlation-id, ...) are headers under
/// their canonical names, see mapping/properties.h.
struct Record {
  std::optional<BytesView> key;
  std::optional<BytesView> value;
  int64_t timestampMs = -1;  ///< since 1970 UTC; -1 = none given
  std::vector<Header> headers;
  /// Kept in the batch format's otherwise unused record attributes, so no consumer sees a header.
  DeliveryGuarantee guarantee = DeliveryGuarantee::kUnspecified;
  bool retain = false;  ///< the publisher set MQTT's retain flag
};

/// A record and what keeps its octets alive.
struct OwnedRecord {
  SharedBytes owner;
  Record record;
};

/// The address every protocol's names map to (design section 4): null key and empty key differ.
struct Address {
  BytesView topic;
  std::optional<BytesView> key;
};

/// Headers whose names begin with this are the broker's own; a publisher's are escaped by mapping/.
inline constexpr BytesView kReservedHeaderPrefix = "polylog.";
/// The address as published ("topic/key", or "topic" for a null key) where it can't be derived
/// from the topic and key under which the record is stored.
inline constexpr BytesView kAddressHeader = "polylog.address";
/// The topic of the broker's own values: nobody else publishes to it.
inline constexpr BytesView kSystemTopic = "$SYS";
/// The topic of Sparkplug's birth certificates, which the broker keeps: nobody else publishes to it.
inline constexpr BytesView kSparkplugTopic = "$sparkplug";
/// What a delayed publish will be; only while it waits.
inline constexpr BytesView kDelayedHeader = "polylog.delayed";
/// The publisher's client id, where shared subscriptions are divided by it.
inline constexpr BytesView kPublisherHeader = "polylog.publisher";

}  // namespace polylog
