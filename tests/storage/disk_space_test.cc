#include "storage/disk_space.h"

#include <gtest/gtest.h>

namespace polylog::storage {
namespace {

constexpr uint64_t kHigh = 1000;
constexpr uint64_t kLow = 3000;

TEST(DiskSpaceTest, stopsBelowTheHighMarkAndGoesOnFromTheLowOne) {
  DiskSpace space(kHigh, kLow);
  EXPECT_FALSE(space.full());
  space.seen(1000, Position(0));
  EXPECT_FALSE(space.full());
  space.seen(999, Position(0));
  EXPECT_TRUE(space.full());
  space.seen(2999, Position(0));
  EXPECT_TRUE(space.full());
  space.seen(3000, Position(0));
  EXPECT_FALSE(space.full());
  space.seen(1000, Position(0));
  EXPECT_FALSE(space.full());
}

TEST(DiskSpaceTest, countsWhatIsSequencedSinceTheLastLook) {
  DiskSpace space(kHigh, kLow);
  space.seen(5000, Position(700));
  space.sequenced(Position(4700));
  EXPECT_FALSE(space.full());
  EXPECT_EQ(space.left(Position(4700)), 1000U);
  space.sequenced(Position(4701));
  EXPECT_TRUE(space.full());
  EXPECT_EQ(space.left(Position(90'000)), 0U);
  // A write that was taken back gives nothing free again; a look does.
  space.sequenced(Position(700));
  EXPECT_TRUE(space.full());
  space.seen(5000, Position(700));
  EXPECT_FALSE(space.full());
  EXPECT_EQ(space.left(Position(0)), 5000U);
}

TEST(DiskSpaceTest, isLookedAtMoreOftenTheLessThereIs) {
  DiskSpace space(kHigh, kLow);
  EXPECT_FALSE(space.due(Position(1U << 30)));  // never looked: the first look comes by itself
  space.seen(9000, Position(0));
  EXPECT_FALSE(space.due(Position(1000)));
  EXPECT_TRUE(space.due(Position(1001)));
  space.seen(1080, Position(1001));
  EXPECT_FALSE(space.due(Position(1011)));
  EXPECT_TRUE(space.due(Position(1012)));
  space.seen(10, Position(1012));
  EXPECT_FALSE(space.due(Position(5000)));  // full: the maintenance looks by the clock
}

TEST(DiskSpaceTest, aWriteThatFindsNoRoomSaysMoreThanTheFileSystem) {
  DiskSpace space(kHigh, kLow);
  space.seen(9000, Position(0));
  space.ranOut();
  EXPECT_TRUE(space.full());
  space.seen(2000, Position(0));
  EXPECT_TRUE(space.full());
  space.seen(9000, Position(0));
  EXPECT_FALSE(space.full());
}

TEST(DiskSpaceTest, marksOfNothingNeverStop) {
  DiskSpace space(0, 0);
  space.seen(0, Position(0));
  space.sequenced(Position(500));
  EXPECT_FALSE(space.full());
}

}  // namespace
}  // namespace polylog::storage
