// A Clock that stands still until a test moves it. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/base/clock.h"

namespace polylog::test {

class FakeClock final : public Clock {
 public:
  explicit FakeClock(int64_t monotonicMicros = 1'000'000, int64_t wallMillis = 1'700'000'000'000)
      : monotonic_(monotonicMicros), wallMicros_(wallMillis * 1000) {}

  int64_t monotonicMicros() const override { return monotonic_.load(); }
  int64_t wallMillis() const override { return wallMicros_.load() / 1000; }

  /// Moves both clocks forward. A ManualDispatcher's advance() does this and fires timers too.
  void advance(int64_t micros) {
    monotonic_ += micros;
    wallMicros_ += micros;
  }
  /// Sets the wall clock alone, as an operator or NTP may: also backwards.
  void setWallMillis(int64_t millis) { wallMicros_ = millis * 1000; }

 private:
  std::atomic<int64_t> monotonic_;
  std::atomic<int64_t> wallMicros_;
};

}  // namespace polylog::test
