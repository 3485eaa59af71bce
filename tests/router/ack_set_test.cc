#include "router/ack_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/support/seeded_random.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr int64_t kChunk = AckSet::kChunkBits;

/// What stands in the journal, as takeChanged() tells it.
using Journal = std::map<int64_t, std::string>;

void journalTo(AckSet& set, Journal& journal) {
  set.takeChanged([&](int64_t number, std::optional<std::string> octets) {
    if (octets) {
      journal[number] = *octets;
    } else {
      journal.erase(number);
    }
  });
}

AckSet restored(int64_t floor, const Journal& journal) {
  AckSet set;
  set.raiseFloor(floor);
  for (const auto& [number, octets] : journal) EXPECT_TRUE(set.restoreChunk(number, octets));
  return set;
}

TEST(AckSet, FloorFollowsWhatIsInOrder) {
  AckSet set;
  EXPECT_TRUE(set.add(0));
  EXPECT_FALSE(set.add(0));
  EXPECT_TRUE(set.add(2));
  EXPECT_FALSE(set.add(2));
  EXPECT_EQ(set.floor(), 1);
  EXPECT_EQ(set.above(), 1);
  EXPECT_TRUE(set.contains(2));
  EXPECT_FALSE(set.contains(1));
  EXPECT_TRUE(set.add(1));
  EXPECT_EQ(set.floor(), 3);
  EXPECT_EQ(set.above(), 0);
}

TEST(AckSet, FloorCrossesChunks) {
  AckSet set;
  for (int64_t id = 1; id < 3 * kChunk; ++id) set.add(id);
  EXPECT_EQ(set.floor(), 0);
  EXPECT_EQ(set.above(), 3 * kChunk - 1);
  set.add(0);
  EXPECT_EQ(set.floor(), 3 * kChunk);
  EXPECT_EQ(set.above(), 0);
}

TEST(AckSet, OnlyChangedChunksAreJournaled) {
  AckSet set;
  Journal journal;
  set.add(5);
  set.add(kChunk + 5);
  journalTo(set, journal);
  EXPECT_EQ(journal.size(), 2U);
  std::vector<int64_t> told;
  set.add(6);
  set.takeChanged([&](int64_t number, const auto&) { told.push_back(number); });
  EXPECT_THAT(told, ElementsAre(0));
  told.clear();
  set.takeChanged([&](int64_t number, const auto&) { told.push_back(number); });
  EXPECT_THAT(told, IsEmpty());
}

TEST(AckSet, ChunksThatAreOverGoFromTheJournal) {
  AckSet set;
  Journal journal;
  set.add(kChunk - 1);
  journalTo(set, journal);
  EXPECT_THAT(set.journaledChunks(), ElementsAre(0));
  for (int64_t id = 0; id < kChunk - 1; ++id) set.add(id);
  EXPECT_THAT(set.journaledChunks(), ElementsAre(0));
  journalTo(set, journal);
  EXPECT_THAT(journal, IsEmpty());
  EXPECT_THAT(set.journaledChunks(), IsEmpty());
}

TEST(AckSet, WhatDidNotReachTheJournalIsGivenAgain) {
  AckSet set;
  Journal journal;
  set.add(1);
  set.add(2 * kChunk);
  journalTo(set, journal);
  set.raiseFloor(kChunk);
  Journal lost = journal;
  journalTo(set, lost);
  set.allChanged();
  journalTo(set, journal);
  EXPECT_EQ(journal, lost);
  EXPECT_EQ(journal.size(), 1U);
}

TEST(AckSet, RaisingTheFloorAbsorbsWhatIsAbove) {
  AckSet set;
  for (int64_t id : {3, 10, 11, 12, 64, 200}) set.add(id);
  set.raiseFloor(10);
  EXPECT_EQ(set.floor(), 13);
  EXPECT_EQ(set.above(), 2);
  set.raiseFloor(5);
  EXPECT_EQ(set.floor(), 13);
  set.raiseFloor(100);
  EXPECT_EQ(set.above(), 1);
  set.raiseFloor(10 * kChunk);
  EXPECT_EQ(set.above(), 0);
}

TEST(AckSet, RestoresAsJournaled) {
  AckSet set;
  Journal journal;
  for (int64_t id : {int64_t{0}, int64_t{1}, int64_t{7}, kChunk, kChunk + 63, 5 * kChunk}) {
    set.add(id);
  }
  journalTo(set, journal);
  AckSet again = restored(set.floor(), journal);
  EXPECT_EQ(again.floor(), 2);
  EXPECT_EQ(again.above(), set.above());
  for (int64_t id = 0; id < 6 * kChunk; ++id) ASSERT_EQ(again.contains(id), set.contains(id)) << id;
  std::vector<int64_t> told;
  again.takeChanged([&](int64_t number, const auto&) { told.push_back(number); });
  EXPECT_THAT(told, IsEmpty()) << "nothing has changed since";
}

TEST(AckSet, RestoredChunksBelowTheFloorAreOver) {
  AckSet set;
  set.raiseFloor(kChunk + 1);
  EXPECT_TRUE(set.restoreChunk(0, std::string(8, '\xff')));
  EXPECT_THAT(set.journaledChunks(), ElementsAre(0));
}

TEST(AckSet, RefusesWhatIsNoChunk) {
  AckSet set;
  EXPECT_FALSE(set.restoreChunk(-1, ""));
  EXPECT_FALSE(set.restoreChunk(0, std::string(size_t(kChunk) / 8 + 1, '\0')));
}

TEST(AckSet, AgreesWithASetOfNumbers) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    test::SeededRandom random(seed);
    AckSet set;
    std::set<int64_t> model;
    Journal journal;
    int64_t spread = seed % 2 == 0 ? 300 : 3 * kChunk;
    auto floor = [&] {
      int64_t at = 0;
      while (model.contains(at)) ++at;
      return at;
    };
    int64_t from = 0;
    for (int step = 0; step < 4000; ++step) {
      int64_t id = from + static_cast<int64_t>(random.next() % uint64_t(spread));
      ASSERT_EQ(set.add(id), model.insert(id).second);
      uint64_t luck = random.next() % 500;
      if (luck == 0) {
        int64_t to = set.floor() + static_cast<int64_t>(random.next() % uint64_t(spread));
        set.raiseFloor(to);
        for (int64_t below = 0; below < to; ++below) model.insert(below);
      } else if (luck < 20) {
        journalTo(set, journal);
      } else if (luck < 25) {
        journalTo(set, journal);
        set = restored(set.floor(), journal);
      }
      from = std::max<int64_t>(0, set.floor() - 10);
    }
    int64_t expected = floor();
    ASSERT_EQ(set.floor(), expected) << "seed " << seed;
    auto above = static_cast<int64_t>(model.size()) - expected;
    ASSERT_EQ(set.above(), above) << "seed " << seed;
    for (int64_t id = 0; id < from + spread; ++id) {
      ASSERT_EQ(set.contains(id), model.contains(id)) << id;
    }
  }
}

}  // namespace
}  // namespace polylog::router
