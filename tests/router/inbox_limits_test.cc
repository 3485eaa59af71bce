// What an inbox may hold: how many, how much; and which of them go.
#include "tests/router/inbox_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class InboxLimitsTest : public InboxFixture {};

// ---------------------------------------------------------------- how many

TEST_F(InboxLimitsTest, WhatComesAtOnceIsCutToTheLimitWithoutAnythingFollowing) {
  begin(1, limited(5));
  sleep();
  publishAtOnce(0, 12);
  EXPECT_EQ(describe().waiting, 5);
  EXPECT_EQ(describe().dropped, 7);
  EXPECT_THAT(back(), ElementsAre("7", "8", "9", "10", "11"));
}

TEST_F(InboxLimitsTest, WhatIsAcknowledgedOutOfOrderDoesNotCount) {
  begin(1, limited(5));
  TestClient& client = connect("c", 3600);
  subscribe(client, "t/#", kQos1);
  publishEach(0, 5);
  auto first = take(client);
  ASSERT_THAT(first, SizeIs(5));
  for (size_t i = 1; i < 5; ++i) acknowledge(client, first[i].id);
  publishEach(5, 9);
  EXPECT_EQ(describe().dropped, 0);
  EXPECT_EQ(describe().waiting, 5);
  publishEach(9, 10);
  EXPECT_EQ(describe().dropped, 1);
  detach(client);
  EXPECT_THAT(back(), ElementsAre("5", "6", "7", "8", "9"));
}

TEST_F(InboxLimitsTest, ALimitThatWasLoweredHoldsAfterTheRestart) {
  begin(1, limited(100));
  sleep();
  publishEach(0, 20);
  options_.inboxRecords = 3;
  crash();
  EXPECT_EQ(describe().waiting, 3) << "before anything comes";
  crash();
  EXPECT_THAT(back(), ElementsAre("17", "18", "19"));
}

TEST_F(InboxLimitsTest, WhatIsNotVisibleYetIsDroppedOnceItIs) {
  begin(1, limited(5));
  sleep();
  for (int i = 0; i < 12; ++i) publishOne("t/x", std::to_string(i), kQos1);
  run();  // sequenced, and none of them on the disk
  EXPECT_EQ(describe().dropped, 0);
  EXPECT_EQ(describe().waiting, 5);
  EXPECT_THAT(back(), ElementsAre("7", "8", "9", "10", "11"));
}

// ---------------------------------------------------------------- the newest

TEST_F(InboxLimitsTest, NewOnesAreNotLetInWhereThatIsAsked) {
  begin(1, limited(5, 0, true));
  sleep();
  publishEach(0, 4);
  publishAtOnce(4, 12);
  EXPECT_EQ(describe().waiting, 5);
  EXPECT_EQ(describe().dropped, 7);
  crash();
  EXPECT_EQ(describe().waiting, 5) << "nothing of the others was ever there";
  TestClient& client = connect("c", 3600);
  auto all = take(client);
  ASSERT_THAT(all, SizeIs(5));
  EXPECT_EQ(textOf(all[4]), "4");
  acknowledge(client, all[0].id);
  acknowledge(client, all[3].id);
  publishEach(20, 25);
  detach(client);
  EXPECT_THAT(back(), ElementsAre("1", "2", "4", "20", "21"));
}

TEST_F(InboxLimitsTest, WhereNewOnesAreDroppedALoweredLimitKeepsWhatWaits) {
  begin(1, limited(100, 0, true));
  sleep();
  publishEach(0, 8);
  options_.inboxRecords = 3;
  crash();
  publishEach(8, 10);
  TestClient& client = connect("c", 3600);
  auto all = take(client);
  ASSERT_THAT(all, SizeIs(8));
  for (size_t i = 0; i < 6; ++i) acknowledge(client, all[i].id);
  publishEach(10, 13);
  detach(client);
  EXPECT_THAT(back(), ElementsAre("6", "7", "10"));
}

TEST_F(InboxLimitsTest, OfProducedBatchesNewOnesAreNotLetInEither) {
  begin(1, limited(3, 0, true));
  createTopic({"t", 1, {}});
  sleep("t/#");
  produce("t", batchOf({{"a", "1"}, {"b", "2"}}));
  settle();
  produce("t", batchOf({{"a", "3"}, {"b", "4"}}));
  settle();
  EXPECT_EQ(describe().dropped, 1);
  EXPECT_THAT(back(), ElementsAre("1", "2", "3"));
}

// ---------------------------------------------------------------- how much

TEST_F(InboxLimitsTest, TheOldestGoUntilTheOctetsFit) {
  begin(1, limited(1000, 5000));
  sleep();
  publishLarge(0, 20);
  const SessionInfo info = describe();
  EXPECT_EQ(info.waiting, 4);
  EXPECT_EQ(info.dropped, 16);
  EXPECT_GE(info.waitingBytes, 4000);
  EXPECT_LE(info.waitingBytes, 5000);
  publishEach(20, 22);
  EXPECT_THAT(back(), ElementsAre("16", "17", "18", "19", "20", "21"));
}

TEST_F(InboxLimitsTest, OneMayAlwaysWait) {
  for (const bool dropsNew : {false, true}) {
    begin(1, limited(1000, 5000, dropsNew));
    sleep();
    publishLarge(0, 1, 9000);
    EXPECT_THAT(back(), ElementsAre("0"));
    end();
    clients_.clear();
    store_ = nullptr;
  }
}

TEST_F(InboxLimitsTest, AcknowledgementsGiveOctetsBack) {
  for (const bool dropsNew : {false, true}) {
    begin(1, limited(1000, 5000, dropsNew));
    TestClient& client = connect("c", 3600);
    subscribe(client, "t/#", kQos1);
    for (int i = 0; i < 50; ++i) {
      publishLarge(i, i + 1);
      for (const Delivery& delivery : take(client)) acknowledge(client, delivery.id);
      settle();
    }
    EXPECT_EQ(describe().dropped, 0);
    publishLarge(50, 56);
    EXPECT_EQ(describe().dropped, 2);
    detach(client);
    if (dropsNew) {
      EXPECT_THAT(back(), ElementsAre("50", "51", "52", "53"));
    } else {
      EXPECT_THAT(back(), ElementsAre("52", "53", "54", "55"));
    }
    end();
    clients_.clear();
    store_ = nullptr;
  }
}

TEST_F(InboxLimitsTest, OctetsAreKnownAfterARestart) {
  for (const bool dropsNew : {false, true}) {
    begin(1, limited(1000, 5000, dropsNew));
    TestClient& client = connect("c", 3600);
    subscribe(client, "t/#", kQos1);
    publishLarge(0, 4);
    auto all = take(client);
    ASSERT_THAT(all, SizeIs(4));
    acknowledge(client, all[0].id);
    acknowledge(client, all[1].id);
    settle();
    crash();
    publishLarge(4, 7);
    if (dropsNew) {
      EXPECT_THAT(back(), ElementsAre("2", "3", "4", "5"));
    } else {
      EXPECT_THAT(back(), ElementsAre("3", "4", "5", "6"));
    }
    options_.inboxBytes = 2500;
    crash();
    EXPECT_THAT(back(), dropsNew ? SizeIs(4) : SizeIs(2));
    end();
    clients_.clear();
    store_ = nullptr;
  }
}

TEST_F(InboxLimitsTest, NeighboursThatShareABatchShareItsOctets) {
  begin(1, limited(1000, 4000));
  sleep();
  std::vector<Outgoing> all;
  for (int i = 0; i < 12; ++i) {
    std::string text = std::to_string(i) + ".";
    text.resize(1000, 'x');
    all.push_back({"t/" + std::to_string(i), text, kQos1});
  }
  publish(std::move(all));
  settle();
  EXPECT_THAT(back(), ElementsAre("9", "10", "11"));
}

TEST_F(InboxLimitsTest, OctetsAcknowledgedOutOfOrderMakeRoom) {
  begin(1, limited(1000, 20'000, true));
  TestClient& client = connect("c", 3600);
  subscribe(client, "t/#", kQos1);
  for (int i = 0; i < 100; ++i) {
    publishLarge(i, i + 1);
    for (const Delivery& delivery : take(client)) {
      if (delivery.id != 0) acknowledge(client, delivery.id);
    }
    settle();
  }
  EXPECT_EQ(describe().dropped, 0);
  EXPECT_EQ(describe().waiting, 1);
  EXPECT_LE(describe().waitingBytes, 1200);
  detach(client);
  publishLarge(100, 130);
  EXPECT_EQ(describe().waiting, 18);
}

TEST_F(InboxLimitsTest, AfterARestartRecordsOfAProducedBatchTakeTheirShareOnly) {
  begin(1, limited(1000, 30'000));
  createTopic({"t", 1, {}});
  sleep("t/k0");
  const std::string value(1000, 'x');
  std::vector<std::pair<std::string, std::string>> records;
  for (int i = 0; i < 20; ++i) records.emplace_back("k" + std::to_string(i), value);
  for (int i = 0; i < 10; ++i) {
    produce("t", batchOf(records));
    settle();
  }
  EXPECT_EQ(describe().waiting, 10);
  crash();
  EXPECT_EQ(describe().waiting, 10);
  EXPECT_EQ(describe().dropped, 0);
  EXPECT_LE(describe().waitingBytes, 12'000);
}

TEST_F(InboxLimitsTest, OfRetainedRecordsAsManyComeAsFit) {
  for (const bool dropsNew : {false, true}) {
    begin(1, limited(1000, 5000, dropsNew));
    for (int i = 0; i < 9; ++i) {
      publishOne("t/" + std::to_string(i), std::string(1000, 'x'), kQos1, true);
      settle();
    }
    TestClient& client = connect("c", 3600);
    subscribe(client, "t/#", kQos1);
    EXPECT_THAT(take(client), SizeIs(4));
    EXPECT_EQ(describe().dropped, 1) << "that some were left out";
    end();
    clients_.clear();
    store_ = nullptr;
  }
}

}  // namespace
}  // namespace polylog::router
