#include "codecs/kafka/topic_config.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "codecs/kafka/topic_config_keys.h"

namespace polylog::kafka {
namespace {

class TopicConfigTest : public testing::Test {
 protected:
  TopicConfigTest() { limits_.file.retentionMs = limits_.defaults.retentionMs = 604'800'000; }

  bool set(BytesView key, BytesView value) {
    return setTopicConfig(config_, key, value, limits_).has_value();
  }
  ConfigEntry entry(BytesView key) const {
    for (ConfigEntry& entry : describeTopicConfig(config_, limits_)) {
      if (entry.key == key) return entry;
    }
    ADD_FAILURE() << key << " isn't told";
    return {};
  }
  TopicConfigLimits limits_{{}, 16 << 20};
  TopicConfig config_{.retentionMs = 604'800'000, .overrides = {}};
};

TEST_F(TopicConfigTest, FieldsFollowTheKeys) {
  EXPECT_TRUE(set("retention.bytes", " 5000 "));
  EXPECT_TRUE(set("message.timestamp.type", "LogAppendTime"));
  EXPECT_TRUE(set("max.message.bytes", "1000"));
  EXPECT_TRUE(set("cleanup.policy", "compact, delete"));
  EXPECT_TRUE(set("min.cleanable.dirty.ratio", "0.29"));
  EXPECT_TRUE(set("min.compaction.lag.ms", "1"));
  EXPECT_TRUE(set("max.compaction.lag.ms", "2"));
  EXPECT_TRUE(set("delete.retention.ms", "3"));
  EXPECT_TRUE(set("compression.type", "zstd"));
  EXPECT_EQ(config_.retentionBytes, 5000);
  EXPECT_EQ(config_.maxBatchBytes, 1000);
  EXPECT_TRUE(config_.logAppendTime);
  EXPECT_EQ(config_.compression, Compression::kZstd);
  EXPECT_EQ(config_.cleanup, (CleanupPolicy{true, true, 1, 2, 3, 29}));
  EXPECT_EQ(config_.overrides.at("retention.bytes"), "5000");
}

TEST_F(TopicConfigTest, WhatMakesNoSenseOrIsNotBuiltIsRefused) {
  const std::pair<BytesView, BytesView> refused[] = {
      {"message.timestamp.type", "Whenever"},
      {"retention.ms", "-2"},
      {"retention.ms", "10x"},
      {"cleanup.policy", ""},
      {"cleanup.policy", "compact,keep"},
      {"compression.type", "brotli"},
      {"min.insync.replicas", "2"},
      {"remote.storage.enable", "true"},
      {"message.timestamp.after.max.ms", "1000"},
      {"compression.zstd.level", "9"},
      {"preallocate", "true"},
      {"segment.bytes", "many"},
      {"min.cleanable.dirty.ratio", "nan"},
      {"min.cleanable.dirty.ratio", "inf"},
      {"min.cleanable.dirty.ratio", "1.01"},
      {"leader.replication.throttled.replicas", "all of them"},
      {"leader.replication.throttled.replicas", "1:"},
      {"max.message.bytes", "99999999"},
      {"unclean.leader.election.enable", "perhaps"},
      {"no.such.key", "1"},
      {"message.format.version", "3.0"},  // Kafka 4 has no such key any more
  };
  for (const auto& [key, value] : refused) {
    Result<> result = setTopicConfig(config_, key, value, limits_);
    ASSERT_FALSE(result.has_value()) << key << "=" << value;
    EXPECT_NE(result.error().text.find(key), std::string::npos) << result.error().text;
  }
  EXPECT_FALSE(setTopicConfig(config_, "retention.ms", std::nullopt, limits_));
  EXPECT_EQ(config_, (TopicConfig{.retentionMs = 604'800'000, .overrides = {}}));
}

TEST_F(TopicConfigTest, ValuesAreKeptAsShortAsTheyCanBeSaid) {
  const std::string zeros(10'000, '0');
  std::string list = "compact";
  for (int i = 0; i < 1000; ++i) list += ", compact";
  const std::string kept[][3] = {
      {"retention.ms", zeros + "5", "5"},
      {"segment.bytes", zeros + "6", "6"},
      {"segment.ms", "007", "7"},
      {"flush.ms", zeros + "7", "7"},
      {"min.cleanable.dirty.ratio", "0.5" + zeros, "0.5"},
      {"cleanup.policy", list, "compact"},
      {"unclean.leader.election.enable", "True", "true"},
      {"leader.replication.throttled.replicas", "0:1, 1:1,0:1", "0:1,1:1"},
      {"follower.replication.throttled.replicas", "*", "*"},
  };
  for (const auto& [key, value, text] : kept) {
    EXPECT_TRUE(set(key, value)) << key;
    EXPECT_EQ(config_.overrides.at(key), text);
    EXPECT_EQ(entry(key).value, text);
  }
}

TEST_F(TopicConfigTest, TheLeastLagIsNoMoreThanTheLongest) {
  EXPECT_TRUE(set("max.compaction.lag.ms", "5"));
  EXPECT_TRUE(checkTopicConfig(config_, limits_));
  EXPECT_TRUE(set("min.compaction.lag.ms", "6"));
  EXPECT_FALSE(checkTopicConfig(config_, limits_));
  EXPECT_TRUE(resetTopicConfig(config_, "min.compaction.lag.ms", limits_));
  EXPECT_TRUE(checkTopicConfig(config_, limits_));
  limits_.defaults.cleanup.minCompactionLagMs = 6;
  EXPECT_FALSE(checkTopicConfig(config_, limits_)) << "of what is in force";
  EXPECT_TRUE(checkTopicConfig({}, limits_));
}

TEST_F(TopicConfigTest, WhatStreamsAndConnectSetIsTaken) {
  for (auto [key, value] : {std::pair<BytesView, BytesView>{"cleanup.policy", "compact,delete"},
                            {"segment.bytes", "52428800"},
                            {"segment.ms", "600000"},
                            {"segment.index.bytes", "52428800"},
                            {"retention.ms", "-1"},
                            {"message.timestamp.type", "CreateTime"},
                            {"min.insync.replicas", "1"},
                            {"unclean.leader.election.enable", "false"},
                            {"min.compaction.lag.ms", "86400000"}}) {
    EXPECT_TRUE(set(key, value)) << key;
    EXPECT_EQ(entry(key).value, value);
    EXPECT_EQ(entry(key).source, ConfigSource::kTopic);
  }
}

// Pitfall: DescribeConfigs names every key with its right source, DEFAULT and DYNAMIC apart.
TEST_F(TopicConfigTest, DescribeConfigsNamesEveryKeyWithItsRightSource) {
  set("retention.ms", "604800000");                             // set to what it is anyway
  limits_.file.retentionBytes = config_.retentionBytes = 1000;  // the operator's choice
  config_.maxBatchBytes = 500;                                  // another protocol's
  config_.own.add(TopicField::kMaxBatchBytes);
  for (const ConfigEntry& entry : describeTopicConfig(config_, limits_)) {
    EXPECT_FALSE(entry.documentation.empty()) << entry.key;
    if (entry.key == "retention.ms" || entry.key == "max.message.bytes") {
      EXPECT_EQ(entry.source, ConfigSource::kTopic) << entry.key;
    } else if (entry.key == "retention.bytes") {
      EXPECT_EQ(entry.source, ConfigSource::kStaticBroker);
    } else {
      EXPECT_EQ(entry.source, ConfigSource::kDefault) << entry.key;
    }
  }
  EXPECT_EQ(describeTopicConfig(config_, limits_).size(), topicConfigKeys().size());
}

TEST_F(TopicConfigTest, SynonymsTellWhatWouldBeInForce) {
  limits_.file.retentionMs = 1000;
  set("retention.ms", "5");
  std::vector<ConfigSynonym> synonyms = entry("retention.ms").synonyms;
  ASSERT_EQ(synonyms.size(), 3U);
  EXPECT_EQ(synonyms[0].key, "retention.ms");
  EXPECT_EQ(synonyms[0].value, "5");
  EXPECT_EQ(synonyms[0].source, ConfigSource::kTopic);
  EXPECT_EQ(synonyms[1].key, "log.retention.ms");
  EXPECT_EQ(synonyms[1].value, "1000");
  EXPECT_EQ(synonyms[1].source, ConfigSource::kStaticBroker);
  EXPECT_EQ(synonyms[2].value, "604800000");
  EXPECT_EQ(synonyms[2].source, ConfigSource::kDefault);
  EXPECT_EQ(entry("cleanup.policy").synonyms.size(), 1U);
}

TEST_F(TopicConfigTest, EveryKeyGoesBackToItsDefault) {
  const std::map<BytesView, BytesView> others = {{"cleanup.policy", "compact"},
                                                 {"compression.type", "gzip"},
                                                 {"delete.retention.ms", "1"},
                                                 {"flush.messages", "1"},
                                                 {"flush.ms", "1"},
                                                 {"max.compaction.lag.ms", "9"},
                                                 {"max.message.bytes", "9"},
                                                 {"message.timestamp.type", "LogAppendTime"},
                                                 {"min.cleanable.dirty.ratio", "0.9"},
                                                 {"min.compaction.lag.ms", "9"},
                                                 {"retention.bytes", "9"},
                                                 {"retention.ms", "9"},
                                                 {"segment.bytes", "9"}};
  TopicConfig before = config_;
  for (const ConfigKey& key : topicConfigKeys()) {
    auto other = others.find(key.name);
    BytesView value = other != others.end() ? other->second : key.fallback;
    EXPECT_TRUE(set(key.name, value)) << key.name;
    EXPECT_EQ(entry(key.name).value, value);
    EXPECT_NE(config_, before) << key.name;
    EXPECT_TRUE(resetTopicConfig(config_, key.name, limits_)) << key.name;
    EXPECT_EQ(config_, before) << key.name;
  }
  EXPECT_FALSE(resetTopicConfig(config_, "no.such.key", limits_));
}

TEST_F(TopicConfigTest, FlushingSoonMeansSafe) {
  config_.flush = limits_.defaults.flush = FlushPolicy::kInterval;
  EXPECT_TRUE(set("flush.ms", "1000"));
  EXPECT_EQ(config_.flush, FlushPolicy::kInterval) << "100 ms at most anyway";
  EXPECT_TRUE(set("flush.messages", "10"));
  EXPECT_EQ(config_.flush, FlushPolicy::kSafe);
  EXPECT_TRUE(resetTopicConfig(config_, "flush.messages", limits_));
  EXPECT_EQ(config_.flush, FlushPolicy::kInterval);
}

TEST_F(TopicConfigTest, ListsAreExtended) {
  EXPECT_TRUE(extendTopicConfig(config_, "cleanup.policy", "compact", false, limits_));
  EXPECT_TRUE(config_.cleanup.deletes && config_.cleanup.compacts);
  EXPECT_TRUE(extendTopicConfig(config_, "cleanup.policy", "delete", true, limits_));
  EXPECT_FALSE(config_.cleanup.deletes);
  EXPECT_FALSE(extendTopicConfig(config_, "cleanup.policy", "compact", true, limits_));
  EXPECT_TRUE(config_.cleanup.compacts);
  EXPECT_FALSE(extendTopicConfig(config_, "retention.ms", "1", false, limits_));
}

TEST_F(TopicConfigTest, TheBrokersKeysAreThoseOfTopicsThatSetNothing) {
  limits_.file.retentionMs = 5;
  std::vector<ConfigEntry> entries = describeTopicDefaults(limits_);
  auto found = std::ranges::find(entries, "log.retention.ms", &ConfigEntry::key);
  ASSERT_NE(found, entries.end());
  EXPECT_EQ(found->value, "5");
  EXPECT_EQ(found->source, ConfigSource::kStaticBroker);
  found = std::ranges::find(entries, "message.max.bytes", &ConfigEntry::key);
  EXPECT_EQ(found->source, ConfigSource::kDefault);
}

}  // namespace
}  // namespace polylog::kafka
