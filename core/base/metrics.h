// Counters, gauges and histograms that any layer may keep and the admin listener prints in
// Prometheus's text format. Registration takes a lock and is done once (keep the reference);
// updating is a relaxed atomic. Every name is listed in docs/metrics.md.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace polylog {

/// A number that goes up (counter) or both ways (gauge).
class Metric {
 public:
  void add(int64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  void set(int64_t v) { value_.store(v, std::memory_order_relaxed); }
  int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_{0};
};

/// Durations in microseconds, in buckets of powers of two from 64 us to about 16 s.
class LatencyHistogram {
 public:
  static constexpr size_t kBuckets = 19;
  void observe(int64_t micros);
  int64_t count(size_t bucket) const { return buckets_[bucket].load(std::memory_order_relaxed); }
  int64_t sumMicros() const { return sum_.load(std::memory_order_relaxed); }
  /// The bucket's upper bound in microseconds; the last one has none (INT64_MAX).
  static int64_t bound(size_t bucket);

 private:
  std::array<std::atomic<int64_t>, kBuckets> buckets_{};
  std::atomic<int64_t> sum_{0};
};

/// Returns the one metric of that name and labels, made at the first call; valid for ever.
/// `labels` is Prometheus text without braces: `protocol="mqtt"`. Thread-safe.
Metric& counter(std::string_view name, std::string_view help, std::string_view labels = {});
Metric& gauge(std::string_view name, std::string_view help, std::string_view labels = {});
LatencyHistogram& latencyHistogram(std::string_view name, std::string_view help,
                                   std::string_view labels = {});

/// Metrics whose series come and go, so that they aren't kept here: while it lives, `print` appends
/// them to metricsText(), on whatever thread asks. It may take locks under which metrics are
/// registered, and register some itself; it makes and ends no source.
class MetricsSource {
 public:
  explicit MetricsSource(std::function<void(std::string& out)> print);
  ~MetricsSource();
  MetricsSource(const MetricsSource&) = delete;
  MetricsSource& operator=(const MetricsSource&) = delete;

 private:
  uint64_t id_;
};

/// All of them in Prometheus's text exposition format 0.0.4.
std::string metricsText();

}  // namespace polylog
