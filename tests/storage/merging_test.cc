// Merging of rewritten segments: however much passes through, what stays lies in few files, under
// the same offsets and places, whatever crash or damage comes in between.
#include <gmock/gmock.h>

#include <map>
#include <tuple>

#include "storage/journal_reader.h"
#include "tests/storage/store_harness.h"

namespace polylog::storage {
namespace {

using ::testing::ElementsAre;

/// Partition 1 is large and dies; of partition 2 one small record in each segment or so stays.
class MergingTest : public StoreTest {
 protected:
  MergingTest() { options_.segmentBytes = 64 << 10; }

  static std::string small(int number) { return "small " + std::to_string(number); }

  void moveLogStart(uint64_t partition, Offset offset) {
    AppendRequest request;
    request.state.push_back(logStartMoved(PartitionId(partition), offset));
    ASSERT_TRUE(store_->append(std::move(request)));
    store_->runOnce();
  }
  void begin() {
    open();
    for (uint64_t id : {1U, 2U, 3U}) ASSERT_TRUE(make(id));
  }
  /// As many segments as `rounds`, of which the dead are dead.
  void fill(int rounds) {
    for (int i = 0; i < rounds; ++i) {
      for (int j = 0; j < 40; ++j) ASSERT_TRUE(put(1, {std::string(2000, '.')}));
      std::string value = small(static_cast<int>(expected_.size()));
      ASSERT_TRUE(put(2, {value}));
      expected_.push_back(value);
    }
    moveLogStart(1, ends(1).end - 1);
  }
  std::vector<std::string> rewrittenFiles() {
    std::vector<std::string> files;
    auto journal = disk_->root()->subdirectory("journal");
    std::vector<std::string> names = (*journal)->list().value();
    for (const std::string& name : names) {
      if (name.ends_with(".segment") && name.find('-') != std::string::npos) files.push_back(name);
    }
    return files;
  }
  void expectSound() {
    auto journal = disk_->root()->subdirectory("journal");
    JournalReadOptions options;
    options.verify = options.liveness = true;
    auto report = readJournal(**journal, options);
    ASSERT_TRUE(report) << report.error().text;
    for (const auto& fault : report->faults) ADD_FAILURE() << fault.file << ": " << fault.text;
  }

  std::vector<std::string> expected_;
};

TEST_F(MergingTest, WhatLittleStaysOfManySegmentsLiesInFew) {
  begin();
  for (int i = 0; i < 10; ++i) {
    fill(20);
    ASSERT_TRUE(store_->runRetention());
  }
  // 250 segments or so had something in them that stays.
  EXPECT_LE(rewrittenFiles().size(), 20U);
  EXPECT_EQ(contents(2), expected_);
  for (int from : {1, 7, 8, 9, 64, 65, 199}) {
    EXPECT_EQ(contents(2, from), std::vector(expected_.begin() + from, expected_.end()));
  }
  expectSound();
  reopen();
  EXPECT_EQ(store_->recovery().notes.size(), 0U);
  EXPECT_EQ(contents(2), expected_);
  // What was merged is merged again, and goes when its last record does.
  fill(40);
  ASSERT_TRUE(store_->runRetention());
  EXPECT_EQ(contents(2), expected_);
  moveLogStart(2, Offset(static_cast<int64_t>(expected_.size()) - 1));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(store_->runRetention());
  EXPECT_LE(rewrittenFiles().size(), 1U);
  expectSound();
}

TEST_F(MergingTest, KeepsPlacesLinksAndHoles) {
  begin();
  auto first = put(1, {"linked"});
  ASSERT_TRUE(put(1, {"two", "more"}));
  fill(6);
  AppendRequest link;  // becomes one within the merged segment
  link.links.push_back({first->batches[0], {to(3)}});
  ASSERT_TRUE(store_->append(std::move(link)));
  store_->runOnce();
  fill(14);
  AppendRequest later;  // leads into it from behind
  later.links.push_back({first->batches[0], {to(3)}});
  size_t behind = 20;
  ASSERT_TRUE(store_->runRetention());
  ASSERT_TRUE(store_->append(std::move(later)));
  store_->runOnce();
  for (int i = 0; i < 3; ++i) {
    fill(10);
    ASSERT_TRUE(store_->runRetention());
  }
  EXPECT_LE(rewrittenFiles().size(), behind);
  EXPECT_THAT(contents(3), ElementsAre("linked", "linked"));
  EXPECT_TRUE(store_->readAt(first->batches[0]));
  expectSound();
  crash();
  open();
  EXPECT_THAT(contents(3), ElementsAre("linked", "linked"));
  EXPECT_EQ(contents(2), expected_);
  // The last link keeps the batch, and goes with it.
  moveLogStart(3, Offset(1));
  for (int i = 0; i < 2; ++i) {
    fill(10);
    ASSERT_TRUE(store_->runRetention());
  }
  EXPECT_THAT(contents(3, 1), ElementsAre("linked"));
  EXPECT_EQ(contents(2), expected_);
}

TEST_F(MergingTest, ALaterLinkIntoAMergedSegmentWorks) {
  begin();
  auto kept = put(2, {"first"});
  expected_.emplace_back("first");
  fill(30);
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(store_->runRetention());
  AppendRequest link;
  link.links.push_back({kept->batches[0], {to(3)}});
  ASSERT_TRUE(store_->append(std::move(link)));
  store_->runOnce();
  EXPECT_THAT(contents(3), ElementsAre("first"));
  EXPECT_EQ(contents(2), expected_);
}

/// Records of checkpoints name the segments from before: at every boundary the power fails once.
TEST_F(MergingTest, SurvivesAPowerFailureAtAnyStep) {
  begin();
  auto first = put(1, {"linked"});
  fill(3);
  AppendRequest link;
  link.links.push_back({first->batches[0], {to(3)}});
  ASSERT_TRUE(store_->append(std::move(link)));
  fill(9);
  std::vector<std::unique_ptr<test::FaultyDisk>> images;
  size_t most = 0;
  disk_->onBoundary([&](uint64_t, const test::DiskCall& call) {
    if (call.path.starts_with("journal")) images.push_back(disk_->clone());
    most = std::max(most, rewrittenFiles().size());
  });
  ASSERT_TRUE(store_->runRetention());
  disk_->onBoundary(nullptr);
  ASSERT_GE(most, 8U);
  ASSERT_LT(rewrittenFiles().size(), 8U) << "nothing was merged";
  store_ = nullptr;
  size_t turn = 0;
  for (const auto& image : images) {
    test::PowerFailure failure = test::kAllPowerFailures[turn++ % test::kAllPowerFailures.size()];
    SCOPED_TRACE(test::describe(failure));
    disk_ = image->afterPowerFailure(failure, random_);
    open();
    ASSERT_EQ(store_->recovery().damagedEntries, 0U);
    ASSERT_EQ(contents(2), expected_);
    ASSERT_THAT(contents(3), ElementsAre("linked"));
    size_t known = rewrittenFiles().size();
    ASSERT_TRUE(store_->runRetention());
    ASSERT_LE(rewrittenFiles().size(), std::max<size_t>(known, 13));
    ASSERT_EQ(contents(2), expected_);
    ASSERT_THAT(contents(3), ElementsAre("linked"));
    expectSound();
    store_ = nullptr;
  }
}

/// Records of one segment expire together: merging must not keep them for much longer.
TEST_F(MergingTest, WhatExpiresIsMergedOverAShareOfItsTimeOnly) {
  open();
  ASSERT_TRUE(make(1));
  ASSERT_TRUE(make(2, {80'000, -1}));
  constexpr int kSegments = 60;  // one a second
  int64_t begun = clock_.wallMillis();
  for (int i = 0; i < kSegments; ++i) {
    clock_.advance(1'000'000);
    ASSERT_TRUE(put(2, {small(i)}, clock_.wallMillis()));
    for (int j = 0; j < 31; ++j) ASSERT_TRUE(put(1, {std::string(2000, '.')}));
    if (i % 20 != 19) continue;
    moveLogStart(1, ends(1).end - 1);
    ASSERT_TRUE(store_->runRetention());
  }
  size_t files = rewrittenFiles().size();
  EXPECT_GE(files, 6U);
  EXPECT_LE(files, 20U);
  EXPECT_EQ(contents(2).size(), 60U);
  for (int waited = 0; waited < 60; waited += 20) {
    clock_.advance(20'000'000);
    ASSERT_TRUE(store_->runRetention());
    auto expired = std::max<int64_t>(0, clock_.wallMillis() - 80'000 - begun);
    EXPECT_LE(ends(2).logStart.value() * 1000, expired);
    EXPECT_GE(ends(2).logStart.value() * 1000, expired - 12'000);
  }
}

TEST_F(MergingTest, AFooterThatIsDamagedIsReadFromTheEntries) {
  begin();
  fill(12);
  ASSERT_TRUE(store_->runRetention());
  ASSERT_EQ(rewrittenFiles().size(), 1U);
  store_->close();
  store_ = nullptr;
  std::string name = "journal/" + rewrittenFiles()[0];
  uint64_t size = disk_->contentOf(name)->size();
  auto intact = disk_->clone();
  size_t lost = 0;
  for (uint64_t at = 0; at < size; at += 3) {
    disk_ = intact->clone();
    ASSERT_TRUE(disk_->flipBit(name, at, static_cast<unsigned>(at % 8)));
    open();
    std::vector<std::string> read = contents(2);
    // An entry may be damaged, as all of them are small that is all there is; never another served.
    for (size_t i = 0; i < read.size(); ++i) {
      if (read[i] == "corrupt") break;
      ASSERT_EQ(read[i], expected_[i]) << at;
    }
    lost += read == expected_ ? 0 : 1;
    store_->close();
    store_ = nullptr;
  }
  EXPECT_LT(lost, size / 3);
}

TEST_F(MergingTest, AFullDiskLeavesEverythingAsItWas) {
  begin();
  fill(12);
  ASSERT_TRUE(store_->checkpoint());
  ASSERT_TRUE(store_->checkpoint());
  for (uint64_t nth = 0; nth < 60; ++nth) {
    disk_->failWrite(nth, ErrorKind::kNoSpace, 100, "-");
    (void)store_->runRetention();
    disk_->clearFaults();
    ASSERT_EQ(contents(2), expected_);
    ASSERT_FALSE(fatal_);
  }
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(store_->runRetention());
  EXPECT_LT(rewrittenFiles().size(), 8U);
  EXPECT_EQ(contents(2), expected_);
}

class UsedUp final : public Liveness {
 public:
  std::vector<OffsetRange> usedUp(PartitionId partition) const override {
    auto found = used.find(partition.value());
    return found == used.end() ? std::vector<OffsetRange>() : found->second;
  }
  Position routedUpTo() const override { return Position(UINT64_MAX); }

  std::map<uint64_t, std::vector<OffsetRange>> used;
};

/// Partition 1 is large and dies, 2 to 6 are small, 7 has links to what was in those; now and then
/// the power fails. `alive`: what must be there.
class MergingHistoryTest : public MergingTest {
 protected:
  MergingHistoryTest() { options_.segmentBytes = 16 << 10; }

  struct Log {
    std::map<int64_t, std::string> alive;
    int64_t end = 0;
  };

  void start() {
    open();
    store_->setLiveness(&liveness_);
  }
  uint64_t dice(uint64_t sides) { return random_.next() % sides; }
  void step(int number) {
    for (int i = 0; i < 6; ++i) ASSERT_TRUE(put(1, {std::string(1500, '.')}));
    uint64_t id = 2 + dice(5);
    std::string value = std::to_string(number) + std::string(dice(90), 'v');
    auto appended = put(id, {value});
    ASSERT_TRUE(appended);
    Log& log = logs_[id];
    log.alive[log.end++] = value;
    places_.push_back({appended->batches[0], id, log.end - 1});
    switch (dice(12)) {
      case 0: link(); break;
      case 1: moveStart(id); break;
      case 2: useUp(id); break;
      case 3:
        moveLogStart(1, ends(1).end - 1);
        ASSERT_TRUE(store_->runRetention());
        break;
      default: break;
    }
  }
  /// To any that its own partition still has.
  void link() {
    auto [place, id, offset] = places_[dice(places_.size())];
    auto found = logs_[id].alive.find(offset);
    if (found == logs_[id].alive.end()) return;
    AppendRequest request;
    request.links.push_back({place, {to(7)}});
    ASSERT_TRUE(store_->append(std::move(request)));
    store_->runOnce();
    Log& links = logs_[7];
    links.alive[links.end++] = found->second;
  }
  void moveStart(uint64_t id) {
    id = dice(3) == 0 ? 7 : id;
    Log& log = logs_[id];
    auto start = ends(id).logStart.value();
    if (log.end - start < 2) return;
    start += static_cast<int64_t>(dice(static_cast<uint64_t>(log.end - start - 1)));
    moveLogStart(id, Offset(start));
    log.alive.erase(log.alive.begin(), log.alive.lower_bound(start));
  }
  void useUp(uint64_t id) {
    Log& log = logs_[id];
    auto& used = liveness_.used[id];
    int64_t from = used.empty() ? 0 : used.back().second.value() + 1;
    if (log.end - from < 3) return;
    from += static_cast<int64_t>(dice(2));
    int64_t end = log.end - 1;
    used.emplace_back(Offset(from), Offset(end));
    log.alive.erase(log.alive.lower_bound(from), log.alive.lower_bound(end));
  }
  void check() {
    for (auto& [id, log] : logs_) {
      ASSERT_EQ(ends(id).end.value(), log.end) << id;
      std::map<int64_t, std::string> found;
      for (Offset next = ends(id).logStart; next.value() < log.end;) {
        auto read = store_->read(PartitionId(id), next, 3000);
        ASSERT_TRUE(read) << id << ": " << read.error().text;
        ASSERT_FALSE(read->empty());
        for (const ReadBatch& batch : *read) {
          found[batch.baseOffset.value()] = valuesOf(batch)[0];
          next = batch.baseOffset + batch.count;
        }
      }
      for (const auto& [offset, value] : log.alive) ASSERT_EQ(found[offset], value) << id;
    }
    expectSound();
  }

  UsedUp liveness_;
  std::map<uint64_t, Log> logs_;
  std::vector<std::tuple<BatchPlace, uint64_t, int64_t>> places_;
};

TEST_F(MergingHistoryTest, NothingAliveIsLost) {
  size_t most = 0;
  for (uint64_t seed = 1; seed <= 8 && !HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    random_ = test::SeededRandom(seed);
    store_ = nullptr;
    disk_ = std::make_unique<test::FaultyDisk>();
    liveness_.used.clear();
    logs_.clear();
    places_.clear();
    start();
    for (uint64_t id = 1; id <= 7; ++id) ASSERT_TRUE(make(id));
    for (int i = 0; i < 400 && !HasFailure(); ++i) {
      step(i);
      if (dice(60) == 0) {
        crash(test::kAllPowerFailures[dice(test::kAllPowerFailures.size())]);
        start();
      }
      if (i % 20 == 19) check();
    }
    most = std::max(most, rewrittenFiles().size());
    store_->close();
  }
  EXPECT_LT(most, 50U);  // of 250 segments, in each of which something may stay
}

/// What stood in it besides messages is in the checkpoints alone.
TEST_F(MergingTest, WithoutAnyCheckpointARewrittenJournalIsRefused) {
  begin();
  for (int i = 0; i < 400; ++i) ASSERT_TRUE(put(i % 10 == 0 ? 2 : 1, {std::string(2000, '.')}));
  moveLogStart(1, ends(1).end - 1);
  ASSERT_TRUE(store_->runRetention());
  ASSERT_FALSE(rewrittenFiles().empty());
  store_->close();
  store_ = nullptr;
  auto state = disk_->root()->subdirectory("state");
  std::vector<std::string> names = (*state)->list().value();
  for (const std::string& name : names) ASSERT_TRUE((*state)->remove(name));
  auto opened = tryOpen();
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().kind, ErrorKind::kCorrupt);
}

}  // namespace
}  // namespace polylog::storage
