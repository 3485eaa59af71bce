// Queues over the real log store, on threads of its own: publishers, consumers and the queue's home
// on different workers, with windows so small that everybody waits for everybody all the time.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <future>
#include <map>
#include <mutex>
#include <thread>

#include "storage/file.h"
#include "tests/router/queue_fixture.h"
#include "tests/support/loop_thread.h"
#include "tests/support/temporary_directory.h"

namespace polylog::router {
namespace {

constexpr size_t kWorkers = 3;
constexpr int kBursts = 60;
constexpr int kBurstRecords = 5;
constexpr size_t kAll = kWorkers * kBursts * kBurstRecords;
constexpr auto kPatience = std::chrono::seconds(60);

PrincipalRef somebody() {
  return std::make_shared<const Principal>(Principal{"", "amqp", "127.0.0.1:1", Protocol::kAmqp});
}

/// What was accepted, by whichever consumer.
class Accepted {
 public:
  void add(const std::string& value) {
    std::lock_guard lock(mutex_);
    ++counts_[value];
    changed_.notify_all();
  }
  bool waitForAll() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return counts_.size() >= kAll; });
  }
  void expectEachOnce() {
    std::lock_guard lock(mutex_);
    EXPECT_EQ(counts_.size(), kAll);
    for (const auto& [value, count] : counts_) EXPECT_EQ(count, 1) << value;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, int> counts_;
};

/// Accepts most of what it gets, requeues some, and says late that it is sent. The windows of all
/// consumers of a worker are one channel's.
class Busy final : public QueueListener {
 public:
  Busy(Dispatcher& loop, Accepted& accepted, std::vector<Busy*>& channel)
      : loop_(loop), accepted_(accepted), channel_(channel) {}
  void onDeliveries(std::span<QueueDelivery> deliveries) override {
    std::vector<Settlement> settlements;
    for (const QueueDelivery& delivery : deliveries) {
      bool back = ++count_ % 7 == 0;
      settlements.push_back({delivery.id, back ? Disposition::kRequeue : Disposition::kAccept});
      if (!back) accepted_.add(std::string(*delivery.record->record.value));
    }
    loop_.post([this, settlements, octets = octetsOf(deliveries)] {
      if (!handle) return settle(settlements);
      handle->sent(static_cast<int64_t>(settlements.size()), octets);
      settle(settlements);
    });
  }
  void onCancelled() override { handle = nullptr; }

  ConsumeOptions options;
  std::unique_ptr<QueueConsumer> handle;
  std::shared_ptr<QueueRef> queue;

 private:
  void settle(const std::vector<Settlement>& settlements) {
    auto count = static_cast<int64_t>(settlements.size());
    options.window->give(count);
    options.channelWindow->give(count);
    queue->settle(settlements);
    for (Busy* other : channel_) {
      if (other->handle) other->handle->resume();
    }
  }
  Dispatcher& loop_;
  Accepted& accepted_;
  std::vector<Busy*>& channel_;
  int count_ = 0;
};

class QueueThreadsTest : public testing::Test {
 protected:
  template <class Work>
  auto on(size_t worker, Work work) {
    return loops_[worker]->call(std::move(work));
  }

  QueueThreadsTest() {
    auto directory = storage::openDirectory(directory_.path());
    store_ = *storage::openLogStore(*directory, {}, systemClock(), systemRandom(),
                                    [](const Error& error) { ADD_FAILURE() << error.text; });
    std::vector<Dispatcher*> dispatchers;
    for (size_t i = 0; i < kWorkers; ++i) {
      loops_.push_back(std::make_unique<test::LoopThread>());
      dispatchers.push_back(&loops_.back()->dispatcher());
    }
    RouterOptions options;
    options.filterOf = filterOfBindingKey;
    options.routingKeyOf = routingKeyOfAddress;
    router_ = *makeRouter(*store_, dispatchers, systemClock(), systemRandom(), options);
    router_->start();
    for (size_t i = 0; i < kWorkers; ++i) {
      clients_.push_back(on(i, [&] { return router_->openQueueClient(somebody()); }));
    }
  }
  ~QueueThreadsTest() override {
    for (auto& busy : busy_) on(busy.first, [&] { busy.second->handle = nullptr; });
    for (size_t i = 0; i < kWorkers; ++i) on(i, [&] { clients_[i] = nullptr; });
    std::promise<void> stopped;
    router_->stop([&] { stopped.set_value(); });
    stopped.get_future().wait();
    store_->close();
    loops_.clear();
    busy_.clear();
    router_ = nullptr;
  }
  /// Makes the call on a worker and waits for its answer.
  template <class T, class Call>
  Result<T> ask(size_t worker, Call call) {
    std::promise<Result<T>> answer;
    on(worker, [&] {
      call(*clients_[worker], [&](Result<T> result) { answer.set_value(std::move(result)); });
    });
    return answer.get_future().get();
  }
  void declare(const std::string& name, size_t worker) {
    EXPECT_TRUE(ask<QueueDeclared>(worker, [&](QueueClient& client, auto done) {
      client.declareQueue(queueSpec(name), std::move(done));
    }));
  }
  void bind(const BindingSpec& binding) {
    EXPECT_TRUE(ask<void>(
        0, [&](QueueClient& client, auto done) { client.bind(binding, std::move(done)); }));
  }
  Busy& consume(const std::string& queue, size_t worker, DeliveryWindowRef channel,
                std::vector<Busy*>& others, Accepted& accepted) {
    auto made = std::make_unique<Busy>(loops_[worker]->dispatcher(), accepted, others);
    Busy& busy = *made;
    busy_.emplace_back(worker, std::move(made));
    busy.options.queue = queue;
    busy.options.window = std::make_shared<DeliveryWindow>();
    busy.options.window->setLimit(2);
    busy.options.channelWindow = std::move(channel);
    std::promise<void> begun;
    on(worker, [&] {
      clients_[worker]->consume(busy.options, &busy, [&](auto result) {
        busy.handle = std::move(*result);
        busy.queue = busy.handle->queue();
        others.push_back(&busy);
        begun.set_value();
      });
    });
    begun.get_future().wait();
    return busy;
  }
  void publishAll(size_t worker, const std::string& key, std::promise<void>& finished, int burst) {
    loops_[worker]->dispatcher().post([this, worker, key, &finished, burst] {
      std::vector<std::string> values;
      for (int i = 0; i < kBurstRecords; ++i) {
        values.push_back(std::to_string(worker) + ":" + std::to_string(burst * kBurstRecords + i));
      }
      std::vector<Publish> records(values.size());
      RouteRef route = *clients_[worker]->route("amq.direct", key, nullptr);
      for (size_t i = 0; i < values.size(); ++i) {
        records[i].route = route;
        records[i].record.value = BytesView(values[i]);
      }
      router_->publish(somebody(), nullptr, records,
                       [this, worker, key, &finished, burst](auto results) {
                         for (auto& result : results) EXPECT_FALSE(result.error.has_value());
                         if (burst + 1 == kBursts) return finished.set_value();
                         publishAll(worker, key, finished, burst + 1);
                       });
    });
  }

  // Tasks of the loops use these to the end.
  Accepted fromA_;
  Accepted fromB_;
  std::vector<std::vector<Busy*>> channels_{kWorkers};
  std::vector<std::unique_ptr<std::vector<Busy*>>> passing_;
  test::TemporaryDirectory directory_;
  std::unique_ptr<storage::LogStore> store_;
  std::vector<std::unique_ptr<test::LoopThread>> loops_;
  std::unique_ptr<Router> router_;
  std::vector<std::unique_ptr<QueueClient>> clients_;
  std::vector<std::pair<size_t, std::unique_ptr<Busy>>> busy_;
};

TEST_F(QueueThreadsTest, EachRecordIsAcceptedOnceWhoeverWaitsForWhom) {
  declare("a", 0);
  declare("b", 1);
  bind(toQueue("amq.direct", "a", "k"));
  bind(toQueue("amq.direct", "b", "k"));
  for (size_t worker = 0; worker < kWorkers; ++worker) {
    auto channel = std::make_shared<DeliveryWindow>();
    channel->setLimit(3);
    consume("a", worker, channel, channels_[worker], fromA_);
    consume("b", worker, channel, channels_[worker], fromB_);
  }
  std::vector<std::promise<void>> finished(kWorkers);
  for (size_t worker = 0; worker < kWorkers; ++worker) {
    publishAll(worker, "k", finished[worker], 0);
  }
  // Consumers come and go meanwhile; what they had goes to the others.
  for (size_t round = 0; round < 20; ++round) {
    size_t worker = round % kWorkers;
    auto window = std::make_shared<DeliveryWindow>();
    passing_.push_back(std::make_unique<std::vector<Busy*>>());
    Busy& passing = consume("a", worker, window, *passing_.back(), fromA_);
    on(worker, [&] { passing.handle = nullptr; });
  }
  for (auto& one : finished) one.get_future().wait();
  EXPECT_TRUE(fromA_.waitForAll());
  EXPECT_TRUE(fromB_.waitForAll());
  fromA_.expectEachOnce();
  fromB_.expectEachOnce();
}

/// Names are declared, bound, published to, consumed and deleted by everybody at once.
TEST_F(QueueThreadsTest, DeclaringAndDeletingFromEverywhere) {
  constexpr int kRounds = 60;
  std::vector<std::thread> threads;
  for (size_t worker = 0; worker < kWorkers; ++worker) {
    threads.emplace_back([this, worker] {
      for (int round = 0; round < kRounds; ++round) {
        std::string name = "q" + std::to_string(round % 3);
        QueueSpec spec = queueSpec(name, round % 2 == 0);
        auto declared = ask<QueueDeclared>(worker, [&](QueueClient& client, auto done) {
          client.declareQueue(spec, std::move(done));
        });
        EXPECT_TRUE(declared);
        (void)ask<void>(worker, [&](QueueClient& client, auto done) {
          client.bind(toQueue("amq.topic", name, "#"), std::move(done));
        });
        (void)ask<ExchangeSpec>(worker, [&](QueueClient& client, auto done) {
          ExchangeSpec made = exchangeSpec("x", ExchangeType::kFanout);
          made.autoDelete = true;
          client.declareExchange(made, std::move(done));
        });
        (void)ask<void>(worker, [&](QueueClient& client, auto done) {
          client.bind(toQueue("x", name), std::move(done));
        });
        std::promise<void> published;
        on(worker, [&] {
          Publish records[2];
          records[0].address = {"t", std::nullopt};
          records[0].topic = "t";
          records[0].record.value = BytesView("one");
          records[1].route = *clients_[worker]->route("", name, nullptr);
          records[1].record.value = BytesView("two");
          router_->publish(somebody(), nullptr, records, [&](auto results) {
            for (auto& result : results) {
              EXPECT_FALSE(result.error) << result.error->text;
            }
            published.set_value();
          });
        });
        published.get_future().wait();
        (void)ask<std::optional<QueueGot>>(worker, [&](QueueClient& client, auto done) {
          client.get(name, false, std::move(done));
        });
        on(worker, [&] { return clients_[worker]->queues(); });
        (void)ask<int64_t>(worker, [&](QueueClient& client, auto done) {
          client.deleteQueue(name, false, false, std::move(done));
        });
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_TRUE(on(0, [&] { return clients_[0]->queues(); }).empty());
  EXPECT_TRUE(on(0, [&] { return clients_[0]->bindings(); }).empty());
}

}  // namespace
}  // namespace polylog::router
