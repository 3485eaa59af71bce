#include "mapping/mqtt.h"

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

std::optional<std::string> nameOf(const Address& address) {
  std::string out;
  if (!appendMqttTopic(address, out)) return std::nullopt;
  return out;
}

// ---- names ------------------------------------------------------------------------------------

TEST(MqttMapping, FirstLevelIsTheTopicTheRestTheKey) {
  struct Case {
    const char* name;
    Address address;
  };
  for (const Case& c : {Case{"sensors/kitchen/temp", {"sensors", "kitchen/temp"}},
                        Case{"sensors", {"sensors", std::nullopt}},
                        Case{"sensors/", {"sensors", ""}}, Case{"/a", {"", "a"}},
                        Case{"/", {"", ""}}, Case{"//", {"", "/"}}, Case{"grün/ß", {"grün", "ß"}},
                        Case{"a/$x", {"a", "$x"}}, Case{"a/b/enc--", {"a", "b/enc--"}}}) {
    std::string scratch;
    Result<Address> got = splitMqttTopic(c.name, scratch);
    ASSERT_TRUE(got) << c.name;
    EXPECT_TRUE(sameAddress(*got, c.address)) << c.name;
    EXPECT_EQ(nameOf(*got), c.name);
  }
}

TEST(MqttMapping, RefusesNamesThatAreNone) {
  std::string scratch;
  for (const std::string& name :
       {std::string(), std::string("a/+"), std::string("a/#"), std::string("a+b"),
        std::string("a\0b", 3), std::string("a/\xff"), std::string("\xed\xa0\x80"),
        std::string(65536, 'a'), std::string("$SYS/x"), std::string("$x"), std::string("$")}) {
    Result<Address> got = splitMqttTopic(name, scratch);
    ASSERT_FALSE(got) << name;
    EXPECT_EQ(got.error().kind, ErrorKind::kInvalid);
    EXPECT_LT(got.error().text.size(), 400U);
  }
  EXPECT_TRUE(splitMqttTopic(std::string(65535, 'a'), scratch));
}

TEST(MqttMapping, WhatMqttCannotSayIsMarkedAndComesBack) {
  const std::string nul("\0", 1);
  struct Case {
    Address address;
    std::string name;
  };
  const Case cases[] = {
      {{"sensors", "a+b"}, "sensors/" + markedOf("a+b")},
      {{"sensors", "#"}, "sensors/" + markedOf("#")},
      {{"sensors", "\xff/x"}, "sensors/" + markedOf("\xff/x")},
      {{"sensors", nul}, "sensors/" + markedOf(nul)},
      {{"sensors", "enc--x"}, "sensors/" + markedOf("enc--x")},
      {{"sensors", "x/enc--y"}, "sensors/x/enc--y"},
      {{"enc--t", "k"}, markedOf("enc--t") + "/k"},
      {{"a+", "b+"}, markedOf("a+") + "/" + markedOf("b+")},
      {{"a+", std::nullopt}, markedOf("a+")},
      {{"a+", ""}, markedOf("a+") + "/"},
      {{"", std::nullopt}, "enc--"},
      {{"", ""}, "/"},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(nameOf(c.address), c.name);
    std::string scratch;
    Result<Address> got = splitMqttTopic(c.name, scratch);
    ASSERT_TRUE(got) << c.name << ": " << got.error().text;
    EXPECT_TRUE(sameAddress(*got, c.address)) << c.name;
  }
}

TEST(MqttMapping, AnAddressHasOneNameOnly) {
  std::string scratch;
  for (const std::string& name :
       {markedOf("sensors"), markedOf("sensors") + "/k", "sensors/" + markedOf("k"),
        markedOf("$SYS"), markedOf("a/b+"), std::string("enc--/a"), std::string("enc--x"),
        std::string("a/enc--x"), std::string("a/enc--Zm9v/more"), std::string("a/enc--")}) {
    EXPECT_FALSE(splitMqttTopic(name, scratch)) << name;
  }
}

TEST(MqttMapping, NamesTooLongForMqttAreRefused) {
  std::string out = "kept";
  EXPECT_FALSE(appendMqttTopic({"t", std::string(65534, 'k')}, out));
  EXPECT_FALSE(appendMqttTopic({"t", std::string(50000, '+')}, out));
  EXPECT_EQ(out, "kept");
  EXPECT_TRUE(appendMqttTopic({"t", std::string(65533, 'k')}, out));
  EXPECT_EQ(out.size(), 4U + 65535U);
}

TEST(MqttMapping, EveryAddressComesBack) {
  std::mt19937 random(3);
  const std::string letters("ab/+#$_\0\xff enc--", 16);
  for (int i = 0; i < 20000; ++i) {
    auto make = [&] {
      std::string s = random() % 8 == 0 ? "enc--" : "";
      for (auto n = random() % 6; n > 0; --n) s.push_back(letters[random() % letters.size()]);
      return s;
    };
    std::string topic = make();
    if (!canonicalTopicPossible(topic)) continue;
    std::string key = make();
    Address address{topic, random() % 4 == 0 ? std::nullopt : std::optional<BytesView>(key)};
    std::optional<std::string> name = nameOf(address);
    ASSERT_TRUE(name);
    ASSERT_TRUE(validMqttTopicName(*name)) << *name;
    std::string scratch;
    Result<Address> back = splitMqttTopic(*name, scratch);
    ASSERT_TRUE(back) << *name;
    ASSERT_TRUE(sameAddress(*back, address)) << *name;
  }
}

// ---- filters ----------------------------------------------------------------------------------

TEST(MqttMapping, FiltersAreDividedIntoLevels) {
  struct Case {
    std::string text;
    std::vector<FilterLevel> levels;
  };
  const Case cases[] = {
      {"sensors/kitchen", {{Kind::kLiteral, "sensors"}, {Kind::kLiteral, "kitchen"}}},
      {"#", {{Kind::kRest, ""}}},
      {"+", {{Kind::kOne, ""}}},
      {"/", {{Kind::kLiteral, ""}, {Kind::kLiteral, ""}}},
      {"+/+/#", {{Kind::kOne, ""}, {Kind::kOne, ""}, {Kind::kRest, ""}}},
      {"/+", {{Kind::kLiteral, ""}, {Kind::kOne, ""}}},
      {"a//#", {{Kind::kLiteral, "a"}, {Kind::kLiteral, ""}, {Kind::kRest, ""}}},
      {"$SYS/#", {{Kind::kLiteral, "$SYS"}, {Kind::kRest, ""}}},
      // Marked names are the names they stand for, level by level.
      {markedOf("a+") + "/+", {{Kind::kLiteral, "a+"}, {Kind::kOne, ""}}},
      {markedOf("a+"), {{Kind::kLiteral, "a+"}}},
      {"t/" + markedOf("x+/y"),
       {{Kind::kLiteral, "t"}, {Kind::kLiteral, "x+"}, {Kind::kLiteral, "y"}}},
      {"+/" + markedOf("x#"), {{Kind::kOne, ""}, {Kind::kLiteral, "x#"}}},
      {"enc--/#", {{Kind::kLiteral, ""}, {Kind::kRest, ""}}},
      {"t/enc--x/#", {{Kind::kLiteral, "t"}, {Kind::kLiteral, "enc--x"}, {Kind::kRest, ""}}},
  };
  for (const Case& c : cases) {
    Result<TopicFilter> filter = parseMqttFilter(c.text);
    ASSERT_TRUE(filter) << c.text << filter.error().text;
    EXPECT_TRUE(filter->levels == c.levels) << c.text;
  }
}

TEST(MqttMapping, RefusesFiltersThatAreNone) {
  for (const std::string& text :
       {std::string(), std::string("a+"), std::string("a/+b"), std::string("#/a"),
        std::string("a/#/b"), std::string("a#"), std::string("##"), std::string("++"),
        std::string("a/b#"), std::string("a\0", 2), std::string("\xff"), std::string(65536, 'a'),
        std::string("enc--x"), std::string("t/enc--x"), markedOf("$SYS") + "/#", markedOf("a/b"),
        std::string("+#/a"), std::string("#/enc--Zm9v")}) {
    Result<TopicFilter> filter = parseMqttFilter(text);
    ASSERT_FALSE(filter) << text;
    EXPECT_EQ(filter.error().kind, ErrorKind::kInvalid);
  }
}

TEST(MqttMapping, FilterLevelsAreLimited) {
  std::string text(kMqttMaxFilterLevels - 1, '/');
  EXPECT_EQ(parseMqttFilter(text)->levels.size(), kMqttMaxFilterLevels);
  EXPECT_FALSE(parseMqttFilter(text + "/"));
  std::string levels(kMqttMaxFilterLevels, '/');
  EXPECT_FALSE(parseMqttFilter("t/" + markedOf("+" + levels)));
}

TEST(MqttMapping, SharedSubscriptions) {
  Result<MqttSubscription> shared = parseMqttSubscription("$share/group/sensors/#");
  ASSERT_TRUE(shared);
  EXPECT_EQ(shared->shareName, std::optional<BytesView>("group"));
  EXPECT_TRUE(shared->filter == *parseMqttFilter("sensors/#"));

  EXPECT_EQ(parseMqttSubscription("$share/g//a")->filter.levels.size(), 2U);
  Result<MqttSubscription> plain = parseMqttSubscription("$shared/x");
  ASSERT_TRUE(plain);
  EXPECT_FALSE(plain->shareName);
  for (const char* bad : {"$share/", "$share/g", "$share/g/", "$share//a", "$share/g+/a",
                          "$share/#/a", "$share/g/a#"}) {
    EXPECT_FALSE(parseMqttSubscription(bad)) << bad;
  }
}

TEST(MqttMapping, Replays) {
  using Start = ReplayStart::Kind;
  const std::pair<const char*, ReplayStart> good[] = {
      {"earliest", {Start::kEarliest, 0}},
      {"offset=0", {Start::kOffset, 0}},
      {"offset=9223372036854775807", {Start::kOffset, INT64_MAX}},
      {"last=10", {Start::kLast, 10}},
      {"time=1764336000000", {Start::kTime, 1764336000000}},
      {"time=-90s", {Start::kAgo, 90'000}},
      {"time=-15m", {Start::kAgo, 900'000}},
      {"time=-1h", {Start::kAgo, 3'600'000}},
      {"time=-7d", {Start::kAgo, 604'800'000}}};
  for (const auto& [text, start] : good) {
    auto parsed = parseReplayStart(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_EQ(*parsed, start) << text;
    std::string filter = std::string("$replay/") + text + "/a/+/#";
    auto subscription = parseMqttSubscription(filter);
    ASSERT_TRUE(subscription) << filter;
    EXPECT_EQ(subscription->replay, std::optional(start));
    EXPECT_TRUE(subscription->filter == *parseMqttFilter("a/+/#"));
  }
  for (const char* bad :
       {"", "latest", "Earliest", "earliest=1", "offset=", "offset=-1", "offset=1x", "last",
        "last=1.5", "time=", "time=-1", "time=-h", "time=-1w", "time=1h",
        "time=-9223372036854775807d", "offset=9223372036854775808"}) {
    EXPECT_FALSE(parseReplayStart(bad)) << bad;
  }
  for (const char* bad :
       {"$replay", "$replay/", "$replay/earliest", "$replay/earliest/", "$replay/a", "$replay//a",
        "$replay/earliest/a#", "$replay/earliest/$SYS/#", "$replay/last=x/a",
        "$share/g/$replay/earliest/a"}) {
    auto parsed = parseMqttSubscription(bad);
    EXPECT_FALSE(parsed && (parsed->replay || parsed->shareName)) << bad;
  }
  EXPECT_FALSE(parseMqttSubscription("$replay/a"));
  EXPECT_FALSE(parseMqttSubscription("a")->replay);
}

// ---- payload and properties -------------------------------------------------------------------

TEST(MqttMapping, OnlyAClearedRetainedPayloadIsNull) {
  EXPECT_EQ(valueFromMqtt("", true), std::nullopt);
  EXPECT_EQ(valueFromMqtt("", false), std::optional<BytesView>(""));
  EXPECT_EQ(valueFromMqtt("x", true), std::optional<BytesView>("x"));
  Record record;
  EXPECT_EQ(mqttPayload(record), "");
  record.value = "x";
  EXPECT_EQ(mqttPayload(record), "x");
}

constexpr int64_t kNow = 1700000000000;

Record fromMqtt(const MqttProperties& properties, TextArena& arena) {
  Record record;
  record.guarantee = DeliveryGuarantee::kAtMostOnce;
  record.timestampMs = kNow;
  headersFromMqtt(properties, kNow, record.headers, arena);
  return record;
}

std::vector<std::pair<std::string, std::string>> asText(const std::vector<Header>& headers) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const Header& header : headers) {
    out.emplace_back(header.name, header.value ? std::string(*header.value) : "(null)");
  }
  return out;
}

using Texts = std::vector<std::pair<std::string, std::string>>;

Texts asText(const std::vector<std::pair<BytesView, BytesView>>& properties) {
  Texts out;
  for (const auto& [name, value] : properties) out.emplace_back(name, value);
  return out;
}

TEST(MqttMapping, PropertiesBecomeHeaders) {
  MqttProperties properties;
  properties.payloadFormat = 1;
  properties.messageExpirySeconds = 60;
  properties.contentType = "text/plain";
  properties.responseTopic = "replies/7";
  properties.correlationData = BytesView("\0\xff", 2);
  properties.userProperties = {{"b", "2"}, {"a", "1"}, {"a", "1"}, {"message-id", "m"}};
  TextArena arena;
  EXPECT_EQ(asText(fromMqtt(properties, arena).headers),
            (Texts{{"payload-format", "utf-8"},
                   {"expiry", "1700000060000"},
                   {"content-type", "text/plain"},
                   {"reply-to", "replies/7"},
                   {"correlation-id", std::string("\0\xff", 2)},
                   {"b", "2"},
                   {"a", "1"},
                   {"a", "1"},
                   {"message-id", "m"}}));
}

TEST(MqttMapping, NoPropertiesNoHeaders) {
  TextArena arena;
  EXPECT_TRUE(fromMqtt({}, arena).headers.empty());
  EXPECT_TRUE(arena.empty());
}

/// Within MQTT a message comes back exactly as it was sent.
TEST(MqttMapping, PropertiesComeBackExactly) {
  const std::vector<std::string> names = {"",
                                          "a",
                                          "content-type",
                                          "expiry",
                                          "user.expiry",
                                          "user.",
                                          "user.user.x",
                                          "user.user.expiry",
                                          "polylog.",
                                          "polylog.address",
                                          "timestamp",
                                          "enc--!null",
                                          "enc--_w",
                                          "enc--x",
                                          "user.polylog.x",
                                          "message-id",
                                          "user",
                                          markedOf("polylog.\xff"),
                                          markedOf("enc--!null"),
                                          markedOf(markedOf("\xff")),
                                          "user.payload-format",
                                          "grün"};
  std::mt19937 random(9);
  for (int i = 0; i < 3000; ++i) {
    MqttProperties sent;
    if (random() % 2 == 0) sent.payloadFormat = static_cast<uint8_t>(random() % 2);
    if (random() % 2 == 0) sent.messageExpirySeconds = 1 + static_cast<uint32_t>(random());
    if (random() % 2 == 0) sent.contentType = names[random() % names.size()];
    if (random() % 2 == 0) sent.responseTopic = "a/b";
    if (random() % 2 == 0) sent.correlationData = BytesView("\0\xff\xfe", random() % 4);
    for (auto n = random() % 5; n > 0; --n) {
      sent.userProperties.emplace_back(names[random() % names.size()],
                                       names[random() % names.size()]);
    }
    TextArena arena;
    Record record = fromMqtt(sent, arena);
    record.value = "\xff not text";  // payload format 1 comes back all the same
    MqttProperties got;
    got.userProperties.emplace_back("left", "over");
    ASSERT_EQ(mqttFromHeaders(record, kNow + 1, got, arena), Deliverable::kYes);
    ASSERT_EQ(got.payloadFormat, sent.payloadFormat);
    ASSERT_EQ(got.messageExpirySeconds, sent.messageExpirySeconds);
    ASSERT_EQ(got.contentType, sent.contentType);
    ASSERT_EQ(got.responseTopic, sent.responseTopic);
    ASSERT_EQ(got.correlationData, sent.correlationData);
    ASSERT_EQ(asText(got.userProperties), asText(sent.userProperties));
  }
}

TEST(MqttMapping, ExpiryCountsDownAndEnds) {
  MqttProperties properties;
  properties.messageExpirySeconds = 10;
  TextArena arena;
  Record record = fromMqtt(properties, arena);
  MqttProperties got;
  auto remaining = [&](int64_t later) -> std::optional<uint32_t> {
    bool delivered = mqttFromHeaders(record, kNow + later, got, arena) == Deliverable::kYes;
    EXPECT_EQ(isExpired(record, kNow + later), !delivered);
    return delivered ? got.messageExpirySeconds : std::nullopt;
  };
  EXPECT_EQ(remaining(0), 10U);
  EXPECT_EQ(remaining(999), 10U);
  EXPECT_EQ(remaining(1000), 9U);
  EXPECT_EQ(remaining(9999), 1U);
  EXPECT_EQ(remaining(10000), std::nullopt);
  EXPECT_EQ(remaining(20000), std::nullopt);

  properties.messageExpirySeconds = 0;
  record = fromMqtt(properties, arena);
  EXPECT_EQ(remaining(0), std::nullopt);
}

Record fromKafka(std::vector<Header> headers) {
  Record record;
  record.timestampMs = 42;
  record.headers = std::move(headers);
  return record;
}

TEST(MqttMapping, CanonicalHeadersBecomeProperties) {
  TextArena arena;
  MqttProperties got;
  Record record = fromKafka({{"content-type", "a/b"},
                             {"payload-format", "utf-8"},
                             {"reply-to", "re/ply"},
                             {"x", "y"},
                             {"correlation-id", "\xff"},
                             {"expiry", "1700000005000"},
                             {"user.content-type", "kept"},
                             {"user.other", "o"}});
  record.value = "grün";
  ASSERT_EQ(mqttFromHeaders(record, kNow, got, arena), Deliverable::kYes);
  EXPECT_EQ(got.contentType, "a/b");
  EXPECT_EQ(got.payloadFormat, 1);
  EXPECT_EQ(got.responseTopic, "re/ply");
  EXPECT_EQ(got.correlationData, "\xff");
  EXPECT_EQ(got.messageExpirySeconds, 5U);
  EXPECT_EQ(
      asText(got.userProperties),
      (Texts{{"x", "y"}, {"content-type", "kept"}, {"user.other", "o"}, {"timestamp", "42"}}));
}

TEST(MqttMapping, WhatMqttWouldNotTakeStaysAUserProperty) {
  TextArena arena;
  MqttProperties got;
  std::string longText(65536, 'x');
  Record record = fromKafka({{"content-type", "\xff"},
                             {"content-type", std::nullopt},
                             {"content-type", "first"},
                             {"content-type", "second"},
                             {"reply-to", "a/#"},
                             {"reply-to", ""},
                             {"expiry", "soon"},
                             {"expiry", "-1"},
                             {"expiry", "99999999999999999999"},
                             {"payload-format", "1"},
                             {"payload-format", "utf-8"},
                             {"correlation-id", longText},
                             {longText, "x"},
                             {"polylog.address", "a/b"},
                             {"\xff", std::nullopt}});
  record.value = "\xff";
  ASSERT_EQ(mqttFromHeaders(record, kNow, got, arena), Deliverable::kYes);
  EXPECT_EQ(got.contentType, "first");
  EXPECT_FALSE(got.responseTopic);
  EXPECT_FALSE(got.messageExpirySeconds);
  EXPECT_FALSE(got.payloadFormat);
  EXPECT_FALSE(got.correlationData);
  EXPECT_EQ(asText(got.userProperties), (Texts{{"content-type", "enc--_w"},
                                               {"content-type", "enc--!null"},
                                               {"content-type", "second"},
                                               {"reply-to", "a/#"},
                                               {"reply-to", ""},
                                               {"expiry", "soon"},
                                               {"expiry", "-1"},
                                               {"expiry", "99999999999999999999"},
                                               {"payload-format", "1"},
                                               {"payload-format", "utf-8"},
                                               {"enc--_w", "enc--!null"},
                                               {"timestamp", "42"}}));
}

TEST(MqttMapping, ExpiryFarAwayIsCapped) {
  TextArena arena;
  MqttProperties got;
  Record record = fromKafka({{"expiry", "9223372036854775807"}});
  ASSERT_EQ(mqttFromHeaders(record, 0, got, arena), Deliverable::kYes);
  EXPECT_EQ(got.messageExpirySeconds, 0xFFFFFFFFU);
}

TEST(MqttMapping, PayloadFormatAllowsNulInThePayload) {
  TextArena arena;
  MqttProperties got;
  Record record = fromKafka({{"payload-format", "utf-8"}});
  record.value = BytesView("a\0b", 3);
  ASSERT_EQ(mqttFromHeaders(record, 0, got, arena), Deliverable::kYes);
  EXPECT_EQ(got.payloadFormat, 1);
  record.value = BytesView("a\0\xff", 3);
  ASSERT_EQ(mqttFromHeaders(record, 0, got, arena), Deliverable::kYes);
  EXPECT_FALSE(got.payloadFormat);
}

}  // namespace
}  // namespace polylog::mapping
