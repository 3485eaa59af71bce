#include "core/net/websocket_frame.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace polylog {
namespace {

constexpr unsigned kFinal = 0x80;
constexpr unsigned kReserved = 0x70;
constexpr unsigned kMasked = 0x80;
constexpr unsigned kLength16 = 126;
constexpr unsigned kLength64 = 127;

unsigned octet(BytesView bytes, size_t at) {
  return static_cast<unsigned char>(bytes[at]);
}

uint64_t bigEndian(BytesView bytes, size_t at, size_t count) {
  uint64_t value = 0;
  for (size_t i = 0; i < count; ++i) value = value << 8 | octet(bytes, at + i);
  return value;
}

WebSocketFrameResult bad(const char* why) {
  return {WebSocketFrameResult::Outcome::kBad, {}, why};
}

/// What the first two octets alone show to be wrong; null if nothing.
const char* faultOf(unsigned first, unsigned second) {
  unsigned opcode = first & 0x0FU;
  if ((first & kReserved) != 0) return "a reserved bit is set";
  if ((opcode > 2 && opcode < 8) || opcode > 10) return "there is no such opcode";
  if ((second & kMasked) == 0) return "the client's frame has no mask";
  if (opcode < 8) return nullptr;
  if ((first & kFinal) == 0) return "a control frame is fragmented";
  if ((second & ~kMasked) > kMaxControlPayload) return "a control frame is too long";
  return nullptr;
}

}  // namespace

WebSocketFrameResult readFrameHeader(BytesView input) {
  if (input.size() < 2) return {};
  unsigned first = octet(input, 0);
  unsigned second = octet(input, 1);
  if (const char* why = faultOf(first, second)) return bad(why);
  unsigned length = second & ~kMasked;
  size_t lengthSize = length == kLength16 ? 2 : length == kLength64 ? 8 : 0;
  WebSocketFrame frame;
  frame.opcode = static_cast<WebSocketOpcode>(first & 0x0FU);
  frame.final = (first & kFinal) != 0;
  frame.headerSize = 2 + lengthSize + frame.mask.size();
  if (input.size() < frame.headerSize) return {};
  frame.payloadSize = lengthSize == 0 ? length : bigEndian(input, 2, lengthSize);
  if ((lengthSize == 2 && frame.payloadSize < kLength16) ||
      (lengthSize == 8 && frame.payloadSize <= UINT16_MAX)) {
    return bad("a length isn't in its shortest form");
  }
  if (frame.payloadSize > INT64_MAX) return bad("a length has its highest bit set");
  std::memcpy(frame.mask.data(), input.data() + 2 + lengthSize, frame.mask.size());
  return {WebSocketFrameResult::Outcome::kFrame, frame, ""};
}

void applyMask(char* to, const char* from, size_t size, const std::array<char, 4>& mask,
               uint64_t phase) {
  std::array<char, 8> turned;
  for (size_t i = 0; i < turned.size(); ++i) turned[i] = mask[(phase + i) % mask.size()];
  auto wide = std::bit_cast<uint64_t>(turned);
  size_t at = 0;
  for (; at + sizeof wide <= size; at += sizeof wide) {
    uint64_t word = 0;
    std::memcpy(&word, from + at, sizeof word);
    word ^= wide;
    std::memcpy(to + at, &word, sizeof word);
  }
  for (; at < size; ++at) to[at] = static_cast<char>(from[at] ^ turned[at % turned.size()]);
}

size_t writeFrameHeader(WebSocketOpcode opcode, uint64_t payloadSize,
                        std::array<char, kMaxServerFrameHeader>& out) {
  out[0] = static_cast<char>(kFinal | static_cast<unsigned>(opcode));
  size_t lengthSize = payloadSize < kLength16 ? 0 : payloadSize <= UINT16_MAX ? 2 : 8;
  out[1] = static_cast<char>(lengthSize == 0   ? payloadSize
                             : lengthSize == 2 ? kLength16
                                               : kLength64);
  for (size_t i = 0; i < lengthSize; ++i) {
    out[2 + i] = static_cast<char>(payloadSize >> 8 * (lengthSize - 1 - i));
  }
  return 2 + lengthSize;
}

uint16_t closeCodeOf(BytesView payload) {
  if (payload.empty()) return static_cast<uint16_t>(WebSocketClose::kNone);
  constexpr auto kBad = static_cast<uint16_t>(WebSocketClose::kProtocolError);
  if (payload.size() < 2) return kBad;
  auto code = static_cast<uint16_t>(bigEndian(payload, 0, 2));
  bool sendable = (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
                  (code >= 3000 && code < 5000);
  return sendable ? code : kBad;
}

}  // namespace polylog
