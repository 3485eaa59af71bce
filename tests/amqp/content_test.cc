#include "codecs/amqp/content.h"

#include <gtest/gtest.h>

#include <string>

namespace polylog::amqp {
namespace {

using std::string_literals::operator""s;

/// As pika 1.2 writes them, with all properties; the table h=1 is among them.
const std::string kAll =
    "\xFF\xFC\3a/b\1c\0\0\0\7\1hI\0\0\0\1\2\3\1d\1e\0015\1f\0\0\0\0\0\0\0\6\1g\1h\1i\1j"s;

std::string encoded(const BasicProperties& properties) {
  ByteWriter out;
  encodeProperties(properties, out);
  return out.take();
}

bool isInvalid(BytesView properties) {
  const auto decoded = decodeProperties(properties);
  return !decoded && decoded.error().kind == ErrorKind::kInvalid;
}

TEST(ContentHeaders, AreClassSizeAndProperties) {
  const std::string wire = "\0\x3C\0\0\1\2\3\4\5\6\7\10"s + kAll;
  const auto header = decodeContentHeader(wire);
  ASSERT_TRUE(header);
  EXPECT_EQ(header->classId, 60);
  EXPECT_EQ(header->bodySize, 0x0102030405060708U);
  EXPECT_EQ(header->properties, kAll);
  for (size_t cut = 0; cut < 12; ++cut) {
    const auto refused = decodeContentHeader(BytesView(wire).substr(0, cut));
    ASSERT_FALSE(refused) << cut;
    EXPECT_EQ(refused.error().kind, ErrorKind::kInvalid);
  }
}

TEST(ContentHeaders, HaveNoWeight) {
  EXPECT_TRUE(decodeContentHeader("\0\x3C\0\0\0\0\0\0\0\0\0\1"s));
  EXPECT_FALSE(decodeContentHeader("\0\x3C\0\1\0\0\0\0\0\0\0\1\0\0"s));
}

TEST(Properties, AllAsPikaWritesThem) {
  const auto all = decodeProperties(kAll);
  ASSERT_TRUE(all);
  EXPECT_EQ(all->contentType, "a/b");
  EXPECT_EQ(all->contentEncoding, "c");
  EXPECT_EQ(all->headers, "\1hI\0\0\0\1"s);
  EXPECT_EQ(all->deliveryMode, 2);
  EXPECT_EQ(all->priority, 3);
  EXPECT_EQ(all->correlationId, "d");
  EXPECT_EQ(all->replyTo, "e");
  EXPECT_EQ(all->expiration, "5");
  EXPECT_EQ(all->messageId, "f");
  EXPECT_EQ(all->timestamp, 6U);
  EXPECT_EQ(all->type, "g");
  EXPECT_EQ(all->userId, "h");
  EXPECT_EQ(all->appId, "i");
  EXPECT_EQ(all->clusterId, "j");
  EXPECT_EQ(encoded(*all), kAll);
}

TEST(Properties, NoneAreTwoOctets) {
  const auto none = decodeProperties("\0\0"s);
  ASSERT_TRUE(none);
  EXPECT_FALSE(none->contentType || none->headers || none->deliveryMode || none->timestamp ||
               none->clusterId);
  EXPECT_EQ(encoded(*none), "\0\0"s);
}

TEST(Properties, EachComesBackAlone) {
  const std::string strings = "\2xy";
  for (unsigned bit = 2; bit < 16; ++bit) {
    std::string list = strings;
    if (bit == 13) list = "\0\0\0\2\1V"s;  // headers, whatever is in them
    if (bit == 12 || bit == 11) list = "\5";
    if (bit == 6) list = "\0\0\0\0\0\0\0\5"s;
    const unsigned flags = 1U << bit;
    const std::string wire =
        std::string{static_cast<char>(flags >> 8), static_cast<char>(flags & 0xFFU)} + list;
    const auto decoded = decodeProperties(wire);
    ASSERT_TRUE(decoded) << bit;
    EXPECT_EQ(encoded(*decoded), wire) << bit;
    EXPECT_TRUE(isInvalid(wire + "x")) << bit;
    EXPECT_TRUE(isInvalid(wire.substr(0, wire.size() - 1))) << bit;
  }
}

TEST(Properties, EmptyIsNotAbsent) {
  const auto empty = decodeProperties("\xA0\0\0\0\0\0\0"s);
  ASSERT_TRUE(empty);
  EXPECT_EQ(empty->contentType, "");
  EXPECT_EQ(empty->headers, "");
  EXPECT_FALSE(empty->contentEncoding);
  EXPECT_EQ(encoded(*empty), "\xA0\0\0\0\0\0\0"s);
}

TEST(Properties, FlagsWithoutAPropertyAreRefused) {
  EXPECT_TRUE(isInvalid("\0\1"s));
  EXPECT_TRUE(isInvalid("\0\1\0\0"s));  // continued
  EXPECT_TRUE(isInvalid("\0\2"s));
}

TEST(Properties, CutAnywhereTheyAreMalformed) {
  for (size_t cut = 0; cut < kAll.size(); ++cut) {
    EXPECT_TRUE(isInvalid(BytesView(kAll).substr(0, cut))) << cut;
  }
  EXPECT_TRUE(isInvalid(kAll + '\0'));
  EXPECT_TRUE(isInvalid("\x20\0\xFF\xFF\xFF\xFF"s));  // headers longer than all there is
}

TEST(Properties, ShortStringsAreCutAt255Octets) {
  const std::string longer(300, 'x');
  BasicProperties properties;
  properties.messageId = longer;
  const std::string wire = encoded(properties);
  const auto decoded = decodeProperties(wire);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->messageId, longer.substr(0, 255));
}

}  // namespace
}  // namespace polylog::amqp
