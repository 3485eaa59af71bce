// For every loss that docs/mapping.md names there is a check here that shows it.
#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "core/model/record_batch.h"
#include "core/model/value.h"
#include "mapping/amqp.h"
#include "mapping/kafka.h"
#include "mapping/mqtt.h"
#include "mapping/properties.h"
#include "tests/mapping/doc_tables.h"

namespace polylog::mapping {
namespace {

constexpr int64_t kNow = 1700000000000;

/// What an MQTT 5 subscriber sees of a Kafka record.
struct SeenByMqtt {
  explicit SeenByMqtt(const Record& record) {
    EXPECT_EQ(mqttFromHeaders(record, kNow, properties, arena), Deliverable::kYes);
    payload = mqttPayload(record);
  }
  bool has(BytesView name, BytesView value) const {
    for (const auto& property : properties.userProperties) {
      if (property.first == name && property.second == value) return true;
    }
    return false;
  }
  TextArena arena;
  MqttProperties properties;
  BytesView payload;
};

SeenByMqtt seenByMqtt(std::vector<Header> headers) {
  Record record;
  record.headers = std::move(headers);
  return SeenByMqtt(record);
}

/// What a Kafka consumer sees of an MQTT publish.
struct SeenByKafka {
  explicit SeenByKafka(const MqttProperties& properties) {
    headersFromMqtt(properties, kNow, headers, arena);
  }
  explicit SeenByKafka(std::pair<BytesView, BytesView> userProperty) {
    MqttProperties properties;
    properties.userProperties = {userProperty};
    headersFromMqtt(properties, kNow, headers, arena);
  }
  bool has(BytesView name, const std::optional<BytesView>& value) const {
    return headers.size() == 1 && headers[0].name == name && headers[0].value == value;
  }
  TextArena arena;
  std::vector<Header> headers;
};

using Check = std::function<bool()>;

void addKafkaToMqtt(std::map<std::string, Check>& checks) {
  auto add = [&](const char* what, Check check) {
    checks["Kafka>MQTT>" + std::string(what)] = check;
  };
  add("null value (tombstone)", [] { return SeenByMqtt(Record{}).payload.empty(); });
  add("timestamp", [] {
    Record record;
    record.timestampMs = 77;
    record.headers = {{"x", "y"}};
    SeenByMqtt seen(record);
    return seen.properties.userProperties.back() ==
           std::pair<BytesView, BytesView>("timestamp", "77");
  });
  add("header value or name that is not text (UTF-8 without NUL)", [] {
    return seenByMqtt({{"a", "\xff"}}).has("a", "enc--_w") &&
           seenByMqtt({{BytesView("\0", 1), "v"}}).has("enc--AA", "v");
  });
  add("null header value", [] { return seenByMqtt({{"a", std::nullopt}}).has("a", "enc--!null"); });
  add("header whose name or value, marked if need be, is over 65,535 octets", [] {
    std::string tooLong(65536, 'x');
    std::string tooLongMarked(50000, '\xff');
    return seenByMqtt({{"a", tooLong}}).properties.userProperties.empty() &&
           seenByMqtt({{tooLong, "a"}}).properties.userProperties.empty() &&
           seenByMqtt({{"a", tooLongMarked}}).properties.userProperties.empty();
  });
  add("header that begins with `polylog.`", [] {
    return seenByMqtt({{"polylog.x", "y"}}).properties.empty();
  });
  add("order between headers that become properties and others", [] {
    SeenByMqtt one = seenByMqtt({{"content-type", "t"}, {"a", "b"}});
    SeenByMqtt two = seenByMqtt({{"a", "b"}, {"content-type", "t"}});
    return one.properties.contentType == two.properties.contentType &&
           one.properties.userProperties == two.properties.userProperties;
  });
  add("topic and key that make a name over 65,535 octets, marked if need be", [] {
    std::string out;
    return !appendMqttTopic({"t", std::string(65534, 'k')}, out) &&
           !appendMqttTopic({"t", std::string(50000, '+')}, out);
  });
  add("partition, offset, producer id", [] { return SeenByMqtt(Record{}).properties.empty(); });
}

void addToOldMqtt(std::map<std::string, Check>& checks) {
  auto obeyed = [] {
    Record record;
    record.headers = {{"expiry", std::to_string(INT64_MAX)}};
    std::string due = std::to_string(kNow);
    Record late;
    late.headers = {{"expiry", due}};
    return isExpired(late, kNow) && !isExpired(late, kNow - 1) && !isExpired(Record{}, kNow);
  };
  checks["Kafka>MQTT 3.1.1>all headers and the timestamp"] = obeyed;
  checks["MQTT>MQTT 3.1.1>all properties"] = obeyed;
}

void addMqttToKafka(std::map<std::string, Check>& checks) {
  auto add = [&](const char* what, Check check) {
    checks["MQTT>Kafka>" + std::string(what)] = check;
  };
  add("topic whose Kafka name, marked, is over 249 octets", [] {
    std::string out;
    return !appendKafkaTopic(std::string(250, 'a'), out) &&
           !appendKafkaTopic(std::string(184, ' '), out);
  });
  add("QoS and retain flag", [] {
    Record record;
    record.timestampMs = kNow;
    record.guarantee = DeliveryGuarantee::kExactlyOnce;
    record.retain = true;
    RecordBatchBuilder builder;
    builder.add(record);
    auto decoded = decodeRecordBatch(SharedBytes::own(builder.finish()), 1000);
    return decoded && decoded->records[0].headers.empty() && decoded->records[0].retain &&
           decoded->records[0].guarantee == DeliveryGuarantee::kExactlyOnce;
  });
  add("user property named as a property that MQTT has a place for, or `polylog.*`", [] {
    return SeenByKafka({"expiry", "x"}).has("user.expiry", "x") &&
           SeenByKafka({"polylog.x", "x"}).has("user.polylog.x", "x") &&
           SeenByKafka({"tag", "x"}).has("tag", "x");
  });
  add("user property name or value that is a marked form", [] {
    return SeenByKafka({"a", "enc--_w"}).has("a", "\xff") &&
           SeenByKafka({"enc--_w", "a"}).has("\xff", "a") &&
           SeenByKafka({"a", "enc--!null"}).has("a", std::nullopt);
  });
  add("message expiry interval", [] {
    MqttProperties properties;
    properties.messageExpirySeconds = 1;
    return SeenByKafka(properties).has("expiry", "1700000001000");
  });
  add("empty payload with retain (clears the retained message)",
      [] { return !valueFromMqtt("", true) && valueFromMqtt("", false) == BytesView(); });
}

/// What an AMQP consumer sees of a record of another protocol's.
struct SeenByAmqp {
  explicit SeenByAmqp(const Record& record) {
    EXPECT_EQ(amqpFromHeaders(record, kNow, properties, arena), Deliverable::kYes);
    body = amqpBody(record);
  }
  explicit SeenByAmqp(const MqttProperties& published) {
    Record record;
    record.guarantee = DeliveryGuarantee::kAtMostOnce;
    headersFromMqtt(published, kNow, record.headers, arena);
    EXPECT_EQ(amqpFromHeaders(record, kNow, properties, arena), Deliverable::kYes);
  }
  bool has(BytesView name, const Value& value) const {
    const Value* found = find(properties.headers, name);
    return found != nullptr && *found == value;
  }
  TextArena arena;
  AmqpProperties properties;
  BytesView body;
};

SeenByAmqp seenByAmqp(std::vector<Header> headers) {
  Record record;
  record.headers = std::move(headers);
  return SeenByAmqp(record);
}

SeenByAmqp seenByAmqp(BytesView name, BytesView value) {
  MqttProperties properties;
  properties.userProperties = {{name, value}};
  return SeenByAmqp(properties);
}

Value amqpText(BytesView text) {
  return Value(std::string(text));
}

Value amqpOctets(BytesView octets) {
  return Value(Value::Octets{std::string(octets)});
}

/// What an AMQP publish is stored as, and so what a Kafka consumer sees; and MQTT's view of it.
struct Published {
  explicit Published(AmqpProperties sent) : properties(std::move(sent)) {
    record.guarantee = DeliveryGuarantee::kAtLeastOnce;
    record.timestampMs = kNow;
    headersFromAmqp(properties, kNow, record.headers, arena);
    appendAmqpOriginal("an exchange", "k", BytesView("\0\0", 2), original);
    record.headers.push_back({kAmqpOriginal, original});
  }
  static Published header(const char* name, Value value) {
    AmqpProperties sent;
    sent.headers.emplace_back(name, std::move(value));
    return Published(std::move(sent));
  }
  bool kafkaHas(BytesView name, const std::optional<BytesView>& value) const {
    return record.headers.front().name == name && record.headers.front().value == value;
  }
  bool mqttHas(BytesView name, BytesView value) const {
    return SeenByMqtt(record).has(name, value);
  }

  AmqpProperties properties;
  TextArena arena;
  std::string original;
  Record record;
};

bool othersBecomeText(const std::function<bool(const Published&, BytesView)>& isSeenAs) {
  Table table;
  table.emplace_back("a", Value(Value::Array{Value(int64_t{1})}));
  return isSeenAs(Published::header("x", Value(int64_t{7})), "7") &&
         isSeenAs(Published::header("x", Value(true)), "true") &&
         isSeenAs(Published::header("x", Value(table)), "{\"a\":[1]}");
}

bool strangeDeliveryModesAreLeftOut() {
  AmqpProperties sent;
  sent.deliveryMode = 3;
  return Published(sent).record.headers.size() == 1;
}

void addAmqpToMqtt(std::map<std::string, Check>& checks) {
  auto add = [&](const char* what, Check check) {
    checks["AMQP>MQTT>" + std::string(what)] = check;
  };
  add("exchange", [] {
    Published published(AmqpProperties{});
    SeenByMqtt seen(published.record);
    return seen.properties.userProperties.size() == 1 && seen.has("timestamp", "1700000000000");
  });
  add("header that is neither text, octets nor void", [] {
    return othersBecomeText(
        [](const Published& p, BytesView text) { return p.mqttHas("x", text); });
  });
  add("octets (`x`) in a header", [] {
    return Published::header("x", amqpOctets("plain")).mqttHas("x", "plain") &&
           Published::header("x", amqpOctets("\xff")).mqttHas("x", "enc--_w");
  });
  add("void (`V`) in a header",
      [] { return Published::header("x", Value()).mqttHas("x", "enc--!null"); });
  add("header named as a property that AMQP has a place for and MQTT has none", [] {
    return Published::header("message-id", amqpText("m")).mqttHas("user.message-id", "m") &&
           Published::header("content-type", amqpText("c")).mqttHas("content-type", "c") &&
           Published::header("polylog.x", amqpText("p")).mqttHas("polylog.x", "p");
  });
  add("header `payload-format`", [] {
    Published published = Published::header("payload-format", amqpText("bytes"));
    return SeenByMqtt(published.record).properties.payloadFormat == 0;
  });
  add("header `user.payload-format`", [] {
    return Published::header("user.payload-format", amqpText("p")).mqttHas("payload-format", "p");
  });
  add("header whose name, or property whose value, is a marked form", [] {
    AmqpProperties sent;
    sent.correlationId = "enc--_w";
    Published published(sent);
    SeenByMqtt seen(published.record);
    return seen.properties.correlationData == "\xff" &&
           Published::header("enc--_w", amqpText("v")).mqttHas("enc--_w", "v");
  });
  add("`reply-to`", [] {
    AmqpProperties sent;
    sent.replyTo = "amq.gen-7";
    AmqpProperties odd;
    odd.replyTo = "a#";
    return SeenByMqtt(Published(sent).record).properties.responseTopic == "amq.gen-7" &&
           Published(odd).mqttHas("reply-to", "a#");
  });
  add("`expiration`", [] {
    AmqpProperties sent;
    sent.expirationMs = 1001;
    return SeenByMqtt(Published(sent).record).properties.messageExpirySeconds == 2;
  });
  add("`timestamp`", [] {
    return SeenByMqtt(Published::header("x", Value()).record).properties.userProperties.back() ==
           std::pair<BytesView, BytesView>("timestamp", "1700000000000");
  });
  add("`delivery-mode` other than 1 and 2, `cluster-id`", strangeDeliveryModesAreLeftOut);
}

void addAmqpToKafka(std::map<std::string, Check>& checks) {
  auto add = [&](const char* what, Check check) {
    checks["AMQP>Kafka>" + std::string(what)] = check;
  };
  add("exchange, routing key and properties as they were sent", [] {
    Published published(AmqpProperties{});
    return published.kafkaHas("polylog.amqp", BytesView("\x01\x0b"
                                                        "an exchange\x01k\0\0",
                                                        17));
  });
  add("topic whose Kafka name, marked if need be, is over 249 octets", [] {
    std::string scratch;
    std::string name(184, ' ');
    std::string out;
    return !appendKafkaTopic(addressFromRoutingKey(name, scratch)->topic, out);
  });
  add("header that is neither text, octets nor void", [] {
    return othersBecomeText(
        [](const Published& p, BytesView text) { return p.kafkaHas("x", text); });
  });
  add("header named as a property that AMQP has a place for, or `polylog.*`", [] {
    return Published::header("type", amqpText("t")).kafkaHas("user.type", "t") &&
           Published::header("polylog.x", amqpText("t")).kafkaHas("user.polylog.x", "t") &&
           Published::header("tag", amqpText("t")).kafkaHas("tag", "t");
  });
  add("header whose name, or property whose value, is a marked form", [] {
    AmqpProperties sent;
    sent.messageId = "enc--_w";
    return Published(sent).kafkaHas("message-id", "\xff") &&
           Published::header("enc--_w", Value()).kafkaHas("\xff", std::nullopt);
  });
  add("`expiration`", [] {
    AmqpProperties sent;
    sent.expirationMs = 1;
    return Published(sent).kafkaHas("expiry", "1700000000001");
  });
  add("`delivery-mode` other than 1 and 2, `cluster-id`", strangeDeliveryModesAreLeftOut);
}

void addMqttToAmqp(std::map<std::string, Check>& checks) {
  auto add = [&](const char* what, Check check) {
    checks["MQTT>AMQP>" + std::string(what)] = check;
  };
  add("QoS and retain flag", [] {
    Record record;
    record.guarantee = DeliveryGuarantee::kExactlyOnce;
    record.retain = true;
    return SeenByAmqp(record).properties.headers.empty();
  });
  add("topic name whose routing key, marked if need be, is over 255 octets", [] {
    std::string out;
    return !appendRoutingKey({"t", std::string(254, 'k')}, out) &&
           !appendRoutingKey({"t", std::string(190, '*')}, out);
  });
  add("payload format indicator", [] {
    MqttProperties sent;
    sent.payloadFormat = 1;
    return SeenByAmqp(sent).has("payload-format", amqpText("utf-8"));
  });
  add("response topic", [] {
    MqttProperties sent;
    sent.responseTopic = "re/ply";
    return SeenByAmqp(sent).properties.replyTo == "re/ply";
  });
  add("correlation data that is not text", [] {
    MqttProperties sent;
    sent.correlationData = "\xff";
    return SeenByAmqp(sent).properties.correlationId == "enc--_w";
  });
  add("property whose value, marked if need be, is over 255 octets", [] {
    std::string tooLong(256, 'x');
    std::string tooLongMarked(190, '\xff');
    MqttProperties sent;
    sent.contentType = tooLong;
    sent.correlationData = tooLongMarked;
    SeenByAmqp seen(sent);
    return !seen.properties.contentType && seen.has("content-type", amqpText(tooLong)) &&
           !seen.properties.correlationId && seen.has("correlation-id", amqpOctets(tooLongMarked));
  });
  add("user property named as a property that AMQP has a place for and MQTT has none", [] {
    SeenByAmqp seen = seenByAmqp("priority", "300");
    return seenByAmqp("message-id", "m").properties.messageId == "m" && !seen.properties.priority &&
           seen.has("priority", amqpText("300")) &&
           seenByAmqp("content-type", "c").has("content-type", amqpText("c"));
  });
  add("`user.` before the name of a property that AMQP has a place for and MQTT none",
      [] { return seenByAmqp("user.message-id", "m").has("message-id", amqpText("m")); });
  add("user property whose name is over 255 octets",
      [] { return seenByAmqp(std::string(256, 'n'), "v").properties.headers.empty(); });
  add("user property value that is a marked form", [] {
    return seenByAmqp("a", "enc--_w").has("a", amqpOctets("\xff")) &&
           seenByAmqp("a", "enc--!null").has("a", Value());
  });
  add("empty payload with retain (clears the retained message)", [] {
    Record record;
    record.value = valueFromMqtt("", true);
    return SeenByAmqp(record).body.empty();
  });
}

void addKafkaToAmqp(std::map<std::string, Check>& checks) {
  auto add = [&](const char* what, Check check) {
    checks["Kafka>AMQP>" + std::string(what)] = check;
  };
  add("null value (tombstone)", [] { return SeenByAmqp(Record{}).body.empty(); });
  add("timestamp", [] {
    Record record;
    record.timestampMs = 7001;
    record.headers = {{"x", "y"}};
    SeenByAmqp seen(record);
    return seen.properties.timestampSeconds == 7 &&
           seen.properties.headers.back().first == "timestamp_in_ms" &&
           seen.properties.headers.back().second == Value(int64_t{7001});
  });
  add("header value that is not UTF-8", [] {
    return seenByAmqp({{"a", "\xff"}}).has("a", amqpOctets("\xff"));
  });
  add("key that is not UTF-8", [] {
    std::string out;
    return appendRoutingKey({"t", "\xff"}, out) && out == "t.enc--_w";
  });
  add("null header value", [] { return seenByAmqp({{"a", std::nullopt}}).has("a", Value()); });
  add("header name, or property's value, that is not text", [] {
    return seenByAmqp({{"\xff", "v"}}).has("enc--_w", amqpText("v")) &&
           seenByAmqp({{"type", "\xff"}}).properties.type == "enc--_w";
  });
  add("header whose name, marked if need be, is over 255 octets", [] {
    return seenByAmqp({{std::string(256, 'n'), "v"}}).properties.headers.empty() &&
           seenByAmqp({{std::string(190, '\xff'), "v"}}).properties.headers.empty();
  });
  add("header that begins with `polylog.`", [] {
    return seenByAmqp({{"polylog.x", "y"}}).properties.headers.empty();
  });
  add("`user.` before the name of a property that AMQP has a place for", [] {
    return seenByAmqp({{"user.type", "t"}}).has("type", amqpText("t"));
  });
  add("order between headers that become properties and others", [] {
    SeenByAmqp one = seenByAmqp({{"type", "t"}, {"a", "b"}});
    SeenByAmqp two = seenByAmqp({{"a", "b"}, {"type", "t"}});
    return one.properties.type == two.properties.type &&
           one.properties.headers == two.properties.headers;
  });
  add("`expiry` more than 315,360,000,000 ms away", [] {
    return seenByAmqp({{"expiry", "9000000000000"}}).properties.expirationMs == kAmqpMaxExpirationMs;
  });
  add("topic and key whose routing key, marked if need be, is over 255 octets", [] {
    std::string out;
    return !appendRoutingKey({"t", std::string(254, '\xff')}, out) &&
           !appendRoutingKey({"t", std::string(190, '#')}, out);
  });
  add("producer id", [] { return SeenByAmqp(Record{}).properties.headers.empty(); });
}

TEST(Losses, EveryOneIsWhatTheDocSays) {
  std::map<std::string, Check> checks;
  addKafkaToMqtt(checks);
  addToOldMqtt(checks);
  addMqttToKafka(checks);
  addAmqpToMqtt(checks);
  addAmqpToKafka(checks);
  addMqttToAmqp(checks);
  addKafkaToAmqp(checks);
  for (const Row& row : docTable({"from", "to", "what", "becomes"})) {
    std::string key = row[0] + ">" + row[1] + ">" + row[2];
    auto check = checks.find(key);
    if (check == checks.end()) {
      ADD_FAILURE() << "no check shows the loss " << key;
      continue;
    }
    EXPECT_TRUE(check->second()) << key;
    checks.erase(check);
  }
  for (const auto& [key, check] : checks) ADD_FAILURE() << "docs/mapping.md lacks the loss " << key;
}

}  // namespace
}  // namespace polylog::mapping
