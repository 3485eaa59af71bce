// Users, logins and rules as a router has them: durable, in force for every way in and out.
#include <gtest/gtest.h>

#include "router/login_throttle.h"
#include "tests/router/router_fixture.h"
#include "tests/support/scram_client.h"

namespace polylog::router {
namespace {

class AccessTest : public RouterFixture {
 protected:
  static PrincipalRef trusted() {
    auto made = std::make_shared<Principal>();
    made->trusted = true;
    return made;
  }
  static PrincipalRef user(const std::string& name, Protocol protocol = Protocol::kMqtt) {
    return std::make_shared<const Principal>(Principal{name, "c", "127.0.0.1:1", protocol});
  }
  AccessControl& access() { return router_->access(); }

  Result<> setPassword(const std::string& name, const std::string& password,
                       PasswordChange how = PasswordChange::kNewUser,
                       PrincipalRef who = trusted()) {
    Result<> result = fail(ErrorKind::kInternal, "not called");
    on(0, [&] {
      access().setPassword(who, name, password, how, [&](Result<> r) { result = std::move(r); });
    });
    settle();
    return result;
  }
  Result<> deleteUser(const std::string& name) {
    Result<> result = fail(ErrorKind::kInternal, "not called");
    on(0,
       [&] { access().deleteUser(trusted(), name, [&](Result<> r) { result = std::move(r); }); });
    settle();
    return result;
  }
  Result<LoginRef> login(const std::string& name, const std::string& password,
                         bool allowAnonymous = false, bool conventional = false) {
    Result<LoginRef> result = fail(ErrorKind::kInternal, "not called");
    on(0, [&] {
      router_->authenticator().admit({Protocol::kMqtt, "10.0.0.1:5", allowAnonymous},
                                     {name, password, conventional},
                                     [&](Result<LoginRef> r) { result = std::move(r); });
    });
    settle();
    return result;
  }
  Result<> addRule(AccessRule rule, PrincipalRef who = trusted()) {
    Result<> result = fail(ErrorKind::kInternal, "not called");
    on(0, [&] {
      access().addRules(who, {std::move(rule)}, [&](Result<std::vector<Result<>>> r) {
        result = r ? r->front() : Result<>(std::unexpected(r.error()));
      });
    });
    settle();
    return result;
  }
  static AccessRule rule(bool allow, const std::string& name, Operation operation,
                         const std::string& topic, PatternKind pattern = PatternKind::kLiteral) {
    return {allow, name, "*", ResourceKind::kTopic, pattern, topic, operation};
  }
  std::optional<Error> publishAs(const std::string& name, const std::string& address) {
    std::optional<Error> error;
    Publish publish;
    publish.address = addressOf(address);
    publish.topic = publish.address.topic;
    publish.record.key = publish.address.key;
    publish.record.value = "v";
    publish.record.guarantee = kQos1;
    on(0, [&] {
      router_->publish(user(name), nullptr, {&publish, 1},
                       [&](std::vector<PublishResult> results) { error = results.front().error; });
    });
    settle();
    return error;
  }
  TestClient& connectAs(const std::string& name, const std::string& id, uint32_t expiry = 0) {
    TestClient& client = newClient(id);
    on(0, [&] {
      auto who =
          std::make_shared<const Principal>(Principal{name, id, "127.0.0.1:1", Protocol::kMqtt});
      router_->openSession(who, {id, false, expiry}, &client,
                           [&client](Result<std::shared_ptr<SubscriberSession>> result) {
                             if (result) {
                               client.session = *result;
                             } else {
                               client.error = result.error();
                             }
                           });
    });
    settle();
    return client;
  }
};

TEST_F(AccessTest, AUserLogsInWithItsPasswordOnly) {
  begin();
  ASSERT_TRUE(setPassword("ann", "secret").has_value());
  auto right = login("ann", "secret");
  ASSERT_TRUE(right.has_value());
  EXPECT_EQ((*right)->user(), "ann");
  EXPECT_EQ(login("ann", "Secret").error().kind, ErrorKind::kUnauthorized);
  EXPECT_EQ(login("ann", "").error().kind, ErrorKind::kUnauthorized);
  EXPECT_EQ(login("bob", "secret").error().kind, ErrorKind::kUnauthorized);
  EXPECT_EQ(login("", "").error().kind, ErrorKind::kUnauthorized);
  // Known again without a derivation, and only as long as it is the password.
  EXPECT_TRUE(login("ann", "secret").has_value());
  ASSERT_TRUE(setPassword("ann", "other", PasswordChange::kExistingUser).has_value());
  EXPECT_FALSE(login("ann", "secret").has_value());
  EXPECT_TRUE(login("ann", "other").has_value());
}

TEST_F(AccessTest, NamesPasswordsAndRepeatsAreChecked) {
  begin();
  EXPECT_EQ(setPassword("", "x").error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(setPassword("*", "x").error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(setPassword("ANONYMOUS", "x").error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(setPassword("a\nb", "x").error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(setPassword("ann", "").error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(setPassword("ann", "x", PasswordChange::kExistingUser).error().kind,
            ErrorKind::kNotFound);
  ASSERT_TRUE(setPassword("ann", "x").has_value());
  EXPECT_EQ(setPassword("ann", "y").error().kind, ErrorKind::kAlreadyExists);
  EXPECT_EQ(deleteUser("bob").error().kind, ErrorKind::kNotFound);
}

TEST_F(AccessTest, NobodyIsAdmittedWhereNobodyMayCome) {
  begin();
  // Without users, names mean nothing.
  auto anybody = login("whoever", "x", true);
  ASSERT_TRUE(anybody.has_value());
  EXPECT_EQ((*anybody)->user(), "");
  EXPECT_FALSE(login("whoever", "x").has_value());
  ASSERT_TRUE(setPassword("ann", "secret").has_value());
  EXPECT_FALSE(login("whoever", "x", true).has_value());
  EXPECT_TRUE(login("", "", true).has_value());
  EXPECT_TRUE(login("guest", "guest", true, true).has_value());
  EXPECT_FALSE(login("guest", "guest", false, true).has_value());
  // A user of that name is one like others.
  ASSERT_TRUE(setPassword("guest", "own").has_value());
  EXPECT_FALSE(login("guest", "guest", true, true).has_value());
}

TEST_F(AccessTest, UsersAndRulesOutliveACrashOnceTheyWereAcknowledged) {
  options_.access.denyByDefault = true;
  begin(2, options_);
  ASSERT_TRUE(setPassword("ann", "secret").has_value());
  ASSERT_TRUE(addRule(rule(true, "ann", Operation::kWrite, "t")).has_value());
  ASSERT_TRUE(setPassword("gone", "secret").has_value());
  ASSERT_TRUE(deleteUser("gone").has_value());
  // Not durable: not in force either.
  bool told = false;
  on(0, [&] {
    access().addRules(trusted(), {rule(true, "bob", Operation::kWrite, "t")},
                      [&](const Result<std::vector<Result<>>>&) { told = true; });
  });
  run();
  EXPECT_FALSE(told);
  on(0, [&] {
    EXPECT_FALSE(access().permits(user("bob"), Operation::kWrite, ResourceKind::kTopic, "t"));
  });
  crash();
  EXPECT_TRUE(login("ann", "secret").has_value());
  EXPECT_FALSE(login("gone", "secret").has_value());
  EXPECT_EQ(publishAs("ann", "t/x"), std::nullopt);
  auto rules = on(0, [&] { return access().rules(trusted()); });
  ASSERT_TRUE(rules.has_value());
  EXPECT_EQ(rules->size(), 1U);
}

TEST_F(AccessTest, AChangeThatTheDiskRefusesIsNotInForce) {
  begin();
  Result<> result;
  on(0, [&] {
    access().setPassword(trusted(), "ann", "secret", PasswordChange::kNewUser,
                         [&](Result<> r) { result = std::move(r); });
  });
  run();
  failWrites();
  EXPECT_EQ(result.error().kind, ErrorKind::kIo);
  EXPECT_FALSE(login("ann", "secret").has_value());
  // The next one goes on.
  EXPECT_TRUE(setPassword("ann", "secret").has_value());
  EXPECT_TRUE(login("ann", "secret").has_value());
}

TEST_F(AccessTest, ADeletedUserIsCutOff) {
  begin();
  ASSERT_TRUE(setPassword("ann", "secret").has_value());
  auto first = login("ann", "secret");
  ASSERT_TRUE(first.has_value());
  int told = 0;
  on(0, [&] { (*first)->onEnd([&](LoginEnd) { ++told; }); });
  auto who = std::make_shared<Principal>(*user("ann"));
  who->revoked = (*first)->revoked();
  EXPECT_TRUE(access().permits(who, Operation::kWrite, ResourceKind::kTopic, "t"));
  ASSERT_TRUE(deleteUser("ann").has_value());
  EXPECT_EQ(told, 1);
  EXPECT_FALSE(access().permits(who, Operation::kWrite, ResourceKind::kTopic, "t"));
  // Who comes back under the name is another.
  ASSERT_TRUE(setPassword("ann", "secret").has_value());
  EXPECT_FALSE(access().permits(who, Operation::kWrite, ResourceKind::kTopic, "t"));
}

TEST_F(AccessTest, Scram) {
  begin();
  ASSERT_TRUE(setPassword("ann", "secret").has_value());
  for (scram::Hash hash : {scram::Hash::kSha256, scram::Hash::kSha512}) {
    auto tries = [&](const std::string& name, const std::string& password) {
      return on(0, [&]() -> Result<std::string> {
        test::ScramClient client{name, password, hash};
        auto server = router_->authenticator().scram({Protocol::kKafka, "10.0.0.1:5", false}, hash);
        auto challenge = server->begin(client.first());
        if (!challenge) return std::unexpected(challenge.error());
        auto finished = server->finish(client.last(*challenge));
        if (!finished) return std::unexpected(finished.error());
        EXPECT_EQ(finished->serverFinal, client.serverSignature);
        return finished->login->user();
      });
    };
    EXPECT_EQ(tries("ann", "secret").value_or(""), "ann");
    EXPECT_EQ(tries("ann", "wrong").error().kind, ErrorKind::kUnauthorized);
    // One that isn't there is asked for a proof like any other.
    EXPECT_EQ(tries("bob", "secret").error().kind, ErrorKind::kUnauthorized);
  }
}

TEST_F(AccessTest, CredentialsAsKafkaAltersThem) {
  begin();
  auto alter = [&](std::vector<CredentialChange> changes) {
    std::vector<Result<>> results;
    on(0, [&] {
      access().alterCredentials(trusted(), std::move(changes),
                                [&](Result<std::vector<Result<>>> r) { results = r.value(); });
    });
    settle();
    return results;
  };
  auto made = scram::derive(scram::Hash::kSha512, "secret", 5000, random_);
  auto results =
      alter({{"ann", scram::Hash::kSha512, made}, {"bob", scram::Hash::kSha256, std::nullopt}});
  ASSERT_EQ(results.size(), 2U);
  EXPECT_TRUE(results[0].has_value());
  EXPECT_EQ(results[1].error().kind, ErrorKind::kNotFound);
  EXPECT_TRUE(login("ann", "secret").has_value());
  auto users = on(0, [&] { return access().users(trusted()); });
  ASSERT_EQ(users->size(), 1U);
  EXPECT_EQ(users->front().credentials.front(),
            std::make_pair(scram::Hash::kSha512, uint32_t{5000}));
  EXPECT_TRUE(alter({{"ann", scram::Hash::kSha512, std::nullopt}})[0].has_value());
  EXPECT_FALSE(login("ann", "secret").has_value());
  EXPECT_FALSE(access().anyUsers());
}

TEST_F(AccessTest, GuessingIsSlow) {
  begin();
  ASSERT_TRUE(setPassword("ann", "secret").has_value());
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(login("ann", "guess").has_value());
  EXPECT_FALSE(login("ann", "secret").has_value()) << "unlooked at, right or wrong";
  clock_.advance(2'000'000);
  EXPECT_TRUE(login("ann", "secret").has_value());
}

/// Takes "eyJ.NAME.MILLIS", which expires then.
struct FakeVerifier final : TokenVerifier {
  Result<Bearer> verify(BytesView token, int64_t nowMs) override {
    const size_t dot = token.rfind('.');
    const int64_t until = std::stoll(std::string(token.substr(dot + 1)));
    if (until <= nowMs) return fail(ErrorKind::kUnauthorized, "the token has expired");
    return Bearer{std::string(token.substr(4, dot - 4)), until};
  }
};

TEST_F(AccessTest, ATokenIsALoginUntilItExpires) {
  options_.access.tokens = std::make_shared<FakeVerifier>();
  begin(2, options_);
  const int64_t until = clock_.wallMillis() + 100'000;
  auto tokenOf = [&](const std::string& name) {
    return "eyJ." + name + "." + std::to_string(until);
  };
  auto right = login("whatever", tokenOf("device-17"), true);
  ASSERT_TRUE(right.has_value());
  EXPECT_EQ((*right)->user(), "device-17");
  EXPECT_EQ((*right)->expiresAtMs(), until);
  EXPECT_FALSE(login("", "eyJ.device-17.1", true).has_value()) << "expired";
  EXPECT_FALSE(login("", tokenOf("*")).has_value());
  // Where tokens mean something, so do other passwords.
  EXPECT_FALSE(login("whoever", "x", true).has_value());
  EXPECT_TRUE(login("", "", true).has_value());
  std::vector<LoginEnd> ended;
  on(0, [&] { (*right)->onEnd([&](LoginEnd why) { ended.push_back(why); }); });
  clock_.advance(99'000'000);
  settle();
  EXPECT_TRUE(ended.empty());
  clock_.advance(1'000'000);
  settle();
  EXPECT_EQ(ended, std::vector{LoginEnd::kExpired});
  on(0, [&] { right = fail(ErrorKind::kInternal, "let go"); });
}

/// A bearer's claims for its principal, without a login's machinery.
class ClaimTest : public AccessTest {
 protected:
  void begin(bool denyByDefault) {
    options_.access.denyByDefault = denyByDefault;
    options_.access.superusers = {"root"};
    verifier_ = std::make_shared<ClaimVerifier>();
    options_.access.tokens = verifier_;
    AccessTest::begin(2, options_);
  }
  LoginRef bearer(std::optional<std::vector<AccessRule>> rules, const std::string& name = "ann") {
    verifier_->bearer = {name, clock_.wallMillis() + 100'000, std::move(rules)};
    auto made = login("", "eyJ.a.b", true);
    return made ? *made : nullptr;
  }
  static PrincipalRef as(const LoginRef& login, const std::string& client = "c") {
    auto made = std::make_shared<Principal>(
        Principal{login->user(), client, "127.0.0.1:1", Protocol::kMqtt});
    made->rights = login->rights();
    return made;
  }
  static AccessRule claim(bool allow, Operation operation, const std::string& filter) {
    return rule(allow, "*", operation, filter, PatternKind::kFilter);
  }
  bool may(const PrincipalRef& who, Operation operation, const std::string& topic) {
    return on(0, [&] { return access().permits(who, operation, ResourceKind::kTopic, topic); });
  }
  std::optional<Error> publish(const PrincipalRef& who, const std::string& address,
                               int64_t atMs = 0) {
    std::optional<Error> error;
    Publish publish;
    publish.address = addressOf(address);
    publish.topic = publish.address.topic;
    publish.record.key = publish.address.key;
    publish.record.value = "v";
    publish.record.guarantee = kQos1;
    publish.publishAtMs = atMs;
    on(0, [&] {
      router_->publish(who, nullptr, {&publish, 1},
                       [&](std::vector<PublishResult> results) { error = results.front().error; });
    });
    settle();
    return error;
  }
  int64_t recordsIn(const std::string& topic) {
    auto bounds = on(0, [&] { return router_->bounds(trusted(), topic, 0); });
    return bounds ? bounds->highWatermark - bounds->logStart : 0;
  }
  struct ClaimVerifier final : TokenVerifier {
    Result<Bearer> verify(BytesView, int64_t) override { return bearer; }
    Bearer bearer;
  };
  std::shared_ptr<ClaimVerifier> verifier_;
};

TEST_F(ClaimTest, AllowsWhatItListsAndNothingElseWhateverTheDefault) {
  for (bool deny : {false, true}) {
    begin(deny);
    auto login = bearer(
        {{claim(true, Operation::kWrite, "out/%c/#"), claim(true, Operation::kWrite, "whole/#"),
          claim(false, Operation::kWrite, "out/c/secret")}});
    ASSERT_NE(login, nullptr);
    const PrincipalRef who = as(login);
    EXPECT_FALSE(publish(who, "out/c/a"));
    EXPECT_TRUE(publish(who, "out/c/secret"));
    EXPECT_TRUE(publish(who, "out/d/a"));
    EXPECT_TRUE(publish(who, "else"));
    EXPECT_FALSE(publish(as(login, "d"), "out/d/a"));
    EXPECT_TRUE(publish(as(login, "+"), "out/+/a")) << "a name with a wildcard is nobody's";
    EXPECT_TRUE(may(who, Operation::kWrite, "whole"));
    EXPECT_FALSE(may(who, Operation::kWrite, "out"));
    EXPECT_FALSE(may(who, Operation::kRead, "whole"));
    EXPECT_TRUE(may(who, Operation::kDescribe, "whole"));
    // Other logins of that user aren't bound by it.
    EXPECT_EQ(publish(as(bearer(std::nullopt)), "else").has_value(), deny);
    EXPECT_FALSE(publish(as(bearer({{}}, "root")), "else")) << "no rule binds a superuser";
    end();
    store_ = nullptr;
  }
}

TEST_F(ClaimTest, RulesAllowBesideItAndDenyAboveIt) {
  begin(true);
  ASSERT_TRUE(addRule(rule(true, "ann", Operation::kWrite, "more")).has_value());
  ASSERT_TRUE(addRule(rule(false, "ann", Operation::kWrite, "out")).has_value());
  const auto login = bearer(
      {{claim(true, Operation::kWrite, "out/#"), claim(false, Operation::kWrite, "more/no")}});
  EXPECT_FALSE(publish(as(login), "more/a"));
  EXPECT_TRUE(publish(as(login), "more/no"));
  EXPECT_TRUE(publish(as(login), "out/a"));
}

TEST_F(ClaimTest, SubscriptionsToWhatItLetsReadInPart) {
  begin(false);
  const auto login = bearer({{claim(true, Operation::kRead, "in/#")}});
  TestClient& client = newClient("c");
  on(0, [&] {
    router_->openSession(
        as(login), {"c", true, 0}, &client,
        [&](Result<std::shared_ptr<SubscriberSession>> r) { client.session = *r; });
  });
  settle();
  auto granted = [&](const std::string& filter) {
    return subscribe(client, {subscription(filter, kQos1)}).at(0).has_value();
  };
  EXPECT_TRUE(granted("in/a"));
  EXPECT_TRUE(granted("in/#"));
  EXPECT_FALSE(granted("else/#"));
  EXPECT_FALSE(granted("else"));
  EXPECT_TRUE(granted("#"));
  publishOne("else", "no", kQos1);
  publishOne("in/a", "yes", kQos1);
  settle();
  EXPECT_EQ(takeTexts(client), std::vector<std::string>{"yes"});
}

TEST_F(ClaimTest, ANewerTokensClaimTakesItsPlace) {
  begin(false);
  const auto first = bearer({{claim(true, Operation::kWrite, "a")}});
  const PrincipalRef who = as(first);
  const auto second = bearer({{claim(true, Operation::kWrite, "b")}});
  const auto third = bearer(std::nullopt);
  second->succeed(*first);
  EXPECT_TRUE(publish(who, "a"));
  EXPECT_FALSE(publish(who, "b"));
  third->succeed(*second);
  EXPECT_FALSE(publish(who, "a")) << "says nothing: the default";
}

TEST_F(ClaimTest, WhatItSaidHoldsForADelayedPublish) {
  for (bool deny : {false, true}) {
    begin(deny);
    const auto login = bearer({{claim(true, Operation::kWrite, "may/#")}});
    const int64_t at = clock_.wallMillis() + 5000;
    EXPECT_FALSE(publish(as(login), "may/a", at));
    EXPECT_TRUE(publish(as(login), "not/a", at));
    EXPECT_FALSE(publish(as(login), "may/b", at));
    advance(6000);
    EXPECT_EQ(recordsIn("may"), 2);
    // A rule that denies since then wins.
    EXPECT_FALSE(publish(as(login), "may/c", clock_.wallMillis() + 5000));
    ASSERT_TRUE(addRule(rule(false, "ann", Operation::kWrite, "may")).has_value());
    advance(6000);
    EXPECT_EQ(recordsIn("may"), 2);
    end();
    store_ = nullptr;
  }
}

TEST_F(ClaimTest, OneThatCanNotBeRefusesTheToken) {
  begin(false);
  EXPECT_EQ(bearer({{claim(true, Operation::kWrite, "a/#/b")}}), nullptr);
  EXPECT_EQ(bearer({{claim(true, Operation::kWrite, "a+")}}), nullptr);
}

struct FakePasswords final : PasswordSource {
  struct Line final : Entry {
    explicit Line(std::string p) : password(std::move(p)) {}
    bool matches(BytesView given) const override {
      ++checked;
      return given == password;
    }
    const std::string password;
    mutable std::atomic<int> checked = 0;
  };
  std::shared_ptr<const Entry> find(const std::string& user) const override {
    return user == "device" ? line : nullptr;
  }
  bool any() const override { return line != nullptr; }
  void spendTheRest(const Entry* checked, BytesView) const override {
    spent.push_back(checked == nullptr ? "nobody's" : "the line's");
  }
  mutable std::vector<std::string> spent;
  std::shared_ptr<Line> line = std::make_shared<Line>("secret");
};

TEST_F(AccessTest, APasswordFileHasUsersBesideTheStore) {
  auto passwords = std::make_shared<FakePasswords>();
  options_.access.passwords = passwords;
  begin(2, options_);
  auto right = login("device", "secret");
  ASSERT_TRUE(right.has_value());
  EXPECT_EQ((*right)->user(), "device");
  EXPECT_TRUE(login("device", "secret").has_value());
  EXPECT_EQ(passwords->line->checked, 1) << "known again";
  EXPECT_FALSE(login("device", "guess").has_value());
  EXPECT_FALSE(login("ann", "secret").has_value());
  // Another line: what was known of the old one isn't any more.
  passwords->line = std::make_shared<FakePasswords::Line>("other");
  EXPECT_FALSE(login("device", "secret").has_value());
  EXPECT_TRUE(login("device", "other").has_value());
  // The store's own user of that name is the one that counts.
  ASSERT_TRUE(setPassword("device", "stored").has_value());
  EXPECT_FALSE(login("device", "other").has_value());
  EXPECT_TRUE(login("device", "stored").has_value());
}

TEST_F(AccessTest, ARefusalTakesAsMuchWorkWhoeverItIs) {
  auto passwords = std::make_shared<FakePasswords>();
  options_.access.passwords = passwords;
  begin(2, options_);
  ASSERT_TRUE(setPassword("ann", "stored").has_value());
  EXPECT_TRUE(login("ann", "stored").has_value());
  EXPECT_TRUE(login("device", "secret").has_value());
  EXPECT_TRUE(passwords->spent.empty());
  EXPECT_FALSE(login("device", "guess").has_value());
  EXPECT_FALSE(login("ann", "guess").has_value());
  EXPECT_FALSE(login("nobody", "guess").has_value());
  EXPECT_EQ(passwords->spent, (std::vector<std::string>{"the line's", "nobody's", "nobody's"}));
}

TEST_F(AccessTest, BadTokensSlowDownTheirHostAlone) {
  options_.access.tokens = std::make_shared<FakeVerifier>();
  begin(2, options_);
  const std::string good = "eyJ.ann." + std::to_string(clock_.wallMillis() + 100'000);
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(login("", "eyJ.ann.1").has_value());
  EXPECT_TRUE(login("", good).has_value()) << "nobody guesses tokens: one bad client is not all";
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(login("", "eyJ.ann.1").has_value());
  EXPECT_FALSE(login("", good).has_value());
}

struct FakeHook final : LoginHook {
  void ask(const LoginPoint&, const Credentials& credentials,
           std::function<void(Verdict)> done) override {
    asked.push_back(credentials.user);
    if (!silent) done(verdict);
  }
  void stop() override {}
  Verdict verdict = Verdict::kAdmit;
  bool silent = false;
  std::vector<std::string> asked;
};

TEST_F(AccessTest, TheHookIsAskedAboutWhomTheStoreDoesntKnow) {
  auto hook = std::make_shared<FakeHook>();
  options_.access.hook = hook;
  begin(2, options_);
  ASSERT_TRUE(setPassword("ann", "secret").has_value());
  EXPECT_TRUE(login("ann", "secret").has_value());
  EXPECT_FALSE(login("ann", "wrong").has_value());
  EXPECT_TRUE(login("", "", true).has_value());
  EXPECT_FALSE(login("", "").has_value());
  EXPECT_FALSE(login("*", "x").has_value());
  EXPECT_TRUE(hook->asked.empty());
  auto bob = login("bob", "x");
  ASSERT_TRUE(bob.has_value());
  EXPECT_EQ((*bob)->user(), "bob");
  hook->verdict = LoginHook::Verdict::kRefuse;
  EXPECT_EQ(login("bob", "x").error().kind, ErrorKind::kUnauthorized);
  hook->verdict = LoginHook::Verdict::kUnavailable;
  EXPECT_EQ(login("bob", "x", true).error().kind, ErrorKind::kBusy);
  EXPECT_EQ(hook->asked, std::vector<std::string>(3, "bob"));
  hook->silent = true;
  EXPECT_EQ(login("bob", "x").error().text, "not called") << "nobody waits for it";
}

TEST(LoginThrottle, PastItsSizeTheOldestGoes) {
  LoginThrottle throttle;
  for (int i = 0; i < 10; ++i) throttle.failed("first", "u", 0);
  for (int i = 0; i < 10; ++i) throttle.failed("h", "u", 0);
  for (size_t i = 0; i < LoginThrottle::kMaxEntries - 3; ++i) {
    throttle.failed("host" + std::to_string(i), std::nullopt, 1);
    if (i % 1000 == 0) throttle.failed("h", "u", 1);
  }
  EXPECT_FALSE(throttle.admits("h", "u", 1)) << "what goes on is remembered";
  EXPECT_TRUE(throttle.admits("first", "u", 1)) << "the oldest is forgotten";
}

TEST(LoginThrottle, CountsByUserAndByHost) {
  LoginThrottle throttle;
  int64_t now = 1'000'000;
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(throttle.admits("h", "u", now));
    throttle.failed("h", "u", now);
  }
  EXPECT_FALSE(throttle.admits("h", "u", now));
  EXPECT_TRUE(throttle.admits("h", "v", now));
  EXPECT_TRUE(throttle.admits("g", "u", now));
  EXPECT_TRUE(throttle.admits("h", "u", now + 1'100'000));
  for (int i = 0; i < 200; ++i) throttle.failed("h", std::to_string(i), now);
  EXPECT_FALSE(throttle.admits("h", "fresh", now));
  EXPECT_TRUE(throttle.admits("h", "fresh", now + 60'000'000));
}

TEST_F(AccessTest, PublishSubscribeAndDeliveryAreJudged) {
  begin();
  TestClient& eve = connectAs("eve", "eve-1");
  subscribe(eve, "#", kQos1);
  EXPECT_EQ(publishAs("ann", "secret/a"), std::nullopt);
  EXPECT_EQ(take(eve).size(), 1U);
  ASSERT_TRUE(addRule(rule(false, "eve", Operation::kAll, "secret")).has_value());
  EXPECT_EQ(publishAs("eve", "secret/a")->kind, ErrorKind::kUnauthorized);
  EXPECT_EQ(publishAs("eve", "open/a"), std::nullopt);
  auto refused = subscribe(eve, {subscription("secret/+", kQos1)});
  EXPECT_EQ(refused[0].error().kind, ErrorKind::kUnauthorized);
  // The subscription that is there doesn't bring what is denied, live or retained.
  take(eve);
  auto secret = publishOne("secret/b", "no", kQos1, true);
  publishOne("open/b", "yes", kQos1, true);
  settle();
  ASSERT_TRUE(secret->done);
  EXPECT_FALSE(secret->results.front().error.has_value());
  EXPECT_EQ(takeTexts(eve), std::vector<std::string>{"yes"});
  subscribe(eve, {subscription("+/b", kQos1)});
  EXPECT_EQ(takeTexts(eve), std::vector<std::string>{"yes"});
}

TEST_F(AccessTest, WhatWaitsInAnInboxIsJudgedWhenItIsTaken) {
  begin();
  TestClient& eve = connectAs("eve", "eve-1", kNeverExpires);
  subscribe(eve, "#", kQos1);
  detach(eve);
  for (int i = 0; i < 5; ++i) publishOne("secret/a", "no", kQos1);
  publishOne("open/a", "yes", kQos1);
  settle();
  ASSERT_TRUE(addRule(rule(false, "eve", Operation::kRead, "secret")).has_value());
  TestClient& back = connectAs("eve", "eve-1", kNeverExpires);
  std::vector<std::string> got;
  for (int i = 0; i < 10; ++i) {
    for (std::string& text : takeTexts(back, 2)) got.push_back(std::move(text));
    settle();
  }
  EXPECT_EQ(got, std::vector<std::string>{"yes"});
  EXPECT_GT(back.deliverable, 0);
}

TEST_F(AccessTest, WhatAClientHasBegunIsReleasedThoughItIsDenied) {
  begin();
  TestClient& eve = connectAs("eve", "eve-1", kNeverExpires);
  subscribe(eve, "#", kQos2);
  for (int i = 0; i < 3; ++i) publishOne("secret/a", "no", kQos2);
  settle();
  const auto first = take(eve, 2);
  ASSERT_EQ(first.size(), 2U);
  on(eve.worker, [&] { eve.session->accept(first[0].id, [](const Result<>&) {}); });
  settle();
  detach(eve);
  ASSERT_TRUE(addRule(rule(false, "eve", Operation::kRead, "secret")).has_value());
  TestClient& back = connectAs("eve", "eve-1", kNeverExpires);
  const auto again = take(back);
  ASSERT_EQ(again.size(), 2U) << "the third was never sent";
  EXPECT_TRUE(again[0].accepted);
  EXPECT_TRUE(again[1].accepted);
}

TEST_F(AccessTest, ASessionIsItsUsers) {
  begin();
  ASSERT_TRUE(setPassword("ann", "secret").has_value());
  connectAs("ann", "shared", kNeverExpires);
  TestClient& other = connectAs("bob", "shared", kNeverExpires);
  ASSERT_TRUE(other.error.has_value());
  EXPECT_EQ(other.error->kind, ErrorKind::kUnauthorized);
  EXPECT_EQ(clients_.front()->takenOver, 0);
  // Once there is no such user, the name is free, and what waited is gone.
  ASSERT_TRUE(deleteUser("ann").has_value());
  TestClient& heir = connectAs("bob", "shared", kNeverExpires);
  ASSERT_TRUE(heir.session);
  EXPECT_FALSE(heir.session->resumed());
}

TEST_F(AccessTest, ASessionIsItsUsersWhoeverKnowsThem) {
  options_.access.usersElsewhere = true;
  begin(2, options_);
  connectAs("device-17", "shared", kNeverExpires);
  TestClient& other = connectAs("device-18", "shared", kNeverExpires);
  ASSERT_TRUE(other.error.has_value()) << "that the store has no such user says nothing";
  EXPECT_EQ(other.error->kind, ErrorKind::kUnauthorized);
  EXPECT_EQ(clients_.front()->takenOver, 0);
}

TEST_F(AccessTest, WhoIsIdentifiedNeedNotBeInTheStore) {
  begin();
  auto identified = [&](const std::string& name) {
    Result<LoginRef> result = fail(ErrorKind::kInternal, "not called");
    on(0, [&] {
      result = router_->authenticator().admitIdentified({Protocol::kMqtt, "10.0.0.1:5"}, name);
    });
    return result;
  };
  auto device = identified("device-17");
  ASSERT_TRUE(device.has_value());
  EXPECT_EQ((*device)->user(), "device-17");
  for (const char* name : {"", "*", "ANONYMOUS", "a\nb"}) EXPECT_FALSE(identified(name)) << name;
  EXPECT_FALSE(identified(std::string(256, 'x')));
  // Whoever is of the name of a user that is deleted is cut off as well.
  ASSERT_TRUE(setPassword("device-17", "secret").has_value());
  int ended = 0;
  on(0, [&] { (*device)->onEnd([&](LoginEnd) { ++ended; }); });
  ASSERT_TRUE(deleteUser("device-17").has_value());
  EXPECT_EQ(ended, 1);
}

TEST_F(AccessTest, KafkasWaysAreJudgedByTheSameRules) {
  begin();
  TopicSpec spec;
  spec.name = "t";
  ASSERT_TRUE(createTopic(spec).has_value());
  ASSERT_TRUE(addRule(rule(false, "eve", Operation::kAll, "t")).has_value());
  on(0, [&] {
    auto eve = user("eve", Protocol::kKafka);
    EXPECT_EQ(router_->fetch(eve, "t", 0, Offset(0), 100).error().kind, ErrorKind::kUnauthorized);
    EXPECT_EQ(router_->bounds(eve, "t", 0).error().kind, ErrorKind::kUnauthorized);
    EXPECT_EQ(router_->findTopic(eve, "t"), nullptr);
    EXPECT_TRUE(router_->fetch(user("ann"), "t", 0, Offset(0), 100).has_value());
  });
}

TEST_F(AccessTest, UsersAndRulesTakeRightsOnTheCluster) {
  options_.access.denyByDefault = true;
  options_.access.superusers = {"root"};
  begin(1, options_);
  EXPECT_EQ(setPassword("x", "y", PasswordChange::kNewUser, user("ann")).error().kind,
            ErrorKind::kUnauthorized);
  EXPECT_EQ(addRule(rule(true, "ann", Operation::kAll, "t"), user("ann")).error().kind,
            ErrorKind::kUnauthorized);
  on(0, [&] {
    EXPECT_EQ(access().users(user("ann")).error().kind, ErrorKind::kUnauthorized);
    EXPECT_EQ(access().rules(user("ann")).error().kind, ErrorKind::kUnauthorized);
    EXPECT_TRUE(access().users(user("root")).has_value());
  });
  EXPECT_TRUE(setPassword("x", "y", PasswordChange::kNewUser, user("root")).has_value());
}

TEST_F(AccessTest, RulesThatSayNothingAreRefused) {
  begin();
  auto wrong = [&](AccessRule rule) { return addRule(std::move(rule)).error().kind; };
  EXPECT_EQ(wrong(rule(true, "", Operation::kAll, "t")), ErrorKind::kInvalid);
  EXPECT_EQ(wrong(rule(true, "u", Operation::kAll, "a/#/b", PatternKind::kFilter)),
            ErrorKind::kInvalid);
  EXPECT_EQ(wrong(rule(true, "u", Operation::kAll, "a+/b", PatternKind::kFilter)),
            ErrorKind::kInvalid);
  AccessRule group = rule(true, "u", Operation::kAll, "a/b", PatternKind::kFilter);
  group.kind = ResourceKind::kGroup;
  EXPECT_EQ(wrong(group), ErrorKind::kInvalid);
  // One that is there already is no error, and there once.
  EXPECT_TRUE(addRule(rule(true, "u", Operation::kAll, "t")).has_value());
  EXPECT_TRUE(addRule(rule(true, "u", Operation::kAll, "t")).has_value());
  auto rules = on(0, [&] { return access().rules(trusted()); });
  EXPECT_EQ(rules->size(), 1U);
}

}  // namespace
}  // namespace polylog::router
