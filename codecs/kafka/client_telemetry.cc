#include "codecs/kafka/client_telemetry.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "codecs/kafka/limits.h"
#include "core/base/crc32c.h"
#include "core/base/metrics.h"
#include "core/model/compression.h"
#include "mapping/address.h"

namespace polylog::kafka {
namespace {

constexpr int32_t kDefaultIntervalMs = 300'000;
constexpr int64_t kLeastExpiryMs = 60'000;
constexpr int64_t kExpiryIntervals = 3;
constexpr int64_t kSweepMs = 1'000;  ///< between looks at all of them
constexpr const char* kAll = "*";
constexpr size_t kMaxFact = 255;
constexpr size_t kMaxLabel = 64;
/// Labels that are the broker's own.
constexpr BytesView kOwnLabels[] = {"client_id", "client_instance_id", "client_software_name",
                                    "client_software_version", "name"};

Metric& pushes(const char* result) {
  return counter("polylog_kafka_client_metrics_pushes_total",
                 "What clients pushed of their metrics.", fmt::format("result=\"{}\"", result));
}
Metric& droppedPoints() {
  static Metric& metric =
      counter("polylog_kafka_client_metrics_dropped_total",
              "Values that clients pushed and that were not kept: not asked for, or too many.");
  return metric;
}

std::string nameOf(const InstanceId& id) {
  std::string name;
  mapping::appendMarked(BytesView(reinterpret_cast<const char*>(id.data()), id.size()), name);
  return name.substr(BytesView(mapping::kNameMarker).size());
}

void appendLabel(std::string& labels, BytesView key, BytesView value) {
  if (!labels.empty()) labels += ',';
  labels.append(key).append("=\"");
  std::string marked;
  if (!mapping::isText(value)) {
    mapping::appendMarked(value, marked);
    value = marked;
  }
  for (char c : value) {
    if (c == '\\' || c == '"') labels += '\\';
    if (c == '\n') {
      labels += "\\n";
    } else {
      labels += c;
    }
  }
  labels += '"';
}

/// An attribute's key as a label's name.
std::string labelOf(BytesView key) {
  std::string name(key.substr(0, kMaxLabel));
  for (char& c : name) {
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    if (!letter && !(c >= '0' && c <= '9')) c = '_';
  }
  if (name.empty() || (name[0] >= '0' && name[0] <= '9')) name.insert(0, 1, '_');
  return name;
}

std::string labelsOf(const MetricPoint& point) {
  std::string labels;
  appendLabel(labels, "name", point.name.substr(0, kMaxFact));
  std::set<std::string> seen(std::begin(kOwnLabels), std::end(kOwnLabels));
  for (const auto& [key, value] : point.attributes) {
    std::string label = labelOf(key);
    if (seen.insert(label).second) appendLabel(labels, label, value);
  }
  return labels;
}

std::string labelsOf(const ClientFacts& facts) {
  std::string labels;
  appendLabel(labels, "client_instance_id", facts.instanceId);
  appendLabel(labels, "client_id", facts.clientId);
  appendLabel(labels, "client_software_name", facts.softwareName);
  appendLabel(labels, "client_software_version", facts.softwareVersion);
  return labels;
}

bool asked(const std::vector<std::string>& metrics, BytesView name) {
  return std::ranges::any_of(metrics, [&](const std::string& prefix) {
    return prefix == kAll || name.starts_with(prefix);
  });
}

}  // namespace

// ---------------------------------------------------------------- clients

const std::vector<MetricsSubscription>& ClientTelemetry::parsed(const ClientMetricsSet& set) {
  if (parsedVersion_ == set.version) return parsed_;
  parsed_.clear();
  for (const auto& [name, settings] : set.subscriptions)
    parsed_.push_back(subscriptionOf(settings));
  parsedVersion_ = set.version;
  return parsed_;
}

/// As Kafka joins subscriptions: the shortest interval, all the prefixes, or "*" where that is one.
void ClientTelemetry::subscribe(Instance& instance, const ClientMetricsSet& set) {
  std::set<std::string> metrics;
  instance.intervalMs = kDefaultIntervalMs;
  for (const MetricsSubscription& one : parsed(set)) {
    if (!one.matches(instance.facts)) continue;
    metrics.insert(one.metrics.begin(), one.metrics.end());
    instance.intervalMs = std::min(instance.intervalMs, one.intervalMs);
  }
  if (metrics.contains(kAll)) metrics = {kAll};
  instance.metrics.assign(metrics.begin(), metrics.end());
  std::string identity = fmt::format("{}:{}", instance.facts.instanceId, instance.intervalMs);
  for (const std::string& one : metrics) identity.append(",").append(one);
  instance.subscriptionId = static_cast<int32_t>(crc32c(identity));
  instance.version = set.version;
  instance.askedMs = instance.pushedMs = kNever;
  instance.lastError = Code::kNone;
  instance.askedLast = instance.terminating = false;
}

void ClientTelemetry::drop(Instance& instance) {
  for (const auto& [labels, series] : instance.series) {
    bytes_ -= labels.size() + instance.labelBytes;
  }
  series_ -= instance.series.size();
  instance.series.clear();
}

ClientTelemetry::Crowd ClientTelemetry::crowdOf(const std::string& address, const ByUse& uses) {
  return {uses.size(), UINT64_MAX - uses.begin()->first, address};
}

/// Into the counts by whom it is of.
void ClientTelemetry::enter(Instances::iterator at) {
  const ClientFacts& facts = at->facts;
  byOwner_[{facts.connection, facts.address}].emplace(at->use, at);
  ByUse& uses = byAddress_[facts.address];
  if (!uses.empty()) crowds_.erase(crowdOf(facts.address, uses));
  uses.emplace(at->use, at);
  crowds_.insert(crowdOf(facts.address, uses));
}

void ClientTelemetry::leave(Instances::iterator at) {
  const ClientFacts& facts = at->facts;
  auto owner = byOwner_.find({facts.connection, facts.address});
  owner->second.erase(at->use);
  if (owner->second.empty()) byOwner_.erase(owner);
  auto from = byAddress_.find(facts.address);
  crowds_.erase(crowdOf(facts.address, from->second));
  from->second.erase(at->use);
  if (from->second.empty()) {
    byAddress_.erase(from);
  } else {
    crowds_.insert(crowdOf(facts.address, from->second));
  }
}

/// By where it comes from now: clients connect again.
void ClientTelemetry::use(Instances::iterator at, ClientFacts&& client) {
  if (at->use != 0) leave(at);
  at->facts.connection = client.connection;
  at->facts.address = std::move(client.address);
  at->facts.port = std::move(client.port);
  at->usedMs = nowMs();
  at->use = ++uses_;
  enter(at);
  instances_.splice(instances_.end(), instances_, at);
}

void ClientTelemetry::forget(Instances::iterator at) {
  drop(*at);
  leave(at);
  byId_.erase(at->id);
  instances_.erase(at);
}

/// A connection that has its share has the longest unused of its own make way; and if there is no
/// room at all, the address that most come from, so that those of one don't push out all others'.
void ClientTelemetry::makeRoom(const ClientFacts& client) {
  auto own = byOwner_.find({client.connection, client.address});
  if (own != byOwner_.end() && own->second.size() >= limits_.ofConnection) {
    return forget(own->second.begin()->second);
  }
  if (instances_.size() < limits_.clients) return;
  const std::string& most = std::get<std::string>(*crowds_.rbegin());
  forget(byAddress_.find(most)->second.begin()->second);
}

/// Those that aren't heard of any more go; each has its own time.
void ClientTelemetry::sweep() {
  const int64_t now = nowMs();
  if (sweptMs_ != kNever && now - sweptMs_ < kSweepMs) return;
  sweptMs_ = now;
  for (auto at = instances_.begin(); at != instances_.end();) {
    if (now - at->usedMs < kLeastExpiryMs) break;
    auto next = std::next(at);
    if (now - at->usedMs >= std::max(kLeastExpiryMs, at->intervalMs * kExpiryIntervals)) forget(at);
    at = next;
  }
}

ClientTelemetry::Instance ClientTelemetry::made(const InstanceId& id, ClientFacts&& client) {
  Instance made;
  made.id = id;
  made.facts = std::move(client);
  for (std::string* fact :
       {&made.facts.clientId, &made.facts.softwareName, &made.facts.softwareVersion}) {
    if (fact->size() > kMaxFact) fact->resize(kMaxFact);
  }
  made.facts.instanceId = nameOf(id);
  made.labelBytes = labelsOf(made.facts).size();
  return made;
}

/// Whether a client that isn't known may be taken for one that was asked, and forgotten. Nobody
/// else makes others' instances go.
bool ClientTelemetry::fits(const Push& push, ClientFacts client) {
  Instance stranger = made(push.id, std::move(client));
  subscribe(stranger, *control_.current());
  return push.subscriptionId == stranger.subscriptionId;
}

ClientTelemetry::Instance& ClientTelemetry::instance(const InstanceId& id, ClientFacts&& client) {
  std::shared_ptr<const ClientMetricsSet> set = control_.current();
  auto found = byId_.find(id);
  if (found == byId_.end()) {
    sweep();
    makeRoom(client);
    instances_.push_back(made(id, ClientFacts(client)));
    found = byId_.emplace(id, std::prev(instances_.end())).first;
  }
  Instance& known = *found->second;
  use(found->second, std::move(client));
  if (known.version != set->version) subscribe(known, *set);
  return known;
}

ClientTelemetry::Asked ClientTelemetry::ask(InstanceId id, ClientFacts client) {
  std::lock_guard hold(lock_);
  while (id == InstanceId{}) {
    for (size_t i = 0; i < id.size(); i += 8) {
      uint64_t bits = random_.next();
      for (size_t j = 0; j < 8; ++j) id[i + j] = static_cast<uint8_t>(bits >> (8 * j));
    }
    // Of version 4 and variant 1, as RFC 9562 has random ones.
    id[6] = static_cast<uint8_t>((id[6] & 0x0F) | 0x40);
    id[8] = static_cast<uint8_t>((id[8] & 0x3F) | 0x80);
    if (byId_.contains(id)) id = {};
  }
  Instance& known = instance(id, std::move(client));
  const int64_t now = nowMs();
  const int64_t last = std::max(known.askedMs, known.pushedMs);
  Asked answer;
  // Who was told to ask again may at once.
  bool told = known.lastError == Code::kUnknownSubscriptionId ||
              known.lastError == Code::kUnsupportedCompressionType;
  if (last != kNever && now - last < known.intervalMs && !told) {
    answer.error = Code::kThrottlingQuotaExceeded;
    return answer;
  }
  known.askedMs = now;
  known.askedLast = true;
  known.lastError = Code::kNone;
  answer.id = id;
  answer.subscriptionId = known.subscriptionId;
  answer.intervalMs = known.intervalMs;
  answer.metrics = known.metrics;
  return answer;
}

// ---------------------------------------------------------------- pushes

/// In Kafka's order.
Code ClientTelemetry::check(Instance& instance, const Push& push) {
  if (instance.terminating) return Code::kInvalidRequest;
  const int64_t now = nowMs();
  // The first push after asking may come early: clients spread themselves.
  bool inTime = instance.askedLast || instance.pushedMs == kNever ||
                now - instance.pushedMs >= instance.intervalMs;
  if (inTime) {
    instance.pushedMs = now;
    instance.askedLast = false;
  } else if (!push.terminating) {
    return Code::kThrottlingQuotaExceeded;
  }
  if (push.subscriptionId != instance.subscriptionId) return Code::kUnknownSubscriptionId;
  if (push.compression < 0 || push.compression > static_cast<int8_t>(Compression::kZstd)) {
    return Code::kUnsupportedCompressionType;
  }
  if (push.metrics.size() > kMaxTelemetryBytes) return Code::kTelemetryTooLarge;
  return Code::kNone;
}

void ClientTelemetry::keep(Instance& instance, const std::vector<MetricPoint>& points) {
  for (const MetricPoint& point : points) {
    if (!asked(instance.metrics, point.name)) {
      droppedPoints().add();
      continue;
    }
    std::string labels = labelsOf(point);
    auto at = instance.series.find(labels);
    if (at == instance.series.end()) {
      if (instance.series.size() >= limits_.seriesOfClient || series_ >= limits_.series ||
          bytes_ + labels.size() + instance.labelBytes > limits_.bytes) {
        droppedPoints().add();
        continue;
      }
      ++series_;
      bytes_ += labels.size() + instance.labelBytes;
      at = instance.series.emplace(std::move(labels), Series{}).first;
    }
    at->second.value = point.delta ? at->second.value + point.value : point.value;
  }
}

Code ClientTelemetry::push(const Push& push, ClientFacts client) {
  InstanceId one{};
  one.back() = 1;
  if (push.id == InstanceId{} || push.id == one) return Code::kInvalidRequest;  // reserved
  auto settle = [&](Code error) {
    pushes(error == Code::kNone ? "taken" : "refused").add();
    return error;
  };
  {
    std::lock_guard hold(lock_);
    if (!byId_.contains(push.id) && !fits(push, client)) {
      return settle(Code::kUnknownSubscriptionId);
    }
    Instance& known = instance(push.id, std::move(client));
    Code error = check(known, push);
    known.terminating = push.terminating;
    known.lastError = error;
    // Of whom nothing is asked, nothing is looked at.
    if (error != Code::kNone || known.metrics.empty()) return settle(error);
  }
  if (push.metrics.empty()) return settle(Code::kNone);
  // Without the lock: this is what takes time.
  auto plain = decompress(static_cast<Compression>(push.compression), push.metrics,
                          kMaxTelemetryDecompressed);
  Code error = Code::kNone;
  std::vector<MetricPoint> points;
  if (!plain) {
    bool large = plain.error().kind == ErrorKind::kTooLarge;
    error = large ? Code::kTelemetryTooLarge : Code::kInvalidRecord;
  } else if (auto read = readMetrics(*plain, kMaxTelemetryPoints); !read) {
    error = Code::kInvalidRecord;
  } else {
    points = std::move(*read);
  }
  std::lock_guard hold(lock_);
  auto found = byId_.find(push.id);
  if (found == byId_.end()) return settle(error);
  found->second->lastError = error;
  if (error == Code::kNone) keep(*found->second, points);
  return settle(error);
}

// ---------------------------------------------------------------- what is told

void ClientTelemetry::print(std::string& out) {
  constexpr std::string_view kName = "polylog_kafka_client_metric";
  struct Shown {
    ClientFacts facts;
    std::vector<std::pair<std::string, double>> series;
  };
  std::vector<Shown> all;
  {
    // Clients wait for the lock: it is held for copying alone.
    std::lock_guard hold(lock_);
    sweep();
    for (const Instance& instance : instances_) {
      if (instance.series.empty()) continue;
      Shown& shown = all.emplace_back();
      shown.facts = instance.facts;
      shown.series.reserve(instance.series.size());
      for (const auto& [own, series] : instance.series) {
        shown.series.emplace_back(own, series.value);
      }
    }
  }
  if (all.empty()) return;
  fmt::format_to(std::back_inserter(out),
                 "# HELP {0} What Kafka clients push of their own metrics (KIP-714).\n"
                 "# TYPE {0} untyped\n",
                 kName);
  for (const Shown& shown : all) {
    const std::string labels = labelsOf(shown.facts);
    for (const auto& [own, value] : shown.series) {
      fmt::format_to(std::back_inserter(out), "{}{{{},{}}} {}\n", kName, labels, own, value);
    }
  }
}

}  // namespace polylog::kafka
