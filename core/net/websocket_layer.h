// WebSocket (RFC 6455) between a connection and its session (core/net/layer.h): binary messages are
// one stream of octets both ways, whose packets may begin and end anywhere in a frame, as MQTT
// wants it (MQTT 5.0, section 6). The session is made when the HTTP handshake is through. No
// extensions, so no compression.
#pragma once

#include <array>
#include <memory>

#include "core/net/layer.h"
#include "core/net/websocket_frame.h"
#include "core/net/websocket_upgrade.h"

namespace polylog {

/// Wraps `inner` in WebSocket.
SessionFactory webSocketSessions(WebSocketOptions options, const LayerLimits& limits,
                                 SessionFactory inner);

class WebSocketLayer final : public DecodingLayer {
 public:
  using Options = std::shared_ptr<const WebSocketOptions>;

  WebSocketLayer(Transport& lower, UpperFactory makeUpper, const LayerLimits& limits,
                 Options options)
      : DecodingLayer(lower, std::move(makeUpper), limits),
        options_(std::move(options)),
        maxRequest_(limits.handshakeInput) {}

  size_t onBytes(const SharedBytes& input) override;
  void onShutdown() override;

  void send(BytesView bytes) override;
  void send(SharedBytes bytes) override;

 protected:
  void sayGoodbye() override;

 private:
  void shakeHands(BytesView& input);
  /// Takes what it can of the frame at the front of `input`; false if there is nothing to take.
  bool takeFrame(BytesView& input);
  bool takePayload(BytesView& input);
  bool takeControl(const WebSocketFrame& frame, BytesView& input);
  void onControl(WebSocketOpcode opcode, BytesView payload);
  void frameOf(WebSocketOpcode opcode, BytesView payload);
  /// Closes with a code and a reason.
  void refuse(WebSocketClose code, std::string_view why);

  Options options_;
  size_t maxRequest_;
  WebSocketFrame frame_;       // the data frame being read
  uint64_t payloadTaken_ = 0;  // octets of it handed on
  bool upgraded_ = false;
  bool inFrame_ = false;
  bool inMessage_ = false;  // a fragment was taken and its message isn't through
  uint16_t closeCode_ = static_cast<uint16_t>(WebSocketClose::kNormal);
};

}  // namespace polylog
