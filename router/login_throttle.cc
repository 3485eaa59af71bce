#include "router/login_throttle.h"

#include <algorithm>
#include <utility>

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

bool LoginThrottle::admits(BytesView host, std::optional<BytesView> user, int64_t nowMicros) {
  std::lock_guard hold(lock_);
  if (buckets_.empty()) return true;
  auto within = [&](BytesView key, double burst, double perSecond) {
    auto found = byKey_.find(key);
    return found == byKey_.end() || now(*found->second, perSecond, nowMicros) <= burst - 1;
  };
  return within(host, kHostBurst, kHostPerSecond) &&
         (!user || within(keyOf(host, *user), kUserBurst, kUserPerSecond));
}

void LoginThrottle::failed(BytesView host, std::optional<BytesView> user, int64_t nowMicros) {
  std::lock_guard hold(lock_);
  if (user) add(keyOf(host, *user), kUserPerSecond, nowMicros);
  add(std::string(host), kHostPerSecond, nowMicros);
}

void LoginThrottle::add(std::string key, double perSecond, int64_t nowMicros) {
  auto found = byKey_.find(key);
  if (found != byKey_.end()) {
    buckets_.splice(buckets_.begin(), buckets_, found->second);
  } else {
    if (buckets_.size() >= kMaxEntries) {
      byKey_.erase(buckets_.back().key);
      buckets_.pop_back();
    }
    buckets_.push_front({std::move(key), 0, nowMicros});
    byKey_.emplace(buckets_.front().key, buckets_.begin());
  }
  Bucket& bucket = buckets_.front();
  bucket.failures = now(bucket, perSecond, nowMicros) + 1;
  bucket.at = nowMicros;
}

}  // namespace polylog::router
