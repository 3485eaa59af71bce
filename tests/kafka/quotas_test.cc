// Client quotas: what may be set and seen (KIP-546), how it is measured, and that who passes it is
// told and held.
#include <gmock/gmock.h>

#include "codecs/kafka/limits.h"
#include "codecs/kafka/quota_meter.h"
#include "tests/kafka/fake_access.h"
#include "tests/kafka/harness.h"

namespace polylog::kafka::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class FakeQuotas final : public QuotaControl {
 public:
  Result<std::shared_ptr<const QuotaSet>> quotas(const PrincipalRef&) override { return current(); }
  Result<> mayAlter(const PrincipalRef&) const override {
    if (allowed) return {};
    return fail(ErrorKind::kUnauthorized, "no");
  }
  void alterQuotas(const PrincipalRef&, std::vector<QuotaChange> changes,
                   Done<Result<>> done) override {
    auto next = std::make_shared<QuotaSet>(*set);
    for (const QuotaChange& change : changes) {
      next->quotas[change.entity].erase(change.kind);
      if (change.value) next->quotas[change.entity][change.kind] = *change.value;
    }
    set = next;
    ++changesMade;
    done({});
  }
  std::shared_ptr<const QuotaSet> current() const override { return set; }

  std::shared_ptr<const QuotaSet> set = std::make_shared<const QuotaSet>();
  bool allowed = true;
  int changesMade = 0;
};

class QuotasTest : public KafkaTest {
 protected:
  QuotasTest() {
    broker_.addTopic("t", 1);
    KafkaOptions options;
    options.quotas = &quotas_;
    connect(std::move(options));
  }

  using Entity = std::vector<wire::AlterClientQuotasRequest::Entry::Part>;
  using Ops = std::vector<wire::AlterClientQuotasRequest::Entry::Op>;
  int16_t alter(Entity entity, Ops ops, bool validateOnly = false) {
    wire::AlterClientQuotasRequest request;
    request.validateOnly = validateOnly;
    request.entries.push_back({std::move(entity), std::move(ops)});
    return ask<wire::AlterClientQuotasResponse>(request).entries.at(0).errorCode;
  }
  /// "user=a client-id=<default> producer_byte_rate=5"
  std::vector<std::string> describe(
      std::vector<wire::DescribeClientQuotasRequest::Component> components, bool strict = false,
      int16_t expected = 0) {
    wire::DescribeClientQuotasRequest request;
    request.components = std::move(components);
    request.strict = strict;
    auto response = ask<wire::DescribeClientQuotasResponse>(request);
    EXPECT_EQ(response.errorCode, expected);
    std::vector<std::string> out;
    if (!response.entries) return out;
    for (const auto& entry : *response.entries) {
      std::string text;
      for (const auto& part : entry.entity) {
        text += std::string(part.type) + "=" + std::string(part.name.value_or("<default>")) + " ";
      }
      for (const auto& value : entry.values) {
        text += std::string(value.key) + "=" + std::to_string(static_cast<int>(value.value));
      }
      out.push_back(text);
    }
    return out;
  }

  FakeQuotas quotas_;
};

TEST_F(QuotasTest, ARequestIsOneChangeAndItsErrorsAreEachEntrysOwn) {
  wire::AlterClientQuotasRequest request;
  const std::string tooLong(256, 'x');
  for (const char* user : {"a", tooLong.c_str(), "b"}) {
    request.entries.push_back({{{"user", user}}, {{"producer_byte_rate", 5, false}}});
  }
  auto response = ask<wire::AlterClientQuotasResponse>(request);
  ASSERT_EQ(response.entries.size(), 3U);
  EXPECT_EQ(response.entries[0].errorCode, 0);
  EXPECT_EQ(response.entries[1].errorCode, 42) << "INVALID_REQUEST";
  EXPECT_EQ(response.entries[2].errorCode, 0);
  EXPECT_EQ(quotas_.changesMade, 1);
  EXPECT_EQ(quotas_.set->quotas.size(), 2U);
}

TEST_F(QuotasTest, AreSetAndSeenByFilters) {
  EXPECT_EQ(alter({{"user", "a"}}, {{"producer_byte_rate", 5, false}}), 0);
  EXPECT_EQ(alter({{"user", "a"}, {"client-id", {}}}, {{"consumer_byte_rate", 6, false}}), 0);
  EXPECT_EQ(alter({{"client-id", "c"}}, {{"consumer_byte_rate", 7, false}}), 0);
  EXPECT_THAT(describe({}), SizeIs(3));
  EXPECT_THAT(describe({}, true), IsEmpty());
  EXPECT_THAT(describe({{"user", 0, "a"}}), SizeIs(2));
  EXPECT_THAT(describe({{"user", 0, "a"}}, true), ElementsAre("user=a producer_byte_rate=5"));
  EXPECT_THAT(describe({{"user", 2, {}}, {"client-id", 1, {}}}, true),
              ElementsAre("user=a client-id=<default> consumer_byte_rate=6"));
  EXPECT_THAT(describe({{"client-id", 2, {}}}, true),
              ElementsAre("client-id=c consumer_byte_rate=7"));
  EXPECT_THAT(describe({{"ip", 2, {}}}), IsEmpty());
  EXPECT_EQ(alter({{"ip", "0:0:0:0:0:0:0:1"}}, {{"connection_creation_rate", 8, false}}), 0);
  EXPECT_THAT(describe({{"ip", 2, {}}}), ElementsAre("ip=::1 connection_creation_rate=8"));
  EXPECT_EQ(alter({{"ip", "::1"}}, {{"connection_creation_rate", 0, true}}), 0);
  EXPECT_EQ(alter({{"client-id", "c"}}, {{"consumer_byte_rate", 0, true}}), 0);
  EXPECT_TRUE(quotas_.set->quotas.at({std::nullopt, "c"}).empty());
}

TEST_F(QuotasTest, WhatIsNotKeptIsRefused) {
  const Ops fine{{"producer_byte_rate", 5, false}};
  EXPECT_EQ(alter({}, fine), 42);
  EXPECT_EQ(alter({{"ip", "127.0.0.1"}}, fine), 42);
  EXPECT_EQ(alter({{"ip", "localhost"}}, {{"connection_creation_rate", 5, false}}), 42);
  EXPECT_EQ(alter({{"user", "a"}}, {{"connection_creation_rate", 5, false}}), 42);
  EXPECT_EQ(alter({{"ip", {}}, {"user", "a"}}, {{"connection_creation_rate", 5, false}}), 42);
  EXPECT_EQ(alter({{"ip", {}}}, {{"connection_creation_rate", 1.5, false}}), 42);
  EXPECT_EQ(alter({{"group", "g"}}, fine), 42);
  EXPECT_EQ(alter({{"user", "a"}, {"user", "b"}}, fine), 42);
  EXPECT_EQ(alter({{"user", ""}}, fine), 42);
  EXPECT_EQ(alter({{"user", "a"}}, {{"request_percentage", 0, false}}), 42);
  EXPECT_EQ(alter({{"user", "a"}}, {{"request_rate", 5, false}}), 42);
  EXPECT_EQ(alter({{"user", "a"}}, {{"producer_byte_rate", 0, false}}), 42);
  EXPECT_EQ(alter({{"user", "a"}}, {{"producer_byte_rate", 1.5, false}}), 42);
  EXPECT_EQ(alter({{"user", "a"}}, fine, true), 0) << "only looked at";
  EXPECT_TRUE(quotas_.set->quotas.empty());
  quotas_.allowed = false;
  EXPECT_EQ(alter({{"user", "a"}}, fine), 31);
  describe({{"group", 0, "g"}}, false, 35);
  describe({{"user", 0, {}}}, false, 42);
  describe({{"user", 0, "a"}, {"user", 1, {}}}, false, 42);
  describe({{"user", 0, "a"}, {"ip", 2, {}}}, false, 42);
}

TEST_F(QuotasTest, AProducerThatIsTooFastIsToldAndHeld) {
  ASSERT_EQ(alter({{"client-id", "tester"}}, {{"producer_byte_rate", 1000, false}}), 0);
  std::string batch = batchOf({std::string(9000, 'x')});
  auto first = ask<wire::ProduceResponse>(produceRequest("t", batch), 9);
  EXPECT_EQ(first.throttleTimeMs, 0) << "ten seconds' worth may come at once";
  auto second = ask<wire::ProduceResponse>(produceRequest("t", batch), 9);
  EXPECT_EQ(second.topics[0].partitions[0].errorCode, 0) << "what has come is kept";
  EXPECT_GT(second.throttleTimeMs, 7000);
  EXPECT_LT(second.throttleTimeMs, 9000);
  EXPECT_TRUE(transport_->paused);
  dispatcher_.advance((second.throttleTimeMs - 1) * int64_t{1000});
  EXPECT_TRUE(transport_->paused);
  dispatcher_.advance(2000);
  EXPECT_FALSE(transport_->paused);
  dispatcher_.advance(11'000'000);
  EXPECT_EQ(ask<wire::ProduceResponse>(produceRequest("t", batch), 9).throttleTimeMs, 0);
}

TEST_F(QuotasTest, AConsumerThatIsTooFastIsToldAndHeld) {
  ASSERT_EQ(alter({{"user", {}}}, {{"consumer_byte_rate", 1000, false}}), 0);
  for (int i = 0; i < 30; ++i) {
    broker_.append("t", 0, SharedBytes::own(batchOf({std::string(2000, 'x')})), 0, 1);
  }
  auto first = ask<wire::FetchResponse>(fetchRequest("t", 0), 12);
  size_t given = first.topics[0].partitions[0].records.bytes->size();
  EXPECT_LT(given, 13'000U) << "about what the quota gives in ten seconds";
  EXPECT_GT(given, 7'000U);
  EXPECT_EQ(first.throttleTimeMs, 0);
  auto second = ask<wire::FetchResponse>(fetchRequest("t", 10), 12);
  EXPECT_GT(second.throttleTimeMs, 5000);
  EXPECT_TRUE(second.topics.empty()) << "it gets nothing now";
  EXPECT_TRUE(transport_->paused);
  dispatcher_.advance(second.throttleTimeMs * int64_t{1000});
  EXPECT_FALSE(ask<wire::FetchResponse>(fetchRequest("t", 10), 12).topics.empty())
      << "what wasn't given wasn't counted";
}

TEST_F(QuotasTest, ABatchThatIsMoreThanTheQuotaEverGivesIsGivenToWhoHasWaited) {
  ASSERT_EQ(alter({{"user", {}}}, {{"consumer_byte_rate", 100, false}}), 0);
  broker_.append("t", 0, SharedBytes::own(batchOf({std::string(5000, 'x')})), 0, 1);
  auto fetched = ask<wire::FetchResponse>(fetchRequest("t", 0), 12);
  EXPECT_EQ(fetched.topics.size(), 1U);
  EXPECT_GT(fetched.throttleTimeMs, 30'000);
}

TEST_F(QuotasTest, ThrottledFetchesOfASessionLoseNothing) {
  ASSERT_EQ(alter({{"user", {}}}, {{"consumer_byte_rate", 1000, false}}), 0);
  auto begin = fetchRequest("t", 0, 0);
  begin.sessionEpoch = 0;
  int32_t id = ask<wire::FetchResponse>(begin, 12).sessionId;
  ASSERT_NE(id, 0);
  auto next = [&](int32_t epoch, int64_t offset) {
    auto request = fetchRequest("t", offset, 0);
    request.sessionId = id;
    request.sessionEpoch = epoch;
    return ask<wire::FetchResponse>(request, 12);
  };
  broker_.append("t", 0, SharedBytes::own(batchOf({std::string(9000, 'x')})), 0, 1);
  EXPECT_EQ(next(1, 0).topics.size(), 1U);
  broker_.append("t", 0, SharedBytes::own(batchOf({std::string(9000, 'x')})), 0, 1);
  auto held = next(2, 1);
  EXPECT_EQ(held.errorCode, 0);
  EXPECT_EQ(held.sessionId, id);
  EXPECT_TRUE(held.topics.empty());
  dispatcher_.advance(held.throttleTimeMs * int64_t{1000});
  EXPECT_EQ(next(3, 1).topics.size(), 1U);
}

TEST_F(QuotasTest, WhoTakesTooMuchOfAThreadIsToldAndHeld) {
  ASSERT_EQ(alter({{"client-id", "tester"}}, {{"request_percentage", 2.5, false}}), 0);
  FakeAccess access;
  // Each request takes a tenth of a second.
  access.denies = [this](Operation, ResourceKind, BytesView) {
    clock_.advance(100'000);
    return false;
  };
  KafkaOptions options;
  options.quotas = &quotas_;
  options.access = &access;
  connect(std::move(options));
  wire::DescribeQuorumRequest quorum;  // which has no place for saying it
  wire::ListConfigResourcesRequest request;
  request.types = {4};
  EXPECT_EQ(ask<wire::ListConfigResourcesResponse>(request).throttleTimeMs, 0);
  EXPECT_EQ(ask<wire::ListConfigResourcesResponse>(request).throttleTimeMs, 0);
  auto third = ask<wire::ListConfigResourcesResponse>(request);
  EXPECT_GT(third.throttleTimeMs, 500);
  EXPECT_LE(third.throttleTimeMs, 1000) << "a second at most";
  EXPECT_TRUE(transport_->paused);
  dispatcher_.advance(1'001'000);
  EXPECT_FALSE(transport_->paused);
  auto fetched = ask<wire::FetchResponse>(fetchRequest("t", 0, 0), 12);
  EXPECT_GT(fetched.throttleTimeMs, 0);
  EXPECT_TRUE(fetched.topics.empty());
  dispatcher_.advance(1'001'000);
  ask<wire::DescribeQuorumResponse>(quorum);
  EXPECT_TRUE(transport_->paused);
}

TEST_F(QuotasTest, PartitionsAreMadeAndDeletedAsFastAsAllowed) {
  ASSERT_EQ(alter({{"user", {}}}, {{"controller_mutation_rate", 1, false}}), 0);
  auto create = [&](BytesView name, int32_t partitions, int16_t version) {
    wire::CreateTopicsRequest request;
    auto& topic = request.topics.emplace_back();
    topic.name = name;
    topic.numPartitions = partitions;
    topic.replicationFactor = 1;
    auto response = ask<wire::CreateTopicsResponse>(request, version);
    dispatcher_.advance(31'000);
    return std::pair(response.topics.at(0).errorCode, response.throttleTimeMs);
  };
  EXPECT_EQ(create("a", 13, 7), std::pair(int16_t{0}, 0)) << "the last one may pass it";
  auto [refused, wait] = create("b", 1, 7);
  EXPECT_EQ(refused, 89);
  EXPECT_GT(wait, 1000);
  EXPECT_LE(wait, 2000);
  EXPECT_TRUE(transport_->paused);
  EXPECT_FALSE(broker_.byName.contains("b"));
  dispatcher_.advance(2'000'000);
  EXPECT_EQ(create("a", 1, 7), std::pair(int16_t{36}, 0)) << "one that is there costs nothing";
  EXPECT_EQ(create("b", 3, 7).first, 0);
  auto [taken, held] = create("c", 1, 5);
  EXPECT_EQ(taken, 0) << "older clients don't know the error";
  EXPECT_GT(held, 2000) << "and are held";
  dispatcher_.advance(91'000'000);
  ASSERT_EQ(alter({{"user", {}}}, {{"controller_mutation_rate", 0.1, false}}), 0);
  EXPECT_EQ(create("d", 9, 7).first, 0);
  wire::CreatePartitionsRequest grow;
  grow.topics.push_back({"c", 2, std::nullopt});
  EXPECT_EQ(ask<wire::CreatePartitionsResponse>(grow).results.at(0).errorCode, 89);
  dispatcher_.advance(31'000'000);
  wire::DeleteTopicsRequest remove;
  remove.topics.push_back({"d", {}});
  auto deleted = ask<wire::DeleteTopicsResponse>(remove);
  EXPECT_EQ(deleted.topics.at(0).errorCode, 89);
  EXPECT_GT(deleted.throttleTimeMs, 1000);
  EXPECT_TRUE(broker_.byName.contains("d"));
}

TEST_F(QuotasTest, AnAddressThatConnectsTooFastIsLeftWaitingAndClosed) {
  ASSERT_EQ(alter({{"ip", {}}}, {{"connection_creation_rate", 1, false}}), 0);
  KafkaOptions options;
  options.quotas = &quotas_;
  auto factory = makeSessionFactory(broker_, std::move(options));
  auto served = [&](const std::string& peer) {
    FakeTransport transport(dispatcher_);
    transport.peerIs(peer);
    auto session = factory(transport);
    std::string frame = frameOf(wire::ApiVersionsRequest{}, 0, 1);
    session->onBytes(SharedBytes::copyOf(frame));
    run();
    bool answered = !transport.sent.empty();
    EXPECT_FALSE(transport.closed);
    if (!answered) {
      dispatcher_.advance(1'001'000);
      EXPECT_TRUE(transport.closed);
    }
    session->onClosed("over");
    return answered;
  };
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(served("10.0.0.1:4000")) << i;
  EXPECT_TRUE(served("10.0.0.2:4000")) << "each address by itself";
  EXPECT_FALSE(served("10.0.0.1:4001"));
  EXPECT_TRUE(served("unix:/a"));
  ASSERT_EQ(alter({{"ip", "10.0.0.1"}}, {{"connection_creation_rate", 5, false}}), 0);
  EXPECT_TRUE(served("[::ffff:10.0.0.1]:4002"));
}

TEST_F(QuotasTest, WhoIsHeldIsNotServedWhatItAskedBefore) {
  ASSERT_EQ(alter({{"user", {}}}, {{"consumer_byte_rate", 1000, false}}), 0);
  for (int i = 0; i < 30; ++i) {
    broker_.append("t", 0, SharedBytes::own(batchOf({std::string(2000, 'x')})), 0, 1);
  }
  broker_.hold = true;
  send(wire::HeartbeatRequest{"g", 1, "a", {}});
  for (int64_t offset : {0, 10, 20}) send(fetchRequest("t", offset), 12);
  broker_.answerFirst();
  EXPECT_LT(answersWaiting(), 4U);
  dispatcher_.advance(31'000'000);
  EXPECT_EQ(answersWaiting(), 4U) << "once it is not";
}

TEST_F(QuotasTest, AShorterHoldEndsNoLongerOne) {
  broker_.addTopic("u", 1);
  ASSERT_EQ(alter({{"client-id", "tester"}},
                  {{"producer_byte_rate", 1000, false}, {"consumer_byte_rate", 1000, false}}),
            0);
  int32_t waits = send(fetchRequest("t", 0, 100'000), 12);
  run();
  std::string batch = batchOf({std::string(25'000, 'x')});
  send(produceRequest("u", batch), 9);
  run();
  EXPECT_TRUE(transport_->paused);
  broker_.append("t", 0, SharedBytes::own(batchOf({std::string(11'000, 'x')})), 0, 1);
  run();
  int32_t shorter = receive<wire::FetchResponse>(waits, 12).throttleTimeMs;
  EXPECT_GT(shorter, 0);
  EXPECT_LT(shorter, 5000);
  dispatcher_.advance((shorter + 1000) * int64_t{1000});
  EXPECT_TRUE(transport_->paused);
  dispatcher_.advance(20'000'000);
  EXPECT_FALSE(transport_->paused);
}

TEST_F(QuotasTest, NobodyGoesUnheardForLongerThanHalfAMinute) {
  ASSERT_EQ(alter({{"client-id", "tester"}}, {{"producer_byte_rate", 100, false}}), 0);
  std::string batch = batchOf({std::string(6000, 'x')});
  auto told = ask<wire::ProduceResponse>(produceRequest("t", batch), 9);
  EXPECT_GT(told.throttleTimeMs, 40'000);
  dispatcher_.advance(29'000'000);
  EXPECT_TRUE(transport_->paused);
  dispatcher_.advance(2'000'000);
  EXPECT_FALSE(transport_->paused);
}

TEST_F(QuotasTest, WithoutAnAnswerTheConnectionIsHeldAllTheSame) {
  ASSERT_EQ(alter({{"client-id", "tester"}}, {{"producer_byte_rate", 100, false}}), 0);
  send(produceRequest("t", batchOf({std::string(5000, 'x')}), 0), 9);
  run();
  EXPECT_TRUE(transport_->paused);
  EXPECT_FALSE(transport_->closed);
}

TEST(QuotaMeter, WhoSharesAQuotaIsMeasuredTogether) {
  FakeQuotas quotas;
  auto set = std::make_shared<QuotaSet>();
  set->quotas[{"u", std::nullopt}][QuotaKind::kProduce] = 100;
  set->quotas[{"", ""}][QuotaKind::kProduce] = 100;
  quotas.set = set;
  QuotaMeter meter(&quotas);
  Principal one{"u", "a", "", Protocol::kKafka};
  Principal two{"u", "b", "", Protocol::kKafka};
  Principal other{"v", "a", "", Protocol::kKafka};
  Principal nobody{"", "a", "", Protocol::kKafka};
  EXPECT_EQ(meter.count(QuotaKind::kProduce, one, 900, 0), 0);
  EXPECT_EQ(meter.count(QuotaKind::kProduce, two, 200, 0), 1000);
  EXPECT_EQ(meter.count(QuotaKind::kProduce, other, 900, 0), 0);
  EXPECT_EQ(meter.count(QuotaKind::kProduce, nobody, 900, 0), 0) << "ANONYMOUS is a user too";
  EXPECT_EQ(meter.count(QuotaKind::kFetch, one, 1 << 20, 0), 0);
  // What came longer ago than eleven seconds counts no more.
  EXPECT_EQ(meter.count(QuotaKind::kProduce, two, 900, 11'000), 0);
}

TEST(QuotaMeter, AFetchIsForWhatIsLeft) {
  FakeQuotas quotas;
  auto set = std::make_shared<QuotaSet>();
  set->quotas[{"", std::nullopt}][QuotaKind::kFetch] = 100;
  quotas.set = set;
  QuotaMeter meter(&quotas);
  Principal who{"", "a", "", Protocol::kKafka};
  EXPECT_EQ(meter.largestFetch(who, 5000, 0), 1001U);
  EXPECT_EQ(meter.largestFetch(who, 500, 0), 500U);
  EXPECT_TRUE(meter.countFetch(who, 700, true, 0).given);
  EXPECT_EQ(meter.largestFetch(who, 5000, 0), 301U);
  EXPECT_TRUE(meter.countFetch(who, 300, true, 0).given);
  EXPECT_EQ(meter.largestFetch(who, 5000, 0), 1U);
  EXPECT_EQ(meter.fetchHold(who, 0), 0);
  meter.count(QuotaKind::kFetch, who, 1, 0);
  EXPECT_GT(meter.fetchHold(who, 0), 0);
  EXPECT_EQ(meter.largestFetch(who, 5000, 11'000), 1001U);
}

TEST(QuotaMeter, ATinyRateIsCountedAsVeryLong) {
  FakeQuotas quotas;
  auto set = std::make_shared<QuotaSet>();
  set->quotas[{"", std::nullopt}][QuotaKind::kMutation] = 1e-300;
  quotas.set = set;
  QuotaMeter meter(&quotas);
  Principal who{"", "a", "", Protocol::kKafka};
  EXPECT_EQ(meter.countMutation(who, 1000, true, 0), 0);
  EXPECT_EQ(meter.countMutation(who, 1, true, 1), kMaxThrottleMs);
}

TEST(QuotaMeter, ClientsWithoutNumberAreMeasuredTogether) {
  FakeQuotas quotas;
  auto set = std::make_shared<QuotaSet>();
  set->quotas[{std::nullopt, ""}][QuotaKind::kProduce] = 100;
  quotas.set = set;
  QuotaMeter meter(&quotas);
  auto count = [&](const std::string& client, int64_t nowMs) {
    return meter.count(QuotaKind::kProduce, Principal{"", client, "", Protocol::kKafka}, 600,
                       nowMs);
  };
  for (size_t i = 0; i < kMaxMeasuredClients; ++i) ASSERT_EQ(count(std::to_string(i), 0), 0);
  EXPECT_EQ(count("one more", 0), 0);
  EXPECT_GT(count("another", 0), 0) << "measured with the one before";
  EXPECT_EQ(count("later", 12'000), 0) << "the quiet ones have made room";
  EXPECT_EQ(count(std::string(30'000, 'x') + "a", 12'000), 0);
  EXPECT_GT(count(std::string(30'000, 'x') + "b", 12'000), 0) << "255 octets tell clients apart";
}

}  // namespace
}  // namespace polylog::kafka::test
