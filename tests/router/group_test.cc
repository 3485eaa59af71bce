#include "router/group.h"

#include "tests/router/group_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

TEST_F(GroupTest, TheFirstRebalanceWaitsForOthers) {
  auto first = join(joining());
  EXPECT_FALSE(first->done);
  advance(150);
  auto second = join(joining(), 2);
  advance(100);
  EXPECT_FALSE(first->done) << "a new member prolongs it";
  advance(300);
  ASSERT_TRUE(first->done && second->done);
  EXPECT_FALSE(first->result.error.has_value());
  EXPECT_EQ(first->result.generation, 1);
  EXPECT_EQ(first->result.protocol, "range");
  EXPECT_EQ(first->result.protocolType, "consumer");
  EXPECT_THAT(first->result.members, SizeIs(2));
  EXPECT_EQ(first->result.members[0].metadata, "meta");
  EXPECT_THAT(second->result.members, IsEmpty());
  EXPECT_EQ(second->result.leader, first->result.memberId);
  EXPECT_TRUE(first->result.memberId.starts_with("client-"));
}

TEST_F(GroupTest, MemberIdRequiredComesFirst) {
  GroupJoin asked = joining();
  asked.requireKnownMemberId = true;
  auto first = join(asked);
  ASSERT_TRUE(first->done);
  EXPECT_EQ(first->result.error->kind, ErrorKind::kMemberIdRequired);
  ASSERT_FALSE(first->result.memberId.empty());
  asked.memberId = first->result.memberId;
  auto second = join(asked);
  advance(500);
  ASSERT_TRUE(second->done);
  EXPECT_FALSE(second->result.error.has_value());
  EXPECT_EQ(second->result.memberId, first->result.memberId);
}

TEST_F(GroupTest, UnknownMembersAndGenerations) {
  EXPECT_EQ(join(joining("nobody"))->result.error->kind, ErrorKind::kUnknownMember);
  EXPECT_EQ(heartbeat("nobody", 1).error().kind, ErrorKind::kUnknownMember);
  makeStable();
  EXPECT_EQ(join(joining("nobody"))->result.error->kind, ErrorKind::kUnknownMember);
  EXPECT_TRUE(heartbeat(leader_.memberId, 1).has_value());
  EXPECT_EQ(heartbeat(leader_.memberId, 0).error().kind, ErrorKind::kIllegalGeneration);
  EXPECT_EQ(heartbeat("nobody", 1).error().kind, ErrorKind::kUnknownMember);
  GroupJoined stale = leader_;
  stale.generation = 9;
  EXPECT_EQ(sync(stale)->result.error->kind, ErrorKind::kIllegalGeneration);
}

TEST_F(GroupTest, SyncIsAnsweredWhenTheAssignmentIsDurable) {
  auto first = join(joining());
  advance(500);
  auto syncing = sync(first->result, {{first->result.memberId, "A"}}, false);
  EXPECT_FALSE(syncing->done);
  settle();
  ASSERT_TRUE(syncing->done);
  EXPECT_EQ(syncing->result.assignment, "A");
}

TEST_F(GroupTest, AFailedAssignmentWriteRebalances) {
  auto first = join(joining());
  advance(500);
  auto syncing = sync(first->result, {{first->result.memberId, "A"}}, false);
  failWrites();
  settle();
  ASSERT_TRUE(syncing->done);
  EXPECT_TRUE(syncing->result.error.has_value());
  EXPECT_EQ(state(), "PreparingRebalance");
}

TEST_F(GroupTest, ANewMemberRebalancesAStableGroup) {
  makeStable();
  auto third = join(joining());
  EXPECT_FALSE(third->done);
  EXPECT_EQ(heartbeat(leader_.memberId, 1).error().kind, ErrorKind::kRebalanceInProgress);
  EXPECT_EQ(sync(leader_)->result.error->kind, ErrorKind::kRebalanceInProgress);
  auto first = join(joining(leader_.memberId));
  EXPECT_FALSE(first->done);
  auto second = join(joining(follower_.memberId));
  ASSERT_TRUE(first->done && second->done && third->done);
  EXPECT_EQ(third->result.generation, 2);
  EXPECT_EQ(first->result.leader, leader_.memberId);
  EXPECT_THAT(first->result.members, SizeIs(3));
}

TEST_F(GroupTest, WhoDoesNotJoinAgainInTimeIsOut) {
  makeStable();
  auto first = join(joining(leader_.memberId));
  EXPECT_FALSE(first->done) << "the leader joined again: a rebalance";
  advance(9'000);
  EXPECT_TRUE(first->done || heartbeat(follower_.memberId, 1).error().kind ==
                                 ErrorKind::kRebalanceInProgress);
  advance(25'000);
  ASSERT_TRUE(first->done);
  EXPECT_THAT(first->result.members, SizeIs(1));
  EXPECT_EQ(heartbeat(follower_.memberId, 1).error().kind, ErrorKind::kUnknownMember);
}

TEST_F(GroupTest, SilenceEndsAMembership) {
  makeStable();
  for (int i = 0; i < 4; ++i) {
    advance(4'000);
    auto beat = heartbeat(leader_.memberId, 1);
    if (i < 2) {
      EXPECT_TRUE(beat.has_value()) << i;
    } else {
      EXPECT_EQ(beat.error().kind, ErrorKind::kRebalanceInProgress) << i;
    }
  }
  auto again = join(joining(leader_.memberId));
  ASSERT_TRUE(again->done);
  EXPECT_THAT(again->result.members, SizeIs(1));
}

TEST_F(GroupTest, WhoDoesNotSyncIsOut) {
  auto first = join(joining());
  auto second = join(joining());
  advance(500);
  ASSERT_TRUE(second->done);
  // The follower lives (it sends heartbeats) but never syncs.
  sync(first->result, {{first->result.memberId, "A"}});
  for (int i = 0; i < 8; ++i) {
    (void)heartbeat(second->result.memberId, 1);
    (void)heartbeat(first->result.memberId, 1);
    advance(4'000);
  }
  EXPECT_EQ(heartbeat(second->result.memberId, 1).error().kind, ErrorKind::kUnknownMember);
  EXPECT_EQ(heartbeat(first->result.memberId, 1).error().kind, ErrorKind::kRebalanceInProgress);
}

TEST_F(GroupTest, LeavingRebalancesAndTheLastOneEmptiesTheGroup) {
  makeStable();
  EXPECT_TRUE(leave(follower_.memberId).has_value());
  EXPECT_EQ(leave(follower_.memberId).error().kind, ErrorKind::kUnknownMember);
  EXPECT_EQ(state(), "PreparingRebalance");
  auto again = join(joining(leader_.memberId));
  ASSERT_TRUE(again->done);
  EXPECT_TRUE(leave(leader_.memberId).has_value());
  advance(31'000);
  EXPECT_EQ(state(), "Empty");
}

TEST_F(GroupTest, LostJoinAnswersAreRepeatedWithoutARebalance) {
  makeStable();
  auto again = join(joining(follower_.memberId));
  ASSERT_TRUE(again->done);
  EXPECT_EQ(again->result.generation, 1);
  EXPECT_EQ(state(), "Stable");
  auto changed = join(joining(follower_.memberId, {{"range", "other topics"}}));
  EXPECT_FALSE(changed->done);
  EXPECT_EQ(state(), "PreparingRebalance");
}

TEST_F(GroupTest, TheProtocolThatAllSupportAndMostPrefer) {
  auto a = join(joining({}, {{"sticky", ""}, {"range", ""}}));
  auto b = join(joining({}, {{"range", ""}, {"sticky", ""}, {"own", ""}}));
  auto c = join(joining({}, {{"range", ""}, {"sticky", ""}}));
  auto d = join(joining({}, {{"foreign", ""}}));
  EXPECT_EQ(d->result.error->kind, ErrorKind::kInconsistentProtocol);
  advance(1000);
  ASSERT_TRUE(a->done);
  EXPECT_EQ(a->result.protocol, "range");
  GroupJoin other = joining();
  other.protocolType = "connect";
  EXPECT_EQ(join(other)->result.error->kind, ErrorKind::kInconsistentProtocol);
}

TEST_F(GroupTest, AStaticMemberComesBackWithoutARebalance) {
  GroupJoin asked = joining();
  asked.instanceId = "one";
  auto first = join(asked);
  advance(500);
  ASSERT_TRUE(first->done);
  sync(first->result, {{first->result.memberId, "A"}});
  auto again = join(asked);
  ASSERT_TRUE(again->done);
  EXPECT_FALSE(again->result.error.has_value());
  EXPECT_EQ(again->result.generation, 1);
  EXPECT_NE(again->result.memberId, first->result.memberId);
  EXPECT_NE(again->result.leader, again->result.memberId);
  EXPECT_EQ(heartbeat(first->result.memberId, 1, "one").error().kind, ErrorKind::kFencedInstance);
  EXPECT_TRUE(heartbeat(again->result.memberId, 1, "one").has_value());
  EXPECT_EQ(sync(again->result)->result.assignment, "A");
  crash();
  EXPECT_TRUE(heartbeat(again->result.memberId, 1, "one").has_value());
  EXPECT_TRUE(leave("", "one").has_value());
  EXPECT_EQ(heartbeat(again->result.memberId, 1, "one").error().kind, ErrorKind::kUnknownMember);
}

TEST_F(GroupTest, AStaticMemberIsGivenItsSessionToComeBack) {
  GroupJoin asked = joining();
  asked.instanceId = "one";
  asked.sessionTimeoutMs = 100'000;
  auto first = join(asked);
  advance(500);
  sync(first->result, {{first->result.memberId, "A"}});
  auto second = join(joining());
  advance(31'000);
  // The rebalance goes on without it, but it is still a member.
  ASSERT_TRUE(second->done);
  EXPECT_EQ(second->result.leader, second->result.memberId);
  EXPECT_THAT(second->result.members, SizeIs(2));
}

TEST_F(GroupTest, AStableGroupSurvivesACrash) {
  makeStable();
  EXPECT_TRUE(commit({{"t", 0, 42, 3, "note"}}, leader_.memberId, 1).has_value());
  crash();
  EXPECT_EQ(state(), "Stable");
  EXPECT_TRUE(heartbeat(leader_.memberId, 1).has_value());
  EXPECT_EQ(sync(follower_)->result.assignment, "B");
  EXPECT_EQ(offset("t", 0), 42);
  auto description = describe();
  ASSERT_THAT(description->offsets, SizeIs(1));
  EXPECT_EQ(description->offsets[0].metadata, "note");
  EXPECT_EQ(description->offsets[0].leaderEpoch, 3);
  EXPECT_EQ(description->members.at(1).assignment, "B");
  advance(11'000);
  EXPECT_EQ(heartbeat(leader_.memberId, 1).error().kind, ErrorKind::kUnknownMember);
}

// ---------------------------------------------------------------- offsets

TEST_F(GroupTest, CommitsAreToldWhenDurable) {
  bool done = false;
  on(0, [&] {
    GroupCommit asked;
    asked.group = "g";
    asked.offsets = {{"t", 0, 5, -1, ""}};
    router_->commitOffsets(who_, asked, [&](auto) { done = true; });
  });
  run();
  EXPECT_FALSE(done);
  store_->commit();
  run();
  EXPECT_TRUE(done);
}

TEST_F(GroupTest, CommitsFromOutsideOnlyWhileTheGroupIsEmpty) {
  EXPECT_TRUE(commit({{"t", 1, 7, -1, ""}}).has_value());
  EXPECT_EQ(offset("t", 1), 7);
  EXPECT_EQ(offset("t", 2), -1);
  makeStable();
  EXPECT_EQ(commit({{"t", 1, 8, -1, ""}}).error().kind, ErrorKind::kUnknownMember);
  EXPECT_EQ(commit({{"t", 1, 8, -1, ""}}, leader_.memberId, 0).error().kind,
            ErrorKind::kIllegalGeneration);
  EXPECT_TRUE(commit({{"t", 1, 8, -1, ""}}, leader_.memberId, 1).has_value());
  EXPECT_EQ(offset("t", 1), 8);
  EXPECT_EQ(commit({{"t", 1, 8, -1, ""}}, "m", 3, "unknown").error().kind,
            ErrorKind::kNotFound);
}

TEST_F(GroupTest, EachOffsetHasItsResult) {
  auto results = commit({{"t", 0, 1, -1, ""},
                         {"t", 9, 1, -1, ""},
                         {"none", 0, 1, -1, ""},
                         {"t", 1, 1, -1, std::string(5000, 'x')}});
  ASSERT_TRUE(results.has_value());
  ASSERT_THAT(*results, SizeIs(4));
  EXPECT_TRUE((*results)[0].has_value());
  EXPECT_EQ((*results)[1].error().kind, ErrorKind::kNotFound);
  EXPECT_EQ((*results)[2].error().kind, ErrorKind::kNotFound);
  EXPECT_EQ((*results)[3].error().kind, ErrorKind::kTooLarge);
}

TEST_F(GroupTest, AFailedCommitChangesNothing) {
  commit({{"t", 0, 1, -1, ""}});
  Result<std::vector<Result<>>> answer = fail(ErrorKind::kInternal, "");
  on(0, [&] {
    GroupCommit asked;
    asked.group = "g";
    asked.offsets = {{"t", 0, 2, -1, ""}};
    router_->commitOffsets(who_, asked, [&](auto results) { answer = std::move(results); });
  });
  run();
  failWrites();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->at(0).error().kind, ErrorKind::kIo);
  EXPECT_EQ(offset("t", 0), 1);
}

TEST_F(GroupTest, DeletingATopicForgetsItsOffsets) {
  TopicSpec other;
  other.name = "u";
  ASSERT_TRUE(createTopic(other));
  commit({{"t", 0, 1, -1, ""}, {"u", 0, 2, -1, ""}});
  bool deleted = false;
  on(0, [&] { router_->deleteTopic(who_, "t", [&](Result<> r) { deleted = r.has_value(); }); });
  settle();
  EXPECT_TRUE(deleted);
  EXPECT_EQ(offset("t", 0), -1);
  EXPECT_EQ(offset("u", 0), 2);
  TopicSpec again;
  again.name = "t";
  ASSERT_TRUE(createTopic(again));
  crash();
  EXPECT_EQ(offset("t", 0), -1);
  EXPECT_EQ(offset("u", 0), 2);
}

TEST_F(GroupTest, OnlyAnEmptyGroupIsDeleted) {
  EXPECT_EQ(deleteGroup().error().kind, ErrorKind::kNotFound);
  makeStable();
  commit({{"t", 0, 1, -1, ""}}, leader_.memberId, 1);
  EXPECT_EQ(deleteGroup().error().kind, ErrorKind::kGroupNotEmpty);
  leave(leader_.memberId);
  leave(follower_.memberId);
  advance(31'000);
  EXPECT_TRUE(deleteGroup().has_value());
  EXPECT_EQ(describe().error().kind, ErrorKind::kNotFound);
  crash();
  EXPECT_EQ(describe().error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(offset("t", 0), -1);
}

TEST_F(GroupTest, ListsAllGroups) {
  commit({{"t", 0, 1, -1, ""}}, {}, -1, "one");
  commit({{"t", 0, 1, -1, ""}}, {}, -1, "two");
  makeStable();
  std::vector<std::string> names;
  on(1, [&] {
    router_->listGroups(who_, [&](std::vector<GroupDescription> groups) {
      for (auto& group : groups) names.push_back(group.group + " " + group.state);
    });
  });
  settle();
  EXPECT_THAT(names, ElementsAre("g Stable", "one Empty", "two Empty"));
}

TEST_F(GroupTest, OldEmptyGroupsAreForgotten) {
  options_.offsetsRetentionMillis = 3'600'000;
  crash();
  commit({{"t", 0, 1, -1, ""}});
  advance(3'000'000);
  EXPECT_EQ(offset("t", 0), 1);
  for (int i = 0; i < 4; ++i) advance(600'000);
  EXPECT_EQ(describe().error().kind, ErrorKind::kNotFound);
}

}  // namespace
}  // namespace polylog::router
