// Exchanges and bindings, and how a routing key finds queues through them. Bindings of amq.topic to
// queues and streams stand in the subscription trie, beside MQTT's subscriptions, since what other
// protocols publish reaches them too; all others stand here.
//
// Thread-safe: lookups share a lock, changes take it alone, over their append.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/model/exchange.h"
#include "core/model/queue.h"
#include "router/core.h"
#include "router/subscription_trie.h"

namespace polylog::router {

class Queue;

/// What a routing key leads to.
struct RouteImpl final : Route {
  std::vector<std::shared_ptr<Queue>> queues;  ///< each once
  std::vector<std::string> streams;            ///< topics, each once
  bool amqTopic = false;                       ///< goes where its address says, too
  std::string exchange;
  std::string routingKey;
  std::optional<Table> headers;  ///< kept if an exchange asked for them: to route again

  bool reachesTopics() const override { return amqTopic || !streams.empty(); }
  bool reachesAmqTopic() const override { return amqTopic; }
  bool leadsNowhere() const { return queues.empty() && streams.empty(); }
};
using RouteImplRef = std::shared_ptr<const RouteImpl>;

/// What a binding leads to: one of these.
struct BindingEnd {
  std::shared_ptr<Queue> queue;
  std::string stream;
  std::string exchange;
  Position since;  ///< of amq.topic: batches before it are none of its business
};

class ExchangeTable {
 public:
  explicit ExchangeTable(Core& core);
  ~ExchangeTable();
  /// After queues and topics. kCorrupt.
  Result<> load();

  std::optional<ExchangeSpec> find(BytesView name) const;
  std::vector<ExchangeSpec> exchanges() const;
  std::vector<BindingSpec> bindings() const;

  /// `done` on the worker when durable.
  void declare(Worker& worker, ExchangeSpec spec, Done<Result<ExchangeSpec>> done);
  void remove(Worker& worker, const std::string& name, bool ifUnused, Done<Result<>> done);
  void bind(Worker& worker, BindingSpec binding, Done<Result<>> done);
  void unbind(Worker& worker, BindingSpec binding, Done<Result<>> done);

  /// Takes out all that leads to a queue or stream that goes; what has to be journaled is added to
  /// `state`, and nobody waits for it. Not what leads to another one of the same name.
  void dropQueue(const Queue& queue, std::vector<storage::StateChange>& state);
  void dropStream(const Topic& topic, std::vector<storage::StateChange>& state);
  /// Of deletions of exchanges and bindings, what nobody has declared or bound anew.
  WhatIsDue whatIsDue();

  /// kNotFound, kUnauthorized (internal: of the first exchange only, unless `again`).
  Result<RouteImplRef> route(Worker& worker, const std::string& exchange,
                             const std::string& routingKey, const RoutingHeaders* headers);
  /// What became of a route, where something in it is gone.
  RouteImplRef routeAgain(const RouteImpl& old) const;
  /// Adds what an exchange that amq.topic is the source of leads to.
  void collect(const std::string& exchange, const Address& address, RouteImpl& out) const;

 private:
  struct Binding;
  struct Exchange;
  struct Search;
  struct PerWorker {
    uint64_t generation = 0;
    std::unordered_map<std::string, RouteImplRef, TextHash, std::equal_to<>> known;
    std::string text;
  };

  Exchange* findLocked(BytesView name) const;
  void search(const Exchange& first, BytesView routingKey, Search& search) const;
  void visit(const Exchange& exchange, BytesView routingKey, Search& search) const;
  void follow(const BindingEnd& end, Search& search) const;
  void defaultExchange(BytesView routingKey, RouteImpl& out) const;
  Result<std::unique_ptr<Binding>> resolve(BindingSpec spec) const;
  Result<> insert(std::unique_ptr<Binding> binding);
  /// Takes a binding out; its source, if that goes with its last binding, is added to `idle`.
  void detach(const std::string& key, std::vector<storage::StateChange>& state,
              std::vector<std::string>& idle);
  /// With all bindings from and to them, and the exchanges that go with those.
  void eraseExchanges(std::vector<std::string> names, std::vector<storage::StateChange>& state);
  void dropIf(const std::string& destination, const std::function<bool(const Binding&)>& which,
              std::vector<storage::StateChange>& state);
  void declared(const std::string& name, uint32_t number);
  void declareFailed(Worker& worker, const std::string& name, uint32_t number);
  void bindFailed(Worker& worker, const std::string& key, uint32_t number);
  void changed();
  void append(Worker& worker, std::vector<storage::StateChange> state, Done<Result<>> done);
  void appendDeletion(Worker& worker, std::vector<storage::StateChange> state, Done<Result<>> done);

  Core& core_;
  mutable std::shared_mutex mutex_;
  std::atomic<uint64_t> generation_{1};
  std::map<std::string, std::unique_ptr<Exchange>, std::less<>> exchanges_;
  std::unordered_map<std::string, std::unique_ptr<Binding>> bindings_;  ///< by key
  std::multimap<std::string, Binding*, std::less<>> byDestination_;     ///< kind and name
  uint32_t nextNumber_ = 1;
  size_t topicsToExchanges_ = 0;  ///< bindings from amq.topic to exchanges
  std::vector<PerWorker> perWorker_;
};

}  // namespace polylog::router
