// Rewriting of segments: what is alive stays readable under the same offsets and places, what isn't
// gives its space back, whatever crash or damage comes in between.
#include <gmock/gmock.h>

#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "tests/storage/store_harness.h"

namespace polylog::storage {
namespace {

using ::testing::ElementsAre;

class FakeLiveness final : public Liveness {
 public:
  std::vector<OffsetRange> usedUp(PartitionId partition) const override {
    auto found = used.find(partition);
    return found == used.end() ? std::vector<OffsetRange>() : found->second;
  }
  Position routedUpTo() const override { return routed; }

  std::map<PartitionId, std::vector<OffsetRange>> used;
  Position routed{UINT64_MAX};
};

/// Segments of 64 KiB. Partition 1 is large and dies; the others are small and live.
class RewritingTest : public StoreTest {
 protected:
  RewritingTest() { options_.segmentBytes = 64 << 10; }

  static std::string large(int number) { return std::to_string(number) + std::string(2000, '.'); }
  static std::string small(int number) { return "small " + std::to_string(number); }

  /// `rounds` of one small record among nine large ones; what of partition 2 is expected.
  void fill(int rounds) {
    for (int i = 0; i < rounds; ++i) {
      for (int j = 0; j < 9; ++j) ASSERT_TRUE(put(1, {large(next_++)}));
      ASSERT_TRUE(put(2, {small(i)}));
      expected_.push_back(small(i));
    }
  }
  void moveLogStart(uint64_t partition, Offset offset) {
    AppendRequest request;
    request.state.push_back(logStartMoved(PartitionId(partition), offset));
    ASSERT_TRUE(store_->append(std::move(request)));
    store_->runOnce();
  }
  std::vector<std::string> journalFiles() {
    std::vector<std::string> files;
    auto journal = disk_->root()->subdirectory("journal");
    std::vector<std::string> names = (*journal)->list().value();
    for (const std::string& name : names) {
      if (name.ends_with(".segment")) files.push_back(name);
    }
    std::sort(files.begin(), files.end());
    return files;
  }
  uint64_t journalBytes() {
    uint64_t bytes = 0;
    for (const std::string& name : journalFiles()) {
      bytes += disk_->contentOf("journal/" + name)->size();
    }
    return bytes;
  }
  std::string firstRewritten() {
    for (const std::string& name : journalFiles()) {
      if (name.find('-') != std::string::npos) return "journal/" + name;
    }
    return {};
  }

  int next_ = 0;
  std::vector<std::string> expected_;
};

TEST_F(RewritingTest, GivesTheSpaceOfTheDeadBackAndKeepsTheRest) {
  open();
  ASSERT_TRUE(make(1));
  ASSERT_TRUE(make(2));
  fill(60);
  uint64_t before = journalBytes();
  moveLogStart(1, Offset(next_ - 1));
  ASSERT_TRUE(store_->runRetention());
  EXPECT_FALSE(firstRewritten().empty());
  EXPECT_LT(journalBytes(), before / 4);
  EXPECT_EQ(contents(2), expected_);
  EXPECT_EQ(contents(1, next_ - 1), std::vector{large(next_ - 1)});
  for (int from : {1, 17, 59}) {
    EXPECT_EQ(contents(2, from), std::vector(expected_.begin() + from, expected_.end()));
  }
  reopen();
  EXPECT_EQ(contents(2), expected_);
  EXPECT_EQ(ends(2).end, Offset(60));
  EXPECT_EQ(store_->recovery().notes.size(), 0U);
  fill(1);
  EXPECT_EQ(contents(2), expected_);
}

TEST_F(RewritingTest, SurvivesACrashBeforeTheNextCheckpoint) {
  for (test::PowerFailure failure :
       {test::PowerFailure::kLoseUnsynced, test::PowerFailure::kKeepAll,
        test::PowerFailure::kDataWithoutNames, test::PowerFailure::kNamesWithoutData}) {
    SCOPED_TRACE(test::describe(failure));
    next_ = 0;
    expected_.clear();
    store_ = nullptr;
    disk_ = std::make_unique<test::FaultyDisk>();
    open();
    ASSERT_TRUE(make(1));
    ASSERT_TRUE(make(2));
    fill(60);
    moveLogStart(1, Offset(next_ - 1));
    ASSERT_TRUE(store_->runRetention());
    crash(failure);
    open();
    EXPECT_FALSE(firstRewritten().empty());
    EXPECT_EQ(contents(2), expected_);
    EXPECT_EQ(contents(1, next_ - 1), std::vector{large(next_ - 1)});
    // Again, from places that the view does not know yet.
    ASSERT_TRUE(store_->runRetention());
    EXPECT_EQ(contents(2), expected_);
  }
}

/// At every boundary of a rewriting the power fails once.
TEST_F(RewritingTest, SurvivesAPowerFailureAtAnyStep) {
  open();
  ASSERT_TRUE(make(1));
  ASSERT_TRUE(make(2));
  fill(30);
  moveLogStart(1, Offset(next_ - 1));
  std::vector<std::unique_ptr<test::FaultyDisk>> images;
  disk_->onBoundary([&](uint64_t, const test::DiskCall& call) {
    if (call.path.starts_with("journal")) images.push_back(disk_->clone());
  });
  ASSERT_TRUE(store_->runRetention());
  disk_->onBoundary(nullptr);
  ASSERT_FALSE(firstRewritten().empty());
  ASSERT_GT(images.size(), 20U);
  store_ = nullptr;
  size_t turn = 0;
  for (const auto& image : images) {
    test::PowerFailure failure = test::kAllPowerFailures[turn++ % test::kAllPowerFailures.size()];
    SCOPED_TRACE(test::describe(failure));
    disk_ = image->afterPowerFailure(failure, random_);
    open();
    ASSERT_EQ(contents(2), expected_);
    ASSERT_EQ(contents(1, next_ - 1), std::vector{large(next_ - 1)});
    std::set<std::string> ids;
    for (const std::string& name : journalFiles()) {
      EXPECT_TRUE(ids.insert(name.substr(0, 20)).second) << "a segment and its copy: " << name;
    }
    ASSERT_TRUE(store_->runRetention());
    ASSERT_EQ(contents(2), expected_);
    store_ = nullptr;
  }
}

TEST_F(RewritingTest, SpaceOfUsedUpRecordsComesBackBehindOneThatIsAlive) {
  FakeLiveness liveness;
  open();
  store_->setLiveness(&liveness);
  ASSERT_TRUE(make(1));
  for (int i = 0; i < 2000; ++i) ASSERT_TRUE(put(1, {large(i)}));
  uint64_t before = journalBytes();
  liveness.used[PartitionId(1)] = {{Offset(1), Offset(900)}, {Offset(901), Offset(1990)}};
  ASSERT_TRUE(store_->runRetention());
  EXPECT_LT(journalBytes(), before / 10);
  EXPECT_EQ(valuesOf(store_->read(PartitionId(1), Offset(0), 1)->at(0)), std::vector{large(0)});
  auto read = store_->read(PartitionId(1), Offset(1), 1);
  ASSERT_TRUE(read) << read.error().text;
  EXPECT_EQ(read->at(0).baseOffset, Offset(900));
  read = store_->read(PartitionId(1), Offset(901), 1);
  ASSERT_TRUE(read) << read.error().text;
  EXPECT_LE(read->at(0).baseOffset, Offset(1990));  // of the active segment all is there
  EXPECT_EQ(contents(1, 1990).size(), 10U);
  reopen();
  store_->setLiveness(&liveness);
  read = store_->read(PartitionId(1), Offset(1), 1);
  ASSERT_TRUE(read) << read.error().text;
  EXPECT_EQ(read->at(0).baseOffset, Offset(900));
  EXPECT_EQ(store_->offsetAt(PartitionId(1), 1000)->value(), Offset(0));
  store_->close();
}

TEST_F(RewritingTest, WhatIsUsedUpBelowTheLogStartCountsOnce) {
  FakeLiveness liveness;
  open();
  store_->setLiveness(&liveness);
  for (uint64_t id : {1U, 2U, 3U}) ASSERT_TRUE(make(id));
  ASSERT_TRUE(put(3, {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}));
  fill(60);
  ASSERT_TRUE(put(3, {"k"}));
  moveLogStart(1, Offset(next_ - 1));
  liveness.used[PartitionId(3)] = {{Offset(0), Offset(5)}};
  moveLogStart(3, Offset(5));
  ASSERT_TRUE(store_->runRetention());
  ASSERT_FALSE(firstRewritten().empty());
  EXPECT_THAT(contents(3, 5), ElementsAre("f", "g", "h", "i", "j", "k"));
  store_->close();
}

TEST_F(RewritingTest, NothingThatIsStillToBeRoutedIsTouched) {
  FakeLiveness liveness;
  liveness.routed = Position(0);
  open();
  store_->setLiveness(&liveness);
  ASSERT_TRUE(make(1));
  ASSERT_TRUE(make(2));
  fill(30);
  moveLogStart(1, Offset(next_ - 1));
  ASSERT_TRUE(store_->runRetention());
  EXPECT_TRUE(firstRewritten().empty());
  liveness.routed = store_->durableEnd();
  ASSERT_TRUE(store_->runRetention());
  EXPECT_FALSE(firstRewritten().empty());
  store_->close();
}

TEST_F(RewritingTest, KeepsWhatLaterSegmentsLinkTo) {
  open();
  for (uint64_t id : {1U, 2U, 3U}) ASSERT_TRUE(make(id));
  auto linked = put(1, {"linked"});
  auto dead = put(1, {"dead"});
  next_ = 2;
  fill(10);
  AppendRequest link;
  link.links.push_back({linked->batches[0], {to(3)}});
  ASSERT_TRUE(store_->append(std::move(link)));
  fill(20);
  expected_.clear();
  for (int from : {10, 20}) {
    for (int i = 0; i < from; ++i) expected_.push_back(small(i));
  }
  moveLogStart(1, Offset(next_ - 1));
  ASSERT_TRUE(store_->runRetention());
  ASSERT_FALSE(firstRewritten().empty());
  EXPECT_THAT(contents(3), ElementsAre("linked"));
  EXPECT_TRUE(store_->readAt(linked->batches[0]));
  // What nobody had is gone, and nothing can come to rely on it again.
  EXPECT_FALSE(store_->readAt(dead->batches[0]));
  AppendRequest late;
  late.links.push_back({dead->batches[0], {to(3)}});
  EXPECT_EQ(store_->append(std::move(late)).error().kind, ErrorKind::kNotFound);
  // A second one of what is still there works, and holds through the next rewriting.
  AppendRequest second;
  second.links.push_back({linked->batches[0], {to(2)}});
  ASSERT_TRUE(store_->append(std::move(second)));
  store_->runOnce();
  expected_.emplace_back("linked");
  moveLogStart(3, Offset(1));
  fill(30);
  for (int i = 0; i < 2; ++i) {
    expected_.resize(31);
    for (int j = 0; j < 30; ++j) expected_.push_back(small(j));
    moveLogStart(1, Offset(next_ - 1));
    ASSERT_TRUE(store_->runRetention());
    EXPECT_EQ(contents(2), expected_);
    reopen();
  }
}

/// What is linked to is kept, or the link is refused: also between the look and the removal.
TEST_F(RewritingTest, ALinkIntoASegmentThatIsJustGoingIsRefused) {
  open();
  for (uint64_t id : {1U, 3U}) ASSERT_TRUE(make(id));
  auto first = put(1, {large(next_++)});
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(put(1, {large(next_++)}));
  moveLogStart(1, Offset(next_ - 1));
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(store_->append({}));
    ASSERT_TRUE(store_->checkpoint());
  }
  std::atomic<bool> done{false};
  Result<Appended> linked = fail(ErrorKind::kInvalid, "not tried");
  std::thread late;
  disk_->onBoundary([&](uint64_t, const test::DiskCall& call) {
    if (late.joinable() || !call.path.ends_with("MANIFEST.tmp")) return;
    late = std::thread([&] {
      AppendRequest link;
      link.links.push_back({first->batches[0], {to(3)}});
      linked = store_->append(std::move(link));
      done = true;
    });
    // It comes through at once, or waits for what is going on here.
    for (int i = 0; i < 100 && !done; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  EXPECT_GT(store_->runRetention().value(), 0U);
  ASSERT_TRUE(late.joinable());
  late.join();
  disk_->onBoundary(nullptr);
  store_->runOnce();
  EXPECT_EQ(contents(3), linked ? std::vector{large(0)} : std::vector<std::string>());
}

TEST_F(RewritingTest, DeletesASegmentOfWhichOnlyADeadLinkWasLeft) {
  open();
  for (uint64_t id : {1U, 2U}) ASSERT_TRUE(make(id));
  auto first = put(1, {large(next_++)});
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(put(1, {large(next_++)}));
  AppendRequest link;
  link.links.push_back({first->batches[0], {to(2)}});
  ASSERT_TRUE(store_->append(std::move(link)));
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(put(1, {large(next_++)}));
  moveLogStart(1, Offset(next_ - 1));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(store_->runRetention());
  EXPECT_THAT(contents(2), ElementsAre(large(0)));
  // All between the linked batch's segment and the link's have gone although the link is older.
  EXPECT_LE(segmentFiles(), 4U);
}

TEST_F(RewritingTest, AFooterThatIsDamagedIsReadFromTheEntries) {
  open();
  ASSERT_TRUE(make(1));
  ASSERT_TRUE(make(2));
  fill(60);
  moveLogStart(1, Offset(next_ - 1));
  ASSERT_TRUE(store_->runRetention());
  store_->close();
  store_ = nullptr;
  std::string name = firstRewritten();
  ASSERT_FALSE(name.empty());
  uint64_t size = disk_->contentOf(name)->size();
  auto intact = disk_->clone();
  // Every octet of the footer, trailer and map included, and of the entries before.
  for (uint64_t at = 0; at < size; at += at > size - 300 ? 1 : 19) {
    disk_ = intact->clone();
    ASSERT_TRUE(disk_->flipBit(name, at, static_cast<unsigned>(at % 8)));
    open();
    std::vector<std::string> read = contents(2);
    // One batch may be damaged, never another one served in its place.
    for (size_t i = 0; i < read.size() && read != expected_; ++i) {
      if (read[i] == expected_[i]) continue;
      ASSERT_EQ(read[i], "corrupt") << at;
      auto next = static_cast<int64_t>(i) + 1;
      std::vector<std::string> rest = contents(2, next);
      ASSERT_TRUE(std::equal(rest.begin(), rest.end(), expected_.begin() + next, expected_.end()))
          << at;
      break;
    }
    store_->close();
    store_ = nullptr;
  }
}

TEST_F(RewritingTest, AFullDiskLeavesEverythingAsItWas) {
  open();
  ASSERT_TRUE(make(1));
  ASSERT_TRUE(make(2));
  fill(60);
  moveLogStart(1, Offset(next_ - 1));
  ASSERT_TRUE(store_->checkpoint());
  ASSERT_TRUE(store_->checkpoint());
  for (uint64_t nth : {0U, 1U, 2U, 3U}) {
    disk_->failWrite(nth, ErrorKind::kNoSpace, 100, "-");
    (void)store_->runRetention();
    disk_->clearFaults();
    EXPECT_EQ(contents(2), expected_);
    EXPECT_FALSE(fatal_);
  }
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(store_->runRetention());
  EXPECT_FALSE(firstRewritten().empty());
  EXPECT_EQ(contents(2), expected_);
}

TEST(RewritingThreadsTest, ReadersAndWritersAreUndisturbed) {
  test::FaultyDisk disk;
  test::SeededRandom random(3);
  LogStoreOptions options;
  options.segmentBytes = 64 << 10;
  options.checkpointBytes = 128 << 10;
  options.cacheBytes = 64 << 10;
  options.retentionCheckMillis = 1;
  auto opened = openLogStore(disk.root(), options, systemClock(), random, [](const Error&) {});
  ASSERT_TRUE(opened) << opened.error().text;
  LogStore& store = **opened;
  AppendRequest made;
  made.state.push_back(partitionConfigured(PartitionId(1), {-1, 20'000}));
  made.state.push_back(partitionConfigured(PartitionId(2), {}));
  ASSERT_TRUE(store.append(std::move(made)));
  constexpr int kEach = 1500;
  std::atomic<bool> over{false};
  std::thread writer([&] {
    for (int i = 0; i < kEach; ++i) {
      AppendRequest one;
      one.messages.push_back({makeBatch({std::string(3000, 'x')}), {{PartitionId(1)}}});
      one.messages.push_back({makeBatch({std::to_string(i)}), {{PartitionId(2)}}});
      auto appended = store.append(std::move(one));
      EXPECT_TRUE(appended);
      if (i % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    over = true;
  });
  std::vector<std::thread> readers;
  for (int number = 0; number < 2; ++number) {
    readers.emplace_back([&] {
      bool last = false;
      while (!last) {
        last = over.load();
        int64_t next = 0;
        while (true) {
          auto read = store.read(PartitionId(2), Offset(next), 2000);
          ASSERT_TRUE(read) << read.error().text;
          if (read->empty()) break;
          for (const ReadBatch& batch : *read) {
            ASSERT_EQ(batch.baseOffset, Offset(next));
            ASSERT_EQ(valuesOf(batch)[0], std::to_string(next));
            ++next;
          }
        }
      }
    });
  }
  writer.join();
  for (std::thread& reader : readers) reader.join();
  store.close();
  bool rewritten = false;
  auto journal = disk.root()->subdirectory("journal");
  std::vector<std::string> names = (*journal)->list().value();
  for (const std::string& name : names) rewritten |= name.find('-') != std::string::npos;
  EXPECT_TRUE(rewritten);
}

}  // namespace
}  // namespace polylog::storage
