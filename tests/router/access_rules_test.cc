#include "router/access_rules.h"

#include <gtest/gtest.h>

#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

AccessRule rule(bool allow, std::string user, Operation operation, std::string name,
                PatternKind pattern = PatternKind::kLiteral,
                ResourceKind kind = ResourceKind::kTopic) {
  return {allow, std::move(user), "*", kind, pattern, std::move(name), operation};
}

struct Rules {
  explicit Rules(std::vector<AccessRule> rules, bool deny = false) {
    RuleSet::Settings settings;
    settings.denyByDefault = deny;
    settings.superusers = {"root"};
    settings.anyUsers = true;
    authorizer.use(std::make_shared<const RuleSet>(std::move(rules), settings));
  }
  static PrincipalRef who(const std::string& user, const std::string& client = "c") {
    return std::make_shared<const Principal>(
        Principal{user, client, "10.1.2.3:4711", Protocol::kMqtt});
  }
  bool may(const std::string& user, Operation operation, const std::string& name,
           ResourceKind kind = ResourceKind::kTopic) const {
    return authorizer.permits(who(user), operation, {kind, name});
  }
  /// At an address.
  bool at(const std::string& user, Operation operation, const std::string& text,
          const std::string& client = "c") const {
    Address address = addressOf(text);
    return authorizer.permits(who(user, client), operation,
                              {ResourceKind::kTopic, address.topic, address});
  }
  bool some(const std::string& user, const std::string& filter) const {
    return authorizer.permitsSome(who(user), filterOf(filter));
  }
  bool all(const std::string& user, const std::string& filter) const {
    return authorizer.permitsAll(who(user), filterOf(filter));
  }
  Authorizer authorizer;
};

constexpr Operation R = Operation::kRead, W = Operation::kWrite;

TEST(AccessRules, WithoutRulesTheDefaultDecides) {
  Rules open({});
  EXPECT_FALSE(open.authorizer.judges(Principal{}));
  EXPECT_TRUE(open.may("ann", W, "t"));
  EXPECT_TRUE(open.may("", W, "t"));
  // Users and rules are not for those who are nobody, once there are users.
  EXPECT_TRUE(open.may("ann", Operation::kAlter, "", ResourceKind::kCluster));
  EXPECT_FALSE(open.may("", Operation::kAlter, "", ResourceKind::kCluster));

  Rules closed({}, true);
  EXPECT_TRUE(closed.authorizer.judges(Principal{}));
  EXPECT_FALSE(closed.may("ann", W, "t"));
  EXPECT_TRUE(closed.may("root", W, "t"));
  EXPECT_TRUE(closed.may("root", Operation::kAlter, "", ResourceKind::kCluster));
  // A client may have a session: what comes to it is judged.
  EXPECT_TRUE(closed.may("ann", R, "ann-1", ResourceKind::kSession));
  auto trusted = std::make_shared<Principal>();
  trusted->trusted = true;
  EXPECT_TRUE(closed.authorizer.permits(trusted, W, {ResourceKind::kTopic, "t"}));
}

TEST(AccessRules, DenyWinsAndANameWithRulesIsClosedToOthers) {
  Rules rules({rule(true, "ann", R, "orders"), rule(true, "*", W, "orders"),
               rule(false, "bob", W, "orders")});
  EXPECT_TRUE(rules.may("ann", R, "orders"));
  EXPECT_TRUE(rules.may("ann", Operation::kDescribe, "orders"));
  EXPECT_FALSE(rules.may("eve", R, "orders"));
  EXPECT_TRUE(rules.may("eve", W, "orders"));
  EXPECT_TRUE(rules.may("", W, "orders"));
  EXPECT_FALSE(rules.may("bob", W, "orders"));
  EXPECT_TRUE(rules.may("bob", W, "other"));
  EXPECT_FALSE(rules.may("ann", Operation::kDelete, "orders"));
  // Rules about topics say nothing of groups.
  EXPECT_TRUE(rules.may("eve", Operation::kJoin, "orders", ResourceKind::kGroup));
  // A rule that denies closes the name to nobody else.
  Rules denied({rule(false, "eve", R, "orders")});
  EXPECT_FALSE(denied.may("eve", R, "orders"));
  EXPECT_TRUE(denied.may("eve", W, "orders"));
  EXPECT_TRUE(denied.may("ann", R, "orders"));
}

TEST(AccessRules, PrefixesWildcardsHostsAndAnonymous) {
  AccessRule far = rule(true, "ann", R, "far");
  far.host = "10.9.9.9";
  Rules rules({rule(true, "ann", R, "app-", PatternKind::kPrefixed),
               rule(true, "bob", Operation::kAll, "*"), rule(true, "ANONYMOUS", R, "open"), far},
              true);
  EXPECT_TRUE(rules.may("ann", R, "app-1"));
  EXPECT_FALSE(rules.may("ann", R, "ap"));
  EXPECT_FALSE(rules.may("ann", W, "app-1"));
  EXPECT_TRUE(rules.may("bob", Operation::kDelete, "whatever"));
  EXPECT_TRUE(rules.may("", R, "open"));
  EXPECT_FALSE(rules.may("ann", R, "open"));
  EXPECT_FALSE(rules.may("ann", R, "far"));
}

TEST(AccessRules, FiltersAreAboutAddresses) {
  Rules rules({rule(true, "*", Operation::kAll, "devices/%c/#", PatternKind::kFilter),
               rule(true, "*", R, "users/%u/in", PatternKind::kFilter),
               rule(false, "*", W, "devices/+/secret", PatternKind::kFilter)},
              true);
  EXPECT_TRUE(rules.at("ann", W, "devices/c/temp"));
  EXPECT_TRUE(rules.at("ann", W, "devices/c"));
  EXPECT_FALSE(rules.at("ann", W, "devices/d/temp"));
  EXPECT_FALSE(rules.at("ann", W, "devices/c/secret"));
  EXPECT_TRUE(rules.at("ann", R, "devices/c/secret"));
  EXPECT_TRUE(rules.at("ann", R, "users/ann/in"));
  EXPECT_FALSE(rules.at("bob", R, "users/ann/in"));
  // A client can't widen a filter by its name.
  EXPECT_FALSE(rules.at("ann", W, "devices/d/temp", "+"));
  EXPECT_FALSE(rules.at("ann", W, "devices/x/y/temp", "x/y"));
  // A topic as a whole takes the right to all of it.
  EXPECT_FALSE(rules.may("ann", R, "devices"));
  Rules whole({rule(true, "ann", R, "devices/#", PatternKind::kFilter)}, true);
  EXPECT_TRUE(whole.may("ann", R, "devices"));
  EXPECT_FALSE(whole.may("bob", R, "devices"));
}

TEST(AccessRules, AFilterThatDeniesPartOfATopicDeniesItAsAWhole) {
  Rules rules({rule(false, "eve", R, "plant/safe/#", PatternKind::kFilter)});
  EXPECT_FALSE(rules.may("eve", R, "plant"));
  EXPECT_TRUE(rules.may("eve", W, "other"));
  EXPECT_FALSE(rules.at("eve", R, "plant/safe/1"));
  EXPECT_TRUE(rules.at("eve", R, "plant/line/1"));
  EXPECT_TRUE(rules.at("ann", R, "other/1"));
}

TEST(AccessRules, SubscriptionsAreLetInIfTheyCanGetSomething) {
  Rules rules({rule(true, "ann", R, "devices/1/#", PatternKind::kFilter),
               rule(true, "bob", R, "orders"), rule(false, "ann", R, "orders")},
              true);
  EXPECT_TRUE(rules.some("ann", "devices/#"));
  EXPECT_TRUE(rules.some("ann", "devices/1/temp"));
  EXPECT_TRUE(rules.some("ann", "#"));
  EXPECT_FALSE(rules.some("ann", "devices/2/temp"));
  EXPECT_FALSE(rules.some("ann", "orders/#"));
  EXPECT_FALSE(rules.some("eve", "#"));
  EXPECT_TRUE(rules.some("bob", "orders/+/x"));

  Rules open({rule(false, "eve", R, "secret"), rule(false, "mal", R, "*")});
  EXPECT_TRUE(open.some("eve", "#"));
  EXPECT_FALSE(open.some("eve", "secret/#"));
  EXPECT_FALSE(open.some("mal", "#"));
  EXPECT_FALSE(open.some("mal", "any/#"));
}

TEST(AccessRules, BindingsNeedAllThatTheyGet) {
  Rules rules(
      {rule(true, "ann", R, "devices/1/#", PatternKind::kFilter), rule(true, "bob", R, "*")}, true);
  EXPECT_TRUE(rules.all("ann", "devices/1/+"));
  EXPECT_FALSE(rules.all("ann", "devices/#"));
  EXPECT_TRUE(rules.all("bob", "#"));
  EXPECT_FALSE(rules.all("ann", "#"));
  Rules open({rule(false, "eve", R, "secret")});
  EXPECT_FALSE(open.all("eve", "#"));
  EXPECT_TRUE(open.all("eve", "public/#"));
  EXPECT_TRUE(open.all("ann", "#"));
  Rules closed({rule(true, "eve", R, "secret")});
  EXPECT_FALSE(closed.all("ann", "#"));
  EXPECT_FALSE(open.all("eve", "secret/x"));
}

TEST(AccessRules, ANewSetIsInForceAtOnceAndTheDeletedHaveNoRights) {
  Rules rules({rule(true, "ann", R, "t")}, true);
  EXPECT_TRUE(rules.may("ann", R, "t"));
  RuleSet::Settings deny;
  deny.denyByDefault = true;
  rules.authorizer.use(std::make_shared<const RuleSet>(std::vector<AccessRule>{}, deny));
  EXPECT_FALSE(rules.may("ann", R, "t"));
  Authorizer open;
  auto revoked = std::make_shared<std::atomic<bool>>(false);
  auto who = std::make_shared<Principal>(*Rules::who("ann"));
  who->revoked = revoked;
  EXPECT_TRUE(open.permits(who, R, {ResourceKind::kTopic, "t"}));
  revoked->store(true);
  EXPECT_FALSE(open.permits(who, R, {ResourceKind::kTopic, "t"}));
}

}  // namespace
}  // namespace polylog::router
