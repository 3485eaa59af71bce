#include "router/retained_store.h"

#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

class RetainedTest : public RouterFixture {
 protected:
  /// What a new session gets for a subscription.
  std::vector<std::string> retainedFor(const std::string& filter, uint32_t expiry = 0) {
    TestClient& client = connect("r" + std::to_string(++count_), expiry);
    subscribe(client, filter, kQos2);
    std::vector<std::string> seen;
    for (Delivery& delivery : take(client)) {
      EXPECT_TRUE(delivery.retain);
      seen.push_back(addressText(delivery) + "=" + textOf(delivery));
    }
    detach(client);
    return seen;
  }
  int count_ = 0;
};

TEST_F(RetainedTest, FoundByFilter) {
  begin();
  for (const char* address : {"a", "a/b", "a/c", "a/b/c", "x/b", "a/", "_h/x"}) {
    publishOne(address, address, kQos1, true);
  }
  settle();
  for (uint32_t expiry : {0U, 60U}) {
    EXPECT_THAT(retainedFor("a/b", expiry), ElementsAre("a/b=a/b"));
    EXPECT_THAT(retainedFor("a/#", expiry),
                UnorderedElementsAre("a=a", "a/b=a/b", "a/c=a/c", "a/b/c=a/b/c", "a/=a/"));
    EXPECT_THAT(retainedFor("+/b", expiry), UnorderedElementsAre("a/b=a/b", "x/b=x/b"));
    EXPECT_THAT(retainedFor("a/+", expiry),
                UnorderedElementsAre("a/b=a/b", "a/c=a/c", "a/=a/"));
    EXPECT_THAT(retainedFor("#", expiry), SizeIs(6));
    EXPECT_THAT(retainedFor("_h/#", expiry), ElementsAre("_h/x=_h/x"));
    EXPECT_THAT(retainedFor("a/#/c", expiry), UnorderedElementsAre("a/c=a/c", "a/b/c=a/b/c"));
  }
}

TEST_F(RetainedTest, ReplacedClearedAndKeptThroughACrash) {
  begin();
  publishOne("t/1", "old", kQos1, true);
  publishOne("t/1", "new", kQos1, true);
  publishOne("t/2", "two", kQos0, true);
  publishOne("t/3", "three", kQos1, true);
  publishOne("t/3", "", kQos1, true);
  settle();
  EXPECT_THAT(retainedFor("t/#"), UnorderedElementsAre("t/1=new", "t/2=two"));
  crash();
  EXPECT_THAT(retainedFor("t/#"), UnorderedElementsAre("t/1=new", "t/2=two"));
}

TEST_F(RetainedTest, LiveDeliveriesDoNotBearTheFlagUnlessAsked) {
  begin();
  TestClient& plain = connect("plain");
  subscribe(plain, "t", kQos1);
  TestClient& asking = connect("asking");
  Subscription wanted = subscription("t", kQos1);
  wanted.retainAsPublished = true;
  subscribe(asking, {wanted});
  publishOne("t", "x", kQos1, true);
  settle();
  EXPECT_FALSE(take(plain).at(0).retain);
  EXPECT_TRUE(take(asking).at(0).retain);
}

TEST_F(RetainedTest, GuaranteeIsTheLesser) {
  begin();
  publishOne("t/0", "zero", kQos0, true);
  publishOne("t/2", "two", kQos2, true);
  settle();
  for (uint32_t expiry : {0U, 60U}) {
    TestClient& client = connect("c" + std::to_string(expiry), expiry);
    subscribe(client, "t/#", kQos1);
    auto deliveries = take(client);
    ASSERT_THAT(deliveries, SizeIs(2));
    for (auto& delivery : deliveries) {
      EXPECT_EQ(delivery.guarantee, textOf(delivery) == "zero" ? kQos0 : kQos1);
    }
  }
}

TEST_F(RetainedTest, HandlingDecidesWhenTheyAreSent) {
  begin();
  publishOne("t", "x", kQos1, true);
  settle();
  TestClient& client = connect("c");
  auto with = [&](RetainHandling handling) {
    Subscription wanted = subscription("t", kQos1);
    wanted.retainHandling = handling;
    subscribe(client, {wanted});
    return take(client).size();
  };
  EXPECT_EQ(with(RetainHandling::kNever), 0U);
  EXPECT_EQ(with(RetainHandling::kIfNew), 0U) << "it is there already";
  EXPECT_EQ(with(RetainHandling::kAlways), 1U);
  on(0, [&] { client.session->unsubscribe({"t"}, [](auto) {}); });
  settle();
  EXPECT_EQ(with(RetainHandling::kIfNew), 1U);
}

TEST_F(RetainedTest, WaitingOnesSurviveWithTheSubscription) {
  begin();
  publishOne("t", "x", kQos1, true);
  settle();
  TestClient& client = connect("c", 60);
  subscribe(client, {subscription("t", kQos1, 9)});
  crash();
  TestClient& back = connect("c", 60);
  auto deliveries = take(back);
  ASSERT_THAT(deliveries, SizeIs(1));
  EXPECT_TRUE(deliveries[0].retain);
  EXPECT_THAT(deliveries[0].subscriptionIds, ElementsAre(9U));
}

TEST_F(RetainedTest, AFailedWriteLeavesWhatWas) {
  begin();
  publishOne("t", "old", kQos1, true);
  settle();
  publishOne("t", "new", kQos1, true);
  publishOne("u", "new", kQos1, true);
  run();
  failWrites();
  EXPECT_THAT(retainedFor("#"), ElementsAre("t=old"));
}

TEST_F(RetainedTest, LargeValuesAreReadFromTheState) {
  begin();
  std::string large(100'000, 'x');
  publishOne("t", large, kQos1, true);
  settle();
  EXPECT_THAT(retainedFor("t"), ElementsAre("t=" + large));
  crash();
  EXPECT_THAT(retainedFor("t", 60), ElementsAre("t=" + large));
}

TEST_F(RetainedTest, DeepAddresses) {
  begin();
  std::string deep = "a";
  for (int i = 0; i < 2000; ++i) deep += "/b";
  publishOne(deep, "x", kQos1, true);
  publishOne(deep + "/c", "y", kQos1, true);
  settle();
  EXPECT_THAT(retainedFor("a/#"), SizeIs(2));
  EXPECT_THAT(retainedFor(deep), SizeIs(1));
  EXPECT_THAT(retainedFor(deep + "/+"), ElementsAre(deep + "/c=y"));
  publishOne(deep, "", kQos1, true);
  settle();
  EXPECT_THAT(retainedFor("a/#"), SizeIs(1));
}

TEST_F(RetainedTest, ManyRetainedForASleepingSession) {
  begin();
  std::vector<Outgoing> many;
  for (int i = 0; i < 2500; ++i) many.push_back({"t/" + std::to_string(i), "v", kQos1, true});
  publish(many);
  settle();
  TestClient& client = connect("c", 60);
  subscribe(client, "t/#", kQos1);
  detach(client);
  TestClient& back = connect("c", 60);
  EXPECT_THAT(take(back, 5000), SizeIs(2500));
}

}  // namespace
}  // namespace polylog::router
