// CRC-32C (Castagnoli), by isa-l: the checksum of the journal and of Kafka's record batches.
#pragma once

#include <cstdint>

#include "core/base/bytes.h"

namespace polylog {

/// The checksum of `bytes`; pass an earlier result as `previous` to go on with more octets.
uint32_t crc32c(BytesView bytes, uint32_t previous = 0);

}  // namespace polylog
