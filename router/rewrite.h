// Rewriting a batch's header where the topic uses the broker's time (LogAppendTime).
#pragma once

#include <cstdint>
#include <string>

namespace polylog::router {

/// Marks a whole, valid batch as stamped by the broker at `nowMs` and renews its CRC.
void stampBatch(std::string& batch, int64_t nowMs);

}  // namespace polylog::router
