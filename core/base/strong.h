// Integers that do not mix: an Offset is not a Position, and neither is a count.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace polylog {

/// An integer of type Rep that only meets its own kind. Differences are plain Rep.
template <class Tag, class Rep>
class Strong {
 public:
  using Value = Rep;
  constexpr Strong() = default;
  constexpr explicit Strong(Rep value) : value_(value) {}
  constexpr Rep value() const { return value_; }
  constexpr auto operator<=>(const Strong&) const = default;
  constexpr Strong operator+(Rep n) const { return Strong(static_cast<Rep>(value_ + n)); }
  constexpr Strong operator-(Rep n) const { return Strong(static_cast<Rep>(value_ - n)); }
  constexpr Rep operator-(Strong other) const { return static_cast<Rep>(value_ - other.value_); }
  constexpr Strong& operator+=(Rep n) { return *this = *this + n; }
  constexpr Strong& operator++() { return *this += 1; }

 private:
  Rep value_{};
};

/// A record's number in one partition: dense, from 0.
using Offset = Strong<struct OffsetTag, int64_t>;
/// A logical place in the journal. Permanent: rewriting a segment does not change it.
using Position = Strong<struct PositionTag, uint64_t>;
/// A partition (of a topic), queue or inbox: every ordered view of the journal has one.
using PartitionId = Strong<struct PartitionIdTag, uint64_t>;
/// Who produced idempotently (Kafka). -1 = nobody.
using ProducerId = Strong<struct ProducerIdTag, int64_t>;
/// Rises at every start of the broker.
using LeaderEpoch = Strong<struct LeaderEpochTag, int32_t>;

}  // namespace polylog

template <class Tag, class Rep>
struct std::hash<polylog::Strong<Tag, Rep>> {
  size_t operator()(polylog::Strong<Tag, Rep> v) const noexcept {
    // Ids are handed out in sequence; spread them (Fibonacci hashing).
    return static_cast<size_t>(static_cast<uint64_t>(v.value()) * 0x9E3779B97F4A7C15ULL);
  }
};
