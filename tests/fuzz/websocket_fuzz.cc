// A WebSocket from its first octet, in pieces: handshake, frames, control frames. Never out of
// bounds, nothing is sent after the end, and the session above gets no more than came.
//
// The first octet says into how large pieces the rest is cut, and whether the handshake is passed
// over by a good one.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "core/base/log.h"
#include "core/net/websocket_layer.h"
#include "tests/fuzz/check.h"
#include "tests/support/fake_transport.h"
#include "tests/support/manual_dispatcher.h"

namespace {

using namespace polylog;
using polylog::test::check;

constexpr BytesView kHandshake =
    "GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: mqtt\r\n\r\n";

/// Uses up all but the last octet, pauses now and then, and answers.
class Upper final : public ProtocolSession {
 public:
  Upper(Transport& transport, size_t& received) : transport_(transport), received_(received) {}
  size_t onBytes(const SharedBytes& input) override {
    transport_.handshakeDone();
    size_t used = input.size() > 1 ? input.size() - 1 : 0;
    received_ += used;
    transport_.send(input.view().substr(0, used));
    if (input.view().back() == 'P') transport_.pauseReading(true);
    if (input.view().back() == 'Q') transport_.close("quit");
    return used;
  }
  void onShutdown() override { transport_.close("shutdown"); }
  void onClosed(std::string_view /*why*/) override { transport_.send("no effect"); }

 private:
  Transport& transport_;
  size_t& received_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool quiet = (setLogLevel(LogLevel::kError), true);
  static_cast<void>(quiet);
  if (size == 0) return 0;
  BytesView input(reinterpret_cast<const char*>(data) + 1, size - 1);
  test::FakeClock clock;
  test::ManualDispatcher dispatcher(clock);
  test::FakeTransport lower(dispatcher);
  size_t received = 0;
  Transport* upper = nullptr;
  auto layer = webSocketSessions({}, {}, [&](Transport& transport) {
    upper = &transport;
    return std::make_unique<Upper>(transport, received);
  })(lower);
  std::string unread((data[0] & 0x80U) != 0 ? kHandshake : BytesView());
  size_t piece = std::max<size_t>(1, data[0] & 0x7FU);
  while (!lower.closed && !input.empty()) {
    if (lower.paused) {
      upper->pauseReading(false);
      dispatcher.runAll();
    }
    size_t count = std::min(piece, input.size());
    unread += input.substr(0, count);
    input.remove_prefix(count);
    if (lower.closed || lower.paused) continue;
    size_t used = layer->onBytes(SharedBytes::copyOf(unread));
    check(used <= unread.size());
    unread.erase(0, used);
    dispatcher.runAll();
  }
  check(received <= size);
  size_t sent = lower.sent.size();
  layer->onClosed("over");
  dispatcher.runAll();
  check(lower.sent.size() == sent);
  return 0;
}
