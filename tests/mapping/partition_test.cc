#include "mapping/partition.h"

#include <gtest/gtest.h>

namespace polylog::mapping {
namespace {

/// The vectors of Kafka's own test of its murmur2.
TEST(Partition, Murmur2IsTheJavaClients) {
  EXPECT_EQ(murmur2("21"), -973932308);
  EXPECT_EQ(murmur2("foobar"), -790332482);
  EXPECT_EQ(murmur2("a-little-bit-long-string"), -985981536);
  EXPECT_EQ(murmur2("a-little-bit-longer-string"), -1486304829);
  EXPECT_EQ(murmur2("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8"), -58897971);
  EXPECT_EQ(murmur2("abc"), 479470107);
}

TEST(Partition, HashLosesItsSignAsInJava) {
  EXPECT_EQ(partitionHash("21", ""), static_cast<uint32_t>(-973932308 & 0x7FFFFFFF));
  EXPECT_EQ(partitionHash("abc", "other"), 479470107U);
  EXPECT_EQ(partitionOf(partitionHash("21", ""), 7), (-973932308 & 0x7FFFFFFF) % 7);
}

TEST(Partition, WithoutAKeyThePublisherDecides) {
  EXPECT_EQ(partitionHash(std::nullopt, "abc"), 479470107U);
  EXPECT_NE(partitionHash("", "abc"), partitionHash(std::nullopt, "abc"));
  EXPECT_EQ(partitionHash("", "abc"), partitionHash("", "xyz"));
}

TEST(Partition, EveryPartitionIsInRange) {
  for (uint32_t hash : {0U, 1U, 0x7FFFFFFFU}) {
    for (int32_t partitions : {1, 2, 12, 10000}) {
      int32_t partition = partitionOf(hash, partitions);
      EXPECT_GE(partition, 0);
      EXPECT_LT(partition, partitions);
    }
  }
}

}  // namespace
}  // namespace polylog::mapping
