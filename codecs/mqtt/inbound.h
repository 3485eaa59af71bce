// Publishes on their way in: gathered over one round of input into one Broker::publish(), answered
// in the order in which they came once the journal has them; topic aliases; packet identifiers of
// QoS 2 until PUBREL; and how much may wait. One of the seams of Session, on its thread.
//
// MQTT 3.1.1 can't tell a publisher that the disk is full: its publishes at QoS 1 and 2 are held
// back, unacknowledged, until there is space. Everything else that the client sends is taken
// meanwhile, its pings and acknowledgements among it, until what is held back reaches the limit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "codecs/mqtt/link.h"
#include "codecs/mqtt/packet.h"
#include "mapping/mqtt.h"

namespace polylog::mqtt {

class InboundPublishes {
 public:
  explicit InboundPublishes(Link& link) : link_(link) {}

  /// The session is open: takes over the identifiers that it holds.
  void open();
  /// Gathers a PUBLISH. The packet's views must stay good until flush().
  std::optional<Fault> publish(const PublishPacket& packet);
  /// PUBREL.
  std::optional<Fault> release(const AckPacket& packet);
  /// Hands what was gathered to the broker. Called at the end of a round of input, and before any
  /// packet whose effect must come after the publishes in front of it.
  void flush();
  /// Too much waits for the journal: no more should be read.
  bool saturated() const {
    return waitingRecords_ + unaskedRecords_ + heldBack_.size() > kMaxWaitingRecords ||
           waitingBytes_ + unaskedBytes_ + heldBackBytes_ > kMaxWaitingBytes;
  }
  /// Whether this identifier belongs to a QoS 2 publish that is not released.
  bool holds(uint16_t packetId) const { return held_.contains(packetId); }

 private:
  /// An answer that is due. `result`: index of the broker's answer that decides the code, -1 =
  /// `code` is decided.
  struct Answer {
    uint16_t packetId = 0;
    uint8_t qos = 0;
    ReasonCode code = ReasonCode::kSuccess;
    int32_t result = -1;
    bool repeat = false;  ///< of a QoS 2 publish that is held
  };
  /// What went to the broker together.
  struct Batch {
    std::vector<Answer> answers;
    std::vector<PublishResult> results;
    size_t records = 0;
    size_t bytes = 0;
    bool done = false;
  };
  /// A PUBLISH that waits for space on the disk.
  struct HeldBack {
    PublishPacket packet;  ///< without its views
    std::string topic;     ///< what an alias stood for
    std::string payload;
    std::string properties{};  ///< as on the wire
    size_t bytes() const;
  };
  enum class Holding : uint8_t { kPublishing, kHeld, kReleasing };
  struct Held {
    Holding stage = Holding::kPublishing;
    bool counted = true;  ///< against the receive maximum: not if held from an earlier connection
  };

  bool mustHoldBack(const PublishPacket& packet) const;
  /// The peer can't be told that the disk is full, or would take that for a refusal.
  bool holdsWhenFull() const { return link_.version == Version::k311 || link_.bridge != nullptr; }
  void holdBack(const PublishPacket& packet, BytesView topic);
  void awaitSpace();
  void resume();
  std::optional<Fault> take(const PublishPacket& packet, BytesView topic);
  std::optional<Fault> admit(const PublishPacket& packet);
  std::optional<Fault> resolveAlias(const PublishPacket& packet, BytesView& topic);
  bool takeBridgeState(BytesView topic, BytesView payload);
  void rewrite(BytesView& topic);
  void gather(const PublishPacket& packet, const Address& address, int64_t publishAtMs);
  std::string& scratch();
  void reset();
  void complete(Batch& batch, std::vector<PublishResult> results);
  void answerFinished();
  void answer(const Answer& answer, const Batch& batch);
  std::optional<ReasonCode> judge(const Answer& answer, const Batch& batch);
  std::optional<ReasonCode> judgeForBridge(const PublishResult& result);
  void answerExactlyOnce(const Answer& answer, const Batch& batch, ReasonCode code);
  void acknowledge(const Answer& answer, const Batch& batch, ReasonCode code);
  void released(uint16_t packetId, const Result<>& result);

  Link& link_;

  // Gathered, not yet with the broker. The vectors keep their memory from round to round.
  std::vector<Publish> gathered_;
  std::vector<Answer> answers_;
  size_t gatheredBytes_ = 0;
  /// Texts that the mapping had to make; their addresses stay put.
  std::vector<std::unique_ptr<std::string>> scratch_;
  size_t scratchUsed_ = 0;
  mapping::TextArena arena_;

  // Lists, since an empty deque takes half a kibibyte, and most connections are idle.
  std::list<std::shared_ptr<Batch>> waiting_;  ///< with the broker, in order
  size_t waitingRecords_ = 0;
  size_t waitingBytes_ = 0;
  /// Went to the broker at QoS 0 without asking for an answer, since the last that asked.
  size_t unaskedRecords_ = 0;
  size_t unaskedBytes_ = 0;

  std::list<HeldBack> heldBack_;
  size_t heldBackBytes_ = 0;
  std::unique_ptr<WaitHandle> space_;  ///< while something is held back

  std::unordered_map<uint16_t, Held> held_;
  size_t inFlight_ = 0;               ///< towards our receive maximum
  std::vector<std::string> aliases_;  ///< by alias - 1; empty = not set
};

}  // namespace polylog::mqtt
