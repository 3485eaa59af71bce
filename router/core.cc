#include "router/core.h"

#include <fmt/format.h>

#include <cassert>
#include <functional>
#include <iterator>
#include <utility>

#include "core/base/log.h"
#include "core/model/topic.h"
#include "router/address_tags.h"
#include "router/batch_cache.h"
#include "router/catalogue.h"
#include "router/feed_router.h"
#include "router/group_coordinator.h"
#include "router/id_allocator.h"
#include "router/live_fanout.h"
#include "router/publisher.h"
#include "router/retained_store.h"
#include "router/session_registry.h"
#include "router/subscription_trie.h"

namespace polylog::router {
namespace {

constexpr Protocol kProtocols[] = {Protocol::kInternal, Protocol::kMqtt, Protocol::kKafka,
                                   Protocol::kAmqp, Protocol::kRocketMq};
constexpr const char* kDropReasons[] = {"inbox_full", "queue_full", "worker_behind", "damaged",
                                        "gone",       "not_stored"};

}  // namespace

void WorkerSink::completed(std::vector<std::move_only_function<void()>> tasks) {
  dispatcher_.post([tasks = std::move(tasks)]() mutable {
    for (auto& task : tasks) {
      task();
      task = nullptr;
    }
  });
}

RouterMetrics::RouterMetrics()
    : sessions(gauge("polylog_sessions", "Subscriber sessions, connected or not")),
      subscriptions(gauge("polylog_subscriptions", "Subscriptions in force")),
      topics(gauge("polylog_topics", "Topics")),
      groups(gauge("polylog_groups", "Consumer groups")),
      retained(gauge("polylog_retained_records", "Retained records")) {
  for (Protocol protocol : kProtocols) {
    auto at = static_cast<size_t>(protocol);
    std::string label = fmt::format("protocol=\"{}\"", protocolName(protocol));
    recordsIn_[at] = &counter("polylog_records_in_total", "Records published or produced", label);
    bytesIn_[at] = &counter("polylog_bytes_in_total", "Octets published or produced", label);
    recordsOut_[at] = &counter("polylog_records_out_total", "Records delivered or fetched", label);
    bytesOut_[at] = &counter("polylog_bytes_out_total", "Octets delivered or fetched", label);
  }
  for (size_t i = 0; i < std::size(kDropReasons); ++i) {
    dropped_[i] = &counter("polylog_dropped_total", "Deliveries that were dropped",
                           fmt::format("reason=\"{}\"", kDropReasons[i]));
  }
}

Core::Core(storage::LogStore& theStore, std::span<Dispatcher* const> dispatchers, Clock& theClock,
           Random& theRandom, RouterOptions theOptions)
    : store(theStore), clock(theClock), random(theRandom), options(std::move(theOptions)) {
  for (Dispatcher* dispatcher : dispatchers) {
    workers.push_back(std::make_unique<Worker>(static_cast<uint32_t>(workers.size()), *dispatcher));
  }
}

Core::~Core() = default;

Worker& Core::here() const {
  Dispatcher* current = Dispatcher::current();
  for (const auto& worker : workers) {
    if (&worker->dispatcher == current) return *worker;
  }
  assert(false && "called outside the workers' threads");
  return *workers.front();
}

size_t Core::workerOf(BytesView name) const {
  return std::hash<std::string_view>{}(name) % workers.size();
}

void Core::appendEventually(Worker& worker, std::vector<storage::StateChange> changes) {
  constexpr int64_t kRetryMicros = 1'000'000;
  auto kept = std::make_shared<std::vector<storage::StateChange>>(std::move(changes));
  auto owe = [this, &worker, kept](const Error& error) {
    if (stopping.load() || error.kind == ErrorKind::kShutdown) return;
    logWarning(fmt::format("journal: a deletion failed ({}); trying again", error.text));
    std::move(kept->begin(), kept->end(), std::back_inserter(worker.owed));
    if (!worker.owedTimer) {
      worker.owedTimer = worker.dispatcher.makeTimer([this, &worker] {
        if (!stopping.load()) appendEventually(worker, std::exchange(worker.owed, {}));
      });
    }
    worker.owedTimer->start(kRetryMicros);
  };
  storage::AppendRequest request;
  request.state = *kept;
  request.durability = storage::Durability::kUnwaited;
  request.sink = &worker.sink;
  request.done = [this, owe](const Result<storage::Appended>& result) {
    if (result) return;
    ++writeFailures;
    owe(result.error());
  };
  if (auto appended = store.append(std::move(request)); !appended) owe(appended.error());
}

}  // namespace polylog::router
