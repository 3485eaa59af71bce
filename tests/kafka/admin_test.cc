// What tools ask for beside configurations: partitions, records, epochs, producers, log
// directories, offsets, and what Kafka answers for a cluster of one broker.
#include "tests/kafka/fake_access.h"
#include "tests/kafka/harness.h"

namespace polylog::kafka::test {
namespace {

class AdminTest : public KafkaTest {
 protected:
  AdminTest() { broker_.addTopic("t", 2); }
  void fill(int32_t partition, const std::vector<std::string>& values) {
    broker_.append("t", partition, SharedBytes::own(batchOf(values)), 0,
                   static_cast<uint32_t>(values.size()));
  }
};

// ---------------------------------------------------------------- CreatePartitions

TEST_F(AdminTest, CreatesPartitionsInEveryVersion) {
  for (int16_t version = 0; version <= 3; ++version) {
    wire::CreatePartitionsRequest request;
    request.topics.push_back({"t", 3 + version, std::nullopt});
    auto response = ask<wire::CreatePartitionsResponse>(request, version);
    EXPECT_EQ(response.results.at(0).name, "t");
    EXPECT_EQ(response.results[0].errorCode, 0);
    EXPECT_EQ(broker_.byName["t"]->partitions.size(), static_cast<size_t>(3 + version));
  }
}

TEST_F(AdminTest, PartitionsThatCanNotBeAreRefused) {
  auto refusal = [&](wire::CreatePartitionsRequest::Topic topic) {
    wire::CreatePartitionsRequest request;
    request.topics.push_back(std::move(topic));
    auto result = ask<wire::CreatePartitionsResponse>(request).results.at(0);
    EXPECT_TRUE(result.errorMessage.has_value());
    return result.errorCode;
  };
  using Assignments = std::vector<wire::CreatePartitionsRequest::Topic::Assignment>;
  EXPECT_EQ(refusal({"none", 5, std::nullopt}), 3);
  EXPECT_EQ(refusal({"t", 1, std::nullopt}), 37);
  EXPECT_EQ(refusal({"t", 2, std::nullopt}), 37);
  EXPECT_EQ(refusal({"t", 1'000'000, std::nullopt}), 37);
  EXPECT_EQ(refusal({"t", 4, Assignments{{{1}}}}), 39);
  EXPECT_EQ(refusal({"t", 3, Assignments{{{1, 2}}}}), 39);
  EXPECT_EQ(broker_.byName["t"]->partitions.size(), 2U);

  wire::CreatePartitionsRequest request;
  request.topics.push_back({"t", 3, Assignments{{{1}}}});
  request.validateOnly = true;
  EXPECT_EQ(ask<wire::CreatePartitionsResponse>(request).results.at(0).errorCode, 0);
  EXPECT_EQ(broker_.byName["t"]->partitions.size(), 2U) << "validated only";
  request.topics.push_back(request.topics[0]);
  EXPECT_EQ(ask<wire::CreatePartitionsResponse>(request).results.at(1).errorCode, 42);
}

// ---------------------------------------------------------------- DeleteRecords

TEST_F(AdminTest, DeletesRecordsInEveryVersion) {
  fill(0, {"a", "b", "c", "d"});
  for (int16_t version = 0; version <= 2; ++version) {
    wire::DeleteRecordsRequest request;
    request.topics.push_back({"t", {{0, version + 1}, {1, -1}, {5, 0}, {0, 99}, {0, -2}}});
    auto partitions = ask<wire::DeleteRecordsResponse>(request, version).topics.at(0).partitions;
    ASSERT_EQ(partitions.size(), 5U);
    EXPECT_EQ(partitions[0].errorCode, 0);
    EXPECT_EQ(partitions[0].lowWatermark, version + 1);
    EXPECT_EQ(partitions[1].lowWatermark, 0) << "an empty one";
    EXPECT_EQ(partitions[2].errorCode, 3);
    EXPECT_EQ(partitions[2].lowWatermark, -1);
    EXPECT_EQ(partitions[3].errorCode, 1);
    EXPECT_EQ(partitions[4].errorCode, 1);
  }
  EXPECT_EQ(broker_.logs["t"][0].start, 3);
}

TEST_F(AdminTest, RecordsOfACompactedTopicAreNotDeletedByOffset) {
  TopicConfig compacted;
  compacted.cleanup.deletes = false;
  compacted.cleanup.compacts = true;
  broker_.addTopic("c", 1, compacted);
  wire::DeleteRecordsRequest request;
  request.topics.push_back({"c", {{0, -1}}});
  EXPECT_EQ(ask<wire::DeleteRecordsResponse>(request).topics.at(0).partitions.at(0).errorCode, 44);
}

// ---------------------------------------------------------------- OffsetForLeaderEpoch

TEST_F(AdminTest, EveryEpochReachesToTheEnd) {
  fill(0, {"a", "b"});
  for (int16_t version = 2; version <= 4; ++version) {
    wire::OffsetForLeaderEpochRequest request;
    // The fake broker's epoch is 7.
    request.topics.push_back(
        {"t", {{0, -1, 7}, {0, 7, 3}, {0, 7, 8}, {0, 6, 6}, {0, 8, 7}, {9, -1, 7}}});
    auto answers =
        ask<wire::OffsetForLeaderEpochResponse>(request, version).topics.at(0).partitions;
    ASSERT_EQ(answers.size(), 6U);
    EXPECT_EQ(answers[0].leaderEpoch, 7);
    EXPECT_EQ(answers[0].endOffset, 2);
    EXPECT_EQ(answers[1].leaderEpoch, 3);
    EXPECT_EQ(answers[1].endOffset, 2);
    EXPECT_EQ(answers[2].errorCode, 0);
    EXPECT_EQ(answers[2].endOffset, -1) << "an epoch to come";
    EXPECT_EQ(answers[3].errorCode, 74);
    EXPECT_EQ(answers[4].errorCode, 75);
    EXPECT_EQ(answers[5].errorCode, 3);
  }
}

// ---------------------------------------------------------------- the quorum of one

TEST_F(AdminTest, TheQuorumIsThisBroker) {
  wire::DescribeQuorumRequest request;
  request.topics.push_back({"__cluster_metadata", {{0}}});
  for (int16_t version = 0; version <= 2; ++version) {
    auto response = ask<wire::DescribeQuorumResponse>(request, version);
    EXPECT_EQ(response.errorCode, 0);
    const auto& partition = response.topics.at(0).partitions.at(0);
    EXPECT_EQ(partition.errorCode, 0);
    EXPECT_EQ(partition.leaderId, 1);
    EXPECT_EQ(partition.leaderEpoch, 7);
    EXPECT_EQ(partition.highWatermark, 12'345);
    ASSERT_EQ(partition.voters.size(), 1U);
    EXPECT_EQ(partition.voters[0].id, 1);
    EXPECT_EQ(partition.voters[0].logEndOffset, 12'345);
    EXPECT_TRUE(partition.observers.empty());
    EXPECT_EQ(response.nodes.size(), version < 2 ? 0U : 1U);
  }
  request.topics[0].partitions.push_back({1});
  auto more = ask<wire::DescribeQuorumResponse>(request);
  EXPECT_EQ(more.topics.at(0).partitions.at(0).errorCode, 3);
  request.topics[0] = {"t", {{0}}};
  EXPECT_EQ(ask<wire::DescribeQuorumResponse>(request).topics.at(0).partitions.at(0).errorCode, 3);
}

// ---------------------------------------------------------------- what a client may do

TEST_F(AdminTest, OperationsAreToldAsTheRulesHaveThem) {
  FakeAccess access;
  access.denies = [](Operation operation, ResourceKind kind, BytesView name) {
    if (kind == ResourceKind::kCluster) return operation == Operation::kAlter;
    return name == "t" && operation != Operation::kRead && operation != Operation::kDescribe;
  };
  KafkaOptions options;
  options.access = &access;
  connect(std::move(options));
  broker_.addTopic("free", 1);
  wire::MetadataRequest metadata;
  metadata.includeTopicAuthorizedOperations = true;
  metadata.includeClusterAuthorizedOperations = true;
  metadata.topics.emplace();
  for (BytesView name : {"t", "free"}) {
    auto& asked = metadata.topics->emplace_back();
    asked.name = name;
  }
  auto told = ask<wire::MetadataResponse>(metadata, 9);
  EXPECT_EQ(told.topics.at(0).authorizedOperations, 1 << 3 | 1 << 8) << "read, describe";
  EXPECT_EQ(told.topics.at(1).authorizedOperations, 3576);
  EXPECT_EQ(told.clusterAuthorizedOperations, 8096 & ~(1 << 7)) << "all but to alter it";
  wire::DescribeTopicPartitionsRequest pages;
  pages.topics = {{"t"}};
  pages.responsePartitionLimit = 10;
  EXPECT_EQ(ask<wire::DescribeTopicPartitionsResponse>(pages).topics.at(0).authorizedOperations,
            1 << 3 | 1 << 8);

  access.denies = [](Operation operation, ResourceKind, BytesView) {
    return operation == Operation::kDescribe || operation == Operation::kJoin;
  };
  wire::DescribeClusterRequest cluster;
  cluster.includeAuthorizedOperations = true;
  EXPECT_EQ(ask<wire::DescribeClusterResponse>(cluster).authorizedOperations, 0)
      << "who may not see it isn't told";
  broker_.groups.emplace_back().group = "g";
  wire::DescribeGroupsRequest groups;
  groups.groups = {"g"};
  groups.includeAuthorizedOperations = true;
  EXPECT_EQ(ask<wire::DescribeGroupsResponse>(groups).groups.at(0).authorizedOperations,
            3400 & ~(1 << 3 | 1 << 8))
      << "taking part in a group is reading it";
  wire::DescribeQuorumRequest quorum;
  quorum.topics.push_back({"__cluster_metadata", {{0}}});
  EXPECT_EQ(ask<wire::DescribeQuorumResponse>(quorum).errorCode, 31);
}

TEST_F(AdminTest, ConfigurationsAreForThoseWhoMaySeeThem) {
  FakeAccess access;
  access.denies = [](Operation operation, ResourceKind, BytesView) {
    return operation == Operation::kDescribeConfigs;
  };
  KafkaOptions options;
  options.access = &access;
  connect(std::move(options));
  wire::DescribeConfigsRequest request;
  request.resources.push_back({2, "t", std::nullopt});
  request.resources.push_back({4, "1", std::nullopt});
  auto response = ask<wire::DescribeConfigsResponse>(request);
  EXPECT_EQ(response.results.at(0).errorCode, 29);
  EXPECT_EQ(response.results.at(1).errorCode, 31);
  EXPECT_EQ(ask<wire::ListConfigResourcesResponse>(wire::ListConfigResourcesRequest{}).errorCode,
            31);
  wire::CreateTopicsRequest create;
  auto& topic = create.topics.emplace_back();
  topic.name = "new";
  topic.numPartitions = 1;
  topic.replicationFactor = 1;
  auto created = ask<wire::CreateTopicsResponse>(create).topics.at(0);
  EXPECT_EQ(created.errorCode, 0);
  EXPECT_EQ(created.topicConfigErrorCode, 29);
  EXPECT_FALSE(created.configs.has_value());
}

// ---------------------------------------------------------------- a cluster of one

TEST_F(AdminTest, TheClusterIsThisBroker) {
  for (int16_t version = 0; version <= 2; ++version) {
    wire::DescribeClusterRequest request;
    auto response = ask<wire::DescribeClusterResponse>(request, version);
    EXPECT_EQ(response.errorCode, 0);
    EXPECT_EQ(response.clusterId, "abcdefghijklmnopqrstuv");
    EXPECT_EQ(response.controllerId, 1);
    ASSERT_EQ(response.brokers.size(), 1U);
    EXPECT_EQ(response.brokers[0].host, "127.0.0.1");
    EXPECT_EQ(response.authorizedOperations, INT32_MIN);
    request.includeAuthorizedOperations = true;
    EXPECT_EQ(ask<wire::DescribeClusterResponse>(request, version).authorizedOperations, 8096);
    if (version == 0) continue;
    request.endpointType = 2;
    EXPECT_EQ(ask<wire::DescribeClusterResponse>(request, version).errorCode, 114);
    request.endpointType = 3;
    EXPECT_EQ(ask<wire::DescribeClusterResponse>(request, version).errorCode, 115);
  }
}

TEST_F(AdminTest, ThereIsNothingToElect) {
  for (int16_t version = 0; version <= 2; ++version) {
    wire::ElectLeadersRequest request;
    request.topics.emplace().push_back({"t", {0, 7}});
    auto response = ask<wire::ElectLeadersResponse>(request, version);
    EXPECT_EQ(response.errorCode, 0);
    EXPECT_EQ(response.results.at(0).partitions.at(0).errorCode, 84);
    EXPECT_EQ(response.results.at(0).partitions.at(1).errorCode, 3);
    request.topics.reset();
    EXPECT_TRUE(ask<wire::ElectLeadersResponse>(request, version).results.empty());
    if (version == 0) continue;
    request.electionType = 4;
    EXPECT_EQ(ask<wire::ElectLeadersResponse>(request, version).errorCode, 42);
  }
}

TEST_F(AdminTest, PartitionsStayWhereTheyAre) {
  for (int16_t version : {int16_t{0}, int16_t{1}}) {
    wire::AlterPartitionReassignmentsRequest request;
    auto& topic = request.topics.emplace_back();
    topic.name = "t";
    topic.partitions = {{0, std::vector<int32_t>{1}},
                        {0, std::nullopt},
                        {1, std::vector<int32_t>{1, 2}},
                        {1, std::vector<int32_t>{}},
                        {9, std::vector<int32_t>{1}}};
    auto answers =
        ask<wire::AlterPartitionReassignmentsResponse>(request, version).responses.at(0).partitions;
    std::vector<int16_t> codes;
    for (const auto& answer : answers) codes.push_back(answer.errorCode);
    EXPECT_EQ(codes, (std::vector<int16_t>{0, 85, 39, 39, 3}));
  }
  auto listed =
      ask<wire::ListPartitionReassignmentsResponse>(wire::ListPartitionReassignmentsRequest{});
  EXPECT_EQ(listed.errorCode, 0);
  EXPECT_TRUE(listed.topics.empty());
}

// ---------------------------------------------------------------- DescribeLogDirs

TEST_F(AdminTest, EverythingIsInTheDataDirectory) {
  KafkaOptions options;
  options.facts.dataDirectory = "/data";
  options.facts.disk = [] { return DiskSpace{1000, 400}; };
  connect(options);
  broker_.addTopic(std::string(300, 'x'));  // has no name in Kafka
  fill(1, {"a"});
  for (int16_t version = 1; version <= 4; ++version) {
    wire::DescribeLogDirsRequest request;
    auto response = ask<wire::DescribeLogDirsResponse>(request, version);
    ASSERT_EQ(response.results.size(), 1U);
    auto& directory = response.results[0];
    EXPECT_EQ(directory.logDir, "/data");
    ASSERT_EQ(directory.topics.size(), 1U);
    EXPECT_EQ(directory.topics[0].partitions.size(), 2U);
    if (version >= 4) {
      EXPECT_EQ(directory.totalBytes, 1000);
      EXPECT_EQ(directory.usableBytes, 400);
    }
    request.topics.emplace().push_back({"t", {1, 8}});
    request.topics->push_back({"none", {0}});
    response = ask<wire::DescribeLogDirsResponse>(request, version);
    ASSERT_EQ(response.results.at(0).topics.size(), 1U);
    ASSERT_EQ(response.results[0].topics[0].partitions.size(), 1U);
    EXPECT_EQ(response.results[0].topics[0].partitions[0].index, 1);
  }
}

// ---------------------------------------------------------------- DescribeProducers

TEST_F(AdminTest, ProducersAreTold) {
  broker_.producers.push_back({{42, 3}, 17, 5000, std::nullopt});
  broker_.producers.push_back({{43, 2}, 8, 1234, Offset(6)});
  wire::DescribeProducersRequest request;
  request.topics.push_back({"t", {0, 9}});
  auto partitions = ask<wire::DescribeProducersResponse>(request).topics.at(0).partitions;
  ASSERT_EQ(partitions.at(0).activeProducers.size(), 2U);
  auto& producer = partitions[0].activeProducers[0];
  EXPECT_EQ(producer.id, 42);
  EXPECT_EQ(producer.epoch, 3);
  EXPECT_EQ(producer.lastSequence, 17);
  EXPECT_EQ(producer.lastTimestamp, 5000);
  EXPECT_EQ(producer.currentTxnStartOffset, -1);
  EXPECT_EQ(partitions[0].activeProducers[1].currentTxnStartOffset, 6);
  EXPECT_EQ(partitions.at(1).errorCode, 3);
}

// ---------------------------------------------------------------- DescribeTopicPartitions

TEST_F(AdminTest, TopicsAreDescribedByThePage) {
  broker_.addTopic("a", 3);
  broker_.addTopic("z", 1);
  wire::DescribeTopicPartitionsRequest request;
  request.responsePartitionLimit = 2;
  std::vector<std::string> seen;
  for (int pages = 0; pages < 10; ++pages) {
    auto response = ask<wire::DescribeTopicPartitionsResponse>(request);
    for (const auto& topic : response.topics) {
      EXPECT_EQ(topic.authorizedOperations, 3576);
      for (const auto& partition : topic.partitions) {
        EXPECT_EQ(partition.leaderId, 1);
        seen.push_back(std::string(*topic.name) + std::to_string(partition.index));
      }
    }
    if (!response.nextCursor) break;
    seen.emplace_back("-");
    request.cursor = wire::DescribeTopicPartitionsRequest::Cursor{};
    static std::string name;  // the answer's octets go with the next one
    name = response.nextCursor->topicName;
    request.cursor->topicName = name;
    request.cursor->partitionIndex = response.nextCursor->partitionIndex;
  }
  EXPECT_EQ(seen, (std::vector<std::string>{"a0", "a1", "-", "a2", "t0", "-", "t1", "z0"}));
}

TEST_F(AdminTest, TopicsThatAreNotThereAreToldSo) {
  wire::DescribeTopicPartitionsRequest request;
  request.topics = {{"none"}, {"bad name"}, {"t"}};
  auto response = ask<wire::DescribeTopicPartitionsResponse>(request);
  ASSERT_EQ(response.topics.size(), 3U);
  EXPECT_EQ(response.topics[0].name, "bad name");
  EXPECT_EQ(response.topics[0].errorCode, 17);
  EXPECT_EQ(response.topics[1].errorCode, 3);
  EXPECT_EQ(response.topics[2].partitions.size(), 2U);
  EXPECT_FALSE(response.nextCursor.has_value());
  request.cursor = wire::DescribeTopicPartitionsRequest::Cursor{};
  request.cursor->partitionIndex = -1;
  EXPECT_EQ(ask<wire::DescribeTopicPartitionsResponse>(request).topics.at(2).errorCode, 42);
}

// ---------------------------------------------------------------- ListConfigResources

TEST_F(AdminTest, ListsWhatHasAConfiguration) {
  wire::ListConfigResourcesRequest request;
  EXPECT_TRUE(ask<wire::ListConfigResourcesResponse>(request, 0).resources.empty());
  auto response = ask<wire::ListConfigResourcesResponse>(request, 1);
  ASSERT_EQ(response.resources.size(), 2U);
  EXPECT_EQ(response.resources[0].name, "t");
  EXPECT_EQ(response.resources[0].type, 2);
  EXPECT_EQ(response.resources[1].name, "1");
  EXPECT_EQ(response.resources[1].type, 4);
  request.types = {2};
  EXPECT_EQ(ask<wire::ListConfigResourcesResponse>(request, 1).resources.size(), 1U);
  request.types = {99};
  EXPECT_EQ(ask<wire::ListConfigResourcesResponse>(request, 1).errorCode, 35);
}

// ---------------------------------------------------------------- OffsetDelete

TEST_F(AdminTest, CommittedOffsetsAreDeleted) {
  GroupDescription group;
  group.group = "g";
  broker_.groups.push_back(group);
  broker_.offsets[{"t", 0}] = {"t", 0, 5, -1, ""};
  wire::OffsetDeleteRequest request;
  request.groupId = "g";
  request.topics.push_back({"t", {{0}, {9}}});
  auto response = ask<wire::OffsetDeleteResponse>(request);
  EXPECT_EQ(response.errorCode, 0);
  EXPECT_EQ(response.topics.at(0).partitions.at(0).errorCode, 0);
  EXPECT_EQ(response.topics.at(0).partitions.at(1).errorCode, 3);
  EXPECT_TRUE(broker_.offsets.empty());
  request.groupId = "unknown";
  EXPECT_EQ(ask<wire::OffsetDeleteResponse>(request).errorCode, 69);
}

TEST_F(AdminTest, OffsetsOfTopicsThatTheGroupReadsStay) {
  broker_.addTopic("u");
  wire::Encoder metadata;
  metadata.i16(3);
  metadata.arrayCount(1, false);
  metadata.string("t", false);
  metadata.nullableBlob(std::nullopt, false);
  GroupDescription group;
  group.group = "g";
  group.protocolType = "consumer";
  group.members.emplace_back().metadata = metadata.take();
  broker_.groups.push_back(group);
  wire::OffsetDeleteRequest request;
  request.groupId = "g";
  request.topics.push_back({"t", {{0}}});
  request.topics.push_back({"u", {{0}}});
  auto response = ask<wire::OffsetDeleteResponse>(request);
  EXPECT_EQ(response.errorCode, 0);
  EXPECT_EQ(response.topics.at(0).partitions.at(0).errorCode, 86);
  EXPECT_EQ(response.topics.at(1).partitions.at(0).errorCode, 0);
  // Members that can't be understood: nothing goes.
  for (std::string wrong : {std::string("\0\1\7f", 4), std::string()}) {
    broker_.groups[0].members[0].metadata = wrong;
    EXPECT_EQ(ask<wire::OffsetDeleteResponse>(request).errorCode, 68);
  }
  broker_.groups[0].protocolType = "connect";
  EXPECT_EQ(ask<wire::OffsetDeleteResponse>(request).errorCode, 68);
}

// ---------------------------------------------------------------- by topic id

TEST_F(AdminTest, OffsetsAreCommittedAndFetchedByTopicId) {
  TopicId id = broker_.byName["t"]->id;
  TopicId unknown;
  unknown.fill(9);
  wire::OffsetCommitRequest commit;
  commit.groupId = "g";
  auto& topic = commit.topics.emplace_back();
  topic.id = id;
  topic.partitions.push_back({1, 11, -1, BytesView("m")});
  commit.topics.push_back(topic);
  commit.topics[1].id = unknown;
  auto committed = ask<wire::OffsetCommitResponse>(commit, 10);
  EXPECT_EQ(committed.topics.at(0).id, id);
  EXPECT_EQ(committed.topics.at(0).partitions.at(0).errorCode, 0);
  EXPECT_EQ(committed.topics.at(1).partitions.at(0).errorCode, 100);
  EXPECT_EQ(broker_.commits.at(0).offsets.at(0).topic, "t");

  wire::OffsetFetchRequest fetch;
  auto& group = fetch.groups.emplace_back();
  group.groupId = "g";
  group.topics.emplace();
  group.topics->push_back({"", id, {0, 1}});
  group.topics->push_back({"", unknown, {0}});
  auto fetched = ask<wire::OffsetFetchResponse>(fetch, 10);
  auto& topics = fetched.groups.at(0).topics;
  ASSERT_EQ(topics.size(), 2U);
  EXPECT_EQ(topics[0].id, id);
  EXPECT_EQ(topics[0].partitions.at(0).offset, -1);
  EXPECT_EQ(topics[0].partitions.at(1).offset, 11);
  EXPECT_EQ(topics[1].partitions.at(0).errorCode, 100);

  fetch.groups[0].topics.reset();
  fetched = ask<wire::OffsetFetchResponse>(fetch, 10);
  EXPECT_EQ(fetched.groups.at(0).topics.at(0).id, id) << "all of them, by id too";
}

TEST_F(AdminTest, NothingIsOnItsWayToAnotherTier) {
  fill(0, {"a"});
  wire::ListOffsetsRequest request;
  auto& topic = request.topics.emplace_back();
  topic.name = "t";
  topic.partitions = {{0, -1, -3}, {0, -1, -4}, {0, -1, -5}, {0, -1, -6}};
  auto answers = ask<wire::ListOffsetsResponse>(request, 11).topics.at(0).partitions;
  EXPECT_EQ(answers.at(0).timestamp, 1000);
  EXPECT_EQ(answers.at(1).offset, 0);
  EXPECT_EQ(answers.at(2).offset, -1);
  EXPECT_EQ(answers.at(3).offset, -1);
  EXPECT_EQ(answers.at(3).errorCode, 0);
  answers = ask<wire::ListOffsetsResponse>(request, 10).topics.at(0).partitions;
  EXPECT_EQ(answers.at(3).errorCode, 35) << "not in that version";
}

}  // namespace
}  // namespace polylog::kafka::test
