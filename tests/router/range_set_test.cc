#include "router/range_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/support/seeded_random.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

TEST(RangeSet, InOrderOnlyTheFloorMoves) {
  RangeSet set;
  for (int64_t id = 0; id < 5; ++id) EXPECT_TRUE(set.add(id));
  EXPECT_EQ(set.floor(), 5);
  EXPECT_THAT(set.ranges(), IsEmpty());
  EXPECT_FALSE(set.add(3));
}

TEST(RangeSet, JoinsNeighboursAndIsAbsorbed) {
  RangeSet set;
  set.add(5);
  set.add(7);
  EXPECT_THAT(set.ranges(), ElementsAre(Pair(5, 6), Pair(7, 8)));
  set.add(6);
  EXPECT_THAT(set.ranges(), ElementsAre(Pair(5, 8)));
  EXPECT_EQ(set.above(), 3);
  for (int64_t id = 0; id < 5; ++id) set.add(id);
  EXPECT_EQ(set.floor(), 8);
  EXPECT_THAT(set.ranges(), IsEmpty());
}

TEST(RangeSet, RaisedFloorSwallowsRanges) {
  RangeSet set;
  set.add(3);
  set.add(4);
  set.add(9);
  set.raiseFloor(4);
  EXPECT_EQ(set.floor(), 5);
  EXPECT_THAT(set.ranges(), ElementsAre(Pair(9, 10)));
  set.raiseFloor(2);
  EXPECT_EQ(set.floor(), 5);
}

TEST(RangeSet, AgreesWithAPlainSet) {
  test::SeededRandom random(3);
  RangeSet set;
  std::set<int64_t> plain;
  for (int i = 0; i < 3000; ++i) {
    auto id = static_cast<int64_t>(random.next() % 500);
    EXPECT_EQ(set.add(id), plain.insert(id).second);
  }
  for (int64_t id = 0; id < 500; ++id) EXPECT_EQ(set.contains(id), plain.contains(id)) << id;
}

}  // namespace
}  // namespace polylog::router
