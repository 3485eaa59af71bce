// The rows of bridges in the configuration's table.
#include "server/bridge_keys.h"

namespace polylog::server {
namespace {

std::optional<std::string> assignAddresses(const Values& values, Config& config) {
  std::vector<BridgeAddress> addresses;
  for (const std::string& text : values) {
    auto address = parseBridgeAddress(text);
    if (!address) return address.error().text;
    addresses.push_back(*std::move(address));
  }
  if (addresses.empty()) return "give mqtt=HOST:PORT or mqtts=HOST:PORT";
  config.bridge.addressTexts = values;
  config.bridge.addresses = std::move(addresses);
  return std::nullopt;
}

std::optional<std::string> assignTopics(const Values& values, Config& config) {
  constexpr size_t kMaxTopics = 1000;
  if (values.size() > kMaxTopics) return fmt::format("a bridge has {} topics at most", kMaxTopics);
  std::vector<mqtt::BridgeTopic> topics;
  for (const std::string& text : values) {
    auto topic = mqtt::BridgeTopic::parse(text);
    if (!topic) return topic.error().text;
    topics.push_back(*std::move(topic));
  }
  config.bridge.topicTexts = values;
  config.bridge.topics = std::move(topics);
  return std::nullopt;
}

/// A field of a bridge's TLS.
template <class T>
auto ofTls(T TlsClientOptions::*field) {
  return [field](Config& config) -> T& { return config.bridge.tls.*field; };
}

template <class Field>
Key flagAt(const char* name, Field field, const char* help) {
  return choice<bool>(name, field, {{"true", true}, {"false", false}}, help);
}

}  // namespace

std::vector<Key> bridgeKeys() {
  using Bridge = BridgeConfig;
  using Version = TlsOptions::Version;
  auto of = [](auto field) { return within(&Config::bridge, field); };
  return {
      {"bridges.NAME.address", "list of mqtt=HOST:PORT or mqtts=HOST:PORT", "none",
       "Another MQTT broker, to which this one connects as a client (docs/bridge.md); NAME is the "
       "bridge's. Of several addresses of one broker the next is tried where one fails.",
       true, assignAddresses},
      {"bridges.NAME.topics", "list of FILTER DIRECTION QOS [LOCAL-PREFIX [REMOTE-PREFIX]]", "none",
       "What is carried: messages that FILTER matches behind the prefix of their side, `out` to "
       "the "
       "other broker, `in` from it, or `both`; the one prefix takes the place of the other. `\"\"` "
       "is an empty prefix.",
       true, assignTopics},
      anyText("bridges.NAME.user", "text", of(&Bridge::user),
              "The user's name at the other broker."),
      anyText("bridges.NAME.password", "text", of(&Bridge::password), "The user's password."),
      anyText("bridges.NAME.password_file", "file", of(&Bridge::passwordFile),
              "A file with the password, but for a line's end. Read at every connection."),
      anyText(
          "bridges.NAME.client_id", "text", of(&Bridge::clientId),
          "The client identifier at the other broker; none = the bridge's name and some of this "
          "broker's own id."),
      choice<bool>("bridges.NAME.version", of(&Bridge::version5), {{"5", true}, {"3.1.1", false}},
                   "The version of MQTT that is spoken."),
      number("bridges.NAME.keep_alive_s", &Config::bridge, &Bridge::keepAliveSeconds, 5, 65'535,
             "Seconds within which each side hears something of the other."),
      number("bridges.NAME.reconnect.min_ms", &Config::bridge, &Bridge::reconnectMinMs, 10,
             3'600'000,
             "Milliseconds until the first attempt to connect again; they double with each that "
             "fails."),
      number("bridges.NAME.reconnect.max_ms", &Config::bridge, &Bridge::reconnectMaxMs, 10,
             3'600'000, "The most milliseconds between two attempts."),
      number("bridges.NAME.max_inflight", &Config::bridge, &Bridge::maxInflight, 1, 49'150,
             "Messages at QoS 1 and 2 on their way to the other broker; fewer if it says so."),
      anyText("bridges.NAME.local_user", "name as text", of(&Bridge::localUser),
              "Whose rights hold for what the bridge publishes and reads here; none = it may do "
              "everything."),
      flagAt(
          "bridges.NAME.try_private", of(&Bridge::privateBit),
          "With MQTT 3.1.1: tells the other broker that a bridge connects, as mosquitto's do, so "
          "that it sends nothing back. Brokers that refuse that are asked again without."),
      flagAt("bridges.NAME.loop_marker", of(&Bridge::mark),
             "Whether messages bear a user property `polylog-bridge` that tells by which brokers' "
             "bridges they came, so that they end where they would go round in circles."),
      anyText("bridges.NAME.tls.ca", "PEM file", ofTls(&TlsClientOptions::ca),
              "The CAs that vouch for the other broker's certificate; none = the system's."),
      anyText("bridges.NAME.tls.certificate", "PEM file", ofTls(&TlsClientOptions::certificate),
              "The certificate that the bridge shows, with its chain."),
      anyText("bridges.NAME.tls.key", "PEM file", ofTls(&TlsClientOptions::key),
              "Its private key, without passphrase; none = in the certificate's file."),
      flagAt("bridges.NAME.tls.verify_host", ofTls(&TlsClientOptions::verifyHost),
             "Whether the other broker's certificate has to have the host's name or address. Who "
             "signed it is verified in any case."),
      choice<Version>("bridges.NAME.tls.min_version", ofTls(&TlsClientOptions::minVersion),
                      {{"1.2", Version::k12}, {"1.3", Version::k13}},
                      "The oldest TLS that is spoken."),
  };
}

}  // namespace polylog::server
