// Consumers, deliveries, basic.get, windows and acknowledgements.
#include "mapping/amqp.h"
#include "tests/amqp/harness.h"

namespace polylog::amqp::test {
namespace {

using polylog::test::makeRouted;

Value text(const char* value) {
  return Value{std::string(value)};
}

struct ConsumingTest : ::testing::Test {
  ConsumingTest() {
    client.open();
    declareQueue(client, "q");
  }

  polylog::test::FakeQueues& queues() { return world.broker.queues; }
  size_t ready() { return queues().queues.at("q")->ready.size(); }
  size_t taken() { return queues().queues.at("q")->taken.size(); }
  void put(const std::string& body, const std::string& queue = "q") {
    queues().put(queue, makeRouted("t", "k", body));
  }
  void put(int count) {
    for (int i = 0; i < count; ++i) put(std::to_string(i));
  }
  void consume(BytesView tag = "c", bool noAck = false, BytesView queue = "q",
               uint16_t channel = 1) {
    client.sendAndRun(consumeOf(queue, tag, noAck), channel);
    EXPECT_EQ(client.next<BasicConsumeOk>(channel).consumerTag, tag);
  }
  std::string nextDelivery(uint64_t tag, bool redelivered = false, uint16_t channel = 1) {
    const auto method = client.next<BasicDeliver>(channel);
    EXPECT_EQ(method.deliveryTag, tag);
    EXPECT_EQ(method.redelivered, redelivered);
    return client.nextBody(channel).octets;
  }
  void skipDeliveries(int count) {
    for (int i = 0; i < count; ++i) {
      client.next<BasicDeliver>();
      client.nextBody();
    }
  }

  World world;
  Client client{world};
};

TEST_F(ConsumingTest, deliversWhatWasSent) {
  BasicProperties properties;
  properties.contentType = "text/plain";
  const std::string headers = tableOf({{"a", Value{int64_t{1}}}});
  properties.headers = headers;
  const std::string encoded = propertiesOf(properties);
  QueueBind bind;
  bind.queue = "q";
  bind.exchange = "amq.direct";
  bind.routingKey = "some.key";
  client.sendAndRun(bind);
  client.next<QueueBindOk>();
  client.publish(publishTo("amq.direct", "some.key"), "hello", encoded);
  consume();
  const auto method = client.next<BasicDeliver>();
  EXPECT_EQ(method.consumerTag, "c");
  EXPECT_EQ(method.deliveryTag, 1U);
  EXPECT_EQ(method.exchange, "amq.direct");
  EXPECT_EQ(method.routingKey, "some.key");
  const auto body = client.nextBody();
  EXPECT_EQ(body.properties, encoded);
  EXPECT_EQ(body.octets, "hello");
}

TEST_F(ConsumingTest, translatesWhatOthersPublish) {
  queues().put("q", makeRouted("sensors", "kitchen/temp", "21", {{"content-type", "text/plain"}}));
  consume();
  const auto method = client.next<BasicDeliver>();
  EXPECT_EQ(method.exchange, "amq.topic");
  EXPECT_EQ(method.routingKey, "sensors.kitchen.temp");
  const auto body = client.nextBody();
  const auto properties = decodeProperties(body.properties);
  ASSERT_TRUE(properties);
  EXPECT_EQ(properties->contentType, "text/plain");
  EXPECT_EQ(properties->timestamp, 1'700'000'000U);
}

TEST_F(ConsumingTest, dividesLargeBodies) {
  World other;
  Client small(other);
  small.frameMax = 4096;
  small.open();
  declareQueue(small, "q");
  std::string body(20'000, 'x');
  for (size_t i = 0; i < body.size(); ++i) body[i] = static_cast<char>('a' + i % 26);
  other.broker.queues.put("q", makeRouted("t", std::nullopt, body));
  other.broker.queues.put("q", makeRouted("t", std::nullopt, ""));
  small.sendAndRun(consumeOf("q", "c"));
  small.next<BasicConsumeOk>();
  small.next<BasicDeliver>();
  auto got = small.nextBody();
  EXPECT_EQ(got.octets, body);
  EXPECT_EQ(got.frames, 5U);
  EXPECT_LE(small.largestFrame, 4096U);
  EXPECT_GT(small.transport.sentByReference, 3U);
  small.next<BasicDeliver>();
  got = small.nextBody();
  EXPECT_EQ(got.frames, 0U);
}

TEST_F(ConsumingTest, makesUpConsumerTags) {
  client.sendAndRun(consumeOf("q", ""));
  const auto ok = client.next<BasicConsumeOk>();
  EXPECT_TRUE(ok.consumerTag.starts_with("amq.ctag-"));
  EXPECT_EQ(ok.consumerTag.size(), 31U);
}

TEST_F(ConsumingTest, refusesConsumers) {
  consume();
  client.openChannel(2);
  client.sendAndRun(consumeOf("nope", "c"), 2);
  client.expectChannelClosed(ReplyCode::kNotFound, "no queue 'nope' in vhost '/'", 2);
  client.openChannel(3);
  BasicConsume method = consumeOf("q", "c");
  method.exclusive = true;
  client.sendAndRun(method, 3);
  client.expectChannelClosed(ReplyCode::kAccessRefused, "queue 'q' in vhost '/' in exclusive use",
                             3);
  client.openChannel(4);
  const std::string offset = tableOf({{"x-stream-offset", text("first")}});
  method = consumeOf("q", "c");
  method.arguments = offset;
  client.sendAndRun(method, 4);
  client.expectChannelClosed(ReplyCode::kPreconditionFailed,
                             "invalid arg 'x-stream-offset' for queue 'q' in vhost '/' of queue "
                             "type rabbit_classic_queue",
                             4);
  client.sendAndRun(consumeOf("q", "c"));
  client.expectConnectionClosed(ReplyCode::kNotAllowed, "attempt to reuse consumer tag 'c'");
}

TEST_F(ConsumingTest, hasNoPrioritiesNorDirectReplies) {
  {
    World other;
    Client asker(other);
    asker.open();
    asker.sendAndRun(consumeOf("amq.rabbitmq.reply-to", "c", true));
    asker.expectConnectionClosed(ReplyCode::kNotImplemented, "direct reply-to is not supported");
  }
  const std::string priority = tableOf({{"x-priority", Value{int64_t{5}}}});
  BasicConsume method = consumeOf("q", "c");
  method.arguments = priority;
  client.sendAndRun(method);
  client.expectConnectionClosed(ReplyCode::kNotImplemented,
                                "arg 'x-priority' for consumer of queue 'q' in vhost '/'");
}

TEST_F(ConsumingTest, cancels) {
  put(1);
  consume();
  EXPECT_EQ(nextDelivery(1), "0");
  BasicCancel cancel;
  cancel.consumerTag = "c";
  client.sendAndRun(cancel);
  EXPECT_EQ(client.next<BasicCancelOk>().consumerTag, "c");
  put(1);
  client.run();
  client.expectNothing();
  client.sendAndRun(ackOf(1));  // stays the client's
  client.expectNothing();
  EXPECT_EQ(taken(), 0U);
  client.sendAndRun(cancel);  // there is none: fine
  client.next<BasicCancelOk>();
  consume();
  EXPECT_EQ(nextDelivery(2), "0");
}

TEST_F(ConsumingTest, tellsOfDeletedQueuesIfAsked) {
  consume();
  QueueDelete gone;
  gone.queue = "q";
  client.sendAndRun(gone);
  client.next<QueueDeleteOk>();
  client.expectNothing();

  Client asking(world);
  asking.clientProperties =
      tableOf({{"capabilities", Value{Table{{"consumer_cancel_notify", Value{true}}}}}});
  asking.open();
  declareQueue(asking, "q");
  asking.sendAndRun(consumeOf("q", "c"));
  asking.next<BasicConsumeOk>();
  asking.sendAndRun(gone);
  asking.next<QueueDeleteOk>();
  const auto cancel = asking.next<BasicCancel>();
  EXPECT_EQ(cancel.consumerTag, "c");
  EXPECT_TRUE(cancel.noWait);
}

// ---- windows

TEST_F(ConsumingTest, holdsToThePrefetchOfLaterConsumers) {
  client.send(qosOf(2));
  client.next<BasicQosOk>();
  consume();
  client.send(qosOf(1));
  client.next<BasicQosOk>();
  put(4);
  client.run();
  EXPECT_EQ(nextDelivery(1), "0");
  EXPECT_EQ(nextDelivery(2), "1");
  client.expectNothing();
  client.sendAndRun(ackOf(2));
  EXPECT_EQ(nextDelivery(3), "2");
  client.expectNothing();
  client.sendAndRun(ackOf(3, true));
  EXPECT_EQ(nextDelivery(4), "3");
  client.expectNothing();
}

TEST_F(ConsumingTest, holdsTheChannelToItsPrefetch) {
  declareQueue(client, "q2");
  consume("c1");
  consume("c2", false, "q2");
  client.send(qosOf(2, true));
  client.next<BasicQosOk>();
  put(3);
  put("other", "q2");
  client.run();
  skipDeliveries(2);
  client.expectNothing();
  client.sendAndRun(ackOf(2, true));
  skipDeliveries(2);
  client.expectNothing();
  client.send(qosOf(0, true));
  put(2);
  client.run();
  client.next<BasicQosOk>();
  skipDeliveries(2);
}

TEST_F(ConsumingTest, aPrefetchOfConsumersLiftsTheChannels) {
  consume();
  client.send(qosOf(1, true));
  client.next<BasicQosOk>();
  put(3);
  client.run();
  skipDeliveries(1);
  client.expectNothing();
  client.send(qosOf(10));
  client.next<BasicQosOk>();
  client.run();
  skipDeliveries(2);
}

TEST_F(ConsumingTest, refusesPrefetchSizes) {
  BasicQos method = qosOf(1);
  method.prefetchSize = 1;
  client.send(method);
  client.expectConnectionClosed(ReplyCode::kNotImplemented, "prefetch_size!=0 (1)");
}

TEST_F(ConsumingTest, boundsEvenUnlimitedConsumers) {
  consume();
  ASSERT_EQ(queues().queues.at("q")->consumers.size(), 1U);
  EXPECT_EQ(queues().queues.at("q")->consumers[0]->options.window->limit(), 65'535);
}

TEST_F(ConsumingTest, deliversNoMoreWhileTheClientDoesNotRead) {
  queues().most = 4;
  consume("c", true);
  client.transport.isCongested = true;
  put(10);
  client.run();
  skipDeliveries(4);
  client.expectNothing();
  client.transport.isCongested = false;
  client.session->onDrained();
  client.run();
  skipDeliveries(6);
  EXPECT_EQ(taken(), 0U);
}

TEST_F(ConsumingTest, itsConsumersTogetherAreBoundedToo) {
  constexpr int kConsumers = 20;
  const std::string body(1 << 20, 'x');
  for (int i = 0; i < kConsumers; ++i) {
    const std::string name = "q" + std::to_string(i);
    declareQueue(client, name);
    consume(name, i % 2 == 0, name);
  }
  client.transport.isCongested = true;
  for (int i = 0; i < kConsumers; ++i) put(body, "q" + std::to_string(i));
  client.run();
  EXPECT_LT(client.transport.sent.size(), 10U << 20);
  // Ending one makes no room while the transport holds what it got.
  BasicCancel cancel;
  cancel.consumerTag = "q0";
  cancel.noWait = true;
  client.sendAndRun(cancel);
  EXPECT_LT(client.transport.sent.size(), 10U << 20);
  const size_t before = client.transport.sent.size();
  client.transport.isCongested = false;
  client.session->onDrained();
  client.run();
  EXPECT_GE(client.transport.sent.size() - before, 10U << 20) << "all the others go on";
}

TEST_F(ConsumingTest, stopsReadingWhenItsAnswersAreNotRead) {
  client.transport.isCongested = true;
  for (int i = 0; i < 100'000 && !client.transport.paused; ++i)
    client.feed(methodFrame(1, qosOf(1)));
  EXPECT_TRUE(client.transport.paused);
  EXPECT_LT(client.transport.sent.size(), 400'000U);
  client.transport.isCongested = false;
  client.session->onDrained();
  EXPECT_FALSE(client.transport.paused);
}

// ---- acknowledgements

TEST_F(ConsumingTest, settlesARoundAtOnce) {
  put(5);
  consume();
  skipDeliveries(5);
  queues().settleCalls = 0;
  client.feed(methodFrame(1, ackOf(2)) + methodFrame(1, ackOf(1)) + methodFrame(1, ackOf(4, true)));
  EXPECT_EQ(queues().settleCalls, 1U);
  EXPECT_EQ(queues().settlements.size(), 4U);
  EXPECT_EQ(taken(), 1U);
  client.send(ackOf(0, true));
  EXPECT_EQ(taken(), 0U);
  client.send(ackOf(0, true));  // nothing left: fine
  client.expectNothing();
}

TEST_F(ConsumingTest, knowsItsTags) {
  put(3);
  consume();
  skipDeliveries(3);
  client.send(ackOf(2));
  client.send(ackOf(2, true));
  client.expectChannelClosed(ReplyCode::kPreconditionFailed, "unknown delivery tag 2");
  EXPECT_EQ(ready(), 2U);  // gone back
}

TEST_F(ConsumingTest, rejectsAndRequeues) {
  put(3);
  client.send(qosOf(3));
  client.next<BasicQosOk>();
  consume();
  skipDeliveries(3);
  BasicReject reject;
  reject.deliveryTag = 1;
  client.sendAndRun(reject);
  EXPECT_EQ(queues().settlements.back().disposition, Disposition::kReject);
  BasicNack nack;
  nack.deliveryTag = 3;
  nack.multiple = true;
  nack.requeue = true;
  client.sendAndRun(nack);
  EXPECT_EQ(nextDelivery(4, true), "1");
  EXPECT_EQ(nextDelivery(5, true), "2");
}

TEST_F(ConsumingTest, recovers) {
  put(2);
  consume();
  skipDeliveries(2);
  BasicRecover recover;
  recover.requeue = true;
  client.sendAndRun(recover);
  client.next<BasicRecoverOk>();
  EXPECT_EQ(nextDelivery(3, true), "0");
  EXPECT_EQ(nextDelivery(4, true), "1");
  BasicRecoverAsync async;
  async.requeue = true;
  client.sendAndRun(async);
  skipDeliveries(2);
  client.send(BasicRecover{});
  client.expectConnectionClosed(ReplyCode::kNotImplemented, "requeue=false");
  EXPECT_EQ(ready(), 2U);
}

TEST_F(ConsumingTest, whatIsNotAcknowledgedGoesBackAtTheEnd) {
  put(4);
  client.openChannel(2);
  client.send(qosOf(2));
  client.next<BasicQosOk>();
  consume();
  skipDeliveries(2);
  client.send(ChannelClose{});
  client.next<ChannelCloseOk>();
  EXPECT_EQ(ready(), 4U);
  consume("c", false, "q", 2);
  EXPECT_EQ(taken(), 4U);
  client.drop("lost");
  EXPECT_EQ(ready(), 4U);
  EXPECT_TRUE(queues().queues.at("q")->consumers.empty());
}

TEST_F(ConsumingTest, withoutAcknowledgementsThereAreNone) {
  put(2);
  consume("c", true);
  EXPECT_EQ(nextDelivery(1), "0");
  EXPECT_EQ(nextDelivery(2), "1");
  client.send(ackOf(1));
  client.expectChannelClosed(ReplyCode::kPreconditionFailed, "unknown delivery tag 1");
}

TEST_F(ConsumingTest, dropsWhatHasExpired) {
  queues().put("q", makeRouted("t", "k", "old", {{"expiry", "1699999999999"}}));
  put("new");
  client.send(qosOf(1));
  client.next<BasicQosOk>();
  consume();
  EXPECT_EQ(nextDelivery(1), "new");
  ASSERT_EQ(queues().settlements.size(), 1U);
  EXPECT_EQ(queues().settlements[0].disposition, Disposition::kReject);
}

TEST_F(ConsumingTest, dropsWhatAmqpCannotName) {
  queues().put("q", makeRouted("t", std::string(300, 'k'), "x"));
  put("y");
  consume();
  EXPECT_EQ(nextDelivery(1), "y");
}

TEST_F(ConsumingTest, trustsNoForgedOriginal) {
  // A Kafka producer may write any header.
  std::string original;
  mapping::appendAmqpOriginal("x", "y",
                              BytesView("\x80\0\x09"
                                        "a",
                                        4),
                              original);
  queues().put("q", makeRouted("t", "k", "x", {{std::string(mapping::kAmqpOriginal), original}}));
  consume();
  EXPECT_EQ(client.next<BasicDeliver>().exchange, "amq.topic");
  client.nextBody();
}

TEST_F(ConsumingTest, sendsNoForgedOriginalThatFitsNoFrame) {
  BasicProperties properties;
  const std::string headers = tableOf({{"a", Value{std::string(200'000, 'x')}}});
  properties.headers = headers;
  std::string original;
  mapping::appendAmqpOriginal("x", "y", propertiesOf(properties), original);
  queues().put("q", makeRouted("t", "k", "x", {{std::string(mapping::kAmqpOriginal), original}}));
  consume();
  EXPECT_EQ(client.next<BasicDeliver>().exchange, "amq.topic");
  client.nextBody();
  EXPECT_LE(client.largestFrame, 131'072U);
}

TEST_F(ConsumingTest, dropsWhatHasMoreHeadersThanFitAFrame) {
  std::vector<std::pair<std::string, std::string>> headers(50'000, {"a", ""});
  queues().put("q", makeRouted("t", "k", "x", headers));
  put("y");
  consume();
  EXPECT_EQ(nextDelivery(1), "y");
}

// ---- basic.get

TEST_F(ConsumingTest, gets) {
  BasicGet get;
  get.queue = "q";
  client.sendAndRun(get);
  client.next<BasicGetEmpty>();
  put(3);
  client.sendAndRun(get);
  const auto ok = client.next<BasicGetOk>();
  EXPECT_EQ(ok.deliveryTag, 1U);
  EXPECT_EQ(ok.messageCount, 2U);
  EXPECT_EQ(ok.exchange, "amq.topic");
  EXPECT_EQ(client.nextBody().octets, "0");
  get.noAck = true;
  client.sendAndRun(get);
  EXPECT_EQ(client.next<BasicGetOk>().deliveryTag, 2U);
  EXPECT_EQ(client.nextBody().octets, "1");
  EXPECT_EQ(taken(), 1U);
  client.send(ackOf(1));
  EXPECT_EQ(taken(), 0U);
  get.queue = "nope";
  client.sendAndRun(get);
  client.expectChannelClosed(ReplyCode::kNotFound, "no queue 'nope' in vhost '/'");
}

TEST_F(ConsumingTest, getsPastWhatHasExpired) {
  queues().put("q", makeRouted("t", "k", "old", {{"expiry", "1"}}));
  put("new");
  BasicGet get;
  get.queue = "q";
  client.sendAndRun(get);
  client.next<BasicGetOk>();
  EXPECT_EQ(client.nextBody().octets, "new");
}

TEST_F(ConsumingTest, whatAGoneChannelGotGoesBack) {
  put(1);
  world.broker.holdAnswers = true;
  BasicGet get;
  get.queue = "q";
  client.send(get);
  client.send(ChannelClose{});
  client.next<ChannelCloseOk>();
  EXPECT_EQ(taken(), 1U);
  world.broker.answerAll();
  EXPECT_EQ(ready(), 1U);
  EXPECT_EQ(queues().settlements.at(0).disposition, Disposition::kReturn);
}

TEST_F(ConsumingTest, aConsumerThatComesTooLateIsEnded) {
  world.broker.holdAnswers = true;
  client.send(consumeOf("q", "c"));
  client.send(ChannelClose{});
  client.next<ChannelCloseOk>();
  world.broker.answerAll();
  EXPECT_TRUE(queues().queues.at("q")->consumers.empty());
}

// ---- streams

struct StreamTest : ConsumingTest {
  StreamTest() {
    declareQueue(client, "s", {{"x-queue-type", text("stream")}});
    for (int i = 0; i < 3; ++i) put(std::to_string(i), "s");
  }
  BasicConsume from(const Value& offset) {
    arguments = tableOf({{"x-stream-offset", offset}});
    BasicConsume method = consumeOf("s", "c");
    method.arguments = arguments;
    return method;
  }
  StreamStart startOf(const Value& offset) {
    World other;
    Client reader(other);
    reader.open();
    declareQueue(reader, "s", {{"x-queue-type", text("stream")}});
    reader.send(qosOf(1));
    reader.sendAndRun(from(offset));
    reader.next<BasicQosOk>();
    reader.next<BasicConsumeOk>();
    return other.broker.queues.queues.at("s")->consumers.at(0)->options.start;
  }
  std::string arguments;
};

TEST_F(StreamTest, bearTheirOffset) {
  BasicProperties properties;
  const std::string headers = tableOf({{"a", Value{true}}});
  properties.headers = headers;
  client.publish(publishTo("", "s"), "3", propertiesOf(properties));
  client.send(qosOf(100));
  client.next<BasicQosOk>();
  client.sendAndRun(from(text("first")));
  client.next<BasicConsumeOk>();
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(client.next<BasicDeliver>().deliveryTag, static_cast<uint64_t>(i + 1));
    const auto body = client.nextBody();
    EXPECT_EQ(body.octets, std::to_string(i));
    const auto decoded = decodeProperties(body.properties);
    ASSERT_TRUE(decoded && decoded->headers);
    const auto table = decodeTable(*decoded->headers);
    ASSERT_TRUE(table);
    ASSERT_NE(find(*table, "x-stream-offset"), nullptr);
    EXPECT_EQ(*find(*table, "x-stream-offset"), Value{i});
    EXPECT_EQ(find(*table, "a") != nullptr, i == 3);
  }
}

TEST_F(StreamTest, beginWhereTheyAreTold) {
  using Kind = StreamStart::Kind;
  EXPECT_EQ(startOf(text("first")).kind, Kind::kFirst);
  EXPECT_EQ(startOf(text("last")).kind, Kind::kLast);
  EXPECT_EQ(startOf(text("next")).kind, Kind::kNext);
  EXPECT_EQ(startOf(Value{int64_t{7}}).kind, Kind::kOffset);
  EXPECT_EQ(startOf(Value{int64_t{7}}).value, 7);
  EXPECT_EQ(startOf(Value{int64_t{-7}}).value, 0);
  EXPECT_EQ(startOf(Value{Value::Timestamp{1'600'000'000}}).kind, Kind::kTimestamp);
  EXPECT_EQ(startOf(Value{Value::Timestamp{1'600'000'000}}).value, 1'600'000'000'000);
  EXPECT_EQ(startOf(text("1h")).value, 1'700'000'000'000 - 3'600'000);
  client.send(qosOf(1));
  client.next<BasicQosOk>();
  client.sendAndRun(from(text("5x")));
  client.expectChannelClosed(ReplyCode::kPreconditionFailed,
                             "invalid arg 'x-stream-offset' for queue 's' in vhost '/': "
                             "{invalid_stream_offset_arg,{longstr,<<\"5x\">>}}");
}

TEST_F(StreamTest, wantAPrefetchAndAcknowledgements) {
  client.sendAndRun(consumeOf("s", "c"));
  client.expectChannelClosed(ReplyCode::kPreconditionFailed,
                             "consumer prefetch count is not set for 'queue 's' in vhost '/''");
  client.openChannel(2);
  client.send(qosOf(1), 2);
  client.next<BasicQosOk>(2);
  client.sendAndRun(consumeOf("s", "c", true), 2);
  client.expectConnectionClosed(ReplyCode::kNotImplemented,
                                "automatic acknowledgement not supported by stream queues queue "
                                "'s' in vhost '/'");
}

TEST_F(StreamTest, areNeitherGotNorPurgedNorRejected) {
  const auto refused = [](auto method, const std::string& why) {
    World other;
    Client asker(other);
    asker.open();
    declareQueue(asker, "s", {{"x-queue-type", text("stream")}});
    method.queue = "s";
    asker.sendAndRun(method);
    asker.expectConnectionClosed(ReplyCode::kNotImplemented, why);
  };
  refused(BasicGet{}, "basic.get not supported by stream queues queue 's' in vhost '/'");
  refused(QueuePurge{}, "queue.purge not supported by stream queues queue 's' in vhost '/'");
  client.send(qosOf(2));
  client.next<BasicQosOk>();
  client.sendAndRun(from(text("first")));
  client.next<BasicConsumeOk>();
  skipDeliveries(2);
  client.sendAndRun(ackOf(1));
  skipDeliveries(1);
  BasicNack nack;
  nack.deliveryTag = 3;
  nack.multiple = true;
  client.send(nack);
  client.expectConnectionClosed(ReplyCode::kNotImplemented,
                                "basic.nack and basic.reject not supported by stream queues queue "
                                "'s' in vhost '/'");
}

TEST_F(StreamTest, knowNoChannelLimit) {
  client.send(qosOf(5));
  client.send(qosOf(5, true));
  client.next<BasicQosOk>();
  client.next<BasicQosOk>();
  client.sendAndRun(from(text("first")));
  client.expectConnectionClosed(ReplyCode::kNotImplemented,
                                "queue 's' in vhost '/' does not support global qos");
}

}  // namespace
}  // namespace polylog::amqp::test
