// SASL, and what may be asked before it is through.
#include "tests/kafka/harness.h"
#include "tests/support/fake_authenticator.h"
#include "tests/support/scram_client.h"

namespace polylog::kafka {
namespace {

using polylog::test::FakeAuthenticator;
using polylog::test::ScramClient;

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
