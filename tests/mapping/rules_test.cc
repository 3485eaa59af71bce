#include "mapping/rules.h"

#include <gtest/gtest.h>

#include "mapping/address.h"

namespace polylog::mapping {
namespace {

Rules rulesOf(const std::vector<std::string>& texts) {
  Result<Rules> rules = Rules::parse(texts);
  if (!rules) {
    ADD_FAILURE() << rules.error().text;
    return {};
  }
  return std::move(*rules);
}

/// "topic/key" as stored, "(ephemeral)", or "-" where no rule matches.
std::string stored(const Rules& rules, BytesView address) {
  std::string scratch;
  Route route = rules.apply(splitAddress(address), scratch);
  if (!route.byRule) return "-";
  if (route.ephemeral) return "(ephemeral)";
  std::string out;
  appendAddress({route.topic, route.key}, out);
  return out;
}

std::string addressOf(const Rules& rules, BytesView text) {
  Address at = splitAddress(text);
  std::string scratch;
  std::string out;
  appendAddress(rules.addressOf(at.topic, at.key, scratch), out);
  return out;
}

TEST(Rules, SendElsewhere) {
  Rules rules = rulesOf({"factory/+/temp -> topic temps, key {1}", "  live/# ->ephemeral ",
                         "alarms/# -> topic alarms2", "status/# -> topic status, key none",
                         "swap/+/+/# -> topic s, key {2}-{1}/{3}"});
  EXPECT_EQ(stored(rules, "factory/7/temp"), "temps/7");
  EXPECT_EQ(stored(rules, "factory//temp"), "temps/");
  EXPECT_EQ(stored(rules, "factory/7/8/temp"), "-");
  EXPECT_EQ(stored(rules, "factory/7"), "-");
  EXPECT_EQ(stored(rules, "live"), "(ephemeral)");
  EXPECT_EQ(stored(rules, "live/a/b"), "(ephemeral)");
  EXPECT_EQ(stored(rules, "alarms/fire"), "alarms2/alarms/fire");
  EXPECT_EQ(stored(rules, "alarms"), "alarms2/alarms");
  EXPECT_EQ(stored(rules, "status/x"), "status");
  EXPECT_EQ(stored(rules, "swap/a/b/c/d"), "s/b-a/c/d");
  EXPECT_EQ(stored(rules, "swap/a/b"), "s/b-a");
  EXPECT_EQ(stored(rules, "swap/a/b/"), "s/b-a/");
  EXPECT_EQ(stored(rules, "other"), "-");
}

TEST(Rules, TheFirstThatMatchesWins) {
  Rules rules = rulesOf({"a/b -> topic one", "a/# -> topic two"});
  EXPECT_EQ(stored(rules, "a/b"), "one/a/b");
  EXPECT_EQ(stored(rules, "a/c"), "two/a/c");
}

TEST(Rules, ALoneHashTakesTheWholeAddressButNotTheBrokersOwn) {
  Rules rules = rulesOf({"# -> topic all, key {1}"});
  EXPECT_EQ(stored(rules, "a/b/c"), "all/a/b/c");
  EXPECT_EQ(stored(rules, "_internal/x"), "-");
  EXPECT_EQ(addressOf(rules, "all/a/b/c"), "a/b/c");
}

TEST(Rules, NoRuleLeavesTheAddressItself) {
  Rules rules;
  std::string scratch = "untouched";
  Route route = rules.apply({"a", ""}, scratch);
  EXPECT_FALSE(route.byRule);
  EXPECT_EQ(route.topic, "a");
  EXPECT_EQ(route.key, std::optional<BytesView>(""));
  EXPECT_EQ(scratch, "untouched");
}

TEST(Rules, TheWayBackWhereOneToOne) {
  Rules rules = rulesOf({"factory/+/temp -> topic temps, key {1}",
                         "shop/+/till/+ -> topic tills, key {2}/dev-{1}-x",
                         "deep/# -> topic flat, key x/{1}", "rest/# -> topic rests, key {1}",
                         "fixed/a -> topic fix, key k", "whole/+/x -> topic w"});
  EXPECT_EQ(addressOf(rules, "temps/7"), "factory/7/temp");
  EXPECT_EQ(addressOf(rules, "temps/"), "factory//temp");
  EXPECT_EQ(addressOf(rules, "temps/7/8"), "temps/7/8");  // no address leads there
  EXPECT_EQ(addressOf(rules, "temps"), "temps");
  EXPECT_EQ(addressOf(rules, "tills/9/dev-4-x"), "shop/4/till/9");
  EXPECT_EQ(addressOf(rules, "tills/9/dev--x"), "shop//till/9");
  EXPECT_EQ(addressOf(rules, "tills/9/dev-x"), "tills/9/dev-x");
  EXPECT_EQ(addressOf(rules, "flat/x/a/b"), "deep/a/b");
  EXPECT_EQ(addressOf(rules, "flat/x/"), "deep/");
  EXPECT_EQ(addressOf(rules, "flat/x"), "deep");
  EXPECT_EQ(addressOf(rules, "flat/y"), "flat/y");
  EXPECT_EQ(addressOf(rules, "rests/a"), "rest/a");
  EXPECT_EQ(addressOf(rules, "rests"), "rest");
  EXPECT_EQ(addressOf(rules, "fix/k"), "fixed/a");
  EXPECT_EQ(addressOf(rules, "fix/other"), "fix/other");
  EXPECT_EQ(addressOf(rules, "w/whole/1/x"), "whole/1/x");
  EXPECT_EQ(addressOf(rules, "w/whole/1/y"), "w/whole/1/y");
  EXPECT_EQ(addressOf(rules, "unruled/k"), "unruled/k");
}

TEST(Rules, NoWayBackWhereSeveralAddressesMeet) {
  EXPECT_EQ(addressOf(rulesOf({"a/+/+ -> topic t, key {1}"}), "t/1"), "t/1");
  EXPECT_EQ(addressOf(rulesOf({"a/+/+ -> topic t, key {1}{2}"}), "t/12"), "t/12");
  EXPECT_EQ(addressOf(rulesOf({"a/# -> topic t, key none"}), "t"), "t");
  // Each is one to one, but not together.
  EXPECT_EQ(addressOf(rulesOf({"a/+ -> topic t, key {1}", "b/+ -> topic t, key {1}"}), "t/1"),
            "t/1");
  // The inverse of the second would have gone by the first.
  EXPECT_EQ(addressOf(rulesOf({"a/1 -> ephemeral", "a/+ -> topic t, key {1}"}), "t/1"), "t/1");
  EXPECT_EQ(addressOf(rulesOf({"a/1 -> ephemeral", "a/+ -> topic t, key {1}"}), "t/2"), "a/2");
}

TEST(Rules, WhatIsAppliedComesBackWhereOneToOne) {
  Rules rules = rulesOf({"f/+/t/# -> topic o, key {1}/_/{2}", "g/+ -> topic p, key <{1}>"});
  for (const char* address :
       {"f/1/t", "f/1/t/", "f//t", "f/1/t/2/3", "f/1/t//", "g/x", "g/", "g/>"}) {
    EXPECT_EQ(addressOf(rules, stored(rules, address)), address);
  }
}

TEST(Rules, ErrorsNameTheRuleAndTheRemedy) {
  struct Case {
    const char* rule;
    const char* says;
  };
  for (const Case& c : {
           Case{"", "has no '->'"},
           Case{"a/b", "has no '->'"},
           Case{"-> topic t", "topic filter before '->'"},
           Case{"a/b# -> topic t", "+ and # stand alone"},
           Case{"$SYS/# -> topic t", "begin with $"},
           Case{"a ->", "write one of them"},
           Case{"a -> nowhere", "write one of them"},
           Case{"a -> topics t", "write one of them"},
           Case{"a -> topic", "can't be a topic's name"},
           Case{"a -> topic a/b", "can't be a topic's name"},
           Case{"a -> topic $x", "can't be a topic's name"},
           Case{"a -> topic enc--x", "can't be a topic's name"},
           Case{"a/+ -> topic t{1}", "can't be a topic's name"},
           Case{"a/+ -> topic t, {1}", "expected 'key TEMPLATE'"},
           Case{"a/+ -> topic t, key", "expected 'key TEMPLATE'"},
           Case{"a/+ -> topic t, key {2}", "to {1}"},
           Case{"a -> topic t, key {1}", "to {0}"},
           Case{"a/+ -> topic t, key {", "no placeholder"},
           Case{"a/+ -> topic t, key }", "no placeholder"},
           Case{"a/+ -> topic t, key {}", "no placeholder"},
           Case{"a/+ -> topic t, key {1x}", "no placeholder"},
           Case{"a/+ -> topic t, key {-1}", "no placeholder"},
           Case{"+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+ -> topic t", "more than 16 wildcards"},
       }) {
    Result<Rules> rules = Rules::parse(std::vector<std::string>{"ok -> topic fine", c.rule});
    ASSERT_FALSE(rules) << c.rule;
    EXPECT_EQ(rules.error().kind, ErrorKind::kInvalid);
    EXPECT_NE(rules.error().text.find(c.says), std::string::npos) << rules.error().text;
    EXPECT_NE(rules.error().text.find("rule '" + std::string(c.rule) + "'"), std::string::npos)
        << rules.error().text;
  }
}

TEST(Rules, TopicsThatTheyStoreIn) {
  EXPECT_TRUE(Rules().topics().empty());
  auto rules = Rules::parse(std::vector<std::string>{
      "b/# -> topic two", "live/# -> ephemeral", "a/+ -> topic one, key {1}", "c -> topic two"});
  ASSERT_TRUE(rules);
  EXPECT_EQ(rules->topics(), (std::vector<std::string>{"one", "two"}));
}

}  // namespace
}  // namespace polylog::mapping
