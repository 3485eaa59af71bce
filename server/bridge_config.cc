#include "server/bridge_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>

#include "core/net/address.h"
#include "server/config.h"
#include "server/listener_config.h"

namespace polylog::server {
namespace {

constexpr std::string_view kBridges = "bridges.";
constexpr size_t kMaxName = 64;
constexpr size_t kMaxBridges = 100;
constexpr size_t kMaxPassword = 65535;

Error wrong(const BridgeConfig& bridge, std::string_view key, std::string_view why) {
  return {ErrorKind::kInvalid,
          fmt::format("`bridges.{}{}{}`: {}", bridge.name, key.empty() ? "" : ".", key, why)};
}

bool sameBroker(const BridgeConfig& one, const BridgeConfig& other) {
  return std::ranges::any_of(one.addresses, [&](const BridgeAddress& a) {
    return std::ranges::any_of(other.addresses, [&](const BridgeAddress& b) {
      return a.address.host == b.address.host && a.address.port == b.address.port;
    });
  });
}

void checkTls(const BridgeConfig& bridge, std::vector<Error>& errors) {
  const bool given = !bridge.tls.ca.empty() || !bridge.tls.certificate.empty() ||
                     !bridge.tls.key.empty() || !bridge.tls.verifyHost;
  if (!bridge.usesTls()) {
    if (given) {
      errors.push_back(wrong(bridge, "tls",
                             "has no effect without an address of TLS: write it as "
                             "mqtts=HOST:PORT, or leave the keys out"));
    }
    return;
  }
  TlsClientOptions options = bridge.tls;
  options.keyPrefix = fmt::format("bridges.{}.", bridge.name);
  if (auto loaded = OutgoingTls::load(std::move(options)); !loaded) {
    errors.push_back(loaded.error());
  }
}

void checkLogin(const BridgeConfig& bridge, std::vector<Error>& errors) {
  const bool any = !bridge.password.empty() || !bridge.passwordFile.empty();
  if (!bridge.password.empty() && !bridge.passwordFile.empty()) {
    errors.push_back(wrong(bridge, "password", "is there beside `password_file`: leave one out"));
  }
  if (any && bridge.user.empty()) {
    errors.push_back(wrong(bridge, "password", "`user` is missing: a password is a user's"));
  }
  if (auto read = bridge.readPassword(); !read) errors.push_back(read.error());
}

void checkOne(const BridgeConfig& bridge, std::vector<Error>& errors) {
  if (bridge.addresses.empty()) {
    errors.push_back(
        wrong(bridge, "address", "is missing: give mqtt=HOST:PORT or mqtts=HOST:PORT"));
  }
  if (bridge.topics.empty()) {
    errors.push_back(wrong(
        bridge, "topics", "is missing: without one nothing is carried; give FILTER DIRECTION QOS"));
  }
  if (bridge.reconnectMaxMs < bridge.reconnectMinMs) {
    errors.push_back(
        wrong(bridge, "reconnect.max_ms",
              fmt::format("give at least reconnect.min_ms ({})", bridge.reconnectMinMs)));
  }
  checkTls(bridge, errors);
  checkLogin(bridge, errors);
  for (size_t i = 0; i < bridge.topics.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (auto loop = mqtt::loopOf(bridge.topics[j], bridge.topics[i], true)) {
        errors.push_back(wrong(bridge, "topics", *loop));
      }
    }
  }
}

/// Whether that address leads to this listener, as far as the texts tell.
bool leadsTo(const HostPort& address, const HostPort& listener) {
  if (isUnixSocket(listener) || address.port != listener.port) return false;
  if (address.host == listener.host) return true;
  if (!isLoopback(address)) return false;
  // Every address of 127.0.0.0/8 is another's, but `localhost` is any.
  const bool named = address.host == "localhost" || listener.host == "localhost";
  // Where a listener is at all addresses, `::` are those of IPv4 too, 0.0.0.0 those alone.
  auto ofV6 = [](const HostPort& one) { return one.host.find(':') != std::string::npos; };
  return isWildcard(listener) ? ofV6(listener) || !ofV6(address) : named && isLoopback(listener);
}

/// A bridge to the broker itself would carry everything in a circle.
void checkOwn(const BridgeConfig& bridge, const Config& config, std::vector<Error>& errors) {
  for (size_t i = 0; i < bridge.addresses.size(); ++i) {
    for (const ListenerConfig& listener : config.listeners) {
      if (!leadsTo(bridge.addresses[i].address, listener.address)) continue;
      errors.push_back(
          wrong(bridge, "address",
                fmt::format("`{}` leads to this broker's own listener {}: give another broker's",
                            bridge.addressTexts[i], nameOf(listener))));
      return;
    }
  }
}

/// Two bridges to one broker are strangers to each other.
void checkPair(const BridgeConfig& one, const BridgeConfig& other, std::vector<Error>& errors) {
  if (!one.clientId.empty() && one.clientId == other.clientId && sameBroker(one, other)) {
    errors.push_back(wrong(other, "client_id",
                           fmt::format("is that of `bridges.{}` too, and they lead to one broker: "
                                       "give each its own",
                                       one.name)));
  }
  if (!sameBroker(one, other)) return;
  for (const mqtt::BridgeTopic& a : one.topics) {
    for (const mqtt::BridgeTopic& b : other.topics) {
      if (auto loop = mqtt::loopOf(a, b, false)) {
        errors.push_back(
            wrong(other, "topics",
                  fmt::format("with `bridges.{}`, to the same broker: {}", one.name, *loop)));
      }
    }
  }
}

}  // namespace

Result<BridgeAddress> parseBridgeAddress(std::string_view text) {
  const size_t equals = text.find('=');
  const std::string_view protocol = text.substr(0, equals);
  if (equals == std::string_view::npos || (protocol != "mqtt" && protocol != "mqtts")) {
    return fail(ErrorKind::kInvalid,
                fmt::format("`{}`: write mqtt=HOST:PORT, or mqtts=HOST:PORT for TLS", text));
  }
  auto address = parseHostPort(text.substr(equals + 1));
  if (!address) return std::unexpected(address.error());
  if (isUnixSocket(*address) || isWildcard(*address) || address->port == 0) {
    return fail(ErrorKind::kInvalid,
                fmt::format("`{}`: give the host and port that the other broker listens at", text));
  }
  return BridgeAddress{protocol == "mqtts", *std::move(address)};
}

bool BridgeConfig::usesTls() const {
  return std::ranges::any_of(addresses, &BridgeAddress::tls);
}

Result<std::string> BridgeConfig::readPassword() const {
  if (passwordFile.empty()) return password;
  std::ifstream file(passwordFile, std::ios::binary);
  std::string text;
  if (file) {
    text.resize(kMaxPassword + 1);
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(file.gcount()));
  }
  if (!file && !file.eof()) {
    return fail(ErrorKind::kInvalid,
                fmt::format("`bridges.{}.password_file: {}`: can't be read: {}", name, passwordFile,
                            std::strerror(errno)));
  }
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  if (text.empty() || text.size() > kMaxPassword) {
    return fail(ErrorKind::kInvalid,
                fmt::format("`bridges.{}.password_file: {}`: put the password in it, alone", name,
                            passwordFile));
  }
  return text;
}

std::pair<std::string, std::string> bridgeKey(std::string_view name) {
  if (!name.starts_with(kBridges)) return {};
  const size_t dot = name.find('.', kBridges.size());
  if (dot == std::string_view::npos) return {};
  return {std::string(name.substr(kBridges.size(), dot - kBridges.size())),
          fmt::format("{}NAME{}", kBridges, name.substr(dot))};
}

Result<BridgeConfig*> bridgeNamed(Config& config, const std::string& name) {
  auto fit = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_';
  };
  if (name.empty() || name.size() > kMaxName || !std::ranges::all_of(name, fit)) {
    return fail(ErrorKind::kInvalid,
                fmt::format("`bridges.{}`: a bridge's name has 1 to {} letters, digits, - and _",
                            name, kMaxName));
  }
  auto found = std::ranges::find(config.bridges, name, &BridgeConfig::name);
  if (found != config.bridges.end()) return &*found;
  if (config.bridges.size() >= kMaxBridges) {
    return fail(ErrorKind::kInvalid, fmt::format("there can be {} bridges", kMaxBridges));
  }
  BridgeConfig& made = config.bridges.emplace_back();
  made.name = name;
  return &made;
}

std::vector<Error> checkBridges(const Config& config) {
  std::vector<Error> errors;
  for (size_t i = 0; i < config.bridges.size(); ++i) {
    checkOne(config.bridges[i], errors);
    checkOwn(config.bridges[i], config, errors);
    for (size_t j = 0; j < i; ++j) checkPair(config.bridges[j], config.bridges[i], errors);
  }
  return errors;
}

}  // namespace polylog::server
