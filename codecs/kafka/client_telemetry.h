// Clients' own metrics (KIP-714): which are asked for, by the subscriptions that match a client,
// and what came of them, for the admin listener's /metrics. All in memory, bounded: clients, series
// and octets; who isn't heard of for a while is forgotten, with its series. Any thread.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "codecs/kafka/client_metrics_config.h"
#include "codecs/kafka/errors.h"
#include "codecs/kafka/otlp.h"
#include "core/base/clock.h"

namespace polylog::kafka {

using InstanceId = std::array<uint8_t, 16>;

class ClientTelemetry {
 public:
  struct Limits {
    size_t clients = 10'000;
    size_t ofConnection = 8;  ///< a client's process has one, or a few
    size_t series = 20'000;
    size_t seriesOfClient = 500;
    size_t bytes = 8 * 1024 * 1024;  ///< of all series' labels, their clients' included
  };
  ClientTelemetry(const ClientMetricsControl& control, Clock& clock, Random& random)
      : ClientTelemetry(control, clock, random, Limits{}) {}
  ClientTelemetry(const ClientMetricsControl& control, Clock& clock, Random& random, Limits limits)
      : control_(control), clock_(clock), random_(random), limits_(limits) {}

  struct Asked {
    Code error = Code::kNone;
    InstanceId id{};
    int32_t subscriptionId = 0;
    int32_t intervalMs = 0;
    std::vector<std::string> metrics;
  };
  /// What a client is asked for. A zero id: it gets one. kThrottlingQuotaExceeded before the
  /// interval is over.
  Asked ask(InstanceId id, ClientFacts client);

  struct Push {
    InstanceId id{};
    int32_t subscriptionId = 0;
    bool terminating = false;
    int8_t compression = 0;
    BytesView metrics;
  };
  /// Takes what a client has measured.
  Code push(const Push& push, ClientFacts client);

  /// All series in Prometheus's text format.
  void print(std::string& out);

 private:
  struct Series {
    double value = 0;
  };
  struct Instance {
    InstanceId id{};
    ClientFacts facts;
    size_t labelBytes = 0;  ///< of each of its series, beside those of the series itself
    uint64_t version = 0;   ///< of the subscriptions
    int32_t subscriptionId = 0;
    int32_t intervalMs = 0;
    std::vector<std::string> metrics;
    int64_t askedMs = kNever, pushedMs = kNever;
    int64_t usedMs = 0;
    uint64_t use = 0;  ///< rises: the lower, the longer unused
    Code lastError = Code::kNone;
    bool askedLast = false;  ///< and not pushed since
    bool terminating = false;
    std::map<std::string, Series> series;  ///< by labels
  };
  using Instances = std::list<Instance>;
  using ByUse = std::map<uint64_t, Instances::iterator>;  ///< the longest unused first
  /// Of two listeners, two connections from one address may be taken for one: they share.
  using Owner = std::pair<uint64_t, std::string>;
  /// How many, and the more its longest unused one is so, the more: who makes way is the last.
  using Crowd = std::tuple<size_t, uint64_t, std::string>;
  static constexpr int64_t kNever = -1;

  static Instance made(const InstanceId& id, ClientFacts&& client);
  bool fits(const Push& push, ClientFacts client);
  Instance& instance(const InstanceId& id, ClientFacts&& client);
  void subscribe(Instance& instance, const ClientMetricsSet& set);
  void forget(Instances::iterator at);
  void use(Instances::iterator at, ClientFacts&& client);
  void enter(Instances::iterator at);
  void leave(Instances::iterator at);
  static Crowd crowdOf(const std::string& address, const ByUse& uses);
  void makeRoom(const ClientFacts& client);
  void sweep();
  void drop(Instance& instance);
  Code check(Instance& instance, const Push& push);
  void keep(Instance& instance, const std::vector<MetricPoint>& points);
  int64_t nowMs() const { return clock_.monotonicMicros() / 1000; }
  const std::vector<MetricsSubscription>& parsed(const ClientMetricsSet& set);

  const ClientMetricsControl& control_;
  Clock& clock_;
  Random& random_;
  const Limits limits_;
  std::mutex lock_;      ///< of all below
  Instances instances_;  ///< the longest unused first
  std::map<InstanceId, Instances::iterator> byId_;
  std::map<Owner, ByUse> byOwner_;
  std::map<std::string, ByUse> byAddress_;
  std::set<Crowd> crowds_;  ///< of all in byAddress_
  uint64_t uses_ = 0;
  int64_t sweptMs_ = kNever;
  std::vector<MetricsSubscription> parsed_;
  uint64_t parsedVersion_ = 0;
  size_t series_ = 0;
  size_t bytes_ = 0;
};

}  // namespace polylog::kafka
