#include "router/feed_router.h"

#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class FeedTest : public RouterFixture {
 protected:
  void start(size_t workers = 2, RouterOptions options = {}) {
    begin(workers, std::move(options));
    TopicSpec spec;
    spec.name = "orders";
    ASSERT_TRUE(createTopic(spec));
  }
};

TEST_F(FeedTest, AskedForOnlyWhereSomebodyCouldWantIt) {
  start();
  produce("orders", batchOf({{"k", "v"}}));
  EXPECT_FALSE(store_->last().messages.at(0).routeAfterCommit);
  settle();
  TestClient& client = connect("c");
  subscribe(client, "other/#", kQos1);
  produce("orders", batchOf({{"k", "v"}}));
  EXPECT_FALSE(store_->last().messages.at(0).routeAfterCommit);
  settle();
  subscribe(client, "+/k", kQos1);
  produce("orders", batchOf({{"k", "v"}}));
  EXPECT_TRUE(store_->last().messages.at(0).routeAfterCommit);
}

TEST_F(FeedTest, LiveSubscribersGetItAfterTheCommit) {
  start();
  TestClient& client = connect("c", 0, 1);
  subscribe(client, "orders/#", kQos2);
  TestClient& atMost = connect("d", 3600, 0);
  subscribe(atMost, "orders/a", kQos0);
  produce("orders", batchOf({{"a", "1"}, {"b/c", "2"}}));
  run();
  EXPECT_THAT(take(client), IsEmpty());
  settle();
  auto deliveries = take(client);
  ASSERT_THAT(deliveries, SizeIs(2));
  EXPECT_EQ(addressText(deliveries[1]), "orders/b/c");
  EXPECT_EQ(deliveries[0].guarantee, kQos1);
  EXPECT_EQ(deliveries[0].record->origin, Protocol::kKafka);
  EXPECT_THAT(takeTexts(atMost), ElementsAre("1"));
}

TEST_F(FeedTest, SleepersGetALinkAndNotACopy) {
  start();
  TestClient& client = connect("c", 3600, 1);
  subscribe(client, "orders/#", kQos1);
  detach(client);
  produce("orders", batchOf({{"a", "1"}, {"b", "2"}, {"c", "3"}}));
  run();
  store_->commit();
  run();
  auto request = store_->last();
  EXPECT_THAT(request.messages, IsEmpty());
  ASSERT_THAT(request.links, SizeIs(1));
  ASSERT_THAT(request.links[0].targets, SizeIs(1)) << "neighbours share a target";
  EXPECT_EQ(request.links[0].targets[0].count, 3U);
  settle();
  TestClient& back = connect("c", 3600, 0);
  auto deliveries = take(back);
  ASSERT_THAT(deliveries, SizeIs(3));
  EXPECT_EQ(addressText(deliveries[2]), "orders/c");
  EXPECT_EQ(deliveries[2].record->origin, Protocol::kKafka);
}

TEST_F(FeedTest, OnlyMatchingRecordsAreLinked) {
  start();
  TestClient& client = connect("c", 3600);
  subscribe(client, "orders/a", kQos1);
  produce("orders", batchOf({{"a", "1"}, {"b", "2"}, {"a", "3"}, {"a", "4"}}));
  settle();
  EXPECT_THAT(takeTexts(client), ElementsAre("1", "3", "4"));
}

TEST_F(FeedTest, ACrashBetweenCommitAndRoutingLosesAndDoublesNothing) {
  start();
  TestClient& client = connect("c", 3600);
  subscribe(client, "orders/#", kQos1);
  produce("orders", batchOf({{"a", "1"}}));
  settle();
  produce("orders", batchOf({{"a", "2"}}));
  // Durable, but the link to the inbox is not.
  store_->commit();
  run();
  EXPECT_GT(store_->pending(), 0U);
  crash();
  TestClient& back = connect("c", 3600);
  EXPECT_THAT(takeTexts(back), ElementsAre("1", "2"));
  crash();
  TestClient& again = connect("c", 3600);
  EXPECT_THAT(takeTexts(again), ElementsAre("1", "2"));
}

TEST_F(FeedTest, AFailedLinkIsTriedAgainWithoutDoublingLiveDeliveries) {
  start();
  TestClient& sleeper = connect("sleeper", 3600);
  subscribe(sleeper, "orders/#", kQos1);
  TestClient& live = connect("live");
  subscribe(live, "orders/#", kQos1);
  produce("orders", batchOf({{"a", "1"}}));
  store_->commit();
  run();
  failWrites();
  EXPECT_THAT(takeTexts(live), ElementsAre("1"));
  EXPECT_THAT(take(sleeper), IsEmpty());
  advance(1'500);
  EXPECT_THAT(takeTexts(sleeper), ElementsAre("1"));
  EXPECT_THAT(take(live), IsEmpty());
}

TEST_F(FeedTest, ASubscriptionDoesNotReachBack) {
  start();
  TestClient& first = connect("first", 3600);
  subscribe(first, "orders/#", kQos1);
  detach(first);
  produce("orders", batchOf({{"a", "before"}}));
  // Committed, routed later: the newcomer subscribed after it.
  store_->commit();
  TestClient& late = newClient("late");
  open(late, 3600);
  settle();
  subscribe(late, "orders/#", kQos1);
  produce("orders", batchOf({{"a", "after"}}));
  settle();
  EXPECT_THAT(takeTexts(late), ElementsAre("after"));
  crash();
  EXPECT_THAT(takeTexts(connect("late", 3600)), ElementsAre("after"));
  EXPECT_THAT(takeTexts(connect("first", 3600)), ElementsAre("before", "after"));
}

TEST_F(FeedTest, AnOverflowingBacklogIsReadFromTheJournal) {
  RouterOptions options;
  options.routingBacklogBatches = 4;
  start(2, options);
  TestClient& sleeper = connect("sleeper", 3600);
  subscribe(sleeper, "orders/#", kQos1);
  TestClient& live = connect("live");
  subscribe(live, "orders/#", kQos1);
  std::vector<std::string> sent;
  for (int i = 0; i < 200; ++i) {
    sent.push_back(std::to_string(i));
    produce("orders", batchOf({{"a", sent.back()}}));
    if (i % 50 == 49) store_->commit();
  }
  settle();
  EXPECT_EQ(takeTexts(sleeper), sent);
  EXPECT_EQ(takeTexts(live), sent);
}

TEST_F(FeedTest, TheRoutedPositionIsJournaledNowAndThen) {
  start();
  TestClient& client = connect("c");
  subscribe(client, "orders/#", kQos1);
  produce("orders", batchOf({{"a", "1"}}));
  settle();
  EXPECT_THAT(takeTexts(client), ElementsAre("1"));
  advance(1'100);
  ASSERT_TRUE(store_->getState(storage::StateTable::kMeta, "routed_position").has_value());
  bool stopped = false;
  router_->stop([&] { stopped = true; });
  settle();
  EXPECT_TRUE(stopped);
}

TEST_F(FeedTest, ABadBatchHoldsNothingUp) {
  RouterOptions options;
  options.maxDecodedBytes = 1000;
  start(1, options);
  TestClient& client = connect("c");
  subscribe(client, "orders/#", kQos1);
  produce("orders", batchOf({{"a", std::string(2000, 'x')}}));
  produce("orders", batchOf({{"a", "small"}}));
  settle();
  EXPECT_THAT(takeTexts(client), ElementsAre("small"));
}

TEST_F(FeedTest, AnInboxDeletedMeanwhileDoesNotStopRouting) {
  start(2);
  TestClient& one = connect("one", 3600, 1);
  subscribe(one, "orders/#", kQos1);
  TestClient& two = connect("two", 3600, 1);
  subscribe(two, "orders/#", kQos1);
  produce("orders", batchOf({{"a", "1"}}));
  on(0, [&] { router_->deleteSession(principal("admin"), "one", [](Result<>) {}); });
  settle();
  EXPECT_THAT(takeTexts(two), ElementsAre("1"));
}

TEST_F(FeedTest, ARuleTurnedRoundGivesTheAddress) {
  RouterOptions options;
  options.addressOf = [](BytesView topic, const std::optional<BytesView>& key,
                         std::string& scratch) -> Address {
    if (topic != "temps" || !key) return {topic, key};
    scratch = "factory/" + std::string(*key) + "/temp";
    return {BytesView(scratch).substr(0, 7), BytesView(scratch).substr(8)};
  };
  start(1, options);
  TopicSpec spec;
  spec.name = "temps";
  ASSERT_TRUE(createTopic(spec));
  for (uint32_t expiry : {0U, 60U}) {
    TestClient& client = connect("c" + std::to_string(expiry), expiry);
    subscribe(client, "factory/#", kQos1);
    produce("temps", batchOf({{"7", "20"}}));
    settle();
    auto deliveries = take(client);
    ASSERT_THAT(deliveries, SizeIs(1));
    EXPECT_EQ(addressText(deliveries[0]), "factory/7/temp");
    detach(client);
  }
}

}  // namespace
}  // namespace polylog::router
