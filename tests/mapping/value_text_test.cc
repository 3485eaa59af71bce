#include "mapping/value_text.h"

#include <gtest/gtest.h>

#include <limits>

namespace polylog::mapping {
namespace {

std::string textFor(const Value& value) {
  std::string out;
  appendText(value, out);
  return out;
}

std::string jsonFor(const Value& value) {
  std::string out;
  appendJson(value, out);
  return out;
}

Value text(BytesView value) {
  return Value(std::string(value));
}

TEST(ValueText, NumbersAreDecimal) {
  EXPECT_EQ(textFor(Value(std::numeric_limits<int64_t>::min())), "-9223372036854775808");
  EXPECT_EQ(textFor(Value(std::numeric_limits<int64_t>::max())), "9223372036854775807");
  EXPECT_EQ(textFor(Value(0.5)), "0.5");
  EXPECT_EQ(textFor(Value(3.0)), "3");
  EXPECT_EQ(textFor(Value(1e300)), "1e+300");
  EXPECT_EQ(textFor(Value(-2.2250738585072014e-308)), "-2.2250738585072014e-308");
  EXPECT_EQ(textFor(Value(std::numeric_limits<double>::infinity())), "inf");
  EXPECT_EQ(textFor(Value(Value::Timestamp{UINT64_MAX})), "18446744073709551615");
  EXPECT_EQ(textFor(Value(true)), "true");
  EXPECT_EQ(textFor(Value(false)), "false");
}

TEST(ValueText, DecimalsHaveTheirPoint) {
  struct Case {
    Value::Decimal decimal;
    std::string text;
  };
  for (const Case& c :
       {Case{{0, 0}, "0"}, Case{{0, 4294967295}, "4294967295"}, Case{{2, 0}, "0.00"},
        Case{{1, 5}, "0.5"}, Case{{3, 12345}, "12.345"}, Case{{5, 12345}, "0.12345"},
        Case{{7, 12345}, "0.0012345"}, Case{{255, 1}, "0." + std::string(254, '0') + "1"}}) {
    EXPECT_EQ(textFor(Value(c.decimal)), c.text);
  }
}

TEST(ValueText, TextsAndOctetsAreThemselves) {
  EXPECT_EQ(textFor(text("a\"b")), "a\"b");
  EXPECT_EQ(textFor(Value(Value::Octets{"\xff"})), "\xff");
  EXPECT_EQ(textFor({}), "");
}

TEST(ValueText, JsonEscapesWhatItMust) {
  EXPECT_EQ(jsonFor(text("a\"b\\c/d\x7f gr\xc3\xbcn")), "\"a\\\"b\\\\c/d\x7f gr\xc3\xbcn\"");
  EXPECT_EQ(jsonFor(text("\n\t\x1f")), R"("\u000a\u0009\u001f")");
  EXPECT_EQ(jsonFor(text("")), "\"\"");
  // What is no text is marked, as everywhere.
  EXPECT_EQ(jsonFor(Value(Value::Octets{"\xff"})), R"("enc--_w")");
  EXPECT_EQ(jsonFor(text(BytesView("\0", 1))), R"("enc--AA")");
  EXPECT_EQ(jsonFor(text("enc--_w")), "\"enc--ZW5jLS1fdw\"");
}

TEST(ValueText, JsonNestsAndKeepsOrderAndDuplicates) {
  Table inner;
  inner.emplace_back("b", Value(int64_t{1}));
  inner.emplace_back("a", Value());
  inner.emplace_back("b", Value(Value::Decimal{1, 25}));
  inner.emplace_back("\"", Value(true));
  Value::Array array;
  array.push_back(Value(inner));
  array.push_back(Value(Value::Array{}));
  array.push_back(Value(Table{}));
  array.push_back(Value(std::numeric_limits<double>::quiet_NaN()));
  array.push_back(Value(-std::numeric_limits<double>::infinity()));
  array.push_back(Value(Value::Timestamp{7}));
  const std::string json = R"([{"b":1,"a":null,"b":2.5,"\"":true},[],{},"nan","-inf",7])";
  EXPECT_EQ(jsonFor(Value(array)), json);
  EXPECT_EQ(textFor(Value(array)), json);
}

}  // namespace
}  // namespace polylog::mapping
