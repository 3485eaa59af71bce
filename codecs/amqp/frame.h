// Frames (AMQP 0-9-1, 4.2.3): an octet of type, a channel, a length, the payload, 0xCE. Pure
// functions.
#pragma once

#include <cstdint>

#include "core/base/byte_writer.h"
#include "core/base/bytes.h"

namespace polylog::amqp {

enum class FrameType : uint8_t { kMethod = 1, kHeader = 2, kBody = 3, kHeartbeat = 8 };

inline constexpr size_t kFrameOverhead = 8;  ///< type, channel, length and end
inline constexpr size_t kFrameHeader = 7;
inline constexpr uint8_t kFrameEnd = 0xCE;
inline constexpr BytesView kProtocolHeader{"AMQP\0\0\x09\x01", 8};

struct Frame {
  FrameType type = FrameType::kMethod;
  uint16_t channel = 0;
  BytesView payload;
  size_t size = 0;  ///< of the whole frame
};

enum class FrameError : uint8_t {
  kNone,
  kIncomplete,  ///< `wanted` octets are needed in all (0 = not known yet)
  kTooLarge,    ///< longer than the frame size agreed on
  kBadEnd,      ///< the last octet is not 0xCE
  kBadType,
};

struct FrameResult {
  FrameError error = FrameError::kNone;
  Frame frame;       ///< valid for kNone; type and channel also for kTooLarge and kBadEnd
  uint8_t type = 0;  ///< as it came, for error texts
  uint8_t end = 0;   ///< the octet in place of 0xCE
  size_t wanted = 0;
};

/// The frame at the front of `input`. `maxFrame` counts the overhead (as frame-max does).
FrameResult readFrame(BytesView input, size_t maxFrame);

/// Begins a frame; returns where, for endFrame(), which fills in the length and adds the end.
size_t beginFrame(FrameType type, uint16_t channel, ByteWriter& out);
void endFrame(size_t at, ByteWriter& out);

}  // namespace polylog::amqp
