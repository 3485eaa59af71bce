#include "router/token_rights.h"
#include "router/will_codec.h"
#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class WillTest : public RouterFixture {
 protected:
  void setWill(TestClient& client, uint32_t delay, bool retain = false,
               DeliveryGuarantee guarantee = kQos1) {
    Will will;
    will.topic = "status";
    will.key = client.id;
    will.value = "gone";
    will.guarantee = guarantee;
    will.delaySeconds = delay;
    will.retain = retain;
    will.headers = {{"reason", "lost"}};
    will.expirySeconds = 60;
    on(client.worker, [&] { client.session->setWill(will); });
  }
  void watchStatus() {
    watcher_ = &connect("watcher");
    subscribe(*watcher_, "status/#", kQos1);
  }
  /// Of its groups, too.
  std::vector<std::string> texts(TestClient& client) {
    std::vector<Delivery> taken;
    on(client.worker, [&] { client.session->take(1000, {INT64_MAX, INT64_MAX}, taken); });
    std::vector<std::string> out;
    for (const Delivery& delivery : taken) out.push_back(textOf(delivery));
    return out;
  }
  TestClient* watcher_ = nullptr;
};

TEST_F(WillTest, PublishedWhenTheConnectionIsLost) {
  begin();
  watchStatus();
  TestClient& client = connect("c");
  setWill(client, 0);
  detach(client);
  auto deliveries = take(*watcher_);
  ASSERT_THAT(deliveries, SizeIs(1));
  EXPECT_EQ(addressText(deliveries[0]), "status/c");
  const auto& headers = deliveries[0].record->record.headers;
  ASSERT_THAT(headers, SizeIs(2));
  EXPECT_EQ(headers[0].name, "reason");
  EXPECT_EQ(headers[1].name, "expiry");
  EXPECT_EQ(headers[1].value, std::to_string(clock_.wallMillis() + 60'000));
}

TEST_F(WillTest, ReachesAGroupASessionAndAConnectionAtOnce) {
  for (DeliveryGuarantee guarantee : {kQos0, kQos1, kQos2}) {
    begin();
    Subscription shared = subscription("status/#", kQos2);
    shared.text = "$share/g/status/#";
    shared.share = "g";
    TestClient& member = connect("member");
    subscribe(member, {shared});
    TestClient& kept = connect("kept", 100);
    subscribe(kept, "status/#", kQos2);
    TestClient& plain = connect("plain");
    subscribe(plain, "status/#", kQos2);
    TestClient& client = connect("c");
    setWill(client, 0, false, guarantee);
    detach(client);
    for (TestClient* one : {&member, &kept, &plain}) {
      EXPECT_THAT(texts(*one), ElementsAre("gone")) << one->id;
    }
    end();
    clients_.clear();
    store_ = nullptr;
  }
}

TEST_F(WillTest, NotPublishedWhenCleared) {
  begin();
  watchStatus();
  TestClient& client = connect("c");
  setWill(client, 0);
  on(0, [&] { client.session->setWill(std::nullopt); });
  detach(client);
  EXPECT_THAT(take(*watcher_), IsEmpty());
}

TEST_F(WillTest, DelayedUntilItsTimeAndCancelledByAReturn) {
  begin();
  watchStatus();
  TestClient& client = connect("c", 100);
  setWill(client, 30);
  detach(client);
  advance(20'000);
  EXPECT_THAT(take(*watcher_), IsEmpty());
  TestClient& back = connect("c", 100);
  advance(60'000);
  EXPECT_THAT(take(*watcher_), IsEmpty()) << "the client came back in time";
  setWill(back, 30);
  detach(back);
  advance(31'000);
  EXPECT_THAT(takeTexts(*watcher_), ElementsAre("gone"));
  advance(100'000);
  EXPECT_THAT(take(*watcher_), IsEmpty()) << "once only";
}

TEST_F(WillTest, TheSessionsEndComesBeforeTheDelay) {
  begin();
  watchStatus();
  TestClient& client = connect("c", 10);
  setWill(client, 30);
  detach(client);
  advance(11'000);
  EXPECT_THAT(takeTexts(*watcher_), ElementsAre("gone"));
  TestClient& other = connect("d", 100);
  setWill(other, 30);
  detach(other);
  connect("d", 100, 0, true);
  EXPECT_THAT(takeTexts(*watcher_), ElementsAre("gone")) << "a clean start ends the old session";
}

TEST_F(WillTest, TakingOverPublishesAWillWithoutDelay) {
  begin(2);
  watchStatus();
  TestClient& client = connect("c", 100, 1);
  setWill(client, 0);
  TestClient& next = connect("c", 100, 0);
  EXPECT_THAT(takeTexts(*watcher_), ElementsAre("gone"));
  setWill(next, 5);
  connect("c", 100, 1);
  advance(10'000);
  EXPECT_THAT(take(*watcher_), IsEmpty());
}

TEST_F(WillTest, SurvivesACrashWithItsSession) {
  begin();
  TestClient& client = connect("c", 100);
  setWill(client, 0);
  TestClient& late = connect("late", 1000);
  setWill(late, 30);
  connect("none");
  settle();
  crash();
  watchStatus();
  EXPECT_THAT(take(*watcher_), IsEmpty()) << "published before anybody could subscribe";
  EXPECT_THAT(stored("status"), ElementsAre("gone"));
  advance(31'000);
  EXPECT_THAT(takeTexts(*watcher_), ElementsAre("gone"));
  crash();
  settle();
  EXPECT_THAT(stored("status"), ElementsAre("gone", "gone")) << "each once";
}

TEST_F(WillTest, OpenedWithTheSession) {
  begin();
  watchStatus();
  for (bool again : {false, true}) {
    TestClient& client = newClient("c");
    SubscriberOptions options{"c", false, 100};
    options.will.emplace();
    options.will->topic = "status";
    options.will->key = "c";
    options.will->value = again ? "second" : "first";
    options.will->delaySeconds = 20;
    on(0, [&] {
      router_->openSession(
          principal("c"), options, &client,
          [&](Result<std::shared_ptr<SubscriberSession>> result) { client.session = *result; });
    });
    settle();
  }
  crash();
  watchStatus();
  advance(21'000);
  EXPECT_THAT(takeTexts(*watcher_), ElementsAre("second"));
}

TEST_F(WillTest, TakenBackForTheCrashToo) {
  begin();
  TestClient& client = connect("c", 100);
  setWill(client, 0);
  on(0, [&] { client.session->setWill(std::nullopt); });
  TestClient& other = connect("d", 100);
  setWill(other, 10);
  connect("d", 100);  // without one
  settle();
  crash();
  advance(50'000);
  EXPECT_THAT(stored("status"), ElementsAre(testing::StartsWith("error")));
}

TEST_F(WillTest, TheSessionsEndComesFirstOverACrash) {
  begin();
  TestClient& client = connect("c", 5);
  setWill(client, 500);
  settle();
  crash();
  advance(6'000);
  EXPECT_THAT(stored("status"), ElementsAre("gone"));
}

TEST_F(WillTest, GoesByTheNewerTokenOverACrash) {
  auto claim = [](bool allows) {
    AccessRule rule{
        allows,           "*", "*", ResourceKind::kTopic, PatternKind::kFilter, "status/#",
        Operation::kWrite};
    return std::make_shared<TokenRights>(std::vector<AccessRule>{rule});
  };
  for (bool allowed : {false, true}) {
    begin();
    auto who = std::make_shared<Principal>(Principal{"ann", "c", "10.0.0.1:5", Protocol::kMqtt});
    auto rights = claim(!allowed);
    who->rights = rights;
    SubscriberOptions options{"c", false, 100};
    options.will.emplace();
    options.will->topic = "status";
    options.will->key = "c";
    options.will->value = "gone";
    TestClient& client = newClient("c");
    on(0, [&] {
      router_->openSession(who, options, &client, [&](auto result) { client.session = *result; });
    });
    settle();
    rights->become(claim(allowed).get());
    bool told = false;
    on(0,
       [&] { client.session->loginRenewed([&](const Result<>& ok) { told = ok.has_value(); }); });
    EXPECT_FALSE(told) << "not before it is durable";
    settle();
    EXPECT_TRUE(told);
    crash();
    settle();
    EXPECT_EQ(stored("status") == std::vector<std::string>{"gone"}, allowed);
    end();
    clients_.clear();
    store_ = nullptr;
  }
}

TEST_F(WillTest, StoredWhereTheRulesSay) {
  begin();
  watchStatus();
  TestClient& client = connect("c");
  Will will;
  will.topic = "status";
  will.key = "c";
  will.value = "gone";
  will.storedTopic = "wills";
  will.storedKey = "x";
  will.guarantee = kQos1;
  on(0, [&] { client.session->setWill(will); });
  detach(client);
  auto deliveries = take(*watcher_);
  ASSERT_THAT(deliveries, SizeIs(1));
  EXPECT_EQ(addressText(deliveries[0]), "status/c");
  EXPECT_THAT(stored("wills"), ElementsAre("gone"));
}

TEST(WillCodec, RoundTrip) {
  Will will;
  will.topic = "t";
  will.key = "";
  will.storedTopic = "u";
  will.ephemeral = true;
  will.value = std::string("a\0b", 3);
  will.headers = {{"n", std::nullopt}, {"n", "v"}};
  will.guarantee = kQos2;
  will.retain = true;
  will.delaySeconds = 0xFFFFFFFF;
  will.publishDelaySeconds = 5;
  will.publishAtMs = 1'800'000'000'000;
  will.partitionHash = 7;
  will.expirySeconds = 0;
  std::string encoded = encodeWill(will);
  auto back = decodeWill(encoded);
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(*back, will);
  for (size_t size = 0; size < encoded.size(); ++size) {
    EXPECT_FALSE(decodeWill(BytesView(encoded).substr(0, size)).has_value()) << size;
  }
  EXPECT_EQ(*decodeWill(encodeWill(Will{})), Will{});
}

}  // namespace
}  // namespace polylog::router
