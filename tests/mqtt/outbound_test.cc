#include "codecs/mqtt/outbound.h"

#include <gtest/gtest.h>

#include <map>

#include "codecs/mqtt/limits.h"
#include "tests/mqtt/harness.h"

namespace polylog::mqtt::test {
namespace {

using polylog::test::makeRouted;

constexpr auto k3 = Version::k311;
constexpr auto kQos0 = DeliveryGuarantee::kAtMostOnce;
constexpr auto kQos1 = DeliveryGuarantee::kAtLeastOnce;
constexpr auto kQos2 = DeliveryGuarantee::kExactlyOnce;

ConnectPacket connectWith(PropertyId id, uint32_t value, bool clean = true) {
  ConnectPacket packet;
  packet.clientId = "c1";
  packet.cleanStart = clean;
  packet.properties.add(id, value);
  return packet;
}

TEST(Outbound, ByItselfAtEachQos) {
  for (Version version : {Version::k311, Version::k5}) {
    World world;
    Client client(world, version);
    client.connect();
    client.broker().deliver("a", "b/c", "0", kQos0);
    client.broker().deliver("a", {}, "1", kQos1);
    client.broker().deliver("a", "", "2", kQos2);
    client.run();
    auto got = client.all<PublishPacket>();
    ASSERT_EQ(got.size(), 3U);
    EXPECT_EQ(got[0].topic, "a/b/c");
    EXPECT_EQ(got[0].qos, 0);
    EXPECT_EQ(got[0].payload, "0");
    EXPECT_EQ(got[1].topic, "a");
    EXPECT_EQ(got[1].qos, 1);
    EXPECT_EQ(got[1].packetId, 1);
    EXPECT_EQ(got[2].topic, "a/");
    EXPECT_EQ(got[2].qos, 2);
    EXPECT_EQ(got[2].packetId, 2);
    for (const auto& each : got) EXPECT_FALSE(each.dup || each.retain);
  }
}

TEST(Outbound, ReplayedOnesSayWhereTheyStand) {
  for (Version version : {Version::k311, Version::k5}) {
    World world;
    Client client(world, version);
    client.connect();
    Delivery delivery;
    delivery.record = makeRouted("a", "b", "0");
    delivery.place = LogPlace{2, 4'000'000'000};
    client.broker().deliver(std::move(delivery));
    client.run();
    auto got = client.all<PublishPacket>();
    ASSERT_EQ(got.size(), 1U);
    std::map<std::string, std::string> seen;
    for (const Property& property : got[0].properties.items()) {
      if (property.id == PropertyId::kUserProperty) {
        seen.emplace(property.text, property.value);
      }
    }
    if (version == Version::k311) {
      EXPECT_TRUE(seen.empty());
    } else {
      EXPECT_EQ(seen["polylog-partition"], "2");
      EXPECT_EQ(seen["polylog-offset"], "4000000000");
      EXPECT_EQ(seen.count("polylog-time"), 1U);
    }
  }
}

TEST(Outbound, WhatWaitedComesWithTheConnack) {
  World world;
  {
    Client first(world);
    first.connect("c1", false, 100);
  }
  world.broker.sessions.at("c1")->deliver("a", {}, "x", kQos1);
  Client second(world);
  ConnectPacket connect;
  connect.clientId = "c1";
  connect.cleanStart = false;
  connect.properties.add(PropertyId::kSessionExpiry, 100);
  second.sendAndRun(connect);
  auto packets = second.packets();
  ASSERT_EQ(packets.size(), 2U);
  EXPECT_TRUE(std::get<ConnackPacket>(packets[0]).sessionPresent);
  EXPECT_EQ(std::get<PublishPacket>(packets[1]).payload, "x");
}

TEST(Outbound, PropertiesComeBack) {
  World world;
  Client client(world);
  client.connect();
  const int64_t expiry = world.clock.wallMillis() + 7'000;
  Delivery delivery;
  delivery.record = makeRouted(
      "a", {}, "x",
      {{"content-type", "text/plain"}, {"expiry", std::to_string(expiry)}, {"k", "1"}, {"k", "2"}});
  delivery.guarantee = kQos0;
  delivery.retain = true;
  delivery.subscriptionIds = {3, 300};
  client.broker().deliver(delivery);
  world.clock.advance(2'000'000);
  client.run();
  PublishPacket got = client.next<PublishPacket>();
  EXPECT_TRUE(got.retain);
  EXPECT_EQ(got.properties.text(PropertyId::kContentType), "text/plain");
  EXPECT_EQ(got.properties.number(PropertyId::kMessageExpiry), 5U);
  std::vector<uint32_t> ids;
  std::vector<BytesView> values;
  for (const Property& item : got.properties.items()) {
    if (item.id == PropertyId::kSubscriptionId) ids.push_back(item.number);
    if (item.id == PropertyId::kUserProperty) values.push_back(item.value);
  }
  EXPECT_EQ(ids, (std::vector<uint32_t>{3, 300}));
  EXPECT_EQ(values, (std::vector<BytesView>{"1", "2"}));
}

TEST(Outbound, ExpiredIsDroppedAndAcknowledged) {
  for (Version version : {Version::k311, Version::k5}) {
    World world;
    Client client(world, version);
    client.connect();
    client.broker().deliver("a", {}, "x", kQos1,
                            {{"expiry", std::to_string(world.clock.wallMillis() - 1)}});
    client.broker().deliver("a", {}, "y", kQos1);
    client.run();
    EXPECT_EQ(client.next<PublishPacket>().payload, "y");
    EXPECT_TRUE(client.broker().acknowledged.contains(0));
  }
}

TEST(Outbound, WhatTheClientCannotTakeIsDroppedAndAcknowledged) {
  World world;
  Client client(world);
  client.connect(connectWith(PropertyId::kMaximumPacketSize, 100));
  client.broker().deliver("a", {}, std::string(200, 'x'), kQos1);
  client.broker().deliver("a", {}, std::string(200, 'x'), kQos0);
  client.broker().deliver("a", {}, std::string(92, 'y'), kQos1);  // 100 octets in all
  client.broker().deliver("a", {}, std::string(93, 'z'), kQos1);
  client.run();
  EXPECT_TRUE(client.next<PublishPacket>().payload.starts_with("yy"));
  EXPECT_EQ(client.broker().acknowledged, (std::set<int64_t>{0, 2}));
}

TEST(Outbound, LargePayloadsGoByReference) {
  World world;
  Client client(world);
  client.connect();
  const std::string large(kByReferenceBytes, 'L');
  client.broker().deliver("a", {}, "small", kQos0);
  client.broker().deliver("a", {}, large, kQos0);
  client.broker().deliver("a", {}, "after", kQos0);
  client.run();
  EXPECT_EQ(client.transport.sentByReference, 1U);
  auto got = client.all<PublishPacket>();
  ASSERT_EQ(got.size(), 3U);
  EXPECT_EQ(got[1].payload, large);
  EXPECT_EQ(got[2].payload, "after");
}

TEST(Outbound, WindowOfTheClient) {
  World world;
  Client client(world);
  client.connect(connectWith(PropertyId::kReceiveMaximum, 2));
  for (int i = 0; i < 5; ++i) client.broker().deliver("a", {}, std::to_string(i), kQos1);
  client.run();
  EXPECT_EQ(client.all<PublishPacket>().size(), 2U);
  client.sendAndRun(ackOf(PacketType::kPuback, 2));
  EXPECT_EQ(client.next<PublishPacket>().packetId, 3) << "whatever the first one's fate";
  client.sendAndRun(ackOf(PacketType::kPuback, 1));
  EXPECT_EQ(client.next<PublishPacket>().packetId, 4);
  client.feed(client.encoded(ackOf(PacketType::kPuback, 3)) +
              client.encoded(ackOf(PacketType::kPuback, 4)));
  client.run();
  EXPECT_EQ(client.all<PublishPacket>().size(), 1U);
  EXPECT_EQ(client.broker().acknowledged.size(), 4U);
}

TEST(Outbound, WindowOfOurs) {
  World world;
  world.options.maxInflight = 3;
  Client client(world, k3);
  client.connect();
  for (int i = 0; i < 10; ++i) client.broker().deliver("a", {}, std::to_string(i), kQos1);
  client.run();
  EXPECT_EQ(client.all<PublishPacket>().size(), 3U);
}

TEST(Outbound, WhatIsDroppedDoesNotHoldUpTheRest) {
  World world;
  Client client(world);
  client.connect(connectWith(PropertyId::kReceiveMaximum, 2));
  const std::string past = std::to_string(world.clock.wallMillis() - 1);
  for (int i = 0; i < 5; ++i) client.broker().deliver("a", {}, "old", kQos1, {{"expiry", past}});
  for (int i = 0; i < 3; ++i) client.broker().deliver("a", {}, std::to_string(i), kQos1);
  client.run();
  auto got = client.all<PublishPacket>();
  ASSERT_EQ(got.size(), 2U) << "as many as the window admits, though all before were dropped";
  EXPECT_EQ(got[0].payload, "0");
  EXPECT_EQ(got[1].payload, "1");
}

TEST(Outbound, AtMostOnceIsNotHeldUpByTheWindow) {
  World world;
  Client client(world);
  client.connect(connectWith(PropertyId::kReceiveMaximum, 1));
  client.broker().deliver("a", {}, "1", kQos1);
  for (int i = 0; i < 200; ++i) client.broker().deliver("a", {}, "0", kQos0);
  client.run();
  EXPECT_EQ(client.all<PublishPacket>().size(), 201U);
}

TEST(Outbound, PacketIdsWrapWithoutMeeting) {
  World world;
  Client client(world);
  client.connect();
  client.broker().nextId = kOwnPacketIds - 2;
  for (int i = 0; i < 4; ++i) client.broker().deliver("a", {}, "x", kQos1);
  client.run();
  std::vector<uint16_t> ids;
  for (const auto& packet : client.all<PublishPacket>()) ids.push_back(packet.packetId);
  EXPECT_EQ(ids, (std::vector<uint16_t>{49150, 49151, 1, 2}));
  for (uint16_t id : ids) client.sendAndRun(ackOf(PacketType::kPuback, id));
  EXPECT_EQ(client.broker().acknowledged.size(), 4U);
}

Delivery sharedDelivery(FakeSession& session, std::string value, DeliveryGuarantee guarantee) {
  Delivery delivery;
  delivery.record = makeRouted("a", {}, std::move(value), {});
  delivery.guarantee = guarantee;
  delivery.id = session.nextSharedId++;
  return delivery;
}

TEST(Outbound, SharedDeliveriesHavePacketIdsOfTheirOwn) {
  World world;
  Client client(world);
  client.connect();
  FakeSession& broker = client.broker();
  broker.deliver("a", {}, "own", kQos1);
  broker.deliver(sharedDelivery(broker, "1", kQos1));
  broker.deliver(sharedDelivery(broker, "2", kQos2));
  client.run();
  std::map<std::string, uint16_t> ids;
  for (const auto& packet : client.all<PublishPacket>()) {
    ids[std::string(packet.payload)] = packet.packetId;
  }
  EXPECT_EQ(ids, (std::map<std::string, uint16_t>{{"own", 1}, {"1", 49152}, {"2", 49153}}));
  client.sendAndRun(ackOf(PacketType::kPuback, 49152));
  EXPECT_TRUE(broker.acknowledged.contains(kSharedIds));
  client.sendAndRun(ackOf(PacketType::kPubrec, 49153));
  EXPECT_EQ(client.next<AckPacket>().packetId, 49153);
  EXPECT_TRUE(broker.accepted.contains(kSharedIds + 1));
  client.sendAndRun(ackOf(PacketType::kPubcomp, 49153));
  EXPECT_TRUE(broker.acknowledged.contains(kSharedIds + 1));
  EXPECT_FALSE(broker.acknowledged.contains(0));
}

/// [MQTT-3.3.4-7]: whatever a delivery comes from.
TEST(Outbound, OneWindowForAll) {
  World world;
  Client client(world);
  client.connect(connectWith(PropertyId::kReceiveMaximum, 4));
  FakeSession& broker = client.broker();
  for (int i = 0; i < 20; ++i) {
    broker.deliver("a", {}, "own", kQos1);
    broker.deliver(sharedDelivery(broker, "shared", kQos1));
  }
  client.run();
  std::vector<uint16_t> waiting;
  std::map<std::string, int> came;
  auto collect = [&] {
    for (const auto& packet : client.all<PublishPacket>()) {
      waiting.push_back(packet.packetId);
      ++came[std::string(packet.payload)];
    }
  };
  for (collect(); !waiting.empty(); collect()) {
    ASSERT_LE(waiting.size(), 4U);
    client.sendAndRun(ackOf(PacketType::kPuback, waiting.front()));
    waiting.erase(waiting.begin());
    if (came["own"] + came["shared"] == 30) {
      EXPECT_GT(came["own"], 5) << "neither starves";
      EXPECT_GT(came["shared"], 5);
    }
  }
  EXPECT_EQ(came, (std::map<std::string, int>{{"own", 20}, {"shared", 20}}));
}

TEST(Outbound, ExactlyOnceFlow) {
  for (Version version : {Version::k311, Version::k5}) {
    World world;
    Client client(world, version);
    client.connect();
    client.broker().deliver("a", {}, "x", kQos2);
    client.run();
    EXPECT_EQ(client.next<PublishPacket>().qos, 2);
    world.broker.holdAnswers = true;
    client.sendAndRun(ackOf(PacketType::kPubrec, 1));
    EXPECT_EQ(client.transport.sent, "") << "PUBREL waits until the acceptance is durable";
    client.sendAndRun(ackOf(PacketType::kPubrec, 1));
    EXPECT_EQ(client.transport.sent, "");
    world.broker.holdAnswers = false;
    world.broker.answerAll();
    AckPacket release = client.next<AckPacket>();
    EXPECT_EQ(release.type, PacketType::kPubrel);
    EXPECT_EQ(release.packetId, 1);
    client.sendAndRun(ackOf(PacketType::kPubrec, 1));
    EXPECT_EQ(client.next<AckPacket>().type, PacketType::kPubrel);
    EXPECT_TRUE(client.broker().acknowledged.empty());
    client.sendAndRun(ackOf(PacketType::kPubcomp, 1));
    EXPECT_TRUE(client.broker().acknowledged.contains(0));
    client.sendAndRun(ackOf(PacketType::kPubcomp, 1));  // late repeats do no harm
    EXPECT_FALSE(client.transport.closed);
  }
}

TEST(Outbound, ClientThatRefusesAPublish) {
  World world;
  Client client(world);
  client.connect();
  client.broker().deliver("a", {}, "x", kQos2);
  client.broker().deliver("a", {}, "y", kQos1);
  client.run();
  client.packets();
  client.sendAndRun(ackOf(PacketType::kPubrec, 1, ReasonCode::kQuotaExceeded));
  client.sendAndRun(ackOf(PacketType::kPuback, 2, ReasonCode::kUnspecifiedError));
  EXPECT_EQ(client.transport.sent, "");
  EXPECT_EQ(client.broker().acknowledged, (std::set<int64_t>{0, 1}));
}

TEST(Outbound, AcknowledgementsOfTheWrongKind) {
  struct Case {
    DeliveryGuarantee guarantee;
    PacketType ack;
  };
  for (const Case& each : {Case{kQos2, PacketType::kPuback}, Case{kQos1, PacketType::kPubrec},
                           Case{kQos1, PacketType::kPubcomp}, Case{kQos2, PacketType::kPubcomp}}) {
    World world;
    Client client(world);
    client.connect();
    client.broker().deliver("a", {}, "x", each.guarantee);
    client.run();
    client.packets();
    client.sendAndRun(ackOf(each.ack, 1));
    client.expectClosed(ReasonCode::kProtocolError);
  }
}

TEST(Outbound, AcknowledgementsOfNothing) {
  World world;
  Client client(world);
  client.connect();
  client.sendAndRun(ackOf(PacketType::kPuback, 9));
  client.sendAndRun(ackOf(PacketType::kPubcomp, 9));
  client.sendAndRun(ackOf(PacketType::kPubrec, 9, ReasonCode::kUnspecifiedError));
  EXPECT_EQ(client.transport.sent, "");
  client.sendAndRun(ackOf(PacketType::kPubrec, 9));
  EXPECT_EQ(client.next<AckPacket>().code, ReasonCode::kPacketIdNotFound);
}

TEST(Outbound, ResumedSessionRepeatsAndReleases) {
  World world;
  {
    Client first(world);
    first.connect("c1", false, 100);
    first.broker().deliver("a", {}, "0", kQos1);
    first.broker().deliver("a", {}, "1", kQos2);
    first.broker().deliver("a", {}, "2", kQos2);
    first.run();
    first.sendAndRun(ackOf(PacketType::kPubrec, 2));
  }
  Client second(world);
  second.sendAndRun([] {
    ConnectPacket packet = connectWith(PropertyId::kSessionExpiry, 100, false);
    return packet;
  }());
  auto packets = second.packets();
  ASSERT_EQ(packets.size(), 4U);
  EXPECT_TRUE(std::get<PublishPacket>(packets[1]).dup);
  EXPECT_EQ(std::get<PublishPacket>(packets[1]).packetId, 1);
  EXPECT_EQ(std::get<AckPacket>(packets[2]).type, PacketType::kPubrel);
  EXPECT_EQ(std::get<AckPacket>(packets[2]).packetId, 2);
  EXPECT_TRUE(std::get<PublishPacket>(packets[3]).dup);
  EXPECT_EQ(std::get<PublishPacket>(packets[3]).packetId, 3);
  second.sendAndRun(ackOf(PacketType::kPubcomp, 2));
  second.sendAndRun(ackOf(PacketType::kPuback, 1));
  EXPECT_EQ(second.broker().acknowledged, (std::set<int64_t>{0, 1}));
}

TEST(Outbound, ExactlyOnceThatHasBegunDoesNotExpire) {
  for (Version version : {Version::k311, Version::k5}) {
    World world;
    auto kept = [version] {
      ConnectPacket packet;
      packet.clientId = "c1";
      packet.cleanStart = false;
      if (version == Version::k5) packet.properties.add(PropertyId::kSessionExpiry, 100);
      return packet;
    };
    const std::string expiry = std::to_string(world.clock.wallMillis() + 1'000);
    {
      Client first(world, version);
      first.connect(kept());
      first.broker().deliver("a", {}, "1", kQos1, {{"expiry", expiry}, {"k", "v"}});
      first.broker().deliver("a", {}, "2", kQos2, {{"expiry", expiry}, {"k", "v"}});
      first.run();
      EXPECT_EQ(first.all<PublishPacket>().size(), 2U);
    }
    world.clock.advance(2'000'000);
    Client second(world, version);
    second.sendAndRun(kept());
    auto packets = second.packets();
    ASSERT_EQ(packets.size(), 2U);
    const auto& again = std::get<PublishPacket>(packets[1]);
    EXPECT_EQ(again.payload, "2");
    EXPECT_EQ(again.packetId, 2);
    EXPECT_TRUE(again.dup);
    if (version == Version::k311) continue;
    EXPECT_EQ(again.properties.number(PropertyId::kMessageExpiry), 0U);
    EXPECT_TRUE(again.properties.has(PropertyId::kUserProperty));
  }
}

TEST(Outbound, StopsWhileTheTransportIsCongested) {
  World world;
  Client client(world);
  client.connect();
  client.transport.congestedAt = 10'000;
  for (int i = 0; i < 1000; ++i) client.broker().deliver("a", {}, std::string(1000, 'x'), kQos0);
  client.run();
  EXPECT_LT(client.transport.sent.size(), 100'000U);
  EXPECT_GT(client.broker().waiting(), 900U);
  size_t got = 0;
  for (int round = 0; round < 100; ++round) {
    got += client.all<PublishPacket>().size();
    client.session->onDrained();
    client.run();
  }
  EXPECT_EQ(got, 1000U);
}

TEST(Outbound, NamesThatMqttCannotExpress) {
  World world;
  Client client(world);
  client.connect();
  client.broker().deliver("kafka", "a+b", "1", kQos1);
  client.broker().deliver("kafka", std::string(65535, 'k'), "2", kQos1);
  client.broker().deliver("kafka", "c", "3", kQos1);
  client.run();
  auto got = client.all<PublishPacket>();
  ASSERT_EQ(got.size(), 2U);
  EXPECT_TRUE(got[0].topic.starts_with("kafka/enc--"));
  EXPECT_EQ(got[1].payload, "3");
  EXPECT_TRUE(client.broker().acknowledged.contains(1));
}

TEST(Outbound, FailureToStoreAnAcceptanceEndsTheConnection) {
  World world;
  Client client(world);
  client.connect();
  client.broker().deliver("a", {}, "x", kQos2);
  client.run();
  client.packets();
  world.broker.sessionError = Error{ErrorKind::kIo, "disk"};
  client.sendAndRun(ackOf(PacketType::kPubrec, 1));
  client.expectClosed(ReasonCode::kUnspecifiedError);
}

}  // namespace
}  // namespace polylog::mqtt::test
