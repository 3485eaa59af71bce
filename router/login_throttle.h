// How often logins may fail: a bucket of failures for each pair of address and user, and a larger
// one for each address, refilled by time. A login beyond is refused unlooked at, right or wrong, so
// guessing is slow and costs the broker nothing. Bounded: past its size the bucket goes that has
// been left alone for longest. Thread-safe.
#pragma once

#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "core/base/bytes.h"

namespace polylog::router {

class LoginThrottle {
 public:
  static constexpr double kUserBurst = 10, kUserPerSecond = 1;
  static constexpr double kHostBurst = 200, kHostPerSecond = 20;
  static constexpr size_t kMaxEntries = 100'000;

  /// Whether a login may be looked at. Without a user (a token, which nobody guesses) only the
  /// address counts.
  bool admits(BytesView host, std::optional<BytesView> user, int64_t nowMicros);
  void failed(BytesView host, std::optional<BytesView> user, int64_t nowMicros);

 private:
  struct Bucket {
    std::string key;
    double failures = 0;
    int64_t at = 0;
  };
  using Buckets = std::list<Bucket>;

  static double now(const Bucket& bucket, double perSecond, int64_t nowMicros);
  void add(std::string key, double perSecond, int64_t nowMicros);

  std::mutex lock_;
  Buckets buckets_;  ///< the last that failed first
  std::unordered_map<std::string_view, Buckets::iterator> byKey_;
};

}  // namespace polylog::router
