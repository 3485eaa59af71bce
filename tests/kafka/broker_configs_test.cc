// The broker's configuration that is changed while it runs: (Incremental)AlterConfigs and
// DescribeConfigs of broker 1 and of all brokers (KIP-226).
#include <map>

#include "codecs/kafka/topic_config.h"
#include "tests/kafka/fake_defaults.h"
#include "tests/kafka/harness.h"

namespace polylog::kafka::test {
namespace {

constexpr int8_t kTopic = 2;
constexpr int8_t kBroker = 4;
constexpr int8_t kSet = 0;
constexpr int8_t kDelete = 1;
constexpr int8_t kAppend = 2;
constexpr int8_t kSubtract = 3;
constexpr int16_t kInvalidRequest = 42;

using Synonyms = std::vector<std::pair<std::string, int>>;

class BrokerConfigsTest : public KafkaTest {
 protected:
  BrokerConfigsTest() {
    broker_.limit = 16 << 20;
    TopicDefaults defaults;
    defaults.fileKafka.retentionMs = 604'800'000;
    defaults.fileMqtt.retentionMs = 86'400'000;
    control_.defaults = std::make_shared<const TopicDefaults>(defaults);
    KafkaOptions options;
    options.dynamicDefaults = &control_;
    connect(std::move(options));
  }

  struct Op {
    BytesView key;
    int8_t operation;
    std::optional<BytesView> value;
  };
  /// The error's code and text.
  std::pair<int16_t, std::string> alter(BytesView name, std::initializer_list<Op> ops,
                                        bool validateOnly = false, int16_t version = 1) {
    wire::IncrementalAlterConfigsRequest request;
    auto& resource = request.resources.emplace_back();
    resource.type = kBroker;
    resource.name = name;
    for (const Op& op : ops) resource.configs.push_back({op.key, op.operation, op.value});
    request.validateOnly = validateOnly;
    auto response = ask<wire::IncrementalAlterConfigsResponse>(request, version);
    const auto& result = response.responses.at(0);
    return {result.errorCode, std::string(result.errorMessage.value_or(""))};
  }
  struct Told {
    std::string value;
    int source = 0;
    bool readOnly = false;
    Synonyms synonyms;
  };
  std::map<std::string, Told> describe(int8_t type, BytesView name, int16_t version = 4) {
    wire::DescribeConfigsRequest request;
    request.resources.push_back({type, name, std::nullopt});
    request.includeSynonyms = true;
    auto response = ask<wire::DescribeConfigsResponse>(request, version);
    std::map<std::string, Told> told;
    for (const auto& config : response.results.at(0).configs) {
      Told& entry = told[std::string(config.name)];
      entry.value = config.value.value_or("");
      entry.source = config.source;
      entry.readOnly = config.readOnly;
      for (const auto& synonym : config.synonyms) {
        entry.synonyms.emplace_back(
            std::string(synonym.name) + "=" + std::string(synonym.value.value_or("")),
            synonym.source);
      }
    }
    return told;
  }
  /// A topic as the router would have it.
  void addTopic(const std::string& name, TopicConfig config = {},
                Protocol origin = Protocol::kKafka) {
    Topic topic = *broker_.addTopic(name);
    topic.origin = origin;
    topic.config = resolved(std::move(config), control_.defaults->inForce(origin));
    broker_.byName[name] = std::make_shared<const Topic>(std::move(topic));
  }
  const TopicConfig& cluster() { return control_.defaults->cluster; }
  const TopicConfig& broker() { return control_.defaults->broker; }

  FakeDefaults control_;
};

TEST_F(BrokerConfigsTest, AreSetForTheBrokerAndForAllOfThem) {
  for (int16_t version : {int16_t{0}, int16_t{1}}) {
    EXPECT_EQ(alter("", {{"log.retention.ms", kSet, "1000"}}, false, version).first, 0);
    EXPECT_EQ(alter("1", {{"log.retention.ms", kSet, " 2000 "}, {"compression.type", kSet, "zstd"}},
                    false, version)
                  .first,
              0);
    EXPECT_EQ(cluster().retentionMs, 1000);
    EXPECT_EQ(broker().retentionMs, 2000);
    EXPECT_EQ(broker().compression, Compression::kZstd);
    EXPECT_EQ(control_.defaults->inForce(Protocol::kKafka).retentionMs, 2000);
    EXPECT_EQ(control_.defaults->inForce(Protocol::kMqtt).retentionMs, 86'400'000);
    for (BytesView name : {"", "1"}) {
      EXPECT_EQ(alter(name,
                      {{"log.retention.ms", kDelete, std::nullopt},
                       {"compression.type", kDelete, std::nullopt}},
                      false, version)
                    .first,
                0);
    }
    EXPECT_EQ(cluster(), TopicConfig());
    EXPECT_EQ(broker(), TopicConfig());
  }
}

TEST_F(BrokerConfigsTest, SourcesAndSynonymsAreInKafkasOrder) {
  alter("", {{"log.retention.ms", kSet, "1000"}, {"log.segment.bytes", kSet, "7"}});
  alter("1", {{"log.retention.ms", kSet, "2000"}});
  TopicConfig own;
  ASSERT_TRUE(setTopicConfig(own, "retention.ms", BytesView("3000"), {}).has_value());
  addTopic("own", own);
  addTopic("follows");
  auto told = describe(kBroker, "1");
  EXPECT_EQ(told.at("log.retention.ms").value, "2000");
  EXPECT_EQ(told.at("log.retention.ms").source, 2);
  EXPECT_FALSE(told.at("log.retention.ms").readOnly);
  EXPECT_TRUE(told.at("num.partitions").readOnly);
  Synonyms broker{{"log.retention.ms=2000", 2},
                  {"log.retention.ms=1000", 3},
                  {"log.retention.ms=604800000", 5}};
  EXPECT_EQ(told.at("log.retention.ms").synonyms, broker);
  EXPECT_EQ(told.at("log.segment.bytes").value, "7");
  EXPECT_EQ(told.at("log.segment.bytes").source, 3);
  EXPECT_EQ(told.at("message.max.bytes").source, 5);

  told = describe(kTopic, "own");
  EXPECT_EQ(told.at("retention.ms").value, "3000");
  EXPECT_EQ(told.at("retention.ms").source, 1);
  Synonyms topic = broker;
  topic.insert(topic.begin(), {"retention.ms=3000", 1});
  EXPECT_EQ(told.at("retention.ms").synonyms, topic);
  told = describe(kTopic, "follows");
  EXPECT_EQ(told.at("retention.ms").value, "2000");
  EXPECT_EQ(told.at("retention.ms").source, 2);
  EXPECT_EQ(told.at("retention.ms").synonyms, broker);
  EXPECT_EQ(told.at("segment.bytes").value, "7") << "of no effect, but told";
  EXPECT_EQ(told.at("segment.bytes").source, 3);
}

TEST_F(BrokerConfigsTest, OfAllBrokersOnlyWhatIsSetIsTold) {
  EXPECT_TRUE(describe(kBroker, "").empty());
  alter("1", {{"log.retention.ms", kSet, "2000"}});
  EXPECT_TRUE(describe(kBroker, "").empty());
  alter("", {{"message.max.bytes", kSet, "900"}, {"log.cleanup.policy", kSet, "compact"}});
  for (int16_t version = 1; version <= 4; ++version) {
    auto told = describe(kBroker, "", version);
    ASSERT_EQ(told.size(), 2U);
    EXPECT_EQ(told.at("message.max.bytes").value, "900");
    EXPECT_EQ(told.at("message.max.bytes").source, 3);
    EXPECT_FALSE(told.at("message.max.bytes").readOnly);
    EXPECT_EQ(told.at("message.max.bytes").synonyms, (Synonyms{{"message.max.bytes=900", 3}}));
  }
}

TEST_F(BrokerConfigsTest, WhatDevicesMadeFollowsTheFile) {
  alter("", {{"log.retention.ms", kSet, "1000"}});
  addTopic("device", {}, Protocol::kMqtt);
  auto told = describe(kTopic, "device");
  EXPECT_EQ(told.at("retention.ms").value, "86400000");
  EXPECT_EQ(told.at("retention.ms").source, 4);
}

TEST_F(BrokerConfigsTest, WhatCanNotBeChangedIsRefusedAsKafkaDoes) {
  for (BytesView name : {"", "1"}) {
    auto [code, text] = alter(name, {{"log.retention.ms", kSet, "1"},
                                     {"num.io.threads", kSet, "9"},
                                     {"log.retention.hours", kSet, "1"}});
    EXPECT_EQ(code, kInvalidRequest);
    EXPECT_EQ(text,
              "Cannot update these configs dynamically: Set(num.io.threads, log.retention.hours)");
    EXPECT_EQ(alter(name, {{"retention.ms", kSet, "1"}}).first, kInvalidRequest) << "a topic's key";
    EXPECT_EQ(alter(name, {{"", kSet, "1"}}).first, kInvalidRequest);
    EXPECT_EQ(alter(name, {{"log.retention.ms", kSet, "soon"}}).first, kInvalidRequest);
    EXPECT_EQ(alter(name, {{"message.max.bytes", kSet, "99999999"}}).first, kInvalidRequest);
    EXPECT_EQ(alter(name, {{"log.retention.ms", kAppend, "1"}}).first, kInvalidRequest);
    EXPECT_EQ(alter(name, {{"log.retention.ms", kSet, std::nullopt}}).first, kInvalidRequest);
    EXPECT_EQ(alter(name, {{"min.insync.replicas", kSet, "2"}}).first, kInvalidRequest);
    EXPECT_EQ(alter(name, {{"num.io.threads", kDelete, std::nullopt}}).first, 0) << "it isn't set";
  }
  auto [code, text] = alter("7", {{"log.retention.ms", kSet, "1"}});
  EXPECT_EQ(code, kInvalidRequest);
  EXPECT_EQ(text, "Unexpected broker id, expected 1 or empty string, but received 7");
  EXPECT_EQ(cluster(), TopicConfig());
  EXPECT_EQ(broker(), TopicConfig());
}

TEST_F(BrokerConfigsTest, OneWrongKeyChangesNothing) {
  EXPECT_EQ(alter("1", {{"log.retention.ms", kSet, "1"}, {"log.retention.bytes", kSet, "x"}}).first,
            kInvalidRequest);
  EXPECT_EQ(broker(), TopicConfig());
}

TEST_F(BrokerConfigsTest, ListsAreExtended) {
  EXPECT_EQ(alter("", {{"log.cleanup.policy", kAppend, "compact"}}).first, 0);
  EXPECT_TRUE(cluster().cleanup.compacts && cluster().cleanup.deletes);
  EXPECT_EQ(alter("", {{"log.cleanup.policy", kSubtract, "delete"}}).first, 0);
  EXPECT_FALSE(cluster().cleanup.deletes);
  EXPECT_EQ(cluster().overrides.at("log.cleanup.policy"), "compact");
  EXPECT_EQ(alter("", {{"log.cleanup.policy", kSubtract, "compact"}}).first, kInvalidRequest);
}

TEST_F(BrokerConfigsTest, ValidateOnlyChangesNothing) {
  EXPECT_EQ(alter("1", {{"log.retention.ms", kSet, "1"}}, true).first, 0);
  EXPECT_EQ(alter("1", {{"log.retention.ms", kSet, "x"}}, true).first, kInvalidRequest);
  EXPECT_EQ(broker(), TopicConfig());
}

TEST_F(BrokerConfigsTest, AlterConfigsSetsTheWhole) {
  for (int16_t version = 0; version <= 2; ++version) {
    alter("1", {{"log.retention.ms", kSet, "5"}, {"log.retention.bytes", kSet, "6"}});
    wire::AlterConfigsRequest request;
    request.resources.push_back({kBroker, "1", {{"log.retention.bytes", "7"}}});
    EXPECT_EQ(ask<wire::AlterConfigsResponse>(request, version).responses.at(0).errorCode, 0);
    EXPECT_EQ(broker().retentionBytes, 7);
    EXPECT_FALSE(broker().own.has(TopicField::kRetentionMs)) << "not named";
    request.resources[0].configs.push_back({"num.partitions", "7"});
    EXPECT_EQ(ask<wire::AlterConfigsResponse>(request, version).responses.at(0).errorCode,
              kInvalidRequest);
    EXPECT_EQ(broker().retentionBytes, 7);
    request.resources[0].configs.clear();
    EXPECT_EQ(ask<wire::AlterConfigsResponse>(request, version).responses.at(0).errorCode, 0);
    EXPECT_EQ(broker(), TopicConfig());
  }
}

TEST_F(BrokerConfigsTest, FlushingSoonMeansSafe) {
  TopicDefaults defaults = *control_.defaults;
  defaults.fileKafka.flush = FlushPolicy::kInterval;
  control_.defaults = std::make_shared<const TopicDefaults>(defaults);
  alter("1", {{"log.flush.interval.messages", kSet, "1"}});
  EXPECT_EQ(control_.defaults->inForce(Protocol::kKafka).flush, FlushPolicy::kSafe);
  alter("1", {{"log.flush.interval.messages", kDelete, std::nullopt}});
  EXPECT_EQ(control_.defaults->inForce(Protocol::kKafka).flush, FlushPolicy::kInterval);
  EXPECT_EQ(broker(), TopicConfig());
}

TEST_F(BrokerConfigsTest, TheRightToAlterTheClustersConfigurationIsAskedFor) {
  control_.permitted = false;
  for (bool validateOnly : {false, true}) {
    EXPECT_EQ(alter("1", {{"log.retention.ms", kSet, "1"}}, validateOnly).first, 31);
    EXPECT_EQ(alter("", {{"log.retention.ms", kDelete, std::nullopt}}, validateOnly).first, 31);
  }
}

}  // namespace
}  // namespace polylog::kafka::test
