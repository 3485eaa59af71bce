// WebSocket frames (RFC 6455, section 5) as a server reads and writes them: headers and masks; the
// payload passes by the side. Pure, allocates nothing. Any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/base/bytes.h"

namespace polylog {

enum class WebSocketOpcode : uint8_t {
  kContinuation = 0,
  kText = 1,
  kBinary = 2,
  kClose = 8,
  kPing = 9,
  kPong = 10,
};

/// The codes that a close frame gives as reason.
enum class WebSocketClose : uint16_t {
  kNormal = 1000,
  kGoingAway = 1001,
  kProtocolError = 1002,
  kUnsupportedData = 1003,
  kNone = 1005,  ///< never sent: the peer's close frame has no code
};

/// The most that a control frame carries.
constexpr size_t kMaxControlPayload = 125;
/// The longest header of a frame that a server sends.
constexpr size_t kMaxServerFrameHeader = 10;

struct WebSocketFrame {
  WebSocketOpcode opcode = WebSocketOpcode::kBinary;
  bool final = true;
  size_t headerSize = 0;
  uint64_t payloadSize = 0;
  std::array<char, 4> mask{};
};

struct WebSocketFrameResult {
  enum class Outcome : uint8_t { kNeedMore, kFrame, kBad };
  Outcome outcome = Outcome::kNeedMore;
  WebSocketFrame frame;
  const char* why = "";  ///< if kBad: what is wrong, a protocol error
};

/// The header of the client's frame at the front of `input`. Refuses reserved bits and opcodes,
/// missing masks, lengths not in their shortest form, and control frames that are long or
/// fragmented.
WebSocketFrameResult readFrameHeader(BytesView input);

/// Removes (or adds) the mask of `size` octets that begin `phase` octets into the payload. `to` may
/// be `from`.
void applyMask(char* to, const char* from, size_t size, const std::array<char, 4>& mask,
               uint64_t phase);

/// Writes the header of an unmasked, unfragmented frame; returns its size.
size_t writeFrameHeader(WebSocketOpcode opcode, uint64_t payloadSize,
                        std::array<char, kMaxServerFrameHeader>& out);

/// The code in a close frame's (unmasked) payload, kNone if it is empty; kProtocolError if it is
/// one that mustn't be sent.
uint16_t closeCodeOf(BytesView payload);

}  // namespace polylog
