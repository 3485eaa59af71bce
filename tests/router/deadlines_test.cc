#include "router/deadlines.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "tests/support/seeded_random.h"

namespace polylog::router {
namespace {

struct Sleeper {
  uint32_t wakePlace = 0;
};

TEST(Deadlines, WakesInOrderWhateverChanges) {
  test::SeededRandom random(3);
  Deadlines<Sleeper> deadlines;
  std::vector<Sleeper> sleepers(200);
  std::map<Sleeper*, int64_t> expected;
  int64_t now = 0;
  for (int step = 0; step < 20'000; ++step) {
    Sleeper& one = sleepers[random.next() % sleepers.size()];
    switch (random.next() % 4) {
      case 0:
        deadlines.cancel(one);
        EXPECT_EQ(one.wakePlace, 0U);
        expected.erase(&one);
        break;
      case 1: {
        now += static_cast<int64_t>(random.next() % 20);
        while (Sleeper* due = deadlines.takeDue(now)) {
          ASSERT_TRUE(expected.contains(due));
          for (const auto& [other, at] : expected) ASSERT_GE(at, expected[due]);
          EXPECT_LE(expected[due], now);
          EXPECT_EQ(due->wakePlace, 0U);
          expected.erase(due);
        }
        for (const auto& [other, at] : expected) ASSERT_GT(at, now);
        break;
      }
      default: {
        int64_t at = now + static_cast<int64_t>(random.next() % 1000);
        deadlines.set(one, at);
        EXPECT_NE(one.wakePlace, 0U);
        expected[&one] = at;
      }
    }
    ASSERT_EQ(deadlines.empty(), expected.empty());
    if (deadlines.empty()) continue;
    int64_t earliest = INT64_MAX;
    for (const auto& [other, at] : expected) earliest = std::min(earliest, at);
    ASSERT_EQ(deadlines.next(), earliest);
  }
}

}  // namespace
}  // namespace polylog::router
