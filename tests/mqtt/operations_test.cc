// What the configuration and its extensions make of names and connections.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "codecs/mqtt/throttle.h"
#include "mapping/mqtt.h"
#include "tests/mqtt/harness.h"

namespace polylog::mqtt::test {
namespace {

using testing::ElementsAre;

std::vector<std::string> filters(Client& client, const std::string& clientId = "c1") {
  std::vector<std::string> out;
  for (const auto& [text, subscription] : client.broker(clientId).subscriptions) {
    out.push_back(text);
  }
  return out;
}

TEST(Delayed, TheDelayIsTakenOffTheName) {
  World world;
  Client client(world);
  client.connect();
  client.sendAndRun(publishOf("$delayed/15/x/y", "1", 1, 1));
  ASSERT_EQ(world.broker.published.size(), 1U);
  EXPECT_EQ(world.broker.published[0].address, "x/y");
  EXPECT_EQ(world.broker.published[0].publishAtMs, world.clock.wallMillis() + 15'000);
  EXPECT_EQ(client.next<AckPacket>().code, ReasonCode::kSuccess);
}

TEST(Delayed, UntilATimeOfTheClock) {
  World world;
  Client client(world);
  client.connect();
  const int64_t now = world.clock.wallMillis() / 1000;
  auto publish = [&](int64_t at) {
    client.sendAndRun(publishOf(fmt::format("$delayed/{}/x", at), "1", 1, 1));
    return client.next<AckPacket>().code;
  };
  constexpr int64_t kMost = mapping::kMqttMaxDelaySeconds;
  EXPECT_EQ(publish(now + 60), ReasonCode::kSuccess);
  EXPECT_EQ(publish(now - 60), ReasonCode::kSuccess);
  EXPECT_EQ(publish(now + kMost), ReasonCode::kSuccess);
  EXPECT_EQ(publish(now + kMost + 1), ReasonCode::kTopicNameInvalid);
  EXPECT_EQ(publish(now - kMost - 1), ReasonCode::kTopicNameInvalid);
  EXPECT_EQ(publish((now + 60) * 1000), ReasonCode::kTopicNameInvalid);  // milliseconds
  ASSERT_EQ(world.broker.published.size(), 3U);
  EXPECT_EQ(world.broker.published[0].publishAtMs, (now + 60) * 1000);
  EXPECT_EQ(world.broker.published[1].publishAtMs, 0);  // at once
  EXPECT_EQ(world.broker.published[2].publishAtMs, (now + kMost) * 1000);
}

TEST(Delayed, WhatIsNoDelayIsRefused) {
  World world;
  Client client(world);
  client.connect();
  for (const char* topic : {"$delayed/x/t", "$delayed/42949670/t", "$delayed/-1/t", "$delayed/ 1/t",
                            "$delayed/1", "$delayed//t", "$delayed/1/$SYS/t"}) {
    client.sendAndRun(publishOf(topic, "1", 1, 1));
    EXPECT_EQ(client.next<AckPacket>().code, ReasonCode::kTopicNameInvalid) << topic;
  }
  EXPECT_TRUE(world.broker.published.empty());
}

TEST(Rewrites, PublishesAndSubscriptions) {
  World world;
  const std::string texts[] = {"all x/# ^x/y/(.+)$ -> z/$1", "publish me -> of/%c"};
  world.options.rewrites = *mapping::TopicRewrites::parse(texts);
  Client client(world);
  client.connect();
  client.feed(client.encoded(publishOf("x/y/1", "1")) + client.encoded(publishOf("x/1", "2")) +
              client.encoded(publishOf("me", "3")) +
              client.encoded(publishOf("$delayed/5/me", "4")));
  ASSERT_EQ(world.broker.published.size(), 4U);
  EXPECT_EQ(world.broker.published[0].address, "z/1");
  EXPECT_EQ(world.broker.published[1].address, "x/1");
  EXPECT_EQ(world.broker.published[2].address, "of/c1");
  EXPECT_EQ(world.broker.published[3].address, "of/c1");
  client.sendAndRun(SubscribePacket{
      1, {}, {{"x/y/+", 1, false, false, 0}, {"$share/g/x/y/#", 1, false, false, 0}}});
  client.packets();
  EXPECT_THAT(filters(client), ElementsAre("$share/g/z/#", "z/+"));
  client.sendAndRun(UnsubscribePacket{2, {}, {"x/y/+"}});
  EXPECT_EQ(client.next<SubackPacket>().codes.at(0), ReasonCode::kSuccess);
}

TEST(Rewrites, IntoWhatCanNotBeIsRefused) {
  World world;
  const std::string texts[] = {"publish up/# -> $1", "publish wild -> a/+"};
  world.options.rewrites = *mapping::TopicRewrites::parse(texts);
  Client client(world);
  client.connect();
  for (const char* topic : {"up/$SYS/x", "wild"}) {
    client.sendAndRun(publishOf(topic, "1", 1, 1));
    EXPECT_EQ(client.next<AckPacket>().code, ReasonCode::kTopicNameInvalid) << topic;
  }
}

TEST(Exclusive, IsMarkedSoAndItsFilterIsTheRest) {
  World world;
  Client client(world);
  client.connect();
  client.sendAndRun(SubscribePacket{
      1,
      {},
      {{"$exclusive/a/#", 1, false, false, 0}, {"$exclusive/$share/g/a", 1, false, false, 0}}});
  EXPECT_THAT(client.next<SubackPacket>().codes,
              ElementsAre(ReasonCode::kGrantedQos1, ReasonCode::kTopicFilterInvalid));
  const Subscription& made = client.broker().subscriptions.at("$exclusive/a/#");
  EXPECT_TRUE(made.exclusive);
  EXPECT_EQ(made.filter.levels.size(), 2U);
  world.broker.sessionError = Error{ErrorKind::kLocked, "another's"};
  client.sendAndRun(SubscribePacket{2, {}, {{"$exclusive/b", 1, false, false, 0}}});
  EXPECT_EQ(client.next<SubackPacket>().codes.at(0), ReasonCode::kQuotaExceeded);
}

TEST(Automatic, SubscribedBehindTheConnack) {
  World world;
  world.options.automatic = {{"to/%c/#", 1, true, true, 2}, {"$share/g/all", 0, false, false, 0}};
  Client client(world);
  client.connect();
  EXPECT_THAT(filters(client), ElementsAre("$share/g/all", "to/c1/#"));
  const Subscription& made = client.broker().subscriptions.at("to/c1/#");
  EXPECT_EQ(made.guarantee, DeliveryGuarantee::kAtLeastOnce);
  EXPECT_TRUE(made.noLocal && made.retainAsPublished);
  EXPECT_EQ(made.retainHandling, RetainHandling::kNever);
}

TEST(MountPoint, IsThereInwardsAndGoneOutwards) {
  World world;
  world.options.mountPoint = "of/%c/";
  world.options.automatic = {{"auto", 0, false, false, 0}};
  Client client(world);
  ConnectPacket packet;
  packet.clientId = "c1";
  packet.will = WillFields{"will", "gone", 0, false, {}};
  client.connect(packet);
  client.sendAndRun(SubscribePacket{1,
                                    {},
                                    {{"a/#", 1, false, false, 0},
                                     {"$share/g/b", 1, false, false, 0},
                                     {"$SYS/#", 0, false, false, 0}}});
  client.packets();
  EXPECT_THAT(filters(client),
              ElementsAre("$SYS/#", "$share/g/of/c1/b", "of/c1/a/#", "of/c1/auto"));
  client.sendAndRun(publishOf("a/b", "1"));
  client.sendAndRun(publishOf("$delayed/5/a", "1"));
  EXPECT_EQ(world.broker.published.at(0).address, "of/c1/a/b");
  EXPECT_EQ(world.broker.published.at(1).address, "of/c1/a");
  client.broker().deliver("of", "c1/a/x", "1", DeliveryGuarantee::kAtMostOnce);
  client.broker().deliver("of", "c2/a/x", "2", DeliveryGuarantee::kAtMostOnce);
  client.run();
  auto delivered = client.all<PublishPacket>();
  ASSERT_EQ(delivered.size(), 2U);
  EXPECT_EQ(delivered[0].topic, "a/x");
  EXPECT_EQ(delivered[1].topic, "of/c2/a/x");
  ASSERT_TRUE(client.broker().options.will);
  EXPECT_EQ(client.broker().options.will->key, "c1/will");
}

TEST(MountPoint, WhoseNameCanNotStandInItIsRefused) {
  for (const char* name : {"+", "#", "a/b"}) {
    World world;
    world.options.mountPoint = "of/%c/";
    Client client(world);
    EXPECT_EQ(client.connect(name).code, static_cast<uint8_t>(ReasonCode::kClientIdInvalid));
    EXPECT_TRUE(client.transport.closed);
    world.options.mountPoint = "all/";
    Client other(world);
    EXPECT_EQ(other.connect(name).code, 0);
  }
}

TEST(MountPoint, NobodyLeavesItByAName) {
  for (const char* name : {"$share", "$SYS", "$"}) {
    World world;
    world.options.mountPoint = "%c/";
    Client client(world);
    EXPECT_EQ(client.connect(name).code, static_cast<uint8_t>(ReasonCode::kClientIdInvalid));
    world.options.mountPoint = "of/%c/";
    Client other(world);
    EXPECT_EQ(other.connect(name).code, 0);
  }
}

TEST(MountPoint, StandsBeforeTheFilterThatARewriteMakes) {
  World world;
  world.options.mountPoint = "t/";
  const std::string texts[] = {"subscribe jobs/+ -> $share/$1/work",
                               "subscribe one -> $exclusive/x",
                               "subscribe past -> $replay/earliest/p", "subscribe sys -> $SYS/#"};
  world.options.rewrites = *mapping::TopicRewrites::parse(texts);
  Client client(world);
  client.connect();
  client.sendAndRun(SubscribePacket{1,
                                    {},
                                    {{"jobs/g", 1, false, false, 0},
                                     {"one", 1, false, false, 0},
                                     {"past", 1, false, false, 0},
                                     {"sys", 0, false, false, 0}}});
  client.packets();
  EXPECT_THAT(filters(client),
              ElementsAre("$SYS/#", "$exclusive/t/x", "$replay/earliest/t/p", "$share/g/t/work"));
  client.sendAndRun(SubscribePacket{2, {}, {{"jobs/h", 1, true, false, 0}}});
  client.expectClosed(ReasonCode::kProtocolError);
}

TEST(MountPoint, WhatHasNoNameHasNoneUnderIt) {
  World world;
  world.options.mountPoint = "t/a/";
  Client client(world);
  client.connect();
  client.sendAndRun(publishOf("$delayed/0/", "1", 1, 1));
  EXPECT_EQ(client.next<AckPacket>().code, ReasonCode::kTopicNameInvalid);
  EXPECT_TRUE(world.broker.published.empty());
  client.broker().deliver("t", "a/", "1", DeliveryGuarantee::kAtLeastOnce);
  client.broker().deliver("t", "a/x", "2", DeliveryGuarantee::kAtLeastOnce);
  client.run();
  auto delivered = client.all<PublishPacket>();
  ASSERT_EQ(delivered.size(), 1U);
  EXPECT_EQ(delivered[0].topic, "x");
  Client other(world);
  ConnectPacket packet;
  packet.clientId = "c2";
  packet.will = WillFields{"$delayed/0/", "gone", 0, false, {}};
  EXPECT_EQ(other.connect(packet).code, static_cast<uint8_t>(ReasonCode::kTopicNameInvalid));
}

TEST(MountPoint, IsNotToldInAReasonString) {
  for (const char* mount : {"", "t/a/"}) {
    World world;
    world.options.mountPoint = mount;
    Client client(world);
    client.connect();
    client.sendAndRun(SubscribePacket{1, {}, {{"a/#/b", 1, false, false, 0}}});
    auto suback = client.next<SubackPacket>();
    EXPECT_EQ(suback.codes.at(0), ReasonCode::kTopicFilterInvalid);
    EXPECT_EQ(suback.properties.has(PropertyId::kReasonString), *mount == '\0');
  }
}

TEST(Redirect, TheServerIsNamed) {
  for (bool forGood : {false, true}) {
    World world;
    world.options.redirect = "b:1883";
    world.options.redirectForGood = forGood;
    Client client(world);
    ConnackPacket connack = client.connect();
    EXPECT_EQ(connack.code, forGood ? 0x9D : 0x9C);
    EXPECT_EQ(connack.properties.text(PropertyId::kServerReference), "b:1883");
    Client old(world, Version::k311);
    EXPECT_EQ(old.connect().code, 3);
  }
}

TEST(Rates, ReadingPausesUntilWhatWasSentIsPaidFor) {
  World world;
  world.options.publishesPerSecond = 10;
  Client client(world);
  client.connect();
  std::string burst;
  for (int i = 0; i < 25; ++i) burst += client.encoded(publishOf("t", "x"));
  client.feed(burst);
  client.run();
  EXPECT_EQ(world.broker.published.size(), 11U) << "a second's worth, and the one that was over";
  EXPECT_TRUE(client.transport.paused);
  world.dispatcher.advance(1'000'000);
  client.run();
  EXPECT_GE(world.broker.published.size(), 20U);
  world.dispatcher.advance(1'000'000);
  client.run();
  EXPECT_EQ(world.broker.published.size(), 25U);
  EXPECT_FALSE(client.transport.closed);
}

TEST(Rates, ABucketHoldsASecondsWorth) {
  TokenBucket bucket(100);
  EXPECT_EQ(bucket.wait(1'000'000), 0);
  bucket.take(100, 1'000'000);
  EXPECT_EQ(bucket.wait(1'000'000), 0);
  bucket.take(50, 1'000'000);
  EXPECT_EQ(bucket.wait(1'000'000), 500'000);
  EXPECT_EQ(bucket.wait(1'400'000), 100'000);
  EXPECT_EQ(bucket.wait(1'500'000), 0);
  bucket.take(101, INT64_MAX / 2);
  EXPECT_EQ(bucket.wait(INT64_MAX / 2), 10'000);
  TokenBucket large(10'000'000'000);  // after an hour of silence
  large.take(20'000'000'000, 3'600'000'000);
  EXPECT_EQ(large.wait(3'600'000'000), 1'000'000);
  EXPECT_EQ(large.wait(7'200'000'000), 0);
  large.take(10'000'000'000, 7'200'000'000);
  EXPECT_EQ(large.wait(7'200'000'000), 0) << "it was full";
  TokenBucket none(0);
  none.take(INT64_MAX, 1);
  EXPECT_EQ(none.wait(1), 0);
}

class FakeClients final : public Clients {
 public:
  struct Held final : ConnectedClient {
    explicit Held(FakeClients& to) : clients(to) {}
    ~Held() override { --clients.connected; }
    FakeClients& clients;
  };
  Result<std::unique_ptr<ConnectedClient>> admit(
      const PrincipalRef& principal, std::string version,
      std::move_only_function<void(ClientEnd)> whenEnded) override {
    seen.push_back(principal->clientId + " " + version);
    if (principal->clientId == "banned") return fail(ErrorKind::kUnauthorized, "banned");
    ++connected;
    end = std::move(whenEnded);
    return std::make_unique<Held>(*this);
  }
  void clients(const PrincipalRef&, const Query&, Done<Result<std::vector<ClientInfo>>>) override {}
  Result<std::vector<SlowSubscriber>> slow(const PrincipalRef&) override { return {}; }
  Result<size_t> kick(const PrincipalRef&, const std::string&) override { return 0; }
  Result<std::vector<Ban>> bans(const PrincipalRef&) override { return {}; }
  void ban(const PrincipalRef&, Ban, Done<Result<>>) override {}
  void unban(const PrincipalRef&, BanKind, std::string, Done<Result<>>) override {}

  std::vector<std::string> seen;
  int connected = 0;
  std::move_only_function<void(ClientEnd)> end;
};

TEST(Bans, AreToldInTheWordsOfEachVersion) {
  FakeClients clients;
  World world;
  world.options.clients = &clients;
  Client five(world);
  EXPECT_EQ(five.connect("banned").code, 0x8A);
  EXPECT_TRUE(five.transport.closed);
  Client old(world, Version::k311);
  EXPECT_EQ(old.connect("banned").code, 5);
  EXPECT_TRUE(world.broker.sessions.empty());
  EXPECT_THAT(clients.seen, ElementsAre("banned 5.0", "banned 3.1.1"));
}

TEST(Bans, WhoIsConnectedIsCutOff) {
  for (auto [why, code] : {std::pair(ClientEnd::kBanned, ReasonCode::kAdministrativeAction),
                           std::pair(ClientEnd::kByOperator, ReasonCode::kAdministrativeAction)}) {
    FakeClients clients;
    World world;
    world.options.clients = &clients;
    Client client(world);
    client.connect();
    EXPECT_EQ(clients.connected, 1);
    clients.end(why);
    client.expectClosed(code);
    EXPECT_EQ(clients.connected, 0);
  }
}

TEST(Bans, WhoLeavesIsNoLongerConnected) {
  FakeClients clients;
  World world;
  world.options.clients = &clients;
  Client client(world);
  client.connect();
  client.drop("lost");
  EXPECT_EQ(clients.connected, 0);
}

}  // namespace
}  // namespace polylog::mqtt::test
