// Streams: topics read by offset, with windows, and used up by nobody.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/router/queue_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

class StreamTest : public QueueFixture {
 protected:
  TestConsumer& read(const std::string& stream, StreamStart start, int64_t prefetch = 0,
                     size_t worker = 0) {
    ConsumeOptions options;
    options.queue = stream;
    options.start = start;
    options.window = window(prefetch);
    return consume(std::move(options), worker);
  }
  TestConsumer& readAll(const std::string& stream, int64_t prefetch = 0, size_t worker = 0) {
    return read(stream, {StreamStart::Kind::kFirst, 0}, prefetch, worker);
  }
};

TEST_F(StreamTest, AStreamIsTheTopicOfItsName) {
  begin();
  QueueSpec spec = streamSpec("events");
  spec.retentionMs = 5000;
  auto made = declare(spec);
  ASSERT_TRUE(made);
  EXPECT_TRUE(made->created);
  ASSERT_TRUE(topic("events"));
  EXPECT_EQ(topic("events")->config.retentionMs, 5000);
  EXPECT_EQ(topic("events")->partitions.size(), 1U);
  EXPECT_FALSE(declare(spec)->created);
  publishOne("sensors/a", "one", kQos1);
  settle();
  EXPECT_EQ(info("sensors")->spec.kind, QueueKind::kStream) << "so is every topic";
  EXPECT_FALSE(declare(streamSpec("sensors"))->created);
  EXPECT_EQ(info("sensors")->ready, 1);
}

TEST_F(StreamTest, DeclaringIsDurableWhenAnswered) {
  begin();
  auto answer = startDeclare(streamSpec("events"));
  run();
  EXPECT_FALSE(*answer);
  failWrites();
  EXPECT_EQ((*answer)->error().kind, ErrorKind::kIo);
  EXPECT_FALSE(info("events"));
}

TEST_F(StreamTest, ReadingUsesNothingUp) {
  begin();
  declare(streamSpec("s"));
  sendTo("s", {"0", "1", "2"});
  TestConsumer& one = readAll("s");
  accept(one, {0, 1, 2});
  TestConsumer& two = readAll("s");
  EXPECT_THAT(one.texts, ElementsAre("0", "1", "2"));
  EXPECT_THAT(two.texts, ElementsAre("0", "1", "2"));
  EXPECT_THAT(idsOf(two), ElementsAre(0, 1, 2));
  EXPECT_THAT(two.redelivered(), ElementsAre(false, false, false));
  sendTo("s", {"3"});
  EXPECT_THAT(one.texts, SizeIs(4));
}

TEST_F(StreamTest, Starts) {
  begin();
  declare(streamSpec("s"));
  for (int i = 0; i < 5; ++i) {
    clock_.advance(1'000'000);
    sendTo("s", {std::to_string(i)});
  }
  int64_t third = clock_.wallMillis() - 2000;
  using Kind = StreamStart::Kind;
  struct Case {
    StreamStart start;
    std::vector<std::string> before;
    std::vector<std::string> after;
  };
  const std::vector<Case> cases = {
      {{Kind::kFirst, 0}, {"0", "1", "2", "3", "4"}, {"5", "6"}},
      {{Kind::kLast, 0}, {"4"}, {"5", "6"}},
      {{Kind::kNext, 0}, {}, {"5", "6"}},
      {{Kind::kOffset, 3}, {"3", "4"}, {"5", "6"}},
      {{Kind::kOffset, -7}, {"0", "1", "2", "3", "4"}, {"5", "6"}},
      {{Kind::kOffset, 6}, {}, {"6"}},
      {{Kind::kTimestamp, third}, {"2", "3", "4"}, {"5", "6"}},
      {{Kind::kTimestamp, 0}, {"0", "1", "2", "3", "4"}, {"5", "6"}},
      {{Kind::kTimestamp, clock_.wallMillis() + 60'000}, {}, {"5", "6"}},
  };
  std::vector<TestConsumer*> readers;
  for (const Case& one : cases) {
    readers.push_back(&read("s", one.start));
    EXPECT_EQ(readers.back()->texts, one.before) << readers.size();
    readers.back()->forget();
  }
  sendTo("s", {"5"});
  sendTo("s", {"6"});
  for (size_t i = 0; i < cases.size(); ++i) EXPECT_EQ(readers[i]->texts, cases[i].after) << i;
}

TEST_F(StreamTest, AnEmptyStreamStartsAnywhere) {
  begin();
  declare(streamSpec("s"));
  using Kind = StreamStart::Kind;
  for (Kind kind : {Kind::kFirst, Kind::kLast, Kind::kNext, Kind::kOffset, Kind::kTimestamp}) {
    read("s", {kind, 0});
  }
  sendTo("s", {"one"});
  for (auto& consumer : consumers_) EXPECT_THAT(consumer->texts, ElementsAre("one"));
}

TEST_F(StreamTest, WindowsHoldItBack) {
  begin();
  declare(streamSpec("s"));
  sendTo("s", {"0", "1", "2", "3"});
  ConsumeOptions options;
  options.queue = "s";
  options.start.kind = StreamStart::Kind::kFirst;
  options.window = window(2);
  TestConsumer& consumer = consume(options);
  EXPECT_THAT(consumer.texts, SizeIs(2));
  settleIds(consumer, {1}, Disposition::kAccept, options.window);
  EXPECT_THAT(consumer.texts, SizeIs(3));
  options.window->setLimit(0);
  on(0, [&] { consumer.handle->resume(); });
  settle();
  EXPECT_THAT(consumer.texts, ElementsAre("0", "1", "2", "3"));
}

TEST_F(StreamTest, AConsumerThatSendsNothingGetsABoundedNumber) {
  begin();
  declare(streamSpec("s"));
  sendTo("s", std::vector<std::string>(2000, "x"));
  ConsumeOptions options;
  options.queue = "s";
  options.start.kind = StreamStart::Kind::kFirst;
  TestConsumer& consumer = startConsume(options);
  consumer.reads = false;
  settle();
  size_t first = consumer.texts.size();
  EXPECT_GT(first, 0U);
  EXPECT_LT(first, 1000U);
  on(0, [&] { consumer.sent(first); });
  settle();
  EXPECT_THAT(consumer.texts, SizeIs(2 * first));
}

TEST_F(StreamTest, ConsumeIsAnsweredBeforeTheFirstDelivery) {
  begin(2);
  declare(streamSpec("s"));
  sendTo("s", {"one"});
  for (size_t worker : {0U, 1U}) {
    ConsumeOptions options;
    options.queue = "s";
    options.start.kind = StreamStart::Kind::kFirst;
    TestConsumer& consumer = startConsume(options, worker);
    settle();  // the listener itself looks at the order
    EXPECT_THAT(consumer.texts, ElementsAre("one"));
  }
}

TEST_F(StreamTest, AClientThatGoesHasNoReaderLeft) {
  begin();
  declare(streamSpec("s"));
  sendTo("s", {"one"});
  TestConsumer listener;
  on(0, [&] {
    ConsumeOptions options;
    options.queue = "s";
    options.start.kind = StreamStart::Kind::kFirst;
    client_[0]->consume(options, &listener, [](auto) { FAIL(); });
    client_[0] = openClientHere();
  });
  settle();
  EXPECT_THAT(listener.texts, IsEmpty());
  EXPECT_EQ(store_->watches(), 0U);
}

TEST_F(StreamTest, EndingAReaderEndsItsWatch) {
  begin();
  declare(streamSpec("s"));
  TestConsumer& consumer = readAll("s");
  EXPECT_EQ(store_->watches(), 1U);
  drop(consumer);
  settle();
  EXPECT_EQ(store_->watches(), 0U);
}

// ---------------------------------------------------------------- several partitions

TEST_F(StreamTest, PartitionsAreStreamsOfTheirOwnAndMerge) {
  begin();
  TopicSpec spec;
  spec.name = "wide";
  spec.partitions = 3;
  ASSERT_TRUE(createTopic(spec));
  for (int p = 0; p < 3; ++p) {
    for (int i = 0; i < 2; ++i) {
      produce("wide", batchOf({{"k", std::to_string(p) + "." + std::to_string(i)}}), p);
    }
  }
  settle();
  TestConsumer& all = readAll("wide");
  EXPECT_THAT(all.texts, UnorderedElementsAre("0.0", "0.1", "1.0", "1.1", "2.0", "2.1"));
  TestConsumer& one = readAll("wide-1");
  EXPECT_THAT(one.texts, ElementsAre("1.0", "1.1"));
  EXPECT_EQ(info("wide-1")->ready, 2);
  EXPECT_EQ(info("wide")->ready, 6);
  EXPECT_FALSE(info("wide-3"));
  EXPECT_FALSE(info("wide-01"));
  EXPECT_EQ(read("wide", {StreamStart::Kind::kOffset, 0}).error->kind, ErrorKind::kInvalid);
  EXPECT_FALSE(read("wide-1", {StreamStart::Kind::kOffset, 1}).error);
  produce("wide", batchOf({{"k", "2.2"}}), 2);
  settle();
  EXPECT_EQ(all.texts.back(), "2.2");
}

TEST_F(StreamTest, MergingKeepsEachPartitionsOrderUnderAWindow) {
  begin();
  TopicSpec spec;
  spec.name = "wide";
  spec.partitions = 2;
  ASSERT_TRUE(createTopic(spec));
  for (int i = 0; i < 20; ++i) produce("wide", batchOf({{"k", std::to_string(i)}}), i % 2);
  settle();
  ConsumeOptions options;
  options.queue = "wide";
  options.start.kind = StreamStart::Kind::kFirst;
  options.window = window(1);
  TestConsumer& consumer = consume(options);
  for (int i = 0; i < 25; ++i) {
    if (consumer.got.size() < size_t(i) + 1) break;
    settleIds(consumer, {consumer.got[size_t(i)].id}, Disposition::kAccept, options.window);
  }
  ASSERT_THAT(consumer.texts, SizeIs(20));
  int last[2] = {-1, -1};
  for (const std::string& text : consumer.texts) {
    int number = std::stoi(text);
    EXPECT_GT(number, last[number % 2]);
    last[number % 2] = number;
  }
}

// ---------------------------------------------------------------- what streams can't

TEST_F(StreamTest, NoGettingNoPurging) {
  begin();
  declare(streamSpec("s"));
  EXPECT_EQ(get("s").error().kind, ErrorKind::kUnsupported);
  EXPECT_EQ(purge("s").error().kind, ErrorKind::kUnsupported);
}

TEST_F(StreamTest, DeletingCancelsItsReaders) {
  begin(2);
  declare(streamSpec("s"));
  bind(toQueue("amq.fanout", "s"));
  TestConsumer& idle = readAll("s", 0, 1);
  sendTo("s", {"one"});
  EXPECT_TRUE(deleteQueue("s"));
  EXPECT_EQ(idle.cancelled, 1);
  EXPECT_FALSE(topic("s"));
  EXPECT_THAT(boundTo("amq.fanout"), IsEmpty());
  EXPECT_EQ(deleteQueue("s").error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(readAll("s").error->kind, ErrorKind::kNotFound);
}

TEST_F(StreamTest, ListenersThatLeaveAsTheirStreamGoesHearNothing) {
  begin();
  // The reader learns it in one task and tells its listener in another: it leaves in between.
  for (int pass = 0; pass < 6; ++pass) {
    declare(streamSpec("s"));
    TestConsumer& consumer = readAll("s");
    startDelete("s");
    run();
    store_->commit();
    bool left = false;
    int wait = pass;
    std::function<void()> leave = [&] {
      if (wait-- > 0) return loops_[0]->defer(leave);
      left = consumer.handle != nullptr;
      consumer.handle = nullptr;
    };
    on(0, [&] { loops_[0]->defer(leave); });
    settle();
    EXPECT_EQ(consumer.cancelled, left ? 0 : 1) << pass;
  }
}

// ---------------------------------------------------------------- bindings

TEST_F(StreamTest, ExchangesLeadToStreamsAndQueuesAlike) {
  begin();
  declare(streamSpec("s"));
  declare("q");
  for (const char* name : {"s", "q"}) bind(toQueue("amq.direct", name, "k.x"));
  EXPECT_TRUE(routeOf("amq.direct", "k.x").value()->reachesTopics());
  EXPECT_FALSE(routeOf("amq.direct", "k.x").value()->reachesAmqTopic());
  EXPECT_TRUE(send("amq.direct", "k.x", {"one"}));
  EXPECT_THAT(readAll("s").texts, ElementsAre("one"));
  EXPECT_THAT(drain("q"), ElementsAre("one"));
  EXPECT_THAT(stored("s"), ElementsAre("one"));
}

TEST_F(StreamTest, AStreamOnlyRouteIsMatched) {
  begin();
  declare(streamSpec("s"));
  bind(toQueue("amq.fanout", "s"));
  EXPECT_TRUE(send("amq.fanout", "", {"one"}));
  EXPECT_TRUE(send("", "s", {"two"}));
  EXPECT_THAT(stored("s"), ElementsAre("one", "two"));
}

TEST_F(StreamTest, MqttSubscribersSeeWhatABindingPutsInAStream) {
  begin();
  declare(streamSpec("s"));
  declare("q");
  bind(toQueue("amq.fanout", "s"));
  bind(toQueue("amq.topic", "q", "s.#"));
  TestClient& live = connect("live");
  subscribe(live, "s/#", kQos1);
  TestClient& kept = connect("kept", 3600);
  subscribe(kept, "s/#", kQos1);
  detach(kept);
  send("amq.fanout", "k.x", {"one"});
  EXPECT_THAT(takeTexts(live), ElementsAre("one"));
  TestClient& back = connect("kept", 3600);
  auto deliveries = take(back);
  ASSERT_THAT(deliveries, SizeIs(1));
  EXPECT_EQ(addressText(deliveries[0]), "s/k/x");
  EXPECT_EQ(ready("q"), 0) << "what a binding put there is not routed again";
}

TEST_F(StreamTest, AQueueMayHaveTheNameOfATopic) {
  begin();
  publishOne("both", "to the topic", kQos1);
  settle();
  bind(toQueue("amq.direct", "both", "stream"));
  declare("both");
  bind(toQueue("amq.direct", "both", "queue"));
  sendTo("both", {"to the queue"});
  EXPECT_THAT(stored("both"), ElementsAre("to the topic"));
  // Deleting the topic takes its binding and leaves the queue's.
  on(0,
     [&] { router_->deleteTopic(principal("admin", Protocol::kKafka), "both", [](Result<>) {}); });
  settle();
  EXPECT_FALSE(send("amq.direct", "stream", {"lost"}));
  EXPECT_TRUE(send("amq.direct", "queue", {"two"}));
  EXPECT_THAT(drain("both"), ElementsAre("to the queue", "two"));
}

TEST_F(StreamTest, DeletingAndDeclaringAroundEachOther) {
  begin();
  declare(streamSpec("s"));
  bind(toQueue("amq.direct", "s", "old"));
  auto deleted = startDelete("s");
  auto declared = startDeclare(streamSpec("s"));
  auto bound = startBind(toQueue("amq.direct", "s", "new"));
  settle();
  EXPECT_TRUE(**deleted);
  EXPECT_TRUE((*declared)->value().created);
  EXPECT_TRUE(**bound);
  crash();
  EXPECT_TRUE(send("amq.direct", "new", {"one"}));
  EXPECT_FALSE(send("amq.direct", "old", {"lost"}));
  EXPECT_THAT(stored("s"), ElementsAre("one"));
}

TEST_F(StreamTest, StreamsAndTheirBindingsOutliveACrash) {
  begin();
  declare(streamSpec("s"));
  bind(toQueue("amq.direct", "s", "k"));
  send("amq.direct", "k", {"one"});
  crash();
  send("amq.direct", "k", {"two"});
  EXPECT_THAT(readAll("s").texts, ElementsAre("one", "two"));
}

}  // namespace
}  // namespace polylog::router
