// What a sleeping session costs: a million of them have to fit (docs/operations.md).
#include <gtest/gtest.h>

#include <string>

#include "router/session.h"
#include "tests/router/router_fixture.h"
#include "tests/support/heap.h"

namespace polylog::router {
namespace {

constexpr size_t kSessions = 4000;
/// Of the router, the allocator's share included; the partition's own is storage's to hold
/// (tests/storage/partition_test.cc). A gibibyte holds a million at 1,000 with all else.
constexpr size_t kBudget = 580;

class SleepersTest : public RouterFixture {
 protected:
  /// Each connects, does `meanwhile` and leaves.
  template <class Meanwhile>
  void make(Meanwhile meanwhile) {
    begin();
    for (size_t i = 0; i < kSessions; ++i) {
      std::string number = std::to_string(100'000 + i);
      TestClient& client = connect("sleeper-" + number, 86'400);
      subscribe(client, "sleep/" + number, kQos1);
      meanwhile(client);
      detach(client);
    }
    clients_.clear();
  }
  /// What the router gives back when it ends: the store in memory stays as it is.
  void expectWithinBudget() {
    size_t before = *test::heapInUse();
    end();
    size_t each = (before - *test::heapInUse()) / kSessions;
    EXPECT_LE(each, kBudget);
    EXPECT_GE(each, sizeof(Session)) << "they were there";
  }
};

TEST_F(SleepersTest, HaveABudget) {
  if (!test::heapInUse()) GTEST_SKIP() << "another allocator counts otherwise";
  make([](TestClient&) {});
  expectWithinBudget();
}

TEST_F(SleepersTest, HaveTheSameAfterARestart) {
  if (!test::heapInUse()) GTEST_SKIP() << "another allocator counts otherwise";
  make([](TestClient&) {});
  crash();
  expectWithinBudget();
}

TEST_F(SleepersTest, LeaveBehindWhatAConnectionNeeded) {
  if (!test::heapInUse()) GTEST_SKIP() << "another allocator counts otherwise";
  make([this](TestClient& client) {
    Will will;
    will.topic = "wills";
    will.delaySeconds = 60;
    on(0, [&] { client.session->setWill(will); });
    publish({{"elsewhere/" + client.id, "once", kQos2, false, uint16_t{7}}}, &client);
    settle();
    subscribe(client, "second/" + client.id, kQos1);
    on(0, [&] {
      client.session->releasePublish(7, [](Result<> done) { EXPECT_TRUE(done); });
      client.session->unsubscribe({"second/" + client.id}, [](auto) {});
    });
    settle();
    on(0, [&] { client.session->setWill(std::nullopt); });
  });
  expectWithinBudget();
}

}  // namespace
}  // namespace polylog::router
