#include "core/net/rate_limit.h"

#include <gtest/gtest.h>

namespace polylog {
namespace {

constexpr int64_t kSecond = 1'000'000;

int taken(RateLimit& limit, int64_t now, int tries) {
  int count = 0;
  for (int i = 0; i < tries; ++i) count += limit.take(now) ? 1 : 0;
  return count;
}

TEST(RateLimitTest, ASecondsWorthAtOnceThenEvenly) {
  RateLimit limit(10);
  EXPECT_EQ(taken(limit, kSecond, 100), 10);
  EXPECT_EQ(taken(limit, kSecond + 99'000, 5), 0);
  EXPECT_EQ(taken(limit, kSecond + 100'000, 5), 1);
  EXPECT_EQ(taken(limit, kSecond + 500'000, 100), 4);
  EXPECT_EQ(taken(limit, 100 * kSecond, 100), 10) << "no more is saved up than a second's";
}

TEST(RateLimitTest, NoneAndOne) {
  RateLimit none(0);
  EXPECT_EQ(taken(none, 0, 1000), 1000);
  RateLimit one(1);
  EXPECT_EQ(taken(one, 5, 10), 1);
  EXPECT_EQ(taken(one, kSecond + 5, 10), 1);
}

TEST(RateLimitTest, LargeRates) {
  RateLimit limit(1'000'000);
  EXPECT_EQ(taken(limit, kSecond, 1'100'000), 1'000'000);
}

}  // namespace
}  // namespace polylog
