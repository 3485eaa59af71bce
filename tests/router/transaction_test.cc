// Transactions from the first InitProducerId to the last reader, over the store in memory.
#include <gmock/gmock.h>

#include "core/base/crc32c.h"
#include "tests/router/group_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class TransactionTest : public GroupTest {
 protected:
  void SetUp() override {
    GroupTest::SetUp();
    TopicSpec spec;
    spec.name = "orders";
    spec.partitions = 2;
    ASSERT_TRUE(createTopic(spec));
  }

  template <class T, class Call>
  Result<T> ask(Call call, size_t worker = 0) {
    auto answer = std::make_shared<Result<T>>(fail(ErrorKind::kInternal, "not called"));
    on(worker, [&] { call([answer](Result<T> result) { *answer = std::move(result); }); });
    settle();
    return *answer;
  }
  Result<ProducerIdentity> init(const std::string& id = "tx",
                                std::optional<ProducerIdentity> current = std::nullopt,
                                size_t worker = 0) {
    return ask<ProducerIdentity>(
        [&](auto done) {
          router_->initTransactions(who_, {id, 60'000, current}, std::move(done));
        },
        worker);
  }
  Result<> add(ProducerIdentity producer, std::vector<std::pair<std::string, int32_t>> partitions,
               const std::string& id = "tx") {
    return ask<void>([&](auto done) {
      router_->addToTransaction(who_, {id, producer}, std::move(partitions), std::move(done));
    });
  }
  Result<ProducerIdentity> end(ProducerIdentity producer, bool commit, const std::string& id = "tx",
                               size_t worker = 0, int version = 1) {
    return ask<ProducerIdentity>(
        [&](auto done) {
          router_->endTransaction(who_, {id, producer, version}, commit, std::move(done));
        },
        worker);
  }
  /// As a producer of version 2 does it.
  Result<ProducerIdentity> end2(ProducerIdentity producer, bool commit) {
    return end(producer, commit, "tx", 0, 2);
  }
  Result<> join(ProducerIdentity producer, int32_t partition) {
    return ask<void>([&](auto done) {
      router_->addToTransaction(who_, {"tx", producer, 2}, {{"orders", partition}},
                                std::move(done));
    });
  }
  Result<> addGroup(ProducerIdentity producer, const std::string& group = "g") {
    return ask<void>([&](auto done) {
      router_->addGroupToTransaction(who_, {"tx", producer}, group, std::move(done));
    });
  }
  Result<std::vector<Result<>>> offsets(ProducerIdentity producer, int64_t offset,
                                        const std::string& member = {}, int32_t generation = -1) {
    GroupCommit commit;
    commit.group = "g";
    commit.memberId = member;
    commit.generation = generation;
    commit.transactional = true;
    commit.offsets.push_back({"t", 0, offset, -1, "meta"});
    return ask<std::vector<Result<>>>([&](auto done) {
      router_->commitInTransaction(who_, {"tx", producer}, commit, std::move(done));
    });
  }
  static std::string transactional(
      ProducerIdentity producer, int32_t sequence,
      const std::vector<std::pair<std::string, std::string>>& records) {
    std::string batch = batchOf(records);
    auto put = [&batch](size_t at, uint64_t v, int width) {
      for (int i = 0; i < width; ++i) {
        batch[at + static_cast<size_t>(i)] = static_cast<char>(v >> (8 * (width - 1 - i)));
      }
    };
    put(21, 16, 2);
    put(43, static_cast<uint64_t>(producer.id), 8);
    put(51, static_cast<uint16_t>(producer.epoch), 2);
    put(53, static_cast<uint32_t>(sequence), 4);
    put(17, crc32c(BytesView(batch).substr(21)), 4);
    return batch;
  }
  Result<Produced> produceIn(ProducerIdentity producer, int32_t sequence,
                             std::vector<std::pair<std::string, std::string>> records,
                             int32_t partition = 0, const std::string& id = "tx") {
    return ask<Produced>([&](auto done) {
      ProduceBatch batch{"orders", partition,
                         SharedBytes::own(transactional(producer, sequence, records)), true};
      batch.transactionalId = id;
      router_->produce(who_, std::move(batch), std::move(done));
    });
  }
  PartitionBounds bounds(int32_t partition = 0) {
    return on(0, [&] { return router_->bounds(who_, "orders", partition).value(); });
  }
  /// What a reader of committed records sees of a partition.
  std::vector<std::string> committed(int32_t partition = 0) {
    std::vector<std::string> values;
    auto fetched = on(
        0, [&] { return router_->fetch(who_, "orders", partition, Offset(0), 1 << 20).value(); });
    for (const FetchedBatch& batch : fetched.batches) {
      auto header = parseRecordBatchHeader(batch.batch.view());
      if (batch.baseOffset >= fetched.lastStable ||
          hiddenFromCommitted(*header, batch.baseOffset, fetched.aborted)) {
        continue;
      }
      auto decoded = decodeRecordBatch(batch.batch, 1 << 24);
      for (const Record& record : decoded->records) values.emplace_back(*record.value);
    }
    return values;
  }
  TransactionStatus status(const std::string& id = "tx") {
    return on(0, [&] { return router_->describeTransaction(who_, id).value().status; });
  }
};

TEST_F(TransactionTest, CommitsInAllPartitionsWithOneEntry) {
  auto producer = init();
  ASSERT_TRUE(producer);
  EXPECT_EQ(producer->epoch, 0);
  EXPECT_EQ(status(), TransactionStatus::kEmpty);
  ASSERT_TRUE(add(*producer, {{"orders", 0}, {"orders", 1}}));
  EXPECT_EQ(status(), TransactionStatus::kOngoing);
  ASSERT_TRUE(produceIn(*producer, 0, {{"a", "1"}}));
  ASSERT_TRUE(produceIn(*producer, 0, {{"b", "2"}}, 1));
  EXPECT_THAT(committed(0), IsEmpty());
  EXPECT_EQ(bounds(0).lastStable.value(), 0);
  EXPECT_EQ(bounds(0).highWatermark.value(), 1);
  size_t appends = store_->appends();
  ASSERT_TRUE(end(*producer, true));
  EXPECT_EQ(store_->appends(), appends + 1);
  EXPECT_THAT(committed(0), ElementsAre("1"));
  EXPECT_THAT(committed(1), ElementsAre("2"));
  EXPECT_EQ(bounds(0).lastStable.value(), 2);
  EXPECT_EQ(status(), TransactionStatus::kCommitted);
  ASSERT_TRUE(end(*producer, true)) << "asked again";
  EXPECT_EQ(end(*producer, false).error().kind, ErrorKind::kInvalidTransaction);
}

TEST_F(TransactionTest, AbortedRecordsAreSeenByNobody) {
  TestClient& live = connect("live", 0, 1);
  subscribe(live, "orders/#", kQos1);
  TestClient& sleeper = connect("sleeper", 3600, 0);
  subscribe(sleeper, "orders/#", kQos1);
  auto producer = init();
  ASSERT_TRUE(add(*producer, {{"orders", 0}}));
  ASSERT_TRUE(produceIn(*producer, 0, {{"a", "1"}}));
  ASSERT_TRUE(end(*producer, false));
  EXPECT_THAT(committed(), IsEmpty());
  EXPECT_THAT(takeTexts(live), IsEmpty());
  EXPECT_THAT(takeTexts(sleeper), IsEmpty());
  ASSERT_TRUE(add(*producer, {{"orders", 0}}));
  ASSERT_TRUE(produceIn(*producer, 1, {{"a", "2"}}));
  ASSERT_TRUE(end(*producer, true));
  EXPECT_THAT(committed(), ElementsAre("2"));
  EXPECT_THAT(takeTexts(live), ElementsAre("2"));
  EXPECT_THAT(takeTexts(sleeper), ElementsAre("2"));
}

TEST_F(TransactionTest, SubscribersGetItAtTheCommitInOrder) {
  TestClient& live = connect("live", 0, 1);
  subscribe(live, "orders/#", kQos1);
  TestClient& sleeper = connect("sleeper", 3600, 0);
  subscribe(sleeper, "orders/#", kQos1);
  auto producer = init();
  auto other = init("other");
  ASSERT_TRUE(add(*producer, {{"orders", 0}, {"orders", 1}}));
  ASSERT_TRUE(add(*other, {{"orders", 0}}, "other"));
  for (int i = 0; i < 150; ++i) {  // more than are routed in one go
    ASSERT_TRUE(produceIn(*producer, i, {{"a", std::to_string(i)}}));
    if (i == 70) {
      ASSERT_TRUE(produceIn(*other, 0, {{"o", "other"}}, 0, "other"));
    }
  }
  ASSERT_TRUE(produceIn(*producer, 0, {{"b", "x"}}, 1));
  EXPECT_THAT(takeTexts(live), IsEmpty());
  ASSERT_TRUE(end(*producer, true));
  std::vector<std::string> expected;
  for (int i = 0; i < 150; ++i) expected.push_back(std::to_string(i));
  expected.emplace_back("x");
  EXPECT_EQ(takeTexts(live), expected);
  EXPECT_EQ(takeTexts(sleeper), expected);
  ASSERT_TRUE(end(*other, true, "other"));
  EXPECT_THAT(takeTexts(live), ElementsAre("other"));
  EXPECT_THAT(takeTexts(sleeper), ElementsAre("other"));
}

TEST_F(TransactionTest, InboxesGetEachRecordOnceAcrossCrashesInBetween) {
  {
    TestClient& sleeper = connect("sleeper", 3600, 0);
    subscribe(sleeper, "orders/#", kQos1);
    detach(sleeper);
  }
  std::vector<std::string> expected;
  int sequence = 0;
  for (int rounds = 0; rounds < 7; ++rounds) {
    auto producer = init();
    ASSERT_TRUE(producer);
    ASSERT_TRUE(add(*producer, {{"orders", 0}, {"orders", 1}}));
    for (int partition = 0; partition < 2; ++partition) {
      for (int i = 0; i < 100; ++i) {
        expected.push_back(std::to_string(sequence++));
        ASSERT_TRUE(produceIn(*producer, i, {{"a", expected.back()}}, partition));
      }
    }
    on(0, [&] { router_->endTransaction(who_, {"tx", *producer}, true, [](const auto&) {}); });
    run();
    store_->commit();  // the markers, and nothing that is linked
    for (int i = 0; i < rounds; ++i) loops_[0]->runRound();
    store_->commit();  // some of the links
    crash();
  }
  TestClient& back = connect("sleeper", 3600, 0);
  EXPECT_EQ(takeTexts(back, 10'000), expected);
}

TEST_F(TransactionTest, LinksThatFailAreTriedAgain) {
  TestClient& sleeper = connect("sleeper", 3600, 0);
  subscribe(sleeper, "orders/#", kQos1);
  auto producer = init();
  ASSERT_TRUE(add(*producer, {{"orders", 0}, {"orders", 1}}));
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(produceIn(*producer, i, {{"a", std::to_string(i)}}));
  ASSERT_TRUE(produceIn(*producer, 0, {{"b", "x"}}, 1));
  on(0, [&] { router_->endTransaction(who_, {"tx", *producer}, true, [](const auto&) {}); });
  run();
  store_->commit();
  run();
  failWrites();
  advance(5000);
  EXPECT_THAT(takeTexts(sleeper),
              ElementsAre("0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "x"));
}

TEST_F(TransactionTest, ASecondProducerFencesTheFirstAndAbortsWhatItBegan) {
  auto first = init();
  ASSERT_TRUE(add(*first, {{"orders", 0}}));
  ASSERT_TRUE(produceIn(*first, 0, {{"a", "1"}}));
  auto second = init();
  ASSERT_TRUE(second);
  EXPECT_EQ(second->id, first->id);
  EXPECT_EQ(second->epoch, first->epoch + 1);
  EXPECT_EQ(bounds().lastStable.value(), 2) << "aborted, at once";
  EXPECT_THAT(committed(), IsEmpty());
  EXPECT_EQ(produceIn(*first, 1, {{"a", "2"}}).error().kind, ErrorKind::kProducerFenced);
  EXPECT_EQ(add(*first, {{"orders", 0}}).error().kind, ErrorKind::kProducerFenced);
  EXPECT_EQ(end(*first, true).error().kind, ErrorKind::kProducerFenced);
  ASSERT_TRUE(add(*second, {{"orders", 0}}));
  ASSERT_TRUE(produceIn(*second, 0, {{"a", "3"}}));
  ASSERT_TRUE(end(*second, true));
  EXPECT_THAT(committed(), ElementsAre("3"));
}

TEST_F(TransactionTest, WhoMissedTheAnswerGetsTheSameEpochAgain) {
  auto first = init();
  auto next = init("tx", *first);
  ASSERT_TRUE(next);
  EXPECT_EQ(next->epoch, 1);
  EXPECT_EQ(init("tx", *first)->epoch, 1) << "asked again: the answer was lost";
  EXPECT_EQ(init("tx", *next)->epoch, 2);
  EXPECT_EQ(init("tx", *first).error().kind, ErrorKind::kProducerFenced);
  auto late = init("tx", ProducerIdentity{first->id + 1, 0});
  EXPECT_EQ(late.error().kind, ErrorKind::kProducerFenced);
}

TEST_F(TransactionTest, TheLastEpochIsFollowedByAnotherId) {
  auto producer = init();
  ASSERT_TRUE(producer);
  auto first = *producer;
  for (int i = 0; i < 32'766; ++i) {
    on(0, [&] {
      router_->initTransactions(who_, {"tx", 1000, std::nullopt},
                                [&](Result<ProducerIdentity> r) { producer = std::move(r); });
    });
    run();
    store_->commit();
    run();
  }
  EXPECT_EQ(producer->id, first.id);
  EXPECT_EQ(producer->epoch, 32'766);
  ASSERT_TRUE(add(*producer, {{"orders", 0}}));
  ASSERT_TRUE(produceIn(*producer, 0, {{"a", "1"}}));
  auto after = init("tx", *producer);
  ASSERT_TRUE(after);
  EXPECT_NE(after->id, first.id);
  EXPECT_EQ(after->epoch, 0);
  EXPECT_EQ(*init("tx", *producer), *after);
  EXPECT_EQ(bounds().lastStable.value(), 2) << "what was open is aborted";
}

TEST_F(TransactionTest, OnlyWhatWasAddedMayBeProduced) {
  auto producer = init();
  EXPECT_EQ(produceIn(*producer, 0, {{"a", "1"}}).error().kind, ErrorKind::kInvalidTransaction);
  ASSERT_TRUE(add(*producer, {{"orders", 0}}));
  EXPECT_EQ(produceIn(*producer, 0, {{"a", "1"}}, 1).error().kind, ErrorKind::kInvalidTransaction);
  EXPECT_EQ(produceIn(*producer, 0, {{"a", "1"}}, 0, "nobody's").error().kind,
            ErrorKind::kUnknownProducer);
  EXPECT_EQ(add(*producer, {{"orders", 1}, {"nowhere", 0}}).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(end({producer->id + 1, 0}, true).error().kind, ErrorKind::kUnknownProducer);
  ASSERT_TRUE(end(*producer, true)) << "empty, but begun";
  EXPECT_EQ(produceIn(*producer, 0, {{"a", "1"}}).error().kind, ErrorKind::kInvalidTransaction);
}

TEST_F(TransactionTest, NothingComesBehindTheMarkerOnItsWay) {
  auto producer = init();
  ASSERT_TRUE(add(*producer, {{"orders", 0}}));
  ASSERT_TRUE(produceIn(*producer, 0, {{"a", "1"}}));
  Result<ProducerIdentity> ended = fail(ErrorKind::kInternal, "not called");
  on(0, [&] {
    router_->endTransaction(who_, {"tx", *producer}, true,
                            [&](Result<ProducerIdentity> r) { ended = r; });
  });
  run();
  auto late = std::make_shared<Result<Produced>>(fail(ErrorKind::kInternal, "not called"));
  on(0, [&] {
    ProduceBatch batch{"orders", 0, SharedBytes::own(transactional(*producer, 1, {{"a", "2"}})),
                       true};
    batch.transactionalId = "tx";
    router_->produce(who_, std::move(batch), [late](Result<Produced> r) { *late = std::move(r); });
  });
  run();
  EXPECT_EQ(late->error().kind, ErrorKind::kConcurrentTransaction);
  // A write that fails leaves the transaction as it was.
  failWrites();
  EXPECT_EQ(ended.error().kind, ErrorKind::kIo);
  EXPECT_EQ(status(), TransactionStatus::kOngoing);
  EXPECT_EQ(bounds().lastStable.value(), 0);
  ASSERT_TRUE(produceIn(*producer, 1, {{"a", "2"}}));
  ASSERT_TRUE(end(*producer, true));
  EXPECT_THAT(committed(), ElementsAre("1", "2"));
}

TEST_F(TransactionTest, OffsetsBecomeTheGroupsWithTheCommit) {
  auto producer = init();
  EXPECT_EQ(offsets(*producer, 5).error().kind, ErrorKind::kInvalidTransaction);
  ASSERT_TRUE(addGroup(*producer));
  ASSERT_TRUE(offsets(*producer, 5));
  EXPECT_EQ(offset("t", 0), -1);
  bool undecided = false;
  on(0, [&] {
    router_->fetchOffsets(
        who_, "g", std::nullopt, {{{"t", 0}}},
        [&](Result<std::vector<GroupOffset>> found) { undecided = found->at(0).undecided; });
  });
  settle();
  EXPECT_TRUE(undecided);
  crash();
  EXPECT_EQ(offset("t", 0), -1);
  ASSERT_TRUE(end(*producer, true, "tx", 2));
  EXPECT_EQ(offset("t", 0), 5);
  ASSERT_TRUE(addGroup(*producer));
  ASSERT_TRUE(offsets(*producer, 9));
  ASSERT_TRUE(end(*producer, false));
  EXPECT_EQ(offset("t", 0), 5);
  crash();
  EXPECT_EQ(offset("t", 0), 5);
  ASSERT_TRUE(commit({{"t", 0, 7, -1, ""}}));
  EXPECT_EQ(offset("t", 0), 7);
}

TEST_F(TransactionTest, OffsetsOfAnotherGenerationAreRefused) {
  makeStable();
  auto producer = init();
  ASSERT_TRUE(addGroup(*producer));
  EXPECT_EQ(offsets(*producer, 5, leader_.memberId, leader_.generation - 1).error().kind,
            ErrorKind::kIllegalGeneration);
  EXPECT_EQ(offsets(*producer, 5, "somebody", leader_.generation).error().kind,
            ErrorKind::kUnknownMember);
  ASSERT_TRUE(offsets(*producer, 5, leader_.memberId, leader_.generation));
  ASSERT_TRUE(offsets(*producer, 6)) << "a producer that doesn't say who consumed";
  ASSERT_TRUE(end(*producer, true));
  EXPECT_EQ(offset("t", 0), 6);
}

TEST_F(TransactionTest, TimesOut) {
  auto producer = init();
  ASSERT_TRUE(add(*producer, {{"orders", 0}}));
  ASSERT_TRUE(produceIn(*producer, 0, {{"a", "1"}}));
  advance(59'000);
  EXPECT_EQ(bounds().lastStable.value(), 0);
  advance(3000);
  EXPECT_EQ(bounds().lastStable.value(), 2);
  EXPECT_EQ(status(), TransactionStatus::kAborted);
  EXPECT_THAT(committed(), IsEmpty());
  EXPECT_EQ(end(*producer, true).error().kind, ErrorKind::kProducerFenced);
  EXPECT_EQ(produceIn(*producer, 1, {{"a", "2"}}).error().kind, ErrorKind::kProducerFenced);
}

TEST_F(TransactionTest, AnUnusedIdIsForgotten) {
  auto producer = init();
  advance(604'800'000 + 7'000'000);
  EXPECT_EQ(add(*producer, {{"orders", 0}}).error().kind, ErrorKind::kUnknownProducer);
  crash();
  EXPECT_THAT(on(0, [&] { return router_->transactions(who_); }), IsEmpty());
  EXPECT_NE(init()->id, producer->id);
}

TEST_F(TransactionTest, SurvivesACrashAtAnyStep) {
  auto producer = init();
  crash();
  ASSERT_TRUE(add(*producer, {{"orders", 0}}));
  crash();
  ASSERT_TRUE(produceIn(*producer, 0, {{"a", "1"}}));
  crash();
  EXPECT_THAT(committed(), IsEmpty());
  ASSERT_TRUE(produceIn(*producer, 1, {{"a", "2"}}));
  on(0, [&] { router_->endTransaction(who_, {"tx", *producer}, true, [](const auto&) {}); });
  run();
  crash();  // before the entry was written
  EXPECT_EQ(status(), TransactionStatus::kOngoing);
  EXPECT_EQ(bounds().lastStable.value(), 0);
  ASSERT_TRUE(end(*producer, true));
  crash();
  EXPECT_THAT(committed(), ElementsAre("1", "2"));
  ASSERT_TRUE(end(*producer, true)) << "the answer may have been lost";
}

TEST_F(TransactionTest, WhatNobodyWouldEndIsAbortedAtTheStart) {
  auto producer = init();
  ASSERT_TRUE(add(*producer, {{"orders", 0}}));
  ASSERT_TRUE(produceIn(*producer, 0, {{"a", "1"}}));
  // As if the entries with the transaction's state were damaged.
  storage::AppendRequest request;
  request.state.push_back({storage::StateTable::kTransaction, "tx", std::nullopt});
  ASSERT_TRUE(store_->append(std::move(request)));
  settle();
  crash();
  EXPECT_EQ(bounds().lastStable.value(), 2);
  EXPECT_THAT(committed(), IsEmpty());
}

TEST_F(TransactionTest, AnOperatorAbortsTheWholeAndFences) {
  auto producer = init();
  ASSERT_TRUE(add(*producer, {{"orders", 0}, {"orders", 1}}));
  ASSERT_TRUE(produceIn(*producer, 0, {{"a", "1"}}));
  ASSERT_TRUE(produceIn(*producer, 0, {{"a", "2"}}, 1));
  auto known = on(0, [&] { return router_->activeProducers(who_, "orders", 0).value(); });
  ASSERT_THAT(known, SizeIs(1));
  EXPECT_EQ(known[0].transactionStart, Offset(0));
  auto abort = [&](ProducerIdentity who) {
    return ask<void>(
        [&](auto done) { router_->abortTransaction(who_, "orders", 0, who, std::move(done)); });
  };
  EXPECT_EQ(abort({producer->id + 1, 0}).error().kind, ErrorKind::kInvalidTransaction);
  ASSERT_TRUE(abort(*producer));
  EXPECT_EQ(bounds(0).lastStable.value(), 2);
  EXPECT_EQ(bounds(1).lastStable.value(), 2);
  EXPECT_EQ(end(*producer, true).error().kind, ErrorKind::kProducerFenced);
}

TEST_F(TransactionTest, ATopicThatIsDeletedMeanwhileHoldsNothingUp) {
  auto producer = init();
  ASSERT_TRUE(add(*producer, {{"orders", 0}, {"t", 1}}));
  ASSERT_TRUE(produceIn(*producer, 0, {{"a", "1"}}));
  Result<> deleted = fail(ErrorKind::kInternal, "not called");
  on(0, [&] { router_->deleteTopic(who_, "orders", [&](Result<> r) { deleted = r; }); });
  settle();
  ASSERT_TRUE(deleted);
  ASSERT_TRUE(end(*producer, true));
}

// ---- version 2 (KIP-890)

TEST_F(TransactionTest, EveryEndOfVersion2GivesANewEpoch) {
  auto producer = init();
  ASSERT_TRUE(join(*producer, 0));
  ASSERT_TRUE(produceIn(*producer, 0, {{"a", "1"}}));
  auto next = end2(*producer, true);
  ASSERT_TRUE(next);
  EXPECT_EQ(*next, (ProducerIdentity{producer->id, 1}));
  EXPECT_EQ(*end2(*producer, true), *next) << "asked again: the answer was lost";
  EXPECT_EQ(end2(*producer, false).error().kind, ErrorKind::kInvalidTransaction);
  EXPECT_EQ(produceIn(*producer, 1, {{"a", "late"}}).error().kind, ErrorKind::kProducerFenced)
      << "what was sent for the last transaction doesn't get into the next";
  ASSERT_TRUE(join(*next, 0));
  EXPECT_EQ(end2(*producer, true).error().kind, ErrorKind::kProducerFenced)
      << "nor does its end end it";
  ASSERT_TRUE(produceIn(*next, 0, {{"a", "2"}})) << "sequences begin anew";
  auto last = end2(*next, false);
  ASSERT_TRUE(last);
  EXPECT_EQ(last->epoch, 2);
  EXPECT_THAT(committed(), ElementsAre("1"));
  crash();
  EXPECT_EQ(*end2(*next, false), *last) << "asked again after a crash";
  EXPECT_EQ(status(), TransactionStatus::kAborted);
}

TEST_F(TransactionTest, AnAbortOfNothingGivesANewEpochACommitIsRefused) {
  auto producer = init();
  EXPECT_EQ(end2(*producer, true).error().kind, ErrorKind::kInvalidTransaction);
  EXPECT_EQ(end(*producer, false).error().kind, ErrorKind::kInvalidTransaction) << "version 1";
  auto next = end2(*producer, false);
  ASSERT_TRUE(next);
  EXPECT_EQ(next->epoch, producer->epoch + 1);
  EXPECT_EQ(*end2(*producer, false), *next);
  EXPECT_EQ(join(*producer, 0).error().kind, ErrorKind::kProducerFenced);
}

TEST_F(TransactionTest, OffsetsJoinByThemselvesInVersion2) {
  auto producer = init();
  GroupCommit commit;
  commit.group = "g";
  commit.transactional = true;
  commit.offsets.push_back({"t", 0, 5, -1, "meta"});
  auto give = [&](int version) {
    return ask<std::vector<Result<>>>([&](auto done) {
      router_->commitInTransaction(who_, {"tx", *producer, version}, commit, std::move(done));
    });
  };
  EXPECT_EQ(give(1).error().kind, ErrorKind::kInvalidTransaction);
  ASSERT_TRUE(give(2));
  EXPECT_EQ(status(), TransactionStatus::kOngoing);
  ASSERT_TRUE(give(2));
  ASSERT_TRUE(end2(*producer, true));
  EXPECT_EQ(status(), TransactionStatus::kCommitted);
}

TEST_F(TransactionTest, AnEndWaitsForAChangeUnderWayAndIsAnsweredOnceMore) {
  auto producer = init();
  std::vector<std::string> order;
  on(0, [&] {
    router_->addToTransaction(who_, {"tx", *producer}, {{"orders", 0}}, [&](const Result<>& added) {
      order.push_back(added ? "added" : "-");
    });
  });
  for (uint32_t worker : {0U, 1U}) {
    on(worker, [&] {
      router_->endTransaction(who_, {"tx", *producer}, true, [&](Result<ProducerIdentity> ended) {
        order.push_back(ended ? "ended" : ended.error().text);
      });
    });
  }
  run();
  EXPECT_THAT(order, IsEmpty());
  settle();
  EXPECT_THAT(order, ElementsAre("added", "ended", "ended"));
  EXPECT_EQ(status(), TransactionStatus::kCommitted);
}

TEST_F(TransactionTest, WhatJoinsWaitsForAChangeUnderWay) {
  auto producer = init();
  std::vector<std::string> order;
  auto begin = [&](int32_t partition, int version = 2) {
    on(0, [&, version] {
      router_->addToTransaction(
          who_, {"tx", *producer, version}, {{"orders", partition}},
          [&order, partition](const Result<>& added) {
            order.push_back(std::to_string(partition) + (added ? "" : added.error().text));
          });
    });
  };
  begin(0);
  begin(1);
  begin(0, 1);
  run();
  EXPECT_THAT(order, IsEmpty());
  settle();
  EXPECT_THAT(order, ElementsAre("0", "1", "0"));
  begin(1);
  begin(0);
  settle();
  EXPECT_THAT(order, ElementsAre("0", "1", "0", "1", "0"));
}

TEST_F(TransactionTest, WaitersGoOnWhenTheChangeFails) {
  auto producer = init();
  std::vector<bool> results;
  for (int32_t partition : {0, 1}) {
    on(0, [&] {
      router_->addToTransaction(who_, {"tx", *producer, 2}, {{"orders", partition}},
                                [&](const Result<>& added) { results.push_back(bool(added)); });
    });
  }
  run();
  failWrites();
  settle();
  EXPECT_THAT(results, ElementsAre(false, true));
}

TEST_F(TransactionTest, TheLastEpochGoesOverToANewProducerId) {
  auto producer = init();
  auto current = *producer;
  // As many ends as there are epochs.
  while (current.id == producer->id) {
    auto next = end2(current, false);
    ASSERT_TRUE(next) << next.error().text;
    ASSERT_NE(*next, current);
    current = *next;
  }
  EXPECT_EQ(current.epoch, 0);
  ASSERT_TRUE(join(current, 0));
  ASSERT_TRUE(produceIn(current, 0, {{"a", "1"}}));
  ASSERT_TRUE(end2(current, true));
  EXPECT_THAT(committed(), ElementsAre("1"));
}

}  // namespace
}  // namespace polylog::router
