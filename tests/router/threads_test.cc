// The router over the real log store, on threads of its own: what ThreadSanitizer has to see, and
// what must hold however they interleave.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <future>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "storage/file.h"
#include "tests/router/router_fixture.h"
#include "tests/support/loop_thread.h"
#include "tests/support/temporary_directory.h"

namespace polylog::router {
namespace {

constexpr size_t kWorkers = 3;
constexpr int kBursts = 100;
constexpr int kBurstRecords = 5;
constexpr auto kPatience = std::chrono::seconds(60);

PrincipalRef someone(const std::string& id, Protocol protocol) {
  return std::make_shared<const Principal>(Principal{"", id, "127.0.0.1:1", protocol});
}

/// Everything that a subscriber got, from whichever thread.
class Received {
 public:
  void add(std::string value, bool redelivered) {
    std::lock_guard lock(mutex_);
    bool isNew = seen_.insert(value).second;
    EXPECT_TRUE(isNew || redelivered) << value;
    if (isNew) order_.push_back(std::move(value));
    changed_.notify_all();
  }
  bool waitFor(size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return order_.size() >= count; });
  }
  std::vector<std::string> order() {
    std::lock_guard lock(mutex_);
    return order_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::string> seen_;
  std::vector<std::string> order_;
};

/// A connection that takes and acknowledges whatever comes.
class Consumer final : public SubscriberListener {
 public:
  explicit Consumer(Received& received) : received_(received) {}
  void onDeliverable() override {
    std::vector<Delivery> deliveries;
    while (session && session->take(7, INT64_MAX, deliveries) > 0) {
      for (const Delivery& delivery : deliveries) {
        received_.add(std::string(*delivery.record->record.value), delivery.redelivered);
        if (delivery.id >= 0 && session) session->acknowledge(delivery.id);
      }
      deliveries.clear();
    }
  }
  void onTakenOver(bool) override {
    session = nullptr;
    takenOver.set_value();
  }
  std::shared_ptr<SubscriberSession> session;
  std::promise<void> takenOver;

 private:
  Received& received_;
};

class ThreadsTest : public testing::Test {
 protected:
  void begin() {
    auto directory = storage::openDirectory(directory_.path());
    ASSERT_TRUE(directory.has_value());
    auto store = storage::openLogStore(*directory, {}, systemClock(), systemRandom(),
                                       [](const Error& error) { ADD_FAILURE() << error.text; });
    ASSERT_TRUE(store.has_value()) << store.error().text;
    store_ = std::move(*store);
    std::vector<Dispatcher*> dispatchers;
    for (size_t i = 0; i < kWorkers; ++i) {
      loops_.push_back(std::make_unique<test::LoopThread>());
      dispatchers.push_back(&loops_.back()->dispatcher());
    }
    auto router = makeRouter(*store_, dispatchers, systemClock(), systemRandom(), {});
    ASSERT_TRUE(router.has_value()) << router.error().text;
    router_ = std::move(*router);
    router_->start();
  }
  void end() {
    std::promise<void> stopped;
    router_->stop([&] { stopped.set_value(); });
    stopped.get_future().wait();
    store_->close();
    loops_.clear();
    consumers_.clear();
    router_ = nullptr;
    store_ = nullptr;
  }
  template <class Work>
  auto on(size_t worker, Work work) {
    return loops_[worker]->call(std::move(work));
  }

  Consumer& open(const std::string& id, size_t worker, uint32_t expiry, Received& received) {
    consumers_.push_back(std::make_unique<Consumer>(received));
    Consumer* consumer = consumers_.back().get();
    std::promise<void> opened;
    on(worker, [&] {
      router_->openSession(someone(id, Protocol::kMqtt), {id, false, expiry}, consumer,
                           [&, consumer](Result<std::shared_ptr<SubscriberSession>> result) {
                             ASSERT_TRUE(result.has_value());
                             consumer->session = *result;
                             opened.set_value();
                           });
    });
    opened.get_future().wait();
    return *consumer;
  }
  void subscribe(Consumer& consumer, size_t worker, const std::string& filter) {
    std::promise<void> done;
    on(worker, [&] {
      consumer.session->subscribe({subscription(filter, kQos1)}, [&](auto) { done.set_value(); });
    });
    done.get_future().wait();
  }
  /// Publishes on one worker, a burst once the last is durable; values "<name>:<number>".
  void publishAll(size_t worker, const std::string& name, std::promise<void>& finished, int burst) {
    loops_[worker]->dispatcher().post([this, worker, name, &finished, burst] {
      std::vector<std::string> values;
      for (int i = 0; i < kBurstRecords; ++i) {
        values.push_back(name + ":" + std::to_string(burst * kBurstRecords + i));
      }
      std::vector<Publish> records(values.size());
      for (size_t i = 0; i < values.size(); ++i) {
        records[i].address = {"t", BytesView(name)};
        records[i].topic = "t";
        records[i].record.key = BytesView(name);
        records[i].record.value = BytesView(values[i]);
        records[i].record.guarantee = kQos1;
        records[i].record.retain = i == 0;
      }
      router_->publish(someone(name, Protocol::kMqtt), nullptr, records,
                       [this, worker, name, &finished, burst](auto results) {
                         for (auto& result : results) EXPECT_FALSE(result.error.has_value());
                         if (burst + 1 == kBursts) return finished.set_value();
                         publishAll(worker, name, finished, burst + 1);
                       });
    });
  }
  void produceAll(size_t worker, const std::string& name, std::promise<void>& finished, int burst) {
    loops_[worker]->dispatcher().post([this, worker, name, &finished, burst] {
      RecordBatchBuilder builder;
      for (int i = 0; i < kBurstRecords; ++i) {
        std::string value = name + ":" + std::to_string(burst * kBurstRecords + i);
        Record record;
        record.key = BytesView(name);
        record.value = BytesView(value);
        record.timestampMs = 1;
        builder.add(record);
      }
      router_->produce(someone(name, Protocol::kKafka),
                       {"t", 0, SharedBytes::own(builder.finish()), true},
                       [this, worker, name, &finished, burst](auto result) {
                         EXPECT_TRUE(result.has_value());
                         if (burst + 1 == kBursts) return finished.set_value();
                         produceAll(worker, name, finished, burst + 1);
                       });
    });
  }
  static void expectOrder(const std::vector<std::string>& values) {
    std::map<std::string, int> next;
    for (const std::string& value : values) {
      size_t colon = value.find(':');
      EXPECT_EQ(std::stoi(value.substr(colon + 1)), next[value.substr(0, colon)]++) << value;
    }
  }

  test::TemporaryDirectory directory_;
  std::unique_ptr<storage::LogStore> store_;
  std::unique_ptr<Router> router_;
  std::vector<std::unique_ptr<Consumer>> consumers_;
  std::vector<std::unique_ptr<test::LoopThread>> loops_;
};

TEST_F(ThreadsTest, NothingIsLostOrOutOfOrderWhileSessionsMoveBetweenWorkers) {
  begin();
  constexpr size_t kAll = (kWorkers + 1) * kBursts * kBurstRecords;
  Received roaming;
  Received sleeping;
  std::vector<std::unique_ptr<Received>> live;
  // The topic is there before anybody subscribes to it with a producer in mind.
  std::promise<void> created;
  on(0, [&] {
    router_->createTopic(someone("admin", Protocol::kKafka), {"t", 1, std::nullopt},
                         [&](auto result) {
                           EXPECT_TRUE(result.has_value());
                           created.set_value();
                         });
  });
  created.get_future().wait();
  Consumer* current = &open("roamer", 0, 3600, roaming);
  subscribe(*current, 0, "t/#");
  Consumer& sleeper = open("sleeper", 1, 3600, sleeping);
  subscribe(sleeper, 1, "t/+");
  on(1, [&] { sleeper.session->detach(); });
  on(1, [&] { sleeper.session = nullptr; });
  for (size_t worker = 0; worker < kWorkers; ++worker) {
    live.push_back(std::make_unique<Received>());
    subscribe(open("live" + std::to_string(worker), worker, 0, *live.back()), worker, "#");
  }
  std::vector<std::promise<void>> finished(kWorkers + 1);
  for (size_t worker = 0; worker < kWorkers; ++worker) {
    publishAll(worker, "p" + std::to_string(worker), finished[worker], 0);
  }
  produceAll(1, "kafka", finished[kWorkers], 0);
  for (size_t move = 1; move <= 12; ++move) {
    auto gone = current->takenOver.get_future();
    Consumer& next = open("roamer", move % kWorkers, 3600, roaming);
    gone.wait();
    current = &next;
    // Subscriptions come and go meanwhile, elsewhere.
    Consumer& passing = open("passing", (move + 1) % kWorkers, 0, *live[0]);
    subscribe(passing, (move + 1) % kWorkers, "u/" + std::to_string(move));
    on((move + 1) % kWorkers, [&] {
      passing.session->detach();
      passing.session = nullptr;
    });
  }
  for (auto& one : finished) one.get_future().wait();
  EXPECT_TRUE(roaming.waitFor(kAll));
  for (auto& one : live) EXPECT_TRUE(one->waitFor(kAll));
  expectOrder(roaming.order());
  for (auto& one : live) expectOrder(one->order());
  end();

  // The sleeper gets all of it after a restart.
  begin();
  open("sleeper", 2, 3600, sleeping);
  EXPECT_TRUE(sleeping.waitFor(kAll));
  expectOrder(sleeping.order());
  EXPECT_EQ(roaming.order().size(), kAll);
  EXPECT_EQ(sleeping.order().size(), kAll);
  end();
}

TEST_F(ThreadsTest, GroupsAnswerEveryWorker) {
  begin();
  std::promise<void> created;
  on(0, [&] {
    router_->createTopic(someone("admin", Protocol::kKafka), {"t", 4, std::nullopt},
                         [&](auto) { created.set_value(); });
  });
  created.get_future().wait();
  std::atomic<int> committed{0};
  std::promise<void> all;
  constexpr int kCommits = 300;
  for (int i = 0; i < kCommits; ++i) {
    size_t worker = static_cast<size_t>(i) % kWorkers;
    loops_[worker]->dispatcher().post([&, i] {
      GroupCommit commit;
      commit.group = "g" + std::to_string(i % 7);
      commit.offsets = {{"t", i % 4, i, -1, ""}};
      router_->commitOffsets(someone("k", Protocol::kKafka), commit, [&](auto results) {
        EXPECT_TRUE(results.has_value());
        if (++committed == kCommits) all.set_value();
      });
    });
  }
  all.get_future().wait();
  std::promise<size_t> listed;
  on(2, [&] {
    router_->listGroups(someone("k", Protocol::kKafka),
                        [&](auto groups) { listed.set_value(groups.size()); });
  });
  EXPECT_EQ(listed.get_future().get(), 7U);
  end();
}

}  // namespace
}  // namespace polylog::router
