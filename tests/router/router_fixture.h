// A router over the store in memory, with as many workers as a test wants, all on the test's thread.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/model/record_batch.h"
#include "router/router.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_log_store.h"
#include "tests/support/manual_dispatcher.h"
#include "tests/support/seeded_random.h"

namespace polylog::router {

constexpr DeliveryGuarantee kQos0 = DeliveryGuarantee::kAtMostOnce;
constexpr DeliveryGuarantee kQos1 = DeliveryGuarantee::kAtLeastOnce;
constexpr DeliveryGuarantee kQos2 = DeliveryGuarantee::kExactlyOnce;

/// "a/+/#" as MQTT writes it.
inline TopicFilter filterOf(std::string_view text) {
  TopicFilter filter;
  size_t from = 0;
  while (true) {
    size_t slash = text.find('/', from);
    std::string level(text.substr(from, slash == text.npos ? slash : slash - from));
    if (level == "+") {
      filter.levels.push_back({FilterLevel::Kind::kOne, {}});
    } else if (level == "#") {
      filter.levels.push_back({FilterLevel::Kind::kRest, {}});
    } else {
      filter.levels.push_back({FilterLevel::Kind::kLiteral, level});
    }
    if (slash == text.npos) return filter;
    from = slash + 1;
  }
}

inline Address addressOf(std::string_view text) {
  size_t slash = text.find('/');
  if (slash == text.npos) return {text, std::nullopt};
  return {text.substr(0, slash), text.substr(slash + 1)};
}

inline Subscription subscription(std::string text, DeliveryGuarantee guarantee, uint32_t id = 0) {
  Subscription made;
  made.text = text;
  made.filter = filterOf(text);
  made.guarantee = guarantee;
  made.id = id;
  return made;
}

struct TestClient final : SubscriberListener {
  std::string id;
  size_t worker = 0;
  std::shared_ptr<SubscriberSession> session;
  std::optional<Error> error;
  int deliverable = 0;
  int takenOver = 0;
  bool byOperator = false;
  void onDeliverable() override { ++deliverable; }
  void onTakenOver(bool operatorDid) override {
    ++takenOver;
    byOperator = operatorDid;
  }
};

/// What a publish was told.
struct Told {
  bool done = false;
  std::vector<PublishResult> results;
};

class RouterFixture : public testing::Test {
 protected:
  ~RouterFixture() override { end(); }

  void begin(size_t workers = 1, RouterOptions options = {}) {
    options_ = std::move(options);
    workerCount_ = workers;
    if (!store_) store_ = std::make_unique<test::FakeLogStore>();
    for (size_t i = 0; i < workers; ++i) {
      loops_.push_back(std::make_unique<test::ManualDispatcher>(clock_));
    }
    std::vector<Dispatcher*> dispatchers;
    for (auto& loop : loops_) dispatchers.push_back(loop.get());
    auto made = makeRouter(*store_, dispatchers, clock_, random_, options_);
    ASSERT_TRUE(made.has_value()) << made.error().text;
    router_ = std::move(*made);
    router_->start();
    settle();
  }
  void end() {
    for (auto& client : clients_) client->session = nullptr;
    router_ = nullptr;
    loops_.clear();
  }
  /// kill -9 and start: what was not committed is gone.
  void crash() {
    end();
    clients_.clear();
    store_ = store_->afterCrash();
    begin(workerCount_, options_);
  }

  /// Lets every worker run until there is nothing left to do; commits nothing.
  void run() {
    bool any = true;
    while (any) {
      any = false;
      for (auto& loop : loops_) any = loop->runAll() > 0 || any;
    }
  }
  /// The same, and commits until nothing is pending.
  void settle() {
    run();
    while (store_->pending() > 0) {
      store_->commit();
      run();
    }
  }
  void failWrites() {
    store_->failPending({ErrorKind::kIo, "the disk said no"});
    run();
  }
  void advance(int64_t millis) {
    // In steps, since a dispatcher's advance() fires nobody's timers but its own.
    settle();
    int64_t step = std::max<int64_t>(50, millis / 100);
    for (; millis > 0; millis -= step) {
      clock_.advance(std::min(step, millis) * 1000);
      settle();
    }
  }
  template <class Work>
  auto on(size_t worker, Work work) {
    test::ManualDispatcher::Scope scope(*loops_[worker]);
    return work();
  }

  PrincipalRef principal(const std::string& clientId, Protocol protocol = Protocol::kMqtt) {
    return std::make_shared<const Principal>(Principal{"", clientId, "127.0.0.1:1", protocol});
  }

  TestClient& newClient(const std::string& id, size_t worker = 0) {
    clients_.push_back(std::make_unique<TestClient>());
    clients_.back()->id = id;
    clients_.back()->worker = worker;
    return *clients_.back();
  }
  void open(TestClient& client, uint32_t expiry, bool clean = false) {
    SubscriberOptions options{client.id, clean, expiry};
    on(client.worker, [&] {
      router_->openSession(principal(client.id), options, &client,
                           [&client](Result<std::shared_ptr<SubscriberSession>> result) {
                             if (result) {
                               client.session = *result;
                             } else {
                               client.error = result.error();
                             }
                           });
    });
  }
  TestClient& connect(const std::string& id, uint32_t expiry = 0, size_t worker = 0,
                      bool clean = false) {
    TestClient& client = newClient(id, worker);
    open(client, expiry, clean);
    settle();
    EXPECT_TRUE(client.session) << id;
    return client;
  }
  std::vector<Result<DeliveryGuarantee>> subscribe(TestClient& client,
                                                   std::vector<Subscription> subscriptions) {
    std::vector<Result<DeliveryGuarantee>> results;
    on(client.worker, [&] {
      client.session->subscribe(std::move(subscriptions),
                                [&](std::vector<Result<DeliveryGuarantee>> granted) {
                                  results = std::move(granted);
                                });
    });
    settle();
    return results;
  }
  void subscribe(TestClient& client, const std::string& text, DeliveryGuarantee guarantee) {
    auto results = subscribe(client, {subscription(text, guarantee)});
    ASSERT_EQ(results.size(), 1U);
    ASSERT_TRUE(results[0].has_value());
  }
  void detach(TestClient& client) {
    on(client.worker, [&] { client.session->detach(); });
    client.session = nullptr;
    settle();
  }

  struct Outgoing {
    std::string address;
    std::string value;
    DeliveryGuarantee guarantee = kQos0;
    bool retain = false;
    std::optional<uint16_t> exactlyOnceId = std::nullopt;
    bool ephemeral = false;
  };
  std::shared_ptr<Told> publish(std::vector<Outgoing> records, TestClient* self = nullptr,
                                size_t worker = 0) {
    std::vector<Publish> publishes;
    for (const Outgoing& out : records) {
      Publish& publish = publishes.emplace_back();
      publish.address = addressOf(out.address);
      publish.topic = publish.address.topic;
      publish.record.key = publish.address.key;
      publish.record.value = BytesView(out.value);
      publish.record.guarantee = out.guarantee;
      publish.record.retain = out.retain;
      publish.exactlyOnceId = out.exactlyOnceId;
      publish.ephemeral = out.ephemeral;
    }
    bool tells = records.front().guarantee != kQos0;
    auto told = std::make_shared<Told>();
    Done<std::vector<PublishResult>> done;
    if (tells) {
      done = [told](std::vector<PublishResult> results) {
        told->done = true;
        told->results = std::move(results);
      };
    }
    if (self != nullptr) worker = self->worker;
    on(worker, [&] {
      router_->publish(principal(self ? self->id : "publisher"), self ? self->session.get() : nullptr,
                       publishes, std::move(done));
    });
    return told;
  }
  std::shared_ptr<Told> publishOne(std::string address, std::string value, DeliveryGuarantee guarantee,
                                   bool retain = false) {
    return publish({{std::move(address), std::move(value), guarantee, retain}});
  }

  std::vector<Delivery> take(TestClient& client, size_t max = 1000,
                             int64_t idLimit = INT64_MAX) {
    std::vector<Delivery> out;
    if (client.session) {
      on(client.worker, [&] { client.session->take(max, idLimit, out); });
    }
    return out;
  }
  static std::string textOf(const Delivery& delivery) {
    return std::string(delivery.record->record.value.value_or("(null)"));
  }
  static std::string addressText(const Delivery& delivery) {
    std::string text(delivery.record->address.topic);
    if (delivery.record->address.key) text.append("/").append(*delivery.record->address.key);
    return text;
  }
  std::vector<std::string> takeTexts(TestClient& client, size_t max = 1000,
                                     int64_t idLimit = INT64_MAX) {
    std::vector<std::string> texts;
    for (const Delivery& delivery : take(client, max, idLimit)) texts.push_back(textOf(delivery));
    return texts;
  }
  void acknowledge(TestClient& client, int64_t id) {
    on(client.worker, [&] { client.session->acknowledge(id); });
  }

  /// Values of a topic's partition, as a fetch sees them.
  std::vector<std::string> stored(const std::string& topic, int32_t partition = 0) {
    std::vector<std::string> values;
    auto fetched = on(0, [&] {
      return router_->fetch(principal("reader", Protocol::kKafka), topic, partition, Offset(0),
                            1 << 20);
    });
    if (!fetched) return {"error: " + fetched.error().text};
    for (const FetchedBatch& batch : fetched->batches) {
      auto decoded = decodeRecordBatch(batch.batch, 1 << 24);
      for (const Record& record : decoded->records) {
        values.emplace_back(record.value.value_or("(null)"));
      }
    }
    return values;
  }
  TopicRef topic(const std::string& name) {
    return on(0, [&] { return router_->findTopic(principal("reader"), name); });
  }
  Result<TopicRef> createTopic(TopicSpec spec, Protocol protocol = Protocol::kKafka) {
    Result<TopicRef> result = fail(ErrorKind::kInternal, "not called");
    on(0, [&] {
      router_->createTopic(principal("admin", protocol), std::move(spec),
                           [&](Result<TopicRef> made) { result = std::move(made); });
    });
    settle();
    return result;
  }
  static std::string batchOf(const std::vector<std::pair<std::string, std::string>>& records,
                             int64_t timestampMs = 1000) {
    RecordBatchBuilder builder;
    for (const auto& [key, value] : records) {
      Record record;
      record.key = BytesView(key);
      record.value = BytesView(value);
      record.timestampMs = timestampMs++;
      builder.add(record);
    }
    return builder.finish();
  }
  struct ProducedTo {
    bool done = false;
    Result<Produced> result = fail(ErrorKind::kInternal, "not called");
  };
  std::shared_ptr<ProducedTo> produce(const std::string& topic, std::string batch, int32_t partition = 0,
                                      bool wait = true) {
    auto told = std::make_shared<ProducedTo>();
    on(0, [&] {
      router_->produce(principal("producer", Protocol::kKafka),
                       {topic, partition, SharedBytes::own(std::move(batch)), wait},
                       [told](Result<Produced> result) {
                         told->done = true;
                         told->result = std::move(result);
                       });
    });
    return told;
  }

  test::FakeClock clock_;
  test::SeededRandom random_{7};
  std::unique_ptr<test::FakeLogStore> store_;
  std::vector<std::unique_ptr<test::ManualDispatcher>> loops_;
  std::unique_ptr<Router> router_;
  std::vector<std::unique_ptr<TestClient>> clients_;
  RouterOptions options_;
  size_t workerCount_ = 1;
};

}  // namespace polylog::router
