// What topics have that set nothing: layers over what the file says, followed by all topics at
// once, in memory and in the journal, through crashes, failed writes and other files.
#include "router/topic_defaults_store.h"

#include <gmock/gmock.h>

#include "router/state_codec.h"
#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

constexpr auto kCluster = DefaultsScope::kCluster;
constexpr auto kBroker = DefaultsScope::kBroker;

class TopicDefaultsTest : public RouterFixture {
 protected:
  void SetUp() override {
    RouterFixture::begin(2);
    make("follows");
    TopicConfig config;
    config.retentionMs = 5000;
    config.own.add(TopicField::kRetentionMs);
    make("own", 1, config);
    make("device", 1, std::nullopt, Protocol::kMqtt);
  }
  void make(const std::string& name, int32_t partitions = 1,
            std::optional<TopicConfig> config = std::nullopt,
            Protocol protocol = Protocol::kKafka) {
    TopicSpec spec;
    spec.name = name;
    spec.partitions = partitions;
    spec.config = std::move(config);
    ASSERT_TRUE(createTopic(spec, protocol)) << name;
  }
  struct Answer {
    bool done = false;
    Result<> result = fail(ErrorKind::kInternal, "not called");
  };
  std::shared_ptr<Answer> begin(DefaultsScope scope, DynamicDefaults::Change change,
                                size_t worker = 0) {
    auto answer = std::make_shared<Answer>();
    on(worker, [&] {
      router_->dynamicDefaults().alter(principal("k", Protocol::kKafka), scope, std::move(change),
                                       [answer](Result<> result) {
                                         EXPECT_FALSE(answer->done);
                                         answer->done = true;
                                         answer->result = std::move(result);
                                       });
    });
    return answer;
  }
  static DynamicDefaults::Change retain(std::optional<int64_t> millis) {
    return [millis](TopicConfig& layer) -> Result<> {
      layer.own.remove(TopicField::kRetentionMs);
      layer.overrides.erase("log.retention.ms");
      layer.retentionMs = millis.value_or(-1);
      if (!millis) return {};
      layer.own.add(TopicField::kRetentionMs);
      layer.overrides["log.retention.ms"] = std::to_string(*millis);
      return {};
    };
  }
  static DynamicDefaults::Change largest(std::optional<int32_t> octets) {
    return [octets](TopicConfig& layer) -> Result<> {
      layer.own.remove(TopicField::kMaxBatchBytes);
      layer.maxBatchBytes = octets.value_or(-1);
      if (octets) layer.own.add(TopicField::kMaxBatchBytes);
      return {};
    };
  }
  /// The topic's row as it was before there were marks.
  void writeUnmarked(const Topic& topic) {
    std::string row = encodeTopic(topic);
    row.resize(row.size() - 2);
    storage::AppendRequest request;
    request.state.push_back({storage::StateTable::kTopic, topic.name, row});
    ASSERT_TRUE(store_->append(std::move(request)).has_value());
  }
  Result<> alter(DefaultsScope scope, DynamicDefaults::Change change) {
    auto answer = begin(scope, std::move(change));
    settle();
    return answer->result;
  }
  void alterTopic(const std::string& name, std::optional<int64_t> millis) {
    on(0, [&] {
      router_->alterTopic(
          principal("k", Protocol::kKafka), name,
          [millis](TopicConfig& config) -> Result<> {
            config.own.remove(TopicField::kRetentionMs);
            if (millis) {
              config.retentionMs = *millis;
              config.own.add(TopicField::kRetentionMs);
            }
            return {};
          },
          [](Result<TopicRef> result) { EXPECT_TRUE(result.has_value()); });
    });
  }
  int64_t retention(const std::string& name) { return topic(name)->config.retentionMs; }
  int64_t journaled(const std::string& name, size_t partition = 0) {
    return store_->retentionOf(topic(name)->partitions.at(partition)).millis;
  }
  void expectRetention(const std::string& name, int64_t millis) {
    EXPECT_EQ(retention(name), millis) << name;
    EXPECT_EQ(journaled(name), millis) << name;
  }
};

TEST_F(TopicDefaultsTest, TheBrokersBeatTheClustersBeatTheFilesAndTheTopicsBeatAll) {
  TopicRef before = topic("follows");
  ASSERT_TRUE(alter(kCluster, retain(1000)));
  expectRetention("follows", 1000);
  expectRetention("own", 5000);
  expectRetention("device", 604'800'000);
  EXPECT_NE(topic("follows"), before);
  EXPECT_EQ(on(0, [&] { return router_->findTopic(principal("k"), before->id); }),
            topic("follows"));
  ASSERT_TRUE(alter(kBroker, retain(2000)));
  expectRetention("follows", 2000);
  ASSERT_TRUE(alter(kCluster, retain(3000)));
  expectRetention("follows", 2000);
  ASSERT_TRUE(alter(kBroker, retain(std::nullopt)));
  expectRetention("follows", 3000);
  make("later");
  expectRetention("later", 3000);
  crash();
  for (const char* name : {"follows", "later"}) expectRetention(name, 3000);
  expectRetention("own", 5000);
  ASSERT_TRUE(alter(kCluster, retain(std::nullopt)));
  for (const char* name : {"follows", "later"}) expectRetention(name, 604'800'000);
  EXPECT_FALSE(store_->getState(storage::StateTable::kTopicDefaults, "cluster"));
  crash();
  expectRetention("follows", 604'800'000);
}

TEST_F(TopicDefaultsTest, WhatIsSetForATopicStaysAndWhatIsTakenBackFollows) {
  ASSERT_TRUE(alter(kCluster, retain(5000)));
  ASSERT_TRUE(alter(kCluster, retain(1000)));
  expectRetention("own", 5000);
  alterTopic("own", std::nullopt);
  settle();
  expectRetention("own", 1000);
  alterTopic("own", 1000);  // as it is anyway, but its own now
  settle();
  ASSERT_TRUE(alter(kCluster, retain(2000)));
  expectRetention("own", 1000);
  crash();
  expectRetention("own", 1000);
  expectRetention("follows", 2000);
}

TEST_F(TopicDefaultsTest, ABatchThatIsTooLargeByDefaultIsRefusedUntilItIsTakenBack) {
  std::string batch = batchOf({{"k", std::string(500, 'v')}});
  ASSERT_TRUE(alter(kBroker, largest(100)));
  auto refused = produce("follows", batch);
  settle();
  EXPECT_EQ(refused->result.error().kind, ErrorKind::kTooLarge);
  crash();
  refused = produce("follows", batch);
  settle();
  EXPECT_EQ(refused->result.error().kind, ErrorKind::kTooLarge);
  ASSERT_TRUE(alter(kBroker, largest(std::nullopt)));
  auto taken = produce("follows", batch);
  settle();
  EXPECT_TRUE(taken->result.has_value());
}

TEST_F(TopicDefaultsTest, IsToldWhenTheJournalFollowsAndNotSeenBeforeItIsDurable) {
  auto answer = begin(kCluster, retain(1000));
  run();
  EXPECT_EQ(retention("follows"), 604'800'000);
  store_->commit();
  run();
  EXPECT_EQ(retention("follows"), 1000);
  EXPECT_FALSE(answer->done) << "the journal's retention is the old one";
  settle();
  EXPECT_TRUE(answer->result.has_value());
}

TEST_F(TopicDefaultsTest, ACrashBeforeTheJournalFollowsIsMadeGood) {
  begin(kCluster, retain(1000));
  run();
  store_->commit();
  run();
  EXPECT_EQ(store_->pending(), 1U);
  crash();
  expectRetention("follows", 1000);
}

TEST_F(TopicDefaultsTest, AnotherFileReachesTopicsThatSetNothing) {
  TopicConfig same;
  same.retentionMs = 604'800'000;  // as the file has it, but asked for
  same.own.add(TopicField::kRetentionMs);
  make("asked", 1, same);
  options_.defaultsKafka.retentionMs = 7000;
  options_.defaultsMqtt.retentionBytes = 8000;
  crash();
  expectRetention("follows", 7000);
  expectRetention("own", 5000);
  expectRetention("asked", 604'800'000);
  EXPECT_EQ(store_->retentionOf(topic("device")->partitions[0]).bytes, 8000);
  ASSERT_TRUE(alter(kCluster, retain(1000)));
  options_.defaultsKafka.retentionMs = 9000;
  crash();
  expectRetention("follows", 1000);
}

TEST_F(TopicDefaultsTest, OfTopicsWrittenWithoutMarksWhatIsAsTheFileSaysCountsAsNotSet) {
  make("named");
  writeUnmarked(*topic("follows"));
  writeUnmarked(*topic("own"));
  Topic named = *topic("named");
  named.config.overrides["retention.ms"] = "604800000";
  writeUnmarked(named);
  settle();
  crash();
  // Another file later tells them apart for good.
  options_.defaultsKafka.retentionMs = 7000;
  crash();
  expectRetention("follows", 7000);
  expectRetention("own", 5000);
  expectRetention("named", 604'800'000);
}

TEST_F(TopicDefaultsTest, OfTopicsWrittenWithoutMarksFlushIsSetWhereItWasAskedFor) {
  const std::pair<const char*, const char*> kAsked[] = {
      {"flush.messages", "1"},
      {"flush.ms", "99"},
      {"flush.messages", "9223372036854775807"},
      {"flush.ms", "100"},
  };
  for (size_t i = 0; i < std::size(kAsked); ++i) {
    std::string name = "asked" + std::to_string(i);
    make(name);
    Topic old = *topic(name);
    old.config.overrides[kAsked[i].first] = kAsked[i].second;
    if (i >= 2) old.config.flush = FlushPolicy::kNever;  // as the file said then
    writeUnmarked(old);
  }
  settle();
  crash();
  for (size_t i = 0; i < std::size(kAsked); ++i) {
    EXPECT_EQ(topic("asked" + std::to_string(i))->config.flush, FlushPolicy::kSafe) << i;
  }
  options_.defaultsKafka.flush = FlushPolicy::kInterval;
  crash();
  for (size_t i = 0; i < std::size(kAsked); ++i) {
    EXPECT_EQ(topic("asked" + std::to_string(i))->config.flush,
              i < 2 ? FlushPolicy::kSafe : FlushPolicy::kInterval)
        << i;
  }
}

TEST_F(TopicDefaultsTest, ATopicThatIsBeingAlteredFollowsToo) {
  auto answer = begin(kCluster, retain(1000));
  run();
  alterTopic("own", std::nullopt);  // builds on the old default
  alterTopic("follows", 9000);
  run();
  settle();
  EXPECT_TRUE(answer->result.has_value());
  expectRetention("own", 1000);
  expectRetention("follows", 9000);
  crash();
  expectRetention("own", 1000);
  expectRetention("follows", 9000);
}

TEST_F(TopicDefaultsTest, WhereTheLastTopicThatLagsIsAlteredOrDeletedItIsToldToo) {
  for (bool deletes : {false, true}) {
    alterTopic("follows", std::nullopt);
    on(0, [&] {
      router_->growTopic(principal("k", Protocol::kKafka), "follows", deletes ? 3 : 2,
                         [](const Result<TopicRef>&) {});
    });
    auto answer = begin(kCluster, retain(deletes ? 2000 : 1000));
    run();
    on(0, [&] {
      if (!deletes) return alterTopic("follows", 9000);
      router_->deleteTopic(principal("k", Protocol::kKafka), "follows", [](const Result<>&) {});
    });
    settle();
    EXPECT_TRUE(answer->result.has_value());
    if (deletes) continue;
    expectRetention("follows", 9000);
    alterTopic("follows", std::nullopt);
    settle();
    expectRetention("follows", 1000);
  }
  EXPECT_EQ(topic("follows"), nullptr);
  ASSERT_TRUE(alter(kCluster, retain(3000)));
}

TEST_F(TopicDefaultsTest, ATopicThatIsBeingMadeFollowsToo) {
  auto answer = begin(kCluster, retain(1000));
  run();
  TopicSpec spec;
  spec.name = "new";
  Result<TopicRef> made = fail(ErrorKind::kInternal, "not called");
  on(0, [&] {
    router_->createTopic(principal("k", Protocol::kKafka), spec,
                         [&](Result<TopicRef> result) { made = std::move(result); });
  });
  settle();
  ASSERT_TRUE(made.has_value());
  EXPECT_TRUE(answer->result.has_value());
  expectRetention("new", 1000);
  crash();
  expectRetention("new", 1000);
}

TEST_F(TopicDefaultsTest, ATopicThatCouldNotBeDeletedFollows) {
  Result<> deleted;
  auto answer = begin(kCluster, retain(1000));
  run();
  store_->commit();
  on(1, [&] {
    router_->deleteTopic(principal("k", Protocol::kKafka), "follows",
                         [&](Result<> result) { deleted = std::move(result); });
  });
  failWrites();
  EXPECT_FALSE(deleted.has_value());
  settle();
  EXPECT_TRUE(answer->result.has_value());
  expectRetention("follows", 1000);
}

TEST_F(TopicDefaultsTest, ManyPartitionsAreSeveralEntries) {
  for (const char* name : {"a", "b", "c", "d"}) make(name, 6000);
  ASSERT_TRUE(alter(kCluster, retain(1000)));
  for (const char* name : {"a", "b", "c", "d"}) {
    EXPECT_EQ(journaled(name, 5999), 1000) << name;
  }
  crash();
  EXPECT_EQ(journaled("d", 5999), 1000);
}

TEST_F(TopicDefaultsTest, AFailedWriteChangesNothing) {
  auto answer = begin(kCluster, retain(1000));
  run();
  failWrites();
  EXPECT_EQ(answer->result.error().kind, ErrorKind::kIo);
  expectRetention("follows", 604'800'000);
  ASSERT_TRUE(alter(kCluster, retain(2000))) << "the next one's turn has come";
  expectRetention("follows", 2000);
}

TEST_F(TopicDefaultsTest, WhereTheJournalCouldNotFollowItIsTriedAgain) {
  auto answer = begin(kCluster, retain(1000));
  run();
  store_->commit();
  run();
  failWrites();
  EXPECT_TRUE(answer->result.has_value()) << "it is durable and in force";
  EXPECT_EQ(retention("follows"), 1000);
  EXPECT_EQ(journaled("follows"), 604'800'000);
  advance(1500);
  EXPECT_EQ(journaled("follows"), 1000);
}

TEST_F(TopicDefaultsTest, AnAlterThatWaitedForAFailedCatchUpWritesThePartitionsToo) {
  begin(kCluster, retain(1000));
  run();
  store_->commit();
  run();
  ASSERT_EQ(store_->pending(), 1U);
  on(0, [&] {
    router_->alterTopic(
        principal("k", Protocol::kKafka), "follows",
        [](TopicConfig& config) -> Result<> {
          config.overrides["segment.bytes"] = "1000000";
          return {};
        },
        [](Result<TopicRef> result) { EXPECT_TRUE(result.has_value()); });
  });
  failWrites();
  ASSERT_EQ(store_->pending(), 1U) << "the alter's";
  store_->commit();
  run();
  EXPECT_EQ(journaled("follows"), 1000);
  crash();
  EXPECT_TRUE(topic("follows")->config.overrides.contains("segment.bytes"));
  expectRetention("follows", 1000);
}

TEST_F(TopicDefaultsTest, AfterFailuresTheJournalIsLeftAloneForLongerAndLonger) {
  make("other");
  begin(kCluster, retain(1000));
  run();
  store_->commit();
  run();
  failWrites();
  // Nobody's change brings it about at once.
  alterTopic("other", 9000);
  run();
  store_->commit();
  run();
  EXPECT_EQ(store_->pending(), 0U);
  auto answer = begin(kCluster, retain(2000));
  settle();
  EXPECT_TRUE(answer->result.has_value());
  EXPECT_EQ(retention("follows"), 2000);
  EXPECT_EQ(journaled("follows"), 604'800'000);
  auto pass = [&](int64_t millis) {
    clock_.advance(millis * 1000);
    run();
  };
  pass(1100);
  ASSERT_EQ(store_->pending(), 1U);
  failWrites();
  pass(1100);
  EXPECT_EQ(store_->pending(), 0U) << "two seconds now";
  pass(1000);
  EXPECT_EQ(store_->pending(), 1U);
  settle();
  expectRetention("follows", 2000);
  expectRetention("other", 9000);
}

TEST_F(TopicDefaultsTest, ChangesFromTwoWorkersAreMadeOneAfterTheOther) {
  auto first = begin(kCluster, retain(1000), 0);
  auto second = begin(kCluster, largest(100), 1);
  auto third = begin(kBroker, retain(2000), 1);
  settle();
  EXPECT_TRUE(first->result && second->result && third->result);
  expectRetention("follows", 2000);
  EXPECT_EQ(topic("follows")->config.maxBatchBytes, 100);
  EXPECT_EQ(router_->dynamicDefaults().current()->cluster.retentionMs, 1000);
}

TEST_F(TopicDefaultsTest, ARefusedChangeChangesNothing) {
  EXPECT_EQ(
      alter(kCluster, [](TopicConfig&) -> Result<> { return fail(ErrorKind::kInvalid, "no"); })
          .error()
          .kind,
      ErrorKind::kInvalid);
  EXPECT_EQ(store_->pending(), 0U);
}

TEST_F(TopicDefaultsTest, WhoMayNotAlterTheClustersConfigurationMayNotAlterThis) {
  options_.access.denyByDefault = true;
  crash();
  EXPECT_EQ(alter(kCluster, retain(1000)).error().kind, ErrorKind::kUnauthorized);
  EXPECT_FALSE(on(0, [&] {
    return router_->dynamicDefaults().mayAlter(principal("k", Protocol::kKafka)).has_value();
  }));
  EXPECT_FALSE(store_->getState(storage::StateTable::kTopicDefaults, "cluster"));
}

TEST(TopicDefaultsState, WhatCanNotBeReadIsSaid) {
  TopicConfig layer;
  layer.compression = Compression::kZstd;
  layer.own.add(TopicField::kCompression);
  layer.overrides["compression.type"] = "zstd";
  std::string row = encodeTopicDefaults(layer);
  EXPECT_EQ(*decodeTopicDefaults("cluster", row), layer);
  EXPECT_FALSE(decodeTopicDefaults("cluster", row + "x"));
  for (size_t size = 0; size < row.size(); ++size) {
    EXPECT_FALSE(decodeTopicDefaults("cluster", BytesView(row).substr(0, size))) << size;
  }
}

}  // namespace
}  // namespace polylog::router
