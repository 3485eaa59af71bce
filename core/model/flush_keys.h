// Kafka's flush.messages and flush.ms, as they are kept with a topic's configuration, whoever has
// to judge by them. Pure.
#pragma once

#include <charconv>
#include <cstdint>

#include "core/base/bytes.h"

namespace polylog {

inline constexpr BytesView kFlushMessages = "flush.messages";
inline constexpr BytesView kFlushMs = "flush.ms";
/// Whatever is chosen, what is written is synced after so long.
inline constexpr int64_t kUnwaitedSyncMs = 100;

/// Whether that value of one of the two has acknowledgements wait for the disk.
inline bool asksForSync(BytesView key, BytesView text) {
  int64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return key == kFlushMs ? value < kUnwaitedSyncMs : value != INT64_MAX;
}

}  // namespace polylog
