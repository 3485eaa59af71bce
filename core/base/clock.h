// Time and chance, so that tests can replace both. Everything that asks what time it is or throws
// dice does it through these. Implementations are thread-safe.
#pragma once

#include <cstdint>

#include "core/base/bytes.h"

namespace polylog {

class Clock {
 public:
  virtual ~Clock() = default;
  /// Microseconds since an arbitrary start; never runs backwards.
  virtual int64_t monotonicMicros() const = 0;
  /// Milliseconds since 1970-01-01 UTC.
  virtual int64_t wallMillis() const = 0;
};

class Random {
 public:
  virtual ~Random() = default;
  /// Unpredictable by a peer (getrandom in the real one), all 64 bits.
  virtual uint64_t next() = 0;
};

/// The machine's own.
Clock& systemClock();
Random& systemRandom();

/// `bytes` (at most 64) random octets as lower-case hexadecimal, for names that the broker makes up.
std::string randomHex(Random& random, size_t bytes);

}  // namespace polylog
