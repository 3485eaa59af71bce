#include "router/subscription_trie.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "router/retained_store.h"
#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

/// Subscriptions named by their number; the session is never looked at.
class TrieTest : public testing::Test {
 protected:
  SubscriptionTrie::Place add(const std::string& filter, uint32_t number,
                              SubscriptionTrie::Place before = nullptr) {
    TrieEntry entry;
    entry.number = number;
    return trie_.add(filterOf(filter), entry, before);
  }
  std::vector<uint32_t> match(const std::string& address) const {
    std::vector<uint32_t> numbers;
    trie_.match(addressOf(address), [&](const TrieEntry& e) { numbers.push_back(e.number); });
    return numbers;
  }
  SubscriptionTrie trie_;
};

TEST_F(TrieTest, LiteralAndWildcards) {
  add("a/b/c", 1);
  add("a/+/c", 2);
  add("a/#", 3);
  add("+/b/c", 4);
  add("#", 5);
  add("a/b", 6);
  add("+/+", 7);
  EXPECT_THAT(match("a/b/c"), UnorderedElementsAre(1, 2, 3, 4, 5));
  EXPECT_THAT(match("a/x/c"), UnorderedElementsAre(2, 3, 5));
  EXPECT_THAT(match("a"), UnorderedElementsAre(3, 5));
  EXPECT_THAT(match("a/b"), UnorderedElementsAre(3, 5, 6, 7));
  EXPECT_THAT(match("x"), ElementsAre(5));
}

TEST_F(TrieTest, NullAndEmptyKeysDiffer) {
  add("sensors", 1);
  add("sensors/", 2);
  add("sensors/+", 3);
  EXPECT_THAT(match("sensors"), ElementsAre(1));
  EXPECT_THAT(match("sensors/"), UnorderedElementsAre(2, 3));
}

TEST_F(TrieTest, EmptyLevelsAreLevels) {
  add("/finance", 1);
  add("+/+", 2);
  add("+", 3);
  EXPECT_THAT(match("/finance"), UnorderedElementsAre(1, 2));
}

TEST_F(TrieTest, FirstLevelWildcardsPassHiddenTopicsBy) {
  add("#", 1);
  add("+/x", 2);
  add("$SYS/#", 3);
  add("_internal/+", 4);
  EXPECT_THAT(match("$SYS/x"), ElementsAre(3));
  EXPECT_THAT(match("_internal/x"), ElementsAre(4));
  EXPECT_THAT(match("a/x"), UnorderedElementsAre(1, 2));
}

TEST_F(TrieTest, RestInTheMiddle) {
  add("a/#/z", 1);
  add("#/z", 2);
  add("#/b/#/z", 3);
  EXPECT_THAT(match("a/z"), UnorderedElementsAre(1, 2));
  EXPECT_THAT(match("a/b/c/z"), UnorderedElementsAre(1, 2, 3));
  EXPECT_THAT(match("b/b/b/z"), UnorderedElementsAre(2, 3));
  EXPECT_THAT(match("a/b"), IsEmpty());
  EXPECT_THAT(match("_a/z"), IsEmpty());
}

TEST_F(TrieTest, ReplacesAndRemoves) {
  auto place = add("a/+", 1);
  EXPECT_EQ(add("a/+", 1, place), place);
  EXPECT_EQ(trie_.size(), 1U);
  auto other = add("a/+", 2);
  uint64_t before = trie_.generation();
  trie_.remove(place);
  EXPECT_GT(trie_.generation(), before);
  EXPECT_THAT(match("a/b"), ElementsAre(2));
  other = add("c/#", 3, other);
  EXPECT_EQ(trie_.size(), 1U);
  EXPECT_THAT(match("a/b"), IsEmpty());
  EXPECT_FALSE(trie_.couldMatchTopic("a"));
  EXPECT_THAT(match("c/d"), ElementsAre(3));
  trie_.remove(other);
  EXPECT_EQ(trie_.size(), 0U);
  EXPECT_THAT(match("a/b"), IsEmpty());
  EXPECT_FALSE(trie_.couldMatchTopic("a"));
}

TEST_F(TrieTest, ManyChildrenComeAndGo) {
  std::vector<SubscriptionTrie::Place> places;
  for (uint32_t i = 0; i < 100; ++i) places.push_back(add("d/" + std::to_string(i) + "/cmd", i));
  for (uint32_t i = 0; i < 100; i += 2) trie_.remove(places[i]);
  for (uint32_t i = 0; i < 100; ++i) {
    auto found = match("d/" + std::to_string(i) + "/cmd");
    if (i % 2 == 0) {
      EXPECT_THAT(found, IsEmpty()) << i;
    } else {
      EXPECT_THAT(found, ElementsAre(i));
    }
  }
}

TEST_F(TrieTest, ManyShareAFilter) {
  std::vector<SubscriptionTrie::Place> places;
  for (uint32_t i = 0; i < 100; ++i) places.push_back(add("all/+", i));
  // From the ends and from between.
  for (size_t i : {0U, 99U, 50U, 51U, 49U, 1U, 98U}) trie_.remove(places[i]);
  auto found = match("all/x");
  EXPECT_EQ(found.size(), 93U);
  EXPECT_THAT(found, testing::Not(testing::Contains(testing::AnyOf(0, 1, 49, 50, 51, 98, 99))));
}

TEST_F(TrieTest, KnowsWhichTopicsCouldMatch) {
  add("sensors/#", 1);
  EXPECT_TRUE(trie_.couldMatchTopic("sensors"));
  EXPECT_FALSE(trie_.couldMatchTopic("other"));
  add("+/x", 2);
  EXPECT_TRUE(trie_.couldMatchTopic("other"));
  EXPECT_FALSE(trie_.couldMatchTopic("_other"));
}

/// Filters and addresses at random: the trie agrees with the rule written out.
TEST_F(TrieTest, AgreesWithThePlainRule) {
  test::SeededRandom random(11);
  const char* names[] = {"a", "b", "", "_c"};
  const char* parts[] = {"a", "b", "", "+", "#", "_c"};
  std::vector<std::string> filters;
  for (uint32_t i = 0; i < 300; ++i) {
    std::string filter;
    size_t levels = 1 + random.next() % 4;
    for (size_t level = 0; level < levels; ++level) {
      if (level > 0) filter += '/';
      filter += parts[random.next() % std::size(parts)];
    }
    filters.push_back(filter);
    add(filter, i);
  }
  for (int i = 0; i < 500; ++i) {
    std::string address;
    size_t levels = 1 + random.next() % 5;
    for (size_t level = 0; level < levels; ++level) {
      if (level > 0) address += '/';
      address += names[random.next() % std::size(names)];
    }
    std::vector<uint32_t> expected;
    std::vector<BytesView> split;
    levelsOf(addressOf(address), split);
    for (uint32_t f = 0; f < filters.size(); ++f) {
      TopicFilter filter = filterOf(filters[f]);
      bool hidden =
          hiddenFromWildcards(split[0]) && filter.levels[0].kind != FilterLevel::Kind::kLiteral;
      if (!hidden && levelsMatch(filter.levels, 0, split)) expected.push_back(f);
    }
    EXPECT_THAT(match(address), testing::UnorderedElementsAreArray(expected)) << address;
  }
}

}  // namespace
}  // namespace polylog::router
