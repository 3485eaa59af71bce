// What the configuration says about a bridge, and what it remembers from one connection to the
// next.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "codecs/mqtt/bridge_topics.h"
#include "codecs/mqtt/options.h"
#include "codecs/mqtt/packet.h"
#include "core/base/error.h"
#include "core/model/bridge.h"

namespace polylog::mqtt {

/// Immutable; shared by the bridge's connections.
struct BridgeOptions {
  std::string name;
  std::string clientId;  ///< at the remote
  std::optional<std::string> user;
  std::optional<std::string> password;
  Version version = Version::k5;
  uint16_t keepAliveSeconds = 60;
  /// 3.1.1: says that a bridge connects, as mosquitto's do, so that nothing comes back.
  bool privateBit = true;
  /// What this broker's marks say (bridge_side.h); empty = none are made or heeded.
  std::string brokerId;
  BridgeTopics topics;
  /// As whom it publishes and reads here; null: as the broker itself.
  PrincipalRef principal;
  /// Limits, rules and tracer as of MQTT's listeners.
  std::shared_ptr<const MqttOptions> mqtt;

  /// The session that it has here.
  std::string sessionId() const;
};

/// What of a bridge outlives the process, beside its session.
struct BridgeRecord {
  std::string clientId;  ///< under which the remote has a session
  /// What the remote may have had of an earlier life of ours is gone.
  bool cleaned = false;
  /// The remote knows nothing of what was sent before: see BridgeSide::afresh.
  bool afresh = true;
  /// Which publishes the remote had begun is being forgotten, as the remote has.
  bool forgetting = false;
  std::vector<std::string> localFilters;
  std::vector<std::pair<std::string, uint8_t>> remoteFilters;  ///< that the remote has granted

  bool operator==(const BridgeRecord&) const = default;
  std::string encode() const;
  /// kCorrupt.
  static Result<BridgeRecord> decode(BytesView octets);
};

/// A bridge's memory: lives as long as the bridge.
struct BridgeMemory {
  BridgeMemory(std::string bridge, BridgeStore& keptIn) : name(std::move(bridge)), store(keptIn) {}

  const std::string name;
  BridgeStore& store;
  BridgeRecord record;
  bool privateBit = true;  ///< the remote hasn't refused it

  /// What was stored; nothing and no error: a new bridge.
  Result<> load();
  /// Makes it the record, once durable.
  void keep(BridgeRecord next, Done<Result<>> done);
};

}  // namespace polylog::mqtt
