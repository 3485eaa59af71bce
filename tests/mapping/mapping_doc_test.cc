// Holds docs/mapping.md against the code: tables that the code has too must be the same, row for
// row, and addresses are mapped. Losses are in losses_test.cc.
#include <gtest/gtest.h>

#include <cstdio>

#include "mapping/amqp.h"
#include "mapping/errors.h"
#include "mapping/guarantee.h"
#include "mapping/kafka.h"
#include "mapping/mqtt.h"
#include "mapping/properties.h"
#include "mapping/rules.h"
#include "tests/mapping/doc_tables.h"

namespace polylog::mapping {
namespace {

TEST(MappingDoc, PropertiesAreTheCodes) {
  std::vector<Row> rows;
  for (const PropertyRow& row : canonicalProperties()) {
    rows.push_back({code(row.name), row.value,
                    row.mqtt != nullptr ? row.mqtt : "user property " + code(row.name),
                    row.kafka != nullptr ? row.kafka : "header " + code(row.name),
                    row.amqp != nullptr ? row.amqp : "header " + code(row.name)});
  }
  expectTable({"property", "value", "MQTT 5", "Kafka", "AMQP"}, rows);
}

TEST(MappingDoc, GuaranteesAreTheCodes) {
  std::vector<Row> rows;
  for (const AcknowledgementRow& row : kAcknowledgements) {
    rows.push_back({row.protocol, row.asked, row.guarantee, row.told});
  }
  expectTable({"protocol", "asked for", "kept with the record", "told"}, rows);
}

TEST(MappingDoc, LossesAreTheCodes) {
  std::vector<Row> rows;
  for (const LossRow& row : losses()) rows.push_back({row.from, row.to, row.what, row.becomes});
  expectTable({"from", "to", "what", "becomes"}, rows);
}

std::string hex(uint8_t value) {
  char text[8];
  std::snprintf(text, sizeof text, "0x%02X", value);
  return text;
}

TEST(MappingDoc, ErrorsAreTheCodes) {
  std::vector<Row> mqtt;
  for (const MqttErrorRow& row : mqttErrors()) {
    mqtt.push_back({describe(row.kind), hex(row.connack), std::to_string(row.connack311),
                    hex(row.puback), hex(row.suback), hex(row.unsuback), hex(row.disconnect)});
  }
  expectTable(
      {"kind", "CONNACK", "CONNACK (3.1.1)", "PUBACK, PUBREC", "SUBACK", "UNSUBACK", "DISCONNECT"},
      mqtt);
  std::vector<Row> kafka;
  for (const KafkaErrorRow& row : kafkaErrors()) {
    kafka.push_back({describe(row.kind), std::to_string(row.produce), std::to_string(row.topic),
                     std::to_string(row.group), std::to_string(row.cluster),
                     std::to_string(row.transaction)});
  }
  expectTable({"kind", "produce", "topics", "groups", "others", "transactions"}, kafka);
  std::vector<Row> amqp;
  for (const AmqpErrorRow& row : amqpErrors()) {
    amqp.push_back(
        {describe(row.kind), std::to_string(row.code), row.hard ? "connection" : "channel"});
  }
  expectTable({"kind", "reply code", "closes"}, amqp);
}

// ---- addresses --------------------------------------------------------------------------------

/// `null`, or `"text"` with \xNN in it.
std::optional<std::string> literal(const std::string& cell) {
  if (cell == "`null`") return std::nullopt;
  EXPECT_TRUE(cell.starts_with("`\"") && cell.ends_with("\"`")) << cell;
  std::string out;
  for (size_t i = 2; i + 2 < cell.size(); ++i) {
    if (cell[i] == '\\' && cell[i + 1] == 'x') {
      out.push_back(static_cast<char>(std::stoi(cell.substr(i + 2, 2), nullptr, 16)));
      i += 3;
    } else {
      out.push_back(cell[i]);
    }
  }
  return out;
}

TEST(MappingDoc, AddressesAreMappedAsItSays) {
  std::vector<Row> rows =
      docTable({"MQTT topic name", "topic", "key", "Kafka topic", "Kafka key", "AMQP routing key"});
  EXPECT_GE(rows.size(), 10U);
  for (const Row& row : rows) {
    ASSERT_EQ(row.size(), 6U);
    SCOPED_TRACE(lineOf(row));
    std::string mqttName = literal(row[0]).value();
    std::string topic = literal(row[1]).value();
    std::optional<std::string> key = literal(row[2]);
    std::string kafkaName = literal(row[3]).value();
    Address address{topic, key ? std::optional<BytesView>(*key) : std::nullopt};

    std::string scratch;
    Result<Address> fromMqtt = splitMqttTopic(mqttName, scratch);
    ASSERT_TRUE(fromMqtt) << fromMqtt.error().text;
    EXPECT_TRUE(sameAddress(*fromMqtt, address));
    std::string out;
    ASSERT_TRUE(appendMqttTopic(address, out));
    EXPECT_EQ(out, mqttName);

    Result<BytesView> fromKafka = topicFromKafka(kafkaName, scratch);
    ASSERT_TRUE(fromKafka) << fromKafka.error().text;
    EXPECT_EQ(*fromKafka, topic);
    out.clear();
    ASSERT_TRUE(appendKafkaTopic(topic, out));
    EXPECT_EQ(out, kafkaName);
    EXPECT_EQ(row[4], row[2]) << "a Kafka record's key is the key";

    std::string routingKey = literal(row[5]).value();
    Result<Address> fromAmqp = addressFromRoutingKey(routingKey, scratch);
    ASSERT_TRUE(fromAmqp) << fromAmqp.error().text;
    EXPECT_TRUE(sameAddress(*fromAmqp, address));
    out.clear();
    ASSERT_TRUE(appendRoutingKey(address, out));
    EXPECT_EQ(out, routingKey);
  }
}

TEST(MappingDoc, RulesParse) {
  std::vector<Row> rows = docTable({"rule", "what it does"});
  EXPECT_GE(rows.size(), 4U);
  for (const Row& row : rows) {
    std::string rule = row[0].substr(1, row[0].size() - 2);
    Result<Rules> parsed = Rules::parse(std::vector<std::string>{rule});
    EXPECT_TRUE(parsed) << parsed.error().text;
  }
}

}  // namespace
}  // namespace polylog::mapping
