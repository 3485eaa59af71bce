#include "core/base/clock.h"

#include <sys/random.h>

#include <chrono>
#include <cstdlib>

namespace polylog {
namespace {

class SystemClock final : public Clock {
 public:
  int64_t monotonicMicros() const override {
    return std::chrono::duration_cast<std::chrono::microseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
  int64_t wallMillis() const override {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  }
};

class SystemRandom final : public Random {
 public:
  uint64_t next() override {
    uint64_t value = 0;
    // Eight octets never come short (getrandom(2)); failing means a kernel without it.
    if (getrandom(&value, sizeof value, 0) != sizeof value) std::abort();
    return value;
  }
};

}  // namespace

Clock& systemClock() {
  static SystemClock clock;
  return clock;
}

Random& systemRandom() {
  static SystemRandom random;
  return random;
}

std::string randomHex(Random& random, size_t bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  uint64_t bits = 0;
  for (size_t i = 0; i < bytes; ++i, bits >>= 8) {
    if (i % 8 == 0) bits = random.next();
    out.push_back(kDigits[(bits >> 4) & 15U]);
    out.push_back(kDigits[bits & 15U]);
  }
  return out;
}

}  // namespace polylog
