#include "codecs/mqtt/outbound_aliases.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "codecs/mqtt/limits.h"
#include "tests/mqtt/harness.h"

namespace polylog::mqtt::test {
namespace {

constexpr auto kQos0 = DeliveryGuarantee::kAtMostOnce;
constexpr auto kQos1 = DeliveryGuarantee::kAtLeastOnce;

/// Takes aliases as a client does: what it knows is by what it was told.
struct AliasingClient : Client {
  using Client::Client;

  void connectTaking(uint32_t aliases, uint32_t maximumPacket = 0, bool clean = true) {
    ConnectPacket packet;
    packet.clientId = "c1";
    packet.cleanStart = clean;
    packet.properties.add(PropertyId::kSessionExpiry, 1000);
    if (aliases > 0) packet.properties.add(PropertyId::kTopicAliasMaximum, aliases);
    if (maximumPacket > 0) packet.properties.add(PropertyId::kMaximumPacketSize, maximumPacket);
    connect(std::move(packet));
    most = aliases;
    known.clear();
  }
  /// What comes of one delivery: whether the name was in it, the alias, and the name it means.
  struct Seen {
    bool named = false;
    uint32_t alias = 0;
    std::string topic;
  };
  Seen seen(const PublishPacket& packet) {
    Seen out{!packet.topic.empty(), packet.properties.number(PropertyId::kTopicAlias).value_or(0),
             std::string(packet.topic)};
    EXPECT_LE(out.alias, most);
    if (out.named && out.alias > 0) known[out.alias] = out.topic;
    if (!out.named) {
      EXPECT_TRUE(known.contains(out.alias)) << "an alias that it was never told";
      out.topic = known[out.alias];
    }
    return out;
  }
  Seen deliver(const std::string& topic, const std::string& payload = "x") {
    broker().deliver(topic, {}, payload, kQos0);
    run();
    Seen out = seen(next<PublishPacket>());
    EXPECT_EQ(out.topic, topic);
    return out;
  }

  uint32_t most = 0;
  std::map<uint32_t, std::string> known;
};

TEST(OutboundAliases, NamedOnceThenByItsAlias) {
  World world;
  AliasingClient client(world);
  client.connectTaking(10);
  for (int round = 0; round < 3; ++round) {
    for (uint32_t each = 0; each < 4; ++each) {
      const auto seen = client.deliver("some-topic-" + std::to_string(each));
      EXPECT_EQ(seen.named, round == 0);
      EXPECT_EQ(seen.alias, each + 1);
    }
  }
}

TEST(OutboundAliases, NoneForWhoTakesNoneAndNamesThatTheyDontShorten) {
  for (Version version : {Version::k311, Version::k5}) {
    World world;
    AliasingClient client(world, version);
    client.connectTaking(0);
    for (int round = 0; round < 2; ++round) EXPECT_EQ(client.deliver("some-topic").alias, 0U);
  }
  World world;
  AliasingClient client(world);
  client.connectTaking(10);
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(client.deliver("seven-7").alias, 0U);
    EXPECT_EQ(client.deliver(std::string(kMaxAliasedName + 1, 'a')).alias, 0U);
    EXPECT_EQ(client.deliver("eight--8").alias, 1U);
  }
}

TEST(OutboundAliases, NoMoreThanTheClientTakesOrTheConfigurationSays) {
  for (auto [takes, option] : {std::pair{3, 32}, {1000, 3}, {65'535, 0}}) {
    World world;
    world.options.outboundTopicAliases = static_cast<uint16_t>(option);
    AliasingClient client(world);
    client.connectTaking(static_cast<uint32_t>(takes));
    std::set<uint32_t> used;
    for (int each = 0; each < 100; ++each) {
      used.insert(client.deliver("some-topic-" + std::to_string(each)).alias);
    }
    used.erase(0);
    EXPECT_EQ(used.size(), static_cast<size_t>(std::min(takes, option)));
  }
}

TEST(OutboundAliases, NamesThatComeAgainKeepTheirs) {
  World world;
  AliasingClient client(world);
  client.connectTaking(4);
  int named = 0;
  for (int each = 0; each < 200; ++each) {
    for (const char* again : {"again-and-again-1", "again-and-again-2"}) {
      named += client.deliver(again).named ? 1 : 0;
    }
    client.deliver("only-once-" + std::to_string(each));
  }
  EXPECT_EQ(named, 2);
  // And one that begins to come again gets one in time.
  int withName = 0;
  for (int each = 0; each < 40; ++each) withName += client.deliver("a-newcomer").named ? 1 : 0;
  EXPECT_LE(withName, 8);
}

TEST(OutboundAliases, WhatIsTooLargeTellsNothing) {
  World world;
  AliasingClient client(world);
  const std::string topic = "some-topic";
  client.connectTaking(10, 128);
  client.broker().deliver(topic, {}, std::string(200, 'x'), kQos1);
  client.run();
  EXPECT_TRUE(client.packets().empty());
  EXPECT_TRUE(client.deliver(topic).named);
  EXPECT_FALSE(client.deliver(topic).named);
}

TEST(OutboundAliases, ThePacketIsNoLargerThanTheClientTakes) {
  const std::string topic = "some-topic";
  // As large as it may be: with the name and nothing else; then with an alias beside it.
  const size_t bare = 2 + 2 + topic.size() + 1;
  for (size_t payload = 128 - bare - 8; payload <= 128 - bare; ++payload) {
    World world;
    AliasingClient client(world);
    client.connectTaking(10, 128);
    client.broker().deliver(topic, {}, std::string(payload, 'x'), kQos0);
    client.run();
    const std::string octets = client.transport.takeSent();
    ASSERT_FALSE(octets.empty()) << payload;
    EXPECT_LE(octets.size(), 128U);
    Decoded decoded = client.decoder.next(octets);
    const auto seen = client.seen(std::get<PublishPacket>(std::get<DecodedPacket>(decoded).packet));
    EXPECT_EQ(seen.topic, topic);
    EXPECT_EQ(seen.alias > 0, payload + bare + kAliasBytes <= 128) << payload;
  }
}

TEST(OutboundAliases, TheyEndWithTheConnection) {
  World world;
  {
    AliasingClient client(world);
    client.connectTaking(10, 0, false);
    client.broker().deliver("some-topic", {}, "1", kQos1);
    client.broker().deliver("some-topic", {}, "2", kQos1);
    client.run();
    auto got = client.all<PublishPacket>();
    ASSERT_EQ(got.size(), 2U);
    EXPECT_TRUE(client.seen(got[0]).named);
    EXPECT_FALSE(client.seen(got[1]).named);
  }
  AliasingClient client(world);
  ConnectPacket packet;
  packet.clientId = "c1";
  packet.cleanStart = false;
  packet.properties.add(PropertyId::kTopicAliasMaximum, client.most = 1);
  client.sendAndRun(packet);
  const auto came = client.packets();
  ASSERT_EQ(came.size(), 3U) << "CONNACK, and both again";
  for (size_t each : {1U, 2U}) {
    const auto seen = client.seen(std::get<PublishPacket>(came[each]));
    EXPECT_EQ(seen.topic, "some-topic");
    EXPECT_EQ(seen.named, each == 1);
  }
}

TEST(OutboundAliases, NoneAtQos2) {
  World world;
  AliasingClient client(world);
  client.connectTaking(10);
  for (int round = 0; round < 3; ++round) {
    client.broker().deliver("some-topic", {}, "x", DeliveryGuarantee::kExactlyOnce);
    client.run();
    EXPECT_EQ(client.seen(client.next<PublishPacket>()).alias, 0U);
  }
}

TEST(OutboundAliases, OfTheNameThatTheClientKnows) {
  World world;
  world.options.mountPoint = "of/%c/";
  AliasingClient client(world);
  client.connectTaking(10);
  for (int round = 0; round < 3; ++round) {
    client.broker().deliver("of", "c1/some-topic", "x", kQos0);
    client.run();
    const auto seen = client.seen(client.next<PublishPacket>());
    EXPECT_EQ(seen.topic, "some-topic");
    EXPECT_EQ(seen.named, round == 0);
  }
}

TEST(OutboundAliases, EachConnectionHasItsOwn) {
  World world;
  AliasingClient one(world);
  one.connectTaking(10);
  Client two(world);
  two.connect("c2");
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(one.deliver("some-topic").named, round == 0);
    two.broker("c2").deliver("some-topic", {}, "x", kQos0);
    two.run();
    EXPECT_EQ(two.next<PublishPacket>().topic, "some-topic");
  }
}

}  // namespace
}  // namespace polylog::mqtt::test
