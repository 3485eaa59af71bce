// DeliveryGuarantee <-> each protocol's own words for it, and what a subscriber gets of what the
// publisher gave. Pure, any thread. The table of acknowledgements is checked against
// docs/mapping.md.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/model/record.h"

namespace polylog::mapping {

/// MQTT's QoS 0, 1, 2 as a guarantee; anything above counts as 2.
constexpr DeliveryGuarantee guaranteeFromQos(uint8_t qos) {
  return static_cast<DeliveryGuarantee>(std::min<uint8_t>(qos, 2) + 1);
}

/// The QoS that delivers a guarantee. kUnspecified (other protocols' records) is delivered as QoS
/// 1.
constexpr uint8_t qosOf(DeliveryGuarantee guarantee) {
  if (guarantee == DeliveryGuarantee::kUnspecified) return 1;
  return static_cast<uint8_t>(static_cast<uint8_t>(guarantee) - 1);
}

/// What a delivery promises: the lesser of what the publisher and the subscription asked for.
constexpr DeliveryGuarantee deliveryGuarantee(DeliveryGuarantee published,
                                              DeliveryGuarantee subscribed) {
  return guaranteeFromQos(std::min(qosOf(published), qosOf(subscribed)));
}

/// What a publisher is told, and when.
struct AcknowledgementRow {
  const char* protocol;
  const char* asked;      ///< what the publisher chose
  const char* guarantee;  ///< the record's DeliveryGuarantee
  const char* told;       ///< what it is told, and when
};

inline constexpr AcknowledgementRow kAcknowledgements[] = {
    {"MQTT", "QoS 0", "at most once", "nothing"},
    {"MQTT", "QoS 1", "at least once", "PUBACK once the journal is durable"},
    {"MQTT", "QoS 2", "exactly once",
     "PUBREC once the journal is durable, the packet id in the same entry"},
    {"Kafka", "acks=0", "unspecified", "nothing"},
    {"Kafka", "acks=1", "unspecified", "the response once the journal is durable"},
    {"Kafka", "acks=all", "unspecified", "the response once the journal is durable"},
    {"AMQP", "no confirm", "at least once", "nothing"},
    {"AMQP", "confirm", "at least once", "basic.ack once the journal is durable"},
};

}  // namespace polylog::mapping
