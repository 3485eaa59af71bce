// Incremental fetch sessions (KIP-227), as Kafka's FetchSession has them.
#include "codecs/kafka/fetch_sessions.h"

#include <gmock/gmock.h>

#include "tests/kafka/harness.h"
#include "tests/support/seeded_random.h"

namespace polylog::kafka::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class FetchSessionTest : public KafkaTest {
 protected:
  FetchSessionTest() {
    broker_.addTopic("t", 3);
    broker_.addTopic("u", 1);
  }

  void append(const std::string& topic, int32_t partition) {
    broker_.append(topic, partition, SharedBytes::own(batchOf({"v"})), 0, 1);
  }

  static wire::FetchRequest request(int32_t session, int32_t epoch) {
    wire::FetchRequest made;
    made.sessionId = session;
    made.sessionEpoch = epoch;
    made.minBytes = 1;
    made.maxBytes = 1 << 20;
    return made;
  }
  static wire::FetchRequest with(wire::FetchRequest made, BytesView topic,
                                 const std::vector<std::pair<int32_t, int64_t>>& partitions) {
    auto& asked = made.topics.emplace_back();
    asked.name = topic;
    for (auto [index, offset] : partitions) {
      auto& partition = asked.partitions.emplace_back();
      partition.index = index;
      partition.fetchOffset = offset;
      partition.maxBytes = 1 << 20;
    }
    return made;
  }
  wire::FetchResponse fetch(const wire::FetchRequest& asked, int16_t version = 11) {
    return ask<wire::FetchResponse>(asked, version);
  }
  /// "t/0:3" = partition 0 of t with that high watermark.
  static std::vector<std::string> told(const wire::FetchResponse& response) {
    std::vector<std::string> out;
    for (const auto& topic : response.topics) {
      for (const auto& partition : topic.partitions) {
        out.push_back(std::string(topic.name) + "/" + std::to_string(partition.index) + ":" +
                      std::to_string(partition.highWatermark));
      }
    }
    return out;
  }
  int32_t begin() {
    auto response = fetch(with(request(0, 0), "t", {{0, 0}, {1, 0}, {2, 0}}));
    EXPECT_THAT(told(response), SizeIs(3));
    EXPECT_NE(response.sessionId, 0);
    return response.sessionId;
  }
};

TEST_F(FetchSessionTest, OnlyWhatHasChangedIsTold) {
  int32_t session = begin();
  append("t", 1);
  auto response = fetch(request(session, 1));
  EXPECT_EQ(response.errorCode, 0);
  EXPECT_EQ(response.sessionId, session);
  EXPECT_THAT(told(response), ElementsAre("t/1:1"));
  EXPECT_FALSE(response.topics[0].partitions[0].records.bytes->empty());
  // It has the record: nothing is new.
  EXPECT_THAT(told(fetch(with(request(session, 2), "t", {{1, 1}}))), IsEmpty());
  // It didn't say that it has read it: it is told again.
  append("t", 2);
  EXPECT_THAT(told(fetch(request(session, 3))), ElementsAre("t/2:1"));
  EXPECT_THAT(told(fetch(request(session, 4))), ElementsAre("t/2:1"));
}

TEST_F(FetchSessionTest, PartitionsAreAddedAndForgotten) {
  int32_t session = begin();
  EXPECT_THAT(told(fetch(with(request(session, 1), "u", {{0, 0}}))), ElementsAre("u/0:0"));
  append("t", 0);
  append("u", 0);
  auto forgets = request(session, 2);
  forgets.forgotten.push_back({"t", {}, {0, 1}});
  EXPECT_THAT(told(fetch(forgets)), ElementsAre("u/0:1"));
  forgets = request(session, 3);
  forgets.forgotten.push_back({"t", {}, {2}});
  forgets.forgotten.push_back({"u", {}, {0}});
  auto response = fetch(forgets);
  EXPECT_EQ(response.sessionId, 0) << "nothing is left: the session is over";
  EXPECT_EQ(fetch(request(session, 4)).errorCode, 70);
}

TEST_F(FetchSessionTest, ErrorsTellTheClientToBeginAnew) {
  int32_t session = begin();
  EXPECT_EQ(fetch(request(session + 1, 1)).errorCode, 70) << "FETCH_SESSION_ID_NOT_FOUND";
  EXPECT_EQ(fetch(request(session, 2)).errorCode, 71) << "INVALID_FETCH_SESSION_EPOCH";
  EXPECT_EQ(fetch(request(session, 1), 13).errorCode, 106) << "FETCH_SESSION_TOPIC_ID_ERROR";
  EXPECT_EQ(fetch(request(session, 1)).errorCode, 0) << "a refused request uses no epoch up";
  EXPECT_EQ(fetch(request(session, 1)).errorCode, 71);
  auto response = fetch(with(request(session, 0), "t", {{0, 0}}));
  EXPECT_EQ(response.errorCode, 0);
  EXPECT_NE(response.sessionId, session);
  EXPECT_EQ(fetch(request(session, 2)).errorCode, 70) << "a full request ends the old one";
  response = fetch(with(request(response.sessionId, -1), "t", {{0, 0}}));
  EXPECT_EQ(response.sessionId, 0) << "the final epoch ends it and begins none";
}

TEST_F(FetchSessionTest, IsUnknownToAnotherListener) {
  int32_t session = begin();
  session_->onClosed("the connection broke");
  connect();
  EXPECT_EQ(fetch(request(session, 1)).errorCode, 70) << "connect() makes a listener of its own";
}

TEST_F(FetchSessionTest, ByTopicId) {
  auto asked = with(request(0, 0), "", {{0, 0}});
  asked.topics[0].id = broker_.byName["t"]->id;
  auto response = fetch(asked, 18);
  ASSERT_NE(response.sessionId, 0);
  append("t", 0);
  auto next = fetch(request(response.sessionId, 1), 18);
  ASSERT_THAT(next.topics, SizeIs(1));
  EXPECT_EQ(next.topics[0].id, broker_.byName["t"]->id);
  auto other = request(response.sessionId, 2);
  other = with(other, "", {{0, 0}});
  other.topics[0].id = TopicId{9};
  next = fetch(other, 18);
  EXPECT_EQ(next.topics.back().partitions[0].errorCode, 100) << "UNKNOWN_TOPIC_ID";
  EXPECT_EQ(next.errorCode, 0);
}

TEST_F(FetchSessionTest, APartitionInErrorIsToldEachTimeAndWhenItIsWell) {
  auto response = fetch(with(request(0, 0), "t", {{0, 5}, {1, 0}}));
  EXPECT_EQ(response.topics[0].partitions[0].errorCode, 1);
  auto next = fetch(request(response.sessionId, 1));
  EXPECT_THAT(told(next), ElementsAre("t/0:-1"));
  next = fetch(with(request(response.sessionId, 2), "t", {{0, 0}}));
  EXPECT_THAT(told(next), ElementsAre("t/0:0"));
}

TEST_F(FetchSessionTest, OfANameThatIsTooLongLittleIsKept) {
  std::string name(3000, 'x');
  auto response = fetch(with(request(0, 0), name, {{0, 0}, {1, 0}}));
  ASSERT_THAT(response.topics, SizeIs(1));
  EXPECT_EQ(response.topics[0].name.size(), 250U);
  ASSERT_THAT(response.topics[0].partitions, SizeIs(2));
  EXPECT_EQ(response.topics[0].partitions[1].errorCode, 3);
}

TEST_F(FetchSessionTest, OldVersionsAndSessionlessClientsHaveNone) {
  EXPECT_EQ(fetch(with(request(0, -1), "t", {{0, 0}})).sessionId, 0);
  EXPECT_THAT(told(fetch(with(request(0, 0), "t", {{0, 0}}), 6)), SizeIs(1));
  KafkaOptions options;
  options.maxFetchSessions = 0;
  connect(std::move(options));
  EXPECT_EQ(fetch(with(request(0, 0), "t", {{0, 0}})).sessionId, 0);
}

// ---- the cache

class FetchSessionsTest : public testing::Test {
 protected:
  static std::vector<FetchEntry> entries(int32_t count, const std::string& topic = "t") {
    std::vector<FetchEntry> out;
    for (int32_t i = 0; i < count; ++i) out.push_back({{topic, {}, i}, 0, 1, -1, -1});
    return out;
  }
  bool has(int32_t id, int32_t epoch = 1, int64_t now = 0) {
    return sessions_.advance(id, epoch, false, {}, {}, now).error == Code::kNone;
  }

  polylog::test::SeededRandom random_{7};
  FetchSessions sessions_{{2, 100, 1000}, random_};
};

TEST_F(FetchSessionsTest, NobodyIsPutOutWhileInUseAndYoung) {
  int32_t first = sessions_.create(entries(1), false, 0);
  int32_t second = sessions_.create(entries(1), false, 0);
  EXPECT_NE(first, second);
  EXPECT_EQ(sessions_.create(entries(50), false, 1000), 0);
  EXPECT_NE(sessions_.create(entries(1), false, 1001), 0) << "unused for longer than that";
  EXPECT_EQ(sessions_.size(), 2U);
}

TEST_F(FetchSessionsTest, OldAndSmallerOnesMakeWay) {
  int32_t small = sessions_.create(entries(2), false, 0);
  int32_t large = sessions_.create(entries(5), false, 0);
  EXPECT_TRUE(has(small, 1, 1500));
  EXPECT_TRUE(has(large, 1, 1500));
  EXPECT_EQ(sessions_.create(entries(2), false, 1600), 0) << "no smaller one";
  EXPECT_NE(sessions_.create(entries(3), false, 1600), 0);
  EXPECT_FALSE(has(small, 2, 1600));
  EXPECT_TRUE(has(large, 2, 1600));
}

TEST_F(FetchSessionsTest, PartitionsAreBoundedInAll) {
  EXPECT_EQ(sessions_.create(entries(101), false, 0), 0);
  int32_t id = sessions_.create(entries(60), false, 0);
  ASSERT_NE(id, 0);
  EXPECT_EQ(sessions_.create(entries(60), false, 0), 0);
  EXPECT_EQ(sessions_.advance(id, 1, false, entries(41, "u"), {}, 0).error,
            Code::kFetchSessionIdNotFound);
  EXPECT_EQ(sessions_.size(), 0U);
  EXPECT_NE(sessions_.create(entries(100), false, 0), 0) << "its place is free again";
}

TEST_F(FetchSessionsTest, WhatHadRecordsIsReadLastNextTime) {
  int32_t id = sessions_.create(entries(3), false, 0);
  auto step = sessions_.advance(id, 1, false, {}, {}, 0);
  std::vector<FetchFinding> findings(3);
  findings[0].records = true;
  EXPECT_THAT(sessions_.tell(*step.session, 1, step.entries, findings),
              ElementsAre(true, false, false));
  step = sessions_.advance(id, 2, false, {}, {}, 0);
  EXPECT_EQ(step.entries[0].key.index, 1);
  EXPECT_EQ(step.entries[2].key.index, 0);
  EXPECT_THAT(sessions_.tell(*step.session, 1, step.entries, findings), IsEmpty())
      << "a request that another one has overtaken";
}

}  // namespace
}  // namespace polylog::kafka::test
