#include "tests/kafka/harness.h"

namespace polylog::kafka::test {
namespace {

class TopicsTest : public KafkaTest {
 protected:
  static wire::MetadataRequest asking(std::initializer_list<BytesView> names) {
    wire::MetadataRequest request;
    auto& topics = request.topics.emplace();
    for (BytesView name : names) topics.push_back({{}, name});
    return request;
  }
};

TEST_F(TopicsTest, TellsTheBrokerAsItWasReached) {
  for (int16_t version = 0; version <= 13; ++version) {
    auto response = ask<wire::MetadataResponse>(asking({}), version);
    ASSERT_EQ(response.brokers.size(), 1U);
    EXPECT_EQ(response.brokers[0].nodeId, 1);
    EXPECT_EQ(response.brokers[0].host, "127.0.0.1");
    EXPECT_EQ(response.brokers[0].port, 1883);
    if (version >= 1) {
      EXPECT_EQ(response.controllerId, 1);
    }
    if (version >= 2) {
      EXPECT_EQ(response.clusterId, "abcdefghijklmnopqrstuv");
    }
  }
  KafkaOptions options;
  options.advertised = HostPort{"broker.example", 0};
  options.nodeId = 3;
  connect(options);
  auto response = ask<wire::MetadataResponse>(asking({}), 9);
  EXPECT_EQ(response.brokers[0].host, "broker.example");
  EXPECT_EQ(response.brokers[0].port, 1883);
  EXPECT_EQ(response.brokers[0].nodeId, 3);
}

TEST_F(TopicsTest, DescribesTopics) {
  broker_.addTopic("t", 3);
  auto response = ask<wire::MetadataResponse>(asking({"t"}));
  ASSERT_EQ(response.topics.size(), 1U);
  auto& topic = response.topics[0];
  EXPECT_EQ(topic.name, "t");
  EXPECT_EQ(topic.id, broker_.byName["t"]->id);
  ASSERT_EQ(topic.partitions.size(), 3U);
  EXPECT_EQ(topic.partitions[2].index, 2);
  EXPECT_EQ(topic.partitions[2].leaderId, 1);
  EXPECT_EQ(topic.partitions[2].leaderEpoch, 7);
  EXPECT_EQ(topic.partitions[2].replicas, std::vector<int32_t>{1});
  EXPECT_EQ(topic.partitions[2].inSyncReplicas, std::vector<int32_t>{1});
}

TEST_F(TopicsTest, AllOfThemAreNullOrInVersion0Empty) {
  broker_.addTopic("a");
  broker_.addTopic("");  // MQTT's "/x"
  broker_.addTopic("with space");
  broker_.addTopic(std::string(300, 'x'));  // has no name in Kafka
  EXPECT_EQ(ask<wire::MetadataResponse>(asking({}), 1).topics.size(), 0U);
  for (int16_t version : {int16_t{0}, int16_t{1}, int16_t{12}}) {
    wire::MetadataRequest request;
    if (version == 0) request.topics.emplace();
    auto response = ask<wire::MetadataResponse>(request, version);
    ASSERT_EQ(response.topics.size(), 3U) << version;
    EXPECT_EQ(response.topics[0].name, "enc--");
    EXPECT_EQ(response.topics[1].name, "a");
    EXPECT_EQ(response.topics[2].name, "enc--d2l0aCBzcGFjZQ");
  }
}

TEST_F(TopicsTest, MarkedNamesMeanTheTopic) {
  broker_.addTopic("with space");
  auto response = ask<wire::MetadataResponse>(asking({"enc--d2l0aCBzcGFjZQ"}));
  EXPECT_EQ(response.topics.at(0).errorCode, 0);
  EXPECT_EQ(response.topics.at(0).name, "enc--d2l0aCBzcGFjZQ");
  EXPECT_EQ(response.topics.at(0).partitions.size(), 1U);
}

TEST_F(TopicsTest, TopicsComeByThemselvesWhereAllowed) {
  auto response = ask<wire::MetadataResponse>(asking({"new", "bad name"}), 3);
  ASSERT_EQ(response.topics.size(), 2U);
  EXPECT_EQ(response.topics[0].errorCode, 0);
  EXPECT_EQ(response.topics[0].partitions.size(), 1U);
  EXPECT_EQ(response.topics[1].errorCode, 17);
  ASSERT_EQ(broker_.created.size(), 1U);
  EXPECT_FALSE(broker_.created[0].config.has_value());

  auto request = asking({"another"});
  request.allowAutoTopicCreation = false;
  EXPECT_EQ(ask<wire::MetadataResponse>(request, 4).topics.at(0).errorCode, 3);
  request.allowAutoTopicCreation = true;
  broker_.autoCreate = false;
  EXPECT_EQ(ask<wire::MetadataResponse>(request, 4).topics.at(0).errorCode, 3);
  EXPECT_EQ(broker_.created.size(), 1U);
}

TEST_F(TopicsTest, ATopicThatCanNotBeMadeIsTold) {
  broker_.createError = Error{ErrorKind::kNoSpace, "full"};
  EXPECT_EQ(ask<wire::MetadataResponse>(asking({"new"})).topics.at(0).errorCode, 56);
  // Somebody else is making it: a code at which every client asks again.
  broker_.createError = Error{ErrorKind::kAlreadyExists, ""};
  EXPECT_EQ(ask<wire::MetadataResponse>(asking({"new"})).topics.at(0).errorCode, 5);
}

TEST_F(TopicsTest, AuthorizedOperationsAreToldWhereAskedFor) {
  broker_.addTopic("t");
  for (int16_t version = 8; version <= 13; ++version) {
    auto request = asking({"t"});
    auto response = ask<wire::MetadataResponse>(request, version);
    EXPECT_EQ(response.topics.at(0).authorizedOperations, INT32_MIN);
    request.includeTopicAuthorizedOperations = true;
    request.includeClusterAuthorizedOperations = true;
    response = ask<wire::MetadataResponse>(request, version);
    EXPECT_EQ(response.topics.at(0).authorizedOperations, 3576);
    if (version <= 10) {
      EXPECT_EQ(response.clusterAuthorizedOperations, 8096);
    }
  }
}

TEST_F(TopicsTest, TopicsAreFoundById) {
  TopicRef topic = broker_.addTopic("t");
  wire::MetadataRequest request;
  request.topics.emplace().push_back({topic->id, std::nullopt});
  TopicId unknown;
  unknown.fill(8);
  request.topics->push_back({unknown, std::nullopt});
  auto response = ask<wire::MetadataResponse>(request, 12);
  ASSERT_EQ(response.topics.size(), 2U);
  EXPECT_EQ(response.topics[0].name, "t");
  EXPECT_EQ(response.topics[1].errorCode, 100);
  EXPECT_EQ(response.topics[1].id, unknown);
}

TEST_F(TopicsTest, CreatesTopics) {
  wire::CreateTopicsRequest request;
  auto& topic = request.topics.emplace_back();
  topic.name = "made";
  topic.numPartitions = 4;
  topic.replicationFactor = -1;
  topic.configs.push_back({"retention.ms", BytesView("1000")});
  topic.configs.push_back({"segment.bytes", BytesView("1048576")});
  for (int16_t version = 2; version <= 7; ++version) {
    auto response = ask<wire::CreateTopicsResponse>(request, version);
    ASSERT_EQ(response.topics.size(), 1U);
    EXPECT_EQ(response.topics[0].errorCode, version == 2 ? 0 : 36) << version;
  }
  const TopicSpec& spec = broker_.created.at(0);
  EXPECT_EQ(spec.partitions, 4);
  ASSERT_TRUE(spec.config);
  EXPECT_EQ(spec.config->retentionMs, 1000);
  EXPECT_EQ(spec.config->retentionBytes, -1);
  EXPECT_EQ(spec.config->overrides.at("segment.bytes"), "1048576");
}

TEST_F(TopicsTest, TellsWhatItCreated) {
  broker_.limit = 16 << 20;  // as by default
  wire::CreateTopicsRequest request;
  auto& topic = request.topics.emplace_back();
  topic.name = "made";
  topic.numPartitions = 2;
  topic.replicationFactor = 1;
  topic.configs.push_back({"retention.ms", BytesView("1000")});
  auto response = ask<wire::CreateTopicsResponse>(request, 7);
  auto& answer = response.topics.at(0);
  EXPECT_EQ(answer.id, broker_.byName["made"]->id);
  EXPECT_EQ(answer.numPartitions, 2);
  EXPECT_EQ(answer.replicationFactor, 1);
  ASSERT_TRUE(answer.configs);
  for (const auto& config : *answer.configs) {
    if (config.name == "retention.ms") {
      EXPECT_EQ(config.value, "1000");
    }
    EXPECT_EQ(config.configSource, config.name == "retention.ms" ? 1 : 5) << config.name;
  }
}

TEST_F(TopicsTest, RefusesTopicsThatCanNotBe) {
  auto refusal = [&](auto change) {
    wire::CreateTopicsRequest request;
    auto& topic = request.topics.emplace_back();
    topic.name = "made";
    topic.numPartitions = 1;
    topic.replicationFactor = 1;
    change(topic);
    auto response = ask<wire::CreateTopicsResponse>(request, 7);
    EXPECT_TRUE(response.topics.at(0).errorMessage.has_value());
    return response.topics.at(0).errorCode;
  };
  using Asked = wire::CreateTopicsRequest::Topic;
  EXPECT_EQ(refusal([](Asked& t) { t.name = "a b"; }), 17);
  EXPECT_EQ(refusal([](Asked& t) { t.numPartitions = 0; }), 37);
  EXPECT_EQ(refusal([](Asked& t) { t.numPartitions = 1'000'000; }), 37);
  EXPECT_EQ(refusal([](Asked& t) { t.replicationFactor = 3; }), 38);
  EXPECT_EQ(refusal([](Asked& t) { t.configs.push_back({"no.such.key", BytesView("1")}); }), 40);
  EXPECT_EQ(refusal([](Asked& t) {
              t.configs.push_back({"retention.ms", BytesView("soon")});
            }),
            40);
  EXPECT_EQ(refusal([](Asked& t) { t.configs.push_back({"retention.ms", std::nullopt}); }), 40);
  EXPECT_EQ(refusal([](Asked& t) {
              t.configs.push_back({"cleanup.policy", BytesView("compact,keep")});
            }),
            40);
  EXPECT_EQ(refusal([](Asked& t) {
              t.configs.push_back({"min.cleanable.dirty.ratio", BytesView("1.5")});
            }),
            40);
  EXPECT_EQ(refusal([](Asked& t) { t.assignments = {{0, {1}}}; }), 42);
  EXPECT_EQ(refusal([](Asked& t) {
              t.numPartitions = t.replicationFactor = -1;
              t.assignments = {{0, {1, 2}}};
            }),
            39);
  EXPECT_EQ(refusal([](Asked& t) {
              t.numPartitions = t.replicationFactor = -1;
              t.assignments = {{1, {1}}};
            }),
            39);
  EXPECT_TRUE(broker_.created.empty());
}

TEST_F(TopicsTest, ATopicNamedTwiceIsRefused) {
  wire::CreateTopicsRequest request;
  for (int i = 0; i < 2; ++i) {
    auto& topic = request.topics.emplace_back();
    topic.name = "twin";
    topic.numPartitions = topic.replicationFactor = -1;
  }
  auto response = ask<wire::CreateTopicsResponse>(request, 5);
  EXPECT_EQ(response.topics.at(0).errorCode, 42);
  EXPECT_EQ(response.topics.at(1).errorCode, 42);
}

TEST_F(TopicsTest, ValidatesWithoutCreating) {
  broker_.addTopic("there");
  wire::CreateTopicsRequest request;
  request.validateOnly = true;
  for (BytesView name : {"there", "new"}) {
    auto& topic = request.topics.emplace_back();
    topic.name = name;
    topic.numPartitions = topic.replicationFactor = -1;
  }
  auto response = ask<wire::CreateTopicsResponse>(request, 5);
  EXPECT_EQ(response.topics.at(0).errorCode, 36);
  EXPECT_EQ(response.topics.at(1).errorCode, 0);
  EXPECT_EQ(response.topics.at(1).numPartitions, 1) << "what it would get";
  EXPECT_FALSE(response.topics.at(1).configs->empty());
  EXPECT_TRUE(broker_.created.empty());
}

TEST_F(TopicsTest, DeletesByNameAndById) {
  broker_.addTopic("a");
  TopicRef b = broker_.addTopic("b");
  wire::DeleteTopicsRequest byName;
  byName.names = {"a", "nope"};
  auto response = ask<wire::DeleteTopicsResponse>(byName, 5);
  ASSERT_EQ(response.topics.size(), 2U);
  EXPECT_EQ(response.topics[0].errorCode, 0);
  EXPECT_EQ(response.topics[1].errorCode, 3);

  wire::DeleteTopicsRequest byId;
  byId.topics.push_back({std::nullopt, b->id});
  TopicId unknown;
  unknown.fill(5);
  byId.topics.push_back({std::nullopt, unknown});
  response = ask<wire::DeleteTopicsResponse>(byId, 6);
  EXPECT_EQ(response.topics.at(0).errorCode, 0);
  EXPECT_EQ(response.topics.at(0).name, "b");
  EXPECT_EQ(response.topics.at(1).errorCode, 100);
  EXPECT_EQ(broker_.deleted, (std::vector<std::string>{"a", "b"}));
}

}  // namespace
}  // namespace polylog::kafka::test
