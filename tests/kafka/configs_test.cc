// DescribeConfigs, AlterConfigs and IncrementalAlterConfigs.
#include <algorithm>

#include "tests/kafka/harness.h"

namespace polylog::kafka::test {
namespace {

constexpr int8_t kTopic = 2;
constexpr int8_t kBroker = 4;

class ConfigsTest : public KafkaTest {
 protected:
  ConfigsTest() {
    broker_.defaults = TopicConfig{.retentionMs = 604'800'000, .overrides = {}};
    broker_.limit = 16 << 20;
    broker_.addTopic("t", 1, broker_.defaults);
  }
  const TopicConfig& config() { return broker_.byName.at("t")->config; }

  wire::DescribeConfigsResponse describe(int8_t type, BytesView name, int16_t version = 4) {
    wire::DescribeConfigsRequest request;
    request.resources.push_back({type, name, std::nullopt});
    request.includeSynonyms = true;
    request.includeDocumentation = true;
    return ask<wire::DescribeConfigsResponse>(request, version);
  }
  static const wire::DescribeConfigsResponse::Result::Config& entry(
      const wire::DescribeConfigsResponse& response, BytesView key) {
    const auto& configs = response.results.at(0).configs;
    auto found = std::ranges::find(configs, key, [](const auto& c) { return c.name; });
    EXPECT_NE(found, configs.end()) << key;
    return *found;
  }

  struct Op {
    BytesView key;
    int8_t operation;
    std::optional<BytesView> value;
  };
  wire::IncrementalAlterConfigsResponse::Result alter(std::initializer_list<Op> ops,
                                                      BytesView name = "t", int8_t type = kTopic,
                                                      bool validateOnly = false,
                                                      int16_t version = 1) {
    wire::IncrementalAlterConfigsRequest request;
    auto& resource = request.resources.emplace_back();
    resource.type = type;
    resource.name = name;
    for (const Op& op : ops) resource.configs.push_back({op.key, op.operation, op.value});
    request.validateOnly = validateOnly;
    return ask<wire::IncrementalAlterConfigsResponse>(request, version).responses.at(0);
  }
};

TEST_F(ConfigsTest, TopicsAreDescribedInEveryVersion) {
  alter({{"retention.ms", 0, "1000"}});
  for (int16_t version = 1; version <= 4; ++version) {
    auto response = describe(kTopic, "t", version);
    ASSERT_EQ(response.results.size(), 1U);
    EXPECT_EQ(response.results[0].errorCode, 0);
    EXPECT_EQ(response.results[0].type, kTopic);
    EXPECT_EQ(response.results[0].name, "t");
    const auto& retention = entry(response, "retention.ms");
    EXPECT_EQ(retention.value, "1000");
    EXPECT_EQ(retention.source, 1);
    EXPECT_FALSE(retention.readOnly);
    EXPECT_FALSE(retention.isSensitive);
    EXPECT_EQ(retention.synonyms.size(), 2U);
    EXPECT_EQ(entry(response, "cleanup.policy").source, 5);
    if (version >= 3) {
      EXPECT_EQ(retention.type, 5);
      EXPECT_TRUE(retention.documentation.has_value());
    }
  }
}

TEST_F(ConfigsTest, OnlyWhatIsAskedForIsTold) {
  wire::DescribeConfigsRequest request;
  auto& resource = request.resources.emplace_back();
  resource.type = kTopic;
  resource.name = "t";
  resource.keys = std::vector<BytesView>{"cleanup.policy", "no.such.key"};
  auto response = ask<wire::DescribeConfigsResponse>(request);
  ASSERT_EQ(response.results.at(0).configs.size(), 1U);
  EXPECT_EQ(response.results[0].configs[0].name, "cleanup.policy");
  EXPECT_TRUE(response.results[0].configs[0].synonyms.empty());
  EXPECT_FALSE(response.results[0].configs[0].documentation.has_value());
}

TEST_F(ConfigsTest, TheBrokersConfigurationIsReadOnly) {
  KafkaOptions options;
  options.facts.dataDirectory = "/var/lib/polylog";
  options.facts.defaultPartitions = 3;
  connect(options);
  auto response = describe(kBroker, "1");
  EXPECT_EQ(response.results.at(0).errorCode, 0);
  EXPECT_TRUE(std::ranges::all_of(response.results[0].configs,
                                  [](const auto& config) { return config.readOnly; }));
  EXPECT_EQ(entry(response, "num.partitions").value, "3");
  EXPECT_EQ(entry(response, "num.partitions").source, 4);
  EXPECT_EQ(entry(response, "log.dirs").value, "/var/lib/polylog");
  EXPECT_EQ(entry(response, "listeners").value, "PLAINTEXT://127.0.0.1:1883");
  EXPECT_EQ(entry(response, "log.retention.ms").source, 5);
  EXPECT_EQ(entry(response, "default.replication.factor").value, "1");
  auto refused = alter({{"num.partitions", 0, "9"}}, "1", kBroker);
  EXPECT_EQ(refused.errorCode, 42);
  EXPECT_EQ(refused.errorMessage, "Cannot update these configs dynamically: Set(num.partitions)");
  EXPECT_TRUE(describe(kBroker, "").results.at(0).configs.empty());
}

TEST_F(ConfigsTest, WhatIsNotThereIsRefused) {
  EXPECT_EQ(describe(kTopic, "none").results.at(0).errorCode, 3);
  EXPECT_EQ(describe(kTopic, "bad name").results.at(0).errorCode, 17);
  EXPECT_EQ(describe(kBroker, "7").results.at(0).errorCode, 42);
  EXPECT_EQ(describe(8, "1").results.at(0).errorCode, 42);
  EXPECT_TRUE(describe(8, "1").results.at(0).errorMessage.has_value());
  EXPECT_EQ(alter({{"retention.ms", 0, "1"}}, "none").errorCode, 3);
  EXPECT_EQ(alter({{"retention.ms", 0, "1"}}, "7", kBroker).errorCode, 42);
  EXPECT_EQ(alter({{"retention.ms", 0, "1"}}, "x", 16).errorCode, 42);
}

TEST_F(ConfigsTest, SetsDeletesAppendsAndSubtracts) {
  for (int16_t version : {int16_t{0}, int16_t{1}}) {
    EXPECT_EQ(alter({{"retention.ms", 0, "5"}, {"cleanup.policy", 2, "compact"}}, "t", kTopic,
                    false, version)
                  .errorCode,
              0);
    EXPECT_EQ(config().retentionMs, 5);
    EXPECT_TRUE(config().cleanup.compacts && config().cleanup.deletes);
    EXPECT_EQ(alter({{"retention.ms", 1, std::nullopt}, {"cleanup.policy", 3, "compact"}}, "t",
                    kTopic, false, version)
                  .errorCode,
              0);
    EXPECT_EQ(config().retentionMs, 604'800'000);
    EXPECT_FALSE(config().cleanup.compacts);
    EXPECT_FALSE(config().overrides.contains("retention.ms"));
  }
}

TEST_F(ConfigsTest, OneWrongKeyChangesNothing) {
  auto result = alter({{"retention.ms", 0, "5"}, {"retention.bytes", 0, "lots"}});
  EXPECT_EQ(result.errorCode, 40);
  EXPECT_EQ(result.errorMessage, "retention.bytes=lots: use a whole number of octets, -1 or more");
  EXPECT_EQ(config(), broker_.defaults);
  EXPECT_EQ(alter({{"no.such.key", 0, "5"}}).errorCode, 40);
  EXPECT_EQ(alter({{"retention.ms", 0, std::nullopt}}).errorCode, 42);
  EXPECT_EQ(alter({{"retention.ms", 9, "1"}}).errorCode, 42);
  EXPECT_EQ(alter({{"retention.ms", 2, "1"}}).errorCode, 40);
  EXPECT_EQ(alter({{"retention.ms", 0, "1"}, {"retention.ms", 1, std::nullopt}}).errorCode, 42);
  EXPECT_EQ(config(), broker_.defaults);
}

TEST_F(ConfigsTest, ValidateOnlyChangesNothing) {
  EXPECT_EQ(alter({{"retention.ms", 0, "5"}}, "t", kTopic, true).errorCode, 0);
  EXPECT_EQ(alter({{"retention.ms", 0, "x"}}, "t", kTopic, true).errorCode, 40);
  EXPECT_EQ(config(), broker_.defaults);
}

TEST_F(ConfigsTest, IsAnsweredWhenTheBrokerSaysSo) {
  broker_.hold = true;
  wire::IncrementalAlterConfigsRequest request;
  request.resources.push_back({kTopic, "t", {{"retention.ms", 0, "5"}}});
  int32_t id = send(request);
  run();
  EXPECT_EQ(answersWaiting(), 0U);
  broker_.answerFirst();
  run();
  EXPECT_EQ(receive<wire::IncrementalAlterConfigsResponse>(id).responses.at(0).errorCode, 0);
  broker_.hold = false;
  broker_.alterError = Error{ErrorKind::kIo, "the disk said no"};
  EXPECT_EQ(alter({{"retention.ms", 0, "6"}}).errorCode, 56);
}

TEST_F(ConfigsTest, AResourceNamedTwiceIsRefused) {
  wire::IncrementalAlterConfigsRequest request;
  request.resources.push_back({kTopic, "t", {{"retention.ms", 0, "5"}}});
  request.resources.push_back({kTopic, "t", {{"retention.ms", 0, "6"}}});
  auto response = ask<wire::IncrementalAlterConfigsResponse>(request);
  EXPECT_EQ(response.responses.at(0).errorCode, 42);
  EXPECT_EQ(response.responses.at(1).errorCode, 42);
  EXPECT_EQ(config(), broker_.defaults);
}

TEST_F(ConfigsTest, KeysThatDoNotGoTogetherAreRefused) {
  EXPECT_EQ(alter({{"max.compaction.lag.ms", 0, "5"}}).errorCode, 0);
  EXPECT_EQ(alter({{"min.compaction.lag.ms", 0, "6"}}).errorCode, 40);
  EXPECT_EQ(config().cleanup.minCompactionLagMs, 0);
  EXPECT_EQ(alter({{"min.compaction.lag.ms", 0, "6"}, {"max.compaction.lag.ms", 0, "6"}}).errorCode,
            0)
      << "judged when all are set";
  wire::AlterConfigsRequest whole;
  whole.resources.push_back(
      {kTopic, "t", {{"max.compaction.lag.ms", "1"}, {"min.compaction.lag.ms", "2"}}});
  EXPECT_EQ(ask<wire::AlterConfigsResponse>(whole).responses.at(0).errorCode, 40);
  EXPECT_EQ(config().cleanup.maxCompactionLagMs, 6);
}

TEST_F(ConfigsTest, AlterConfigsSetsTheWhole) {
  alter({{"retention.ms", 0, "5"}, {"max.message.bytes", 0, "9"}});
  for (int16_t version = 0; version <= 2; ++version) {
    wire::AlterConfigsRequest request;
    request.resources.push_back({kTopic, "t", {{"max.message.bytes", "11"}}});
    auto response = ask<wire::AlterConfigsResponse>(request, version);
    EXPECT_EQ(response.responses.at(0).errorCode, 0);
    EXPECT_EQ(config().maxBatchBytes, 11);
    EXPECT_EQ(config().retentionMs, 604'800'000) << "not named, so back to the default";
    request.resources[0].configs[0].value.reset();
    EXPECT_EQ(ask<wire::AlterConfigsResponse>(request, version).responses.at(0).errorCode, 42);
  }
}

// Pitfall: Connect refuses internal topics whose cleanup.policy isn't compact.
TEST_F(ConfigsTest, ConnectRefusesInternalTopicsWhoseCleanupPolicyIsNotCompact) {
  wire::CreateTopicsRequest request;
  auto& topic = request.topics.emplace_back();
  topic.name = "connect-offsets";
  topic.numPartitions = 25;
  topic.replicationFactor = 1;
  topic.configs.push_back({"cleanup.policy", BytesView("compact")});
  EXPECT_EQ(ask<wire::CreateTopicsResponse>(request).topics.at(0).errorCode, 0);
  auto response = describe(kTopic, "connect-offsets");
  const auto& policy = entry(response, "cleanup.policy");
  EXPECT_EQ(policy.value, "compact");
  EXPECT_EQ(policy.source, 1);
}

}  // namespace
}  // namespace polylog::kafka::test
