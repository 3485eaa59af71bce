// amq.topic: where AMQP meets the other protocols. What is published to an address reaches bound
// queues and streams once each, whoever publishes it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/router/queue_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class TopicBindingTest : public QueueFixture {
 protected:
  void bindQueue(const std::string& queue, const std::string& key) {
    ASSERT_TRUE(declare(queue));
    ASSERT_TRUE(bind(toQueue("amq.topic", queue, key)));
  }
  std::vector<std::string> addresses(const std::string& queue) {
    std::vector<std::string> texts;
    while (true) {
      auto got = get(queue, false);
      if (!got || !*got) return texts;
      const Address& address = (*got)->delivery.record->address;
      std::string text(address.topic);
      if (address.key) text.append("/").append(*address.key);
      texts.push_back(std::move(text));
    }
  }
};

TEST_F(TopicBindingTest, MqttPublishesReachQueues) {
  begin();
  bindQueue("q", "sensors.*.temp");
  for (DeliveryGuarantee guarantee : {kQos0, kQos1, kQos2}) {
    publishOne("sensors/kitchen/temp", "yes", guarantee);
    publishOne("sensors/kitchen/door", "no", guarantee);
  }
  settle();
  EXPECT_EQ(ready("q"), 3);
  EXPECT_THAT(stored("sensors"), SizeIs(6));
  EXPECT_THAT(addresses("q"),
              ElementsAre("sensors/kitchen/temp", "sensors/kitchen/temp", "sensors/kitchen/temp"));
}

TEST_F(TopicBindingTest, OriginAndAddressAreKept) {
  begin();
  bindQueue("q", "#");
  publishOne("a.b/c", "one", kQos1);
  settle();
  auto got = get("q");
  ASSERT_TRUE(got && *got);
  const RoutedRecord& record = *(*got)->delivery.record;
  EXPECT_EQ(record.origin, Protocol::kMqtt);
  EXPECT_EQ(record.address.topic, "a.b");
  EXPECT_EQ(record.address.key, "c");
  EXPECT_EQ(record.record.value, "one");
}

TEST_F(TopicBindingTest, AtMostOnceIsNotReadBeforeItIsDurable) {
  begin();
  bindQueue("q", "#");
  TestConsumer& consumer = consume("q");
  publishOne("a", "one", kQos0);
  run();
  EXPECT_THAT(consumer.texts, IsEmpty());
  settle();
  EXPECT_THAT(consumer.texts, ElementsAre("one"));
}

TEST_F(TopicBindingTest, OnlyWhatComesAfterTheBinding) {
  begin();
  publishOne("a", "before", kQos1);
  TopicSpec spec;
  spec.name = "k";
  ASSERT_TRUE(createTopic(spec));
  TestClient& client = connect("somebody");
  subscribe(client, "#", kQos1);  // so that Kafka's batches are fed back
  produce("k", batchOf({{"x", "before"}}));
  store_->commit();  // durable, not yet routed
  declare("q");
  auto bound = startBind(toQueue("amq.topic", "q", "#"));
  settle();
  publishOne("a", "after", kQos1);
  produce("k", batchOf({{"x", "after"}}));
  settle();
  EXPECT_THAT(drain("q"), ElementsAre("after", "after"));
}

TEST_F(TopicBindingTest, TwoBindingsDeliverOnce) {
  begin();
  bindQueue("q", "a.#");
  bind(toQueue("amq.topic", "q", "#.b"));
  publishOne("a/b", "one", kQos1);
  settle();
  EXPECT_THAT(drain("q"), ElementsAre("one"));
  unbind(toQueue("amq.topic", "q", "a.#"));
  publishOne("a/b", "two", kQos1);
  publishOne("a/c", "not any more", kQos1);
  settle();
  EXPECT_THAT(drain("q"), ElementsAre("two"));
}

TEST_F(TopicBindingTest, WildcardsAtTheStartPassInternalTopicsBy) {
  begin();
  bindQueue("q", "#");
  publishOne("_internal/x", "one", kQos1);
  settle();
  EXPECT_EQ(ready("q"), 0);
}

TEST_F(TopicBindingTest, KafkasBatchesReachQueuesAndStreamsOnce) {
  begin();
  TopicSpec spec;
  spec.name = "orders";
  ASSERT_TRUE(createTopic(spec));
  bindQueue("all", "orders.#");
  bindQueue("some", "orders.eu.*");
  declare(streamSpec("copy"));
  bind(toQueue("amq.topic", "copy", "orders.eu.*"));
  bind(toQueue("amq.topic", "orders", "#"));  // its own topic gets nothing twice
  produce("orders", batchOf({{"eu/1", "a"}, {"us/1", "b"}, {"eu/2", "c"}, {"eu/3", "d"}}));
  produce("orders", batchOf({{"eu/4", "e"}}), 0, false);
  settle();
  EXPECT_EQ(drain("all"), (std::vector<std::string>{"a", "b", "c", "d", "e"}));
  auto got = get("some");
  ASSERT_TRUE(got && *got);
  EXPECT_EQ((*got)->delivery.record->address.key, "eu/1");
  EXPECT_EQ((*got)->delivery.record->origin, Protocol::kKafka);
  EXPECT_THAT(drain("some"), ElementsAre("c", "d", "e"));
  EXPECT_THAT(stored("orders"), SizeIs(5));
  ConsumeOptions options;
  options.queue = "copy";
  options.start.kind = StreamStart::Kind::kFirst;
  EXPECT_THAT(consume(options).texts, ElementsAre("a", "c", "d", "e"));
}

TEST_F(TopicBindingTest, KafkasBatchesComeOnceThoughACrashLiesBetween) {
  begin();
  TopicSpec spec;
  spec.name = "orders";
  ASSERT_TRUE(createTopic(spec));
  bindQueue("q", "orders.#");
  produce("orders", batchOf({{"1", "routed"}}));
  settle();
  produce("orders", batchOf({{"2", "durable"}}));
  store_->commit();
  crash();
  advance(5000);
  EXPECT_THAT(drain("q"), ElementsAre("routed", "durable"));
  crash();
  advance(5000);
  EXPECT_EQ(ready("q"), 0);
}

TEST_F(TopicBindingTest, AFailedLinkIsTriedAgain) {
  begin();
  TopicSpec spec;
  spec.name = "orders";
  ASSERT_TRUE(createTopic(spec));
  bindQueue("q", "orders.#");
  produce("orders", batchOf({{"1", "one"}}));
  store_->commit();
  run();
  failWrites();
  EXPECT_EQ(ready("q"), 0);
  advance(5000);
  EXPECT_THAT(drain("q"), ElementsAre("one"));
}

TEST_F(TopicBindingTest, BindingAgainDoesNotForgetWhatIsNotRoutedYet) {
  begin();
  TopicSpec spec;
  spec.name = "orders";
  ASSERT_TRUE(createTopic(spec));
  bindQueue("q", "orders.#");
  produce("orders", batchOf({{"1", "one"}}));
  store_->commit();
  auto again = startBind(toQueue("amq.topic", "q", "orders.#"));
  store_->commit();
  crash();  // before anything was linked
  advance(5000);
  EXPECT_THAT(drain("q"), ElementsAre("one"));
}

TEST_F(TopicBindingTest, QueuesDeletedMeanwhileHoldNobodyUp) {
  begin(2);
  TopicSpec spec;
  spec.name = "orders";
  ASSERT_TRUE(createTopic(spec));
  bindQueue("gone", "#");
  bindQueue("stays", "#");
  publishOne("a", "one", kQos1);
  produce("orders", batchOf({{"1", "two"}}));
  settle();
  deleteQueue("gone");
  publishOne("a", "three", kQos1);
  produce("orders", batchOf({{"1", "four"}}));
  settle();
  EXPECT_EQ(ready("stays"), 4);
}

// ---------------------------------------------------------------- AMQP publishes

TEST_F(TopicBindingTest, AmqpPublishesReachTheTopicAndMqtt) {
  begin();
  TestClient& live = connect("live");
  subscribe(live, "sensors/#", kQos1);
  TestClient& asleep = connect("asleep", 3600);
  subscribe(asleep, "sensors/#", kQos1);
  detach(asleep);
  EXPECT_FALSE(send("amq.topic", "sensors.kitchen.temp", {"one"})) << "mandatory asks for queues";
  EXPECT_THAT(stored("sensors"), ElementsAre("one"));
  auto deliveries = take(live);
  ASSERT_THAT(deliveries, SizeIs(1));
  EXPECT_EQ(addressText(deliveries[0]), "sensors/kitchen/temp");
  EXPECT_THAT(takeTexts(connect("asleep", 3600)), ElementsAre("one"));
  bindQueue("q", "sensors.#");
  EXPECT_TRUE(send("amq.topic", "sensors.kitchen.temp", {"two"}));
  EXPECT_THAT(drain("q"), ElementsAre("two"));
}

TEST_F(TopicBindingTest, WithoutConfirmsToo) {
  begin();
  bindQueue("q", "#");
  sendBy(*routeOf("amq.topic", "a.b"), "a.b", {"one", "two"}, 0, false);
  settle();
  EXPECT_THAT(drain("q"), ElementsAre("one", "two"));
}

TEST_F(TopicBindingTest, StreamsBoundGetACopyAndTheTopicItself) {
  begin();
  declare(streamSpec("copy"));
  bind(toQueue("amq.topic", "copy", "a.#"));
  size_t before = store_->appends();
  EXPECT_TRUE(send("amq.topic", "a.b", {"one"}));
  EXPECT_LE(store_->appends(), before + 2) << "the topic and the record";
  publishOne("a/c", "two", kQos0);
  settle();
  EXPECT_THAT(stored("a"), ElementsAre("one", "two"));
  EXPECT_THAT(stored("copy"), ElementsAre("one", "two"));
}

// ---------------------------------------------------------------- to and from other exchanges

TEST_F(TopicBindingTest, AnExchangeMayLeadToAmqTopic) {
  begin();
  declareExchange("x", ExchangeType::kFanout);
  bind(toExchange("x", "amq.topic"));
  bindQueue("q", "a.*");
  bind(toQueue("x", "q"));  // both ways: once
  EXPECT_TRUE(routeOf("x", "a.b").value()->reachesAmqTopic());
  EXPECT_TRUE(send("x", "a.b", {"one"}));
  EXPECT_THAT(stored("a"), ElementsAre("one"));
  EXPECT_THAT(drain("q"), ElementsAre("one"));
}

TEST_F(TopicBindingTest, AStreamByTwoWaysGetsItOnce) {
  begin();
  declareExchange("x", ExchangeType::kFanout);
  declare(streamSpec("s"));
  bind(toExchange("x", "amq.topic"));
  bind(toQueue("x", "s"));
  bind(toQueue("amq.topic", "s", "#"));
  EXPECT_TRUE(send("x", "a.b", {"one"}));
  EXPECT_THAT(stored("s"), ElementsAre("one"));
  EXPECT_TRUE(send("x", "s.k", {"two"})) << "it is the address's topic itself";
  EXPECT_THAT(stored("s"), ElementsAre("one", "two"));
}

TEST_F(TopicBindingTest, AmqTopicMayLeadToAnExchange) {
  begin();
  declareExchange("x", ExchangeType::kDirect);
  declareExchange("y", ExchangeType::kFanout);
  declare("direct");
  declare("fanout");
  declare(streamSpec("s"));
  bind(toExchange("amq.topic", "x", "a.#"));
  bind(toExchange("x", "y", "a.c"));
  bind(toExchange("y", "amq.topic"));  // a circle
  bind(toQueue("x", "direct", "a.b"));
  bind(toQueue("y", "fanout"));
  bind(toQueue("y", "s"));
  publishOne("a/b", "one", kQos1);
  publishOne("a/c", "two", kQos0);
  publishOne("b", "three", kQos1);
  settle();
  EXPECT_TRUE(send("amq.topic", "a.b", {"four"}));
  EXPECT_THAT(drain("direct"), ElementsAre("one", "four"));
  EXPECT_THAT(drain("fanout"), ElementsAre("two"));
  EXPECT_THAT(stored("s"), ElementsAre("two"));
  EXPECT_THAT(stored("a"), ElementsAre("one", "two", "four"));
}

TEST_F(TopicBindingTest, WhatLiesBehindAmqTopicMayChange) {
  begin();
  declareExchange("x", ExchangeType::kFanout);
  declare("q");
  bind(toExchange("amq.topic", "x", "#"));
  publishOne("a", "before", kQos1);
  bind(toQueue("x", "q"));
  publishOne("a", "one", kQos1);
  settle();
  unbind(toQueue("x", "q"));
  publishOne("a", "after", kQos1);
  settle();
  bind(toQueue("x", "q"));
  publishOne("a", "two", kQos1);
  settle();
  deleteExchange("x");
  publishOne("a", "gone", kQos1);
  settle();
  EXPECT_THAT(drain("q"), ElementsAre("one", "two"));
}

// ---------------------------------------------------------------- ephemeral addresses

TEST_F(TopicBindingTest, EphemeralRecordsReachOnlyQueuesThatTheyAreSentTo) {
  begin();
  declareExchange("x", ExchangeType::kFanout);
  bind(toExchange("x", "amq.topic"));
  declare("sent to");
  bind(toQueue("x", "sent to"));
  bindQueue("listens", "#");
  TestClient& client = connect("live");
  subscribe(client, "#", kQos0);
  Publish publish;
  publish.route = *routeOf("x", "a");
  publish.address = addressOf("a");
  publish.topic = "a";
  publish.record.value = BytesView("one");
  publish.ephemeral = true;
  on(0, [&] {
    router_->publish(principal("p", Protocol::kAmqp), nullptr, {&publish, 1}, nullptr);
  });
  settle();
  EXPECT_THAT(takeTexts(client), ElementsAre("one"));
  EXPECT_THAT(drain("sent to"), ElementsAre("one"));
  EXPECT_EQ(ready("listens"), 0);
  EXPECT_FALSE(topic("a"));
}

}  // namespace
}  // namespace polylog::router
