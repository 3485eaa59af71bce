// CONNECT with a user and a password, and AUTH (MQTT 5, 4.12).
#include <gtest/gtest.h>

#include "tests/mqtt/harness.h"
#include "tests/support/fake_authenticator.h"
#include "tests/support/scram_client.h"

namespace polylog::mqtt {
namespace {

using namespace polylog::mqtt::test;
using polylog::test::FakeAuthenticator;
using polylog::test::ScramClient;

struct Guarded : World {
  Guarded() {
    users.passwords["ann"] = "secret";
    options.authenticator = &users;
    options.allowAnonymous = false;
  }
  FakeAuthenticator users{dispatcher};
};

ConnectPacket connectAs(std::optional<BytesView> user, std::optional<BytesView> password) {
  ConnectPacket packet;
  packet.clientId = "c1";
  packet.username = user;
  packet.password = password;
  return packet;
}

constexpr Version k5 = Version::k5, k3 = Version::k311;

TEST(Authentication, TheRightPasswordAndNoOther) {
  for (Version version : {k3, k5}) {
    const bool five = version == k5;
    auto codeOf = [&](std::optional<BytesView> user, std::optional<BytesView> password) {
      Guarded world;
      Client client(world, version);
      auto answer = client.connect(connectAs(user, password));
      EXPECT_EQ(client.transport.closed, answer.code != 0);
      EXPECT_EQ(client.transport.handshakeIsDone, answer.code == 0);
      EXPECT_EQ(world.broker.sessions.contains("c1"), answer.code == 0);
      return answer.code;
    };
    EXPECT_EQ(codeOf("ann", "secret"), 0);
    EXPECT_EQ(codeOf("ann", "wrong"), five ? 0x86 : 4);
    EXPECT_EQ(codeOf("ann", std::nullopt), five ? 0x86 : 4);
    EXPECT_EQ(codeOf("bob", "secret"), five ? 0x86 : 4);
    EXPECT_EQ(codeOf(std::nullopt, std::nullopt), five ? 0x87 : 5);
  }
}

TEST(Authentication, WhatFollowsConnectWaitsForThePassword) {
  Guarded world;
  Client client(world);
  client.feed(client.encoded(connectAs("ann", "secret")) +
              client.encoded(publishOf("a", "1", 1, 7)));
  EXPECT_TRUE(client.transport.paused);
  EXPECT_FALSE(client.input.empty());
  client.run();
  auto packets = client.packets();
  ASSERT_EQ(packets.size(), 2U);
  EXPECT_TRUE(std::holds_alternative<ConnackPacket>(packets[0]));
  EXPECT_TRUE(std::holds_alternative<AckPacket>(packets[1]));
}

TEST(Authentication, ACertificateIsALogin) {
  for (Version version : {k3, k5}) {
    auto userOf = [&](std::optional<BytesView> user, std::optional<BytesView> password) {
      Guarded world;
      Client client(world, version);
      client.transport.certifiedAs("device-17");
      auto answer = client.connect(connectAs(user, password));
      return answer.code == 0 ? world.users.logins.back().lock()->user() : "refused";
    };
    EXPECT_EQ(userOf(std::nullopt, std::nullopt), "device-17");
    EXPECT_EQ(userOf("anything", std::nullopt), "device-17") << "a user name alone says nothing";
    EXPECT_EQ(userOf("ann", "secret"), "ann") << "who gives a password logs in by it";
    EXPECT_EQ(userOf("ann", "wrong"), "refused");
  }
  Guarded world;
  Client client(world);
  client.transport.certifiedAs("*");
  EXPECT_EQ(client.connect(connectAs(std::nullopt, std::nullopt)).code, 0x87);
}

TEST(Authentication, AWillIsOfWhoHasLoggedIn) {
  Guarded world;
  const std::string texts[] = {"publish will -> of/%u/gone"};
  world.options.rewrites = *mapping::TopicRewrites::parse(texts);
  world.options.mountPoint = "users/%u/";
  Client client(world);
  client.transport.certifiedAs("device-17");
  ConnectPacket packet = connectAs("ann", std::nullopt);
  packet.will = WillFields{"$delayed/3/will", "gone", 0, false, {}};
  EXPECT_EQ(client.connect(packet).code, 0);
  ASSERT_TRUE(client.broker().options.will);
  const Will& will = *client.broker().options.will;
  EXPECT_EQ(will.topic, "users");
  EXPECT_EQ(will.key, "device-17/of/device-17/gone");
  EXPECT_EQ(will.storedKey, will.key);
  EXPECT_EQ(will.publishDelaySeconds, 3U);
}

TEST(Authentication, NobodyWhereNobodyMayCome) {
  Guarded world;
  world.options.allowAnonymous = true;
  Client client(world);
  EXPECT_EQ(client.connect(connectAs(std::nullopt, std::nullopt)).code, 0);
}

TEST(Authentication, TooManyAtOnceIsToldAsSuch) {
  Guarded world;
  world.users.busy = true;
  Client five(world);
  EXPECT_EQ(five.connect(connectAs("ann", "secret")).code, 0x89);
  Client three(world, k3);
  EXPECT_EQ(three.connect(connectAs("ann", "secret")).code, 3);
}

TEST(Authentication, AClientThatGoesMeanwhileIsNotMissed) {
  Guarded world;
  Client client(world);
  client.send(connectAs("ann", "secret"));
  client.drop("gone");
  world.dispatcher.runAll();
  EXPECT_FALSE(world.broker.sessions.contains("c1"));
}

TEST(Authentication, ADeletedUserIsDisconnected) {
  Guarded world;
  Client client(world);
  EXPECT_EQ(client.connect(connectAs("ann", "secret")).code, 0);
  world.users.logins.back().lock()->revoke();
  client.run();
  client.expectClosed(ReasonCode::kNotAuthorized);
}

TEST(Authentication, ATokenIsAPasswordAndEndsTheConnectionWithIt) {
  for (Version version : {k3, k5}) {
    Guarded world;
    world.users.tokens["a.token.x"] = {"ann", 1000};
    Client client(world, version);
    EXPECT_EQ(client.connect(connectAs("anything", "a.token.x")).code, 0);
    EXPECT_EQ(world.users.logins.back().lock()->user(), "ann");
    EXPECT_EQ(world.users.clientIds.back(), "c1");
    world.users.logins.back().lock()->expire();
    client.run();
    EXPECT_TRUE(client.transport.closed);
    if (version == k5) client.expectClosed(ReasonCode::kNotAuthorized);
  }
  // MQTT 5 may leave the user name out; that is no reason to take it for nobody.
  Guarded world;
  world.options.allowAnonymous = true;
  world.users.tokens["a.token.x"] = {"ann", 1000};
  Client client(world);
  EXPECT_EQ(client.connect(connectAs(std::nullopt, "a.token.x")).code, 0);
  EXPECT_EQ(world.users.logins.back().lock()->user(), "ann");
}

/// A client that speaks SCRAM in AUTH packets.
struct Enhanced {
  explicit Enhanced(Guarded& world, std::string password = "secret")
      : client(world), scram{"ann", std::move(password)} {}

  std::string begin() {
    ConnectPacket packet;
    packet.clientId = "c1";
    first = scram.first();
    packet.properties.add(PropertyId::kAuthenticationMethod, "SCRAM-SHA-256");
    packet.properties.add(PropertyId::kAuthenticationData, BytesView(first));
    client.sendAndRun(packet);
    return challenge();
  }
  std::string challenge() {
    auto auth = client.next<AuthPacket>();
    EXPECT_EQ(auth.code, ReasonCode::kContinueAuthentication);
    EXPECT_EQ(auth.properties.text(PropertyId::kAuthenticationMethod), "SCRAM-SHA-256");
    return std::string(auth.properties.text(PropertyId::kAuthenticationData).value_or(""));
  }
  void auth(ReasonCode code, const std::string& data, BytesView method = "SCRAM-SHA-256") {
    AuthPacket packet;
    packet.code = code;
    packet.properties.add(PropertyId::kAuthenticationMethod, method);
    packet.properties.add(PropertyId::kAuthenticationData, BytesView(data));
    client.sendAndRun(packet);
  }
  ConnackPacket connect() {
    auth(ReasonCode::kContinueAuthentication, scram.last(begin()));
    return client.next<ConnackPacket>();
  }

  Client client;
  ScramClient scram;
  std::string first;
};

struct Tokens : Guarded {
  Tokens() {
    users.tokens["one"] = {"ann", 1000};
    users.tokens["two"] = {"ann", 2000};
    users.tokens["bobs"] = {"bob", 2000};
  }
  static ConnectPacket connectBy(BytesView method, BytesView data) {
    ConnectPacket packet = connectAs(std::nullopt, std::nullopt);
    packet.properties.add(PropertyId::kAuthenticationMethod, method);
    packet.properties.add(PropertyId::kAuthenticationData, data);
    return packet;
  }
  static AuthPacket auth(ReasonCode code, BytesView method, BytesView data) {
    AuthPacket packet;
    packet.code = code;
    packet.properties.add(PropertyId::kAuthenticationMethod, method);
    packet.properties.add(PropertyId::kAuthenticationData, data);
    return packet;
  }
};
constexpr BytesView kJwt = "OAUTH2-JWT", kBearer = "OAUTHBEARER";

TEST(Authentication, ATokenInConnectsAuthenticationData) {
  auto codeOf = [](BytesView method, BytesView data) {
    Tokens world;
    Client client(world);
    return client.connect(Tokens::connectBy(method, data)).code;
  };
  EXPECT_EQ(codeOf(kJwt, "one"), 0);
  EXPECT_EQ(codeOf(kBearer,
                   "n,,\x01"
                   "auth=Bearer one\x01\x01"),
            0);
  EXPECT_EQ(codeOf(kBearer,
                   "n,a=bob,\x01"
                   "auth=Bearer one\x01\x01"),
            0x87);
  EXPECT_EQ(codeOf(kJwt, "none"), 0x87);
  EXPECT_EQ(codeOf(kJwt, ""), 0x87);
  Guarded without;  // where no tokens are taken
  Client client(without);
  EXPECT_EQ(client.connect(Tokens::connectBy(kJwt, "one")).code, 0x8C);
}

TEST(Authentication, ANewerTokenTakesTheOlderOnesPlace) {
  Tokens world;
  Client client(world);
  ASSERT_EQ(client.connect(Tokens::connectBy(kJwt, "one")).code, 0);
  client.sendAndRun(Tokens::auth(ReasonCode::kReAuthenticate, kJwt, "two"));
  EXPECT_EQ(client.next<AuthPacket>().code, ReasonCode::kSuccess);
  world.users.logins[0].lock()->expire();
  EXPECT_FALSE(client.transport.closed) << "the older one's end is no end";
  world.users.logins[1].lock()->expire();
  EXPECT_EQ(client.next<DisconnectPacket>().code, ReasonCode::kNotAuthorized);
}

TEST(Authentication, ANewerTokenIsTakenOnceTheSessionGoesByIt) {
  for (bool fails : {false, true}) {
    Tokens world;
    Client client(world);
    ASSERT_EQ(client.connect(Tokens::connectBy(kJwt, "one")).code, 0);
    if (fails) world.broker.sessionError = Error{ErrorKind::kNoSpace, "full"};
    client.sendAndRun(Tokens::auth(ReasonCode::kReAuthenticate, kJwt, "two"));
    EXPECT_EQ(world.broker.sessions.begin()->second->loginsRenewed, 1);
    if (fails) {
      EXPECT_EQ(client.next<DisconnectPacket>().code, ReasonCode::kUnspecifiedError);
    } else {
      EXPECT_EQ(client.next<AuthPacket>().code, ReasonCode::kSuccess);
    }
  }
}

TEST(Authentication, ATokenThatWontDoEndsTheConnection) {
  struct Wrong {
    ReasonCode code;
    BytesView method, data;
    ReasonCode end;
  };
  for (const Wrong& wrong :
       {Wrong{ReasonCode::kReAuthenticate, kJwt, "bobs", ReasonCode::kNotAuthorized},
        Wrong{ReasonCode::kReAuthenticate, kJwt, "none", ReasonCode::kNotAuthorized},
        Wrong{ReasonCode::kReAuthenticate, kBearer, "two", ReasonCode::kProtocolError},
        Wrong{ReasonCode::kContinueAuthentication, kJwt, "two", ReasonCode::kProtocolError}}) {
    Tokens world;
    Client client(world);
    ASSERT_EQ(client.connect(Tokens::connectBy(kJwt, "one")).code, 0);
    client.sendAndRun(Tokens::auth(wrong.code, wrong.method, wrong.data));
    EXPECT_EQ(client.next<DisconnectPacket>().code, wrong.end) << wrong.data;
  }
  // Two at once.
  Tokens world;
  Client client(world);
  ASSERT_EQ(client.connect(Tokens::connectBy(kJwt, "one")).code, 0);
  client.feed(client.encoded(Tokens::auth(ReasonCode::kReAuthenticate, kJwt, "two")) +
              client.encoded(Tokens::auth(ReasonCode::kReAuthenticate, kJwt, "two")));
  EXPECT_EQ(client.next<DisconnectPacket>().code, ReasonCode::kProtocolError);
}

TEST(Authentication, ScramInAuthPackets) {
  Guarded world;
  Enhanced one(world);
  const std::string challenge = one.begin();
  EXPECT_FALSE(one.client.transport.handshakeIsDone);
  one.auth(ReasonCode::kContinueAuthentication, one.scram.last(challenge));
  auto connack = one.client.next<ConnackPacket>();
  EXPECT_EQ(connack.code, 0);
  EXPECT_EQ(connack.properties.text(PropertyId::kAuthenticationMethod), "SCRAM-SHA-256");
  EXPECT_EQ(connack.properties.text(PropertyId::kAuthenticationData), one.scram.serverSignature);
  EXPECT_TRUE(one.client.transport.handshakeIsDone);
}

TEST(Authentication, ScramRefused) {
  Guarded world;
  Enhanced wrong(world, "wrong");
  EXPECT_EQ(wrong.connect().code, 0x87);
  EXPECT_TRUE(wrong.client.transport.closed);

  Enhanced malformed(world);
  malformed.begin();
  malformed.auth(ReasonCode::kContinueAuthentication, "nonsense");
  EXPECT_EQ(malformed.client.next<ConnackPacket>().code, 0x82);

  Enhanced impatient(world);
  impatient.begin();
  impatient.client.sendAndRun(publishOf("a", "1"));
  EXPECT_TRUE(impatient.client.transport.closed);
  EXPECT_FALSE(world.broker.sessions.contains("c1"));

  Enhanced other(world);
  other.begin();
  other.auth(ReasonCode::kContinueAuthentication, "x", "SCRAM-SHA-512");
  EXPECT_EQ(other.client.next<ConnackPacket>().code, 0x82);
}

TEST(Authentication, AuthenticatesAnewWhileItIsConnected) {
  Guarded world;
  Enhanced one(world);
  ASSERT_EQ(one.connect().code, 0);
  one.auth(ReasonCode::kReAuthenticate, one.scram.first());
  one.auth(ReasonCode::kContinueAuthentication, one.scram.last(one.challenge()));
  auto done = one.client.next<AuthPacket>();
  EXPECT_EQ(done.code, ReasonCode::kSuccess);
  EXPECT_EQ(done.properties.text(PropertyId::kAuthenticationData), one.scram.serverSignature);
  EXPECT_FALSE(one.client.transport.closed);
  EXPECT_TRUE(world.users.logins.at(0).lock()) << "of whom the principal is: it may be revoked yet";

  one.scram.password = "wrong";
  one.auth(ReasonCode::kReAuthenticate, one.scram.first());
  one.auth(ReasonCode::kContinueAuthentication, one.scram.last(one.challenge()));
  one.client.expectClosed(ReasonCode::kNotAuthorized);
}

TEST(Authentication, ADeletedUserIsDisconnectedAfterThatToo) {
  Guarded world;
  Enhanced one(world);
  ASSERT_EQ(one.connect().code, 0);
  for (int i = 0; i < 2; ++i) {
    one.auth(ReasonCode::kReAuthenticate, one.scram.first());
    one.auth(ReasonCode::kContinueAuthentication, one.scram.last(one.challenge()));
    EXPECT_EQ(one.client.next<AuthPacket>().code, ReasonCode::kSuccess);
  }
  world.users.logins.back().lock()->revoke();
  one.client.expectClosed(ReasonCode::kNotAuthorized);
}

TEST(Authentication, NotAsAnotherUserNorWithoutAMethod) {
  Guarded world;
  world.users.passwords["bob"] = "secret";
  Enhanced one(world);
  ASSERT_EQ(one.connect().code, 0);
  one.scram.user = "bob";
  one.auth(ReasonCode::kReAuthenticate, one.scram.first());
  one.auth(ReasonCode::kContinueAuthentication, one.scram.last(one.challenge()));
  one.client.expectClosed(ReasonCode::kNotAuthorized);

  Enhanced plain(world);
  EXPECT_EQ(plain.client.connect(connectAs("ann", "secret")).code, 0);
  plain.auth(ReasonCode::kReAuthenticate, plain.scram.first());
  plain.client.expectClosed(ReasonCode::kProtocolError);
}

}  // namespace
}  // namespace polylog::mqtt
