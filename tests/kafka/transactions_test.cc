// The handlers of transactions: what reaches the broker, and the error codes of each version.
#include <gmock/gmock.h>

#include "core/base/crc32c.h"
#include "tests/kafka/fake_access.h"
#include "tests/kafka/harness.h"

namespace polylog::kafka::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class TransactionsTest : public KafkaTest {
 protected:
  TransactionsTest() { broker_.addTopic("t", 2); }

  static std::string transactionalBatch() {
    std::string batch = batchOf({"a"});
    auto put = [&batch](size_t at, uint64_t v, int width) {
      for (int i = 0; i < width; ++i) {
        batch[at + static_cast<size_t>(i)] = static_cast<char>(v >> (8 * (width - 1 - i)));
      }
    };
    put(21, 16, 2);
    put(43, 9, 8);
    put(51, 0, 2);
    put(53, 0, 4);
    put(17, crc32c(BytesView(batch).substr(21)), 4);
    return batch;
  }
  int16_t init(int32_t timeoutMs, int16_t version = 5, int64_t producer = -1, int16_t epoch = -1) {
    wire::InitProducerIdRequest request;
    request.transactionalId = "tx";
    request.transactionTimeoutMs = timeoutMs;
    request.producerId = producer;
    request.producerEpoch = epoch;
    return ask<wire::InitProducerIdResponse>(request, version).errorCode;
  }
  int16_t end(int16_t version) {
    wire::EndTxnRequest request;
    request.transactionalId = "tx";
    request.committed = true;
    return ask<wire::EndTxnResponse>(request, version).errorCode;
  }
  int16_t produce(int16_t version, std::optional<BytesView> id) {
    std::string batch = transactionalBatch();
    auto request = produceRequest("t", batch);
    request.transactionalId = id;
    return ask<wire::ProduceResponse>(request, version).topics[0].partitions[0].errorCode;
  }
};

TEST_F(TransactionsTest, TakesAnIdUp) {
  EXPECT_EQ(init(1000), 0);
  EXPECT_EQ(init(1000, 5, 43, 2), 0);
  ASSERT_THAT(broker_.transactionInits, SizeIs(2));
  EXPECT_EQ(broker_.transactionInits[0].id, "tx");
  EXPECT_EQ(broker_.transactionInits[0].timeoutMs, 1000);
  EXPECT_FALSE(broker_.transactionInits[0].current);
  EXPECT_EQ(broker_.transactionInits[1].current, (ProducerIdentity{43, 2}));
  EXPECT_EQ(init(0), 50);
  EXPECT_EQ(init(900'001), 50);
  EXPECT_EQ(init(1000, 5, 43, -1), 42);
  broker_.transactionError = Error{ErrorKind::kProducerFenced, "newer"};
  EXPECT_EQ(init(1000, 3), 47);
  EXPECT_EQ(init(1000, 4), 90);
  broker_.transactionError = Error{ErrorKind::kConcurrentTransaction, "wait"};
  EXPECT_EQ(init(1000), 51);
  broker_.transactionError = std::nullopt;
  wire::InitProducerIdRequest empty;
  empty.transactionalId = "";
  empty.transactionTimeoutMs = 1000;
  EXPECT_EQ(ask<wire::InitProducerIdResponse>(empty).errorCode, 42);
}

TEST_F(TransactionsTest, AddsAllPartitionsOrNone) {
  wire::AddPartitionsToTxnRequest request;
  request.transactionalId = "tx";
  request.topics.push_back({"t", {0, 1}});
  for (int16_t version = 0; version <= 3; ++version) {
    auto response = ask<wire::AddPartitionsToTxnResponse>(request, version);
    EXPECT_EQ(response.topics[0].partitions[1].errorCode, 0);
  }
  EXPECT_EQ(broker_.transactionCalls[0], "tx add t/0");
  broker_.transactionCalls.clear();
  request.topics.push_back({"nowhere", {0}});
  auto response = ask<wire::AddPartitionsToTxnResponse>(request, 3);
  EXPECT_EQ(response.topics[0].partitions[0].errorCode, 55) << "not attempted";
  EXPECT_EQ(response.topics[1].partitions[0].errorCode, 3);
  EXPECT_THAT(broker_.transactionCalls, IsEmpty());
  request.topics.pop_back();
  broker_.transactionError = Error{ErrorKind::kProducerFenced, "newer"};
  EXPECT_EQ(ask<wire::AddPartitionsToTxnResponse>(request, 1).topics[0].partitions[0].errorCode,
            47);
  EXPECT_EQ(ask<wire::AddPartitionsToTxnResponse>(request, 3).topics[0].partitions[0].errorCode,
            90);
}

TEST_F(TransactionsTest, EndsAndTellsWhyNot) {
  EXPECT_EQ(end(4), 0);
  EXPECT_THAT(broker_.transactionCalls, ElementsAre("tx commit"));
  const std::tuple<ErrorKind, int16_t, int16_t> kExpected[] = {
      {ErrorKind::kUnknownProducer, 1, 49},       {ErrorKind::kProducerFenced, 1, 47},
      {ErrorKind::kProducerFenced, 2, 90},        {ErrorKind::kInvalidTransaction, 2, 48},
      {ErrorKind::kConcurrentTransaction, 2, 51}, {ErrorKind::kIo, 2, 15},
      {ErrorKind::kUnauthorized, 2, 53},
  };
  for (auto [kind, version, expected] : kExpected) {
    broker_.transactionError = Error{kind, "why"};
    EXPECT_EQ(end(version), expected) << describe(kind);
  }
}

TEST_F(TransactionsTest, OffsetsGoWithTheTransaction) {
  wire::AddOffsetsToTxnRequest add;
  add.transactionalId = "tx";
  add.groupId = "g";
  EXPECT_EQ(ask<wire::AddOffsetsToTxnResponse>(add).errorCode, 0);
  wire::TxnOffsetCommitRequest request;
  request.transactionalId = "tx";
  request.groupId = "g";
  request.generationId = 3;
  request.memberId = "m";
  request.topics.push_back({"t", {{0, 5, 1, "meta"}}});
  auto code = [&](int16_t version) {
    return ask<wire::TxnOffsetCommitResponse>(request, version).topics[0].partitions[0].errorCode;
  };
  EXPECT_EQ(code(4), 0);
  EXPECT_THAT(broker_.transactionCalls, ElementsAre("tx group g", "tx offsets of g"));
  EXPECT_TRUE(broker_.commits.back().transactional);
  EXPECT_EQ(broker_.commits.back().generation, 3);
  EXPECT_EQ(code(2), 0);
  EXPECT_EQ(broker_.commits.back().generation, -1);
  const std::pair<ErrorKind, int16_t> kExpected[] = {
      {ErrorKind::kProducerFenced, 47},    {ErrorKind::kInvalidTransaction, 48},
      {ErrorKind::kUnknownProducer, 49},   {ErrorKind::kConcurrentTransaction, 14},
      {ErrorKind::kIllegalGeneration, 22}, {ErrorKind::kUnknownMember, 25},
      {ErrorKind::kFencedInstance, 82},
  };
  for (auto [kind, expected] : kExpected) {
    broker_.transactionError = Error{kind, "why"};
    EXPECT_EQ(code(3), expected) << describe(kind);
  }
}

TEST_F(TransactionsTest, ProducesWithItsId) {
  EXPECT_EQ(produce(9, "tx"), 0);
  EXPECT_EQ(broker_.produced.back().transactionalId, "tx");
  EXPECT_EQ(produce(9, std::nullopt), 53);
  broker_.produceError = Error{ErrorKind::kInvalidTransaction, "not added"};
  EXPECT_EQ(produce(10, "tx"), 48);
  EXPECT_EQ(produce(11, "tx"), 120);
  broker_.produceError = Error{ErrorKind::kConcurrentTransaction, "wait"};
  EXPECT_EQ(produce(11, "tx"), 19);
}

TEST_F(TransactionsTest, CommittedReadersAreToldWhatWasAborted) {
  for (int i = 0; i < 4; ++i) broker_.append("t", 0, SharedBytes::own(batchOf({"v"})), 0, 1);
  broker_.lastStable = Offset(3);
  broker_.aborted = {{7, Offset(1), Offset(2)}};
  auto request = fetchRequest("t", 0);
  request.isolationLevel = 1;
  auto partition = ask<wire::FetchResponse>(request, 12).topics[0].partitions[0];
  EXPECT_EQ(partition.lastStableOffset, 3);
  ASSERT_TRUE(partition.abortedTransactions);
  ASSERT_THAT(*partition.abortedTransactions, SizeIs(1));
  EXPECT_EQ((*partition.abortedTransactions)[0].producerId, 7);
  EXPECT_EQ((*partition.abortedTransactions)[0].firstOffset, 1);
  size_t committed = partition.records.bytes->size();
  request.isolationLevel = 0;
  partition = ask<wire::FetchResponse>(request, 12).topics[0].partitions[0];
  EXPECT_FALSE(partition.abortedTransactions);
  EXPECT_GT(partition.records.bytes->size(), committed);
}

TEST_F(TransactionsTest, OffsetsBelowTheLastStableOneAreListed) {
  for (int i = 0; i < 3; ++i) {
    broker_.append("t", 0, SharedBytes::own(batchOf({"v"}, Compression::kNone, 1000 * (i + 1))), 0,
                   1);
  }
  broker_.lastStable = Offset(2);
  auto list = [&](int64_t timestamp, int8_t isolation) {
    wire::ListOffsetsRequest request;
    request.isolationLevel = isolation;
    auto& topic = request.topics.emplace_back();
    topic.name = "t";
    topic.partitions.emplace_back().timestamp = timestamp;
    return ask<wire::ListOffsetsResponse>(request).topics[0].partitions[0].offset;
  };
  EXPECT_EQ(list(-1, 0), 3);
  EXPECT_EQ(list(-1, 1), 2);
  EXPECT_EQ(list(3000, 0), 2);
  EXPECT_EQ(list(3000, 1), -1);
  EXPECT_EQ(list(2000, 1), 1);
}

TEST_F(TransactionsTest, UnstableOffsetsAreAskedForAgain) {
  GroupOffset offset{"t", 0, 5, -1, {}};
  offset.undecided = true;
  broker_.offsets[{"t", 0}] = offset;
  auto fetch = [&](bool stable) {
    wire::OffsetFetchRequest request;
    request.requireStable = stable;
    auto& group = request.groups.emplace_back();
    group.groupId = "g";
    auto& topic = group.topics.emplace().emplace_back();
    topic.name = "t";
    topic.partitions = {0};
    return ask<wire::OffsetFetchResponse>(request, 9).groups[0].topics[0].partitions[0];
  };
  EXPECT_EQ(fetch(false).offset, 5);
  EXPECT_EQ(fetch(false).errorCode, 0);
  auto unstable = fetch(true);
  EXPECT_EQ(unstable.errorCode, 88);
  EXPECT_EQ(unstable.offset, -1);
}

TEST_F(TransactionsTest, AdministratorsLookAndAbort) {
  TransactionDescription ongoing{"tx", TransactionStatus::kOngoing, {43, 2}, 1000, 77,
                                 5000, {{"t", 0}, {"t", 1}}};
  TransactionDescription ended{"old", TransactionStatus::kCommitted, {44, 0}, 1000, -1, -1, {}};
  broker_.knownTransactions = {ended, ongoing};
  wire::DescribeTransactionsRequest describe;
  describe.transactionalIds = {"tx", "nobody"};
  auto described = ask<wire::DescribeTransactionsResponse>(describe);
  ASSERT_THAT(described.transactions, SizeIs(2));
  EXPECT_EQ(described.transactions[0].state, "Ongoing");
  EXPECT_EQ(described.transactions[0].startTimeMs, 77);
  EXPECT_THAT(described.transactions[0].topics[0].partitions, ElementsAre(0, 1));
  EXPECT_EQ(described.transactions[1].errorCode, 105);

  auto list = [&](std::vector<BytesView> states, int64_t longer) {
    wire::ListTransactionsRequest request;
    request.stateFilters = std::move(states);
    request.durationFilterMs = longer;
    return ask<wire::ListTransactionsResponse>(request);
  };
  EXPECT_THAT(list({}, -1).transactions, SizeIs(2));
  EXPECT_THAT(list({"Ongoing"}, -1).transactions, SizeIs(1));
  EXPECT_THAT(list({}, 4999).transactions, SizeIs(1));
  EXPECT_THAT(list({}, 5000).transactions, IsEmpty());
  EXPECT_THAT(list({"Odd"}, -1).unknownStateFilters, SizeIs(1));

  auto matching = [&](std::optional<BytesView> pattern) {
    wire::ListTransactionsRequest request;
    request.transactionalIdPattern = pattern;
    return ask<wire::ListTransactionsResponse>(request);
  };
  std::string first(list({}, -1).transactions.at(0).transactionalId);
  EXPECT_THAT(matching({}).transactions, SizeIs(2));
  EXPECT_THAT(matching("").transactions, SizeIs(2));
  EXPECT_THAT(matching(first).transactions, SizeIs(1));
  EXPECT_THAT(matching(".*").transactions, SizeIs(2));
  EXPECT_THAT(matching(first.substr(1)).transactions, IsEmpty()) << "it is the whole that matches";
  EXPECT_EQ(matching("(").errorCode, 128) << "INVALID_REGULAR_EXPRESSION";
  EXPECT_EQ(matching(std::string(5000, 'a')).errorCode, 128);

  wire::WriteTxnMarkersRequest markers;
  markers.markers.push_back({43, 2, false, {{"t", {1}}}, 0});
  auto aborted = ask<wire::WriteTxnMarkersResponse>(markers);
  EXPECT_EQ(aborted.markers[0].topics[0].partitions[0].errorCode, 0);
  EXPECT_THAT(broker_.transactionCalls, ElementsAre("abort 43 in t/1"));
  markers.markers[0].committed = true;
  EXPECT_EQ(
      ask<wire::WriteTxnMarkersResponse>(markers).markers[0].topics[0].partitions[0].errorCode, 31);
}

TEST_F(TransactionsTest, TransactionsAreCoordinatedHere) {
  wire::FindCoordinatorRequest request;
  request.keyType = 1;
  request.keys = {"tx"};
  auto found = ask<wire::FindCoordinatorResponse>(request);
  EXPECT_EQ(found.coordinators[0].errorCode, 0);
  EXPECT_EQ(found.coordinators[0].nodeId, 1);
}

// ---- version 2 (KIP-890)

TEST_F(TransactionsTest, FeaturesSayThatTransactionsAreOfVersion2) {
  wire::ApiVersionsRequest request;
  auto old = ask<wire::ApiVersionsResponse>(request, 2);
  EXPECT_THAT(old.finalizedFeatures, IsEmpty());
  auto third = ask<wire::ApiVersionsResponse>(request, 3);
  ASSERT_THAT(third.finalizedFeatures, SizeIs(2));
  EXPECT_EQ(third.finalizedFeatures[0].name, "transaction.version");
  EXPECT_EQ(third.finalizedFeatures[0].maxVersionLevel, 2);
  EXPECT_GE(third.finalizedFeaturesEpoch, 0);
  EXPECT_THAT(third.supportedFeatures, IsEmpty()) << "version 3 can't say that it begins with 0";
  auto fourth = ask<wire::ApiVersionsResponse>(request, 4);
  ASSERT_THAT(fourth.supportedFeatures, SizeIs(2));
  EXPECT_EQ(fourth.supportedFeatures[0].minVersion, 0);
  EXPECT_EQ(fourth.supportedFeatures[0].maxVersion, 2);
}

TEST_F(TransactionsTest, EndTxn5TellsTheNewEpoch) {
  wire::EndTxnRequest request;
  request.transactionalId = "tx";
  request.producerId = 9;
  request.committed = true;
  auto ended = ask<wire::EndTxnResponse>(request, 5);
  EXPECT_EQ(ended.producerId, 9);
  EXPECT_EQ(ended.producerEpoch, 77);
  ask<wire::EndTxnResponse>(request, 4);
  EXPECT_THAT(broker_.transactionVersions, ElementsAre(2, 1));
  broker_.transactionError = Error{ErrorKind::kProducerFenced, "newer"};
  ended = ask<wire::EndTxnResponse>(request, 5);
  EXPECT_EQ(ended.errorCode, 90);
  EXPECT_EQ(ended.producerId, -1);
}

TEST_F(TransactionsTest, WhatIsProducedJoinsFromVersion12On) {
  EXPECT_EQ(produce(11, "tx"), 0);
  EXPECT_THAT(broker_.transactionCalls, IsEmpty());
  for (int16_t version : {int16_t{12}, int16_t{13}}) {
    broker_.transactionCalls.clear();
    EXPECT_EQ(produce(version, "tx"), 0);
    EXPECT_THAT(broker_.transactionCalls, ElementsAre("tx add t/0"));
    EXPECT_EQ(broker_.transactionVersions.back(), 2);
    EXPECT_EQ(broker_.produced.back().transactionalId, "tx");
  }
  size_t produced = broker_.produced.size();
  broker_.transactionError = Error{ErrorKind::kConcurrentTransaction, "ending"};
  EXPECT_EQ(produce(12, "tx"), 19) << "retriable to every client";
  broker_.transactionError = Error{ErrorKind::kProducerFenced, "newer"};
  EXPECT_EQ(produce(12, "tx"), 47);
  EXPECT_EQ(broker_.produced.size(), produced);
}

TEST_F(TransactionsTest, ATopicThatMayNotBeWrittenDoesNotJoin) {
  FakeAccess access;
  access.denies = [](Operation operation, ResourceKind kind, BytesView name) {
    return operation == Operation::kWrite && kind == ResourceKind::kTopic && name == "u";
  };
  KafkaOptions options;
  options.access = &access;
  connect(std::move(options));
  broker_.addTopic("u", 1);
  std::string batch = transactionalBatch();
  auto request = produceRequest("t", batch);
  request.topics.push_back(produceRequest("u", batch).topics[0]);
  request.transactionalId = "tx";
  auto response = ask<wire::ProduceResponse>(request, 12);
  EXPECT_EQ(response.topics[0].partitions[0].errorCode, 0);
  EXPECT_THAT(broker_.transactionCalls, ElementsAre("tx add t/0"));
  EXPECT_THAT(broker_.produced, SizeIs(2)) << "the broker refuses the other by itself";
  disconnect();
  connect();
}

TEST_F(TransactionsTest, OffsetsOfATopicThatIsNotSeenAreRefused) {
  wire::TxnOffsetCommitRequest request;
  request.transactionalId = "tx";
  request.groupId = "g";
  request.topics.push_back({"hidden", {{0, 5, 1, "meta"}}});
  auto response = ask<wire::TxnOffsetCommitResponse>(request, 4);
  EXPECT_EQ(response.topics[0].partitions[0].errorCode, 3);
  EXPECT_THAT(broker_.transactionCalls, IsEmpty());
}

TEST_F(TransactionsTest, OffsetsJoinFromVersion5On) {
  wire::TxnOffsetCommitRequest request;
  request.transactionalId = "tx";
  request.groupId = "g";
  request.topics.push_back({"t", {{0, 5, 1, "meta"}}});
  auto code = [&](int16_t version) {
    return ask<wire::TxnOffsetCommitResponse>(request, version).topics[0].partitions[0].errorCode;
  };
  EXPECT_EQ(code(5), 0);
  EXPECT_EQ(code(4), 0);
  EXPECT_THAT(broker_.transactionVersions, ElementsAre(2, 1));
  broker_.transactionError = Error{ErrorKind::kInvalidTransaction, "not covered"};
  EXPECT_EQ(code(3), 48);
  EXPECT_EQ(code(4), 120) << "TRANSACTION_ABORTABLE, to those who know it";
}

TEST_F(TransactionsTest, BrokersAddAndVerifyInBatches) {
  wire::AddPartitionsToTxnRequest request;
  request.transactions.push_back({"a", 43, 2, false, {{"t", {0}}}});
  request.transactions.push_back({"tx", 43, 2, true, {{"t", {0}}}});
  request.transactions.push_back({"tx", 43, 2, true, {{"t", {1}}}});
  request.transactions.push_back({"b", 43, 2, false, {{"nowhere", {0}}}});
  broker_.knownTransactions = {
      {"tx", TransactionStatus::kOngoing, {43, 2}, 1000, 77, 5000, {{"t", 0}}}};
  auto codes = [&](int16_t version) {
    std::vector<int> out;
    for (const auto& one : ask<wire::AddPartitionsToTxnResponse>(request, version).transactions) {
      out.push_back(one.topics.at(0).partitions.at(0).errorCode);
    }
    return out;
  };
  EXPECT_THAT(codes(5), ElementsAre(0, 0, 120, 3));
  EXPECT_THAT(codes(4), ElementsAre(0, 0, 48, 3));
  EXPECT_THAT(broker_.transactionCalls, ElementsAre("a add t/0", "a add t/0"));
}

TEST_F(TransactionsTest, LevelsOfFeaturesStayAsTheyAre) {
  wire::UpdateFeaturesRequest request;
  request.updates.push_back({"transaction.version", 2, false, 1});
  EXPECT_EQ(ask<wire::UpdateFeaturesResponse>(request, 2).errorCode, 0);
  request.updates.push_back({"transaction.version", 1, false, 2});
  EXPECT_EQ(ask<wire::UpdateFeaturesResponse>(request, 2).errorCode, 96);
  request.updates.push_back({"no.such", 1, false, 1});
  auto response = ask<wire::UpdateFeaturesResponse>(request, 1);
  ASSERT_THAT(response.results, SizeIs(3));
  EXPECT_EQ(response.results[0].errorCode, 0);
  EXPECT_EQ(response.results[1].errorCode, 96);
  EXPECT_EQ(response.results[2].errorCode, 95);
}

}  // namespace
}  // namespace polylog::kafka::test
