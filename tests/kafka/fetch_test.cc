#include "codecs/kafka/limits.h"
#include "tests/kafka/harness.h"

namespace polylog::kafka::test {
namespace {

class FetchTest : public KafkaTest {
 protected:
  FetchTest() { broker_.addTopic("t", 2); }

  void append(const std::vector<std::string>& values, Compression codec = Compression::kNone) {
    std::string batch = batchOf(values, codec);
    broker_.append("t", 0, SharedBytes::own(std::move(batch)), 0,
                   static_cast<uint32_t>(values.size()));
  }

  static std::vector<std::pair<int64_t, std::string>> recordsOf(BytesView records) {
    std::vector<std::pair<int64_t, std::string>> out;
    while (!records.empty()) {
      auto header = parseRecordBatchHeader(records);
      if (!header) {
        ADD_FAILURE() << header.error().text;
        break;
      }
      EXPECT_EQ(header->leaderEpoch, 7);
      BytesView one = records.substr(0, header->wholeSize());
      EXPECT_TRUE(validateRecordBatch(one).has_value());
      auto batch = decodeRecordBatch(SharedBytes::copyOf(one), 1 << 24);
      if (batch) {
        for (size_t i = 0; i < batch->records.size(); ++i) {
          out.emplace_back(header->baseOffset + batch->offsetDeltas[i],
                           std::string(batch->records[i].value.value_or("")));
        }
      }
      records.remove_prefix(header->wholeSize());
    }
    return out;
  }
  using Expected = std::vector<std::pair<int64_t, std::string>>;
};

TEST_F(FetchTest, ReadsInEveryVersion) {
  append({"a", "b"});
  append({"c"}, Compression::kLz4);
  for (int16_t version = 4; version <= wire::FetchRequest::kMaxVersion; ++version) {
    auto request = fetchRequest("t", 0);
    if (version >= 13) request.topics[0].id = broker_.byName["t"]->id;
    auto response = ask<wire::FetchResponse>(request, version);
    ASSERT_EQ(response.topics.size(), 1U) << version;
    auto& partition = response.topics[0].partitions.at(0);
    EXPECT_EQ(partition.errorCode, 0) << version;
    EXPECT_EQ(partition.highWatermark, 3);
    EXPECT_EQ(partition.lastStableOffset, 3);
    EXPECT_EQ(response.sessionId, 0);
    EXPECT_EQ(recordsOf(*partition.records.bytes), (Expected{{0, "a"}, {1, "b"}, {2, "c"}}));
  }
}

TEST_F(FetchTest, LargeBatchesGoByReference) {
  append({std::string(100'000, 'x')});
  auto response = ask<wire::FetchResponse>(fetchRequest("t", 0), 11);
  EXPECT_GE(transport_->sentByReference, 1U);
  auto records = recordsOf(*response.topics[0].partitions[0].records.bytes);
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].second.size(), 100'000U);
}

TEST_F(FetchTest, GivesPartsOfSharedBatchesAsBatchesOfTheirOwn) {
  broker_.append("t", 0, SharedBytes::own(batchOf({"x"})), 0, 1);
  broker_.append("t", 0, SharedBytes::own(batchOf({"a", "b", "c", "d"}, Compression::kZstd)), 1, 2);
  auto response = ask<wire::FetchResponse>(fetchRequest("t", 0), 11);
  EXPECT_EQ(recordsOf(*response.topics[0].partitions[0].records.bytes),
            (Expected{{0, "x"}, {1, "b"}, {2, "c"}}));
}

TEST_F(FetchTest, APartThatPassesItsBatchIsAnError) {
  broker_.append("t", 0, SharedBytes::own(batchOf({"a", "b"})), 1, 2);
  auto response = ask<wire::FetchResponse>(fetchRequest("t", 0), 11);
  EXPECT_EQ(response.topics[0].partitions[0].errorCode, 2);
  EXPECT_FALSE(transport_->closed);
}

TEST_F(FetchTest, WaitsForRecords) {
  int32_t id = send(fetchRequest("t", 0), 11);
  run();
  EXPECT_EQ(transport_->sent, "");
  EXPECT_EQ(broker_.wakes.size(), 1U);
  append({"late"});
  run();
  auto response = receive<wire::FetchResponse>(id, 11);
  EXPECT_EQ(recordsOf(*response.topics[0].partitions[0].records.bytes), (Expected{{0, "late"}}));
  EXPECT_EQ(broker_.wakes.size(), 0U);
  dispatcher_.advance(10'000'000);
  EXPECT_EQ(transport_->sent, "");
}

TEST_F(FetchTest, WaitsNoLongerThanAsked) {
  int32_t id = send(fetchRequest("t", 0, 500), 11);
  dispatcher_.advance(499'000);
  EXPECT_EQ(transport_->sent, "");
  dispatcher_.advance(1'000);
  auto response = receive<wire::FetchResponse>(id, 11);
  EXPECT_EQ(response.topics[0].partitions[0].errorCode, 0);
  EXPECT_EQ(response.topics[0].partitions[0].records.bytes->size(), 0U);
  EXPECT_EQ(broker_.wakes.size(), 0U);
  EXPECT_EQ(broker_.fetches, 1U) << "nobody polled";
}

TEST_F(FetchTest, GathersUntilThereIsEnough) {
  auto request = fetchRequest("t", 0, 1000);
  request.minBytes = 200;
  int32_t id = send(request, 11);
  append({std::string(60, '1')});
  run();
  EXPECT_EQ(transport_->sent, "");
  append({std::string(60, '2')});
  run();
  auto response = receive<wire::FetchResponse>(id, 11);
  EXPECT_EQ(recordsOf(*response.topics[0].partitions[0].records.bytes),
            (Expected{{0, std::string(60, '1')}, {1, std::string(60, '2')}}));
}

TEST_F(FetchTest, AnswersWithWhatItHasWhenTimeIsOver) {
  auto request = fetchRequest("t", 0, 100);
  request.minBytes = 100'000;
  append({"some"});
  int32_t id = send(request, 11);
  run();
  EXPECT_EQ(transport_->sent, "");
  dispatcher_.advance(100'000);
  auto response = receive<wire::FetchResponse>(id, 11);
  EXPECT_EQ(recordsOf(*response.topics[0].partitions[0].records.bytes), (Expected{{0, "some"}}));
}

TEST_F(FetchTest, AWakeFromInsideTheAskingIsNotLost) {
  broker_.wakeInside = true;
  int32_t id = send(fetchRequest("t", 0), 11);
  broker_.logs["t"][0].batches.push_back({SharedBytes::own(batchOf({"a"})), Offset(0), 0, 1});
  broker_.logs["t"][0].end = 1;
  run();
  receive<wire::FetchResponse>(id, 11);
}

TEST_F(FetchTest, TellsErrorsAtOnce) {
  append({"a"});
  auto request = fetchRequest("t", 5);
  EXPECT_EQ(ask<wire::FetchResponse>(request, 11).topics[0].partitions[0].errorCode, 1);
  EXPECT_EQ(ask<wire::FetchResponse>(fetchRequest("nope", 0), 11).topics[0].partitions[0].errorCode,
            3);
  EXPECT_EQ(
      ask<wire::FetchResponse>(fetchRequest("no name!", 0), 11).topics[0].partitions[0].errorCode,
      3);
  request = fetchRequest("t", 0);
  request.topics[0].id.fill(9);
  EXPECT_EQ(ask<wire::FetchResponse>(request, 13).topics[0].partitions[0].errorCode, 100);
  request = fetchRequest("t", 0);
  request.topics[0].partitions[0].index = 7;
  EXPECT_EQ(ask<wire::FetchResponse>(request, 11).topics[0].partitions[0].errorCode, 3);
}

TEST_F(FetchTest, CompressionsPassWhateverTheVersion) {
  append({"a"}, Compression::kZstd);
  for (int16_t version : {int16_t{4}, int16_t{11}}) {
    auto response = ask<wire::FetchResponse>(fetchRequest("t", 0), version);
    EXPECT_EQ(recordsOf(*response.topics[0].partitions[0].records.bytes), (Expected{{0, "a"}}));
  }
}

TEST_F(FetchTest, OldClientsDoNotKnowStorageErrors) {
  broker_.fetchError = Error{ErrorKind::kIo, "disk"};
  EXPECT_EQ(ask<wire::FetchResponse>(fetchRequest("t", 0), 5).topics[0].partitions[0].errorCode, 6);
  EXPECT_EQ(ask<wire::FetchResponse>(fetchRequest("t", 0), 6).topics[0].partitions[0].errorCode,
            56);
}

TEST_F(FetchTest, LimitsAreKeptButForTheFirstBatch) {
  for (int i = 0; i < 10; ++i) append({std::string(1000, 'x')});
  auto request = fetchRequest("t", 0);
  request.maxBytes = 10;
  EXPECT_EQ(recordsOf(*ask<wire::FetchResponse>(request, 11).topics[0].partitions[0].records.bytes)
                .size(),
            1U);
  request.maxBytes = 1 << 20;
  request.topics[0].partitions[0].maxBytes = 3500;
  EXPECT_EQ(recordsOf(*ask<wire::FetchResponse>(request, 11).topics[0].partitions[0].records.bytes)
                .size(),
            3U);

  // A second partition gets nothing once the first has used up the request's room.
  broker_.append("t", 1, SharedBytes::own(batchOf({"y"})), 0, 1);
  request = fetchRequest("t", 0);
  request.maxBytes = 500;
  request.topics[0].partitions.push_back(request.topics[0].partitions[0]);
  request.topics[0].partitions[1].index = 1;
  auto response = ask<wire::FetchResponse>(request, 11);
  EXPECT_EQ(response.topics[0].partitions[1].records.bytes->size(), 0U);
  EXPECT_EQ(response.topics[0].partitions[1].highWatermark, 1);
}

TEST_F(FetchTest, WaitsItsTurnAndLetsOthersWork) {
  // A fetch behind another one reads nothing before it can be answered; a produce goes ahead.
  int32_t first = send(fetchRequest("t", 0), 11);
  int32_t second = send(fetchRequest("t", 0), 11);
  run();
  EXPECT_EQ(broker_.fetches, 1U);
  std::string batch = batchOf({"v"});
  int32_t third = send(produceRequest("t", batch), 9);
  run();
  receive<wire::FetchResponse>(first, 11);
  receive<wire::FetchResponse>(second, 11);
  receive<wire::ProduceResponse>(third, 9);
}

TEST_F(FetchTest, ReadsNothingForAPeerThatDoesNotRead) {
  append({"a"});
  broker_.hold = true;
  send(wire::HeartbeatRequest{"g", 1, "a", {}});
  int32_t id = send(fetchRequest("t", 0), 11);
  transport_->isCongested = true;
  broker_.answerFirst();
  EXPECT_EQ(broker_.fetches, 0U);
  transport_->takeSent();
  transport_->isCongested = false;
  session_->onDrained();
  receive<wire::FetchResponse>(id, 11);
}

TEST_F(FetchTest, LeavingWhileWaitingEndsTheWait) {
  send(fetchRequest("t", 0), 11);
  run();
  EXPECT_EQ(broker_.wakes.size(), 1U);
  disconnect();
  EXPECT_EQ(broker_.wakes.size(), 0U);
}

TEST_F(FetchTest, ShutdownAnswersTheOneThatWaits) {
  int32_t id = send(fetchRequest("t", 0, 100'000), 11);
  run();
  session_->onShutdown();
  receive<wire::FetchResponse>(id, 11);
  EXPECT_TRUE(transport_->closed);
}

TEST_F(FetchTest, NothingAskedIsAnsweredAtOnce) {
  wire::FetchRequest request;
  request.maxWaitMs = 10'000;
  request.minBytes = 1;
  EXPECT_TRUE(ask<wire::FetchResponse>(request, 11).topics.empty());
}

TEST_F(FetchTest, ListsOffsets) {
  append({"a", "b"});
  broker_.logs["t"][0].start = 1;
  auto offsetAt = [&](int64_t timestamp, int16_t version = 10) {
    wire::ListOffsetsRequest request;
    auto& topic = request.topics.emplace_back();
    topic.name = "t";
    topic.partitions.emplace_back().timestamp = timestamp;
    auto response = ask<wire::ListOffsetsResponse>(request, version);
    auto& partition = response.topics.at(0).partitions.at(0);
    return std::pair<int64_t, int16_t>(partition.offset, partition.errorCode);
  };
  using Pair = std::pair<int64_t, int16_t>;
  EXPECT_EQ(offsetAt(-1), Pair(2, 0));
  EXPECT_EQ(offsetAt(-2), Pair(1, 0));
  EXPECT_EQ(offsetAt(-2, 1), Pair(1, 0));
  EXPECT_EQ(offsetAt(-3), Pair(0, 0));
  EXPECT_EQ(offsetAt(-3, 6), Pair(-1, 35));
  EXPECT_EQ(offsetAt(-4), Pair(1, 0));
  EXPECT_EQ(offsetAt(-5), Pair(-1, 0));
  EXPECT_EQ(offsetAt(-6), Pair(-1, 35));
  EXPECT_EQ(offsetAt(1001), Pair(0, 0));
  EXPECT_EQ(offsetAt(2000), Pair(-1, 0));
}

}  // namespace
}  // namespace polylog::kafka::test
