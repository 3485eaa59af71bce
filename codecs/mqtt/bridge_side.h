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
/// by one bridge may well go out by another.
inline constexpr BytesView kBridgeMark = "polylog-bridge";
/// A message that has been through as many bridges is sent over no other.
inline constexpr size_t kMaxBridgeMarks = 16;

struct BridgeCounters {
  explicit BridgeCounters(const std::string& bridge);

  Metric& sent;
  Metric& received;
  Metric& droppedLoop;   ///< have been over a bridge of ours before
  Metric& droppedName;   ///< have no name on the other side
  Metric& refusedThere;  ///< by the remote, for good
  Metric& refusedHere;   ///< by this broker, for good
};

class BridgeSide {
 public:
  /// `brokerId`: what this broker's marks say; empty = none are made. All outlive it.
  BridgeSide(const BridgeTopics& topics, const std::string& brokerId, BridgeCounters& counters)
      : topics_(topics),
        brokerId_(brokerId),
        takenMark_(brokerId.empty() ? std::string() : "in:" + brokerId),
        counters_(counters) {}

  /// The remote knows nothing of what went before: what it had accepted is sent to it again.
  bool afresh = false;
  /// What CONNACK has told not to send.
  uint8_t maxQos = 2;
  bool retainAvailable = true;

  BridgeCounters& counters() const { return counters_; }
  /// The remote's name of a record in the place of ours. False: it is not to be sent (counted).
  bool outward(std::string& topic, const Record& record) const;
  /// Our name of what the remote sends. False: it is not taken (counted). `name` must outlive it.
  bool inward(BytesView& topic, const Properties& properties, std::string& name) const;
  /// Adds this broker's mark to what is sent, where the version can.
  void mark(Properties& properties) const;
  /// And to what is taken in.
  void mark(std::vector<Header>& headers) const;
  /// An acknowledgement from the remote: whether the message is to be sent again later instead of
  /// being given up. Counts what it refuses.
  bool refusedForNow(ReasonCode code) const;

 private:
  const BridgeTopics& topics_;
  const std::string& brokerId_;
  const std::string takenMark_;
  BridgeCounters& counters_;
};

}  // namespace polylog::mqtt
