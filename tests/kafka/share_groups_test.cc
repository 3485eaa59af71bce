// Share groups over Kafka's protocol: sessions, acknowledgements, fetches, offsets, and what other
// APIs say of such groups.
#include <gmock/gmock.h>

#include "codecs/kafka/errors.h"
#include "codecs/kafka/features.h"
#include "codecs/kafka/share_sessions.h"
#include "tests/kafka/harness.h"

namespace polylog::kafka::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr TopicId kTopic{1};

/// Answers what the test says, and remembers what it was asked.
class FakeShares final : public ShareGroups {
 public:
  explicit FakeShares(LogBroker& broker) : broker_(broker) {}

  std::vector<ShareHeartbeat> beats;
  Result<ConsumerHeartbeatAnswer> beatAnswer;
  struct Settled {
    std::string group;
    std::string member;
    std::vector<ShareSettlement> settlements;
  };
  std::vector<Settled> settled;
  std::string forbidden;
  std::optional<Error> settleError;
  std::vector<Result<>> settleResults;  ///< empty: all is well
  std::vector<ShareAcquire> wishes;
  std::optional<Result<ShareAcquired>> acquired;  ///< nothing: it waits
  Done<Result<ShareAcquired>> waiting;
  int cancelled = 0;
  std::vector<std::pair<std::string, std::string>> released;
  Result<std::vector<ShareOffset>> offsets;
  std::optional<std::vector<std::pair<std::string, int32_t>>> offsetsAsked;
  std::vector<ShareOffset> altered;
  std::vector<std::string> deleted;
  Result<std::vector<Result<>>> results;

  void shareHeartbeat(const PrincipalRef&, ShareHeartbeat beat,
                      Done<Result<ConsumerHeartbeatAnswer>> done) override {
    beats.push_back(std::move(beat));
    broker_.answer([this, done = std::move(done)]() mutable { done(beatAnswer); });
  }
  bool mayTakePart(const PrincipalRef&, const std::string& group) const override {
    return group != forbidden;
  }
  void settleShares(const PrincipalRef&, std::string group, std::string memberId,
                    std::vector<ShareSettlement> settlements,
                    Done<Result<ShareSettled>> done) override {
    ShareSettled told{settleResults, 7000};
    if (told.results.empty()) told.results.resize(settlements.size());
    settled.push_back({std::move(group), std::move(memberId), std::move(settlements)});
    broker_.answer([this, told, done = std::move(done)]() mutable {
      if (settleError) return done(std::unexpected(*settleError));
      done(std::move(told));
    });
  }
  std::unique_ptr<WaitHandle> acquireShares(const PrincipalRef&, ShareAcquire asked,
                                            Done<Result<ShareAcquired>> done) override {
    struct Handle : WaitHandle {
      explicit Handle(int& count) : cancelled(count) {}
      ~Handle() override { ++cancelled; }
      int& cancelled;
    };
    wishes.push_back(std::move(asked));
    if (acquired) {
      broker_.answer([this, done = std::move(done)]() mutable { done(*acquired); });
    } else {
      waiting = std::move(done);
    }
    return std::make_unique<Handle>(cancelled);
  }
  void releaseShares(std::string group, std::string memberId, Task done) override {
    released.emplace_back(std::move(group), std::move(memberId));
    if (done) broker_.answer(std::move(done));
  }
  void shareOffsets(const PrincipalRef&, std::string,
                    std::optional<std::vector<std::pair<std::string, int32_t>>> partitions,
                    Done<Result<std::vector<ShareOffset>>> done) override {
    offsetsAsked = std::move(partitions);
    broker_.answer([this, done = std::move(done)]() mutable { done(offsets); });
  }
  void alterShareOffsets(const PrincipalRef&, std::string, std::vector<ShareOffset> asked,
                         Done<Result<std::vector<Result<>>>> done) override {
    altered = std::move(asked);
    broker_.answer([this, done = std::move(done)]() mutable { done(results); });
  }
  void deleteShareOffsets(const PrincipalRef&, std::string, std::vector<std::string> topics,
                          Done<Result<std::vector<Result<>>>> done) override {
    deleted = std::move(topics);
    broker_.answer([this, done = std::move(done)]() mutable { done(results); });
  }

 private:
  LogBroker& broker_;
};

class ShareGroupsTest : public KafkaTest {
 protected:
  ShareGroupsTest() {
    KafkaOptions options;
    options.shareGroups = &shares_;
    options.maxShareSessions = 2;
    connect(options);
    shares_.acquired = ShareAcquired{{}, 9000};
  }
  ~ShareGroupsTest() override {
    if (session_) disconnect();  // while shares_ is there
  }
  wire::ShareFetchRequest fetching(int32_t epoch, BytesView member = "m") {
    wire::ShareFetchRequest request;
    request.groupId = "g";
    request.memberId = member;
    request.shareSessionEpoch = epoch;
    request.maxWaitMs = 500;
    request.minBytes = 1;
    request.maxBytes = 1 << 20;
    request.maxRecords = 10;
    return request;
  }
  static void add(wire::ShareFetchRequest& request, int32_t index) {
    if (request.topics.empty()) request.topics.emplace_back().topicId = kTopic;
    request.topics.back().partitions.emplace_back().index = index;
  }
  template <class Request>
  static void say(Request& request, int32_t index, int64_t first, int64_t last,
                  std::vector<int8_t> types) {
    if (request.topics.empty()) request.topics.emplace_back().topicId = kTopic;
    auto& partition = request.topics.back().partitions.emplace_back();
    partition.index = index;
    partition.acknowledgementBatches.push_back({first, last, std::move(types)});
  }
  wire::ShareFetchResponse fetch(const wire::ShareFetchRequest& request, int16_t version = 2) {
    return ask<wire::ShareFetchResponse>(request, version);
  }
  void begin(BytesView member = "m") {
    auto request = fetching(0, member);
    add(request, 0);
    add(request, 3);
    ASSERT_EQ(fetch(request).errorCode, 0);
  }
  /// Three records of partition 0, of which the latter two are the member's.
  ShareAcquired records() {
    batch_ = batchOf({"x", "y", "z"});
    ShareAcquired got;
    got.lockMs = 9000;
    auto& part = got.parts.emplace_back();
    part.place = {kTopic, 0};
    part.fetched.batches.push_back({SharedBytes::copyOf(batch_), Offset(40), 0, 3});
    part.ranges = {{41, 42, 2}};
    return got;
  }

  FakeShares shares_{broker_};
  std::string batch_;
  int32_t epoch_ = 1;  ///< of the next acknowledgement
};

TEST_F(ShareGroupsTest, HeartbeatsReachTheBrokerWhole) {
  wire::ShareGroupHeartbeatRequest request;
  request.groupId = "g";
  request.memberId = "m";
  request.memberEpoch = 3;
  request.rackId = "r";
  request.subscribedTopicNames = std::vector<BytesView>{"t"};
  shares_.beatAnswer = ConsumerHeartbeatAnswer{"m", 4, 5000, Assignment{{kTopic, {0, 2}}}};
  auto response = ask<wire::ShareGroupHeartbeatResponse>(request);
  EXPECT_EQ(response.errorCode, 0);
  EXPECT_EQ(response.memberEpoch, 4);
  EXPECT_EQ(response.heartbeatIntervalMs, 5000);
  ASSERT_TRUE(response.assignment);
  EXPECT_EQ(response.assignment->topicPartitions.at(0).partitions, (std::vector<int32_t>{0, 2}));
  EXPECT_EQ(shares_.beats.at(0).epoch, 3);
  EXPECT_EQ(shares_.beats.at(0).rackId, "r");
  EXPECT_EQ(shares_.beats.at(0).clientId, "tester");
  EXPECT_EQ(shares_.beats.at(0).topics, std::vector<std::string>{"t"});

  request.memberId = "";
  EXPECT_EQ(ask<wire::ShareGroupHeartbeatResponse>(request).errorCode, code(Code::kInvalidRequest));
  request.memberId = "m";
  broker_.hiddenTopics.insert("t");
  EXPECT_EQ(ask<wire::ShareGroupHeartbeatResponse>(request).errorCode,
            code(Code::kTopicAuthorizationFailed));
  request.subscribedTopicNames.reset();
  shares_.beatAnswer = fail(ErrorKind::kFencedEpoch, "another epoch");
  EXPECT_EQ(ask<wire::ShareGroupHeartbeatResponse>(request).errorCode, 110);
}

TEST_F(ShareGroupsTest, SessionsGoByEpochs) {
  EXPECT_EQ(fetch(fetching(1)).errorCode, code(Code::kShareSessionNotFound));
  EXPECT_EQ(fetch(fetching(-1)).errorCode, code(Code::kShareSessionNotFound));
  begin();
  EXPECT_THAT(shares_.wishes.back().places,
              ElementsAre(SharePlace{kTopic, 0}, SharePlace{kTopic, 3}));
  EXPECT_EQ(fetch(fetching(2)).errorCode, code(Code::kInvalidShareSessionEpoch));
  auto next = fetching(1);
  add(next, 5);
  next.forgotten.push_back({kTopic, {0}});
  auto answer = fetch(next);
  EXPECT_EQ(answer.errorCode, 0);
  EXPECT_THAT(answer.topics, IsEmpty()) << "nothing new";
  EXPECT_THAT(shares_.wishes.back().places,
              ElementsAre(SharePlace{kTopic, 5}, SharePlace{kTopic, 3}))
      << "each has its turn to be the first";
  begin("second");
  auto third = fetching(0, "third");
  EXPECT_EQ(fetch(third).errorCode, code(Code::kShareSessionLimitReached));
  EXPECT_EQ(fetch(fetching(-1)).errorCode, 0);
  EXPECT_THAT(shares_.released, ElementsAre(std::pair<std::string, std::string>("g", "m")));
  EXPECT_EQ(fetch(third).errorCode, 0);
}

TEST_F(ShareGroupsTest, StoredBatchesComeWithWhatIsTheMembers) {
  shares_.acquired = records();
  auto request = fetching(0);
  add(request, 0);
  add(request, 1);
  request.batchSize = 1;
  auto response = fetch(request);
  EXPECT_EQ(response.acquisitionLockTimeoutMs, 9000);
  ASSERT_THAT(response.topics, SizeIs(1));
  ASSERT_THAT(response.topics[0].partitions, SizeIs(2)) << "a new session is told of all";
  const auto& partition = response.topics[0].partitions[0];
  ASSERT_THAT(partition.acquiredRecords, SizeIs(2)) << "in pieces of the size asked for";
  EXPECT_EQ(partition.acquiredRecords[0].firstOffset, 41);
  EXPECT_EQ(partition.acquiredRecords[0].lastOffset, 41);
  EXPECT_EQ(partition.acquiredRecords[1].deliveryCount, 2);
  std::string stored = batch_;
  patchRecordBatch(stored.data(), Offset(40), broker_.leaderEpoch());
  ASSERT_TRUE(partition.records.bytes.has_value());
  EXPECT_EQ(*partition.records.bytes, stored);
  EXPECT_THAT(response.topics[0].partitions[1].acquiredRecords, IsEmpty());
  const ShareAcquire& asked = shares_.wishes.at(0);
  EXPECT_EQ(asked.group, "g");
  EXPECT_EQ(asked.memberId, "m");
  EXPECT_EQ(asked.maxRecords, 10);
  EXPECT_EQ(asked.maxWaitMs, 500);
  EXPECT_FALSE(asked.exactly);
  auto exact = fetching(1);
  exact.shareAcquireMode = 1;
  fetch(exact);
  EXPECT_TRUE(shares_.wishes.at(1).exactly);
}

TEST_F(ShareGroupsTest, AcknowledgementsComeFirst) {
  begin();
  auto request = fetching(1);
  say(request, 0, 5, 7, {1, 0, 2});
  say(request, 1, 9, 8, {1});
  shares_.settleResults = {fail(ErrorKind::kLocked, "not yours")};
  auto response = fetch(request);
  EXPECT_EQ(response.errorCode, 0);
  ASSERT_THAT(shares_.settled, SizeIs(1));
  ASSERT_THAT(shares_.settled[0].settlements, SizeIs(1)) << "the other makes no sense";
  const ShareVerdicts& verdicts = shares_.settled[0].settlements[0].batches.at(0);
  EXPECT_EQ(verdicts.first, 5);
  EXPECT_EQ(verdicts.last, 7);
  EXPECT_THAT(verdicts.verdicts,
              ElementsAre(ShareVerdict::kAccept, ShareVerdict::kGap, ShareVerdict::kRelease));
  ASSERT_THAT(response.topics, SizeIs(1));
  const auto& partitions = response.topics[0].partitions;
  EXPECT_EQ(partitions.at(0).acknowledgeErrorCode, code(Code::kInvalidRecordState));
  EXPECT_EQ(partitions.at(0).acknowledgeErrorMessage, "not yours");
  EXPECT_EQ(partitions.at(0).errorCode, 0);
  EXPECT_EQ(partitions.at(1).acknowledgeErrorCode, code(Code::kInvalidRequest));
}

TEST_F(ShareGroupsTest, WhatMakesNoSenseIsRefused) {
  auto fresh = fetching(0);
  say(fresh, 0, 1, 1, {1});
  EXPECT_EQ(fetch(fresh).errorCode, code(Code::kInvalidRequest)) << "a session begins empty";
  auto nobody = fetching(0, "");
  EXPECT_EQ(fetch(nobody).errorCode, code(Code::kInvalidRequest));
  begin();
  auto refused = [&](std::vector<std::tuple<int64_t, int64_t, std::vector<int8_t>>> batches) {
    wire::ShareAcknowledgeRequest request;
    request.groupId = "g";
    request.memberId = "m";
    request.shareSessionEpoch = epoch_++;
    auto& partition = request.topics.emplace_back().partitions.emplace_back();
    for (auto& [first, last, types] : batches) {
      partition.acknowledgementBatches.push_back({first, last, types});
    }
    auto response = ask<wire::ShareAcknowledgeResponse>(request);
    EXPECT_EQ(response.errorCode, 0);
    return response.topics.at(0).partitions.at(0).errorCode == code(Code::kInvalidRequest);
  };
  EXPECT_FALSE(refused({{1, 2, {1}}}));
  EXPECT_TRUE(refused({{2, 1, {1}}}));
  EXPECT_TRUE(refused({{-1, 1, {1}}}));
  EXPECT_TRUE(refused({{1, 2, {}}}));
  EXPECT_TRUE(refused({{1, 3, {1, 1}}}));
  EXPECT_TRUE(refused({{1, 2, {1}}, {2, 3, {1}}})) << "they overlap";
  EXPECT_TRUE(refused({{1, 2, {5}}}));
  EXPECT_TRUE(refused({{1, 2, {4}}})) << "renewing isn't announced";
  EXPECT_TRUE(refused({{1, INT64_MAX, {1}}}));
}

TEST_F(ShareGroupsTest, RenewingFetchesNothing) {
  begin();
  size_t wishes = shares_.wishes.size();
  auto request = fetching(1);
  request.isRenewAck = true;
  say(request, 0, 5, 5, {4});
  EXPECT_EQ(fetch(request).errorCode, code(Code::kInvalidRequest)) << "it asks for records too";
  request.maxBytes = request.minBytes = request.maxRecords = request.maxWaitMs = 0;
  auto response = fetch(request);
  EXPECT_EQ(response.errorCode, 0);
  EXPECT_EQ(response.acquisitionLockTimeoutMs, 7000);
  EXPECT_EQ(shares_.wishes.size(), wishes);
  EXPECT_THAT(shares_.settled.at(0).settlements.at(0).batches.at(0).verdicts,
              ElementsAre(ShareVerdict::kRenew));
}

TEST_F(ShareGroupsTest, AcknowledgingTakesPartInTheSession) {
  wire::ShareAcknowledgeRequest request;
  request.groupId = "g";
  request.memberId = "m";
  say(request, 0, 5, 5, {1});
  auto asked = [&](int32_t epoch) {
    request.shareSessionEpoch = epoch;
    return ask<wire::ShareAcknowledgeResponse>(request).errorCode;
  };
  EXPECT_EQ(asked(1), code(Code::kShareSessionNotFound));
  EXPECT_EQ(asked(0), code(Code::kInvalidShareSessionEpoch));
  begin();
  EXPECT_EQ(asked(1), 0);
  EXPECT_EQ(asked(1), code(Code::kInvalidShareSessionEpoch));
  EXPECT_EQ(fetch(fetching(2)).errorCode, 0);
  EXPECT_EQ(asked(-1), 0);
  EXPECT_THAT(shares_.released, SizeIs(1));
  EXPECT_EQ(asked(3), code(Code::kShareSessionNotFound));
}

TEST_F(ShareGroupsTest, RequestsOfAConnectionKeepTheirOrder) {
  begin();
  shares_.acquired.reset();
  int32_t waits = send(fetching(1));
  wire::ShareAcknowledgeRequest request;
  request.groupId = "g";
  request.memberId = "m";
  request.shareSessionEpoch = 2;
  say(request, 0, 5, 5, {1});
  int32_t behind = send(request);
  run();
  EXPECT_EQ(answersWaiting(), 0U);
  shares_.waiting(records());
  run();
  EXPECT_EQ(receive<wire::ShareFetchResponse>(waits).errorCode, 0);
  EXPECT_EQ(receive<wire::ShareAcknowledgeResponse>(behind).errorCode, 0);
}

TEST_F(ShareGroupsTest, WithTheConnectionGoesTheSession) {
  begin();
  shares_.acquired.reset();
  send(fetching(1));
  run();
  int before = shares_.cancelled;
  disconnect();
  EXPECT_EQ(shares_.cancelled, before + 1) << "nobody waits any more";
  EXPECT_THAT(shares_.released, ElementsAre(std::pair<std::string, std::string>("g", "m")));
}

TEST_F(ShareGroupsTest, ASessionGoesOnOverAnotherConnection) {
  ShareSessions sessions({2, 3, 2, 3});
  ShareMember member{"g", "m"};
  EXPECT_EQ(sessions.advance(member, 0, {1, "u"}, {{kTopic, 0}}, {}).error, Code::kNone);
  EXPECT_EQ(sessions.advance(member, 1, {2, "u"}, {}, {}).error, Code::kNone);
  EXPECT_THAT(sessions.closed(1), IsEmpty());
  EXPECT_EQ(sessions.size(), 1U);
  const std::vector<SharePlace> three = {{kTopic, 1}, {kTopic, 2}, {kTopic, 3}};
  auto many = sessions.advance(member, 2, {2, "u"}, three, {});
  EXPECT_EQ(many.error, Code::kShareSessionLimitReached) << "too many partitions";
  EXPECT_EQ(sessions.size(), 0U);
  EXPECT_EQ(sessions.advance(member, 0, {3, "u"}, three, {}).error, Code::kNone)
      << "its places are free again";
  EXPECT_THAT(sessions.closed(3), ElementsAre(member));
}

TEST_F(ShareGroupsTest, ASessionIsTheUsersWhoBeganIt) {
  ShareSessions sessions({9, 9, 9, 9});
  ShareMember member{"g", "m"};
  ASSERT_EQ(sessions.advance(member, 0, {1, "u"}, {}, {}).error, Code::kNone);
  for (int32_t epoch : {0, 1, -1}) {
    EXPECT_EQ(sessions.advance(member, epoch, {2, "v"}, {}, {}).error, Code::kInvalidRequest);
  }
  EXPECT_THAT(sessions.closed(2), IsEmpty());
  EXPECT_EQ(sessions.advance(member, 1, {1, "u"}, {}, {}).error, Code::kNone);
}

TEST_F(ShareGroupsTest, OneConnectionTakesNotAllSessions) {
  ShareSessions sessions({9, 9, 2, 3});
  auto step = [&](BytesView member, int32_t epoch, uint64_t connection,
                  const std::vector<SharePlace>& added) {
    return sessions.advance({"g", std::string(member)}, epoch, {connection, "u"}, added, {}).error;
  };
  EXPECT_EQ(step("a", 0, 1, {{kTopic, 0}, {kTopic, 1}}), Code::kNone);
  EXPECT_EQ(step("b", 0, 1, {{kTopic, 0}}), Code::kNone);
  EXPECT_EQ(step("c", 0, 1, {}), Code::kShareSessionLimitReached);
  EXPECT_EQ(step("d", 0, 2, {{kTopic, 0}, {kTopic, 1}}), Code::kNone) << "another's";
  EXPECT_EQ(step("d", 1, 1, {}), Code::kShareSessionLimitReached) << "nor by moving there";
  EXPECT_EQ(step("d", 1, 2, {}), Code::kNone) << "nothing has changed";
  EXPECT_EQ(step("b", 1, 1, {{kTopic, 1}}), Code::kShareSessionLimitReached);
  EXPECT_EQ(step("b", 0, 1, {{kTopic, 1}}), Code::kNone) << "its places are free again";
}

TEST_F(ShareGroupsTest, WhoMayNotTakePartHasNoSession) {
  shares_.forbidden = "g";
  for (int32_t epoch : {0, 1, -1}) {
    EXPECT_EQ(fetch(fetching(epoch)).errorCode, code(Code::kGroupAuthorizationFailed));
  }
  wire::ShareAcknowledgeRequest request;
  request.groupId = "g";
  request.memberId = "m";
  request.shareSessionEpoch = -1;
  EXPECT_EQ(ask<wire::ShareAcknowledgeResponse>(request).errorCode,
            code(Code::kGroupAuthorizationFailed));
  EXPECT_THAT(shares_.released, IsEmpty());
  EXPECT_THAT(shares_.wishes, IsEmpty());
}

TEST_F(ShareGroupsTest, WhatIsRefusedForTheWholeGroupIsToldOnce) {
  begin();
  shares_.settleError = Error{ErrorKind::kUnauthorized, "no"};
  wire::ShareAcknowledgeRequest request;
  request.groupId = "g";
  request.memberId = "m";
  request.shareSessionEpoch = 1;
  say(request, 0, 5, 5, {1});
  EXPECT_EQ(ask<wire::ShareAcknowledgeResponse>(request).errorCode,
            code(Code::kGroupAuthorizationFailed));
  auto last = fetching(-1);
  say(last, 0, 5, 5, {1});
  EXPECT_EQ(fetch(last).errorCode, code(Code::kGroupAuthorizationFailed));
  EXPECT_THAT(shares_.released, SizeIs(1)) << "the session is over all the same";
}

TEST_F(ShareGroupsTest, WhoIsHeldCanStillSettleInTime) {
  struct Quotas final : QuotaControl {
    Result<std::shared_ptr<const QuotaSet>> quotas(const PrincipalRef&) override { return set; }
    Result<> mayAlter(const PrincipalRef&) const override { return {}; }
    void alterQuotas(const PrincipalRef&, std::vector<QuotaChange>, Done<Result<>>) override {}
    std::shared_ptr<const QuotaSet> current() const override { return set; }
    std::shared_ptr<QuotaSet> set = std::make_shared<QuotaSet>();
  } quotas;
  quotas.set->quotas[{"", std::nullopt}][QuotaKind::kFetch] = 1;
  KafkaOptions options;
  options.shareGroups = &shares_;
  options.quotas = &quotas;
  connect(options);
  begin();
  shares_.acquired = records();
  EXPECT_EQ(fetch(fetching(1)).throttleTimeMs, 9000 / 3);
  EXPECT_TRUE(transport_->paused);
  dispatcher_.advance(3'000'000);
  EXPECT_FALSE(transport_->paused);
  size_t wishes = shares_.wishes.size();
  auto next = fetching(2);
  say(next, 0, 41, 42, {1});
  auto answer = fetch(next);
  EXPECT_EQ(answer.errorCode, 0);
  EXPECT_THAT(shares_.settled, SizeIs(1)) << "what it says is taken";
  EXPECT_EQ(answer.throttleTimeMs, 7000 / 3);
  EXPECT_THAT(shares_.wishes, SizeIs(wishes)) << "but it gets nothing";
  dispatcher_.advance(3'000'000);
  EXPECT_EQ(fetch(fetching(3)).throttleTimeMs, 7000 / 3) << "as the group's time is";
  disconnect();
}

TEST_F(ShareGroupsTest, OffsetsAreDescribedAlteredAndDeleted) {
  ShareOffset known;
  known.id = kTopic;
  known.topic = "t";
  known.start = 5;
  known.lag = 3;
  ShareOffset gone;
  gone.topic = "u";
  gone.error = Error{ErrorKind::kNotFound, "no such topic"};
  shares_.offsets = std::vector<ShareOffset>{known, gone};
  wire::DescribeShareGroupOffsetsRequest describe;
  describe.groups.emplace_back().groupId = "g";
  auto told = ask<wire::DescribeShareGroupOffsetsResponse>(describe);
  EXPECT_FALSE(shares_.offsetsAsked.has_value()) << "all of them";
  ASSERT_THAT(told.groups.at(0).topics, SizeIs(2));
  EXPECT_EQ(told.groups[0].topics[0].topicId, kTopic);
  EXPECT_EQ(told.groups[0].topics[0].partitions.at(0).startOffset, 5);
  EXPECT_EQ(told.groups[0].topics[0].partitions.at(0).lag, 3);
  EXPECT_EQ(told.groups[0].topics[1].partitions.at(0).errorCode,
            code(Code::kUnknownTopicOrPartition));
  shares_.offsets = fail(ErrorKind::kNotFound, "no group");
  told = ask<wire::DescribeShareGroupOffsetsResponse>(describe);
  EXPECT_EQ(told.groups.at(0).errorCode, code(Code::kGroupIdNotFound));

  wire::AlterShareGroupOffsetsRequest alter;
  alter.groupId = "g";
  alter.topics.push_back({"t", {{0, 7}, {9, 7}}});
  shares_.results = std::vector<Result<>>{{}, fail(ErrorKind::kNotFound, "no such partition")};
  auto altered = ask<wire::AlterShareGroupOffsetsResponse>(alter);
  EXPECT_EQ(altered.topics.at(0).partitions.at(0).errorCode, 0);
  EXPECT_EQ(altered.topics.at(0).partitions.at(1).errorCode, code(Code::kUnknownTopicOrPartition));
  EXPECT_EQ(shares_.altered.at(0).start, 7);
  shares_.results = fail(ErrorKind::kGroupNotEmpty, "it has members");
  EXPECT_EQ(ask<wire::AlterShareGroupOffsetsResponse>(alter).errorCode, code(Code::kNonEmptyGroup));

  wire::DeleteShareGroupOffsetsRequest forget;
  forget.groupId = "g";
  forget.topics.push_back({"t"});
  shares_.results = std::vector<Result<>>{Result<>()};
  auto deleted = ask<wire::DeleteShareGroupOffsetsResponse>(forget);
  EXPECT_EQ(deleted.errorCode, 0);
  EXPECT_EQ(deleted.topics.at(0).errorCode, 0);
  EXPECT_THAT(shares_.deleted, ElementsAre("t"));
}

TEST_F(ShareGroupsTest, OtherApisKnowTheKind) {
  GroupDescription& group = broker_.groups.emplace_back();
  group.group = "g";
  group.kind = GroupKind::kShare;
  group.state = "Stable";
  group.protocolType = "share";
  group.epoch = group.assignmentEpoch = 5;
  group.assignor = "simple";
  auto& member = group.members.emplace_back();
  member.memberId = "m";
  member.clientId = "c";
  auto& consumer = member.consumer.emplace();
  consumer.epoch = 5;
  consumer.topics = {"t"};
  consumer.assigned.push_back({kTopic, "t", {0, 1}});

  wire::ListGroupsRequest list;
  list.typesFilter = {"Share"};
  auto listed = ask<wire::ListGroupsResponse>(list);
  ASSERT_THAT(listed.groups, SizeIs(1));
  EXPECT_EQ(listed.groups[0].groupType, "share");

  wire::ShareGroupDescribeRequest describe;
  describe.groupIds = {"g"};
  auto described = ask<wire::ShareGroupDescribeResponse>(describe);
  const auto& told = described.groups.at(0);
  EXPECT_EQ(told.errorCode, 0);
  EXPECT_EQ(told.assignorName, "simple");
  EXPECT_EQ(told.members.at(0).memberEpoch, 5);
  EXPECT_EQ(told.members.at(0).assignment.topicPartitions.at(0).partitions,
            (std::vector<int32_t>{0, 1}));

  wire::ConsumerGroupDescribeRequest other;
  other.groupIds = {"g"};
  EXPECT_EQ(ask<wire::ConsumerGroupDescribeResponse>(other).groups.at(0).errorCode,
            code(Code::kGroupIdNotFound));
}

TEST_F(ShareGroupsTest, GroupsHaveConfigurationsOfTheirOwn) {
  wire::IncrementalAlterConfigsRequest request;
  auto& resource = request.resources.emplace_back();
  resource.type = 32;
  resource.name = "g";
  auto set = [&](BytesView key, BytesView value) {
    resource.configs.clear();
    auto& config = resource.configs.emplace_back();
    config.name = key;
    config.value = value;
    return ask<wire::IncrementalAlterConfigsResponse>(request).responses.at(0).errorCode;
  };
  constexpr int16_t kBad = static_cast<int16_t>(Code::kInvalidConfig);
  EXPECT_EQ(set("share.auto.offset.reset", "earliest"), 0);
  EXPECT_EQ(broker_.groupConfigs.at("g").shareReset->agoMs, ShareReset::kEarliest);
  EXPECT_EQ(set("share.auto.offset.reset", "by_duration:P1DT1H0.5S"), 0);
  EXPECT_EQ(broker_.groupConfigs.at("g").shareReset->agoMs, 25 * 3'600'000 + 500);
  for (BytesView bad :
       {"hello", "by_duration:", "by_duration:1h", "by_duration:P", "by_duration:PT",
        "by_duration:-PT1H", "by_duration:PT1H1D", "by_duration:PTinfS"}) {
    EXPECT_EQ(set("share.auto.offset.reset", bad), kBad) << bad;
  }
  EXPECT_EQ(set("share.isolation.level", "read_committed"), 0);
  EXPECT_TRUE(*broker_.groupConfigs.at("g").shareCommittedOnly);
  EXPECT_EQ(set("share.isolation.level", "serializable"), kBad);
  EXPECT_EQ(set("share.record.lock.duration.ms", "20000"), 0);
  EXPECT_EQ(set("share.record.lock.duration.ms", "1"), kBad);
  EXPECT_EQ(set("share.session.timeout.ms", "6000"), 0);
  EXPECT_EQ(set("share.heartbeat.interval.ms", "6000"), kBad) << "not less than the time-out";
}

TEST_F(ShareGroupsTest, TheFeatureIsTold) {
  auto told = ask<wire::ApiVersionsResponse>(wire::ApiVersionsRequest{}, 4);
  auto is = [](const auto& feature) { return feature.name == "share.version"; };
  auto finalized = std::ranges::find_if(told.finalizedFeatures, is);
  ASSERT_NE(finalized, told.finalizedFeatures.end());
  EXPECT_EQ(finalized->maxVersionLevel, 1);
  EXPECT_TRUE(std::ranges::any_of(told.supportedFeatures, is));
}

}  // namespace
}  // namespace polylog::kafka::test
