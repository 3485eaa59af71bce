#include "router/client_registry.h"

#include <gtest/gtest.h>

#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

struct Connection {
  std::unique_ptr<ConnectedClient> client;
  std::vector<ClientEnd> ends;
  std::string refused;
};

class ClientTest : public RouterFixture {
 protected:
  std::unique_ptr<Connection> come(const std::string& clientId, const std::string& user = "",
                                   const std::string& peer = "192.0.2.1:5", size_t worker = 0,
                                   Protocol protocol = Protocol::kMqtt) {
    auto connection = std::make_unique<Connection>();
    auto who = std::make_shared<const Principal>(Principal{user, clientId, peer, protocol});
    on(worker, [&] {
      auto admitted = router_->clients().admit(who, "5.0", [at = connection.get()](ClientEnd why) {
        at->ends.push_back(why);
        at->client = nullptr;
      });
      if (admitted) {
        connection->client = std::move(*admitted);
      } else {
        connection->refused = admitted.error().text;
      }
    });
    settle();
    return connection;
  }
  Result<> ban(BanKind kind, std::string what, int64_t seconds = 0, std::string reason = "") {
    Ban made{kind, std::move(what), 0, -1, std::move(reason), ""};
    if (seconds > 0) made.untilMs = clock_.wallMillis() + seconds * 1000;
    Result<> told = fail(ErrorKind::kInternal, "not called");
    on(0, [&] {
      router_->clients().ban(operator_, std::move(made), [&](Result<> result) { told = result; });
    });
    settle();
    return told;
  }
  Result<> unban(BanKind kind, std::string what) {
    Result<> told = fail(ErrorKind::kInternal, "not called");
    on(0, [&] {
      router_->clients().unban(operator_, kind, std::move(what),
                               [&](Result<> result) { told = result; });
    });
    settle();
    return told;
  }
  std::vector<ClientInfo> list(Clients::Query query = {}) {
    std::vector<ClientInfo> page;
    on(0, [&] {
      router_->clients().clients(operator_, query,
                                 [&](Result<std::vector<ClientInfo>> result) { page = *result; });
    });
    settle();
    return page;
  }

  PrincipalRef operator_ = std::make_shared<const Principal>(
      Principal{"", "admin", "", Protocol::kInternal, nullptr, nullptr, true});
};

TEST_F(ClientTest, ABanKeepsOutByClientIdUserAndAddress) {
  begin(2);
  ASSERT_TRUE(ban(BanKind::kClientId, "bad"));
  ASSERT_TRUE(ban(BanKind::kUser, "mallory", 0, "sold passwords"));
  ASSERT_TRUE(ban(BanKind::kAddress, "10.0.0.0/8"));
  ASSERT_TRUE(ban(BanKind::kAddress, "2001:db8::7"));
  EXPECT_TRUE(come("good")->client);
  EXPECT_FALSE(come("bad")->client);
  EXPECT_EQ(come("any", "mallory", "192.0.2.1:5", 1, Protocol::kKafka)->refused,
            "the user 'mallory' is banned: sold passwords");
  EXPECT_FALSE(come("a", "", "10.255.1.2:99", 1, Protocol::kAmqp)->client);
  EXPECT_TRUE(come("a", "", "11.0.0.1:99")->client);
  EXPECT_FALSE(come("a", "", "[2001:db8::7]:99")->client);
  EXPECT_TRUE(come("a", "", "[2001:db8::8]:99")->client);
  EXPECT_TRUE(come("a", "", "unix:/run/x")->client);
}

TEST_F(ClientTest, WhoIsThereIsCutOff) {
  begin(2);
  auto there = come("c", "", "10.1.1.1:1", 1);
  auto other = come("d", "", "192.0.2.1:1", 1);
  ASSERT_TRUE(ban(BanKind::kAddress, "10.0.0.0/8"));
  EXPECT_THAT(there->ends, ElementsAre(ClientEnd::kBanned));
  EXPECT_THAT(other->ends, IsEmpty());
  EXPECT_THAT(list(), SizeIs(1));
}

TEST_F(ClientTest, BansRunOutAreTakenBackAndSurviveACrash) {
  begin();
  ASSERT_TRUE(ban(BanKind::kClientId, "a", 10));
  ASSERT_TRUE(ban(BanKind::kClientId, "b"));
  ASSERT_TRUE(ban(BanKind::kAddress, "10.0.0.0/8"));
  crash();
  EXPECT_FALSE(come("a")->client);
  EXPECT_FALSE(come("x", "", "10.0.0.1:1")->client);
  EXPECT_TRUE(unban(BanKind::kAddress, "10.0.0.0/8"));
  EXPECT_TRUE(come("x", "", "10.0.0.1:1")->client);
  advance(11'000);
  EXPECT_TRUE(come("a")->client);
  EXPECT_EQ(unban(BanKind::kClientId, "a").error().kind, ErrorKind::kNotFound);
  ASSERT_TRUE(ban(BanKind::kUser, "u"));
  EXPECT_FALSE(store_->getState(storage::StateTable::kBan, std::string("\0a", 2)))
      << "what has run out goes at the next change";
  crash();
  EXPECT_FALSE(come("b")->client);
  EXPECT_TRUE(come("x", "", "10.0.0.1:1")->client);
}

TEST_F(ClientTest, ABanIsInForceOnlyOnceItIsDurable) {
  begin();
  Result<> told = fail(ErrorKind::kInternal, "not called");
  on(0, [&] {
    router_->clients().ban(operator_, Ban{BanKind::kClientId, "c", 0, -1, "", ""},
                           [&](Result<> result) { told = result; });
  });
  run();
  failWrites();
  EXPECT_EQ(told.error().kind, ErrorKind::kIo);
  EXPECT_TRUE(come("c")->client);
}

TEST_F(ClientTest, WhatNobodyCanBeIsRefused) {
  begin();
  EXPECT_EQ(ban(BanKind::kClientId, "").error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(ban(BanKind::kAddress, "example.org").error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(ban(BanKind::kAddress, "10.0.0.1/8").error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(ban(BanKind::kAddress, "10.0.0.0/33").error().kind, ErrorKind::kInvalid);
}

TEST_F(ClientTest, ListedInPagesAndKicked) {
  begin(2);
  std::vector<std::unique_ptr<Connection>> all;
  for (size_t i = 0; i < 5; ++i)
    all.push_back(come("c" + std::to_string(i % 3), "u", "h:1", i % 2));
  auto page = list({0, 3, "", ""});
  ASSERT_THAT(page, SizeIs(3));
  EXPECT_EQ(page[0].clientId, "c0");
  EXPECT_EQ(page[0].version, "5.0");
  EXPECT_EQ(page[0].connectedMs, clock_.wallMillis());
  EXPECT_THAT(list({page.back().id, 3, "", ""}), SizeIs(2));
  EXPECT_THAT(list({0, 10, "c1", ""}), SizeIs(2));
  auto kicked = on(0, [&] { return router_->clients().kick(operator_, "c1"); });
  settle();
  EXPECT_EQ(*kicked, 2U);
  EXPECT_THAT(all[1]->ends, ElementsAre(ClientEnd::kByOperator));
  EXPECT_THAT(all[4]->ends, ElementsAre(ClientEnd::kByOperator));
  EXPECT_THAT(list(), SizeIs(3));
}

TEST_F(ClientTest, ASubscribersBacklog) {
  begin(2);
  TestClient& reader = connect("reader", 100, 1);
  subscribe(reader, "t/#", kQos1);
  auto connection = come("reader", "", "h:1", 1);
  publish({{"t/a", "1", kQos1}, {"t/a", "2", kQos1}, {"t/a", "3", kQos1}});
  settle();
  ASSERT_THAT(take(reader, 2), SizeIs(2));
  auto page = list();
  ASSERT_THAT(page, SizeIs(1));
  EXPECT_EQ(page[0].waiting, 3);
  EXPECT_EQ(page[0].inFlight, 2);
  acknowledge(reader, 1);
  EXPECT_EQ(list()[0].inFlight, 1);
}

TEST_F(ClientTest, WhoConnectsTooOftenIsBannedForAWhile) {
  RouterOptions options;
  options.flapping = {3, 60'000, 120'000};
  begin(1, options);
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(come("c")->client) << "without a session";
  for (int i = 0; i < 3; ++i) connect("c");
  EXPECT_TRUE(come("c")->client);
  connect("d");
  auto fourth = come("c");
  connect("c");
  EXPECT_THAT(fourth->ends, ElementsAre(ClientEnd::kBanned));
  EXPECT_FALSE(come("c")->client);
  EXPECT_TRUE(come("d")->client);
  advance(121'000);
  EXPECT_TRUE(come("c")->client);
}

TEST_F(ClientTest, TheBrokersOwnBridgesDontFlap) {
  RouterOptions options;
  options.flapping = {3, 60'000, 120'000};
  begin(1, options);
  for (int i = 0; i < 10; ++i) connect("$bridge/north");
  EXPECT_TRUE(come("$bridge/north")->client);
}

TEST_F(ClientTest, SeldomEnoughIsNoFlapping) {
  RouterOptions options;
  options.flapping = {3, 10'000, 120'000};
  begin(1, options);
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(come("c")->client) << i;
    connect("c");
    advance(4'000);
  }
}

TEST_F(ClientTest, LongIdsAreToldApart) {
  RouterOptions options;
  options.flapping = {1, 60'000, 120'000};
  begin(1, options);
  const std::string one(1000, 'x');
  const std::string other = one + "y";
  connect(one);
  connect(other);
  EXPECT_TRUE(come(one)->client);
  connect(one);
  EXPECT_FALSE(come(one)->client);
  EXPECT_TRUE(come(other)->client);
}

TEST_F(ClientTest, NobodyWithoutRightsOnTheClusterSeesOrEndsAnybody) {
  RouterOptions options;
  options.access.denyByDefault = true;
  begin(1, options);
  auto nobody = principal("c");
  on(0, [&] {
    EXPECT_EQ(router_->clients().kick(nobody, "x").error().kind, ErrorKind::kUnauthorized);
    EXPECT_EQ(router_->clients().bans(nobody).error().kind, ErrorKind::kUnauthorized);
  });
}

}  // namespace
}  // namespace polylog::router
