// The test double is relied on by every other test: it has one of its own.
#include "tests/support/manual_dispatcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace polylog::test {
namespace {

using testing::ElementsAre;

TEST(ManualDispatcher, RunsNothingUntilTold) {
  FakeClock clock;
  ManualDispatcher dispatcher(clock);
  std::vector<int> seen;
  dispatcher.post([&] {
    EXPECT_EQ(Dispatcher::current(), &dispatcher);
    dispatcher.defer([&] { seen.push_back(3); });
    seen.push_back(1);
  });
  dispatcher.post([&] { seen.push_back(2); });
  EXPECT_TRUE(seen.empty());
  EXPECT_FALSE(dispatcher.idle());
  EXPECT_EQ(dispatcher.runAll(), 3U);
  EXPECT_THAT(seen, ElementsAre(1, 2, 3));
  EXPECT_TRUE(dispatcher.idle());
}

TEST(ManualDispatcher, TimersFireAtTheirOwnTime) {
  FakeClock clock(0);
  ManualDispatcher dispatcher(clock);
  std::vector<int64_t> seen;
  std::unique_ptr<Timer> again = dispatcher.makeTimer([&] {
    seen.push_back(clock.monotonicMicros());
    if (seen.size() < 3) again->start(100);
  });
  again->start(50);
  dispatcher.advance(49);
  EXPECT_TRUE(seen.empty());
  dispatcher.advance(1000);
  EXPECT_THAT(seen, ElementsAre(50, 150, 250));
  EXPECT_EQ(clock.monotonicMicros(), 1049);
  EXPECT_EQ(dispatcher.timersRunning(), 0U);
}

TEST(ManualDispatcher, ScopesNest) {
  FakeClock clock;
  ManualDispatcher one(clock);
  ManualDispatcher other(clock);
  EXPECT_TRUE(one.isOwnThread());
  {
    ManualDispatcher::Scope outer(one);
    EXPECT_TRUE(one.isOwnThread());
    EXPECT_FALSE(other.isOwnThread());
    ManualDispatcher::Scope inner(other);
    EXPECT_EQ(Dispatcher::current(), &other);
  }
  EXPECT_EQ(Dispatcher::current(), nullptr);
}

TEST(ManualDispatcher, DestroyedTimerDoesNotFire) {
  FakeClock clock;
  ManualDispatcher dispatcher(clock);
  auto timer = dispatcher.makeTimer([] { ADD_FAILURE(); });
  timer->start(1);
  timer.reset();
  dispatcher.advance(10);
}

}  // namespace
}  // namespace polylog::test
