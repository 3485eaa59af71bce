#include "mapping/kafka.h"

#include <gtest/gtest.h>

namespace polylog::mapping {
namespace {

std::optional<std::string> shownAs(BytesView topic) {
  std::string out;
  if (!appendKafkaTopic(topic, out)) return std::nullopt;
  return out;
}

TEST(KafkaMapping, OrdinaryNamesAreThemselves) {
  for (const std::string& name : {std::string("sensors"), std::string("a.b_c-D9"),
                                  std::string("_x"), std::string("..."), std::string(249, 'k')}) {
    std::string scratch;
    Result<BytesView> topic = topicFromKafka(name, scratch);
    ASSERT_TRUE(topic);
    EXPECT_EQ(*topic, name);
    EXPECT_EQ(topic->data(), name.data());
    EXPECT_EQ(shownAs(name), name);
  }
}

TEST(KafkaMapping, RefusesWhatKafkaRefuses) {
  std::string scratch;
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string("a/b"), std::string("a b"),
        std::string("grün"), std::string("a\0", 2), std::string(250, 'k')}) {
    Result<BytesView> topic = topicFromKafka(name, scratch);
    ASSERT_FALSE(topic) << name;
    EXPECT_EQ(topic.error().kind, ErrorKind::kInvalid);
  }
}

TEST(KafkaMapping, OtherNamesAreMarkedAndComeBack) {
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string("grün"), std::string("a b"),
        std::string("\xff\0+", 3), std::string("enc--"), std::string("enc--Zm9v"),
        std::string(183, ' ')}) {
    std::optional<std::string> shown = shownAs(name);
    ASSERT_TRUE(shown) << name;
    EXPECT_TRUE(validKafkaTopic(*shown));
    EXPECT_TRUE(isMarked(*shown));
    std::string scratch;
    Result<BytesView> topic = topicFromKafka(*shown, scratch);
    ASSERT_TRUE(topic) << *shown;
    EXPECT_EQ(*topic, name);
  }
  EXPECT_EQ(shownAs(""), "enc--");
}

TEST(KafkaMapping, ATopicHasOneNameOnly) {
  std::string scratch;
  // The marked forms of an ordinary name, of $SYS and of a/b; and no marked form at all.
  for (const char* name : {"enc--c2Vuc29ycw", "enc--JFNZUw", "enc--YS9i", "enc--x", "enc--Zh"}) {
    EXPECT_FALSE(topicFromKafka(name, scratch)) << name;
  }
}

TEST(KafkaMapping, TopicsTooLongForKafkaAreNotShown) {
  EXPECT_EQ(shownAs(std::string(250, 'k')), std::nullopt);
  EXPECT_EQ(shownAs(std::string(184, ' ')), std::nullopt);
  std::string out = "kept";
  EXPECT_FALSE(appendKafkaTopic(std::string(1000, 'k'), out));
  EXPECT_EQ(out, "kept");
}

}  // namespace
}  // namespace polylog::mapping
