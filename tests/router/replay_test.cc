// Subscriptions that replay: the stored past, then what comes, from one log.
#include "router/retained_store.h"
#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using Kind = ReplayStart::Kind;

class ReplayTest : public RouterFixture {
 protected:
  static Subscription replay(const std::string& filter, ReplayStart start,
                             DeliveryGuarantee guarantee = kQos1, uint32_t id = 0) {
    Subscription made = subscription(filter, guarantee, id);
    made.replay = start;
    return made;
  }
  static Subscription earliest(const std::string& filter, DeliveryGuarantee guarantee = kQos1) {
    return replay(filter, {}, guarantee);
  }
  void store(const std::string& address, int from, int to, DeliveryGuarantee guarantee = kQos1) {
    std::vector<Outgoing> records;
    for (int i = from; i < to; ++i) records.push_back({address, std::to_string(i), guarantee});
    publish(records);
    settle();
  }
  static std::vector<std::string> numbers(int from, int to) {
    std::vector<std::string> out;
    for (int i = from; i < to; ++i) out.push_back(std::to_string(i));
    return out;
  }
  /// Takes as a codec does, a window's worth at a time, and acknowledges all.
  std::vector<Delivery> drain(TestClient& client, int64_t window = 100) {
    std::vector<Delivery> all;
    for (int idle = 0; idle < 10;) {
      std::vector<Delivery> out;
      on(client.worker,
         [&] { client.session->take(64, client.session->acknowledgedUpTo() + window, out); });
      for (const Delivery& delivery : out) {
        if (delivery.id >= 0) acknowledge(client, delivery.id);
      }
      settle();
      idle = out.empty() ? idle + 1 : 0;
      all.insert(all.end(), out.begin(), out.end());
    }
    return all;
  }
  static std::vector<std::string> texts(const std::vector<Delivery>& deliveries) {
    std::vector<std::string> out;
    for (const Delivery& delivery : deliveries) out.push_back(textOf(delivery));
    return out;
  }
  std::vector<std::string> drainTexts(TestClient& client) { return texts(drain(client)); }
  uint64_t below(uint64_t limit) { return random_.next() % limit; }
  size_t entries() {
    size_t count = 0;
    store_->scanState(storage::StateTable::kReplay, "", [&](BytesView, BytesView) {
      ++count;
      return true;
    });
    return count;
  }
};

/// Sessions that end with their connection, and those that outlive it.
class ReplayBothTest : public ReplayTest, public testing::WithParamInterface<uint32_t> {};
INSTANTIATE_TEST_SUITE_P(Expiry, ReplayBothTest, testing::Values(0U, 1000U));

TEST_P(ReplayBothTest, ThePastComesFirstAndThenWhatIsPublished) {
  begin();
  store("t/a", 0, 3);
  TestClient& a = connect("a", GetParam());
  EXPECT_EQ(subscribe(a, {replay("t/#", {}, kQos1, 9)}).at(0).value(), kQos1);
  auto deliveries = drain(a);
  EXPECT_EQ(texts(deliveries), numbers(0, 3));
  for (int64_t i = 0; i < 3; ++i) {
    const Delivery& delivery = deliveries[static_cast<size_t>(i)];
    EXPECT_EQ(delivery.guarantee, kQos1);
    EXPECT_EQ(addressText(delivery), "t/a");
    EXPECT_THAT(delivery.subscriptionIds, ElementsAre(9U));
    ASSERT_TRUE(delivery.place);
    EXPECT_EQ(delivery.place->offset, i);
    EXPECT_FALSE(delivery.redelivered);
  }
  int told = a.deliverable;
  store("t/a", 3, 5);
  EXPECT_GT(a.deliverable, told);
  EXPECT_EQ(drainTexts(a), numbers(3, 5));
}

TEST_P(ReplayBothTest, AtMostOnceIsNotAcknowledged) {
  begin();
  store("t/a", 0, 3, kQos0);
  store("t/a", 3, 6, kQos1);
  TestClient& a = connect("a", GetParam());
  subscribe(a, {earliest("t/#"), earliest("t/+", kQos0)});
  auto deliveries = drain(a);
  ASSERT_THAT(deliveries, SizeIs(12));
  size_t acknowledged = 0;
  for (const Delivery& delivery : deliveries) {
    EXPECT_EQ(delivery.id >= 0, delivery.guarantee == kQos1);
    acknowledged += delivery.id >= 0 ? 1 : 0;
  }
  EXPECT_EQ(acknowledged, 3U);
  EXPECT_THAT(drain(a), IsEmpty());
}

TEST_P(ReplayBothTest, BeginsWhereItIsAskedTo) {
  begin();
  store("t/a", 0, 5);
  clock_.advance(60'000'000);
  int64_t middle = clock_.wallMillis();
  store("t/a", 5, 10);
  clock_.advance(60'000'000);
  struct Case {
    ReplayStart start;
    int first;
  };
  int number = 0;
  for (const Case& one :
       {Case{{Kind::kEarliest, 0}, 0}, Case{{Kind::kOffset, 7}, 7}, Case{{Kind::kOffset, 10}, 10},
        Case{{Kind::kLast, 3}, 7}, Case{{Kind::kLast, 30}, 0}, Case{{Kind::kLast, 0}, 10},
        Case{{Kind::kTime, 0}, 0}, Case{{Kind::kTime, middle}, 5},
        Case{{Kind::kTime, middle + 1'000'000}, 10}, Case{{Kind::kAgo, 90'000}, 5},
        Case{{Kind::kAgo, 900'000'000'000}, 0}}) {
    SCOPED_TRACE(number);
    TestClient& a = connect("a" + std::to_string(number++), GetParam());
    ASSERT_TRUE(subscribe(a, {replay("t/a", one.start)}).at(0).has_value());
    EXPECT_EQ(drainTexts(a), numbers(one.first, 10));
    detach(a);
  }
  // In the middle of a batch.
  createTopic({"k", 1, std::nullopt});
  produce("k", batchOf({{"x", "0"}, {"x", "1"}, {"x", "2"}}, 1000));
  settle();
  TestClient& a = connect("k", GetParam());
  subscribe(a, {replay("k/#", {Kind::kTime, 1001})});
  EXPECT_EQ(drainTexts(a), numbers(1, 3));
}

TEST_P(ReplayBothTest, WhatCantBeMeantIsRefused) {
  begin();
  createTopic({"many", 3, std::nullopt});
  store("t/a", 0, 5);
  TestClient& a = connect("a", GetParam());
  auto results =
      subscribe(a, {replay("#", {Kind::kOffset, 0}), replay("many/x", {Kind::kOffset, 0}),
                    replay("t/a", {Kind::kOffset, 6})});
  for (const auto& result : results) {
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error().kind, ErrorKind::kInvalid);
  }
  EXPECT_EQ(results[2].error().text, "topic 't' has offsets 0 to 4; the next will be 5");
  EXPECT_THAT(drain(a), IsEmpty());
  EXPECT_EQ(entries(), 0U);
}

TEST_P(ReplayBothTest, TheLastOfThoseThatMatchAreLookedForFarBack) {
  begin();
  store("t/rare", 0, 20);
  store("t/often", 0, 5000);
  store("t/rare", 20, 21);
  TestClient& a = connect("a", GetParam());
  subscribe(a, {replay("t/rare", {Kind::kLast, 5})});
  EXPECT_EQ(drainTexts(a), numbers(16, 21));
}

TEST_P(ReplayBothTest, EveryTopicThatMatchesOldAndNew) {
  begin();
  for (const char* address : {"a/x", "b/x", "b/y", "_hidden/x"}) store(address, 0, 2);
  TestClient& a = connect("a", GetParam());
  subscribe(a, {earliest("+/x")});
  std::vector<std::string> seen;
  for (const Delivery& one : drain(a)) seen.push_back(addressText(one) + "=" + textOf(one));
  EXPECT_THAT(seen, testing::UnorderedElementsAre("a/x=0", "a/x=1", "b/x=0", "b/x=1"));
  store("c/x", 7, 8);
  EXPECT_THAT(drainTexts(a), ElementsAre("7"));
  on(0, [&] {
    router_->growTopic(principal("admin", Protocol::kKafka), "c", 4, [](Result<TopicRef>) {});
  });
  settle();
  for (int i = 0; i < 4; ++i) produce("c", batchOf({{"x", std::to_string(i)}}), i);
  settle();
  EXPECT_THAT(drainTexts(a), testing::UnorderedElementsAre("0", "1", "2", "3"));
}

TEST_P(ReplayBothTest, AFastPublisherThroughTheSeam) {
  begin(2);
  int next = 0;
  auto more = [&](int count) {
    std::vector<Outgoing> records;
    for (int i = 0; i < count; ++i) records.push_back({"t/a", std::to_string(next++), kQos1});
    publish(records, nullptr, 1);
  };
  for (int i = 0; i < 40; ++i) more(100);
  settle();
  TestClient& a = connect("a", GetParam());
  on(0, [&] {
    a.session->subscribe({earliest("t/#")}, [](std::vector<Result<DeliveryGuarantee>>) {});
  });
  std::vector<std::string> seen;
  // Publishes, commits and reads come in between one another, in every order.
  for (int round = 0; round < 3000; ++round) {
    if (round < 2000 && below(2) == 0) more(static_cast<int>(below(9)) + 1);
    if (below(3) == 0 || round >= 2000) store_->commit();
    loops_[below(2)]->runAll();
    std::vector<Delivery> out;
    on(0, [&] { a.session->take(64, a.session->acknowledgedUpTo() + 100, out); });
    for (const Delivery& one : out) {
      seen.push_back(textOf(one));
      acknowledge(a, one.id);
    }
  }
  for (std::string& text : drainTexts(a)) seen.push_back(std::move(text));
  EXPECT_EQ(seen, numbers(0, next));
}

TEST_P(ReplayBothTest, OneTurnDoesNotTakeAllOfIt) {
  begin();
  store("t/a", 0, 8000, kQos0);
  TestClient& a = connect("a", GetParam());
  subscribe(a, {earliest("t/a", kQos0)});
  size_t taken = 0;
  for (size_t more = 1; more > 0; taken += more) more = take(a, 64).size();
  EXPECT_LE(taken, 1024U);
  int told = a.deliverable;
  settle();
  EXPECT_GT(a.deliverable, told);
  EXPECT_EQ(taken + drain(a).size(), 8000U);
}

TEST_P(ReplayBothTest, TheWindowHolds) {
  begin();
  store("t/a", 0, 5000);
  TestClient& a = connect("a", GetParam());
  subscribe(a, {earliest("t/a")});
  auto first = take(a, 1000, 10);
  EXPECT_THAT(first, SizeIs(10));
  settle();
  EXPECT_THAT(take(a, 1000, 10), IsEmpty());
  auto waiting = [&] {
    int64_t found = -1;
    on(0, [&] {
      router_->listSessions(principal("admin"),
                            [&](std::vector<SessionInfo> all) { found = all.at(0).waiting; });
    });
    settle();
    return found;
  };
  EXPECT_LE(waiting(), 1024);  // the log holds the rest
  for (const Delivery& one : first) acknowledge(a, one.id);
  settle();
  EXPECT_EQ(drain(a).size(), 4990U);
}

TEST_P(ReplayBothTest, TheSameAgainGoesOnAndAnotherStartBeginsAnew) {
  begin();
  store("t/a", 0, 3);
  TestClient& a = connect("a", GetParam());
  subscribe(a, {earliest("t/a")});
  EXPECT_EQ(drainTexts(a), numbers(0, 3));
  subscribe(a, {earliest("t/a", kQos0)});
  store("t/a", 3, 4);
  auto next = drain(a);
  ASSERT_EQ(texts(next), numbers(3, 4));
  EXPECT_EQ(next[0].guarantee, kQos0);
  subscribe(a, {replay("t/a", {Kind::kLast, 2})});
  EXPECT_EQ(drainTexts(a), numbers(2, 4));
  // One that doesn't replay takes its place, and the other way round.
  subscribe(a, "t/a", kQos1);
  store("t/a", 4, 5);
  EXPECT_EQ(drainTexts(a), numbers(4, 5));
  EXPECT_EQ(entries(), 0U);
  subscribe(a, {replay("t/a", {Kind::kLast, 1})});
  store("t/a", 5, 6);
  EXPECT_EQ(drainTexts(a), numbers(4, 6));
  std::vector<bool> there;
  on(0, [&] {
    a.session->unsubscribe({"t/a"}, [&](Result<std::vector<bool>> was) { there = *was; });
  });
  settle();
  EXPECT_THAT(there, ElementsAre(true));
  store("t/a", 6, 7);
  EXPECT_THAT(drain(a), IsEmpty());
  EXPECT_EQ(entries(), 0U);
}

TEST_P(ReplayBothTest, WhatOtherProtocolsWroteHasItsAddress) {
  RouterOptions options;
  options.addressOf = [](BytesView topic, const std::optional<BytesView>& key, std::string& text) {
    if (topic != "temps") return Address{topic, key};
    text = "factory/" + std::string(key.value_or("")) + "/temp";
    return splitAddressText(text);
  };
  options.ruleTopics = {"temps"};
  begin(1, options);
  createTopic({"temps", 1, std::nullopt});
  produce("temps", batchOf({{"7", "rule"}}));
  // A Kafka client may write any header: this one means nothing.
  RecordBatchBuilder builder;
  Record forged;
  forged.key = BytesView("8");
  forged.value = BytesView("forged");
  forged.timestampMs = 1000;
  forged.headers.push_back({kAddressHeader, BytesView("factory/secret/other")});
  builder.add(forged);
  produce("temps", builder.finish());
  settle();
  TestClient& a = connect("a", GetParam());
  subscribe(a, {earliest("factory/#")});
  std::vector<std::string> seen;
  for (const Delivery& one : drain(a)) seen.push_back(addressText(one) + "=" + textOf(one));
  EXPECT_THAT(seen, ElementsAre("factory/7/temp=rule", "factory/8/temp=forged"));
}

TEST_P(ReplayBothTest, BeginsWithTheOldestThatIsLeft) {
  begin();
  store("t/a", 0, 6);
  on(0, [&] {
    router_->deleteRecords(principal("admin", Protocol::kKafka), "t", 0, Offset(4),
                           [](Result<Offset>) {});
  });
  settle();
  for (ReplayStart start : {ReplayStart{}, ReplayStart{Kind::kOffset, 1},
                            ReplayStart{Kind::kLast, 5}, ReplayStart{Kind::kTime, 0}}) {
    TestClient& a = connect("a", GetParam(), 0, true);
    subscribe(a, {replay("t/a", start)});
    EXPECT_EQ(drainTexts(a), numbers(4, 6));
    detach(a);
  }
}

TEST_P(ReplayBothTest, ADeletedTopicIsLeft) {
  begin();
  store("t/a", 0, 3);
  TestClient& a = connect("a", GetParam());
  subscribe(a, {earliest("t/#")});
  EXPECT_EQ(drainTexts(a), numbers(0, 3));
  on(0, [&] { router_->deleteTopic(principal("admin"), "t", [](Result<>) {}); });
  settle();
  store("t/a", 10, 12);
  EXPECT_EQ(drainTexts(a), numbers(10, 12));
}

// ---------------------------------------------------------------- over reconnects and crashes

TEST_F(ReplayTest, GoesOnWhereItWas) {
  begin(2);
  store("t/a", 0, 3000);
  TestClient& a = connect("a", 1000);
  subscribe(a, {earliest("t/a")});
  auto first = take(a, 100, 100);
  for (size_t i = 0; i < 60; ++i) acknowledge(a, first[i].id);
  settle();
  detach(a);
  store("t/a", 3000, 3010);  // while nobody is there
  TestClient& again = connect("a", 1000, 1);
  subscribe(again, {earliest("t/a")});  // as many clients do
  auto rest = drain(again);
  EXPECT_EQ(texts(rest), numbers(60, 3010));
  EXPECT_TRUE(rest[0].redelivered);
  EXPECT_EQ(rest[0].id, first[60].id);
  for (size_t i = 0; i < rest.size(); ++i) {
    ASSERT_TRUE(rest[i].place) << i;
    ASSERT_EQ(rest[i].place->offset, static_cast<int64_t>(60 + i));
  }
}

TEST_F(ReplayTest, NothingIsMissingAfterCrashesAtAnyTime) {
  begin();
  store("t/a", 0, 2000);
  std::vector<int> seen(3000, 0);
  {
    TestClient& a = connect("a", 100'000);
    subscribe(a, {earliest("t/a")});
  }
  int next = 2000;
  for (int round = 0; round < 60; ++round) {
    TestClient& a = connect("a", 100'000);
    for (int step = 0; step < static_cast<int>(below(30)); ++step) {
      if (next < 3000 && below(2) == 0) {
        publishOne("t/a", std::to_string(next++), kQos1);
      }
      if (below(2) == 0) store_->commit();
      run();
      int before = -1;
      for (const Delivery& one : take(a, 20, INT64_MAX)) {
        int number = std::stoi(textOf(one));
        EXPECT_GT(number, before);  // in order
        before = number;
        ++seen[static_cast<size_t>(number)];
        ASSERT_TRUE(one.place);
        if (below(10) != 0) acknowledge(a, one.id);
      }
    }
    if (below(2) == 0) {
      if (below(2) == 0) store_->commit();
      crash();
    } else {
      settle();
      detach(a);
    }
  }
  TestClient& a = connect("a", 100'000);
  for (const Delivery& one : drain(a, 1000)) ++seen[static_cast<size_t>(std::stoi(textOf(one)))];
  auto stored = this->stored("t");
  for (const std::string& one : stored)
    EXPECT_GT(seen[static_cast<size_t>(std::stoi(one))], 0) << one;
}

TEST_F(ReplayTest, ExactlyOnceIsAcceptedOnce) {
  begin();
  store("t/a", 0, 3, kQos2);
  TestClient& a = connect("a", 1000);
  subscribe(a, {earliest("t/a", kQos2)});
  auto first = take(a);
  ASSERT_THAT(first, SizeIs(3));
  EXPECT_EQ(first[0].guarantee, kQos2);
  on(0, [&] { a.session->accept(first[0].id, [](Result<>) {}); });
  settle();
  crash();
  TestClient& again = connect("a", 1000);
  auto second = take(again);
  ASSERT_THAT(second, SizeIs(3));
  EXPECT_TRUE(second[0].accepted);
  EXPECT_EQ(second[0].id, first[0].id);
  EXPECT_FALSE(second[1].accepted);
}

TEST_F(ReplayTest, AStartIsKeptThoughItWasNotReached) {
  begin();
  store("t/a", 0, 10);
  TestClient& a = connect("a", 1000);
  on(0, [&] {
    a.session->subscribe({replay("t/a", {Kind::kLast, 4})},
                         [](std::vector<Result<DeliveryGuarantee>>) {});
  });
  store_->commit();
  crash();  // before anything was looked for
  store("t/a", 10, 20);
  EXPECT_EQ(drainTexts(connect("a", 1000)), numbers(6, 20));
}

TEST_F(ReplayTest, AFailedWriteLeavesNoGapAndNothingTwice) {
  begin();
  store("t/a", 0, 50);
  TestClient& a = connect("a", 1000);
  subscribe(a, {earliest("t/a")});
  EXPECT_EQ(drainTexts(a), numbers(0, 50));
  store("t/b", 0, 5);  // passed over
  publishOne("t/a", "50", kQos1);
  store_->commit();
  run();
  ASSERT_GT(store_->pending(), 0U);
  failWrites();
  EXPECT_THAT(take(a), IsEmpty());
  advance(2000);
  EXPECT_EQ(drainTexts(a), numbers(50, 51));
  store_->refuseNext({ErrorKind::kIo, "no"});
  publishOne("t/a", "lost", kQos1);
  store("t/a", 51, 60);
  advance(2000);
  EXPECT_EQ(drainTexts(a), numbers(51, 60));
}

TEST_F(ReplayTest, AFailedSubscriptionIsNone) {
  begin();
  store("t/a", 0, 5);
  TestClient& a = connect("a", 1000);
  std::vector<Result<DeliveryGuarantee>> results;
  on(0, [&] {
    a.session->subscribe({earliest("t/a")}, [&](std::vector<Result<DeliveryGuarantee>> granted) {
      results = std::move(granted);
    });
  });
  failWrites();
  ASSERT_THAT(results, SizeIs(1));
  EXPECT_FALSE(results[0].has_value());
  settle();
  EXPECT_THAT(drain(a), IsEmpty());
  subscribe(a, {earliest("t/a")});
  EXPECT_EQ(drainTexts(a), numbers(0, 5));
}

TEST_F(ReplayTest, ASmallInboxLosesNothing) {
  RouterOptions options;
  options.inboxRecords = 10;
  begin(1, options);
  store("t/a", 0, 500);
  TestClient& a = connect("a", 1000);
  subscribe(a, {earliest("t/a")});
  EXPECT_EQ(drainTexts(a), numbers(0, 500));
  advance(100);
  EXPECT_EQ(drainTexts(a), numbers(0, 0));
}

TEST_F(ReplayTest, ASessionThatEndsLeavesNothing) {
  begin();
  store("t/a", 0, 5);
  TestClient& a = connect("a", 1000);
  subscribe(a, {replay("t/a", {Kind::kLast, 2})});
  drain(a);
  EXPECT_EQ(entries(), 3U);
  connect("a", 0, 0, true);
  settle();
  EXPECT_EQ(entries(), 0U);
  EXPECT_EQ(store_->watches(), 0U);
}

}  // namespace
}  // namespace polylog::router
