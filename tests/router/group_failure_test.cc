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
    failWrites();  // and it is tried again at once
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

TEST_F(GroupFailureTest, ADeletionThatFailedSparesWhatIsCommittedSince) {
  commit({{"t", 0, 5, -1, ""}, {"t", 1, 6, -1, ""}});
  EXPECT_FALSE(failToDelete().has_value());
  ASSERT_TRUE(commit({{"t", 0, 9, -1, ""}})->at(0).has_value());
  advance(3'000);  // the deletion has been tried again
  EXPECT_EQ(offset("t", 0), 9);
  crash();
  EXPECT_EQ(offset("t", 0), 9);
  EXPECT_EQ(offset("t", 1), -1) << "the rest of it is deleted all the same";
}

TEST_F(GroupFailureTest, ADeletionSparedForACommitThatFailedIsMadeUpFor) {
  commit({{"t", 0, 5, -1, ""}});
  EXPECT_FALSE(failToDelete().has_value());
  clock_.advance(990'000);
  on(owner(), [&] {
    GroupCommit asked;
    asked.group = "g";
    asked.offsets = {{"t", 0, 9, -1, ""}};
    router_->commitOffsets(who_, asked, [](auto) {});
  });
  clock_.advance(20'000);
  run();  // the retry finds the commit on its way
  failWrites();
  advance(3'000);
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
    router_->commitOffsets(who_, asked, [&](auto results) { committed = results->at(0).has_value(); });
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

}  // namespace
}  // namespace polylog::router
