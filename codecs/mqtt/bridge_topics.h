// Which names a bridge carries, in which direction, and what each is called on the other side:
// `FILTER DIRECTION QOS [LOCAL-PREFIX [REMOTE-PREFIX]]`, as mosquitto's bridges have it. Pure
// functions of the configuration; immutable, any thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/error.h"

namespace polylog::mqtt {

struct BridgeTopic {
  enum class Direction : uint8_t { kOut = 1, kIn = 2, kBoth = 3 };

  std::string text;     ///< as it was written
  std::string pattern;  ///< may be empty where the prefixes are whole names
  Direction direction = Direction::kOut;
  uint8_t qos = 0;
  std::string localPrefix;
  std::string remotePrefix;

  bool out() const { return (static_cast<unsigned>(direction) & 1U) != 0; }
  bool in() const { return (static_cast<unsigned>(direction) & 2U) != 0; }
  std::string localFilter() const { return localPrefix + pattern; }
  std::string remoteFilter() const { return remotePrefix + pattern; }

  /// `""` stands for an empty pattern or prefix. kInvalid with the remedy.
  static Result<BridgeTopic> parse(std::string_view text);
};

class BridgeTopics {
 public:
  using Filters = std::map<std::string, uint8_t>;  ///< with the QoS

  BridgeTopics() = default;
  explicit BridgeTopics(std::vector<BridgeTopic> topics);

  /// What to subscribe to here, and at the remote broker.
  const Filters& local() const { return local_; }
  const Filters& remote() const { return remote_; }

  /// The name there of what is published here, by the first topic that has it. False: none has, or
  /// it would be longer than a name can be.
  bool outward(BytesView topic, std::string& name) const;
  /// The name here of what comes from there.
  bool inward(BytesView topic, std::string& name) const;

 private:
  std::vector<BridgeTopic> topics_;
  Filters local_;
  Filters remote_;
};

/// Whether the filter matches the name (MQTT 4.7). Both are well-formed.
bool filterMatches(BytesView filter, BytesView topic);
/// Whether there are names that both filters match.
bool filtersOverlap(BytesView one, BytesView other);

/// Of one bridge, or (`sameBridge` false) of two that lead to one broker: how a message would come
/// back that the one has sent out, if it would. The text names both topics and the remedy.
std::optional<std::string> loopOf(const BridgeTopic& one, const BridgeTopic& other,
                                  bool sameBridge);

}  // namespace polylog::mqtt
