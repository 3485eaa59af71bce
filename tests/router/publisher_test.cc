#include "router/publisher.h"

#include "core/base/metrics.h"
#include "router/address_tags.h"
#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class PublisherTest : public RouterFixture {};

TEST_F(PublisherTest, TopicsComeByThemselvesAndRecordsAreStored) {
  begin();
  publishOne("sensors/kitchen", "21", kQos0);
  settle();
  ASSERT_TRUE(topic("sensors"));
  EXPECT_EQ(topic("sensors")->origin, Protocol::kMqtt);
  EXPECT_EQ(topic("sensors")->config.retentionMs, 604'800'000);
  EXPECT_THAT(stored("sensors"), ElementsAre("21"));
  EXPECT_EQ(store_->retentionOf(topic("sensors")->partitions[0]).bytes, 1 << 30);
}

TEST_F(PublisherTest, ABurstIsOneEntryAndOneBatch) {
  begin();
  publishOne("t/warm", "0", kQos0);
  settle();
  size_t before = store_->appends();
  std::vector<Outgoing> burst;
  for (int i = 0; i < 50; ++i) burst.push_back({"t/x", std::to_string(i), kQos0});
  publish(burst);
  EXPECT_EQ(store_->appends(), before + 1);
  auto request = store_->last();
  ASSERT_THAT(request.messages, SizeIs(1));
  EXPECT_THAT(request.messages[0].targets, SizeIs(1));
  EXPECT_EQ(request.durability, storage::Durability::kUnwaited);
}

TEST_F(PublisherTest, AcknowledgedOnlyWhenDurable) {
  begin();
  auto told = publishOne("t", "a", kQos1);
  run();
  EXPECT_FALSE(told->done);
  EXPECT_EQ(store_->last().durability, storage::Durability::kSynced);
  store_->commit();
  EXPECT_FALSE(told->done) << "completions come through the worker";
  run();
  ASSERT_TRUE(told->done);
  EXPECT_FALSE(told->results[0].error.has_value());
  EXPECT_FALSE(told->results[0].matched);
}

TEST_F(PublisherTest, AFailedWriteIsToldAndTheTopicIsGone) {
  begin();
  auto told = publishOne("t", "a", kQos1);
  run();
  failWrites();
  ASSERT_TRUE(told->done);
  ASSERT_TRUE(told->results[0].error.has_value());
  EXPECT_EQ(told->results[0].error->kind, ErrorKind::kIo);
  EXPECT_FALSE(topic("t"));
  auto again = publishOne("t", "b", kQos1);
  settle();
  EXPECT_FALSE(again->results.at(0).error.has_value());
  EXPECT_THAT(stored("t"), ElementsAre("b"));
}

TEST_F(PublisherTest, ARefusedAppendIsTold) {
  begin();
  publishOne("t", "warm", kQos0);
  settle();
  store_->refuseNext({ErrorKind::kNoSpace, "full"});
  auto told = publishOne("t", "a", kQos1);
  EXPECT_FALSE(told->done) << "never from inside the call";
  settle();
  ASSERT_TRUE(told->done);
  EXPECT_EQ(told->results[0].error->kind, ErrorKind::kNoSpace);
}

TEST_F(PublisherTest, AFullDiskRefusesAllButWhatWasLetInBefore) {
  begin(2);
  publishOne("t", "warm", kQos0);
  settle();
  int woken = 0;
  int cancelled = 0;
  store_->setFull(true);
  EXPECT_TRUE(router_->full());
  auto told = publishOne("t", "refused", kQos1);
  Publish admitted;
  admitted.address = addressOf("t");
  admitted.topic = "t";
  admitted.record.value = "let in";
  admitted.admitted = true;
  std::unique_ptr<WaitHandle> waits[3];
  on(0, [&] {
    router_->publish(principal("holder"), nullptr, {&admitted, 1}, nullptr);
    waits[0] = router_->awaitSpace([&] {
      ++woken;
      waits[1].reset();  // one that wakes may end another
    });
    waits[1] = router_->awaitSpace([&] { ++cancelled; });
  });
  on(1, [&] {
    waits[2] = router_->awaitSpace([&] {
      ++woken;
      waits[2].reset();
    });
  });
  settle();
  EXPECT_EQ(told->results.at(0).error->kind, ErrorKind::kNoSpace);
  EXPECT_THAT(stored("t"), ElementsAre("warm", "let in"));
  EXPECT_EQ(woken, 0);
  store_->setFull(false);
  EXPECT_EQ(woken, 0) << "on its own worker";
  settle();
  EXPECT_EQ(woken, 2);
  EXPECT_EQ(cancelled, 0);
  store_->setFull(true);
  store_->setFull(false);
  settle();
  EXPECT_EQ(woken, 2) << "once each";
}

TEST_F(PublisherTest, LiveAtMostAndAtLeastOnceNeedNotWaitForTheDisk) {
  begin();
  TestClient& client = connect("c");
  subscribe(client, "t/#", kQos2);
  publishOne("t/a", "zero", kQos0);
  publishOne("t/a", "one", kQos1);
  publishOne("t/a", "two", kQos2);
  run();
  EXPECT_GT(store_->pending(), 0U);
  EXPECT_EQ(client.deliverable, 1);
  auto deliveries = take(client);
  ASSERT_THAT(deliveries, SizeIs(2));
  std::map<std::string, Delivery> byText;
  for (auto& delivery : deliveries) byText[textOf(delivery)] = delivery;
  EXPECT_EQ(byText.at("zero").id, -1);
  EXPECT_EQ(byText.at("zero").guarantee, kQos0);
  EXPECT_EQ(byText.at("one").id, 0);
  EXPECT_EQ(addressText(byText.at("one")), "t/a");
  EXPECT_EQ(byText.at("one").record->origin, Protocol::kMqtt);
  settle();
  EXPECT_EQ(client.deliverable, 2);
  deliveries = take(client);
  ASSERT_THAT(deliveries, SizeIs(1));
  EXPECT_EQ(textOf(deliveries[0]), "two");
  EXPECT_EQ(deliveries[0].id, 1);
  EXPECT_EQ(deliveries[0].guarantee, kQos2);
}

TEST_F(PublisherTest, AnExactlyOnceRecordOfAFailedWriteIsNeverDelivered) {
  begin();
  TestClient& client = connect("c");
  subscribe(client, "t", kQos2);
  publishOne("t", "two", kQos2);
  run();
  failWrites();
  settle();
  EXPECT_THAT(take(client), IsEmpty());
}

TEST_F(PublisherTest, TheLesserGuaranteeIsGranted) {
  begin();
  TestClient& client = connect("c");
  subscribe(client, "t", kQos1);
  publishOne("t", "a", kQos2);
  publishOne("t", "b", kQos0);
  settle();
  auto deliveries = take(client);
  ASSERT_THAT(deliveries, SizeIs(2));
  for (auto& delivery : deliveries) {
    EXPECT_EQ(delivery.guarantee, textOf(delivery) == "a" ? kQos1 : kQos0);
  }
}

TEST_F(PublisherTest, OnePayloadForManySleepers) {
  begin();
  for (int i = 0; i < 20; ++i) {
    TestClient& client = connect("sleeper" + std::to_string(i), 3600);
    subscribe(client, "news/#", kQos1);
    detach(client);
  }
  publish({{"news/a", "1", kQos1}, {"news/a", "2", kQos1}, {"news/a", "3", kQos1}});
  auto request = store_->last();
  ASSERT_THAT(request.messages, SizeIs(1));
  ASSERT_THAT(request.messages[0].targets, SizeIs(21));
  for (size_t i = 1; i < 21; ++i) EXPECT_EQ(request.messages[0].targets[i].count, 3U);
  settle();
  TestClient& back = connect("sleeper7", 3600);
  EXPECT_THAT(takeTexts(back), ElementsAre("1", "2", "3"));
}

TEST_F(PublisherTest, AttributesSayWhatToDeliver) {
  begin();
  TestClient& client = connect("c", 3600);
  Subscription wanted = subscription("t/#", kQos2, 77);
  wanted.retainAsPublished = true;
  subscribe(client, {wanted});
  publishOne("t/a", "x", kQos1, true);
  auto target = store_->last().messages.at(0).targets.at(1);
  EXPECT_EQ(guaranteeOf(target.attributes), kQos1);
  EXPECT_TRUE(retainOf(target.attributes));
  settle();
  auto deliveries = take(client);
  ASSERT_THAT(deliveries, SizeIs(1));
  EXPECT_TRUE(deliveries[0].retain);
  EXPECT_THAT(deliveries[0].subscriptionIds, ElementsAre(77U));
}

TEST_F(PublisherTest, OverlappingSubscriptionsOfOneSession) {
  begin();
  TestClient& live = connect("live");
  subscribe(live, {subscription("t/#", kQos0, 1), subscription("t/a", kQos1, 2)});
  TestClient& durable = connect("durable", 3600);
  subscribe(durable, {subscription("t/#", kQos1, 1), subscription("t/a", kQos2, 2)});
  publishOne("t/a", "x", kQos2);
  settle();
  auto deliveries = take(live);
  ASSERT_THAT(deliveries, SizeIs(1));
  EXPECT_EQ(deliveries[0].guarantee, kQos1);
  EXPECT_THAT(deliveries[0].subscriptionIds, testing::UnorderedElementsAre(1U, 2U));
  // Through an inbox: a delivery for each identifier, each with the most that is granted.
  deliveries = take(durable);
  ASSERT_THAT(deliveries, SizeIs(2));
  EXPECT_EQ(deliveries[0].guarantee, kQos2);
  EXPECT_EQ(deliveries[1].id, deliveries[0].id + 1);
}

TEST_F(PublisherTest, NoLocalSkipsThePublisherOnly) {
  begin();
  for (uint32_t expiry : {0U, 3600U}) {
    TestClient& self = connect("self" + std::to_string(expiry), expiry);
    TestClient& other = connect("other" + std::to_string(expiry), expiry);
    Subscription wanted = subscription("t", kQos1);
    wanted.noLocal = true;
    subscribe(self, {wanted});
    subscribe(other, {wanted});
    publish({{"t", "x", kQos1}}, &self);
    settle();
    EXPECT_THAT(take(self), IsEmpty());
    EXPECT_THAT(takeTexts(other), ElementsAre("x"));
    detach(self);
    detach(other);
  }
}

TEST_F(PublisherTest, EphemeralRecordsAreRoutedAndNotStored) {
  begin();
  TestClient& client = connect("c");
  subscribe(client, "live/#", kQos1);
  size_t before = store_->appends();
  auto told = publish({{"live/a", "x", kQos1, false, std::nullopt, true}});
  settle();
  EXPECT_EQ(store_->appends(), before);
  ASSERT_TRUE(told->done);
  EXPECT_TRUE(told->results[0].matched);
  EXPECT_THAT(takeTexts(client), ElementsAre("x"));
  EXPECT_FALSE(topic("live"));
}

TEST_F(PublisherTest, OrderHoldsAcrossTopicsInAnInbox) {
  begin();
  TestClient& client = connect("c", 3600);
  subscribe(client, "#", kQos1);
  publish({{"a/1", "1", kQos1}, {"b/1", "2", kQos1}, {"a/1", "3", kQos1}, {"b/2", "4", kQos1}});
  settle();
  auto deliveries = take(client);
  std::vector<std::string> seen;
  for (auto& delivery : deliveries) seen.push_back(addressText(delivery) + "=" + textOf(delivery));
  EXPECT_THAT(seen, ElementsAre("a/1=1", "b/1=2", "a/1=3", "b/2=4"));
}

TEST_F(PublisherTest, ScatteredTopicsShareBatches) {
  begin();
  publish({{"a", "1", kQos0}, {"b", "2", kQos0}, {"a", "3", kQos0}, {"b", "4", kQos0}});
  EXPECT_THAT(store_->last().messages, SizeIs(2));
  settle();
  EXPECT_THAT(stored("a"), ElementsAre("1", "3"));
  EXPECT_THAT(stored("b"), ElementsAre("2", "4"));
}

TEST_F(PublisherTest, DollarNamesAndOversizedRecordsAreRefused) {
  RouterOptions options;
  options.maxMessageBytes = 100;
  begin(1, options);
  auto told =
      publish({{"$SYS/x", "a", kQos1}, {"t", std::string(200, 'x'), kQos1}, {"t", "ok", kQos1}});
  settle();
  ASSERT_TRUE(told->done);
  EXPECT_EQ(told->results[0].error->kind, ErrorKind::kInvalid);
  EXPECT_EQ(told->results[1].error->kind, ErrorKind::kTooLarge);
  EXPECT_FALSE(told->results[2].error.has_value());
  EXPECT_THAT(stored("t"), ElementsAre("ok"));
}

TEST_F(PublisherTest, WhatIsTooLargeIsCountedToldOrNot) {
  Metric& tooLarge = counter("polylog_publish_too_large_total", "", R"(protocol="mqtt")");
  Metric& refused = counter("polylog_publish_refused_total", "", R"(protocol="mqtt")");
  begin();
  TopicSpec spec{"t", 1, TopicConfig{}};
  spec.config->maxBatchBytes = 100;
  spec.config->own.add(TopicField::kMaxBatchBytes);
  ASSERT_TRUE(createTopic(spec));
  const int64_t before = tooLarge.value();
  const int64_t refusedBefore = refused.value();
  auto told = publish({{"t/x", std::string(200, 'x'), kQos1}});
  settle();
  EXPECT_EQ(told->results[0].error->text,
            "a record of 200 octets for 't/x', 100 at most (max.message.bytes of topic 't')");
  EXPECT_EQ(tooLarge.value() - before, 1);
  EXPECT_EQ(refused.value() - refusedBefore, 0) << "who is told counts it";
  publish({{"t/x", std::string(200, 'x'), kQos0}, {"t/x", "fine", kQos0}});
  settle();
  EXPECT_EQ(tooLarge.value() - before, 2);
  EXPECT_EQ(refused.value() - refusedBefore, 1);
  EXPECT_THAT(stored("t"), ElementsAre("fine"));
}

TEST_F(PublisherTest, PastTheLimitNamesGoToOneTopic) {
  RouterOptions options;
  options.maxTopicsByDevices = 2;
  begin(1, options);
  TestClient& live = connect("live");
  subscribe(live, "#", kQos1);
  TestClient& durable = connect("durable", 3600);
  subscribe(durable, "#", kQos1);
  publish({{"d1/t", "1", kQos1}, {"d2/t", "2", kQos1}, {"d3/t", "3", kQos1}, {"d1/t", "4", kQos1}});
  settle();
  EXPECT_FALSE(topic("d3"));
  EXPECT_THAT(stored("mqtt"), ElementsAre("3"));
  for (TestClient* client : {&live, &durable}) {
    std::vector<std::string> seen;
    for (auto& d : take(*client)) seen.push_back(addressText(d) + "=" + textOf(d));
    EXPECT_THAT(seen, ElementsAre("d1/t=1", "d2/t=2", "d3/t=3", "d1/t=4"));
  }
  auto fetched = on(0, [&] {
    return router_->fetch(principal("k", Protocol::kKafka), "mqtt", 0, Offset(0), 1000);
  });
  auto decoded = decodeRecordBatch(fetched->batches.at(0).batch, 10000);
  EXPECT_EQ(decoded->records[0].key, "d3/t");
  EXPECT_EQ(decoded->records[0].headers.at(0).name, kAddressHeader);
}

TEST_F(PublisherTest, ARuleStoresElsewhereAndDeliversAsPublished) {
  begin();
  TestClient& durable = connect("durable", 3600);
  subscribe(durable, "factory/+/temp", kQos1);
  Publish publish;
  publish.address = addressOf("factory/7/temp");
  publish.topic = "temps";
  publish.record.key = "7";
  publish.record.value = "20";
  publish.record.guarantee = kQos1;
  on(0, [&] { router_->publish(principal("p"), nullptr, {&publish, 1}, nullptr); });
  settle();
  EXPECT_THAT(stored("temps"), ElementsAre("20"));
  auto deliveries = take(durable);
  ASSERT_THAT(deliveries, SizeIs(1));
  EXPECT_EQ(addressText(deliveries[0]), "factory/7/temp");
}

TEST_F(PublisherTest, ATopicDeletedMeanwhileComesAgain) {
  begin();
  publishOne("t", "old", kQos0);
  settle();
  on(0, [&] { router_->deleteTopic(principal("a"), "t", [](Result<>) {}); });
  publishOne("t", "new", kQos0);
  settle();
  EXPECT_THAT(stored("t"), ElementsAre("new"));
}

TEST_F(PublisherTest, FlushPolicyDecidesWhatIsWaitedFor) {
  begin();
  TopicSpec spec;
  spec.name = "loose";
  spec.config = TopicConfig{};
  spec.config->flush = FlushPolicy::kInterval;
  spec.config->own.add(TopicField::kFlush);
  ASSERT_TRUE(createTopic(spec));
  publishOne("loose", "x", kQos1);
  EXPECT_EQ(store_->last().durability, storage::Durability::kWritten);
}

TEST_F(PublisherTest, OverflowingLiveQueueDropsTheNewest) {
  RouterOptions options;
  options.liveRecords = 3;
  begin(1, options);
  TestClient& client = connect("c");
  subscribe(client, "t", kQos0);
  for (int i = 0; i < 5; ++i) publishOne("t", std::to_string(i), kQos0);
  settle();
  EXPECT_THAT(takeTexts(client), ElementsAre("0", "1", "2"));
}

TEST_F(PublisherTest, BeyondTheOctetsBodiesAreReadAgain) {
  RouterOptions options;
  options.liveBytes = 3000;
  begin(1, options);
  TestClient& client = connect("c");
  subscribe(client, "t", kQos1);
  std::vector<std::string> sent;
  for (int i = 0; i < 8; ++i) {
    sent.push_back(std::to_string(i) + std::string(800, 'x'));
    publishOne("t", sent.back(), kQos1);
  }
  run();
  // What is not durable can't be read again yet: the rest follows the commit.
  auto first = takeTexts(client);
  EXPECT_LT(first.size(), 8U);
  int before = client.deliverable;
  settle();
  EXPECT_EQ(client.deliverable, before + 1);
  auto rest = takeTexts(client);
  first.insert(first.end(), rest.begin(), rest.end());
  EXPECT_EQ(first, sent);
}

TEST_F(PublisherTest, ManyRecordsAreDividedIntoEntries) {
  begin();
  std::vector<Outgoing> many;
  for (int i = 0; i < 10'000; ++i) many.push_back({"t", std::to_string(i), kQos1});
  auto told = publish(many);
  settle();
  ASSERT_TRUE(told->done);
  EXPECT_THAT(told->results, SizeIs(10'000));
  auto values = stored("t");
  ASSERT_THAT(values, SizeIs(10'000));
  EXPECT_EQ(values[9'999], "9999");
}

}  // namespace
}  // namespace polylog::router
