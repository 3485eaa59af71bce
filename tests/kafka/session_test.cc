// Frames, order of answers, limits, closing: what every API has in common.
#include "codecs/kafka/session.h"

#include "codecs/kafka/api.h"
#include "codecs/kafka/limits.h"
#include "tests/kafka/harness.h"

namespace polylog::kafka::test {
namespace {

class SessionTest : public KafkaTest {};

TEST_F(SessionTest, TellsItsVersions) {
  auto response = ask<wire::ApiVersionsResponse>(wire::ApiVersionsRequest{"n", "v"}, 3);
  EXPECT_EQ(response.errorCode, 0);
  EXPECT_EQ(response.apiKeys.size(), apis().size());
  for (const auto& api : response.apiKeys) {
    ASSERT_NE(findApi(api.key), nullptr);
    EXPECT_LE(api.minVersion, api.maxVersion);
  }
  // KAFKA-18659: from 3, librdkafka would stop compressing.
  EXPECT_EQ(response.apiKeys[0].key, 0);
  EXPECT_EQ(response.apiKeys[0].minVersion, 0);
  EXPECT_TRUE(transport_->handshakeIsDone);
}

TEST_F(SessionTest, AnswersAnUnknownApiVersionsVersionInVersion0) {
  wire::Encoder out;
  out.u32(0);
  out.i16(18);
  out.i16(99);
  out.i32(5);
  out.string("c", false);
  out.bytes("what a later version may hold");
  out.patchU32(0, static_cast<uint32_t>(out.size() - 4));
  feed(out.view());
  auto response = receive<wire::ApiVersionsResponse>(5, 0);
  EXPECT_EQ(response.errorCode, 35);
  ASSERT_EQ(response.apiKeys.size(), 1U);
  EXPECT_EQ(response.apiKeys[0].key, 18);
  EXPECT_EQ(response.apiKeys[0].maxVersion, 4);
  EXPECT_FALSE(transport_->closed);
  EXPECT_EQ(ask<wire::ApiVersionsResponse>(wire::ApiVersionsRequest{}, 0).errorCode, 0);
}

TEST_F(SessionTest, ClosesForAnUnknownApi) {
  wire::Encoder out;
  out.u32(10);
  out.i16(999);
  out.i16(0);
  out.i32(1);
  out.i16(-1);
  feed(out.view());
  EXPECT_TRUE(transport_->closed);
  EXPECT_FALSE(transport_->handshakeIsDone);
}

TEST_F(SessionTest, ClosesForAnUnknownVersionOfAKnownApi) {
  send(wire::MetadataRequest{}, 99);
  EXPECT_TRUE(transport_->closed);
  EXPECT_EQ(transport_->sent, "");
}

TEST_F(SessionTest, ClosesForAMalformedRequest) {
  std::string frame = frameOf(wire::HeartbeatRequest{"g", 1, "m", {}}, 0, 1);
  frame.resize(frame.size() - 1);
  frame[3] = static_cast<char>(frame.size() - 4);
  feed(frame);
  EXPECT_TRUE(transport_->closed);
  EXPECT_TRUE(broker_.beats.empty());
}

TEST_F(SessionTest, ClosesForLengthsThatCanNotBe) {
  for (uint32_t length : {0U, 9U, 0x80000000U, 0xFFFFFFFFU}) {
    connect();
    wire::Encoder out;
    out.u32(length);
    feed(out.view());
    EXPECT_TRUE(transport_->closed) << length;
  }
}

TEST_F(SessionTest, TheFirstRequestIsSmall) {
  wire::Encoder out;
  out.u32(kMaxFirstRequest + 1);
  feed(out.view());
  EXPECT_TRUE(transport_->closed);

  connect();
  ask<wire::ApiVersionsResponse>(wire::ApiVersionsRequest{}, 0);
  feed(out.view());
  EXPECT_FALSE(transport_->closed);
  EXPECT_EQ(session_->wanted(), kMaxFirstRequest + 5);
}

TEST_F(SessionTest, RequestsAreLimitedAfterwardsToo) {
  ask<wire::ApiVersionsResponse>(wire::ApiVersionsRequest{}, 0);
  wire::Encoder out;
  out.u32(static_cast<uint32_t>(broker_.limit) + kRequestOverhead + 1);
  feed(out.view());
  EXPECT_TRUE(transport_->closed);
}

TEST_F(SessionTest, TakesFramesInPieces) {
  std::string frame = frameOf(wire::HeartbeatRequest{"g", 1, "m", {}}, 4, 1);
  for (char octet : frame) feed(BytesView(&octet, 1));
  run();
  EXPECT_EQ(broker_.beats.size(), 1U);
  EXPECT_EQ(receive<wire::HeartbeatResponse>(1, 4).errorCode, 0);
}

TEST_F(SessionTest, AnswersInTheOrderOfRequests) {
  broker_.hold = true;
  int32_t first = send(wire::HeartbeatRequest{"g", 1, "a", {}});
  int32_t second = send(wire::HeartbeatRequest{"g", 2, "b", {}});
  int32_t third = send(wire::ApiVersionsRequest{});
  EXPECT_EQ(broker_.beats.size(), 2U);
  EXPECT_EQ(transport_->sent, "");
  broker_.answerLast();
  EXPECT_EQ(transport_->sent, "");
  broker_.answerLast();
  receive<wire::HeartbeatResponse>(first);
  receive<wire::HeartbeatResponse>(second);
  receive<wire::ApiVersionsResponse>(third);
  EXPECT_EQ(transport_->sent, "");
}

TEST_F(SessionTest, PausesAtItsLimitOfRequestsAndGoesOn) {
  broker_.hold = true;
  for (size_t i = 0; i < kMaxWaitingRequests; ++i) send(wire::HeartbeatRequest{"g", 1, "a", {}});
  EXPECT_FALSE(transport_->paused);
  send(wire::HeartbeatRequest{"g", 1, "a", {}});
  EXPECT_TRUE(transport_->paused);
  EXPECT_EQ(broker_.beats.size(), kMaxWaitingRequests);
  broker_.answerFirst();
  EXPECT_FALSE(transport_->paused);
  run();
  EXPECT_EQ(broker_.beats.size(), kMaxWaitingRequests + 1);
}

TEST_F(SessionTest, PausesWhileThePeerDoesNotRead) {
  transport_->isCongested = true;
  send(wire::HeartbeatRequest{"g", 1, "a", {}});
  EXPECT_TRUE(transport_->paused);
  EXPECT_TRUE(broker_.beats.empty());
  transport_->isCongested = false;
  session_->onDrained();
  EXPECT_FALSE(transport_->paused);
  run();
  EXPECT_EQ(broker_.beats.size(), 1U);
}

TEST_F(SessionTest, AnswersThatComeAfterTheEndGoNowhere) {
  broker_.hold = true;
  send(wire::HeartbeatRequest{"g", 1, "a", {}});
  disconnect();
  broker_.answerFirst();
  EXPECT_EQ(transport_->sent, "");
}

TEST_F(SessionTest, ShutdownWaitsForAnswersUnderWay) {
  broker_.hold = true;
  int32_t id = send(wire::HeartbeatRequest{"g", 1, "a", {}});
  session_->onShutdown();
  EXPECT_FALSE(transport_->closed);
  broker_.answerFirst();
  receive<wire::HeartbeatResponse>(id);
  EXPECT_TRUE(transport_->closed);
}

TEST_F(SessionTest, ShutdownDoesNotWaitForEver) {
  broker_.hold = true;
  send(wire::HeartbeatRequest{"g", 1, "a", {}});
  session_->onShutdown();
  dispatcher_.advance(kShutdownMicros);
  EXPECT_TRUE(transport_->closed);
}

TEST_F(SessionTest, ShutdownOfAnIdleConnectionIsAtOnce) {
  session_->onShutdown();
  EXPECT_TRUE(transport_->closed);
}

TEST_F(SessionTest, ThePrincipalBearsTheClientsName) {
  broker_.addTopic("t");
  std::string batch = batchOf({"v"});
  feed(frameOf(produceRequest("t", batch), 9, 1, "a"));
  feed(frameOf(produceRequest("t", batch), 9, 2, "a"));
  feed(frameOf(produceRequest("t", batch), 9, 3, "b"));
  ASSERT_EQ(broker_.principals.size(), 3U);
  EXPECT_EQ(broker_.principals[0], broker_.principals[1]);
  EXPECT_EQ(broker_.principals[2]->clientId, "b");
  EXPECT_EQ(broker_.principals[2]->peer, "127.0.0.1:50123");
  EXPECT_EQ(broker_.principals[2]->protocol, Protocol::kKafka);
}

}  // namespace
}  // namespace polylog::kafka::test
