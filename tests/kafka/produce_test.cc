#include "core/base/crc32c.h"
#include "tests/kafka/harness.h"

namespace polylog::kafka::test {

std::string withField(std::string batch, size_t at, BytesView octets) {
  batch.replace(at, octets.size(), octets);
  uint32_t crc = crc32c(BytesView(batch).substr(21));
  for (size_t i = 0; i < 4; ++i) batch[17 + i] = static_cast<char>(crc >> (24 - 8 * i));
  return batch;
}

namespace {

constexpr size_t kAttributesAt = 21;
constexpr size_t kLastDeltaAt = 23;
constexpr size_t kProducerIdAt = 43;

class ProduceTest : public KafkaTest {
 protected:
  ProduceTest() {
    broker_.addTopic("t");
    connect();
    ask<wire::ApiVersionsResponse>(wire::ApiVersionsRequest{}, 0);
  }

  wire::ProduceResponse::Topic::Partition produce(const std::string& batch, int16_t version = 9) {
    auto response = ask<wire::ProduceResponse>(produceRequest("t", batch), version);
    EXPECT_EQ(response.topics.size(), 1U);
    return response.topics.at(0).partitions.at(0);
  }
};

TEST_F(ProduceTest, AppendsInEveryVersion) {
  for (int16_t version = 3; version <= wire::ProduceRequest::kMaxVersion; ++version) {
    auto partition = produce(batchOf({"a", "b"}), version);
    EXPECT_EQ(partition.errorCode, 0) << version;
    EXPECT_EQ(partition.baseOffset, (version - 3) * 2) << version;
    EXPECT_EQ(partition.logStartOffset, version >= 5 ? 0 : -1);
  }
}

TEST_F(ProduceTest, TheBatchIsTheRequestsMemory) {
  std::string batch = batchOf({"a"}, Compression::kLz4);
  std::string frame = frameOf(produceRequest("t", batch), 9, 1);
  SharedBytes input = SharedBytes::copyOf(frame);
  ASSERT_EQ(session_->onBytes(input), frame.size());
  ASSERT_EQ(broker_.produced.size(), 1U);
  const SharedBytes& got = broker_.produced[0].batch;
  EXPECT_EQ(got.view(), batch);
  EXPECT_EQ(got.owner(), input.owner());
  EXPECT_GE(got.data(), input.data());
}

TEST_F(ProduceTest, WithoutAcksThereIsNoAnswer) {
  send(produceRequest("t", batchOf({"a"}), 0), 9);
  int32_t id = send(wire::ApiVersionsRequest{});
  run();
  ASSERT_EQ(broker_.produced.size(), 1U);
  EXPECT_FALSE(broker_.produced[0].waitForDurability);
  receive<wire::ApiVersionsResponse>(id);
  EXPECT_EQ(transport_->sent, "");
}

TEST_F(ProduceTest, WithoutAcksAFailureCloses) {
  broker_.produceError = Error{ErrorKind::kNoSpace, "full"};
  send(produceRequest("t", batchOf({"a"}), 0), 9);
  run();
  EXPECT_TRUE(transport_->closed);
  EXPECT_EQ(transport_->sent, "");
}

TEST_F(ProduceTest, OverlapsAndAnswersInOrder) {
  broker_.hold = true;
  std::string batch = batchOf({"a"});
  int32_t first = send(produceRequest("t", batch), 9);
  int32_t second = send(produceRequest("t", batch), 9);
  EXPECT_EQ(broker_.produced.size(), 2U);
  broker_.answerLast();
  EXPECT_EQ(transport_->sent, "");
  broker_.answerLast();
  EXPECT_EQ(receive<wire::ProduceResponse>(first, 9).topics[0].partitions[0].baseOffset, 0);
  EXPECT_EQ(receive<wire::ProduceResponse>(second, 9).topics[0].partitions[0].baseOffset, 1);
}

TEST_F(ProduceTest, OldVersionsAreRefusedAPartition) {
  for (int16_t version : {int16_t{0}, int16_t{1}, int16_t{2}}) {
    auto partition = produce(batchOf({"a"}), version);
    EXPECT_EQ(partition.errorCode, 35);
    EXPECT_FALSE(transport_->closed);
  }
  EXPECT_TRUE(broker_.produced.empty());
}

TEST_F(ProduceTest, RefusesWhatIsNotOneGoodBatch) {
  std::string good = batchOf({"value"});
  std::string badCrc = good;
  badCrc.back() = static_cast<char>(badCrc.back() ^ 1);
  std::string oldMagic = good;
  oldMagic[16] = 1;
  std::string cut = good.substr(0, good.size() - 1);
  std::string eightZeros(8, '\0');
  std::string one("\0\0\0\1", 4);

  EXPECT_EQ(produce("").errorCode, 87);
  EXPECT_EQ(produce(badCrc).errorCode, 2);
  EXPECT_EQ(produce(oldMagic).errorCode, 87);
  EXPECT_EQ(produce(cut).errorCode, 2);
  EXPECT_EQ(produce(good + good).errorCode, 87);
  EXPECT_EQ(produce(withField(good, kLastDeltaAt, one)).errorCode, 87) << "gap in the offsets";
  EXPECT_EQ(produce(withField(good, kAttributesAt, BytesView("\0\x20", 2))).errorCode, 87)
      << "control";
  EXPECT_EQ(produce(withField(good, kAttributesAt, BytesView("\0\x10", 2))).errorCode, 87)
      << "transactional, of nobody";
  EXPECT_EQ(produce(withField(good, kAttributesAt, BytesView("\0\x08", 2))).errorCode, 32)
      << "append time";
  EXPECT_EQ(produce(withField(good, kProducerIdAt, eightZeros)).errorCode, 87) << "no sequence";
  EXPECT_TRUE(broker_.produced.empty());
  EXPECT_EQ(produce(good).errorCode, 0);
}

TEST_F(ProduceTest, ZstdIsForVersion7AndUp) {
  std::string batch = batchOf({"a"}, Compression::kZstd);
  EXPECT_EQ(produce(batch, 6).errorCode, 76);
  EXPECT_EQ(produce(batch, 7).errorCode, 0);
}

TEST_F(ProduceTest, TooLargeABatchIsRefused) {
  broker_.limit = 1000;
  connect();
  ask<wire::ApiVersionsResponse>(wire::ApiVersionsRequest{}, 0);
  EXPECT_EQ(produce(batchOf({std::string(2000, 'x')})).errorCode, 10);
}

TEST_F(ProduceTest, TellsTheBrokersErrors) {
  const std::pair<ErrorKind, int16_t> kExpected[] = {
      {ErrorKind::kOutOfOrderSequence, 45}, {ErrorKind::kProducerFenced, 47},
      {ErrorKind::kUnknownProducer, 59},    {ErrorKind::kNotFound, 3},
      {ErrorKind::kUnauthorized, 29},       {ErrorKind::kIo, 56},
  };
  for (auto [kind, expected] : kExpected) {
    broker_.produceError = Error{kind, "why"};
    auto partition = produce(batchOf({"a"}));
    EXPECT_EQ(partition.errorCode, expected);
    EXPECT_EQ(partition.baseOffset, -1);
    EXPECT_EQ(partition.errorMessage, "why");
  }
}

TEST_F(ProduceTest, OldClientsDoNotKnowStorageErrors) {
  broker_.produceError = Error{ErrorKind::kIo, "disk"};
  EXPECT_EQ(produce(batchOf({"a"}), 3).errorCode, 6);
  EXPECT_EQ(produce(batchOf({"a"}), 4).errorCode, 56);
}

TEST_F(ProduceTest, EachPartitionHasItsOwnAnswer) {
  broker_.addTopic("two", 2);
  std::string good = batchOf({"a"});
  std::string bad = good;
  bad.back() = static_cast<char>(bad.back() ^ 1);
  wire::ProduceRequest request;
  request.acks = 1;
  request.topics.push_back(
      {"two",
       {},
       {{0, {BytesView(bad), 0}}, {1, {BytesView(good), 0}}, {2, {BytesView(good), 0}}}});
  request.topics.push_back({"no such name!", {}, {{0, {BytesView(good), 0}}}});
  auto response = ask<wire::ProduceResponse>(request, 9);
  ASSERT_EQ(response.topics.size(), 2U);
  EXPECT_EQ(response.topics[0].partitions[0].errorCode, 2);
  EXPECT_EQ(response.topics[0].partitions[1].errorCode, 0);
  EXPECT_EQ(response.topics[0].partitions[2].errorCode, 3);
  EXPECT_EQ(response.topics[1].partitions[0].errorCode, 17);
}

TEST_F(ProduceTest, OddAcksAreRefused) {
  auto response = ask<wire::ProduceResponse>(produceRequest("t", batchOf({"a"}), 2), 9);
  EXPECT_EQ(response.topics[0].partitions[0].errorCode, 21);
}

TEST_F(ProduceTest, IdempotentProducersGetIds) {
  auto made = ask<wire::InitProducerIdResponse>(wire::InitProducerIdRequest{});
  EXPECT_EQ(made.producerId, 42);
  EXPECT_EQ(made.producerEpoch, 0);
  EXPECT_EQ(broker_.inits.size(), 1U);
}

}  // namespace
}  // namespace polylog::kafka::test
