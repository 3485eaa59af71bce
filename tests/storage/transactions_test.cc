// Transactions as partitions know them: the last stable offset, what was aborted, and both after a
// restart, a failed write or a power failure at any boundary.
#include <gmock/gmock.h>

#include <map>
#include <mutex>
#include <set>

#include "core/base/crc32c.h"
#include "tests/storage/store_harness.h"

namespace polylog::storage {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

/// A batch of a producer, with the transactional bit.
SharedBytes transactionalBatch(const std::vector<std::string>& values, ProducerAt producer,
                               int64_t timestampMs = 1000) {
  std::string batch(makeBatch(values, timestampMs, producer).view());
  batch[22] = static_cast<char>(batch[22] | 16);
  uint32_t crc = crc32c(BytesView(batch).substr(21));
  for (size_t i = 0; i < 4; ++i) batch[17 + i] = static_cast<char>(crc >> (24 - 8 * i));
  return SharedBytes::own(std::move(batch));
}

class TransactionsTest : public StoreTest {
 protected:
  AppendRequest records(uint64_t partition, ProducerAt producer,
                        const std::vector<std::string>& values = {"v"}) {
    AppendRequest made = request(transactionalBatch(values, producer), {to(partition)});
    made.messages[0].checkProducer = true;
    return made;
  }
  static AppendRequest marker(int64_t producer, EndMarker end, std::vector<Target> targets) {
    AppendRequest made;
    made.messages.push_back({SharedBytes::own(endMarkerBatch(end, {producer, 0}, 1000)),
                             std::move(targets), false, false});
    return made;
  }
  void write(AppendRequest made) {
    auto appended = store_->append(std::move(made));
    ASSERT_TRUE(appended) << appended.error().text;
    store_->runOnce();
  }
  int64_t stable(uint64_t partition) { return ends(partition).lastStable.value(); }
  std::vector<AbortedTransaction> aborted(uint64_t partition, int64_t from = 0,
                                          int64_t to = INT64_MAX) {
    return store_->stability(PartitionId(partition), Offset(from), Offset(to))->aborted;
  }
};

TEST_F(TransactionsTest, AnOpenTransactionHoldsTheLastStableOffsetDown) {
  open();
  ASSERT_TRUE(make(1));
  ASSERT_TRUE(put(1, {"plain"}));
  EXPECT_EQ(stable(1), 1);
  write(records(1, {7, 0, 0}, {"a", "b"}));
  ASSERT_TRUE(put(1, {"plain too"}));
  write(records(1, {8, 0, 0}));
  EXPECT_EQ(stable(1), 1);
  EXPECT_EQ(ends(1).highWatermark.value(), 5);
  EXPECT_EQ(store_->transactionStart(PartitionId(1), ProducerId(7))->value().value(), 1);
  // Sequenced is not visible: until then it could be taken back.
  ASSERT_TRUE(store_->append(marker(7, EndMarker::kCommit, {to(1)})));
  EXPECT_EQ(stable(1), 1);
  EXPECT_FALSE(store_->transactionStart(PartitionId(1), ProducerId(7))->has_value());
  store_->runOnce();
  EXPECT_EQ(stable(1), 4) << "the other one is open still";
  write(marker(8, EndMarker::kAbort, {to(1)}));
  EXPECT_EQ(stable(1), 7);
  EXPECT_THAT(aborted(1), ElementsAre(AbortedTransaction{8, Offset(4), Offset(6)}));
  EXPECT_THAT(aborted(1, 0, 4), IsEmpty());
  EXPECT_THAT(aborted(1, 6), SizeIs(1)) << "its marker has to be met";
  EXPECT_THAT(aborted(1, 7), IsEmpty());
}

TEST_F(TransactionsTest, OneEntryEndsItInAllPartitions) {
  open();
  ASSERT_TRUE(make(1));
  ASSERT_TRUE(make(2));
  write(records(1, {7, 0, 0}));
  write(records(2, {7, 0, 0}));
  write(marker(7, EndMarker::kAbort, {to(1), to(2)}));
  EXPECT_EQ(stable(1), 2);
  EXPECT_EQ(stable(2), 2);
  EXPECT_THAT(aborted(1), SizeIs(1));
  EXPECT_THAT(aborted(2), SizeIs(1));
}

TEST_F(TransactionsTest, SurvivesRestartsWithAndWithoutACheckpoint) {
  open();
  ASSERT_TRUE(make(1));
  write(records(1, {7, 0, 0}));
  write(marker(7, EndMarker::kAbort, {to(1)}));
  write(records(1, {7, 0, 1}));
  write(records(1, {9, 3, 0}));
  auto check = [&](const char* when) {
    EXPECT_EQ(stable(1), 2) << when;
    EXPECT_THAT(aborted(1), ElementsAre(AbortedTransaction{7, Offset(0), Offset(1)})) << when;
    auto opened = store_->openTransactions();
    ASSERT_THAT(opened, SizeIs(2)) << when;
    EXPECT_EQ(opened[1].producer, (ProducerIdentity{9, 3})) << when;
    EXPECT_EQ(opened[1].first, Offset(3)) << when;
  };
  crash();
  open();
  check("from the journal");
  reopen();
  check("from the checkpoint");
  // What the checkpoint knows is met again: the floor is behind it.
  write(marker(7, EndMarker::kAbort, {to(1)}));
  ASSERT_TRUE(store_->checkpoint());
  write(records(1, {7, 0, 2}));
  crash();
  open();
  EXPECT_EQ(stable(1), 3);
  EXPECT_THAT(aborted(1), ElementsAre(AbortedTransaction{7, Offset(0), Offset(1)},
                                      AbortedTransaction{7, Offset(2), Offset(4)}));
  write(marker(9, EndMarker::kCommit, {to(1)}));
  EXPECT_EQ(stable(1), 5);
  write(marker(7, EndMarker::kCommit, {to(1)}));
  EXPECT_EQ(stable(1), 8);
  crash();
  open();
  EXPECT_EQ(stable(1), 8);
  EXPECT_THAT(aborted(1), SizeIs(2));
}

TEST_F(TransactionsTest, AFailedWriteTakesBackWhatItHeld) {
  open();
  ASSERT_TRUE(make(1));
  write(records(1, {7, 0, 0}));
  disk_->failWrite(0, ErrorKind::kNoSpace, 10, "journal");
  ASSERT_TRUE(store_->append(marker(7, EndMarker::kAbort, {to(1)})));
  ASSERT_TRUE(store_->append(records(1, {8, 0, 0})));
  store_->runOnce();
  EXPECT_EQ(stable(1), 0) << "open, as before";
  EXPECT_THAT(aborted(1), IsEmpty());
  ASSERT_THAT(store_->openTransactions(), SizeIs(1));
  write(marker(7, EndMarker::kCommit, {to(1)}));
  EXPECT_EQ(stable(1), 2);
  EXPECT_THAT(aborted(1), IsEmpty());
}

TEST_F(TransactionsTest, AbortedOnesAreForgottenWithTheirRecords) {
  open();
  ASSERT_TRUE(make(1));
  write(records(1, {7, 0, 0}));
  write(marker(7, EndMarker::kAbort, {to(1)}));
  write(records(1, {7, 0, 1}));
  write(marker(7, EndMarker::kAbort, {to(1)}));
  AppendRequest moved;
  moved.state.push_back(logStartMoved(PartitionId(1), Offset(2)));
  write(std::move(moved));
  EXPECT_THAT(aborted(1, 2), ElementsAre(AbortedTransaction{7, Offset(2), Offset(3)}));
  EXPECT_EQ(store_->stability(PartitionId(1), Offset(1), Offset(4)).error().kind,
            ErrorKind::kOutOfRange);
  crash();
  open();
  EXPECT_THAT(aborted(1, 2), SizeIs(1));
}

TEST_F(TransactionsTest, WatchersOfStableRecordsWaitForTheEnd) {
  open();
  ASSERT_TRUE(make(1));
  int visible = 0;
  int decided = 0;
  store_->watch(PartitionId(1), Offset(0), sink_, [&] { ++visible; });
  store_->watch(
      PartitionId(1), Offset(0), sink_, [&] { ++decided; }, LogStore::WatchFor::kStable);
  write(records(1, {7, 0, 0}));
  EXPECT_EQ(visible, 1);
  EXPECT_EQ(decided, 0);
  write(marker(7, EndMarker::kCommit, {to(1)}));
  EXPECT_EQ(decided, 1);
}

TEST_F(TransactionsTest, RetentionLeavesWhatIsOpen) {
  options_.segmentBytes = 64 << 10;
  open();
  ASSERT_TRUE(make(1, {1000, -1, nullptr}));
  ASSERT_TRUE(make(2));
  write(records(1, {7, 0, 0}));
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(put(2, {std::string(2000, '.')}));
  clock_.advance(3'600'000'000);
  ASSERT_TRUE(store_->runRetention());
  EXPECT_EQ(ends(1).logStart.value(), 0);
  write(marker(7, EndMarker::kCommit, {to(1)}));
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(put(2, {std::string(2000, '.')}));
  ASSERT_TRUE(store_->runRetention());
  EXPECT_GT(ends(1).logStart.value(), 0);
}

TEST_F(TransactionsTest, CompactionWaitsForTheEndAndDropsWhatWasAborted) {
  options_.segmentBytes = 64 << 10;
  open();
  Compaction rule{0, INT64_MAX, 0, 1};
  ASSERT_TRUE(make(1, {-1, -1, std::make_shared<Compaction>(rule)}));
  ASSERT_TRUE(make(2));
  auto fill = [&] {
    for (int i = 0; i < 40; ++i) ASSERT_TRUE(put(2, {std::string(2000, '.')}));
  };
  // All without a key, which counts as one: each would supersede the one before.
  ASSERT_TRUE(put(1, {"kept"}));
  write(records(1, {7, 0, 0}, {std::string(30'000, 'a')}));
  fill();
  ASSERT_TRUE(store_->runRetention());
  EXPECT_THAT(contents(1), SizeIs(2)) << "it may yet be aborted";
  write(marker(7, EndMarker::kAbort, {to(1)}));
  fill();
  ASSERT_TRUE(store_->runRetention());
  std::set<std::string> left;
  std::vector<int64_t> controls;
  for (Offset next(0); next < ends(1).highWatermark;) {
    auto read = store_->read(PartitionId(1), next, 1 << 20);
    ASSERT_TRUE(read) << read.error().text;
    ASSERT_FALSE(read->empty());
    for (const ReadBatch& batch : *read) {
      auto decoded = decodeRecordBatch(batch.batch, 64U << 20);
      ASSERT_TRUE(decoded);
      next = batch.baseOffset + batch.count;
      if (decoded->header.control()) {
        controls.push_back(batch.baseOffset.value());
        continue;
      }
      for (const Record& record : decoded->records) left.insert(std::string(*record.value));
    }
  }
  EXPECT_THAT(left, ElementsAre("kept")) << "an aborted record supersedes nothing, and goes";
  EXPECT_THAT(controls, ElementsAre(2)) << "readers have to meet the marker";
  EXPECT_THAT(aborted(1), SizeIs(1));
}

TEST_F(TransactionsTest, RepeatsAreRecognisedAcrossMarkers) {
  open();
  ASSERT_TRUE(make(1));
  write(records(1, {7, 0, 0}));
  write(marker(7, EndMarker::kCommit, {to(1)}));
  auto repeated = store_->append(records(1, {7, 0, 0}));
  ASSERT_TRUE(repeated);
  EXPECT_TRUE(repeated->duplicate);
  EXPECT_THAT(store_->openTransactions(), IsEmpty()) << "a repeat begins nothing";
  auto known = store_->producers(PartitionId(1));
  ASSERT_THAT(*known, SizeIs(1));
  EXPECT_EQ((*known)[0].lastSequence, 0);
}

TEST_F(TransactionsTest, OnlyMarkersAreControlBatches) {
  open();
  ASSERT_TRUE(make(1));
  std::string batch(transactionalBatch({"v"}, {7, 0, 0}).view());
  batch[22] = static_cast<char>(batch[22] | 32);
  uint32_t crc = crc32c(BytesView(batch).substr(21));
  for (size_t i = 0; i < 4; ++i) batch[17 + i] = static_cast<char>(crc >> (24 - 8 * i));
  auto refused = store_->append(request(SharedBytes::own(std::move(batch)), {to(1)}));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kInvalid);
}

/// Transactions over three partitions on a disk that may lose its power at every call that changes
/// it: each is wholly there as committed, wholly aborted, or open everywhere, and what was told is
/// so.
class TransactionsPowerFailureTest : public TransactionsTest {
 protected:
  static constexpr uint64_t kPartitions = 3;
  static constexpr int kTransactions = 60;

  struct Image {
    std::unique_ptr<test::FaultyDisk> disk;
    std::map<int, EndMarker> told;
    std::string where;
  };

  static std::string valueOf(int transaction) { return "t" + std::to_string(transaction); }

  void end(int transaction, EndMarker end) {
    AppendRequest made = marker(transaction, end, {to(1, 0, 0), to(2, 0, 0), to(3, 0, 0)});
    made.state.push_back({StateTable::kTransaction, valueOf(transaction),
                          end == EndMarker::kCommit ? "committed" : "aborted"});
    made.sink = &sink_;
    made.done = [this, transaction, end](Result<Appended> done) {
      ASSERT_TRUE(done);
      std::lock_guard lock(mutex_);
      told_[transaction] = end;
    };
    ASSERT_TRUE(store_->append(std::move(made)));
  }

  void check(Image& image) {
    test::SeededRandom random(99);
    auto opened = openLogStore(image.disk->root(), options_, clock_, random,
                               [](const Error& error) { FAIL() << error.text; });
    ASSERT_TRUE(opened) << image.where << ": " << opened.error().text;
    LogStore& store = **opened;
    std::map<std::string, std::set<uint64_t>> committed;
    for (uint64_t id = 1; id <= kPartitions; ++id) {
      auto found = store.ends(PartitionId(id));
      if (!found) continue;
      for (Offset next(0); next < found->lastStable;) {
        auto read = store.read(PartitionId(id), next, 1 << 20);
        ASSERT_TRUE(read && !read->empty()) << image.where;
        for (const ReadBatch& batch : *read) {
          auto header = parseRecordBatchHeader(batch.batch.view());
          auto stability = store.stability(PartitionId(id), next, found->highWatermark);
          ASSERT_TRUE(stability) << image.where;
          next = batch.baseOffset + batch.count;
          if (batch.baseOffset >= found->lastStable) break;
          if (hiddenFromCommitted(*header, batch.baseOffset, stability->aborted)) continue;
          committed[valuesOf(batch)[0]].insert(id);
        }
      }
    }
    for (int transaction = 0; transaction < kTransactions; ++transaction) {
      std::string value = valueOf(transaction);
      auto state = store.getState(StateTable::kTransaction, value).value_or("open");
      // One that is open holds up the stable offset: only what is below can be seen.
      if (state == "aborted" || state == "open") {
        ASSERT_FALSE(committed.contains(value)) << image.where << ": " << value << " is " << state;
      }
      auto told = image.told.find(transaction);
      if (told == image.told.end()) continue;
      ASSERT_EQ(state, told->second == EndMarker::kCommit ? "committed" : "aborted") << image.where;
    }
    // Nothing open has an end, and each is open wherever it has records.
    for (const OpenTransaction& one : store.openTransactions()) {
      std::string value = valueOf(static_cast<int>(one.producer.id));
      ASSERT_FALSE(store.getState(StateTable::kTransaction, value)) << image.where;
    }
    // Ended, all of them: then the committed ones are there in all partitions, and no others.
    for (const OpenTransaction& one : store.openTransactions()) {
      ASSERT_TRUE(store.append(
          marker(one.producer.id, EndMarker::kAbort, {Target{one.partition, 0, 0, 0}})));
    }
    store.runOnce();
    checkAllEnded(store, image);
  }

  void checkAllEnded(LogStore& store, Image& image) {
    std::map<std::string, std::set<uint64_t>> committed;
    for (uint64_t id = 1; id <= kPartitions; ++id) {
      auto found = store.ends(PartitionId(id));
      if (!found) continue;
      ASSERT_EQ(found->lastStable, found->highWatermark) << image.where;
      auto stability = store.stability(PartitionId(id), Offset(0), found->highWatermark);
      for (Offset next(0); next < found->lastStable;) {
        auto read = store.read(PartitionId(id), next, 1 << 20);
        ASSERT_TRUE(read && !read->empty()) << image.where;
        for (const ReadBatch& batch : *read) {
          auto header = parseRecordBatchHeader(batch.batch.view());
          next = batch.baseOffset + batch.count;
          if (hiddenFromCommitted(*header, batch.baseOffset, stability->aborted)) continue;
          committed[valuesOf(batch)[0]].insert(id);
        }
      }
    }
    for (int transaction = 0; transaction < kTransactions; ++transaction) {
      auto state = store.getState(StateTable::kTransaction, valueOf(transaction));
      size_t expected = state == "committed" ? kPartitions : 0;
      ASSERT_EQ(committed[valueOf(transaction)].size(), expected)
          << image.where << ": transaction " << transaction;
    }
  }

  void checkImages() {
    std::vector<Image> images;
    {
      std::lock_guard lock(mutex_);
      images = std::exchange(images_, {});
    }
    for (Image& image : images) {
      if (HasFatalFailure()) return;
      check(image);
    }
  }

  std::mutex mutex_;
  std::map<int, EndMarker> told_;
  std::vector<Image> images_;
  size_t taken_ = 0;
};

TEST_F(TransactionsPowerFailureTest, EachIsWhollyCommittedOrNotAtAll) {
  options_.segmentBytes = 16 << 10;
  options_.checkpointBytes = 24 << 10;
  disk_->onBoundary([&](uint64_t boundary, const test::DiskCall& call) {
    if (!call.path.starts_with("journal") && boundary % 11 != 0) return;
    auto failure = test::kAllPowerFailures[taken_ % test::kAllPowerFailures.size()];
    test::SeededRandom random(boundary * 16 + static_cast<uint64_t>(failure));
    auto after = disk_->afterPowerFailure(failure, random);
    std::lock_guard lock(mutex_);
    images_.push_back({std::move(after), told_,
                       "boundary " + std::to_string(boundary) + " (" + call.path + "), " +
                           test::describe(failure)});
    ++taken_;
  });
  open();
  for (uint64_t id = 1; id <= kPartitions; ++id) ASSERT_TRUE(make(id));
  for (int i = 0; i < kTransactions && !HasFatalFailure(); ++i) {
    for (uint64_t id = 1; id <= kPartitions; ++id) {
      ASSERT_TRUE(store_->append(records(id, {i, 0, 0}, {valueOf(i)})));
      if (random_.next() % 3 == 0) store_->runOnce();
      if (random_.next() % 4 == 0) {
        ASSERT_TRUE(put(id, {std::string(200, '.')}));
      }
    }
    // Overlapping: each ends after the next ones have begun, some late, the last ones never.
    auto endOf = [&](int one) { end(one, one % 2 == 0 ? EndMarker::kCommit : EndMarker::kAbort); };
    if (i >= 3 && (i - 3) % 10 != 0) endOf(i - 3);
    if (i >= 9 && (i - 9) % 10 == 0) endOf(i - 9);
    if (random_.next() % 2 == 0) store_->runOnce();
    if (i % 40 == 39) {
      ASSERT_TRUE(store_->checkpoint());
    }
    checkImages();
  }
  store_->close();
  checkImages();
  EXPECT_GT(taken_, 100U);
}

}  // namespace
}  // namespace polylog::storage
