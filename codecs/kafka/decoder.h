// Frames and request headers. A frame is a length and a request; a request begins with its
// header (version 1, or 2 with tagged fields) and goes on with a body that wire/ decodes. Bytes in,
// values out; thread-free.
#pragma once

#include <cstdint>

#include "core/base/bytes.h"

namespace polylog::kafka {

struct FrameResult {
  enum class Kind : uint8_t { kNeedMore, kFrame, kError };
  Kind kind = Kind::kNeedMore;
  /// Octets of the whole frame, its length field included; 0 while that is not known.
  size_t size = 0;
};

inline constexpr size_t kFrameLengthSize = 4;

/// Looks at the front of `input`. kError: the length is negative, less than a header's or over
/// `limit`.
FrameResult decodeFrame(BytesView input, size_t limit);

struct RequestHeader {
  int16_t apiKey = -1;
  int16_t version = 0;
  int32_t correlationId = 0;
  BytesView clientId;  ///< a view of the frame; empty if null
  BytesView body;
};

/// Reads the part of the header that all its versions have; `body` is what follows. False if it is
/// cut short.
bool decodeRequestHeader(BytesView request, RequestHeader& out);
/// Takes header version 2's tagged fields off the body. False if malformed.
bool skipHeaderTags(RequestHeader& header);

}  // namespace polylog::kafka
