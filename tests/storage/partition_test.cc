#include "storage/partition.h"

#include <gtest/gtest.h>

#include <memory>

#include "tests/support/heap.h"

namespace polylog::storage {
namespace {

// A million sleep (docs/operations.md): one allocation each, and no more than this.
static_assert(sizeof(Partition) <= 88);

TEST(Partition, HasABudgetWhileIdle) {
  if (!test::heapInUse()) GTEST_SKIP() << "another allocator counts otherwise";
  constexpr size_t kPartitions = 20'000;
  PartitionSet set;
  size_t before = *test::heapInUse();
  for (size_t i = 0; i < kPartitions; ++i) {
    auto partition = std::make_unique<Partition>();
    partition->id = PartitionId(1000 + i);
    partition->setRetention({});
    set.insert(std::move(partition));
  }
  EXPECT_LE((*test::heapInUse() - before) / kPartitions, 110U);
}

TEST(Partition, PutsAsideWhatFewHave) {
  Partition partition;
  partition.setRetention({});
  EXPECT_FALSE(partition.aside.written());
  partition.setRetention({.millis = 5});
  EXPECT_EQ(partition.retention().millis, 5);
  partition.aside.write().watches.push_back({});
  EXPECT_TRUE(partition.watched());
  partition.setRetention({});
  EXPECT_TRUE(partition.watched()) << "what else is there stays";
  partition.aside.write().watches.clear();
  partition.tidyAside();
  EXPECT_FALSE(partition.aside.written());
  EXPECT_EQ(partition.producers(), nullptr);
  (void)partition.producersToChange();
  partition.tidyAside();
  EXPECT_NE(partition.producers(), nullptr);
}

}  // namespace
}  // namespace polylog::storage
