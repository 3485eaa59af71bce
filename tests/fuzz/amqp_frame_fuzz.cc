// Any octets as a stream of AMQP frames: never out of bounds, and methods, content headers and
// properties that are taken come back the same from what we write of them.
#include <cstdint>
#include <variant>

#include "codecs/amqp/content.h"
#include "codecs/amqp/frame.h"
#include "codecs/amqp/methods.h"
#include "tests/fuzz/check.h"

namespace {

using namespace polylog;
using namespace polylog::amqp;
using polylog::test::check;

constexpr size_t kMaxFrame = 131'072;

void runMethod(BytesView payload) {
  const auto decoded = decodeMethod(payload);
  const MethodId id = idOf(payload);
  if (!decoded) {
    check((decoded.error().kind == ErrorKind::kNotFound) ==
          (payload.size() >= 4 && methodName(id).empty()));
    return;
  }
  std::visit(
      [&]<class M>(const M& method) {
        check(id == MethodId{M::kClassId, M::kMethodId});
        ByteWriter once;
        encode(method, once);
        const auto again = decodeMethod(once.view());
        check(again && std::get<M>(*again) == method);
      },
      *decoded);
}

void runHeader(BytesView payload) {
  const auto header = decodeContentHeader(payload);
  if (!header) return;
  const auto properties = decodeProperties(header->properties);
  if (!properties) return;
  ByteWriter once;
  encodeProperties(*properties, once);
  check(once.view() == header->properties);
}

void run(const FrameResult& result, BytesView input) {
  const Frame& frame = result.frame;
  check(frame.size >= kFrameOverhead && frame.size <= input.size() && frame.size <= kMaxFrame);
  if (frame.type == FrameType::kMethod) runMethod(frame.payload);
  if (frame.type == FrameType::kHeader) runHeader(frame.payload);
  ByteWriter once;
  const size_t at = beginFrame(frame.type, frame.channel, once);
  once.bytes(frame.payload);
  endFrame(at, once);
  check(once.view() == input.substr(0, frame.size));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  BytesView input(reinterpret_cast<const char*>(data), size);
  for (;;) {
    const FrameResult result = readFrame(input, kMaxFrame);
    if (result.error == FrameError::kIncomplete) {
      check(result.wanted == 0 ? input.size() < kFrameHeader : result.wanted > input.size());
    }
    if (result.error != FrameError::kNone) return 0;
    run(result, input);
    input.remove_prefix(result.frame.size);
  }
}
