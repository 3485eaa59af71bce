#include "router/login_throttle.h"

#include <algorithm>

namespace polylog::router {
namespace {

std::string keyOf(BytesView host, BytesView user) {
  std::string key(host);
  key.push_back('\0');
  key.append(user.substr(0, 255));
  return key;
}

}  // namespace

double LoginThrottle::now(const Bucket& bucket, double perSecond, int64_t nowMicros) {
  double seconds = static_cast<double>(nowMicros - bucket.at) / 1e6;
  return std::max(0.0, bucket.failures - seconds * perSecond);
}

bool LoginThrottle::admits(BytesView host, BytesView user, int64_t nowMicros) {
  std::lock_guard hold(lock_);
  if (buckets_.empty()) return true;
  auto within = [&](const std::string& key, double burst, double perSecond) {
    auto found = buckets_.find(key);
    return found == buckets_.end() || now(found->second, perSecond, nowMicros) <= burst - 1;
  };
  return within(std::string(host), kHostBurst, kHostPerSecond) &&
         within(keyOf(host, user), kUserBurst, kUserPerSecond);
}

void LoginThrottle::failed(BytesView host, BytesView user, int64_t nowMicros) {
  std::lock_guard hold(lock_);
  if (buckets_.size() + 2 > kMaxEntries) buckets_.clear();
  add(std::string(host), kHostPerSecond, nowMicros);
  add(keyOf(host, user), kUserPerSecond, nowMicros);
}

void LoginThrottle::add(const std::string& key, double perSecond, int64_t nowMicros) {
  Bucket& bucket = buckets_[key];
  bucket.failures = now(bucket, perSecond, nowMicros) + 1;
  bucket.at = nowMicros;
}

}  // namespace polylog::router
