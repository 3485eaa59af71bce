#include "router/log_access.h"

#include "core/base/byte_writer.h"
#include "core/base/crc32c.h"
#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class LogTest : public RouterFixture {
 protected:
  void SetUp() override {
    begin(2);
    TopicSpec spec;
    spec.name = "t";
    spec.partitions = 2;
    ASSERT_TRUE(createTopic(spec));
  }
  /// Overwrites header fields and renews the CRC.
  static std::string patched(std::string batch, size_t at, std::string_view octets) {
    batch.replace(at, octets.size(), octets);
    ByteWriter crc;
    crc.u32(crc32c(BytesView(batch).substr(kRecordBatchUncheckedSize)));
    batch.replace(17, 4, crc.view());
    return batch;
  }
  static std::string idempotent(int64_t id, int16_t epoch, int32_t sequence,
                                std::vector<std::pair<std::string, std::string>> records) {
    ByteWriter fields;
    fields.i64(id);
    fields.i16(epoch);
    fields.i32(sequence);
    return patched(batchOf(records), 43, fields.view());
  }
  PrincipalRef who_ = principal("k", Protocol::kKafka);
};

TEST_F(LogTest, ProducedWhenDurable) {
  auto told = produce("t", batchOf({{"a", "1"}, {"b", "2"}}), 1);
  run();
  EXPECT_FALSE(told->done);
  settle();
  ASSERT_TRUE(told->result.has_value());
  EXPECT_EQ(told->result->baseOffset, Offset(0));
  EXPECT_EQ(told->result->logAppendTimeMs, -1);
  EXPECT_EQ(produce("t", batchOf({{"a", "3"}}), 1, false)->done, false);
  EXPECT_EQ(store_->last().durability, storage::Durability::kUnwaited);
  settle();
  EXPECT_THAT(stored("t", 1), ElementsAre("1", "2", "3"));
  EXPECT_THAT(stored("t", 0), IsEmpty());
}

TEST_F(LogTest, TheBatchIsStoredAsItCame) {
  std::string batch = batchOf({{"a", "1"}});
  produce("t", batch);
  settle();
  auto fetched = on(0, [&] { return router_->fetch(who_, "t", 0, Offset(0), 1000); });
  EXPECT_EQ(fetched->batches.at(0).batch.view(), batch);
  EXPECT_EQ(fetched->highWatermark, Offset(1));
  EXPECT_EQ(fetched->lastStable, Offset(1));
}

TEST_F(LogTest, AnswersBeforeTheDiskWhenNobodyWaits) {
  auto told = produce("t", batchOf({{"a", "1"}}), 0, false);
  run();
  EXPECT_TRUE(told->done);
  EXPECT_TRUE(told->result.has_value());
}

TEST_F(LogTest, RefusesWhatIsNotAProducers) {
  auto kind = [&](const std::string& topic, std::string batch, int32_t partition = 0) {
    auto told = produce(topic, std::move(batch), partition);
    settle();
    return told->result ? ErrorKind::kInternal : told->result.error().kind;
  };
  std::string good = batchOf({{"a", "1"}});
  EXPECT_EQ(kind("none", good), ErrorKind::kNotFound);
  EXPECT_EQ(kind("t", good, 2), ErrorKind::kNotFound);
  EXPECT_EQ(kind("t", good, -1), ErrorKind::kNotFound);
  EXPECT_EQ(kind("t", good + "x"), ErrorKind::kCorrupt);
  EXPECT_EQ(kind("t", "short"), ErrorKind::kCorrupt);
  EXPECT_EQ(kind("t", patched(good, 21, std::string("\0\x20", 2))), ErrorKind::kInvalid);
  EXPECT_EQ(kind("t", patched(good, 21, std::string("\0\x10", 2))), ErrorKind::kInvalidTransaction);
  EXPECT_EQ(kind("t", patched(good, 23, std::string("\0\0\0\5", 4))), ErrorKind::kInvalid);
  TopicSpec spec;
  spec.name = "small";
  spec.config = TopicConfig{};
  spec.config->maxBatchBytes = 100;
  spec.config->own.add(TopicField::kMaxBatchBytes);
  ASSERT_TRUE(createTopic(spec));
  EXPECT_EQ(kind("small", batchOf({{"a", std::string(100, 'x')}})), ErrorKind::kTooLarge);
}

TEST_F(LogTest, RecordsAreLookedAtCompressedOrNot) {
  for (Compression codec : {Compression::kNone, Compression::kGzip}) {
    RecordBatchBuilder builder;
    Record record;
    record.timestampMs = 1000;
    record.value = "longer than a third record needs";
    builder.add(record);
    builder.add(record);
    const std::string two = builder.finish(codec);
    auto claims = [&](const char* last, const char* count) {
      auto told = produce("t", patched(patched(two, 57, {count, 4}), 23, {last, 4}));
      settle();
      return told->result ? ErrorKind::kInternal : told->result.error().kind;
    };
    EXPECT_EQ(claims("\0\0\0\2", "\0\0\0\3"), ErrorKind::kInvalid);
    EXPECT_EQ(claims("\0\0\0\0", "\0\0\0\1"), ErrorKind::kInvalid);
    EXPECT_EQ(claims("\0\0\0\1", "\0\0\0\2"), ErrorKind::kInternal) << "as it is";
  }
  std::string notGzip = patched(batchOf({{"a", "1"}}), 21, std::string("\0\1", 2));
  auto told = produce("t", notGzip);
  settle();
  EXPECT_EQ(told->result.error().kind, ErrorKind::kInvalid);
}

TEST_F(LogTest, WhatOneRequestDecompressesToIsBounded) {
  options_.maxDecodedBytes = 10'000;
  crash();
  TopicSpec spec;
  spec.name = "many";
  spec.partitions = 8;
  ASSERT_TRUE(createTopic(spec));
  const std::string value(9'000, 'x');
  RecordBatchBuilder builder;
  Record record;
  record.timestampMs = 1000;
  record.value = BytesView(value);
  builder.add(record);
  const std::string batch = builder.finish(Compression::kGzip);
  builder.add(record);
  const std::string plain = builder.finish();
  // The same octets for all partitions, as if it were so many batches of one request.
  auto request = [&](const SharedBytes& octets, int32_t partitions) {
    std::vector<std::optional<ErrorKind>> told(static_cast<size_t>(partitions));
    on(0, [&] {
      for (int32_t i = 0; i < partitions; ++i) {
        router_->produce(who_, {"many", i, octets, true}, [&told, i](const auto& result) {
          if (!result) told[static_cast<size_t>(i)] = result.error().kind;
        });
      }
    });
    settle();
    return told;
  };
  const std::optional<ErrorKind> fine, large = ErrorKind::kTooLarge;
  auto octets = SharedBytes::own(batch);
  EXPECT_THAT(request(octets, 6), ElementsAre(fine, fine, fine, fine, large, large));
  EXPECT_THAT(request(octets, 1), ElementsAre(large));
  EXPECT_THAT(request(SharedBytes::own(batch), 1), ElementsAre(fine)) << "another request's";
  EXPECT_THAT(request(SharedBytes::own(plain), 8), testing::Each(fine)) << "nothing to decompress";
}

TEST_F(LogTest, TheHeaderGetsTheLargestTimestampThatItLacks) {
  const std::string whole = batchOf({{"a", "1"}, {"b", "2"}}, 5);
  produce("t", patched(whole, 35, std::string(8, '\xff')));
  settle();
  auto fetched = on(0, [&] { return router_->fetch(who_, "t", 0, Offset(0), 1000); });
  EXPECT_EQ(fetched->batches.at(0).batch.view(), whole);
}

TEST_F(LogTest, IdempotentProducersAreCheckedAndRepeatsAnswered) {
  auto first = produce("t", idempotent(9, 0, 0, {{"a", "1"}, {"a", "2"}}));
  auto repeat = produce("t", idempotent(9, 0, 0, {{"a", "1"}, {"a", "2"}}));
  run();
  EXPECT_FALSE(repeat->done) << "answered when the original is";
  settle();
  EXPECT_EQ(repeat->result->baseOffset, first->result->baseOffset);
  auto skipped = produce("t", idempotent(9, 0, 5, {{"a", "x"}}));
  settle();
  EXPECT_EQ(skipped->result.error().kind, ErrorKind::kOutOfOrderSequence);
  EXPECT_THAT(stored("t"), ElementsAre("1", "2"));
}

TEST_F(LogTest, BrokersTimeIsStampedIntoTheBatch) {
  TopicSpec spec;
  spec.name = "stamped";
  spec.config = TopicConfig{};
  spec.config->logAppendTime = true;
  spec.config->own.add(TopicField::kLogAppendTime);
  ASSERT_TRUE(createTopic(spec));
  auto told = produce("stamped", batchOf({{"a", "1"}, {"b", "2"}}, 5));
  int64_t now = clock_.wallMillis();
  settle();
  EXPECT_EQ(told->result->logAppendTimeMs, now);
  publishOne("stamped/x", "3", kQos0);
  settle();
  auto fetched = on(0, [&] { return router_->fetch(who_, "stamped", 0, Offset(0), 1000); });
  ASSERT_THAT(fetched->batches, SizeIs(2));
  for (auto& batch : fetched->batches) {
    auto header = validateRecordBatch(batch.batch.view());
    ASSERT_TRUE(header.has_value());
    EXPECT_TRUE(header->logAppendTime());
    EXPECT_EQ(header->maxTimestamp, now);
  }
}

TEST_F(LogTest, WaitsForRecordsAndIsWokenOnce) {
  int woken = 0;
  std::vector<Broker::FetchPoint> points = {{"t", 0, Offset(0)}, {"t", 1, Offset(0)}};
  auto wait = on(0, [&] { return router_->awaitRecords(who_, points, [&] { ++woken; }); });
  run();
  EXPECT_EQ(woken, 0);
  produce("t", batchOf({{"a", "1"}}), 1);
  run();
  EXPECT_EQ(woken, 0) << "not visible yet";
  settle();
  EXPECT_EQ(woken, 1);
  produce("t", batchOf({{"a", "1"}}), 0);
  settle();
  EXPECT_EQ(woken, 1);
  EXPECT_EQ(store_->watches(), 0U);
}

TEST_F(LogTest, ADestroyedWaitIsNotWoken) {
  int woken = 0;
  std::vector<Broker::FetchPoint> points = {{"t", 0, Offset(0)}};
  auto wait = on(0, [&] { return router_->awaitRecords(who_, points, [&] { ++woken; }); });
  produce("t", batchOf({{"a", "1"}}));
  store_->commit();  // the task is on its way
  wait = nullptr;
  settle();
  EXPECT_EQ(woken, 0);
}

TEST_F(LogTest, ADeletedTopicWakesWhoWaits) {
  int woken = 0;
  std::vector<Broker::FetchPoint> points = {{"t", 0, Offset(0)}};
  auto wait = on(0, [&] { return router_->awaitRecords(who_, points, [&] { ++woken; }); });
  on(0, [&] { router_->deleteTopic(who_, "t", [](Result<>) {}); });
  settle();
  EXPECT_EQ(woken, 1);
  EXPECT_EQ(on(0, [&] { return router_->fetch(who_, "t", 0, Offset(0), 10); }).error().kind,
            ErrorKind::kNotFound);
  wait = on(0, [&] { return router_->awaitRecords(who_, points, [&] { ++woken; }); });
  settle();
  EXPECT_EQ(woken, 2);
}

TEST_F(LogTest, OffsetsByTimeAreExact) {
  produce("t", batchOf({{"a", "1"}, {"a", "2"}, {"a", "3"}}, 1000));  // 1000, 1001, 1002
  produce("t", batchOf({{"a", "4"}}, 900));
  settle();
  auto at = [&](int64_t time) -> int64_t {
    auto found = on(0, [&] { return router_->offsetAtTime(who_, "t", 0, time); });
    return found && *found ? (*found)->offset.value() : -1;
  };
  EXPECT_EQ(at(0), 0);
  EXPECT_EQ(at(1001), 1);
  EXPECT_EQ(at(1002), 2);
  EXPECT_EQ(at(1003), -1);
  auto latest = on(0, [&] { return router_->offsetOfMaxTimestamp(who_, "t", 0); });
  EXPECT_EQ((*latest)->offset, Offset(2));
  EXPECT_EQ((*latest)->timestampMs, 1002);
  auto bounds = on(0, [&] { return router_->bounds(who_, "t", 0); });
  EXPECT_EQ(bounds->highWatermark, Offset(4));
}

TEST_F(LogTest, ProducerIdsAreNeverGivenTwice) {
  std::vector<int64_t> ids;
  auto ask = [&](std::optional<ProducerIdentity> current = std::nullopt) {
    ProducerIdentity given;
    on(1, [&] {
      router_->initProducer(who_, current,
                            [&](Result<ProducerIdentity> result) { given = *result; });
    });
    settle();
    return given;
  };
  for (int i = 0; i < 5; ++i) ids.push_back(ask().id);
  crash();
  for (int i = 0; i < 5; ++i) ids.push_back(ask().id);
  std::sort(ids.begin(), ids.end());
  EXPECT_EQ(std::unique(ids.begin(), ids.end()), ids.end());
  EXPECT_EQ(ask(ProducerIdentity{7, 3}).epoch, 4);
  EXPECT_EQ(ask(ProducerIdentity{7, 3}).id, 7);
  EXPECT_NE(ask(ProducerIdentity{7, 32766}).id, 7);
}

TEST_F(LogTest, ProducerIdsWaitForTheirBlockOnceAndTogether) {
  int given = 0;
  for (int i = 0; i < 2500; ++i) {
    on(0,
       [&] { router_->initProducer(who_, std::nullopt, [&](auto r) { given += r.has_value(); }); });
  }
  run();
  EXPECT_EQ(given, 0);
  EXPECT_EQ(store_->pending(), 1U);
  settle();
  EXPECT_EQ(given, 2500);
}

// ---------------------------------------------------------------- catalogue and cluster facts

TEST_F(LogTest, TopicsAreCreatedOnce) {
  TopicSpec spec;
  spec.name = "new";
  spec.partitions = 3;
  bool done = false;
  on(0, [&] { router_->createTopic(who_, spec, [&](auto) { done = true; }); });
  run();
  EXPECT_FALSE(done) << "when durable";
  settle();
  EXPECT_TRUE(done);
  TopicRef made = topic("new");
  ASSERT_TRUE(made);
  EXPECT_THAT(made->partitions, SizeIs(3));
  EXPECT_EQ(made->config.retentionBytes, -1);
  EXPECT_EQ(createTopic(spec).error().kind, ErrorKind::kAlreadyExists);
  spec.name = "$bad";
  EXPECT_EQ(createTopic(spec).error().kind, ErrorKind::kInvalid);
  spec.name = "none";
  spec.partitions = 0;
  EXPECT_EQ(createTopic(spec).error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(on(0, [&] { return router_->findTopic(who_, made->id); }), made);
  crash();
  TopicRef again = topic("new");
  ASSERT_TRUE(again);
  EXPECT_EQ(again->id, made->id);
  EXPECT_EQ(again->partitions, made->partitions);
}

TEST_F(LogTest, AFailedCreationLeavesNothing) {
  TopicSpec spec;
  spec.name = "new";
  Result<TopicRef> result = fail(ErrorKind::kInternal, "");
  on(0, [&] { router_->createTopic(who_, spec, [&](auto r) { result = std::move(r); }); });
  failWrites();
  EXPECT_EQ(result.error().kind, ErrorKind::kIo);
  EXPECT_FALSE(topic("new"));
  EXPECT_TRUE(createTopic(spec).has_value());
}

TEST_F(LogTest, AFailedDeletionLeavesTheTopic) {
  Result<> result;
  on(0, [&] { router_->deleteTopic(who_, "t", [&](Result<> r) { result = r; }); });
  run();
  EXPECT_FALSE(topic("t"));
  failWrites();
  EXPECT_EQ(result.error().kind, ErrorKind::kIo);
  EXPECT_TRUE(topic("t"));
}

TEST_F(LogTest, PartitionsAreNeverGivenTwice) {
  TopicSpec spec;
  spec.name = "a";
  auto first = createTopic(spec);
  connect("c", 60);
  crash();
  spec.name = "b";
  auto second = createTopic(spec);
  EXPECT_GT((*second)->partitions[0].value(), (*first)->partitions[0].value() + 1);
  failWrites();
  spec.name = "c";
  on(0, [&] { router_->createTopic(who_, spec, [](auto) {}); });
  failWrites();
  auto third = createTopic(spec);
  EXPECT_GT((*third)->partitions[0].value(), (*second)->partitions[0].value());
}

TEST_F(LogTest, ClusterIdStaysAndTheEpochRises) {
  std::string id = router_->clusterId();
  EXPECT_EQ(id.size(), 22U);
  EXPECT_EQ(router_->leaderEpoch(), LeaderEpoch(0));
  crash();
  EXPECT_EQ(router_->clusterId(), id);
  EXPECT_EQ(router_->leaderEpoch(), LeaderEpoch(1));
  crash();
  EXPECT_EQ(router_->leaderEpoch(), LeaderEpoch(2));
}

TEST_F(LogTest, TopicsAreListedByName) {
  TopicSpec spec;
  spec.name = "a";
  createTopic(spec);
  std::vector<std::string> names;
  for (const TopicRef& one : router_->topics(who_)) names.push_back(one->name);
  EXPECT_THAT(names, ElementsAre("a", "t"));
}

}  // namespace
}  // namespace polylog::router
