// Shared subscriptions: one member gets each record, and none is lost.
#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

class SharedTest : public RouterFixture {
 protected:
  static Subscription shared(const std::string& group, const std::string& filter,
                             DeliveryGuarantee guarantee, uint32_t id = 0) {
    Subscription made = subscription(filter, guarantee, id);
    made.text = "$share/" + group + "/" + filter;
    made.share = group;
    return made;
  }
  TestClient& member(const std::string& id, uint32_t expiry = 0,
                     DeliveryGuarantee guarantee = kQos1, size_t worker = 0,
                     int64_t window = 1024) {
    TestClient& client = newClient(id, worker);
    SubscriberOptions options{id, false, expiry, window, std::nullopt};
    on(worker, [&] {
      router_->openSession(principal(id), options, &client,
                           [&client](Result<std::shared_ptr<SubscriberSession>> result) {
                             client.session = *result;
                           });
    });
    settle();
    auto results = subscribe(client, {shared("g", "t/#", guarantee)});
    EXPECT_TRUE(results.at(0).has_value());
    return client;
  }
  void send(int from, int to, DeliveryGuarantee guarantee = kQos1) {
    std::vector<Outgoing> records;
    for (int i = from; i < to; ++i) {
      records.push_back({"t/" + std::to_string(i % 10), std::to_string(i), guarantee});
    }
    publish(records);
    settle();
  }
  std::vector<Delivery> takeShared(TestClient& client, size_t max = 1000) {
    std::vector<Delivery> out;
    on(client.worker, [&] { client.session->take(max, {INT64_MAX, INT64_MAX}, out); });
    settle();
    return out;
  }
  std::vector<std::string> texts(const std::vector<Delivery>& deliveries) {
    std::vector<std::string> out;
    for (const Delivery& delivery : deliveries) out.push_back(textOf(delivery));
    return out;
  }
  std::vector<std::string> takeAndAcknowledge(TestClient& client) {
    std::vector<std::string> all;
    for (auto taken = takeShared(client); !taken.empty(); taken = takeShared(client)) {
      for (const Delivery& delivery : taken) {
        all.push_back(textOf(delivery));
        if (delivery.id >= 0) acknowledge(client, delivery.id);
      }
      settle();
    }
    return all;
  }
  std::vector<SharedGroupInfo> groups() {
    return on(0, [&] { return router_->sharedGroups(principal("admin")); });
  }
  int64_t lag() {
    auto all = groups();
    return all.empty() ? -1 : all[0].lag;
  }
};

TEST_F(SharedTest, OneMemberGetsEach) {
  begin(2);
  TestClient& a = member("a");
  TestClient& b = member("b", 0, kQos1, 1);
  send(0, 4);
  EXPECT_THAT(takeAndAcknowledge(a), ElementsAre("0", "2"));
  EXPECT_THAT(takeAndAcknowledge(b), ElementsAre("1", "3"));
  EXPECT_EQ(lag(), 0);
}

TEST_F(SharedTest, GroupsAndOrdinarySubscriptionsGetTheirOwn) {
  begin();
  TestClient& a = member("a");
  TestClient& other = connect("other");
  subscribe(other, {shared("h", "t/#", kQos1, 7)});
  TestClient& plain = connect("plain");
  subscribe(plain, "t/+", kQos1);
  send(0, 2);
  EXPECT_THAT(takeAndAcknowledge(a), ElementsAre("0", "1"));
  auto deliveries = takeShared(other);
  ASSERT_THAT(deliveries, SizeIs(2));
  EXPECT_THAT(deliveries[0].subscriptionIds, ElementsAre(7U));
  EXPECT_THAT(takeTexts(plain), ElementsAre("0", "1"));
}

TEST_F(SharedTest, AnOfflineGroupWithPersistentMembersLosesNothing) {
  begin();
  for (DeliveryGuarantee guarantee : {kQos0, kQos1, kQos2}) {
    TestClient& a = member("a", 1000, guarantee);
    detach(a);
    send(0, 3, guarantee);
    EXPECT_EQ(lag(), 3);
    crash();
    send(3, 4, guarantee);
    EXPECT_THAT(takeAndAcknowledge(member("a", 1000, guarantee)), ElementsAre("0", "1", "2", "3"));
    EXPECT_EQ(lag(), 0);
  }
}

TEST_F(SharedTest, WhatADisconnectedMemberHasNotAcknowledgedGoesToAnother) {
  begin(2);
  TestClient& a = member("a", 1000);
  TestClient& b = member("b", 1000, kQos1, 1);
  send(0, 6);
  auto taken = takeShared(a, 2);
  EXPECT_THAT(texts(taken), ElementsAre("0", "2"));
  acknowledge(a, taken[0].id);
  detach(a);
  // "4" was never sent.
  auto others = takeShared(b);
  EXPECT_THAT(texts(others), UnorderedElementsAre("1", "2", "3", "4", "5"));
  for (const Delivery& delivery : others) {
    EXPECT_EQ(delivery.redelivered, textOf(delivery) == "2") << textOf(delivery);
    acknowledge(b, delivery.id);
  }
  settle();
  EXPECT_EQ(lag(), 0);
  EXPECT_THAT(takeAndAcknowledge(member("a", 1000)), IsEmpty());
}

TEST_F(SharedTest, AMemberThatGoesWithWhatItWasNotSentGoesOnWhenItReturns) {
  begin();
  TestClient& a = member("a", 1000, kQos1, 0, 10);
  send(0, 40);
  detach(a);  // ten have reached its session and not the client
  EXPECT_THAT(takeAndAcknowledge(member("a", 1000, kQos1, 0, 10)), SizeIs(40));
}

TEST_F(SharedTest, ALoneMemberThatReturnsGetsItsOwnInOrder) {
  begin();
  TestClient& a = member("a", 1000);
  send(0, 5);
  EXPECT_THAT(takeShared(a, 3), SizeIs(3));
  detach(a);
  send(5, 6);
  TestClient& again = member("a", 1000);
  EXPECT_THAT(takeAndAcknowledge(again), ElementsAre("0", "1", "2", "3", "4", "5"));
}

TEST_F(SharedTest, ExactlyOnceStaysWithItsMember) {
  begin();
  TestClient& a = member("a", 1000, kQos2);
  send(0, 1, kQos2);
  auto taken = takeShared(a);
  ASSERT_THAT(taken, SizeIs(1));
  EXPECT_LT(taken[0].id, kSharedIds) << "it came through the inbox";
  member("b", 1000, kQos2);
  detach(a);
  crash();
  TestClient& other = member("b", 1000, kQos2);
  EXPECT_THAT(takeShared(other), IsEmpty()) << "[MQTT-4.8.2-5]";
  TestClient& back = member("a", 1000, kQos2);
  auto again = takeShared(back);
  ASSERT_THAT(again, SizeIs(1));
  EXPECT_EQ(again[0].id, taken[0].id) << "the packet id follows from it";
  EXPECT_TRUE(again[0].redelivered);
  EXPECT_EQ(lag(), 0);
}

TEST_F(SharedTest, ExactlyOnceTakesNoMoreThanTheWindow) {
  begin();
  TestClient& a = member("a", 1000, kQos2, 0, 3);
  send(0, 10, kQos2);
  auto taken = takeShared(a);
  ASSERT_THAT(taken, SizeIs(3));
  EXPECT_EQ(lag(), 7) << "what is not moved yet";
  acknowledge(a, taken[0].id);
  settle();
  EXPECT_THAT(texts(takeShared(a)), ElementsAre("3"));
  TestClient& b = member("b", 1000, kQos2);
  EXPECT_THAT(texts(takeShared(b)), ElementsAre("4", "5", "6", "7", "8", "9"));
}

TEST_F(SharedTest, AMoveThatFailsLosesNothing) {
  begin();
  TestClient& a = member("a", 1000, kQos2);
  std::vector<Outgoing> one{{"t/1", "x", kQos2}};
  publish(one);
  run();
  store_->commit();
  run();  // the move is on its way
  failWrites();
  EXPECT_EQ(lag(), 1);
  advance(2000);
  EXPECT_THAT(takeAndAcknowledge(a), ElementsAre("x"));
  EXPECT_EQ(lag(), 0);
  crash();
  EXPECT_THAT(takeAndAcknowledge(member("a", 1000, kQos2)), IsEmpty());
}

TEST_F(SharedTest, ExactlyOnceOfASessionThatEndsIsNobodyElses) {
  begin();
  TestClient& a = member("a", 0, kQos2);
  send(0, 2, kQos2);
  EXPECT_THAT(takeShared(a, 1), SizeIs(1));
  TestClient& b = member("b", 0, kQos2);
  detach(a);
  EXPECT_THAT(takeAndAcknowledge(b), ElementsAre("1"));
  EXPECT_EQ(lag(), 0);
}

TEST_F(SharedTest, TheGroupGoesWithItsLastMember) {
  begin();
  TestClient& a = member("a", 1000);
  TestClient& b = member("b");
  ASSERT_THAT(groups(), SizeIs(1));
  EXPECT_EQ(groups()[0].name, "$share/g/t/#");
  EXPECT_THAT(groups()[0].members, SizeIs(2));
  detach(b);
  EXPECT_THAT(groups()[0].members, SizeIs(1));
  detach(a);
  send(0, 2);
  EXPECT_THAT(groups(), SizeIs(1)) << "its session lives";
  advance(1'001'000);
  EXPECT_THAT(groups(), IsEmpty());
  TestClient& next = member("a", 1000);
  EXPECT_THAT(takeShared(next), IsEmpty());
  crash();
  EXPECT_THAT(groups(), SizeIs(1));
}

TEST_F(SharedTest, AGroupOfConnectionsEndsWithTheBroker) {
  begin();
  member("a");
  send(0, 2);
  crash();
  EXPECT_THAT(groups(), IsEmpty());
  TestClient& a = member("a");
  EXPECT_THAT(takeShared(a), IsEmpty());
}

TEST_F(SharedTest, UnsubscribingLeaves) {
  begin();
  TestClient& a = member("a", 1000);
  TestClient& b = member("b", 1000);
  send(0, 4);
  auto taken = takeShared(a, 1);
  std::vector<bool> there;
  auto unsubscribe = [&](TestClient& client) {
    on(0, [&] {
      client.session->unsubscribe({"$share/g/t/#", "t/#"},
                                  [&](Result<std::vector<bool>> result) { there = *result; });
    });
    settle();
  };
  unsubscribe(a);
  EXPECT_EQ(there, (std::vector<bool>{true, false}));
  EXPECT_THAT(takeShared(a), IsEmpty());
  acknowledge(a, taken[0].id);
  EXPECT_THAT(takeAndAcknowledge(b), UnorderedElementsAre("1", "2", "3"));
  EXPECT_EQ(lag(), 0);
  unsubscribe(b);
  EXPECT_THAT(groups(), IsEmpty());
}

TEST_F(SharedTest, SubscribingAgainChangesWhatIsWanted) {
  begin();
  TestClient& a = member("a", 1000, kQos0);
  auto results = subscribe(a, {shared("g", "t/#", kQos1, 9)});
  EXPECT_EQ(*results[0], kQos1);
  send(0, 1);
  auto taken = takeShared(a);
  ASSERT_THAT(taken, SizeIs(1));
  EXPECT_EQ(taken[0].guarantee, kQos1);
  EXPECT_THAT(taken[0].subscriptionIds, ElementsAre(9U));
}

TEST_F(SharedTest, AFailedSubscribeLeavesNothing) {
  begin();
  TestClient& a = connect("a", 1000);
  bool refused = false;
  on(0, [&] {
    a.session->subscribe({shared("g", "t/#", kQos1)},
                         [&](auto results) { refused = !results[0].has_value(); });
  });
  run();
  failWrites();
  settle();
  EXPECT_TRUE(refused);
  EXPECT_THAT(groups(), IsEmpty());
  send(0, 1);
  EXPECT_THAT(takeShared(a), IsEmpty());
}

TEST_F(SharedTest, AFailedUnsubscribeKeepsWhatWaits) {
  begin();
  TestClient& a = member("a", 1000);
  detach(a);
  send(0, 3);
  TestClient& back = connect("a", 1000);
  on(0, [&] { back.session->unsubscribe({"$share/g/t/#"}, [](const auto&) {}); });
  run();
  failWrites();
  settle();
  EXPECT_THAT(takeAndAcknowledge(back), ElementsAre("0", "1", "2"));
}

TEST_F(SharedTest, NoRetainedRecords) {
  begin();
  publishOne("t/1", "kept", kQos1, true);
  settle();
  TestClient& a = member("a");
  EXPECT_THAT(takeShared(a), IsEmpty());
  publishOne("t/1", "live", kQos1, true);
  settle();
  auto taken = takeShared(a);
  ASSERT_THAT(taken, SizeIs(1));
  EXPECT_FALSE(taken[0].retain);
}

TEST_F(SharedTest, WhatIsStoredNowhereGoesToWhoIsThere) {
  begin();
  TestClient& a = member("a");
  publish({{"t/1", "x", kQos1, false, std::nullopt, true}});
  settle();
  auto taken = takeShared(a);
  ASSERT_THAT(taken, SizeIs(1));
  EXPECT_EQ(taken[0].guarantee, kQos0);
  EXPECT_EQ(lag(), 0);
}

TEST_F(SharedTest, ProducedRecordsReachGroups) {
  begin();
  createTopic({"t", 1, std::nullopt});
  TestClient& a = member("a", 1000);
  detach(a);
  auto told = produce("t", batchOf({{"1", "x"}, {"2", "y"}}));
  settle();
  TestClient& back = member("a", 1000);
  EXPECT_THAT(takeAndAcknowledge(back), ElementsAre("x", "y"));
}

// ---------------------------------------------------------------- who gets it

class SharedDispatchTest : public SharedTest {
 protected:
  void beginWith(SharedDispatch how) {
    RouterOptions options;
    options.sharedDispatch = how;
    begin(1, options);
  }
};

TEST_F(SharedDispatchTest, StickyStaysWithOneUntilItGoes) {
  beginWith(SharedDispatch::kSticky);
  TestClient& a = member("a", 0, kQos1, 0, 2);
  TestClient& b = member("b");
  send(0, 4);
  auto taken = takeShared(a);
  EXPECT_THAT(texts(taken), ElementsAre("0", "1"));
  EXPECT_THAT(takeShared(b), IsEmpty()) << "what comes behind waits";
  acknowledge(a, taken[0].id);
  settle();
  EXPECT_THAT(texts(takeShared(a)), ElementsAre("2"));
  detach(a);
  EXPECT_THAT(texts(takeShared(b)), ElementsAre("1", "2", "3"));
}

TEST_F(SharedDispatchTest, HashOfTopicKeepsATopicTogether) {
  beginWith(SharedDispatch::kHashTopic);
  TestClient& a = member("a");
  TestClient& b = member("b");
  send(0, 40);
  std::map<std::string, std::set<std::string>> who;
  auto all = takeShared(a);
  for (const Delivery& delivery : all) who[addressText(delivery)].insert("a");
  auto others = takeShared(b);
  for (const Delivery& delivery : others) who[addressText(delivery)].insert("b");
  EXPECT_EQ(all.size() + others.size(), 40U);
  EXPECT_THAT(who, SizeIs(10));
  for (const auto& [address, members] : who) EXPECT_THAT(members, SizeIs(1)) << address;
  EXPECT_FALSE(all.empty());
  EXPECT_FALSE(others.empty());
}

TEST_F(SharedDispatchTest, NobodyWaitsForAMemberThatIsAway) {
  for (SharedDispatch how :
       {SharedDispatch::kSticky, SharedDispatch::kHashTopic, SharedDispatch::kHashClient}) {
    beginWith(how);
    TestClient& a = member("a", 1000);
    TestClient& b = member("b", 1000);
    detach(a);
    send(0, 20);
    EXPECT_THAT(takeAndAcknowledge(b), SizeIs(20));
    EXPECT_EQ(lag(), 0);
    end();
    clients_.clear();
    store_ = nullptr;
  }
}

TEST_F(SharedDispatchTest, HashOfClientKeepsAPublisherTogether) {
  beginWith(SharedDispatch::kHashClient);
  TestClient& a = member("a");
  TestClient& b = member("b");
  std::map<std::string, std::set<std::string>> who;
  for (int i = 0; i < 40; ++i) {
    std::string name = "p" + std::to_string(i % 8);
    TestClient& sender = i < 8 ? connect(name) : *clients_[2 + static_cast<size_t>(i % 8)];
    publish({{"t/1", name, kQos1}}, &sender);
    settle();
  }
  for (const Delivery& delivery : takeShared(a)) who[textOf(delivery)].insert("a");
  for (const Delivery& delivery : takeShared(b)) who[textOf(delivery)].insert("b");
  EXPECT_THAT(who, SizeIs(8));
  std::set<std::string> used;
  for (const auto& [name, members] : who) {
    EXPECT_THAT(members, SizeIs(1)) << name;
    used.insert(members.begin(), members.end());
  }
  EXPECT_THAT(used, SizeIs(2));
}

TEST_F(SharedDispatchTest, LeastInFlightEvensOut) {
  beginWith(SharedDispatch::kLeastInFlight);
  TestClient& a = member("a");
  send(0, 4);
  auto held = takeShared(a);
  TestClient& b = member("b");
  send(4, 8);
  EXPECT_THAT(takeShared(b), SizeIs(4)) << "until it has as many as the other";
}

TEST_F(SharedDispatchTest, RandomReachesAll) {
  beginWith(SharedDispatch::kRandom);
  TestClient& a = member("a");
  TestClient& b = member("b");
  send(0, 100);
  size_t first = takeShared(a).size();
  size_t second = takeShared(b).size();
  EXPECT_EQ(first + second, 100U);
  EXPECT_GT(first, 20U);
  EXPECT_GT(second, 20U);
}

}  // namespace
}  // namespace polylog::router
