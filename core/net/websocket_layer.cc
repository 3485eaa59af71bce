#include "core/net/websocket_layer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/base/log.h"

namespace polylog {

using Outcome = WebSocketFrameResult::Outcome;

SessionFactory webSocketSessions(WebSocketOptions options, const LayerLimits& limits,
                                 SessionFactory inner) {
  auto shared = std::make_shared<const WebSocketOptions>(std::move(options));
  auto upper = std::make_shared<const SessionFactory>(std::move(inner));
  return [shared, limits, upper](Transport& lower) {
    return std::make_unique<WebSocketLayer>(lower, upper, limits, shared);
  };
}

// ---- From the peer

size_t WebSocketLayer::onBytes(const SharedBytes& input) {
  BytesView left = input.view();
  if (!upgraded_) shakeHands(left);
  while (upgraded_ && open() && !paused() && takeFrame(left)) {
  }
  rest();
  return input.size() - left.size();
}

void WebSocketLayer::shakeHands(BytesView& input) {
  Upgrade upgrade = readUpgrade(input, maxRequest_, *options_);
  if (upgrade.outcome == Upgrade::Outcome::kNeedMore) return;
  lower().send(upgrade.response);
  if (upgrade.outcome == Upgrade::Outcome::kRefused) {
    logInfo(fmt::format("{}: {}", peer(), upgrade.why));
    return close(upgrade.why);
  }
  input.remove_prefix(upgrade.used);
  upgraded_ = true;
  openUpper();
}

bool WebSocketLayer::takeFrame(BytesView& input) {
  if (inFrame_) return takePayload(input);
  WebSocketFrameResult result = readFrameHeader(input);
  if (result.outcome == Outcome::kNeedMore) return false;
  if (result.outcome == Outcome::kBad) {
    refuse(WebSocketClose::kProtocolError, result.why);
    return false;
  }
  const WebSocketFrame& frame = result.frame;
  if (frame.opcode >= WebSocketOpcode::kClose) return takeControl(frame, input);
  if (frame.opcode == WebSocketOpcode::kText) {
    // MQTT-6.0.0-1: control packets come in binary frames, and other data closes the connection.
    refuse(WebSocketClose::kUnsupportedData, "a text frame, where only binary ones may be");
    return false;
  }
  if ((frame.opcode == WebSocketOpcode::kContinuation) != inMessage_) {
    refuse(WebSocketClose::kProtocolError,
           inMessage_ ? "a message begins within another" : "a continuation of nothing");
    return false;
  }
  input.remove_prefix(frame.headerSize);
  frame_ = frame;
  payloadTaken_ = 0;
  inFrame_ = true;
  inMessage_ = !frame.final;
  return takePayload(input);
}

bool WebSocketLayer::takePayload(BytesView& input) {
  uint64_t missing = frame_.payloadSize - payloadTaken_;
  if (missing > 0 && input.empty()) return false;
  size_t count = 0;
  if (missing > 0) {
    InputBuffer::Room into = room();
    if (into.size == 0) return false;
    count = std::min({static_cast<size_t>(missing), into.size, input.size()});
    applyMask(into.data, input.data(), count, frame_.mask, payloadTaken_);
    input.remove_prefix(count);
    payloadTaken_ += count;
  }
  // Before the session is called: it may close.
  inFrame_ = payloadTaken_ < frame_.payloadSize;
  if (count > 0) deliver(count);
  return true;
}

bool WebSocketLayer::takeControl(const WebSocketFrame& frame, BytesView& input) {
  auto size = static_cast<size_t>(frame.payloadSize);
  if (input.size() - frame.headerSize < size) return false;
  std::array<char, kMaxControlPayload> payload;
  applyMask(payload.data(), input.data() + frame.headerSize, size, frame.mask, 0);
  input.remove_prefix(frame.headerSize + size);
  onControl(frame.opcode, {payload.data(), size});
  return true;
}

void WebSocketLayer::onControl(WebSocketOpcode opcode, BytesView payload) {
  if (opcode == WebSocketOpcode::kPing) {
    // A peer that reads nothing gets no more answers than fit.
    if (!congested()) frameOf(WebSocketOpcode::kPong, payload);
  } else if (opcode == WebSocketOpcode::kClose) {
    closeCode_ = closeCodeOf(payload);
    close("closed by the peer");
  }
}

void WebSocketLayer::onShutdown() {
  closeCode_ = static_cast<uint16_t>(WebSocketClose::kGoingAway);
  Layer::onShutdown();
}

void WebSocketLayer::refuse(WebSocketClose code, std::string_view why) {
  closeCode_ = static_cast<uint16_t>(code);
  std::string text = fmt::format("WebSocket: {}", why);
  logInfo(fmt::format("{}: {}", peer(), text));
  close(text);
}

// ---- To the peer

void WebSocketLayer::send(BytesView bytes) {
  if (open() && !bytes.empty()) frameOf(WebSocketOpcode::kBinary, bytes);
}

void WebSocketLayer::send(SharedBytes bytes) {
  if (!open() || bytes.empty()) return;
  std::array<char, kMaxServerFrameHeader> header;
  size_t size = writeFrameHeader(WebSocketOpcode::kBinary, bytes.size(), header);
  lower().send(BytesView(header.data(), size));
  lower().send(std::move(bytes));
}

void WebSocketLayer::frameOf(WebSocketOpcode opcode, BytesView payload) {
  std::array<char, kMaxServerFrameHeader> header;
  size_t size = writeFrameHeader(opcode, payload.size(), header);
  lower().send(BytesView(header.data(), size));
  lower().send(payload);
}

void WebSocketLayer::sayGoodbye() {
  if (!upgraded_) return;
  std::array<char, 2> code{static_cast<char>(closeCode_ >> 8), static_cast<char>(closeCode_)};
  bool none = closeCode_ == static_cast<uint16_t>(WebSocketClose::kNone);
  frameOf(WebSocketOpcode::kClose, {code.data(), none ? 0 : code.size()});
}

}  // namespace polylog
