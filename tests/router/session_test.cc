#include "router/session.h"

#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class SessionTest : public RouterFixture {
 protected:
  std::vector<SessionInfo> list(size_t worker = 0) {
    std::vector<SessionInfo> infos;
    on(worker, [&] {
      router_->listSessions(principal("admin"),
                            [&](std::vector<SessionInfo> all) { infos = std::move(all); });
    });
    settle();
    return infos;
  }
  bool accept(TestClient& client, int64_t id) {
    bool ok = false;
    on(client.worker, [&] {
      client.session->accept(id, [&ok](Result<> result) { ok = result.has_value(); });
    });
    settle();
    return ok;
  }
};

TEST_F(SessionTest, OpeningAPersistentSessionWaitsForTheDisk) {
  begin();
  TestClient& client = newClient("c");
  open(client, 3600);
  run();
  EXPECT_FALSE(client.session);
  settle();
  ASSERT_TRUE(client.session);
  EXPECT_FALSE(client.session->resumed());
  TestClient& clean = newClient("clean");
  open(clean, 0);
  EXPECT_FALSE(clean.session) << "never from inside the call";
  run();
  EXPECT_TRUE(clean.session);
  EXPECT_EQ(store_->pending(), 0U) << "nothing of it is journaled";
}

TEST_F(SessionTest, AFailedOpeningIsToldAndTheNameIsFree) {
  begin();
  TestClient& client = newClient("c");
  open(client, 3600);
  run();
  failWrites();
  EXPECT_FALSE(client.session);
  ASSERT_TRUE(client.error);
  EXPECT_EQ(client.error->kind, ErrorKind::kIo);
  TestClient& again = connect("c", 3600);
  EXPECT_FALSE(again.session->resumed());
}

TEST_F(SessionTest, SubscribingWaitsForTheDiskAndAFailureIsRolledBack) {
  begin();
  TestClient& client = connect("c", 3600);
  std::vector<Result<DeliveryGuarantee>> results;
  auto send = [&] {
    on(0, [&] {
      client.session->subscribe({subscription("t", kQos1)}, [&](auto granted) {
        results = std::move(granted);
      });
    });
    run();
  };
  send();
  EXPECT_THAT(results, IsEmpty());
  failWrites();
  ASSERT_THAT(results, SizeIs(1));
  EXPECT_FALSE(results[0].has_value());
  publishOne("t", "nobody", kQos1);
  settle();
  EXPECT_THAT(take(client), IsEmpty());
  send();
  settle();
  EXPECT_EQ(results[0].value(), kQos1);
  publishOne("t", "somebody", kQos1);
  settle();
  EXPECT_THAT(takeTexts(client), ElementsAre("somebody"));
}

TEST_F(SessionTest, WhatCameMeanwhileIsDeliveredOnReturn) {
  begin();
  TestClient& client = connect("c", 3600);
  subscribe(client, "t/#", kQos2);
  detach(client);
  publishOne("t/1", "zero", kQos0);
  publishOne("t/1", "one", kQos1);
  publishOne("t/2", "two", kQos2);
  settle();
  TestClient& back = connect("c", 3600);
  EXPECT_TRUE(back.session->resumed());
  EXPECT_EQ(back.deliverable, 1);
  auto deliveries = take(back);
  ASSERT_THAT(deliveries, SizeIs(2));
  EXPECT_EQ(textOf(deliveries[0]), "one");
  EXPECT_EQ(addressText(deliveries[1]), "t/2");
  EXPECT_FALSE(deliveries[0].redelivered);
}

TEST_F(SessionTest, UnacknowledgedComesAgainAsRedelivered) {
  begin();
  TestClient& client = connect("c", 3600);
  subscribe(client, "t", kQos1);
  for (int i = 0; i < 5; ++i) publishOne("t", std::to_string(i), kQos1);
  settle();
  auto deliveries = take(client, 4);
  acknowledge(client, deliveries[0].id);
  acknowledge(client, deliveries[2].id);
  detach(client);
  TestClient& back = connect("c", 3600);
  deliveries = take(back);
  ASSERT_THAT(deliveries, SizeIs(3));
  EXPECT_EQ(textOf(deliveries[0]), "1");
  EXPECT_TRUE(deliveries[0].redelivered);
  EXPECT_EQ(textOf(deliveries[1]), "3");
  EXPECT_TRUE(deliveries[1].redelivered);
  EXPECT_EQ(textOf(deliveries[2]), "4");
  EXPECT_FALSE(deliveries[2].redelivered) << "it was never taken";
  EXPECT_EQ(back.session->acknowledgedUpTo(), deliveries[0].id);
}

TEST_F(SessionTest, AcknowledgementsAndAcceptsSurviveACrash) {
  begin();
  TestClient& client = connect("c", 3600);
  subscribe(client, "t", kQos2);
  for (int i = 0; i < 5; ++i) publishOne("t", std::to_string(i), kQos2);
  settle();
  auto deliveries = take(client);
  ASSERT_THAT(deliveries, SizeIs(5));
  int64_t first = deliveries[0].id;
  acknowledge(client, first);
  acknowledge(client, first + 3);
  EXPECT_TRUE(accept(client, first + 2));
  settle();
  crash();
  TestClient& back = connect("c", 3600);
  EXPECT_TRUE(back.session->resumed());
  deliveries = take(back);
  ASSERT_THAT(deliveries, SizeIs(3));
  EXPECT_EQ(deliveries[0].id, first + 1);
  EXPECT_TRUE(deliveries[0].redelivered);
  EXPECT_FALSE(deliveries[0].accepted);
  EXPECT_EQ(deliveries[1].id, first + 2);
  EXPECT_TRUE(deliveries[1].accepted);
  EXPECT_EQ(deliveries[2].id, first + 4);
  publishOne("t", "later", kQos2);
  settle();
  deliveries = take(back);
  ASSERT_THAT(deliveries, SizeIs(1));
  EXPECT_FALSE(deliveries[0].redelivered);
}

TEST_F(SessionTest, AcceptWaitsForTheDiskAndGathers) {
  begin();
  TestClient& client = connect("c", 3600);
  subscribe(client, "t", kQos2);
  publish({{"t", "0", kQos2}, {"t", "1", kQos2}, {"t", "2", kQos2}});
  settle();
  auto deliveries = take(client);
  int accepted = 0;
  auto acceptOne = [&](size_t i) {
    on(0, [&] {
      client.session->accept(deliveries[i].id, [&](Result<> result) {
        EXPECT_TRUE(result.has_value());
        ++accepted;
      });
    });
  };
  acceptOne(0);
  EXPECT_EQ(store_->last().durability, storage::Durability::kSynced);
  acceptOne(1);
  acceptOne(2);
  EXPECT_EQ(store_->pending(), 1U) << "one append at a time";
  run();
  EXPECT_EQ(accepted, 0);
  store_->commit();
  run();
  EXPECT_EQ(accepted, 1);
  EXPECT_EQ(store_->pending(), 1U) << "the others in one";
  settle();
  EXPECT_EQ(accepted, 3);
}

TEST_F(SessionTest, AcknowledgementsAreJournaledTogether) {
  begin();
  TestClient& client = connect("c", 3600);
  subscribe(client, "t", kQos1);
  for (int i = 0; i < 10; ++i) publishOne("t", std::to_string(i), kQos1);
  settle();
  auto deliveries = take(client);
  for (auto& delivery : deliveries) acknowledge(client, delivery.id);
  EXPECT_EQ(store_->pending(), 1U);
  EXPECT_EQ(store_->last().durability, storage::Durability::kUnwaited);
  store_->commit();
  run();
  EXPECT_EQ(store_->pending(), 1U);
  settle();
  crash();
  TestClient& back = connect("c", 3600);
  EXPECT_THAT(take(back), IsEmpty());
}

TEST_F(SessionTest, AFailedAcknowledgementWriteIsMadeUpFor) {
  begin();
  TestClient& client = connect("c", 3600);
  subscribe(client, "t", kQos1);
  publish({{"t", "0", kQos1}, {"t", "1", kQos1}});
  settle();
  auto deliveries = take(client);
  acknowledge(client, deliveries[0].id);
  failWrites();
  acknowledge(client, deliveries[1].id);
  settle();
  crash();
  TestClient& back = connect("c", 3600);
  EXPECT_THAT(take(back), IsEmpty());
}

TEST_F(SessionTest, IdLimitHoldsBackOnlyWhatIsAcknowledged) {
  begin();
  for (uint32_t expiry : {0U, 3600U}) {
    TestClient& client = connect("c" + std::to_string(expiry), expiry);
    subscribe(client, "t", kQos1);
    publish({{"t", "1", kQos1}, {"t", "2", kQos1}, {"t", "3", kQos1}});
    publishOne("t", "zero", kQos0);
    settle();
    int64_t from = client.session->acknowledgedUpTo();
    EXPECT_THAT(takeTexts(client, 10, from + 2),
                testing::UnorderedElementsAre("1", "2", "zero"));
    EXPECT_THAT(takeTexts(client, 10, from + 2), IsEmpty());
    acknowledge(client, from);
    EXPECT_EQ(client.session->acknowledgedUpTo(), from + 1);
    EXPECT_THAT(takeTexts(client, 10, from + 3), ElementsAre("3"));
    detach(client);
  }
}

TEST_F(SessionTest, ToldOnceWhenThereIsSomething) {
  begin();
  TestClient& client = connect("c", 3600);
  subscribe(client, "t", kQos1);
  int before = client.deliverable;
  EXPECT_THAT(take(client), IsEmpty());
  publishOne("t", "1", kQos1);
  settle();
  publishOne("t", "2", kQos1);
  settle();
  EXPECT_EQ(client.deliverable, before + 1);
  EXPECT_THAT(takeTexts(client, 1), ElementsAre("1"));
  EXPECT_THAT(takeTexts(client), ElementsAre("2"));
  publishOne("t", "3", kQos1);
  settle();
  EXPECT_EQ(client.deliverable, before + 2);
}

TEST_F(SessionTest, NothingVisibleBeforeTheCommit) {
  begin();
  TestClient& client = connect("c", 3600);
  subscribe(client, "t", kQos1);
  publishOne("t", "1", kQos1);
  run();
  EXPECT_THAT(take(client), IsEmpty());
  settle();
  EXPECT_THAT(takeTexts(client), ElementsAre("1"));
}

TEST_F(SessionTest, CleanStartForgets) {
  begin();
  TestClient& client = connect("c", 3600);
  subscribe(client, "t", kQos1);
  detach(client);
  publishOne("t", "1", kQos1);
  settle();
  TestClient& clean = connect("c", 3600, 0, true);
  EXPECT_FALSE(clean.session->resumed());
  EXPECT_THAT(take(clean), IsEmpty());
  EXPECT_THAT(list().at(0).subscriptions, IsEmpty());
  crash();
  EXPECT_TRUE(connect("c", 3600).session->resumed());
}

TEST_F(SessionTest, EndsWhenItExpires) {
  begin();
  TestClient& client = connect("c", 10);
  subscribe(client, "t", kQos1);
  detach(client);
  advance(9'000);
  EXPECT_THAT(list(), SizeIs(1));
  advance(2'000);
  EXPECT_THAT(list(), IsEmpty());
  publishOne("t", "1", kQos1);
  settle();
  EXPECT_THAT(store_->last().messages.at(0).targets, SizeIs(1));
  crash();
  EXPECT_FALSE(connect("c", 10).session->resumed());
}

TEST_F(SessionTest, ExpiryIsCountedThroughARestart) {
  begin();
  TestClient& away = connect("away", 100);
  detach(away);
  connect("connected", 100);
  advance(60'000);
  crash();
  advance(50'000);
  // One was away for 110 s; the other counts from the crash.
  auto sessions = list();
  ASSERT_THAT(sessions, SizeIs(1));
  EXPECT_EQ(sessions[0].clientId, "connected");
  advance(60'000);
  EXPECT_THAT(list(), IsEmpty());
}

TEST_F(SessionTest, AReturnInTimeStopsTheExpiry) {
  begin();
  TestClient& client = connect("c", 10);
  detach(client);
  advance(8'000);
  TestClient& back = connect("c", 10);
  advance(60'000);
  EXPECT_THAT(list(), SizeIs(1));
  EXPECT_EQ(back.takenOver, 0);
}

TEST_F(SessionTest, ExpirySetToNothingEndsItAtTheDisconnect) {
  begin();
  TestClient& client = connect("c", 3600);
  on(0, [&] { client.session->setExpiry(0); });
  detach(client);
  EXPECT_THAT(list(), IsEmpty());
  crash();
  EXPECT_THAT(list(), IsEmpty());
}

TEST_F(SessionTest, UnsubscribingTakesEffectAndLasts) {
  begin();
  TestClient& client = connect("c", 3600);
  subscribe(client, {subscription("a", kQos1), subscription("b", kQos1)});
  std::vector<bool> there;
  on(0, [&] {
    client.session->unsubscribe({"a", "never"}, [&](Result<std::vector<bool>> result) {
      there = *result;
    });
  });
  settle();
  EXPECT_THAT(there, ElementsAre(true, false));
  crash();
  publishOne("a", "1", kQos1);
  publishOne("b", "2", kQos1);
  settle();
  EXPECT_THAT(takeTexts(connect("c", 3600)), ElementsAre("2"));
}

TEST_F(SessionTest, HeldPublishesSurviveACrashUntilReleased) {
  begin();
  TestClient& client = connect("c", 3600);
  publish({{"t", "1", kQos2, false, uint16_t{5}}, {"t", "2", kQos2, false, uint16_t{6}}}, &client);
  settle();
  EXPECT_THAT(client.session->heldPublishIds(), ElementsAre(5, 6));
  bool released = false;
  on(0, [&] {
    client.session->releasePublish(5, [&](Result<> result) { released = result.has_value(); });
  });
  run();
  EXPECT_FALSE(released);
  settle();
  EXPECT_TRUE(released);
  crash();
  EXPECT_THAT(connect("c", 3600).session->heldPublishIds(), ElementsAre(6));
}

TEST_F(SessionTest, AFailedPublishIsNotHeld) {
  begin();
  TestClient& client = connect("c", 3600);
  publish({{"t", "1", kQos2, false, uint16_t{5}}}, &client);
  run();
  failWrites();
  EXPECT_THAT(client.session->heldPublishIds(), IsEmpty());
}

TEST_F(SessionTest, AFullInboxLosesItsOldest) {
  RouterOptions options;
  options.inboxRecords = 5;
  begin(1, options);
  TestClient& client = connect("c", 3600);
  subscribe(client, "t", kQos1);
  detach(client);
  for (int i = 0; i < 20; ++i) {
    publishOne("t", std::to_string(i), kQos1);
    settle();
  }
  EXPECT_EQ(list().at(0).dropped, 15);
  EXPECT_EQ(list().at(0).waiting, 5);
  TestClient& back = connect("c", 3600);
  EXPECT_THAT(takeTexts(back), ElementsAre("15", "16", "17", "18", "19"));
}

class ReleaseTest : public SessionTest, public testing::WithParamInterface<bool> {};

TEST_P(ReleaseTest, WhatAFullInboxDropsOfWhatTheClientHasIsReleasedFirst) {
  const bool crashed = GetParam();
  RouterOptions options;
  options.inboxRecords = 5;
  begin(1, options);
  TestClient& client = connect("c", 3600);
  subscribe(client, "t", kQos2);
  publish({{"t", "a", kQos2}, {"t", "b", kQos1}, {"t", "c", kQos2}});
  settle();
  auto first = take(client);
  ASSERT_THAT(first, SizeIs(3));
  EXPECT_TRUE(accept(client, first[0].id));
  settle();
  detach(client);
  if (crashed) crash();
  for (int i = 0; i < 8; ++i) {
    publishOne("t", std::to_string(i), kQos1);
    settle();
  }
  if (crashed) crash();
  TestClient& back = connect("c", 3600);
  auto again = take(back);
  ASSERT_THAT(again, SizeIs(2)) << "the one at QoS 1 needs none";
  for (const size_t i : {size_t{0}, size_t{1}}) {
    EXPECT_EQ(again[i].id, first[i * 2].id);
    EXPECT_TRUE(again[i].accepted);
    EXPECT_FALSE(again[i].record);
  }
  EXPECT_THAT(takeTexts(back), ElementsAre("3", "4", "5", "6", "7"));
  acknowledge(back, again[0].id);
  acknowledge(back, again[1].id);
  settle();
  detach(back);
  TestClient& third = connect("c", 3600);
  EXPECT_THAT(takeTexts(third), ElementsAre("3", "4", "5", "6", "7"));
}

INSTANTIATE_TEST_SUITE_P(Crash, ReleaseTest, testing::Bool());

TEST_F(SessionTest, WhatWasAcceptedAndIsForgottenComesAgain) {
  begin();
  TestClient& client = connect("c", 3600);
  subscribe(client, "t", kQos2);
  publishOne("t", "1", kQos2);
  settle();
  const auto first = take(client);
  EXPECT_TRUE(accept(client, first.at(0).id));
  EXPECT_NE(client.session->life(), 0U);
  crash();
  TestClient& back = connect("c", 3600);
  bool done = false;
  on(back.worker, [&] {
    back.session->forgetAccepted([&](const Result<>& result) { done = result.has_value(); });
  });
  run();
  EXPECT_FALSE(done) << "not before it is durable";
  settle();
  EXPECT_TRUE(done);
  crash();
  TestClient& third = connect("c", 3600);
  const auto again = take(third);
  ASSERT_THAT(again, SizeIs(1));
  EXPECT_FALSE(again[0].accepted);
  EXPECT_EQ(again[0].id, first[0].id);
}

TEST_F(SessionTest, DamageCostsOnlyWhatIsDamaged) {
  begin();
  TestClient& client = connect("c", 3600);
  subscribe(client, "t", kQos1);
  publishOne("t", "1", kQos1);
  PartitionId inbox = store_->last().messages.at(0).targets.at(1).partition;
  publishOne("t", "2", kQos1);
  publishOne("t", "3", kQos1);
  settle();
  store_->damage(inbox, Offset(1));
  EXPECT_THAT(takeTexts(client), ElementsAre("1", "3"));
}

TEST_F(SessionTest, ListsAndDeletes) {
  begin(2);
  TestClient& client = connect("c", 3600, 1);
  subscribe(client, "t/+", kQos1);
  publishOne("t/1", "x", kQos1);
  settle();
  connect("other");
  auto sessions = list(0);
  ASSERT_THAT(sessions, SizeIs(2));
  EXPECT_EQ(sessions[0].clientId, "c");
  EXPECT_TRUE(sessions[0].connected);
  EXPECT_EQ(sessions[0].waiting, 1);
  EXPECT_EQ(sessions[0].subscriptions.at(0).filter, "t/+");
  Result<> deleted = fail(ErrorKind::kInternal, "");
  on(0, [&] {
    router_->deleteSession(principal("admin"), "c", [&](Result<> result) { deleted = result; });
  });
  settle();
  EXPECT_TRUE(deleted.has_value());
  EXPECT_EQ(client.takenOver, 1);
  EXPECT_TRUE(client.byOperator);
  EXPECT_THAT(take(client), IsEmpty()) << "the session object answers no further calls";
  EXPECT_THAT(list(0), SizeIs(1));
  on(0, [&] {
    router_->deleteSession(principal("admin"), "c", [&](Result<> result) { deleted = result; });
  });
  settle();
  EXPECT_EQ(deleted.error().kind, ErrorKind::kNotFound);
}

// ---------------------------------------------------------------- taking over

TEST_F(SessionTest, TakenOverOnAnotherWorkerWithWhatWaits) {
  begin(3);
  TestClient& old = connect("c", 3600, 1);
  subscribe(old, "t", kQos1);
  publishOne("t", "1", kQos1);
  publishOne("t", "2", kQos1);
  settle();
  auto taken = take(old, 1);
  acknowledge(old, taken[0].id);
  TestClient& fresh = connect("c", 3600, 2);
  EXPECT_EQ(old.takenOver, 1);
  EXPECT_FALSE(old.byOperator);
  EXPECT_TRUE(fresh.session->resumed());
  EXPECT_THAT(take(old), IsEmpty());
  on(1, [&] { old.session->detach(); });
  EXPECT_THAT(takeTexts(fresh), ElementsAre("2"));
  publishOne("t", "3", kQos1);
  publish({{"t", "4", kQos0}}, nullptr, 1);
  settle();
  EXPECT_THAT(takeTexts(fresh), testing::UnorderedElementsAre("3", "4"));
}

TEST_F(SessionTest, ACleanTakeOverReplacesASessionThatEndsWithItsConnection) {
  begin(2);
  TestClient& old = connect("c", 0, 0);
  subscribe(old, "t", kQos1);
  TestClient& fresh = connect("c", 0, 1);
  EXPECT_EQ(old.takenOver, 1);
  EXPECT_FALSE(fresh.session->resumed());
  publishOne("t", "1", kQos1);
  settle();
  EXPECT_THAT(take(fresh), IsEmpty());
}

TEST_F(SessionTest, ManyOpensAtOnceEndWithOneSession) {
  begin(3);
  std::vector<TestClient*> all;
  for (size_t i = 0; i < 9; ++i) {
    all.push_back(&newClient("c", i % 3));
    open(*all.back(), i % 2 == 0 ? 3600 : 0, i % 4 == 1);
  }
  settle();
  int attached = 0;
  for (TestClient* client : all) {
    EXPECT_TRUE(client->session) << "each was opened in its turn";
    if (client->takenOver == 0) ++attached;
  }
  EXPECT_EQ(attached, 1);
  EXPECT_THAT(list(), SizeIs(1));
}

}  // namespace
}  // namespace polylog::router
