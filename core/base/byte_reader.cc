#include "core/base/byte_reader.h"

namespace polylog {

uint64_t ByteReader::bigEndian(size_t width) {
  BytesView raw = bytes(width);
  uint64_t value = 0;
  for (char c : raw) value = (value << 8) | static_cast<uint8_t>(c);
  return value;
}

uint64_t ByteReader::varuint(int maxBits) {
  // Nearly all are lengths and deltas of one octet.
  if (!rest_.empty() && (static_cast<uint8_t>(rest_.front()) & 0x80U) == 0) {
    auto octet = static_cast<uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return octet;
  }
  uint64_t value = 0;
  for (int shift = 0; shift < maxBits; shift += 7) {
    uint8_t octet = u8();
    uint64_t bits = octet & 0x7FU;
    // The last octet may only carry the bits that are left.
    if (shift + 7 > maxBits && (bits >> (maxBits - shift)) != 0) break;
    value |= bits << shift;
    if ((octet & 0x80U) == 0) return ok_ ? value : 0;
  }
  fail();
  return 0;
}

BytesView ByteReader::bytes(size_t length) {
  if (length > rest_.size()) {
    fail();
    return {};
  }
  BytesView taken = rest_.substr(0, length);
  rest_.remove_prefix(length);
  return taken;
}

size_t ByteReader::count(uint64_t claimed, size_t smallestElement) {
  if (claimed > rest_.size() / smallestElement) {
    fail();
    return 0;
  }
  return static_cast<size_t>(claimed);
}

}  // namespace polylog
