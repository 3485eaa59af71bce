// Queues: declaring and deleting them, whose they are, and what goes with what.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/router/queue_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class QueueLifeTest : public QueueFixture {};

// ---------------------------------------------------------------- declaring

TEST_F(QueueLifeTest, DeclaringAgainTellsWhatThereIs) {
  begin();
  QueueSpec spec = queueSpec("q");
  spec.arguments = {{"x-max-length", Value(int64_t{5})}};
  auto made = declare(spec);
  ASSERT_TRUE(made);
  EXPECT_TRUE(made->created);
  sendTo("q", {"one"});
  auto again = declare(queueSpec("q", false));
  ASSERT_TRUE(again);
  EXPECT_FALSE(again->created);
  EXPECT_TRUE(again->info.spec.durable);
  EXPECT_EQ(again->info.spec.arguments, spec.arguments);
  EXPECT_EQ(again->info.ready, 1);
}

TEST_F(QueueLifeTest, DurableDeclarationsWaitForTheDisk) {
  begin();
  auto durable = startDeclare(queueSpec("d"));
  auto transient = startDeclare(queueSpec("t", false));
  run();
  EXPECT_FALSE(*durable);
  EXPECT_TRUE(*transient);
  auto again = startDeclare(queueSpec("d"));
  run();
  EXPECT_FALSE(*again) << "it is no more durable for being asked twice";
  settle();
  EXPECT_TRUE(*durable);
  EXPECT_TRUE(*again);
}

TEST_F(QueueLifeTest, AsManyAsAreAllowed) {
  RouterOptions few;
  few.maxQueues = 1;
  begin(1, few);
  EXPECT_TRUE(declare("a"));
  EXPECT_EQ(declare("b").error().kind, ErrorKind::kBusy);
  EXPECT_TRUE(declare("a"));
  deleteQueue("a");
  EXPECT_TRUE(declare("b"));
}

TEST_F(QueueLifeTest, ADeclarationThatFailsLeavesNothing) {
  begin();
  for (bool durable : {true, false}) {
    auto answer = startDeclare(queueSpec("q", durable));
    bool bound = bool(routeOf("", "q"));
    EXPECT_TRUE(bound);
    auto binding = startBind(toQueue("amq.fanout", "q"));
    run();
    failWrites();
    EXPECT_EQ(bool(**answer), !durable) << "a transient one was promised nothing";
    EXPECT_FALSE(info("q"));
    EXPECT_THAT(boundTo("amq.fanout"), IsEmpty());
    EXPECT_FALSE(send("amq.fanout", "", {"lost"}));
  }
  for (bool durable : {true, false}) {
    store_->refuseNext({ErrorKind::kNoSpace, "full"});
    EXPECT_EQ(declare(queueSpec("q", durable)).error().kind, ErrorKind::kNoSpace);
    EXPECT_FALSE(info("q"));
  }
}

TEST_F(QueueLifeTest, AFailureTakesNothingFromADeclarationAfterIt) {
  begin(2);
  auto first = startDeclare(queueSpec("q"));
  store_->failPending({ErrorKind::kIo, "the disk said no"});
  auto second = startDeclare(queueSpec("q"), 1);
  settle();
  EXPECT_FALSE(**first);
  ASSERT_TRUE(**second);
  EXPECT_TRUE(sendTo("q", {"one"}));
  crash();
  EXPECT_THAT(drain("q"), ElementsAre("one"));
}

// ---------------------------------------------------------------- deleting

TEST_F(QueueLifeTest, DeleteCountsWhatWaits) {
  begin();
  declare("q");
  sendTo("q", numbers(0, 3));
  TestConsumer& consumer = consume("q", 1);
  EXPECT_EQ(deleteQueue("q", true, false).error().kind, ErrorKind::kInUse);
  EXPECT_EQ(deleteQueue("q", false, true).error().kind, ErrorKind::kNotEmpty);
  EXPECT_EQ(deleteQueue("q", true, true).error().kind, ErrorKind::kNotEmpty);
  EXPECT_EQ(*deleteQueue("q"), 2);
  EXPECT_EQ(consumer.cancelled, 1);
  EXPECT_EQ(deleteQueue("q").error().kind, ErrorKind::kNotFound);
  EXPECT_FALSE(info("q"));
}

TEST_F(QueueLifeTest, UnacknowledgedDontMakeItNotEmpty) {
  begin();
  declare("q");
  sendTo("q", {"one"});
  auto got = get("q");
  EXPECT_EQ(*deleteQueue("q", true, true), 0);
}

TEST_F(QueueLifeTest, DeletingGivesItsPartitionBack) {
  begin();
  declare("q");
  sendTo("q", numbers(0, 3));
  PartitionId partition = store_->last().messages.at(0).targets.at(0).partition;
  EXPECT_TRUE(store_->exists(partition));
  TestConsumer& consumer = consume("q");
  accept(consumer, {1});
  deleteQueue("q");
  EXPECT_FALSE(store_->exists(partition));
  int left = 0;
  for (auto table : {storage::StateTable::kQueue, storage::StateTable::kQueueAck}) {
    store_->scanState(table, "", [&](BytesView, BytesView) { return ++left > 0; });
  }
  EXPECT_EQ(left, 0);
}

TEST_F(QueueLifeTest, CancelledOnWhateverWorker) {
  begin(3);
  declare("q", 1);
  TestConsumer& near = consume("q", 0, 1);
  TestConsumer& far = consume("q", 0, 2);
  sendTo("q", numbers(0, 4));
  deleteQueue("q");
  EXPECT_EQ(near.cancelled, 1);
  EXPECT_EQ(far.cancelled, 1);
  accept(far, idsOf(far));
}

TEST_F(QueueLifeTest, DeletingAndDeclaringAroundEachOther) {
  begin(2);
  declare("q");
  bind(toQueue("amq.direct", "q", "k"));
  sendTo("q", {"old"});
  auto deleted = startDelete("q", 1);
  loops_[0]->runAll();
  auto declared = startDeclare(queueSpec("q"), 1);
  auto bound = startBind(toQueue("amq.direct", "q", "k"), 1);
  auto told = startSend("amq.direct", "k", {"new"}, 1);
  settle();
  EXPECT_TRUE(**deleted);
  EXPECT_TRUE((**declared)->created);
  EXPECT_TRUE(**bound);
  EXPECT_TRUE(told->results.at(0).matched);
  crash();
  EXPECT_THAT(boundTo("amq.direct"), ElementsAre("q"));
  EXPECT_THAT(drain("q"), ElementsAre("new"));
}

TEST_F(QueueLifeTest, ADeletionThatFailsIsMadeUpForButNotOverANewDeclaration) {
  begin();
  declare("q");
  declare("other");
  bind(toQueue("amq.direct", "q", "k"));
  bind(toQueue("amq.direct", "other", "k"));
  sendTo("q", {"old"});
  auto first = startDelete("q");
  auto second = startDelete("other");
  run();
  failWrites();
  EXPECT_EQ((*first)->error().kind, ErrorKind::kIo);
  failWrites();  // the second try too
  EXPECT_FALSE(info("q"));
  EXPECT_TRUE(declare("q"));
  sendTo("q", {"new"});
  advance(5000);
  crash();
  EXPECT_THAT(drain("q"), ElementsAre("new"));
  EXPECT_FALSE(info("other"));
  EXPECT_THAT(boundTo("amq.direct"), IsEmpty());
}

TEST_F(QueueLifeTest, ADeletionThatIsRefusedIsMadeUpFor) {
  begin();
  declare("q");
  store_->refuseNext({ErrorKind::kIo, "no"});
  EXPECT_EQ(deleteQueue("q").error().kind, ErrorKind::kIo);
  advance(5000);
  crash();
  EXPECT_FALSE(info("q"));
}

// ---------------------------------------------------------------- exclusive and auto-delete

TEST_F(QueueLifeTest, ExclusiveQueuesAreLockedToOthers) {
  begin(2);
  QueueSpec spec = queueSpec("mine");
  spec.exclusive = true;
  ASSERT_TRUE(declare(spec));
  EXPECT_TRUE(declare(spec)) << "again, by the same";
  EXPECT_TRUE(info("mine", 1)->exclusiveToOther);
  EXPECT_FALSE(info("mine", 0)->exclusiveToOther);
  EXPECT_EQ(declare(spec, 1).error().kind, ErrorKind::kLocked);
  EXPECT_EQ(get("mine", true, 1).error().kind, ErrorKind::kLocked);
  EXPECT_EQ(purge("mine", 1).error().kind, ErrorKind::kLocked);
  EXPECT_EQ(deleteQueue("mine", false, false, 1).error().kind, ErrorKind::kLocked);
  EXPECT_EQ(bind(toQueue("amq.direct", "mine", "k"), 1).error().kind, ErrorKind::kLocked);
  EXPECT_EQ(consume("mine", 0, 1).error->kind, ErrorKind::kLocked);
  auto told = startSend("", "mine", {"from anybody"}, 1);
  settle();
  EXPECT_TRUE(told->results.at(0).matched);
}

TEST_F(QueueLifeTest, ExclusiveQueuesGoWithTheirClient) {
  begin(2);
  QueueSpec spec = queueSpec("mine", false);
  spec.exclusive = true;
  for (int i = 0; i < 200; ++i) {
    spec.name = "mine" + std::to_string(i);
    declare(spec);
    if (i % 3 == 0) deleteQueue(spec.name);
  }
  bind(toQueue("amq.fanout", "mine199"));
  // One whose deletion is refused stays the client's.
  consume("mine199");
  EXPECT_FALSE(deleteQueue("mine199", true));
  drop(*consumers_.back());
  on(0, [&] { client_[0] = nullptr; });
  settle();
  EXPECT_THAT(on(1, [&] { return client_[1]->queues(); }), IsEmpty());
  EXPECT_THAT(on(1, [&] { return client_[1]->bindings(); }), IsEmpty());
  EXPECT_TRUE(declare(spec, 1));
}

TEST_F(QueueLifeTest, AnExclusiveQueueGoesEvenIfItsAnswerNeverCame) {
  begin();
  QueueSpec spec = queueSpec("mine");
  spec.exclusive = true;
  on(0, [&] {
    client_[0]->declareQueue(spec, [](auto) { FAIL() << "nobody is there to hear it"; });
    client_[0] = openClientHere();
  });
  settle();
  EXPECT_FALSE(info("mine"));
}

TEST_F(QueueLifeTest, AutoDeleteGoesWithItsLastConsumer) {
  begin(2);
  QueueSpec spec = queueSpec("q");
  spec.autoDelete = true;
  declare(spec);
  sendTo("q", {"one"});
  EXPECT_TRUE(*get("q")) << "a get is no consumer";
  EXPECT_TRUE(info("q"));
  TestConsumer& one = consume("q");
  TestConsumer& two = consume("q", 0, 1);
  drop(one);
  settle();
  EXPECT_TRUE(info("q"));
  drop(two);
  settle();
  EXPECT_FALSE(info("q"));
}

TEST_F(QueueLifeTest, ExclusiveConsumersAreAlone) {
  begin();
  declare("q");
  TestConsumer& plain = consume("q");
  EXPECT_EQ(consume(exclusive("q")).error->kind, ErrorKind::kInUse);
  drop(plain);
  TestConsumer& alone = consume(exclusive("q"));
  EXPECT_FALSE(alone.error);
  EXPECT_EQ(consume("q").error->kind, ErrorKind::kInUse);
  EXPECT_TRUE(get("q")) << "beside it";
  drop(alone);
  EXPECT_FALSE(consume("q").error);
}

// ---------------------------------------------------------------- clients that go

TEST_F(QueueLifeTest, AClientThatGoesIsToldNothingMore) {
  begin(2);
  declare("q", 1);
  sendTo("q", numbers(0, 3));
  int answers = 0;
  auto count = [&](auto) { ++answers; };
  TestConsumer listener;
  on(0, [&] {
    QueueClient& client = *client_[0];
    client.declareQueue(queueSpec("new"), count);
    client.declareQueue(streamSpec("stream"), count);
    client.deleteQueue("nope", false, false, count);
    client.purgeQueue("nope", count);
    client.declareExchange(exchangeSpec("x", ExchangeType::kFanout), count);
    client.bind(toQueue("amq.direct", "q"), count);
    client.consume(options("q"), &listener, count);
    client.get("q", true, count);
    client_[0] = openClientHere();
  });
  settle();
  EXPECT_EQ(answers, 0);
  EXPECT_THAT(listener.texts, IsEmpty());
  EXPECT_EQ(ready("q"), 3) << "what it was to get is back";
  EXPECT_EQ(info("q")->consumers, 0);
  EXPECT_THAT(consume("q").redelivered(), ElementsAre(false, false, false));
}

}  // namespace
}  // namespace polylog::router
