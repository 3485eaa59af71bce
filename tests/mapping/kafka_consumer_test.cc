#include "mapping/kafka_consumer.h"

#include <gtest/gtest.h>

#include "core/base/byte_writer.h"

namespace polylog::mapping {
namespace {

std::string subscription(int16_t version) {
  ByteWriter out;
  out.i16(version);
  out.i32(2);
  out.bytes16("t");
  out.bytes16("no topic!");
  out.i32(3);
  out.bytes("abc");  // user data
  if (version >= 1) {
    out.i32(1);
    out.bytes16("t");
    out.i32(2);
    out.i32(0);
    out.i32(5);
  }
  if (version >= 2) out.i32(7);
  if (version >= 3) out.bytes16("rack");
  return out.take();
}

TEST(KafkaConsumer, SubscriptionsOfEveryVersionAreRead) {
  for (int16_t version = 0; version <= 3; ++version) {
    auto read = parseConsumerSubscription(subscription(version));
    ASSERT_TRUE(read.has_value()) << version;
    EXPECT_EQ(read->version, version);
    EXPECT_EQ(read->topics, std::vector<std::string>{"t"}) << "and no other can be";
    if (version >= 1) {
      ASSERT_EQ(read->owned.size(), 1U);
      EXPECT_EQ(read->owned[0].second, (std::vector<int32_t>{0, 5}));
    }
    EXPECT_EQ(read->rackId.has_value(), version >= 3);
  }
  EXPECT_TRUE(parseConsumerSubscription(subscription(3) + "more").has_value()) << "a later version";
}

TEST(KafkaConsumer, CutSubscriptionsAreRefused) {
  std::string whole = subscription(1);
  for (size_t size = 0; size < whole.size(); ++size) {
    auto read = parseConsumerSubscription(BytesView(whole).substr(0, size));
    // Behind the user data an old client's ends.
    bool old = size == subscription(0).size();
    EXPECT_EQ(read.has_value(), old) << size;
  }
  ByteWriter huge;
  huge.i16(0);
  huge.i32(INT32_MAX);
  EXPECT_FALSE(parseConsumerSubscription(huge.take()).has_value());
}

TEST(KafkaConsumer, AssignmentsComeBackAsWritten) {
  ConsumerFormat::Partitions assignment{{"a", {0, 1}}, {"with space", {2}}};
  for (int16_t version : {int16_t{0}, int16_t{3}, int16_t{9}}) {
    auto read = parseConsumerAssignment(writeConsumerAssignment(assignment, version));
    ASSERT_TRUE(read.has_value());
    EXPECT_EQ(*read, assignment);
  }
  EXPECT_FALSE(parseConsumerAssignment("").has_value());
}

TEST(KafkaConsumer, PatternsMatchWholeNamesAsKafkaSeesThem) {
  auto pattern = compileTopicPattern("news\\..*");
  ASSERT_TRUE(pattern.has_value());
  EXPECT_TRUE((*pattern)->matches("news.de"));
  EXPECT_FALSE((*pattern)->matches("old.news.de"));
  EXPECT_FALSE((*pattern)->matches("news"));
  auto marked = compileTopicPattern("enc--.*");
  EXPECT_TRUE((*marked)->matches("with space"));
  EXPECT_EQ(compileTopicPattern("(").error().kind, ErrorKind::kInvalidPattern);
  EXPECT_EQ(compileTopicPattern("a(?=b)").error().kind, ErrorKind::kInvalidPattern);
  EXPECT_EQ(compileTopicPattern(std::string(5000, 'a')).error().kind, ErrorKind::kInvalidPattern);
  EXPECT_EQ(compileTopicPattern("((a{100}){100}){100}").error().kind, ErrorKind::kInvalidPattern);
}

}  // namespace
}  // namespace polylog::mapping
