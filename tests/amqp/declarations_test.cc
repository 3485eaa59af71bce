// exchange.* and queue.*: the order of checks, RabbitMQ's texts, and what is pipelined behind them.
#include "tests/amqp/harness.h"

namespace polylog::amqp::test {
namespace {

Value text(const char* value) {
  return Value{std::string(value)};
}
Value number(int64_t value) {
  return Value{value};
}

struct DeclarationsTest : ::testing::Test {
  DeclarationsTest() { client.open(); }

  ExchangeDeclare exchange(BytesView name, BytesView type, bool durable = true) {
    ExchangeDeclare method;
    method.exchange = name;
    method.type = type;
    method.durable = durable;
    return method;
  }
  QueueDeclare queue(BytesView name, const Table& arguments = {}) {
    table = tableOf(arguments);
    QueueDeclare method;
    method.queue = name;
    method.durable = true;
    method.arguments = table;
    return method;
  }
  /// The method closes channel 1, which then is open again.
  template <class M>
  void refused(const M& method, ReplyCode code, const std::string& why) {
    client.sendAndRun(method);
    client.expectChannelClosed(code, why);
    EXPECT_EQ(client.classId, M::kClassId);
    EXPECT_EQ(client.methodId, M::kMethodId);
    client.send(ChannelCloseOk{});
    client.openChannel(1);
  }

  World world;
  Client client{world};
  std::string table;
};

// ---- exchanges

TEST_F(DeclarationsTest, declaresExchanges) {
  client.sendAndRun(exchange("orders", "topic"));
  client.next<ExchangeDeclareOk>();
  const ExchangeSpec& made = world.broker.queues.exchanges.at("orders");
  EXPECT_EQ(made.type, ExchangeType::kTopic);
  EXPECT_TRUE(made.durable);
  client.sendAndRun(exchange("orders", "topic"));
  client.next<ExchangeDeclareOk>();
  client.sendAndRun(exchange("amq.direct", "direct"));
  client.next<ExchangeDeclareOk>();
  ExchangeDeclare quiet = exchange("quiet", "fanout");
  quiet.noWait = true;
  client.sendAndRun(quiet);
  client.expectNothing();
}

TEST_F(DeclarationsTest, refusesExchanges) {
  refused(exchange("", "direct"), ReplyCode::kAccessRefused,
          "operation not permitted on the default exchange");
  refused(exchange("amq.foo", "direct"), ReplyCode::kAccessRefused,
          "exchange name 'amq.foo' contains reserved prefix 'amq.*'");
  refused(exchange("amq.direct", "direct", false), ReplyCode::kPreconditionFailed,
          "inequivalent arg 'durable' for exchange 'amq.direct' in vhost '/': received 'false' but "
          "current is 'true'");
  refused(exchange("amq.direct", "fanout"), ReplyCode::kPreconditionFailed,
          "inequivalent arg 'type' for exchange 'amq.direct' in vhost '/': received 'fanout' but "
          "current is 'direct'");
  ExchangeDeclare method = exchange("x", "direct");
  table = tableOf({{"alternate-exchange", number(1)}});
  method.arguments = table;
  refused(method, ReplyCode::kPreconditionFailed,
          "invalid type 'signedint' for arg 'alternate-exchange' in exchange 'x' in vhost '/'");
  method = exchange("nope", "");
  method.passive = true;
  refused(method, ReplyCode::kNotFound, "no exchange 'nope' in vhost '/'");
  client.send(exchange("x", "foo"));
  client.expectConnectionClosed(ReplyCode::kCommandInvalid, "unknown exchange type 'foo'");
}

TEST_F(DeclarationsTest, deletesExchanges) {
  ExchangeDelete method;
  refused(method, ReplyCode::kAccessRefused, "operation not permitted on the default exchange");
  method.exchange = "amq.zzz";
  refused(method, ReplyCode::kAccessRefused,
          "deletion of system exchange 'amq.zzz' in vhost '/' not allowed");
  method.exchange = "missing";
  client.sendAndRun(method);
  client.next<ExchangeDeleteOk>();
  client.sendAndRun(exchange("x", "fanout"));
  client.next<ExchangeDeclareOk>();
  world.broker.queues.bindings.push_back({"x", true, "amq.fanout", "", {}});
  method.exchange = "x";
  method.ifUnused = true;
  refused(method, ReplyCode::kPreconditionFailed, "exchange 'x' in vhost '/' in use");
}

// ---- bindings

TEST_F(DeclarationsTest, binds) {
  declareQueue(client, "q");
  QueueBind bind;
  bind.queue = "q";
  bind.exchange = "amq.direct";
  bind.routingKey = "k";
  client.sendAndRun(bind);
  client.next<QueueBindOk>();
  bind.queue = "";
  bind.routingKey = "";
  client.sendAndRun(bind);
  client.next<QueueBindOk>();
  ASSERT_EQ(world.broker.queues.bindings.size(), 2U);
  EXPECT_EQ(world.broker.queues.bindings[0], (BindingSpec{"amq.direct", false, "q", "k", {}}));
  EXPECT_EQ(world.broker.queues.bindings[1], (BindingSpec{"amq.direct", false, "q", "q", {}}));
  QueueUnbind unbind;
  unbind.queue = "q";
  unbind.exchange = "amq.direct";
  unbind.routingKey = "k";
  client.sendAndRun(unbind);
  client.next<QueueUnbindOk>();
  EXPECT_EQ(world.broker.queues.bindings.size(), 1U);
  ExchangeBind between;
  between.source = "amq.topic";
  between.destination = "amq.fanout";
  between.routingKey = "#";
  client.sendAndRun(between);
  client.next<ExchangeBindOk>();
  ExchangeUnbind apart;
  apart.source = "amq.topic";
  apart.destination = "amq.fanout";
  apart.routingKey = "#";
  client.sendAndRun(apart);
  client.next<ExchangeUnbindOk>();
  EXPECT_EQ(world.broker.queues.bindings.size(), 1U);
}

TEST_F(DeclarationsTest, refusesBindings) {
  QueueBind bind;
  refused(bind, ReplyCode::kNotFound, "no previously declared queue");
  bind.queue = "noq";
  refused(bind, ReplyCode::kAccessRefused, "operation not permitted on the default exchange");
  bind.exchange = "nox";
  refused(bind, ReplyCode::kNotFound, "no exchange 'nox' in vhost '/'");
  bind.exchange = "amq.headers";
  refused(bind, ReplyCode::kNotFound, "no queue 'noq' in vhost '/'");
  declareQueue(client, "q");
  bind.queue = "q";
  table = tableOf({{"x-match", text("foo")}});
  bind.arguments = table;
  refused(bind, ReplyCode::kPreconditionFailed,
          "Invalid x-match field value <<\"foo\">>; expected all, any, all-with-x, or any-with-x");
  table = tableOf({{"x-match", number(1)}});
  bind.arguments = table;
  refused(bind, ReplyCode::kPreconditionFailed,
          "Invalid x-match field type signedint (value 1); expected longstr");
}

// ---- queues

TEST_F(DeclarationsTest, limitsABindingsArguments) {
  Table many;
  for (int i = 0; i < 257; ++i) many.emplace_back(std::to_string(i), number(i));
  const std::string octets = tableOf(many);
  QueueBind bind;
  declareQueue(client, "q");
  bind.queue = "q";
  bind.exchange = "amq.headers";
  bind.arguments = octets;
  refused(bind, ReplyCode::kPreconditionFailed, "a binding has 256 arguments at most");
}

TEST_F(DeclarationsTest, declaresQueues) {
  declareQueue(client, "q");
  EXPECT_TRUE(world.broker.queues.queues.at("q")->spec.durable);
  world.broker.queues.put("q", polylog::test::makeRouted("t", std::nullopt, "1"));
  client.sendAndRun(queue("q"));
  EXPECT_EQ(client.next<QueueDeclareOk>().messageCount, 1U);
  QueueDeclare passive;
  passive.queue = "q";
  passive.passive = true;
  client.sendAndRun(passive);
  EXPECT_EQ(client.next<QueueDeclareOk>().messageCount, 1U);
  passive.queue = "nope";
  refused(passive, ReplyCode::kNotFound, "no queue 'nope' in vhost '/'");
  passive.queue = "";
  refused(passive, ReplyCode::kNotFound, "no queue '' in vhost '/'");
}

TEST_F(DeclarationsTest, makesUpNames) {
  client.sendAndRun(queue(""));
  const std::string name(client.next<QueueDeclareOk>().queue);
  EXPECT_EQ(name.size(), 30U);
  EXPECT_TRUE(name.starts_with("amq.gen-"));
  BasicGet get;  // the last declared is meant
  client.sendAndRun(get);
  client.next<BasicGetEmpty>();
  refused(queue("amq.foo"), ReplyCode::kAccessRefused,
          "queue name 'amq.foo' contains reserved prefix 'amq.*'");
  refused(queue("", {{"x-queue-type", text("stream")}}), ReplyCode::kPreconditionFailed,
          "Cannot declare a server-named queue for type rabbit_stream_queue");
}

TEST_F(DeclarationsTest, comparesASecondDeclaration) {
  declareQueue(client, "pd");
  QueueDeclare method = queue("pd");
  method.durable = false;
  refused(method, ReplyCode::kPreconditionFailed,
          "inequivalent arg 'durable' for queue 'pd' in vhost '/': received 'false' but current is "
          "'true'");
  method = queue("pd");
  method.autoDelete = true;
  refused(method, ReplyCode::kPreconditionFailed,
          "inequivalent arg 'auto_delete' for queue 'pd' in vhost '/': received 'true' but current "
          "is 'false'");
  refused(queue("pd", {{"x-max-length", number(10)}}), ReplyCode::kPreconditionFailed,
          "inequivalent arg 'x-max-length' for queue 'pd' in vhost '/': received the value '10' of "
          "type 'signedint' but current is none");
  client.sendAndRun(queue("pd", {{"x-queue-type", text("classic")}, {"unknown", number(1)}}));
  client.next<QueueDeclareOk>();
  declareQueue(client, "s", {{"x-queue-type", text("stream")}});
  refused(
      queue("s"), ReplyCode::kPreconditionFailed,
      "inequivalent arg 'x-queue-type' for queue 's' in vhost '/': received none but current is "
      "the value 'stream' of type 'longstr'");
  refused(queue("s", {{"x-queue-type", text("classic")}}), ReplyCode::kPreconditionFailed,
          "inequivalent arg 'x-queue-type' for queue 's' in vhost '/': received 'classic' but "
          "current is 'stream'");
}

TEST_F(DeclarationsTest, keepsExclusiveQueuesFromOthers) {
  QueueDeclare method = queue("mine");
  method.exclusive = true;
  client.sendAndRun(method);
  client.next<QueueDeclareOk>();
  EXPECT_FALSE(world.broker.queues.queues.at("mine")->spec.durable);
  client.sendAndRun(method);
  client.next<QueueDeclareOk>();
  const std::string why =
      "cannot obtain exclusive access to locked queue 'mine' in vhost '/'. It could be originally "
      "declared on another connection or the exclusive property value does not match that of the "
      "original declaration.";
  method.exclusive = false;
  refused(method, ReplyCode::kResourceLocked, why);
  {
    Client other(world);
    other.open();
    other.sendAndRun(consumeOf("mine", "t"));
    other.expectChannelClosed(ReplyCode::kResourceLocked, why);
  }
  client.send(ConnectionClose{}, 0);
  EXPECT_FALSE(world.broker.queues.queues.contains("mine"));
}

TEST_F(DeclarationsTest, checksArguments) {
  const auto invalid = [&](const char* key, const Value& value, const std::string& why) {
    refused(queue("q", {{key, value}}), ReplyCode::kPreconditionFailed,
            std::string("invalid arg '") + key + "' for queue 'q' in vhost '/'" + why);
  };
  invalid("x-queue-type", text("foo"), ": \"unsupported queue type 'foo'\"");
  invalid("x-queue-type", number(1), ": {unacceptable_type,signedint}");
  invalid("x-expires", number(0), ": {value_zero,0}");
  invalid("x-expires", number(-1), ": {value_negative,-1}");
  invalid("x-expires", number(400'000'000'000), ": {value_too_large,400000000000}");
  invalid("x-message-ttl", text("5"), ": \"expected integer, got longstr\"");
  invalid("x-max-priority", number(256), ": {max_value_exceeded,256}");
  invalid("x-overflow", text("foo"), ": invalid_overflow");
  invalid("x-dead-letter-routing-key", text("k"), ": routing_key_but_no_dlx_defined");
  invalid("x-queue-mode", text("foo"), ": \"unsupported queue mode 'foo'\"");
  invalid("x-queue-version", number(3), ": \"unsupported queue version '3'\"");
  invalid("x-single-active-consumer", text("x"), ": {unacceptable_type,longstr}");
  invalid("x-max-age", text("7D"), " of queue type rabbit_classic_queue");
  invalid("x-delivery-limit", number(3), " of queue type rabbit_classic_queue");
  refused(queue("q", {{"x-dead-letter-exchange", number(1)}}), ReplyCode::kPreconditionFailed,
          "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'");
  for (const auto& [key, value] : Table{{"x-queue-mode", text("lazy")},
                                        {"x-queue-version", number(2)},
                                        {"x-single-active-consumer", Value{false}},
                                        {"x-max-priority", number(0)},
                                        {"x-overflow", text("drop-head")},
                                        {"unknown", number(1)}}) {
    declareQueue(client, "ok-" + key, {{key, value}});
  }
}

TEST_F(DeclarationsTest, namesWhatIsNotBuilt) {
  for (const auto& [key, value] : Table{{"x-message-ttl", number(1000)},
                                        {"x-expires", number(1000)},
                                        {"x-max-length", number(5)},
                                        {"x-max-length-bytes", number(5)},
                                        {"x-dead-letter-exchange", text("dlx")},
                                        {"x-max-priority", number(5)},
                                        {"x-overflow", text("reject-publish")},
                                        {"x-single-active-consumer", Value{true}}}) {
    World other;
    Client declarer(other);
    declarer.open();
    declarer.sendAndRun(queue("q", {{key, value}}));
    declarer.expectConnectionClosed(ReplyCode::kNotImplemented,
                                    "arg '" + key + "' for queue 'q' in vhost '/'");
  }
  client.sendAndRun(queue("q", {{"x-queue-type", text("quorum")}}));
  client.expectConnectionClosed(
      ReplyCode::kNotImplemented,
      "arg 'x-queue-type' with value 'quorum' for queue 'q' in vhost '/'");
}

TEST_F(DeclarationsTest, declaresStreams) {
  declareQueue(client, "s",
               {{"x-queue-type", text("stream")},
                {"x-max-age", text("2D")},
                {"x-max-length-bytes", number(1'000'000)},
                {"x-stream-max-segment-size-bytes", number(500'000)}});
  const QueueSpec& spec = world.broker.queues.queues.at("s")->spec;
  EXPECT_EQ(spec.kind, QueueKind::kStream);
  EXPECT_EQ(spec.retentionMs, 172'800'000);
  EXPECT_EQ(spec.retentionBytes, 1'000'000);
  const Value stream = text("stream");
  refused(queue("s2", {{"x-queue-type", stream}, {"x-max-age", text("x")}}),
          ReplyCode::kPreconditionFailed,
          "invalid arg 'x-max-age' for queue 's2' in vhost '/': invalid_max_age");
  refused(queue("s2", {{"x-queue-type", stream}, {"x-max-length", number(1)}}),
          ReplyCode::kPreconditionFailed,
          "invalid arg 'x-max-length' for queue 's2' in vhost '/' of queue type "
          "rabbit_stream_queue");
  refused(queue("s2", {{"x-queue-type", stream},
                       {"x-stream-max-segment-size-bytes", number(3'000'000'001)}}),
          ReplyCode::kPreconditionFailed, "Exceeded max value for x-stream-max-segment-size-bytes");
  QueueDeclare method = queue("s2", {{"x-queue-type", stream}});
  method.durable = false;
  refused(method, ReplyCode::kPreconditionFailed,
          "invalid property 'non-durable' for queue 's2' in vhost '/'");
  method.durable = true;
  method.exclusive = true;
  refused(method, ReplyCode::kPreconditionFailed,
          "invalid property 'exclusive-owner' for queue 's2' in vhost '/'");
}

TEST_F(DeclarationsTest, deletesAndPurges) {
  QueueDelete gone;
  gone.queue = "nope";
  client.sendAndRun(gone);
  EXPECT_EQ(client.next<QueueDeleteOk>().messageCount, 0U);
  declareQueue(client, "pne");
  for (int i = 0; i < 3; ++i) {
    world.broker.queues.put("pne", polylog::test::makeRouted("t", std::nullopt, "1"));
  }
  gone.queue = "pne";
  gone.ifEmpty = true;
  refused(gone, ReplyCode::kPreconditionFailed, "queue 'pne' in vhost '/' not empty");
  QueuePurge purge;
  purge.queue = "pne";
  client.sendAndRun(purge);
  EXPECT_EQ(client.next<QueuePurgeOk>().messageCount, 3U);
  client.sendAndRun(consumeOf("pne", "t"));
  client.next<BasicConsumeOk>();
  gone.ifEmpty = false;
  gone.ifUnused = true;
  refused(gone, ReplyCode::kPreconditionFailed, "queue 'pne' in vhost '/' in use");
  purge.queue = "nope";
  refused(purge, ReplyCode::kNotFound, "no queue 'nope' in vhost '/'");
}

// ---- pipelining

TEST_F(DeclarationsTest, whatFollowsADeclarationWaitsForIt) {
  world.broker.holdAnswers = true;
  QueueDeclare method = queue("q");
  method.noWait = true;
  client.feed(methodFrame(1, method) + publishFrames(1, publishTo("", "q"), "x") +
              methodFrame(1, qosOf(5)));
  EXPECT_TRUE(client.transport.paused);
  EXPECT_TRUE(world.broker.published.empty());
  world.broker.answerOne();
  EXPECT_FALSE(client.transport.paused);
  client.run();
  client.next<BasicQosOk>();
  EXPECT_EQ(world.broker.queues.queues.at("q")->ready.size(), 1U);
}

/// The broker knows what it is declaring before that is durable.
TEST_F(DeclarationsTest, aSecondDeclarationOfWhatIsDurableWaitsForTheFirst) {
  client.openChannel(2);
  world.broker.holdAnswers = true;
  client.send(queue("q"));
  client.send(exchange("x", "direct"), 2);
  Client other(world);
  other.open();
  other.openChannel(2);
  other.send(queue("q"));
  other.send(exchange("x", "direct"), 2);
  other.run();
  other.expectNothing();
  world.broker.answerAll();
  other.run();
  EXPECT_EQ(other.pending(), 2U);
}

TEST_F(DeclarationsTest, answersInOrder) {
  QueueBind bind;
  bind.exchange = "amq.fanout";
  client.feed(methodFrame(1, queue("a")) + methodFrame(1, bind) + methodFrame(1, queue("b")) +
              methodFrame(1, qosOf(1)) + methodFrame(1, consumeOf("", "t")));
  client.run();
  EXPECT_EQ(client.next<QueueDeclareOk>().queue, "a");
  client.next<QueueBindOk>();
  EXPECT_EQ(client.next<QueueDeclareOk>().queue, "b");
  client.next<BasicQosOk>();
  client.next<BasicConsumeOk>();
  client.expectNothing();
}

TEST_F(DeclarationsTest, otherChannelsGoOnMeanwhile) {
  client.openChannel(2);
  world.broker.holdAnswers = true;
  client.send(queue("q"), 1);
  client.send(qosOf(1), 2);
  client.next<BasicQosOk>(2);
}

TEST_F(DeclarationsTest, closingWaitsForNothing) {
  world.broker.holdAnswers = true;
  client.send(queue("q"));
  client.send(ChannelClose{});
  client.next<ChannelCloseOk>();
  world.broker.answerAll();
  client.run();
  client.expectNothing();
}

TEST_F(DeclarationsTest, publishesReachTheBrokerBeforeADeletion) {
  declareQueue(client, "q");
  QueueDelete gone;
  gone.queue = "q";
  client.feed(publishFrames(1, publishTo("", "q"), "x") + methodFrame(1, gone));
  client.run();
  EXPECT_EQ(client.next<QueueDeleteOk>().messageCount, 1U);
}

}  // namespace
}  // namespace polylog::amqp::test
