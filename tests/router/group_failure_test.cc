// Groups when timers and messages cross, when writes fail, and what is left of groups without use.
#include <algorithm>

#include "tests/router/group_fixture.h"

namespace polylog::router {
namespace {

class GroupFailureTest : public GroupTest {
 protected:
  /// The worker that has group "g".
  size_t owner() const { return std::hash<std::string_view>{}("g") % loops_.size(); }
  /// Runs `work` on the owner after `millis`, behind timers that are due until then and before what
  /// they leave for the end of the round.
  void among(int64_t millis, Task work) {
    auto timer = loops_[owner()]->makeTimer(std::move(work));
    on(owner(), [&] { timer->start(millis * 1000); });
    clock_.advance(millis * 1000);
    settle();
  }
  void beat(const GroupJoined& as) {
    router_->heartbeat(who_, {"g", as.memberId, std::nullopt, as.generation}, [](Result<>) {});
  }
  /// It is tried again after a second.
  Result<> failToDelete() {
    Result<> deleted;
    on(0, [&] { router_->deleteGroup(who_, "g", [&](Result<> result) { deleted = result; }); });
    run();
    failWrites();
    return deleted;
  }
  Result<> removeTopic(const std::string& name) {
    Result<> answer = fail(ErrorKind::kInternal, "not called");
    on(0, [&] { router_->deleteTopic(who_, name, [&](Result<> result) { answer = result; }); });
    settle();
    return answer;
  }
};

// ---------------------------------------------------------------- timers

TEST_F(GroupFailureTest, AHeartbeatInTheRoundOfTheTimeoutCounts) {
  makeStable();
  advance(5'000);
  on(owner(), [&] {
    beat(leader_);
    beat(follower_);
  });
  // Both are due 10 s later; the leader is heard in the very round.
  among(10'000, [&] { beat(leader_); });
  EXPECT_EQ(heartbeat(follower_.memberId, 1).error().kind, ErrorKind::kUnknownMember);
  EXPECT_EQ(heartbeat(leader_.memberId, 1).error().kind, ErrorKind::kRebalanceInProgress);
}

TEST_F(GroupFailureTest, TheTimeoutOfARebalanceThatIsOverEndsNoLaterOne) {
  makeStable();
  auto quick = [](GroupJoin asked) {
    asked.rebalanceTimeoutMs = 3'000;
    return asked;
  };
  auto again = [&](const std::string& member, const char* metadata) {
    router_->joinGroup(who_, quick(joining(member, {{"range", metadata}})), [](GroupJoined) {});
  };
  // A rebalance that waits for the follower, which comes in the round of the timeout; at once the
  // leader wants the next.
  for (const auto* member : {&leader_, &follower_}) {
    on(owner(), [&] { again(member->memberId, "new"); });
    settle();
  }
  ASSERT_EQ(state(), "CompletingRebalance");
  on(owner(), [&] { again(leader_.memberId, "newer"); });
  settle();
  ASSERT_EQ(state(), "PreparingRebalance");
  among(3'000, [&] {
    again(follower_.memberId, "newer");
    again(leader_.memberId, "newest");
  });
  EXPECT_EQ(state(), "PreparingRebalance");
  EXPECT_TRUE(describe()->members.size() == 2) << "the follower has time for the new one";
}

// ---------------------------------------------------------------- groups without use

TEST_F(GroupFailureTest, RefusedRequestsLeaveNoGroupBehind) {
  GroupJoin refused = joining();
  refused.sessionTimeoutMs = 0;
  EXPECT_EQ(join(refused)->result.error->kind, ErrorKind::kInvalid);
  EXPECT_EQ(describe().error().kind, ErrorKind::kNotFound);
  EXPECT_FALSE(commit({{"nowhere", 0, 1, -1, ""}})->at(0).has_value());
  EXPECT_EQ(describe().error().kind, ErrorKind::kNotFound);
}

TEST_F(GroupFailureTest, AnEmptyGroupWithoutOffsetsIsForgottenSoon) {
  auto first = join(joining());
  advance(500);
  leave(first->result.memberId);
  advance(31'000);
  ASSERT_EQ(state(), "Empty");
  for (int i = 0; i < 2; ++i) advance(600'000);
  EXPECT_EQ(describe().error().kind, ErrorKind::kNotFound);
  crash();
  EXPECT_EQ(describe().error().kind, ErrorKind::kNotFound);
}

// ---------------------------------------------------------------- deletions

TEST_F(GroupFailureTest, WhileADeletionIsOwedThereIsNoneOfItsName) {
  commit({{"t", 0, 5, -1, ""}, {"t", 1, 6, -1, ""}});
  EXPECT_FALSE(failToDelete().has_value());
  EXPECT_EQ(commit({{"t", 0, 9, -1, ""}}).error().kind, ErrorKind::kConcurrentTransaction);
  EXPECT_EQ(join(joining())->result.error->kind, ErrorKind::kConcurrentTransaction);
  EXPECT_EQ(deleteGroup().error().kind, ErrorKind::kConcurrentTransaction);
  advance(3'000);  // the deletion has been tried again
  ASSERT_TRUE(commit({{"t", 0, 9, -1, ""}})->at(0).has_value());
  crash();
  EXPECT_EQ(offset("t", 0), 9);
  EXPECT_EQ(offset("t", 1), -1);
}

TEST_F(GroupFailureTest, ADeletionIsTriedUntilItSucceeds) {
  commit({{"t", 0, 5, -1, ""}});
  EXPECT_FALSE(failToDelete().has_value());
  for (int i = 0; i < 3; ++i) {
    clock_.advance(1'000'000);
    run();
    failWrites();
  }
  clock_.advance(1'000'000);
  run();
  store_->commit();
  crash();
  EXPECT_EQ(offset("t", 0), -1);
}

TEST_F(GroupFailureTest, ATopicMadeAnewKeepsWhatIsCommittedForIt) {
  commit({{"t", 0, 5, -1, ""}, {"t", 1, 6, -1, ""}});
  on(0, [&] { router_->deleteTopic(who_, "t", [](Result<>) {}); });
  run();
  store_->commit();
  // The groups have not heard of it yet.
  TopicSpec again;
  again.name = "t";
  again.partitions = 4;
  bool committed = false;
  on(owner(), [&] {
    router_->createTopic(who_, again, [](auto) {});
    GroupCommit asked;
    asked.group = "g";
    asked.offsets = {{"t", 0, 1, -1, ""}};
    router_->commitOffsets(who_, asked,
                           [&](auto results) { committed = results->at(0).has_value(); });
  });
  settle();
  ASSERT_TRUE(committed);
  EXPECT_EQ(offset("t", 0), 1);
  EXPECT_EQ(offset("t", 1), -1);
  crash();
  EXPECT_EQ(offset("t", 0), 1);
  EXPECT_EQ(offset("t", 1), -1);
  EXPECT_TRUE(removeTopic("t").has_value());
  EXPECT_EQ(offset("t", 0), -1);
}

// ---------------------------------------------------------------- a crash in the middle

/// Whatever the journal has of a deletion after a crash, the group is whole or gone.
class GroupDeletionTest : public GroupFailureTest {
 protected:
  /// Of two topics, more offsets than an entry of the journal has room for.
  static constexpr int32_t kHalf = 6'000;
  static constexpr int32_t kMany = 2 * kHalf;

  void SetUp() override {
    GroupFailureTest::SetUp();
    for (const char* name : {"many", "more"}) {
      TopicSpec spec;
      spec.name = name;
      spec.partitions = kHalf;
      ASSERT_TRUE(createTopic(spec));
    }
  }
  void commitAll(int32_t count) {
    std::vector<GroupOffset> offsets;
    for (int32_t i = 0; i < count; ++i) {
      offsets.push_back({i < kHalf ? "many" : "more", i % kHalf, 7, -1, ""});
    }
    auto results = commit(std::move(offsets));
    ASSERT_TRUE(results && results->back());
  }
  /// A group that has had a member.
  void makeGroup(GroupKind kind) {
    if (kind == GroupKind::kClassic) {
      auto first = join(joining());
      advance(500);
      leave(first->result.memberId);
    } else {
      ConsumerHeartbeat beat;
      beat.group = "g";
      beat.memberId = "a";
      beat.rebalanceTimeoutMs = 60'000;
      beat.topics = {"t"};
      beat.owned = Assignment{};
      for (int32_t epoch : {0, -1}) {
        beat.epoch = epoch;
        on(1,
           [&] { router_->consumerHeartbeat(who_, beat, [](auto told) { EXPECT_TRUE(told); }); });
        settle();
      }
    }
    ASSERT_EQ(describe()->kind, kind);
  }
  /// The broker dies while the deletion is under way, of which the journal has some entries.
  void dieDeleting(size_t entries) {
    on(0, [&] { router_->deleteGroup(who_, "g", [](Result<>) { FAIL() << "told"; }); });
    run();
    // Each is written when the one before it is durable.
    for (size_t i = 1; i < entries; ++i) {
      store_->commit();
      run();
    }
    store_->keepFirst(std::min<size_t>(entries, 1));
    crash();
  }
  /// Without committing what the broker writes at its start.
  void startAgain() {
    std::vector<Dispatcher*> dispatchers;
    for (size_t i = 0; i < workerCount_; ++i) {
      loops_.push_back(std::make_unique<test::ManualDispatcher>(clock_));
      dispatchers.push_back(loops_.back().get());
    }
    auto made = makeRouter(*store_, dispatchers, clock_, random_, options_);
    ASSERT_TRUE(made.has_value());
    router_ = std::move(*made);
    router_->start();
    run();
  }
  size_t left() {
    size_t count = 0;
    for (auto table : {storage::StateTable::kGroup, storage::StateTable::kGroupMember,
                       storage::StateTable::kGroupOffset}) {
      store_->scanState(table, "", [&](BytesView, BytesView) { return ++count > 0; });
    }
    return count;
  }
};

TEST_F(GroupDeletionTest, OfOneEntryIsWholeOrGone) {
  for (GroupKind kind : {GroupKind::kClassic, GroupKind::kConsumer}) {
    makeGroup(kind);
    commitAll(3);
    dieDeleting(0);
    ASSERT_TRUE(describe());
    EXPECT_EQ(describe()->kind, kind);
    EXPECT_EQ(describe()->offsets.size(), 3U);
    dieDeleting(1);
    EXPECT_EQ(describe().error().kind, ErrorKind::kNotFound);
    EXPECT_EQ(offset("many", 0), -1);
    EXPECT_EQ(left(), 0U);
  }
}

TEST_F(GroupDeletionTest, OfManyEntriesIsWholeOrGone) {
  for (GroupKind kind : {GroupKind::kClassic, GroupKind::kConsumer}) {
    for (size_t entries : {size_t{0}, size_t{1}, size_t{2}}) {
      makeGroup(kind);
      commitAll(kMany);
      dieDeleting(entries);
      if (entries == 0) {
        ASSERT_TRUE(describe());
        EXPECT_EQ(describe()->offsets.size(), size_t{kMany});
        ASSERT_TRUE(deleteGroup());
      }
      EXPECT_EQ(describe().error().kind, ErrorKind::kNotFound) << entries;
      EXPECT_EQ(offset("more", kHalf - 1), -1);
      EXPECT_EQ(left(), 0U);
    }
  }
}

TEST_F(GroupDeletionTest, OneOfItsNameHasItsOwnOffsets) {
  commitAll(kMany);
  on(0, [&] { router_->deleteGroup(who_, "g", [](Result<>) {}); });
  run();
  store_->keepFirst(1);
  crash();
  commitAll(2);
  crash();
  EXPECT_EQ(offset("many", 1), 7);
  EXPECT_EQ(offset("many", 2), -1);
  EXPECT_EQ(left(), 2U);
}

TEST_F(GroupDeletionTest, ThatIsTriedAgainIsWholeOrGone) {
  commitAll(kMany);
  EXPECT_FALSE(failToDelete());
  clock_.advance(1'000'000);
  run();
  store_->keepFirst(1);
  crash();
  EXPECT_EQ(describe().error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(left(), 0U);
}

TEST_F(GroupDeletionTest, ThatFailsInTheMiddleIsWholeOrGone) {
  commitAll(kMany);
  on(0, [&] { router_->deleteGroup(who_, "g", [](Result<> result) { EXPECT_FALSE(result); }); });
  run();
  store_->commit();
  run();
  failWrites();
  EXPECT_EQ(commit({{"t", 0, 9, -1, ""}}).error().kind, ErrorKind::kConcurrentTransaction);
  crash();
  EXPECT_EQ(describe().error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(left(), 0U);
}

TEST_F(GroupDeletionTest, OfAGroupWithoutUseIsWholeOrGone) {
  commitAll(kMany);
  clock_.advance((options_.offsetsRetentionMillis + 600'000) * 1000);
  run();
  store_->keepFirst(store_->pending());
  crash();
  EXPECT_EQ(describe().error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(left(), 0U);
}

TEST_F(GroupDeletionTest, TheClockHasNoSayAtAStart) {
  clock_.setWallMillis(clock_.wallMillis() + 3'600'000);
  commitAll(kMany);
  clock_.setWallMillis(clock_.wallMillis() - 3'600'000);
  dieDeleting(1);
  EXPECT_EQ(describe().error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(left(), 0U);
}

TEST_F(GroupDeletionTest, ThatCannotGoOnAtAStartGoesOnLater) {
  commitAll(kMany);
  on(0, [&] { router_->deleteGroup(who_, "g", [](Result<>) {}); });
  run();
  store_->keepFirst(1);
  end();
  store_ = store_->afterCrash();
  startAgain();
  failWrites();
  EXPECT_GT(left(), 0U);
  EXPECT_EQ(commit({{"t", 0, 9, -1, ""}}).error().kind, ErrorKind::kConcurrentTransaction);
  advance(2'000);
  EXPECT_EQ(left(), 0U);
  EXPECT_TRUE(commit({{"t", 0, 9, -1, ""}})->at(0));
}

}  // namespace
}  // namespace polylog::router
