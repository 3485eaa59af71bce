#include "codecs/kafka/wire/primitives.h"

#include <algorithm>

namespace polylog::kafka::wire {
namespace {
constexpr size_t kLongestString = 32767;
}

// ---- Decoder

Uuid Decoder::uuid() {
  Uuid id{};
  BytesView raw = bytes(id.size());
  std::copy(raw.begin(), raw.end(), id.begin());
  return id;
}

/// The octets of something whose length, -1 for null, is known. Other negative lengths fail.
std::optional<BytesView> Decoder::sized(int64_t length) {
  if (length == -1) return std::nullopt;
  if (length < 0) {
    fail();
    return std::nullopt;
  }
  return bytes(static_cast<size_t>(length));
}

std::optional<BytesView> Decoder::nullableString(bool flexible) {
  return sized(flexible ? int64_t{varuint32()} - 1 : i16());
}

std::optional<BytesView> Decoder::nullableBlob(bool flexible) {
  return sized(flexible ? int64_t{varuint32()} - 1 : i32());
}

BytesView Decoder::string(bool flexible) {
  std::optional<BytesView> v = nullableString(flexible);
  if (!v) fail();
  return v.value_or(BytesView());
}

BytesView Decoder::blob(bool flexible) {
  std::optional<BytesView> v = nullableBlob(flexible);
  if (!v) fail();
  return v.value_or(BytesView());
}

std::optional<size_t> Decoder::nullableArrayCount(bool flexible, size_t smallest) {
  int64_t claimed = flexible ? int64_t{varuint32()} - 1 : i32();
  if (!ok() || claimed == -1) return std::nullopt;
  if (claimed < 0 || static_cast<size_t>(claimed) > elements_) {
    fail();
    return std::nullopt;
  }
  size_t elements = count(static_cast<uint64_t>(claimed), smallest);
  elements_ -= elements;
  return elements;
}

size_t Decoder::arrayCount(bool flexible, size_t smallest) {
  std::optional<size_t> elements = nullableArrayCount(flexible, smallest);
  if (!elements) fail();
  return elements.value_or(0);
}

// ---- Encoder

void Encoder::string(BytesView v, bool flexible) {
  if (flexible) {
    varuint(v.size() + 1);
    bytes(v);
  } else {
    bytes16(v.substr(0, kLongestString));
  }
}

void Encoder::nullableString(const std::optional<BytesView>& v, bool flexible) {
  if (v) return string(*v, flexible);
  flexible ? varuint(0) : i16(-1);
}

void Encoder::blob(BytesView v, bool flexible) {
  if (flexible) {
    varuint(v.size() + 1);
    bytes(v);
  } else {
    bytes32(v);
  }
}

void Encoder::nullableBlob(const std::optional<BytesView>& v, bool flexible) {
  if (v) return blob(*v, flexible);
  flexible ? varuint(0) : i32(-1);
}

void Encoder::records(const Records& v, bool flexible) {
  if (v.later == 0) return nullableBlob(v.bytes, flexible);
  flexible ? varuint(v.later + 1) : i32(static_cast<int32_t>(v.later));
  cuts.push_back(size());
}

void Encoder::arrayCount(size_t count, bool flexible) {
  flexible ? varuint(count + 1) : i32(static_cast<int32_t>(count));
}

void Encoder::nullArray(bool flexible) {
  flexible ? varuint(0) : i32(-1);
}

}  // namespace polylog::kafka::wire
