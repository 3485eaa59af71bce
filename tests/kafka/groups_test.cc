#include "tests/kafka/harness.h"

namespace polylog::kafka::test {
namespace {

class GroupsTest : public KafkaTest {
 protected:
  static wire::JoinGroupRequest joining() {
    wire::JoinGroupRequest request;
    request.groupId = "g";
    request.sessionTimeoutMs = 10'000;
    request.rebalanceTimeoutMs = 20'000;
    request.protocolType = "consumer";
    request.protocols.push_back({"range", "meta"});
    return request;
  }
};

TEST_F(GroupsTest, FindsItselfAsTheCoordinator) {
  for (int16_t version = 0; version <= 6; ++version) {
    wire::FindCoordinatorRequest request;
    request.key = "g";
    request.keys = {"g"};
    auto response = ask<wire::FindCoordinatorResponse>(request, version);
    if (version < 4) {
      EXPECT_EQ(response.errorCode, 0);
      EXPECT_EQ(response.nodeId, 1);
      EXPECT_EQ(response.host, "127.0.0.1");
    } else {
      ASSERT_EQ(response.coordinators.size(), 1U);
      EXPECT_EQ(response.coordinators[0].key, "g");
      EXPECT_EQ(response.coordinators[0].port, 1883);
    }
    if (version < 1) continue;
    request.keyType = 1;
    response = ask<wire::FindCoordinatorResponse>(request, version);
    EXPECT_EQ(version < 4 ? response.errorCode : response.coordinators.at(0).errorCode, 0)
        << "transactions are coordinated here too";
  }
}

TEST_F(GroupsTest, JoinsInEveryVersion) {
  broker_.joined.generation = 3;
  broker_.joined.protocolType = "consumer";
  broker_.joined.protocol = "range";
  broker_.joined.leader = "m1";
  broker_.joined.memberId = "m1";
  broker_.joined.members.push_back({"m1", std::string("static"), "meta"});
  for (int16_t version = 0; version <= 9; ++version) {
    auto response = ask<wire::JoinGroupResponse>(joining(), version);
    EXPECT_EQ(response.errorCode, 0);
    EXPECT_EQ(response.generationId, 3);
    EXPECT_EQ(response.protocolName, "range");
    EXPECT_EQ(response.leader, "m1");
    ASSERT_EQ(response.members.size(), 1U);
    EXPECT_EQ(response.members[0].metadata, "meta");
    if (version >= 5) {
      EXPECT_EQ(response.members[0].groupInstanceId, "static");
    }
    if (version >= 7) {
      EXPECT_EQ(response.protocolType, "consumer");
    }

    const GroupJoin& join = broker_.joins.back();
    EXPECT_EQ(join.group, "g");
    EXPECT_EQ(join.clientId, "tester");
    EXPECT_EQ(join.clientHost, "/127.0.0.1");
    EXPECT_EQ(join.rebalanceTimeoutMs, version == 0 ? 10'000 : 20'000);
    EXPECT_EQ(join.requireKnownMemberId, version >= 4);
    ASSERT_EQ(join.protocols.size(), 1U);
    EXPECT_EQ(join.protocols[0].metadata, "meta");
  }
}

TEST_F(GroupsTest, StaticMembersNeedNoSecondJoin) {
  auto request = joining();
  request.groupInstanceId = "one";
  ask<wire::JoinGroupResponse>(request, 5);
  EXPECT_FALSE(broker_.joins.back().requireKnownMemberId);
  EXPECT_EQ(broker_.joins.back().instanceId, "one");
}

TEST_F(GroupsTest, TellsTheMemberIdToJoinAgainWith) {
  broker_.joined.error = Error{ErrorKind::kMemberIdRequired, ""};
  broker_.joined.memberId = "m-new";
  for (int16_t version : {int16_t{4}, int16_t{9}}) {
    auto response = ask<wire::JoinGroupResponse>(joining(), version);
    EXPECT_EQ(response.errorCode, 79);
    EXPECT_EQ(response.memberId, "m-new");
    EXPECT_EQ(response.protocolName.has_value(), version < 7);
  }
}

TEST_F(GroupsTest, RefusesJoinsThatMakeNoSense) {
  auto refusal = [&](auto change) {
    auto request = joining();
    change(request);
    return ask<wire::JoinGroupResponse>(request, 7).errorCode;
  };
  using Request = wire::JoinGroupRequest;
  EXPECT_EQ(refusal([](Request& r) { r.groupId = ""; }), 24);
  EXPECT_EQ(refusal([](Request& r) { r.sessionTimeoutMs = 10; }), 26);
  EXPECT_EQ(refusal([](Request& r) { r.sessionTimeoutMs = INT32_MAX; }), 26);
  EXPECT_EQ(refusal([](Request& r) { r.protocols.clear(); }), 23);
  std::string name(1025, 'x');
  EXPECT_EQ(refusal([&](Request& r) { r.memberId = name; }), 42);
  EXPECT_EQ(refusal([&](Request& r) { r.groupInstanceId = BytesView(name).substr(0, 256); }), 42);
  EXPECT_EQ(refusal([](Request& r) { r.protocolType = ""; }), 23);
  EXPECT_TRUE(broker_.joins.empty());
}

TEST_F(GroupsTest, Syncs) {
  broker_.synced.assignment = "yours";
  broker_.synced.protocolType = "consumer";
  broker_.synced.protocol = "range";
  wire::SyncGroupRequest request;
  request.groupId = "g";
  request.generationId = 3;
  request.memberId = "m";
  request.protocolType = "consumer";
  request.protocolName = "range";
  request.assignments.push_back({"m", "yours"});
  for (int16_t version = 0; version <= 5; ++version) {
    auto response = ask<wire::SyncGroupResponse>(request, version);
    EXPECT_EQ(response.assignment, "yours");
    EXPECT_EQ(broker_.syncs.back().assignments.at(0).second, "yours");
    EXPECT_EQ(broker_.syncs.back().protocol.has_value(), version >= 5);
  }
  broker_.synced.error = Error{ErrorKind::kRebalanceInProgress, ""};
  EXPECT_EQ(ask<wire::SyncGroupResponse>(request).errorCode, 27);
}

TEST_F(GroupsTest, HeartbeatsTellHowItStands) {
  wire::HeartbeatRequest request{"g", 3, "m", {}};
  const std::pair<ErrorKind, int16_t> kExpected[] = {
      {ErrorKind::kRebalanceInProgress, 27},
      {ErrorKind::kIllegalGeneration, 22},
      {ErrorKind::kUnknownMember, 25},
      {ErrorKind::kFencedInstance, 82},
      {ErrorKind::kNotFound, 25},
  };
  EXPECT_EQ(ask<wire::HeartbeatResponse>(request).errorCode, 0);
  for (auto [kind, expected] : kExpected) {
    broker_.beatResult = fail(kind, "");
    EXPECT_EQ(ask<wire::HeartbeatResponse>(request).errorCode, expected);
  }
}

TEST_F(GroupsTest, Leaves) {
  broker_.leaveResult = std::vector<Result<>>{{}, fail(ErrorKind::kUnknownMember, "")};
  wire::LeaveGroupRequest request;
  request.groupId = "g";
  request.members.push_back({"a", std::nullopt, std::nullopt});
  request.members.push_back({"", BytesView("static"), std::nullopt});
  auto response = ask<wire::LeaveGroupResponse>(request, 5);
  ASSERT_EQ(response.members.size(), 2U);
  EXPECT_EQ(response.members[0].errorCode, 0);
  EXPECT_EQ(response.members[1].errorCode, 25);
  EXPECT_EQ(response.members[1].groupInstanceId, "static");

  broker_.leaveResult = std::vector<Result<>>{fail(ErrorKind::kUnknownMember, "")};
  wire::LeaveGroupRequest old;
  old.groupId = "g";
  old.memberId = "a";
  EXPECT_EQ(ask<wire::LeaveGroupResponse>(old, 1).errorCode, 25);
  EXPECT_EQ(broker_.leaves.back().members.at(0).first, "a");
}

TEST_F(GroupsTest, CommitsAndFetchesOffsets) {
  broker_.addTopic("t", 2);
  wire::OffsetCommitRequest commit;
  commit.groupId = "g";
  commit.generationId = 3;
  commit.memberId = "m";
  auto& topic = commit.topics.emplace_back();
  topic.name = "t";
  topic.partitions.push_back({0, 17, 4, BytesView("note")});
  topic.partitions.push_back({9, 1, -1, std::nullopt});
  commit.topics.push_back({"nope", {}, {{0, 1, -1, std::nullopt}}});
  for (int16_t version = 2; version <= 9; ++version) {
    auto response = ask<wire::OffsetCommitResponse>(commit, version);
    ASSERT_EQ(response.topics.size(), 2U);
    EXPECT_EQ(response.topics[0].partitions[0].errorCode, 0);
    EXPECT_EQ(response.topics[0].partitions[1].errorCode, 3);
    EXPECT_EQ(response.topics[1].partitions[0].errorCode, 3);
    EXPECT_EQ(broker_.commits.back().offsets.size(), 1U);
    EXPECT_EQ(broker_.commits.back().generation, 3);
  }

  for (int16_t version = 1; version <= 7; ++version) {
    wire::OffsetFetchRequest fetch;
    fetch.groupId = "g";
    fetch.topics.emplace().push_back({"t", {0, 1}});
    auto response = ask<wire::OffsetFetchResponse>(fetch, version);
    ASSERT_EQ(response.topics.size(), 1U);
    EXPECT_EQ(response.topics[0].partitions[0].offset, 17);
    EXPECT_EQ(response.topics[0].partitions[0].metadata, "note");
    if (version >= 5) {
      EXPECT_EQ(response.topics[0].partitions[0].leaderEpoch, 4);
    }
    EXPECT_EQ(response.topics[0].partitions[1].offset, -1);
    EXPECT_EQ(response.topics[0].partitions[1].metadata, "");
    if (version < 2) continue;
    fetch.topics.reset();
    response = ask<wire::OffsetFetchResponse>(fetch, version);
    ASSERT_EQ(response.topics.size(), 1U);
    EXPECT_EQ(response.topics[0].partitions.size(), 1U);
  }
}

TEST_F(GroupsTest, FetchesOffsetsOfSeveralGroups) {
  broker_.offsets[{"with space", 0}] = {"with space", 0, 5, -1, ""};
  wire::OffsetFetchRequest fetch;
  auto& first = fetch.groups.emplace_back();
  first.groupId = "g";
  auto& second = fetch.groups.emplace_back();
  second.groupId = "unknown";
  second.topics.emplace().push_back({"t", {}, {0}});
  auto response = ask<wire::OffsetFetchResponse>(fetch, 9);
  ASSERT_EQ(response.groups.size(), 2U);
  EXPECT_EQ(response.groups[0].groupId, "g");
  ASSERT_EQ(response.groups[0].topics.size(), 1U);
  EXPECT_EQ(response.groups[0].topics[0].name, "enc--d2l0aCBzcGFjZQ");
  EXPECT_EQ(response.groups[0].topics[0].partitions[0].offset, 5);
  EXPECT_EQ(response.groups[1].errorCode, 0);
  EXPECT_EQ(response.groups[1].topics.at(0).partitions.at(0).offset, -1);
}

TEST_F(GroupsTest, TellsWhyOffsetsCanNotBeRead) {
  broker_.offsetsError = Error{ErrorKind::kUnauthorized, ""};
  wire::OffsetFetchRequest fetch;
  fetch.groupId = "g";
  fetch.topics.emplace().push_back({"t", {0}});
  EXPECT_EQ(ask<wire::OffsetFetchResponse>(fetch, 1).topics.at(0).partitions.at(0).errorCode, 30);
  EXPECT_EQ(ask<wire::OffsetFetchResponse>(fetch, 5).errorCode, 30);
}

TEST_F(GroupsTest, CommitErrorsReachEveryPartition) {
  broker_.addTopic("t", 2);
  wire::OffsetCommitRequest commit;
  commit.groupId = "g";
  commit.topics.push_back({"t", {}, {{0, 1, -1, std::nullopt}, {1, 2, -1, std::nullopt}}});
  broker_.commitResult = fail(ErrorKind::kIllegalGeneration, "");
  auto response = ask<wire::OffsetCommitResponse>(commit, 9);
  EXPECT_EQ(response.topics.at(0).partitions.at(0).errorCode, 22);
  EXPECT_EQ(response.topics.at(0).partitions.at(1).errorCode, 22);
  std::string large(5000, 'x');
  commit.topics[0].partitions[0].metadata = large;
  broker_.commitResult.reset();
  response = ask<wire::OffsetCommitResponse>(commit, 9);
  EXPECT_EQ(response.topics.at(0).partitions.at(0).errorCode, 12);
  EXPECT_EQ(response.topics.at(0).partitions.at(1).errorCode, 0);
}

TEST_F(GroupsTest, ListsDescribesAndDeletes) {
  GroupDescription stable;
  stable.group = "busy";
  stable.state = "Stable";
  stable.protocolType = "consumer";
  stable.protocol = "range";
  stable.members.push_back({"m", std::nullopt, "client", "/127.0.0.1", "meta", "mine"});
  GroupDescription empty;
  empty.group = "idle";
  empty.state = "Empty";
  broker_.groups = {stable, empty};

  wire::ListGroupsRequest list;
  EXPECT_EQ(ask<wire::ListGroupsResponse>(list, 0).groups.size(), 2U);
  list.statesFilter = {"stable"};
  auto listed = ask<wire::ListGroupsResponse>(list, 5);
  ASSERT_EQ(listed.groups.size(), 1U);
  EXPECT_EQ(listed.groups[0].groupId, "busy");
  EXPECT_EQ(listed.groups[0].groupType, "classic");
  list.typesFilter = {"consumer"};
  EXPECT_EQ(ask<wire::ListGroupsResponse>(list, 5).groups.size(), 0U);

  wire::DescribeGroupsRequest describe;
  describe.groups = {"busy", "nope"};
  auto old = ask<wire::DescribeGroupsResponse>(describe, 5);
  EXPECT_EQ(old.groups.at(0).groupState, "Stable");
  EXPECT_EQ(old.groups.at(0).protocolData, "range");
  EXPECT_EQ(old.groups.at(0).members.at(0).memberAssignment, "mine");
  EXPECT_EQ(old.groups.at(1).groupState, "Dead");
  EXPECT_EQ(old.groups.at(1).errorCode, 0);
  EXPECT_EQ(ask<wire::DescribeGroupsResponse>(describe, 6).groups.at(1).errorCode, 69);

  wire::DeleteGroupsRequest remove;
  remove.groups = {"busy", "idle", "nope"};
  auto removed = ask<wire::DeleteGroupsResponse>(remove);
  EXPECT_EQ(removed.results.at(0).errorCode, 68);
  EXPECT_EQ(removed.results.at(1).errorCode, 0);
  EXPECT_EQ(removed.results.at(2).errorCode, 69);
}

}  // namespace
}  // namespace polylog::kafka::test
