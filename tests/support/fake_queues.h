// Exchanges and queues in memory behind QueueClient, for the AMQP codec's tests and fuzzers: enough
// of routing and delivery to drive a session, settlements noted, answers given through FakeBroker
// (posted, or held while a test says so). Streams are queues that lose nothing. Own thread only.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/event/dispatcher.h"
#include "core/model/broker.h"

namespace polylog::test {

class FakeQueueConsumer;

struct FakeQueue {
  struct Item {
    RoutedRecordRef record;
    bool redelivered = false;
  };
  QueueSpec spec;
  const void* owner = nullptr;  ///< the client that has it for itself
  int64_t nextId = 0;
  std::map<int64_t, Item> ready;
  std::map<int64_t, Item> taken;
  std::vector<FakeQueueConsumer*> consumers;
};
using FakeQueueRef = std::shared_ptr<FakeQueue>;

class FakeRoute final : public Route {
 public:
  bool reachesTopics() const override { return topics; }
  bool reachesAmqTopic() const override { return amqTopic; }
  bool topics = false;
  bool amqTopic = false;
  std::vector<FakeQueueRef> queues;
};

/// The state that all clients share.
class FakeQueues {
 public:
  FakeQueues() {
    const std::pair<const char*, ExchangeType> kThere[] = {{"", ExchangeType::kDirect},
                                                           {"amq.direct", ExchangeType::kDirect},
                                                           {"amq.fanout", ExchangeType::kFanout},
                                                           {"amq.topic", ExchangeType::kTopic},
                                                           {"amq.headers", ExchangeType::kHeaders}};
    for (const auto& [name, type] : kThere) {
      exchanges[name] = ExchangeSpec{name, type, true, false, false, {}};
    }
  }

  /// Puts a record into a queue and lets its consumers have it.
  void put(FakeQueue& queue, RoutedRecordRef record) {
    queue.ready.emplace(queue.nextId++, FakeQueue::Item{std::move(record), false});
    pumpLater();
  }
  void put(const std::string& name, RoutedRecordRef record) {
    put(*queues.at(name), std::move(record));
  }
  /// Puts the publish where its route leads; false if that is nowhere.
  bool publish(const Publish& publish);
  void remove(const std::string& name);
  void pump();
  void pumpLater() {
    Dispatcher::current()->post([this, alive = std::weak_ptr<char>(alive_)] {
      if (!alive.expired()) pump();
    });
  }

  std::map<std::string, FakeQueueRef> queues;
  std::map<std::string, ExchangeSpec> exchanges;
  std::vector<BindingSpec> bindings;
  /// All there were, of all queues.
  std::vector<Settlement> settlements;
  size_t settleCalls = 0;
  size_t routeCalls = 0;
  /// What a consumer gets beyond what it has reported as sent, at most.
  size_t most = 64;

 private:
  std::shared_ptr<char> alive_ = std::make_shared<char>();
};

class FakeQueueHandle final : public QueueRef {
 public:
  FakeQueueHandle(FakeQueues& all, FakeQueueRef queue) : all_(all), queue_(std::move(queue)) {}
  void settle(std::span<const Settlement> settlements) override {
    ++all_.settleCalls;
    for (const Settlement& each : settlements) {
      all_.settlements.push_back(each);
      auto found = queue_->taken.find(each.id);
      if (found == queue_->taken.end()) continue;
      const bool back =
          each.disposition == Disposition::kRequeue || each.disposition == Disposition::kReturn;
      if (back) {
        FakeQueue::Item item = std::move(found->second);
        if (each.disposition == Disposition::kRequeue) item.redelivered = true;
        queue_->ready.emplace(each.id, std::move(item));
      }
      queue_->taken.erase(found);
    }
    all_.pumpLater();
  }

 private:
  FakeQueues& all_;
  FakeQueueRef queue_;
};

class FakeQueueConsumer final : public QueueConsumer {
 public:
  FakeQueueConsumer(FakeQueues& all, FakeQueueRef from, ConsumeOptions asked, QueueListener* to)
      : queue_(std::move(from)),
        options(std::move(asked)),
        listener(to),
        all_(all),
        handle_(std::make_shared<FakeQueueHandle>(all, queue_)) {
    queue_->consumers.push_back(this);
  }
  ~FakeQueueConsumer() override { std::erase(queue_->consumers, this); }
  const std::shared_ptr<QueueRef>& queue() const override { return handle_; }
  void sent(int64_t count, int64_t /*octets*/) override {
    unsent -= std::min(static_cast<size_t>(count), unsent);
    all_.pumpLater();
  }
  void resume() override { all_.pumpLater(); }

  bool mayTake(int64_t octets) {
    if (unsent >= all_.most) return false;
    if (options.flight && !options.flight->tryTake(octets)) return false;
    if (takeWindows()) return true;
    if (options.flight) options.flight->give(1, octets);
    return false;
  }
  bool takeWindows() {
    if (options.window && !options.window->tryTake()) return false;
    if (options.channelWindow && !options.channelWindow->tryTake()) {
      if (options.window) options.window->give(1);
      return false;
    }
    ++unsent;
    return true;
  }

 private:
  FakeQueueRef queue_;

 public:
  ConsumeOptions options;
  QueueListener* listener;
  size_t unsent = 0;
  int64_t position = 0;  ///< in a stream

 private:
  FakeQueues& all_;
  std::shared_ptr<QueueRef> handle_;
};

inline int64_t octetsOf(const RoutedRecordRef& record) {
  return static_cast<int64_t>(record->record.value.value_or("").size());
}

inline void FakeQueues::pump() {
  const auto now = queues;  // a listener may end consumers, or queues
  for (const auto& [name, queue] : now) {
    for (FakeQueueConsumer* consumer : std::vector(queue->consumers)) {
      if (std::ranges::find(queue->consumers, consumer) == queue->consumers.end()) continue;
      std::vector<QueueDelivery> batch;
      if (queue->spec.kind == QueueKind::kStream) {
        for (auto it = queue->ready.lower_bound(consumer->position); it != queue->ready.end();
             ++it) {
          const int64_t octets = octetsOf(it->second.record);
          if (!consumer->mayTake(octets)) break;
          batch.push_back({it->second.record, it->first, octets, false});
          consumer->position = it->first + 1;
        }
      } else {
        while (!queue->ready.empty()) {
          const int64_t octets = octetsOf(queue->ready.begin()->second.record);
          if (!consumer->mayTake(octets)) break;
          auto first = queue->ready.extract(queue->ready.begin());
          batch.push_back({first.mapped().record, first.key(), octets, first.mapped().redelivered});
          if (consumer->options.acknowledges) queue->taken.insert(std::move(first));
        }
      }
      if (!batch.empty()) consumer->listener->onDeliveries(batch);
    }
  }
}

inline void FakeQueues::remove(const std::string& name) {
  auto found = queues.find(name);
  if (found == queues.end()) return;
  const FakeQueueRef queue = found->second;
  queues.erase(found);
  std::erase_if(bindings, [&](const BindingSpec& binding) {
    return !binding.toExchange && binding.destination == name;
  });
  while (!queue->consumers.empty()) {
    FakeQueueConsumer* consumer = queue->consumers.back();
    queue->consumers.pop_back();
    consumer->listener->onCancelled();
  }
}

/// A copy of a publish with octets of its own, as the router would share it.
inline RoutedRecordRef routedCopy(const Publish& publish) {
  auto texts = std::make_shared<std::deque<std::string>>();
  const auto keep = [&](BytesView text) -> BytesView { return texts->emplace_back(text); };
  auto routed = std::make_shared<RoutedRecord>();
  routed->owner = SharedBytes(texts, {});
  routed->origin = Protocol::kAmqp;
  routed->record = publish.record;
  routed->address.topic = keep(publish.address.topic);
  if (publish.address.key) routed->address.key = keep(*publish.address.key);
  if (publish.record.key) routed->record.key = keep(*publish.record.key);
  if (publish.record.value) routed->record.value = keep(*publish.record.value);
  for (Header& header : routed->record.headers) {
    header.name = keep(header.name);
    if (header.value) header.value = keep(*header.value);
  }
  return routed;
}

inline bool FakeQueues::publish(const Publish& publish) {
  const auto& route = static_cast<const FakeRoute&>(*publish.route);
  if (route.queues.empty()) return false;
  const RoutedRecordRef record = routedCopy(publish);
  for (const FakeQueueRef& queue : route.queues) put(*queue, record);
  return true;
}

class FakeQueueClient final : public QueueClient {
 public:
  using Answer = std::function<void(Task)>;

  FakeQueueClient(FakeQueues& all, Answer answer) : all_(all), answer_(std::move(answer)) {}
  ~FakeQueueClient() override {
    std::vector<std::string> mine;
    for (const auto& [name, queue] : all_.queues) {
      if (queue->owner == this) mine.push_back(name);
    }
    for (const std::string& name : mine) all_.remove(name);
  }

  std::optional<ExchangeSpec> findExchange(const std::string& name) override {
    auto found = all_.exchanges.find(name);
    return found == all_.exchanges.end() ? std::nullopt : std::optional(found->second);
  }
  void declareExchange(ExchangeSpec spec, Done<Result<ExchangeSpec>> done) override {
    auto made = all_.exchanges.emplace(spec.name, spec).first->second;
    reply<Result<ExchangeSpec>>(std::move(done), std::move(made));
  }
  void deleteExchange(const std::string& name, bool ifUnused, Done<Result<>> done) override {
    const auto from = [&](const BindingSpec& binding) { return binding.source == name; };
    if (!all_.exchanges.contains(name)) return refuse<Result<>>(std::move(done), kNotFound);
    if (ifUnused && std::ranges::any_of(all_.bindings, from)) {
      return refuse<Result<>>(std::move(done), ErrorKind::kInUse);
    }
    all_.exchanges.erase(name);
    std::erase_if(all_.bindings, from);
    reply<Result<>>(std::move(done), {});
  }
  void bind(BindingSpec binding, Done<Result<>> done) override {
    if (std::ranges::find(all_.bindings, binding) == all_.bindings.end()) {
      all_.bindings.push_back(std::move(binding));
    }
    reply<Result<>>(std::move(done), {});
  }
  void unbind(BindingSpec binding, Done<Result<>> done) override {
    std::erase(all_.bindings, binding);
    reply<Result<>>(std::move(done), {});
  }
  std::vector<ExchangeSpec> exchanges() override { return {}; }
  std::vector<BindingSpec> bindings() override { return all_.bindings; }

  std::optional<QueueInfo> findQueue(const std::string& name) override {
    auto found = all_.queues.find(name);
    if (found == all_.queues.end()) return std::nullopt;
    return info(*found->second);
  }
  void declareQueue(QueueSpec spec, Done<Result<QueueDeclared>> done) override {
    const std::string name = spec.name;
    const bool created = !all_.queues.contains(name);
    if (created) {
      auto queue = std::make_shared<FakeQueue>();
      if (spec.exclusive) queue->owner = this;
      queue->spec = std::move(spec);
      all_.queues.emplace(name, std::move(queue));
    }
    reply<Result<QueueDeclared>>(std::move(done), QueueDeclared{info(*all_.queues[name]), created});
  }
  void deleteQueue(const std::string& name, bool ifUnused, bool ifEmpty,
                   Done<Result<int64_t>> done) override {
    auto found = all_.queues.find(name);
    if (found == all_.queues.end()) return refuse<Result<int64_t>>(std::move(done), kNotFound);
    const auto count = static_cast<int64_t>(found->second->ready.size());
    if (ifEmpty && count > 0) return refuse<Result<int64_t>>(std::move(done), ErrorKind::kNotEmpty);
    if (ifUnused && !found->second->consumers.empty()) {
      return refuse<Result<int64_t>>(std::move(done), ErrorKind::kInUse);
    }
    reply<Result<int64_t>>(std::move(done), count);
    Dispatcher::current()->post([&all = all_, name] { all.remove(name); });
  }
  void purgeQueue(const std::string& name, Done<Result<int64_t>> done) override {
    auto found = all_.queues.find(name);
    if (found == all_.queues.end()) return refuse<Result<int64_t>>(std::move(done), kNotFound);
    const auto count = static_cast<int64_t>(found->second->ready.size());
    found->second->ready.clear();
    reply<Result<int64_t>>(std::move(done), count);
  }
  std::vector<QueueInfo> queues() override { return {}; }

  void consume(ConsumeOptions options, QueueListener* listener,
               Done<Result<std::unique_ptr<QueueConsumer>>> done) override {
    using Begun = Result<std::unique_ptr<QueueConsumer>>;
    auto found = all_.queues.find(options.queue);
    if (found == all_.queues.end()) return refuse<Begun>(std::move(done), kNotFound);
    const auto exclusive = [](const FakeQueueConsumer* each) { return each->options.exclusive; };
    const auto& there = found->second->consumers;
    if ((options.exclusive && !there.empty()) || std::ranges::any_of(there, exclusive)) {
      return refuse<Begun>(std::move(done), ErrorKind::kInUse);
    }
    answer_([this, alive = std::weak_ptr<char>(alive_), queue = found->second,
             options = std::move(options), listener, done = std::move(done)]() mutable {
      if (alive.expired()) return;
      FakeQueues& all = all_;  // the client may be gone when `done` returns
      done(std::make_unique<FakeQueueConsumer>(all, queue, std::move(options), listener));
      all.pumpLater();
    });
  }
  void get(const std::string& name, bool acknowledges,
           Done<Result<std::optional<QueueGot>>> done) override {
    using Got = Result<std::optional<QueueGot>>;
    auto found = all_.queues.find(name);
    if (found == all_.queues.end()) return refuse<Got>(std::move(done), kNotFound);
    FakeQueue& queue = *found->second;
    if (queue.ready.empty()) return reply<Got>(std::move(done), std::optional<QueueGot>());
    auto first = queue.ready.extract(queue.ready.begin());
    QueueGot got{{first.mapped().record, first.key(), 0, first.mapped().redelivered},
                 std::make_shared<FakeQueueHandle>(all_, found->second),
                 static_cast<int64_t>(queue.ready.size())};
    if (acknowledges) queue.taken.insert(std::move(first));
    reply<Got>(std::move(done), std::optional(std::move(got)));
  }

  Result<RouteRef> route(const std::string& exchange, const std::string& routingKey,
                         const RoutingHeaders* headers) override {
    ++all_.routeCalls;
    auto found = all_.exchanges.find(exchange);
    if (found == all_.exchanges.end()) return fail(ErrorKind::kNotFound, "no exchange");
    if (found->second.internal) return fail(ErrorKind::kUnauthorized, "internal");
    auto route = std::make_shared<FakeRoute>();
    route->amqTopic = route->topics = exchange == kTopicsExchange;
    const ExchangeType type = found->second.type;
    if (exchange.empty()) add(*route, routingKey);
    for (const BindingSpec& binding : all_.bindings) {
      if (binding.source != exchange) continue;
      bool matches = type == ExchangeType::kFanout || binding.routingKey == routingKey;
      if (type == ExchangeType::kTopic) matches = matches || binding.routingKey == "#";
      if (type == ExchangeType::kHeaders) {
        const Table& table = headers->table();
        matches = std::ranges::all_of(binding.arguments, [&](const auto& entry) {
          const Value* value = find(table, entry.first);
          return entry.first.starts_with("x-") || (value != nullptr && *value == entry.second);
        });
      }
      if (matches) add(*route, binding.destination);
    }
    return RouteRef(std::move(route));
  }

 private:
  static constexpr ErrorKind kNotFound = ErrorKind::kNotFound;

  void add(FakeRoute& route, const std::string& queue) {
    auto found = all_.queues.find(queue);
    if (found == all_.queues.end()) return;
    if (std::ranges::find(route.queues, found->second) != route.queues.end()) return;
    route.queues.push_back(found->second);
    if (found->second->spec.kind == QueueKind::kStream) route.topics = true;
  }
  QueueInfo info(const FakeQueue& queue) const {
    QueueInfo out;
    out.spec = queue.spec;
    out.exclusiveToOther = queue.owner != nullptr && queue.owner != this;
    out.ready = static_cast<int64_t>(queue.ready.size());
    out.unacknowledged = static_cast<int64_t>(queue.taken.size());
    out.consumers = static_cast<int64_t>(queue.consumers.size());
    return out;
  }
  template <class R>
  void reply(Done<R> done, R result) {
    answer_([alive = std::weak_ptr<char>(alive_), done = std::move(done),
             result = std::move(result)]() mutable {
      if (!alive.expired()) done(std::move(result));
    });
  }
  template <class R>
  void refuse(Done<R> done, ErrorKind kind) {
    reply<R>(std::move(done), R(std::unexpect, Error{kind, "refused by the fake"}));
  }

  FakeQueues& all_;
  Answer answer_;
  std::shared_ptr<char> alive_ = std::make_shared<char>();
};

}  // namespace polylog::test
