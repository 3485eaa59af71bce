#include "core/base/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <mutex>

namespace polylog {
namespace {

constexpr int64_t kSmallestBound = 64;

template <class Value>
using ByLabels = std::map<std::string, std::unique_ptr<Value>, std::less<>>;

/// All series of one name. Only one of the two maps is in use, as `type` says.
struct Family {
  std::string type;
  std::string help;
  ByLabels<Metric> values;
  ByLabels<LatencyHistogram> histograms;
};

struct Registry {
  std::mutex mutex;
  std::map<std::string, Family, std::less<>> families;  // guarded by mutex
};

/// Never destroyed: threads may count until the very end.
Registry& registry() {
  static auto* instance = new Registry;
  return *instance;
}

struct Sources {
  std::mutex mutex;
  std::map<uint64_t, std::function<void(std::string&)>> all;  // guarded by mutex
  uint64_t next = 0;                                          // guarded by mutex
};

Sources& sources() {
  static auto* instance = new Sources;
  return *instance;
}

Family& family(Registry& in, std::string_view name, std::string_view type, std::string_view help) {
  auto found = in.families.find(name);
  if (found == in.families.end()) {
    found = in.families.try_emplace(std::string(name)).first;
    found->second.type = type;
    found->second.help = help;
  }
  return found->second;
}

template <class Value>
Value& series(ByLabels<Value>& all, std::string_view labels) {
  auto found = all.find(labels);
  if (found == all.end()) {
    found = all.emplace(std::string(labels), std::make_unique<Value>()).first;
  }
  return *found->second;
}

Metric& metric(std::string_view type, std::string_view name, std::string_view help,
               std::string_view labels) {
  Registry& in = registry();
  std::lock_guard lock(in.mutex);
  return series(family(in, name, type, help).values, labels);
}

std::string braces(std::string_view labels) {
  return labels.empty() ? std::string() : fmt::format("{{{}}}", labels);
}

std::string seconds(int64_t micros) {
  return fmt::format("{}.{:06}", micros / 1'000'000, micros % 1'000'000);
}

void printHistogram(std::string& out, std::string_view name, std::string_view labels,
                    const LatencyHistogram& histogram) {
  std::string_view comma = labels.empty() ? "" : ",";
  int64_t total = 0;
  for (size_t i = 0; i < LatencyHistogram::kBuckets; ++i) {
    total += histogram.count(i);
    bool last = i + 1 == LatencyHistogram::kBuckets;
    std::string bound = last ? "+Inf" : seconds(LatencyHistogram::bound(i));
    fmt::format_to(std::back_inserter(out), "{}_bucket{{{}{}le=\"{}\"}} {}\n", name, labels, comma,
                   bound, total);
  }
  fmt::format_to(std::back_inserter(out), "{}_sum{} {}\n{}_count{} {}\n", name, braces(labels),
                 seconds(histogram.sumMicros()), name, braces(labels), total);
}

/// All that counter(), gauge() and latencyHistogram() have made.
std::string registeredText() {
  Registry& in = registry();
  std::lock_guard lock(in.mutex);
  std::string out;
  for (const auto& [name, family] : in.families) {
    fmt::format_to(std::back_inserter(out), "# HELP {} {}\n# TYPE {} {}\n", name, family.help, name,
                   family.type);
    for (const auto& [labels, value] : family.values) {
      fmt::format_to(std::back_inserter(out), "{}{} {}\n", name, braces(labels), value->value());
    }
    for (const auto& [labels, histogram] : family.histograms) {
      printHistogram(out, name, labels, *histogram);
    }
  }
  return out;
}

}  // namespace

void LatencyHistogram::observe(int64_t micros) {
  micros = std::clamp<int64_t>(micros, 0, std::numeric_limits<int64_t>::max() / 2);
  // The smallest i with micros <= 64 << i.
  auto chunks = static_cast<uint64_t>(micros + kSmallestBound - 1) / kSmallestBound;
  size_t bucket = chunks <= 1 ? 0 : static_cast<size_t>(std::bit_width(chunks - 1));
  if (bucket >= kBuckets) bucket = kBuckets - 1;
  buckets_[bucket].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(micros, std::memory_order_relaxed);
}

int64_t LatencyHistogram::bound(size_t bucket) {
  if (bucket + 1 >= kBuckets) return std::numeric_limits<int64_t>::max();
  return kSmallestBound << bucket;
}

Metric& counter(std::string_view name, std::string_view help, std::string_view labels) {
  return metric("counter", name, help, labels);
}

Metric& gauge(std::string_view name, std::string_view help, std::string_view labels) {
  return metric("gauge", name, help, labels);
}

LatencyHistogram& latencyHistogram(std::string_view name, std::string_view help,
                                   std::string_view labels) {
  Registry& in = registry();
  std::lock_guard lock(in.mutex);
  return series(family(in, name, "histogram", help).histograms, labels);
}

MetricsSource::MetricsSource(std::function<void(std::string& out)> print) {
  Sources& in = sources();
  std::lock_guard hold(in.mutex);
  id_ = in.next++;
  in.all.emplace(id_, std::move(print));
}

MetricsSource::~MetricsSource() {
  std::lock_guard hold(sources().mutex);
  sources().all.erase(id_);
}

std::string metricsText() {
  std::string out = registeredText();
  // Without the registry's lock: what a source takes may be held by somebody who registers.
  std::lock_guard hold(sources().mutex);
  for (const auto& [id, print] : sources().all) print(out);
  return out;
}

}  // namespace polylog
