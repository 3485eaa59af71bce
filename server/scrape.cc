#include "server/scrape.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "core/base/metrics.h"
#include "mapping/address.h"
#include "server/process_memory.h"

namespace polylog::server {
namespace {

/// Series of one metric that a scrape shows at most; a broker with more groups shows the first
/// ones.
constexpr size_t kMaxLagSeries = 10'000;

struct ProcessMetrics {
  Metric& resident =
      gauge("polylog_process_resident_bytes", "Memory of the process that is resident");
  Metric& descriptors = gauge("polylog_process_open_files", "File descriptors that are open");
};

void updateProcessMetrics() {
  static ProcessMetrics metrics;
  if (auto memory = processMemory()) metrics.resident.set(memory->resident);
  std::error_code error;
  std::filesystem::directory_iterator entries("/proc/self/fd", error);
  // Less the one by which they are counted.
  if (!error) metrics.descriptors.set(std::distance(begin(entries), end(entries)) - 1);
}

/// A label's value as the format wants it; names that are not text are marked, as clients see them.
std::string escaped(std::string_view text) {
  std::string out;
  if (!mapping::isText(text)) {
    mapping::appendMarked(text, out);
    return out;
  }
  for (char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    out += c == '\n' ? std::string("\\n") : std::string(1, c);
  }
  return out;
}

/// Not kept as gauges: those stay for ever, groups come and go.
std::string lagText(Broker& broker, const PrincipalRef& principal,
                    const std::vector<GroupDescription>& groups) {
  std::string out =
      "# HELP polylog_group_lag_records Records that a consumer group has still before it\n"
      "# TYPE polylog_group_lag_records gauge\n";
  size_t series = 0;
  for (const GroupDescription& group : groups) {
    std::map<std::string, int64_t> byTopic;
    for (const GroupOffset& offset : group.offsets) {
      if (auto lag = lagOf(broker, principal, offset)) byTopic[offset.topic] += *lag;
    }
    for (const auto& [topic, lag] : byTopic) {
      if (++series > kMaxLagSeries) return out;
      fmt::format_to(std::back_inserter(out),
                     "polylog_group_lag_records{{group=\"{}\",topic=\"{}\"}} {}\n",
                     escaped(group.group), escaped(topic), lag);
    }
  }
  return out;
}

}  // namespace

std::optional<int64_t> lagOf(Broker& broker, const PrincipalRef& principal,
                             const GroupOffset& offset) {
  auto bounds = broker.bounds(principal, offset.topic, offset.partition);
  if (!bounds) return std::nullopt;
  int64_t next = std::max(offset.offset, bounds->logStart.value());
  return std::max<int64_t>(0, bounds->highWatermark.value() - next);
}

void scrape(Broker& broker, const PrincipalRef& principal, Done<std::string> done) {
  broker.listGroups(principal, [&broker, principal, done = std::move(done)](
                                   const std::vector<GroupDescription>& groups) mutable {
    updateProcessMetrics();
    done(metricsText() + lagText(broker, principal, groups));
  });
}

}  // namespace polylog::server
