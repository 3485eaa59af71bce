// ConsumerGroupHeartbeat, ConsumerGroupDescribe, and what other APIs say of such groups.
#include "tests/kafka/harness.h"

namespace polylog::kafka::test {
namespace {

constexpr int8_t kGroupResource = 32;

class ConsumerGroupsTest : public KafkaTest {
 protected:
  static wire::ConsumerGroupHeartbeatRequest joining() {
    wire::ConsumerGroupHeartbeatRequest request;
    request.groupId = "g";
    request.memberId = "m";
    request.rebalanceTimeoutMs = 30'000;
    request.subscribedTopicNames = std::vector<BytesView>{"t"};
    request.topicPartitions.emplace();
    return request;
  }
  wire::ConsumerGroupHeartbeatResponse beat(const wire::ConsumerGroupHeartbeatRequest& request,
                                            int16_t version = 1) {
    return ask<wire::ConsumerGroupHeartbeatResponse>(request, version);
  }
  GroupDescription& addGroup() {
    GroupDescription& group = broker_.groups.emplace_back();
    group.group = "g";
    group.kind = GroupKind::kConsumer;
    group.state = "Stable";
    group.protocolType = "consumer";
    group.epoch = 5;
    group.assignmentEpoch = 4;
    group.assignor = "range";
    auto& member = group.members.emplace_back();
    member.memberId = "m";
    member.instanceId = "i";
    member.clientId = "c";
    member.clientHost = "/h";
    auto& consumer = member.consumer.emplace();
    consumer.epoch = 4;
    consumer.topics = {"t", "enc--odd"};
    consumer.pattern = "t.*";
    consumer.matched = {"t2"};
    consumer.assigned.push_back({TopicId{1}, "t", {0, 2}});
    consumer.target.push_back({TopicId{1}, "t", {0, 2, 3}});
    return group;
  }
};

TEST_F(ConsumerGroupsTest, HeartbeatsReachTheBrokerWhole) {
  auto request = joining();
  request.memberEpoch = 3;
  request.instanceId = "i";
  request.rackId = "r";
  request.subscribedTopicRegex = "t.*";
  request.serverAssignor = "range";
  request.topicPartitions->push_back({TopicId{9}, {1, 4}});
  request.topicPartitions->push_back({TopicId{8}, {}});
  broker_.consumerAnswer =
      ConsumerHeartbeatAnswer{"m", 4, 5000, Assignment{{TopicId{9}, {1}}, {TopicId{7}, {0, 5}}}};
  auto response = beat(request);
  EXPECT_EQ(response.errorCode, 0);
  EXPECT_EQ(response.memberId, "m");
  EXPECT_EQ(response.memberEpoch, 4);
  EXPECT_EQ(response.heartbeatIntervalMs, 5000);
  ASSERT_TRUE(response.assignment.has_value());
  ASSERT_EQ(response.assignment->topicPartitions.size(), 2U);
  EXPECT_EQ(response.assignment->topicPartitions[0].partitions, (std::vector<int32_t>{0, 5}));

  const ConsumerHeartbeat& told = broker_.consumerBeats.at(0);
  EXPECT_EQ(told.group, "g");
  EXPECT_EQ(told.memberId, "m");
  EXPECT_EQ(told.epoch, 3);
  EXPECT_EQ(told.instanceId, "i");
  EXPECT_EQ(told.rackId, "r");
  EXPECT_EQ(told.clientId, "tester");
  EXPECT_EQ(told.rebalanceTimeoutMs, 30'000);
  EXPECT_EQ(told.topics, std::vector<std::string>{"t"});
  EXPECT_EQ(told.pattern, "t.*");
  EXPECT_EQ(told.assignor, "range");
  EXPECT_EQ(told.owned, (Assignment{{TopicId{9}, {1, 4}}}));
}

TEST_F(ConsumerGroupsTest, WhatIsNotToldIsNotThere) {
  wire::ConsumerGroupHeartbeatRequest request;
  request.groupId = "g";
  request.memberId = "m";
  request.memberEpoch = 3;
  broker_.consumerAnswer = ConsumerHeartbeatAnswer{"m", 3, 5000, std::nullopt};
  EXPECT_FALSE(beat(request).assignment.has_value());
  const ConsumerHeartbeat& told = broker_.consumerBeats.at(0);
  EXPECT_EQ(told.rebalanceTimeoutMs, -1);
  EXPECT_FALSE(told.topics || told.pattern || told.assignor || told.owned || told.instanceId);
}

TEST_F(ConsumerGroupsTest, MemberIdsComeFromTheClientFromVersion1On) {
  auto request = joining();
  request.memberId = "";
  EXPECT_EQ(beat(request, 1).errorCode, 42);
  EXPECT_EQ(beat(request, 0).errorCode, 0);
  request.memberEpoch = 1;
  EXPECT_EQ(beat(request, 0).errorCode, 42);
  request = joining();
  request.groupId = "";
  EXPECT_EQ(beat(request).errorCode, 42);
  request = joining();
  request.instanceId = "";
  EXPECT_EQ(beat(request).errorCode, 42);
  std::string name(1025, 'x');
  request = joining();
  request.memberId = name;
  EXPECT_EQ(beat(request).errorCode, 42);
  for (auto field : {&wire::ConsumerGroupHeartbeatRequest::instanceId,
                     &wire::ConsumerGroupHeartbeatRequest::rackId}) {
    request = joining();
    request.*field = BytesView(name).substr(0, 255);
    EXPECT_EQ(beat(request).errorCode, 0);
    request.*field = BytesView(name).substr(0, 256);
    EXPECT_EQ(beat(request).errorCode, 42);
  }
}

TEST_F(ConsumerGroupsTest, RefusalsHaveKafkasCodes) {
  const std::pair<ErrorKind, int16_t> codes[] = {{ErrorKind::kFencedEpoch, 110},
                                                 {ErrorKind::kUnreleasedInstance, 111},
                                                 {ErrorKind::kUnsupportedAssignor, 112},
                                                 {ErrorKind::kInvalidPattern, 128},
                                                 {ErrorKind::kUnknownMember, 25},
                                                 {ErrorKind::kFencedInstance, 82},
                                                 {ErrorKind::kNotFound, 69},
                                                 {ErrorKind::kBusy, 81},
                                                 {ErrorKind::kUnauthorized, 30},
                                                 {ErrorKind::kIo, 15},
                                                 {ErrorKind::kInvalid, 42}};
  for (auto [kind, code] : codes) {
    broker_.consumerAnswer = fail(kind, "why");
    auto response = beat(joining());
    EXPECT_EQ(response.errorCode, code) << describe(kind);
    EXPECT_EQ(response.errorMessage, "why");
  }
  broker_.hiddenTopics.insert("t");
  size_t before = broker_.consumerBeats.size();
  EXPECT_EQ(beat(joining()).errorCode, 29) << "a topic that the client may not see";
  EXPECT_EQ(broker_.consumerBeats.size(), before);
}

TEST_F(ConsumerGroupsTest, GroupsAreDescribed) {
  addGroup();
  GroupDescription& classic = broker_.groups.emplace_back();
  classic.group = "old";
  for (int16_t version : {int16_t{0}, int16_t{1}}) {
    wire::ConsumerGroupDescribeRequest request;
    request.groupIds = {"g", "old", "none", ""};
    request.includeAuthorizedOperations = true;
    auto response = ask<wire::ConsumerGroupDescribeResponse>(request, version);
    ASSERT_EQ(response.groups.size(), 4U);
    const auto& group = response.groups[0];
    EXPECT_EQ(group.errorCode, 0);
    EXPECT_EQ(group.groupState, "Stable");
    EXPECT_EQ(group.groupEpoch, 5);
    EXPECT_EQ(group.assignmentEpoch, 4);
    EXPECT_EQ(group.assignorName, "range");
    EXPECT_GT(group.authorizedOperations, 0);
    const auto& member = group.members.at(0);
    EXPECT_EQ(member.memberId, "m");
    EXPECT_EQ(member.instanceId, "i");
    EXPECT_EQ(member.memberEpoch, 4);
    EXPECT_EQ(member.subscribedTopicRegex, "t.*");
    EXPECT_EQ(member.assignment.topicPartitions.at(0).topicName, "t");
    EXPECT_EQ(member.assignment.topicPartitions.at(0).partitions, (std::vector<int32_t>{0, 2}));
    EXPECT_EQ(member.targetAssignment.topicPartitions.at(0).partitions.size(), 3U);
    EXPECT_EQ(member.memberType, version == 0 ? -1 : 1);
    EXPECT_EQ(response.groups[1].errorCode, 69) << "a classic group";
    EXPECT_EQ(response.groups[2].errorCode, 69);
    EXPECT_EQ(response.groups[3].errorCode, 24);
  }
  broker_.hiddenTopics.insert("t");
  wire::ConsumerGroupDescribeRequest request;
  request.groupIds = {"g"};
  auto hidden = ask<wire::ConsumerGroupDescribeResponse>(request);
  EXPECT_EQ(hidden.groups.at(0).errorCode, 29);
  EXPECT_TRUE(hidden.groups.at(0).members.empty());
}

TEST_F(ConsumerGroupsTest, OtherApisTellTheTypesApart) {
  addGroup();
  wire::ListGroupsRequest list;
  list.typesFilter = {"Consumer"};
  auto listed = ask<wire::ListGroupsResponse>(list, 5);
  ASSERT_EQ(listed.groups.size(), 1U);
  EXPECT_EQ(listed.groups[0].groupType, "consumer");
  list.typesFilter = {"classic"};
  EXPECT_TRUE(ask<wire::ListGroupsResponse>(list, 5).groups.empty());

  wire::DescribeGroupsRequest describe;
  describe.groups = {"g"};
  EXPECT_EQ(ask<wire::DescribeGroupsResponse>(describe, 6).groups.at(0).errorCode, 69);
  auto old = ask<wire::DescribeGroupsResponse>(describe, 5);
  EXPECT_EQ(old.groups.at(0).errorCode, 0);
  EXPECT_EQ(old.groups.at(0).groupState, "Dead");
}

TEST_F(ConsumerGroupsTest, OffsetsAreCommittedAndFetchedWithEpochs) {
  broker_.addTopic("t", 1);
  wire::OffsetCommitRequest commit;
  commit.groupId = "g";
  commit.memberId = "m";
  commit.generationId = 4;
  commit.topics.push_back({"t", {}, {{0, 5, -1, BytesView()}}});
  ask<wire::OffsetCommitResponse>(commit, 9);
  EXPECT_TRUE(broker_.commits.back().knowsEpochs);
  ask<wire::OffsetCommitResponse>(commit, 8);
  EXPECT_FALSE(broker_.commits.back().knowsEpochs);
  broker_.commitResult = fail(ErrorKind::kStaleEpoch, "");
  auto stale = ask<wire::OffsetCommitResponse>(commit, 9);
  EXPECT_EQ(stale.topics.at(0).partitions.at(0).errorCode, 113);
  broker_.commitResult = fail(ErrorKind::kNotFound, "");
  EXPECT_EQ(ask<wire::OffsetCommitResponse>(commit, 9).topics.at(0).partitions.at(0).errorCode, 69);
  EXPECT_EQ(ask<wire::OffsetCommitResponse>(commit, 8).topics.at(0).partitions.at(0).errorCode, 22);

  wire::OffsetFetchRequest fetch;
  auto& group = fetch.groups.emplace_back();
  group.groupId = "g";
  ask<wire::OffsetFetchResponse>(fetch, 9);
  EXPECT_FALSE(broker_.readers.back().has_value());
  group.memberId = "m";
  group.memberEpoch = 4;
  ask<wire::OffsetFetchResponse>(fetch, 9);
  ASSERT_TRUE(broker_.readers.back().has_value());
  EXPECT_EQ(broker_.readers.back()->epoch, 4);
  broker_.offsetsError = Error{ErrorKind::kStaleEpoch, ""};
  EXPECT_EQ(ask<wire::OffsetFetchResponse>(fetch, 9).groups.at(0).errorCode, 113);
}

TEST_F(ConsumerGroupsTest, GroupsHaveConfigurations) {
  auto alter = [&](BytesView key, int8_t operation, std::optional<BytesView> value,
                   bool validateOnly = false) {
    wire::IncrementalAlterConfigsRequest request;
    auto& resource = request.resources.emplace_back();
    resource.type = kGroupResource;
    resource.name = "g";
    resource.configs.push_back({key, operation, value});
    request.validateOnly = validateOnly;
    return ask<wire::IncrementalAlterConfigsResponse>(request, 1).responses.at(0).errorCode;
  };
  EXPECT_EQ(alter("consumer.session.timeout.ms", 0, "30000"), 0);
  EXPECT_EQ(broker_.groupConfigs.at("g").sessionTimeoutMs, 30'000);
  EXPECT_EQ(alter("consumer.session.timeout.ms", 0, "20000", true), 0);
  EXPECT_EQ(broker_.groupConfigs.at("g").sessionTimeoutMs, 30'000) << "only validated";
  EXPECT_EQ(alter("consumer.session.timeout.ms", 0, "1"), 40);
  EXPECT_EQ(alter("consumer.session.timeout.ms", 0, "a"), 40);
  EXPECT_EQ(alter("consumer.session.timeout.ms", 2, "7000"), 40) << "not a list";
  EXPECT_EQ(alter("consumer.other", 0, "1"), 40);

  wire::DescribeConfigsRequest describe;
  describe.resources.push_back({kGroupResource, "g", std::nullopt});
  describe.includeSynonyms = true;
  auto described = ask<wire::DescribeConfigsResponse>(describe, 4);
  const auto& configs = described.results.at(0).configs;
  ASSERT_EQ(configs.size(), 7U) << "those of share groups, too";
  EXPECT_EQ(configs[0].name, "consumer.heartbeat.interval.ms");
  EXPECT_EQ(configs[0].value, "5000");
  EXPECT_EQ(configs[0].source, 5);
  EXPECT_EQ(configs[1].value, "30000");
  EXPECT_EQ(configs[1].source, 8);
  EXPECT_EQ(configs[1].synonyms.size(), 2U);
  describe.resources[0].name = "";
  EXPECT_EQ(ask<wire::DescribeConfigsResponse>(describe, 4).results.at(0).errorCode, 42);

  wire::ListConfigResourcesRequest list;
  list.types = {kGroupResource};
  auto listed = ask<wire::ListConfigResourcesResponse>(list, 1);
  ASSERT_EQ(listed.resources.size(), 1U);
  EXPECT_EQ(listed.resources[0].name, "g");

  wire::AlterConfigsRequest replace;
  auto& resource = replace.resources.emplace_back();
  resource.type = kGroupResource;
  resource.name = "g";
  resource.configs.push_back({"consumer.heartbeat.interval.ms", "2000"});
  EXPECT_EQ(ask<wire::AlterConfigsResponse>(replace, 2).responses.at(0).errorCode, 0);
  EXPECT_EQ(broker_.groupConfigs.at("g"), (GroupConfig{std::nullopt, 2000}));
  EXPECT_EQ(alter("consumer.heartbeat.interval.ms", 1, std::nullopt), 0);
  EXPECT_TRUE(broker_.groupConfigs.at("g").empty());
}

}  // namespace
}  // namespace polylog::kafka::test
