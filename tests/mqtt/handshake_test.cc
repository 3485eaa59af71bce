#include <gtest/gtest.h>

#include "codecs/mqtt/limits.h"
#include "tests/mqtt/harness.h"

namespace polylog::mqtt::test {
namespace {

constexpr auto k3 = Version::k311;

TEST(Handshake, Version5SaysWhatItOffers) {
  World world;
  Client client(world);
  ConnackPacket connack = client.connect();
  EXPECT_EQ(connack.code, 0);
  EXPECT_FALSE(connack.sessionPresent);
  EXPECT_FALSE(connack.properties.has(PropertyId::kSharedAvailable)) << "which means yes";
  EXPECT_EQ(connack.properties.number(PropertyId::kReceiveMaximum), world.options.receiveMaximum);
  EXPECT_EQ(connack.properties.number(PropertyId::kMaximumPacketSize),
            (1U << 20) + kPacketOverhead);
  EXPECT_EQ(connack.properties.number(PropertyId::kTopicAliasMaximum),
            world.options.topicAliasMaximum);
  EXPECT_FALSE(connack.properties.has(PropertyId::kAssignedClientId));
  EXPECT_FALSE(connack.properties.has(PropertyId::kServerKeepAlive));
  EXPECT_FALSE(connack.properties.has(PropertyId::kMaximumQos));
  EXPECT_FALSE(connack.properties.has(PropertyId::kRetainAvailable));
  EXPECT_FALSE(connack.properties.has(PropertyId::kSessionExpiry));
  EXPECT_TRUE(client.transport.handshakeIsDone);
}

TEST(Handshake, Version311IsBare) {
  World world;
  Client client(world, k3);
  client.connect();
  EXPECT_EQ(client.received.back(), std::string("\x20\x02\x00\x00", 4));
}

TEST(Handshake, HandshakeIsNotDoneByLessThanAValidConnect) {
  World world;
  Client client(world);
  client.feed(std::string("\x10\x20\x00\x04MQTT", 8));
  client.run();
  EXPECT_FALSE(client.transport.handshakeIsDone);
  EXPECT_EQ(client.session->wanted(), 34U);
  EXPECT_FALSE(client.transport.closed);
}

TEST(Handshake, LimitsThatTheOptionsSet) {
  World world;
  world.options.maxQos = 1;
  world.options.retainAvailable = false;
  world.options.maxKeepAliveSeconds = 60;
  world.options.maxSessionExpirySeconds = 100;
  world.options.topicAliasMaximum = 0;
  Client client(world);
  ConnackPacket connack = client.connect("c1", true, 1000);
  EXPECT_EQ(connack.properties.number(PropertyId::kMaximumQos), 1U);
  EXPECT_EQ(connack.properties.number(PropertyId::kRetainAvailable), 0U);
  EXPECT_EQ(connack.properties.number(PropertyId::kServerKeepAlive), 60U);
  EXPECT_EQ(connack.properties.number(PropertyId::kSessionExpiry), 100U);
  EXPECT_FALSE(connack.properties.has(PropertyId::kTopicAliasMaximum));
  EXPECT_EQ(client.broker().options.expirySeconds, 100U);
}

TEST(Handshake, EmptyClientIds) {
  World world;
  Client v5(world);
  ConnackPacket connack = v5.connect("", false);
  EXPECT_EQ(connack.code, 0);
  const auto id = connack.properties.text(PropertyId::kAssignedClientId);
  ASSERT_TRUE(id);
  EXPECT_TRUE(world.broker.sessions.contains(std::string(*id)));

  Client v3(world, k3);
  EXPECT_EQ(v3.connect("", true).code, 0);
  EXPECT_EQ(world.broker.sessions.size(), 2U);

  Client refused(world, k3);
  EXPECT_EQ(refused.connect("", false).code, 2);
  EXPECT_TRUE(refused.transport.closed);
  EXPECT_FALSE(refused.transport.handshakeIsDone);
}

TEST(Handshake, SessionExpiryByVersion) {
  World world;
  Client kept(world, k3);
  kept.connect("kept", false);
  EXPECT_EQ(kept.broker("kept").options.expirySeconds, kNeverExpires);
  Client clean(world, k3);
  clean.connect("clean", true);
  EXPECT_EQ(clean.broker("clean").options.expirySeconds, 0U);
  Client five(world);
  five.connect("five", false);
  EXPECT_EQ(five.broker("five").options.expirySeconds, 0U);
}

TEST(Handshake, SessionPresentWhenResumed) {
  World world;
  {
    Client first(world);
    EXPECT_FALSE(first.connect("c1", false, 100).sessionPresent);
  }
  Client second(world);
  EXPECT_TRUE(second.connect("c1", false, 100).sessionPresent);
  Client third(world);
  EXPECT_FALSE(third.connect("c1", true, 100).sessionPresent);
}

std::string connect31(uint8_t flags, std::string id, std::string rest = {}) {
  std::string body("\0\6MQIsdp\3", 9);
  body += static_cast<char>(flags);
  body += std::string("\0\0\0", 3) + static_cast<char>(id.size()) + id + rest;
  return std::string("\x10") + static_cast<char>(body.size()) + body;
}

TEST(Handshake, Version31) {
  World world;
  Client client(world, Version::k311);
  client.feed(connect31(0, "c1"));
  client.run();
  EXPECT_EQ(client.transport.takeSent(), std::string("\x20\2\0\0", 4));
  EXPECT_EQ(client.broker().options.expirySeconds, kNeverExpires);
  client.sendAndRun(SubscribePacket{1, {}, {{"a", 1, false, false, 0}}});
  EXPECT_EQ(client.next<SubackPacket>().codes.at(0), ReasonCode::kGrantedQos1);
  client.drop("gone");
  Client back(world, Version::k311);
  back.feed(connect31(0, "c1"));
  back.run();
  EXPECT_EQ(back.transport.takeSent(), std::string("\x20\2\0\0", 4)) << "no session present";
  EXPECT_TRUE(back.broker().isResumed);
}

TEST(Handshake, Version31WithoutAClientIdentifier) {
  World world;
  Client client(world, Version::k311);
  client.feed(connect31(2, ""));
  client.run();
  EXPECT_EQ(client.transport.takeSent(), std::string("\x20\2\0\2", 4));
  EXPECT_TRUE(client.transport.closed);
}

TEST(Handshake, Version31MayNameAUserAndLeaveItOut) {
  World world;
  Client client(world, Version::k311);
  client.feed(connect31(0xC2, "c1"));
  client.run();
  EXPECT_EQ(client.transport.takeSent(), std::string("\x20\2\0\0", 4));
}

TEST(Handshake, OtherVersionsAreToldSo) {
  struct Case {
    std::string body;
    std::string answer;
  };
  const Case cases[] = {
      {std::string("\0\6MQIsdp\4\2\0\0\0\1c", 15), std::string("\x20\2\0\1", 4)},
      {std::string("\0\6MQIsdp\x84\2\0\0\0\1c", 15), std::string("\x20\2\0\1", 4)},
      {std::string("\0\4MQTT\3\2\0\0\0\1c", 13), std::string("\x20\2\0\1", 4)},
      {std::string("\0\4MQTT\x86\2\0\0\0\1c", 13), std::string("\x20\2\0\1", 4)},
      {std::string("\0\4MQTT\6\2\0\0\0\1c", 13), std::string("\x20\3\0\x84\0", 5)},
      {std::string("\0\4HTTP\4\2\0\0\0\1c", 13), ""},
  };
  for (const Case& each : cases) {
    World world;
    Client client(world);
    client.feed(std::string("\x10") + static_cast<char>(each.body.size()) + each.body);
    EXPECT_EQ(client.transport.takeSent(), each.answer);
    EXPECT_TRUE(client.transport.closed);
    EXPECT_FALSE(client.transport.handshakeIsDone);
  }
}

TEST(Handshake, BrokenConnectIsAnsweredInVersion5Only) {
  World world;
  Client five(world);
  five.feed(std::string("\x10\x0D\0\4MQTT\5\3\0\0\0\0\0", 15));
  EXPECT_EQ(five.next<ConnackPacket>().code, 0x81);
  EXPECT_TRUE(five.transport.closed);
  Client three(world, k3);
  three.feed(std::string("\x10\x0D\0\4MQTT\4\3\0\0\0\0\0", 15));
  EXPECT_EQ(three.transport.takeSent(), "");
  EXPECT_TRUE(three.transport.closed);
}

TEST(Handshake, OversizedConnect) {
  World world;
  Client client(world);
  client.feed(std::string("\x10\xFF\x7F\0\4MQTT\5", 10));
  EXPECT_EQ(client.next<ConnackPacket>().code, 0x95);
  EXPECT_TRUE(client.transport.closed);
}

TEST(Handshake, AnythingButConnectFirst) {
  World world;
  Client client(world);
  client.send(PingPacket{PacketType::kPingreq});
  EXPECT_TRUE(client.transport.closed);
  EXPECT_EQ(client.transport.takeSent(), "");
}

TEST(Handshake, AuthenticationMethodsAreRefused) {
  World world;
  Client client(world);
  ConnectPacket packet;
  packet.clientId = "c1";
  packet.properties.add(PropertyId::kAuthenticationMethod, "SCRAM-SHA-1");
  EXPECT_EQ(client.connect(packet).code, 0x8C);
  EXPECT_TRUE(client.transport.closed);

  Client dataOnly(world);
  packet.properties.clear();
  packet.properties.add(PropertyId::kAuthenticationData, "x");
  EXPECT_EQ(dataOnly.connect(packet).code, 0x82);

  Client later(world);
  later.connect();
  later.feed(std::string("\xF0\x00", 2));
  later.expectClosed(ReasonCode::kProtocolError);
}

TEST(Handshake, UserNameReachesThePrincipalUnjudged) {
  World world;
  Client client(world);
  ConnectPacket packet;
  packet.clientId = "c1";
  packet.username = "somebody";
  packet.password = "whatever";
  EXPECT_EQ(client.connect(packet).code, 0);
}

TEST(Handshake, RefusalsOfTheBroker) {
  World world;
  world.broker.openError = Error{ErrorKind::kNoSpace, "full"};
  Client five(world);
  EXPECT_EQ(five.connect().code, 0x97);
  EXPECT_TRUE(five.transport.closed);
  Client three(world, k3);
  EXPECT_EQ(three.connect().code, 3);
  EXPECT_TRUE(three.transport.closed);
}

TEST(Handshake, WhoIsTurnedAwayIsToldWhyIfThatFits) {
  for (uint32_t most : {0U, 20U, 4U}) {
    World world;
    world.broker.openError = Error{ErrorKind::kNoSpace, "full"};
    Client client(world);
    ConnectPacket packet;
    packet.clientId = "c1";
    if (most > 0) packet.properties.add(PropertyId::kMaximumPacketSize, most);
    if (most == 4) packet.properties.add(PropertyId::kAuthenticationData, "unasked");
    client.sendAndRun(packet);
    EXPECT_TRUE(client.transport.closed);
    if (most == 4) {
      EXPECT_EQ(client.transport.takeSent(), "");
      continue;
    }
    const ConnackPacket connack = client.next<ConnackPacket>();
    EXPECT_EQ(connack.code, 0x97);
    const auto why = connack.properties.text(PropertyId::kReasonString);
    EXPECT_EQ(why, most > 0 ? std::optional<BytesView>()
                            : std::optional<BytesView>("the session could not be opened"));
  }
}

TEST(Handshake, WillIsSetWithItsProperties) {
  World world;
  Client client(world);
  ConnectPacket packet;
  packet.clientId = "c1";
  packet.will = WillFields{"status/c1", "gone", 1, true, {}};
  packet.will->properties.add(PropertyId::kWillDelay, 30);
  packet.will->properties.add(PropertyId::kContentType, "text/plain");
  packet.will->properties.add(PropertyId::kMessageExpiry, 60);
  packet.will->properties.add(PropertyId::kUserProperty, "k", "v");
  EXPECT_EQ(client.connect(packet).code, 0);
  ASSERT_TRUE(client.broker().will);
  const Will& will = *client.broker().will;
  EXPECT_EQ(will.topic, "status");
  EXPECT_EQ(will.key, "c1");
  EXPECT_EQ(will.value, "gone");
  EXPECT_EQ(will.guarantee, DeliveryGuarantee::kAtLeastOnce);
  EXPECT_TRUE(will.retain);
  EXPECT_EQ(will.delaySeconds, 30U);
  EXPECT_EQ(will.expirySeconds, 60U);
  ASSERT_EQ(will.headers.size(), 2U);
  EXPECT_EQ(will.headers[0].first, "content-type");
  EXPECT_EQ(will.headers[1].first, "k");
}

TEST(Handshake, ImpossibleWillsAreRefused) {
  World world;
  world.options.maxQos = 1;
  world.options.retainAvailable = false;
  auto attempt = [&](BytesView topic, uint8_t qos, bool retain) {
    Client client(world);
    ConnectPacket packet;
    packet.clientId = "c1";
    packet.will = WillFields{topic, "x", qos, retain, {}};
    return client.connect(packet).code;
  };
  EXPECT_EQ(attempt("$SYS/x", 0, false), 0x90);
  EXPECT_EQ(attempt("a/#", 0, false), 0x90);
  EXPECT_EQ(attempt("a", 2, false), 0x9B);
  EXPECT_EQ(attempt("a", 0, true), 0x9A);
  EXPECT_TRUE(world.broker.sessions.empty());
}

TEST(Handshake, PacketsBehindConnectWaitForTheSession) {
  World world;
  world.broker.holdAnswers = true;
  Client client(world);
  ConnectPacket connect;
  connect.clientId = "c1";
  client.feed(client.encoded(connect) + client.encoded(publishOf("a", "1", 1, 1)));
  client.run();
  EXPECT_TRUE(client.transport.paused);
  EXPECT_TRUE(world.broker.published.empty());
  world.broker.holdAnswers = false;
  world.broker.answerAll();
  client.run();
  EXPECT_FALSE(client.transport.paused);
  ASSERT_EQ(world.broker.published.size(), 1U);
  const auto packets = client.packets();
  ASSERT_EQ(packets.size(), 2U);
  EXPECT_TRUE(std::holds_alternative<ConnackPacket>(packets[0]));
  EXPECT_TRUE(std::holds_alternative<AckPacket>(packets[1]));
}

TEST(Handshake, ConnectionLostWhileTheSessionOpens) {
  World world;
  world.broker.holdAnswers = true;
  Client client(world);
  ConnectPacket connect;
  connect.clientId = "c1";
  client.send(connect);
  client.drop("reset");
  world.broker.sessions.at("c1")->deliver("a", {}, "x", DeliveryGuarantee::kAtMostOnce);
  world.dispatcher.runAll();
  world.broker.answerAll();
  EXPECT_TRUE(world.broker.sessions.at("c1")->detached);
}

TEST(Handshake, TakenOverWhileTheSessionOpens) {
  World world;
  world.broker.holdAnswers = true;
  Client first(world);
  ConnectPacket connect;
  connect.clientId = "c1";
  first.send(connect);
  auto session = world.broker.sessions.at("c1");
  Client second(world);
  second.send(connect);
  EXPECT_TRUE(first.transport.closed);
  EXPECT_EQ(first.transport.takeSent(), "");
  world.broker.answerAll();
  EXPECT_FALSE(session->detached) << "a session taken over answers no further calls";
  EXPECT_EQ(second.next<ConnackPacket>().code, 0);
}

TEST(Handshake, ConnackThatTheClientCannotTake) {
  World world;
  Client client(world);
  ConnectPacket packet;
  packet.clientId = "c1";
  packet.properties.add(PropertyId::kMaximumPacketSize, 5);
  client.sendAndRun(packet);
  EXPECT_TRUE(client.transport.closed);
  EXPECT_EQ(client.transport.takeSent(), "");
  EXPECT_TRUE(client.broker().detached);
}

TEST(Handshake, ResponseInformationForWhoAsks) {
  struct Case {
    const char* pattern;
    std::string clientId;
    std::optional<uint32_t> asks;
    uint32_t maximumPacket;
    std::optional<BytesView> told;
  };
  for (const Case& each : {Case{"re/%u/%c/", "c1", 1, 0, "re/ann/c1/"},
                           {"re/%c/", "c1", 0, 0, std::nullopt},
                           {"re/%c/", "c1", std::nullopt, 0, std::nullopt},
                           {"", "c1", 1, 0, std::nullopt},
                           // Such a name would reach into others' corners.
                           {"re/%c/", "c1/x", 1, 0, std::nullopt},
                           {"re/%c/", "c+", 1, 0, std::nullopt},
                           {"%c/", "$c", 1, 0, std::nullopt},
                           // CONNACK has 16 octets beside the property's 9.
                           {"re/%c/", "c1", 1, 25, "re/c1/"},
                           {"re/%c/", "c1", 1, 24, std::nullopt}}) {
    World world;
    world.options.responseInformation = each.pattern;
    Client client(world);
    ConnectPacket packet;
    packet.clientId = each.clientId;
    packet.username = "ann";
    if (each.asks) packet.properties.add(PropertyId::kRequestResponseInfo, *each.asks);
    if (each.maximumPacket > 0) {
      packet.properties.add(PropertyId::kMaximumPacketSize, each.maximumPacket);
    }
    const ConnackPacket connack = client.connect(std::move(packet));
    EXPECT_EQ(connack.code, 0);
    EXPECT_EQ(connack.properties.text(PropertyId::kResponseInfo), each.told) << each.clientId;
  }
}

TEST(Handshake, ResponseInformationOfAnAssignedClientId) {
  World world;
  world.options.responseInformation = "re/%c/";
  Client client(world);
  ConnectPacket packet;
  packet.properties.add(PropertyId::kRequestResponseInfo, 1);
  const ConnackPacket connack = client.connect(std::move(packet));
  const std::string id(connack.properties.text(PropertyId::kAssignedClientId).value());
  EXPECT_EQ(connack.properties.text(PropertyId::kResponseInfo), "re/" + id + "/");
}

TEST(Handshake, AWillThatIsntTheUtf8ThatItSays) {
  for (bool checks : {false, true}) {
    for (uint32_t indicator : {0U, 1U}) {
      World world;
      world.options.checkPayloadFormat = checks;
      Client client(world);
      ConnectPacket packet;
      packet.clientId = "c1";
      packet.will = WillFields{"a", "x\xff", 0, false, {}};
      packet.will->properties.add(PropertyId::kPayloadFormat, indicator);
      const bool refused = checks && indicator == 1;
      EXPECT_EQ(client.connect(packet).code, refused ? 0x99 : 0);
      EXPECT_EQ(world.broker.sessions.empty(), refused);
    }
  }
}

TEST(Handshake, SecondConnect) {
  World world;
  Client client(world);
  client.connect();
  ConnectPacket packet;
  packet.clientId = "c1";
  client.sendAndRun(packet);
  client.expectClosed(ReasonCode::kProtocolError);
  EXPECT_TRUE(client.broker().detached);
}

}  // namespace
}  // namespace polylog::mqtt::test
