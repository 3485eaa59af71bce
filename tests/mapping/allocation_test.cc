// The functions that run once a publish and once a delivery must not allocate for ordinary names
// and records. Counts this thread's calls of operator new.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

#include "mapping/amqp.h"
#include "mapping/guarantee.h"
#include "mapping/kafka.h"
#include "mapping/mqtt.h"
#include "mapping/partition.h"
#include "mapping/rules.h"

namespace {
thread_local size_t allocations = 0;
}

// Not inlined: the compiler would hold malloc() against delete.
[[gnu::noinline]] void* operator new(size_t size) {
  ++allocations;
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) std::abort();
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}

namespace polylog::mapping {
namespace {

template <class F>
size_t allocationsOf(F f) {
  size_t before = allocations;
  f();
  return allocations - before;
}

TEST(Allocation, TheCounterCounts) {
  EXPECT_EQ(allocationsOf([] { std::string s(100, 'x'); }), 1U);
}

TEST(Allocation, NamesNeedNone) {
  std::string scratch;
  std::string out;
  out.reserve(200);
  const std::string name = "sensors/kitchen/temperature/of/the/oven/and/the/fridge";
  size_t count = allocationsOf([&] {
    Result<Address> address = splitMqttTopic(name, scratch);
    ASSERT_TRUE(address);
    ASSERT_TRUE(appendMqttTopic(*address, out));
    ASSERT_LT(partitionHash(address->key, "client"), 0x80000000U);
    ASSERT_TRUE(topicFromKafka("sensors", scratch));
    ASSERT_TRUE(appendKafkaTopic(address->topic, out));
  });
  EXPECT_EQ(count, 0U);
}

TEST(Allocation, RoutingKeysNeedNoneOnceTheirScratchHasGrown) {
  std::string scratch(100, 'x');
  std::string out;
  out.reserve(200);
  const std::string key = "sensors.kitchen.temperature.of.the.oven.and.the.fridge";
  size_t count = allocationsOf([&] {
    Result<Address> address = addressFromRoutingKey(key, scratch);
    ASSERT_TRUE(address);
    ASSERT_TRUE(appendRoutingKey(*address, out));
    ASSERT_EQ(out, key);
  });
  EXPECT_EQ(count, 0U);
}

TEST(Allocation, AmqpRecordsNeedNoneOnceTheirVectorsHaveGrown) {
  AmqpProperties sent;
  sent.contentType = "application/json";
  sent.correlationId = "0123456789-0123456789";
  sent.deliveryMode = 2;
  sent.headers.emplace_back("a-header-that-is-long", Value(std::string("and its value, long too")));
  Record record;
  record.headers.reserve(8);
  AmqpProperties got;
  size_t count = allocationsOf([&] {
    TextArena arena;
    headersFromAmqp(sent, 1, record.headers, arena);
    record.headers.pop_back();  // a table's texts are its own
    ASSERT_EQ(amqpFromHeaders(record, 1, got, arena), Deliverable::kYes);
    ASSERT_EQ(got.correlationId, sent.correlationId);
  });
  EXPECT_EQ(count, 0U);
}

TEST(Allocation, RecordsWithoutPropertiesNeedNone) {
  Record record;
  record.guarantee = DeliveryGuarantee::kAtLeastOnce;
  record.timestampMs = 1;
  size_t count = allocationsOf([&] {
    TextArena arena;
    MqttProperties properties;
    headersFromMqtt(properties, 1, record.headers, arena);
    ASSERT_EQ(mqttFromHeaders(record, 1, properties, arena), Deliverable::kYes);
  });
  EXPECT_EQ(count, 0U);
}

TEST(Allocation, PropertiesNeedNoneOnceTheirVectorsHaveGrown) {
  MqttProperties sent;
  sent.contentType = "application/json";
  sent.correlationData = "0123456789";
  sent.userProperties = {{"a-user-property", "and its value, which is long"}};
  MqttProperties got;
  got.userProperties.reserve(4);
  Record record;
  record.guarantee = DeliveryGuarantee::kAtMostOnce;
  record.headers.reserve(8);
  size_t count = allocationsOf([&] {
    TextArena arena;
    headersFromMqtt(sent, 1, record.headers, arena);
    ASSERT_EQ(mqttFromHeaders(record, 1, got, arena), Deliverable::kYes);
  });
  EXPECT_EQ(count, 0U);
}

TEST(Allocation, RulesThatDoNotMatchNeedNone) {
  Result<Rules> rules = Rules::parse(
      std::vector<std::string>{"factory/+/temp -> topic temps, key {1}", "live/# -> ephemeral"});
  ASSERT_TRUE(rules);
  std::string scratch;
  size_t count = allocationsOf([&] {
    ASSERT_FALSE(rules->apply({"factory", "7/pressure"}, scratch).byRule);
    ASSERT_TRUE(rules->apply({"live", "x"}, scratch).ephemeral);
  });
  EXPECT_EQ(count, 0U);
}

}  // namespace
}  // namespace polylog::mapping
