#include "codecs/mqtt/inbound.h"

#include <gtest/gtest.h>

#include "codecs/mqtt/limits.h"
#include "mapping/partition.h"
#include "tests/mqtt/harness.h"

namespace polylog::mqtt::test {
namespace {

using polylog::test::PublishedRecord;

constexpr auto k3 = Version::k311;

TEST(Inbound, OneRoundOfInputIsOnePublishCall) {
  World world;
  Client client(world);
  client.connect();
  std::string input;
  for (uint16_t i = 1; i <= 10; ++i) {
    input += client.encoded(publishOf("a/b", std::to_string(i), static_cast<uint8_t>(i % 3),
                                      i % 3 > 0 ? i : uint16_t{0}));
  }
  client.feed(input);
  ASSERT_EQ(world.broker.batches, std::vector<size_t>{10});
  EXPECT_EQ(world.broker.published[9].value, "10");
  EXPECT_EQ(world.broker.published[9].address, "a/b");
  EXPECT_EQ(world.broker.published[9].key, "b");
  client.run();
  // In the order of the publishes, each in its kind.
  std::vector<std::pair<PacketType, uint16_t>> answers;
  for (const AckPacket& ack : client.all<AckPacket>()) answers.emplace_back(ack.type, ack.packetId);
  using T = PacketType;
  EXPECT_EQ(answers, (std::vector<std::pair<T, uint16_t>>{{T::kPuback, 1},
                                                          {T::kPubrec, 2},
                                                          {T::kPuback, 4},
                                                          {T::kPubrec, 5},
                                                          {T::kPuback, 7},
                                                          {T::kPubrec, 8},
                                                          {T::kPuback, 10}}));
}

TEST(Inbound, RecordsBearWhatThePacketSaid) {
  World world;
  Client client(world);
  client.connect();
  PublishPacket packet = publishOf("sensors/kitchen/temp", "21", 1, 7);
  packet.retain = true;
  packet.properties.add(PropertyId::kContentType, "text/plain");
  packet.properties.add(PropertyId::kCorrelationData, BytesView("\0\xff", 2));
  packet.properties.add(PropertyId::kResponseTopic, "answers/1");
  packet.properties.add(PropertyId::kMessageExpiry, 10);
  packet.properties.add(PropertyId::kUserProperty, "k", "1");
  packet.properties.add(PropertyId::kUserProperty, "k", "2");
  client.sendAndRun(packet);
  ASSERT_EQ(world.broker.published.size(), 1U);
  const auto& record = world.broker.published[0];
  EXPECT_EQ(record.topic, "sensors");
  EXPECT_EQ(record.key, "kitchen/temp");
  EXPECT_EQ(record.value, "21");
  EXPECT_TRUE(record.retain);
  EXPECT_EQ(record.guarantee, DeliveryGuarantee::kAtLeastOnce);
  EXPECT_EQ(record.partitionHash, mapping::partitionHash(BytesView("kitchen/temp"), {}));
  ASSERT_NE(record.header("content-type"), nullptr);
  EXPECT_EQ(*record.header("content-type"), "text/plain");
  EXPECT_EQ(*record.header("expiry"), std::to_string(world.clock.wallMillis() + 10'000));
  EXPECT_EQ(record.headers.size(), 6U);
}

TEST(Inbound, PayloadsEmptyAndClearing) {
  World world;
  Client client(world);
  client.connect();
  client.send(publishOf("a", ""));
  PublishPacket clearing = publishOf("a", "");
  clearing.retain = true;
  client.send(clearing);
  ASSERT_EQ(world.broker.published.size(), 2U);
  EXPECT_EQ(world.broker.published[0].value, "");
  EXPECT_EQ(world.broker.published[1].value, std::nullopt);
}

TEST(Inbound, WithoutAKeyThePublisherDecidesThePartition) {
  World world;
  Client client(world);
  client.connect("dev-7");
  client.send(publishOf("a", "x"));
  EXPECT_EQ(world.broker.published.at(0).key, std::nullopt);
  EXPECT_EQ(world.broker.published.at(0).partitionHash,
            mapping::partitionHash(std::nullopt, "dev-7"));
}

TEST(Inbound, RulesSendElsewhere) {
  World world;
  const std::string rules[] = {"factory/+/temp -> topic temps, key {1}", "live/# -> ephemeral"};
  world.options.rules = *mapping::Rules::parse(rules);
  Client client(world);
  client.connect();
  client.feed(client.encoded(publishOf("factory/7/temp", "1")) +
              client.encoded(publishOf("live/x", "2")) + client.encoded(publishOf("o/x", "3")));
  ASSERT_EQ(world.broker.published.size(), 3U);
  EXPECT_EQ(world.broker.published[0].topic, "temps");
  EXPECT_EQ(world.broker.published[0].key, "7");
  EXPECT_EQ(world.broker.published[0].address, "factory/7/temp");
  EXPECT_TRUE(world.broker.published[1].ephemeral);
  EXPECT_EQ(world.broker.published[2].topic, "o");
}

TEST(Inbound, MarkedNamesAreDecodedEachOnItsOwn) {
  World world;
  Client client(world);
  client.connect();
  // base64url of "x y" and "q?z" in one batch: neither may overwrite the other.
  client.feed(client.encoded(publishOf("enc--eCt5/k", "1")) +
              client.encoded(publishOf("enc--cSN6/k", "2")));
  ASSERT_EQ(world.broker.published.size(), 2U);
  EXPECT_EQ(world.broker.published[0].topic, "x+y");
  EXPECT_EQ(world.broker.published[1].topic, "q#z");
}

TEST(Inbound, NoMatchingSubscribers) {
  for (Version version : {Version::k311, Version::k5}) {
    World world;
    world.broker.judge = [](const auto&) { return PublishResult{}; };
    Client client(world, version);
    client.connect();
    client.sendAndRun(publishOf("a", "1", 1, 1));
    EXPECT_EQ(client.next<AckPacket>().code,
              version == Version::k5 ? ReasonCode::kNoMatchingSubscribers : ReasonCode::kSuccess);
    client.sendAndRun(publishOf("a", "1", 2, 2));
    EXPECT_EQ(client.next<AckPacket>().type, PacketType::kPubrec);
    client.sendAndRun(ackOf(PacketType::kPubrel, 2));
    EXPECT_EQ(client.next<AckPacket>().type, PacketType::kPubcomp);
  }
}

TEST(Inbound, AnswersWaitForTheBrokerAndKeepTheirOrder) {
  World world;
  Client client(world);
  client.connect();
  world.broker.holdAnswers = true;
  client.send(publishOf("a", "1", 1, 1));
  client.send(publishOf("a", "2", 1, 2));
  client.run();
  EXPECT_EQ(client.transport.sent, "");
  world.broker.answerLast();
  client.run();
  EXPECT_EQ(client.transport.sent, "") << "2 must not be answered before 1";
  world.broker.answerAll();
  auto acks = client.all<AckPacket>();
  ASSERT_EQ(acks.size(), 2U);
  EXPECT_EQ(acks[0].packetId, 1);
  EXPECT_EQ(acks[1].packetId, 2);
}

TEST(Inbound, AnswersAfterTheConnectionHasGone) {
  World world;
  Client client(world);
  client.connect();
  world.broker.holdAnswers = true;
  client.send(publishOf("a", "1", 2, 1));
  client.send(publishOf("a", "1", 1, 2));
  client.drop("reset");
  world.broker.answerAll();
  EXPECT_EQ(world.broker.published.size(), 2U);
}

TEST(Inbound, ExactlyOnceFlow) {
  for (Version version : {Version::k311, Version::k5}) {
    World world;
    Client client(world, version);
    client.connect("c1", false, 100);
    client.sendAndRun(publishOf("a", "1", 2, 5));
    EXPECT_EQ(client.next<AckPacket>().type, PacketType::kPubrec);
    EXPECT_EQ(world.broker.published.at(0).exactlyOnceId, 5);
    // A repeat is answered and not published.
    PublishPacket again = publishOf("a", "1", 2, 5);
    again.dup = true;
    client.sendAndRun(again);
    EXPECT_EQ(client.next<AckPacket>().type, PacketType::kPubrec);
    EXPECT_EQ(world.broker.published.size(), 1U);

    world.broker.holdAnswers = true;
    client.sendAndRun(ackOf(PacketType::kPubrel, 5));
    EXPECT_EQ(client.transport.sent, "") << "PUBCOMP waits until the release is durable";
    client.sendAndRun(ackOf(PacketType::kPubrel, 5));
    world.broker.holdAnswers = false;
    world.broker.answerAll();
    EXPECT_EQ(client.next<AckPacket>().type, PacketType::kPubcomp);
    EXPECT_TRUE(client.broker().held.empty());
    // The identifier is free for another.
    client.sendAndRun(publishOf("a", "2", 2, 5));
    EXPECT_EQ(world.broker.published.size(), 2U);
  }
}

TEST(Inbound, RepeatBeforeTheOriginalIsThrough) {
  World world;
  Client client(world, k3);
  client.connect();
  world.broker.holdAnswers = true;
  PublishPacket packet = publishOf("a", "1", 2, 5);
  client.send(packet);
  packet.dup = true;
  client.send(packet);
  client.run();
  EXPECT_EQ(client.transport.sent, "");
  world.broker.answerAll();
  EXPECT_EQ(client.all<AckPacket>().size(), 2U);
  EXPECT_EQ(world.broker.published.size(), 1U);
}

TEST(Inbound, RepeatOfWhatFailedIsNotClaimedToHaveSucceeded) {
  World world;
  world.broker.judge = [](const auto&) {
    return PublishResult{Error{ErrorKind::kNoSpace, "full"}, false};
  };
  Client client(world);
  client.connect();
  PublishPacket packet = publishOf("a", "1", 2, 5);
  PublishPacket again = packet;
  again.dup = true;
  client.feed(client.encoded(packet) + client.encoded(again));
  client.run();
  AckPacket ack = client.next<AckPacket>();
  EXPECT_EQ(ack.type, PacketType::kPubrec);
  EXPECT_EQ(ack.code, ReasonCode::kQuotaExceeded);
  // The identifier is free again.
  world.broker.judge = nullptr;
  client.sendAndRun(packet);
  EXPECT_EQ(client.next<AckPacket>().code, ReasonCode::kSuccess);
}

TEST(Inbound, HeldIdsSurviveTheConnection) {
  World world;
  {
    Client first(world);
    first.connect("c1", false, 100);
    first.sendAndRun(publishOf("a", "1", 2, 5));
  }
  Client second(world);
  second.connect("c1", false, 100);
  PublishPacket again = publishOf("a", "1", 2, 5);
  again.dup = true;
  second.sendAndRun(again);
  EXPECT_EQ(second.next<AckPacket>().type, PacketType::kPubrec);
  EXPECT_EQ(world.broker.published.size(), 1U);
  second.sendAndRun(ackOf(PacketType::kPubrel, 5));
  EXPECT_EQ(second.next<AckPacket>().code, ReasonCode::kSuccess);
  second.sendAndRun(ackOf(PacketType::kPubrel, 5));
  EXPECT_EQ(second.next<AckPacket>().code, ReasonCode::kPacketIdNotFound);
}

TEST(Inbound, IdOfAHeldPublishIsInUse) {
  World world;
  Client client(world);
  client.connect();
  client.sendAndRun(publishOf("a", "1", 2, 5));
  client.packets();
  client.sendAndRun(publishOf("a", "2", 1, 5));
  EXPECT_EQ(client.next<AckPacket>().code, ReasonCode::kPacketIdInUse);
  SubscribePacket subscribe{5, {}, {{"a", 0, false, false, 0}}};
  client.sendAndRun(subscribe);
  EXPECT_EQ(client.next<SubackPacket>().codes.at(0), ReasonCode::kPacketIdInUse);
  UnsubscribePacket unsubscribe{5, {}, {"a"}};
  client.sendAndRun(unsubscribe);
  EXPECT_EQ(client.next<SubackPacket>().codes.at(0), ReasonCode::kPacketIdInUse);
}

TEST(Inbound, IdInUseEndsA311ConnectionThatCannotBeTold) {
  World world;
  for (uint8_t qos : {uint8_t{1}, uint8_t{2}}) {
    Client client(world, k3);
    client.connect();
    client.sendAndRun(publishOf("a", "1", 2, 5));
    client.packets();
    world.broker.holdAnswers = true;
    if (qos == 2) client.send(ackOf(PacketType::kPubrel, 5));  // PUBCOMP is yet to come
    client.send(publishOf("a", "2", qos, 5));
    client.expectClosed(ReasonCode::kPacketIdInUse);
    world.broker.holdAnswers = false;
  }
}

TEST(Inbound, ReleaseBeforePubrecIsAnError) {
  World world;
  Client client(world);
  client.connect();
  world.broker.holdAnswers = true;
  client.send(publishOf("a", "1", 2, 5));
  client.send(ackOf(PacketType::kPubrel, 5));
  client.expectClosed(ReasonCode::kProtocolError);
}

TEST(Inbound, Mqtt311IsHeldBackWhileTheDiskIsFull) {
  World world;
  Client client(world, k3);
  client.connect();
  world.broker.isFull = true;
  client.sendAndRun(publishOf("a", "1", 1, 1));
  client.sendAndRun(publishOf("a", "2", 2, 2));
  client.sendAndRun(publishOf("a", "3", 1, 3));
  EXPECT_EQ(client.transport.sent, "");
  EXPECT_TRUE(world.broker.published.empty());
  // Everything else is taken meanwhile.
  client.sendAndRun(PingPacket{PacketType::kPingreq});
  EXPECT_EQ(client.next<PingPacket>().type, PacketType::kPingresp);
  client.sendAndRun(publishOf("live", "0"));
  ASSERT_EQ(world.broker.published.size(), 1U);
  EXPECT_FALSE(world.broker.published[0].admitted);
  EXPECT_EQ(world.broker.spaceWaits(), 1U);

  world.broker.space();
  client.run();
  ASSERT_EQ(world.broker.published.size(), 4U);
  EXPECT_EQ(world.broker.published[1].value, "1");
  EXPECT_EQ(world.broker.published[2].value, "2");
  EXPECT_EQ(world.broker.published[2].exactlyOnceId, 2);
  EXPECT_EQ(world.broker.published[3].value, "3");
  EXPECT_TRUE(world.broker.published[3].admitted);
  const auto acks = client.all<AckPacket>();
  ASSERT_EQ(acks.size(), 3U);
  EXPECT_EQ(acks[0].packetId, 1);
  EXPECT_EQ(acks[1].type, PacketType::kPubrec);
  EXPECT_EQ(acks[2].packetId, 3);
  client.sendAndRun(publishOf("a", "4", 1, 4));
  EXPECT_EQ(client.next<AckPacket>().packetId, 4);
}

TEST(Inbound, WhatIsHeldBackIsLimitedAndGoesWithItsConnection) {
  World world;
  Client client(world, k3);
  client.connect();
  world.broker.isFull = true;
  const std::string payload(100'000, 'x');
  uint16_t id = 0;
  while (!client.transport.paused && id < 1000) {
    client.sendAndRun(publishOf("a", payload, 1, ++id));
  }
  EXPECT_EQ(id, 84);  // 8 MiB
  world.dispatcher.advance(600'000'000);
  client.run();
  EXPECT_FALSE(client.transport.closed) << "its silence is ours";
  world.broker.space();
  client.run();
  EXPECT_FALSE(client.transport.paused);
  EXPECT_EQ(client.all<AckPacket>().size(), 84U);

  world.broker.isFull = true;
  client.sendAndRun(publishOf("a", "gone", 1, 1));
  EXPECT_EQ(world.broker.spaceWaits(), 1U);
  client.drop("gone");
  EXPECT_EQ(world.broker.spaceWaits(), 0U);
  world.broker.space();
  EXPECT_EQ(world.broker.published.size(), 84U);
}

TEST(Inbound, WhatIsHeldBackWaitsAgainWhenTheDiskFillsUpAgain) {
  World world;
  Client client(world, k3);
  client.connect();
  world.broker.isFull = true;
  for (uint16_t id = 1; id <= 2000; ++id) client.send(publishOf("a", "x", 1, id));
  client.run();
  world.broker.judge = [&](const auto&) {
    world.broker.isFull = true;
    return PublishResult{std::nullopt, true};
  };
  world.broker.space();
  client.run();
  EXPECT_EQ(client.all<AckPacket>().size(), 1024U);  // one batch
  EXPECT_EQ(world.broker.spaceWaits(), 1U);
  world.broker.space();
  client.run();
  EXPECT_EQ(client.all<AckPacket>().size(), 976U);
  EXPECT_EQ(world.broker.published.size(), 2000U);
}

TEST(Inbound, Mqtt5IsToldThatTheDiskIsFull) {
  World world;
  world.broker.isFull = true;
  world.broker.judge = [](const PublishedRecord& record) {
    EXPECT_FALSE(record.admitted);
    return PublishResult{Error{ErrorKind::kNoSpace, "full"}, false};
  };
  Client client(world);
  client.connect();
  client.sendAndRun(publishOf("a", "1", 1, 1));
  EXPECT_EQ(client.next<AckPacket>().code, ReasonCode::kQuotaExceeded);
  client.sendAndRun(publishOf("a", "1", 2, 2));
  EXPECT_EQ(client.next<AckPacket>().code, ReasonCode::kQuotaExceeded);
  EXPECT_EQ(world.broker.spaceWaits(), 0U);
}

TEST(Inbound, ErrorsInTheWordsOfEachVersion) {
  World world;
  world.broker.judge = [](const PublishedRecord& record) {
    if (record.topic == "secret") {
      return PublishResult{Error{ErrorKind::kUnauthorized, "no"}, false};
    }
    return PublishResult{Error{ErrorKind::kNoSpace, "full"}, false};
  };
  Client five(world);
  five.connect("five");
  five.sendAndRun(publishOf("a", "1", 1, 1));
  EXPECT_EQ(five.next<AckPacket>().code, ReasonCode::kQuotaExceeded);
  five.sendAndRun(publishOf("secret", "1", 1, 1));
  EXPECT_EQ(five.next<AckPacket>().code, ReasonCode::kNotAuthorized);
  five.sendAndRun(publishOf("$SYS/x", "1", 1, 2));
  EXPECT_EQ(five.next<AckPacket>().code, ReasonCode::kTopicNameInvalid);
  five.sendAndRun(publishOf("$SYS/x", "1", 2, 3));
  EXPECT_EQ(five.next<AckPacket>().code, ReasonCode::kTopicNameInvalid);
  five.sendAndRun(publishOf("$SYS/x", "1"));
  EXPECT_EQ(five.transport.sent, "");
  EXPECT_FALSE(five.transport.closed);

  Client three(world, k3);
  three.connect("three");
  three.sendAndRun(publishOf("secret", "1", 1, 1));
  EXPECT_EQ(three.next<AckPacket>().type, PacketType::kPuback);
  three.sendAndRun(publishOf("secret", "1", 2, 2));
  EXPECT_EQ(three.next<AckPacket>().type, PacketType::kPubrec);
  three.sendAndRun(publishOf("a", "1", 1, 3));
  three.expectClosed(ReasonCode::kUnspecifiedError);
  EXPECT_TRUE(three.broker("three").detached);
}

TEST(Inbound, RefusalsSayWhy) {
  struct Case {
    ErrorKind kind;
    const char* mount;
    std::optional<std::pair<PropertyId, uint32_t>> asked;
    bool told;
  };
  for (const Case& each :
       {Case{ErrorKind::kUnauthorized, "", std::nullopt, true},
        // What is wrong with the broker isn't told, nor names behind a mount point, nor who doesn't
        // want to know, or has no room for it.
        Case{ErrorKind::kIo, "", std::nullopt, false},
        Case{ErrorKind::kUnauthorized, "t/", std::nullopt, false},
        Case{ErrorKind::kUnauthorized, "", {{PropertyId::kRequestProblemInfo, 0}}, false},
        Case{ErrorKind::kUnauthorized, "", {{PropertyId::kMaximumPacketSize, 20}}, false}}) {
    World world;
    world.options.mountPoint = each.mount;
    world.broker.judge = [&](const auto&) {
      return PublishResult{Error{each.kind, "may not write `a`"}, false};
    };
    Client client(world);
    ConnectPacket packet;
    packet.clientId = "c1";
    if (each.asked) packet.properties.add(each.asked->first, each.asked->second);
    client.connect(packet);
    for (uint8_t qos : {uint8_t{1}, uint8_t{2}}) {
      client.sendAndRun(publishOf("a", "1", qos, 1));
      const AckPacket ack = client.next<AckPacket>();
      EXPECT_TRUE(isError(ack.code));
      EXPECT_EQ(ack.properties.text(PropertyId::kReasonString),
                each.told ? std::optional<BytesView>("may not write `a`") : std::nullopt);
    }
  }
}

TEST(Inbound, WhyItIsRefusedIsNotToldWhereNamesAreMadeOfTheClients) {
  const std::string rewrite[] = {"publish pub/# -> internal"};
  const std::string rule[] = {"pub/+ -> topic internal"};
  for (bool byRule : {false, true}) {
    World world;
    if (byRule) {
      world.options.rules = *mapping::Rules::parse(rule);
    } else {
      world.options.rewrites = *mapping::TopicRewrites::parse(rewrite);
    }
    world.broker.judge = [](const PublishedRecord& record) {
      return PublishResult{Error{ErrorKind::kUnauthorized, "not on '" + record.topic + "'"}, false};
    };
    Client client(world);
    client.connect();
    client.sendAndRun(publishOf("pub/x", "1", 1, 1));
    const AckPacket ack = client.next<AckPacket>();
    EXPECT_EQ(ack.code, ReasonCode::kNotAuthorized);
    EXPECT_FALSE(ack.properties.has(PropertyId::kReasonString));
  }
}

TEST(Inbound, TopicAliases) {
  World world;
  Client client(world);
  client.connect();
  auto aliased = [](BytesView topic, BytesView payload, uint32_t alias) {
    PublishPacket packet = publishOf(topic, payload);
    packet.properties.add(PropertyId::kTopicAlias, alias);
    return packet;
  };
  client.feed(client.encoded(aliased("a/1", "1", 1)) + client.encoded(aliased("", "2", 1)) +
              client.encoded(aliased("b/2", "3", 2)) + client.encoded(aliased("", "4", 1)) +
              client.encoded(aliased("c/3", "5", 1)) + client.encoded(aliased("", "6", 1)) +
              client.encoded(aliased("", "7", 2)));
  std::vector<std::string> got;
  for (const auto& record : world.broker.published) got.push_back(record.address);
  EXPECT_EQ(got, (std::vector<std::string>{"a/1", "a/1", "b/2", "a/1", "c/3", "c/3", "b/2"}));
  // An alias isn't a header of the record's.
  EXPECT_TRUE(world.broker.published[0].headers.empty());
  client.send(aliased("", "8", 3));
  client.expectClosed(ReasonCode::kProtocolError);

  Client zero(world);
  zero.connect();
  zero.send(aliased("a", "1", 0));
  zero.expectClosed(ReasonCode::kTopicAliasInvalid);
  Client high(world);
  high.connect();
  high.send(aliased("a", "1", world.options.topicAliasMaximum + 1U));
  high.expectClosed(ReasonCode::kTopicAliasInvalid);
}

TEST(Inbound, ReceiveMaximum) {
  World world;
  world.options.receiveMaximum = 2;
  Client client(world);
  client.connect();
  world.broker.holdAnswers = true;
  client.send(publishOf("a", "1", 1, 1));
  client.send(publishOf("a", "2", 2, 2));
  client.send(publishOf("a", "0"));
  EXPECT_FALSE(client.transport.closed);
  world.broker.answerAll();
  client.packets();
  client.send(publishOf("a", "3", 1, 3));  // one is acknowledged, one is held
  EXPECT_FALSE(client.transport.closed);
  client.send(publishOf("a", "4", 1, 4));
  client.expectClosed(ReasonCode::kReceiveMaximumExceeded);
  EXPECT_EQ(world.broker.published.size(), 4U);
}

TEST(Inbound, ReceiveMaximumIsGivenBack) {
  World world;
  world.options.receiveMaximum = 1;
  Client client(world);
  client.connect("c1", false, 100);
  for (uint16_t id = 1; id < 20; ++id) {
    client.sendAndRun(publishOf("a", "1", 1, id));
    client.sendAndRun(publishOf("a", "1", 2, id));
    client.sendAndRun(ackOf(PacketType::kPubrel, id));
    client.sendAndRun(publishOf("$a", "1", 2, id));
    client.sendAndRun(publishOf("$a", "1", 1, id));
  }
  EXPECT_FALSE(client.transport.closed);
  // A repeat after reconnecting counts once.
  client.sendAndRun(publishOf("a", "1", 2, 50));
  client.drop("gone");
  Client again(world);
  again.connect("c1", false, 100);
  again.sendAndRun(publishOf("a", "1", 2, 50));
  again.sendAndRun(publishOf("a", "1", 2, 50));
  EXPECT_FALSE(again.transport.closed);
  again.sendAndRun(ackOf(PacketType::kPubrel, 50));
  again.sendAndRun(publishOf("a", "1", 1, 51));
  EXPECT_FALSE(again.transport.closed);
}

TEST(Inbound, LimitsThatConnackTold) {
  World world;
  world.options.maxQos = 1;
  world.options.retainAvailable = false;
  Client qos(world);
  qos.connect();
  qos.send(publishOf("a", "1", 2, 1));
  qos.expectClosed(ReasonCode::kQosNotSupported);
  Client retain(world);
  retain.connect();
  PublishPacket packet = publishOf("a", "1");
  packet.retain = true;
  retain.send(packet);
  retain.expectClosed(ReasonCode::kRetainNotSupported);
}

TEST(Inbound, PayloadsThatArentTheUtf8ThatTheySay) {
  World world;
  world.options.checkPayloadFormat = true;
  Client client(world);
  client.connect();
  const std::string text("caf\xc3\xa9 \0 \xf0\x9f\x90\x9d", 12);
  uint16_t id = 0;
  auto publish = [&](BytesView payload, uint8_t qos, std::optional<uint32_t> indicator) {
    PublishPacket packet = publishOf("a", payload, qos, qos > 0 ? ++id : uint16_t{0});
    if (indicator) packet.properties.add(PropertyId::kPayloadFormat, *indicator);
    client.sendAndRun(packet);
  };
  auto answer = [&](BytesView payload, uint8_t qos, std::optional<uint32_t> indicator) {
    publish(payload, qos, indicator);
    return client.next<AckPacket>().code;
  };
  for (uint8_t qos : {uint8_t{1}, uint8_t{2}}) {
    EXPECT_EQ(answer(text, qos, 1), ReasonCode::kSuccess);
    EXPECT_EQ(answer("", qos, 1), ReasonCode::kSuccess);
    EXPECT_EQ(answer("\xff", qos, 0), ReasonCode::kSuccess);
    EXPECT_EQ(answer("\xff", qos, std::nullopt), ReasonCode::kSuccess);
    EXPECT_EQ(world.broker.published.size(), 4U);
    for (BytesView wrong : {"caf\xe9", "\xc3", "\xed\xa0\x80", "\xc0\xaf", "\xf4\x90\x80\x80"}) {
      EXPECT_EQ(answer(wrong, qos, 1), ReasonCode::kPayloadFormatInvalid);
    }
    EXPECT_EQ(world.broker.published.size(), 4U);
    world.broker.published.clear();
  }
  // The identifier of what was refused is free again, and room for it is.
  for (int each = 0; each < 2000; ++each) {
    id = 0;
    EXPECT_EQ(answer("\xff", 2, 1), ReasonCode::kPayloadFormatInvalid);
  }
  publish("\xff", 0, 1);
  client.expectClosed(ReasonCode::kPayloadFormatInvalid);
  EXPECT_TRUE(world.broker.published.empty());
}

TEST(Inbound, PayloadsAreTheirPublishersAffairUnlessTheOptionsSay) {
  World world;
  Client client(world);
  client.connect();
  PublishPacket packet = publishOf("a", "\xff", 1, 1);
  packet.properties.add(PropertyId::kPayloadFormat, 1);
  client.sendAndRun(packet);
  EXPECT_EQ(client.next<AckPacket>().code, ReasonCode::kSuccess);
}

TEST(Inbound, WhatCameBeforeAFaultIsPublished) {
  World world;
  Client client(world);
  client.connect();
  client.feed(client.encoded(publishOf("a", "1", 1, 1)) + client.encoded(publishOf("a/#", "2")));
  EXPECT_EQ(world.broker.published.size(), 1U);
  client.expectClosed(ReasonCode::kTopicNameInvalid);
  EXPECT_TRUE(client.broker().detached);
}

TEST(Inbound, OversizedPacket) {
  World world;
  world.options.maxPacketBytes = 1000;
  Client client(world);
  client.connect();
  client.feed(std::string("\x30\xE8\x07", 3));
  client.expectClosed(ReasonCode::kPacketTooLarge);
}

TEST(Inbound, AtMostOnceAsksTheJournalNowAndThen) {
  World world;
  Client client(world);
  client.connect();
  world.broker.holdAnswers = true;
  client.send(publishOf("a", "1"));
  EXPECT_EQ(world.broker.unansweredPublishes, 1U);
  const std::string one = client.encoded(publishOf("a/b", "0123456789"));
  std::string chunk;
  for (size_t i = 0; i < kMaxBatchRecords; ++i) chunk += one;
  size_t fed = 1;
  while (!client.transport.paused && fed < 10 * kMaxWaitingRecords) {
    client.feed(chunk);
    fed += kMaxBatchRecords;
  }
  EXPECT_TRUE(client.transport.paused);
  EXPECT_LE(world.broker.published.size(), kMaxWaitingRecords + 2 * kMaxBatchRecords);
  EXPECT_GE(world.broker.unanswered(), 2U);
  EXPECT_LE(world.broker.unanswered(), 5U);
  world.broker.holdAnswers = false;
  world.broker.answerAll();
  client.run();
  EXPECT_FALSE(client.transport.paused);
  EXPECT_EQ(world.broker.published.size(), fed);
  EXPECT_EQ(client.transport.sent, "");
}

TEST(Inbound, BytesThatWaitAreBounded) {
  World world;
  Client client(world, k3);
  client.connect();
  world.broker.holdAnswers = true;
  const std::string payload(100'000, 'x');
  std::string input;
  for (uint16_t id = 1; id <= 200; ++id) input += client.encoded(publishOf("a", payload, 1, id));
  client.feed(input);
  EXPECT_TRUE(client.transport.paused);
  EXPECT_LE(world.broker.published.size(), 110U);
  while (world.broker.unanswered() > 0) {
    world.broker.answerAll();
    client.run();
  }
  EXPECT_EQ(world.broker.published.size(), 200U);
  EXPECT_EQ(client.all<AckPacket>().size(), 200U);
  EXPECT_FALSE(client.transport.paused);
}

}  // namespace
}  // namespace polylog::mqtt::test
