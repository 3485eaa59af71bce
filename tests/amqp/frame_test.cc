#include "codecs/amqp/frame.h"

#include <gtest/gtest.h>

#include <string>

namespace polylog::amqp {
namespace {

using std::string_literals::operator""s;

constexpr size_t kMaxFrame = 4096;

std::string framed(FrameType type, uint16_t channel, BytesView payload) {
  ByteWriter out;
  const size_t at = beginFrame(type, channel, out);
  out.bytes(payload);
  endFrame(at, out);
  return out.take();
}

TEST(Frames, ProtocolHeaderIsEightOctets) {
  EXPECT_EQ(kProtocolHeader, "AMQP\0\0\11\1"s);
}

TEST(Frames, HeartbeatIsWhatTheSpecificationSays) {
  EXPECT_EQ(framed(FrameType::kHeartbeat, 0, ""), "\10\0\0\0\0\0\0\xCE"s);
}

TEST(Frames, ComeBackAndNeedEveryOctet) {
  for (const FrameType type :
       {FrameType::kMethod, FrameType::kHeader, FrameType::kBody, FrameType::kHeartbeat}) {
    const std::string wire = framed(type, 0x0102, "payload");
    for (size_t cut = 0; cut < wire.size(); ++cut) {
      const FrameResult part = readFrame(BytesView(wire).substr(0, cut), kMaxFrame);
      EXPECT_EQ(part.error, FrameError::kIncomplete) << cut;
      EXPECT_EQ(part.wanted, cut < kFrameHeader ? 0 : wire.size()) << cut;
    }
    const std::string more = wire + "more";
    const FrameResult whole = readFrame(more, kMaxFrame);
    ASSERT_EQ(whole.error, FrameError::kNone);
    EXPECT_EQ(whole.frame.type, type);
    EXPECT_EQ(whole.frame.channel, 0x0102);
    EXPECT_EQ(whole.frame.payload, "payload");
    EXPECT_EQ(whole.frame.size, wire.size());
  }
}

TEST(Frames, EndIsFilledInBehindOthers) {
  ByteWriter out;
  const size_t first = beginFrame(FrameType::kMethod, 1, out);
  out.bytes("ab");
  endFrame(first, out);
  const size_t second = beginFrame(FrameType::kBody, 2, out);
  EXPECT_EQ(second, 10U);
  endFrame(second, out);
  EXPECT_EQ(out.view(), "\1\0\1\0\0\0\2ab\xCE\3\0\2\0\0\0\0\xCE"s);
}

TEST(Frames, AreTooLargeAsSoonAsTheirLengthIsRead) {
  const std::string payload(kMaxFrame - kFrameOverhead, 'x');
  EXPECT_EQ(readFrame(framed(FrameType::kBody, 1, payload), kMaxFrame).error, FrameError::kNone);
  const std::string larger = framed(FrameType::kBody, 7, payload + 'x');
  const FrameResult refused = readFrame(BytesView(larger).substr(0, kFrameHeader), kMaxFrame);
  EXPECT_EQ(refused.error, FrameError::kTooLarge);
  EXPECT_EQ(refused.frame.type, FrameType::kBody);
  EXPECT_EQ(refused.frame.channel, 7);
  EXPECT_EQ(refused.frame.size, kMaxFrame + 1);
  EXPECT_EQ(readFrame("\1\0\1\xFF\xFF\xFF\xFF"s, kMaxFrame).error, FrameError::kTooLarge);
  EXPECT_EQ(readFrame("\1\0\1\xFF\xFF\xFF\xFF"s, SIZE_MAX).wanted, 0x100000007U);
}

TEST(Frames, EndHasToBeInItsPlace) {
  std::string wire = framed(FrameType::kMethod, 3, "abc");
  wire.back() = '\1';
  const FrameResult refused = readFrame(wire, kMaxFrame);
  EXPECT_EQ(refused.error, FrameError::kBadEnd);
  EXPECT_EQ(refused.frame.channel, 3);
  EXPECT_EQ(refused.end, 1);
}

TEST(Frames, UnknownTypesShowAtTheFirstOctet) {
  for (unsigned type = 0; type < 256; ++type) {
    const bool known = type == 1 || type == 2 || type == 3 || type == 8;
    const FrameResult result = readFrame(std::string(1, static_cast<char>(type)), kMaxFrame);
    EXPECT_EQ(result.error, known ? FrameError::kIncomplete : FrameError::kBadType) << type;
    EXPECT_EQ(result.type, type);
  }
}

}  // namespace
}  // namespace polylog::amqp
