// Inboxes and what goes wrong: writes that fail, where new ones are dropped, and crashes while
// exactly-once deliveries are with the client.
#include <set>

#include "tests/router/inbox_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

class InboxFailureTest : public InboxFixture {
 protected:
  /// What is to be released and no more, and acknowledges that.
  std::set<int64_t> releases(TestClient& client) {
    std::set<int64_t> ids;
    for (auto taken = take(client, 64); !taken.empty(); taken = take(client, 64)) {
      for (const Delivery& delivery : taken) {
        if (delivery.accepted) ids.insert(delivery.id);
        acknowledge(client, delivery.id);
      }
    }
    settle();
    return ids;
  }
  std::vector<Delivery> takeAll(TestClient& client, size_t count) {
    auto all = take(client, count);
    EXPECT_THAT(all, SizeIs(count));
    return all;
  }
  void publishMany(int count, DeliveryGuarantee guarantee) {
    std::vector<Outgoing> all;
    for (int i = 0; i < count; ++i) all.push_back({"t/x", std::to_string(i), guarantee});
    publish(std::move(all));
    settle();
  }
  static std::set<int64_t> ids(int64_t from, int64_t to) {
    std::set<int64_t> all;
    for (int64_t id = from; id < to; ++id) all.insert(id);
    return all;
  }
};

// ---------------------------------------------------------------- failed writes

TEST_F(InboxFailureTest, WhatCouldNotBeWrittenTakesNoRoom) {
  begin(1, limited(3, 0, true));
  sleep();
  publishEach(0, 1);
  store_->refuseNext({ErrorKind::kNoSpace, "full"});
  publishAtOnce(1, 4);
  publishAtOnce(4, 8);
  EXPECT_THAT(back(), ElementsAre("0", "4", "5"));
}

TEST_F(InboxFailureTest, AFailedWriteTakesNobodysRoomAway) {
  begin(1, limited(3, 0, true));
  sleep();
  publishEach(0, 1);
  for (int i = 1; i < 3; ++i) publishOne("t/x", std::to_string(i), kQos1);
  run();
  failWrites();
  publishEach(3, 5);
  EXPECT_EQ(describe().dropped, 0);
  publishEach(5, 8);
  EXPECT_EQ(describe().dropped, 3);
  EXPECT_THAT(back(), ElementsAre("0", "3", "4"));
}

TEST_F(InboxFailureTest, NorTheOctets) {
  begin(1, limited(1000, 5000, true));
  TestClient& client = connect("c", 3600);
  subscribe(client, "t/#", kQos1);
  publishLarge(0, 2);
  for (int i = 0; i < 2; ++i) publishOne("t/x", std::string(1000, 'y'), kQos1);
  run();  // weighed while they are on their way
  for (const Delivery& delivery : take(client)) acknowledge(client, delivery.id);
  run();
  failWrites();
  publishLarge(2, 6);
  EXPECT_EQ(describe().dropped, 0);
  publishLarge(6, 8);
  EXPECT_EQ(describe().dropped, 2);
  detach(client);
  EXPECT_THAT(back(), ElementsAre("2", "3", "4", "5"));
}

TEST_F(InboxFailureTest, OctetsAreNotCountedTwiceBeforeAPublisherHearsOfItsWrite) {
  begin(2, limited(1000, 11'000, true));
  detach([&]() -> TestClient& {
    TestClient& client = connect("c", 3600, 1);
    subscribe(client, "t/#", kQos1);
    return client;
  }());
  const std::string text(1000, 'x');
  for (int i = 0; i < 8; ++i) publishOne("t/x", text, kQos1);
  store_->commit();       // which worker 0 hasn't heard of,
  loops_[1]->runAll();    // when worker 1 weighs what waits
  for (int i = 0; i < 2; ++i) publishOne("t/x", text, kQos1);
  settle();
  EXPECT_EQ(describe().dropped, 0);
  publishOne("t/x", text, kQos1);
  settle();
  EXPECT_EQ(describe().dropped, 1);
  EXPECT_EQ(describe().waiting, 10);
}

TEST_F(InboxFailureTest, NorDoRetainedRecordsThatCouldNotBeWritten) {
  begin(1, limited(4, 0, true));
  for (int i = 0; i < 3; ++i) publishOne("t/" + std::to_string(i), "kept", kQos1, true);
  settle();
  TestClient& client = connect("c", 3600);
  on(0, [&] {
    client.session->subscribe({subscription("t/#", kQos1)}, [](const auto&) {});
  });
  run();
  failWrites();
  settle();
  EXPECT_EQ(describe().waiting, 0);
  subscribe(client, "t/#", kQos1);
  publishEach(0, 1);
  EXPECT_EQ(describe().waiting, 4);
  EXPECT_EQ(describe().dropped, 0);
  publishEach(1, 2);
  EXPECT_EQ(describe().dropped, 1);
}

/// Whatever fails: there is room for exactly as many as the limit says.
TEST_F(InboxFailureTest, RoomIsExactWhateverFails) {
  for (int round = 0; round < 10; ++round) {
    begin(1, limited(20, 0, true));
    createTopic({"t", 1, {}});
    TestClient& client = connect("c", 3600);
    Subscription replay = subscription("r/#", kQos1);
    replay.replay = ReplayStart{};
    subscribe(client, {subscription("t/#", kQos1), replay});
    for (int step = 0; step < 150; ++step) {
      switch (random_.next() % 7) {
        case 0:
        case 1: publishOne("t/x", "one", kQos1); break;
        case 2: publishOne("r/x", "replayed", kQos1); break;
        case 3: produce("t", batchOf({{"a", "1"}, {"b", "2"}})); break;
        case 4: failWrites(); break;
        case 5: settle(); break;
        default:
          for (const Delivery& delivery : take(client, random_.next() % 8)) {
            if (random_.next() % 4 != 0) acknowledge(client, delivery.id);
          }
      }
      if (random_.next() % 2 == 0) run();
    }
    advance(3000);  // what failed is tried again
    const int64_t before = describe().dropped;
    const int64_t room = std::max<int64_t>(0, 20 - describe().waiting);
    publishEach(0, static_cast<int>(room));
    EXPECT_EQ(describe().dropped, before) << "round " << round;
    publishEach(0, 1);
    EXPECT_EQ(describe().dropped, before + 1) << "round " << round;
    end();
    clients_.clear();
    store_ = nullptr;
  }
}

// ---------------------------------------------------------------- exactly once, over crashes

TEST_F(InboxFailureTest, AsManyAreReleasedAsMayHaveBeenInFlight) {
  RouterOptions options;
  options.maxInflight = 3000;
  begin(1, options);
  TestClient& client = connect("c", 3600);
  subscribe(client, "t/#", kQos2);
  publishMany(3100, kQos2);
  takeAll(client, 3000);
  options_.inboxRecords = 10;
  crash();
  TestClient& again = connect("c", 3600);
  EXPECT_EQ(releases(again), ids(0, 3000)) << "what was dropped, and what it may have of the rest";
}

TEST_F(InboxFailureTest, DroppedWhileTheyAreWithTheClientAllAreReleased) {
  RouterOptions options;
  options.maxInflight = 3000;
  options.inboxRecords = 3000;
  begin(1, options);
  TestClient& client = connect("c", 3600);
  subscribe(client, "t/#", kQos2);
  publishMany(3000, kQos2);
  takeAll(client, 3000);
  detach(client);
  publishMany(3000, kQos1);
  TestClient& again = connect("c", 3600);
  EXPECT_EQ(releases(again), ids(0, 3000));
}

TEST_F(InboxFailureTest, WhatFollowedAcknowledgementsThatWereLostIsReleased) {
  begin(1, RouterOptions{});
  TestClient& client = connect("c", 3600);
  subscribe(client, "t/#", kQos2);
  publishMany(2100, kQos2);
  auto first = takeAll(client, 1024);
  int accepted = 0;
  for (const Delivery& delivery : first) {
    on(0, [&] {
      client.session->accept(delivery.id, [&](const Result<>& ok) { accepted += ok ? 1 : 0; });
    });
  }
  settle();
  ASSERT_EQ(accepted, 1024);
  for (const Delivery& delivery : first) acknowledge(client, delivery.id);  // not on the disk yet
  takeAll(client, 1024);
  options_.inboxRecords = 10;
  crash();
  TestClient& again = connect("c", 3600);
  const std::set<int64_t> released = releases(again);
  for (int64_t id = 1024; id < 2048; ++id) EXPECT_TRUE(released.contains(id)) << id;
}

}  // namespace
}  // namespace polylog::router
