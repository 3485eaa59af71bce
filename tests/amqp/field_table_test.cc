#include "codecs/amqp/field_table.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <utility>

namespace polylog::amqp {
namespace {

using std::string_literals::operator""s;

std::string encoded(const Table& table) {
  ByteWriter out;
  encodeTable(table, out);
  return out.take();
}

/// Without the length.
std::string octetsOf(const Table& table) {
  return encoded(table).substr(4);
}

/// The value of a table "k = ..." that has `octets` (letter and all) in its place.
Value valueOf(BytesView octets) {
  const auto table = decodeTable("\1k"s.append(octets));
  if (!table || table->size() != 1 || (*table)[0].first != "k") {
    ADD_FAILURE() << "not a table of one value";
    return {};
  }
  return (*table)[0].second;
}

Value integer(int64_t number) {
  return Value(number);
}

bool isInvalid(BytesView octets) {
  const auto table = decodeTable(octets);
  return !table && table.error().kind == ErrorKind::kInvalid;
}

std::string length(size_t octets) {
  ByteWriter out;
  out.u32(static_cast<uint32_t>(octets));
  return out.take();
}

TEST(FieldTables, EmptyOnesAreTheirLength) {
  ASSERT_TRUE(decodeTable(""));
  EXPECT_TRUE(decodeTable("")->empty());
  EXPECT_EQ(encoded({}), "\0\0\0\0"s);
}

TEST(FieldTables, IntegersOfEveryWidth) {
  EXPECT_EQ(valueOf("b\x80"), integer(-128));
  EXPECT_EQ(valueOf("B\x80"), integer(128));
  EXPECT_EQ(valueOf("s\x80\0"s), integer(-32768));
  EXPECT_EQ(valueOf("u\x80\0"s), integer(32768));
  EXPECT_EQ(valueOf("I\x80\0\0\0"s), integer(std::numeric_limits<int32_t>::min()));
  EXPECT_EQ(valueOf("i\x80\0\0\0"s), integer(int64_t{1} << 31));
  EXPECT_EQ(valueOf("l\x80\0\0\0\0\0\0\0"s), integer(std::numeric_limits<int64_t>::min()));
  // RabbitMQ's errata: signed like `l`, though the specification says otherwise.
  EXPECT_EQ(valueOf("L\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFE"), integer(-2));
}

TEST(FieldTables, OtherScalars) {
  EXPECT_EQ(valueOf("t\0"s), Value(false));
  EXPECT_EQ(valueOf("t\1"), Value(true));
  EXPECT_EQ(valueOf("t\x80"), Value(true));
  EXPECT_EQ(valueOf("f\xBF\x40\0\0"s), Value(-0.75));
  EXPECT_EQ(valueOf("d\xBF\xE8\0\0\0\0\0\0"s), Value(-0.75));
  EXPECT_EQ(valueOf("D\2\0\0\1\x3A"s), Value(Value::Decimal{2, 314}));
  EXPECT_EQ(valueOf("T\0\0\0\0\x65\x53\xF1\0"s), Value(Value::Timestamp{1'700'000'000}));
  EXPECT_EQ(valueOf("V"), Value());
}

TEST(FieldTables, TextsAndOctets) {
  EXPECT_EQ(valueOf("S\0\0\0\3a\0b"s), Value("a\0b"s));
  EXPECT_EQ(valueOf("S\0\0\0\0"s), Value(std::string()));
  EXPECT_EQ(valueOf("x\0\0\0\2\xFF\0"s), Value(Value::Octets{"\xFF\0"s}));
}

TEST(FieldTables, TablesAndArraysInsideOneAnother) {
  // {a: [1, {b: null}, []], a: {}}
  const std::string octets = "\1aA\0\0\0\x12I\0\0\0\1F\0\0\0\3\1bVA\0\0\0\0\1aF\0\0\0\0"s;
  Value::Array array;
  array.push_back(integer(1));
  array.push_back(Value(Table{{"b", Value()}}));
  array.push_back(Value(Value::Array{}));
  Table expected;
  expected.emplace_back("a", Value(std::move(array)));
  expected.emplace_back("a", Value(Table{}));
  const auto table = decodeTable(octets);
  ASSERT_TRUE(table);
  EXPECT_EQ(*table, expected);
  EXPECT_EQ(encoded(*table), length(octets.size()) + octets);
}

TEST(FieldTables, OneOfEachTypeIsWrittenInItsOneWay) {
  const std::string octets =
      "\1aV\1bt\1\1cI\xFF\xFF\xFF\xFF\1dl\0\0\0\0\x80\0\0\0\1ed\x3F\xF0\0\0\0\0\0\0"
      "\1fS\0\0\0\1s\1gx\0\0\0\1o\1hD\1\0\0\0\2\1iT\0\0\0\0\0\0\0\3\0V"s;
  const auto table = decodeTable(octets);
  ASSERT_TRUE(table);
  EXPECT_EQ(octetsOf(*table), octets);
}

TEST(FieldTables, IntegersAreWidened) {
  const auto written = [](int64_t number) { return octetsOf({{"k", integer(number)}}); };
  EXPECT_EQ(written(1), "\1kI\0\0\0\1"s);
  EXPECT_EQ(written(std::numeric_limits<int32_t>::max()), "\1kI\x7F\xFF\xFF\xFF"s);
  EXPECT_EQ(written(std::numeric_limits<int32_t>::min()), "\1kI\x80\0\0\0"s);
  EXPECT_EQ(written(int64_t{1} << 31), "\1kl\0\0\0\0\x80\0\0\0"s);
  EXPECT_EQ(written(-(int64_t{1} << 31) - 1), "\1kl\xFF\xFF\xFF\xFF\x7F\xFF\xFF\xFF"s);
}

TEST(FieldTables, NamesAreCutAt255Octets) {
  const std::string name(300, 'n');
  const auto table = decodeTable(octetsOf({{name, Value(true)}}));
  ASSERT_TRUE(table);
  EXPECT_EQ((*table)[0].first, name.substr(0, 255));
}

TEST(FieldTables, CutAnywhereButBetweenEntriesTheyAreMalformed) {
  const std::string octets =
      "\1aA\0\0\0\x12I\0\0\0\1F\0\0\0\3\1bVA\0\0\0\0\1cd\x3F\xF0\0\0\0\0\0\0\1dS\0\0\0\1s"s;
  ASSERT_TRUE(decodeTable(octets));
  for (size_t cut = 1; cut < octets.size(); ++cut) {
    const bool between = cut == 25 || cut == 36;
    EXPECT_EQ(isInvalid(BytesView(octets).substr(0, cut)), !between) << cut;
  }
}

TEST(FieldTables, LengthsBeyondTheEndAreMalformed) {
  for (const char letter : {'S', 'x', 'A', 'F'}) {
    EXPECT_TRUE(isInvalid("\1k"s + letter + "\xFF\xFF\xFF\xFF"s)) << letter;
    EXPECT_TRUE(isInvalid("\1k"s + letter + "\0\0\0\1"s)) << letter;
  }
  EXPECT_TRUE(isInvalid("\xFFk"));
  // An inner length that ends inside an inner value.
  EXPECT_TRUE(isInvalid("\1kA\0\0\0\2I\0\0\0\1"s));
}

TEST(FieldTables, OtherLettersAreMalformed) {
  const std::string known = "tbBsuIilLfdDTSxAFV";
  for (unsigned letter = 0; letter < 256; ++letter) {
    const auto octet = static_cast<char>(letter);
    // Enough zeros for any scalar: only a letter that nobody knows can't be read up to them.
    const std::string octets = "\1k"s + octet + std::string(64, '\0');
    const bool scalar = known.find(octet) != std::string::npos;
    if (scalar) continue;
    EXPECT_TRUE(isInvalid(octets)) << letter;
    EXPECT_TRUE(isInvalid("\1k"s + octet)) << letter;
  }
}

/// A table of `depth` tables or arrays inside one another, itself included.
std::string nested(char letter, int depth) {
  std::string inner;
  for (int i = 1; i < depth; ++i) {
    const bool outermost = i == depth - 1;
    const std::string name = letter == 'F' || outermost ? "\1k" : "";
    inner = name + letter + length(inner.size()) + inner;
  }
  return inner;
}

TEST(FieldTables, DepthIsCapped) {
  for (const char letter : {'A', 'F'}) {
    EXPECT_TRUE(decodeTable(nested(letter, kMaxTableDepth))) << letter;
    EXPECT_TRUE(isInvalid(nested(letter, kMaxTableDepth + 1))) << letter;
    EXPECT_TRUE(isInvalid(nested(letter, 1000))) << letter;
  }
  const auto deepest = decodeTable(nested('F', kMaxTableDepth));
  ASSERT_TRUE(deepest);
  EXPECT_EQ(octetsOf(*deepest), nested('F', kMaxTableDepth));
}

}  // namespace
}  // namespace polylog::amqp
