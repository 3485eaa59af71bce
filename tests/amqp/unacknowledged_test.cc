#include "codecs/amqp/unacknowledged.h"

#include <gtest/gtest.h>

namespace polylog::amqp {
namespace {

struct UnacknowledgedTest : ::testing::Test {
  UnacknowledgedTest() {
    for (uint64_t tag = 1; tag <= 10; ++tag) all.add(tag, static_cast<int64_t>(tag * 100), source);
  }
  std::vector<int64_t> take(uint64_t tag, bool through) {
    std::vector<int64_t> ids;
    all.take(tag, through, [&](int64_t id, const SourceRef&) { ids.push_back(id); });
    return ids;
  }
  SourceRef source = std::make_shared<Source>();
  Unacknowledged all;
};

TEST_F(UnacknowledgedTest, takesOneOrAllThroughIt) {
  EXPECT_EQ(take(3, false), std::vector<int64_t>{300});
  EXPECT_FALSE(all.contains(3));
  EXPECT_TRUE(all.contains(4));
  EXPECT_EQ(take(5, true), (std::vector<int64_t>{100, 200, 400, 500}));
  EXPECT_EQ(all.size(), 5U);
  EXPECT_FALSE(all.contains(2));
  EXPECT_FALSE(all.contains(11));
}

TEST_F(UnacknowledgedTest, takesAll) {
  take(2, false);
  size_t count = 0;
  all.takeAll([&](int64_t, const SourceRef&) { ++count; });
  EXPECT_EQ(count, 9U);
  EXPECT_EQ(all.size(), 0U);
}

TEST_F(UnacknowledgedTest, holesBehindAStuckOneAreGivenUp) {
  for (uint64_t tag = 11; tag < 100'000; ++tag) {
    all.add(tag, 0, source);
    take(tag, false);
  }
  EXPECT_EQ(all.size(), 10U);
  EXPECT_EQ(source.use_count(), 11);
  EXPECT_EQ(take(1, false).size(), 1U);
}

}  // namespace
}  // namespace polylog::amqp
