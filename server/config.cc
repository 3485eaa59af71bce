#include "server/config.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <set>

#include "core/net/address.h"
#include "core/password/password_file.h"
#include "server/bridge_keys.h"
#include "server/config_key.h"
#include "server/listener_config.h"
#include "server/mqtt_keys.h"

namespace polylog::server {
namespace {

std::optional<std::string> assignListeners(const Values& values, Config& config) {
  std::vector<ListenerConfig> listeners;
  for (const std::string& text : values) {
    auto listener = parseListener(text);
    if (!listener) return listener.error().text;
    listeners.push_back(std::move(*listener));
  }
  if (listeners.empty()) return "give at least one PROTOCOL=HOST:PORT, or leave the key out";
  config.listeners = std::move(listeners);
  return std::nullopt;
}

std::optional<std::string> assignRules(const Values& values, Config& config) {
  auto rules = mapping::Rules::parse(values);
  if (!rules) return rules.error().text;
  config.ruleTexts = values;
  config.rules = std::move(*rules);
  return std::nullopt;
}

std::optional<std::string> assignAdvertised(const Values& values, Config& config) {
  auto address = parseHostPort(values[0]);
  if (!address) return address.error().text;
  if (isWildcard(*address) || isUnixSocket(*address)) {
    return "give an address that clients can connect to, no wildcard and no path";
  }
  config.kafkaAdvertised = std::move(*address);
  return std::nullopt;
}

std::vector<Key> serverKeys() {
  return {
      {"data.dir", "path", Config().dataDirectory,
       "Where the journal and the state are kept. Made if missing; one broker at a time.", false,
       [](const Values& values, Config& config) -> std::optional<std::string> {
         if (values[0].empty()) return "give a path";
         config.dataDirectory = values[0];
         return std::nullopt;
       }},
      {"listeners", "list of PROTOCOL=HOST:PORT [KEY=VALUE]...",
       "mqtt=127.0.0.1:1883, kafka=127.0.0.1:9092, amqp=127.0.0.1:5672, admin=127.0.0.1:15672",
       "What to open; protocols are mqtt, kafka, amqp, the same over TLS (mqtts, kafkas, amqps), "
       "MQTT over WebSocket (ws, wss), and admin. Port 0 picks a free one. MQTT and AMQP also "
       "listen on "
       "Unix-domain sockets (mqtt=unix:/run/polylog.sock). Behind the address, a listener may have "
       "values of its own for the keys marked [L]. Any --listen replaces the list.",
       true, assignListeners},
      flag(
          "allow_anonymous", &Config::allowAnonymous,
          "Lets clients that don't log in use listeners beyond the loopback addresses too. Without "
          "it, such listeners need `auth.required`, or ask for client certificates. Anybody who "
          "reaches them may do what the rules "
          "let the user ANONYMOUS do: everything, where there are none (docs/security.md)."),
      flag(
          "auth.required", &Config::authRequired,
          "Every client logs in, on every listener. Without it, clients on loopback listeners need "
          "not."),
      choice<bool>("auth.default", &Config::authDenyByDefault, {{"allow", false}, {"deny", true}},
                   "What holds for names with which no access rule allows anybody anything."),
      {"auth.superusers", "list of users", "none",
       "Whom no access rule binds. With `auth.default: deny`, whoever is to administer the broker.",
       true,
       [](const Values& values, Config& config) -> std::optional<std::string> {
         for (const std::string& name : values) {
           if (name.empty() || name == "*") return "give names of users";
         }
         config.authSuperusers = values;
         return std::nullopt;
       }},
      number("workers", &Config::workers, 0, 1024,
             "Threads that serve connections; 0 = one a core."),
      choice<LogLevel>("log.level", &Config::logLevel,
                       {{"debug", LogLevel::kDebug},
                        {"info", LogLevel::kInfo},
                        {"warning", LogLevel::kWarning},
                        {"error", LogLevel::kError}},
                       "The least that is logged (to standard error)."),
  };
}

std::vector<Key> tokenKeys() {
  using jwt::Options;
  auto notEmpty = [](const std::string& text) { return !text.empty(); };
  return {
      anyText("auth.password_file", "file", &Config::passwordFile,
              "Users besides those in the broker's store, a line each of USER:HASH: as `polylog "
              "password` makes it (scrypt), or as mosquitto_passwd does. Read again on SIGHUP."),
      anyText(
          "auth.jwt.key_file", "PEM or JWKS file", within(&Config::jwt, &Options::keyFile),
          "Takes JSON Web Tokens as logins, signed with these keys: public keys or certificates "
          "as PEM, or a JWK set. Read again when it changes. Needs `auth.jwt.issuer` and "
          "`auth.jwt.audience`."),
      anyText("auth.jwt.secret_file", "file", within(&Config::jwt, &Options::secretFile),
              "A secret shared with the issuer, for HS256, HS384 and HS512: the file's octets, but "
              "for a line's end."),
      anyText("auth.jwt.issuer", "text", within(&Config::jwt, &Options::issuer),
              "The `iss` of tokens that are taken."),
      texts("auth.jwt.audience", "list of texts", within(&Config::jwt, &Options::audiences),
            notEmpty, "give the audience's name",
            "What means this broker: tokens are taken whose `aud` has one of these."),
      texts(
          "auth.jwt.algorithms", "list of algorithms", within(&Config::jwt, &Options::algorithms),
          [](const std::string& name) { return jwt::findAlgorithm(name) != nullptr; },
          "give names of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, "
          "HS256, HS384, HS512",
          "The algorithms of signatures that are taken; none = all that fit the keys."),
      anyText("auth.jwt.user_claim", "text", within(&Config::jwt, &Options::userClaim),
              "The claim that names the user."),
      anyText("auth.jwt.acl_claim", "text", within(&Config::jwt, &Options::aclClaim),
              "The claim that says what the bearer may publish and subscribe to "
              "(docs/security.md#rules-in-a-token); `none` = it isn't looked at."),
      number("auth.jwt.leeway_s", &Config::jwt, &Options::leewaySeconds, 0, 600,
             "Seconds by which the issuer's clock may differ from the broker's."),
      anyText("auth.http.url", "URL as text", within(&Config::httpHook, &HttpHookOptions::url),
              "A web service that is asked about users whom the broker doesn't know "
              "(docs/security.md)."),
      anyText("auth.http.ca", "PEM file", within(&Config::httpHook, &HttpHookOptions::ca),
              "The CAs that vouch for the service's certificate; none = the system's."),
      number("auth.http.timeout_ms", &Config::httpHook, &HttpHookOptions::timeoutMs, 1, 9000,
             "Milliseconds in which it has to answer, or the login is refused."),
      number("auth.http.max_concurrent", &Config::httpHook, &HttpHookOptions::maxConcurrent, 1,
             1000, "Requests to it at once; others wait for their turn."),
      number("auth.http.cache_s", &Config::httpHook, &HttpHookOptions::cacheSeconds, 0, 3600,
             "Seconds for which a login that it admitted is admitted again without asking."),
  };
}

std::vector<Key> tlsKeys() {
  using Clients = TlsOptions::Clients;
  using Version = TlsOptions::Version;
  using UserFrom = TlsOptions::UserFrom;
  auto notEmpty = [](const std::string& path) { return !path.empty(); };
  return {
      texts(
          "tls.certificate", "list of PEM files", within(&Config::tls, &TlsOptions::certificates),
          notEmpty, "give the files' paths",
          "[L] The server's certificate with its chain; of several, each client is shown the one "
          "with the name that it asks for (SNI), else the first. Read again on SIGHUP, as are all "
          "files of TLS."),
      texts(
          "tls.key", "list of PEM files", within(&Config::tls, &TlsOptions::keys), notEmpty,
          "give the files' paths",
          "[L] The certificates' private keys, in the same order, without passphrase; none = each "
          "in its certificate's file."),
      choice<Clients>("tls.client_certificates", within(&Config::tls, &TlsOptions::clients),
                      {{"none", Clients::kNone},
                       {"optional", Clients::kOptional},
                       {"required", Clients::kRequired}},
                      "[L] Whether clients are asked for a certificate, and refused without one."),
      anyText("tls.ca", "PEM file", within(&Config::tls, &TlsOptions::ca),
              "[L] The CAs whose client certificates are taken."),
      anyText(
          "tls.crl", "PEM file", within(&Config::tls, &TlsOptions::crl),
          "[L] Lists of revoked certificates, one by each CA of a client's chain; an outdated list "
          "refuses its clients."),
      choice<UserFrom>("tls.user_from", within(&Config::tls, &TlsOptions::userFrom),
                       {{"none", UserFrom::kNothing},
                        {"common_name", UserFrom::kCommonName},
                        {"distinguished_name", UserFrom::kDistinguishedName},
                        {"dns", UserFrom::kDns},
                        {"email", UserFrom::kEmail},
                        {"uri", UserFrom::kUri}},
                       "[L] What of a client's certificate is its user: the subject's common name, "
                       "all of the subject (CN=a,O=b), or the first alternative name of that kind. "
                       "Such a client is logged in by its certificate."),
      anyText("tls.psk_file", "file", within(&Config::tls, &TlsOptions::pskFile),
              "[L] Pre-shared keys in place of certificates, a line each of IDENTITY:KEY in "
              "hexadecimal digits; the identity is the client's user. For a listener of its own."),
      choice<Version>("tls.min_version", within(&Config::tls, &TlsOptions::minVersion),
                      {{"1.2", Version::k12}, {"1.3", Version::k13}},
                      "[L] The oldest TLS that is spoken."),
      anyText("tls.ciphers", "OpenSSL cipher list", within(&Config::tls, &TlsOptions::ciphers),
              "[L] The ciphers of TLS 1.2; none = OpenSSL's defaults."),
      anyText("tls.ciphersuites", "list of names with colons",
              within(&Config::tls, &TlsOptions::ciphersuites),
              "[L] The cipher suites of TLS 1.3; none = OpenSSL's defaults."),
  };
}

std::vector<Key> listenerKeys() {
  return {
      number("limits.listener_connections", &Config::listenerConnections, 0, 10'000'000,
             "[L] Connections of one listener; more are closed at once. 0 = as many as "
             "limits.max_connections leaves."),
      number("limits.listener_connection_rate", &Config::listenerConnectionRate, 0, 1'000'000,
             "[L] New connections of one listener in a second; more are closed at once. 0 = any."),
      flag("proxy_protocol", &Config::proxyProtocol,
           "[L] Whether connections begin with a PROXY header (version 1 or 2), and are closed "
           "without one; the client's address is the one that it tells. Only for listeners that "
           "nobody but the proxy reaches."),
      texts(
          "websocket.paths", "list of paths", within(&Config::webSocket, &WebSocketOptions::paths),
          [](const std::string& path) { return path.starts_with('/'); },
          "give paths that begin with a slash", "[L] Where in the URL the WebSocket is."),
      texts(
          "websocket.origins", "list of SCHEME://HOST[:PORT], or *",
          within(&Config::webSocket, &WebSocketOptions::origins),
          [](const std::string& origin) {
            return origin == "*" || origin.find("://") != std::string::npos;
          },
          "give origins as https://app.example.org, or * for any",
          "[L] Web pages that may connect besides those from the broker's own host and port: while "
          "there is no password, any page that a user opens could use their connection."),
  };
}

std::vector<Key> topicKeys() {
  return {
      flag("topics.auto_create", &Config::autoCreateTopics,
           "Whether a topic comes by itself at its first publish or metadata request."),
      number("topics.partitions", &Config::topicPartitions, 1, 10'000,
             "Partitions of topics that come by themselves or are created without a number."),
      number("topics.retention.ms", &Config::topicRetentionMs, -1, kMaxInt64,
             "Milliseconds for which topics made by MQTT or AMQP publishes are kept; -1 = without "
             "limit."),
      number("topics.retention.bytes", &Config::topicRetentionBytes, -1, kMaxInt64,
             "Octets that a partition of topics made by MQTT or AMQP publishes keeps; -1 = without "
             "limit."),
      number("topics.max_by_devices", &Config::maxTopicsByDevices, 0, kMaxInt64,
             "Topics that MQTT and AMQP publishes may make; further names go to the topic `mqtt` "
             "with the full "
             "name as key."),
      choice<FlushPolicy>("flush", &Config::flush,
                          {{"safe", FlushPolicy::kSafe},
                           {"interval", FlushPolicy::kInterval},
                           {"never", FlushPolicy::kNever}},
                          "When publishes are acknowledged, to topics that don't ask for more by "
                          "Kafka's flush.messages or flush.ms: safe = after fdatasync; "
                          "interval and never = after the write, before the disk has it."),
      {"rules", "list of texts", "none",
       "Where publishes go instead of the topic that their name begins with: `FILTER -> topic "
       "NAME, "
       "key {1}` or `FILTER -> ephemeral` (docs/mapping.md).",
       true, assignRules},
  };
}

std::vector<Key> connectionKeys() {
  return {
      number("limits.max_message_bytes", &Config::maxMessageBytes, 1024, 256 << 20,
             "The largest message of any protocol, in octets."),
      number("limits.max_connections", &Config::maxConnections, 1, 10'000'000,
             "Connections over all listeners; more are closed at once."),
      number("limits.max_handshakes", &Config::maxHandshakes, 1, 10'000'000,
             "Of these, how many may not have introduced themselves yet (TLS, and the protocol's "
             "own hello); more are closed at once."),
      number("limits.handshake_seconds", &Config::handshakeSeconds, 1, 3600,
             "How long a new connection may take to introduce itself."),
      number("flapping.max_connects", &Config::flappingConnects, 0, 1'000'000,
             "An MQTT client that connects more often than this within `flapping.window_s` is "
             "banned for `flapping.ban_s`. 0 = nobody is."),
      number("flapping.window_s", &Config::flappingWindowSeconds, 1, 86'400,
             "Seconds within which connections are counted."),
      number("flapping.ban_s", &Config::flappingBanSeconds, 1, 31'536'000,
             "Seconds for which who connects too often is banned."),
  };
}

std::vector<Key> kafkaKeys() {
  return {
      {"kafka.advertised", "HOST:PORT", "the address that the client reached",
       "[L] Where Kafka clients are told to find the broker. Port 0 = the one reached.", false,
       assignAdvertised},
      number("kafka.retention.ms", &Config::kafkaRetentionMs, -1, kMaxInt64,
             "Kafka's log.retention.ms: topics made by Kafka clients; -1 = without limit."),
      number("kafka.retention.bytes", &Config::kafkaRetentionBytes, -1, kMaxInt64,
             "Kafka's log.retention.bytes, of one partition; -1 = without limit."),
      number("kafka.max_fetch_sessions", &Config::kafkaMaxFetchSessions, 0, 100'000,
             "Kafka's max.incremental.fetch.session.cache.slots: consumers of a listener whose "
             "partitions are remembered from fetch to fetch; 0 = none are."),
      number("kafka.group.initial_rebalance_delay_ms", &Config::kafkaInitialRebalanceMs, 0, 60'000,
             "How long the first member of an empty group waits for others."),
      number(
          "kafka.group.consumer.session_timeout_ms", &Config::kafkaConsumerSessionMs, 6'000,
          1'800'000,
          "Kafka's group.consumer.session.timeout.ms: when a member of the consumer protocol that "
          "isn't heard of is given up, where its group has nothing of its own."),
      number("kafka.group.consumer.heartbeat_interval_ms", &Config::kafkaConsumerHeartbeatMs, 1'000,
             600'000,
             "Kafka's group.consumer.heartbeat.interval.ms: how often such members are to be heard "
             "of."),
      number("kafka.group.share.session_timeout_ms", &Config::kafkaShareSessionMs, 6'000, 1'800'000,
             "Kafka's group.share.session.timeout.ms: when a member of a share group that isn't "
             "heard of is given up, where its group has nothing of its own."),
      number(
          "kafka.group.share.heartbeat_interval_ms", &Config::kafkaShareHeartbeatMs, 1'000, 600'000,
          "Kafka's group.share.heartbeat.interval.ms: how often such members are to be heard of."),
      number(
          "kafka.group.share.record_lock_duration_ms", &Config::kafkaShareLockMs, 1'000, 3'600'000,
          "Kafka's group.share.record.lock.duration.ms: for how long a record is a share group's "
          "member's, unless its group has a time of its own."),
      number("kafka.group.share.delivery_count_limit", &Config::kafkaShareDeliveries, 2, 25,
             "Kafka's group.share.delivery.count.limit: how often a record is delivered before a "
             "share group gives it up."),
      number("kafka.group.share.max_record_locks", &Config::kafkaShareRecordLocks, 100, 20'000,
             "Kafka's group.share.partition.max.record.locks: records of a partition that members "
             "of a share group have, or had and have not dealt with."),
      number("kafka.max_share_sessions", &Config::kafkaMaxShareSessions, 0, 100'000,
             "Kafka's group.share.max.share.sessions: members of share groups that fetch over a "
             "listener at a time."),
      number("kafka.offsets_retention_minutes", &Config::kafkaOffsetsRetentionMinutes, 1,
             kMaxInt64 / 60'000,
             "How long the committed offsets of a group without members are kept."),
      number(
          "kafka.transaction.max_timeout_ms", &Config::kafkaTransactionMaxTimeoutMs, 1,
          std::numeric_limits<int32_t>::max(),
          "Kafka's transaction.max.timeout.ms: the longest transaction.timeout.ms that a producer "
          "may ask for."),
      number(
          "kafka.transaction.id_expiration_ms", &Config::kafkaTransactionIdExpirationMs, 1000,
          int64_t{365} * 86'400'000,
          "Kafka's transactional.id.expiration.ms: a transactional id that nobody has used for so "
          "long is forgotten."),
      number("kafka.reauthentication_ms", &Config::kafkaReauthenticationMs, 0, 86'400'000,
             "Kafka's connections.max.reauth.ms: how long a SASL login holds before the client has "
             "to log in again; 0 = for as long as the connection."),
  };
}

std::vector<Key> storageKeys() {
  return {
      number("storage.segment_bytes", &Config::segmentBytes, 1 << 20, int64_t{4} << 30,
             "Size at which a journal segment is closed and the next begun."),
      number("storage.cache_bytes", &Config::cacheBytes, 1 << 20, kMaxInt64,
             "Memory for verified record batches that consumers read."),
      number("storage.checkpoint_bytes", &Config::checkpointBytes, 1 << 20, kMaxInt64,
             "Journal written between two checkpoints of the state; start-up replays at most about "
             "that much."),
      number("storage.retention_check_ms", &Config::retentionCheckMs, 100, 86'400'000,
             "How often retention looks for segments to delete."),
      number(
          "storage.disk.high_watermark_free_bytes", &Config::diskHighMarkBytes, 0, kMaxInt64,
          "Publishes stop when fewer octets than this are free on the disk of the data directory: "
          "refused or held, as the protocol has it. What is left serves acknowledgements, "
          "deletions, checkpoints and rewriting: give it half of storage.segment_bytes at least."),
      number("storage.disk.low_watermark_free_bytes", &Config::diskLowMarkBytes, 0, kMaxInt64,
             "Publishes go on by themselves when at least this much is free again."),
  };
}

const std::vector<Key>& keys() {
  static const std::vector<Key> all = [] {
    std::vector<Key> made;
    for (auto part : {serverKeys(), tokenKeys(), listenerKeys(), tlsKeys(), topicKeys(),
                      connectionKeys(), mqttKeys(), kafkaKeys(), bridgeKeys(),
                      storageKeys()}) {
      std::move(part.begin(), part.end(), std::back_inserter(made));
    }
    return made;
  }();
  return all;
}

size_t editDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

std::string unknownKey(std::string_view name) {
  const std::string group = std::string(name) + ".";
  for (const Key& key : keys()) {
    if (std::string_view(key.name).starts_with(group)) {
      return fmt::format("`{}` takes keys below it and no value: `{}` and others", name, key.name);
    }
  }
  const Key* nearest = nullptr;
  // Further off than a third of it, the resemblance is chance.
  size_t least = std::max<size_t>(3, name.size() / 3) + 1;
  for (const Key& key : keys()) {
    size_t distance = editDistance(name, key.name);
    if (distance < least) {
      least = distance;
      nearest = &key;
    }
  }
  if (nearest != nullptr) {
    return fmt::format("there is no key `{}`; did you mean `{}`?", name, nearest->name);
  }
  return fmt::format("there is no key `{}`; docs/configuration.md lists them all", name);
}

std::optional<std::string> assignBridge(const Key& key, const std::string& name,
                                        const Values& values, Config& config) {
  auto bridge = bridgeNamed(config, name);
  if (!bridge) return bridge.error().text;
  config.bridge = **bridge;
  auto wrong = key.assign(values, config);
  if (!wrong) **bridge = config.bridge;
  return wrong;
}

std::optional<std::string> assign(std::string_view name, const Values& values, Config& config) {
  const auto [bridge, bridgeRow] = bridgeKey(name);
  for (const Key& key : keys()) {
    if (name != key.name && bridgeRow != key.name) continue;
    if (!key.list && values.size() != 1) return fmt::format("`{}` takes one value", name);
    auto wrong =
        bridgeRow.empty() ? key.assign(values, config) : assignBridge(key, bridge, values, config);
    if (!wrong) return std::nullopt;
    return fmt::format("`{}: {}`: {}", name, fmt::join(values, ", "), *wrong);
  }
  return unknownKey(name);
}

/// Walks nested maps: {topics: {partitions: 2}} is topics.partitions. Also takes dotted keys as
/// such.
void walk(const YAML::Node& node, const std::string& prefix, const std::string& origin,
          Config& config, std::set<std::string>& seen, std::vector<Error>& errors) {
  for (const auto& item : node) {
    std::string name = prefix + item.first.as<std::string>();
    const YAML::Node& value = item.second;
    if (!value.IsMap() && !seen.insert(name).second) {
      errors.push_back({ErrorKind::kInvalid,
                        fmt::format("{}: `{}` is there twice: leave one out", origin, name)});
      continue;
    }
    if (value.IsMap()) {
      walk(value, name + ".", origin, config, seen, errors);
      continue;
    }
    Values values;
    if (value.IsSequence()) {
      for (const auto& element : value) {
        values.push_back(element.IsScalar() ? element.Scalar() : std::string());
      }
    } else {
      values.push_back(value.IsScalar() ? value.Scalar() : std::string());
    }
    if (auto wrong = assign(name, values, config)) {
      errors.push_back({ErrorKind::kInvalid, fmt::format("{}: {}", origin, *wrong)});
    }
  }
}

}  // namespace

bool Config::anonymousAt(const HostPort& address) const {
  return !authRequired && (allowAnonymous || isLoopback(address));
}

std::vector<ListenerConfig> Config::defaultListeners() {
  return {{"mqtt", {"127.0.0.1", 1883}},
          {"kafka", {"127.0.0.1", 9092}},
          {"amqp", {"127.0.0.1", 5672}},
          {"admin", {"127.0.0.1", 15672}}};
}

std::vector<KeyReference> configReference() {
  std::vector<KeyReference> rows;
  for (const Key& key : keys()) rows.push_back({key.name, key.values, key.defaultValue, key.help});
  return rows;
}

std::string configReferenceTable() {
  std::string table = "| key | values | default | meaning |\n|---|---|---|---|\n";
  for (const KeyReference& row : configReference()) {
    table +=
        fmt::format("| `{}` | {} | {} | {} |\n", row.key, row.values, row.defaultValue, row.help);
  }
  return table;
}

std::vector<Error> loadConfigText(const std::string& text, const std::string& origin,
                                  Config& config) {
  std::vector<Error> errors;
  try {  // yaml-cpp reports by exception
    YAML::Node root = YAML::Load(text);
    if (root.IsNull()) return errors;
    if (!root.IsMap()) {
      return {{ErrorKind::kInvalid, origin + ": the file must be a map of keys (`key: value`)"}};
    }
    std::set<std::string> seen;
    walk(root, "", origin, config, seen, errors);
  } catch (const YAML::Exception& error) {
    errors.push_back({ErrorKind::kInvalid, fmt::format("{}: not YAML: {}", origin, error.what())});
  }
  return errors;
}

Result<> applySetting(std::string_view assignment, Config& config) {
  size_t equals = assignment.find('=');
  if (equals == std::string_view::npos) {
    return fail(ErrorKind::kInvalid,
                fmt::format("--set {}: write it as --set KEY=VALUE", assignment));
  }
  auto wrong = setKey(assignment.substr(0, equals), assignment.substr(equals + 1), config);
  if (wrong) return fail(ErrorKind::kInvalid, "--set: " + *wrong);
  return {};
}

std::optional<std::string> setKey(std::string_view name, std::string_view text, Config& config) {
  const std::string bridgeRow = bridgeKey(name).second;
  bool list = std::ranges::any_of(keys(), [&](const Key& key) {
    return key.list && (name == key.name || bridgeRow == key.name);
  });
  Values values;
  auto add = [&](std::string_view value) {
    while (list && value.starts_with(' ')) value.remove_prefix(1);
    values.emplace_back(value);
  };
  while (list && text.find(',') != std::string_view::npos && name != "rules") {
    add(text.substr(0, text.find(',')));
    text.remove_prefix(text.find(',') + 1);
  }
  add(text);
  return assign(name, values, config);
}

std::vector<Error> checkConfig(const Config& config) {
  std::vector<Error> errors = checkListeners(config);
  if (config.authRequired && config.allowAnonymous) {
    errors.push_back({ErrorKind::kInvalid,
                      "`auth.required: true` and `allow_anonymous: true` contradict each other: "
                      "leave one out"});
  }
  if (config.jwt.any()) {
    if (auto opened = jwt::Verifier::open(config.jwt); !opened) errors.push_back(opened.error());
  }
  if (!config.passwordFile.empty()) {
    auto opened = password::PasswordFile::open(config.passwordFile);
    if (!opened) errors.push_back(opened.error());
  }
  if (auto sound = checkHttpHook(config.httpHook); !sound) errors.push_back(sound.error());
  for (Error& error : checkBridges(config)) errors.push_back(std::move(error));
  if (config.diskLowMarkBytes < config.diskHighMarkBytes) {
    errors.push_back(
        {ErrorKind::kInvalid,
         fmt::format("`storage.disk.low_watermark_free_bytes: {}`: give at least "
                     "storage.disk.high_watermark_free_bytes ({}): publishes stop below that",
                     config.diskLowMarkBytes, config.diskHighMarkBytes)});
  }
  return errors;
}

}  // namespace polylog::server
