#include "codecs/amqp/frame.h"

#include "core/base/byte_reader.h"

namespace polylog::amqp {
namespace {

bool isFrameType(uint8_t type) {
  switch (static_cast<FrameType>(type)) {
    case FrameType::kMethod:
    case FrameType::kHeader:
    case FrameType::kBody:
    case FrameType::kHeartbeat: return true;
  }
  return false;
}

}  // namespace

FrameResult readFrame(BytesView input, size_t maxFrame) {
  FrameResult result;
  result.error = FrameError::kIncomplete;
  if (input.empty()) return result;
  ByteReader reader(input);
  result.type = reader.u8();
  // Before anything is waited for: what is no AMQP at all shows here.
  if (!isFrameType(result.type)) {
    result.error = FrameError::kBadType;
    return result;
  }
  Frame& frame = result.frame;
  frame.type = static_cast<FrameType>(result.type);
  frame.channel = reader.u16();
  const size_t length = reader.u32();
  if (!reader.ok()) return result;
  frame.size = kFrameOverhead + length;
  if (frame.size > maxFrame) {
    result.error = FrameError::kTooLarge;
    return result;
  }
  result.wanted = frame.size;
  if (input.size() < frame.size) return result;
  frame.payload = reader.bytes(length);
  result.end = reader.u8();
  result.error = result.end == kFrameEnd ? FrameError::kNone : FrameError::kBadEnd;
  return result;
}

size_t beginFrame(FrameType type, uint16_t channel, ByteWriter& out) {
  const size_t at = out.size();
  out.u8(static_cast<uint8_t>(type));
  out.u16(channel);
  out.u32(0);
  return at;
}

void endFrame(size_t at, ByteWriter& out) {
  const size_t length = out.size() - at - kFrameHeader;
  out.patchU32(at + kFrameHeader - sizeof(uint32_t), static_cast<uint32_t>(length));
  out.u8(kFrameEnd);
}

}  // namespace polylog::amqp
