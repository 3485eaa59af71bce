// The configuration: one table of keys (config.cc) from which the YAML file, --set, the checks, the
// error texts and the reference page docs/configuration.md follow. Read at start-up, then
// immutable.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "codecs/mqtt/options.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "core/jwt/verifier.h"
#include "core/model/topic.h"
#include "core/net/tls_context.h"
#include "core/net/transport.h"
#include "core/net/websocket_upgrade.h"
#include "mapping/rules.h"
#include "router/router.h"
#include "server/bridge_config.h"
#include "server/http_hook.h"

namespace polylog::server {

/// A listener as configured: `PROTOCOL=HOST:PORT [KEY=VALUE]...` (server/listener_config.h).
struct ListenerConfig {
  std::string protocol;
  HostPort address;
  /// Keys that it has a value of its own for.
  std::vector<std::pair<std::string, std::string>> own{};
};

struct Config {
  std::string dataDirectory = "polylog-data";
  std::vector<ListenerConfig> listeners = defaultListeners();
  bool allowAnonymous = false;
  bool authRequired = false;
  bool authDenyByDefault = false;
  std::vector<std::string> authSuperusers;
  std::string passwordFile;  ///< empty = none
  jwt::Options jwt;
  HttpHookOptions httpHook;
  int64_t workers = 0;  ///< 0 = one a core
  LogLevel logLevel = LogLevel::kInfo;

  bool autoCreateTopics = true;
  int64_t topicPartitions = 1;
  int64_t topicRetentionMs = 604'800'000;
  int64_t topicRetentionBytes = int64_t{1} << 30;
  int64_t maxTopicsByDevices = 10'000;
  FlushPolicy flush = FlushPolicy::kSafe;

  int64_t maxMessageBytes = 16 << 20;
  int64_t maxConnections = 100'000;
  int64_t maxHandshakes = 10'000;
  int64_t handshakeSeconds = 10;
  int64_t flappingConnects = 0;  ///< 0 = nobody is watched
  int64_t flappingWindowSeconds = 60;
  int64_t flappingBanSeconds = 300;
  int64_t listenerConnections = 0;  ///< 0 = without limit of their own
  int64_t listenerConnectionRate = 0;
  bool proxyProtocol = false;
  TlsOptions tls;
  WebSocketOptions webSocket;

  int64_t mqttMaxInflight = 1024;
  int64_t mqttReceiveMaximum = 1024;
  int64_t mqttOutboundTopicAliases = 32;
  int64_t mqttMaxKeepAlive = 0;
  int64_t mqttMaxQos = 2;
  bool mqttRetainAvailable = true;
  int64_t mqttInboxRecords = 100'000;
  int64_t mqttInboxBytes = 0;
  int64_t mqttInboxAgeSeconds = 0;
  bool mqttInboxDropsNew = false;
  int64_t mqttLiveBytes = 16 << 20;
  router::SharedDispatch mqttSharedDispatch = router::SharedDispatch::kRoundRobin;
  std::string mqttMountPoint;
  std::string mqttResponseInformation;
  bool mqttCheckPayloadFormat = false;
  std::string mqttRedirect;
  bool mqttRedirectForGood = false;
  int64_t mqttPublishRate = 0;
  int64_t mqttByteRate = 0;
  std::vector<std::string> mqttRewriteTexts;
  mapping::TopicRewrites mqttRewrites;
  std::vector<std::string> mqttAutomaticTexts;
  std::vector<mqtt::MqttOptions::AutomaticSubscription> mqttAutomatic;
  bool mqttSparkplug = true;
  int64_t mqttSlowSubscriberMs = 500;
  int64_t mqttMaxDelayed = 1'000'000;
  int64_t mqttSysIntervalSeconds = 10;

  std::optional<HostPort> kafkaAdvertised;
  int64_t kafkaRetentionMs = 604'800'000;
  int64_t kafkaRetentionBytes = -1;
  int64_t kafkaMaxFetchSessions = 1000;
  int64_t kafkaInitialRebalanceMs = 200;
  int64_t kafkaConsumerSessionMs = 45'000;
  int64_t kafkaConsumerHeartbeatMs = 5'000;
  int64_t kafkaMaxShareSessions = 2'000;
  int64_t kafkaShareSessionMs = 45'000;
  int64_t kafkaShareHeartbeatMs = 5'000;
  int64_t kafkaShareLockMs = 30'000;
  int64_t kafkaShareDeliveries = 5;
  int64_t kafkaShareRecordLocks = 2'000;
  int64_t kafkaOffsetsRetentionMinutes = 7 * 24 * 60;
  int64_t kafkaTransactionMaxTimeoutMs = 900'000;
  int64_t kafkaTransactionIdExpirationMs = 604'800'000;
  int64_t kafkaReauthenticationMs = 0;

  int64_t segmentBytes = 64 << 20;
  int64_t cacheBytes = 64 << 20;
  int64_t checkpointBytes = 64 << 20;
  int64_t retentionCheckMs = 10'000;
  int64_t diskHighMarkBytes = 256 << 20;
  int64_t diskLowMarkBytes = 512 << 20;

  std::vector<std::string> ruleTexts;
  mapping::Rules rules;

  std::vector<BridgeConfig> bridges;
  BridgeConfig bridge;  ///< the one whose key is being read

  /// Whether clients of a listener there may be nobody.
  bool anonymousAt(const HostPort& address) const;

  static std::vector<ListenerConfig> defaultListeners();
};

/// A key's row in the reference page.
struct KeyReference {
  std::string key;
  std::string values;  ///< type and range
  std::string defaultValue;
  std::string help;
};

/// All keys, in the order of the reference page.
std::vector<KeyReference> configReference();

/// docs/configuration.md's table.
std::string configReferenceTable();

/// Reads a YAML file into `config`, over what is there. Every error found is returned, each with
/// the key, the value and the remedy; empty = fine.
std::vector<Error> loadConfigFile(const std::string& path, Config& config);
/// The same for YAML text; `origin` begins the error texts.
std::vector<Error> loadConfigText(const std::string& text, const std::string& origin,
                                  Config& config);

/// One `--set KEY=VALUE`. Lists are written with commas.
Result<> applySetting(std::string_view assignment, Config& config);
/// The same in two parts. Returns what is wrong, if anything is.
std::optional<std::string> setKey(std::string_view name, std::string_view text, Config& config);

/// What only shows when everything is read: addresses open to others without authentication, two
/// listeners on one port, certificates that can't be used, the disk's watermarks the wrong way
/// round. Reads the certificates' files.
std::vector<Error> checkConfig(const Config& config);

}  // namespace polylog::server
