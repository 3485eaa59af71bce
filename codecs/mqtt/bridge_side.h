// What is different in a connection whose peer is a server that a bridge is a client of: names have
// another form there, what has been sent once is not sent again, and what can't be taken now is not
// refused for good. The seams of a session (InboundPublishes, OutboundDeliveries) look at it
// through Link. On the connection's thread; owned by BridgeSession.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "codecs/mqtt/bridge_topics.h"
#include "codecs/mqtt/packet.h"
#include "core/base/metrics.h"
#include "core/model/record.h"

namespace polylog::mqtt {

/// The user property by which a message tells where it has been, one for each bridge: the id of a
/// broker that has sent it out, or behind "in:" of one that has taken it in. What a broker has sent
/// out it sends out no more, and what it has sent or taken it takes no more; what it has taken in
/// by one bridge may well go out by another. By which, "/" and the bridge's name say behind the id:
/// no-local keeps what came by a bridge from going back, but not when it comes as a retained
/// message.
inline constexpr BytesView kBridgeMark = "polylog-bridge";
/// A message that has been through as many bridges is sent over no other.
inline constexpr size_t kMaxBridgeMarks = 16;

/// So often a message is sent again that the remote can't take now. Then it is given up, or it
/// would keep back for ever all that is behind it.
inline constexpr int kMaxRefusals = 20;

/// How often the remote has refused what it refused last. Lives as long as the bridge.
struct BridgeRefusals {
  int64_t id = -1;
  int times = 0;
};

struct BridgeCounters {
  explicit BridgeCounters(const std::string& bridge);

  Metric& sent;
  Metric& received;
  Metric& droppedLoop;   ///< have been over a bridge of ours before
  Metric& droppedName;   ///< have no name on the other side
  Metric& refusedThere;  ///< by the remote, for good
  Metric& refusedHere;   ///< by this broker, for good
  Metric& denied;        ///< may not be read by whom the bridge is here
};

class BridgeSide {
 public:
  /// `brokerId`: what this broker's marks say; empty = none are made. All outlive it.
  BridgeSide(const BridgeTopics& topics, const std::string& brokerId, const std::string& bridge,
             BridgeRefusals& refusals, BridgeCounters& counters)
      : topics_(topics),
        brokerId_(brokerId),
        bridge_(bridge),
        takenHere_(brokerId.empty() ? std::string() : "in:" + brokerId + "/"),
        takenMark_(brokerId.empty() ? std::string() : takenHere_ + bridge),
        refusals_(refusals),
        counters_(counters) {}

  /// The remote knows nothing of what went before: to it, nothing is a repeat.
  bool afresh = false;
  /// What CONNACK has told not to send.
  uint8_t maxQos = 2;
  bool retainAvailable = true;
  /// The remote has answered for a message: the connection was of use.
  bool progressed = false;

  BridgeCounters& counters() const { return counters_; }
  /// The remote's name of a record in the place of ours. False: it is not to be sent (counted).
  bool outward(std::string& topic, const Record& record) const;
  /// Our name of what the remote sends. False: it is not taken (counted). `name` must outlive it.
  bool inward(BytesView& topic, const Properties& properties, std::string& name) const;
  /// Adds this broker's mark to what is sent, where the version can.
  void mark(Properties& properties) const;
  /// And to what is taken in.
  void mark(std::vector<Header>& headers) const;
  /// An acknowledgement from the remote of delivery `id`: whether that is to be sent again later
  /// instead of being given up. Counts what it refuses.
  bool refusedForNow(ReasonCode code, int64_t id);

 private:
  const BridgeTopics& topics_;
  const std::string& brokerId_;
  const std::string& bridge_;
  const std::string takenHere_;  ///< how the marks of all this broker's bridges begin
  const std::string takenMark_;
  BridgeRefusals& refusals_;
  BridgeCounters& counters_;
};

}  // namespace polylog::mqtt
