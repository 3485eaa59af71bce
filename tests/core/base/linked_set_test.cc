#include "core/base/linked_set.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "tests/support/seeded_random.h"

namespace polylog {
namespace {

struct Item {
  explicit Item(uint64_t theKey) : key(theKey) {}
  uint64_t key;
  std::unique_ptr<Item> next;
};

struct Traits {
  using Link = std::unique_ptr<Item>;
  static Link& next(Item& item) { return item.next; }
  static size_t hash(uint64_t key) { return key * 0x9E3779B97F4A7C15ULL; }
  static size_t hash(const Item& item) { return hash(item.key); }
  static bool is(const Item& item, uint64_t key) { return item.key == key; }
};
using Set = LinkedSet<Item, Traits>;

TEST(LinkedSet, AgreesWithAMap) {
  test::SeededRandom random(5);
  Set set;
  std::map<uint64_t, Item*> expected;
  for (int step = 0; step < 20'000; ++step) {
    uint64_t key = random.next() % 3000 * 4096;  // with hashes whose low bits are all alike
    auto known = expected.find(key);
    if (known == expected.end()) {
      EXPECT_EQ(set.find(key), nullptr);
      expected[key] = &set.insert(std::make_unique<Item>(key));
    } else {
      EXPECT_EQ(set.find(key), known->second) << "elements stay where they are";
      if (random.next() % 2 == 0) continue;
      auto taken = set.remove(*known->second);
      ASSERT_EQ(taken.get(), known->second);
      EXPECT_EQ(taken->next, nullptr);
      EXPECT_EQ(set.remove(*taken), nullptr);
      expected.erase(known);
    }
    ASSERT_EQ(set.size(), expected.size());
  }
  std::set<uint64_t> seen;
  set.forEach([&](Item& item) { EXPECT_TRUE(seen.insert(item.key).second); });
  EXPECT_EQ(seen.size(), expected.size());
}

TEST(LinkedSet, ChainsStayShort) {
  Set set;
  for (uint64_t i = 0; i < 100'000; ++i) set.insert(std::make_unique<Item>(i << 20));
  size_t longest = 0;
  for (size_t bucket = 0; bucket < set.buckets(); ++bucket) {
    size_t chain = 0;
    set.visit(bucket, bucket + 1, [&](Item&) { ++chain; });
    longest = std::max(longest, chain);
  }
  EXPECT_LE(longest, 20U);
}

TEST(LinkedSet, AWalkInSlicesMissesNothingThatStays) {
  test::SeededRandom random(7);
  Set set;
  uint64_t next = 0;
  std::vector<uint64_t> staying;
  std::vector<Item*> passing;
  for (; next < 1000; ++next) {
    set.insert(std::make_unique<Item>(next));
    staying.push_back(next);
  }
  std::map<uint64_t, int> seen;
  for (size_t bucket = 0; bucket < set.buckets(); bucket += 16) {
    set.visit(bucket, bucket + 16, [&](Item& item) { ++seen[item.key]; });
    // Fewer than are walked past, or it would never end.
    for (int i = 0; i < 12; ++i) {
      if (!passing.empty() && random.next() % 3 == 0) {
        set.remove(*passing.back());
        passing.pop_back();
      } else {
        passing.push_back(&set.insert(std::make_unique<Item>(next++)));
      }
    }
  }
  for (uint64_t key : staying) EXPECT_TRUE(seen[key] == 1 || seen[key] == 2) << key;
}

TEST(LinkedSet, LongChainsEndWithoutRecursion) {
  struct Alike : Traits {
    static size_t hash(uint64_t) { return 1; }
    static size_t hash(const Item&) { return 1; }
  };
  auto set = std::make_unique<LinkedSet<Item, Alike>>();
  // Inserting is at the chain's front; only the splits walk along it.
  for (uint64_t i = 0; i < 10'000; ++i) set->insert(std::make_unique<Item>(i));
  set = nullptr;
}

TEST(LinkedSet, EmptyAndCleared) {
  Set set;
  EXPECT_EQ(set.find(uint64_t{1}), nullptr);
  Item stranger(1);
  EXPECT_EQ(set.remove(stranger), nullptr);
  set.insert(std::make_unique<Item>(1));
  set.clear();
  EXPECT_EQ(set.size(), 0U);
  EXPECT_EQ(set.find(uint64_t{1}), nullptr);
  set.insert(std::make_unique<Item>(1));
  EXPECT_NE(set.find(uint64_t{1}), nullptr);
}

}  // namespace
}  // namespace polylog
