// Topics that are altered and grown while others use, delete and alter them, and while writes fail;
// records that are deleted.
#include "router/state_codec.h"
#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

class TopicChangeTest : public RouterFixture {
 protected:
  void SetUp() override {
    begin(2);
    TopicSpec spec;
    spec.name = "t";
    spec.partitions = 2;
    ASSERT_TRUE(createTopic(spec));
  }
  struct Answer {
    bool done = false;
    Result<TopicRef> result = fail(ErrorKind::kInternal, "not called");
  };
  using AnswerRef = std::shared_ptr<Answer>;
  static Done<Result<TopicRef>> into(const AnswerRef& answer) {
    return [answer](Result<TopicRef> result) {
      EXPECT_FALSE(answer->done);
      answer->done = true;
      answer->result = std::move(result);
    };
  }
  AnswerRef retain(int64_t millis, size_t worker = 0, const std::string& name = "t") {
    auto answer = std::make_shared<Answer>();
    on(worker, [&] {
      router_->alterTopic(
          who_, name,
          [millis](TopicConfig& config) -> Result<> {
            config.retentionMs = millis;
            config.own.add(TopicField::kRetentionMs);
            config.overrides["order"] += std::to_string(millis) + " ";
            return {};
          },
          into(answer));
    });
    return answer;
  }
  AnswerRef grow(int32_t partitions, size_t worker = 0) {
    auto answer = std::make_shared<Answer>();
    on(worker, [&] { router_->growTopic(who_, "t", partitions, into(answer)); });
    return answer;
  }
  Result<Offset> deleteRecords(std::optional<Offset> before, int32_t partition = 0) {
    Result<Offset> answer = fail(ErrorKind::kInternal, "not called");
    on(0, [&] {
      router_->deleteRecords(who_, "t", partition, before,
                             [&](Result<Offset> result) { answer = result; });
    });
    settle();
    return answer;
  }
  PrincipalRef who_ = principal("k", Protocol::kKafka);
};

TEST_F(TopicChangeTest, IsToldAndSeenWhenDurable) {
  AnswerRef answer = retain(5000);
  run();
  EXPECT_FALSE(answer->done);
  EXPECT_NE(topic("t")->config.retentionMs, 5000);
  settle();
  ASSERT_TRUE(answer->result.has_value());
  EXPECT_EQ(topic("t"), *answer->result);
  EXPECT_EQ(topic("t")->config.retentionMs, 5000);
  EXPECT_EQ(store_->retentionOf(topic("t")->partitions[1]).millis, 5000);
  EXPECT_EQ(on(0, [&] { return router_->findTopic(who_, topic("t")->id); }), topic("t"));
  crash();
  EXPECT_EQ(topic("t")->config.retentionMs, 5000);
  EXPECT_EQ(store_->retentionOf(topic("t")->partitions[0]).millis, 5000);
}

TEST_F(TopicChangeTest, ChangesOfOneTopicBuildOnOneAnother) {
  std::vector<AnswerRef> answers{retain(1, 0), retain(2, 1), retain(3, 0)};
  AnswerRef grown = grow(4, 1);
  settle();
  for (const AnswerRef& answer : answers) EXPECT_TRUE(answer->result.has_value());
  EXPECT_TRUE(grown->result.has_value());
  EXPECT_EQ(topic("t")->config.overrides.at("order"), "1 2 3 ");
  EXPECT_THAT(topic("t")->partitions, SizeIs(4));
  for (PartitionId id : topic("t")->partitions) EXPECT_EQ(store_->retentionOf(id).millis, 3);
  crash();
  EXPECT_EQ(topic("t")->config.overrides.at("order"), "1 2 3 ");
  EXPECT_THAT(topic("t")->partitions, SizeIs(4));
}

TEST_F(TopicChangeTest, AFailedWriteChangesNothingAndTheNextOneGoesOn) {
  AnswerRef first = retain(1);
  AnswerRef second = retain(2);
  run();
  failWrites();
  EXPECT_EQ(first->result.error().kind, ErrorKind::kIo);
  EXPECT_FALSE(topic("t")->config.overrides.contains("order"));
  settle();
  EXPECT_TRUE(second->result.has_value());
  EXPECT_EQ(topic("t")->config.overrides.at("order"), "2 ");
  crash();
  EXPECT_EQ(topic("t")->config.overrides.at("order"), "2 ");
}

TEST_F(TopicChangeTest, ARefusedAppendDoesNotHoldUpTheNextOne) {
  store_->refuseNext({ErrorKind::kShutdown, "stopping"});
  AnswerRef first = retain(1);
  AnswerRef second = retain(2);
  settle();
  EXPECT_EQ(first->result.error().kind, ErrorKind::kShutdown);
  EXPECT_TRUE(second->result.has_value());
}

TEST_F(TopicChangeTest, AChangeMayRefuse) {
  auto answer = std::make_shared<Answer>();
  on(0, [&] {
    router_->alterTopic(
        who_, "t", [](TopicConfig&) { return Result<>(fail(ErrorKind::kInvalid, "no")); },
        into(answer));
  });
  settle();
  EXPECT_EQ(answer->result.error().kind, ErrorKind::kInvalid);
  AnswerRef none = retain(1, 0, "none");
  settle();
  EXPECT_EQ(none->result.error().kind, ErrorKind::kNotFound);
}

TEST_F(TopicChangeTest, DeletingWaitsForAChangeOnItsWay) {
  PartitionId first = topic("t")->partitions[0];
  AnswerRef grown = grow(3);
  Result<> deleted = fail(ErrorKind::kInternal, "not called");
  on(1, [&] { router_->deleteTopic(who_, "t", [&](Result<> result) { deleted = result; }); });
  AnswerRef late = retain(7);
  settle();
  ASSERT_TRUE(grown->result.has_value());
  EXPECT_TRUE(deleted.has_value());
  EXPECT_EQ(late->result.error().kind, ErrorKind::kNotFound);
  EXPECT_FALSE(topic("t"));
  EXPECT_FALSE(store_->exists(first));
  EXPECT_FALSE(store_->exists((*grown->result)->partitions[2])) << "the new one goes too";
  crash();
  EXPECT_FALSE(topic("t"));
}

TEST_F(TopicChangeTest, AChangeOfATopicWhoseCreationFailsFindsNone) {
  TopicSpec spec;
  spec.name = "new";
  on(0, [&] { router_->createTopic(who_, spec, [](auto) {}); });
  AnswerRef answer = retain(1, 1, "new");
  run();
  failWrites();
  settle();
  EXPECT_EQ(answer->result.error().kind, ErrorKind::kNotFound);
  crash();
  EXPECT_FALSE(topic("new"));
}

TEST_F(TopicChangeTest, ADeletionThatFailsWithTheNextCreationLeavesTheTopic) {
  const TopicId id = topic("t")->id;
  on(0, [&] { router_->deleteTopic(who_, "t", [](Result<> result) { EXPECT_FALSE(result); }); });
  run();
  TopicSpec spec;
  spec.name = "t";
  on(1, [&] { router_->createTopic(who_, spec, [](auto made) { EXPECT_FALSE(made); }); });
  run();
  ASSERT_EQ(store_->pending(), 2U);
  failWrites();
  settle();
  ASSERT_TRUE(topic("t"));
  EXPECT_EQ(topic("t")->id, id);
}

TEST_F(TopicChangeTest, GrownTopicsTakeRecordsInTheNewPartitions) {
  EXPECT_EQ(grow(2)->done, false);
  settle();
  AnswerRef same = grow(2);
  AnswerRef tooMany = grow(2'000'000);
  AnswerRef grown = grow(3);
  settle();
  EXPECT_EQ(same->result.error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(tooMany->result.error().kind, ErrorKind::kInvalid);
  ASSERT_TRUE(grown->result.has_value());
  auto told = produce("t", batchOf({{"k", "v"}}), 2);
  settle();
  ASSERT_TRUE(told->result.has_value());
  EXPECT_THAT(stored("t", 2), ElementsAre("v"));
  TopicRef before = topic("t");
  crash();
  EXPECT_EQ(topic("t")->partitions, before->partitions);
  EXPECT_THAT(stored("t", 2), ElementsAre("v"));
}

TEST_F(TopicChangeTest, CompressionIsTheTopics) {
  on(0, [&] {
    router_->alterTopic(
        who_, "t",
        [](TopicConfig& config) -> Result<> {
          config.compression = Compression::kZstd;
          config.own.add(TopicField::kCompression);
          return {};
        },
        [](auto) {});
  });
  settle();
  crash();  // it is part of what is journaled
  produce("t", batchOf({{"a", "1"}, {"b", "2"}}));
  settle();
  Result<Fetched> read = on(0, [&] { return router_->fetch(who_, "t", 0, Offset(0), 1 << 20); });
  ASSERT_TRUE(read.has_value());
  auto header = validateRecordBatch(read->batches.at(0).batch.view());
  ASSERT_TRUE(header.has_value()) << "its CRC holds";
  EXPECT_EQ(header->compression(), Compression::kZstd);
  EXPECT_THAT(stored("t", 0), ElementsAre("1", "2"));
}

TEST_F(TopicChangeTest, OfTopicsWrittenBeforeThereWasAChoiceOfCompressionThereIsNone) {
  Topic written = *topic("t");
  written.config.compression = Compression::kGzip;
  std::string text = encodeTopic(written);
  EXPECT_EQ(decodeTopic("t", text)->config.compression, Compression::kGzip);
  text.resize(text.size() - 3);  // nor were they marked
  auto read = decodeTopic("t", text);
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->config.compression, std::nullopt);
  EXPECT_EQ(read->partitions, written.partitions);
  EXPECT_FALSE(decodeTopic("t", text + "\x09").has_value());
}

TEST_F(TopicChangeTest, DeletedRecordsAreGoneWhenItIsTold) {
  produce("t", batchOf({{"a", "1"}, {"b", "2"}, {"c", "3"}}));
  settle();
  EXPECT_EQ(deleteRecords(Offset(4)).error().kind, ErrorKind::kOutOfRange);
  EXPECT_EQ(deleteRecords(Offset(-5)).error().kind, ErrorKind::kOutOfRange);
  EXPECT_EQ(deleteRecords(Offset(0), 9).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(deleteRecords(Offset(2)), Offset(2));
  EXPECT_EQ(deleteRecords(Offset(1)), Offset(2)) << "what is gone stays gone";
  crash();
  auto bounds = on(0, [&] { return router_->bounds(who_, "t", 0); });
  EXPECT_EQ(bounds->logStart, Offset(2));
  EXPECT_EQ(deleteRecords(std::nullopt), Offset(3));
}

TEST_F(TopicChangeTest, AFailedDeletionOfRecordsIsTold) {
  produce("t", batchOf({{"a", "1"}}));
  settle();
  Result<Offset> answer = Offset(0);
  on(0, [&] {
    router_->deleteRecords(who_, "t", 0, Offset(1), [&](Result<Offset> r) { answer = r; });
  });
  run();
  EXPECT_EQ(answer, Offset(0)) << "not before it is durable";
  failWrites();
  EXPECT_EQ(answer.error().kind, ErrorKind::kIo);
}

}  // namespace
}  // namespace polylog::router
