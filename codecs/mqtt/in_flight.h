// Which deliveries at QoS 1 and 2 are on their way to the client, by delivery id, and what the
// client still owes for each. A sequence of ids has a range of packet identifiers to itself, which
// follow from the ids (id modulo the range's size), so nothing has to be looked up: a ring of one
// octet an id, as wide as the ids in flight span. No I/O.
#pragma once

#include <algorithm>
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

  InFlight(uint16_t firstPacketId, int64_t packetIds) : first_(firstPacketId), ids_(packetIds) {}

  uint16_t packetId(int64_t id) const { return static_cast<uint16_t>(first_ + id % ids_); }
  /// Whether a packet identifier is of this range.
  bool owns(uint16_t packet) const { return packet >= first_ && packet - first_ < ids_; }

  bool empty() const { return count_ == 0; }
  /// How many are in flight. They may span more ids: what a client is slow to acknowledge doesn't
  /// hold up what follows.
  int64_t inFlight() const { return inFlight_; }

  /// The id below which deliveries may be taken, so that at most `window` are in flight and no two
  /// of them have one packet identifier. `acknowledgedUpTo`: the session's, for when nothing is.
  int64_t idLimit(int64_t acknowledgedUpTo, int64_t window) const {
    const int64_t oldest = empty() ? acknowledgedUpTo : base_;
    const int64_t next = oldest + static_cast<int64_t>(count_);
    return std::min(next + std::max<int64_t>(0, window - inFlight_), oldest + ids_ - 1);
  }

  /// Ids come in rising order.
  void add(int64_t id, Stage stage) {
    if (empty()) base_ = id;
    skip(id - 1);
    push(stage);
    ++inFlight_;
  }
  /// Ids up to `id` were taken and are through without having been sent.
  void skip(int64_t id) {
    if (empty()) return;
    while (base_ + static_cast<int64_t>(count_) <= id) push(Stage::kNone);
  }

  /// The id in flight under a packet identifier.
  std::optional<int64_t> find(uint16_t packet) const {
    if (empty() || !owns(packet)) return std::nullopt;
    const int64_t ahead = (packet - first_ - base_ % ids_ + ids_) % ids_;
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
    --inFlight_;
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

  const uint16_t first_;
  const int64_t ids_;
  std::vector<Stage> ring_;  ///< a power of two, or empty
  size_t head_ = 0;
  size_t count_ = 0;      ///< of ids, from base_ on
  int64_t inFlight_ = 0;  ///< of those, what isn't kNone
  int64_t base_ = 0;      ///< the id at head_
};

}  // namespace polylog::mqtt
