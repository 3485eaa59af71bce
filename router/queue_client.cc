#include "router/queue_client.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <unordered_set>
#include <utility>

#include "router/catalogue.h"
#include "router/exchange_table.h"
#include "router/queue.h"
#include "router/queue_registry.h"
#include "router/stream_consumer.h"

namespace polylog::router {
namespace {

std::unexpected<Error> noQueue(const std::string& name) {
  return fail(ErrorKind::kNotFound, "no queue '" + name + "'");
}

/// A topic read as a stream, or one partition of it: `T-1` of topic `T`.
struct Stream {
  TopicRef topic;
  std::vector<PartitionId> partitions;
};

std::optional<Stream> findStream(Core& core, const std::string& name) {
  if (name.empty()) return std::nullopt;  // a topic may be called so, a queue not
  if (TopicRef topic = core.catalogue->find(name)) return Stream{topic, topic->partitions};
  size_t dash = name.rfind('-');
  if (dash == std::string::npos) return std::nullopt;
  TopicRef topic = core.catalogue->find(BytesView(name).substr(0, dash));
  if (!topic || topic->partitions.size() < 2) return std::nullopt;
  size_t number = 0;
  const char* end = name.data() + name.size();
  auto [stop, error] = std::from_chars(name.data() + dash + 1, end, number);
  if (error != std::errc() || stop != end || number >= topic->partitions.size() ||
      name.substr(dash + 1) != std::to_string(number)) {
    return std::nullopt;
  }
  return Stream{topic, {topic->partitions[number]}};
}

/// A stream's arguments are kept with its topic's configuration, as text: they are texts and whole
/// numbers, and which is which can be told.
constexpr std::string_view kArgumentPrefix = "x-";

void keepArguments(const Table& arguments, TopicConfig& config) {
  for (const auto& [name, value] : arguments) {
    if (!name.starts_with(kArgumentPrefix)) continue;
    if (const auto* text = std::get_if<std::string>(&value.is)) config.overrides[name] = *text;
    if (const auto* number = std::get_if<int64_t>(&value.is)) {
      config.overrides[name] = std::to_string(*number);
    }
  }
}

Table keptArguments(const TopicConfig& config) {
  Table arguments;
  for (const auto& [name, text] : config.overrides) {
    if (!name.starts_with(kArgumentPrefix)) continue;
    int64_t number = 0;
    const char* end = text.data() + text.size();
    auto [stop, error] = std::from_chars(text.data(), end, number);
    bool isNumber = error == std::errc() && stop == end;
    arguments.emplace_back(name, isNumber ? Value(number) : Value(text));
  }
  if (find(arguments, "x-queue-type") == nullptr) {
    arguments.emplace_back("x-queue-type", Value(std::string("stream")));
  }
  return arguments;
}

QueueInfo describe(Core& core, const Stream& stream, const std::string& name) {
  QueueInfo info;
  info.spec.name = name;
  info.spec.kind = QueueKind::kStream;
  info.spec.durable = true;
  info.spec.retentionMs = stream.topic->config.retentionMs;
  info.spec.retentionBytes = stream.topic->config.retentionBytes;
  info.spec.arguments = keptArguments(stream.topic->config);
  for (PartitionId partition : stream.partitions) {
    if (auto ends = core.store.ends(partition)) info.ready += ends->highWatermark - ends->logStart;
  }
  return info;
}

/// Shared subscriptions' queues are nobody's to see.
std::shared_ptr<Queue> findClassic(Core& core, const std::string& name) {
  std::shared_ptr<Queue> queue = core.queues->find(name);
  return queue && queue->spec().kind == QueueKind::kShared ? nullptr : queue;
}

class ClassicConsumer final : public QueueConsumer {
 public:
  ClassicConsumer(Core& core, std::shared_ptr<Queue> queue, ConsumerRef consumer)
      : core_(core), queue_(std::move(queue)), ref_(queue_), consumer_(std::move(consumer)) {}
  ~ClassicConsumer() override {
    consumer_->listener = nullptr;
    queue_->leaving(1);
    queue_->onHome([&core = core_, queue = queue_, consumer = consumer_] {
      bool last = queue->removeConsumer(consumer);
      queue->leaving(-1);
      if (last && queue->spec().autoDelete) core.queues->removeQuietly(queue);
    });
  }
  const std::shared_ptr<QueueRef>& queue() const override { return ref_; }
  void sent(int64_t count, int64_t octets) override {
    consumer_->flight.give(count, octets);
    queue_->resume(consumer_);
  }
  void resume() override { queue_->resume(consumer_); }

 private:
  Core& core_;
  std::shared_ptr<Queue> queue_;
  std::shared_ptr<QueueRef> ref_;
  ConsumerRef consumer_;
};

class StreamReader final : public QueueConsumer {
 public:
  explicit StreamReader(std::shared_ptr<StreamConsumer> stream)
      : stream_(std::move(stream)), ref_(stream_) {}
  ~StreamReader() override { stream_->end(); }
  const std::shared_ptr<QueueRef>& queue() const override { return ref_; }
  void sent(int64_t count, int64_t octets) override { stream_->sent(count, octets); }
  void resume() override { stream_->resume(); }

 private:
  std::shared_ptr<StreamConsumer> stream_;
  std::shared_ptr<QueueRef> ref_;
};

class QueueClientImpl final : public QueueClient {
 public:
  QueueClientImpl(Core& core, PrincipalRef principal)
      : core_(core),
        worker_(core.here()),
        principal_(std::move(principal)),
        id_(core.nextClient++),
        alive_(std::make_shared<bool>(true)) {}
  ~QueueClientImpl() override;

  // ---- exchanges
  std::optional<ExchangeSpec> findExchange(const std::string& name) override {
    return core_.exchanges->find(name);
  }
  void declareExchange(ExchangeSpec spec, Done<Result<ExchangeSpec>> done) override {
    if (auto ok = permits(Operation::kCreate, ResourceKind::kExchange, spec.name); !ok) {
      return refuse(std::move(done), ok.error());
    }
    core_.exchanges->declare(worker_, std::move(spec), guarded(std::move(done)));
  }
  void deleteExchange(const std::string& name, bool ifUnused, Done<Result<>> done) override {
    if (auto ok = permits(Operation::kDelete, ResourceKind::kExchange, name); !ok) {
      return refuse(std::move(done), ok.error());
    }
    core_.exchanges->remove(worker_, name, ifUnused, guarded(std::move(done)));
  }
  void bind(BindingSpec binding, Done<Result<>> done) override {
    if (auto ok = reachable(binding); !ok) return refuse(std::move(done), ok.error());
    core_.exchanges->bind(worker_, std::move(binding), guarded(std::move(done)));
  }
  void unbind(BindingSpec binding, Done<Result<>> done) override {
    if (auto ok = reachable(binding); !ok) return refuse(std::move(done), ok.error());
    core_.exchanges->unbind(worker_, std::move(binding), guarded(std::move(done)));
  }
  std::vector<ExchangeSpec> exchanges() override { return core_.exchanges->exchanges(); }
  std::vector<BindingSpec> bindings() override { return core_.exchanges->bindings(); }

  // ---- queues
  std::optional<QueueInfo> findQueue(const std::string& name) override;
  void declareQueue(QueueSpec spec, Done<Result<QueueDeclared>> done) override;
  void deleteQueue(const std::string& name, bool ifUnused, bool ifEmpty,
                   Done<Result<int64_t>> done) override;
  void purgeQueue(const std::string& name, Done<Result<int64_t>> done) override;
  std::vector<QueueInfo> queues() override;
  void consume(ConsumeOptions options, QueueListener* listener,
               Done<Result<std::unique_ptr<QueueConsumer>>> done) override;
  void get(const std::string& name, bool acknowledges,
           Done<Result<std::optional<QueueGot>>> done) override;

  Result<RouteRef> route(const std::string& exchange, const std::string& routingKey,
                         const RoutingHeaders* headers) override {
    // The topic that amq.topic leads to is judged when the record is published to it.
    bool own = exchange == kTopicsExchange;
    auto kind = exchange.empty() ? ResourceKind::kQueue : ResourceKind::kExchange;
    const std::string& name = exchange.empty() ? routingKey : exchange;
    if (auto ok = own ? Result<>() : permits(Operation::kWrite, kind, name); !ok) {
      return std::unexpected(ok.error());
    }
    Result<RouteImplRef> found = core_.exchanges->route(worker_, exchange, routingKey, headers);
    if (!found) return std::unexpected(found.error());
    return RouteRef(std::move(*found));
  }

 private:
  /// Not after the client is gone.
  template <class T>
  Done<T> guarded(Done<T> done) {
    return [alive = std::weak_ptr<bool>(alive_), done = std::move(done)](T value) mutable {
      if (alive.lock()) done(std::move(value));
    };
  }
  template <class T>
  void refuse(Done<Result<T>> done, Error error) {
    worker_.later([done = guarded(std::move(done)), error = std::move(error)]() mutable {
      done(std::unexpected(std::move(error)));
    });
  }
  /// The destructive queue of that name, if this client may touch it; null if there is none.
  Result<std::shared_ptr<Queue>> mine(const std::string& name) const {
    std::shared_ptr<Queue> queue = findClassic(core_, name);
    if (queue && queue->owner() != 0 && queue->owner() != id_) {
      return fail(ErrorKind::kLocked, "queue '" + name + "' is exclusive to another connection");
    }
    return queue;
  }
  Result<> permits(Operation operation, ResourceKind kind, BytesView name) const {
    Resource resource{kind, name};
    if (core_.authorizer.permits(principal_, operation, resource)) return {};
    return std::unexpected(notPermitted(resource));
  }
  /// The destination is written to by what the source is read for, as RabbitMQ has it.
  Result<> reachable(const BindingSpec& binding) const {
    auto kind = binding.toExchange ? ResourceKind::kExchange : ResourceKind::kQueue;
    if (auto ok = permits(Operation::kWrite, kind, binding.destination); !ok) return ok;
    if (binding.source == kTopicsExchange) {
      // What a queue has taken in is not told apart again: all that it may get must be allowed.
      auto filter = core_.options.filterOf ? core_.options.filterOf(binding.routingKey)
                                           : Result<TopicFilter>(TopicFilter{});
      if (filter && !core_.authorizer.permitsAll(principal_, *filter)) {
        return std::unexpected(notPermitted({ResourceKind::kTopic, binding.routingKey}));
      }
    } else if (auto ok = permits(Operation::kRead, ResourceKind::kExchange, binding.source); !ok) {
      return ok;
    }
    if (binding.toExchange) return {};
    if (auto queue = mine(binding.destination); !queue) return std::unexpected(queue.error());
    return {};
  }
  /// If it is exclusive to this client.
  std::shared_ptr<Queue> ownQueue(const std::string& name) const;
  void declareStream(QueueSpec spec, Done<Result<QueueDeclared>> done);
  void consumeStream(Stream stream, ConsumeOptions options, QueueListener* listener,
                     Done<Result<std::unique_ptr<QueueConsumer>>> done);

  Core& core_;
  Worker& worker_;
  const PrincipalRef principal_;
  const uint64_t id_;
  std::shared_ptr<bool> alive_;
  static constexpr size_t kTidyAt = 64;
  std::unordered_set<std::string> exclusive_;  ///< declared by this client; some may be gone
  size_t tidyAt_ = kTidyAt;
};

QueueClientImpl::~QueueClientImpl() {
  for (const std::string& name : exclusive_) {
    if (auto queue = ownQueue(name)) core_.queues->removeQuietly(std::move(queue));
  }
}

std::optional<QueueInfo> QueueClientImpl::findQueue(const std::string& name) {
  if (auto queue = findClassic(core_, name)) {
    QueueInfo info = queue->info();
    info.exclusiveToOther = queue->owner() != 0 && queue->owner() != id_;
    return info;
  }
  if (auto stream = findStream(core_, name)) return describe(core_, *stream, name);
  return std::nullopt;
}

void QueueClientImpl::declareQueue(QueueSpec spec, Done<Result<QueueDeclared>> done) {
  if (auto ok = permits(Operation::kCreate, ResourceKind::kQueue, spec.name); !ok) {
    return refuse(std::move(done), ok.error());
  }
  auto queue = mine(spec.name);
  if (!queue) return refuse(std::move(done), queue.error());
  if (!*queue) {
    auto stream = findStream(core_, spec.name);
    if (spec.kind == QueueKind::kStream && !stream) {
      return declareStream(std::move(spec), std::move(done));
    }
    if (spec.kind == QueueKind::kStream) {
      QueueDeclared declared{describe(core_, *stream, spec.name), false};
      return worker_.later(
          [done = guarded(std::move(done)), declared]() mutable { done(std::move(declared)); });
    }
  }
  bool exclusive = spec.exclusive;
  std::string name = spec.name;
  core_.queues->declare(
      worker_, id_, std::move(spec),
      guarded<Result<QueueRegistry::Declared>>(
          [this, done = std::move(done)](Result<QueueRegistry::Declared> result) mutable {
            if (!result) return done(std::unexpected(result.error()));
            QueueDeclared declared{result->queue->info(), result->created};
            uint64_t owner = result->queue->owner();
            if (owner != 0 && owner != id_) {
              return done(fail(ErrorKind::kLocked, "queue '" + declared.info.spec.name +
                                                       "' is exclusive to another connection"));
            }
            done(std::move(declared));
          }));
  // At once: the connection may end before the answer comes.
  if (!exclusive) return;
  exclusive_.insert(std::move(name));
  if (exclusive_.size() < tidyAt_) return;
  std::erase_if(exclusive_, [this](const std::string& one) { return !ownQueue(one); });
  tidyAt_ = std::max(kTidyAt, exclusive_.size() * 2);
}

std::shared_ptr<Queue> QueueClientImpl::ownQueue(const std::string& name) const {
  auto queue = core_.queues->find(name);
  return queue && queue->owner() == id_ ? queue : nullptr;
}

void QueueClientImpl::declareStream(QueueSpec spec, Done<Result<QueueDeclared>> done) {
  TopicSpec topic;
  topic.name = spec.name;
  topic.partitions = 1;
  topic.config.emplace();
  if (spec.retentionMs >= 0) {
    topic.config->retentionMs = spec.retentionMs;
    topic.config->own.add(TopicField::kRetentionMs);
  }
  if (spec.retentionBytes >= 0) {
    topic.config->retentionBytes = spec.retentionBytes;
    topic.config->own.add(TopicField::kRetentionBytes);
  }
  keepArguments(spec.arguments, *topic.config);
  std::string name = spec.name;
  core_.catalogue->create(worker_, std::move(topic), Protocol::kAmqp,
                          guarded<Result<TopicRef>>(
                              [this, name, done = std::move(done)](Result<TopicRef> made) mutable {
                                bool created = made.has_value();
                                if (!created && made.error().kind != ErrorKind::kAlreadyExists) {
                                  return done(std::unexpected(made.error()));
                                }
                                auto info = findQueue(name);
                                if (!info) return done(noQueue(name));
                                done(QueueDeclared{std::move(*info), created});
                              }));
}

void QueueClientImpl::deleteQueue(const std::string& name, bool ifUnused, bool ifEmpty,
                                  Done<Result<int64_t>> done) {
  if (auto ok = permits(Operation::kDelete, ResourceKind::kQueue, name); !ok) {
    return refuse(std::move(done), ok.error());
  }
  auto queue = mine(name);
  if (!queue) return refuse(std::move(done), queue.error());
  if (*queue) {
    return core_.queues->remove(worker_, std::move(*queue), ifUnused, ifEmpty,
                                guarded(std::move(done)));
  }
  auto stream = findStream(core_, name);
  if (!stream || stream->topic->name != name) return refuse(std::move(done), noQueue(name).error());
  int64_t ready = describe(core_, *stream, name).ready;
  if (ifEmpty && ready > 0) {
    return refuse(std::move(done), {ErrorKind::kNotEmpty, "queue '" + name + "' not empty"});
  }
  core_.deleteTopic(principal_, name,
                    guarded<Result<>>([ready, done = std::move(done)](Result<> result) mutable {
                      if (!result) return done(std::unexpected(result.error()));
                      done(ready);
                    }));
}

void QueueClientImpl::purgeQueue(const std::string& name, Done<Result<int64_t>> done) {
  if (auto ok = permits(Operation::kRead, ResourceKind::kQueue, name); !ok) {
    return refuse(std::move(done), ok.error());
  }
  auto queue = mine(name);
  if (!queue) return refuse(std::move(done), queue.error());
  if (*queue) return core_.queues->purge(worker_, std::move(*queue), guarded(std::move(done)));
  if (!findStream(core_, name)) return refuse(std::move(done), noQueue(name).error());
  refuse(std::move(done), {ErrorKind::kUnsupported, "a stream can't be purged"});
}

std::vector<QueueInfo> QueueClientImpl::queues() {
  std::vector<QueueInfo> all;
  for (const auto& queue : core_.queues->all()) {
    if (queue->spec().kind == QueueKind::kShared) continue;
    QueueInfo info = queue->info();
    info.exclusiveToOther = queue->owner() != 0 && queue->owner() != id_;
    all.push_back(std::move(info));
  }
  return all;
}

void QueueClientImpl::consume(ConsumeOptions options, QueueListener* listener,
                              Done<Result<std::unique_ptr<QueueConsumer>>> done) {
  if (auto ok = permits(Operation::kRead, ResourceKind::kQueue, options.queue); !ok) {
    return refuse(std::move(done), ok.error());
  }
  auto found = mine(options.queue);
  if (!found) return refuse(std::move(done), found.error());
  if (!*found) {
    auto stream = findStream(core_, options.queue);
    if (!stream) return refuse(std::move(done), noQueue(options.queue).error());
    return consumeStream(std::move(*stream), std::move(options), listener, std::move(done));
  }
  std::shared_ptr<Queue> queue = std::move(*found);
  auto consumer = std::make_shared<Consumer>(worker_, listener, options);
  consumer->reader = principal_;
  auto told =
      std::make_shared<Done<Result<std::unique_ptr<QueueConsumer>>>>(guarded(std::move(done)));
  auto alive = std::weak_ptr<bool>(alive_);
  queue->onHome([&core = core_, &worker = worker_, queue, consumer, told, alive] {
    Result<> added = queue->addConsumer(consumer);
    core.onWorker(worker, [&core, queue, consumer, told, alive, added] {
      if (!added) return (*told)(std::unexpected(added.error()));
      auto handle = std::make_unique<ClassicConsumer>(core, queue, consumer);
      // Without anybody to have it, the handle ends the consumer.
      if (alive.lock()) (*told)(std::unique_ptr<QueueConsumer>(std::move(handle)));
    });
  });
}

void QueueClientImpl::consumeStream(Stream stream, ConsumeOptions options, QueueListener* listener,
                                    Done<Result<std::unique_ptr<QueueConsumer>>> done) {
  if (auto ok = permits(Operation::kRead, ResourceKind::kTopic, stream.topic->name); !ok) {
    return refuse(std::move(done), ok.error());
  }
  auto opened = StreamConsumer::open(core_, worker_, std::move(stream.topic),
                                     std::move(stream.partitions), options, listener);
  if (!opened) return refuse(std::move(done), opened.error());
  auto handle = std::make_unique<StreamReader>(*opened);
  worker_.later([done = guarded(std::move(done)), stream = std::move(*opened), who = principal_,
                 handle = std::move(handle)]() mutable {
    done(std::unique_ptr<QueueConsumer>(std::move(handle)));
    stream->start(who);
  });
}

void QueueClientImpl::get(const std::string& name, bool acknowledges,
                          Done<Result<std::optional<QueueGot>>> done) {
  if (auto ok = permits(Operation::kRead, ResourceKind::kQueue, name); !ok) {
    return refuse(std::move(done), ok.error());
  }
  auto found = mine(name);
  if (!found) return refuse(std::move(done), found.error());
  if (!*found) {
    if (!findStream(core_, name)) return refuse(std::move(done), noQueue(name).error());
    return refuse(std::move(done), {ErrorKind::kUnsupported, "a stream can't be got from"});
  }
  std::shared_ptr<Queue> queue = std::move(*found);
  auto told = std::make_shared<Done<Result<std::optional<QueueGot>>>>(std::move(done));
  auto alive = std::weak_ptr<bool>(alive_);
  queue->onHome([&core = core_, &worker = worker_, queue, acknowledges, told, alive] {
    std::optional<QueueGot> got;
    if (auto delivery = queue->takeOne()) {
      got = QueueGot{std::move(*delivery), queue, queue->info().ready};
    }
    core.onWorker(worker, [queue, acknowledges, told, alive, got = std::move(got)]() mutable {
      if (got && !alive.lock()) return queue->giveBack({std::move(got->delivery)});
      if (got && !acknowledges) {
        const Settlement used{got->delivery.id, Disposition::kAccept};
        queue->settle({&used, 1});
      }
      if (alive.lock()) (*told)(std::move(got));
    });
  });
}

}  // namespace

std::unique_ptr<QueueClient> makeQueueClient(Core& core, const PrincipalRef& principal) {
  return std::make_unique<QueueClientImpl>(core, principal);
}

}  // namespace polylog::router
