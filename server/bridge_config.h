// The keys of bridges, `bridges.NAME.KEY`: one set a bridge, read through one member of Config (the
// bridge at hand) so that they are rows of the same table as all others. Read at start-up, then
// immutable.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "codecs/mqtt/bridge_topics.h"
#include "core/base/error.h"
#include "core/net/tls_client.h"
#include "core/net/transport.h"

namespace polylog::server {

struct Config;

struct BridgeAddress {
  bool tls = false;
  HostPort address;
};

/// `mqtt=HOST:PORT` or `mqtts=HOST:PORT`, as a listener's is written.
Result<BridgeAddress> parseBridgeAddress(std::string_view text);

struct BridgeConfig {
  std::string name;
  std::vector<std::string> addressTexts;
  std::vector<BridgeAddress> addresses;
  std::string user;
  std::string password;
  std::string passwordFile;
  std::string clientId;
  bool version5 = true;
  int64_t keepAliveSeconds = 60;
  int64_t reconnectMinMs = 1000;
  int64_t reconnectMaxMs = 60'000;
  int64_t maxInflight = 100;
  bool privateBit = true;
  bool mark = true;
  std::string localUser;
  TlsClientOptions tls;
  std::vector<std::string> topicTexts;
  std::vector<mqtt::BridgeTopic> topics;

  bool usesTls() const;
  /// The password, read from its file if it is in one. Errors name the key and the file.
  Result<std::string> readPassword() const;
};

/// The name in `bridges.NAME.KEY`, and the key as the table has it ("bridges.NAME.KEY" with NAME
/// for the name); empty: it is no such key.
std::pair<std::string, std::string> bridgeKey(std::string_view name);

/// The configuration's own of that name, made if there is none. Nothing, and what is wrong: it
/// can't be a name.
Result<BridgeConfig*> bridgeNamed(Config& config, const std::string& name);

/// What doesn't hold together; reads the files.
std::vector<Error> checkBridges(const Config& config);

}  // namespace polylog::server
