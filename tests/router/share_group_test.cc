// Share groups, as a router's clients see them.
#include "router/share_group.h"

#include <algorithm>

#include "core/model/record_batch.h"
#include "mapping/kafka_consumer.h"
#include "tests/router/group_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

using Answer = Result<ConsumerHeartbeatAnswer>;

/// A member's wish for records.
struct Asked {
  std::unique_ptr<WaitHandle> handle;
  std::optional<Result<ShareAcquired>> answer;
};

class ShareGroupTest : public GroupTest {
 protected:
  void SetUp() override {
    RouterOptions options;
    options.initialRebalanceMillis = 0;
    options.maxGroupMembers = 4;
    options.consumerFormat = mapping::consumerFormat();
    options.groupDefaults.shareRecordLocks = 10;
    options.groupDefaults.maxSharePartitions = 3;
    begin(3, options);
    TopicSpec spec;
    spec.name = "t";
    spec.partitions = 4;
    ASSERT_TRUE(createTopic(spec));
    spec.name = "u";
    spec.partitions = 1;
    ASSERT_TRUE(createTopic(spec));
    setReset(ShareReset::kEarliest);
  }
  ShareGroups& shares() { return router_->shareGroups(); }

  void configure(std::function<void(GroupConfig&)> change) {
    Result<> told = fail(ErrorKind::kInternal, "not called");
    on(0, [&] {
      router_->alterGroupConfig(
          who_, "g",
          [change](GroupConfig& config) -> Result<> {
            change(config);
            return {};
          },
          [&](Result<> result) { told = result; });
    });
    settle();
    ASSERT_TRUE(told);
  }
  void setReset(int64_t ago) {
    configure([ago](GroupConfig& config) { config.shareReset = ShareReset{ago, "x"}; });
  }

  Answer beat(const std::string& member, int32_t epoch,
              std::optional<std::vector<std::string>> topics = std::nullopt,
              const std::string& group = "g") {
    Answer answer = fail(ErrorKind::kInternal, "not called");
    ShareHeartbeat asked;
    asked.group = group;
    asked.memberId = member;
    asked.epoch = epoch;
    asked.topics = std::move(topics);
    on(1, [&] {
      shares().shareHeartbeat(who_, asked, [&](Answer told) { answer = std::move(told); });
    });
    settle();
    return answer;
  }
  Answer joins(const std::string& member, std::vector<std::string> topics = {"t"}) {
    return beat(member, 0, std::move(topics));
  }
  size_t partitionsOf(const Answer& answer) {
    size_t count = 0;
    if (!answer || !answer->assignment) return 0;
    for (const auto& [topic, partitions] : *answer->assignment) count += partitions.size();
    return count;
  }

  SharePlace place(int32_t partition = 0, const std::string& name = "t") {
    return {topic(name)->id, partition};
  }
  ShareAcquire wish(const std::string& member, int64_t maxWaitMs = 0) {
    ShareAcquire asked;
    asked.group = "g";
    asked.memberId = member;
    asked.places = {place()};
    asked.maxBytes = 1 << 20;
    asked.maxRecords = 500;
    asked.maxWaitMs = maxWaitMs;
    return asked;
  }
  std::shared_ptr<Asked> ask(ShareAcquire asked, size_t worker = 2) {
    auto told = std::make_shared<Asked>();
    on(worker, [&] {
      std::weak_ptr<Asked> weak = told;  // which has the handle, which has this
      told->handle = shares().acquireShares(who_, std::move(asked), [weak](auto answer) {
        auto asker = weak.lock();
        if (!asker) return;
        EXPECT_FALSE(asker->answer.has_value());
        asker->answer = std::move(answer);
      });
    });
    settle();
    return told;
  }
  static std::vector<ShareRange> rangesOf(const std::shared_ptr<Asked>& asked) {
    std::vector<ShareRange> all;
    if (!asked->answer || !*asked->answer) return all;
    for (const auto& part : (*asked->answer)->parts) {
      all.insert(all.end(), part.ranges.begin(), part.ranges.end());
    }
    return all;
  }
  std::vector<ShareRange> get(const std::string& member) { return rangesOf(ask(wish(member))); }
  Result<> say(const std::string& member, int64_t first, int64_t last,
               ShareVerdict verdict = ShareVerdict::kAccept) {
    Result<> told = fail(ErrorKind::kInternal, "not called");
    on(0, [&] {
      shares().settleShares(who_, "g", member, {{place(), {{first, last, {verdict}}}}},
                            [&](Result<ShareSettled> settled) {
                              told = settled ? settled->results.at(0)
                                             : std::unexpected(settled.error());
                            });
    });
    settle();
    return told;
  }
  void give(int count, const std::string& name = "t") {
    for (int i = 0; i < count; ++i) produce(name, batchOf({{"k", std::to_string(next_++)}}));
    settle();
  }
  std::vector<ShareOffset> offsets() {
    std::vector<ShareOffset> all;
    on(0, [&] {
      shares().shareOffsets(who_, "g", std::nullopt,
                            [&](auto found) { all = found.value_or(all); });
    });
    settle();
    return all;
  }
  Result<> alter(int64_t start) {
    Result<> told = fail(ErrorKind::kInternal, "not called");
    ShareOffset offset;
    offset.topic = "t";
    offset.start = start;
    on(0, [&] {
      shares().alterShareOffsets(who_, "g", {offset}, [&](auto results) {
        told = results ? results->at(0) : std::unexpected(results.error());
      });
    });
    settle();
    return told;
  }
  int next_ = 0;
};

TEST_F(ShareGroupTest, EveryMemberHasSomethingAndEveryPartitionSomebody) {
  EXPECT_EQ(partitionsOf(joins("a")), 4U);
  EXPECT_EQ(partitionsOf(joins("b")), 2U);
  Answer third = joins("c", {"u"});
  EXPECT_EQ(partitionsOf(third), 1U);
  Answer more = joins("d", {"u"});
  EXPECT_EQ(partitionsOf(more), 1U) << "a partition has two readers";
  EXPECT_EQ(joins("e").error().kind, ErrorKind::kBusy);
  auto description = describe();
  EXPECT_EQ(description->kind, GroupKind::kShare);
  EXPECT_EQ(description->state, "Stable");
  EXPECT_THAT(description->members, SizeIs(4));
}

TEST_F(ShareGroupTest, HeartbeatsGoByEpochs) {
  Answer first = joins("a");
  EXPECT_EQ(first->epoch, 1);
  joins("b");
  Answer moved = beat("a", 1);
  EXPECT_EQ(moved->epoch, 2);
  EXPECT_EQ(partitionsOf(moved), 2U);
  EXPECT_FALSE(beat("a", 2)->assignment) << "nothing new";
  EXPECT_TRUE(beat("a", 1)->assignment) << "the last answer was lost";
  EXPECT_EQ(beat("a", 5).error().kind, ErrorKind::kFencedEpoch);
  EXPECT_EQ(beat("x", 1).error().kind, ErrorKind::kUnknownMember);
  EXPECT_EQ(beat("x", 1, {}, "none").error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(beat("x", 0).error().kind, ErrorKind::kInvalid) << "it subscribes to nothing";
  EXPECT_EQ(beat("b", -1)->epoch, -1);
  EXPECT_EQ(partitionsOf(beat("a", 2)), 4U);
  crash();
  EXPECT_EQ(beat("a", 3)->epoch, 3) << "members outlive a crash";
  advance(50'000);
  EXPECT_EQ(beat("a", 3).error().kind, ErrorKind::kUnknownMember) << "it wasn't heard of";
  EXPECT_EQ(describe()->state, "Empty");
}

TEST_F(ShareGroupTest, GroupsStayOfTheirKind) {
  joins("a");
  ConsumerHeartbeat other;
  other.group = "g";
  other.memberId = "m";
  other.rebalanceTimeoutMs = 1000;
  other.topics = {"t"};
  other.owned = Assignment{};
  std::optional<ErrorKind> refused;
  on(0, [&] {
    router_->consumerHeartbeat(who_, other, [&](Answer answer) { refused = answer.error().kind; });
  });
  settle();
  EXPECT_EQ(refused, ErrorKind::kNotFound);
  auto joined = join(joining());
  ASSERT_TRUE(joined->done);
  EXPECT_EQ(joined->result.error->kind, ErrorKind::kInconsistentProtocol);
  EXPECT_EQ(commit({{"t", 0, 5, -1, ""}}).error().kind, ErrorKind::kNotFound);
  beat("a", -1);
  joined = join(joining());
  EXPECT_EQ(joined->result.error->kind, ErrorKind::kInconsistentProtocol) << "though it is empty";
  EXPECT_TRUE(commit({{"t", 0, 5, -1, ""}}, {}, -1, "classic"));
  EXPECT_EQ(beat("m", 0, {{"t"}}, "classic").error().kind, ErrorKind::kNotFound);
}

TEST_F(ShareGroupTest, RecordsAreSharedOutAndAccepted) {
  joins("a");
  give(4);
  ShareAcquire two = wish("a");
  two.maxRecords = 2;
  auto first = ask(two);
  EXPECT_THAT(rangesOf(first), ElementsAre(ShareRange{0, 1, 1}));
  EXPECT_THAT((*first->answer)->parts.at(0).fetched.batches, SizeIs(2));
  EXPECT_THAT(get("b"), ElementsAre(ShareRange{2, 3, 1}));
  EXPECT_THAT(get("b"), IsEmpty());
  EXPECT_TRUE(say("a", 0, 1));
  EXPECT_EQ(say("a", 2, 2).error().kind, ErrorKind::kLocked);
  EXPECT_EQ(offsets().at(0).start, 2);
  EXPECT_EQ(offsets().at(0).lag, 2);
}

TEST_F(ShareGroupTest, AcceptedRecordsStayAcceptedAfterACrash) {
  joins("a");
  give(6);
  get("a");
  ASSERT_TRUE(say("a", 1, 3));
  crash();
  EXPECT_THAT(get("b"), ElementsAre(ShareRange{0, 0, 1}, ShareRange{4, 5, 1}));
  EXPECT_EQ(say("a", 0, 0).error().kind, ErrorKind::kLocked) << "it is another's by now";
}

TEST_F(ShareGroupTest, NothingIsToldBeforeTheDiskHasIt) {
  joins("a");
  give(2);
  get("a");
  std::optional<Result<>> told;
  on(0, [&] {
    shares().settleShares(who_, "g", "a", {{place(), {{0, 1, {ShareVerdict::kAccept}}}}},
                          [&](Result<ShareSettled> settled) { told = settled->results.at(0); });
  });
  run();
  EXPECT_FALSE(told.has_value());
  failWrites();
  ASSERT_TRUE(told.has_value());
  EXPECT_EQ(told->error().kind, ErrorKind::kIo);
  crash();
  EXPECT_THAT(get("a"), ElementsAre(ShareRange{0, 1, 1})) << "it was never said";
}

TEST_F(ShareGroupTest, WhatWasToldAsFailedDoesNotCount) {
  joins("a");
  give(3);
  get("a");
  std::optional<Result<>> told;
  on(0, [&] {
    shares().settleShares(who_, "g", "a", {{place(), {{0, 1, {ShareVerdict::kAccept}}}}},
                          [&](Result<ShareSettled> settled) { told = settled->results.at(0); });
  });
  run();
  failWrites();
  ASSERT_TRUE(told && !told->has_value());
  EXPECT_EQ(offsets().at(0).start, 0);
  EXPECT_TRUE(say("a", 0, 0)) << "it is with the member still";
  advance(31'000);
  EXPECT_THAT(get("b"), ElementsAre(ShareRange{1, 2, 2})) << "without a restart";
  EXPECT_TRUE(say("b", 1, 2));
  EXPECT_EQ(offsets().at(0).start, 3);
}

TEST_F(ShareGroupTest, TheJournalHearsOfWhatWasTakenBack) {
  joins("a");
  give(2);
  get("a");
  std::optional<Result<>> first, second;
  auto accept = [&](int64_t at, std::optional<Result<>>& told) {
    shares().settleShares(who_, "g", "a", {{place(), {{at, at, {ShareVerdict::kAccept}}}}},
                          [&](Result<ShareSettled> settled) { told = settled->results.at(0); });
  };
  const size_t owner = std::hash<std::string_view>{}("g") % loops_.size();
  on(owner, [&] { accept(0, first); });
  run();
  // The group writes again before it hears of the failure.
  loops_[owner]->post([&] { accept(1, second); });
  store_->failPending({ErrorKind::kIo, "the disk said no"});
  settle();
  ASSERT_TRUE(first && second);
  EXPECT_FALSE(first->has_value());
  EXPECT_TRUE(second->has_value());
  crash();
  EXPECT_THAT(get("b"), ElementsAre(ShareRange{0, 0, 1}));
}

TEST_F(ShareGroupTest, ALatestStartIsOneForGood) {
  setReset(ShareReset::kLatest);
  joins("a");
  give(3);
  EXPECT_THAT(get("a"), IsEmpty());
  give(1);
  crash();
  EXPECT_THAT(get("a"), ElementsAre(ShareRange{3, 3, 1}))
      << "what came since the group began is not lost with a crash";
}

TEST_F(ShareGroupTest, WhoWaitsIsToldOfWhatComes) {
  joins("a");
  auto waits = ask(wish("a", 5'000));
  auto second = ask(wish("b", 5'000), 1);
  EXPECT_FALSE(waits->answer);
  give(1);
  EXPECT_THAT(rangesOf(waits), ElementsAre(ShareRange{0, 0, 1}));
  EXPECT_FALSE(second->answer);
  EXPECT_TRUE(say("a", 0, 0, ShareVerdict::kRelease));
  EXPECT_THAT(rangesOf(second), ElementsAre(ShareRange{0, 0, 2}));
  auto third = ask(wish("a", 1'000));
  EXPECT_FALSE(third->answer);
  advance(1'500);
  ASSERT_TRUE(third->answer && *third->answer);
  EXPECT_TRUE((*third->answer)->empty()) << "the time was over";
}

TEST_F(ShareGroupTest, WhoHasGoneGetsNothing) {
  joins("a");
  auto waits = ask(wish("a", 5'000));
  on(2, [&] { waits->handle.reset(); });
  give(1);
  EXPECT_FALSE(waits->answer);
  EXPECT_THAT(get("b"), ElementsAre(ShareRange{0, 0, 1}));
  // The answer is on its way when the connection goes.
  EXPECT_TRUE(say("b", 0, 0));
  give(1);
  auto gone = std::make_shared<Asked>();
  on(2, [&] { gone->handle = shares().acquireShares(who_, wish("a"), [](auto) { FAIL(); }); });
  loops_[0]->runAll();
  loops_[1]->runAll();
  on(2, [&] { gone->handle.reset(); });
  settle();
  EXPECT_THAT(get("b"), ElementsAre(ShareRange{1, 1, 1}));
}

TEST_F(ShareGroupTest, LocksEndWithTime) {
  joins("a");
  give(2);
  get("a");
  advance(20'000);
  EXPECT_TRUE(say("a", 1, 1, ShareVerdict::kRenew));
  auto waits = ask(wish("b", 60'000));
  advance(11'000);
  EXPECT_THAT(rangesOf(waits), ElementsAre(ShareRange{0, 0, 2}));
  EXPECT_EQ(say("a", 0, 0).error().kind, ErrorKind::kLocked);
  EXPECT_TRUE(say("a", 1, 1)) << "it was renewed";
}

TEST_F(ShareGroupTest, ARecordThatNobodyDealsWithIsGivenUp) {
  joins("a");
  give(1);
  for (int16_t time = 1; time <= 5; ++time) {
    EXPECT_THAT(get("x"), ElementsAre(ShareRange{0, 0, time}));
    if (time == 3) {  // nobody heard the end of the third time
      crash();
      EXPECT_THAT(get("x"), ElementsAre(ShareRange{0, 0, 3}));
    }
    advance(31'000);
  }
  EXPECT_THAT(get("x"), IsEmpty());
  EXPECT_EQ(offsets().at(0).start, 1);
}

TEST_F(ShareGroupTest, AMemberThatLeavesGivesBack) {
  joins("a");
  give(1);
  get("a");
  EXPECT_THAT(get("b"), IsEmpty());
  beat("a", -1);
  EXPECT_THAT(get("b"), ElementsAre(ShareRange{0, 0, 1}));
  on(1, [&] { shares().releaseShares("g", "b", nullptr); });
  settle();
  EXPECT_THAT(get("c"), ElementsAre(ShareRange{0, 0, 1}));
}

TEST_F(ShareGroupTest, NoMoreRecordsAreOutThanAreAllowed) {
  joins("a");
  give(15);
  EXPECT_THAT(get("a"), ElementsAre(ShareRange{0, 9, 1}));
  auto waits = ask(wish("a", 60'000));
  EXPECT_FALSE(waits->answer);
  EXPECT_TRUE(say("a", 1, 3));
  EXPECT_FALSE(waits->answer) << "the first holds the rest up";
  EXPECT_TRUE(say("a", 0, 0));
  EXPECT_THAT(rangesOf(waits), ElementsAre(ShareRange{10, 13, 1}));
}

TEST_F(ShareGroupTest, WholeBatchesUnlessItIsToBeExact) {
  joins("a");
  produce("t", batchOf({{"k", "1"}, {"k", "2"}, {"k", "3"}}));
  settle();
  ShareAcquire asked = wish("a");
  asked.maxRecords = 1;
  asked.exactly = true;
  EXPECT_THAT(rangesOf(ask(asked)), ElementsAre(ShareRange{0, 0, 1}));
  asked.exactly = false;
  EXPECT_THAT(rangesOf(ask(asked)), ElementsAre(ShareRange{1, 2, 1}));
}

TEST_F(ShareGroupTest, WaitsForAsMuchAsIsAskedFor) {
  joins("a");
  give(1);
  ShareAcquire asked = wish("a", 5'000);
  asked.minBytes = 100;
  auto waits = ask(asked);
  EXPECT_FALSE(waits->answer);
  give(1);
  EXPECT_THAT(rangesOf(waits), ElementsAre(ShareRange{0, 1, 1}));
  give(1);
  auto little = ask(asked);
  EXPECT_FALSE(little->answer);
  advance(6'000);
  EXPECT_THAT(rangesOf(little), ElementsAre(ShareRange{2, 2, 1})) << "better than nothing";
}

TEST_F(ShareGroupTest, DeletedRecordsAndTopicsArePassedOver) {
  joins("a");
  give(5);
  get("a");
  on(0, [&] { router_->deleteRecords(who_, "t", 0, Offset(3), [](auto) {}); });
  settle();
  EXPECT_EQ(offsets().at(0).start, 3);
  EXPECT_TRUE(say("a", 0, 4)) << "those that have gone are of no interest";
  auto waits = ask(wish("a", 60'000));
  EXPECT_FALSE(waits->answer);
  on(0, [&] { router_->deleteTopic(who_, "t", [](Result<>) {}); });
  settle();
  ASSERT_TRUE(waits->answer && *waits->answer);
  EXPECT_EQ((*waits->answer)->parts.at(0).error->kind, ErrorKind::kNotFound);
  EXPECT_THAT(offsets(), IsEmpty());
  crash();
  EXPECT_THAT(offsets(), IsEmpty());
}

TEST_F(ShareGroupTest, OperatorsMoveEmptyGroups) {
  joins("a");
  give(5);
  get("a");
  EXPECT_TRUE(say("a", 0, 4));
  EXPECT_EQ(alter(1).error().kind, ErrorKind::kGroupNotEmpty);
  beat("a", -1);
  EXPECT_EQ(alter(-1).error().kind, ErrorKind::kInvalid);
  EXPECT_TRUE(alter(1));
  crash();
  EXPECT_EQ(offsets().at(0).start, 1);
  EXPECT_EQ(offsets().at(0).lag, 4);
  EXPECT_THAT(get("b"), ElementsAre(ShareRange{1, 4, 1}));
  Result<std::vector<Result<>>> deleted = fail(ErrorKind::kInternal, "not called");
  on(0, [&] {
    shares().deleteShareOffsets(who_, "g", {"t", "none"}, [&](auto results) { deleted = results; });
  });
  settle();
  ASSERT_TRUE(deleted.has_value());
  EXPECT_TRUE(deleted->at(0));
  EXPECT_EQ(deleted->at(1).error().kind, ErrorKind::kNotFound);
  EXPECT_THAT(offsets(), IsEmpty());
}

TEST_F(ShareGroupTest, WhoWaitsIsToldWhereTheGroupWasMovedTo) {
  joins("a");
  give(5);
  get("a");
  EXPECT_TRUE(say("a", 0, 4));
  beat("a", -1);
  auto waits = ask(wish("b", 5'000));
  EXPECT_FALSE(waits->answer);
  EXPECT_TRUE(alter(2));
  EXPECT_THAT(rangesOf(waits), ElementsAre(ShareRange{2, 4, 1}));
}

TEST_F(ShareGroupTest, AGroupIsDeletedWithAllThatItDid) {
  joins("a");
  give(2);
  get("a");
  EXPECT_TRUE(say("a", 0, 0));
  EXPECT_EQ(deleteGroup().error().kind, ErrorKind::kGroupNotEmpty);
  beat("a", -1);
  EXPECT_TRUE(deleteGroup());
  size_t left = 0;
  for (auto table : {storage::StateTable::kSharePartition, storage::StateTable::kGroupMember}) {
    store_->scanState(table, "", [&](BytesView, BytesView) { return ++left > 0; });
  }
  EXPECT_EQ(left, 0U);
  auto none = ask(wish("a"));
  EXPECT_EQ(none->answer->error().kind, ErrorKind::kNotFound);
  joins("b");
  EXPECT_THAT(get("b"), ElementsAre(ShareRange{0, 1, 1})) << "another group of that name";
}

TEST_F(ShareGroupTest, ADeletionThatACrashInterruptsIsWholeOrNone) {
  options_.groupDefaults.maxSharePartitions = 20'000;
  crash();
  // Of two topics, more partitions than an entry of the journal has room for.
  constexpr size_t kHalf = 6'000;
  for (const char* name : {"many", "more"}) {
    TopicSpec spec;
    spec.name = name;
    spec.partitions = kHalf;
    ASSERT_TRUE(createTopic(spec));
  }
  for (size_t entries : {size_t{0}, size_t{1}, size_t{2}}) {
    joins("a");
    beat("a", -1);
    std::vector<ShareOffset> all(2 * kHalf);
    for (size_t i = 0; i < all.size(); ++i) {
      all[i].topic = i < kHalf ? "many" : "more";
      all[i].partition = static_cast<int32_t>(i % kHalf);
      all[i].start = 5;
    }
    on(0,
       [&] { shares().alterShareOffsets(who_, "g", all, [](auto told) { EXPECT_TRUE(told); }); });
    settle();
    on(0, [&] { router_->deleteGroup(who_, "g", [](Result<>) { FAIL() << "told"; }); });
    run();
    // Each is written when the one before it is durable.
    for (size_t i = 1; i < entries; ++i) {
      store_->commit();
      run();
    }
    store_->keepFirst(std::min<size_t>(entries, 1));
    crash();
    if (entries == 0) {
      EXPECT_EQ(offsets().size(), all.size());
      EXPECT_TRUE(deleteGroup());
    }
    size_t left = 0;
    for (auto table : {storage::StateTable::kGroup, storage::StateTable::kSharePartition}) {
      store_->scanState(table, "", [&](BytesView, BytesView) { return ++left > 0; });
    }
    EXPECT_EQ(left, 0U) << entries;
    EXPECT_EQ(describe().error().kind, ErrorKind::kNotFound);
  }
}

TEST_F(ShareGroupTest, PartitionsAreLimited) {
  joins("a");
  ShareAcquire all = wish("a");
  all.places = {place(0), place(1), place(2), place(3), place(7)};
  auto asked = ask(all);
  ASSERT_TRUE(asked->answer && *asked->answer);
  ASSERT_THAT((*asked->answer)->parts, SizeIs(2));
  EXPECT_EQ((*asked->answer)->parts[0].error->kind, ErrorKind::kBusy);
  EXPECT_EQ((*asked->answer)->parts[1].error->kind, ErrorKind::kNotFound);
}

}  // namespace
}  // namespace polylog::router
