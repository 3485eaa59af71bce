#include "codecs/kafka/decoder.h"

#include "codecs/kafka/wire/primitives.h"

namespace polylog::kafka {
namespace {
/// Key, version, correlation id and a null client id.
constexpr int32_t kSmallestRequest = 10;
}  // namespace

FrameResult decodeFrame(BytesView input, size_t limit) {
  if (input.size() < kFrameLengthSize) return {};
  int32_t length = ByteReader(input).i32();
  if (length < kSmallestRequest || static_cast<size_t>(length) > limit) {
    return {FrameResult::Kind::kError, 0};
  }
  size_t whole = static_cast<size_t>(length) + kFrameLengthSize;
  return {input.size() < whole ? FrameResult::Kind::kNeedMore : FrameResult::Kind::kFrame, whole};
}

bool decodeRequestHeader(BytesView request, RequestHeader& out) {
  wire::Decoder in(request);
  out.apiKey = in.i16();
  out.version = in.i16();
  out.correlationId = in.i32();
  // Never of compact length, not in header version 2 either.
  out.clientId = in.nullableString(false).value_or(BytesView());
  out.body = in.rest();
  return in.ok();
}

bool skipHeaderTags(RequestHeader& header) {
  wire::Decoder in(header.body);
  in.skipTagged();
  header.body = in.rest();
  return in.ok();
}

}  // namespace polylog::kafka
