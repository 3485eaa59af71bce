// Queues, exchanges and bindings on a disk that may lose its power at every call that changes it: a
// trace of some hundreds of operations over the real log store and a router of two workers, with
// clean stops and power failures in its middle. A model holds what was answered and what is only on
// its way. Whatever the disk comes back with, a broker that starts on it
//  - has the exchanges, queues, bindings and records that the operations up to one of those on
//  their
//    way make, all before it and none after it: what was answered, and no publish in part;
//  - has each record once and in its place, unless it was settled; certainly not if it was settled
//    two commits ago, and no settlement without those of its queue before it;
//  - marks what had been delivered as redelivered;
//  - routes, delivers and journals as if nothing had happened.
// POLYLOG_THOROUGH=1 in the environment takes every kind of failure at every boundary instead of
// one at some; POLYLOG_SEED=n another trace.
#include <gmock/gmock.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>

#include "core/base/log.h"
#include "router/ack_set.h"
#include "tests/router/queue_fixture.h"
#include "tests/support/faulty_directory.h"

namespace polylog::router {
namespace {

constexpr size_t kWorkers = 2;
constexpr int kOperations = 420;
constexpr int kStopEvery = 90;
constexpr int kFailEvery = 130;
constexpr size_t kMostReaders = 6;
const std::string kTransient = "transient";
/// Begins just below the end of its first chunk of acknowledgements.
const std::string kDeep = "deep";
const std::vector<std::string> kKeys{"", "red", "blue"};

// ---------------------------------------------------------------- the model

/// A record in a queue.
struct Item {
  size_t text = 0;  ///< Trace::texts_
  bool delivered = false;
  bool out = false;  ///< with a reader
  int call = 0;      ///< the settling call that it is gone by; 0 = none
};

/// A queue from its declaration to its deletion. Ids are places in it.
struct Incarnation {
  int64_t base = 0;  ///< id of the first item; those before are gone for good
  std::vector<Item> items;
  int64_t takenEnd = 0;  ///< ids below were taken once, or purged
  int64_t sentEnd = 0;   ///< ids below may have been, in an earlier run
  int calls = 0;         ///< settling calls
  int callsBefore = 0;   ///< when the last commit was through
  int durableCalls = 0;

  int64_t end() const { return base + static_cast<int64_t>(items.size()); }
  Item& at(int64_t id) { return items.at(static_cast<size_t>(id - base)); }
  bool gone(const Item& item) const { return item.call > 0 && item.call <= durableCalls; }
  void settled(int upTo) {
    durableCalls = std::max(durableCalls, upTo);
    auto first = std::find_if(items.begin(), items.end(), [&](auto& item) { return !gone(item); });
    base += first - items.begin();
    items.erase(items.begin(), first);
  }
};

struct Bound {
  std::string source;
  std::string queue;
  std::string key;
  auto operator<=>(const Bound&) const = default;
};

struct Operation {
  enum class Kind : uint8_t {
    kDeclareQueue,
    kDeleteQueue,
    kDeclareExchange,
    kDeleteExchange,
    kBind,
    kUnbind,
    kPublish,
    kPurge,
  };
  Kind kind;
  std::string name = {};  ///< of a queue or exchange
  Bound bound = {};
  ExchangeType type = ExchangeType::kFanout;
  int incarnation = 0;
  bool synced = true;  ///< its answer means that it is in the journal, and all before it
  std::vector<std::string> queues = {};  ///< where its records go
  int64_t count = 0;                     ///< of them; kPurge: what goes
  int call = 0;                          ///< kPurge
  bool answered = false;
};

/// What the journal holds after some operations.
struct State {
  struct Queue {
    int incarnation = 0;
    int64_t end = 0;
    bool operator==(const Queue&) const = default;
  };
  std::map<std::string, Queue> queues;
  std::map<std::string, ExchangeType> exchanges;
  std::set<Bound> bindings;

  void apply(const Operation& one) {
    using Kind = Operation::Kind;
    switch (one.kind) {
      case Kind::kDeclareQueue: queues.try_emplace(one.name, Queue{one.incarnation, 0}); break;
      case Kind::kDeleteQueue:
        queues.erase(one.name);
        std::erase_if(bindings, [&](const Bound& bound) { return bound.queue == one.name; });
        break;
      case Kind::kDeclareExchange: exchanges.try_emplace(one.name, one.type); break;
      case Kind::kDeleteExchange:
        exchanges.erase(one.name);
        std::erase_if(bindings, [&](const Bound& bound) { return bound.source == one.name; });
        break;
      case Kind::kBind: bindings.insert(one.bound); break;
      case Kind::kUnbind: bindings.erase(one.bound); break;
      case Kind::kPublish:
        for (const std::string& name : one.queues) queues.at(name).end += one.count;
        break;
      case Kind::kPurge: break;
    }
  }
  void restart() {
    queues.erase(kTransient);
    std::erase_if(bindings, [](const Bound& bound) { return bound.queue == kTransient; });
  }
  std::vector<std::string> routed(const std::string& exchange, const std::string& key) const {
    std::set<std::string> names;
    if (exchange.empty() && queues.contains(key)) names.insert(key);
    for (const Bound& bound : bindings) {
      if (bound.source != exchange) continue;
      if (exchanges.at(exchange) == ExchangeType::kFanout || bound.key == key) {
        names.insert(bound.queue);
      }
    }
    return {names.begin(), names.end()};
  }
};

struct Model {
  State durable;
  std::deque<Operation> pending;  ///< appended behind it, in this order
  std::map<int, Incarnation> incarnations;

  State after(size_t count) const {
    State state = durable;
    for (size_t i = 0; i < count; ++i) state.apply(pending[i]);
    return state;
  }
  /// The first `count` operations on their way are durable.
  void arrived(size_t count) {
    for (; count > 0; --count) {
      const Operation& one = pending.front();
      durable.apply(one);
      auto at = incarnations.find(one.incarnation);
      if (one.kind == Operation::Kind::kPurge && at != incarnations.end()) {
        at->second.settled(one.call);
      }
      pending.pop_front();
    }
    if (!pending.empty()) return;
    std::erase_if(incarnations, [&](const auto& one) {
      return std::none_of(durable.queues.begin(), durable.queues.end(),
                          [&](const auto& queue) { return queue.second.incarnation == one.first; });
    });
  }
};

// ---------------------------------------------------------------- the broker

struct Reader final : QueueListener {
  std::string queue;
  size_t worker = 0;
  DeliveryWindowRef window;
  std::shared_ptr<QueueRef> ref;
  std::unique_ptr<QueueConsumer> handle;  ///< none: it was a get, or is over
  std::vector<QueueDelivery> got;
  int incarnation = 0;
  std::vector<int64_t> held;

  void onDeliveries(std::span<QueueDelivery> deliveries) override {
    for (QueueDelivery& delivery : deliveries) got.push_back(std::move(delivery));
    handle->sent(static_cast<int64_t>(deliveries.size()), octetsOf(deliveries));
  }
  void onCancelled() override { handle = nullptr; }
};

struct Answer {
  bool done = false;
  std::string error;
  int64_t number = -1;
};
using AnswerRef = std::shared_ptr<Answer>;

/// Store, router, a client on each worker and its readers, on one disk.
class RunningBroker {
 public:
  RunningBroker(test::FaultyDisk& disk, const storage::LogStoreOptions& options)
      : disk_(disk), options_(options) {}
  ~RunningBroker() {
    if (store_) lose();
  }
  RunningBroker(const RunningBroker&) = delete;
  RunningBroker& operator=(const RunningBroker&) = delete;

  template <class Work>
  auto on(size_t worker, Work work) {
    test::ManualDispatcher::Scope scope(*loops_[worker]);
    return work();
  }
  Result<> open() {
    auto store = openLogStore(disk_.root(), options_, clock_, random_, [this](const Error& error) {
      if (!disk_.poweredOff()) ADD_FAILURE() << error.text;
    });
    if (!store) return std::unexpected(store.error());
    store_ = std::move(*store);
    std::vector<Dispatcher*> dispatchers;
    for (size_t i = 0; i < kWorkers; ++i) {
      loops_.push_back(std::make_unique<test::ManualDispatcher>(clock_));
      dispatchers.push_back(loops_.back().get());
    }
    RouterOptions options;
    options.filterOf = filterOfBindingKey;
    options.routingKeyOf = routingKeyOfAddress;
    auto router = makeRouter(*store_, dispatchers, clock_, random_, options);
    if (!router) return std::unexpected(router.error());
    router_ = std::move(*router);
    router_->start();
    run();
    for (size_t i = 0; i < kWorkers; ++i) {
      clients_.push_back(on(i, [&] { return router_->openQueueClient(principal_); }));
    }
    return {};
  }
  /// SIGTERM: clients leave, then everything is brought to the disk.
  void stop() {
    leave();
    bool stopped = false;
    router_->stop([&] { stopped = true; });
    run();
    EXPECT_TRUE(stopped);
    store_->close();
    run();
    dismantle();
  }
  /// kill -9: the disk takes nothing any more.
  void lose() {
    disk_.onBoundary(nullptr);
    store_->runOnce();  // else it complains of what it can't write
    disk_.powerOffAt(disk_.boundaries());
    leave();
    store_->close();
    dismantle();
  }

  void run() {
    for (bool any = true; any;) {
      any = false;
      for (auto& loop : loops_) any = loop->runAll() > 0 || any;
    }
  }
  void commit() {
    store_->runOnce();
    run();
  }
  /// Starts a call that a client answers with Result<T>.
  template <class T, class Call>
  AnswerRef start(size_t worker, Call call) {
    auto answer = std::make_shared<Answer>();
    on(worker, [&] {
      call(*clients_[worker], [answer](Result<T> result) {
        EXPECT_FALSE(answer->done) << "answered twice";
        answer->done = true;
        if (!result) answer->error = result.error().text;
        if constexpr (std::is_same_v<T, int64_t>) answer->number = result.value_or(-1);
      });
    });
    return answer;
  }
  AnswerRef publish(size_t worker, const std::string& exchange, const std::string& key,
                    const std::vector<std::string>& values, bool matches) {
    auto answer = std::make_shared<Answer>();
    on(worker, [&] {
      auto route = clients_[worker]->route(exchange, key, nullptr);
      ASSERT_TRUE(route) << route.error().text;
      std::vector<Publish> publishes(values.size());
      for (size_t i = 0; i < values.size(); ++i) {
        publishes[i].route = *route;
        publishes[i].record.value = BytesView(values[i]);
      }
      router_->publish(principal_, nullptr, publishes,
                       [answer, matches](std::vector<PublishResult> results) {
                         answer->done = true;
                         for (const PublishResult& one : results) {
                           EXPECT_EQ(one.matched, matches);
                           if (one.error) answer->error = one.error->text;
                         }
                       });
    });
    return answer;
  }
  Reader& addReader(const std::string& queue, size_t worker) {
    readers.push_back(std::make_unique<Reader>());
    readers.back()->queue = queue;
    readers.back()->worker = worker;
    return *readers.back();
  }
  Reader& consume(const std::string& queue, size_t worker, int64_t window = 0) {
    Reader& reader = addReader(queue, worker);
    ConsumeOptions options;
    options.queue = queue;
    if (window > 0) {
      reader.window = std::make_shared<DeliveryWindow>();
      reader.window->setLimit(window);
      options.window = reader.window;
    }
    on(worker, [&] {
      clients_[worker]->consume(options, &reader, [&](Result<std::unique_ptr<QueueConsumer>> made) {
        ASSERT_TRUE(made) << made.error().text;
        reader.handle = std::move(*made);
        reader.ref = reader.handle->queue();
      });
    });
    run();
    return reader;
  }
  /// Takes one, settled at once or held by a reader that is made for it.
  std::optional<QueueDelivery> get(const std::string& queue, size_t worker, bool acknowledges) {
    std::optional<QueueGot> taken;
    bool done = false;
    on(worker, [&] {
      clients_[worker]->get(queue, acknowledges, [&](Result<std::optional<QueueGot>> result) {
        done = true;
        ASSERT_TRUE(result) << result.error().text;
        taken = std::move(*result);
      });
    });
    run();
    EXPECT_TRUE(done);
    if (!taken) return std::nullopt;
    if (acknowledges) {
      Reader& reader = addReader(queue, worker);
      reader.ref = taken->queue;
      reader.got.push_back(taken->delivery);
    }
    return std::move(taken->delivery);
  }
  void settle(Reader& reader, const std::vector<Settlement>& settlements) {
    on(reader.worker, [&] {
      if (reader.window) reader.window->give(static_cast<int64_t>(settlements.size()));
      reader.ref->settle(settlements);
    });
    run();
  }
  void endReader(Reader& reader) {
    on(reader.worker, [&] { reader.handle = nullptr; });
    run();
  }
  QueueClient& client() { return *clients_[0]; }
  storage::LogStore& store() { return *store_; }

  std::vector<std::unique_ptr<Reader>> readers;

 private:
  void leave() {
    for (auto& reader : readers) on(reader->worker, [&] { reader->handle = nullptr; });
    readers.clear();
    for (size_t i = 0; i < clients_.size(); ++i) on(i, [&] { clients_[i] = nullptr; });
    clients_.clear();
  }
  void dismantle() {
    router_ = nullptr;
    loops_.clear();
    store_ = nullptr;
  }

  test::FaultyDisk& disk_;
  const storage::LogStoreOptions options_;
  test::FakeClock clock_;
  test::SeededRandom random_{11};
  PrincipalRef principal_ =
      std::make_shared<const Principal>(Principal{"", "amqp", "127.0.0.1:1", Protocol::kAmqp});
  std::vector<std::unique_ptr<test::ManualDispatcher>> loops_;
  std::unique_ptr<storage::LogStore> store_;
  std::unique_ptr<Router> router_;
  std::vector<std::unique_ptr<QueueClient>> clients_;
};

// ---------------------------------------------------------------- what a disk comes back with

struct Found {
  struct Record {
    int64_t id = 0;
    std::string text;
    bool redelivered = false;
  };
  std::map<std::string, std::vector<Record>> queues;
  std::map<std::string, ExchangeType> exchanges;
  std::set<Bound> bindings;
};

std::string textOf(const QueueDelivery& delivery) {
  return std::string(delivery.record->record.value.value_or("(null)"));
}
/// Of records that are long.
std::string brief(const std::string& text) {
  return "'" + text.substr(0, 24) + "'";
}

/// Looks into all of it, and leaves a reader with each queue that has everything.
Found look(RunningBroker& broker) {
  Found found;
  broker.on(0, [&] {
    for (const ExchangeSpec& one : broker.client().exchanges()) {
      if (!one.name.empty() && !one.name.starts_with("amq.")) found.exchanges[one.name] = one.type;
    }
    for (const BindingSpec& one : broker.client().bindings()) {
      found.bindings.insert({one.source, one.destination, one.routingKey});
    }
    for (const QueueInfo& one : broker.client().queues()) found.queues[one.spec.name];
  });
  size_t worker = 0;
  for (auto& [name, records] : found.queues) {
    Reader& reader = broker.consume(name, worker++ % kWorkers);
    for (const QueueDelivery& delivery : std::exchange(reader.got, {})) {
      records.push_back({delivery.id, textOf(delivery), delivery.redelivered});
      reader.held.push_back(delivery.id);
    }
  }
  return found;
}

/// Why these records can't be what a queue holds that `end` records went to; nothing if they can.
std::string whyNot(const Incarnation& queue, int64_t end, const std::vector<Found::Record>& records,
                   const std::vector<std::string>& texts) {
  auto next = records.begin();
  int firstBack = INT_MAX;
  int lastGone = 0;
  for (size_t i = 0; i < queue.items.size(); ++i) {
    const Item& item = queue.items[i];
    int64_t id = queue.base + static_cast<int64_t>(i);
    std::string name = std::to_string(id) + " " + brief(texts[item.text]);
    if (id >= end) {
      if (item.delivered) return name + " was delivered and is not in the journal";
      continue;
    }
    if (next == records.end() || next->id != id) {
      if (item.call == 0) return name + " is lost";
      lastGone = std::max(lastGone, item.call);
      continue;
    }
    if (next->text != texts[item.text]) return name + " is " + brief(next->text);
    if (queue.gone(item)) return name + " was settled and is back";
    if (item.call > 0) firstBack = std::min(firstBack, item.call);
    if (item.delivered && !next->redelivered) return name + " isn't marked as redelivered";
    ++next;
  }
  if (next != records.end()) {
    return std::to_string(next->id) + " " + brief(next->text) + " is too many or out of place";
  }
  if (lastGone >= firstBack) return "a settlement is there and one before it is not";
  return {};
}

std::string whyNot(const Model& model, const State& state, const Found& found,
                   const std::vector<std::string>& texts) {
  auto names = [](const auto& named) {
    std::string all;
    for (const auto& one : named) all += " " + one.first;
    return all;
  };
  std::string queues = names(found.queues);
  if (queues != names(state.queues)) return "there are queues" + queues;
  if (found.exchanges != state.exchanges) return "there are exchanges" + names(found.exchanges);
  if (found.bindings != state.bindings) {
    std::string text = "there are bindings";
    for (const Bound& one : found.bindings) text += " " + one.source + "-" + one.queue;
    return text;
  }
  for (const auto& [name, queue] : state.queues) {
    std::string why =
        whyNot(model.incarnations.at(queue.incarnation), queue.end, found.queues.at(name), texts);
    if (!why.empty()) return "queue " + name + ": " + why;
  }
  return {};
}

// ---------------------------------------------------------------- the trace

class QueuePowerFailureTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  using Kind = Operation::Kind;

  QueuePowerFailureTest() {
    setLogLevel(LogLevel::kError);
    options_.threads = false;
    options_.segmentBytes = 24 << 10;
    options_.checkpointBytes = 32 << 10;
    options_.retentionCheckMillis = 1'000'000'000;
  }
  ~QueuePowerFailureTest() override {
    broker_ = nullptr;
    setLogLevel(LogLevel::kInfo);
  }

  size_t random(size_t below) { return random_.next() % below; }
  size_t worker() { return random(kWorkers); }
  template <class Container>
  const auto& any(const Container& container) {
    return *std::next(container.begin(), static_cast<ptrdiff_t>(random(container.size())));
  }
  std::string anyQueue() { return any(live_.queues).first; }
  /// The model is the hook's, too, which RocksDB's threads come by.
  template <class Change>
  void update(Change change) {
    std::lock_guard lock(mutex_);
    change();
  }
  void say(const std::string& text) {
    update([&] { log_.push_back(std::to_string(step_) + ": " + text); });
  }

  // ---- operations

  template <class Begin>
  void issue(Operation one, Begin begin) {
    live_.apply(one);
    update([&] { model_.pending.push_back(std::move(one)); });
    answers_.push_back(begin());
    settle();
  }
  void declareQueue(const std::string& name) {
    bool durable = name != kTransient;
    bool synced = durable;
    say("declare queue " + name);
    int incarnation = nextIncarnation_++;
    if (auto at = live_.queues.find(name); at != live_.queues.end()) {
      incarnation = at->second.incarnation;
      synced = false;  // what is in the journal isn't written again
    }
    update([&] { model_.incarnations.try_emplace(incarnation); });
    issue({Kind::kDeclareQueue, name, {}, {}, incarnation, synced}, [&] {
      return broker_->start<QueueDeclared>(worker(), [&](QueueClient& client, auto done) {
        client.declareQueue(queueSpec(name, durable), std::move(done));
      });
    });
  }
  void deleteQueue(const std::string& name) {
    say("delete queue " + name);
    issue({Kind::kDeleteQueue, name, {}, {}, live_.queues.at(name).incarnation}, [&] {
      return broker_->start<int64_t>(worker(), [&](QueueClient& client, auto done) {
        client.deleteQueue(name, false, false, std::move(done));
      });
    });
  }
  void declareExchange(const std::string& name, ExchangeType type) {
    say("declare exchange " + name);
    bool synced = !live_.exchanges.contains(name);
    issue({Kind::kDeclareExchange, name, {}, type, 0, synced}, [&] {
      return broker_->start<ExchangeSpec>(worker(), [&](QueueClient& client, auto done) {
        client.declareExchange(exchangeSpec(name, type), std::move(done));
      });
    });
  }
  void deleteExchange(const std::string& name) {
    say("delete exchange " + name);
    issue({Kind::kDeleteExchange, name}, [&] {
      return broker_->start<void>(worker(), [&](QueueClient& client, auto done) {
        client.deleteExchange(name, false, std::move(done));
      });
    });
  }
  void bind(const Bound& bound, bool bind) {
    say((bind ? "bind " : "unbind ") + bound.source + "-" + bound.queue + " '" + bound.key + "'");
    bool durable = bound.queue != kTransient;
    issue({bind ? Kind::kBind : Kind::kUnbind, {}, bound, {}, 0, durable}, [&] {
      return broker_->start<void>(worker(), [&](QueueClient& client, auto done) {
        BindingSpec spec = toQueue(bound.source, bound.queue, bound.key);
        bind ? client.bind(spec, std::move(done)) : client.unbind(spec, std::move(done));
      });
    });
  }
  void publish(const std::string& exchange, const std::string& key, size_t count) {
    Operation one{Kind::kPublish};
    one.queues = live_.routed(exchange, key);
    one.count = static_cast<int64_t>(count);
    std::string to;
    for (const std::string& name : one.queues) to += " " + name;
    say("publish " + std::to_string(texts_.size()) + "+" + std::to_string(count) + " to" + to);
    std::vector<std::string> values;
    for (size_t i = 0; i < count; ++i) {
      std::string text = std::to_string(texts_.size() + i) + ":";
      size_t length = count > 100 ? 0 : random(8) == 0 ? random(3000) : random(120);
      while (text.size() < length) text += std::to_string(text.size());
      values.push_back(std::move(text));
    }
    update([&] {
      for (const std::string& name : one.queues) {
        Incarnation& queue = model_.incarnations.at(live_.queues.at(name).incarnation);
        for (size_t i = 0; i < count; ++i) queue.items.push_back({texts_.size() + i});
      }
    });
    texts_.insert(texts_.end(), values.begin(), values.end());
    size_t from = worker();
    bool matches = !one.queues.empty();
    auto begin = [&] { return broker_->publish(from, exchange, key, values, matches); };
    if (matches) return issue(std::move(one), begin);
    AnswerRef answer = begin();
    settle();
    ASSERT_TRUE(answer->done);
  }
  /// One past the last record that is visible.
  int64_t visible(int incarnation) {
    for (const auto& [name, queue] : model_.durable.queues) {
      if (queue.incarnation == incarnation) return queue.end;
    }
    return 0;
  }
  void purge(const std::string& name) {
    int incarnation = live_.queues.at(name).incarnation;
    Operation one{Kind::kPurge, name, {}, {}, incarnation};
    update([&] {
      Incarnation& queue = model_.incarnations.at(incarnation);
      one.call = ++queue.calls;
      int64_t end = visible(incarnation);
      for (int64_t id = queue.base; id < end; ++id) {
        Item& item = queue.at(id);
        if (item.out || item.call > 0) continue;
        item.call = one.call;
        ++one.count;
      }
      queue.takenEnd = std::max(queue.takenEnd, end);
    });
    say("purge " + name + " of " + std::to_string(one.count));
    issue(one, [&] {
      return broker_->start<int64_t>(worker(), [&](QueueClient& client, auto done) {
        client.purgeQueue(name, std::move(done));
      });
    });
  }
  void get(const std::string& name, bool acknowledges) {
    int incarnation = live_.queues.at(name).incarnation;
    Incarnation& queue = model_.incarnations.at(incarnation);
    auto got = broker_->get(name, worker(), acknowledges);
    say("get from " + name + (got ? " " + std::to_string(got->id) : " nothing"));
    int64_t next = queue.base;
    int64_t end = visible(incarnation);
    while (next < end && (queue.at(next).out || queue.at(next).call > 0)) ++next;
    ASSERT_EQ(got.has_value(), next < end);
    if (!got) return;
    ASSERT_EQ(got->id, next);
    if (acknowledges) {
      broker_->readers.back()->incarnation = incarnation;
    } else {
      delivered(incarnation, *got);
      update([&] {
        queue.at(next).out = false;
        queue.at(next).call = ++queue.calls;
      });
    }
    settle();
  }
  void consume(const std::string& name) {
    int64_t windows[] = {0, 1, 3, 10};
    int64_t window = windows[random(4)];
    say("consume " + name + " by " + std::to_string(window));
    Reader& reader = broker_->consume(name, worker(), window);
    reader.incarnation = live_.queues.at(name).incarnation;
    settle();
  }
  void settleSome(Reader& reader, std::vector<int64_t> ids,
                  const std::function<Disposition()>& how) {
    std::vector<Settlement> settlements;
    std::string text;
    for (int64_t id : ids) {
      settlements.push_back({id, how()});
      std::erase(reader.held, id);
      text += " " + std::to_string(id) + "ARJ"[static_cast<size_t>(settlements.back().disposition)];
    }
    say("settle " + reader.queue + text);
    auto at = live_.queues.find(reader.queue);
    if (at != live_.queues.end() && at->second.incarnation == reader.incarnation) {
      update([&] {
        Incarnation& queue = model_.incarnations.at(reader.incarnation);
        ++queue.calls;
        for (const Settlement& one : settlements) {
          Item& item = queue.at(one.id);
          item.out = false;
          if (one.disposition != Disposition::kRequeue) item.call = queue.calls;
        }
      });
    }
    broker_->settle(reader, settlements);
    settle();
  }
  /// In order or not, some or all.
  void settleAny() {
    std::vector<Reader*> holding;
    for (auto& reader : broker_->readers) {
      if (!reader->held.empty()) holding.push_back(reader.get());
    }
    if (holding.empty()) return;
    Reader& reader = *any(holding);
    std::vector<int64_t> ids = reader.held;
    if (random(2) == 0) {
      for (size_t i = ids.size(); i > 1; --i) std::swap(ids[i - 1], ids[random(i)]);
    }
    if (random(4) != 0) ids.resize(1 + random(ids.size()));
    constexpr Disposition kAll[] = {Disposition::kAccept, Disposition::kRequeue,
                                    Disposition::kReject};
    size_t how = random(8);
    settleSome(reader, std::move(ids), [&] {
      return how == 0 ? kAll[random(3)] : how < 6 ? kAll[0] : kAll[how - 5];
    });
  }
  /// As a connection that ends does; or as one that still holds what it was given.
  void endReader(Reader& reader, bool requeues) {
    say("end a reader of " + reader.queue);
    bool holds = !reader.held.empty();  // else it goes at once
    broker_->endReader(reader);
    settle();
    if (requeues && holds) {
      settleSome(reader, reader.held, [] { return Disposition::kRequeue; });
    }
  }

  // ---- what comes of them

  void delivered(int incarnation, const QueueDelivery& delivery) {
    auto at = model_.incarnations.find(incarnation);
    ASSERT_NE(at, model_.incarnations.end()) << "a delivery from a queue that is gone";
    Incarnation& queue = at->second;
    ASSERT_GE(delivery.id, queue.base);
    ASSERT_LT(delivery.id, queue.end());
    Item& item = queue.at(delivery.id);
    ASSERT_EQ(textOf(delivery), texts_[item.text]);
    ASSERT_FALSE(item.out) << "delivered twice";
    ASSERT_EQ(item.call, 0) << "delivered though settled";
    ASSERT_EQ(delivery.redelivered, item.delivered || delivery.id < queue.sentEnd) << delivery.id;
    update([&] {
      item.out = item.delivered = true;
      queue.takenEnd = std::max(queue.takenEnd, delivery.id + 1);
    });
  }
  /// Lets the broker come to rest, and takes down what it said.
  void settle() {
    broker_->run();
    for (auto& reader : broker_->readers) {
      for (const QueueDelivery& delivery : std::exchange(reader->got, {})) {
        delivered(reader->incarnation, delivery);
        if (HasFatalFailure()) return;
        reader->held.push_back(delivery.id);
      }
    }
    std::erase_if(broker_->readers,
                  [](const auto& reader) { return !reader->handle && reader->held.empty(); });
    size_t durable = 0;
    for (size_t i = 0; i < answers_.size(); ++i) {
      Operation& one = model_.pending[i];
      if (!answers_[i]->done || one.answered) continue;
      ASSERT_EQ(answers_[i]->error, "");
      if (one.kind == Kind::kPurge) {
        ASSERT_EQ(answers_[i]->number, one.count);
      }
      update([&] { one.answered = true; });
      if (one.synced) durable = i + 1;
    }
    arrived(durable);
  }
  void arrived(size_t count) {
    update([&] { model_.arrived(count); });
    answers_.erase(answers_.begin(), answers_.begin() + static_cast<ptrdiff_t>(count));
  }
  void allArrived() {
    for (const Operation& one : model_.pending) ASSERT_TRUE(one.answered);
    arrived(answers_.size());
  }
  /// What is settled is journaled at once or when what was journaled before is durable: so it is
  /// durable after two commits.
  void commit() {
    say("commit");
    broker_->commit();
    settle();
    if (HasFatalFailure()) return;
    allArrived();
    update([&] {
      for (auto& [number, queue] : model_.incarnations) {
        queue.settled(queue.callsBefore);
        queue.callsBefore = queue.calls;
      }
    });
  }

  void stopAndStart() {
    while (!broker_->readers.empty()) {
      size_t before = broker_->readers.size();
      endReader(*broker_->readers.back(), random(2) == 0);
      if (HasFatalFailure()) return;
      if (broker_->readers.size() == before) broker_->readers.pop_back();
    }
    say("stop and start");
    broker_->stop();
    settleAfterStop();
    if (HasFatalFailure()) return;
    openBroker();
    if (HasFatalFailure()) return;
    // Nobody has got anything yet, so the model fits as it is.
    Found found;
    broker_->on(0, [&] {
      for (const QueueInfo& one : broker_->client().queues()) found.queues[one.spec.name];
    });
    ASSERT_EQ(found.queues.size(), live_.queues.size());
    for (const auto& [name, queue] : live_.queues) ASSERT_TRUE(found.queues.contains(name)) << name;
  }
  void settleAfterStop() {
    broker_ = nullptr;
    // Nobody was left to be told, but the store's end brings all to the disk.
    for (const AnswerRef& answer : answers_) ASSERT_EQ(answer->error, "");
    arrived(answers_.size());
    update([&] {
      model_.durable.restart();
      model_.arrived(0);  // what is transient is gone
      for (auto& [number, queue] : model_.incarnations) {
        for (Item& item : queue.items) item.out = false;
        queue.sentEnd = std::max(queue.sentEnd, queue.takenEnd);
        queue.callsBefore = queue.calls;
        queue.settled(queue.calls);
      }
    });
    live_ = model_.durable;
  }

  /// The power fails here, and the trace goes on with what the disk comes back with.
  void failAndStart() {
    test::PowerFailure failure = test::kAllPowerFailures[random(test::kAllPowerFailures.size())];
    say(std::string("power failure, ") + test::describe(failure));
    auto after = disk_->afterPowerFailure(failure, random_);
    broker_ = nullptr;
    disk_ = std::move(after);
    answers_.clear();
    hookUp();
    openBroker();
    if (HasFatalFailure()) return;
    Found found = look(*broker_);
    size_t arrived = 0;
    fits(model_, found, "the power failed", log_.size(), arrived);
    if (HasFatalFailure()) return;
    update([&] { adopt(found, arrived); });
    live_ = model_.durable;
    for (auto& reader : broker_->readers) {
      reader->incarnation = live_.queues.at(reader->queue).incarnation;
    }
    while (!broker_->readers.empty() && random(6) != 0) endReader(*broker_->readers.front(), true);
  }
  /// From here on what was found is so, all of it with a reader.
  void adopt(const Found& found, size_t arrived) {
    model_.arrived(arrived);
    model_.pending.clear();
    model_.durable.restart();
    model_.arrived(0);
    for (auto& [name, state] : model_.durable.queues) {
      Incarnation& queue = model_.incarnations.at(state.incarnation);
      queue.items.resize(static_cast<size_t>(state.end - queue.base));
      for (Item& item : queue.items) item = {item.text, true, false, 1};
      for (const Found::Record& record : found.queues.at(name)) {
        queue.at(record.id).out = true;
        queue.at(record.id).call = 0;
      }
      queue.sentEnd = queue.takenEnd = state.end;
      queue.calls = queue.callsBefore = queue.durableCalls = 1;
      queue.settled(1);
    }
  }

  void step() {
    ++step_;
    size_t choice = random(100);
    std::vector<std::string> exchanges{""};
    for (const auto& one : live_.exchanges) exchanges.push_back(one.first);
    std::string exchange = any(exchanges);
    if (choice < 38) {
      publish(exchange, exchange.empty() ? anyQueue() : any(kKeys), 1 + random(6));
    } else if (choice < 62) {
      settleAny();
    } else if (choice < 72) {
      get(anyQueue(), random(2) == 0);
    } else if (choice < 80) {
      if (broker_->readers.size() < kMostReaders) return consume(anyQueue());
      endReader(*any(broker_->readers), random(3) != 0);
    } else if (choice < 87 && !exchange.empty()) {
      if (live_.bindings.empty() || random(5) < 3) {
        return bind({exchange, anyQueue(), any(kKeys)}, true);
      }
      bind(Bound(any(live_.bindings)), false);
    } else if (choice < 91) {
      declareQueue(random(8) == 0 ? kTransient : "q" + std::to_string(random(5)));
    } else if (choice < 94 && live_.queues.size() > 2) {
      std::string name = anyQueue();
      if (name == kDeep) return;
      deleteQueue(name);
      if (random(2) == 0) declareQueue(name);
    } else if (choice < 95) {
      size_t number = random(3);
      declareExchange("x" + std::to_string(number),
                      number == 2 ? ExchangeType::kDirect : ExchangeType::kFanout);
    } else if (choice < 97 && !exchange.empty()) {
      ExchangeType type = live_.exchanges.at(exchange);
      deleteExchange(exchange);
      if (random(2) == 0) declareExchange(exchange, type);
    } else if (choice < 98) {
      purge(anyQueue());
    } else if (choice < 99) {
      say("checkpoint and retention");
      ASSERT_TRUE(broker_->store().checkpoint());
      ASSERT_TRUE(broker_->store().runRetention());
      commit();
    }
  }
  void prepare() {
    for (std::string name : {"q0", "q1", "q2", "q3"}) declareQueue(name);
    declareQueue(kDeep);
    declareExchange("x0", ExchangeType::kFanout);
    declareExchange("x2", ExchangeType::kDirect);
    for (std::string name : {"q0", "q1", kDeep.c_str()}) bind({"x0", name, ""}, true);
    bind({"x2", "q2", "red"}, true);
    publish("", kDeep, AckSet::kChunkBits - 8);
    commit();
    purge(kDeep);
    commit();
  }

  // ---- power failures

  struct Image {
    std::unique_ptr<test::FaultyDisk> disk;
    Model model;
    std::string where;
    size_t logged = 0;
    uint64_t number = 0;
  };

  void openBroker() {
    broker_ = std::make_unique<RunningBroker>(*disk_, options_);
    auto opened = broker_->open();
    ASSERT_TRUE(opened) << opened.error().text;
    ASSERT_EQ(broker_->store().recovery().damagedEntries, 0U);
    // Until its start is in the journal a run leaves no trace: if it followed a clean stop and the
    // power failed now, what it has delivered would come back unmarked.
    broker_->commit();
  }
  void hookUp() {
    disk_->onBoundary([this](uint64_t boundary, const test::DiskCall& call) {
      if (thorough_) {
        for (test::PowerFailure failure : test::kAllPowerFailures) take(boundary, failure, call);
        return;
      }
      // RocksDB's own calls are many, and their places in the journal few. Odd, since writes and
      // syncs take turns.
      if (boundary % (call.path.starts_with("journal") ? 5 : 31) != 0) return;
      take(boundary, test::kAllPowerFailures[taken_ % test::kAllPowerFailures.size()], call);
    });
  }
  /// In the hook, maybe on one of RocksDB's threads: nothing becomes known meanwhile.
  void take(uint64_t boundary, test::PowerFailure failure, const test::DiskCall& call) {
    test::SeededRandom random(boundary * 16 + static_cast<uint64_t>(failure));
    std::lock_guard lock(mutex_);
    images_.push_back({disk_->afterPowerFailure(failure, random), model_,
                       "boundary " + std::to_string(boundary) + " (" + call.path + "), " +
                           test::describe(failure),
                       log_.size(), taken_++});
  }
  void checkImages() {
    std::vector<Image> images;
    update([&] { images = std::exchange(images_, {}); });
    for (Image& image : images) {
      if (HasFatalFailure()) return;
      check(image);
    }
  }

  /// How many of the operations that were on their way arrived.
  void fits(const Model& model, const Found& found, const std::string& where, size_t logged,
            size_t& arrived) {
    std::string why;
    for (arrived = 0; arrived <= model.pending.size(); ++arrived) {
      State state = model.after(arrived);
      state.restart();
      std::string not_ = whyNot(model, state, found, texts_);
      if (not_.empty()) return;
      why += "\n  with " + std::to_string(arrived) + " of " + std::to_string(model.pending.size()) +
             " on their way: " + not_;
    }
    FAIL() << where << why << trace(logged);
  }
  std::string trace(size_t logged) const {
    std::string text = "\nseed " + std::to_string(GetParam()) + ", the trace until then:";
    for (size_t i = logged - std::min<size_t>(logged, 60); i < logged; ++i)
      text += "\n  " + log_[i];
    return text;
  }

  void check(Image& image) {
    RunningBroker broker(*image.disk, options_);
    auto opened = broker.open();
    ASSERT_TRUE(opened) << image.where << ": " << opened.error().text << trace(image.logged);
    ASSERT_EQ(broker.store().recovery().damagedEntries, 0U) << image.where;
    Found found = look(broker);
    size_t arrived = 0;
    fits(image.model, found, image.where, image.logged, arrived);
    if (HasFatalFailure()) return;
    State state = image.model.after(arrived);
    state.restart();
    checkUsable(broker, state, image);
  }

  /// It takes settlements and publishes, routes them, delivers them, and has them after another
  /// failure.
  void checkUsable(RunningBroker& broker, const State& state, Image& image) {
    for (auto& reader : broker.readers) {
      std::vector<Settlement> settlements;
      for (int64_t id : reader->held) settlements.push_back({id, Disposition::kAccept});
      broker.settle(*reader, settlements);
    }
    std::map<std::string, std::vector<std::string>> expected;
    auto probe = [&](const std::string& exchange, const std::string& key) {
      std::string text = "probe of '" + exchange + "' '" + key + "'";
      std::vector<std::string> to = state.routed(exchange, key);
      for (const std::string& name : to) expected[name].push_back(text);
      AnswerRef answer =
          broker.publish(expected.size() % kWorkers, exchange, key, {text}, !to.empty());
      broker.commit();
      ASSERT_TRUE(answer->done) << image.where;
      ASSERT_EQ(answer->error, "") << image.where;
    };
    for (const auto& [name, type] : state.exchanges) probe(name, "red");
    for (const auto& [name, queue] : state.queues) probe("", name);
    for (auto& reader : broker.readers) {
      std::vector<std::string> texts;
      for (const QueueDelivery& delivery : reader->got) {
        texts.push_back(textOf(delivery));
        ASSERT_FALSE(delivery.redelivered) << image.where << " " << texts.back();
      }
      ASSERT_EQ(texts, expected[reader->queue])
          << image.where << " " << reader->queue << trace(image.logged);
    }
    if (image.number % 5 != 0) return;
    broker.commit();
    test::SeededRandom random(image.number);
    auto disk = image.disk->afterPowerFailure(test::PowerFailure::kLoseUnsynced, random);
    RunningBroker again(*disk, options_);
    auto opened = again.open();
    ASSERT_TRUE(opened) << image.where << ": " << opened.error().text;
    Found found = look(again);
    ASSERT_EQ(found.queues.size(), state.queues.size()) << image.where;
    ASSERT_EQ(found.exchanges, state.exchanges) << image.where;
    ASSERT_EQ(found.bindings, state.bindings) << image.where;
    for (const auto& [name, records] : found.queues) {
      std::vector<std::string> texts;
      for (const Found::Record& record : records) {
        texts.push_back(record.text);
        ASSERT_TRUE(record.redelivered) << image.where;
      }
      ASSERT_EQ(texts, expected[name]) << image.where << " again" << trace(image.logged);
    }
  }

  const bool thorough_ = std::getenv("POLYLOG_THOROUGH") != nullptr;
  storage::LogStoreOptions options_;
  test::SeededRandom random_{GetParam()};
  std::unique_ptr<test::FaultyDisk> disk_ = std::make_unique<test::FaultyDisk>();
  std::unique_ptr<RunningBroker> broker_;

  std::mutex mutex_;  ///< over model_, images_ and log_
  Model model_;
  std::vector<Image> images_;
  std::vector<std::string> log_;
  uint64_t taken_ = 0;

  State live_;                     ///< as the router has it
  std::deque<AnswerRef> answers_;  ///< of model_.pending
  std::vector<std::string> texts_;
  int nextIncarnation_ = 1;
  int step_ = 0;
};

TEST_P(QueuePowerFailureTest, EveryBoundaryOfATraceRecovers) {
  openBroker();
  ASSERT_NO_FATAL_FAILURE(prepare());
  hookUp();
  for (int i = 1; i <= kOperations; ++i) {
    if (i % kFailEvery == 0) {
      failAndStart();
    } else if (i % kStopEvery == 0) {
      stopAndStart();
    } else {
      step();
      if (!HasFatalFailure() && random(5) < 2) commit();
    }
    checkImages();
    ASSERT_FALSE(HasFailure()) << trace(log_.size());
  }
  stopAndStart();
  checkImages();
  RecordProperty("recoveries", static_cast<int>(taken_));
  EXPECT_GT(taken_, 80U);
}

std::vector<uint64_t> seeds() {
  const char* seed = std::getenv("POLYLOG_SEED");
  if (seed != nullptr) return {std::strtoull(seed, nullptr, 10)};
  return {1, 2};
}

INSTANTIATE_TEST_SUITE_P(Seeds, QueuePowerFailureTest, ::testing::ValuesIn(seeds()));

}  // namespace
}  // namespace polylog::router
