#include "core/net/websocket_layer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/core/net/layer_fixture.h"

namespace polylog {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* kRequest =
    "GET /mqtt HTTP/1.1\r\nHost: broker:8080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: mqtt\r\n\r\n";

/// A client's frame, masked.
std::string frame(unsigned first, BytesView payload) {
  std::string out(1, static_cast<char>(first));
  size_t size = payload.size();
  if (size < 126) {
    out += static_cast<char>(0x80U | size);
  } else if (size <= 0xFFFF) {
    out += static_cast<char>(0x80U | 126U);
    out += {static_cast<char>(size >> 8), static_cast<char>(size)};
  } else {
    out += static_cast<char>(0x80U | 127U);
    for (unsigned i = 8; i-- > 0;) out += static_cast<char>(size >> 8 * i);
  }
  const std::array<char, 4> mask{'\x11', '\xfe', '\x03', '\x80'};
  out.append(mask.data(), mask.size());
  size_t at = out.size();
  out += payload;
  for (size_t i = 0; i < size; ++i) out[at + i] = static_cast<char>(out[at + i] ^ mask[i % 4]);
  return out;
}

constexpr unsigned kFin = 0x80;
constexpr unsigned kBinary = 2;
constexpr unsigned kPing = 9;

class WebSocketLayerTest : public LayerTest {
 protected:
  WebSocketLayerTest() { put(webSocketSessions(options_, {}, probed())); }
  void open() {
    receive(kRequest);
    ASSERT_THAT(lower_.takeSent(), StartsWith("HTTP/1.1 101 "));
    ASSERT_NE(probe_.transport, nullptr);
  }
  /// The close frame's code, when it is all that was sent.
  unsigned closeCode() {
    std::string sent = lower_.takeSent();
    if (sent.size() != 4 || sent.substr(0, 2) != "\x88\x02") return 0;
    return static_cast<unsigned char>(sent[2]) * 256U + static_cast<unsigned char>(sent[3]);
  }
  WebSocketOptions options_;
};

TEST_F(WebSocketLayerTest, OpensAsTheSpecificationsExample) {
  receiveSlowly(kRequest);
  EXPECT_EQ(lower_.sent,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
            "Sec-WebSocket-Protocol: mqtt\r\n\r\n");
  EXPECT_FALSE(lower_.handshakeIsDone) << "that is for the session above to say";
}

TEST_F(WebSocketLayerTest, FramesAreOneStream) {
  open();
  receive(frame(kFin | kBinary, "abc") + frame(kFin | kBinary, "def"));
  EXPECT_EQ(probe_.received, "abcdef");
  receiveSlowly(frame(kBinary, "g") + frame(0, "") + frame(kFin | kPing, "p") + frame(0, "hi") +
                frame(kFin, "jkl"));
  EXPECT_EQ(probe_.received, "abcdefghijkl");
  EXPECT_EQ(lower_.takeSent(), std::string("\x8a\x01p"));
}

TEST_F(WebSocketLayerTest, FramesRightBehindTheRequestAreTaken) {
  receive(kRequest + frame(kFin | kBinary, "early"));
  EXPECT_EQ(probe_.received, "early");
}

TEST_F(WebSocketLayerTest, LongFrames) {
  open();
  probe_.transport->handshakeDone();
  EXPECT_TRUE(lower_.handshakeIsDone);
  for (size_t size : {125U, 126U, 0xFFFFU, 0x10000U, 300'000U}) {
    probe_.received.clear();
    std::string payload;
    for (size_t i = 0; i < size; ++i) payload += static_cast<char>(i * 7);
    std::string bytes = frame(kFin | kBinary, payload);
    for (size_t at = 0; at < bytes.size(); at += 1371) receive(bytes.substr(at, 1371));
    EXPECT_TRUE(probe_.received == payload) << size;
    probe_.transport->send(SharedBytes::copyOf(payload));
    std::string sent = lower_.takeSent();
    size_t header = size < 126 ? 2 : size <= 0xFFFF ? 4 : 10;
    EXPECT_EQ(sent.size(), header + size);
    EXPECT_TRUE(sent.substr(header) == payload) << size;
  }
}

TEST_F(WebSocketLayerTest, APausedSessionGetsTheRestWhenItReadsAgain) {
  open();
  probe_.take = [&](BytesView) {
    probe_.transport->pauseReading(true);
    return size_t{1};
  };
  receive(frame(kFin | kBinary, "abc") + frame(kFin | kBinary, "def"));
  EXPECT_EQ(probe_.received, "a");
  EXPECT_FALSE(unread_.empty()) << "the second frame is left to the connection";
  probe_.take = [](BytesView input) { return input.size(); };
  probe_.transport->pauseReading(false);
  EXPECT_EQ(probe_.received, "a");
  endRound();
  EXPECT_EQ(probe_.received, "abcdef");
}

TEST_F(WebSocketLayerTest, TheHandshakesLimitHoldsUntilTheSessionsIsDone) {
  open();
  probe_.take = [](BytesView) { return size_t{0}; };
  receive(frame(kBinary, std::string(4000, 'x')));
  EXPECT_FALSE(lower_.closed);
  receive(frame(kFin, std::string(96, 'x')));
  EXPECT_THAT(lower_.reason, HasSubstr("over the limit of 4096"));
}

TEST_F(WebSocketLayerTest, TextClosesTheConnection) {
  open();
  receive(frame(kFin | 1, "text"));
  EXPECT_EQ(closeCode(), 1003U);
  EXPECT_TRUE(lower_.closed);
  EXPECT_EQ(probe_.received, "");
}

TEST_F(WebSocketLayerTest, WhatTheSpecificationForbidsIsAProtocolError) {
  std::string unmasked = "\x82\x01x";
  std::string longWay = std::string("\x82\xfe\x00\x05", 4) + "mask" + "hello";
  std::string longerWay = std::string("\x82\xff\0\0\0\0\0\0\xff\xff", 10) + "mask";
  std::string negative = std::string("\x82\xff\x80\0\0\0\0\0\0\0", 10) + "mask";
  for (const std::string& bytes :
       {unmasked, longWay, longerWay, negative, frame(kFin | 0x40U | kBinary, "x"),
        frame(kFin | 0x10U | kBinary, "x"), frame(kFin | 3, "x"), frame(kFin | 11, "x"),
        frame(kFin, "a continuation of nothing"), frame(kBinary, "a") + frame(kFin | kBinary, "b"),
        frame(kPing, "fragmented"), frame(kFin | kPing, std::string(126, 'x'))}) {
    lower_.closed = false;
    probe_ = {};
    put(webSocketSessions(options_, {}, probed()));
    unread_.clear();
    open();
    receive(bytes);
    EXPECT_TRUE(lower_.closed) << testing::PrintToString(bytes);
    EXPECT_EQ(closeCode(), 1002U) << lower_.reason;
    end();
    EXPECT_THAT(probe_.closed, StartsWith("WebSocket: "));
  }
}

TEST_F(WebSocketLayerTest, PingsAreAnsweredUnlessThePeerDoesNotRead) {
  open();
  receive(frame(kFin | kPing, std::string(125, 'p')));
  EXPECT_EQ(lower_.takeSent(), std::string("\x8a\x7d") + std::string(125, 'p'));
  lower_.isCongested = true;
  receive(frame(kFin | kPing, "x"));
  receive(frame(kFin | 10, "a pong nobody asked for"));
  EXPECT_EQ(lower_.takeSent(), "");
  EXPECT_FALSE(lower_.closed);
}

TEST_F(WebSocketLayerTest, ClosingIsAnswered) {
  for (auto [payload, answer] : {std::pair<std::string, std::string>{"", std::string("\x88\0", 2)},
                                 {"\x03\xe8", "\x88\x02\x03\xe8"},
                                 {"\x03\xe9going", "\x88\x02\x03\xe9"},
                                 {"\x03\xed", "\x88\x02\x03\xea"},
                                 {"x", "\x88\x02\x03\xea"}}) {
    lower_.closed = false;
    put(webSocketSessions(options_, {}, probed()));
    unread_.clear();
    open();
    receive(frame(kFin | 8, payload) + frame(kFin | kBinary, "too late"));
    EXPECT_EQ(lower_.takeSent(), answer);
    EXPECT_EQ(lower_.reason, "closed by the peer");
    EXPECT_EQ(probe_.received, "");
    end();
  }
}

TEST_F(WebSocketLayerTest, TheSessionsEndIsANormalOneAndTheBrokersTold) {
  open();
  probe_.transport->send("bye");
  probe_.transport->close("done");
  EXPECT_EQ(lower_.takeSent(), std::string("\x82\x03") + "bye" + "\x88\x02\x03\xe8");
  end();
  lower_.closed = false;
  put(webSocketSessions(options_, {}, probed()));
  open();
  layer_->onShutdown();
  EXPECT_TRUE(probe_.shutdown);
  EXPECT_EQ(closeCode(), 1001U);
}

TEST_F(WebSocketLayerTest, ARefusedRequestIsAnsweredAndClosed) {
  receive("GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(lower_.sent, StartsWith("HTTP/1.1 404 "));
  EXPECT_TRUE(lower_.closed);
  EXPECT_EQ(probe_.transport, nullptr);
}

TEST_F(WebSocketLayerTest, AnEndlessRequestIsCutAt4KiB) {
  receive(std::string("GET /mqtt HTTP/1.1\r\nCookie: ") + std::string(4000, 'c'));
  EXPECT_FALSE(lower_.closed);
  receive(std::string(100, 'c'));
  EXPECT_THAT(lower_.sent, StartsWith("HTTP/1.1 431 "));
  EXPECT_TRUE(lower_.closed);
}

}  // namespace
}  // namespace polylog
