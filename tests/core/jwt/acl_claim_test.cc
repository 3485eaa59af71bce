// What a token says of its bearer's rights, and what can't be understood.
#include "core/jwt/acl_claim.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <string>

namespace polylog::jwt {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// "+r in/#": allowed or denied, read, write or create, and the filter.
std::vector<std::string> rulesIn(const std::string& text) {
  auto claim = JsonValue::parse(text);
  auto rules = rulesOfClaim(claim.value_or(JsonValue()));
  if (!rules) return {rules.error().text};
  std::vector<std::string> out;
  for (const AccessRule& rule : *rules) {
    EXPECT_EQ(rule.user, "*");
    EXPECT_EQ(rule.host, "*");
    EXPECT_EQ(rule.kind, ResourceKind::kTopic);
    EXPECT_EQ(rule.pattern, PatternKind::kFilter);
    const char* operation = rule.operation == Operation::kRead    ? "r "
                            : rule.operation == Operation::kWrite ? "w "
                                                                  : "c ";
    out.push_back((rule.allow ? "+" : "-") + std::string(operation) + rule.name);
  }
  return out;
}

TEST(AclClaim, ListsOfTopics) {
  EXPECT_THAT(rulesIn(R"({"pub": ["out/${clientid}"], "sub": ["in/#"], "all": ["both/%u/x"]})"),
              ElementsAre("+w out/%c", "+c out/%c", "+r in/#", "+r both/%u/x", "+w both/%u/x",
                          "+c both/%u/x"));
  EXPECT_TRUE(rulesIn("{}").empty());
  EXPECT_TRUE(rulesIn(R"({"pub": []})").empty());
}

TEST(AclClaim, ListOfRules) {
  EXPECT_THAT(rulesIn(R"([{"permission": "deny", "action": "subscribe", "topic": "in/${username}"},
                  {"topic": "eq a/b", "action": "publish", "permission": "allow"}])"),
              ElementsAre("-r in/%u", "+w a/b", "+c a/b"));
  EXPECT_TRUE(rulesIn("[]").empty());
}

TEST(AclClaim, WhatIsNotUnderstoodIsAnError) {
  for (const char* text :
       {R"({"publish": ["a"]})", R"({"pub": "a"})", R"({"pub": [1]})", R"({"pub": [""]})",
        R"({"pub": ["a/${peerhost}"]})", R"({"pub": ["eq a/#"]})", R"("all")", "1", "null", "[1]",
        R"([{"permission": "allow", "action": "publish"}])",
        R"([{"permission": "maybe", "action": "publish", "topic": "a"}])",
        R"([{"permission": "allow", "action": "read", "topic": "a"}])",
        R"([{"permission": "allow", "action": "publish", "topic": "a", "retain": true}])"}) {
    EXPECT_THAT(rulesIn(text), ElementsAre(HasSubstr("acl claim"))) << text;
  }
  std::string many = R"({"all": ["a")";
  for (size_t i = 0; i < kMaxClaimRules; ++i) many += R"(,"a")";
  EXPECT_THAT(rulesIn(many + "]}"), ElementsAre(HasSubstr("more than 256")));
}

}  // namespace
}  // namespace polylog::jwt
