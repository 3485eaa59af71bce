// Which deliveries at QoS 1 and 2 are on their way to the client, by delivery id, and what the
// client still owes for each. Packet identifiers follow from ids (id modulo 65,535, plus one), so
// nothing has to be looked up: a ring of one octet an id, as wide as the ids in flight span. No
// I/O.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "codecs/mqtt/limits.h"

namespace polylog::mqtt {

class InFlight {
 public:
  enum class Stage : uint8_t {
    kNone,       ///< not in flight: acknowledged, or never taken
    kSentQos1,   ///< PUBACK is due
    kSentQos2,   ///< PUBREC is due
    kAccepting,  ///< PUBREC came; waits for the broker before PUBREL
    kReleased,   ///< PUBREL sent, PUBCOMP is due
  };

  static uint16_t packetId(int64_t id) { return static_cast<uint16_t>(id % kPacketIds + 1); }

  bool empty() const { return count_ == 0; }
  /// Octets between the oldest id in flight and the newest.
  size_t span() const { return count_; }

  /// The id below which deliveries may be taken, so that those in flight span at most `window`.
  /// `acknowledgedUpTo`: the session's, for when nothing is in flight.
  int64_t idLimit(int64_t acknowledgedUpTo, int64_t window) const {
    return (empty() ? acknowledgedUpTo : base_) + window;
  }

  /// Ids come in rising order.
  void add(int64_t id, Stage stage) {
    if (empty()) base_ = id;
    while (base_ + static_cast<int64_t>(count_) < id) push(Stage::kNone);
    push(stage);
  }

  /// The id in flight under a packet identifier.
  std::optional<int64_t> find(uint16_t packet) const {
    if (empty() || packet == 0) return std::nullopt;
    const int64_t ahead = (packet - 1 - base_ % kPacketIds + kPacketIds) % kPacketIds;
    if (ahead >= static_cast<int64_t>(count_)) return std::nullopt;
    const int64_t id = base_ + ahead;
    return stage(id) == Stage::kNone ? std::nullopt : std::optional(id);
  }

  Stage stage(int64_t id) const {
    return id < base_ || id >= base_ + static_cast<int64_t>(count_) ? Stage::kNone : ring_[at(id)];
  }
  /// Only for ids whose stage is not kNone.
  void setStage(int64_t id, Stage stage) { ring_[at(id)] = stage; }
  void finish(int64_t id) {
    setStage(id, Stage::kNone);
    while (count_ > 0 && ring_[head_] == Stage::kNone) {
      head_ = (head_ + 1) & (ring_.size() - 1);
      ++base_;
      --count_;
    }
  }

 private:
  size_t at(int64_t id) const {
    return (head_ + static_cast<size_t>(id - base_)) & (ring_.size() - 1);
  }
  void push(Stage stage) {
    if (count_ == ring_.size()) grow();
    ring_[(head_ + count_) & (ring_.size() - 1)] = stage;
    ++count_;
  }
  void grow() {
    std::vector<Stage> wider(ring_.empty() ? 16 : ring_.size() * 2);
    for (size_t i = 0; i < count_; ++i) wider[i] = ring_[(head_ + i) & (ring_.size() - 1)];
    ring_.swap(wider);
    head_ = 0;
  }

  std::vector<Stage> ring_;  ///< a power of two, or empty
  size_t head_ = 0;
  size_t count_ = 0;
  int64_t base_ = 0;  ///< the id at head_
};

}  // namespace polylog::mqtt
