// Exchanges and queues over the router's fixture: AMQP-like connections that declare, bind,
// publish, consume and settle, and wait for each answer unless a test says otherwise.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/model/queue.h"
#include "tests/router/router_fixture.h"

namespace polylog::router {

/// "a.*.#" as AMQP writes it; '/' and '.' change places, as mapping/amqp does it.
inline Result<TopicFilter> filterOfBindingKey(BytesView key) {
  std::string text(key);
  for (char& c : text) {
    if (c == '*') c = '+';
    if (c == '.' || c == '/') c = c == '.' ? '/' : '.';
  }
  return filterOf(text);
}

inline bool routingKeyOfAddress(const Address& address, std::string& out) {
  out.append(address.topic);
  if (address.key) out.append("/").append(*address.key);
  for (char& c : out) {
    if (c == '.' || c == '/') c = c == '.' ? '/' : '.';
  }
  return true;
}

inline int64_t octetsOf(std::span<const QueueDelivery> deliveries) {
  int64_t octets = 0;
  for (const QueueDelivery& delivery : deliveries) octets += delivery.octets;
  return octets;
}

/// A consumer that writes down what it gets.
struct TestConsumer final : QueueListener {
  std::vector<QueueDelivery> got;
  std::vector<std::string> texts;
  int cancelled = 0;
  bool begun = false;
  bool reads = true;  ///< says at once that what it gets is sent
  size_t saidSent = 0;
  size_t worker = 0;
  std::optional<Error> error;
  std::shared_ptr<QueueRef> queue;
  std::unique_ptr<QueueConsumer> handle;

  void onDeliveries(std::span<QueueDelivery> deliveries) override {
    EXPECT_TRUE(begun) << "a delivery before consume's answer";
    for (QueueDelivery& delivery : deliveries) {
      texts.emplace_back(delivery.record->record.value.value_or("(null)"));
      got.push_back(std::move(delivery));
    }
    if (reads) handle->sent(static_cast<int64_t>(deliveries.size()), octetsOf(deliveries));
  }
  void onCancelled() override {
    ++cancelled;
    handle = nullptr;
  }
  /// Says so of the next `count` that it got.
  void sent(size_t count) {
    std::span<const QueueDelivery> next = std::span(got).subspan(saidSent, count);
    saidSent += count;
    handle->sent(static_cast<int64_t>(count), octetsOf(next));
  }
  std::vector<bool> redelivered() const {
    std::vector<bool> flags;
    for (const QueueDelivery& delivery : got) flags.push_back(delivery.redelivered);
    return flags;
  }
  void forget() {
    got.clear();
    texts.clear();
  }
};

struct TableHeaders final : RoutingHeaders {
  Table values;
  explicit TableHeaders(Table table) : values(std::move(table)) {}
  const Table& table() const override { return values; }
};

inline QueueSpec queueSpec(std::string name, bool durable = true) {
  QueueSpec spec;
  spec.name = std::move(name);
  spec.durable = durable;
  return spec;
}

inline QueueSpec streamSpec(std::string name) {
  QueueSpec spec = queueSpec(std::move(name));
  spec.kind = QueueKind::kStream;
  return spec;
}

inline ExchangeSpec exchangeSpec(std::string name, ExchangeType type, bool durable = true) {
  ExchangeSpec spec;
  spec.name = std::move(name);
  spec.type = type;
  spec.durable = durable;
  return spec;
}

inline BindingSpec toQueue(std::string source, std::string queue, std::string key = "",
                           Table arguments = {}) {
  return {std::move(source), false, std::move(queue), std::move(key), std::move(arguments)};
}

inline BindingSpec toExchange(std::string source, std::string exchange, std::string key = "") {
  return {std::move(source), true, std::move(exchange), std::move(key), {}};
}

/// "0", "1", ...
inline std::vector<std::string> numbers(int from, int to) {
  std::vector<std::string> texts;
  for (int i = from; i < to; ++i) texts.push_back(std::to_string(i));
  return texts;
}

inline Table withAlternate(const std::string& exchange) {
  return {{"alternate-exchange", Value(exchange)}};
}

class QueueFixture : public RouterFixture {
 protected:
  ~QueueFixture() override { dropClients(); }

  void begin(size_t workers = 1, RouterOptions options = {}) {
    options.filterOf = filterOfBindingKey;
    options.routingKeyOf = routingKeyOfAddress;
    RouterFixture::begin(workers, std::move(options));
    for (size_t i = 0; i < workers; ++i) client_.push_back(openClient(i));
  }
  std::unique_ptr<QueueClient> openClient(size_t worker) {
    return on(worker, [&] { return openClientHere(); });
  }
  std::unique_ptr<QueueClient> openClientHere() {
    return router_->openQueueClient(principal("amqp", Protocol::kAmqp));
  }
  void dropClients() {
    for (auto& consumer : consumers_) drop(*consumer);
    consumers_.clear();
    for (size_t i = 0; i < client_.size(); ++i) on(i, [&] { client_[i] = nullptr; });
    client_.clear();
  }
  /// kill -9 and start.
  void crash() {
    abandon();
    RouterFixture::end();
    store_ = store_->afterCrash();
    begin(workerCount_, options_);
  }
  /// SIGTERM and start: clients leave first.
  void restart() {
    settle();
    dropClients();
    settle();
    bool stopped = false;
    router_->stop([&] { stopped = true; });
    run();
    EXPECT_TRUE(stopped);
    store_->close();
    run();
    RouterFixture::end();
    store_ = store_->afterCrash();
    begin(workerCount_, options_);
  }
  void abandon() {
    // What they would still post is never run.
    dropClients();
  }

  // ---- one call and its answer
  template <class T, class Call>
  Result<T> ask(size_t worker, Call call) {
    auto answer = start<T>(worker, std::move(call));
    settle();
    EXPECT_TRUE(*answer) << "no answer";
    return *answer ? std::move(**answer) : Result<T>(fail(ErrorKind::kInternal, "no answer"));
  }
  /// The same, but nothing runs yet: the answer is in what it returns once it has come.
  template <class T, class Call>
  std::shared_ptr<std::optional<Result<T>>> start(size_t worker, Call call) {
    auto answer = std::make_shared<std::optional<Result<T>>>();
    on(worker, [&] {
      call(*client_[worker], [answer](Result<T> result) {
        EXPECT_FALSE(*answer) << "answered twice";
        answer->emplace(std::move(result));
      });
    });
    EXPECT_FALSE(*answer) << "answered inside the call";
    return answer;
  }
  auto startDeclare(QueueSpec spec, size_t worker = 0) {
    return start<QueueDeclared>(worker, [spec](QueueClient& client, auto done) {
      client.declareQueue(spec, std::move(done));
    });
  }
  Result<QueueDeclared> declare(QueueSpec spec, size_t worker = 0) {
    return ask<QueueDeclared>(worker, [spec](QueueClient& client, auto done) {
      client.declareQueue(spec, std::move(done));
    });
  }
  Result<QueueDeclared> declare(const std::string& name, size_t worker = 0) {
    return declare(queueSpec(name), worker);
  }
  auto startDeclareExchange(ExchangeSpec spec, size_t worker = 0) {
    return start<ExchangeSpec>(worker, [spec](QueueClient& client, auto done) {
      client.declareExchange(spec, std::move(done));
    });
  }
  Result<ExchangeSpec> declareExchange(ExchangeSpec spec, size_t worker = 0) {
    return ask<ExchangeSpec>(worker, [spec](QueueClient& client, auto done) {
      client.declareExchange(spec, std::move(done));
    });
  }
  Result<ExchangeSpec> declareExchange(const std::string& name, ExchangeType type,
                                       Table arguments = {}) {
    ExchangeSpec spec = exchangeSpec(name, type);
    spec.arguments = std::move(arguments);
    return declareExchange(spec);
  }
  Result<> deleteExchange(const std::string& name, bool ifUnused = false) {
    return ask<void>(0, [&](QueueClient& client, auto done) {
      client.deleteExchange(name, ifUnused, std::move(done));
    });
  }
  auto startBind(BindingSpec spec, size_t worker = 0) {
    return start<void>(
        worker, [spec](QueueClient& client, auto done) { client.bind(spec, std::move(done)); });
  }
  Result<> bind(BindingSpec spec, size_t worker = 0) {
    return ask<void>(
        worker, [spec](QueueClient& client, auto done) { client.bind(spec, std::move(done)); });
  }
  Result<> unbind(BindingSpec spec) {
    return ask<void>(
        0, [spec](QueueClient& client, auto done) { client.unbind(spec, std::move(done)); });
  }
  auto startDelete(const std::string& name, size_t worker = 0) {
    return start<int64_t>(worker, [name](QueueClient& client, auto done) {
      client.deleteQueue(name, false, false, std::move(done));
    });
  }
  Result<int64_t> deleteQueue(const std::string& name, bool ifUnused = false, bool ifEmpty = false,
                              size_t worker = 0) {
    return ask<int64_t>(worker, [&](QueueClient& client, auto done) {
      client.deleteQueue(name, ifUnused, ifEmpty, std::move(done));
    });
  }
  Result<int64_t> purge(const std::string& name, size_t worker = 0) {
    return ask<int64_t>(
        worker, [&](QueueClient& client, auto done) { client.purgeQueue(name, std::move(done)); });
  }
  Result<std::optional<QueueGot>> get(const std::string& name, bool acknowledges = true,
                                      size_t worker = 0) {
    return ask<std::optional<QueueGot>>(worker, [&](QueueClient& client, auto done) {
      client.get(name, acknowledges, std::move(done));
    });
  }
  std::optional<QueueInfo> info(const std::string& name, size_t worker = 0) {
    return on(worker, [&] { return client_[worker]->findQueue(name); });
  }
  int64_t ready(const std::string& name) {
    auto found = info(name);
    return found ? found->ready : -1;
  }
  int64_t unacknowledged(const std::string& name) {
    auto found = info(name);
    return found ? found->unacknowledged : -1;
  }
  std::vector<std::string> boundTo(const std::string& exchange) {
    std::vector<std::string> names;
    for (const BindingSpec& binding : on(0, [&] { return client_[0]->bindings(); })) {
      if (binding.source == exchange) names.push_back(binding.destination);
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  bool hasExchange(const std::string& name) {
    return on(0, [&] { return client_[0]->findExchange(name).has_value(); });
  }

  // ---- publishing
  Result<RouteRef> routeOf(const std::string& exchange, const std::string& key,
                           const Table* headers = nullptr, size_t worker = 0) {
    return on(worker, [&]() -> Result<RouteRef> {
      std::optional<TableHeaders> table;
      if (headers != nullptr) table.emplace(*headers);
      return client_[worker]->route(exchange, key, table ? &*table : nullptr);
    });
  }
  /// Publishes with a route found before. Values need not outlive the call.
  std::shared_ptr<Told> sendBy(const RouteRef& route, const std::string& key,
                               const std::vector<std::string>& values, size_t worker = 0,
                               bool tells = true) {
    std::string address = key;
    for (char& c : address) {
      if (c == '.' || c == '/') c = c == '.' ? '/' : '.';
    }
    std::vector<Publish> publishes;
    for (const std::string& value : values) {
      Publish& publish = publishes.emplace_back();
      publish.route = route;
      if (route->reachesAmqTopic()) {
        publish.address = addressOf(address);
        publish.topic = publish.address.topic;
        publish.record.key = publish.address.key;
      } else if (route->reachesTopics()) {
        publish.streamKey = BytesView(address);
      }
      publish.record.value = BytesView(value);
    }
    auto told = std::make_shared<Told>();
    Done<std::vector<PublishResult>> done;
    if (tells) {
      done = [told](std::vector<PublishResult> results) {
        told->done = true;
        told->results = std::move(results);
      };
    }
    on(worker, [&] {
      router_->publish(principal("amqp", Protocol::kAmqp), nullptr, publishes, std::move(done));
    });
    return told;
  }
  std::shared_ptr<Told> startSend(const std::string& exchange, const std::string& key,
                                  const std::vector<std::string>& values, size_t worker = 0) {
    auto route = routeOf(exchange, key, nullptr, worker);
    EXPECT_TRUE(route) << exchange;
    return sendBy(*route, key, values, worker);
  }
  /// Whether the first led to a queue or stream.
  bool send(const std::string& exchange, const std::string& key,
            const std::vector<std::string>& values, const Table* headers = nullptr) {
    auto route = routeOf(exchange, key, headers);
    EXPECT_TRUE(route) << exchange;
    auto told = sendBy(*route, key, values);
    settle();
    EXPECT_TRUE(told->done);
    for (const PublishResult& result : told->results) {
      EXPECT_FALSE(result.error) << result.error->text;
    }
    return told->done && told->results.front().matched;
  }
  /// To a queue, by the default exchange.
  bool sendTo(const std::string& queue, const std::vector<std::string>& values) {
    return send("", queue, values);
  }

  // ---- consuming
  TestConsumer& startConsume(ConsumeOptions options, size_t worker = 0) {
    consumers_.push_back(std::make_unique<TestConsumer>());
    TestConsumer& consumer = *consumers_.back();
    consumer.worker = worker;
    on(worker, [&] {
      client_[worker]->consume(std::move(options), &consumer,
                               [&consumer](Result<std::unique_ptr<QueueConsumer>> result) {
                                 consumer.begun = true;
                                 if (!result) {
                                   consumer.error = result.error();
                                   return;
                                 }
                                 consumer.handle = std::move(*result);
                                 consumer.queue = consumer.handle->queue();
                               });
    });
    return consumer;
  }
  TestConsumer& consume(ConsumeOptions options, size_t worker = 0) {
    TestConsumer& consumer = startConsume(std::move(options), worker);
    settle();
    EXPECT_TRUE(consumer.begun);
    return consumer;
  }
  TestConsumer& consume(const std::string& queue, int64_t prefetch = 0, size_t worker = 0) {
    ConsumeOptions options;
    options.queue = queue;
    if (prefetch > 0) options.window = window(prefetch);
    return consume(std::move(options), worker);
  }
  static ConsumeOptions options(const std::string& queue) {
    ConsumeOptions made;
    made.queue = queue;
    return made;
  }
  static ConsumeOptions exclusive(const std::string& queue) {
    ConsumeOptions made = options(queue);
    made.exclusive = true;
    return made;
  }
  static DeliveryWindowRef window(int64_t limit) {
    auto made = std::make_shared<DeliveryWindow>();
    made->setLimit(limit);
    return made;
  }
  /// Ends it; what it was given stays out.
  void drop(TestConsumer& consumer) {
    on(consumer.worker, [&] { consumer.handle = nullptr; });
  }
  void settleIds(TestConsumer& consumer, const std::vector<int64_t>& ids, Disposition disposition,
                 const DeliveryWindowRef& window = nullptr) {
    std::vector<Settlement> settlements;
    for (int64_t id : ids) settlements.push_back({id, disposition});
    on(consumer.worker, [&] {
      if (window) window->give(static_cast<int64_t>(ids.size()));
      consumer.queue->settle(settlements);
    });
    settle();
  }
  void accept(TestConsumer& consumer, const std::vector<int64_t>& ids) {
    settleIds(consumer, ids, Disposition::kAccept);
  }
  static std::vector<int64_t> idsOf(const TestConsumer& consumer) {
    std::vector<int64_t> ids;
    for (const QueueDelivery& delivery : consumer.got) ids.push_back(delivery.id);
    return ids;
  }
  /// All that waits in the queue, taken and accepted.
  std::vector<std::string> drain(const std::string& queue) {
    std::vector<std::string> texts;
    while (true) {
      auto got = get(queue, false);
      if (!got || !*got) return texts;
      texts.emplace_back((*got)->delivery.record->record.value.value_or("(null)"));
    }
  }

  std::vector<std::unique_ptr<QueueClient>> client_;  ///< one a worker
  std::vector<std::unique_ptr<TestConsumer>> consumers_;
};

}  // namespace polylog::router
