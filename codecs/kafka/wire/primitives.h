// The primitive types of Kafka's protocol, read and written. Decoder adds to ByteReader's sticky
// failure a budget of array elements for one message, so that no request makes us allocate more
// than its octets and the budget justify. Views that come out are views of the input. Used by the
// generated code; thread-free.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"
#include "core/base/bytes.h"

namespace polylog::kafka::wire {

using Uuid = std::array<uint8_t, 16>;

/// Record batches: octets at hand, or `later` octets that the sender puts at the place that
/// Encoder::cuts names.
struct Records {
  std::optional<BytesView> bytes;
  size_t later = 0;
  bool operator==(const Records&) const = default;
};

/// Array elements in one message, all arrays together.
inline constexpr size_t kMaxElements = 256 * 1024;

class Decoder : public ByteReader {
 public:
  explicit Decoder(BytesView bytes, size_t elements = kMaxElements)
      : ByteReader(bytes), elements_(elements) {}

  bool boolean() { return u8() != 0; }
  double f64() { return std::bit_cast<double>(u64()); }
  Uuid uuid();
  /// Not null: null fails. `flexible`: compact lengths.
  BytesView string(bool flexible);
  std::optional<BytesView> nullableString(bool flexible);
  BytesView blob(bool flexible);
  std::optional<BytesView> nullableBlob(bool flexible);
  Records records(bool flexible) { return {nullableBlob(flexible), 0}; }
  /// How many elements of at least `smallest` (>= 1) octets follow.
  size_t arrayCount(bool flexible, size_t smallest);
  std::optional<size_t> nullableArrayCount(bool flexible, size_t smallest);

  /// Calls `field(tag, decoder of its octets)` for each tagged field; it returns false for tags
  /// that it doesn't know, which are skipped.
  template <class Field>
  void tagged(Field field) {
    uint32_t fields = varuint32();
    for (uint32_t i = 0; i < fields && ok(); ++i) {
      uint32_t tag = varuint32();
      Decoder part(bytes(varuint32()), elements_);
      if (!ok() || !field(tag, part)) continue;
      elements_ = part.elements_;
      if (!part.ok()) fail();
    }
  }
  void skipTagged() {
    tagged([](uint32_t, Decoder&) { return false; });
  }

 private:
  std::optional<BytesView> sized(int64_t length);

  size_t elements_;
};

class Encoder : public ByteWriter {
 public:
  void boolean(bool v) { u8(v ? 1 : 0); }
  void f64(double v) { u64(std::bit_cast<uint64_t>(v)); }
  void uuid(const Uuid& v) { bytes({reinterpret_cast<const char*>(v.data()), v.size()}); }
  /// Without compact lengths no more than 32,767 octets can be said; what is longer is cut.
  void string(BytesView v, bool flexible);
  void nullableString(const std::optional<BytesView>& v, bool flexible);
  void blob(BytesView v, bool flexible);
  void nullableBlob(const std::optional<BytesView>& v, bool flexible);
  void records(const Records& v, bool flexible);
  void arrayCount(size_t count, bool flexible);
  void nullArray(bool flexible);
  void tag(uint32_t number, BytesView octets) {
    varuint(number);
    varuint(octets.size());
    bytes(octets);
  }

  /// Where the octets of each Records::later belong, in order.
  std::vector<size_t> cuts;
};

}  // namespace polylog::kafka::wire
