// The connection itself: handshake, frames, channels opening and closing, heartbeats, the end.
#include "tests/amqp/harness.h"

namespace polylog::amqp::test {
namespace {

TEST(SessionTest, shakesHands) {
  World world;
  Client client(world);
  client.feed(kProtocolHeader.substr(0, 5));
  client.expectNothing();
  client.feed(kProtocolHeader.substr(5));
  const auto start = client.next<ConnectionStart>(0);
  EXPECT_EQ(start.versionMajor, 0);
  EXPECT_EQ(start.versionMinor, 9);
  EXPECT_EQ(start.mechanisms, "AMQPLAIN PLAIN");
  const auto properties = decodeTable(start.serverProperties);
  ASSERT_TRUE(properties);
  EXPECT_EQ(*find(*properties, "product"), Value{std::string("Polylog")});
  const auto& can = std::get<Table>(find(*properties, "capabilities")->is);
  EXPECT_NE(find(can, "publisher_confirms"), nullptr);
  EXPECT_NE(find(can, "connection.blocked"), nullptr);
  EXPECT_EQ(find(can, "consumer_priorities"), nullptr);

  client.clientProperties = tableOf({{"connection_name", Value{std::string("billing")}}});
  client.send(client.startOk(), 0);
  const auto tune = client.next<ConnectionTune>(0);
  EXPECT_EQ(tune.channelMax, 2047);
  EXPECT_EQ(tune.frameMax, 131'072U);
  EXPECT_EQ(tune.heartbeat, 60);
  EXPECT_FALSE(client.transport.handshakeIsDone);
  ConnectionOpen open;
  open.virtualHost = "/";
  client.feed(methodFrame(0, client.tuneOk()) + methodFrame(0, open));
  client.next<ConnectionOpenOk>(0);
  EXPECT_TRUE(client.transport.handshakeIsDone);
  ASSERT_TRUE(world.broker.queueClient);
  EXPECT_EQ(world.broker.queueClient->user, "guest");
  EXPECT_EQ(world.broker.queueClient->clientId, "billing");
  EXPECT_EQ(world.broker.queueClient->protocol, Protocol::kAmqp);
}

TEST(SessionTest, takesTheHeaderOf09) {
  World world;
  Client client(world);
  client.feed(BytesView("AMQP\x01\x01\x00\x09", 8));
  client.next<ConnectionStart>(0);
}

TEST(SessionTest, answersOtherProtocolsWithItsOwnHeader) {
  for (BytesView header : {BytesView("AMQP\0\x01\0\0", 8), BytesView("AMQP\x01\x01\x08\0", 8),
                           BytesView("GET / HTTP/1.1\r\n")}) {
    World world;
    Client client(world);
    client.feed(header);
    EXPECT_EQ(client.transport.takeSent(), kProtocolHeader);
    EXPECT_TRUE(client.transport.closed);
  }
}

TEST(SessionTest, takesAmqPlain) {
  World world;
  Client client(world);
  client.feed(kProtocolHeader);
  client.next<ConnectionStart>(0);
  const std::string response =
      tableOf({{"LOGIN", Value{std::string("ann")}}, {"PASSWORD", Value{std::string("x")}}});
  ConnectionStartOk ok = client.startOk();
  ok.mechanism = "AMQPLAIN";
  ok.response = response;
  client.send(ok, 0);
  client.next<ConnectionTune>(0);
}

TEST(SessionTest, refusesWhatItCantReadInALogin) {
  for (const auto& [mechanism, response] : {std::pair<BytesView, BytesView>{"PLAIN", "abc"},
                                            {"EXTERNAL", ""},
                                            {"AMQPLAIN", "x"},
                                            {"PLAIN", BytesView("x\0a\0b", 5)},
                                            {"PLAIN", BytesView("\0a\0b\0", 5)}}) {
    World world;
    Client client(world);
    client.feed(kProtocolHeader);
    client.next<ConnectionStart>(0);
    ConnectionStartOk ok = client.startOk();
    ok.mechanism = mechanism;
    ok.response = response;
    client.send(ok, 0);
    client.next<ConnectionClose>(0);
  }
}

TEST(SessionTest, refusesLoginsFromElsewhere) {
  for (bool capable : {true, false}) {
    World world;
    Client client(world);
    client.transport.peerIs("192.0.2.7:4711");
    if (capable) {
      client.clientProperties =
          tableOf({{"capabilities", Value{Table{{"authentication_failure_close", Value{true}}}}}});
    }
    client.feed(kProtocolHeader);
    client.next<ConnectionStart>(0);
    client.send(client.startOk(), 0);
    if (capable) {
      client.expectConnectionClosed(ReplyCode::kAccessRefused,
                                    "Login was refused using authentication mechanism PLAIN. For "
                                    "details see the broker logfile.");
      EXPECT_EQ(client.classId, 0);
    } else {
      client.expectNothing();
      EXPECT_TRUE(client.transport.closed);
    }
  }
  World world;
  world.options.remoteLogins = true;
  Client client(world);
  client.transport.peerIs("192.0.2.7:4711");
  client.open();
}

TEST(SessionTest, refusesTuningBeyondTheOffer) {
  const auto tune = [](uint16_t channels, uint32_t frame, const std::string& text) {
    World world;
    Client client(world);
    client.channelMax = channels;
    client.frameMax = frame;
    client.feed(kProtocolHeader);
    client.next<ConnectionStart>(0);
    client.send(client.startOk(), 0);
    client.next<ConnectionTune>(0);
    client.send(client.tuneOk(), 0);
    client.expectConnectionClosed(ReplyCode::kNotAllowed, text);
  };
  tune(2047, 0, "negotiated frame_max = 0 is higher than the maximum allowed value (131072)");
  tune(2047, 4095, "negotiated frame_max = 4095 is lower than the minimum allowed value (4096)");
  tune(0, 4096,
       "negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (2047)");
  tune(2048, 4096, "negotiated channel_max = 2048 is higher than the maximum allowed value (2047)");
}

TEST(SessionTest, hasOneVirtualHost) {
  World world;
  Client client(world);
  client.feed(kProtocolHeader);
  client.next<ConnectionStart>(0);
  client.send(client.startOk(), 0);
  client.next<ConnectionTune>(0);
  client.send(client.tuneOk(), 0);
  ConnectionOpen open;
  open.virtualHost = "nope";
  client.send(open, 0);
  client.expectConnectionClosed(ReplyCode::kNotAllowed, "vhost nope not found");
  EXPECT_EQ(client.classId, 10);
  EXPECT_EQ(client.methodId, 40);
  EXPECT_FALSE(client.transport.closed);
  client.send(ConnectionCloseOk{}, 0);
  EXPECT_TRUE(client.transport.closed);
}

TEST(SessionTest, wantsMethodsInTheirOrder) {
  World world;
  Client client(world);
  client.open(false);
  client.send(BasicQos{}, 0);
  client.expectConnectionClosed(ReplyCode::kChannelError,
                                "unexpected method in connection state running");
  EXPECT_EQ(client.classId, 60);
  EXPECT_EQ(client.methodId, 10);
}

TEST(SessionTest, answersTheClientsClose) {
  World world;
  Client client(world);
  client.open();
  client.send(ConnectionClose{}, 0);
  client.next<ConnectionCloseOk>(0);
  EXPECT_TRUE(client.transport.closed);
}

TEST(SessionTest, answersUpdateSecret) {
  World world;
  Client client(world);
  client.open();
  client.send(ConnectionUpdateSecret{}, 0);
  client.next<ConnectionUpdateSecretOk>(0);
}

TEST(SessionTest, doesNotWaitForCloseOkForEver) {
  World world;
  Client client(world);
  client.open();
  client.send(BasicDeliver{}, 2);
  client.next<ConnectionClose>(0);
  client.feed(methodFrame(1, BasicQos{}) + methodFrame(0, ConnectionClose{}));
  client.next<ConnectionCloseOk>(0);
  EXPECT_FALSE(client.transport.closed);
  client.send(ConnectionClose{}, 0);
  client.expectNothing();
  world.dispatcher.advance(11'000'000);
  EXPECT_TRUE(client.transport.closed);
}

TEST(SessionTest, saysGoodBye) {
  World world;
  Client client(world);
  client.open();
  client.session->onShutdown();
  client.expectConnectionClosed(ReplyCode::kConnectionForced,
                                "broker forced connection closure with reason 'shutdown'");
  EXPECT_TRUE(client.transport.closed);
}

// ---- frames

TEST(SessionTest, tellsWhatIsWrongWithAFrame) {
  const auto broken = [](BytesView frame, ReplyCode code, const std::string& text) {
    World world;
    Client client(world);
    client.open();
    client.feed(frame);
    client.expectConnectionClosed(code, text);
  };
  broken(BytesView("\x03\0\x01\0\x02\0\x01", 7), ReplyCode::kFrameError,
         "type 3, all octets = <<>>: {frame_too_large,131073,131064}");
  std::string badEnd = frameOf(FrameType::kMethod, 1, BytesView("\0\x14\0\x0a", 4));
  badEnd.back() = 'Z';
  broken(badEnd, ReplyCode::kFrameError,
         "type 1, all octets = <<0,20,0,10>>: {invalid_frame_end_marker,90}");
  broken(frameOf(FrameType::kHeartbeat, 1, ""), ReplyCode::kUnexpectedFrame,
         "type 8, all octets = <<>>");
  broken(frameOf(FrameType::kHeartbeat, 0, "a"), ReplyCode::kFrameError,
         "type 8, all octets = <<\"a\">>: unknown_frame");
  broken(frameOf(FrameType::kBody, 0, "abc"), ReplyCode::kUnexpectedFrame,
         "type 3, all octets = <<\"abc\">>");
  broken(frameOf(FrameType::kBody, 1, "abc"), ReplyCode::kUnexpectedFrame,
         "expected method frame, got non method frame instead");
  broken(frameOf(FrameType::kMethod, 1, BytesView("\0\x3c\0\x50\x01\x01", 6)),
         ReplyCode::kFrameError, "cannot decode <<1,1>>");
  broken(frameOf(FrameType::kMethod, 1, BytesView("\0\x63\0\x63", 4)), ReplyCode::kCommandInvalid,
         "unimplemented method");
  broken(methodFrame(1, BasicCancelOk{}), ReplyCode::kCommandInvalid, "unimplemented method");
  broken(methodFrame(1, BasicPublish{}) + methodFrame(1, BasicPublish{}),
         ReplyCode::kUnexpectedFrame,
         "expected content header for class 60, got non content header frame instead");
  broken(methodFrame(1, BasicPublish{}) + headerFrame(1, 5) + headerFrame(1, 5),
         ReplyCode::kUnexpectedFrame, "expected content body, got non content body frame instead");
}

TEST(SessionTest, takesFramesAnOctetAtATime) {
  World world;
  Client client(world);
  client.open();
  const std::string frame = methodFrame(1, qosOf(10));
  for (char octet : frame) {
    client.expectNothing();
    client.feed(BytesView(&octet, 1));
  }
  client.next<BasicQosOk>();
}

TEST(SessionTest, sendsAndMissesHeartbeats) {
  World world;
  Client client(world);
  client.heartbeat = 2;
  client.open();
  world.dispatcher.advance(900'000);
  client.expectNothing();
  world.dispatcher.advance(1'100'000);
  EXPECT_EQ(client.transport.takeSent(), frameOf(FrameType::kHeartbeat, 0, ""));
  client.feed(frameOf(FrameType::kHeartbeat, 0, ""));
  world.dispatcher.advance(3'900'000);
  EXPECT_FALSE(client.transport.closed);
  world.dispatcher.advance(2'100'000);
  EXPECT_TRUE(client.transport.closed);
  EXPECT_EQ(client.transport.reason, "missed heartbeats from client");
}

// ---- channels

TEST(SessionTest, opensAndClosesChannels) {
  World world;
  Client client(world);
  client.channelMax = 2;
  client.open();
  client.openChannel(77);
  client.send(ChannelClose{}, 1);
  client.next<ChannelCloseOk>();
  client.openChannel(1);
  client.send(ChannelOpen{}, 3);
  client.expectConnectionClosed(ReplyCode::kNotAllowed,
                                "number of channels opened (2) has reached the negotiated "
                                "channel_max (2)");
  EXPECT_EQ(client.classId, 0);
}

TEST(SessionTest, wantsAChannelOpened) {
  {
    World world;
    Client client(world);
    client.open();
    client.send(ackOf(1), 2);
    client.expectConnectionClosed(ReplyCode::kChannelError, "expected 'channel.open'");
    EXPECT_EQ(client.classId, 60);
    EXPECT_EQ(client.methodId, 80);
  }
  World world;
  Client client(world);
  client.open();
  client.send(ChannelOpen{}, 1);
  client.expectConnectionClosed(ReplyCode::kChannelError, "second 'channel.open' seen");
}

TEST(SessionTest, aClosingChannelDropsWhatComesUntilCloseOk) {
  World world;
  Client client(world);
  client.open();
  client.send(ackOf(9));
  client.expectChannelClosed(ReplyCode::kPreconditionFailed, "unknown delivery tag 9");
  EXPECT_EQ(client.classId, 60);
  EXPECT_EQ(client.methodId, 80);
  client.feed(publishFrames(1, publishTo("nope", ""), "x"));
  client.send(qosOf(1));
  client.expectNothing();
  client.send(ChannelClose{});
  client.next<ChannelCloseOk>();
  client.send(ChannelCloseOk{});
  client.openChannel(1);
  client.send(qosOf(1));
  client.next<BasicQosOk>();
}

TEST(SessionTest, knowsFlowAndTickets) {
  World world;
  Client client(world);
  client.open();
  ChannelFlow flow;
  flow.active = true;
  client.send(flow);
  EXPECT_TRUE(client.next<ChannelFlowOk>().active);
  client.send(AccessRequest{});
  EXPECT_EQ(client.next<AccessRequestOk>().ticket, 1);
  client.send(ChannelFlow{});
  client.expectConnectionClosed(ReplyCode::kNotImplemented, "active=false");
}

TEST(SessionTest, hasNoTransactions) {
  World world;
  Client client(world);
  client.open();
  client.send(TxSelect{});
  client.expectConnectionClosed(ReplyCode::kNotImplemented, "transactions are not supported");
}

TEST(SessionTest, survivesTheConnectionsEndAtAnyTime) {
  World world;
  world.broker.holdAnswers = true;
  {
    Client client(world);
    client.open();
    client.send(QueueDeclare{});
    client.send(ConfirmSelect{}, 1);
  }
  world.broker.answerAll();
  world.dispatcher.runAll();
}

}  // namespace
}  // namespace polylog::amqp::test
