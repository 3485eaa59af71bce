// Shared subscriptions under rules: what one member may not read goes to one that may.
#include "router/token_rights.h"
#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class SharedAccessTest : public RouterFixture {
 protected:
  void addRule(const AccessRule& rule) {
    auto trusted = std::make_shared<Principal>();
    trusted->trusted = true;
    on(0, [&] {
      router_->access().addRules(trusted, {rule}, [](auto results) { ASSERT_TRUE(results); });
    });
    settle();
  }
  void denyReading(const std::string& user, const std::string& topic) {
    addRule(
        {false, user, "*", ResourceKind::kTopic, PatternKind::kLiteral, topic, Operation::kRead});
  }
  /// Nobody may anything but by rules; the tests' own nobody may all.
  void beginDenying() {
    RouterOptions options;
    options.access.denyByDefault = true;
    begin(1, options);
    for (ResourceKind kind : {ResourceKind::kTopic, ResourceKind::kGroup}) {
      addRule({true, "ANONYMOUS", "*", kind, PatternKind::kLiteral, "*", Operation::kAll});
    }
  }
  /// A token's claim that its bearer may read what the filter matches, and nothing else.
  static std::shared_ptr<TokenRights> claim(const std::string& filter) {
    AccessRule rule{
        true, "*", "*", ResourceKind::kTopic, PatternKind::kFilter, filter, Operation::kRead};
    return std::make_shared<TokenRights>(std::vector<AccessRule>{rule});
  }
  void sleep(TestClient& client) {
    on(0, [&] { std::exchange(client.session, nullptr)->detach(); });
    settle();
  }
  TestClient& opened(const std::string& user, bool clean, int64_t window, uint32_t expiry) {
    TestClient& client = newClient(user, 0);
    auto who = std::make_shared<Principal>(Principal{user, user, "127.0.0.1:1", Protocol::kMqtt});
    who->rights = rights_[user];
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
  std::map<std::string, LoginRightsRef> rights_;  ///< that users' logins bring
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
  EXPECT_EQ(lag(), 0) << "nobody may read it any more, whether something else comes or not";
  publishOne("open/a", "x", kQos1);
  settle();
  EXPECT_THAT(got(eve), ElementsAre("x"));
  denyReading("eve", "other");
  publishOne("other/a", "1", kQos1);
  settle();
  EXPECT_EQ(lag(), 1);
  // Its session's end is the end of its waiting.
  advance(601'000);
  EXPECT_EQ(lag(), 0);
}

TEST_F(SharedAccessTest, WhatASleepingMembersClaimLetsItReadIsKeptForIt) {
  beginDenying();
  rights_["eve"] = claim("open/#");
  rights_["ann"] = claim("secret/#");
  TestClient& eve = member("eve");
  sleep(member("ann", kQos1, 1024, 600));
  publishOne("secret/a", "0", kQos1);
  publishOne("open/a", "x", kQos1);
  settle();
  EXPECT_THAT(got(eve), ElementsAre("x"));
  EXPECT_EQ(lag(), 1);
  TestClient& ann = back("ann");
  EXPECT_THAT(got(ann), ElementsAre("0"));
  // The last login is the one that counts.
  sleep(ann);
  rights_["ann"] = claim("other/#");
  sleep(back("ann"));
  publishOne("secret/a", "1", kQos1);
  publishOne("other/a", "2", kQos1);
  settle();
  EXPECT_EQ(lag(), 1) << "nobody may read the first";
  EXPECT_THAT(got(back("ann")), ElementsAre("2"));
}

TEST_F(SharedAccessTest, WhatItsClaimDoesNotLetItReadIsNotKeptForIt) {
  begin();
  rights_["ann"] = claim("mine/#");
  TestClient& eve = member("eve");
  sleep(member("ann", kQos1, 1024, 600));
  denyReading("eve", "secret");
  publishOne("secret/a", "0", kQos1);
  settle();
  EXPECT_THAT(got(eve), IsEmpty());
  EXPECT_EQ(lag(), 0);
}

TEST_F(SharedAccessTest, WhatIsKeptIsLookedAtAgainWhenAMemberHasANewerToken) {
  beginDenying();
  auto rights = claim("open/#");
  rights_["eve"] = rights;
  rights_["ann"] = claim("secret/#");
  TestClient& eve = member("eve");
  sleep(member("ann", kQos1, 1024, 600));
  publishOne("secret/a", "0", kQos1);
  settle();
  EXPECT_THAT(got(eve), IsEmpty());
  rights->become(claim("#").get());
  bool told = false;
  on(0, [&] { eve.session->loginRenewed([&](const Result<>& ok) { told = ok.has_value(); }); });
  settle();
  EXPECT_TRUE(told);
  EXPECT_THAT(got(eve), ElementsAre("0"));
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
