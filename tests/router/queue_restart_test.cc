// What of exchanges, bindings and queues outlives a crash or a stop, and what of their records.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "router/ack_set.h"
#include "tests/router/queue_fixture.h"

namespace polylog::router {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class QueueRestartTest : public QueueFixture {
 protected:
  QueueRestartTest() { begin(2); }

  size_t stateOf(storage::StateTable table) {
    size_t count = 0;
    store_->scanState(table, "", [&](BytesView, BytesView) { return ++count > 0; });
    return count;
  }
};

TEST_F(QueueRestartTest, DurableOnesStay) {
  QueueSpec spec = queueSpec("q");
  spec.autoDelete = true;
  spec.arguments = {{"x-max-length", Value(int64_t{5})},
                    {"x", Value(Value::Array{Value(true), Value(2.5), Value()})}};
  declare(spec);
  ExchangeSpec exchange = exchangeSpec("x", ExchangeType::kHeaders);
  exchange.internal = exchange.autoDelete = true;
  exchange.arguments = withAlternate("y");
  declareExchange(exchange);
  BindingSpec binding = toQueue("x", "q", "key", {{"a", Value(std::string("b"))}});
  bind(binding);
  crash();
  ASSERT_TRUE(info("q"));
  EXPECT_EQ(info("q")->spec.arguments, spec.arguments);
  EXPECT_TRUE(info("q")->spec.autoDelete);
  EXPECT_EQ(on(0, [&] { return client_[0]->findExchange("x"); }), exchange);
  EXPECT_THAT(on(0, [&] { return client_[0]->bindings(); }), ElementsAre(binding));
}

TEST_F(QueueRestartTest, OthersGoWithTheirPartitions) {
  QueueSpec mine = queueSpec("mine");
  mine.exclusive = true;
  declare(mine);
  declare(queueSpec("transient", false));
  declare("durable");
  declareExchange(exchangeSpec("x", ExchangeType::kFanout, false));
  std::vector<PartitionId> partitions;
  for (const char* name : {"mine", "transient", "durable"}) {
    bind(toQueue("x", name));
    bind(toQueue("amq.fanout", name));
    sendTo(name, {"one"});
    partitions.push_back(store_->last().messages.at(0).targets.at(0).partition);
  }
  crash();
  settle();
  EXPECT_FALSE(info("mine"));
  EXPECT_FALSE(info("transient"));
  EXPECT_FALSE(hasExchange("x"));
  EXPECT_THAT(boundTo("amq.fanout"), ElementsAre("durable"));
  EXPECT_FALSE(store_->exists(partitions[0]));
  EXPECT_FALSE(store_->exists(partitions[1]));
  EXPECT_TRUE(store_->exists(partitions[2]));
  EXPECT_EQ(stateOf(storage::StateTable::kQueue), 1U);
  EXPECT_TRUE(declare(queueSpec("transient", false))->created);
}

TEST_F(QueueRestartTest, UndurableDeclarationsAreGone) {
  startDeclare(queueSpec("q"));
  startBind(toQueue("amq.fanout", "q"));
  startDeclareExchange(exchangeSpec("x", ExchangeType::kFanout));
  run();
  crash();
  EXPECT_FALSE(info("q"));
  EXPECT_FALSE(hasExchange("x"));
  EXPECT_THAT(boundTo("amq.fanout"), IsEmpty());
}

TEST_F(QueueRestartTest, DanglingBindingsAreCleanedUp) {
  declare("q");
  bind(toQueue("amq.direct", "q", "k"));
  storage::AppendRequest request;
  request.state.push_back({storage::StateTable::kQueue, "q", std::nullopt});
  ASSERT_TRUE(store_->append(std::move(request)));
  settle();
  crash();
  settle();
  EXPECT_THAT(boundTo("amq.direct"), IsEmpty());
  EXPECT_EQ(stateOf(storage::StateTable::kBinding), 0U);
}

TEST_F(QueueRestartTest, AQueueWithoutItsPartitionIsCleanedUp) {
  declare("q");
  sendTo("q", {"one"});
  PartitionId partition = store_->last().messages.at(0).targets.at(0).partition;
  storage::AppendRequest request;
  request.state.push_back(storage::partitionDeleted(partition));
  ASSERT_TRUE(store_->append(std::move(request)));
  settle();
  crash();
  settle();
  EXPECT_FALSE(info("q"));
  EXPECT_EQ(stateOf(storage::StateTable::kQueue), 0U);
}

TEST_F(QueueRestartTest, DeletedOnesStayDeleted) {
  declare("q");
  declareExchange("x", ExchangeType::kFanout);
  bind(toQueue("x", "q"));
  bind(toQueue("amq.fanout", "q"));
  unbind(toQueue("amq.fanout", "q"));
  deleteQueue("q");
  deleteExchange("x");
  crash();
  EXPECT_FALSE(info("q"));
  EXPECT_FALSE(hasExchange("x"));
  EXPECT_THAT(on(0, [&] { return client_[0]->bindings(); }), IsEmpty());
}

// ---------------------------------------------------------------- records

TEST_F(QueueRestartTest, AfterACrashEverythingMayHaveBeenDelivered) {
  declare("q");
  sendTo("q", {"0", "1", "2", "3"});
  TestConsumer& consumer = consume("q", 2, 1);
  EXPECT_THAT(consumer.texts, ElementsAre("0", "1"));
  accept(consumer, {0});
  crash();
  EXPECT_EQ(ready("q"), 3);
  EXPECT_EQ(unacknowledged("q"), 0);
  TestConsumer& next = consume("q");
  EXPECT_THAT(next.texts, ElementsAre("1", "2", "3"));
  EXPECT_THAT(next.redelivered(), Each(true));
  sendTo("q", {"new"});
  EXPECT_FALSE(next.got.back().redelivered);
}

TEST_F(QueueRestartTest, AfterACleanStopOnlyWhatWasDeliveredWas) {
  declare("q");
  sendTo("q", {"0", "1", "2", "3"});
  TestConsumer& consumer = consume("q", 2);
  settleIds(consumer, {1}, Disposition::kAccept);
  settleIds(consumer, {0}, Disposition::kRequeue);
  restart();
  TestConsumer& next = consume("q", 2);
  EXPECT_THAT(next.texts, ElementsAre("0", "2"));
  EXPECT_THAT(next.redelivered(), ElementsAre(true, false));
  drop(next);
  restart();
  EXPECT_THAT(consume("q").redelivered(), ElementsAre(true, true, false));
}

/// What one clean stop says holds for the start after it, not for a crash after that.
TEST_F(QueueRestartTest, ACrashAfterACleanStopCounts) {
  declare("q");
  sendTo("q", {"0", "1"});
  restart();
  crash();
  EXPECT_THAT(consume("q").redelivered(), ElementsAre(true, true));
}

TEST_F(QueueRestartTest, AcceptedOutOfOrderStaysAccepted) {
  declare("q");
  std::vector<std::string> many(3 * size_t(AckSet::kChunkBits), "x");
  many[0] = "first";
  sendTo("q", many);
  TestConsumer& consumer = consume("q");
  ASSERT_THAT(consumer.texts, SizeIs(many.size()));
  std::vector<int64_t> ids = idsOf(consumer);
  ids.erase(ids.begin());
  ids.erase(ids.begin() + AckSet::kChunkBits);
  accept(consumer, ids);
  crash();
  EXPECT_EQ(ready("q"), 2);
  TestConsumer& next = consume("q");
  EXPECT_THAT(idsOf(next), ElementsAre(0, AckSet::kChunkBits + 1));
  accept(next, idsOf(next));
  EXPECT_EQ(stateOf(storage::StateTable::kQueueAck), 0U) << "all is below the floor";
  crash();
  EXPECT_EQ(ready("q"), 0);
}

TEST_F(QueueRestartTest, AcknowledgementsNotYetJournaledAreForgotten) {
  declare("q");
  sendTo("q", {"0", "1"});
  TestConsumer& consumer = consume("q");
  on(0, [&] {
    const Settlement one{0, Disposition::kAccept};
    consumer.queue->settle({&one, 1});
  });
  run();
  crash();
  EXPECT_THAT(consume("q").texts, ElementsAre("0", "1"));
}

TEST_F(QueueRestartTest, ManyAcknowledgementsAreFewEntries) {
  declare("q");
  sendTo("q", std::vector<std::string>(500, "x"));
  TestConsumer& consumer = consume("q");
  size_t before = store_->appends();
  for (int64_t id : idsOf(consumer)) {
    on(0, [&] {
      const Settlement one{id, Disposition::kAccept};
      consumer.queue->settle({&one, 1});
    });
  }
  settle();
  EXPECT_LE(store_->appends(), before + 2) << "one, and what gathered meanwhile";
}

TEST_F(QueueRestartTest, AStopJournalsWhatAFailedWriteLost) {
  declare("q");
  sendTo("q", {"0", "1", "2"});
  TestConsumer& consumer = consume("q");
  on(0, [&] {
    const Settlement one{1, Disposition::kAccept};
    consumer.queue->settle({&one, 1});
  });
  run();
  failWrites();
  restart();
  EXPECT_THAT(drain("q"), ElementsAre("0", "2"));
}

TEST_F(QueueRestartTest, PurgedStaysPurged) {
  declare("q");
  sendTo("q", {"0", "1", "2"});
  consume("q", 1);
  purge("q");
  crash();
  EXPECT_THAT(consume("q").texts, ElementsAre("0")) << "it was out";
}

TEST_F(QueueRestartTest, RecordsKeepTheirAddressAndOrigin) {
  declare("q");
  bind(toQueue("amq.topic", "q", "#"));
  publishOne("sensors/kitchen", "one", kQos1);
  settle();
  crash();
  TestConsumer& consumer = consume("q");
  ASSERT_THAT(consumer.got, SizeIs(1));
  EXPECT_EQ(consumer.got[0].record->address.topic, "sensors");
  EXPECT_EQ(consumer.got[0].record->address.key, "kitchen");
  EXPECT_EQ(consumer.got[0].record->origin, Protocol::kMqtt);
  publishOne("sensors/kitchen", "two", kQos1);
  settle();
  EXPECT_THAT(consumer.texts, ElementsAre("one", "two")) << "the binding too";
}

}  // namespace
}  // namespace polylog::router
