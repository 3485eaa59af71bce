#include "server/json.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace polylog::server
