// The admin listener over real sockets, in front of a real broker in a directory of its own.
#include "server/admin.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <map>
#include <memory>
#include <thread>

#include "core/base/json_value.h"
#include "core/event/event_dispatcher.h"
#include "core/net/address.h"
#include "router/router.h"
#include "server/admin_client.h"
#include "server/json.h"
#include "storage/log_store.h"
#include "tests/support/temporary_directory.h"

namespace polylog::server {
namespace {

/// A JSON value that tests walk without asking what it is: what isn't there is null.
class Answer {
 public:
  explicit Answer(JsonValue value) : value_(std::move(value)) {}
  Answer operator[](const char* name) const {
    const JsonValue* member = value_.find(name);
    return Answer(member == nullptr ? JsonValue() : *member);
  }
  Answer operator[](size_t index) const {
    const JsonValue::Array* array = value_.array();
    return Answer(array != nullptr && index < array->size() ? (*array)[index] : JsonValue());
  }
  size_t size() const { return value_.array() == nullptr ? 0 : value_.array()->size(); }
  std::string text() const { return value_.text() == nullptr ? "(no text)" : *value_.text(); }
  int64_t number() const { return value_.number().value_or(INT64_MIN); }
  bool isNull() const { return value_.isNull(); }

 private:
  JsonValue value_;
};

class AdminTest : public testing::Test {
 protected:
  void SetUp() override {
    auto directory = storage::openDirectory(directory_.path());
    ASSERT_TRUE(directory.has_value());
    auto store = storage::openLogStore(*directory, {}, systemClock(), systemRandom(),
                                       [](const Error& error) { FAIL() << error.text; });
    ASSERT_TRUE(store.has_value()) << store.error().text;
    store_ = std::move(*store);
    Dispatcher* dispatchers[] = {&worker_};
    auto router =
        router::makeRouter(*store_, dispatchers, systemClock(), systemRandom(), routerOptions());
    ASSERT_TRUE(router.has_value()) << router.error().text;
    router_ = std::move(*router);
    thread_ = std::thread([this] { worker_.run(); });
    router_->start();
    auto admin =
        AdminServer::open({"127.0.0.1", 0}, worker_, *router_, [this] { return ready_.load(); },
                          {.authenticator = &router_->authenticator(),
                           .access = &router_->access(),
                           .quotas = &router_->quotas(),
                           .clientMetrics = &router_->clientMetrics(),
                           .topicDefaults = &router_->dynamicDefaults()});
    ASSERT_TRUE(admin.has_value()) << admin.error().text;
    admin_ = std::move(*admin);
    client_ = std::make_unique<AdminClient>("http://" + toText(admin_->bound()));
  }

  void TearDown() override {
    client_.reset();
    if (admin_) admin_->stop();
    if (thread_.joinable()) {
      std::promise<void> stopped;
      router_->stop([&] { stopped.set_value(); });
      stopped.get_future().wait();
      store_->close();
      worker_.stop();
      thread_.join();
    }
    admin_.reset();
    router_.reset();
  }

  static router::RouterOptions routerOptions() {
    router::RouterOptions options;
    options.maxMessageBytes = 1 << 20;
    return options;
  }

  /// The answer as JSON; empty and a failure when there is none.
  Answer get(const std::string& path) {
    auto answer = client_->request("GET", path);
    EXPECT_TRUE(answer.has_value()) << path << ": " << (answer ? "" : answer.error().text);
    auto value = JsonValue::parse(answer.value_or(""));
    EXPECT_TRUE(value && value->object() != nullptr) << path;
    return Answer(value.value_or(JsonValue()));
  }
  void post(const std::string& path, const std::string& body = {}) {
    auto answer = client_->request("POST", path, body);
    EXPECT_TRUE(answer.has_value()) << path << ": " << (answer ? "" : answer.error().text);
  }
  std::string errorOf(const std::string& method, const std::string& path,
                      const std::string& body = {}) {
    auto answer = client_->request(method, path, body);
    EXPECT_FALSE(answer.has_value()) << path << ": " << answer.value_or("");
    return answer ? "" : answer.error().text;
  }
  /// Sends octets as they are and returns all that comes until the listener closes.
  std::string raw(const std::string& octets) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(admin_->bound().port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(send(fd, octets.data(), octets.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(octets.size()));
    shutdown(fd, SHUT_WR);
    std::string answer;
    char block[4096];
    for (ssize_t got = 0; (got = recv(fd, block, sizeof block, 0)) > 0;) {
      answer.append(block, static_cast<size_t>(got));
    }
    close(fd);
    return answer;
  }

  test::TemporaryDirectory directory_;
  std::atomic<bool> ready_{true};
  EventDispatcher worker_;
  std::unique_ptr<storage::LogStore> store_;
  std::unique_ptr<router::Router> router_;
  std::thread thread_;
  std::unique_ptr<AdminServer> admin_;
  std::unique_ptr<AdminClient> client_;
};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_F(AdminTest, healthAndReadiness) {
  EXPECT_EQ(client_->request("GET", "/healthz").value_or(""), "ok\n");
  EXPECT_EQ(client_->request("GET", "/readyz").value_or(""), "ready\n");
  ready_ = false;
  EXPECT_TRUE(has(errorOf("GET", "/readyz"), "503"));
  EXPECT_EQ(client_->request("GET", "/healthz").value_or(""), "ok\n");
}

TEST_F(AdminTest, aTopicsLife) {
  post("/api/topics/orders?partitions=3&retention_ms=60000");
  Answer topic = get("/api/topics/orders");
  EXPECT_EQ(topic["name"].text(), "orders");
  EXPECT_EQ(topic["partitions"].size(), 3U);
  EXPECT_EQ(topic["partitions"][size_t{2}]["high_watermark"].number(), 0);
  EXPECT_EQ(topic["config"]["retention_ms"].number(), 60'000);
  EXPECT_EQ(get("/api/topics")["topics"].size(), 1U);
  EXPECT_TRUE(has(errorOf("POST", "/api/topics/orders"), "409"));
  EXPECT_TRUE(client_->request("DELETE", "/api/topics/orders").has_value());
  EXPECT_EQ(get("/api/topics")["topics"].size(), 0U);
  EXPECT_TRUE(has(errorOf("GET", "/api/topics/orders"), "`orders`"));
  EXPECT_TRUE(has(errorOf("DELETE", "/api/topics/orders"), "404"));
}

TEST_F(AdminTest, aTopicFollowsTheDefaultsInWhatIsNotGiven) {
  auto retention = [&](const std::string& name) {
    return get("/api/topics/" + name)["config"]["retention_ms"].number();
  };
  post("/api/topics/plain");
  post("/api/topics/compacted?cleanup_policy=compact,delete");
  post("/api/topics/sized?retention_bytes=1000");
  post("/api/topics/endless?retention_ms=-1");
  EXPECT_GT(retention("plain"), 0);
  EXPECT_EQ(retention("compacted"), retention("plain"));
  EXPECT_EQ(retention("sized"), retention("plain"));
  EXPECT_EQ(retention("endless"), -1);
  EXPECT_EQ(get("/api/topics/compacted")["config"]["cleanup_policy"].text(), "compact,delete");
  EXPECT_EQ(get("/api/topics/sized")["config"]["cleanup_policy"].text(), "delete");
}

TEST_F(AdminTest, aTopicTellsWhatIsSetAndByWhom) {
  post("/api/topics/mine?retention_ms=60000");
  post("/api/topic_defaults?log.retention.ms=90000&message.max.bytes=2000");
  post("/api/topic_defaults?broker=1&message.max.bytes=3000");
  auto settings = [&](const std::string& topic) {
    std::map<std::string, std::string> all;
    const Answer listed = get("/api/topics/" + topic)["settings"];
    for (size_t i = 0; i < listed.size(); ++i) {
      all[listed[i]["key"].text()] = listed[i]["value"].text() + " " + listed[i]["source"].text();
    }
    return all;
  };
  const std::map<std::string, std::string> mine = {{"retention.ms", "60000 topic"},
                                                   {"max.message.bytes", "3000 broker"}};
  EXPECT_EQ(settings("mine"), mine);
  EXPECT_EQ(get("/api/topics/mine")["origin"].text(), "admin");
  EXPECT_TRUE(client_->request("DELETE", "/api/topic_defaults?broker=1&message.max.bytes="));
  post("/api/topics/plain");
  const std::map<std::string, std::string> plain = {{"retention.ms", "90000 cluster"},
                                                    {"max.message.bytes", "2000 cluster"}};
  EXPECT_EQ(settings("plain"), plain);
}

TEST_F(AdminTest, defaultsOfTopicsAreNamedAsTheyAre) {
  auto said = [&](const char* method, const std::string& query, const char* part) {
    const std::string error = errorOf(method, "/api/topic_defaults" + query);
    EXPECT_TRUE(has(error, part)) << error;
  };
  said("POST", "", "KEY=VALUE");
  said("POST", "?broker=1", "KEY=VALUE");
  said("POST", "?broker=2&log.retention.ms=1", "this one is 1");
  said("POST", "?retention.ms=1", "`log.retention.ms`");
  said("POST", "?num.io.threads=1", "topic-default list");
  said("POST", "?log.retention.ms=7d", "milliseconds");
  said("POST", "?log.retention.ms=7&log.cleanup.policy=none", "400");
  said("DELETE", "", "name the keys");
  said("DELETE", "?log.retention.ms=", "404");
  said("PUT", "", "");
  const Answer listed = get("/api/topic_defaults")["topic_defaults"];
  EXPECT_GT(listed.size(), 20U);
  for (size_t i = 0; i < listed.size(); ++i) {
    EXPECT_TRUE(listed[i]["cluster"].isNull() && listed[i]["broker"].isNull()) << "half set";
  }
}

TEST_F(AdminTest, whatTheUserCanMendIsNoFailureOfTheBrokers) {
  EXPECT_TRUE(has(errorOf("POST", "/api/client_metrics/s?match=x"), "client_software_name"));
  EXPECT_TRUE(has(errorOf("POST", "/api/client_metrics/s?match=x"), "400"));
  EXPECT_TRUE(has(errorOf("POST", "/api/client_metrics/s?match=client_id%3D%28"), "400"));
  EXPECT_TRUE(has(errorOf("POST", "/api/client_metrics/s?interval_ms=5m"), "milliseconds"));
  const std::string rate = errorOf("POST", "/api/quotas?user=a&producer_byte_rate=1MB");
  EXPECT_TRUE(has(rate, "1MB") && has(rate, "octets a second")) << rate;
  EXPECT_TRUE(has(errorOf("POST", "/api/topics/t?retention_ms=7d"), "milliseconds"));
  EXPECT_TRUE(has(errorOf("POST", "/api/topics/t?retention_bytes=1GiB"), "octets"));
  EXPECT_TRUE(has(errorOf("POST", "/api/topics/t?compression=zstd"), "cleanup_policy"));
  for (const char* noun : {"topic", "group", "session", "queue", "exchange", "user"}) {
    const std::string error = errorOf("DELETE", fmt::format("/api/{}s/none", noun));
    EXPECT_TRUE(has(error, fmt::format("`polylog {} list`", noun))) << error;
  }
}

TEST_F(AdminTest, topicsThatCannotBe) {
  EXPECT_TRUE(has(errorOf("POST", "/api/topics/" + encoded("a/b")), "400"));
  EXPECT_TRUE(has(errorOf("POST", "/api/topics/" + encoded("$SYS")), "400"));
  EXPECT_TRUE(has(errorOf("POST", "/api/topics/" + encoded("a/b") + "/records", "{}"), "400"));
  EXPECT_TRUE(has(errorOf("POST", "/api/topics/t?partitions=0"), "400"));
  EXPECT_TRUE(has(errorOf("POST", "/api/topics/t?partitions=x"), "400"));
  EXPECT_TRUE(has(errorOf("POST", "/api/topics/t?partitions=99999999999"), "400"));
  EXPECT_EQ(get("/api/topics")["topics"].size(), 0U);
}

TEST_F(AdminTest, aPayloadFormatThatIsntIsRefused) {
  auto said = [](const char* value, const char* format) {
    return fmt::format(
        R"({{"value_base64":"{}","headers":[{{"name":"payload-format","value":"{}"}}]}})", value,
        format);
  };
  EXPECT_TRUE(
      has(errorOf("POST", "/api/topics/t/records", said("/w==", "utf-8")), "`payload-format`"));
  post("/api/topics/t/records", said("/w==", "bytes"));
  post("/api/topics/t/records", said("eA==", "utf-8"));
}

TEST_F(AdminTest, recordsComeBackAsTheyWent) {
  post("/api/topics/sensors/records",
       R"({"key":"kitchen/temp","value":"21.5","headers":[{"name":"unit","value":"C"}]})");
  post("/api/topics/sensors/records",
       R"({"records":[{"key":null,"value":""},{"key_base64":"AP8=","value":null}]})");
  Answer answer = get("/api/topics/sensors/records?offset=earliest");
  Answer records = answer["records"];
  ASSERT_EQ(records.size(), 3U);
  EXPECT_EQ(records[size_t{0}]["key"].text(), "kitchen/temp");
  EXPECT_EQ(records[size_t{0}]["value"].text(), "21.5");
  EXPECT_EQ(records[size_t{0}]["headers"][size_t{0}]["name"].text(), "unit");
  EXPECT_EQ(records[size_t{0}]["headers"][size_t{0}]["value"].text(), "C");
  EXPECT_GT(records[size_t{0}]["timestamp"].number(), 0);
  EXPECT_TRUE(records[size_t{1}]["key"].isNull());
  EXPECT_EQ(records[size_t{1}]["value"].text(), "");
  EXPECT_EQ(records[size_t{2}]["key_base64"].text(), "AP8=");
  EXPECT_TRUE(records[size_t{2}]["value"].isNull());
  EXPECT_EQ(answer["next"].number(), 3);
  EXPECT_EQ(answer["high_watermark"].number(), 3);

  Answer one = get("/api/topics/sensors/records?offset=1&max=1");
  ASSERT_EQ(one["records"].size(), 1U);
  EXPECT_EQ(one["records"][size_t{0}]["offset"].number(), 1);
  EXPECT_EQ(one["next"].number(), 2);
  EXPECT_EQ(get("/api/topics/sensors/records?offset=latest")["records"].size(), 0U);
}

TEST_F(AdminTest, aReaderWaitsForTheNextRecord) {
  post("/api/topics/t");
  AdminClient other("http://" + toText(admin_->bound()));
  auto waiting = std::async(std::launch::async, [&] {
    return other.request("GET", "/api/topics/t/records?offset=0&wait_ms=30000");
  });
  post("/api/topics/t/records", R"({"value":"now"})");
  auto answer = waiting.get();
  ASSERT_TRUE(answer.has_value()) << answer.error().text;
  EXPECT_TRUE(has(*answer, "\"now\"")) << *answer;
}

TEST_F(AdminTest, aReaderThatWaitsInVainGetsNothing) {
  post("/api/topics/t");
  EXPECT_EQ(get("/api/topics/t/records?wait_ms=1")["records"].size(), 0U);
}

TEST_F(AdminTest, stoppingWhileAReaderWaits) {
  post("/api/topics/t");
  AdminClient other("http://" + toText(admin_->bound()));
  auto waiting = std::async(std::launch::async, [&] {
    return other.request("GET", "/api/topics/t/records?offset=0&wait_ms=30000");
  });
  // Answered by the same loop: by then the reader's request may be waiting or yet to come.
  EXPECT_TRUE(client_->request("GET", "/healthz").has_value());
  admin_->stop();
  EXPECT_FALSE(waiting.get().has_value());
  admin_.reset();
}

TEST_F(AdminTest, wrongRequestsAreToldWhy) {
  post("/api/topics/t");
  EXPECT_TRUE(has(errorOf("GET", "/"), "404"));
  EXPECT_TRUE(has(errorOf("GET", "/api/nothing"), "/api/topics"));
  EXPECT_TRUE(has(errorOf("DELETE", "/api/topics"), "400"));
  EXPECT_TRUE(has(errorOf("GET", "/api/topics/t/records?offset=7"), "416"));
  EXPECT_TRUE(has(errorOf("GET", "/api/topics/t/records?offset=-7"), "400"));
  EXPECT_TRUE(has(errorOf("GET", "/api/topics/t/records?partition=1"), "404"));
  EXPECT_TRUE(has(errorOf("GET", "/api/topics/none/records"), "404"));
  EXPECT_TRUE(has(errorOf("GET", "/api/groups/none"), "none"));
  EXPECT_TRUE(has(errorOf("GET", "/api/sessions/none"), "none"));
  EXPECT_TRUE(has(errorOf("DELETE", "/api/sessions/none"), "none"));
}

TEST_F(AdminTest, bodiesThatAreNoRecords) {
  for (const char* body :
       {"", "x", "[]", "7", "{\"key\":7}", "{\"value\":{}}", "{\"value_base64\":\"!\"}",
        "{\"headers\":7}", "{\"headers\":[size_t{7}]}", "{\"headers\":[{}]}", "{\"records\":7}",
        "{\"records\":[size_t{7}]}", "{\"records\":[{\"headers\":[{\"name\":7}]}]}",
        "{\"value\":\"\xff\"}}"}) {
    EXPECT_TRUE(has(errorOf("POST", "/api/topics/t/records", body), "400")) << body;
  }
  // Nesting costs no stack.
  std::string deep = "{\"value\":" + std::string(200'000, '[');
  EXPECT_TRUE(has(errorOf("POST", "/api/topics/t/records", deep), "400"));
}

TEST_F(AdminTest, limits) {
  std::string large = "{\"value\":\"" + std::string(3 << 20, 'x') + "\"}";
  EXPECT_FALSE(client_->request("POST", "/api/topics/t/records", large).has_value());
  std::string answer = raw("GET /healthz HTTP/1.1\r\nA: " + std::string(100'000, 'a') + "\r\n\r\n");
  EXPECT_FALSE(has(answer, "200 OK")) << answer;
  EXPECT_EQ(client_->request("GET", "/healthz").value_or(""), "ok\n");
}

TEST_F(AdminTest, noiseHurtsNobody) {
  for (const char* noise :
       {"", "\r\n\r\n", "GET", "GET / HTTP/9.9\r\n\r\n", "BREW / HTTP/1.1\r\n\r\n",
        "\x16\x03\x01\x02", "GET /%00%zz%/../.. HTTP/1.1\r\n\r\n",
        "POST /api/topics/t HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        "POST /api/topics/t/records HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST /api/topics/t/records HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n{",
        "GET //?&&==&a=%&%=b HTTP/1.1\r\n\r\n", "CONNECT host:80 HTTP/1.1\r\n\r\n"}) {
    raw(noise);
    EXPECT_EQ(client_->request("GET", "/healthz").value_or(""), "ok\n") << noise;
  }
}

TEST_F(AdminTest, metricsHaveTheProcessAndTheTraffic) {
  post("/api/topics/t/records", R"({"value":"x"})");
  std::string text = client_->request("GET", "/metrics").value_or("");
  EXPECT_TRUE(has(text, "polylog_process_resident_bytes ")) << text;
  EXPECT_TRUE(has(text, "polylog_records_in_total{protocol=")) << text;
  EXPECT_TRUE(has(text, "# TYPE polylog_group_lag_records gauge")) << text;
}

TEST_F(AdminTest, groupsWithTheirLag) {
  post("/api/topics/t/records", R"({"records":[{"value":"1"},{"value":"2"},{"value":"3"}]})");
  std::promise<bool> committed;
  worker_.post([&] {
    GroupCommit commit;
    commit.group = "billing \"1\"";
    commit.offsets.push_back({.topic = "t", .partition = 0, .offset = 1, .metadata = {}});
    router_->commitOffsets(std::make_shared<Principal>(), std::move(commit),
                           [&](auto result) { committed.set_value(result.has_value()); });
  });
  ASSERT_TRUE(committed.get_future().get());
  Answer groups = get("/api/groups");
  ASSERT_EQ(groups["groups"].size(), 1U);
  EXPECT_EQ(groups["groups"][size_t{0}]["lag"].number(), 2);
  Answer group = get("/api/groups/" + encoded("billing \"1\""));
  ASSERT_EQ(group["offsets"].size(), 1U);
  EXPECT_EQ(group["offsets"][size_t{0}]["lag"].number(), 2);
  std::string text = client_->request("GET", "/metrics").value_or("");
  EXPECT_TRUE(has(text, R"(polylog_group_lag_records{group="billing \"1\"",topic="t"} 2)")) << text;
  EXPECT_TRUE(client_->request("DELETE", "/api/groups/" + encoded("billing \"1\"")).has_value());
  EXPECT_EQ(get("/api/groups")["groups"].size(), 0U);
}

TEST_F(AdminTest, aTakenPortIsNamed) {
  auto second = AdminServer::open(admin_->bound(), worker_, *router_, [] { return true; });
  ASSERT_FALSE(second.has_value());
  EXPECT_TRUE(has(second.error().text, toText(admin_->bound()))) << second.error().text;
}

TEST_F(AdminTest, anUnreachableBrokerIsNamed) {
  AdminClient nobody("http://127.0.0.1:1");
  auto answer = nobody.request("GET", "/healthz");
  ASSERT_FALSE(answer.has_value());
  EXPECT_TRUE(has(answer.error().text, "http://127.0.0.1:1")) << answer.error().text;
  AdminClient file("file:///etc/hostname");
  EXPECT_FALSE(file.request("GET", "").has_value());
}

std::string basic(const std::string& credentials) {
  return "GET /api/topics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic " +
         base64(credentials) + "\r\n\r\n";
}

TEST_F(AdminTest, quotasAreNamedAsTheyAre) {
  post("/api/quotas?user=d&producer_byte_rate=1000");
  EXPECT_NE(errorOf("DELETE", "/api/quotas?user=d&consumer_byte_rate=").find("consumer_byte_rate"),
            std::string::npos);
  for (const char* query : {"user=b%00c", "user=b%ff", "client_id=%c3%28", "user"}) {
    errorOf("POST", std::string("/api/quotas?producer_byte_rate=1&") + query);
  }
  EXPECT_EQ(get("/api/quotas")["quotas"].size(), 1U);
  EXPECT_TRUE(client_->request("DELETE", "/api/quotas?user=d&producer_byte_rate="));
  EXPECT_EQ(get("/api/quotas")["quotas"].size(), 0U);
}

TEST_F(AdminTest, subscriptionsOfMetricsGoAsAWhole) {
  post("/api/client_metrics/s?metrics=org.");
  errorOf("DELETE", "/api/client_metrics/s?metrics=x");
  EXPECT_EQ(get("/api/client_metrics")["client_metrics"][size_t{0}]["metrics"].text(), "org.");
  EXPECT_TRUE(client_->request("DELETE", "/api/client_metrics/s"));
  errorOf("DELETE", "/api/client_metrics/s");
  errorOf("POST", "/api/client_metrics/s?metrics=%ff");
  errorOf("POST", "/api/client_metrics/%ff?metrics=x");
  EXPECT_EQ(get("/api/client_metrics")["client_metrics"].size(), 0U);
}

TEST_F(AdminTest, usersMakeTheListenerAskWhoIsThere) {
  post("/api/users/root", R"({"password":"secret"})");
  EXPECT_TRUE(has(errorOf("GET", "/api/topics"), "401"));
  EXPECT_TRUE(has(errorOf("POST", "/api/users/eve", R"({"password":"x"})"), "log in"));
  EXPECT_EQ(client_->request("GET", "/healthz").value_or(""), "ok\n");
  EXPECT_TRUE(client_->request("GET", "/metrics").has_value()) << "from this machine";
  std::string refused = raw(basic("root:guess"));
  EXPECT_TRUE(has(refused, "401")) << refused;
  EXPECT_TRUE(has(refused, "WWW-Authenticate: Basic")) << refused;
  EXPECT_TRUE(has(raw(basic("root:secret")), "200 OK"));
  EXPECT_TRUE(has(raw(basic(":secret")), "401"));
  EXPECT_TRUE(has(raw("GET /api/topics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                      "Authorization: Basic !!!\r\n\r\n"),
                  "401"));
}

TEST_F(AdminTest, whatKafkasClientsSeeTooTakesWhatItTakesThere) {
  for (const char* operation : {"alter-configs", "describe-configs"}) {
    post(
        fmt::format("/api/acls?permission=deny&user=ann&operation={}&name=kafka-cluster"
                    "&resource=cluster",
                    operation));
  }
  post("/api/users/ann", R"({"password":"secret"})");
  auto asAnn = [&](const char* method, const char* path) {
    return raw(
        fmt::format("{} {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                    "Authorization: Basic {}\r\n\r\n",
                    method, path, "YW5uOnNlY3JldA=="));  // ann:secret
  };
  EXPECT_TRUE(has(asAnn("GET", "/api/topics"), "200 OK"));
  for (const char* path : {"/api/quotas?user=a&producer_byte_rate=1", "/api/client_metrics/s",
                           "/api/topic_defaults?log.retention.ms="}) {
    std::string refused = asAnn("DELETE", path);
    EXPECT_TRUE(has(refused, "403") && has(refused, "alter-configs")) << refused;
  }
  for (const char* path : {"/api/quotas", "/api/client_metrics", "/api/topic_defaults"}) {
    std::string refused = asAnn("GET", path);
    EXPECT_TRUE(has(refused, "403") && has(refused, "describe-configs")) << refused;
  }
}

TEST_F(AdminTest, usersAndRules) {
  EXPECT_TRUE(has(errorOf("POST", "/api/acls?permission=allow&user=ann&operation=juggle&name=t"),
                  "juggle"));
  EXPECT_TRUE(has(errorOf("POST", "/api/acls?permission=allow&operation=read&name=t"), "user"));
  EXPECT_TRUE(has(errorOf("POST", "/api/acls?permission=allow&user=ann&colour=red"), "colour"));
  post("/api/acls?permission=deny&user=ann&operation=read&name=a%2F%23&pattern=filter");
  Answer rules = get("/api/acls")["acls"];
  EXPECT_EQ(rules[size_t{0}]["user"].text(), "ann");
  EXPECT_EQ(rules[size_t{0}]["name"].text(), "a/#");
  EXPECT_EQ(rules[size_t{0}]["pattern"].text(), "filter");
  EXPECT_EQ(rules[size_t{0}]["permission"].text(), "deny");
  EXPECT_TRUE(
      has(errorOf("DELETE", "/api/acls?permission=deny&user=ann&operation=read&name=b"), "404"));
  const char* same =
      "/api/acls?permission=deny&user=ann&operation=read&name=a%2F%23&pattern=filter";
  EXPECT_TRUE(client_->request("DELETE", same).has_value());
  EXPECT_TRUE(has(errorOf("POST", "/api/users/ann"), "password"));
  EXPECT_TRUE(has(errorOf("DELETE", "/api/users/ann"), "404"));
  post("/api/users/ann", R"({"password":"secret"})");
}

}  // namespace
}  // namespace polylog::server
