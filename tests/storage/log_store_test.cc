#include "storage/log_store.h"

#include <gmock/gmock.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "storage/entry.h"
#include "tests/storage/store_harness.h"
#include "tests/support/temporary_directory.h"

namespace polylog::storage {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class LogStoreTest : public StoreTest {
 protected:
  void SetUp() override { open(); }
};

TEST_F(LogStoreTest, ReadsWhatWasAppendedOnceItIsDurable) {
  ASSERT_TRUE(make(1));
  auto appended = store_->append(request(makeBatch({"a", "b"}), {to(1)}));
  ASSERT_TRUE(appended);
  EXPECT_THAT(appended->offsets, ElementsAre(Offset(0)));
  EXPECT_THAT(contents(1), IsEmpty());
  EXPECT_EQ(ends(1).end, Offset(2));
  store_->runOnce();
  EXPECT_THAT(contents(1), ElementsAre("a", "b"));
  EXPECT_THAT(contents(1, 1), ElementsAre("b"));
  EXPECT_EQ(ends(1).highWatermark, Offset(2));
  EXPECT_EQ(store_->read(PartitionId(1), Offset(3), 10).error().kind, ErrorKind::kOutOfRange);
  EXPECT_EQ(store_->read(PartitionId(2), Offset(0), 10).error().kind, ErrorKind::kNotFound);
  auto batch = store_->readAt(appended->batches[0]);
  ASSERT_TRUE(batch);
  EXPECT_EQ(batch->view(), makeBatch({"a", "b"}).view());
}

TEST_F(LogStoreTest, ReadsBackAfterReopening) {
  ASSERT_TRUE(make(1));
  ASSERT_TRUE(put(1, {"a"}));
  ASSERT_TRUE(put(1, {"b", "c"}));
  reopen();
  EXPECT_THAT(contents(1), ElementsAre("a", "b", "c"));
  ASSERT_TRUE(put(1, {"d"}));
  crash();
  open();
  EXPECT_THAT(contents(1), ElementsAre("a", "b", "c", "d"));
  EXPECT_EQ(store_->recovery().truncatedBytes, 0U);
  EXPECT_EQ(store_->recovery().damagedEntries, 0U);
}

TEST_F(LogStoreTest, TheRestOfABatchThatIsUsedUpInPartOutlivesAReplay) {
  ASSERT_TRUE(make(1));
  auto usedUpTo = [&](int64_t offset) {
    AppendRequest request;
    request.state.push_back(logStartMoved(PartitionId(1), Offset(offset)));
    ASSERT_TRUE(store_->append(std::move(request)));
    store_->runOnce();
  };
  ASSERT_TRUE(put(1, {"a"}));
  usedUpTo(1);
  ASSERT_TRUE(put(1, {"b", "c", "d"}));
  usedUpTo(3);
  // The view knows the last log start, the replay begins before the first.
  ASSERT_TRUE(store_->checkpoint());
  crash();
  open();
  EXPECT_THAT(contents(1, 3), testing::Contains("d"));
}

TEST_F(LogStoreTest, SharesOneBatchBetweenManyPartitions) {
  AppendRequest made;
  for (uint64_t id = 1; id <= 1000; ++id) {
    made.state.push_back(partitionConfigured(PartitionId(id), {}));
  }
  ASSERT_TRUE(store_->append(std::move(made)));
  store_->runOnce();
  Position before = store_->durableEnd();
  std::vector<Target> targets;
  for (uint64_t id = 1; id <= 1000; ++id)
    targets.push_back(to(id, 1, 1, static_cast<uint32_t>(id % 3)));
  ASSERT_TRUE(store_->append(request(makeBatch({"x", std::string(10240, 'p'), "z"}), targets)));
  store_->runOnce();
  EXPECT_LT(store_->durableEnd() - before, 10240U + 8000U);
  for (int pass = 0; pass < 2; ++pass) {
    for (uint64_t id = 1; id <= 1000; id += 111) {
      auto read = store_->read(PartitionId(id), Offset(0), 1);
      ASSERT_TRUE(read);
      ASSERT_EQ(read->size(), 1U);
      EXPECT_EQ((*read)[0].attributes, id % 3);
      EXPECT_THAT(valuesOf((*read)[0]), ElementsAre(std::string(10240, 'p')));
      EXPECT_EQ(ends(id).highWatermark, Offset(1));
    }
    reopen();
  }
}

TEST_F(LogStoreTest, LinksAnEarlierBatch) {
  ASSERT_TRUE(make(1));
  ASSERT_TRUE(make(2));
  auto first = put(1, {"a", "b", "c"});
  AppendRequest link;
  link.links.push_back({first->batches[0], {to(2, 1, 1), to(2, 2, 1)}});
  auto linked = store_->append(std::move(link));
  ASSERT_TRUE(linked) << linked.error().text;
  EXPECT_THAT(linked->offsets, ElementsAre(Offset(0), Offset(1)));
  store_->runOnce();
  EXPECT_THAT(contents(2), ElementsAre("b", "c"));
  reopen();
  EXPECT_THAT(contents(2), ElementsAre("b", "c"));
}

TEST_F(LogStoreTest, ContinuesLongTargetListsInAChain) {
  constexpr uint64_t kPartitions = 1000;
  constexpr size_t kRounds = 250;  // 250,000 targets: three entries
  AppendRequest made;
  for (uint64_t id = 1; id <= kPartitions; ++id) {
    made.state.push_back(partitionConfigured(PartitionId(id), {}));
  }
  ASSERT_TRUE(store_->append(std::move(made)));
  std::vector<Target> targets;
  for (size_t i = 0; i < kRounds * kPartitions; ++i) targets.push_back(to(i % kPartitions + 1));
  auto appended = store_->append(request(makeBatch({"a"}), targets));
  ASSERT_TRUE(appended);
  ASSERT_EQ(appended->offsets.size(), targets.size());
  EXPECT_EQ(appended->offsets.back(), Offset(kRounds - 1));
  store_->runOnce();
  EXPECT_EQ(ends(kPartitions).highWatermark, Offset(kRounds));
  crash();
  auto whole = disk_->clone();
  open();
  EXPECT_EQ(ends(kPartitions).highWatermark, Offset(kRounds));
  EXPECT_EQ(contents(kPartitions).size(), kRounds);
  // Without its last entry all of it is gone.
  store_ = nullptr;
  disk_ = std::move(whole);
  std::string name = activeSegment();
  ASSERT_TRUE(disk_->setSize(name, disk_->contentOf(name)->size() - 8));
  open();
  EXPECT_EQ(ends(1).end, Offset(0));
  EXPECT_GT(store_->recovery().truncatedBytes, 1'000'000U);
}

TEST_F(LogStoreTest, RefusesWhatMakesNoSense) {
  ASSERT_TRUE(make(1));
  auto kind = [&](AppendRequest made) { return store_->append(std::move(made)).error().kind; };
  EXPECT_EQ(kind(request(makeBatch({"a"}), {to(9)})), ErrorKind::kNotFound);
  EXPECT_EQ(kind(request(makeBatch({"a"}), {to(1, 0, 2)})), ErrorKind::kInvalid);
  EXPECT_EQ(kind(request(SharedBytes::copyOf("rubbish"), {to(1)})), ErrorKind::kInvalid);
  EXPECT_EQ(kind(request(makeBatch({"a"}), {})), ErrorKind::kInvalid);
  EXPECT_EQ(kind(request(makeBatch({std::string(kMaxEntrySize, 'a')}), {to(1)})),
            ErrorKind::kTooLarge);
  AppendRequest derived;
  derived.state.push_back({StateTable::kDerived, "x", "y"});
  EXPECT_EQ(kind(std::move(derived)), ErrorKind::kInvalid);
  AppendRequest beyond;
  beyond.state.push_back(logStartMoved(PartitionId(1), Offset(1)));
  EXPECT_EQ(kind(std::move(beyond)), ErrorKind::kOutOfRange);
  // Nothing of a refused request stays.
  AppendRequest half = request(makeBatch({"a"}), {to(5), to(9)});
  half.state.push_back(partitionConfigured(PartitionId(5), {}));
  EXPECT_EQ(kind(std::move(half)), ErrorKind::kNotFound);
  EXPECT_FALSE(store_->ends(PartitionId(5)));
  EXPECT_EQ(ends(1).end, Offset(0));
}

TEST_F(LogStoreTest, AppliesStateWithMessages) {
  AppendRequest made = request(makeBatch({"a"}), {to(1)});
  made.state.push_back(partitionConfigured(PartitionId(1), {}));
  made.state.push_back({StateTable::kTopic, "t", "one"});
  made.state.push_back({StateTable::kTopic, "u", "two"});
  ASSERT_TRUE(store_->append(std::move(made)));
  EXPECT_EQ(store_->getState(StateTable::kTopic, "t"), std::nullopt);
  store_->runOnce();
  EXPECT_EQ(store_->getState(StateTable::kTopic, "t"), "one");
  AppendRequest gone;
  gone.state.push_back({StateTable::kTopic, "t", std::nullopt});
  ASSERT_TRUE(store_->append(std::move(gone)));
  store_->runOnce();
  crash();
  open();
  std::vector<std::string> seen;
  store_->scanState(StateTable::kTopic, "", [&](BytesView key, BytesView value) {
    seen.push_back(std::string(key) + "=" + std::string(value));
    return true;
  });
  EXPECT_THAT(seen, ElementsAre("u=two"));
}

TEST_F(LogStoreTest, WhoHearsOfACommitFindsItsState) {
  std::optional<std::string> seen;
  AppendRequest made;
  made.state.push_back({StateTable::kTopic, "t", "one"});
  made.sink = &sink_;
  made.done = [&](const Result<Appended>& result) {
    EXPECT_TRUE(result.has_value());
    seen = store_->getState(StateTable::kTopic, "t");
  };
  ASSERT_TRUE(store_->append(std::move(made)));
  store_->runOnce();
  EXPECT_EQ(seen, "one");
}

TEST_F(LogStoreTest, CompletesInOrderOneCallASink) {
  ASSERT_TRUE(make(1));
  std::vector<int> order;
  for (int i = 0; i < 5; ++i) {
    AppendRequest made = request(makeBatch({"a"}), {to(1)});
    made.sink = &sink_;
    made.done = [&order, i](Result<Appended> done) {
      ASSERT_TRUE(done);
      EXPECT_EQ(done->offsets[0], Offset(i));
      order.push_back(i);
    };
    ASSERT_TRUE(store_->append(std::move(made)));
  }
  EXPECT_THAT(order, IsEmpty());
  store_->runOnce();
  EXPECT_THAT(order, ElementsAre(0, 1, 2, 3, 4));
  EXPECT_EQ(sink_.calls, 1);
}

TEST_F(LogStoreTest, WatchesFireAboveTheirOffset) {
  ASSERT_TRUE(make(1));
  int fired = 0;
  store_->watch(PartitionId(1), Offset(1), sink_, [&] { ++fired; });
  auto cancelled = store_->watch(PartitionId(1), Offset(0), sink_, [&] { fired += 100; });
  store_->unwatch(PartitionId(1), cancelled);
  ASSERT_TRUE(put(1, {"a"}));
  EXPECT_EQ(fired, 0);
  ASSERT_TRUE(put(1, {"b"}));
  EXPECT_EQ(fired, 1);
  store_->watch(PartitionId(1), Offset(0), sink_, [&] { ++fired; });
  store_->runOnce();
  EXPECT_EQ(fired, 2);
  store_->watch(PartitionId(1), Offset(2), sink_, [&] { ++fired; });
  AppendRequest gone;
  gone.state.push_back(partitionDeleted(PartitionId(1)));
  ASSERT_TRUE(store_->append(std::move(gone)));
  store_->runOnce();
  EXPECT_EQ(fired, 3);
  EXPECT_EQ(store_->ends(PartitionId(1)).error().kind, ErrorKind::kNotFound);
  reopen();
  EXPECT_EQ(store_->ends(PartitionId(1)).error().kind, ErrorKind::kNotFound);
}

TEST_F(LogStoreTest, FeedsAndRescansRoutedBatches) {
  std::vector<std::string> fed;
  store_->setCommitFeed([&](std::vector<CommittedBatch> batches) {
    for (const CommittedBatch& batch : batches) fed.push_back(valuesOf(batch.batch)[0]);
  });
  ASSERT_TRUE(make(1));
  for (std::string value : {"a", "b", "c"}) {
    AppendRequest made = request(makeBatch({value}), {to(1)});
    made.messages[0].routeAfterCommit = value != "b";
    ASSERT_TRUE(store_->append(std::move(made)));
  }
  EXPECT_THAT(fed, IsEmpty());
  store_->runOnce();
  EXPECT_THAT(fed, ElementsAre("a", "c"));
  crash();
  open();
  std::vector<std::string> scanned;
  Position after;
  auto reached = store_->scanRouted(Position(0), [&](const CommittedBatch& batch) {
    scanned.push_back(valuesOf(batch.batch)[0]);
    if (scanned.size() == 1) after = batch.batch.place.position + batch.batch.place.length;
    return true;
  });
  EXPECT_THAT(scanned, ElementsAre("a", "c"));
  EXPECT_EQ(reached.value(), store_->durableEnd());
  scanned.clear();
  ASSERT_TRUE(store_->scanRouted(after, [&](const CommittedBatch& batch) {
    scanned.push_back(valuesOf(batch.batch)[0]);
    return true;
  }));
  EXPECT_THAT(scanned, ElementsAre("c"));
}

TEST_F(LogStoreTest, FindsOffsetsByTime) {
  ASSERT_TRUE(make(1));
  EXPECT_EQ(store_->offsetAt(PartitionId(1), 0).value(), std::nullopt);
  EXPECT_EQ(store_->offsetOfMaxTimestamp(PartitionId(1)).value(), std::nullopt);
  ASSERT_TRUE(put(1, {"a"}, 100));
  ASSERT_TRUE(put(1, {"b"}, 300));
  ASSERT_TRUE(put(1, {"c"}, 200));
  for (int pass = 0; pass < 2; ++pass) {
    EXPECT_EQ(store_->offsetAt(PartitionId(1), 150).value(), Offset(1));
    EXPECT_EQ(store_->offsetAt(PartitionId(1), 100).value(), Offset(0));
    EXPECT_EQ(store_->offsetAt(PartitionId(1), 301).value(), std::nullopt);
    EXPECT_EQ(store_->offsetOfMaxTimestamp(PartitionId(1)).value(), Offset(1));
    reopen();
  }
}

TEST_F(LogStoreTest, TakesADirectoryOnlyOnce) {
  EXPECT_EQ(tryOpen().error().kind, ErrorKind::kBusy);
  store_->close();
  EXPECT_EQ(store_->append(request(makeBatch({"a"}), {to(1)})).error().kind, ErrorKind::kShutdown);
  EXPECT_TRUE(tryOpen());
}

class ProducerTest : public LogStoreTest {};

TEST_F(ProducerTest, AnswersRepeatsWithTheOriginal) {
  ASSERT_TRUE(make(1));
  ASSERT_TRUE(produce(1, {7, 0, 0}, {"a", "b"}));
  // Not durable yet: the repeat completes with the original.
  bool done = false;
  AppendRequest repeat = request(makeBatch({"a", "b"}, 1000, {7, 0, 0}), {to(1)});
  repeat.messages[0].checkProducer = true;
  repeat.sink = &sink_;
  repeat.done = [&](Result<Appended> result) {
    done = true;
    EXPECT_TRUE(result->duplicate);
    EXPECT_EQ(result->offsets[0], Offset(0));
  };
  auto repeated = store_->append(std::move(repeat));
  ASSERT_TRUE(repeated);
  EXPECT_TRUE(repeated->duplicate);
  EXPECT_FALSE(done);
  store_->runOnce();
  EXPECT_TRUE(done);
  for (int i = 1; i <= 6; ++i) ASSERT_TRUE(produce(1, {7, 0, i + 1}));
  store_->runOnce();
  EXPECT_EQ(ends(1).end, Offset(8));
  for (int pass = 0; pass < 3; ++pass) {
    EXPECT_EQ(produce(1, {7, 0, 4})->offsets[0], Offset(4));
    EXPECT_EQ(produce(1, {7, 0, 0}, {"a", "b"}).error().kind, ErrorKind::kOutOfOrderSequence);
    EXPECT_EQ(produce(1, {7, 0, 9}).error().kind, ErrorKind::kOutOfOrderSequence);
    if (pass == 0) crash(), open();
    if (pass == 1) reopen();
  }
  auto next = produce(1, {7, 0, 8});
  ASSERT_TRUE(next);
  EXPECT_FALSE(next->duplicate);
}

TEST_F(ProducerTest, FencesOlderEpochs) {
  ASSERT_TRUE(make(1));
  ASSERT_TRUE(produce(1, {7, 3, 40}));  // unknown producers begin anywhere
  EXPECT_EQ(produce(1, {7, 2, 41}).error().kind, ErrorKind::kProducerFenced);
  EXPECT_EQ(produce(1, {7, 4, 41}).error().kind, ErrorKind::kOutOfOrderSequence);
  ASSERT_TRUE(produce(1, {7, 4, 0}));
  EXPECT_EQ(produce(1, {7, 3, 41}).error().kind, ErrorKind::kProducerFenced);
}

TEST_F(ProducerTest, WhatWasTakenBackComesNextAgain) {
  ASSERT_TRUE(make(1));
  disk_->failWrite(0, ErrorKind::kNoSpace, 0, "journal");
  ASSERT_TRUE(produce(1, {7, 0, 0}));
  store_->runOnce();
  // It was on its way behind the one that failed.
  auto early = produce(1, {7, 0, 1});
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().kind, ErrorKind::kOutOfOrderSequence);
  EXPECT_TRUE(produce(1, {7, 0, 0}));
  EXPECT_TRUE(produce(1, {7, 0, 1}));
  // Whoever gave it up begins anew under a new epoch.
  disk_->failWrite(0, ErrorKind::kNoSpace, 0, "journal");
  ASSERT_TRUE(produce(1, {8, 0, 0}));
  store_->runOnce();
  EXPECT_TRUE(produce(1, {8, 1, 0}));
}

TEST_F(ProducerTest, AreListedWithTheirLastBatch) {
  ASSERT_TRUE(make(1));
  EXPECT_TRUE(store_->producers(PartitionId(1))->empty());
  ASSERT_TRUE(produce(1, {9, 2, 5}, {"a", "b"}));
  ASSERT_TRUE(produce(1, {7, 0, 0}));
  store_->runOnce();
  for (int pass = 0; pass < 3; ++pass) {
    auto producers = store_->producers(PartitionId(1));
    ASSERT_TRUE(producers);
    ASSERT_EQ(producers->size(), 2U);
    EXPECT_EQ(producers->at(0).id, ProducerId(7));
    EXPECT_EQ(producers->at(1).id, ProducerId(9));
    EXPECT_EQ(producers->at(1).epoch, 2);
    EXPECT_EQ(producers->at(1).lastSequence, 6);
    if (pass == 0) crash(), open();
    if (pass == 1) reopen();
  }
  EXPECT_EQ(store_->producers(PartitionId(5)).error().kind, ErrorKind::kNotFound);
}

TEST_F(ProducerTest, SequencesWrapAround) {
  ASSERT_TRUE(make(1));
  ASSERT_TRUE(produce(1, {7, 0, INT32_MAX - 1}, {"a", "b", "c"}));
  auto next = produce(1, {7, 0, 1});
  ASSERT_TRUE(next);
  EXPECT_FALSE(next->duplicate);
}

class FailureTest : public LogStoreTest {};

TEST_F(FailureTest, AFailedWriteIsTakenBack) {
  ASSERT_TRUE(make(1));
  ASSERT_TRUE(put(1, {"a"}));
  ASSERT_TRUE(produce(1, {7, 0, 0}, {"p"}));
  store_->runOnce();
  for (uint64_t written : {uint64_t{0}, uint64_t{60}, uint64_t{200}}) {
    disk_->failWrite(0, ErrorKind::kNoSpace, written, "journal");
    std::vector<std::string> told;
    for (int i = 0; i < 3; ++i) {
      AppendRequest made = request(makeBatch({"lost"}, 1000, {7, 0, i + 1}), {to(1), to(4)});
      made.messages[0].checkProducer = true;
      if (i == 0) made.state.push_back(partitionConfigured(PartitionId(4), {}));
      made.state.push_back({StateTable::kTopic, "t", "lost"});
      made.sink = &sink_;
      made.done = [&told](Result<Appended> result) {
        told.push_back(result ? "ok" : describe(result.error().kind));
      };
      ASSERT_TRUE(store_->append(std::move(made)));
    }
    store_->runOnce();
    EXPECT_THAT(told, ElementsAre("no space", "no space", "no space"));
    EXPECT_EQ(ends(1).end, Offset(2));
    EXPECT_FALSE(store_->ends(PartitionId(4)));
    EXPECT_EQ(store_->getState(StateTable::kTopic, "t"), std::nullopt);
  }
  auto next = produce(1, {7, 0, 1}, {"b"});
  ASSERT_TRUE(next);
  EXPECT_FALSE(next->duplicate);
  store_->runOnce();
  EXPECT_THAT(contents(1), ElementsAre("a", "p", "b"));
  crash(test::PowerFailure::kLoseUnsynced);
  open();
  EXPECT_THAT(contents(1), ElementsAre("a", "p", "b"));
  EXPECT_FALSE(fatal_);
}

TEST_F(FailureTest, AFailedSyncIsFatal) {
  ASSERT_TRUE(make(1));
  disk_->failSync(0, "journal");
  bool failed = false;
  AppendRequest made = request(makeBatch({"a"}), {to(1)});
  made.sink = &sink_;
  made.done = [&](Result<Appended> result) { failed = !result; };
  ASSERT_TRUE(store_->append(std::move(made)));
  store_->runOnce();
  EXPECT_TRUE(failed);
  EXPECT_TRUE(fatal_);
  EXPECT_FALSE(store_->append(request(makeBatch({"a"}), {to(1)})));
  EXPECT_THAT(contents(1), IsEmpty());
}

TEST_F(FailureTest, AFullDiskRefusesPublishesOnly) {
  int resumed = 0;
  store_->setSpaceFeed([&] { ++resumed; });
  ASSERT_TRUE(make(1));
  ASSERT_TRUE(put(1, {"a"}));
  disk_->setFreeBytes(options_.diskHighMark - 1);
  store_->runOnce();
  EXPECT_TRUE(store_->full());
  EXPECT_EQ(put(1, {"b"}).error().kind, ErrorKind::kNoSpace);
  EXPECT_TRUE(make(2));
  EXPECT_THAT(contents(1), ElementsAre("a"));
  auto link = request({}, {});
  link.messages.clear();
  link.links.push_back({store_->read(PartitionId(1), Offset(0), 1)->front().place, {to(2)}});
  EXPECT_TRUE(store_->append(std::move(link)));
  // What was let in before is stored.
  auto admitted = request(makeBatch({"c"}), {to(1)});
  admitted.admitted = true;
  EXPECT_TRUE(store_->append(std::move(admitted)));
  disk_->setFreeBytes(options_.diskLowMark - 1);
  store_->runOnce();
  EXPECT_EQ(put(1, {"d"}).error().kind, ErrorKind::kNoSpace);
  EXPECT_EQ(resumed, 0);
  disk_->setFreeBytes(options_.diskLowMark);
  store_->runOnce();
  EXPECT_FALSE(store_->full());
  EXPECT_EQ(resumed, 1);
  EXPECT_TRUE(put(1, {"e"}));
  EXPECT_THAT(contents(1), ElementsAre("a", "c", "e"));
}

TEST_F(FailureTest, ABurstStopsBeforeItHasEatenTheReserve) {
  ASSERT_TRUE(make(1));
  disk_->setFreeBytes(options_.diskHighMark + 100'000);
  store_->runOnce();
  // Nothing is written meanwhile, so the file system says what it said.
  int taken = 0;
  while (taken < 1000 && store_->append(request(makeBatch({std::string(1000, 'x')}), {to(1)}))) {
    ++taken;
  }
  EXPECT_GE(taken, 80);
  EXPECT_LE(taken, 100);
  EXPECT_TRUE(store_->full());
  EXPECT_TRUE(make(2));
}

TEST_F(FailureTest, AFullDiskIsSeenWhenItIsOpenedAndByTheWriter) {
  store_->close();
  store_ = nullptr;
  disk_->setFreeBytes(options_.diskHighMark - 1);
  open();
  EXPECT_TRUE(store_->full());
  disk_->setFreeBytes(options_.diskLowMark);
  store_->runOnce();
  ASSERT_TRUE(make(1));
  disk_->setFreeBytes(options_.diskHighMark + 10'000);
  store_->runOnce();
  disk_->setFreeBytes(options_.diskHighMark - 1);  // somebody else's doing
  ASSERT_TRUE(store_->append(request(makeBatch({std::string(5000, 'x')}), {to(1)})));
  EXPECT_FALSE(store_->full());
  store_->runOnce();
  EXPECT_TRUE(store_->full());
}

TEST_F(FailureTest, AWriteWithoutRoomStopsPublishesAtOnce) {
  ASSERT_TRUE(make(1));
  disk_->failWrite(0, ErrorKind::kNoSpace, 10, "journal");
  bool fullWhenTold = false;
  auto lost = request(makeBatch({"lost"}), {to(1)});
  lost.sink = &sink_;
  lost.done = [&](const Result<Appended>& result) { fullWhenTold = !result && store_->full(); };
  ASSERT_TRUE(store_->append(std::move(lost)));
  store_->runOnce();
  EXPECT_TRUE(fullWhenTold);
  EXPECT_FALSE(store_->full()) << "the next look finds space";
  EXPECT_TRUE(put(1, {"kept"}));
  EXPECT_THAT(contents(1), ElementsAre("kept"));
}

TEST_F(FailureTest, WrittenIsVisibleBeforeTheSync) {
  ASSERT_TRUE(make(1));
  disk_->failSync(0, "journal");  // to see that none is needed
  bool done = false;
  AppendRequest made = request(makeBatch({"a"}), {to(1)});
  made.durability = Durability::kWritten;
  made.sink = &sink_;
  made.done = [&](Result<Appended> result) { done = result.has_value(); };
  ASSERT_TRUE(store_->append(std::move(made)));
  store_->runOnce();
  EXPECT_TRUE(done);
}

TEST_F(LogStoreTest, TheIndexTellsWhatEachPieceTakesOfItsBatch) {
  for (uint64_t id = 1; id <= 3; ++id) ASSERT_TRUE(make(id));
  std::vector<std::string> values(10, std::string(1000, 'v'));
  auto appended =
      store_->append(request(makeBatch(values), {to(1), to(2, 3, 2, 5), to(2, 9, 1, 5)}));
  ASSERT_TRUE(appended);
  EXPECT_EQ(store_->indexed(PartitionId(1), Offset(0), 9)->size(), 1U) << "sequenced is enough";
  store_->runOnce();
  AppendRequest link;
  link.links.push_back({appended->batches[0], {to(3, 0, 4), to(3, 9, 1)}});
  ASSERT_TRUE(store_->append(std::move(link)));
  store_->runOnce();
  const int64_t length = appended->batches[0].length;
  for (int pass = 0; pass < 3; ++pass) {
    auto whole = store_->indexed(PartitionId(1), Offset(4), 9);
    ASSERT_TRUE(whole);
    ASSERT_EQ(whole->size(), 1U);
    EXPECT_EQ((*whole)[0].octets, length);
    EXPECT_EQ((*whole)[0].count, 10U);
    auto parts = store_->indexed(PartitionId(2), Offset(0), 9);
    ASSERT_EQ(parts->size(), 2U);
    EXPECT_EQ((*parts)[0].octets, length / 5);
    EXPECT_EQ((*parts)[0].attributes, 5U);
    EXPECT_EQ((*parts)[1].octets, length / 10);
    EXPECT_EQ((*parts)[1].base, Offset(2));
    EXPECT_EQ(store_->indexed(PartitionId(2), Offset(0), 1)->size(), 1U);
    EXPECT_EQ(store_->indexed(PartitionId(2), Offset(3), 9)->size(), 0U);
    EXPECT_EQ(store_->octetsFrom(PartitionId(2), Offset(0)), length / 5 + length / 10);
    auto linked = store_->indexed(PartitionId(3), Offset(0), 9);
    ASSERT_EQ(linked->size(), 2U);
    EXPECT_EQ((*linked)[0].octets, length * 4 / 10);
    EXPECT_EQ((*linked)[1].octets, length / 10);
    if (pass == 0) crash();
    if (pass == 0) open();
    if (pass == 1) reopen();
  }
  EXPECT_EQ(store_->indexed(PartitionId(9), Offset(0), 1).error().kind, ErrorKind::kNotFound);
}

class SegmentTest : public LogStoreTest {
 protected:
  void SetUp() override {
    options_.segmentBytes = 4096;
    open();
  }
  void fill(int count, int64_t timestampMs = 1000) {
    for (int i = 0; i < count; ++i) {
      std::string value = std::to_string(made_++) + std::string(200, '.');
      expected_.push_back(value);
      ASSERT_TRUE(put(1, {value}, timestampMs));
    }
  }
  int made_ = 0;
  std::vector<std::string> expected_;
};

TEST_F(SegmentTest, RollsAndReadsSealedSegments) {
  ASSERT_TRUE(make(1));
  fill(100);
  EXPECT_GT(segmentFiles(), 5U);
  EXPECT_EQ(contents(1), expected_);
  EXPECT_EQ(contents(1, 0, 1), expected_);
  reopen();
  EXPECT_EQ(contents(1), expected_);
  fill(30);
  crash(test::PowerFailure::kLoseUnsynced);
  open();
  EXPECT_EQ(contents(1), expected_);
  EXPECT_EQ(store_->recovery().truncatedBytes, 0U);
  EXPECT_EQ(store_->recovery().damagedEntries, 0U);
}

TEST_F(SegmentTest, TheIndexTellsOctetsOfSealedSegmentsToo) {
  ASSERT_TRUE(make(1));
  ASSERT_TRUE(make(2));
  int64_t octets = 0;
  for (int i = 0; i < 60; ++i) {
    auto appended = store_->append(
        request(makeBatch({std::string(100, 'a'), std::string(100, 'b')}), {to(1), to(2, 1, 1)}));
    ASSERT_TRUE(appended);
    octets += appended->batches[0].length / 2;
    store_->runOnce();
  }
  for (int pass = 0; pass < 2; ++pass) {
    EXPECT_GT(segmentFiles(), 3U);
    auto all = store_->indexed(PartitionId(2), Offset(0), 1000);
    ASSERT_TRUE(all);
    ASSERT_EQ(all->size(), 60U);
    int64_t sum = 0;
    for (const IndexedBatch& one : *all) sum += one.octets;
    EXPECT_EQ(sum, octets);
    EXPECT_EQ(store_->octetsFrom(PartitionId(2), Offset(0)), octets);
    EXPECT_EQ(store_->octetsFrom(PartitionId(2), Offset(59)), octets / 60);
    reopen();
  }
}

TEST_F(SegmentTest, SurvivesADamagedFooter) {
  ASSERT_TRUE(make(1));
  fill(40);
  store_->close();
  store_ = nullptr;
  std::string first = "journal/00000000000000000002.segment";
  uint64_t size = disk_->contentOf(first)->size();
  for (uint64_t at = size - 200; at < size; at += 16) ASSERT_TRUE(disk_->flipBit(first, at, 3));
  open();
  EXPECT_EQ(contents(1), expected_);
}

TEST_F(SegmentTest, FailsCleanlyWhereABatchIsDamaged) {
  ASSERT_TRUE(make(1));
  fill(40);
  store_->close();
  store_ = nullptr;
  std::string name = "journal/00000000000000000002.segment";
  std::string content = *disk_->contentOf(name);
  size_t at = content.find("....");
  ASSERT_TRUE(disk_->flipBit(name, at + 50, 1));
  open();
  std::vector<std::string> read = contents(1);
  ASSERT_FALSE(read.empty());
  EXPECT_EQ(read.back(), "corrupt");
  auto damaged = static_cast<int64_t>(read.size()) - 1;
  std::vector<std::string> rest = contents(1, damaged + 1);
  EXPECT_TRUE(
      std::equal(rest.begin(), rest.end(), expected_.begin() + damaged + 1, expected_.end()));
}

TEST_F(SegmentTest, RetentionBySizeRemovesSegments) {
  ASSERT_TRUE(make(1, {-1, 8000}));
  ASSERT_TRUE(make(2));
  fill(100);
  size_t before = segmentFiles();
  auto removed = store_->runRetention();
  ASSERT_TRUE(removed) << removed.error().text;
  EXPECT_GE(*removed, 4U);
  EXPECT_EQ(segmentFiles(), before - *removed);
  PartitionEnds now = ends(1);
  EXPECT_GT(now.logStart, Offset(50));
  EXPECT_GE(now.bytes, 8000);
  EXPECT_EQ(store_->read(PartitionId(1), Offset(0), 1).error().kind, ErrorKind::kOutOfRange);
  auto alive = [&] {
    return std::vector<std::string>(expected_.begin() + now.logStart.value(), expected_.end());
  };
  EXPECT_EQ(contents(1, now.logStart.value()), alive());
  reopen();
  EXPECT_EQ(ends(1).logStart, now.logStart);
  EXPECT_EQ(contents(1, now.logStart.value()), alive());
  fill(5);
  crash(test::PowerFailure::kLoseUnsynced);
  open();
  EXPECT_EQ(contents(1, now.logStart.value()), alive());
}

TEST_F(SegmentTest, RetentionByTimeRollsTheActiveSegment) {
  int64_t now = clock_.wallMillis();
  ASSERT_TRUE(make(1, {1000, -1}));
  fill(3, now);
  ASSERT_TRUE(store_->runRetention());
  EXPECT_EQ(contents(1), expected_);
  clock_.advance(5'000'000);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(store_->runRetention());
  EXPECT_EQ(ends(1).logStart, Offset(3));
  EXPECT_EQ(segmentFiles(), 1U);
  EXPECT_EQ(activeSegment() == "journal/00000000000000000001.segment", false);
  EXPECT_EQ(ends(1).end, Offset(3));
  crash(test::PowerFailure::kLoseUnsynced);
  open();
  EXPECT_EQ(ends(1).logStart, Offset(3));
  EXPECT_EQ(put(1, {"x"})->offsets[0], Offset(3));
}

TEST_F(SegmentTest, LinksKeepTheirSegment) {
  ASSERT_TRUE(make(1, {-1, 1}));
  ASSERT_TRUE(make(2));
  fill(1);
  auto first = put(1, {"kept"});
  fill(40);
  AppendRequest link;
  link.links.push_back({first->batches[0], {to(2)}});
  ASSERT_TRUE(store_->append(std::move(link)));
  store_->runOnce();
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(store_->runRetention());
    EXPECT_THAT(contents(2), ElementsAre("kept"));
    reopen();
  }
}

TEST_F(SegmentTest, ReplaysWhenTheViewIsLost) {
  ASSERT_TRUE(make(1));
  fill(60);
  ASSERT_TRUE(produce(1, {7, 0, 0}));
  store_->runOnce();
  expected_.push_back("v");
  ASSERT_TRUE(store_->checkpoint());
  fill(20);
  store_->close();
  store_ = nullptr;
  ASSERT_TRUE(disk_->root()->remove("state"));
  open();
  EXPECT_EQ(contents(1), expected_);
  EXPECT_TRUE(produce(1, {7, 0, 0})->duplicate);
  ASSERT_TRUE(make(2));
}

TEST_F(SegmentTest, AFailedRollIsTakenBack) {
  ASSERT_TRUE(make(1));
  fill(10);
  disk_->setFull(true);
  for (int i = 0; i < 20; ++i) {
    store_->append(request(makeBatch({std::string(300, 'x')}), {to(1)}));
    store_->runOnce();
  }
  disk_->setFull(false);
  store_->runOnce();
  EXPECT_EQ(contents(1), expected_);
  fill(40);
  EXPECT_EQ(contents(1), expected_);
  crash(test::PowerFailure::kLoseUnsynced);
  open();
  EXPECT_EQ(contents(1), expected_);
  EXPECT_FALSE(fatal_);
}

/// With its threads: many appenders, a reader that follows, roll-over and checkpoints underneath.
TEST(LogStoreThreadsTest, AppendsFromManyThreads) {
  test::FaultyDisk disk;
  test::SeededRandom random(3);
  LogStoreOptions options;
  options.segmentBytes = 256 << 10;
  options.checkpointBytes = 512 << 10;
  options.retentionCheckMillis = 50;
  auto opened = openLogStore(disk.root(), options, systemClock(), random, [](const Error&) {});
  ASSERT_TRUE(opened) << opened.error().text;
  LogStore& store = **opened;
  AppendRequest made;
  for (uint64_t id = 1; id <= 4; ++id) {
    made.state.push_back(partitionConfigured(PartitionId(id), {-1, id == 4 ? 100'000 : -1}));
  }
  ASSERT_TRUE(store.append(std::move(made)));
  constexpr int kEach = 2000;
  RunningSink sink;
  std::atomic<int> done{0};
  std::vector<std::thread> threads;
  for (uint64_t id = 1; id <= 4; ++id) {
    threads.emplace_back([&, id] {
      for (int i = 0; i < kEach; ++i) {
        AppendRequest one;
        one.messages.push_back(
            {makeBatch({std::to_string(i)}), {{PartitionId(id), 0, 0, 0}}, false, i % 7 == 0});
        one.durability = static_cast<Durability>(i % 3);
        one.sink = &sink;
        one.done = [&](Result<Appended> result) { done += result.has_value() ? 1 : 0; };
        EXPECT_TRUE(store.append(std::move(one)));
      }
    });
  }
  std::thread reader([&] {
    std::mutex mutex;
    std::condition_variable woken;
    for (Offset next(0); next < Offset(kEach);) {
      bool ready = false;
      store.watch(PartitionId(1), next, sink, [&] {
        std::lock_guard lock(mutex);
        ready = true;
        woken.notify_one();
      });
      std::unique_lock lock(mutex);
      woken.wait(lock, [&] { return ready; });
      auto read = store.read(PartitionId(1), next, 64 << 10);
      ASSERT_TRUE(read) << read.error().text;
      ASSERT_FALSE(read->empty());
      for (const ReadBatch& batch : *read) {
        ASSERT_EQ(batch.baseOffset, next);
        ASSERT_EQ(valuesOf(batch)[0], std::to_string(next.value()));
        next = batch.baseOffset + batch.count;
      }
    }
  });
  for (std::thread& thread : threads) thread.join();
  reader.join();
  store.close();
  EXPECT_EQ(done.load(), 4 * kEach);
  auto again = openLogStore(disk.root(), options, systemClock(), random, [](const Error&) {});
  ASSERT_TRUE(again) << again.error().text;
  EXPECT_EQ((*again)->ends(PartitionId(2))->highWatermark, Offset(kEach));
}

TEST(LogStoreThreadsTest, UnwaitedAppendsAreSyncedInTime) {
  test::TemporaryDirectory folder;
  test::SeededRandom random(3);
  auto directory = openDirectory(folder.path());
  ASSERT_TRUE(directory);
  auto opened = openLogStore(*directory, {}, systemClock(), random, [](const Error&) {});
  ASSERT_TRUE(opened) << opened.error().text;
  AppendRequest made;
  made.state.push_back(partitionConfigured(PartitionId(1), {}));
  made.messages.push_back({makeBatch({"a"}), {{PartitionId(1), 0, 0, 0}}, false, false});
  made.durability = Durability::kUnwaited;
  RunningSink sink;
  std::mutex mutex;
  std::condition_variable woken;
  bool done = false;
  made.sink = &sink;
  made.done = [&](Result<Appended> result) {
    std::lock_guard lock(mutex);
    done = result.has_value();
    woken.notify_one();
  };
  ASSERT_TRUE((*opened)->append(std::move(made)));
  std::unique_lock lock(mutex);
  EXPECT_TRUE(woken.wait_for(lock, std::chrono::seconds(10), [&] { return done; }));
}

}  // namespace
}  // namespace polylog::storage
