#include <gtest/gtest.h>

#include "core/base/metrics.h"
#include "router/delayed_store.h"
#include "router/liveness.h"
#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class DelayedTest : public RouterFixture {
 protected:
  std::shared_ptr<Told> delay(uint32_t seconds, std::string address, std::string value,
                              DeliveryGuarantee guarantee = kQos1, bool retain = false,
                              TestClient* self = nullptr,
                              std::optional<uint16_t> exactlyOnceId = std::nullopt) {
    Publish publish;
    publish.address = polylog::router::addressOf(address);
    publish.topic = publish.address.topic;
    publish.record.key = publish.address.key;
    publish.record.value = BytesView(value);
    publish.record.guarantee = guarantee;
    publish.record.retain = retain;
    publish.exactlyOnceId = exactlyOnceId;
    publish.publishAtMs = clock_.wallMillis() + int64_t{seconds} * 1000;
    auto told = std::make_shared<Told>();
    Done<std::vector<PublishResult>> done;
    if (guarantee != kQos0) {
      done = [told](std::vector<PublishResult> results) {
        told->done = true;
        told->results = std::move(results);
      };
    }
    size_t worker = self != nullptr ? self->worker : 0;
    on(worker, [&] {
      router_->publish(principal(self ? self->id : "publisher"),
                       self ? self->session.get() : nullptr, {&publish, 1}, std::move(done));
    });
    return told;
  }
  size_t waiting() const {
    size_t count = 0;
    store_->scanState(storage::StateTable::kDelayed, "", [&](BytesView, BytesView) {
      ++count;
      return true;
    });
    return count;
  }
};

TEST_F(DelayedTest, AcknowledgedWhenItIsDurableAndPublishedWhenItIsDue) {
  begin();
  TestClient& reader = connect("reader");
  subscribe(reader, "t/#", kQos1);
  auto told = delay(30, "t/a", "later");
  run();
  EXPECT_FALSE(told->done);
  settle();
  ASSERT_TRUE(told->done);
  EXPECT_FALSE(told->results[0].error);
  advance(29'000);
  EXPECT_THAT(take(reader), IsEmpty());
  EXPECT_EQ(waiting(), 1U);
  advance(2'000);
  auto seen = take(reader);
  ASSERT_THAT(seen, SizeIs(1));
  EXPECT_EQ(addressText(seen[0]), "t/a");
  EXPECT_EQ(textOf(seen[0]), "later");
  EXPECT_THAT(seen[0].record->record.headers, IsEmpty()) << "nothing of the waiting is left";
  EXPECT_EQ(waiting(), 0U);
  EXPECT_THAT(stored("t"), ElementsAre("later"));
}

TEST_F(DelayedTest, InTheOrderOfTheirTimesAndThenOfTheirComing) {
  begin(2);
  TestClient& reader = connect("reader", 100);
  subscribe(reader, "t/#", kQos1);
  delay(20, "t/a", "3");
  delay(10, "t/a", "1");
  delay(10, "t/a", "2");
  advance(30'000);
  EXPECT_THAT(takeTexts(reader), ElementsAre("1", "2", "3"));
}

TEST_F(DelayedTest, EveryGuaranteeAndRetained) {
  begin();
  TestClient& publisher = connect("p", 100);
  TestClient& reader = connect("reader");
  subscribe(reader, "t/#", kQos2);
  delay(5, "t/0", "zero", kQos0);
  delay(5, "t/1", "one", kQos1, true);
  auto told = delay(5, "t/2", "two", kQos2, false, &publisher, 7);
  settle();
  EXPECT_TRUE(told->done);
  EXPECT_THAT(publisher.session->heldPublishIds(), ElementsAre(7));
  advance(6'000);
  auto seen = take(reader);
  ASSERT_THAT(seen, SizeIs(3));
  std::map<std::string, DeliveryGuarantee> guarantees;
  for (const Delivery& each : seen) guarantees[textOf(each)] = each.guarantee;
  EXPECT_EQ(guarantees, (std::map<std::string, DeliveryGuarantee>{
                            {"zero", kQos0}, {"one", kQos1}, {"two", kQos2}}));
  TestClient& late = connect("late");
  subscribe(late, "t/#", kQos1);
  EXPECT_THAT(takeTexts(late), ElementsAre("one"));
}

TEST_F(DelayedTest, SurvivesACrashAndIsPublishedOnce) {
  begin();
  TestClient& reader = connect("reader", 1000);
  subscribe(reader, "t/#", kQos1);
  delay(10, "t/a", "early");
  delay(60, "t/a", "late");
  settle();
  crash();
  advance(11'000);
  EXPECT_THAT(stored("t"), ElementsAre("early"));
  crash();
  advance(100'000);
  crash();
  advance(100'000);
  EXPECT_THAT(stored("t"), ElementsAre("early", "late"));
  EXPECT_EQ(waiting(), 0U);
}

/// The record and the key's end are one entry: a crash takes both or none.
TEST_F(DelayedTest, ACrashBeforeThePublishIsDurableComesAgain) {
  begin();
  delay(10, "t/a", "x");
  settle();
  clock_.advance(11'000'000);
  run();
  ASSERT_GT(store_->pending(), 0U) << "published, not yet durable";
  crash();
  EXPECT_THAT(stored("t"), ElementsAre("x")) << "due at once";
  settle();
  crash();
  EXPECT_THAT(stored("t"), ElementsAre("x"));
}

TEST_F(DelayedTest, AFailedWriteIsTriedAgain) {
  begin();
  delay(10, "t/a", "x");
  settle();
  clock_.advance(11'000'000);
  run();
  failWrites();
  EXPECT_EQ(waiting(), 1U);
  advance(2'000);
  EXPECT_THAT(stored("t"), ElementsAre("x"));
  EXPECT_EQ(waiting(), 0U);
}

TEST_F(DelayedTest, AFailedAcceptanceIsToldAndLeavesNothing) {
  begin();
  auto told = delay(10, "t/a", "x");
  run();
  failWrites();
  ASSERT_TRUE(told->done);
  ASSERT_TRUE(told->results[0].error);
  EXPECT_EQ(told->results[0].error->kind, ErrorKind::kIo);
  auto again = delay(10, "t/a", "y");
  settle();
  EXPECT_FALSE(again->results[0].error);
  advance(11'000);
  EXPECT_THAT(stored("t"), ElementsAre("y"));
}

TEST_F(DelayedTest, ALimitOfTheirNumber) {
  RouterOptions options;
  options.maxDelayed = 2;
  begin(1, options);
  delay(10, "t/a", "1");
  delay(10, "t/a", "2");
  auto told = delay(10, "t/a", "3");
  settle();
  ASSERT_TRUE(told->results[0].error);
  EXPECT_EQ(told->results[0].error->kind, ErrorKind::kBusy);
  advance(11'000);
  told = delay(10, "t/a", "4");
  settle();
  EXPECT_FALSE(told->results[0].error);
}

TEST_F(DelayedTest, NamesOfTheBrokersOwnAreRefused) {
  begin();
  auto told = delay(10, "$SYS/x", "1");
  settle();
  ASSERT_TRUE(told->results[0].error);
  EXPECT_EQ(told->results[0].error->kind, ErrorKind::kInvalid);
}

TEST_F(DelayedTest, WhatIsThroughGivesItsSpaceBack) {
  begin();
  delay(10, "t/a", "1");
  delay(1000, "t/a", "2");
  delay(10, "t/a", "3");
  settle();
  advance(11'000);
  PartitionId partition(0);
  store_->scanState(storage::StateTable::kDelayed, "", [&](BytesView key, BytesView) {
    partition = parseDelayedKey(key)->first;
    return true;
  });
  DurableLiveness liveness(*store_);
  EXPECT_THAT(liveness.usedUp(partition), ElementsAre(storage::OffsetRange(0, 1)))
      << "of what is behind the last that waits nothing is known";
  advance(1'000'000);
  EXPECT_EQ(store_->ends(partition)->logStart, Offset(3));
}

TEST_F(DelayedTest, ItsPublishersSubscriptionWithoutLocalDoesNotGetIt) {
  begin();
  TestClient& client = connect("c");
  Subscription own = subscription("t/#", kQos1);
  own.noLocal = true;
  subscribe(client, {own});
  delay(5, "t/a", "mine", kQos1, false, &client);
  delay(5, "t/a", "theirs");
  advance(6'000);
  EXPECT_THAT(takeTexts(client), ElementsAre("theirs"));
}

}  // namespace
}  // namespace polylog::router
