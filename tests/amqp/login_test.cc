// Logins where there are users.
#include <gtest/gtest.h>

#include "tests/amqp/harness.h"
#include "tests/support/fake_authenticator.h"

namespace polylog::amqp {
namespace {

using namespace polylog::amqp::test;
using polylog::test::FakeAuthenticator;

struct Guarded : World {
  Guarded() {
    users.passwords["ann"] = "secret";
    options.authenticator = &users;
    options.allowAnonymous = false;
  }
  FakeAuthenticator users{dispatcher};
};

struct Guest : Client {
  explicit Guest(World& itsWorld, const std::string& user, const std::string& password)
      : Client(itsWorld) {
    response = std::string(1, '\0') + user + std::string(1, '\0') + password;
    clientProperties =
        tableOf({{"capabilities", Value{Table{{"authentication_failure_close", Value{true}}}}}});
    feed(kProtocolHeader);
    next<ConnectionStart>(0);
    send(startOk(), 0);
    run();
  }
  void expectRefused() {
    expectConnectionClosed(
        ReplyCode::kAccessRefused,
        "Login was refused using authentication mechanism PLAIN. For details see "
        "the broker logfile.");
  }
};

TEST(Login, TheRightPasswordAndNoOther) {
  Guarded world;
  Guest ann(world, "ann", "secret");
  ann.next<ConnectionTune>(0);
  Guest(world, "ann", "wrong").expectRefused();
  Guest(world, "bob", "secret").expectRefused();
  Guest(world, "guest", "guest").expectRefused();
}

TEST(Login, ExternalIsForWhomACertificateNames) {
  Guarded world;
  auto begin = [](Client& client) {
    client.clientProperties =
        tableOf({{"capabilities", Value{Table{{"authentication_failure_close", Value{true}}}}}});
    client.mechanism = "EXTERNAL";
    client.response = "";
    client.feed(kProtocolHeader);
    std::string offered(client.next<ConnectionStart>(0).mechanisms);
    client.send(client.startOk(), 0);
    client.run();
    return offered;
  };
  Client device(world);
  device.transport.certifiedAs("device-17");
  EXPECT_EQ(begin(device), "EXTERNAL AMQPLAIN PLAIN");
  device.next<ConnectionTune>(0);
  EXPECT_EQ(world.users.logins.back().lock()->user(), "device-17");

  Client stranger(world);
  EXPECT_EQ(begin(stranger), "AMQPLAIN PLAIN");
  stranger.expectConnectionClosed(ReplyCode::kCommandInvalid,
                                  "unknown authentication mechanism 'EXTERNAL'");

  Client refused(world);
  refused.transport.certifiedAs("*");
  begin(refused);
  refused.expectConnectionClosed(ReplyCode::kAccessRefused,
                                 "Login was refused using authentication mechanism EXTERNAL. For "
                                 "details see the broker logfile.");
}

TEST(Login, GuestIsNobodyWhereNobodyMayCome) {
  Guarded world;
  world.options.allowAnonymous = true;
  Guest guest(world, "guest", "guest");
  guest.next<ConnectionTune>(0);
  ConnectionOpen open;
  open.virtualHost = "/";
  guest.feed(methodFrame(0, guest.tuneOk()) + methodFrame(0, open));
  guest.run();
  guest.next<ConnectionOpenOk>(0);
  EXPECT_EQ(world.broker.queueClient->user, "");
}

TEST(Login, NothingIsReadMeanwhile) {
  Guarded world;
  Client client(world);
  client.response = std::string("\0ann\0secret", 11);
  client.feed(kProtocolHeader);
  client.next<ConnectionStart>(0);
  ConnectionOpen open;
  open.virtualHost = "/";
  client.feed(methodFrame(0, client.startOk()) + methodFrame(0, client.tuneOk()) +
              methodFrame(0, open));
  EXPECT_TRUE(client.transport.paused);
  client.run();
  client.next<ConnectionTune>(0);
  client.next<ConnectionOpenOk>(0);
  EXPECT_EQ(world.broker.queueClient->user, "ann");
}

TEST(Login, ADeletedUserIsCutOff) {
  Guarded world;
  Guest ann(world, "ann", "secret");
  ann.next<ConnectionTune>(0);
  ConnectionOpen open;
  open.virtualHost = "/";
  ann.feed(methodFrame(0, ann.tuneOk()) + methodFrame(0, open));
  ann.run();
  ann.next<ConnectionOpenOk>(0);
  world.users.logins.back().lock()->revoke();
  ann.run();
  ann.expectConnectionClosed(ReplyCode::kConnectionForced, "user 'ann' was deleted");
}

struct Tokens : Guarded {
  Tokens() {
    users.tokens["a.token.x"] = {"ann", 1000};
    users.tokens["newer.token.x"] = {"ann", 2000};
    users.tokens["bobs.token.x"] = {"bob", 2000};
  }
  /// A client that has come in with the first.
  std::unique_ptr<Guest> opened() {
    auto ann = std::make_unique<Guest>(*this, "", "a.token.x");
    ann->next<ConnectionTune>(0);
    ConnectionOpen open;
    open.virtualHost = "/";
    ann->feed(methodFrame(0, ann->tuneOk()) + methodFrame(0, open));
    ann->run();
    ann->next<ConnectionOpenOk>(0);
    EXPECT_EQ(broker.queueClient->user, "ann");
    return ann;
  }
  static void renew(Guest& guest, BytesView token) {
    ConnectionUpdateSecret renewal;
    renewal.newSecret = token;
    guest.send(renewal, 0);
    guest.run();
  }
};

TEST(Login, ATokenEndsTheConnectionWithIt) {
  Tokens world;
  auto ann = world.opened();
  world.users.logins.back().lock()->expire();
  ann->run();
  ann->expectConnectionClosed(ReplyCode::kConnectionForced, "the token has expired");
}

TEST(Login, ANewerTokenTakesItsPlace) {
  Tokens world;
  auto ann = world.opened();
  auto first = world.users.logins.back();
  Tokens::renew(*ann, "newer.token.x");
  ann->next<ConnectionUpdateSecretOk>(0);
  first.lock()->expire();
  ann->run();
  EXPECT_FALSE(ann->transport.closed);
  world.users.logins.back().lock()->expire();
  ann->run();
  ann->expectConnectionClosed(ReplyCode::kConnectionForced, "the token has expired");
}

TEST(Login, NobodyBecomesSomebodyElseByToken) {
  for (const char* token : {"bobs.token.x", "rubbish"}) {
    Tokens world;
    auto ann = world.opened();
    Tokens::renew(*ann, token);
    ann->expectConnectionClosed(ReplyCode::kNotAllowed,
                                "New secret was refused by one of the backends");
  }
}

}  // namespace
}  // namespace polylog::amqp
