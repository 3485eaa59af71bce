// Sessions that move, return and end while writes are on their way or fail.
#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

using storage::StateTable;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class SessionFailureTest : public RouterFixture {
 protected:
  /// Another connection of the client, without waiting for the disk.
  TestClient& comeBack(const std::string& id, size_t worker, uint32_t expiry = 3600) {
    TestClient& client = newClient(id, worker);
    open(client, expiry);
    run();
    return client;
  }
  std::vector<SessionInfo> list() {
    std::vector<SessionInfo> infos;
    on(0, [&] {
      router_->listSessions(principal("admin"),
                            [&](std::vector<SessionInfo> all) { infos = std::move(all); });
    });
    settle();
    return infos;
  }
  void remove(const std::string& id) {
    on(0, [&] { router_->deleteSession(principal("admin"), id, [](Result<>) {}); });
  }
  /// Two deliveries at QoS 2, taken and not yet answered.
  std::vector<Delivery> takeTwo(TestClient& client) {
    subscribe(client, "t", kQos2);
    publish({{"t", "0", kQos2}, {"t", "1", kQos2}});
    settle();
    return take(client);
  }
  void accept(TestClient& client, int64_t id, std::move_only_function<void(Result<>)> done) {
    on(client.worker, [&] { client.session->accept(id, std::move(done)); });
  }
  PartitionId inboxOf(TestClient& client) {
    subscribe(client, "inbox-of", kQos1);
    publishOne("inbox-of", "x", kQos1);
    PartitionId inbox = store_->last().messages.at(0).targets.at(1).partition;
    settle();
    return inbox;
  }
  size_t stateOf(StateTable table) {
    size_t count = 0;
    store_->scanState(table, "", [&](BytesView, BytesView) { return ++count > 0; });
    return count;
  }
};

// ---------------------------------------------------------------- what a return asserts

TEST_F(SessionFailureTest, AReturnWaitsForTheHeldPublishesToBeDurable) {
  begin(2);
  for (size_t worker : {0U, 1U}) {
    std::string id = "c" + std::to_string(worker);
    TestClient& client = connect(id, 3600, 0);
    publish({{"t", "x", kQos2, false, uint16_t{5}}}, &client);
    TestClient& back = comeBack(id, worker);
    EXPECT_FALSE(back.session) << "a repeat would be answered at once";
    settle();
    ASSERT_TRUE(back.session);
    EXPECT_TRUE(back.session->resumed());
    EXPECT_THAT(back.session->heldPublishIds(), ElementsAre(5));
  }
}

TEST_F(SessionFailureTest, AReturnWhileAWriteFailsIsRefusedAndTheNextHoldsNothing) {
  begin(2);
  for (size_t worker : {0U, 1U}) {
    std::string id = "c" + std::to_string(worker);
    TestClient& client = connect(id, 3600, 0);
    publish({{"t", "x", kQos2, false, uint16_t{5}}}, &client);
    TestClient& back = comeBack(id, worker, 7200);
    failWrites();
    EXPECT_FALSE(back.session);
    ASSERT_TRUE(back.error);
    EXPECT_EQ(back.error->kind, ErrorKind::kIo);
    TestClient& next = connect(id, 3600, worker);
    EXPECT_TRUE(next.session->resumed());
    EXPECT_THAT(next.session->heldPublishIds(), IsEmpty());
  }
}

TEST_F(SessionFailureTest, WhatFailedElsewhereIsKnownBeforeTheReturn) {
  begin(2);
  TestClient& client = connect("c", 3600, 0);
  publish({{"t", "x", kQos2, false, uint16_t{5}}}, &client);
  TestClient& back = newClient("c", 1);
  open(back, 3600);
  loops_[0]->runAll();  // has handed the session over
  store_->failPending({ErrorKind::kIo, "the disk said no"});
  loops_[1]->runAll();
  store_->commit();  // the return is durable, but worker 0 has not told of the failure
  loops_[1]->runAll();
  EXPECT_FALSE(back.session);
  settle();
  ASSERT_TRUE(back.session);
  EXPECT_THAT(back.session->heldPublishIds(), IsEmpty());
}

TEST_F(SessionFailureTest, AReturnWaitsForAReleaseToBeDurable) {
  begin();
  TestClient& client = connect("c", 3600);
  publish({{"t", "x", kQos2, false, uint16_t{5}}}, &client);
  settle();
  on(0, [&] { client.session->releasePublish(5, [](Result<>) {}); });
  TestClient& back = comeBack("c", 0);
  EXPECT_FALSE(back.session);
  failWrites();
  TestClient& next = connect("c", 3600);
  EXPECT_THAT(next.session->heldPublishIds(), ElementsAre(5)) << "it was not released";
}

TEST_F(SessionFailureTest, AReturnWaitsForWhatWasAcceptedToBeDurable) {
  begin(2);
  TestClient& client = connect("c", 3600, 0);
  auto deliveries = takeTwo(client);
  accept(client, deliveries.at(0).id, [](Result<>) {});
  accept(client, deliveries.at(1).id, [](Result<>) {});
  TestClient& back = comeBack("c", 1);
  EXPECT_FALSE(back.session);
  store_->commit();
  run();
  ASSERT_TRUE(back.session);
  // Both, though the second waited for the first.
  crash();
  for (const Delivery& delivery : take(connect("c", 3600, 1))) EXPECT_TRUE(delivery.accepted);
}

TEST_F(SessionFailureTest, WhatFailedToBeAcceptedIsJournaledBeforeTheReturn) {
  begin(2);
  TestClient& client = connect("c", 3600, 0);
  auto deliveries = takeTwo(client);
  accept(client, deliveries.at(0).id, [](Result<>) {});
  failWrites();
  TestClient& back = comeBack("c", 1);
  EXPECT_FALSE(back.session);
  settle();
  bool known = take(back).at(0).accepted;
  crash();
  EXPECT_EQ(take(connect("c", 3600)).at(0).accepted, known);
}

// ---------------------------------------------------------------- accepting

TEST_F(SessionFailureTest, WhoAcceptedIsToldOnItsOwnWorker) {
  begin(2);
  TestClient& client = connect("c", 3600, 0);
  auto deliveries = takeTwo(client);
  std::vector<Dispatcher*> told;
  for (const Delivery& delivery : deliveries) {
    accept(client, delivery.id, [&](Result<> result) {
      EXPECT_TRUE(result.has_value());
      told.push_back(Dispatcher::current());
    });
  }
  comeBack("c", 1);  // the second is journaled from there
  settle();
  EXPECT_THAT(told, ElementsAre(loops_[0].get(), loops_[0].get()));
}

TEST_F(SessionFailureTest, AcceptingEndsWithTheSession) {
  begin();
  TestClient& client = connect("c", 3600);
  auto deliveries = takeTwo(client);
  int told = 0;
  for (const Delivery& delivery : deliveries) accept(client, delivery.id, [&](Result<>) { ++told; });
  remove("c");
  run();
  store_->commit();
  settle();
  EXPECT_EQ(told, 2);
  EXPECT_EQ(stateOf(StateTable::kInbox), 0U) << "nothing is journaled for it any more";
}

// ---------------------------------------------------------------- ending

TEST_F(SessionFailureTest, ADeletionThatFailedSparesTheNextOfItsName) {
  begin();
  TestClient& client = connect("c", 3600);
  PartitionId inbox = inboxOf(client);
  on(0, [&] { client.session->setExpiry(0); });
  settle();
  on(0, [&] { client.session->detach(); });
  run();
  failWrites();
  TestClient& next = connect("c", 3600);
  EXPECT_FALSE(next.session->resumed());
  subscribe(next, "t", kQos1);
  advance(3'000);  // the deletion has been tried again
  EXPECT_FALSE(store_->exists(inbox));
  crash();
  TestClient& back = connect("c", 3600);
  EXPECT_TRUE(back.session->resumed());
  EXPECT_THAT(list().at(0).subscriptions, SizeIs(1));
}

TEST_F(SessionFailureTest, ADeletionThatFailedIsMadeUpFor) {
  begin();
  TestClient& client = connect("c", 3600);
  PartitionId inbox = inboxOf(client);
  remove("c");
  run();
  failWrites();
  advance(3'000);
  EXPECT_FALSE(store_->exists(inbox));
  EXPECT_EQ(stateOf(StateTable::kSession), 0U);
  EXPECT_EQ(stateOf(StateTable::kSubscription), 0U);
}

TEST_F(SessionFailureTest, AFailedBeginningSparesNothingOfTheOldSession) {
  begin();
  TestClient& client = connect("c", 3600);
  PartitionId inbox = inboxOf(client);
  TestClient& clean = newClient("c");
  open(clean, 3600, true);
  run();
  failWrites();
  EXPECT_TRUE(clean.error.has_value());
  advance(3'000);
  EXPECT_FALSE(store_->exists(inbox));
  crash();
  EXPECT_FALSE(connect("c", 3600).session->resumed());
}

TEST_F(SessionFailureTest, ALargeSessionEndsInSeveralEntries) {
  constexpr size_t kFilters = 12'000;
  begin();
  std::vector<Subscription> many;
  for (size_t i = 0; i < kFilters; ++i) many.push_back(subscription("f" + std::to_string(i), kQos1));
  for (const char* how : {"removed", "replaced", "cut short"}) {
    TestClient& client = connect("c", 3600);
    subscribe(client, many);
    ASSERT_EQ(stateOf(StateTable::kSubscription), kFilters);
    if (std::string_view(how) == "replaced") {
      TestClient& clean = newClient("c");
      open(clean, 3600, true);
    } else {
      remove("c");
    }
    run();
    EXPECT_LT(store_->last().state.size(), kFilters) << how;
    store_->commit();
    EXPECT_GT(stateOf(StateTable::kSubscription), 0U) << how;
    if (std::string_view(how) == "cut short") crash();
    settle();
    EXPECT_EQ(stateOf(StateTable::kSubscription), 0U) << how;
  }
}

}  // namespace
}  // namespace polylog::router
