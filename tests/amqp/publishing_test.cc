// basic.publish: assembly, batches, routes, records, returns and confirms.
#include "mapping/amqp.h"
#include "tests/amqp/harness.h"

namespace polylog::amqp::test {
namespace {

struct PublishingTest : ::testing::Test {
  PublishingTest() { client.open(); }

  void confirm() {
    client.send(ConfirmSelect{});
    client.next<ConfirmSelectOk>();
  }
  const std::vector<polylog::test::PublishedRecord>& published() { return world.broker.published; }

  World world;
  Client client{world};
};

TEST_F(PublishingTest, keepsWhatWasSentForAmqp) {
  declareQueue(client, "q");
  BasicProperties properties;
  properties.contentType = "text/plain";
  properties.messageId = "m1";
  const std::string encoded = propertiesOf(properties);
  client.publish(publishTo("", "q"), "hello", encoded);
  client.run();
  ASSERT_EQ(published().size(), 1U);
  const auto& record = published()[0];
  EXPECT_EQ(record.value, "hello");
  EXPECT_EQ(record.guarantee, DeliveryGuarantee::kAtLeastOnce);
  ASSERT_EQ(record.headers.size(), 1U);
  std::string original;
  mapping::appendAmqpOriginal("", "q", encoded, original);
  EXPECT_EQ(*record.header(mapping::kAmqpOriginal), original);
  EXPECT_EQ(record.streamKey, std::nullopt);
}

TEST_F(PublishingTest, gathersARoundOfAllChannels) {
  client.openChannel(2);
  declareQueue(client, "q");
  std::string round;
  for (int i = 0; i < 5; ++i) {
    round += publishFrames(1, publishTo("", "q"), "a" + std::to_string(i));
    round += publishFrames(2, publishTo("", "q"), "b" + std::to_string(i));
  }
  const size_t routes = world.broker.queues.routeCalls;
  client.feed(round);
  EXPECT_EQ(world.broker.batches, std::vector<size_t>{10});
  EXPECT_EQ(published()[3].value, "b1");
  EXPECT_EQ(*published()[9].header(mapping::kAmqpOriginal),
            *published()[0].header(mapping::kAmqpOriginal));
  EXPECT_EQ(world.broker.queues.routeCalls, routes + 1);
}

TEST_F(PublishingTest, assemblesContentsThatComeInPieces) {
  declareQueue(client, "q");
  const std::string body(10'000, 'x');
  BasicProperties properties;
  properties.correlationId = "a correlation id that is no short one";
  const std::string encoded = propertiesOf(properties);
  const std::string frames = publishFrames(1, publishTo("", "q"), body, encoded, 3000) +
                             publishFrames(1, publishTo("", "q"), "second", kNoProperties, 2);
  for (size_t at = 0; at < frames.size(); at += 7) {
    client.feed(BytesView(frames).substr(at, 7));
  }
  client.run();
  ASSERT_EQ(published().size(), 2U);
  EXPECT_EQ(published()[0].value, body);
  std::string original;
  mapping::appendAmqpOriginal("", "q", encoded, original);
  EXPECT_EQ(*published()[0].header(mapping::kAmqpOriginal), original);
  EXPECT_EQ(published()[1].value, "second");
}

TEST_F(PublishingTest, keepsInterleavedContentsApart) {
  client.openChannel(2);
  declareQueue(client, "q");
  client.feed(methodFrame(1, publishTo("", "q")) + methodFrame(2, publishTo("", "q")) +
              headerFrame(1, 4));
  client.feed(headerFrame(2, 2) + frameOf(FrameType::kBody, 1, "ab") +
              frameOf(FrameType::kBody, 2, "yz"));
  client.feed(frameOf(FrameType::kBody, 1, "") + frameOf(FrameType::kBody, 1, "cd"));
  ASSERT_EQ(published().size(), 2U);
  EXPECT_EQ(published()[0].value, "yz");
  EXPECT_EQ(published()[1].value, "abcd");
}

TEST_F(PublishingTest, takesEmptyBodies) {
  declareQueue(client, "q");
  client.publish(publishTo("", "q"), "");
  ASSERT_EQ(published().size(), 1U);
  EXPECT_EQ(published()[0].value, "");
}

TEST_F(PublishingTest, limitsTheBody) {
  world.broker.recordLimit = 1000;
  client.feed(methodFrame(1, publishTo("", "q")) + headerFrame(1, 1001));
  client.expectChannelClosed(ReplyCode::kPreconditionFailed,
                             "message size 1001 is larger than configured max size 1000");
  EXPECT_EQ(client.methodId, 40);
  client.feed(frameOf(FrameType::kBody, 1, "x"));
  client.expectNothing();
}

TEST_F(PublishingTest, limitsWhatIsUnfinished) {
  world.broker.recordLimit = 1 << 20;
  const std::string piece(100'000, 'x');
  for (uint16_t channel = 2; channel < 250; ++channel) {
    client.openChannel(channel);
    client.feed(methodFrame(channel, publishTo("", "q")) + headerFrame(channel, 1 << 20) +
                frameOf(FrameType::kBody, channel, piece));
    if (client.pending() > 0) break;
  }
  client.expectConnectionClosed(ReplyCode::kResourceError,
                                "too much unfinished content on this connection");
}

TEST_F(PublishingTest, limitsUnfinishedPropertiesToo) {
  world.broker.recordLimit = 1 << 20;
  BasicProperties properties;
  const std::string headers = tableOf({{"a", Value{std::string(100'000, 'x')}}});
  properties.headers = headers;
  const std::string encoded = propertiesOf(properties);
  for (uint16_t channel = 2; channel < 250; ++channel) {
    client.openChannel(channel);
    client.feed(methodFrame(channel, publishTo("", "q")) + headerFrame(channel, 1, encoded));
    if (client.pending() > 0) break;
  }
  client.expectConnectionClosed(ReplyCode::kResourceError,
                                "too much unfinished content on this connection");
}

TEST_F(PublishingTest, tellsWhatIsWrongWithAPublish) {
  const auto wrong = [](const BasicProperties& properties, ReplyCode code, const std::string& text,
                        BytesView exchange = "") {
    World other;
    Client publisher(other);
    publisher.open();
    publisher.publish(publishTo(exchange, "k"), "x", propertiesOf(properties));
    publisher.expectChannelClosed(code, text);
    EXPECT_EQ(publisher.classId, 60);
    EXPECT_EQ(publisher.methodId, 40);
    EXPECT_TRUE(other.broker.published.empty());
  };
  wrong({}, ReplyCode::kNotFound, "no exchange 'nope' in vhost '/'", "nope");
  BasicProperties properties;
  properties.userId = "bob";
  wrong(properties, ReplyCode::kPreconditionFailed,
        "user_id property set to 'bob' but authenticated user was 'guest'");
  properties = {};
  for (const auto& [text, why] : {std::pair<BytesView, const char*>{"abc", "no_integer"},
                                  {"", "no_integer"},
                                  {" 5", "no_integer"},
                                  {"12x", "{leftover_string,\"x\"}"},
                                  {"-1", "{value_negative,-1}"},
                                  {"315360000001", "{value_too_large,315360000001}"}}) {
    properties.expiration = text;
    wrong(properties, ReplyCode::kPreconditionFailed,
          "invalid expiration '" + std::string(text) + "': " + why);
  }
  properties = {};
  properties.replyTo = "amq.rabbitmq.reply-to";
  wrong(properties, ReplyCode::kPreconditionFailed, "fast reply consumer does not exist");
  properties = {};
  properties.deliveryMode = 3;
  wrong(properties, ReplyCode::kPreconditionFailed, "invalid message: {delivery_mode_unknown,3}");
}

TEST_F(PublishingTest, refusesInternalExchanges) {
  world.broker.queues.exchanges["pint"] = {"pint", ExchangeType::kFanout, true, false, true, {}};
  client.publish(publishTo("pint", ""), "x");
  client.expectChannelClosed(ReplyCode::kAccessRefused,
                             "cannot publish to internal exchange 'pint' in vhost '/'");
}

TEST_F(PublishingTest, refusesMalformedProperties) {
  client.publish(publishTo("", "q"), "x",
                 BytesView("\x80\0\x05"
                           "a",
                           4));
  client.expectConnectionClosed(ReplyCode::kSyntaxError, "malformed content properties");
}

TEST_F(PublishingTest, repliesInUtf8) {
  client.publish(publishTo("\xFF", ""), "x");
  client.expectChannelClosed(ReplyCode::kNotFound, "no exchange '?' in vhost '/'");
  client.openChannel(2);
  std::string name(200, 'x');
  for (int i = 0; i < 25; ++i) name += "\u00e9";
  client.feed(publishFrames(2, publishTo(name, ""), "x"));
  const auto close = client.next<ChannelClose>(2);
  EXPECT_TRUE(close.replyText.ends_with("\u00e9..."));
}

TEST_F(PublishingTest, hasNoImmediate) {
  BasicPublish method = publishTo("", "q");
  method.immediate = true;
  client.send(method);
  client.expectConnectionClosed(ReplyCode::kNotImplemented, "immediate=true");
}

TEST_F(PublishingTest, whatCameBeforeAFaultStands) {
  declareQueue(client, "q");
  client.feed(publishFrames(1, publishTo("", "q"), "good") +
              publishFrames(1, publishTo("nope", "q"), "bad") +
              publishFrames(1, publishTo("", "q"), "dropped"));
  client.next<ChannelClose>();
  ASSERT_EQ(published().size(), 1U);
  EXPECT_EQ(published()[0].value, "good");
}

// ---- what other protocols see

TEST_F(PublishingTest, addressesTopics) {
  BasicProperties properties;
  properties.contentType = "text/plain";
  properties.deliveryMode = 2;
  properties.expiration = "1000";
  properties.timestamp = 1'600'000'000;
  const std::string headers = tableOf({{"room", Value{std::string("kitchen")}}});
  properties.headers = headers;
  client.publish(publishTo("amq.topic", "sensors.kitchen.temp"), "21", propertiesOf(properties));
  ASSERT_EQ(published().size(), 1U);
  const auto& record = published()[0];
  EXPECT_EQ(record.address, "sensors/kitchen/temp");
  EXPECT_EQ(record.topic, "sensors");
  EXPECT_EQ(record.key, "kitchen/temp");
  EXPECT_EQ(*record.header("content-type"), "text/plain");
  EXPECT_EQ(*record.header("durable"), "true");
  EXPECT_EQ(*record.header("expiry"), "1700000001000");
  EXPECT_EQ(*record.header("room"), "kitchen");
}

TEST_F(PublishingTest, queuesSeeOnlyTheExpiry) {
  declareQueue(client, "q");
  BasicProperties properties;
  properties.contentType = "text/plain";
  properties.expiration = "1000";
  client.publish(publishTo("", "q"), "21", propertiesOf(properties));
  const auto& record = published()[0];
  EXPECT_EQ(record.headers.size(), 2U);
  EXPECT_EQ(*record.header("expiry"), "1700000001000");
}

TEST_F(PublishingTest, keysForStreams) {
  declareQueue(client, "s", {{"x-queue-type", Value{std::string("stream")}}});
  world.broker.queues.bindings.push_back({"amq.fanout", false, "s", "", {}});
  client.publish(publishTo("amq.fanout", "eu.order"), "1");
  client.publish(publishTo("amq.fanout", ""), "2");
  client.publish(publishTo("", "s"), "3");
  ASSERT_EQ(published().size(), 3U);
  EXPECT_EQ(published()[0].streamKey, "eu/order");
  EXPECT_EQ(published()[0].key, std::nullopt);
  EXPECT_EQ(published()[1].streamKey, std::nullopt);
  EXPECT_EQ(published()[2].streamKey, std::nullopt);
}

TEST_F(PublishingTest, followsTheUsersRules) {
  World other;
  const std::string rule = "factory/+/temp -> topic temps, key {1}";
  other.options.rules = *mapping::Rules::parse({&rule, 1});
  Client publisher(other);
  publisher.open();
  publisher.publish(publishTo("amq.topic", "factory.7.temp"), "21");
  const auto& record = other.broker.published.at(0);
  EXPECT_EQ(record.address, "factory/7/temp");
  EXPECT_EQ(record.topic, "temps");
  EXPECT_EQ(record.key, "7");
}

TEST_F(PublishingTest, refusesTopicsOfTheBrokers) {
  client.publish(publishTo("amq.topic", "$SYS.x"), "21");
  client.next<ChannelClose>();
  EXPECT_TRUE(published().empty());
}

TEST_F(PublishingTest, routesEachByItsOwnHeaders) {
  declareQueue(client, "red");
  declareQueue(client, "blue");
  for (const char* colour : {"red", "blue"}) {
    world.broker.queues.bindings.push_back(
        {"amq.headers", false, colour, "", {{"colour", Value{std::string(colour)}}}});
  }
  std::string round;
  for (const char* colour : {"red", "blue"}) {
    const std::string table = tableOf({{"colour", Value{std::string(colour)}}});
    BasicProperties properties;
    properties.headers = table;
    round += publishFrames(1, publishTo("amq.headers", ""), colour, propertiesOf(properties));
  }
  client.feed(round);
  for (const char* colour : {"red", "blue"}) {
    const auto& ready = world.broker.queues.queues.at(colour)->ready;
    ASSERT_EQ(ready.size(), 1U);
    EXPECT_EQ(ready.begin()->second.record->record.value, colour);
  }
}

// ---- confirms and returns

TEST_F(PublishingTest, confirmsTogether) {
  declareQueue(client, "q");
  confirm();
  world.broker.holdAnswers = true;
  client.feed(publishFrames(1, publishTo("", "q"), "1") +
              publishFrames(1, publishTo("", "q"), "2") +
              publishFrames(1, publishTo("", "q"), "3"));
  client.publish(publishTo("", "q"), "4");
  client.expectNothing();
  world.broker.answerLast();
  client.expectNothing();  // not before the first
  world.broker.answerOne();
  auto ack = client.next<BasicAck>();
  EXPECT_EQ(ack.deliveryTag, 3U);
  EXPECT_TRUE(ack.multiple);
  ack = client.next<BasicAck>();
  EXPECT_EQ(ack.deliveryTag, 4U);
  EXPECT_FALSE(ack.multiple);
}

TEST_F(PublishingTest, refusesSingly) {
  declareQueue(client, "q");
  confirm();
  world.broker.judge = [](const auto& record) {
    PublishResult result;
    if (record.value == "2") result.error = Error{ErrorKind::kNoSpace, "disk full"};
    return result;
  };
  client.feed(publishFrames(1, publishTo("", "q"), "1") +
              publishFrames(1, publishTo("", "q"), "2") +
              publishFrames(1, publishTo("", "q"), "3"));
  client.run();
  EXPECT_EQ(client.next<BasicAck>().deliveryTag, 1U);
  const auto nack = client.next<BasicNack>();
  EXPECT_EQ(nack.deliveryTag, 2U);
  EXPECT_FALSE(nack.multiple);
  EXPECT_EQ(client.next<BasicAck>().deliveryTag, 3U);
}

TEST_F(PublishingTest, aFullDiskBlocksWhoPublishes) {
  declareQueue(client, "q");
  confirm();
  Client capable(world);
  capable.clientProperties =
      tableOf({{"capabilities", Value{Table{{"connection.blocked", Value{true}}}}}});
  capable.heartbeat = 2;
  capable.open();
  world.broker.isFull = true;
  capable.send(BasicQos{});
  capable.next<BasicQosOk>();  // who doesn't publish isn't blocked
  for (Client* each : {&client, &capable}) {
    each->feed(publishFrames(1, publishTo("", "q"), "1") + methodFrame(1, BasicQos{}));
    each->run();
    EXPECT_TRUE(each->transport.paused);
  }
  EXPECT_EQ(capable.next<ConnectionBlocked>(0).reason, "low on disk");
  EXPECT_TRUE(world.broker.published.empty());
  client.expectNothing();
  // It is not its silence.
  world.dispatcher.advance(10'000'000);
  EXPECT_FALSE(capable.transport.closed);
  EXPECT_FALSE(capable.transport.takeSent().empty()) << "heartbeats go on";

  world.broker.space();
  client.run();
  capable.run();
  EXPECT_EQ(world.broker.published.size(), 2U);
  EXPECT_TRUE(world.broker.published[0].admitted);
  client.next<BasicQosOk>();
  EXPECT_EQ(client.next<BasicAck>().deliveryTag, 1U);
  capable.next<ConnectionUnblocked>(0);
  capable.next<BasicQosOk>();
}

TEST_F(PublishingTest, aFullDiskHoldsTheRestOfAContentToo) {
  declareQueue(client, "q");
  confirm();
  const std::string frames = publishFrames(1, publishTo("", "q"), "body");
  client.feed(frames.substr(0, frames.size() - 12));  // without the body's frame
  client.run();
  world.broker.isFull = true;
  client.feed(frames.substr(frames.size() - 12));
  client.run();
  EXPECT_TRUE(client.transport.paused);
  EXPECT_TRUE(world.broker.published.empty());
  world.broker.space();
  client.run();
  EXPECT_EQ(client.next<BasicAck>().deliveryTag, 1U);
}

TEST_F(PublishingTest, aBlockedConnectionMayGo) {
  declareQueue(client, "q");
  world.broker.isFull = true;
  client.publish(publishTo("", "q"), "1");
  EXPECT_EQ(world.broker.spaceWaits(), 1U);
  client.drop("gone");
  EXPECT_EQ(world.broker.spaceWaits(), 0U);
}

TEST_F(PublishingTest, givesBackWhatNobodyTakesAndConfirmsIt) {
  confirm();
  BasicProperties properties;
  properties.type = "t";
  const std::string encoded = propertiesOf(properties);
  const std::string body(5000, 'b');
  const std::string frames = publishFrames(1, publishTo("", "nobody", true), body, encoded, 3000);
  client.feed(frames.substr(0, 100));
  client.feed(frames.substr(100));
  client.run();
  const auto back = client.next<BasicReturn>();
  EXPECT_EQ(back.replyCode, 312);
  EXPECT_EQ(back.replyText, "NO_ROUTE");
  EXPECT_EQ(back.exchange, "");
  EXPECT_EQ(back.routingKey, "nobody");
  const auto content = client.nextBody();
  EXPECT_EQ(content.properties, encoded);
  EXPECT_EQ(content.octets, body);
  EXPECT_EQ(client.next<BasicAck>().deliveryTag, 1U);
}

TEST_F(PublishingTest, saysNothingOfWhatIsNotMandatory) {
  client.publish(publishTo("", "nobody"), "x");
  client.run();
  client.expectNothing();
}

TEST_F(PublishingTest, returnsWithoutConfirms) {
  declareQueue(client, "q");
  client.feed(publishFrames(1, publishTo("", "q", true), "1") +
              publishFrames(1, publishTo("", "nobody", true), "2"));
  client.run();
  EXPECT_EQ(client.next<BasicReturn>().routingKey, "nobody");
  EXPECT_EQ(client.nextBody().octets, "2");
  client.expectNothing();
}

TEST_F(PublishingTest, aClosedChannelsConfirmsAreNotSent) {
  declareQueue(client, "q");
  confirm();
  world.broker.holdAnswers = true;
  client.publish(publishTo("", "q", true), "1");
  client.send(ChannelClose{});
  client.next<ChannelCloseOk>();
  client.openChannel(1);
  world.broker.answerAll();
  client.run();
  client.expectNothing();
}

TEST_F(PublishingTest, authorizationClosesTheChannel) {
  declareQueue(client, "q");
  confirm();
  world.broker.judge = [](const auto&) {
    return PublishResult{Error{ErrorKind::kUnauthorized, "write to 'x' refused"}, false};
  };
  client.publish(publishTo("", "q"), "1");
  client.run();
  client.expectChannelClosed(ReplyCode::kAccessRefused, "write to 'x' refused");
}

TEST_F(PublishingTest, stopsReadingWhileTooMuchWaits) {
  declareQueue(client, "q");
  confirm();
  world.broker.holdAnswers = true;
  const std::string body(100'000, 'x');
  for (int i = 0; i < 200 && !client.transport.paused; ++i)
    client.publish(publishTo("", "q"), body);
  EXPECT_TRUE(client.transport.paused);
  EXPECT_LT(world.broker.published.size(), 100U);
  world.broker.holdAnswers = false;
  world.broker.answerAll();
  client.run();
  EXPECT_FALSE(client.transport.paused);
}

TEST_F(PublishingTest, stopsReadingEvenIfNobodyWantsToKnow) {
  declareQueue(client, "q");
  world.broker.holdAnswers = true;
  const std::string body(100'000, 'x');
  for (int i = 0; i < 200 && !client.transport.paused; ++i) {
    client.publish(publishTo("", "q"), body);
  }
  EXPECT_TRUE(client.transport.paused);
  world.broker.answerAll();
  client.run();
  EXPECT_FALSE(client.transport.paused);
}

TEST_F(PublishingTest, whatLooksIntoAQueueFindsWhatWasPublished) {
  declareQueue(client, "q");
  world.broker.holdAnswers = true;
  client.publish(publishTo("", "q"), "x");
  const size_t unanswered = world.broker.unanswered();
  BasicGet get;
  get.queue = "q";
  client.send(get);
  EXPECT_EQ(world.broker.unanswered(), unanswered);
  EXPECT_TRUE(client.transport.paused);
  world.broker.holdAnswers = false;
  world.broker.answerAll();
  client.run();
  client.next<BasicGetOk>();
  EXPECT_EQ(client.nextBody().octets, "x");
}

}  // namespace
}  // namespace polylog::amqp::test
