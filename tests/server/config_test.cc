#include "server/config.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "server/listener_config.h"
#include "tests/support/certificates.h"
#include "tests/support/source_tree.h"
#include "tests/support/temporary_directory.h"

namespace polylog::server {
namespace {

std::string textOf(const std::vector<Error>& errors) {
  std::string out;
  for (const Error& error : errors) out += error.text + "\n";
  return out;
}

/// The errors' texts; empty = taken.
std::string load(const std::string& yaml, Config& config) {
  return textOf(loadConfigText(yaml, "file.yaml", config));
}
std::string loadError(const std::string& yaml) {
  Config config;
  return load(yaml, config);
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(ConfigTest, anEmptyFileLeavesTheDefaults) {
  Config config;
  EXPECT_EQ(load("", config), "");
  EXPECT_EQ(load("# nothing\n", config), "");
  ASSERT_EQ(config.listeners.size(), 4U);
  EXPECT_EQ(config.listeners[0].protocol, "mqtt");
  EXPECT_EQ(config.listeners[0].address.port, 1883);
  EXPECT_EQ(config.topicPartitions, 1);
  EXPECT_EQ(config.maxMessageBytes, 16 << 20);
  EXPECT_TRUE(checkConfig(config).empty());
}

TEST(ConfigTest, nestedAndDottedKeysAreTheSame) {
  Config nested;
  Config dotted;
  EXPECT_EQ(load("topics:\n  partitions: 4\n  retention:\n    ms: 1000\n", nested), "");
  EXPECT_EQ(load("topics.partitions: 4\ntopics:\n  retention.ms: 1000\n", dotted), "");
  for (const Config* config : {&nested, &dotted}) {
    EXPECT_EQ(config->topicPartitions, 4);
    EXPECT_EQ(config->topicRetentionMs, 1000);
  }
}

TEST(ConfigTest, everyKeyTakesItsOwnDefault) {
  for (const KeyReference& row : configReference()) {
    if (row.defaultValue == "none" || row.key == "kafka.advertised") continue;
    Config config;
    auto applied = applySetting(row.key + "=" + row.defaultValue, config);
    // The page writes lists with a blank after the comma.
    if (row.key == "listeners") applied = applySetting("listeners=mqtt=127.0.0.1:1", config);
    EXPECT_TRUE(applied.has_value()) << row.key << ": " << applied.error().text;
  }
}

TEST(ConfigTest, everyKeyRefusesWhatItCannotTake) {
  for (const KeyReference& row : configReference()) {
    // Any path and any text will do there; what it leads to shows when it is used.
    if (row.key == "data.dir" || row.values.ends_with("file") || row.values.ends_with("files") ||
        row.values.ends_with("text") || row.values.ends_with("texts") ||
        row.key.starts_with("tls.cipher")) {
      continue;
    }
    if (row.key == "auth.superusers") continue;  // any name will do
    if (row.key == "mqtt.redirect" || row.key == "mqtt.auto_subscribe") continue;  // so will this
    Config config;
    auto applied = applySetting(row.key + "=@nonsense", config);
    ASSERT_FALSE(applied.has_value()) << row.key;
    EXPECT_TRUE(has(applied.error().text, row.key)) << applied.error().text;
    EXPECT_TRUE(has(applied.error().text, "@nonsense")) << applied.error().text;
  }
}

TEST(ConfigTest, whatIsMadeOfNamesIsChecked) {
  auto takes = [](const std::string& assignment) {
    Config config;
    return applySetting(assignment, config).has_value();
  };
  EXPECT_TRUE(takes("mqtt.mount_point=tenants/%c/"));
  for (const char* wrong : {"tenants/a", "+/", "#/", "$SYS/"}) {
    EXPECT_FALSE(takes(std::string("mqtt.mount_point=") + wrong)) << wrong;
  }
  EXPECT_TRUE(takes("mqtt.response_information=responses/%c/"));
  for (const char* wrong : {"responses/", "%u/", "responses/%c", "+/%c/", "$re/%c/"}) {
    EXPECT_FALSE(takes(std::string("mqtt.response_information=") + wrong)) << wrong;
  }
  EXPECT_TRUE(takes("mqtt.auto_subscribe=a/%c/# qos=2 nl=1 rap=1 rh=2,$share/g/b"));
  for (const char* wrong : {"a/#/b", "a qos=3", "a nl", "a x=1", "$share/g/a nl=1", ""}) {
    EXPECT_FALSE(takes(std::string("mqtt.auto_subscribe=") + wrong)) << wrong;
  }
  EXPECT_TRUE(takes("mqtt.rewrite=all a/# ^a/(.*)$ -> b/$1"));
  EXPECT_FALSE(takes("mqtt.rewrite=a/# -> b"));
}

TEST(ConfigTest, numbersStayInTheirRange) {
  Config config;
  EXPECT_FALSE(applySetting("topics.partitions=0", config));
  EXPECT_FALSE(applySetting("topics.partitions=10001", config));
  EXPECT_FALSE(applySetting("topics.partitions=4x", config));
  EXPECT_FALSE(applySetting("topics.partitions=", config));
  EXPECT_FALSE(applySetting("topics.partitions=99999999999999999999", config));
  EXPECT_EQ(config.topicPartitions, 1);
  EXPECT_TRUE(applySetting("topics.partitions=10000", config));
  EXPECT_EQ(config.topicPartitions, 10'000);
}

TEST(ConfigTest, anErrorNamesKeyValueAndRemedy) {
  std::string text = loadError("topics:\n  partitions: many\n");
  EXPECT_TRUE(has(text, "topics.partitions")) << text;
  EXPECT_TRUE(has(text, "many")) << text;
  EXPECT_TRUE(has(text, "1 to 10000")) << text;
}

TEST(ConfigTest, anUnknownKeyIsRefusedWithTheNearest) {
  std::string text = loadError("topics:\n  partition: 2\n");
  EXPECT_TRUE(has(text, "topics.partition`")) << text;
  EXPECT_TRUE(has(text, "did you mean `topics.partitions`")) << text;
  EXPECT_TRUE(has(loadError("completely.different.thing: 1\n"), "docs/configuration.md"));
}

TEST(ConfigTest, aGroupOfKeysTakesNoValue) {
  Config config;
  auto errors = loadConfigText("bridges:\n  - office\ntopics: 2\n", "f.yaml", config);
  ASSERT_EQ(errors.size(), 2u);
  EXPECT_TRUE(has(errors[0].text, "takes keys below it and no value: `bridges.NAME."))
      << errors[0].text;
  EXPECT_TRUE(has(errors[1].text, "`topics` takes keys below it")) << errors[1].text;
}

TEST(ConfigTest, allErrorsAreToldAtOnce) {
  std::string text = loadError("workers: -1\nflush: sometimes\nnosuchkeyatallhere: 1\n");
  EXPECT_TRUE(has(text, "workers")) << text;
  EXPECT_TRUE(has(text, "flush")) << text;
  EXPECT_TRUE(has(text, "safe, interval, never")) << text;
  EXPECT_TRUE(has(text, "nosuchkeyatallhere")) << text;
}

TEST(ConfigTest, aKeyGivenTwiceIsRefused) {
  EXPECT_TRUE(has(loadError("workers: 1\nworkers: 2\n"), "twice"));
  EXPECT_TRUE(has(loadError("topics.partitions: 1\ntopics:\n  partitions: 2\n"), "twice"));
}

TEST(ConfigTest, whatIsNoMapOfKeysIsRefused) {
  EXPECT_TRUE(has(loadError("- a\n- b\n"), "map of keys"));
  EXPECT_TRUE(has(loadError("just text\n"), "map of keys"));
  EXPECT_TRUE(has(loadError("a: [1, 2\n"), "not YAML"));
  EXPECT_TRUE(has(loadError("workers: [1, 2]\n"), "workers"));
  EXPECT_TRUE(has(loadError("workers:\n"), "workers"));
}

TEST(ConfigTest, listsAndRules) {
  Config config;
  EXPECT_EQ(load("listeners:\n  - mqtt=127.0.0.1:0\n  - admin=[::1]:8080\n"
                 "rules:\n  - factory/+/temp -> topic temps, key {1}\n  - live/# -> ephemeral\n",
                 config),
            "");
  ASSERT_EQ(config.listeners.size(), 2U);
  EXPECT_EQ(config.listeners[1].address.host, "::1");
  EXPECT_FALSE(config.rules.empty());
  EXPECT_TRUE(has(loadError("rules:\n  - nonsense\n"), "nonsense"));
  EXPECT_TRUE(has(loadError("listeners: []\n"), "at least one"));
}

TEST(ConfigTest, aRuleWithACommaCanBeSet) {
  Config config;
  auto applied = applySetting("rules=factory/+/temp -> topic temps, key {1}", config);
  EXPECT_TRUE(applied.has_value()) << applied.error().text;
  ASSERT_EQ(config.ruleTexts.size(), 1U);
}

TEST(ConfigTest, settingsNeedAnEqualsSign) {
  Config config;
  auto applied = applySetting("workers", config);
  ASSERT_FALSE(applied);
  EXPECT_TRUE(has(applied.error().text, "KEY=VALUE")) << applied.error().text;
}

TEST(ConfigTest, listenersAreParsed) {
  auto listener = parseListener("kafka=localhost:0");
  ASSERT_TRUE(listener.has_value());
  EXPECT_EQ(listener->protocol, "kafka");
  EXPECT_EQ(listener->address.host, "localhost");
  EXPECT_EQ(listener->address.port, 0);
  for (const char* bad : {"", "mqtt", "mqtt=", "mqtt=1883", "smtp=127.0.0.1:25", "=127.0.0.1:1",
                          "mqtt=127.0.0.1:99999", "mqtt=127.0.0.1:", "mqtt=127.0.0.1:-1"}) {
    EXPECT_FALSE(parseListener(bad).has_value()) << bad;
  }
}

TEST(ConfigTest, whoMayBeNobody) {
  Config config;
  const HostPort here{"127.0.0.1", 1883};
  const HostPort open{"0.0.0.0", 1883};
  EXPECT_TRUE(config.anonymousAt(here));
  EXPECT_FALSE(config.anonymousAt(open));
  config.allowAnonymous = true;
  EXPECT_TRUE(config.anonymousAt(open));
  config.authRequired = true;
  EXPECT_TRUE(has(textOf(checkConfig(config)), "contradict"));
  config.allowAnonymous = false;
  config.listeners = {{"mqtt", open}};
  EXPECT_EQ(textOf(checkConfig(config)), "");
  EXPECT_FALSE(config.anonymousAt(here));
  ASSERT_TRUE(applySetting("auth.superusers=root,admin", config).has_value());
  EXPECT_EQ(config.authSuperusers, (std::vector<std::string>{"root", "admin"}));
  ASSERT_TRUE(applySetting("auth.default=deny", config).has_value());
  EXPECT_TRUE(config.authDenyByDefault);
  EXPECT_FALSE(applySetting("auth.default=maybe", config).has_value());
}

TEST(ConfigTest, beyondLoopbackNeedsAllowAnonymous) {
  for (const char* open : {"0.0.0.0:1883", "192.0.2.7:1883", "[::]:1883", "example.org:1883"}) {
    Config config;
    config.listeners = {*parseListener(std::string("mqtt=") + open)};
    std::string text = textOf(checkConfig(config));
    EXPECT_TRUE(has(text, "allow_anonymous: true")) << open << ": " << text;
    config.allowAnonymous = true;
    EXPECT_EQ(textOf(checkConfig(config)), "") << open;
  }
  for (const char* closed : {"127.0.0.1:1883", "127.8.9.1:1", "[::1]:1883", "localhost:1883"}) {
    Config config;
    config.listeners = {*parseListener(std::string("mqtt=") + closed)};
    EXPECT_EQ(textOf(checkConfig(config)), "") << closed;
  }
}

TEST(ConfigTest, twoListenersOnOnePort) {
  Config config;
  config.listeners = {*parseListener("mqtt=127.0.0.1:5000"),
                      *parseListener("kafka=127.0.0.1:5000")};
  EXPECT_TRUE(has(textOf(checkConfig(config)), "127.0.0.1:5000"));
  config.listeners = {*parseListener("mqtt=127.0.0.1:0"), *parseListener("kafka=127.0.0.1:0")};
  EXPECT_EQ(textOf(checkConfig(config)), "");
}

TEST(ConfigTest, listenersMayHaveKeysOfTheirOwn) {
  auto listener = parseListener(
      "mqtts=127.0.0.1:0  tls.certificate=a.pem,b.pem tls.client_certificates=required "
      "proxy_protocol=true limits.listener_connections=5");
  ASSERT_TRUE(listener) << listener.error().text;
  Config config;
  ASSERT_TRUE(applySetting("tls.key=common.key", config));
  ASSERT_TRUE(applySetting("tls.min_version=1.3", config));
  Config own = configFor(*listener, config);
  EXPECT_EQ(own.tls.certificates, (std::vector<std::string>{"a.pem", "b.pem"}));
  EXPECT_TRUE(own.tls.keys.empty()) << "a key belongs to its certificate";
  EXPECT_EQ(own.tls.minVersion, TlsOptions::Version::k13);
  EXPECT_TRUE(own.proxyProtocol);
  EXPECT_EQ(own.listenerConnections, 5);
  EXPECT_TRUE(asksForCertificates(*listener, config));
  EXPECT_FALSE(asksForCertificates(*parseListener("mqtts=127.0.0.1:0"), config));
  Config text;
  EXPECT_EQ(
      load("listeners:\n  - wss=[::1]:1 websocket.paths=/a,/b\n  - mqtt=unix:/run/x.sock\n", text),
      "");
  EXPECT_EQ(configFor(text.listeners[0], text).webSocket.paths,
            (std::vector<std::string>{"/a", "/b"}));
  EXPECT_EQ(nameOf(text.listeners[1]), "mqtt=unix:/run/x.sock");
}

TEST(ConfigTest, aListenerTakesNoKeysThatDoNotConcernIt) {
  for (const char* bad :
       {"mqtt=127.0.0.1:0 tls.certificate=a.pem", "mqtts=127.0.0.1:0 websocket.paths=/x",
        "ws=127.0.0.1:0 kafka.advertised=h:1", "admin=127.0.0.1:0 proxy_protocol=true",
        "mqtt=127.0.0.1:0 workers=2", "mqtt=127.0.0.1:0 proxy_protocol",
        "mqtt=127.0.0.1:0 proxy_protocol=perhaps", "kafka=unix:/run/k.sock",
        "admin=unix:/run/a.sock", "mqtt=unix:relative",
        "mqtt=127.0.0.1:0 proxy_protocol=true proxy_protocol=false"}) {
    auto listener = parseListener(bad);
    EXPECT_FALSE(listener) << bad;
  }
  auto unknown = parseListener("mqtts=127.0.0.1:0 tls.certificat=a.pem");
  ASSERT_FALSE(unknown);
  EXPECT_TRUE(has(unknown.error().text, "did you mean `tls.certificate`")) << unknown.error().text;
}

TEST(ConfigTest, tlsListenersNeedWhatTlsNeeds) {
  test::TestAuthority authority;
  auto server = authority.issue("server", "broker", "IP:127.0.0.1");
  Config config;
  config.listeners = {*parseListener("kafkas=127.0.0.1:0")};
  std::string text = textOf(checkConfig(config));
  EXPECT_TRUE(has(text, "kafkas=127.0.0.1:0")) << text;
  EXPECT_TRUE(has(text, "`tls.certificate` is missing")) << text;
  ASSERT_TRUE(applySetting("tls.certificate=" + server.certificate, config));
  ASSERT_TRUE(applySetting("tls.key=" + authority.directory() + "/none.key", config));
  text = textOf(checkConfig(config));
  EXPECT_TRUE(has(text, authority.directory() + "/none.key")) << text;
  ASSERT_TRUE(applySetting("tls.key=" + server.key, config));
  EXPECT_EQ(textOf(checkConfig(config)), "");
}

TEST(ConfigTest, clientCertificatesOpenAListenerToOtherMachines) {
  test::TestAuthority authority;
  auto server = authority.issue("server", "broker", "IP:127.0.0.1");
  Config config;
  ASSERT_TRUE(applySetting("tls.certificate=" + server.certificate, config));
  ASSERT_TRUE(applySetting("tls.key=" + server.key, config));
  ASSERT_TRUE(applySetting("tls.ca=" + authority.file(), config));
  ASSERT_TRUE(applySetting("tls.client_certificates=optional", config));
  config.listeners = {*parseListener("mqtts=0.0.0.0:0")};
  EXPECT_TRUE(has(textOf(checkConfig(config)), "allow_anonymous"));
  config.listeners = {*parseListener("mqtts=0.0.0.0:0 tls.client_certificates=required")};
  EXPECT_EQ(textOf(checkConfig(config)), "");
}

TEST(ConfigTest, tokensAreTakenWhollyOrNotAtAll) {
  test::TestAuthority authority;
  Config config;
  ASSERT_TRUE(applySetting("auth.jwt.issuer=https://id.example", config));
  EXPECT_TRUE(has(textOf(checkConfig(config)), "`auth.jwt.key_file` is missing"));
  ASSERT_TRUE(applySetting("auth.jwt.key_file=" + authority.file(), config));
  EXPECT_TRUE(has(textOf(checkConfig(config)), "`auth.jwt.audience` is missing"));
  ASSERT_TRUE(applySetting("auth.jwt.audience=a, b", config));
  EXPECT_EQ(textOf(checkConfig(config)), "");
  EXPECT_EQ(config.jwt.audiences, (std::vector<std::string>{"a", "b"}));
  ASSERT_TRUE(applySetting("auth.jwt.leeway_s=5", config));
  EXPECT_EQ(config.jwt.leewaySeconds, 5);
  EXPECT_FALSE(applySetting("auth.jwt.algorithms=none", config));
  EXPECT_TRUE(applySetting("auth.jwt.algorithms=RS256,ES256", config));
}

TEST(ConfigTest, aWebServiceHasAUrl) {
  auto why = [](const std::string& setting) {
    Config config;
    auto applied = applySetting(setting, config);
    return applied ? textOf(checkConfig(config)) : applied.error().text;
  };
  EXPECT_EQ(why("auth.http.url=https://a.example/x"), "");
  for (const char* bad : {"ftp://a.example", "a.example", "://"}) {
    EXPECT_TRUE(has(why(std::string("auth.http.url=") + bad), "no URL of HTTP")) << bad;
  }
  EXPECT_TRUE(has(why("auth.http.ca=x"), "without `auth.http.url`"));
}

TEST(ConfigTest, preSharedKeysAreAListenersOwn) {
  test::TestAuthority authority;
  auto server = authority.issue("server", "broker", "IP:127.0.0.1");
  const std::string keys = authority.write("psk", "# devices\nd:" + std::string(32, 'a') + "\n");
  Config config;
  ASSERT_TRUE(applySetting("tls.certificate=" + server.certificate, config));
  ASSERT_TRUE(applySetting("tls.key=" + server.key, config));
  config.listeners = {*parseListener("mqtts=0.0.0.0:0 tls.psk_file=" + keys),
                      *parseListener("kafkas=127.0.0.1:0")};
  EXPECT_EQ(textOf(checkConfig(config)), "");
  ASSERT_TRUE(applySetting("tls.psk_file=" + keys, config));
  EXPECT_TRUE(has(textOf(checkConfig(config)), "not both"));
  auto why = [&](const std::string& text) {
    Config one;
    one.listeners = {
        *parseListener("mqtts=127.0.0.1:0 tls.psk_file=" + authority.write("x", text))};
    return textOf(checkConfig(one));
  };
  EXPECT_TRUE(has(why(""), "holds no key"));
  const std::string key(32, 'b');
  for (const std::string& bad : {std::string("d"), std::string("d:xy"), std::string("d:abc"),
                                 ":" + key, std::string(129, 'd') + ":" + key}) {
    EXPECT_TRUE(has(why(bad), "line 1: write IDENTITY:KEY")) << bad;
  }
  EXPECT_TRUE(has(why("d:abcd"), "16 to 256 octets"));
  EXPECT_TRUE(has(why("d:" + key + "\nd:" + key), "line 2: the identity is there twice"));
  EXPECT_FALSE(has(why("d:" + key + "\nd:" + key), key)) << "a key in an error";
}

TEST(ConfigTest, oneAdvertisedPortLeadsToOneKindOfListener) {
  test::TestAuthority authority;
  auto server = authority.issue("server", "broker", "IP:127.0.0.1");
  Config config;
  ASSERT_TRUE(applySetting("tls.certificate=" + server.certificate, config));
  ASSERT_TRUE(applySetting("tls.key=" + server.key, config));
  ASSERT_TRUE(applySetting("kafka.advertised=broker.example:9092", config));
  config.listeners = {*parseListener("kafka=127.0.0.1:0"), *parseListener("kafkas=127.0.0.1:0")};
  std::string text = textOf(checkConfig(config));
  EXPECT_TRUE(has(text, "kafka.advertised: broker.example:9092")) << text;
  config.listeners[1] = *parseListener("kafkas=127.0.0.1:0 kafka.advertised=broker.example:9093");
  EXPECT_EQ(textOf(checkConfig(config)), "");
  config.listeners[1] = *parseListener("kafkas=127.0.0.1:0");
  ASSERT_TRUE(applySetting("kafka.advertised=broker.example:0", config));
  EXPECT_EQ(textOf(checkConfig(config)), "");
}

TEST(ConfigTest, twoListenersOnOnePath) {
  Config config;
  config.listeners = {*parseListener("mqtt=unix:/run/x.sock"),
                      *parseListener("amqp=unix:/run/x.sock")};
  EXPECT_TRUE(has(textOf(checkConfig(config)), "unix:/run/x.sock"));
}

TEST(ConfigTest, theDisksWatermarksStandInTheirOrder) {
  Config config;
  ASSERT_TRUE(applySetting("storage.disk.high_watermark_free_bytes=1000", config));
  ASSERT_TRUE(applySetting("storage.disk.low_watermark_free_bytes=999", config));
  std::string text = textOf(checkConfig(config));
  EXPECT_TRUE(has(text, "storage.disk.low_watermark_free_bytes: 999")) << text;
  EXPECT_TRUE(has(text, "(1000)")) << text;
  ASSERT_TRUE(applySetting("storage.disk.low_watermark_free_bytes=1000", config));
  EXPECT_EQ(textOf(checkConfig(config)), "");
}

TEST(ConfigTest, theAdvertisedAddressIsNoWildcard) {
  Config config;
  EXPECT_FALSE(applySetting("kafka.advertised=0.0.0.0:9092", config));
  ASSERT_TRUE(applySetting("kafka.advertised=broker.example.org:9092", config));
  EXPECT_EQ(config.kafkaAdvertised->host, "broker.example.org");
}

TEST(ConfigTest, aMissingFileIsNamed) {
  test::TemporaryDirectory directory;
  Config config;
  std::string path = directory.path() + "/none.yaml";
  EXPECT_TRUE(has(textOf(loadConfigFile(path, config)), path));
  EXPECT_TRUE(has(textOf(loadConfigFile(directory.path(), config)), directory.path()));
  std::ofstream(path) << "workers: 3\n";
  EXPECT_EQ(textOf(loadConfigFile(path, config)), "");
  EXPECT_EQ(config.workers, 3);
}

// The page is made from the table: POLYLOG_UPDATE_DOCS=1 writes it anew.
TEST(ConfigTest, theReferencePageIsTheTable) {
  std::filesystem::path page = polylog::testing::sourceTree() / "docs/configuration.md";
  std::stringstream read;
  read << std::ifstream(page).rdbuf();
  std::string text = read.str();
  const std::string begins = "<!-- keys begin -->\n";
  size_t from = text.find(begins);
  size_t to = text.find("<!-- keys end -->");
  ASSERT_NE(from, std::string::npos) << page << " has lost its marks";
  ASSERT_NE(to, std::string::npos) << page << " has lost its marks";
  from += begins.size();
  if (std::getenv("POLYLOG_UPDATE_DOCS") != nullptr) {
    std::ofstream(page) << text.replace(from, to - from, configReferenceTable());
    GTEST_SKIP() << "written anew";
  }
  EXPECT_EQ(text.substr(from, to - from), configReferenceTable());
}

}  // namespace
}  // namespace polylog::server
