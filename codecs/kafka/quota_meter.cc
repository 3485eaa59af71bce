#include "codecs/kafka/quota_meter.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>

#include "codecs/kafka/limits.h"
#include "core/base/metrics.h"
#include "core/model/access.h"

namespace polylog::kafka {
namespace {

/// Kafka's quota.window.num - 1 of quota.window.size.seconds.
constexpr double kLeastWindowMs = 10'000;
constexpr int64_t kSweepMs = 1000;
/// Octets of a client id that tell clients apart.
constexpr size_t kMaxMeasuredName = 255;

Metric& throttled(QuotaKind kind) {
  auto made = [](const char* labels) {
    return &counter("polylog_kafka_throttled_total",
                    "Requests after which a client was held for passing its quota.", labels);
  };
  static Metric* const produce = made("quota=\"produce\"");
  static Metric* const fetch = made("quota=\"fetch\"");
  return kind == QuotaKind::kProduce ? *produce : *fetch;
}

}  // namespace

void QuotaMeter::Window::add(double octets, int64_t nowMs) {
  int64_t second = nowMs / 1000;
  int64_t gone = std::min<int64_t>(second - second_, kSeconds);
  for (int64_t i = 0; i < gone; ++i) sums_[static_cast<size_t>(second - i) % kSeconds] = 0;
  second_ = std::max(second_, second);
  sums_[static_cast<size_t>(second_) % kSeconds] += octets;
}

double QuotaMeter::Window::ahead(double limit, int64_t nowMs) const {
  double total = std::accumulate(sums_.begin(), sums_.end(), 0.0);
  double window = kLeastWindowMs + static_cast<double>(nowMs % 1000);
  return total / limit * 1000 - window;
}

bool QuotaMeter::Window::over(int64_t nowMs) const {
  return nowMs / 1000 - second_ >= static_cast<int64_t>(kSeconds);
}

std::optional<QuotaSet::Match> QuotaMeter::find(QuotaKind kind, const Principal& principal) const {
  if (quotas_ == nullptr) return std::nullopt;
  std::shared_ptr<const QuotaSet> set = quotas_->current();
  if (set->empty()) return std::nullopt;
  return set->find(kind, principal.user.empty() ? kAnonymousUser : principal.user,
                   principal.clientId);
}

int32_t QuotaMeter::count(QuotaKind kind, const Principal& principal, size_t octets,
                          int64_t nowMs) {
  std::optional<QuotaSet::Match> match = find(kind, principal);
  if (!match) return 0;
  std::lock_guard lock(mutex_);
  Window& window = windowOf(kind, std::move(match->shared), nowMs);
  window.add(static_cast<double>(octets), nowMs);
  double ahead = window.ahead(match->limit, nowMs);
  if (ahead < 1) return 0;
  throttled(kind).add(1);
  return static_cast<int32_t>(std::min(std::ceil(ahead), static_cast<double>(kMaxThrottleMs)));
}

/// With the lock. Clients name themselves: those beyond the limit are measured together.
QuotaMeter::Window& QuotaMeter::windowOf(QuotaKind kind, QuotaEntity&& shared, int64_t nowMs) {
  if (shared.clientId && shared.clientId->size() > kMaxMeasuredName) {
    shared.clientId->resize(kMaxMeasuredName);
  }
  std::pair key(kind, std::move(shared));
  if (auto at = windows_.find(key); at != windows_.end()) return at->second;
  if (nowMs - sweptMs_ >= kSweepMs) {
    // A client that has been quiet for so long has nothing counted against it.
    std::erase_if(windows_, [&](const auto& each) { return each.second.over(nowMs); });
    sweptMs_ = nowMs;
  }
  if (windows_.size() >= kMaxMeasuredClients) key.second = {};
  return windows_[std::move(key)];
}

size_t QuotaMeter::largestFetch(const Principal& principal, size_t otherwise) const {
  std::optional<QuotaSet::Match> match = find(QuotaKind::kFetch, principal);
  if (!match) return otherwise;
  double most = match->limit * kLeastWindowMs / 1000;
  return most < static_cast<double>(otherwise) ? static_cast<size_t>(most) + 1 : otherwise;
}

}  // namespace polylog::kafka
