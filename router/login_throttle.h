// How often logins may fail: a bucket of failures for each pair of address and user, and a larger
// one for each address, refilled by time. A login beyond is refused unlooked at, right or wrong, so
// guessing is slow and costs the broker nothing. Bounded: past its size everything is forgotten.
// Thread-safe.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>

#include "core/base/bytes.h"

namespace polylog::router {

class LoginThrottle {
 public:
  static constexpr double kUserBurst = 10, kUserPerSecond = 1;
  static constexpr double kHostBurst = 200, kHostPerSecond = 20;
  static constexpr size_t kMaxEntries = 100'000;

  /// Whether a login may be looked at.
  bool admits(BytesView host, BytesView user, int64_t nowMicros);
  void failed(BytesView host, BytesView user, int64_t nowMicros);

 private:
  struct Bucket {
    double failures = 0;
    int64_t at = 0;
  };
  static double now(const Bucket& bucket, double perSecond, int64_t nowMicros);
  void add(const std::string& key, double perSecond, int64_t nowMicros);

  std::mutex lock_;
  std::unordered_map<std::string, Bucket> buckets_;
};

}  // namespace polylog::router
