#include "codecs/mqtt/bridge_topics.h"

#include <gtest/gtest.h>

namespace polylog::mqtt {
namespace {

BridgeTopic topic(std::string_view text) {
  auto parsed = BridgeTopic::parse(text);
  EXPECT_TRUE(parsed.has_value()) << (parsed ? "" : parsed.error().text);
  return parsed ? *parsed : BridgeTopic{};
}

std::string outward(const BridgeTopics& topics, BytesView name) {
  std::string out;
  return topics.outward(name, out) ? out : "(none)";
}
std::string inward(const BridgeTopics& topics, BytesView name) {
  std::string out;
  return topics.inward(name, out) ? out : "(none)";
}

TEST(BridgeTopicsTest, aTopicIsReadAsMosquittosAre) {
  const BridgeTopic both = topic("sensors/# both 2 here/ there/");
  EXPECT_EQ(both.localFilter(), "here/sensors/#");
  EXPECT_EQ(both.remoteFilter(), "there/sensors/#");
  EXPECT_EQ(both.qos, 2);
  EXPECT_TRUE(both.in() && both.out());
  EXPECT_EQ(topic("a out 0 \"\" x/").remoteFilter(), "x/a");
  EXPECT_EQ(topic("a out 0 \"\" x/").localFilter(), "a");
  EXPECT_EQ(topic("\"\" out 1 one/name another/name").remoteFilter(), "another/name");
  EXPECT_EQ(topic("broker/# in 0 remote/ $SYS/").remoteFilter(), "$SYS/broker/#");
}

TEST(BridgeTopicsTest, whatCanBeNoneIsRefusedWithTheRemedy) {
  auto error = [](std::string_view text) {
    auto parsed = BridgeTopic::parse(text);
    return parsed ? std::string("taken") : parsed.error().text;
  };
  for (const char* wrong :
       {"a", "a out", "a sideways 1", "a out 3", "a out x", "a/#/b out 1", "a in 1 +/",
        "a out 1 x/ #", "a out 1 b c d", "\"\" out 1", "a out 1 \"\" $SYS/", "a in 1 $SYS/",
        "$share/g/a out 1", "a both 1 \"\" $x/"}) {
    EXPECT_NE(error(wrong), "taken") << wrong;
    EXPECT_NE(error(wrong).find(wrong), std::string::npos) << error(wrong);
  }
  EXPECT_NE(error("a sideways 1").find("out, in or both"), std::string::npos);
  EXPECT_NE(error("a in 1 +/").find("without + and #"), std::string::npos);
}

TEST(BridgeTopicsTest, thePrefixOfOneSideTakesThePlaceOfTheOthers) {
  const BridgeTopics topics({topic("t/# out 1 here/ there/"), topic("c/+ in 2 got/ from/"),
                             topic("\"\" both 0 one another")});
  EXPECT_EQ(outward(topics, "here/t/1"), "there/t/1");
  EXPECT_EQ(outward(topics, "here/t"), "there/t");
  EXPECT_EQ(outward(topics, "here/u"), "(none)");
  EXPECT_EQ(outward(topics, "got/c/1"), "(none)");
  EXPECT_EQ(inward(topics, "from/c/1"), "got/c/1");
  EXPECT_EQ(inward(topics, "from/c/1/2"), "(none)");
  EXPECT_EQ(inward(topics, "there/t/1"), "(none)");
  EXPECT_EQ(outward(topics, "one"), "another");
  EXPECT_EQ(inward(topics, "another"), "one");
  EXPECT_EQ(topics.local(), (BridgeTopics::Filters{{"here/t/#", 1}, {"one", 0}}));
  EXPECT_EQ(topics.remote(), (BridgeTopics::Filters{{"from/c/+", 2}, {"another", 0}}));
}

TEST(BridgeTopicsTest, noNameBecomesOneOfTheBrokersOwn) {
  const BridgeTopics topics({topic("# both 1 here/ there/"), topic("# both 1 \"\" r/")});
  EXPECT_EQ(inward(topics, "r/a"), "a");
  EXPECT_EQ(inward(topics, "r/$delayed/5/a"), "(none)");
  EXPECT_EQ(inward(topics, "r/$SYS/a"), "(none)");
  EXPECT_EQ(outward(topics, "here/$a"), "there/$a");
}

TEST(BridgeTopicsTest, aNameThatWouldBeTooLongHasNone) {
  const BridgeTopics topics({topic("# out 1 \"\" prefix/")});
  EXPECT_EQ(outward(topics, std::string(65'530, 'a')), "(none)");
}

TEST(BridgeTopicsTest, filtersMatchAsMqttHasIt) {
  EXPECT_TRUE(filterMatches("a/#", "a"));
  EXPECT_TRUE(filterMatches("a/#", "a/b/c"));
  EXPECT_TRUE(filterMatches("+/b", "/b"));
  EXPECT_TRUE(filterMatches("#", "/"));
  EXPECT_TRUE(filterMatches("a/+", "a/"));
  EXPECT_FALSE(filterMatches("a/+", "a"));
  EXPECT_FALSE(filterMatches("a", "a/b"));
  EXPECT_FALSE(filterMatches("a/b", "a"));
  EXPECT_FALSE(filterMatches("#", "$SYS/x"));
  EXPECT_FALSE(filterMatches("+/x", "$SYS/x"));
  EXPECT_TRUE(filterMatches("$SYS/#", "$SYS/x"));
}

TEST(BridgeTopicsTest, filtersOverlapWhereANameFitsBoth) {
  EXPECT_TRUE(filtersOverlap("a/+", "+/b"));
  EXPECT_TRUE(filtersOverlap("a/#", "a"));
  EXPECT_TRUE(filtersOverlap("#", "x/y"));
  EXPECT_FALSE(filtersOverlap("a/+", "a"));
  EXPECT_FALSE(filtersOverlap("a/b", "a/c"));
  EXPECT_FALSE(filtersOverlap("#", "$SYS/x"));
}

TEST(BridgeTopicsTest, loopsAreFound) {
  // One bridge: both ways under one name is what no-local is for.
  EXPECT_FALSE(loopOf(topic("a/# both 1"), topic("b/# both 1"), true));
  EXPECT_TRUE(loopOf(topic("a/# both 1"), topic("a/+ both 1"), true));
  EXPECT_TRUE(loopOf(topic("a/# both 1 \"\" x/"), topic("a/# both 1 \"\" y/"), true));
  EXPECT_FALSE(loopOf(topic("a/# out 1"), topic("a/# in 1"), true));
  // Two bridges to one broker don't know of each other.
  EXPECT_TRUE(loopOf(topic("a/# out 1"), topic("a/# in 1"), false));
  EXPECT_FALSE(loopOf(topic("a/# out 1"), topic("a/# out 1"), false));
  EXPECT_FALSE(loopOf(topic("a/# out 1 \"\" x/"), topic("a/# in 1 \"\" y/"), false));
}

}  // namespace
}  // namespace polylog::mqtt
