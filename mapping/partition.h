// Which partition a record goes to: the Java client's choice, so that a Kafka producer and an MQTT
// publisher that use one key meet in one partition. Pure, any thread.
#pragma once

#include <cstdint>
#include <optional>

#include "core/base/bytes.h"

namespace polylog::mapping {

/// Kafka's variant of MurmurHash2 (org.apache.kafka.common.utils.Utils.murmur2), bit for bit.
int32_t murmur2(BytesView bytes);

/// What goes modulo the number of partitions: the key's hash without its sign, or, where there is
/// no key, the hash of the publisher's identity (MQTT: its client id). At most INT32_MAX.
uint32_t partitionHash(const std::optional<BytesView>& key, BytesView publisherIdentity);

/// `partitions` >= 1.
constexpr int32_t partitionOf(uint32_t hash, int32_t partitions) {
  return static_cast<int32_t>(hash % static_cast<uint32_t>(partitions));
}

}  // namespace polylog::mapping
