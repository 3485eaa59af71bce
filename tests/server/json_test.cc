#include "server/json.h"

#include <gtest/gtest.h>

#include "core/base/json_value.h"

namespace polylog::server {
namespace {

TEST(JsonTest, base64IsExact) {
  for (size_t length = 0; length < 70; ++length) {
    std::string octets;
    for (size_t i = 0; i < length; ++i) octets += static_cast<char>(i * 37 + length);
    EXPECT_EQ(fromBase64(base64(octets)), octets) << length;
  }
  EXPECT_EQ(base64("Man"), "TWFu");
  EXPECT_EQ(base64("Ma"), "TWE=");
  EXPECT_EQ(base64(""), "");
}

TEST(JsonTest, whatIsNoBase64IsRefused) {
  for (const char* bad :
       {"a", "ab", "abc", "ab!=", "====", "a===", "=abc", "ab=c", "TWFu\n", "TW Fu"}) {
    EXPECT_EQ(fromBase64(bad), std::nullopt) << bad;
  }
}

TEST(JsonTest, octetsAreTextOrBase64OrNull) {
  Json json;
  json.object([&] {
    json.octets("text", "21.5 \xc2\xb0\"");
    json.octets("null", std::nullopt);
    json.octets("empty", "");
    json.octets("binary", BytesView("\x00\xff", 2));
  });
  EXPECT_EQ(json.text(),
            "{\"text\":\"21.5 \xc2\xb0\\\"\",\"null\":null,\"empty\":\"\","
            "\"binary_base64\":\"AP8=\"}");
}

TEST(JsonValueTest, whatIsWrittenCanBeRead) {
  auto value = JsonValue::parse(
      R"({"a":[1,-2,9223372036854775807,1.5,true,null],"b":{"c":"\u00e9\n"},"a":7,"":{}})");
  ASSERT_TRUE(value.has_value());
  const JsonValue::Array* array = value->find("a")->array();
  ASSERT_NE(array, nullptr);
  ASSERT_EQ(array->size(), 6U);
  EXPECT_EQ((*array)[0].number(), 1);
  EXPECT_EQ((*array)[1].number(), -2);
  EXPECT_EQ((*array)[2].number(), INT64_MAX);
  EXPECT_EQ((*array)[3].number(), std::nullopt);
  EXPECT_EQ((*array)[4].flag(), true);
  EXPECT_TRUE((*array)[5].isNull());
  EXPECT_EQ(*value->find("b")->find("c")->text(), "\xc3\xa9\n");
  EXPECT_NE(value->find("")->object(), nullptr);
  EXPECT_EQ(value->find("nothing"), nullptr);
  EXPECT_EQ(value->find("a")->find("b"), nullptr);
  EXPECT_EQ(JsonValue::parse("18446744073709551615")->number(), std::nullopt);
}

TEST(JsonValueTest, whatIsNoJsonIsRefused) {
  for (const char* bad : {"", " ", "{", "}", "[1,]", "{\"a\"}", "{\"a\":}", "nul", "1 2", "\"a",
                          "[1]]", "{\"a\":1,}", "'a'", "\"\\u12\""}) {
    EXPECT_FALSE(JsonValue::parse(bad).has_value()) << bad;
  }
}

TEST(JsonValueTest, depthAndNumberAreBounded) {
  auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(JsonValue::parse(nested(JsonValue::kMaxDepth)).has_value());
  EXPECT_FALSE(JsonValue::parse(nested(JsonValue::kMaxDepth + 1)).has_value());
  EXPECT_FALSE(JsonValue::parse(nested(1'000'000)).has_value());
  std::string many = "[0";
  for (size_t i = 0; i < JsonValue::kMaxValues; ++i) many += ",0";
  EXPECT_FALSE(JsonValue::parse(many + "]").has_value());
}

}  // namespace
}  // namespace polylog::server
