// Shared subscriptions under rules: what one member may not read goes to one that may.
#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class SharedAccessTest : public RouterFixture {
 protected:
  void denyReading(const std::string& user, const std::string& topic) {
    auto trusted = std::make_shared<Principal>();
    trusted->trusted = true;
    AccessRule rule{false,           user, "*", ResourceKind::kTopic, PatternKind::kLiteral, topic,
                    Operation::kRead};
    on(0, [&] {
      router_->access().addRules(trusted, {rule}, [](auto results) { ASSERT_TRUE(results); });
    });
    settle();
  }
  TestClient& opened(const std::string& user, bool clean, int64_t window, uint32_t expiry) {
    TestClient& client = newClient(user, 0);
    auto who =
        std::make_shared<const Principal>(Principal{user, user, "127.0.0.1:1", Protocol::kMqtt});
    SubscriberOptions options{user, clean, expiry, window, std::nullopt};
    on(0, [&] {
      router_->openSession(
          who, options, &client,
          [&](Result<std::shared_ptr<SubscriberSession>> result) { client.session = *result; });
    });
    settle();
    return client;
  }
  TestClient& back(const std::string& user) { return opened(user, false, 1024, 600); }
  TestClient& member(const std::string& user, DeliveryGuarantee guarantee = kQos1,
                     int64_t window = 1024, uint32_t expiry = 0) {
    TestClient& client = opened(user, true, window, expiry);
    Subscription made = subscription("#", guarantee);
    made.text = "$share/g/#";
    made.share = "g";
    EXPECT_TRUE(subscribe(client, {made}).at(0).has_value());
    return client;
  }
  std::vector<std::string> got(TestClient& client) {
    std::vector<std::string> all;
    for (int round = 0; round < 20; ++round) {
      std::vector<Delivery> out;
      on(0, [&] { client.session->take(2, {INT64_MAX, INT64_MAX}, out); });
      for (const Delivery& delivery : out) {
        all.push_back(textOf(delivery));
        if (delivery.id >= 0) acknowledge(client, delivery.id);
      }
      settle();
    }
    return all;
  }
  int64_t lag() {
    return on(0, [&] { return router_->sharedGroups(principal("admin")).at(0).lag; });
  }
};

TEST_F(SharedAccessTest, WhatOneMemberMayNotReadGoesToAnother) {
  for (SharedDispatch how :
       {SharedDispatch::kRoundRobin, SharedDispatch::kRandom, SharedDispatch::kSticky,
        SharedDispatch::kHashTopic, SharedDispatch::kHashClient, SharedDispatch::kLeastInFlight}) {
    RouterOptions options;
    options.sharedDispatch = how;
    begin(1, options);
    TestClient& eve = member("eve");
    TestClient& ann = member("ann");
    denyReading("eve", "secret");
    for (int i = 0; i < 4; ++i) publishOne("secret/" + std::to_string(i), std::to_string(i), kQos1);
    settle();
    EXPECT_THAT(got(eve), IsEmpty());
    EXPECT_THAT(got(ann), ElementsAre("0", "1", "2", "3"));
    EXPECT_EQ(lag(), 0);
    end();
    clients_.clear();
    store_ = nullptr;
  }
}

TEST_F(SharedAccessTest, SoDoesWhatAMemberHadWhenTheRulesChanged) {
  for (DeliveryGuarantee guarantee : {kQos0, kQos1, kQos2}) {
    begin();
    TestClient& eve = member("eve", guarantee);
    for (int i = 0; i < 3; ++i) publishOne("secret/a", std::to_string(i), kQos2);
    settle();  // eve has them, unsent
    TestClient& ann = member("ann", guarantee);
    denyReading("eve", "secret");
    EXPECT_THAT(got(eve), IsEmpty());
    EXPECT_THAT(got(ann), ElementsAre("0", "1", "2"));
    publishOne("open/a", "x", kQos1);
    publishOne("open/a", "y", kQos1);
    settle();
    EXPECT_EQ(got(eve).size() + got(ann).size(), 2U);
    EXPECT_EQ(lag(), 0);
    end();
    clients_.clear();
    store_ = nullptr;
  }
}

TEST_F(SharedAccessTest, WhatNoMemberMayReadIsDroppedAndBarsNobody) {
  begin();
  TestClient& eve = member("eve");
  denyReading("eve", "secret");
  for (int i = 0; i < 3; ++i) publishOne("secret/a", "no", kQos1);
  publishOne("open/a", "yes", kQos1);
  settle();
  EXPECT_THAT(got(eve), ElementsAre("yes"));
  EXPECT_EQ(lag(), 0);
}

TEST_F(SharedAccessTest, WhatOnlyASleepingMemberMayReadIsKeptForIt) {
  begin();
  TestClient& eve = member("eve");
  TestClient& ann = member("ann", kQos1, 1024, 600);
  denyReading("eve", "secret");
  on(0, [&] { std::exchange(ann.session, nullptr)->detach(); });
  settle();
  for (int i = 0; i < 3; ++i) publishOne("secret/a", std::to_string(i), kQos1);
  publishOne("open/a", "x", kQos1);
  settle();
  EXPECT_THAT(got(eve), ElementsAre("x")) << "it bars nobody's way";
  EXPECT_EQ(lag(), 3);
  EXPECT_THAT(got(back("ann")), ElementsAre("0", "1", "2"));
  EXPECT_EQ(lag(), 0);
}

TEST_F(SharedAccessTest, WhatIsKeptIsLookedAtAgainWhenRulesOrMembersChange) {
  begin();
  TestClient& eve = member("eve");
  TestClient& ann = member("ann", kQos1, 1024, 600);
  denyReading("eve", "secret");
  on(0, [&] { std::exchange(ann.session, nullptr)->detach(); });
  settle();
  publishOne("secret/a", "0", kQos1);
  settle();
  EXPECT_EQ(lag(), 1);
  denyReading("ann", "secret");
  publishOne("open/a", "x", kQos1);
  settle();
  EXPECT_THAT(got(eve), ElementsAre("x"));
  EXPECT_EQ(lag(), 0) << "nobody may read it any more";
  denyReading("eve", "other");
  publishOne("other/a", "1", kQos1);
  settle();
  EXPECT_EQ(lag(), 1);
  // Its session's end is the end of its waiting.
  advance(601'000);
  EXPECT_EQ(lag(), 0);
}

TEST_F(SharedAccessTest, ItWaitsForTheOneThatMayReadItToHaveRoom) {
  begin();
  member("eve");
  TestClient& ann = member("ann", kQos1, 1);
  denyReading("eve", "secret");
  for (int i = 0; i < 3; ++i) publishOne("secret/a", std::to_string(i), kQos1);
  settle();
  EXPECT_EQ(lag(), 3);
  EXPECT_THAT(got(ann), ElementsAre("0", "1", "2"));
}

}  // namespace
}  // namespace polylog::router
