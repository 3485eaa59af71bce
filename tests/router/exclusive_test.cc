#include <gtest/gtest.h>

#include "router/state_codec.h"
#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

class ExclusiveTest : public RouterFixture {
 protected:
  bool ask(TestClient& client, const std::string& text = "$exclusive/t") {
    Subscription wanted = subscription("t", kQos1);
    wanted.text = text;
    wanted.exclusive = true;
    auto results = subscribe(client, {wanted});
    if (results.at(0)) return true;
    EXPECT_EQ(results[0].error().kind, ErrorKind::kLocked);
    return false;
  }
  void leave(TestClient& client) {
    on(client.worker, [&] { client.session->unsubscribe({"$exclusive/t"}, [](const auto&) {}); });
    settle();
  }
};

TEST_F(ExclusiveTest, OneAtATime) {
  begin(2);
  TestClient& first = connect("first", 0, 0);
  TestClient& second = connect("second", 100, 1);
  EXPECT_TRUE(ask(first));
  EXPECT_TRUE(ask(first)) << "its own again";
  EXPECT_FALSE(ask(second));
  EXPECT_TRUE(ask(second, "$exclusive/other"));
  subscribe(second, "t", kQos1);
  leave(first);
  EXPECT_TRUE(ask(second));
  EXPECT_FALSE(ask(first));
}

TEST_F(ExclusiveTest, FreeAtTheSessionsEnd) {
  begin(2);
  TestClient& first = connect("first", 0, 0);
  TestClient& second = connect("second", 0, 1);
  EXPECT_TRUE(ask(first));
  detach(first);
  EXPECT_TRUE(ask(second));
}

TEST_F(ExclusiveTest, ASleepingSessionKeepsItOverACrash) {
  begin();
  TestClient& first = connect("first", 100);
  EXPECT_TRUE(ask(first));
  detach(first);
  crash();
  TestClient& second = connect("second");
  EXPECT_FALSE(ask(second));
  advance(101'000);
  EXPECT_TRUE(ask(second)) << "it has expired";
}

TEST_F(ExclusiveTest, TheLaterOfTwoHasItAfterACrash) {
  begin();
  TestClient& first = connect("first", 1000);
  connect("second", 1000);
  EXPECT_TRUE(ask(first));
  // Both keys, as if a crash had kept the first one's deletion from the disk.
  std::vector<PartitionId> inboxes;
  for (const char* id : {"first", "second"}) {
    auto session = store_->getState(storage::StateTable::kSession, id);
    ASSERT_TRUE(session);
    inboxes.push_back(decodeSession(id, *session)->inbox);
  }
  auto value = store_->getState(storage::StateTable::kSubscription,
                                subscriptionKey(inboxes[0], "$exclusive/t"));
  ASSERT_TRUE(value);
  auto state = decodeSubscription(subscriptionKey(inboxes[0], "$exclusive/t"), *value);
  ASSERT_TRUE(state);
  state->since += 1;
  storage::AppendRequest request;
  request.state.push_back({storage::StateTable::kSubscription,
                           subscriptionKey(inboxes[1], "$exclusive/t"),
                           encodeSubscription(*state)});
  request.durability = storage::Durability::kSynced;
  ASSERT_TRUE(on(0, [&] { return store_->append(std::move(request)).has_value(); }));
  settle();
  crash();
  settle();
  EXPECT_FALSE(store_->getState(storage::StateTable::kSubscription,
                                subscriptionKey(inboxes[0], "$exclusive/t")));
  EXPECT_FALSE(ask(connect("first", 1000)));
  EXPECT_TRUE(ask(connect("second", 1000)));
}

TEST_F(ExclusiveTest, WhatCouldNotBeStoredIsNotHeld) {
  begin();
  TestClient& first = connect("first", 100);
  Subscription wanted = subscription("t", kQos1);
  wanted.text = "$exclusive/t";
  wanted.exclusive = true;
  bool failed = false;
  on(0, [&] {
    first.session->subscribe({wanted}, [&](const auto& results) { failed = !results.at(0); });
  });
  run();
  failWrites();
  EXPECT_TRUE(failed);
  TestClient& second = connect("second");
  EXPECT_TRUE(ask(second));
}

}  // namespace
}  // namespace polylog::router
