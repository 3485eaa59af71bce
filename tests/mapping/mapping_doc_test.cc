// Holds docs/mapping.md against the code: every table there is read row by row. Tables that the
// code has too must be the same, row for row; addresses are mapped; and for every loss there is a
// check here that shows it.
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>

#include "core/model/record_batch.h"
#include "mapping/errors.h"
#include "mapping/guarantee.h"
#include "mapping/kafka.h"
#include "mapping/mqtt.h"
#include "mapping/properties.h"
#include "mapping/rules.h"
#include "tests/support/source_tree.h"

namespace polylog::mapping {
namespace {

using Row = std::vector<std::string>;

std::string trimmed(BytesView text) {
  size_t from = text.find_first_not_of(' ');
  if (from == BytesView::npos) return {};
  return std::string(text.substr(from, text.find_last_not_of(' ') - from + 1));
}

Row cells(BytesView line) {
  Row out;
  line.remove_prefix(1);
  for (size_t bar = line.find('|'); bar != BytesView::npos; bar = line.find('|')) {
    out.push_back(trimmed(line.substr(0, bar)));
    line.remove_prefix(bar + 1);
  }
  return out;
}

std::vector<std::string> docLines() {
  auto root = polylog::testing::sourceTree();
  std::ifstream file(root / "docs" / "mapping.md");
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  EXPECT_FALSE(lines.empty()) << "docs/mapping.md not found below " << root;
  return lines;
}

/// The rows of the table whose heading row begins with these cells.
std::vector<Row> docTable(const Row& heading) {
  std::vector<std::string> lines = docLines();
  std::vector<Row> rows;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (!lines[i].starts_with('|') || cells(lines[i]) != heading) continue;
    for (i += 2; i < lines.size() && lines[i].starts_with('|'); ++i)
      rows.push_back(cells(lines[i]));
    return rows;
  }
  ADD_FAILURE() << "docs/mapping.md has no table headed '" << heading.front() << "'";
  return rows;
}

std::string lineOf(const Row& row) {
  std::string out = "|";
  for (const std::string& cell : row) out += " " + cell + " |";
  return out;
}

void expectTable(const Row& heading, const std::vector<Row>& code) {
  std::vector<Row> doc = docTable(heading);
  for (size_t i = 0; i < std::max(doc.size(), code.size()); ++i) {
    EXPECT_EQ(i < doc.size() ? lineOf(doc[i]) : "(no row)",
              i < code.size() ? lineOf(code[i]) : "(no row)")
        << "docs/mapping.md on the left, the code on the right";
  }
}

std::string code(BytesView text) {
  return "`" + std::string(text) + "`";
}

TEST(MappingDoc, PropertiesAreTheCodes) {
  std::vector<Row> rows;
  for (const PropertyRow& row : canonicalProperties()) {
    rows.push_back({code(row.name), row.value,
                    row.mqtt != nullptr ? row.mqtt : "user property " + code(row.name),
                    row.kafka != nullptr ? row.kafka : "header " + code(row.name)});
  }
  expectTable({"property", "value", "MQTT 5", "Kafka"}, rows);
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
                     std::to_string(row.group), std::to_string(row.cluster)});
  }
  expectTable({"kind", "produce", "topics", "groups", "others"}, kafka);
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
  std::vector<Row> rows = docTable({"MQTT topic name", "topic", "key", "Kafka topic", "Kafka key"});
  EXPECT_GE(rows.size(), 10U);
  for (const Row& row : rows) {
    ASSERT_EQ(row.size(), 5U);
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

// ---- losses -----------------------------------------------------------------------------------

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

TEST(MappingDoc, EveryLossIsWhatItSays) {
  std::map<std::string, Check> checks;
  addKafkaToMqtt(checks);
  addToOldMqtt(checks);
  addMqttToKafka(checks);
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
