// Reads network-order integers, varints and strings from octets that nobody has checked.
// Failure is sticky: a read past the end returns zero or empty and so does every later one; the
// caller asks ok() once, at the end. Never allocates, never throws, never reads out of bounds.
#pragma once

#include <cstdint>

#include "core/base/bytes.h"

namespace polylog {

class ByteReader {
 public:
  explicit ByteReader(BytesView bytes) : rest_(bytes) {}

  bool ok() const { return ok_; }
  /// True when every read succeeded and nothing is left over.
  bool complete() const { return ok_ && rest_.empty(); }
  size_t remaining() const { return rest_.size(); }
  BytesView rest() const { return rest_; }
  /// Marks the input as bad: for checks of the caller's own.
  void fail() {
    ok_ = false;
    rest_ = {};
  }

  uint8_t u8() { return static_cast<uint8_t>(bigEndian(1)); }
  uint16_t u16() { return static_cast<uint16_t>(bigEndian(2)); }
  uint32_t u32() { return static_cast<uint32_t>(bigEndian(4)); }
  uint64_t u64() { return bigEndian(8); }
  int8_t i8() { return static_cast<int8_t>(u8()); }
  int16_t i16() { return static_cast<int16_t>(u16()); }
  int32_t i32() { return static_cast<int32_t>(u32()); }
  int64_t i64() { return static_cast<int64_t>(u64()); }

  /// Unsigned LEB128 of at most `maxBits` value bits (32 or 64). Longer forms fail.
  uint64_t varuint(int maxBits = 64);
  uint32_t varuint32() { return static_cast<uint32_t>(varuint(32)); }
  /// Zigzag LEB128, as Kafka's varint and varlong.
  int32_t varint32() {
    uint32_t raw = varuint32();
    return static_cast<int32_t>((raw >> 1) ^ (~(raw & 1) + 1));
  }
  int64_t varint64() {
    uint64_t raw = varuint(64);
    return static_cast<int64_t>((raw >> 1) ^ (~(raw & 1) + 1));
  }

  /// The next `length` octets, a view into the input.
  BytesView bytes(size_t length);
  /// A u16 length, then that many octets (MQTT strings; Kafka strings that are not nullable).
  BytesView bytes16() { return bytes(u16()); }
  BytesView bytes32() { return bytes(u32()); }
  void skip(size_t length) { bytes(length); }

  /// An element count from the wire, for loops and reserve(): fails when the rest of the input
  /// cannot hold that many elements of `smallestElement` (>= 1) octets.
  size_t count(uint64_t claimed, size_t smallestElement);

 private:
  uint64_t bigEndian(size_t width);

  BytesView rest_;
  bool ok_ = true;
};

}  // namespace polylog
