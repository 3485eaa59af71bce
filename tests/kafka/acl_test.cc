#include "codecs/kafka/acl.h"

#include <gtest/gtest.h>

namespace polylog::kafka {
namespace {

Acl acl(int8_t type, std::string name, int8_t pattern, int8_t operation = 3,
        int8_t permission = 3) {
  return {type, std::move(name), pattern, "User:ann", "*", operation, permission};
}

TEST(Acl, ComesBackAsItWas) {
  for (int8_t type = 2; type <= 5; ++type) {
    for (int8_t operation = 2; operation <= 12; ++operation) {
      for (int8_t permission : {int8_t{2}, int8_t{3}}) {
        for (int8_t pattern : {int8_t{3}, int8_t{4}}) {
          Acl before = acl(type, "name", pattern, operation, permission);
          auto rule = ruleOf(before);
          ASSERT_TRUE(rule.has_value());
          auto after = aclOf(*rule);
          ASSERT_TRUE(after.has_value());
          EXPECT_EQ(after->resourceType, before.resourceType);
          EXPECT_EQ(after->resourceName, before.resourceName);
          EXPECT_EQ(after->patternType, before.patternType);
          EXPECT_EQ(after->principal, before.principal);
          EXPECT_EQ(after->operation, before.operation);
          EXPECT_EQ(after->permissionType, before.permissionType);
        }
      }
    }
  }
}

TEST(Acl, WhatNoRuleSaysIsRefused) {
  EXPECT_FALSE(ruleOf(acl(6, "x", 3)));     // delegation tokens
  EXPECT_FALSE(ruleOf(acl(2, "x", 2)));     // MATCH is for filters
  EXPECT_FALSE(ruleOf(acl(2, "x", 3, 1)));  // ANY operation
  EXPECT_FALSE(ruleOf(acl(2, "", 3)));
  Acl other = acl(2, "x", 3);
  other.principal = "Group:x";
  EXPECT_FALSE(ruleOf(other));
}

TEST(Acl, RulesThatKafkaHasNoWordsForAreNotShown) {
  AccessRule rule{true, "ann",           "*", ResourceKind::kQueue, PatternKind::kLiteral,
                  "q",  Operation::kRead};
  EXPECT_FALSE(aclOf(rule));
  rule.kind = ResourceKind::kTopic;
  rule.pattern = PatternKind::kFilter;
  EXPECT_FALSE(aclOf(rule));
}

TEST(Acl, Filters) {
  AclFilter all{1, std::nullopt, 1, std::nullopt, std::nullopt, 1, 1};
  EXPECT_TRUE(sound(all));
  EXPECT_TRUE(matches(all, acl(2, "orders", 3)));
  AclFilter match = all;
  match.patternType = 2;
  match.resourceName = "orders";
  EXPECT_TRUE(matches(match, acl(2, "orders", 3)));
  EXPECT_TRUE(matches(match, acl(2, "ord", 4)));
  EXPECT_TRUE(matches(match, acl(2, "*", 3)));
  EXPECT_FALSE(matches(match, acl(2, "other", 3)));
  match.patternType = 3;
  EXPECT_FALSE(matches(match, acl(2, "orders", 4)));
  AclFilter bad = all;
  bad.operation = 99;
  EXPECT_FALSE(sound(bad));
}

}  // namespace
}  // namespace polylog::kafka
