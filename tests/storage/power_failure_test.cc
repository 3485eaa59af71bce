// A trace of a thousand operations, with segments rolled, rewritten, compacted and dropped, on a disk
// that may lose its power at every call that changes it. Whatever it comes back with, recovery holds all
// that was acknowledged, an offset that was read holds what it held, and state and messages agree. In the
// environment, POLYLOG_OPERATIONS=n makes the trace longer, and POLYLOG_THOROUGH=1 takes every kind of
// failure at every boundary instead of one in turn.
#include <gmock/gmock.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "tests/storage/store_harness.h"

namespace polylog::storage {
namespace {

constexpr uint64_t kPartitions = 5;
/// A sixth one, of which the latest record of each key is kept.
constexpr uint64_t kCompacted = 6;
constexpr uint64_t kKeys = 20;

/// What must be there, whatever happens: told by the store as the trace goes.
struct Promised {
  std::map<uint64_t, int64_t> acknowledged;  ///< partition -> records
  std::map<uint64_t, int64_t> visible;       ///< partition -> high watermark seen by a reader
  std::map<uint64_t, int64_t> logStart;      ///< acknowledged moves
  std::map<uint64_t, int64_t> logStartTried;
  int32_t producerAcknowledged = -1;         ///< last sequence
};

class TracePowerFailureTest : public StoreTest {
 protected:
  void SetUp() override {
    options_.segmentBytes = 24 << 10;
    options_.checkpointBytes = 48 << 10;
    options_.retentionCheckMillis = 1'000'000'000;
  }

  static std::string countKey(uint64_t partition) { return "count-" + std::to_string(partition); }

  void append(AppendRequest made, std::vector<uint64_t> partitions, int32_t sequence = -1) {
    made.sink = &sink_;
    std::vector<std::pair<uint64_t, int64_t>> counts;
    for (uint64_t id : partitions) {
      counts.emplace_back(id, static_cast<int64_t>(expected_[id].size()));
    }
    made.done = [this, counts, sequence](Result<Appended> done) {
      ASSERT_TRUE(done);
      std::lock_guard lock(mutex_);
      for (auto [id, count] : counts) {
        promised_.acknowledged[id] = std::max(promised_.acknowledged[id], count);
      }
      if (sequence >= 0) promised_.producerAcknowledged = sequence;
    };
    auto appended = store_->append(std::move(made));
    ASSERT_TRUE(appended) << appended.error().text;
  }

  void createPartitions() {
    AppendRequest made;
    for (uint64_t id = 1; id <= kPartitions; ++id) {
      made.state.push_back(partitionConfigured(PartitionId(id), {}));
      expected_[id];
    }
    Compaction eager{0, INT64_MAX, 0, 10};
    made.state.push_back(partitionConfigured(PartitionId(kCompacted),
                                             {-1, -1, std::make_shared<Compaction>(eager)}));
    expected_[kCompacted];
    append(std::move(made), {1, 2, 3, 4, 5, kCompacted});
  }

  /// Its value begins with its key.
  void keyedMessage(int i) {
    Record record;
    std::string key(1, static_cast<char>('a' + random_.next() % kKeys));
    std::string value = key + std::to_string(i) + std::string(random_.next() % 300, 'v');
    record.key = key;
    record.value = value;
    record.timestampMs = 1000;
    RecordBatchBuilder builder;
    builder.add(record);
    expected_[kCompacted].push_back(value);
    append(request(SharedBytes::own(builder.finish()), {to(kCompacted)}), {kCompacted});
  }

  /// One record to one partition or to three, with the count that it makes in the same entry.
  void message(int i) {
    std::string value = std::to_string(i) + std::string(random_.next() % 300, 'v');
    uint64_t id = random_.next() % kPartitions + 1;
    std::vector<uint64_t> ids{id};
    if (random_.next() % 8 == 0) {
      ids = {1, 2, 3, 4, 5};
      ids.resize(3);
    }
    bool produced = ids.size() == 1 && id == 1;
    ProducerAt producer{produced ? 77 : -1, 0, nextSequence_};
    std::vector<Target> targets;
    AppendRequest made;
    for (uint64_t one : ids) {
      targets.push_back(to(one));
      expected_[one].push_back(value);
      made.state.push_back(
          {StateTable::kTopic, countKey(one), std::to_string(expected_[one].size())});
    }
    made.messages.push_back({makeBatch({value}, 1000, producer), targets, produced, false});
    made.durability = random_.next() % 4 == 0 ? Durability::kUnwaited : Durability::kSynced;
    append(std::move(made), ids, produced ? nextSequence_ : -1);
    if (produced) ++nextSequence_;
  }

  void moveLogStart() {
    uint64_t id = random_.next() % kPartitions + 1;
    int64_t start = ends(id).highWatermark.value() / 2;
    {
      std::lock_guard lock(mutex_);
      promised_.logStartTried[id] = std::max(promised_.logStartTried[id], start);
    }
    AppendRequest made;
    made.state.push_back(logStartMoved(PartitionId(id), Offset(start)));
    append(std::move(made), {});
    store_->runOnce();
    std::lock_guard lock(mutex_);
    promised_.logStart[id] = std::max(promised_.logStart[id], start);
  }

  void step(int i) {
    if (i % 97 == 96) {
      moveLogStart();
    } else if (i % 333 == 332) {
      ASSERT_TRUE(store_->checkpoint());
    } else if (i % 150 == 149) {
      ASSERT_TRUE(store_->runRetention());
      sawRewritten_ |= rewrittenFiles() > 0;
    } else if (random_.next() % 5 == 0) {
      keyedMessage(i);
    } else {
      message(i);
    }
    // Several operations a commit, sometimes.
    if (random_.next() % 3 != 0) store_->runOnce();
    checkImages();
    std::lock_guard lock(mutex_);
    for (uint64_t id = 1; id <= kCompacted; ++id) {
      promised_.visible[id] = ends(id).highWatermark.value();
    }
  }

  size_t rewrittenFiles() const {
    auto journal = disk_->root()->subdirectory("journal");
    auto names = (*journal)->list();
    return static_cast<size_t>(
        std::count_if(names->begin(), names->end(),
                      [](const std::string& name) { return name.find('-') != std::string::npos; }));
  }

  void checkPartition(LogStore& store, uint64_t id, Promised& promised, const std::string& where) {
    auto found = store.ends(PartitionId(id));
    if (!found) {
      ASSERT_EQ(promised.acknowledged.count(id), 0U) << where;
      return;
    }
    int64_t end = found->end.value();
    ASSERT_GE(end, promised.acknowledged[id]) << where;
    ASSERT_GE(end, promised.visible[id]) << where;
    ASSERT_LE(end, static_cast<int64_t>(expected_[id].size())) << where;
    ASSERT_EQ(found->highWatermark, found->end) << where;
    int64_t start = found->logStart.value();
    ASSERT_GE(start, promised.logStart[id]) << where;
    ASSERT_LE(start, promised.logStartTried[id]) << where;
    auto count = store.getState(StateTable::kTopic, countKey(id));
    ASSERT_EQ(count.value_or("0"), std::to_string(end)) << where;
    for (Offset next(start); next.value() < end;) {
      auto read = store.read(PartitionId(id), next, 1 << 20);
      ASSERT_TRUE(read) << where << " offset " << next.value() << ": " << read.error().text;
      ASSERT_FALSE(read->empty()) << where;
      for (const ReadBatch& batch : *read) {
        ASSERT_EQ(batch.baseOffset, next) << where;
        ASSERT_EQ(valuesOf(batch)[0], expected_[id][static_cast<size_t>(next.value())]) << where;
        next += batch.count;
      }
    }
  }

  /// What is there is what was written; of each key at least the latest is there.
  void checkCompacted(LogStore& store, Promised& promised, const std::string& where) {
    const std::vector<std::string>& expected = expected_[kCompacted];
    auto found = store.ends(PartitionId(kCompacted));
    int64_t end = found ? found->end.value() : 0;
    ASSERT_GE(end, promised.acknowledged[kCompacted]) << where;
    ASSERT_GE(end, promised.visible[kCompacted]) << where;
    ASSERT_LE(end, static_cast<int64_t>(expected.size())) << where;
    std::map<char, int64_t> latest;
    for (int64_t i = 0; i < end; ++i) latest[expected[static_cast<size_t>(i)][0]] = i;
    for (Offset next(0); next.value() < end;) {
      auto read = store.read(PartitionId(kCompacted), next, 1 << 20);
      ASSERT_TRUE(read) << where << " offset " << next.value() << ": " << read.error().text;
      ASSERT_FALSE(read->empty()) << where;
      for (const ReadBatch& batch : *read) {
        ASSERT_GE(batch.baseOffset, next) << where;
        auto decoded = decodeRecordBatch(batch.batch, 1 << 20);
        ASSERT_TRUE(decoded) << where;
        for (size_t i = 0; i < decoded->records.size(); ++i) {
          int64_t offset = batch.baseOffset.value() + decoded->offsetDeltas[i];
          const std::string& wanted = expected.at(static_cast<size_t>(offset));
          ASSERT_EQ(decoded->records[i].value, wanted) << where;
          if (latest[wanted[0]] == offset) latest.erase(wanted[0]);
        }
        next = batch.baseOffset + batch.count;
      }
    }
    ASSERT_TRUE(latest.empty()) << where << ": the latest of key " << latest.begin()->first
                                << " is lost, offset " << latest.begin()->second;
  }

  void check(test::FaultyDisk& disk, Promised& promised, const std::string& where) {
    test::SeededRandom random(99);
    auto opened = openLogStore(disk.root(), options_, clock_, random,
                               [](const Error& error) { FAIL() << error.text; });
    ASSERT_TRUE(opened) << where << ": " << opened.error().text;
    LogStore& store = **opened;
    ASSERT_EQ(store.recovery().damagedEntries, 0U) << where;
    for (uint64_t id = 1; id <= kPartitions; ++id) checkPartition(store, id, promised, where);
    if (!HasFatalFailure()) checkCompacted(store, promised, where);
    if (::testing::Test::HasFatalFailure() || promised.producerAcknowledged < 0) return;
    AppendRequest repeat = request(
        makeBatch({"again"}, 1000, {77, 0, promised.producerAcknowledged}), {to(1)});
    repeat.messages[0].checkProducer = true;
    auto repeated = store.append(std::move(repeat));
    ASSERT_TRUE(repeated) << where << ": " << repeated.error().text;
    ASSERT_TRUE(repeated->duplicate) << where;
    // It takes appends, and a second recovery agrees with the first.
    ASSERT_TRUE(store.append(request(makeBatch({"new"}), {to(2)}))) << where;
    store.runOnce();
  }

  /// In the hook: RocksDB's threads come by here too, and must not be held up by recovering.
  void take(uint64_t boundary, test::PowerFailure failure, const test::DiskCall& call) {
    test::SeededRandom random(boundary * 16 + static_cast<uint64_t>(failure));
    auto after = disk_->afterPowerFailure(failure, random);
    std::lock_guard lock(mutex_);
    images_.push_back({std::move(after), promised_,
                       "boundary " + std::to_string(boundary) + " (" + call.path + "), " +
                           test::describe(failure)});
    ++taken_;
  }

  void checkImages() {
    std::vector<Image> images;
    {
      std::lock_guard lock(mutex_);
      images = std::exchange(images_, {});
    }
    for (Image& image : images) {
      if (HasFatalFailure()) return;
      check(*image.disk, image.promised, image.where);
    }
  }

  struct Image {
    std::unique_ptr<test::FaultyDisk> disk;
    Promised promised;
    std::string where;
  };

  std::mutex mutex_;
  std::vector<Image> images_;
  size_t taken_ = 0;
  bool sawRewritten_ = false;
  std::map<uint64_t, std::vector<std::string>> expected_;
  Promised promised_;
  int32_t nextSequence_ = 0;
};

TEST_F(TracePowerFailureTest, EveryBoundaryOfATraceRecovers) {
  bool thorough = std::getenv("POLYLOG_THOROUGH") != nullptr;
  const char* asked = std::getenv("POLYLOG_OPERATIONS");
  int operations = asked != nullptr ? std::atoi(asked) : 1000;
  disk_->onBoundary([&](uint64_t boundary, const test::DiskCall& call) {
    if (thorough) {
      for (test::PowerFailure failure : test::kAllPowerFailures) take(boundary, failure, call);
      return;
    }
    // RocksDB's own calls are many, and their places in the journal few.
    if (!call.path.starts_with("journal") && boundary % 7 != 0) return;
    take(boundary, test::kAllPowerFailures[taken_ % test::kAllPowerFailures.size()], call);
  });
  open();
  createPartitions();
  for (int i = 0; i < operations && !HasFatalFailure(); ++i) step(i);
  store_->close();
  checkImages();
  EXPECT_GT(taken_, 1000U);
  EXPECT_TRUE(sawRewritten_);
  RecordProperty("recoveries", static_cast<int>(taken_));
}

/// Cuts the active segment at every octet of its last entries, and flips bits all over them.
class TornTailTest : public StoreTest {
 protected:
  void SetUp() override {
    open();
    ASSERT_TRUE(make(1));
    ASSERT_TRUE(put(1, {"zero"}));
    // One group of three entries: no durable mark covers any of it.
    tail_ = store_->durableEnd();
    for (std::string value : {"one", "two", "three"}) {
      AppendRequest made = request(makeBatch({value}), {to(1)});
      made.state.push_back({StateTable::kTopic, "last", value});
      ASSERT_TRUE(store_->append(std::move(made)));
      ends_.push_back(ends(1).end.value());
    }
    store_->runOnce();
    end_ = store_->durableEnd();
    name_ = activeSegment();
    image_ = disk_->afterPowerFailure(test::PowerFailure::kLoseUnsynced, random_);
  }

  void openClone() {
    store_ = nullptr;
    open();
  }
  uint64_t place(Position position) const { return 64 + position.value(); }

  Position tail_;
  Position end_;
  std::string name_;
  std::vector<int64_t> ends_;
  std::unique_ptr<test::FaultyDisk> image_;
};

TEST_F(TornTailTest, IsDroppedWhereverItIsCut) {
  std::vector<std::string> all{"zero", "one", "two", "three"};
  size_t least = 4;
  for (uint64_t size = place(end_); size >= place(tail_); --size) {
    store_ = nullptr;
    disk_ = image_->clone();
    ASSERT_TRUE(disk_->setSize(name_, size));
    open();
    std::vector<std::string> values = contents(1);
    ASSERT_LE(values.size(), least);
    least = values.size();
    std::vector<std::string> expected(all.begin(),
                                      std::next(all.begin(), static_cast<ptrdiff_t>(values.size())));
    ASSERT_EQ(values, expected);
    ASSERT_EQ(store_->getState(StateTable::kTopic, "last").value_or("zero"), values.back());
    ASSERT_EQ(store_->recovery().truncatedBytes + store_->durableEnd().value() + 64, size);
    ASSERT_EQ(store_->recovery().damagedEntries, 0U);
    // What follows takes the place of what was dropped.
    ASSERT_TRUE(put(1, {"next"}));
    ASSERT_EQ(contents(1).back(), "next");
  }
  EXPECT_EQ(least, 1U);
}

TEST_F(TornTailTest, IsDroppedFromAFlippedBitOn) {
  std::vector<std::string> all{"zero", "one", "two", "three"};
  for (uint64_t at = place(tail_); at < place(end_); ++at) {
    store_ = nullptr;
    disk_ = image_->clone();
    ASSERT_TRUE(disk_->flipBit(name_, at, static_cast<unsigned>(at % 8)));
    open();
    std::vector<std::string> values = contents(1);
    ASSERT_LT(values.size(), 4U) << "octet " << at;
    std::vector<std::string> expected(all.begin(),
                                      std::next(all.begin(), static_cast<ptrdiff_t>(values.size())));
    ASSERT_EQ(values, expected);
    ASSERT_GT(store_->recovery().truncatedBytes, 0U);
    ASSERT_EQ(store_->getState(StateTable::kTopic, "last").value_or("zero"), values.back());
  }
}

TEST_F(TornTailTest, DamageBelowADurableMarkIsSkippedAndTold) {
  ASSERT_TRUE(put(1, {"four"}));  // its mark says that all before it was durable
  image_ = disk_->afterPowerFailure(test::PowerFailure::kLoseUnsynced, random_);
  for (uint64_t at = place(tail_); at < place(end_); ++at) {
    store_ = nullptr;
    disk_ = image_->clone();
    ASSERT_TRUE(disk_->flipBit(name_, at, static_cast<unsigned>(at % 8)));
    open();
    ASSERT_EQ(store_->recovery().truncatedBytes, 0U) << "octet " << at;
    ASSERT_EQ(ends(1).end, Offset(5));
    ASSERT_EQ(contents(1, 4), std::vector<std::string>{"four"});
    int corrupt = 0;
    for (int64_t offset = 1; offset <= 3; ++offset) {
      auto read = store_->read(PartitionId(1), Offset(offset), 1);
      if (!read) {
        ASSERT_EQ(read.error().kind, ErrorKind::kCorrupt);
        ++corrupt;
      }
    }
    ASSERT_EQ(corrupt, 1) << "octet " << at;
    ASSERT_FALSE(store_->recovery().notes.empty());
  }
}

TEST_F(TornTailTest, RecoveryCanBeInterrupted) {
  test::SeededRandom random(5);
  disk_ = image_->clone();
  ASSERT_TRUE(disk_->setSize(name_, place(end_) - 3));
  auto torn = disk_->clone();
  open();
  std::vector<std::string> expected = contents(1);
  store_ = nullptr;
  for (uint64_t boundary = 0;; ++boundary) {
    for (test::PowerFailure failure : test::kAllPowerFailures) {
      disk_ = torn->clone();
      disk_->powerOffAt(boundary);
      bool opened = false;
      {
        auto store = tryOpen();
        opened = store.has_value();
        if (opened && !disk_->poweredOff()) return;
      }
      disk_ = disk_->afterPowerFailure(failure, random);
      open();
      ASSERT_EQ(contents(1), expected) << "boundary " << boundary;
      store_ = nullptr;
    }
  }
}

}  // namespace
}  // namespace polylog::storage
