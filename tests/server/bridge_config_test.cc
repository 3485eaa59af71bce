// The keys of bridges, and the pauses between a bridge's attempts.
#include "server/bridge_config.h"

#include <gtest/gtest.h>

#include "server/bridge.h"
#include "server/config.h"
#include "tests/support/certificates.h"
#include "tests/support/seeded_random.h"

namespace polylog::server {
namespace {

std::string textOf(const std::vector<Error>& errors) {
  std::string out;
  for (const Error& error : errors) out += error.text + "\n";
  return out;
}

/// What loading and checking say; empty = sound.
std::string judge(const std::string& yaml, Config& config) {
  auto errors = loadConfigText(yaml, "file.yaml", config);
  if (errors.empty()) errors = checkBridges(config);
  return textOf(errors);
}
std::string judge(const std::string& yaml) {
  Config config;
  return judge(yaml, config);
}
bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(BridgeConfigTest, noneToTheBrokerItself) {
  auto said = [](const std::string& listener, const std::string& address) {
    Config config;
    return judge("listeners: [\"" + listener +
                     "\"]\nauth.required: true\nbridges:\n  n.topics: a out 1\n" +
                     "  n.address: " + address + "\n",
                 config);
  };
  for (auto [listener, address] :
       {std::pair{"mqtt=127.0.0.1:1883", "mqtt=127.0.0.1:1883"},
        {"mqtt=127.0.0.1:1883", "mqtt=localhost:1883"},
        {"mqtt=0.0.0.0:1883", "mqtt=127.0.0.1:1883"},
        {"mqtt=[::]:1883", "mqtt=localhost:1883"},
        {"mqtt=[::]:1883", "mqtt=[::1]:1883"},
        {"mqtt=[::]:1883", "mqtt=127.0.0.1:1883"},
        {"mqtt=0.0.0.0:1883", "mqtt=localhost:1883"},
        {"mqtt=0.0.0.0:1883", "[mqtt=one.example:1, mqtt=127.0.0.9:1883]"},
        {"mqtt=localhost:1883", "mqtt=[::1]:1883"},
        {"mqtt=broker.example:1883", "mqtt=broker.example:1883"}}) {
    const std::string text = said(listener, address);
    EXPECT_TRUE(has(text, "bridges.n.address") && has(text, "own listener")) << listener << text;
  }
  for (auto [listener, address] : {std::pair{"mqtt=127.0.0.1:1883", "mqtt=127.0.0.1:1884"},
                                   {"mqtt=127.0.0.1:1883", "mqtt=127.0.0.2:1883"},
                                   {"mqtt=0.0.0.0:1883", "mqtt=192.0.2.1:1883"},
                                   {"mqtt=0.0.0.0:1883", "mqtt=[::1]:1883"},
                                   {"mqtt=127.0.0.1:0", "mqtt=127.0.0.1:1883"}}) {
    EXPECT_FALSE(has(said(listener, address), "own listener")) << listener;
  }
}

TEST(BridgeConfigTest, severalBridgesEachWithKeysOfTheirOwn) {
  Config config;
  EXPECT_EQ(judge("bridges:\n"
                  "  north:\n"
                  "    address: [mqtt=one.example:1883, mqtt=127.0.0.1:1884]\n"
                  "    user: edge\n"
                  "    password: secret\n"
                  "    version: 3.1.1\n"
                  "    reconnect:\n      min_ms: 20\n"
                  "    topics:\n"
                  "      - sensors/# out 1\n"
                  "      - commands/# in 2 \"\" site7/\n"
                  "  south.address: mqtt=south.example:1883\n"
                  "  south.topics: a both 0\n",
                  config),
            "");
  ASSERT_EQ(config.bridges.size(), 2U);
  const BridgeConfig& north = config.bridges[0];
  EXPECT_EQ(north.name, "north");
  ASSERT_EQ(north.addresses.size(), 2U);
  EXPECT_EQ(north.addresses[0].address.host, "one.example");
  EXPECT_FALSE(north.version5);
  EXPECT_EQ(north.reconnectMinMs, 20);
  ASSERT_EQ(north.topics.size(), 2U);
  EXPECT_EQ(north.topics[1].remoteFilter(), "site7/commands/#");
  const BridgeConfig& south = config.bridges[1];
  EXPECT_EQ(south.user, "");
  EXPECT_TRUE(south.version5);
  EXPECT_EQ(south.reconnectMinMs, 1000);
}

TEST(BridgeConfigTest, theCommandLineTakesTheSameKeys) {
  Config config;
  EXPECT_TRUE(applySetting("bridges.n.address=mqtt=127.0.0.1:1883,mqtts=b.example:8883", config));
  EXPECT_TRUE(applySetting("bridges.n.topics=a out 1, b in 2", config));
  ASSERT_EQ(config.bridges.size(), 1U);
  EXPECT_EQ(config.bridges[0].addresses.size(), 2U);
  EXPECT_TRUE(config.bridges[0].usesTls());
  EXPECT_EQ(config.bridges[0].topics.size(), 2U);
  auto wrong = applySetting("bridges.n.adress=x", config);
  ASSERT_FALSE(wrong);
  EXPECT_TRUE(has(wrong.error().text, "did you mean")) << wrong.error().text;
  EXPECT_FALSE(applySetting("bridges.a b.user=x", config));
  EXPECT_FALSE(applySetting("bridges..user=x", config));
}

TEST(BridgeConfigTest, mistakesAreToldWithTheRemedy) {
  const std::string head =
      "bridges:\n  n:\n    address: mqtt=127.0.0.1:1\n    topics: a/# both 1\n";
  EXPECT_EQ(judge(head), "");
  EXPECT_TRUE(has(judge("bridges:\n  n:\n    topics: a out 1\n"), "`bridges.n.address`"));
  EXPECT_TRUE(has(judge("bridges:\n  n:\n    address: mqtt=h:1\n"), "`bridges.n.topics`"));
  EXPECT_TRUE(has(judge("bridges:\n  n:\n    address: mqtt=h:0\n"), "host and port"));
  EXPECT_TRUE(has(judge("bridges:\n  n:\n    address: h:1\n"), "mqtts=HOST:PORT"));
  EXPECT_TRUE(has(judge(head + "    tls.verify_host: false\n"), "has no effect"));
  EXPECT_TRUE(has(judge(head + "    password: x\n"), "`user` is missing"));
  EXPECT_TRUE(
      has(judge(head + "    user: u\n    password: x\n    password_file: y\n"), "leave one out"));
  EXPECT_TRUE(has(judge(head + "    user: u\n    password_file: /nowhere\n"), "/nowhere"));
  EXPECT_TRUE(has(judge(head + "    reconnect: {min_ms: 5000, max_ms: 100}\n"), "min_ms (5000)"));
  const std::string other =
      "  m:\n    address: mqtt=127.0.0.1:1\n    client_id: c\n    topics: a/b in 1\n";
  EXPECT_TRUE(has(judge(head + other), "to the same broker")) << judge(head + other);
  EXPECT_TRUE(has(judge(head + "    client_id: c\n" + other), "give each its own"));
}

TEST(BridgeConfigTest, aPasswordFileIsTheFileButForItsLineEnd) {
  test::TestAuthority files;
  BridgeConfig bridge;
  bridge.name = "n";
  bridge.passwordFile = files.write("secret", "a b\n");
  EXPECT_EQ(bridge.readPassword().value_or("?"), "a b");
  bridge.passwordFile = files.write("empty", "\n");
  EXPECT_FALSE(bridge.readPassword());
  bridge.passwordFile = files.write("long", std::string(70'000, 'x'));
  EXPECT_FALSE(bridge.readPassword());
}

TEST(BackoffTest, doublesToItsMostWithChance) {
  test::SeededRandom random(1);
  Backoff backoff(1000, 60'000, random);
  int64_t longest = 1000;
  for (int i = 0; i < 100; ++i) {
    const int64_t pause = backoff.next();
    EXPECT_LE(pause, longest);
    EXPECT_GE(pause, longest / 2);
    longest = std::min<int64_t>(longest * 2, 60'000);
  }
  backoff.reset();
  EXPECT_LE(backoff.next(), 1000);
  Backoff fixed(10, 10, random);
  EXPECT_GE(fixed.next(), 5);
}

}  // namespace
}  // namespace polylog::server
