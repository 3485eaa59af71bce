// SASL, and what may be asked before it is through.
#include "tests/kafka/harness.h"
#include "tests/support/fake_authenticator.h"
#include "tests/support/scram_client.h"

namespace polylog::kafka {
namespace {

using polylog::test::FakeAuthenticator;
using polylog::test::ScramClient;
using test::batchOf;
using test::frameOf;

class SaslTest : public test::KafkaTest {
 protected:
  SaslTest() { guarded(); }

  void guarded(int64_t reauthenticationMs = 0) {
    users_.passwords["ann"] = "secret";
    KafkaOptions options;
    options.authenticator = &users_;
    options.allowAnonymous = false;
    options.reauthenticationMs = reauthenticationMs;
    connect(options);
  }
  int16_t handshake(BytesView mechanism, int16_t version = 1) {
    wire::SaslHandshakeRequest request;
    request.mechanism = mechanism;
    return ask<wire::SaslHandshakeResponse>(request, version).errorCode;
  }
  wire::SaslAuthenticateResponse authenticate(BytesView token, int16_t version = 2) {
    wire::SaslAuthenticateRequest request;
    request.authBytes = token;
    return ask<wire::SaslAuthenticateResponse>(request, version);
  }
  wire::SaslAuthenticateResponse plain(const std::string& user, const std::string& password) {
    EXPECT_EQ(handshake("PLAIN"), 0);
    return authenticate(std::string(1, '\0') + user + std::string(1, '\0') + password);
  }
  bool serves() {
    ask<wire::ListGroupsResponse>(wire::ListGroupsRequest{});
    return !transport_->closed;
  }

  FakeAuthenticator users_{dispatcher_};
};

TEST_F(SaslTest, OnlyVersionsAreToldBeforeTheLogin) {
  EXPECT_FALSE(ask<wire::ApiVersionsResponse>(wire::ApiVersionsRequest{}).apiKeys.empty());
  EXPECT_FALSE(transport_->closed);
  EXPECT_FALSE(transport_->handshakeIsDone);
  send(wire::ListGroupsRequest{});
  run();
  EXPECT_TRUE(transport_->closed);
  EXPECT_TRUE(transport_->sent.empty());
}

TEST_F(SaslTest, Plain) {
  auto answer = plain("ann", "secret");
  EXPECT_EQ(answer.errorCode, 0) << std::string(answer.errorMessage.value_or(""));
  EXPECT_TRUE(transport_->handshakeIsDone);
  EXPECT_EQ(users_.clientIds.back(), "tester");
  EXPECT_TRUE(serves());
  auto wrong = [&](const std::string& user, const std::string& password) {
    guarded();
    auto refused = plain(user, password);
    EXPECT_EQ(refused.errorCode, 58);
    EXPECT_EQ(refused.errorMessage, "Authentication failed: Invalid username or password");
    EXPECT_TRUE(transport_->closed);
  };
  wrong("ann", "wrong");
  wrong("bob", "secret");
  wrong("", "secret");
  wrong("ann", "");
}

TEST_F(SaslTest, PlainSpeaksForNobodyElse) {
  EXPECT_EQ(handshake("PLAIN"), 0);
  EXPECT_EQ(authenticate(BytesView("bob\0ann\0secret", 14)).errorCode, 58);
}

TEST_F(SaslTest, Scram) {
  for (scram::Hash hash : {scram::Hash::kSha256, scram::Hash::kSha512}) {
    guarded();
    ScramClient client{"ann", "secret", hash};
    EXPECT_EQ(handshake(scram::mechanismName(hash)), 0);
    std::string first(authenticate(client.first()).authBytes);
    auto last = authenticate(client.last(first));
    EXPECT_EQ(last.errorCode, 0);
    EXPECT_EQ(last.authBytes, client.serverSignature);
    EXPECT_TRUE(serves());

    guarded();
    ScramClient wrong{"ann", "wrong", hash};
    EXPECT_EQ(handshake(scram::mechanismName(hash)), 0);
    std::string challenge(authenticate(wrong.first()).authBytes);
    EXPECT_EQ(authenticate(wrong.last(challenge)).errorCode, 58);
    EXPECT_TRUE(transport_->closed);
  }
}

TEST_F(SaslTest, RawTokensAfterVersion0) {
  EXPECT_EQ(handshake("PLAIN", 0), 0);
  wire::Encoder token;
  token.u32(11);
  token.bytes(BytesView("\0ann\0secret", 11));
  feed(token.view());
  run();
  EXPECT_EQ(transport_->takeSent(), std::string(4, '\0'));
  EXPECT_TRUE(serves());
}

TEST_F(SaslTest, OutOfOrderAndNotOffered) {
  EXPECT_EQ(authenticate("x").errorCode, 34);
  EXPECT_EQ(handshake("GSSAPI"), 33);
  connect();
  EXPECT_EQ(handshake("PLAIN"), 33) << "without users nobody logs in";
}

TEST_F(SaslTest, ALoginHoldsForItsTime) {
  guarded(10'000);
  auto answer = plain("ann", "secret");
  EXPECT_EQ(answer.sessionLifetimeMs, 10'000);
  clock_.advance(9'000'000);
  EXPECT_EQ(plain("ann", "secret").errorCode, 0);
  clock_.advance(9'000'000);
  EXPECT_TRUE(serves());
  clock_.advance(2'000'000);
  send(wire::ListGroupsRequest{});
  run();
  EXPECT_TRUE(transport_->closed);
}

TEST_F(SaslTest, NobodyBecomesSomebodyElse) {
  users_.passwords["bob"] = "secret";
  EXPECT_EQ(plain("ann", "secret").errorCode, 0);
  auto other = plain("bob", "secret");
  EXPECT_EQ(other.errorCode, 58);
  EXPECT_TRUE(transport_->closed);
}

TEST_F(SaslTest, AConnectionMayBeClosedWhileALoginIsJudged) {
  EXPECT_EQ(plain("ann", "secret").errorCode, 0);
  wire::SaslHandshakeRequest handshake;
  handshake.mechanism = "PLAIN";
  std::string batch = batchOf({"v"});
  wire::SaslAuthenticateRequest again;
  again.authBytes = BytesView("\0ann\0secret", 11);
  broker_.hold = true;
  feed(frameOf(handshake, 1, 101) + frameOf(produceRequest("gone", batch, 0), 9, 102) +
       frameOf(again, 2, 103));
  broker_.answerFirst();
  EXPECT_TRUE(transport_->closed) << "the only way to tell that it failed";
  run();
  EXPECT_EQ(users_.clientIds.size(), 2U) << "it was judged all the same";
}

TEST_F(SaslTest, TheEndOfAnEarlierLoginEndsNoLaterOne) {
  EXPECT_EQ(plain("ann", "secret").errorCode, 0);
  auto earlier = users_.logins.back().lock();
  EXPECT_EQ(plain("ann", "secret").errorCode, 0);
  earlier->revoke();
  run();
  EXPECT_TRUE(serves());
}

TEST_F(SaslTest, NothingIsReadAfterAFailedLogin) {
  EXPECT_EQ(plain("ann", "secret").errorCode, 0);
  broker_.hold = true;
  send(wire::HeartbeatRequest{"g", 1, "a", {}});
  wire::SaslHandshakeRequest handshake;
  handshake.mechanism = "PLAIN";
  send(handshake, 1);
  wire::SaslAuthenticateRequest wrong;
  wrong.authBytes = BytesView("\0ann\0wrong", 10);
  send(wrong, 2);
  run();
  send(wire::ApiVersionsRequest{});
  EXPECT_TRUE(transport_->paused);
  broker_.answerFirst();
  EXPECT_EQ(answersWaiting(), 3U);
  EXPECT_TRUE(transport_->closed);
}

TEST_F(SaslTest, ADeletedUserIsCutOff) {
  EXPECT_EQ(plain("ann", "secret").errorCode, 0);
  users_.logins.back().lock()->revoke();
  run();
  EXPECT_TRUE(transport_->closed);
}

TEST_F(SaslTest, ACertificateIsALogin) {
  transport_->certifiedAs("device-17");
  EXPECT_TRUE(serves());
  EXPECT_TRUE(transport_->handshakeIsDone);
  EXPECT_EQ(users_.logins.back().lock()->user(), "device-17");
  // Who logs in by SASL besides is that user from then on, and stays it.
  EXPECT_EQ(plain("ann", "secret").errorCode, 0);
  EXPECT_EQ(users_.logins.back().lock()->user(), "ann");
  users_.passwords["bob"] = "secret";
  EXPECT_EQ(plain("bob", "secret").errorCode, 58);

  guarded();
  transport_->certifiedAs("device-17");
  EXPECT_EQ(plain("ann", "wrong").errorCode, 58);
  EXPECT_TRUE(transport_->closed);

  guarded();
  transport_->certifiedAs("*");
  send(wire::ApiVersionsRequest{});
  run();
  EXPECT_TRUE(transport_->closed);
}

class BearerTest : public SaslTest {
 protected:
  static constexpr int64_t kMinute = 60'000;
  BearerTest() {
    users_.tokens["good.one.x"] = {"ann", clock_.wallMillis() + kMinute};
    users_.tokens["good.two.x"] = {"ann", clock_.wallMillis() + 2 * kMinute};
    users_.tokens["bobs.own.x"] = {"bob", clock_.wallMillis() + kMinute};
  }
  static std::string message(const std::string& token, const std::string& as = "",
                             const std::string& more = "") {
    return "n," + as +
           ",\x01"
           "auth=Bearer " +
           token + "\x01" + more + "\x01";
  }
  wire::SaslAuthenticateResponse bearer(const std::string& token) {
    EXPECT_EQ(handshake("OAUTHBEARER"), 0);
    return authenticate(message(token));
  }
};

TEST_F(BearerTest, IsOfferedWhereTokensAreTaken) {
  wire::SaslHandshakeRequest request;
  request.mechanism = "OAUTHBEARER";
  auto offered = ask<wire::SaslHandshakeResponse>(request, 1);
  EXPECT_EQ(offered.errorCode, 0);
  EXPECT_EQ(offered.mechanisms.back(), "OAUTHBEARER");
  users_.tokens.clear();
  guarded();
  offered = ask<wire::SaslHandshakeResponse>(request, 1);
  EXPECT_EQ(offered.errorCode, 33);
  EXPECT_EQ(offered.mechanisms.size(), 3U);
}

TEST_F(BearerTest, ATokenLogsInForAsLongAsItHolds) {
  auto answer = bearer("good.one.x");
  EXPECT_EQ(answer.errorCode, 0);
  EXPECT_EQ(answer.authBytes, "");
  EXPECT_EQ(answer.sessionLifetimeMs, kMinute);
  EXPECT_TRUE(serves());
  clock_.advance(50 * 1'000'000);
  answer = bearer("good.two.x");
  EXPECT_EQ(answer.errorCode, 0);
  EXPECT_EQ(answer.sessionLifetimeMs, 70'000);
  clock_.advance(20 * 1'000'000);
  EXPECT_TRUE(serves());
  clock_.advance(51 * 1'000'000);
  send(wire::ListGroupsRequest{});
  run();
  EXPECT_TRUE(transport_->closed) << "not logged in anew in time";
}

TEST_F(BearerTest, TheShorterOfBothTimesHolds) {
  guarded(10'000);
  EXPECT_EQ(bearer("good.one.x").sessionLifetimeMs, 10'000);
  guarded(10 * kMinute);
  EXPECT_EQ(bearer("good.one.x").sessionLifetimeMs, kMinute);
}

TEST_F(BearerTest, AnExpiredLoginIsClosedWhenNothingWaits) {
  EXPECT_EQ(bearer("good.one.x").errorCode, 0);
  users_.logins.back().lock()->expire();
  run();
  EXPECT_TRUE(transport_->closed);
}

TEST_F(BearerTest, WhatIsUnderWayWhenALoginExpiresIsAnsweredAndNoMore) {
  EXPECT_EQ(bearer("good.one.x").errorCode, 0);
  broker_.addTopic("t");
  int32_t first = send(fetchRequest("t", 0, 100'000), 11);
  send(fetchRequest("t", 0, 100'000), 11);
  run();
  clock_.advance(kMinute * 1000);
  users_.logins.back().lock()->expire();
  run();
  receive<wire::FetchResponse>(first, 11);
  EXPECT_EQ(answersWaiting(), 0U);
  EXPECT_EQ(broker_.fetches, 1U);
  EXPECT_TRUE(transport_->closed);
}

TEST_F(BearerTest, ARefusalIsToldAndConfirmed) {
  auto told = bearer("bad.one.x");
  EXPECT_EQ(told.errorCode, 0);
  EXPECT_EQ(told.authBytes, R"({"status":"invalid_token"})");
  EXPECT_FALSE(transport_->closed);
  auto refused = authenticate("\x01");
  EXPECT_EQ(refused.errorCode, 58);
  EXPECT_EQ(refused.errorMessage, R"({"status":"invalid_token"})");
  EXPECT_TRUE(transport_->closed);
}

TEST_F(BearerTest, NobodyBecomesSomebodyElseByToken) {
  EXPECT_EQ(bearer("good.one.x").errorCode, 0);
  EXPECT_EQ(bearer("bobs.own.x").errorCode, 58);
  EXPECT_TRUE(transport_->closed);
}

TEST_F(BearerTest, MessagesAsRfc7628HasThem) {
  auto codeOf = [&](const std::string& text) {
    guarded();
    EXPECT_EQ(handshake("OAUTHBEARER"), 0);
    return authenticate(text).errorCode;
  };
  EXPECT_EQ(codeOf(message("good.one.x", "a=ann")), 0);
  EXPECT_EQ(codeOf(message("good.one.x", "", "traceId=7\x01")), 0) << "extensions";
  EXPECT_EQ(codeOf(message("good.one.x", "a=bob")), 58) << "speaks for another";
  for (const std::string& bad :
       {std::string(), std::string("n,,"), std::string("n,,\x01\x01"), message(""),
        message("good.one.x").substr(1), message("good.one.x", "bob"), message("good.one.x") + "x",
        message("go\x02od"),
        std::string("y,,\x01"
                    "auth=Bearer good.one.x\x01\x01"),
        std::string("n,,\x01"
                    "auth=Basic good.one.x\x01\x01"),
        std::string("n,,\x01"
                    "auth=Bearer good.one.x\x01")}) {
    EXPECT_EQ(codeOf(bad), 58) << bad;
  }
}

TEST_F(SaslTest, WithoutAccessControlThereAreNoRules) {
  connect();
  wire::DescribeAclsRequest request;
  request.resourceType = request.patternType = request.operation = request.permissionType = 1;
  EXPECT_EQ(ask<wire::DescribeAclsResponse>(request).errorCode, 54);
  EXPECT_EQ(
      ask<wire::DescribeUserScramCredentialsResponse>(wire::DescribeUserScramCredentialsRequest{})
          .errorCode,
      54);
}

}  // namespace
}  // namespace polylog::kafka
