// What the configuration says about a bridge, and what it remembers from one connection to the
// next.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "codecs/mqtt/bridge_side.h"
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
  /// The remote knows nothing of what was sent before: retained messages and
  /// subscriptions go to it again.
  bool afresh = true;
  /// Which publishes the remote had begun and which of ours it had accepted is being forgotten, as
  /// the remote has.
  bool forgetting = false;
  /// A CONNECT may have reached the remote, and what CONNACK said to it isn't kept: a session that
  /// the remote has the next time may have begun with it.
  bool connecting = false;
  /// SubscriberSession::life() of the session here that all this belongs to; 0 = of none.
  uint64_t life = 0;
  std::vector<std::string> localFilters;
  std::vector<std::pair<std::string, uint8_t>> remoteFilters;  ///< that the remote has granted

  bool operator==(const BridgeRecord&) const = default;
  std::string encode() const;
  /// kCorrupt.
  static Result<BridgeRecord> decode(BytesView octets);
};

/// Whether the bit by which mosquitto knows bridges goes with CONNECT.
enum class PrivateBit : uint8_t {
  kSend,
  kTryWithout,  ///< the connection was closed over it, maybe: once without
  kRefused,     ///< the remote doesn't know it
};

/// A bridge's memory: lives as long as the bridge.
struct BridgeMemory {
  BridgeMemory(std::string bridge, BridgeStore& keptIn) : name(std::move(bridge)), store(keptIn) {}

  const std::string name;
  BridgeStore& store;
  BridgeRecord record;
  /// `record.connecting` as far as this process knows better: false while no CONNECT was left
  /// without an answer that is kept.
  bool unsure = false;
  BridgeRefusals refusals;
  PrivateBit privateBit = PrivateBit::kSend;

  /// What was stored; nothing and no error: a new bridge.
  Result<> load();
  /// Makes it the record, once durable.
  void keep(BridgeRecord next, Done<Result<>> done);
};

}  // namespace polylog::mqtt
