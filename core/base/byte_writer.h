// Appends network-order integers, varints and strings to a std::string of its own.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "core/base/bytes.h"

namespace polylog {

class ByteWriter {
 public:
  ByteWriter() = default;
  explicit ByteWriter(std::string initial) : out_(std::move(initial)) {}

  size_t size() const { return out_.size(); }
  BytesView view() const { return out_; }
  std::string take() { return std::move(out_); }
  void reserve(size_t more) { out_.reserve(out_.size() + more); }
  void clear() { out_.clear(); }

  void u8(uint8_t v) { out_.push_back(static_cast<char>(v)); }
  void u16(uint16_t v) { bigEndian(v, 2); }
  void u32(uint32_t v) { bigEndian(v, 4); }
  void u64(uint64_t v) { bigEndian(v, 8); }
  void i8(int8_t v) { u8(static_cast<uint8_t>(v)); }
  void i16(int16_t v) { u16(static_cast<uint16_t>(v)); }
  void i32(int32_t v) { u32(static_cast<uint32_t>(v)); }
  void i64(int64_t v) { u64(static_cast<uint64_t>(v)); }

  void varuint(uint64_t v) {
    while (v >= 0x80U) {
      u8(static_cast<uint8_t>(v | 0x80U));
      v >>= 7;
    }
    u8(static_cast<uint8_t>(v));
  }
  /// Zigzag LEB128, as Kafka's varint and varlong.
  void varint(int64_t v) { varuint((static_cast<uint64_t>(v) << 1) ^ static_cast<uint64_t>(v >> 63)); }

  void bytes(BytesView v) { out_.append(v); }
  /// A u16 length and the octets. The caller has checked that the length fits.
  void bytes16(BytesView v) {
    u16(static_cast<uint16_t>(v.size()));
    bytes(v);
  }
  void bytes32(BytesView v) {
    u32(static_cast<uint32_t>(v.size()));
    bytes(v);
  }

  /// Overwrites four octets written earlier at `at` (a length known only now).
  void patchU32(size_t at, uint32_t v) {
    for (int i = 0; i < 4; ++i) out_[at + static_cast<size_t>(i)] = static_cast<char>(v >> (24 - 8 * i));
  }

 private:
  void bigEndian(uint64_t v, int width) {
    char raw[8];
    for (int i = 0; i < width; ++i) raw[i] = static_cast<char>(v >> (8 * (width - 1 - i)));
    out_.append(raw, static_cast<size_t>(width));
  }

  std::string out_;
};

}  // namespace polylog
