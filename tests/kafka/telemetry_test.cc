// Clients' metrics (KIP-714): subscriptions, who is asked for what, what may be pushed and when,
// and what comes of it. The octets of OpenTelemetry's are written here by hand.
#include <gmock/gmock.h>

#include <bit>

#include "codecs/kafka/client_telemetry.h"
#include "codecs/kafka/limits.h"
#include "core/base/metrics.h"
#include "core/model/compression.h"
#include "tests/kafka/harness.h"
#include "tests/support/fake_clock.h"

namespace polylog::kafka::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

class FakeClientMetrics final : public ClientMetricsControl {
 public:
  Result<std::shared_ptr<const ClientMetricsSet>> subscriptions(const PrincipalRef&) override {
    return set;
  }
  void alterSubscription(const PrincipalRef&, std::string name, Change change,
                         Done<Result<>> done) override {
    auto next = std::make_shared<ClientMetricsSet>(*set);
    ClientMetricsSettings settings = next->subscriptions[name];
    Result<> changed = change(settings);
    next->subscriptions[name] = settings;
    if (settings.empty()) next->subscriptions.erase(name);
    ++next->version;
    if (changed) set = next;
    done(changed);
  }
  std::shared_ptr<const ClientMetricsSet> current() const override { return set; }

  std::shared_ptr<const ClientMetricsSet> set =
      std::make_shared<const ClientMetricsSet>(ClientMetricsSet{{}, 1});
};

// ---------------------------------------------------------------- octets of protobuf's

std::string varint(uint64_t v) {
  std::string out;
  for (; v > 127; v >>= 7) out.push_back(static_cast<char>((v & 127) | 128));
  out.push_back(static_cast<char>(v));
  return out;
}
std::string field(uint64_t number, const std::string& octets) {
  return varint(number << 3 | 2) + varint(octets.size()) + octets;
}
std::string number(uint64_t field, uint64_t v) {
  return varint(field << 3) + varint(v);
}
std::string fixed(uint64_t field, uint64_t v) {
  std::string out = varint(field << 3 | 1);
  for (int i = 0; i < 8; ++i) out.push_back(static_cast<char>(v >> (8 * i)));
  return out;
}
std::string attribute(const std::string& key, const std::string& value) {
  return field(1, key) + field(2, field(1, value));
}
std::string gauge(const std::string& name, double value, const std::string& more = {}) {
  return field(1, name) + field(5, field(1, fixed(4, std::bit_cast<uint64_t>(value)) + more));
}
std::string sum(const std::string& name, int64_t value, uint64_t temporality) {
  return field(1, name) + field(7, field(1, fixed(6, static_cast<uint64_t>(value))) +
                                       number(2, temporality) + number(3, 1));
}
std::string metricsData(const std::vector<std::string>& metrics) {
  std::string scope = field(1, field(1, "scope"));
  for (const std::string& metric : metrics) scope += field(2, metric);
  return field(1, field(1, field(1, attribute("group_id", "g"))) + field(2, scope));
}

TEST(Otlp, GaugesAndSumsAreRead) {
  std::string octets =
      metricsData({gauge("a.b", 1.5, field(7, attribute("topic", "t"))), sum("c", -3, 1),
                   sum("d", 4, 2), field(1, "histogram") + field(9, field(1, fixed(4, 1)))});
  auto points = readMetrics(octets, 10);
  ASSERT_TRUE(points);
  ASSERT_EQ(points->size(), 3U);
  EXPECT_EQ((*points)[0].name, "a.b");
  EXPECT_EQ((*points)[0].value, 1.5);
  ASSERT_EQ((*points)[0].attributes.size(), 2U);
  EXPECT_EQ((*points)[0].attributes[0].second, "g");
  EXPECT_EQ((*points)[0].attributes[1].first, "topic");
  EXPECT_EQ((*points)[1].value, -3);
  EXPECT_TRUE((*points)[1].delta);
  EXPECT_FALSE((*points)[2].delta);
  EXPECT_THAT(*readMetrics(octets, 1), SizeIs(1));
  EXPECT_THAT(*readMetrics("", 1), IsEmpty());
}

TEST(Otlp, WhatIsBehindSoManyIsNotLookedAt) {
  std::string empty = field(1, "a") + field(5, field(1, "") + field(1, ""));
  EXPECT_THAT(*readMetrics(metricsData({empty, gauge("b", 1)}), 3), SizeIs(1));
  EXPECT_THAT(*readMetrics(metricsData({empty, gauge("b", 1)}), 2), IsEmpty())
      << "points without a value count too";
  std::string bare = field(1, "a");
  EXPECT_THAT(*readMetrics(metricsData({bare, bare, gauge("b", 1)}), 2), IsEmpty());
  std::string nobody = field(1, "");
  std::string behind = metricsData({gauge("b", 1)});
  EXPECT_THAT(*readMetrics(nobody + nobody + behind, 2), SizeIs(1));
  EXPECT_THAT(*readMetrics(nobody + nobody + nobody + nobody + nobody + behind, 2), IsEmpty());
}

TEST(Otlp, WhatIsCutShortOrNoSuchThingIsRefused) {
  std::string octets = metricsData({gauge("a.b", 1.5, field(7, attribute("topic", "t")))});
  for (size_t size = 1; size < octets.size(); ++size) {
    EXPECT_FALSE(readMetrics(BytesView(octets).substr(0, size), 10)) << size;
  }
  EXPECT_FALSE(readMetrics("no protobuf at all", 10));
  EXPECT_FALSE(readMetrics(std::string(20, '\xff'), 10)) << "a number without an end";
  EXPECT_FALSE(readMetrics(std::string("\0\0", 2), 10)) << "field 0";
}

// ---------------------------------------------------------------- over the protocol

class TelemetryTest : public KafkaTest {
 protected:
  TelemetryTest() {
    telemetry_ = std::make_shared<ClientTelemetry>(control_, clock_, systemRandom());
    KafkaOptions options;
    options.clientMetrics = &control_;
    options.telemetry = telemetry_;
    connect(std::move(options));
    wire::ApiVersionsRequest hello;
    hello.clientSoftwareName = "apache-kafka-java";
    hello.clientSoftwareVersion = "4.1.0";
    ask<wire::ApiVersionsResponse>(hello);
  }

  int16_t set(BytesView name, std::vector<std::pair<BytesView, std::optional<BytesView>>> values,
              int8_t operation = 0) {
    wire::IncrementalAlterConfigsRequest request;
    auto& resource = request.resources.emplace_back();
    resource.type = 16;
    resource.name = name;
    for (const auto& [key, value] : values) resource.configs.push_back({key, operation, value});
    return ask<wire::IncrementalAlterConfigsResponse>(request).responses.at(0).errorCode;
  }
  wire::GetTelemetrySubscriptionsResponse subscriptions(TopicId id = {}) {
    wire::GetTelemetrySubscriptionsRequest request;
    request.clientInstanceId = id;
    return ask<wire::GetTelemetrySubscriptionsResponse>(request);
  }
  int16_t push(TopicId id, int32_t subscription, BytesView metrics, int8_t codec = 0,
               bool terminating = false) {
    wire::PushTelemetryRequest request;
    request.clientInstanceId = id;
    request.subscriptionId = subscription;
    request.compressionType = codec;
    request.metrics = metrics;
    request.terminating = terminating;
    return ask<wire::PushTelemetryResponse>(request).errorCode;
  }
  std::string shown() {
    std::string out;
    telemetry_->print(out);
    return out;
  }

  FakeClientMetrics control_;
  std::shared_ptr<ClientTelemetry> telemetry_;
};

TEST_F(TelemetryTest, SubscriptionsAreSetSeenAndTakenAway) {
  EXPECT_EQ(set("s", {{"interval.ms", "1000"}, {"metrics", "a.,b."}, {"match", "client_id=t.*"}}),
            0);
  wire::DescribeConfigsRequest request;
  request.resources.push_back({16, "s", std::nullopt});
  request.resources.push_back({16, "other", std::nullopt});
  request.resources.push_back({16, "", std::nullopt});
  auto response = ask<wire::DescribeConfigsResponse>(request);
  const auto& configs = response.results.at(0).configs;
  ASSERT_EQ(configs.size(), 3U);
  EXPECT_EQ(configs[0].name, "interval.ms");
  EXPECT_EQ(configs[0].value, "1000");
  EXPECT_EQ(configs[0].source, 7) << "DYNAMIC_CLIENT_METRICS_CONFIG";
  EXPECT_EQ(configs[0].type, 3);
  EXPECT_EQ(response.results[1].configs.at(0).source, 5);
  EXPECT_EQ(response.results[1].configs[0].value, "300000");
  EXPECT_EQ(response.results[2].errorCode, 42);

  EXPECT_EQ(ask<wire::ListConfigResourcesResponse>(wire::ListConfigResourcesRequest{}, 0)
                .resources.at(0)
                .name,
            "s");
  EXPECT_EQ(set("s", {{"metrics", "c."}}, 2), 0) << "appended";
  EXPECT_EQ(control_.set->subscriptions.at("s").at("metrics"), "a.,b.,c.");
  EXPECT_EQ(set("s", {{"metrics", "a."}}, 3), 0);
  EXPECT_EQ(control_.set->subscriptions.at("s").at("metrics"), "b.,c.");
  for (BytesView key : {"interval.ms", "metrics", "match"}) set("s", {{key, std::nullopt}}, 1);
  EXPECT_THAT(control_.set->subscriptions, IsEmpty());
}

TEST_F(TelemetryTest, WhatMakesNoSenseIsRefused) {
  EXPECT_EQ(set("s", {{"interval", "1000"}}), 42);
  EXPECT_EQ(set("s", {{"interval.ms", "99"}}), 42);
  EXPECT_EQ(set("s", {{"interval.ms", "3600001"}}), 42);
  EXPECT_EQ(set("s", {{"interval.ms", "often"}}), 42);
  EXPECT_EQ(set("s", {{"match", "client=x"}}), 40);
  EXPECT_EQ(set("s", {{"match", "client_id"}}), 40);
  EXPECT_EQ(set("s", {{"match", "client_id=("}}), 40);
  EXPECT_EQ(set("", {{"metrics", "*"}}), 42);
  EXPECT_THAT(control_.set->subscriptions, IsEmpty());
}

TEST_F(TelemetryTest, AClientIsAskedForWhatMatchesIt) {
  auto none = subscriptions();
  EXPECT_EQ(none.errorCode, 0);
  EXPECT_NE(none.clientInstanceId, TopicId{});
  EXPECT_THAT(none.requestedMetrics, IsEmpty());
  EXPECT_EQ(none.pushIntervalMs, 300'000);
  EXPECT_EQ(none.telemetryMaxBytes, 1 << 20);
  EXPECT_TRUE(none.deltaTemporality);
  EXPECT_THAT(none.acceptedCompressionTypes, ElementsAre(4, 3, 1, 2));
  EXPECT_EQ(subscriptions(none.clientInstanceId).errorCode, 89) << "asked again at once";

  set("mine", {{"interval.ms", "1000"},
               {"metrics", "b.,a."},
               {"match", "client_id=test.*,client_software_name=apache-.*"}});
  set("other", {{"interval.ms", "100"}, {"metrics", "*"}, {"match", "client_software_version=9"}});
  auto changed = subscriptions(none.clientInstanceId);
  EXPECT_EQ(changed.errorCode, 0) << "subscriptions have changed";
  EXPECT_EQ(changed.pushIntervalMs, 1000);
  EXPECT_THAT(changed.requestedMetrics, ElementsAre("a.", "b."));
  EXPECT_NE(changed.subscriptionId, none.subscriptionId);
  set("all", {{"metrics", "*"}});
  EXPECT_THAT(subscriptions(none.clientInstanceId).requestedMetrics, ElementsAre("*"));
}

TEST_F(TelemetryTest, WhatIsPushedIsShownUntilItIsOld) {
  set("s", {{"interval.ms", "1000"}, {"metrics", "org."}});
  auto asked = subscriptions();
  std::string first = metricsData({gauge("org.rate", 2.5, field(7, attribute("node-id", "3"))),
                                   sum("org.total", 5, 1), gauge("com.other", 1)});
  std::string packed = compress(Compression::kZstd, first);
  EXPECT_EQ(push(asked.clientInstanceId, asked.subscriptionId, packed, 4), 0);
  EXPECT_THAT(shown(),
              HasSubstr("client_software_version=\"4.1.0\",name=\"org.rate\",group_id=\"g\","
                        "node_id=\"3\"} 2.5\n"));
  EXPECT_THAT(shown(), HasSubstr("name=\"org.total\",group_id=\"g\"} 5\n"));
  EXPECT_THAT(shown(), HasSubstr("client_id=\"tester\""));
  EXPECT_THAT(shown(), Not(HasSubstr("com.other"))) << "it was not asked for";
  dispatcher_.advance(1'000'000);
  EXPECT_EQ(push(asked.clientInstanceId, asked.subscriptionId, first), 0);
  EXPECT_THAT(shown(), HasSubstr("name=\"org.total\",group_id=\"g\"} 10\n"))
      << "it is a difference";
  dispatcher_.advance(60'000'000);
  EXPECT_THAT(shown(), IsEmpty());
}

TEST_F(TelemetryTest, PushesAreJudgedInKafkasOrder) {
  set("s", {{"interval.ms", "1000"}, {"metrics", "*"}});
  auto asked = subscriptions();
  TopicId id = asked.clientInstanceId;
  std::string fine = metricsData({gauge("m", 1)});
  EXPECT_EQ(push({}, asked.subscriptionId, fine), 42);
  EXPECT_EQ(push(id, asked.subscriptionId + 1, fine), 117) << "UNKNOWN_SUBSCRIPTION_ID";
  EXPECT_EQ(subscriptions(id).errorCode, 0) << "it may ask at once";
  EXPECT_EQ(push(id, asked.subscriptionId, fine, 9), 76) << "UNSUPPORTED_COMPRESSION_TYPE";
  EXPECT_EQ(subscriptions(id).errorCode, 0);
  EXPECT_EQ(push(id, asked.subscriptionId, fine), 0);
  EXPECT_EQ(push(id, asked.subscriptionId, fine), 89) << "before the interval is over";
  dispatcher_.advance(1'000'000);
  EXPECT_EQ(push(id, asked.subscriptionId, std::string(kMaxTelemetryBytes + 1, 'x')), 118);
  dispatcher_.advance(1'000'000);
  std::string bomb = compress(Compression::kZstd, std::string(kMaxTelemetryDecompressed + 1, '\0'));
  EXPECT_EQ(push(id, asked.subscriptionId, bomb, 4), 118);
  dispatcher_.advance(1'000'000);
  EXPECT_EQ(push(id, asked.subscriptionId, "nonsense"), 87) << "INVALID_RECORD";
  dispatcher_.advance(1'000'000);
  EXPECT_EQ(push(id, asked.subscriptionId, "nonsense", 4), 87);
  EXPECT_EQ(push(id, asked.subscriptionId, fine, 0, true), 0) << "the last one may come early";
  EXPECT_EQ(push(id, asked.subscriptionId, fine), 42) << "nothing comes after the last";
}

TEST_F(TelemetryTest, StrangersMakeNobodyGo) {
  ClientTelemetry::Limits limits;
  limits.clients = 2;
  ClientTelemetry telemetry(control_, clock_, systemRandom(), limits);
  set("s", {{"interval.ms", "1000"}, {"metrics", "*"}});
  auto asked = telemetry.ask({}, ClientFacts{});
  std::string data = metricsData({gauge("m", 1)});
  EXPECT_EQ(telemetry.push({asked.id, asked.subscriptionId, false, 0, data}, ClientFacts{}),
            Code::kNone);
  for (uint8_t i = 2; i < 10; ++i) {
    InstanceId stranger{i};
    EXPECT_EQ(telemetry.push({stranger, asked.subscriptionId, false, 0, data}, ClientFacts{}),
              Code::kUnknownSubscriptionId);
  }
  std::string out;
  telemetry.print(out);
  EXPECT_THAT(out, testing::HasSubstr("name=\"m\""));
}

TEST_F(TelemetryTest, AConnectionPushesOutNobodyElse) {
  ClientTelemetry::Limits limits;
  limits.clients = 4;
  limits.ofConnection = 2;
  ClientTelemetry telemetry(control_, clock_, systemRandom(), limits);
  set("s", {{"interval.ms", "100"}, {"metrics", "*"}});
  std::string data = metricsData({gauge("m", 1)});
  auto pushes = [&](const std::string& name, const std::string& address, uint64_t connection) {
    ClientFacts client;
    client.clientId = name;
    client.address = address;
    client.connection = connection;
    auto asked = telemetry.ask({}, client);
    EXPECT_EQ(telemetry.push({asked.id, asked.subscriptionId, false, 0, data}, client),
              Code::kNone);
  };
  auto shown = [&](const std::string& name) {
    std::string out;
    telemetry.print(out);
    return out.find("client_id=\"" + name + "\"") != std::string::npos;
  };
  pushes("good", "10.0.0.1", 1);
  pushes("other", "10.0.0.2", 2);
  for (int i = 0; i < 10; ++i) pushes("many" + std::to_string(i), "10.0.0.2", 3);
  EXPECT_TRUE(shown("good") && shown("other") && shown("many8") && shown("many9"));
  EXPECT_FALSE(shown("many7"));
  // Nor does one that comes again and again.
  for (uint64_t i = 0; i < 10; ++i) pushes("again" + std::to_string(i), "10.0.0.3", 10 + i);
  EXPECT_TRUE(shown("good"));
  EXPECT_TRUE(shown("again9"));
}

TEST_F(TelemetryTest, AClientCountsForWhereItIsNow) {
  ClientTelemetry::Limits limits;
  limits.clients = 3;
  ClientTelemetry telemetry(control_, clock_, systemRandom(), limits);
  set("s", {{"interval.ms", "100"}, {"metrics", "*"}});
  std::string data = metricsData({gauge("m", 1)});
  uint64_t connections = 0;
  auto pushes = [&](const std::string& name, const std::string& address, InstanceId id = {}) {
    clock_.advance(1'000'000);
    ClientFacts client;
    client.clientId = name;
    client.address = address;
    client.connection = ++connections;
    auto asked = telemetry.ask(id, client);
    EXPECT_EQ(telemetry.push({asked.id, asked.subscriptionId, false, 0, data}, client),
              Code::kNone);
    return asked.id;
  };
  auto shown = [&](const std::string& name) {
    std::string out;
    telemetry.print(out);
    return out.find("client_id=\"" + name + "\"") != std::string::npos;
  };
  InstanceId moved = pushes("moved", "10.0.0.1");
  pushes("first", "10.0.0.1");
  pushes("second", "10.0.0.2");
  pushes("moved", "10.0.0.2", moved);
  pushes("new", "10.0.0.3");  // most are of the second address by now
  EXPECT_TRUE(shown("first") && shown("moved") && shown("new"));
  EXPECT_FALSE(shown("second"));
  pushes("newer", "10.0.0.4");  // one each: the longest unused
  EXPECT_FALSE(shown("first"));
  EXPECT_TRUE(shown("moved"));
}

TEST_F(TelemetryTest, OctetsAreBounded) {
  ClientTelemetry::Limits limits;
  limits.bytes = 1000;
  ClientTelemetry telemetry(control_, clock_, systemRandom(), limits);
  set("s", {{"interval.ms", "1000"}, {"metrics", "*"}});
  std::vector<std::string> metrics;
  for (int i = 0; i < 10; ++i) metrics.push_back(gauge("m" + std::to_string(i), i));
  std::string data = metricsData(metrics);
  ClientFacts client;
  client.clientId = std::string(300, 'c');
  auto asked = telemetry.ask({}, client);
  EXPECT_EQ(telemetry.push({asked.id, asked.subscriptionId, false, 0, data}, client), Code::kNone);
  std::string out;
  telemetry.print(out);
  EXPECT_EQ(std::ranges::count(out, '\n'), 2 + 2) << "the client's labels count too";
}

TEST_F(TelemetryTest, MemoryIsBounded) {
  ClientTelemetry::Limits limits;
  limits.clients = 2;
  limits.series = 5;
  limits.seriesOfClient = 3;
  ClientTelemetry telemetry(control_, clock_, systemRandom(), limits);
  set("s", {{"interval.ms", "100"}, {"metrics", "*"}});
  std::string many;
  std::vector<std::string> metrics;
  for (int i = 0; i < 10; ++i) metrics.push_back(gauge("m" + std::to_string(i), i));
  many = metricsData(metrics);
  auto lines = [&] {
    std::string out;
    telemetry.print(out);
    return std::ranges::count(out, '\n');
  };
  auto pushed = [&] {
    auto asked = telemetry.ask({}, ClientFacts{});
    EXPECT_EQ(telemetry.push({asked.id, asked.subscriptionId, false, 0, many}, ClientFacts{}),
              Code::kNone);
    return asked.id;
  };
  pushed();
  EXPECT_EQ(lines(), 2 + 3);
  pushed();
  EXPECT_EQ(lines(), 2 + 5);
  pushed();
  EXPECT_EQ(lines(), 2 + 5) << "the first one made way";
}

}  // namespace
}  // namespace polylog::kafka::test
