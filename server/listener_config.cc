#include "server/listener_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "core/net/address.h"

namespace polylog::server {
namespace {

constexpr std::array kKinds = {
    ListenerKind{"mqtt", "mqtt"},
    ListenerKind{"mqtts", "mqtt", true},
    ListenerKind{"ws", "mqtt", false, true},
    ListenerKind{"wss", "mqtt", true, true},
    ListenerKind{"kafka", "kafka"},
    ListenerKind{"kafkas", "kafka", true},
    ListenerKind{"amqp", "amqp"},
    ListenerKind{"amqps", "amqp", true},
    ListenerKind{"admin", "admin"},
};

/// Keys that a listener may have of its own, whatever its kind.
constexpr std::array<std::string_view, 3> kOwn = {
    "limits.listener_connections", "limits.listener_connection_rate", "proxy_protocol"};

/// And those that a listener of MQTT may.
constexpr std::array<std::string_view, 9> kMqttOwn = {"mqtt.mount_point",
                                                      "mqtt.response_information",
                                                      "mqtt.check_payload_format",
                                                      "mqtt.redirect",
                                                      "mqtt.redirect_permanent",
                                                      "mqtt.publish_rate",
                                                      "mqtt.byte_rate",
                                                      "mqtt.max_qos",
                                                      "mqtt.retain_available"};

/// Whether a listener of that kind has any use for the key.
bool takesKey(const ListenerKind& kind, std::string_view key) {
  if (kind.protocol == "admin") return false;
  if (key.starts_with("tls.")) return kind.tls;
  if (key.starts_with("websocket.")) return kind.webSocket;
  if (std::ranges::find(kMqttOwn, key) != kMqttOwn.end()) return kind.protocol == "mqtt";
  if (key == "kafka.advertised") return kind.protocol == "kafka";
  return std::ranges::find(kOwn, key) != kOwn.end();
}

std::unexpected<Error> wrong(std::string_view text, std::string_view why) {
  return fail(ErrorKind::kInvalid, fmt::format("listener `{}`: {}", text, why));
}

std::string_view takeWord(std::string_view& text) {
  size_t from = std::min(text.find_first_not_of(' '), text.size());
  text.remove_prefix(from);
  std::string_view word = text.substr(0, text.find(' '));
  text.remove_prefix(word.size());
  return word;
}

Result<ListenerConfig> parseAddress(std::string_view text, std::string_view word) {
  size_t equals = word.find('=');
  const ListenerKind* kind =
      equals == std::string_view::npos ? nullptr : listenerKind(word.substr(0, equals));
  if (kind == nullptr) {
    std::string names;
    for (const ListenerKind& each : kKinds) names += fmt::format(" {}", each.name);
    return wrong(text, fmt::format("write PROTOCOL=HOST:PORT with one of the protocols{}", names));
  }
  auto address = parseHostPort(word.substr(equals + 1));
  if (!address) return std::unexpected(address.error());
  if (isUnixSocket(*address) && (kind->protocol == "kafka" || kind->protocol == "admin")) {
    return wrong(text, fmt::format("{} is for HOST:PORT only: its clients know no Unix-domain "
                                   "sockets",
                                   kind->name));
  }
  return ListenerConfig{std::string(kind->name), *std::move(address), {}};
}

/// Two listeners can't have one address.
void checkAddress(const ListenerConfig& listener, const Config& config,
                  std::vector<Error>& errors) {
  for (const ListenerConfig& other : config.listeners) {
    bool fixed = listener.address.port != 0 || isUnixSocket(listener.address);
    if (&other < &listener && fixed && other.address.port == listener.address.port &&
        other.address.host == listener.address.host) {
      errors.push_back({ErrorKind::kInvalid,
                        fmt::format("listener {} has the address of {}: give each its own port",
                                    nameOf(listener), other.protocol)});
    }
  }
}

/// A fixed port can lead to one listener only; clients of the others would be sent astray.
void checkAdvertised(const ListenerConfig& listener, const Config& config,
                     std::vector<Error>& errors) {
  auto advertisedOf = [&](const ListenerConfig& each) -> std::optional<HostPort> {
    if (listenerKind(each.protocol)->protocol != "kafka") return std::nullopt;
    return configFor(each, config).kafkaAdvertised;
  };
  auto advertised = advertisedOf(listener);
  if (!advertised || advertised->port == 0) return;
  for (const ListenerConfig& other : config.listeners) {
    if (&other >= &listener || other.protocol == listener.protocol) continue;
    auto theirs = advertisedOf(other);
    if (!theirs || theirs->host != advertised->host || theirs->port != advertised->port) continue;
    errors.push_back(
        {ErrorKind::kInvalid,
         fmt::format("`kafka.advertised: {}` holds for both {} and {}, which can't both be there: "
                     "give each listener its own behind its address (kafka.advertised=HOST:PORT), "
                     "or port 0 for the port that the client reached",
                     toText(*advertised), nameOf(other), nameOf(listener))});
  }
}

void checkOne(const ListenerConfig& listener, const Config& config, std::vector<Error>& errors) {
  if (!config.authRequired && !mayBeAnonymous(listener, config)) {
    errors.push_back(
        {ErrorKind::kInvalid,
         fmt::format("listener {} is open to other machines without authentication: set "
                     "`auth.required: true` and create users (docs/security.md), listen on "
                     "127.0.0.1, ask clients for certificates (over TLS, with "
                     "`tls.client_certificates: required`), or set `allow_anonymous: true` if "
                     "everybody who reaches it may read and write everything",
                     nameOf(listener))});
  }
  if (listenerKind(listener.protocol)->tls) {
    auto loaded = TlsContext::load(configFor(listener, config).tls);
    if (!loaded) {
      errors.push_back({ErrorKind::kInvalid,
                        fmt::format("listener {}: {}", nameOf(listener), loaded.error().text)});
    }
  }
  checkAddress(listener, config, errors);
  checkAdvertised(listener, config, errors);
}

}  // namespace

const ListenerKind* listenerKind(std::string_view name) {
  const auto* found = std::ranges::find(kKinds, name, &ListenerKind::name);
  return found == kKinds.end() ? nullptr : found;
}

Result<ListenerConfig> parseListener(std::string_view text) {
  std::string_view rest = text;
  auto listener = parseAddress(text, takeWord(rest));
  if (!listener) return listener;
  Config scratch;
  for (std::string_view word = takeWord(rest); !word.empty(); word = takeWord(rest)) {
    size_t equals = word.find('=');
    std::string_view key = word.substr(0, equals);
    if (equals == std::string_view::npos || !takesKey(*listenerKind(listener->protocol), key)) {
      return wrong(text, fmt::format("`{}`: behind the address of a listener of {} stand KEY=VALUE "
                                     "pairs of the keys that are marked [L] in "
                                     "docs/configuration.md and concern it",
                                     word, listener->protocol));
    }
    auto same = [&](const auto& pair) { return pair.first == key; };
    if (std::ranges::any_of(listener->own, same)) {
      return wrong(text, fmt::format("`{}` is there twice: leave one out", key));
    }
    std::string_view value = word.substr(equals + 1);
    if (auto fault = setKey(key, value, scratch)) return wrong(text, *fault);
    listener->own.emplace_back(key, value);
  }
  return listener;
}

std::string nameOf(const ListenerConfig& listener) {
  return fmt::format("{}={}", listener.protocol, toText(listener.address));
}

Config configFor(const ListenerConfig& listener, const Config& config) {
  Config merged = config;
  auto has = [&](std::string_view key) {
    return std::ranges::any_of(listener.own, [&](const auto& pair) { return pair.first == key; });
  };
  // A key belongs to its certificate.
  if (has("tls.certificate")) merged.tls.keys.clear();
  // A listener has one or the other, whatever the others have.
  if (has("tls.psk_file")) merged.tls = TlsOptions{};
  if (has("tls.certificate")) merged.tls.pskFile.clear();
  for (const auto& [key, value] : listener.own) setKey(key, value, merged);
  return merged;
}

bool asksForCertificates(const ListenerConfig& listener, const Config& config) {
  if (!listenerKind(listener.protocol)->tls) return false;
  const TlsOptions tls = configFor(listener, config).tls;
  return tls.clients == TlsOptions::Clients::kRequired || !tls.pskFile.empty();
}

bool mayBeAnonymous(const ListenerConfig& listener, const Config& config) {
  if (config.authRequired) return false;
  // Behind a proxy, a loopback address says nothing of who comes.
  bool proxied = configFor(listener, config).proxyProtocol && !config.allowAnonymous;
  return (!proxied && config.anonymousAt(listener.address)) ||
         asksForCertificates(listener, config);
}

std::vector<Error> checkListeners(const Config& config) {
  std::vector<Error> errors;
  for (const ListenerConfig& listener : config.listeners) checkOne(listener, config, errors);
  return errors;
}

}  // namespace polylog::server
