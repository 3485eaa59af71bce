// Names, filters, rules and properties as clients and configurations may send them. Every address
// has one name in each protocol, and what MQTT sends comes back to MQTT as it was; so does what is
// shown to AMQP.
#include <cstdint>

#include "core/base/byte_reader.h"
#include "mapping/amqp.h"
#include "mapping/kafka.h"
#include "mapping/mqtt.h"
#include "mapping/rules.h"
#include "tests/fuzz/check.h"

namespace {

using namespace polylog;
using namespace polylog::mapping;
using polylog::test::check;

void fuzzNames(BytesView text) {
  std::string scratch;
  std::string out;
  if (Result<Address> address = splitMqttTopic(text, scratch)) {
    check(canonicalTopicPossible(address->topic));
    check(appendMqttTopic(*address, out) && out == text);
  }
  out.clear();
  if (Result<BytesView> topic = topicFromKafka(text, scratch)) {
    check(appendKafkaTopic(*topic, out) && out == text);
  }
  Address raw = splitAddress(text);
  out.clear();
  if (canonicalTopicPossible(raw.topic) && appendMqttTopic(raw, out)) {
    Result<Address> back = splitMqttTopic(out, scratch);
    check(back && sameAddress(*back, raw));
  }
  out.clear();
  if (canonicalTopicPossible(raw.topic) && appendKafkaTopic(raw.topic, out)) {
    Result<BytesView> back = topicFromKafka(out, scratch);
    check(back && *back == raw.topic);
  }
  if (Result<MqttSubscription> subscription = parseMqttSubscription(text)) {
    check(!subscription->filter.levels.empty());
    check(subscription->filter.levels.size() <= kMqttMaxFilterLevels);
  }
}

void fuzzRoutingKeys(BytesView text) {
  std::string scratch;
  std::string out;
  if (Result<Address> address = addressFromRoutingKey(text, scratch)) {
    check(canonicalTopicPossible(address->topic));
    // What publishers may send as it is and others see marked.
    bool marked = text.find_first_of("*#") != BytesView::npos || !isUtf8(text);
    bool named = appendRoutingKey(*address, out);
    bool plain = out.find_first_of("*#") == std::string::npos && isUtf8(out);
    check(marked ? plain : named && out == text);
  }
  out.clear();
  Address raw = splitAddress(text);
  if (canonicalTopicPossible(raw.topic) && appendRoutingKey(raw, out)) {
    check(out.size() <= kAmqpMaxShortString);
    Result<Address> back = addressFromRoutingKey(out, scratch);
    check(back && sameAddress(*back, raw));
    Result<TopicFilter> filter = filterFromBindingKey(out);
    check(filter.has_value());
    std::string levels;
    for (const FilterLevel& level : filter->levels) levels += level.text + "/";
    levels.pop_back();
    check(levels == text);
  }
  if (Result<TopicFilter> filter = filterFromBindingKey(text)) {
    check(!filter->levels.empty() && filter->levels.size() <= kAmqpMaxShortString + 1);
  }
}

void fuzzRules(BytesView rule, BytesView text) {
  Result<Rules> rules = Rules::parse(std::vector<std::string>{std::string(rule)});
  if (!rules) return;
  Address address = splitAddress(text);
  std::string scratch;
  std::string back;
  Route route = rules->apply(address, scratch);
  rules->addressOf(address.topic, address.key, back);
  if (!route.byRule || route.ephemeral) return;
  // What comes back is stored where it came from.
  Address again = rules->addressOf(route.topic, route.key, back);
  std::string other;
  Route second = rules->apply(again, other);
  if (second.byRule) {
    check(sameAddress({second.topic, second.key}, {route.topic, route.key}) ||
          sameAddress(again, {route.topic, route.key}));
  }
}

void fuzzProperties(ByteReader& in) {
  MqttProperties sent;
  Record record;
  record.guarantee = static_cast<DeliveryGuarantee>(in.u8() % 4);
  bool fromMqtt = record.guarantee != DeliveryGuarantee::kUnspecified;
  while (in.remaining() > 0) {
    BytesView name = in.bytes(in.u8());
    BytesView value = in.bytes(in.u8());
    if (!in.ok()) break;
    if (fromMqtt && !(isText(name) && isText(value))) continue;
    if (fromMqtt) {
      sent.userProperties.emplace_back(name, value);
    } else {
      record.headers.push_back({name, value});
    }
  }
  TextArena arena;
  headersFromMqtt(sent, 0, record.headers, arena);
  MqttProperties got;
  if (mqttFromHeaders(record, 1, got, arena) == Deliverable::kExpired) {
    check(isExpired(record, 1));
    return;
  }
  check(!isExpired(record, 1));
  for (const auto& [name, value] : got.userProperties) check(isText(name) && isText(value));
  if (got.contentType) check(isText(*got.contentType));
  if (got.responseTopic) check(validMqttTopicName(*got.responseTopic));
  if (fromMqtt) check(got.userProperties == sent.userProperties);
}

std::vector<Header> readHeaders(ByteReader& in) {
  std::vector<Header> headers;
  while (in.remaining() > 0) {
    bool null = in.u8() == 0;
    BytesView name = in.bytes(in.u8());
    BytesView value = in.bytes(in.u8());
    if (!in.ok()) break;
    headers.push_back({name, null ? std::nullopt : std::optional<BytesView>(value)});
  }
  return headers;
}

void fuzzAmqpProperties(ByteReader& in) {
  Record record;
  record.headers = readHeaders(in);
  if (std::optional<AmqpOriginal> original = amqpOriginal(record)) {
    std::string again;
    appendAmqpOriginal(original->exchange, original->routingKey, original->properties, again);
    Record same;
    same.headers = {{kAmqpOriginal, again}};
    check(amqpOriginal(same)->properties == original->properties);
  }
  TextArena arena;
  AmqpProperties shown;
  if (amqpFromHeaders(record, 1, shown, arena) == Deliverable::kExpired) {
    check(isExpired(record, 1));
    return;
  }
  check(!isExpired(record, 1));
  for (const auto& text : {shown.contentType, shown.contentEncoding, shown.correlationId,
                           shown.replyTo, shown.messageId, shown.type, shown.userId, shown.appId}) {
    check(!text || (text->size() <= kAmqpMaxShortString && isText(*text)));
  }
  for (const auto& [name, value] : shown.headers) {
    check(name.size() <= kAmqpMaxShortString && isText(name));
  }
  // Published as it was shown, it is shown the same.
  Record again;
  headersFromAmqp(shown, 1, again.headers, arena);
  AmqpProperties twice;
  check(amqpFromHeaders(again, 1, twice, arena) == Deliverable::kYes);
  check(twice.contentType == shown.contentType && twice.correlationId == shown.correlationId);
  check(twice.deliveryMode == shown.deliveryMode && twice.priority == shown.priority);
  check(twice.expirationMs == shown.expirationMs && twice.headers == shown.headers);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ByteReader in(BytesView(reinterpret_cast<const char*>(data), size));
  switch (in.u8() % 5) {
    case 0: fuzzNames(in.rest()); break;
    case 1: {
      BytesView rule = in.bytes(in.u8());
      fuzzRules(rule, in.rest());
      break;
    }
    case 2: fuzzProperties(in); break;
    case 3: fuzzRoutingKeys(in.rest()); break;
    default: fuzzAmqpProperties(in); break;
  }
  return 0;
}
