#include "codecs/mqtt/in_flight.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "core/model/delivery.h"

namespace polylog::mqtt {
namespace {

using Stage = InFlight::Stage;

TEST(InFlight, FindsByPacketId) {
  InFlight inFlight{1, kOwnPacketIds};
  EXPECT_FALSE(inFlight.find(1));
  inFlight.add(0, Stage::kSentQos1);
  inFlight.add(1, Stage::kSentQos2);
  EXPECT_EQ(inFlight.find(1), 0);
  EXPECT_EQ(inFlight.find(2), 1);
  EXPECT_FALSE(inFlight.find(3));
  EXPECT_FALSE(inFlight.find(0));
  inFlight.finish(0);
  EXPECT_FALSE(inFlight.find(1));
  EXPECT_EQ(inFlight.stage(1), Stage::kSentQos2);
}

TEST(InFlight, GapsAreNotInFlight) {
  InFlight inFlight{1, kOwnPacketIds};
  inFlight.add(10, Stage::kSentQos1);
  inFlight.add(15, Stage::kSentQos1);
  EXPECT_FALSE(inFlight.find(inFlight.packetId(12)));
  EXPECT_EQ(inFlight.idLimit(0, 100), 16 + 98);
  inFlight.finish(10);
  EXPECT_EQ(inFlight.idLimit(0, 100), 16 + 99);
  inFlight.finish(15);
  EXPECT_TRUE(inFlight.empty());
  EXPECT_EQ(inFlight.idLimit(16, 100), 116);
}

TEST(InFlight, RangesOfPacketIdsAreApart) {
  InFlight own{1, kOwnPacketIds};
  InFlight shared{kOwnPacketIds + 1, kSharedPacketIds};
  EXPECT_EQ(own.packetId(kOwnPacketIds - 1), kOwnPacketIds);
  EXPECT_EQ(own.packetId(kOwnPacketIds), 1);
  shared.add(kSharedIds + kSharedPacketIds - 1, Stage::kSentQos1);
  EXPECT_EQ(shared.packetId(kSharedIds + kSharedPacketIds - 1), 65535);
  EXPECT_EQ(shared.find(65535), kSharedIds + kSharedPacketIds - 1);
  EXPECT_FALSE(own.owns(kOwnPacketIds + 1));
  EXPECT_FALSE(shared.owns(kOwnPacketIds));
  EXPECT_FALSE(shared.find(kOwnPacketIds));
  EXPECT_EQ(shared.idLimit(0, 100'000), kSharedIds + 2 * kSharedPacketIds - 2);
}

TEST(InFlight, OneThatIsNeverAcknowledgedHoldsUpNoneButThoseOfItsPacketId) {
  InFlight inFlight{1, kOwnPacketIds};
  inFlight.add(0, Stage::kSentQos1);
  for (int64_t id = 1; id < kOwnPacketIds - 1; ++id) {
    ASSERT_GT(inFlight.idLimit(0, 2), id);
    inFlight.add(id, Stage::kSentQos1);
    ASSERT_EQ(inFlight.idLimit(0, 2), id + 1) << "two are in flight";
    inFlight.finish(id);
    inFlight.skip(++id);
  }
  EXPECT_EQ(inFlight.inFlight(), 1);
  EXPECT_EQ(inFlight.idLimit(0, 2), kOwnPacketIds - 1);
  inFlight.finish(0);
  EXPECT_TRUE(inFlight.empty());
}

/// Against a map, over the wrap of packet identifiers, at the widest window.
TEST(InFlight, AgreesWithAMap) {
  std::mt19937 random(1);
  for (int64_t window : {int64_t{1}, int64_t{20}, kOwnPacketIds - 1}) {
    InFlight inFlight{1, kOwnPacketIds};
    std::map<int64_t, Stage> model;
    int64_t next = 60'000;
    for (int step = 0; step < 100'000; ++step) {
      const int64_t limit = inFlight.idLimit(next, window);
      if (random() % 2 == 0 && next < limit) {
        inFlight.add(next, Stage::kSentQos1);
        model[next++] = Stage::kSentQos1;
      } else if (!model.empty()) {
        auto it = model.begin();
        std::advance(it, random() % std::min<size_t>(model.size(), 5));
        ASSERT_EQ(inFlight.find(inFlight.packetId(it->first)), it->first);
        inFlight.finish(it->first);
        ASSERT_FALSE(inFlight.find(inFlight.packetId(it->first)));
        model.erase(it);
      }
      ASSERT_EQ(inFlight.empty(), model.empty());
      ASSERT_EQ(inFlight.inFlight(), static_cast<int64_t>(model.size()));
      ASSERT_LE(inFlight.inFlight(), window);
      ASSERT_TRUE(model.empty() || next - model.begin()->first < kOwnPacketIds);
    }
  }
}

}  // namespace
}  // namespace polylog::mqtt
