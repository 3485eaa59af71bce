// Key compaction: the latest record of each key stays under its offset, what it supersedes goes.
#include <gmock/gmock.h>

#include <map>

#include "storage/compaction.h"
#include "storage/key_map.h"
#include "tests/storage/store_harness.h"

namespace polylog::storage {
namespace {

using ::testing::ElementsAre;

struct KeyValue {
  std::optional<std::string> key;
  std::optional<std::string> value;
};

class CompactionTest : public StoreTest {
 protected:
  CompactionTest() { options_.segmentBytes = 64 << 10; }

  static Retention compacted(Compaction rule = {}) {
    return {-1, -1, std::make_shared<Compaction>(rule)};
  }
  void write(uint64_t partition, const std::vector<KeyValue>& records,
             Compression compression = Compression::kNone) {
    RecordBatchBuilder builder;
    for (const KeyValue& one : records) {
      Record record;
      record.key = one.key;
      record.value = one.value;
      record.timestampMs = clock_.wallMillis();
      builder.add(record);
      model_[partition].push_back(one);
    }
    auto batch = SharedBytes::own(builder.finish(compression));
    ASSERT_TRUE(store_->append(request(batch, {to(partition)})));
    store_->runOnce();
  }
  /// Fills segments with what compaction has nothing to do with.
  void roll(uint64_t partition) {
    for (int i = 0; i < 40; ++i) ASSERT_TRUE(put(partition, {std::string(2000, '.')}));
  }
  /// Offset to key and value of all that is there.
  std::map<int64_t, KeyValue> readAll(uint64_t partition) {
    std::map<int64_t, KeyValue> found;
    PartitionEnds bounds = ends(partition);
    for (Offset next = bounds.logStart; next < bounds.highWatermark;) {
      auto read = store_->read(PartitionId(partition), next, 1 << 20);
      EXPECT_TRUE(read) << read.error().text;
      if (!read || read->empty()) break;
      for (const ReadBatch& batch : *read) {
        EXPECT_GE(batch.baseOffset, next);
        auto decoded = decodeRecordBatch(batch.batch, 64U << 20);
        EXPECT_TRUE(decoded) << decoded.error().text;
        for (size_t i = 0; i < decoded->records.size(); ++i) {
          const Record& record = decoded->records[i];
          KeyValue one;
          if (record.key) one.key = std::string(*record.key);
          if (record.value) one.value = std::string(*record.value);
          found[batch.baseOffset.value() + decoded->offsetDeltas[i]] = one;
        }
        next = batch.baseOffset + batch.count;
      }
    }
    return found;
  }
  /// What is there is as it was written; of each key at least the latest is there. Returns how
  /// many.
  size_t check(uint64_t partition) {
    const auto& model = model_[partition];
    std::map<std::string, int64_t> latest;
    for (size_t i = 0; i < model.size(); ++i) {
      // What has no key is superseded by nothing.
      latest[model[i].key ? "=" + *model[i].key : "-" + std::to_string(i)] =
          static_cast<int64_t>(i);
    }
    auto found = readAll(partition);
    for (const auto& [offset, one] : found) {
      const KeyValue& written = model.at(static_cast<size_t>(offset));
      EXPECT_EQ(one.key, written.key) << offset;
      EXPECT_EQ(one.value, written.value) << offset;
    }
    for (const auto& [key, offset] : latest) {
      bool tombstone = !model[static_cast<size_t>(offset)].value;
      EXPECT_TRUE(tombstone || found.contains(offset)) << key << " is lost, offset " << offset;
    }
    return found.size();
  }

  std::map<uint64_t, std::vector<KeyValue>> model_;
};

TEST(OffsetSetTest, Counts) {
  OffsetSet set(Offset(100), Offset(400));
  for (int64_t at : {100, 163, 164, 227, 399}) set.add(Offset(at));
  set.add(Offset(99));
  set.add(Offset(400));
  EXPECT_EQ(set.count(Offset(0), Offset(1000)), 5U);
  EXPECT_EQ(set.count(Offset(101), Offset(164)), 1U);
  EXPECT_EQ(set.count(Offset(163), Offset(228)), 3U);
  EXPECT_EQ(set.count(Offset(399), Offset(400)), 1U);
  EXPECT_TRUE(set.contains(Offset(399)));
  EXPECT_FALSE(set.contains(Offset(400)));
}

TEST(KeyMapTest, TellsKeysApartAndWhatIsSuperseded) {
  KeyMap map;
  for (int i = 0; i < 5000; ++i) {
    std::string key = std::to_string(i);
    EXPECT_FALSE(map.put(KeyMap::keyOf(BytesView(key)), Offset(i), false));
  }
  EXPECT_FALSE(map.put(KeyMap::keyOf(BytesView()), Offset(6001), false));
  EXPECT_EQ(map.put(KeyMap::keyOf(BytesView("77")), Offset(7000), true), Offset(77));
  EXPECT_EQ(map.size(), 5001U);
  int tombstones = 0;
  map.forEach(
      [&](const KeyMap::Item& item) { tombstones += item.tombstone && !item.alone ? 1 : 0; });
  EXPECT_EQ(tombstones, 1);
}

TEST_F(CompactionTest, KeepsTheLatestOfEachKeyUnderItsOffset) {
  for (Compression compression : {Compression::kNone, Compression::kGzip, Compression::kSnappy,
                                  Compression::kLz4, Compression::kZstd}) {
    store_ = nullptr;
    disk_ = std::make_unique<test::FaultyDisk>();
    model_.clear();
    open();
    ASSERT_TRUE(make(1, compacted()));
    ASSERT_TRUE(make(2));
    for (int round = 0; round < 20; ++round) {
      std::vector<KeyValue> batch;
      for (int i = 0; i < 50; ++i) {
        // Key 49 is written once, in the first round: its batch can't go as a whole.
        if (i == 49 && round > 0) break;
        batch.push_back(
            {"key " + std::to_string(i), std::to_string(round) + std::string(200, 'v')});
      }
      write(1, batch, compression);
    }
    write(1, {{std::nullopt, "no key"}, {"", "an empty one"}, {std::nullopt, "no key again"}});
    roll(2);
    ASSERT_TRUE(store_->runRetention());
    // 49 keys of the last round, the one of the first, two records without and one with an empty
    // key.
    EXPECT_EQ(check(1), 53U);
    auto first = store_->read(PartitionId(1), Offset(0), 1);
    ASSERT_TRUE(first && !first->empty());
    EXPECT_EQ(first->at(0).baseOffset, Offset(0));  // a batch with gaps
    EXPECT_EQ(parseRecordBatchHeader(first->at(0).batch.view())->compression(), compression);
    reopen();
    EXPECT_EQ(check(1), 53U);
    ASSERT_TRUE(store_->runRetention());
    EXPECT_EQ(check(1), 53U);
    crash(test::PowerFailure::kLoseUnsynced);
    open();
    EXPECT_EQ(check(1), 53U);
  }
}

TEST_F(CompactionTest, CompactsTheSameBatchAgainAndAgain) {
  open();
  ASSERT_TRUE(make(1, compacted({0, INT64_MAX, 0, 1})));
  ASSERT_TRUE(make(2));
  std::vector<KeyValue> batch;
  for (int i = 0; i < 100; ++i) batch.push_back({std::to_string(i), std::string(300, 'v')});
  write(1, batch);
  for (int i = 0; i < 70; ++i) {
    write(1, {{std::to_string(i), "new"}});
    roll(2);
    ASSERT_TRUE(store_->runRetention());
    check(1);
    if (i % 10 == 9) reopen();
  }
  EXPECT_LT(readAll(1).size(), 130U);
}

TEST_F(CompactionTest, TombstonesGoAfterTheirTimeAndNeverBeforeWhatTheyDelete) {
  open();
  ASSERT_TRUE(make(1, compacted({0, 60'000, 60'000, 1})));
  ASSERT_TRUE(make(2));
  write(1, {{"a", std::string(6000, '1')}, {"b", std::string(6000, '2')}});
  roll(2);
  write(1, {{"a", std::nullopt}, {"c", "3"}});
  roll(2);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(store_->runRetention());
  auto found = readAll(1);
  EXPECT_FALSE(found.contains(0));
  EXPECT_TRUE(found.contains(2));  // readers have a minute to see that "a" was deleted
  clock_.advance(61'000'000);
  write(1, {{"d", "4"}});
  roll(2);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(store_->runRetention());
  found = readAll(1);
  EXPECT_FALSE(found.contains(2));
  EXPECT_TRUE(found.contains(1));
  EXPECT_TRUE(found.contains(3));
  check(1);
}

TEST_F(CompactionTest, HonoursTheLags) {
  open();
  int64_t minute = 60'000;
  ASSERT_TRUE(make(1, compacted({minute, INT64_MAX, 0, 1})));
  ASSERT_TRUE(make(2));
  ASSERT_TRUE(make(3, compacted({0, minute, 0, 100})));
  for (int i = 0; i < 20; ++i) {
    for (uint64_t partition : {1U, 3U})
      write(partition, {{"k", std::to_string(i) + std::string(500, '.')}});
  }
  write(3, {{"once", std::string(60'000, 'x')}});
  roll(2);
  ASSERT_TRUE(store_->runRetention());
  EXPECT_EQ(readAll(1).size(), 20U);  // too young
  EXPECT_EQ(check(3), 2U);            // the first pass finds all of it new
  for (int i = 0; i < 3; ++i) write(3, {{"k", std::to_string(i)}});
  roll(2);
  ASSERT_TRUE(store_->runRetention());
  EXPECT_EQ(readAll(3).size(), 5U);  // far from all of it is new
  clock_.advance(61'000'000);
  roll(2);
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(store_->runRetention());
  EXPECT_EQ(check(1), 1U);
  EXPECT_EQ(check(3), 2U);  // overdue
}

/// A batch that a compacted partition shares with others stays whole for those.
TEST_F(CompactionTest, LeavesOtherPartitionsBatchesAlone) {
  open();
  ASSERT_TRUE(make(1, compacted({0, INT64_MAX, 0, 1})));
  ASSERT_TRUE(make(2, compacted({0, INT64_MAX, 0, 1})));
  ASSERT_TRUE(make(3));
  ASSERT_TRUE(make(4));
  RecordBatchBuilder builder;
  for (int i = 0; i < 50; ++i) {
    std::string key = std::to_string(i % 10);
    std::string value = std::to_string(i) + std::string(300, '.');
    Record record;
    record.key = key;
    record.value = value;
    record.timestampMs = 1;
    builder.add(record);
    for (uint64_t partition : {1U, 2U, 3U}) model_[partition].push_back({key, value});
  }
  auto batch = SharedBytes::own(builder.finish());
  ASSERT_TRUE(store_->append(request(batch, {to(1), to(2), to(3)})));
  store_->runOnce();
  write(2, {{"3", "later"}});
  roll(4);
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(store_->runRetention());
    EXPECT_EQ(check(1), 10U);
    EXPECT_EQ(check(2), 10U);
    EXPECT_EQ(check(3), 50U);
    reopen();
  }
}

TEST_F(CompactionTest, RandomHistoriesSurviveCrashes) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE(seed);
    test::SeededRandom dice(seed);
    store_ = nullptr;
    disk_ = std::make_unique<test::FaultyDisk>();
    model_.clear();
    open();
    for (uint64_t id : {1U, 2U, 3U}) ASSERT_TRUE(make(id, compacted({0, INT64_MAX, 0, 30})));
    for (int step = 0; step < 300; ++step) {
      uint64_t partition = 1 + dice.next() % 3;
      std::vector<KeyValue> records(1 + dice.next() % 20);
      for (KeyValue& one : records) {
        one.key = std::to_string(dice.next() % 40);
        if (dice.next() % 10 != 0) one.value = std::string(dice.next() % 400, 'v');
      }
      write(partition, records, static_cast<Compression>(dice.next() % 5));
      if (dice.next() % 20 == 0) {
        ASSERT_TRUE(store_->runRetention());
      }
      if (dice.next() % 40 == 0) {
        crash(test::kAllPowerFailures[dice.next() % test::kAllPowerFailures.size()]);
        open();
        for (uint64_t id : {1U, 2U, 3U}) check(id);
      }
    }
    for (uint64_t id : {1U, 2U, 3U}) check(id);
  }
}

}  // namespace
}  // namespace polylog::storage
