#include "mapping/properties.h"

#include <gtest/gtest.h>

#include <set>

namespace polylog::mapping {
namespace {

TEST(Properties, NamesAreUniqueAndPlain) {
  std::set<BytesView> names;
  for (const PropertyRow& row : canonicalProperties()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_EQ(row.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz-"), BytesView::npos);
  }
  EXPECT_EQ(names.size(), 14U);
}

TEST(Properties, EscapesWhatMqttHasAPlaceForAndTheBrokersOwn) {
  for (const char* name : {"content-type", "correlation-id", "reply-to", "expiry", "payload-format",
                           "polylog.", "polylog.address", "user.expiry", "user.user.polylog.x"}) {
    EXPECT_TRUE(needsEscape(name, Protocol::kMqtt)) << name;
    EXPECT_FALSE(needsEscape(name, Protocol::kKafka)) << name;
  }
  for (const char* name :
       {"", "message-id", "user-id", "app-id", "type", "priority", "deliver-at", "tag", "durable",
        "Expiry", "expiry2", "user.", "user.x", "polylog", "timestamp", "user"}) {
    EXPECT_FALSE(needsEscape(name, Protocol::kMqtt)) << name;
  }
}

TEST(Properties, EscapesWhatAmqpHasAPlaceFor) {
  for (const char* name :
       {"content-type", "content-encoding", "correlation-id", "reply-to", "message-id", "user-id",
        "app-id", "type", "priority", "expiry", "durable", "polylog.amqp", "user.type"}) {
    EXPECT_TRUE(needsEscape(name, Protocol::kAmqp)) << name;
    EXPECT_EQ(unescaped(std::string(kUserPrefix) + name, Protocol::kAmqp), name);
  }
  for (const char* name :
       {"payload-format", "deliver-at", "tag", "timestamp", "expiration", "delivery-mode", "x"}) {
    EXPECT_FALSE(needsEscape(name, Protocol::kAmqp)) << name;
    EXPECT_EQ(unescaped(std::string(kUserPrefix) + name, Protocol::kAmqp), std::nullopt);
  }
}

TEST(Properties, UnescapingIsTheReverse) {
  for (const char* name : {"expiry", "user.expiry", "user.user.expiry", "polylog.x"}) {
    std::string stored = std::string(kUserPrefix) + name;
    EXPECT_EQ(unescaped(stored, Protocol::kMqtt), name);
    EXPECT_EQ(unescaped(stored, Protocol::kKafka), std::nullopt);
  }
  for (const char* stored : {"", "user.", "user.x", "expiry", "message-id", "user.message-id"}) {
    EXPECT_EQ(unescaped(stored, Protocol::kMqtt), std::nullopt) << stored;
  }
}

TEST(Properties, DecimalIsStrict) {
  EXPECT_EQ(decimal("0"), 0);
  EXPECT_EQ(decimal("1700000000000"), 1700000000000);
  EXPECT_EQ(decimal("9223372036854775807"), INT64_MAX);
  for (const char* bad : {"", "-1", "+1", " 1", "1 ", "1.0", "0x1", "9223372036854775808", "x"}) {
    EXPECT_EQ(decimal(bad), std::nullopt) << bad;
  }
}

}  // namespace
}  // namespace polylog::mapping
