// What bridges keep, over a restart, and how much waits for their sessions.
#include "router/bridge_store.h"

#include <gtest/gtest.h>

#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

class BridgeStoreTest : public RouterFixture {
 protected:
  void SetUp() override { begin(2); }
  void put(const std::string& name, const std::string& value) {
    bool done = false;
    on(1, [&] {
      router_->bridges().store(name, value, [&](const Result<>& result) {
        EXPECT_TRUE(result.has_value());
        done = true;
      });
    });
    settle();
    EXPECT_TRUE(done);
  }
};

TEST_F(BridgeStoreTest, whatWasStoredLastIsThereAfterACrash) {
  EXPECT_FALSE(router_->bridges().find("north"));
  put("north", "1");
  put("south", "x");
  put("north", "2");
  for (int run = 0; run < 2; ++run) {
    EXPECT_EQ(router_->bridges().find("north"), "2");
    EXPECT_EQ(router_->bridges().names(), (std::vector<std::string>{"north", "south"}));
    crash();
  }
}

TEST_F(BridgeStoreTest, whatWasRemovedIsGone) {
  put("north", "1");
  bool removed = false;
  on(1, [&] {
    router_->bridges().remove("north", [&](const Result<>& result) {
      EXPECT_TRUE(result.has_value());
      removed = true;
    });
  });
  settle();
  EXPECT_TRUE(removed);
  for (int run = 0; run < 2; ++run) {
    EXPECT_FALSE(router_->bridges().find("north"));
    EXPECT_TRUE(router_->bridges().names().empty());
    crash();
  }
}

TEST_F(BridgeStoreTest, nobodyElseTellsOfABridge) {
  put("north", "1");
  TestClient& reader = connect("reader");
  subscribe(reader, "$SYS/#", kQos0);
  auto tell = [&](const std::string& as, const std::string& name) {
    on(0, [&] { router_->publishConnection(principal(as), name, true); });
    settle();
    return take(reader).size();
  };
  EXPECT_EQ(tell("somebody", "north"), 0U);
  EXPECT_EQ(tell("$bridge/north", "north"), 1U);
  EXPECT_EQ(tell("somebody", "theirs"), 1U);
}

TEST_F(BridgeStoreTest, nothingWaitsForASessionThatIsNotThere) {
  bool asked = false;
  on(0, [&] {
    router_->bridges().backlog("$bridge/north", [&](const auto& found) {
      EXPECT_FALSE(found);
      asked = true;
    });
  });
  settle();
  EXPECT_TRUE(asked);
}

}  // namespace
}  // namespace polylog::router
