#include "mapping/rewrites.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace polylog::mapping {
namespace {

using Action = TopicRewrites::Action;

TopicRewrites parsed(std::vector<std::string> texts) {
  auto rewrites = TopicRewrites::parse(texts);
  EXPECT_TRUE(rewrites) << rewrites.error().text;
  return rewrites ? *std::move(rewrites) : TopicRewrites();
}

std::string rewritten(const TopicRewrites& rewrites, Action action, const std::string& name) {
  return rewrites.apply(action, name, {"client", "user"}).value_or("(as it was)");
}

TEST(TopicRewrites, ExpressionsWithGroups) {
  auto rewrites = parsed({"all y/+/z/# ^y/(.+)/z/(.+)$ -> y/z/$2", "all x/# ^x/y/(.+)$ -> z/$1"});
  EXPECT_EQ(rewritten(rewrites, Action::kPublish, "y/a/z/b"), "y/z/b");
  EXPECT_EQ(rewritten(rewrites, Action::kPublish, "y/def"), "(as it was)");
  EXPECT_EQ(rewritten(rewrites, Action::kPublish, "x/1/2"), "(as it was)");
  EXPECT_EQ(rewritten(rewrites, Action::kSubscribe, "x/y/+/#"), "z/+/#");
}

TEST(TopicRewrites, WildcardsStandForThemselves) {
  auto rewrites = parsed({"publish a/+/b/# -> $2/%c/%u/$1", "subscribe # -> all/$1"});
  EXPECT_EQ(rewritten(rewrites, Action::kPublish, "a/1/b/2/3"), "2/3/client/user/1");
  EXPECT_EQ(rewritten(rewrites, Action::kPublish, "a/1/b"), "/client/user/1");
  EXPECT_EQ(rewritten(rewrites, Action::kPublish, "other"), "(as it was)");
  EXPECT_EQ(rewritten(rewrites, Action::kSubscribe, "a/1/b/2"), "all/a/1/b/2");
}

TEST(TopicRewrites, TheFirstThatMatchesWinsOnce) {
  auto rewrites = parsed({"all a/# ^a/(\\d+)$ -> a/x/$1", "all a/# -> b/$1"});
  EXPECT_EQ(rewritten(rewrites, Action::kPublish, "a/17"), "a/x/17");
  EXPECT_EQ(rewritten(rewrites, Action::kPublish, "a/x"), "b/x");
}

TEST(TopicRewrites, AGroupThatTakesNoPart) {
  auto rewrites = parsed({"all a/# ^a/(b)?(c)$ -> $1-$2"});
  EXPECT_EQ(rewritten(rewrites, Action::kPublish, "a/c"), "-c");
}

TEST(TopicRewrites, LinearTime) {
  auto rewrites = parsed({"all # ^(a+)+$ -> x"});
  EXPECT_EQ(rewritten(rewrites, Action::kPublish, std::string(60'000, 'a') + "b"), "(as it was)");
}

TEST(TopicRewrites, WhatMakesNoSenseIsSaidWithItsRemedy) {
  auto why = [](const std::string& text) {
    auto rewrites = TopicRewrites::parse(std::vector{text});
    return rewrites ? std::string("taken") : rewrites.error().text;
  };
  EXPECT_THAT(why("x/# -> y"), testing::HasSubstr("publish, subscribe or all"));
  EXPECT_THAT(why("all x/#"), testing::HasSubstr("has no '->'"));
  EXPECT_THAT(why("all x/#/y -> y"), testing::HasSubstr("topic filter"));
  EXPECT_THAT(why("all x/# ((a -> y"), testing::HasSubstr("no expression of RE2"));
  EXPECT_THAT(why("all x/+ -> $2"), testing::HasSubstr("$2"));
  EXPECT_THAT(why("all x/+ (a) -> $2"), testing::HasSubstr("$2"));
  EXPECT_THAT(why("all x/+ -> "), testing::HasSubstr("->"));
}

}  // namespace
}  // namespace polylog::mapping
