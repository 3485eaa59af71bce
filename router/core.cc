#include "router/core.h"

#include <fmt/format.h>

#include <cassert>
#include <functional>
#include <iterator>
#include <utility>

#include "core/base/log.h"
#include "core/model/topic.h"
#include "router/access_store.h"
#include "router/address_tags.h"
#include "router/batch_cache.h"
#include "router/catalogue.h"
#include "router/client_registry.h"
#include "router/delayed_store.h"
#include "router/exchange_table.h"
#include "router/exclusive_table.h"
#include "router/feed_router.h"
#include "router/group_coordinator.h"
#include "router/id_allocator.h"
#include "router/live_fanout.h"
#include "router/login_service.h"
#include "router/publisher.h"
#include "router/queue_registry.h"
#include "router/replay_table.h"
#include "router/retained_store.h"
#include "router/session_registry.h"
#include "router/share_table.h"
#include "router/slow_subscribers.h"
#include "router/space_waits.h"
#include "router/subscription_trie.h"
#include "router/transaction_coordinator.h"

namespace polylog::router {
namespace {

constexpr Protocol kProtocols[] = {Protocol::kInternal, Protocol::kMqtt, Protocol::kKafka,
                                   Protocol::kAmqp, Protocol::kRocketMq};
constexpr const char* kDropReasons[] = {"inbox_full", "too_old", "queue_full", "worker_behind",
                                        "damaged",    "gone",    "not_stored", "denied"};

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
      sessionsConnected(
          gauge("polylog_sessions_connected", "Subscriber sessions that are connected")),
      subscriptions(gauge("polylog_subscriptions", "Subscriptions in force")),
      topics(gauge("polylog_topics", "Topics")),
      groups(gauge("polylog_groups", "Consumer groups")),
      retained(gauge("polylog_retained_records", "Retained records")),
      queues(gauge("polylog_queues", "AMQP queues, streams aside")),
      delayed(gauge("polylog_delayed_records", "Publishes that wait for their time")),
      slowDeliveries(counter("polylog_slow_deliveries_total",
                             "Rounds of deliveries in which a record had waited too long")),
      replays(gauge("polylog_replays", "Subscriptions that replay")),
      replayed(counter("polylog_replayed_records_total",
                       "Records read from the log for subscriptions that replay")) {
  for (Protocol protocol : kProtocols) {
    auto at = static_cast<size_t>(protocol);
    std::string label = fmt::format("protocol=\"{}\"", protocolName(protocol));
    recordsIn_[at] = &counter("polylog_records_in_total", "Records published or produced", label);
    bytesIn_[at] = &counter("polylog_bytes_in_total", "Octets published or produced", label);
    recordsOut_[at] = &counter("polylog_records_out_total", "Records delivered or fetched", label);
    bytesOut_[at] = &counter("polylog_bytes_out_total", "Octets delivered or fetched", label);
    tooLarge_[at] = &counter("polylog_publish_too_large_total",
                             "Publishes refused for their size, told or not", label);
    refused_[at] = &counter("polylog_publish_refused_total",
                            "Publishes that were refused, told or not.", label);
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

std::vector<storage::StateChange> takePiece(std::vector<storage::StateChange>& changes) {
  constexpr size_t kPieceChanges = 10'000;
  constexpr size_t kPieceBytes = 4U << 20;
  size_t count = 0;
  for (size_t bytes = 0; count < changes.size() && count < kPieceChanges; ++count) {
    bytes += changes[count].key.size() + (changes[count].value ? changes[count].value->size() : 0);
    if (bytes > kPieceBytes && count > 0) break;
  }
  if (count == changes.size()) return std::exchange(changes, {});
  auto end = changes.begin() + static_cast<std::ptrdiff_t>(count);
  std::vector<storage::StateChange> piece(std::make_move_iterator(changes.begin()),
                                          std::make_move_iterator(end));
  changes.erase(changes.begin(), end);
  return piece;
}

void Core::appendEventually(Worker& worker, std::vector<storage::StateChange> changes,
                            WhatIsDue due) {
  auto append = [&] {
    while (!changes.empty()) appendPiece(worker, takePiece(changes), due);
  };
  due ? due(changes, append) : append();
}

void Core::appendPiece(Worker& worker, std::vector<storage::StateChange> piece,
                       const WhatIsDue& due) {
  auto kept = std::make_shared<std::vector<storage::StateChange>>(std::move(piece));
  storage::AppendRequest request;
  request.state = *kept;
  request.durability = storage::Durability::kUnwaited;
  request.sink = &worker.sink;
  request.done = [this, &worker, kept, due](const Result<storage::Appended>& result) {
    if (result) return;
    ++writeFailures;
    owe(worker, std::move(*kept), due, result.error());
  };
  if (auto appended = store.append(std::move(request)); !appended) {
    owe(worker, std::move(*kept), due, appended.error());
  }
}

void Core::owe(Worker& worker, std::vector<storage::StateChange> changes, const WhatIsDue& due,
               const Error& error) {
  constexpr int64_t kRetryMicros = 1'000'000;
  if (stopping.load() || error.kind == ErrorKind::kShutdown) return;
  logWarning(fmt::format("journal: a deletion failed ({}); trying again", error.text));
  worker.owed.push_back({std::move(changes), due});
  if (!worker.owedTimer) {
    worker.owedTimer = worker.dispatcher.makeTimer([this, &worker] {
      for (Worker::Owed& one : std::exchange(worker.owed, {})) {
        if (!stopping.load()) {
          appendEventually(worker, std::move(one.changes), std::move(one.due));
        }
      }
    });
  }
  worker.owedTimer->start(kRetryMicros);
}

}  // namespace polylog::router
