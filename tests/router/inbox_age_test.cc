// How old what waits in an inbox may become: of a session that sleeps, and of one that is slow.
#include "tests/router/inbox_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class InboxAgeTest : public InboxFixture {};

TEST_F(InboxAgeTest, WhatGrowsTooOldGoesByItself) {
  begin(1, aging(60'000));
  sleep();
  publishEach(0, 3);
  advance(40'000);
  publishEach(3, 5);
  EXPECT_EQ(describe().waiting, 5);
  advance(30'000);
  EXPECT_EQ(describe().waiting, 2) << "nobody came, nobody published";
  EXPECT_EQ(describe().dropped, 3);
  crash();
  EXPECT_EQ(describe().waiting, 2);
  advance(40'000);
  EXPECT_EQ(describe().waiting, 0) << "after a restart, too";
  publishEach(5, 6);
  EXPECT_THAT(back(), ElementsAre("5"));
}

TEST_F(InboxAgeTest, AClockThatIsAheadKeepsNothingElseYoung) {
  begin(1, aging(60'000));
  createTopic({"t", 1, {}});
  sleep("t/#");
  produce("t", batchOf({{"a", "ahead"}}, clock_.wallMillis() + 400LL * 86'400'000));
  settle();
  publishEach(0, 3);
  EXPECT_EQ(describe().waiting, 4);
  advance(70'000);
  EXPECT_EQ(describe().waiting, 1);
}

TEST_F(InboxAgeTest, WhoComesGetsNothingThatIsTooOld) {
  begin(1, aging(60'000));
  sleep();
  publishEach(0, 3);
  clock_.advance(61'000'000);  // nobody's timers run
  publishEach(3, 4);
  EXPECT_THAT(back(), ElementsAre("3"));
}

TEST_F(InboxAgeTest, NorDoesOneThatIsSlow) {
  begin(1, aging(60'000));
  TestClient& client = connect("c", 3600);
  subscribe(client, "t/#", kQos1);
  publishEach(0, 4);
  EXPECT_THAT(takeTexts(client, 1), ElementsAre("0"));
  advance(61'000);
  publishEach(4, 5);
  EXPECT_THAT(takeTexts(client), ElementsAre("4"));
  EXPECT_EQ(describe().dropped, 3);
}

TEST_F(InboxAgeTest, RetainedRecordsDoNotAge) {
  begin(1, aging(60'000));
  publishOne("t/state", "old", kQos1, true);
  settle();
  advance(120'000);
  TestClient& client = connect("c", 3600);
  subscribe(client, "t/#", kQos1);
  detach(client);
  publishEach(0, 2);
  advance(120'000);
  EXPECT_EQ(describe().waiting, 1);
  EXPECT_THAT(back(), ElementsAre("old"));
}

TEST_F(InboxAgeTest, AnExchangeThatHasBegunIsEnded) {
  begin(1, aging(60'000));
  TestClient& client = connect("c", 3600);
  subscribe(client, "t/#", kQos2);
  publishEach(0, 2, kQos2);
  auto first = take(client, 1);
  ASSERT_THAT(first, SizeIs(1));
  detach(client);
  advance(120'000);
  TestClient& again = connect("c", 3600);
  auto left = take(again);
  ASSERT_THAT(left, SizeIs(1));
  EXPECT_EQ(left[0].id, first[0].id);
  EXPECT_TRUE(left[0].accepted) << "released, and nothing else";
  acknowledge(again, left[0].id);
  EXPECT_EQ(describe().waiting, 0);
}

// ---------------------------------------------------------------- of a client that is there

TEST_F(InboxAgeTest, WhatWaitsForAClientThatIsSlowGoesByItself) {
  begin(1, aging(60'000));
  TestClient& client = connect("c", 3600);
  subscribe(client, "t/#", kQos1);
  publishEach(0, 4);
  auto first = take(client, 1);
  ASSERT_THAT(first, SizeIs(1));
  advance(70'000);
  EXPECT_EQ(describe().waiting, 1) << "what is in flight, and nothing else";
  EXPECT_EQ(describe().inFlight, 1);
  EXPECT_EQ(describe().dropped, 3);
  advance(500'000);
  EXPECT_EQ(describe().waiting, 1);
  publishEach(4, 6);
  advance(70'000);
  publishEach(6, 7);
  EXPECT_THAT(takeTexts(client), ElementsAre("6"));
  acknowledge(client, first[0].id);
  EXPECT_EQ(describe().waiting, 1);
}

TEST_F(InboxAgeTest, AfterATakeOverToAnotherWorkerToo) {
  begin(2, aging(60'000));
  TestClient& first = connect("c", 3600, 1);
  subscribe(first, "t/#", kQos1);
  publishEach(0, 3);
  advance(30'000);
  TestClient& again = connect("c", 3600, 0);
  EXPECT_THAT(takeTexts(again, 1), ElementsAre("0"));
  advance(40'000);
  EXPECT_EQ(describe().waiting, 1);
  EXPECT_EQ(describe().dropped, 2);
}

TEST_F(InboxAgeTest, WhatHasBegunWaitsForItsEndThoughTheClientIsThere) {
  begin(1, aging(60'000));
  TestClient& client = connect("c", 3600);
  subscribe(client, "t/#", kQos2);
  publishEach(0, 2, kQos2);
  auto begun = take(client, 1);
  ASSERT_THAT(begun, SizeIs(1));
  detach(client);
  TestClient& again = connect("c", 3600);  // and takes nothing yet
  advance(70'000);
  EXPECT_EQ(describe().waiting, 1);
  auto left = take(again);
  ASSERT_THAT(left, SizeIs(1));
  EXPECT_EQ(left[0].id, begun[0].id);
  EXPECT_TRUE(left[0].accepted) << "released, and nothing else";
}

TEST_F(InboxAgeTest, BesideAReplayTheOthersAge) {
  begin(1, aging(60'000));
  for (int i = 0; i < 3; ++i) publishOne("r/x", "past" + std::to_string(i), kQos1);
  settle();
  advance(120'000);
  TestClient& client = connect("c", 3600);
  subscribe(client, "t/#", kQos1);
  Subscription replay = subscription("r/#", kQos1);
  replay.replay = ReplayStart{};
  subscribe(client, {replay});
  publishEach(0, 3);
  EXPECT_EQ(describe().waiting, 6);
  advance(70'000);
  EXPECT_EQ(describe().waiting, 3) << "what a replay brings is old by nature";
  publishEach(3, 5);
  crash();
  TestClient& again = connect("c", 3600);
  EXPECT_EQ(describe().waiting, 5);
  advance(70'000);
  EXPECT_EQ(describe().waiting, 3) << "after a restart, too";
  EXPECT_THAT(takeTexts(again), ElementsAre("past0", "past1", "past2"));
}

TEST_F(InboxAgeTest, WhatAShareHadMovedGivesItsPlaceBack) {
  begin(1, aging(60'000));
  TestClient& client = newClient("c");
  SubscriberOptions options{"c", false, 3600, 2, std::nullopt};
  on(0, [&] {
    router_->openSession(principal("c"), options, &client,
                         [&client](auto result) { client.session = *result; });
  });
  settle();
  Subscription shared = subscription("t/#", kQos2);
  shared.text = "$share/g/t/#";
  shared.share = "g";
  subscribe(client, {shared});
  publishEach(0, 2, kQos2);
  EXPECT_EQ(describe().waiting, 2);
  advance(70'000);
  EXPECT_EQ(describe().waiting, 0);
  publishEach(2, 3, kQos2);
  EXPECT_THAT(takeTexts(client), ElementsAre("2"));
}

}  // namespace
}  // namespace polylog::router
