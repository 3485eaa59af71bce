#include "codecs/kafka/quota_meter.h"

#include <algorithm>
#include <array>
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
constexpr double kLongestSeconds = 1e9;
/// Kafka's quota.window.size.seconds: the longest that a request's time or a connection is held
/// for.
constexpr int32_t kMaxBriefMs = 1000;
/// Octets of a client id that tell clients apart.
constexpr size_t kMaxMeasuredName = 255;

Metric& throttled(QuotaKind kind) {
  static const auto metrics = [] {
    auto made = [](const char* labels) {
      return &counter("polylog_kafka_throttled_total",
                      "Requests after which a client was held for passing its quota.", labels);
    };
    return std::array{made("quota=\"produce\""), made("quota=\"fetch\""), made("quota=\"request\""),
                      made("quota=\"mutation\""), made("quota=\"connection\"")};
  }();
  return *metrics[static_cast<size_t>(kind)];
}

/// 0 for none; what is held is counted.
int32_t hold(QuotaKind kind, double millis, int32_t most) {
  if (millis < 1) return 0;
  throttled(kind).add(1);
  return static_cast<int32_t>(std::min(std::ceil(millis), static_cast<double>(most)));
}

}  // namespace

void QuotaMeter::Window::add(double amount, int64_t nowMs) {
  int64_t second = nowMs / 1000;
  int64_t gone = std::min<int64_t>(second - second_, kSeconds);
  for (int64_t i = 0; i < gone; ++i) sums_[static_cast<size_t>(second - i) % kSeconds] = 0;
  second_ = std::max(second_, second);
  sums_[static_cast<size_t>(second_) % kSeconds] += amount;
}

double QuotaMeter::Window::total() const {
  return std::accumulate(sums_.begin(), sums_.end(), 0.0);
}

double QuotaMeter::Window::ahead(double limit, int64_t nowMs) const {
  double window = kLeastWindowMs + static_cast<double>(nowMs % 1000);
  return total() / limit * 1000 - window;
}

int32_t QuotaMeter::Window::wait(double amount, double limit, int64_t nowMs) const {
  const double most = limit * kLeastWindowMs / 1000;
  double rest = total();
  int32_t seconds = 0;
  for (size_t age = kSeconds; age > 0 && rest > 0 && rest + amount > most; --age, ++seconds) {
    // The next to go; the newest of all is second_'s.
    int64_t second = nowMs / 1000 - static_cast<int64_t>(age) + 1;
    bool kept = second <= second_ && second > second_ - static_cast<int64_t>(kSeconds);
    if (kept && second >= 0) rest -= sums_[static_cast<size_t>(second) % kSeconds];
    if (rest < 0.5) rest = 0;  // what is left of adding up
  }
  return seconds == 0 ? 0 : seconds * 1000 - static_cast<int32_t>(nowMs % 1000);
}

double QuotaMeter::Window::take(double amount, double rate, bool strict, int64_t nowMs) {
  const double most = rate * kSeconds;
  double elapsed = static_cast<double>(std::max<int64_t>(nowMs - filledMs_, 0)) / 1000;
  tokens_ = tokens_ ? std::min(most, *tokens_ + rate * elapsed) : most;
  filledMs_ = nowMs;
  const double found = *tokens_;
  if (!strict || found >= 0) *tokens_ -= amount;
  // It is full again a window's length after it is no longer below.
  // A tiny rate takes longer than can be counted.
  const double below = std::clamp(-*tokens_ / rate, 0.0, kLongestSeconds);
  second_ = nowMs / 1000 + static_cast<int64_t>(std::ceil(below));
  return strict ? found : *tokens_;
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

int32_t QuotaMeter::countAmount(QuotaKind kind, const Principal& principal, double amount,
                                int64_t nowMs) {
  std::optional<QuotaSet::Match> match = find(kind, principal);
  if (!match) return 0;
  std::lock_guard lock(mutex_);
  Window& window = windowOf(kind, std::move(match->shared), nowMs);
  window.add(amount, nowMs);
  int32_t most = kind == QuotaKind::kRequest ? kMaxBriefMs : kMaxThrottleMs;
  return hold(kind, window.ahead(match->limit, nowMs), most);
}

int32_t QuotaMeter::count(QuotaKind kind, const Principal& principal, size_t octets,
                          int64_t nowMs) {
  return countAmount(kind, principal, static_cast<double>(octets), nowMs);
}

int32_t QuotaMeter::countTime(const Principal& principal, int64_t micros, int64_t nowMs) {
  // In percent of a second.
  return countAmount(QuotaKind::kRequest, principal, static_cast<double>(micros) / 10'000, nowMs);
}

QuotaMeter::FetchVerdict QuotaMeter::countFetch(const Principal& principal, size_t octets,
                                                bool mayGive, int64_t nowMs) {
  std::optional<QuotaSet::Match> match = find(QuotaKind::kFetch, principal);
  if (!match) return {0, mayGive};
  std::lock_guard lock(mutex_);
  Window& window = windowOf(QuotaKind::kFetch, std::move(match->shared), nowMs);
  window.add(0, nowMs);  // what is too long ago goes
  const auto amount = static_cast<double>(octets);
  FetchVerdict verdict;
  verdict.holdMs =
      hold(QuotaKind::kFetch, window.wait(amount, match->limit, nowMs), kMaxThrottleMs);
  verdict.given = mayGive && verdict.holdMs == 0;
  if (!verdict.given) return verdict;
  window.add(amount, nowMs);
  verdict.holdMs = hold(QuotaKind::kFetch, window.ahead(match->limit, nowMs), kMaxThrottleMs);
  return verdict;
}

int32_t QuotaMeter::countMutation(const Principal& principal, double partitions, bool strict,
                                  int64_t nowMs) {
  std::optional<QuotaSet::Match> match = find(QuotaKind::kMutation, principal);
  if (!match) return 0;
  std::lock_guard lock(mutex_);
  Window& window = windowOf(QuotaKind::kMutation, std::move(match->shared), nowMs);
  double left = window.take(partitions, match->limit, strict, nowMs);
  return hold(QuotaKind::kMutation, -left / match->limit * 1000, kMaxThrottleMs);
}

int32_t QuotaMeter::countConnection(const std::string& ip, int64_t nowMs) {
  if (quotas_ == nullptr) return 0;
  std::shared_ptr<const QuotaSet> set = quotas_->current();
  if (set->empty()) return 0;
  std::optional<QuotaSet::Match> match = set->findAddress(ip);
  if (!match) return 0;
  std::lock_guard lock(mutex_);
  Window& window = windowOf(QuotaKind::kConnection, std::move(match->shared), nowMs);
  window.add(1, nowMs);
  int32_t millis = hold(QuotaKind::kConnection, window.ahead(match->limit, nowMs), kMaxBriefMs);
  if (millis > 0) window.add(-1, nowMs);
  return millis;
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

size_t QuotaMeter::largestFetch(const Principal& principal, size_t otherwise, int64_t nowMs) {
  std::optional<QuotaSet::Match> match = find(QuotaKind::kFetch, principal);
  if (!match) return otherwise;
  std::lock_guard lock(mutex_);
  Window& window = windowOf(QuotaKind::kFetch, std::move(match->shared), nowMs);
  window.add(0, nowMs);  // what is too long ago goes
  double left = std::max(match->limit * kLeastWindowMs / 1000 - window.total(), 0.0);
  return left < static_cast<double>(otherwise) ? static_cast<size_t>(left) + 1 : otherwise;
}

}  // namespace polylog::kafka
