// Inspection of a journal: what is sound passes, beside a running store too, and is added up.
#include <gmock/gmock.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "storage/journal_reader.h"
#include "tests/storage/journal_harness.h"

namespace polylog::storage {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using SoundJournalTest = JournalReaderTest;

TEST_F(SoundJournalTest, CountsWhatIsThere) {
  open();
  for (uint64_t id : {1U, 2U}) ASSERT_TRUE(make(id));
  ASSERT_TRUE(put(1, {"a", "b"}));
  auto batch = store_->append(request(makeBatch({"c", "d", "e"}), {to(1), to(2, 1, 2)}));
  store_->runOnce();
  AppendRequest more;
  more.links.push_back({batch->batches[0], {to(2)}});
  more.state.push_back(logStartMoved(PartitionId(1), Offset(2)));
  more.state.push_back({StateTable::kMeta, "k", "v"});
  ASSERT_TRUE(store_->append(std::move(more)));
  store_->runOnce();
  JournalReport report = verify();
  EXPECT_THAT(textsOf(report), IsEmpty());
  ASSERT_EQ(report.segments.size(), 1U);
  const SegmentSummary& segment = report.segments[0];
  EXPECT_EQ(segment.info.status, SegmentStatus::kActive);
  EXPECT_EQ(segment.end, store_->durableEnd());
  EXPECT_EQ(segment.totals.entries, 5U);
  EXPECT_EQ(segment.totals.batches, 2U);
  EXPECT_EQ(segment.totals.records, 5U);
  EXPECT_EQ(segment.totals.links, 1U);
  EXPECT_EQ(segment.totals.offsets, 2U + 3 + 2 + 3);
  EXPECT_EQ(segment.totals.stateChanges, 4U);
  EXPECT_EQ(segment.partitions, 2U);
  const PartitionSummary& first = report.partitions.at(PartitionId(1));
  EXPECT_EQ(first.end, Offset(5));
  EXPECT_EQ(first.logStart, Offset(2));
  EXPECT_FALSE(first.deleted);
  EXPECT_EQ(report.partitions.at(PartitionId(2)).end, Offset(5));
}

TEST_F(SoundJournalTest, FindsNothingWrongWithSoundJournals) {
  fillAndRewrite();
  std::set<std::string> kinds;
  auto look = [&](const char* when) {
    JournalReport report = verify();
    EXPECT_THAT(textsOf(report), IsEmpty()) << when;
    EXPECT_EQ(report.segments.back().tornBytes, 0U) << when;
    EXPECT_EQ(report.partitions.at(PartitionId(2)).end, ends(2).end) << when;
    for (const SegmentSummary& segment : report.segments) {
      kinds.insert(segment.info.rewritten                          ? "rewritten"
                   : segment.info.status == SegmentStatus::kActive ? "active"
                                                                   : "sealed");
    }
  };
  look("rewritten");
  fill(20);  // closed segments
  look("closed");
  reopen();
  look("opened again");
  crash();
  open();
  ASSERT_TRUE(store_->checkpoint());  // footers are made anew
  look("crashed");
  AppendRequest deletion;
  deletion.state.push_back(partitionDeleted(PartitionId(3)));
  ASSERT_TRUE(store_->append(std::move(deletion)));
  store_->runOnce();
  ASSERT_TRUE(store_->checkpoint());
  look("a partition deleted");
  EXPECT_TRUE(verify().partitions.at(PartitionId(3)).deleted);
  EXPECT_THAT(kinds, ElementsAre("active", "rewritten", "sealed"));
}

// ---------------------------------------------------------------- what is alive

TEST_F(SoundJournalTest, AddsUpWhatIsAlive) {
  fillAndSeal();
  JournalReadOptions options;
  options.liveness = true;
  auto look = [&] { return readJournal(*journal(), options).value().segments; };
  std::vector<SegmentSummary> all = look();
  ASSERT_GE(all.size(), 4U);
  for (const SegmentSummary& segment : all) {
    if (segment.info.status == SegmentStatus::kSealed) {
      EXPECT_EQ(segment.aliveBytes, segment.totals.batchBytes);
    } else {
      EXPECT_EQ(segment.aliveBytes, std::nullopt);
    }
  }
  // The large partition's records die, then all but what links keep.
  auto append = [&](StateChange change) {
    AppendRequest request;
    request.state.push_back(std::move(change));
    ASSERT_TRUE(store_->append(std::move(request)));
    store_->runOnce();
  };
  append(logStartMoved(PartitionId(1), ends(1).end - 1));
  std::vector<SegmentSummary> less = look();
  uint64_t batches = 0;  // of 2, 3 and 4 together
  for (size_t i = 0; i < less.size(); ++i) {
    if (!less[i].aliveBytes) continue;
    EXPECT_LT(*less[i].aliveBytes, *all[i].aliveBytes / 2);
    EXPECT_GT(*less[i].aliveBytes, 0U);
    batches += *less[i].aliveBytes;
  }
  append(partitionDeleted(PartitionId(3)));
  append(partitionDeleted(PartitionId(4)));
  uint64_t linked = 0;  // by 2
  for (const SegmentSummary& segment : look()) linked += segment.aliveBytes.value_or(0);
  EXPECT_EQ(linked, batches);
  append(partitionDeleted(PartitionId(2)));
  std::vector<SegmentSummary> none = look();
  for (size_t i = 0; i + 2 < none.size(); ++i) EXPECT_EQ(none[i].aliveBytes, 0U) << i;
}

TEST_F(SoundJournalTest, WhatIsAliveBelowAnUnreadableFooterIsNotKnown) {
  fillAndSeal();
  store_ = nullptr;
  SegmentInfo second = manifest()[1];
  uint64_t size = disk_->contentOf(fileOf(second))->size();
  ASSERT_TRUE(disk_->flipBit(fileOf(second), size - 4, 1));
  JournalReadOptions options;
  options.liveness = true;
  auto segments = readJournal(*journal(), options).value().segments;
  EXPECT_EQ(segments[0].aliveBytes, std::nullopt);
  EXPECT_EQ(segments[1].aliveBytes, std::nullopt);
  EXPECT_NE(segments[2].aliveBytes, std::nullopt);
}

TEST_F(SoundJournalTest, TellsTheStateThatItWasAskedFor) {
  open();
  AppendRequest request;
  request.state = {{StateTable::kTopic, "a", "1"},
                   {StateTable::kTopic, "b", "2"},
                   {StateTable::kMeta, "k", "v"}};
  ASSERT_TRUE(store_->append(std::move(request)));
  AppendRequest later;
  later.state = {{StateTable::kTopic, "a", "3"}, {StateTable::kTopic, "b", std::nullopt}};
  ASSERT_TRUE(store_->append(std::move(later)));
  store_->runOnce();
  JournalReadOptions options;
  options.state = {StateTable::kTopic};
  auto report = readJournal(*journal(), options).value();
  EXPECT_THAT(report.state,
              ElementsAre(::testing::Pair(::testing::Pair(StateTable::kTopic, "a"), "3")));
}

// ---------------------------------------------------------------- beside a running store

TEST_F(SoundJournalTest, FollowsASegmentThatGivesWayToItsCopy) {
  fillAndSeal();
  AppendRequest request;
  request.state.push_back(logStartMoved(PartitionId(1), ends(1).end - 1));
  ASSERT_TRUE(store_->append(std::move(request)));
  store_->runOnce();
  std::string second = manifest()[1].file;
  bool once = false;
  JournalReport report = verify([&](const std::string& name) {
    if (name != second || std::exchange(once, true)) return;
    ASSERT_TRUE(store_->runRetention());
    ASSERT_FALSE(journal()->exists(second));
  });
  ASSERT_TRUE(once);
  EXPECT_THAT(textsOf(report), IsEmpty());
  EXPECT_TRUE(report.segments[1].info.rewritten);
  EXPECT_FALSE(report.segments[0].info.rewritten);  // as it was when it was read
}

TEST_F(SoundJournalTest, PassesOverASegmentThatIsDeletedMeanwhile) {
  fillAndSeal();
  AppendRequest request;
  for (uint64_t id : {1U, 2U, 3U, 4U}) request.state.push_back(partitionDeleted(PartitionId(id)));
  ASSERT_TRUE(store_->append(std::move(request)));
  store_->runOnce();
  std::string second = manifest()[1].file;
  JournalReport report = verify([&](const std::string& name) {
    if (name == second) {
      ASSERT_TRUE(store_->runRetention());
    }
  });
  EXPECT_THAT(textsOf(report), IsEmpty());
  EXPECT_LT(report.segments.size(), 4U);
}

TEST_F(SoundJournalTest, FollowsTheActiveSegmentThatEndsMeanwhile) {
  fillAndSeal();
  std::string active = manifest().back().file;
  bool once = false;
  JournalReport report = verify([&](const std::string& name) {
    if (name != active || std::exchange(once, true)) return;
    fill(20);
    ASSERT_TRUE(store_->checkpoint());  // it has a footer now, which is no torn tail
  });
  ASSERT_TRUE(once);
  EXPECT_THAT(textsOf(report), IsEmpty());
  EXPECT_EQ(report.segments.back().info.file, active);
  EXPECT_EQ(report.segments.back().info.status, SegmentStatus::kSealed);
  EXPECT_EQ(report.segments.back().tornBytes, 0U);
}

TEST(JournalReaderThreadsTest, IsUndisturbedByAStoreAtWork) {
  test::FaultyDisk disk;
  test::SeededRandom random(3);
  LogStoreOptions options;
  options.segmentBytes = 64 << 10;
  options.checkpointBytes = 128 << 10;
  options.retentionCheckMillis = 1;
  auto opened = openLogStore(disk.root(), options, systemClock(), random, [](const Error&) {});
  ASSERT_TRUE(opened) << opened.error().text;
  LogStore& store = **opened;
  AppendRequest made;
  made.state.push_back(partitionConfigured(PartitionId(1), {-1, 20'000}));
  made.state.push_back(partitionConfigured(PartitionId(2), {}));
  ASSERT_TRUE(store.append(std::move(made)));
  std::atomic<bool> over{false};
  std::thread writer([&] {
    for (int i = 0; i < 1000; ++i) {
      AppendRequest one;
      one.messages.push_back({makeBatch({std::string(3000, 'x')}), {{PartitionId(1)}}});
      one.messages.push_back({makeBatch({std::to_string(i)}), {{PartitionId(2)}}});
      EXPECT_TRUE(store.append(std::move(one)));
      if (i % 20 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    over = true;
  });
  int looks = 0;
  bool rewritten = false;
  JournalReadOptions reading;
  reading.verify = true;
  reading.pause = [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); };
  while (!over.load() || looks == 0) {
    auto report = readJournal(**disk.root()->subdirectory("journal"), reading);
    ASSERT_TRUE(report) << report.error().text;
    for (const JournalFault& fault : report->faults) {
      ADD_FAILURE() << fault.file << " octet " << fault.at << ": " << fault.text;
    }
    for (const SegmentSummary& segment : report->segments) rewritten |= segment.info.rewritten;
    ++looks;
  }
  writer.join();
  store.close();
  EXPECT_TRUE(rewritten);
  EXPECT_GT(looks, 3);
}

}  // namespace
}  // namespace polylog::storage
