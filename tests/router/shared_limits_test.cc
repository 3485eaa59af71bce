// What may wait for a group of a shared subscription: how many, how much, how old; which of them
// go.
#include "core/base/metrics.h"
#include "tests/router/shared_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class SharedLimitsTest : public SharedFixture {
 protected:
  static RouterOptions limited(int64_t records, int64_t bytes = 0, bool dropsNew = false) {
    RouterOptions options;
    options.inboxRecords = records;
    options.inboxBytes = bytes;
    options.inboxDropsNew = dropsNew;
    return options;
  }
  static RouterOptions aging(int64_t millis) {
    RouterOptions options;
    options.inboxMillis = millis;
    return options;
  }
  void away(DeliveryGuarantee guarantee = kQos1) { detach(member("a", 3600, guarantee)); }
  void large(int from, int to) {
    for (int i = from; i < to; ++i) {
      std::string text = std::to_string(i) + ".";
      text.resize(1000, 'x');
      publishOne("t/x", text, kQos1);
      settle();
    }
  }
  std::vector<std::string> back() {
    std::vector<std::string> texts = takeAndAcknowledge(member("a", 3600));
    for (std::string& text : texts) text = text.substr(0, text.find('.'));
    return texts;
  }
  static int64_t dropped(const char* reason) {
    return counter("polylog_dropped_total", "", std::string("reason=\"") + reason + "\"").value();
  }
};

TEST_F(SharedLimitsTest, OfAGroupThatIsAwayTheNewestRemain) {
  begin(1, limited(5));
  away();
  const int64_t before = dropped("inbox_full");
  send(0, 12);
  EXPECT_EQ(lag(), 5);
  EXPECT_EQ(dropped("inbox_full") - before, 7);
  send(12, 14);
  EXPECT_EQ(lag(), 5);
  crash();
  EXPECT_EQ(lag(), 5);
  EXPECT_THAT(back(), ElementsAre("9", "10", "11", "12", "13"));
  EXPECT_EQ(lag(), 0);
}

TEST_F(SharedLimitsTest, ALimitThatWasLoweredHoldsAfterTheRestart) {
  begin(1, limited(100));
  away();
  send(0, 20);
  options_.inboxRecords = 3;
  crash();
  EXPECT_EQ(lag(), 3) << "before anything comes";
  EXPECT_THAT(back(), ElementsAre("17", "18", "19"));
}

TEST_F(SharedLimitsTest, WhatIsWithAMemberStaysItsOwn) {
  begin(1, limited(5));
  TestClient& a = member("a", 3600, kQos1, 0, 3);
  send(0, 3);
  auto first = takeShared(a);
  ASSERT_THAT(first, SizeIs(3));
  send(3, 12);
  EXPECT_EQ(lag(), 5) << "three with the member, and the two newest";
  detach(a);
  EXPECT_THAT(back(), ElementsAre("0", "1", "2", "10", "11"));
}

TEST_F(SharedLimitsTest, WhatCameBackIsTheOldest) {
  begin(1, limited(5));
  TestClient& a = member("a", 3600, kQos1, 0, 3);
  send(0, 5);
  ASSERT_THAT(takeShared(a), SizeIs(3));
  detach(a);
  send(5, 7);
  EXPECT_THAT(back(), ElementsAre("2", "3", "4", "5", "6"));
}

TEST_F(SharedLimitsTest, NewOnesAreNotLetInWhereThatIsAsked) {
  begin(1, limited(5, 0, true));
  away();
  send(0, 4);
  send(4, 12);
  EXPECT_EQ(lag(), 5);
  crash();
  EXPECT_THAT(back(), ElementsAre("0", "1", "2", "3", "4"));
  send(20, 22);
  EXPECT_EQ(lag(), 2);
}

TEST_F(SharedLimitsTest, OfProducedBatchesNewOnesAreNotLetInEither) {
  begin(1, limited(3, 0, true));
  createTopic({"t", 1, {}});
  away();
  produce("t", batchOf({{"a", "1"}, {"b", "2"}}));
  settle();
  produce("t", batchOf({{"a", "3"}, {"b", "4"}}));
  settle();
  EXPECT_THAT(back(), ElementsAre("1", "2", "3"));
}

TEST_F(SharedLimitsTest, AFailedWriteTakesNobodysRoomAway) {
  begin(1, limited(3, 0, true));
  away();
  publishOne("t/x", "0", kQos1);
  settle();
  for (int i = 1; i < 3; ++i) publishOne("t/x", std::to_string(i), kQos1);
  run();
  failWrites();
  send(3, 8);
  EXPECT_THAT(back(), ElementsAre("0", "3", "4"));
}

TEST_F(SharedLimitsTest, TheOldestGoUntilTheOctetsFit) {
  begin(1, limited(1000, 5000));
  away();
  large(0, 20);
  advance(1500);
  EXPECT_EQ(lag(), 4);
  crash();
  EXPECT_THAT(back(), ElementsAre("16", "17", "18", "19"));
}

TEST_F(SharedLimitsTest, BeyondTheOctetsNewOnesAreNotLetIn) {
  begin(1, limited(1000, 5000, true));
  away();
  large(0, 20);
  EXPECT_EQ(lag(), 5) << "one that begins below the limit is let in";
  EXPECT_THAT(back(), ElementsAre("0", "1", "2", "3", "4"));
  advance(1500);
  large(20, 23);
  EXPECT_EQ(lag(), 3);
}

TEST_F(SharedLimitsTest, OctetsAcknowledgedBehindOneThatIsNotMakeRoom) {
  begin(1, limited(1000, 5000));
  TestClient& a = member("a", 3600, kQos1, 0, 2);
  large(0, 1);
  ASSERT_THAT(takeShared(a, 1), SizeIs(1));  // and is never acknowledged
  for (int i = 1; i < 20; ++i) {
    large(i, i + 1);
    for (const Delivery& delivery : takeShared(a)) acknowledge(a, delivery.id);
    advance(1100);
  }
  large(20, 23);
  advance(1100);
  EXPECT_EQ(lag(), 4);
}

TEST_F(SharedLimitsTest, WhatGrowsTooOldGoesByItself) {
  begin(1, aging(60'000));
  away();
  const int64_t before = dropped("too_old");
  send(0, 3);
  advance(40'000);
  send(3, 5);
  EXPECT_EQ(lag(), 5);
  advance(30'000);
  EXPECT_EQ(lag(), 2) << "nobody came, nobody published";
  EXPECT_EQ(dropped("too_old") - before, 3);
  crash();
  advance(40'000);
  EXPECT_EQ(lag(), 0) << "after a restart, too";
  send(5, 6);
  clock_.advance(61'000'000);  // nobody's timers run
  send(6, 7);
  EXPECT_THAT(back(), ElementsAre("6"));
}

TEST_F(SharedLimitsTest, WhatIsWithAMemberDoesNotAge) {
  begin(1, aging(60'000));
  TestClient& a = member("a", 3600, kQos1, 0, 2);
  send(0, 2);
  auto first = takeShared(a);
  ASSERT_THAT(first, SizeIs(2));
  send(2, 4);
  advance(70'000);
  EXPECT_EQ(lag(), 2);
  for (const Delivery& delivery : first) acknowledge(a, delivery.id);
  settle();
  EXPECT_EQ(lag(), 0);
  EXPECT_THAT(takeShared(a), IsEmpty());
}

}  // namespace
}  // namespace polylog::router
