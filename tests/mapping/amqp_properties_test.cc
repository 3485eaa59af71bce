#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "mapping/amqp.h"
#include "mapping/mqtt.h"

namespace polylog::mapping {
namespace {

constexpr int64_t kNow = 1700000000000;

using Texts = std::vector<std::pair<std::string, std::string>>;

Texts asText(const std::vector<Header>& headers) {
  Texts out;
  for (const Header& header : headers) {
    out.emplace_back(header.name, header.value ? std::string(*header.value) : "(null)");
  }
  return out;
}

Texts headersOf(const AmqpProperties& properties) {
  TextArena arena;
  std::vector<Header> headers;
  headersFromAmqp(properties, kNow, headers, arena);
  return asText(headers);
}

Table table(std::initializer_list<std::pair<BytesView, Value>> entries) {
  Table out;
  for (const auto& [name, value] : entries) out.emplace_back(std::string(name), value);
  return out;
}

Value text(BytesView value) {
  return Value(std::string(value));
}

Value octets(BytesView value) {
  return Value(Value::Octets{std::string(value)});
}

TEST(AmqpProperties, PropertiesBecomeHeaders) {
  AmqpProperties properties;
  properties.contentType = "text/plain";
  properties.contentEncoding = "gzip";
  properties.correlationId = "c-1";
  properties.replyTo = "amq.gen-x";
  properties.messageId = "m-1";
  properties.type = "order";
  properties.userId = "guest";
  properties.appId = "";
  properties.deliveryMode = 2;
  properties.priority = 9;
  properties.expirationMs = 60000;
  properties.timestampSeconds = 77;  // the record's, not a header
  properties.headers = table({{"b", text("2")}, {"a", text("1")}, {"a", text("1")}});
  EXPECT_EQ(headersOf(properties), (Texts{{"content-type", "text/plain"},
                                          {"content-encoding", "gzip"},
                                          {"correlation-id", "c-1"},
                                          {"reply-to", "amq.gen-x"},
                                          {"message-id", "m-1"},
                                          {"type", "order"},
                                          {"user-id", "guest"},
                                          {"app-id", ""},
                                          {"durable", "true"},
                                          {"priority", "9"},
                                          {"expiry", "1700000060000"},
                                          {"b", "2"},
                                          {"a", "1"},
                                          {"a", "1"}}));
}

TEST(AmqpProperties, NoPropertiesNoHeaders) {
  EXPECT_TRUE(headersOf({}).empty());
}

TEST(AmqpProperties, DeliveryModesAreDurableOrNot) {
  AmqpProperties properties;
  properties.deliveryMode = 1;
  EXPECT_EQ(headersOf(properties), (Texts{{"durable", "false"}}));
  for (int mode : {0, 3, 255}) {
    properties.deliveryMode = static_cast<uint8_t>(mode);
    EXPECT_TRUE(headersOf(properties).empty());
  }
}

TEST(AmqpProperties, ExpirationsFarAwayAreCapped) {
  AmqpProperties properties;
  properties.expirationMs = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(headersOf(properties), (Texts{{"expiry", "9223372036854775807"}}));
  properties.expirationMs = 0;
  EXPECT_EQ(headersOf(properties), (Texts{{"expiry", "1700000000000"}}));
}

TEST(AmqpProperties, HeadersOfEveryTypeBecomeText) {
  AmqpProperties properties;
  properties.headers = table({
      {"void", {}},
      {"bool", Value(true)},
      {"int", Value(int64_t{-42})},
      {"double", Value(0.1)},
      {"text", text("gr\xc3\xbcn")},
      {"empty", text("")},
      {"octets", octets("\xff")},
      {"decimal", Value(Value::Decimal{2, 12345})},
      {"time", Value(Value::Timestamp{1700000000})},
      {"array", Value(Value::Array{Value(int64_t{1}), text("x")})},
      {"table", Value(table({{"k", Value(false)}}))},
  });
  EXPECT_EQ(headersOf(properties), (Texts{{"void", "(null)"},
                                          {"bool", "true"},
                                          {"int", "-42"},
                                          {"double", "0.1"},
                                          {"text", "gr\xc3\xbcn"},
                                          {"empty", ""},
                                          {"octets", "\xff"},
                                          {"decimal", "123.45"},
                                          {"time", "1700000000"},
                                          {"array", R"([1,"x"])"},
                                          {"table", R"({"k":false})"}}));
}

TEST(AmqpProperties, HeadersNamedAsPropertiesAreEscaped) {
  AmqpProperties properties;
  properties.headers = table({{"message-id", text("1")},
                              {"user.expiry", text("2")},
                              {"polylog.amqp", text("3")},
                              {"tag", text("4")},
                              {"timestamp", text("5")},
                              {"user.x", text("6")}});
  EXPECT_EQ(headersOf(properties), (Texts{{"user.message-id", "1"},
                                          {"user.user.expiry", "2"},
                                          {"user.polylog.amqp", "3"},
                                          {"tag", "4"},
                                          {"timestamp", "5"},
                                          {"user.x", "6"}}));
}

Record fromKafka(std::vector<Header> headers) {
  Record record;
  record.timestampMs = 42042;
  record.headers = std::move(headers);
  return record;
}

AmqpProperties delivered(const Record& record, TextArena& arena, int64_t nowMs = kNow) {
  AmqpProperties got;
  got.priority = 1;
  got.headers = table({{"left", text("over")}});
  EXPECT_EQ(amqpFromHeaders(record, nowMs, got, arena), Deliverable::kYes);
  return got;
}

TEST(AmqpProperties, CanonicalHeadersBecomeProperties) {
  TextArena arena;
  AmqpProperties got = delivered(fromKafka({{"content-type", "a/b"},
                                            {"x", "y"},
                                            {"content-encoding", "gzip"},
                                            {"correlation-id", "c"},
                                            {"reply-to", "re/ply"},
                                            {"message-id", "m"},
                                            {"type", "t"},
                                            {"user-id", "u"},
                                            {"app-id", ""},
                                            {"priority", "255"},
                                            {"durable", "true"},
                                            {"expiry", "1700000005001"},
                                            {"user.message-id", "kept"},
                                            {"user.other", "o"},
                                            {"tag", "T"},
                                            {"payload-format", "utf-8"},
                                            {"polylog.address", "hidden"}}),
                                 arena);
  EXPECT_EQ(got.contentType, "a/b");
  EXPECT_EQ(got.contentEncoding, "gzip");
  EXPECT_EQ(got.correlationId, "c");
  EXPECT_EQ(got.replyTo, "re/ply");
  EXPECT_EQ(got.messageId, "m");
  EXPECT_EQ(got.type, "t");
  EXPECT_EQ(got.userId, "u");
  EXPECT_EQ(got.appId, "");
  EXPECT_EQ(got.priority, 255);
  EXPECT_EQ(got.deliveryMode, 2);
  EXPECT_EQ(got.expirationMs, 5001);
  EXPECT_EQ(got.timestampSeconds, 42);
  EXPECT_TRUE(got.headers == table({{"x", text("y")},
                                    {"message-id", text("kept")},
                                    {"user.other", text("o")},
                                    {"tag", text("T")},
                                    {"payload-format", text("utf-8")},
                                    {"timestamp_in_ms", Value(int64_t{42042})}}));
}

TEST(AmqpProperties, WhatAmqpWouldNotTakeStaysAHeader) {
  TextArena arena;
  const std::string tooLong(256, 'x');
  const std::string tooLongMarked(190, '\xff');
  Record record = fromKafka({{"content-type", std::nullopt},
                             {"content-type", tooLong},
                             {"content-type", "first"},
                             {"content-type", "second"},
                             {"correlation-id", tooLongMarked},
                             {"priority", "256"},
                             {"priority", "high"},
                             {"durable", "yes"},
                             {"durable", "false"},
                             {"durable", "true"},
                             {"expiry", "soon"},
                             {"expiry", "-1"},
                             {tooLong, "x"},
                             {tooLongMarked, "x"},
                             {"\xff", "\xff"},
                             {"null", std::nullopt},
                             {"zero", BytesView("\0", 1)}});
  record.timestampMs = -1;
  AmqpProperties got = delivered(record, arena);
  EXPECT_EQ(got.contentType, "first");
  EXPECT_FALSE(got.correlationId);
  EXPECT_FALSE(got.priority);
  EXPECT_EQ(got.deliveryMode, 1);
  EXPECT_FALSE(got.expirationMs);
  EXPECT_FALSE(got.timestampSeconds);
  EXPECT_TRUE(got.headers == table({{"content-type", {}},
                                    {"content-type", text(tooLong)},
                                    {"content-type", text("second")},
                                    {"correlation-id", octets(tooLongMarked)},
                                    {"priority", text("256")},
                                    {"priority", text("high")},
                                    {"durable", text("yes")},
                                    {"durable", text("true")},
                                    {"expiry", text("soon")},
                                    {"expiry", text("-1")},
                                    {"enc--_w", octets("\xff")},
                                    {"null", {}},
                                    {"zero", text(BytesView("\0", 1))}}));
}

/// Clients decode short strings as UTF-8 and give up at others, so those are marked; a reply with
/// the correlation id as it was received finds its way back.
TEST(AmqpProperties, BinaryCorrelationIdsCrossAmqpAndComeBack) {
  MqttProperties request;
  request.correlationData = BytesView("\0\xff\x80", 3);
  Record record;
  record.guarantee = DeliveryGuarantee::kAtLeastOnce;
  TextArena arena;
  headersFromMqtt(request, kNow, record.headers, arena);
  AmqpProperties seen = delivered(record, arena);
  ASSERT_TRUE(seen.correlationId);
  EXPECT_TRUE(isText(*seen.correlationId));

  AmqpProperties reply;
  reply.correlationId = seen.correlationId;
  EXPECT_EQ(headersOf(reply), (Texts{{"correlation-id", std::string("\0\xff\x80", 3)}}));
}

TEST(AmqpProperties, ExpiryCountsDownAndEnds) {
  TextArena arena;
  Record record = fromKafka({{"expiry", "1700000010000"}});
  AmqpProperties got;
  auto remaining = [&](int64_t later) -> std::optional<int64_t> {
    bool yes = amqpFromHeaders(record, kNow + later, got, arena) == Deliverable::kYes;
    EXPECT_EQ(isExpired(record, kNow + later), !yes);
    return yes ? got.expirationMs : std::nullopt;
  };
  EXPECT_EQ(remaining(0), 10000);
  EXPECT_EQ(remaining(9999), 1);
  EXPECT_EQ(remaining(10000), std::nullopt);
  record.headers = {{"expiry", "9223372036854775807"}};
  EXPECT_EQ(remaining(0), kAmqpMaxExpirationMs);
}

TEST(AmqpProperties, OnlyOthersRecordsBearTheTimestampTwice) {
  TextArena arena;
  Record record;
  record.guarantee = DeliveryGuarantee::kAtMostOnce;  // MQTT's
  record.timestampMs = 1999;
  EXPECT_EQ(delivered(record, arena).timestampSeconds, 1);
  EXPECT_EQ(delivered(record, arena).headers.size(), 1U);

  std::string original;
  appendAmqpOriginal("amq.topic", "k", BytesView("\0\0", 2), original);
  record.headers = {{kAmqpOriginal, original}};
  EXPECT_FALSE(delivered(record, arena).timestampSeconds);
  EXPECT_TRUE(delivered(record, arena).headers.empty());
}

/// What AMQP is shown of another protocol's record, published by AMQP again, is that record (its
/// properties first, its expiry as far as AMQP takes it).
TEST(AmqpProperties, HeadersCrossAmqpAndComeBack) {
  const std::vector<std::string> names = {
      "",        "a",          "message-id",      "tag",          "user.",
      "user.x",  "enc--x",     "user.message-id", "content-type", "user.user.type",
      "enc--_w", "enc--!null", "gr\xc3\xbcn",     "\xff",         std::string("\0", 1)};
  std::mt19937 random(9);
  for (int i = 0; i < 3000; ++i) {
    std::vector<Header> sent;
    if (random() % 2 == 0) sent.push_back({"content-type", names[random() % names.size()]});
    if (random() % 2 == 0) sent.push_back({"correlation-id", names[random() % names.size()]});
    if (random() % 2 == 0) sent.push_back({"message-id", names[random() % names.size()]});
    if (random() % 2 == 0) sent.push_back({"durable", random() % 2 == 0 ? "true" : "false"});
    if (random() % 2 == 0) sent.push_back({"priority", "7"});
    if (random() % 2 == 0) sent.push_back({"expiry", "1700000000001"});
    for (auto n = random() % 5; n > 0; --n) {
      const std::string& name = names[random() % names.size()];
      if (needsEscape(name, Protocol::kAmqp) && !name.starts_with(kUserPrefix)) continue;
      std::optional<BytesView> value = names[random() % names.size()];
      sent.push_back({name, random() % 5 == 0 ? std::nullopt : value});
    }
    Record record = fromKafka(sent);
    record.timestampMs = -1;
    TextArena arena;
    AmqpProperties seen = delivered(record, arena);
    for (const auto& place : {seen.contentType, seen.correlationId, seen.messageId}) {
      if (place) {
        ASSERT_TRUE(isText(*place));
      }
    }
    ASSERT_EQ(headersOf(seen), asText(sent));
  }
}

/// MQTT has no place for them, and takes AMQP's records for another protocol's.
TEST(AmqpProperties, MqttSeesAmqpsTimestampAndHoldsItsPayloadFormatAgainstThePayload) {
  std::string original;
  appendAmqpOriginal("amq.topic", "k", BytesView("\0\0", 2), original);
  Record record;
  record.guarantee = DeliveryGuarantee::kAtLeastOnce;
  record.timestampMs = 5000;
  record.value = "\xff";
  record.headers = {{"payload-format", "utf-8"}, {kAmqpOriginal, original}};
  EXPECT_FALSE(publishedByMqtt(record));
  TextArena arena;
  MqttProperties got;
  ASSERT_EQ(mqttFromHeaders(record, kNow, got, arena), Deliverable::kYes);
  EXPECT_FALSE(got.payloadFormat);
  ASSERT_EQ(got.userProperties.size(), 2U);
  EXPECT_EQ(got.userProperties[0].first, "payload-format");
  EXPECT_EQ(got.userProperties[1].first, "timestamp");
  EXPECT_EQ(got.userProperties[1].second, "5000");
}

TEST(AmqpProperties, BodiesAreValues) {
  Record record;
  EXPECT_EQ(amqpBody(record), "");
  record.value = "x";
  EXPECT_EQ(amqpBody(record), "x");
}

}  // namespace
}  // namespace polylog::mapping
