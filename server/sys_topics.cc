#include "server/sys_topics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "codecs/mqtt/counters.h"
#include "core/base/clock.h"
#include "core/base/metrics.h"
#include "server/process_memory.h"
#include "server/serve.h"

namespace polylog::server {
namespace {

constexpr const char* kMqtt = R"(protocol="mqtt")";
constexpr const char* kMinutes[] = {"1min", "5min", "15min"};
constexpr double kSeconds[] = {60, 300, 900};

/// Registered where they are counted; the help text of who comes first is kept.
Metric& ofMqtt(const char* name) {
  return counter(name, "", kMqtt);
}

/// Of what listeners count: over all doors that MQTT has.
std::vector<Metric*> ofListeners(const char* name) {
  std::vector<Metric*> all;
  for (const char* protocol : {"mqtt", "mqtts", "ws", "wss"}) {
    all.push_back(&counter(name, "", fmt::format("protocol=\"{}\"", protocol)));
  }
  return all;
}

int64_t sumOf(const std::vector<Metric*>& counters) {
  int64_t sum = 0;
  for (const Metric* one : counters) sum += one->value();
  return sum;
}

int64_t droppedRecords() {
  int64_t sum = 0;
  for (const char* reason :
       {"inbox_full", "too_old", "queue_full", "worker_behind", "damaged", "gone"}) {
    sum += counter("polylog_dropped_total", "", fmt::format("reason=\"{}\"", reason)).value();
  }
  return sum;
}

}  // namespace

SysTopics::SysTopics(Broker& broker, Dispatcher& dispatcher, int64_t intervalSeconds)
    : broker_(broker), dispatcher_(dispatcher), intervalSeconds_(intervalSeconds) {
  Principal principal;
  principal.clientId = "$SYS";
  principal_ = std::make_shared<const Principal>(std::move(principal));
  loads_ = {
      {"messages/received", {&mqtt::counters().packetsReceived}},
      {"messages/sent", {&mqtt::counters().packetsSent}},
      {"publish/received", {&ofMqtt("polylog_records_in_total")}},
      {"publish/sent", {&ofMqtt("polylog_records_out_total")}},
      {"bytes/received", ofListeners("polylog_received_bytes_total")},
      {"bytes/sent", ofListeners("polylog_sent_bytes_total")},
      {"sockets", ofListeners("polylog_connections_accepted_total")},
      {"connections", {&mqtt::counters().connects}},
  };
}

SysTopics::~SysTopics() = default;

void SysTopics::start() {
  startedMicros_ = dispatcher_.clock().monotonicMicros();
  timer_ = dispatcher_.makeTimer([this] { tick(); });
  tick();
}

void SysTopics::stop() {
  timer_ = nullptr;
}

/// As mosquitto weighs them: what came in this interval against what was before, by how much of the
/// period the interval is. Per minute.
void SysTopics::addLoads(Values& values) {
  for (Load& load : loads_) {
    int64_t now = sumOf(load.counters);
    double perMinute =
        static_cast<double>(now - load.before) * 60.0 / static_cast<double>(intervalSeconds_);
    load.before = now;
    for (size_t i = 0; i < load.averages.size(); ++i) {
      double kept = std::exp(-static_cast<double>(intervalSeconds_) / kSeconds[i]);
      load.averages[i] = perMinute * (1.0 - kept) + load.averages[i] * kept;
      values.emplace_back(fmt::format("broker/load/{}/{}", load.name, kMinutes[i]),
                          fmt::format("{:.2f}", load.averages[i]));
    }
  }
}

void SysTopics::tick() {
  Values values;
  auto add = [&](const char* name, int64_t value) {
    values.emplace_back(std::string("broker/") + name, fmt::to_string(value));
  };
  int64_t now = dispatcher_.clock().monotonicMicros();
  values.emplace_back("broker/version", fmt::format("polylog version {}", kVersion));
  values.emplace_back("broker/uptime",
                      fmt::format("{} seconds", (now - startedMicros_) / 1'000'000));
  int64_t connected = gauge("polylog_sessions_connected", "").value();
  int64_t total = std::max(connected, gauge("polylog_sessions", "").value());
  mostConnected_ = std::max(mostConnected_, connected);
  add("clients/total", total);
  add("clients/connected", connected);
  add("clients/active", connected);
  add("clients/disconnected", total - connected);
  add("clients/inactive", total - connected);
  add("clients/maximum", mostConnected_);
  add("messages/received", mqtt::counters().packetsReceived.value());
  add("messages/sent", mqtt::counters().packetsSent.value());
  add("publish/messages/received", ofMqtt("polylog_records_in_total").value());
  add("publish/messages/sent", ofMqtt("polylog_records_out_total").value());
  add("publish/messages/dropped", droppedRecords());
  add("publish/bytes/received", ofMqtt("polylog_bytes_in_total").value());
  add("publish/bytes/sent", ofMqtt("polylog_bytes_out_total").value());
  add("bytes/received", sumOf(ofListeners("polylog_received_bytes_total")));
  add("bytes/sent", sumOf(ofListeners("polylog_sent_bytes_total")));
  add("retained messages/count", gauge("polylog_retained_records", "").value());
  add("subscriptions/count", gauge("polylog_subscriptions", "").value());
  add("shared_subscriptions/count", static_cast<int64_t>(broker_.sharedGroups(principal_).size()));
  if (auto memory = processMemory()) add("heap/current", memory->own);
  addLoads(values);
  broker_.publishSystem(std::move(values));
  timer_->start(intervalSeconds_ * 1'000'000);
}

}  // namespace polylog::server
