// Queues: order, consumers, settling, and what publishing to them promises.
#include "router/queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "tests/router/queue_fixture.h"

namespace polylog::router {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class QueueTest : public QueueFixture {};

// ---------------------------------------------------------------- order and consumers

TEST_F(QueueTest, OneConsumerGetsAllInOrder) {
  begin();
  declare("q");
  sendTo("q", numbers(0, 10));
  TestConsumer& consumer = consume("q");
  EXPECT_EQ(consumer.texts, numbers(0, 10));
  sendTo("q", numbers(10, 15));
  EXPECT_EQ(consumer.texts, numbers(0, 15));
  EXPECT_THAT(consumer.redelivered(), Each(false));
  EXPECT_EQ(ready("q"), 0);
  EXPECT_EQ(unacknowledged("q"), 15);
  accept(consumer, idsOf(consumer));
  EXPECT_EQ(unacknowledged("q"), 0);
  EXPECT_EQ(info("q")->consumers, 1);
}

TEST_F(QueueTest, MoreThanGoesAtATime) {
  begin();
  declare("q");
  sendTo("q", numbers(0, 3000));
  TestConsumer& consumer = consume("q");
  EXPECT_EQ(consumer.texts, numbers(0, 3000));
}

TEST_F(QueueTest, CompetingConsumersTakeTurns) {
  begin();
  declare("q");
  TestConsumer& one = consume("q");
  TestConsumer& two = consume("q");
  TestConsumer& three = consume("q");
  sendTo("q", numbers(0, 9));
  EXPECT_THAT(one.texts, ElementsAre("0", "3", "6"));
  EXPECT_THAT(two.texts, ElementsAre("1", "4", "7"));
  EXPECT_THAT(three.texts, ElementsAre("2", "5", "8"));
}

TEST_F(QueueTest, ARightThatIsTakenAwayEndsTheConsumer) {
  begin();
  declare("q");
  TestConsumer& consumer = consume("q");
  sendTo("q", numbers(0, 2));
  EXPECT_EQ(consumer.texts, numbers(0, 2));
  auto trusted = std::make_shared<Principal>();
  trusted->trusted = true;
  AccessRule rule{false, "ANONYMOUS",     "*", ResourceKind::kQueue, PatternKind::kLiteral,
                  "q",   Operation::kRead};
  on(0, [&] {
    router_->access().addRules(trusted, {rule}, [](const Result<std::vector<Result<>>>&) {});
  });
  settle();
  sendTo("q", numbers(2, 4));
  EXPECT_EQ(consumer.texts, numbers(0, 2));
  EXPECT_TRUE(consumer.cancelled);
  EXPECT_EQ(ready("q"), 2);
  EXPECT_EQ(info("q")->consumers, 0);
}

TEST_F(QueueTest, PrefetchHoldsBackAndTheOthersGoOn) {
  begin();
  declare("q");
  ConsumeOptions limited = options("q");
  limited.window = window(2);
  TestConsumer& one = consume(limited);
  sendTo("q", numbers(0, 3));
  EXPECT_EQ(one.texts, numbers(0, 2));
  EXPECT_EQ(ready("q"), 1);
  TestConsumer& two = consume("q");
  EXPECT_THAT(two.texts, ElementsAre("2"));
  settleIds(one, {one.got[0].id}, Disposition::kAccept, limited.window);
  sendTo("q", numbers(3, 6));
  EXPECT_EQ(one.texts.size() + two.texts.size(), 6U);
  EXPECT_EQ(one.texts.size(), 3U);
}

// Taken and given back, it would refuse consumers of other workers, whom nobody tells of room.
TEST_F(QueueTest, AFullPrefetchLeavesTheConnectionsRoomAlone) {
  begin();
  declare("q");
  ConsumeOptions limited = options("q");
  limited.window = window(1);
  limited.flight = std::make_shared<DeliveryFlight>(1, 1 << 20);
  TestConsumer& one = consume(limited);
  sendTo("q", numbers(0, 2));
  EXPECT_THAT(one.texts, SizeIs(1));
  EXPECT_EQ(limited.flight->count(), 1);
  EXPECT_FALSE(limited.flight->takeRefused());
}

TEST_F(QueueTest, ARaisedLimitTakesEffectOnResume) {
  begin(2);
  declare("q");
  sendTo("q", numbers(0, 5));
  ConsumeOptions limited = options("q");
  limited.window = window(1);
  TestConsumer& consumer = startConsume(limited, 1);
  settle();
  EXPECT_THAT(consumer.texts, SizeIs(1));
  limited.window->setLimit(3);
  on(1, [&] { consumer.handle->resume(); });
  settle();
  EXPECT_THAT(consumer.texts, SizeIs(3));
  limited.window->setLimit(0);
  on(1, [&] { consumer.handle->resume(); });
  settle();
  EXPECT_THAT(consumer.texts, SizeIs(5));
}

TEST_F(QueueTest, AChannelsWindowIsSharedByTwoQueues) {
  begin(3);
  declare("a", 0);
  declare("b", 1);
  DeliveryWindowRef channel = window(3);
  ConsumeOptions fromA = options("a");
  ConsumeOptions fromB = options("b");
  fromA.channelWindow = fromB.channelWindow = channel;
  fromA.window = window(2);
  TestConsumer& a = consume(fromA, 2);
  TestConsumer& b = consume(fromB, 2);
  sendTo("a", numbers(0, 10));
  sendTo("b", numbers(0, 10));
  EXPECT_THAT(a.texts, SizeIs(2));
  EXPECT_THAT(b.texts, SizeIs(1));
  EXPECT_EQ(channel->used(), 3);
  fromA.window->give(1);
  settleIds(a, {a.got[0].id}, Disposition::kAccept, channel);
  on(2, [&] { b.handle->resume(); });
  settle();
  EXPECT_EQ(a.texts.size() + b.texts.size(), 4U);
  EXPECT_EQ(channel->used(), 3);
  // What a settles makes room for b too, once it is told.
  for (int i = 0; i < 30; ++i) {
    TestConsumer& from = a.got.empty() ? b : a;
    if (from.got.empty()) break;
    if (&from == &a) fromA.window->give(1);
    std::vector<int64_t> id = {from.got.front().id};
    from.got.erase(from.got.begin());
    if (&from == &a && id[0] == 0) continue;
    settleIds(from, id, Disposition::kAccept, channel);
    on(2, [&] {
      a.handle->resume();
      b.handle->resume();
    });
    settle();
  }
  EXPECT_EQ(a.texts, numbers(0, 10));
  EXPECT_EQ(b.texts, numbers(0, 10));
}

TEST_F(QueueTest, AConsumerThatSendsNothingGetsABoundedNumber) {
  begin(2);
  declare("q");
  for (bool acknowledges : {true, false}) {
    sendTo("q", numbers(0, 2000));
    ConsumeOptions some = options("q");
    some.acknowledges = acknowledges;
    TestConsumer& consumer = startConsume(some, 1);
    consumer.reads = false;
    settle();
    size_t first = consumer.texts.size();
    EXPECT_GT(first, 0U);
    EXPECT_LT(first, 1000U);
    on(1, [&] { consumer.sent(10); });
    settle();
    EXPECT_THAT(consumer.texts, SizeIs(first + 10));
    if (acknowledges) {
      accept(consumer, idsOf(consumer));
      EXPECT_THAT(consumer.texts, SizeIs(first + 10)) << "acknowledged or not";
    }
    on(1, [&] { consumer.sent(first); });  // the rest
    settle();
    EXPECT_GT(consumer.texts.size(), first + 10);
    drop(consumer);
    purge("q");
  }
}

TEST_F(QueueTest, LargeRecordsAreBoundedByTheirSize) {
  begin();
  declare("q");
  std::string large(400'000, 'x');
  for (int i = 0; i < 6; ++i) sendTo("q", {large});
  TestConsumer& consumer = startConsume(options("q"));
  consumer.reads = false;
  settle();
  EXPECT_THAT(consumer.texts, SizeIs(3));
  on(0, [&] { consumer.sent(3); });
  settle();
  EXPECT_THAT(consumer.texts, SizeIs(6));
}

TEST_F(QueueTest, WhatNeedsNoAcknowledgementIsGoneAsItGoes) {
  begin();
  declare("q");
  sendTo("q", numbers(0, 5));
  ConsumeOptions some = options("q");
  some.acknowledges = false;
  some.window = window(1);
  TestConsumer& consumer = consume(some);
  EXPECT_EQ(consumer.texts, numbers(0, 5)) << "prefetch is none of its business";
  EXPECT_EQ(unacknowledged("q"), 0);
  settle();
  crash();
  EXPECT_EQ(ready("q"), 0);
}

/// The answer comes first, wherever the queue is at home, even if records wait.
TEST_F(QueueTest, ConsumeIsAnsweredBeforeTheFirstDelivery) {
  begin(3);
  for (size_t home = 0; home < 3; ++home) {
    std::string name = "q" + std::to_string(home);
    declare(queueSpec(name), home);
    sendTo(name, {"one"});
    for (size_t worker = 0; worker < 3; ++worker) {
      TestConsumer& consumer = startConsume(options(name), worker);
      startSend("", name, {"another"}, worker);
      settle();  // the listener itself looks at the order
      EXPECT_FALSE(consumer.texts.empty());
      drop(consumer);
    }
  }
}

TEST_F(QueueTest, ConsumersOnOtherWorkersThanTheQueue) {
  begin(3);
  declare("q", 2);
  TestConsumer& one = consume("q", 0, 0);
  TestConsumer& two = consume("q", 0, 1);
  for (size_t worker = 0; worker < 3; ++worker) startSend("", "q", numbers(0, 4), worker);
  settle();
  EXPECT_THAT(one.texts, SizeIs(6));
  EXPECT_THAT(two.texts, SizeIs(6));
  settleIds(one, idsOf(one), Disposition::kRequeue);
  EXPECT_EQ(one.texts.size() + two.texts.size(), 18U);
  accept(two, idsOf(two));
  EXPECT_EQ(unacknowledged("q") + ready("q") + int64_t(two.got.size()), 12);
}

TEST_F(QueueTest, OnlyAQueueWithConsumersIsWatched) {
  begin(2);
  declare("q");
  EXPECT_FALSE(*get("q"));
  EXPECT_EQ(store_->watches(), 0U);
  TestConsumer& first = consume("q", 0, 1);
  EXPECT_EQ(store_->watches(), 1U);
  EXPECT_FALSE(*get("q"));
  drop(first);
  settle();
  EXPECT_EQ(store_->watches(), 0U);
  sendTo("q", {"one"});
  TestConsumer& second = consume("q", 1);
  sendTo("q", {"two"});
  EXPECT_THAT(second.texts, ElementsAre("one"));
  drop(second);
  TestConsumer& third = consume("q");
  EXPECT_THAT(third.texts, ElementsAre("two"));
  sendTo("q", {"three"});
  EXPECT_THAT(third.texts, ElementsAre("two", "three"));
}

// ---------------------------------------------------------------- settling

TEST_F(QueueTest, AcceptedOutOfOrder) {
  begin();
  declare("q");
  sendTo("q", numbers(0, 5));
  TestConsumer& consumer = consume("q");
  accept(consumer, {3});
  accept(consumer, {1});
  accept(consumer, {0, 2});
  EXPECT_EQ(unacknowledged("q"), 1);
  EXPECT_EQ(ready("q"), 0);
  accept(consumer, {4});
  EXPECT_EQ(unacknowledged("q"), 0);
}

TEST_F(QueueTest, RequeuedToTheirPlaceAndRedelivered) {
  begin();
  declare("q");
  sendTo("q", numbers(0, 6));
  TestConsumer& consumer = consume("q", 4);
  settleIds(consumer, {2, 0, 1}, Disposition::kRequeue);  // its window is full still
  EXPECT_EQ(ready("q"), 5);
  drop(consumer);
  settle();
  TestConsumer& next = consume("q");
  EXPECT_THAT(next.texts, ElementsAre("0", "1", "2", "4", "5"));
  EXPECT_THAT(next.redelivered(), ElementsAre(true, true, true, false, false));
}

TEST_F(QueueTest, ARequeuedOneMayComeRightBack) {
  begin();
  declare("q");
  sendTo("q", {"one"});
  TestConsumer& consumer = consume("q");
  settleIds(consumer, {0}, Disposition::kRequeue);
  EXPECT_THAT(consumer.texts, ElementsAre("one", "one"));
  EXPECT_THAT(consumer.redelivered(), ElementsAre(false, true));
}

TEST_F(QueueTest, RejectedAreGone) {
  begin();
  declare("q");
  sendTo("q", numbers(0, 2));
  TestConsumer& consumer = consume("q");
  settleIds(consumer, {0}, Disposition::kReject);
  drop(consumer);
  settleIds(consumer, {1}, Disposition::kReturn);
  EXPECT_THAT(drain("q"), ElementsAre("1"));
}

TEST_F(QueueTest, ReturnedAsIfTheyHadNotBeenTaken) {
  begin();
  declare("q");
  sendTo("q", numbers(0, 2));
  TestConsumer& consumer = consume("q", 2);
  settleIds(consumer, {1}, Disposition::kRequeue);
  drop(consumer);
  settleIds(consumer, {0}, Disposition::kReturn);
  TestConsumer& second = consume("q");
  EXPECT_THAT(second.redelivered(), ElementsAre(false, true));
  drop(second);
  settleIds(second, {0, 1}, Disposition::kReturn);
  TestConsumer& third = consume("q");
  EXPECT_THAT(third.redelivered(), ElementsAre(false, true)) << "the second was, once";
}

TEST_F(QueueTest, AConsumerThatEndsGivesBackWhatItDidNotGet) {
  begin(2);
  declare("q");
  ConsumeOptions limited = options("q");
  limited.window = window(10);
  limited.channelWindow = window(10);
  limited.flight = std::make_shared<DeliveryFlight>(100, 100);
  int told = 0;
  limited.returned = [&told] { ++told; };
  TestConsumer& consumer = consume(limited, 1);
  startSend("", "q", numbers(0, 5));
  store_->commit();
  loops_[0]->runAll();  // taken and on their way to the other worker
  EXPECT_EQ(unacknowledged("q"), 5);
  drop(consumer);
  settle();
  EXPECT_THAT(consumer.texts, IsEmpty());
  EXPECT_EQ(unacknowledged("q"), 0);
  EXPECT_EQ(ready("q"), 5);
  EXPECT_EQ(limited.window->used(), 0);
  EXPECT_EQ(limited.channelWindow->used(), 0);
  EXPECT_EQ(limited.flight->count(), 0);
  EXPECT_EQ(limited.flight->octets(), 0);
  EXPECT_EQ(told, 1) << "others may wait for those windows";
  TestConsumer& next = consume("q");
  EXPECT_EQ(next.texts, numbers(0, 5));
  EXPECT_THAT(next.redelivered(), Each(false));
}

TEST_F(QueueTest, SoDoesOneThatAcknowledgesNothing) {
  begin(2);
  declare("q");
  ConsumeOptions some = options("q");
  some.acknowledges = false;
  TestConsumer& consumer = consume(some, 1);
  startSend("", "q", numbers(0, 5));
  store_->commit();
  loops_[0]->runAll();
  drop(consumer);
  settle();
  EXPECT_THAT(consumer.texts, IsEmpty());
  EXPECT_EQ(ready("q"), 5);
  EXPECT_EQ(consume("q").texts, numbers(0, 5));
}

TEST_F(QueueTest, AConnectionsFlightBoundsAllItsConsumers) {
  begin(3);
  declare("a", 0);
  declare("b", 1);
  sendTo("a", numbers(0, 10));
  sendTo("b", numbers(0, 10));
  auto flight = std::make_shared<DeliveryFlight>(4, 1000);
  ConsumeOptions fromA = options("a");
  ConsumeOptions fromB = options("b");
  fromA.flight = fromB.flight = flight;
  TestConsumer& a = startConsume(fromA, 2);
  a.reads = false;
  settle();
  TestConsumer& b = startConsume(fromB, 2);
  b.reads = false;
  settle();
  EXPECT_EQ(a.texts, numbers(0, 4));
  EXPECT_THAT(b.texts, IsEmpty());
  EXPECT_TRUE(flight->takeRefused());
  on(2, [&] {
    flight->give(3, 3);
    b.handle->resume();
  });
  settle();
  EXPECT_EQ(b.texts, numbers(0, 3));
  EXPECT_EQ(flight->count(), 4);
}

TEST_F(QueueTest, WhatWasHandedOverOutlivesItsConsumer) {
  begin(2);
  declare("q");
  sendTo("q", numbers(0, 3));
  TestConsumer& consumer = consume("q", 0, 1);
  drop(consumer);
  settle();
  EXPECT_EQ(unacknowledged("q"), 3);
  EXPECT_EQ(info("q")->consumers, 0);
  accept(consumer, {0});
  settleIds(consumer, {1}, Disposition::kRequeue);
  EXPECT_EQ(unacknowledged("q"), 1);
  EXPECT_EQ(ready("q"), 1);
  deleteQueue("q");
  accept(consumer, {2});  // does nothing
}

TEST_F(QueueTest, AListenerMayEndItsConsumerInADelivery) {
  begin();
  declare("q");
  struct Once final : QueueListener {
    std::unique_ptr<QueueConsumer> handle;
    int got = 0;
    void onDeliveries(std::span<QueueDelivery> deliveries) override {
      got += static_cast<int>(deliveries.size());
      handle = nullptr;
    }
    void onCancelled() override {}
  } once;
  ConsumeOptions one = options("q");
  one.window = window(1);
  on(0, [&] {
    client_[0]->consume(one, &once, [&](auto result) { once.handle = std::move(*result); });
  });
  settle();
  sendTo("q", numbers(0, 3));
  EXPECT_EQ(once.got, 1);
  EXPECT_EQ(ready("q"), 2);
}

// ---------------------------------------------------------------- get and purge

TEST_F(QueueTest, GetTakesOneAndTellsWhatIsLeft) {
  begin(2);
  declare("q");
  EXPECT_FALSE(*get("q"));
  sendTo("q", numbers(0, 3));
  auto first = get("q", true, 1);
  ASSERT_TRUE(first && *first);
  EXPECT_EQ((*first)->remaining, 2);
  EXPECT_FALSE((*first)->delivery.redelivered);
  auto second = get("q", false);
  EXPECT_EQ((*second)->remaining, 1);
  EXPECT_EQ(unacknowledged("q"), 1);
  const Settlement back{(*first)->delivery.id, Disposition::kRequeue};
  on(1, [&] { (*first)->queue->settle({&back, 1}); });
  settle();
  auto again = get("q");
  EXPECT_EQ((*again)->delivery.record->record.value, "0");
  EXPECT_TRUE((*again)->delivery.redelivered);
  EXPECT_EQ(get("nope").error().kind, ErrorKind::kNotFound);
}

TEST_F(QueueTest, PurgeTakesWhatWaits) {
  begin();
  declare("q");
  sendTo("q", numbers(0, 6));
  TestConsumer& consumer = consume("q", 2);
  settleIds(consumer, {1}, Disposition::kRequeue);
  EXPECT_EQ(*purge("q"), 5);
  EXPECT_EQ(ready("q"), 0);
  EXPECT_EQ(unacknowledged("q"), 1);
  EXPECT_EQ(*purge("q"), 0);
  sendTo("q", {"after"});
  drop(consumer);
  settleIds(consumer, {0}, Disposition::kRequeue);
  EXPECT_THAT(drain("q"), ElementsAre("0", "after"));
  EXPECT_EQ(purge("nope").error().kind, ErrorKind::kNotFound);
}

TEST_F(QueueTest, PurgeIsDurableWhenAnswered) {
  begin();
  declare("q");
  sendTo("q", numbers(0, 3));
  auto answer = start<int64_t>(
      0, [](QueueClient& client, auto done) { client.purgeQueue("q", std::move(done)); });
  run();
  EXPECT_FALSE(*answer);
  store_->commit();
  run();
  ASSERT_TRUE(*answer);
  crash();
  EXPECT_EQ(ready("q"), 0);
}

// ---------------------------------------------------------------- publishing

TEST_F(QueueTest, FanOutToAThousandQueuesIsOneEntryAndOneBody) {
  begin();
  for (int i = 0; i < 1000; ++i) {
    startDeclare(queueSpec("q" + std::to_string(i)));
    startBind(toQueue("amq.fanout", "q" + std::to_string(i)));
  }
  settle();
  size_t before = store_->appends();
  send("amq.fanout", "", {"one", "two"});
  EXPECT_EQ(store_->appends(), before + 1);
  ASSERT_THAT(store_->last().messages, SizeIs(1));
  EXPECT_THAT(store_->last().messages[0].targets, SizeIs(1000));
  EXPECT_THAT(drain("q0"), ElementsAre("one", "two"));
  EXPECT_THAT(drain("q999"), ElementsAre("one", "two"));
}

TEST_F(QueueTest, PublishersAreToldOnceItIsDurable) {
  begin();
  declare("q");
  TestConsumer& consumer = consume("q");
  auto told = startSend("", "q", {"one"});
  run();
  EXPECT_FALSE(told->done);
  EXPECT_THAT(consumer.texts, IsEmpty()) << "nobody reads what a crash may take back";
  store_->commit();
  run();
  EXPECT_TRUE(told->done);
  EXPECT_THAT(consumer.texts, ElementsAre("one"));
}

TEST_F(QueueTest, AFailedWriteIsTold) {
  begin();
  declare("q");
  auto told = startSend("", "q", {"one", "two"});
  run();
  failWrites();
  ASSERT_TRUE(told->done);
  EXPECT_EQ(told->results.at(1).error->kind, ErrorKind::kIo);
  EXPECT_EQ(ready("q"), 0);
  sendTo("q", {"three"});
  EXPECT_THAT(drain("q"), ElementsAre("three"));
}

TEST_F(QueueTest, WhatLeadsNowhereIsNotMatchedAndNotStored) {
  begin();
  size_t before = store_->appends();
  EXPECT_FALSE(send("", "nope", {"one"}));
  EXPECT_FALSE(send("amq.direct", "nope", {"one"}));
  EXPECT_EQ(store_->appends(), before);
}

/// Records of a burst keep their order in each queue, whatever route each takes.
TEST_F(QueueTest, ABurstOfSeveralRoutesKeepsItsOrder) {
  begin();
  for (const char* name : {"a", "b", "both"}) declare(name);
  for (const char* key : {"a", "b"}) {
    bind(toQueue("amq.direct", key, key));
    bind(toQueue("amq.direct", "both", key));
  }
  std::vector<Publish> publishes(9);
  auto values = numbers(0, 9);
  for (size_t i = 0; i < publishes.size(); ++i) {
    publishes[i].route = *routeOf("amq.direct", i % 3 == 0 ? "a" : i % 3 == 1 ? "b" : "nope");
    publishes[i].record.value = BytesView(values[i]);
  }
  std::vector<PublishResult> results;
  on(0, [&] {
    router_->publish(principal("p", Protocol::kAmqp), nullptr, publishes,
                     [&](auto told) { results = std::move(told); });
  });
  settle();
  ASSERT_THAT(results, SizeIs(9));
  EXPECT_TRUE(results[0].matched && results[1].matched);
  EXPECT_FALSE(results[2].matched);
  EXPECT_THAT(drain("a"), ElementsAre("0", "3", "6"));
  EXPECT_THAT(drain("b"), ElementsAre("1", "4", "7"));
  EXPECT_THAT(drain("both"), ElementsAre("0", "1", "3", "4", "6", "7"));
}

TEST_F(QueueTest, AQueueDeletedAfterTheRouteWasFoundIsNoError) {
  begin();
  declare("gone");
  declare("stays");
  bind(toQueue("amq.fanout", "gone"));
  bind(toQueue("amq.fanout", "stays"));
  RouteRef both = *routeOf("amq.fanout", "");
  RouteRef one = *routeOf("", "gone");
  deleteQueue("gone");
  auto toBoth = sendBy(both, "", {"one", "two"});
  auto toOne = sendBy(one, "gone", {"three"});
  settle();
  EXPECT_FALSE(toBoth->results.at(0).error);
  EXPECT_TRUE(toBoth->results.at(0).matched);
  EXPECT_FALSE(toOne->results.at(0).error);
  EXPECT_FALSE(toOne->results.at(0).matched) << "it reached nobody";
  EXPECT_THAT(drain("stays"), ElementsAre("one", "two"));
}

TEST_F(QueueTest, ADeletedAndRedeclaredQueueIsFoundAgain) {
  begin();
  declare("q");
  RouteRef route = *routeOf("", "q");
  deleteQueue("q");
  declare("q");
  auto told = sendBy(route, "q", {"one"});
  settle();
  EXPECT_TRUE(told->results.at(0).matched);
  EXPECT_THAT(drain("q"), ElementsAre("one"));
}

TEST_F(QueueTest, ARecordThatIsTooLargeIsTold) {
  RouterOptions small;
  small.maxMessageBytes = 10;
  begin(1, small);
  declare("q");
  auto told = startSend("", "q", {"small", std::string(100, 'x'), "fine"});
  settle();
  EXPECT_FALSE(told->results.at(0).error);
  EXPECT_EQ(told->results.at(1).error->kind, ErrorKind::kTooLarge);
  EXPECT_THAT(drain("q"), ElementsAre("small", "fine"));
}

// ---------------------------------------------------------------- trouble with the disk

TEST_F(QueueTest, DamagedRecordsAreSkipped) {
  begin();
  declare("q");
  for (const char* text : {"0", "1", "2"}) sendTo("q", {text});
  PartitionId partition = store_->last().messages.at(0).targets.at(0).partition;
  store_->damage(partition, Offset(1));
  TestConsumer& consumer = consume("q");
  EXPECT_THAT(consumer.texts, ElementsAre("0", "2"));
  accept(consumer, {0, 2});
  EXPECT_EQ(ready("q"), 0);
  EXPECT_EQ(unacknowledged("q"), 0);
}

TEST_F(QueueTest, AcknowledgementsWhoseWriteFailedAreJournaledLater) {
  begin();
  declare("q");
  sendTo("q", numbers(0, 5));
  TestConsumer& consumer = consume("q");
  on(0, [&] {
    const Settlement one{1, Disposition::kAccept};
    consumer.queue->settle({&one, 1});
  });
  run();
  failWrites();
  accept(consumer, {3});
  crash();
  EXPECT_THAT(drain("q"), ElementsAre("0", "2", "4"));
}

}  // namespace
}  // namespace polylog::router
