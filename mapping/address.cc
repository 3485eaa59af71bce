#include "mapping/address.h"

#include <array>
#include <cstdint>
#include <cstring>

namespace polylog::mapping {
namespace {

constexpr BytesView kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr uint8_t kNoDigit = 0xFF;

constexpr std::array<uint8_t, 256> kDigits = [] {
  std::array<uint8_t, 256> digits{};
  digits.fill(kNoDigit);
  for (size_t i = 0; i < kAlphabet.size(); ++i) {
    digits[static_cast<uint8_t>(kAlphabet[i])] = static_cast<uint8_t>(i);
  }
  return digits;
}();

void appendBase64Url(BytesView in, std::string& out) {
  out.reserve(out.size() + (in.size() * 4 + 2) / 3);
  uint32_t bits = 0;
  int held = 0;
  for (char c : in) {
    bits = (bits << 8) | static_cast<uint8_t>(c);
    held += 8;
    while (held >= 6) {
      held -= 6;
      out.push_back(kAlphabet[(bits >> held) & 63U]);
    }
  }
  if (held > 0) out.push_back(kAlphabet[(bits << (6 - held)) & 63U]);
}

/// Strict: no padding, no foreign octets, and the bits left over zero, so that every text has at
/// most one encoded form.
std::optional<std::string> decodeBase64Url(BytesView in) {
  if (in.size() % 4 == 1) return std::nullopt;
  std::string out;
  out.reserve(in.size() * 3 / 4);
  uint32_t bits = 0;
  int held = 0;
  for (char c : in) {
    uint8_t digit = kDigits[static_cast<uint8_t>(c)];
    if (digit == kNoDigit) return std::nullopt;
    bits = (bits << 6) | digit;
    held += 6;
    if (held >= 8) {
      held -= 8;
      out.push_back(static_cast<char>(bits >> held));
    }
  }
  if ((bits & ((1U << held) - 1)) != 0) return std::nullopt;
  return out;
}

bool continues(BytesView s, size_t at, size_t n) {
  if (s.size() - at <= n) return false;
  for (size_t i = 1; i <= n; ++i) {
    if ((static_cast<uint8_t>(s[at + i]) & 0xC0U) != 0x80U) return false;
  }
  return true;
}

/// The length of the well-formed sequence at `at`, whose first octet is not ASCII; 0 if there is
/// none (Unicode, table 3-7).
size_t sequenceLength(BytesView s, size_t at) {
  auto lead = static_cast<uint8_t>(s[at]);
  auto second = at + 1 < s.size() ? static_cast<uint8_t>(s[at + 1]) : uint8_t{0};
  if (lead >= 0xC2 && lead <= 0xDF) return continues(s, at, 1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    if (!continues(s, at, 2)) return 0;
    if (lead == 0xE0 && second < 0xA0) return 0;  // overlong
    if (lead == 0xED && second > 0x9F) return 0;  // surrogate
    return 3;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    if (!continues(s, at, 3)) return 0;
    if (lead == 0xF0 && second < 0x90) return 0;  // overlong
    if (lead == 0xF4 && second > 0x8F) return 0;  // beyond U+10FFFF
    return 4;
  }
  return 0;
}

/// Whether a header's name or value has to be marked. `nullable`: kNullText means something.
bool needsMark(BytesView value, bool nullable) {
  if (!isText(value)) return true;
  if (!isMarked(value)) return false;
  if (nullable && value == kNullText) return true;
  // Every decoding is shorter by more than a quarter, so this ends soon.
  std::optional<std::string> inner = decodeMarked(value);
  return inner && needsMark(*inner, nullable);
}

BytesView marked(BytesView value, bool nullable, TextArena& arena) {
  if (!needsMark(value, nullable)) return value;
  std::string text;
  appendMarked(value, text);
  return arena.keep(std::move(text));
}

BytesView unmarked(BytesView text, bool nullable, TextArena& arena) {
  std::optional<std::string> inner = decodeMarked(text);
  if (!inner || !needsMark(*inner, nullable)) return text;
  return arena.keep(std::move(*inner));
}

}  // namespace

Address splitAddress(BytesView text) {
  size_t slash = text.find('/');
  if (slash == BytesView::npos) return {text, std::nullopt};
  return {text.substr(0, slash), text.substr(slash + 1)};
}

void appendAddress(const Address& address, std::string& out) {
  out.append(address.topic);
  if (!address.key) return;
  out.push_back('/');
  out.append(*address.key);
}

bool sameAddress(const Address& a, const Address& b) {
  return a.topic == b.topic && a.key == b.key;
}

bool canonicalTopicPossible(BytesView topic) {
  return !topic.starts_with('$') && topic.find('/') == BytesView::npos;
}

void appendMarked(BytesView name, std::string& out) {
  out.append(kNameMarker);
  appendBase64Url(name, out);
}

std::optional<std::string> decodeMarked(BytesView marked) {
  if (!isMarked(marked)) return std::nullopt;
  return decodeBase64Url(marked.substr(kNameMarker.size()));
}

bool isText(BytesView bytes) {
  constexpr uint64_t kHighBits = 0x8080808080808080U;
  constexpr uint64_t kOnes = 0x0101010101010101U;
  size_t i = 0;
  while (i < bytes.size()) {
    if (bytes.size() - i >= 8) {
      uint64_t word;
      std::memcpy(&word, bytes.data() + i, 8);
      // Eight octets at once if all are ASCII and none is zero.
      if ((word & kHighBits) == 0 && ((word - kOnes) & kHighBits) == 0) {
        i += 8;
        continue;
      }
    }
    auto octet = static_cast<uint8_t>(bytes[i]);
    if (octet == 0) return false;
    size_t length = octet < 0x80 ? 1 : sequenceLength(bytes, i);
    if (length == 0) return false;
    i += length;
  }
  return true;
}

bool isUtf8(BytesView bytes) {
  for (size_t zero = bytes.find('\0'); zero != BytesView::npos; zero = bytes.find('\0')) {
    if (!isText(bytes.substr(0, zero))) return false;
    bytes.remove_prefix(zero + 1);
  }
  return isText(bytes);
}

BytesView textOf(const std::optional<BytesView>& value, TextArena& arena) {
  return value ? marked(*value, true, arena) : kNullText;
}

std::optional<BytesView> valueOfText(BytesView text, TextArena& arena) {
  if (text == kNullText) return std::nullopt;
  return unmarked(text, true, arena);
}

BytesView textOfName(BytesView name, TextArena& arena) {
  return marked(name, false, arena);
}

BytesView nameOfText(BytesView text, TextArena& arena) {
  return unmarked(text, false, arena);
}

}  // namespace polylog::mapping
