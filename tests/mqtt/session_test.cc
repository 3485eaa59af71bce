#include "codecs/mqtt/session.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "codecs/mqtt/limits.h"
#include "codecs/mqtt/trace.h"
#include "tests/mqtt/harness.h"

namespace polylog::mqtt::test {
namespace {

constexpr auto k3 = Version::k311;
constexpr int64_t kSecond = 1'000'000;

ConnectPacket connectPacket(uint16_t keepAlive) {
  ConnectPacket packet;
  packet.clientId = "c1";
  packet.keepAliveSeconds = keepAlive;
  packet.will = WillFields{"will", "gone", 0, false, {}};
  return packet;
}

TEST(Session, Ping) {
  World world;
  Client client(world);
  client.connect();
  client.sendAndRun(PingPacket{PacketType::kPingreq});
  EXPECT_EQ(client.next<PingPacket>().type, PacketType::kPingresp);
}

TEST(Session, OctetByOctet) {
  World world;
  Client client(world);
  ConnectPacket connect;
  connect.clientId = "c1";
  const std::string wire = client.encoded(connect) + client.encoded(publishOf("a/b", "1", 1, 1)) +
                           client.encoded(publishOf("a/b", "2", 2, 2)) +
                           client.encoded(PingPacket{PacketType::kPingreq});
  for (char octet : wire) {
    client.feed(BytesView(&octet, 1));
    client.run();
  }
  EXPECT_EQ(world.broker.published.size(), 2U);
  EXPECT_EQ(client.packets().size(), 4U);
}

// ---- keep-alive
// ------------------------------------------------------------------------------------

TEST(KeepAlive, OneAndAHalfTimes) {
  for (Version version : {Version::k311, Version::k5}) {
    World world;
    Client client(world, version);
    client.connect(connectPacket(10));
    world.dispatcher.advance(14 * kSecond);
    EXPECT_FALSE(client.transport.closed);
    world.dispatcher.advance(kSecond);
    client.expectClosed(ReasonCode::kKeepAliveTimeout);
    EXPECT_TRUE(client.broker().publishedWill);
  }
}

TEST(KeepAlive, AnyInputCounts) {
  World world;
  Client client(world);
  client.connect(connectPacket(10));
  for (int i = 0; i < 10; ++i) {
    world.dispatcher.advance(14 * kSecond);
    client.sendAndRun(PingPacket{PacketType::kPingreq});
    ASSERT_FALSE(client.transport.closed);
  }
  EXPECT_EQ(client.all<PingPacket>().size(), 10U);
  EXPECT_LE(world.dispatcher.timersRunning(), 1U);
  world.dispatcher.advance(15 * kSecond);
  EXPECT_TRUE(client.transport.closed);
}

TEST(KeepAlive, ZeroIsNone) {
  World world;
  Client client(world);
  client.connect(connectPacket(0));
  EXPECT_EQ(world.dispatcher.timersRunning(), 0U);
}

TEST(KeepAlive, TheBrokersOwnBacklogIsNotTheClientsSilence) {
  World world;
  Client client(world, k3);
  client.connect(connectPacket(10));
  world.broker.holdAnswers = true;
  for (uint16_t id = 1; id <= 100 && !client.transport.paused; ++id) {
    client.send(publishOf("a", std::string(500'000, 'x'), 1, id));
  }
  ASSERT_TRUE(client.transport.paused);
  world.dispatcher.advance(100 * kSecond);
  EXPECT_FALSE(client.transport.closed);
  world.broker.answerAll();
  client.run();
  EXPECT_FALSE(client.transport.paused);
  world.dispatcher.advance(14 * kSecond);
  EXPECT_FALSE(client.transport.closed);
  world.dispatcher.advance(16 * kSecond);
  EXPECT_TRUE(client.transport.closed);
}

// ---- the end
// ---------------------------------------------------------------------------------------

TEST(Disconnect, NormalTakesTheWillAlong) {
  for (Version version : {Version::k311, Version::k5}) {
    World world;
    Client client(world, version);
    client.connect(connectPacket(0));
    client.sendAndRun(DisconnectPacket{});
    EXPECT_TRUE(client.transport.closed);
    EXPECT_EQ(client.transport.sent, "");
    EXPECT_TRUE(client.broker().detached);
    EXPECT_FALSE(client.broker().publishedWill);
  }
}

TEST(Disconnect, WithWill) {
  World world;
  Client client(world);
  client.connect(connectPacket(0));
  DisconnectPacket packet;
  packet.code = ReasonCode::kDisconnectWithWill;
  client.sendAndRun(packet);
  EXPECT_TRUE(client.broker().publishedWill);
}

TEST(Disconnect, ChangesTheExpiry) {
  World world;
  Client client(world);
  client.connect("c1", false, 100);
  DisconnectPacket packet;
  packet.properties.add(PropertyId::kSessionExpiry, 7);
  client.sendAndRun(packet);
  EXPECT_EQ(client.broker().options.expirySeconds, 7U);

  Client zero(world);
  zero.connect("c2", true, 0);
  zero.sendAndRun(packet);
  zero.expectClosed(ReasonCode::kProtocolError);
}

TEST(Disconnect, WhatFollowsIsIgnored) {
  World world;
  Client client(world);
  client.connect();
  client.feed(client.encoded(publishOf("a", "1")) + client.encoded(DisconnectPacket{}) +
              client.encoded(publishOf("a", "2")));
  EXPECT_EQ(world.broker.published.size(), 1U);
  client.feed(client.encoded(publishOf("a", "3")));
  EXPECT_EQ(world.broker.published.size(), 1U);
}

TEST(Disconnect, LostConnectionPublishesTheWill) {
  World world;
  Client client(world);
  client.connect(connectPacket(0));
  client.drop("reset by peer");
  EXPECT_TRUE(world.broker.sessions.at("c1")->publishedWill);
}

TEST(Disconnect, TakeOver) {
  World world;
  Client five(world);
  five.connect("c1", false, 100);
  Client three(world, k3);
  three.connect("c1", false);
  five.expectClosed(ReasonCode::kSessionTakenOver);
  EXPECT_FALSE(three.broker().detached);
  five.drop("closed");
  EXPECT_FALSE(three.broker().detached) << "the old connection's end is not the session's";
  Client third(world);
  third.connect("c1", false, 100);
  three.expectClosed(ReasonCode::kSessionTakenOver);
}

TEST(Disconnect, ByAnOperator) {
  World world;
  Client client(world);
  client.connect();
  world.broker.deleteSession(nullptr, "c1", [](auto) {});
  client.expectClosed(ReasonCode::kAdministrativeAction);
}

TEST(Disconnect, Shutdown) {
  World world;
  Client five(world);
  five.connect("five");
  five.session->onShutdown();
  five.expectClosed(ReasonCode::kServerShuttingDown);
  EXPECT_TRUE(five.broker("five").detached);
  Client three(world, k3);
  three.connect("three");
  three.session->onShutdown();
  three.expectClosed(ReasonCode::kServerShuttingDown);
  Client half(world);
  half.session->onShutdown();
  EXPECT_TRUE(half.transport.closed);
  EXPECT_EQ(half.transport.sent, "");
}

TEST(Disconnect, ShutdownWhileTheSessionOpens) {
  World world;
  world.broker.holdAnswers = true;
  Client client(world);
  client.send(connectPacket(0));
  client.session->onShutdown();
  EXPECT_TRUE(client.transport.closed);
  world.broker.answerAll();
  EXPECT_TRUE(client.broker().detached);
  EXPECT_EQ(client.transport.sent, "");
}

TEST(Disconnect, ReasonStringOnlyWhereItFits) {
  World world;
  Client client(world);
  ConnectPacket packet = connectPacket(0);
  packet.properties.add(PropertyId::kMaximumPacketSize, 20);
  EXPECT_EQ(client.connect(packet).code, 0);
  client.sendAndRun(connectPacket(0));
  DisconnectPacket disconnect = client.next<DisconnectPacket>();
  EXPECT_EQ(disconnect.code, ReasonCode::kProtocolError);
  EXPECT_TRUE(disconnect.properties.empty());
}

TEST(Session, ServerPacketsFromAClient) {
  World world;
  Client client(world);
  client.connect();
  client.sendAndRun(SubackPacket{PacketType::kSuback, 1, {}, {ReasonCode::kSuccess}});
  client.expectClosed(ReasonCode::kProtocolError);
}

// ---- subscriptions
// ---------------------------------------------------------------------------------

TEST(Subscribe, OptionsReachTheSession) {
  World world;
  Client client(world);
  client.connect();
  SubscribePacket packet{7, {}, {{"a/+/#", 2, true, true, 1}, {"b", 0, false, false, 2}}};
  packet.properties.add(PropertyId::kSubscriptionId, 42);
  client.sendAndRun(packet);
  SubackPacket suback = client.next<SubackPacket>();
  EXPECT_EQ(suback.packetId, 7);
  EXPECT_EQ(suback.codes,
            (std::vector<ReasonCode>{ReasonCode::kGrantedQos2, ReasonCode::kSuccess}));
  const Subscription& first = client.broker().subscriptions.at("a/+/#");
  EXPECT_EQ(first.guarantee, DeliveryGuarantee::kExactlyOnce);
  EXPECT_TRUE(first.noLocal);
  EXPECT_TRUE(first.retainAsPublished);
  EXPECT_EQ(first.retainHandling, RetainHandling::kIfNew);
  EXPECT_EQ(first.id, 42U);
  EXPECT_EQ(first.filter.levels.size(), 3U);
  EXPECT_EQ(client.broker().subscriptions.at("b").retainHandling, RetainHandling::kNever);
}

TEST(Subscribe, RefusalsAmongGrants) {
  for (Version version : {Version::k311, Version::k5}) {
    World world;
    world.options.maxQos = 1;
    Client client(world, version);
    client.connect();
    SubscribePacket packet{1,
                           {},
                           {{"a/#/b", 1, false, false, 0},
                            {"ok", 2, false, false, 0},
                            {"$share//t", 1, false, false, 0},
                            {"x+", 0, false, false, 0}}};
    client.sendAndRun(packet);
    using R = ReasonCode;
    const auto codes = client.next<SubackPacket>().codes;
    if (version == Version::k5) {
      EXPECT_EQ(codes, (std::vector<R>{R::kTopicFilterInvalid, R::kGrantedQos1,
                                       R::kTopicFilterInvalid, R::kTopicFilterInvalid}));
    } else {
      const auto no = static_cast<R>(0x80);
      EXPECT_EQ(codes, (std::vector<R>{no, R::kGrantedQos1, no, no}));
    }
    EXPECT_EQ(client.broker().subscriptions.size(), 1U);
  }
}

TEST(Subscribe, Replays) {
  using Kind = ReplayStart::Kind;
  for (Version version : {Version::k311, Version::k5}) {
    World world;
    Client client(world, version);
    client.connect();
    client.sendAndRun(SubscribePacket{1, {}, {{"$replay/last=3/a/#", 1, false, false, 0}}});
    EXPECT_EQ(client.next<SubackPacket>().codes.at(0), ReasonCode::kGrantedQos1);
    const Subscription& made = client.broker().subscriptions.at("$replay/last=3/a/#");
    EXPECT_EQ(made.replay, std::optional(ReplayStart{Kind::kLast, 3}));
    EXPECT_EQ(made.filter.levels.size(), 2U);
  }
  World world;
  Client client(world);
  client.connect();
  SubscribePacket packet{1, {}, {{"a/b", 1, false, false, 0}, {"c", 0, false, false, 0}}};
  packet.properties.add(PropertyId::kUserProperty, "polylog-replay", "offset=7");
  client.sendAndRun(packet);
  EXPECT_EQ(client.next<SubackPacket>().codes.size(), 2U);
  for (const char* text : {"a/b", "c"}) {
    EXPECT_EQ(client.broker().subscriptions.at(text).replay,
              std::optional(ReplayStart{Kind::kOffset, 7}));
  }
}

TEST(Subscribe, AnAnswerThatTheClientDoesntTakeIsNeitherSentNorTraced) {
  World world;
  const auto directory =
      std::filesystem::temp_directory_path() / fmt::format("traces-{}", getpid());
  {
    Tracer tracer(directory.string(), world.clock);
    world.options.tracer = &tracer;
    ASSERT_TRUE(tracer.start({"t", TraceSpec::Kind::kClientId, "c1"}));
    Client client(world);
    ConnectPacket connect;
    connect.clientId = "c1";
    connect.properties.add(PropertyId::kMaximumPacketSize, 40);
    client.connect(connect);
    SubscribePacket packet;
    packet.packetId = 1;
    packet.entries.assign(40, {"a", 1, false, false, 0});
    client.sendAndRun(packet);
    client.expectClosed(ReasonCode::kPacketTooLarge);
    ASSERT_TRUE(tracer.stop("t"));
    std::ifstream file(tracer.all().at(0).file);
    const std::string traced((std::istreambuf_iterator<char>(file)), {});
    EXPECT_NE(traced.find("DISCONNECT"), std::string::npos) << traced;
    EXPECT_EQ(traced.find("SUBACK"), std::string::npos) << traced;
  }
  std::filesystem::remove_all(directory);
}

TEST(Subscribe, ReplaysThatCantBeAreRefusedWithAReason) {
  struct Case {
    const char* filter;
    const char* property;
    bool noLocal;
    const char* reason;
  };
  for (const Case& one : {Case{"a", "soon", false, "replay 'soon': must be earliest"},
                          Case{"$replay/x/a", nullptr, false, "replay 'x': must be earliest"},
                          Case{"$SYS/#", "earliest", false, "nothing is stored"},
                          Case{"$share/g/a", "earliest", false, "shared subscription can't"},
                          Case{"a", "earliest", true, "no local can't"}}) {
    for (bool wanted : {true, false}) {
      SCOPED_TRACE(one.reason);
      World world;
      Client client(world);
      ConnectPacket connect;
      connect.clientId = "c1";
      if (!wanted) connect.properties.add(PropertyId::kRequestProblemInfo, uint32_t{0});
      client.sendAndRun(connect);
      client.next<ConnackPacket>();
      SubscribePacket packet{1, {}, {{one.filter, 1, one.noLocal, false, 0}}};
      if (one.property != nullptr) {
        packet.properties.add(PropertyId::kUserProperty, "polylog-replay", one.property);
      }
      client.sendAndRun(packet);
      auto suback = client.next<SubackPacket>();
      EXPECT_EQ(suback.codes.at(0), ReasonCode::kTopicFilterInvalid);
      auto reason = suback.properties.text(PropertyId::kReasonString);
      ASSERT_EQ(reason.has_value(), wanted);
      if (wanted) {
        EXPECT_NE(reason->find(one.reason), BytesView::npos) << *reason;
      }
      EXPECT_TRUE(client.broker().subscriptions.empty());
    }
  }
}

TEST(Subscribe, NothingButRefusals) {
  World world;
  Client client(world);
  client.connect();
  client.sendAndRun(SubscribePacket{1, {}, {{"#/a", 0, false, false, 0}}});
  EXPECT_EQ(client.next<SubackPacket>().codes.at(0), ReasonCode::kTopicFilterInvalid);
}

TEST(Subscribe, Shared) {
  for (Version version : {Version::k311, Version::k5}) {
    World world;
    Client client(world, version);
    client.connect();
    client.sendAndRun(SubscribePacket{1, {}, {{"$share/g/a/#", 1, false, false, 0}}});
    EXPECT_EQ(client.next<SubackPacket>().codes.at(0), ReasonCode::kGrantedQos1);
    const Subscription& made = client.broker().subscriptions.at("$share/g/a/#");
    EXPECT_EQ(made.share, "g");
    EXPECT_EQ(made.filter.levels.size(), 2U);
  }
}

/// [MQTT-4.8.2-1, -2]
TEST(Subscribe, SharesThatCannotBe) {
  World world;
  Client client(world);
  client.connect();
  SubscribePacket packet{1, {}, {}};
  for (const char* filter : {"$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/#/a",
                             "$share/g+/a", "$share/g/a#"}) {
    packet.entries.push_back({filter, 1, false, false, 0});
  }
  client.sendAndRun(packet);
  for (ReasonCode code : client.next<SubackPacket>().codes) {
    EXPECT_EQ(code, ReasonCode::kTopicFilterInvalid);
  }
  EXPECT_TRUE(client.broker().subscriptions.empty());
}

TEST(Subscribe, NoLocalOnASharedSubscription) {
  World world;
  Client client(world);
  client.connect();
  client.sendAndRun(SubscribePacket{1, {}, {{"$share/g/a", 0, true, false, 0}}});
  client.expectClosed(ReasonCode::kProtocolError);
}

TEST(Subscribe, ErrorsOfTheBroker) {
  for (Version version : {Version::k311, Version::k5}) {
    World world;
    Client client(world, version);
    client.connect();
    world.broker.sessionError = Error{ErrorKind::kNoSpace, "full"};
    client.sendAndRun(SubscribePacket{1, {}, {{"a", 0, false, false, 0}}});
    EXPECT_EQ(client.next<SubackPacket>().codes.at(0),
              version == Version::k5 ? ReasonCode::kQuotaExceeded : static_cast<ReasonCode>(0x80));
    client.sendAndRun(UnsubscribePacket{2, {}, {"a"}});
    if (version == Version::k5) {
      EXPECT_TRUE(isError(client.next<SubackPacket>().codes.at(0)));
    } else {
      client.expectClosed(ReasonCode::kUnspecifiedError);
    }
  }
}

TEST(Subscribe, ComesAfterThePublishesInFrontOfIt) {
  World world;
  Client client(world);
  client.connect();
  bool subscribedAtPublish = true;
  world.broker.judge = [&](const auto&) {
    subscribedAtPublish = !client.broker().subscriptions.empty();
    return PublishResult{};
  };
  client.feed(client.encoded(publishOf("a", "1")) +
              client.encoded(SubscribePacket{1, {}, {{"a", 0, false, false, 0}}}));
  EXPECT_FALSE(subscribedAtPublish);
}

TEST(Unsubscribe, SaysWhatWasThere) {
  World world;
  Client client(world);
  client.connect();
  client.sendAndRun(SubscribePacket{1, {}, {{"a", 0, false, false, 0}}});
  client.packets();
  client.sendAndRun(UnsubscribePacket{2, {}, {"a", "b"}});
  EXPECT_EQ(client.next<SubackPacket>().codes,
            (std::vector<ReasonCode>{ReasonCode::kSuccess, ReasonCode::kNoSubscriptionExisted}));
  Client old(world, k3);
  old.connect("c2");
  old.sendAndRun(UnsubscribePacket{2, {}, {"a"}});
  EXPECT_EQ(old.next<SubackPacket>().packetId, 2);
}

// ---- what a peer that misbehaves may cost
// ----------------------------------------------------------

TEST(Backpressure, RequestsThatWaitAreBounded) {
  World world;
  Client client(world);
  client.connect();
  world.broker.holdAnswers = true;
  std::string input;
  for (uint16_t id = 1; id <= 5000; ++id) {
    input += client.encoded(SubscribePacket{id, {}, {{"a", 0, false, false, 0}}});
  }
  client.feed(input);
  EXPECT_TRUE(client.transport.paused);
  EXPECT_EQ(world.broker.unanswered(), kMaxWaitingRequests + 1);
  world.broker.holdAnswers = false;
  world.broker.answerAll();
  client.run();
  EXPECT_FALSE(client.transport.paused);
  EXPECT_EQ(client.all<SubackPacket>().size(), 5000U);
}

TEST(Backpressure, AnswersThatNobodyReadsAreBounded) {
  World world;
  Client client(world);
  client.connect(connectPacket(10));
  client.transport.isCongested = true;
  std::string pings;
  for (int i = 0; i < 10'000; ++i) pings += client.encoded(PingPacket{PacketType::kPingreq});
  size_t fed = 0;
  while (!client.transport.paused && fed < 1'000'000) {
    client.feed(pings);
    fed += 10'000;
  }
  EXPECT_TRUE(client.transport.paused);
  EXPECT_LE(client.transport.sent.size(), kMaxUnreadAnswers + 64 * 1024);
  // A peer that goes on not reading is silent in the sense of the keep-alive.
  client.transport.isCongested = false;
  client.session->onDrained();
  client.run();
  EXPECT_FALSE(client.transport.paused);
  client.transport.isCongested = true;
  while (!client.transport.paused) client.feed(pings);
  world.dispatcher.advance(16 * kSecond);
  EXPECT_TRUE(client.transport.closed);
}

TEST(Backpressure, CallbacksAfterTheEndDoNothing) {
  World world;
  Client client(world);
  client.connect();
  world.broker.holdAnswers = true;
  client.broker().deliver("a", {}, "x", DeliveryGuarantee::kExactlyOnce);
  client.run();
  client.send(SubscribePacket{1, {}, {{"a", 0, false, false, 0}}});
  client.send(UnsubscribePacket{2, {}, {"a"}});
  client.send(publishOf("a", "1", 1, 3));
  client.send(ackOf(PacketType::kPubrec, 1));
  client.send(DisconnectPacket{});
  client.packets();
  world.broker.answerAll();
  client.run();
  EXPECT_EQ(client.transport.sent, "");
}

/// [MQTT-3.1.2-24]
TEST(Session, AnswersThatTheClientTakesNoPacketAsLargeAsEndTheConnection) {
  World world;
  Client client(world);
  ConnectPacket packet;
  packet.clientId = "c1";
  packet.properties.add(PropertyId::kMaximumPacketSize, 30);
  client.connect(packet);
  SubscribePacket subscribe;
  subscribe.packetId = 1;
  subscribe.entries.resize(25, SubscribeEntry{"a", 0, false, false, 0});
  client.sendAndRun(subscribe);
  EXPECT_EQ(client.next<SubackPacket>().codes.size(), 25U);
  subscribe.entries.resize(26, SubscribeEntry{"a", 0, false, false, 0});
  client.feed(client.encoded(PingPacket{PacketType::kPingreq}) + client.encoded(subscribe));
  client.run();
  EXPECT_TRUE(client.transport.closed);
  const auto came = client.packets();
  ASSERT_EQ(came.size(), 2U) << "what was there before it, and the end";
  EXPECT_TRUE(std::holds_alternative<PingPacket>(came[0]));
  EXPECT_EQ(std::get<DisconnectPacket>(came[1]).code, ReasonCode::kPacketTooLarge);
}

}  // namespace
}  // namespace polylog::mqtt::test
