#include "mapping/amqp.h"

#include <gtest/gtest.h>

#include <random>

namespace polylog::mapping {
namespace {

using Kind = FilterLevel::Kind;

std::string markedOf(BytesView name) {
  std::string out;
  appendMarked(name, out);
  return out;
}

std::optional<std::string> keyOf(const Address& address) {
  std::string out;
  if (!appendRoutingKey(address, out)) return std::nullopt;
  return out;
}

// ---- what was sent ----------------------------------------------------------------------------

Record withOriginal(const std::optional<BytesView>& value) {
  Record record;
  record.headers = {{"a", "b"}, {kAmqpOriginal, value}};
  return record;
}

TEST(AmqpMapping, WhatWasSentComesBack) {
  const std::string longest(255, 'x');
  const BytesView properties("\x10\x00\x02\x00\xff", 5);
  for (const std::string& exchange : {std::string(), std::string("amq.topic"), longest}) {
    for (const std::string& key : {std::string(), std::string("a\0b", 3), longest}) {
      std::string out = "before";
      appendAmqpOriginal(exchange, key, properties, out);
      ASSERT_TRUE(out.starts_with("before\x01"));
      Record record = withOriginal(BytesView(out).substr(6));
      std::optional<AmqpOriginal> got = amqpOriginal(record);
      ASSERT_TRUE(got);
      EXPECT_EQ(got->exchange, exchange);
      EXPECT_EQ(got->routingKey, key);
      EXPECT_EQ(got->properties, properties);
    }
  }
}

/// The layout is on disk.
TEST(AmqpMapping, TheLayoutOfWhatWasSentStays) {
  std::string out;
  appendAmqpOriginal("ex", "key", BytesView("\0\0", 2), out);
  EXPECT_EQ(out, std::string("\x01\x02"
                             "ex\x03"
                             "key\0\0",
                             10));
}

TEST(AmqpMapping, MalformedOriginalsAreNone) {
  EXPECT_FALSE(amqpOriginal(Record{}));
  EXPECT_FALSE(amqpOriginal(withOriginal(std::nullopt)));
  std::string whole;
  appendAmqpOriginal("exchange", "key", BytesView("\0\0", 2), whole);
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_FALSE(amqpOriginal(withOriginal(whole.substr(0, length)))) << length;
  }
  EXPECT_TRUE(amqpOriginal(withOriginal(whole)));
  whole[0] = 2;
  EXPECT_FALSE(amqpOriginal(withOriginal(whole)));
}

// ---- names ------------------------------------------------------------------------------------

TEST(AmqpMapping, FirstWordIsTheTopicTheRestTheKey) {
  struct Case {
    const char* routingKey;
    Address address;
  };
  for (const Case& c :
       {Case{"sensors.kitchen.temp", {"sensors", "kitchen/temp"}},
        Case{"sensors", {"sensors", std::nullopt}}, Case{"sensors.", {"sensors", ""}},
        Case{"", {"", std::nullopt}}, Case{".", {"", ""}}, Case{"..", {"", "/"}},
        Case{".a", {"", "a"}}, Case{"a/b.c", {"a.b", "c"}}, Case{"a.b/c", {"a", "b.c"}},
        Case{"/", {".", std::nullopt}}, Case{"a./", {"a", "."}}, Case{"a.$x", {"a", "$x"}},
        Case{"a.b.enc--", {"a", "b/enc--"}}, Case{"gr\xc3\xbcn.a", {"gr\xc3\xbcn", "a"}},
        Case{"a+.b+", {"a+", "b+"}}}) {
    std::string scratch;
    Result<Address> got = addressFromRoutingKey(c.routingKey, scratch);
    ASSERT_TRUE(got) << c.routingKey;
    EXPECT_TRUE(sameAddress(*got, c.address)) << c.routingKey;
    EXPECT_EQ(keyOf(*got), c.routingKey);
  }
}

TEST(AmqpMapping, WhatHasNothingToSwapIsNotCopied) {
  std::string scratch = "untouched";
  const BytesView key = "sensors.kitchen";
  EXPECT_EQ(addressFromRoutingKey(key, scratch)->topic.data(), key.data());
  EXPECT_EQ(scratch, "untouched");
}

TEST(AmqpMapping, WildcardsAreMarkedAndComeBack) {
  struct Case {
    Address address;
    std::string routingKey;
  };
  const Case cases[] = {
      {{"sensors", "*"}, "sensors." + markedOf("*")},
      {{"sensors", "a/#"}, "sensors." + markedOf("a/#")},
      {{"sensors", "a*b"}, "sensors." + markedOf("a*b")},
      {{"sensors", "enc--x"}, "sensors." + markedOf("enc--x")},
      {{"sensors", "x/enc--y"}, "sensors.x.enc--y"},
      {{"enc--t", "k.1/2"}, markedOf("enc--t") + ".k/1.2"},
      {{"a.b*", "c.d/e#"}, markedOf("a.b*") + "." + markedOf("c.d/e#")},
      {{"a.1", "b/#"}, "a/1." + markedOf("b/#")},
      {{"#", std::nullopt}, markedOf("#")},
      {{"#", ""}, markedOf("#") + "."},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(keyOf(c.address), c.routingKey);
    std::string scratch;
    Result<Address> got = addressFromRoutingKey(c.routingKey, scratch);
    ASSERT_TRUE(got) << c.routingKey << ": " << got.error().text;
    EXPECT_TRUE(sameAddress(*got, c.address)) << c.routingKey;
  }
}

/// Publishers may use them: RabbitMQ lets them.
TEST(AmqpMapping, LiteralWildcardsAreTakenAsTheyAre) {
  std::string scratch;
  EXPECT_TRUE(sameAddress(*addressFromRoutingKey("a.*.#", scratch), {"a", "*/#"}));
  EXPECT_TRUE(sameAddress(*addressFromRoutingKey("#", scratch), {"#", std::nullopt}));
}

TEST(AmqpMapping, RefusesTheBrokersOwnAndMarksOfNothing) {
  std::string scratch;
  for (const std::string& key :
       {std::string("$SYS"), std::string("$SYS.x"), std::string("$"), markedOf("$SYS*"),
        markedOf("a/b*"), markedOf("sensors"), markedOf("sensors") + ".k",
        "sensors." + markedOf("k"), "sensors." + markedOf("a+b"), std::string("enc--"),
        std::string("enc--."), std::string("enc--x"), std::string("a.enc--x"),
        std::string("a.enc--Kg.more"), std::string("a.enc--*"), std::string("enc--/Kg"),
        std::string(256, 'k')}) {
    Result<Address> got = addressFromRoutingKey(key, scratch);
    ASSERT_FALSE(got) << key;
    EXPECT_EQ(got.error().kind, ErrorKind::kInvalid);
    EXPECT_LT(got.error().text.size(), 400U);
  }
  EXPECT_TRUE(addressFromRoutingKey(std::string(255, 'k'), scratch));
}

TEST(AmqpMapping, NamesTooLongForAmqpAreRefused) {
  std::string out = "kept";
  EXPECT_FALSE(appendRoutingKey({"t", std::string(254, 'k')}, out));
  EXPECT_FALSE(appendRoutingKey({std::string(256, 't'), std::nullopt}, out));
  EXPECT_FALSE(appendRoutingKey({"t", std::string(200, '*')}, out));
  EXPECT_FALSE(appendRoutingKey({"t", std::string(100'000, '*')}, out));
  EXPECT_EQ(out, "kept");
  EXPECT_TRUE(appendRoutingKey({"t", std::string(253, '.')}, out));
  EXPECT_EQ(out, "keptt." + std::string(253, '/'));
}

TEST(AmqpMapping, EveryAddressComesBack) {
  std::mt19937 random(3);
  const std::string letters("ab./*#$_\0\xff enc--", 17);
  std::string scratch;
  for (int i = 0; i < 40000; ++i) {
    auto make = [&](bool anyOctets) {
      std::string s = random() % 8 == 0 ? "enc--" : "";
      for (auto n = random() % 6; n > 0; --n) {
        s.push_back(anyOctets ? static_cast<char>(random()) : letters[random() % letters.size()]);
      }
      return random() % 16 == 0 ? markedOf(s) : s;
    };
    std::string topic = make(i % 3 == 0);
    if (!canonicalTopicPossible(topic)) continue;
    std::string key = make(i % 3 == 0);
    Address address{topic, random() % 4 == 0 ? std::nullopt : std::optional<BytesView>(key)};
    std::optional<std::string> name = keyOf(address);
    ASSERT_TRUE(name);
    ASSERT_EQ(name->find_first_of("*#"), std::string::npos);
    Result<Address> back = addressFromRoutingKey(*name, scratch);
    ASSERT_TRUE(back) << *name << ": " << back.error().text;
    ASSERT_TRUE(sameAddress(*back, address)) << *name;
  }
}

TEST(AmqpMapping, EveryRoutingKeyWithoutWildcardsComesBack) {
  std::mt19937 random(4);
  const std::string letters("ab./$_\0 enc--Kg", 16);
  std::string scratch;
  for (int i = 0; i < 40000; ++i) {
    std::string key;
    for (auto n = random() % 12; n > 0; --n) key.push_back(letters[random() % letters.size()]);
    if (Result<Address> address = addressFromRoutingKey(key, scratch)) {
      ASSERT_TRUE(canonicalTopicPossible(address->topic)) << key;
      ASSERT_EQ(keyOf(*address), key);
    }
  }
}

// ---- binding keys -----------------------------------------------------------------------------

TEST(AmqpMapping, BindingKeysAreDividedIntoLevels) {
  struct Case {
    std::string text;
    std::vector<FilterLevel> levels;
  };
  const Case cases[] = {
      {"sensors.kitchen", {{Kind::kLiteral, "sensors"}, {Kind::kLiteral, "kitchen"}}},
      {"#", {{Kind::kRest, ""}}},
      {"*", {{Kind::kOne, ""}}},
      {"", {{Kind::kLiteral, ""}}},
      {".", {{Kind::kLiteral, ""}, {Kind::kLiteral, ""}}},
      {"*.*.#", {{Kind::kOne, ""}, {Kind::kOne, ""}, {Kind::kRest, ""}}},
      {"#.temp", {{Kind::kRest, ""}, {Kind::kLiteral, "temp"}}},
      {"a.#.b", {{Kind::kLiteral, "a"}, {Kind::kRest, ""}, {Kind::kLiteral, "b"}}},
      {"#.#.a.#.#", {{Kind::kRest, ""}, {Kind::kLiteral, "a"}, {Kind::kRest, ""}}},
      {"a/b.c/d", {{Kind::kLiteral, "a.b"}, {Kind::kLiteral, "c.d"}}},
      {"a*.#b.**", {{Kind::kLiteral, "a*"}, {Kind::kLiteral, "#b"}, {Kind::kLiteral, "**"}}},
      {"\xff.\xfe", {{Kind::kLiteral, "\xff"}, {Kind::kLiteral, "\xfe"}}},
      {"$SYS.#", {{Kind::kLiteral, "$SYS"}, {Kind::kRest, ""}}},
      // Marked names are the names they stand for, level by level.
      {markedOf("a*") + ".*", {{Kind::kLiteral, "a*"}, {Kind::kOne, ""}}},
      {markedOf("a.#"), {{Kind::kLiteral, "a.#"}}},
      {"t." + markedOf("x*/y.z"),
       {{Kind::kLiteral, "t"}, {Kind::kLiteral, "x*"}, {Kind::kLiteral, "y.z"}}},
      {"*." + markedOf("#"), {{Kind::kOne, ""}, {Kind::kLiteral, "#"}}},
      {"enc--.#", {{Kind::kLiteral, ""}, {Kind::kRest, ""}}},
      {"t.enc--x.#", {{Kind::kLiteral, "t"}, {Kind::kLiteral, "enc--x"}, {Kind::kRest, ""}}},
  };
  for (const Case& c : cases) {
    Result<TopicFilter> filter = filterFromBindingKey(c.text);
    ASSERT_TRUE(filter) << c.text << filter.error().text;
    EXPECT_TRUE(filter->levels == c.levels) << c.text;
  }
}

TEST(AmqpMapping, RefusesBindingKeysThatAreNone) {
  for (const std::string& text :
       {std::string(256, 'a'), std::string("enc--x"), std::string("t.enc--x"),
        std::string("t.enc--Kg.x"), markedOf("$SYS") + ".#", markedOf("a/b")}) {
    Result<TopicFilter> filter = filterFromBindingKey(text);
    ASSERT_FALSE(filter) << text;
    EXPECT_EQ(filter.error().kind, ErrorKind::kInvalid);
  }
  EXPECT_EQ(filterFromBindingKey(std::string(255, '.'))->levels.size(), 256U);
}

/// An address's routing key, as a binding key, is the filter of literals that matches it.
TEST(AmqpMapping, RoutingKeysBindToTheirAddress) {
  for (const Address& address :
       {Address{"a.b", "c/d.e"}, Address{"a*", "b/#"}, Address{"", std::nullopt}, Address{"", ""},
        Address{"a", "enc--"}, Address{"\xff", "x/*/y"}, Address{"a", std::nullopt}}) {
    Result<TopicFilter> filter = filterFromBindingKey(keyOf(address).value());
    ASSERT_TRUE(filter);
    std::string text;
    for (const FilterLevel& level : filter->levels) {
      EXPECT_EQ(level.kind, Kind::kLiteral);
      text += (&level == filter->levels.data() ? "" : "/") + level.text;
    }
    std::string expected;
    appendAddress(address, expected);
    EXPECT_EQ(text, expected);
  }
}

}  // namespace
}  // namespace polylog::mapping
