#include "core/net/proxy_layer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string_view>

#include "core/net/address.h"
#include "core/net/proxy_header.h"
#include "tests/core/net/layer_fixture.h"

namespace polylog {
namespace {

using namespace std::string_view_literals;
using testing::StartsWith;
using Outcome = ProxyHeader::Outcome;

const std::string kBegin2("\r\n\r\n\0\r\nQUIT\n"sv);

std::string version2(char command, char kind, std::string_view body) {
  std::string out = kBegin2 + command + kind;
  out += {static_cast<char>(body.size() >> 8), static_cast<char>(body.size())};
  return out.append(body);
}

const std::string kTcp4 = version2('\x21', '\x11', "\xc0\0\2\7\x0a\0\0\1\xc8\x15\x07\x5b"sv);

TEST(ProxyHeaderTest, Version1) {
  ProxyHeader v4 = readProxyHeader("PROXY TCP4 192.0.2.7 10.0.0.1 51221 1883\r\nrest");
  ASSERT_EQ(v4.outcome, Outcome::kHeader) << v4.why;
  EXPECT_EQ(v4.size, 42U);
  EXPECT_EQ(toText(*v4.source), "192.0.2.7:51221");
  EXPECT_EQ(toText(*v4.destination), "10.0.0.1:1883");
  ProxyHeader v6 = readProxyHeader("PROXY TCP6 2001:db8::7 ::1 1 65535\r\n");
  ASSERT_EQ(v6.outcome, Outcome::kHeader) << v6.why;
  EXPECT_EQ(toText(*v6.source), "[2001:db8::7]:1");
  for (const char* unknown : {"PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 ffff::1 1 2\r\n"}) {
    ProxyHeader header = readProxyHeader(unknown);
    EXPECT_EQ(header.outcome, Outcome::kHeader);
    EXPECT_FALSE(header.source);
  }
}

TEST(ProxyHeaderTest, Version2) {
  ProxyHeader v4 = readProxyHeader(kTcp4 + "rest");
  ASSERT_EQ(v4.outcome, Outcome::kHeader) << v4.why;
  EXPECT_EQ(v4.size, kTcp4.size());
  EXPECT_EQ(toText(*v4.source), "192.0.2.7:51221");
  EXPECT_EQ(toText(*v4.destination), "10.0.0.1:1883");
  std::string body(36, '\0');
  body[15] = 1;
  body[33] = 5;
  ProxyHeader v6 = readProxyHeader(version2('\x21', '\x21', body + "additions"));
  ASSERT_EQ(v6.outcome, Outcome::kHeader) << v6.why;
  EXPECT_EQ(v6.size, 16 + 36 + 9U);
  EXPECT_EQ(toText(*v6.source), "[::1]:5");
  for (const std::string& none :
       {version2('\x20', '\0', ""), version2('\x20', '\x11', "x"), version2('\x21', '\0', "abc"),
        version2('\x21', '\x31', std::string(216, 'u'))}) {
    ProxyHeader header = readProxyHeader(none);
    EXPECT_EQ(header.outcome, Outcome::kHeader) << header.why;
    EXPECT_EQ(header.size, none.size());
    EXPECT_FALSE(header.source);
  }
}

TEST(ProxyHeaderTest, WaitsForTheRest) {
  std::string v1 = "PROXY TCP4 192.0.2.7 10.0.0.1 51221 1883\r\n";
  for (const std::string& whole : {v1, kTcp4}) {
    for (size_t size = 0; size < whole.size(); ++size) {
      EXPECT_EQ(readProxyHeader(whole.substr(0, size)).outcome, Outcome::kNeedMore) << size;
    }
  }
}

TEST(ProxyHeaderTest, RefusesTheRestAtOnce) {
  for (const std::string& bad : {std::string("\x10"),
                                 std::string("GET / HTTP/1.1"),
                                 std::string("PROXy"),
                                 std::string("\r\n\r\n\1"),
                                 "PROXY " + std::string(101, 'x'),
                                 std::string("PROXY TCP5 192.0.2.7 10.0.0.1 51221 1883\r\n"),
                                 std::string("PROXY TCP4 192.0.2.7 10.0.0.1 51221\r\n"),
                                 std::string("PROXY TCP4 192.0.2.7 10.0.0.1 51221 1883 5\r\n"),
                                 std::string("PROXY TCP4 192.0.2.700 10.0.0.1 51221 1883\r\n"),
                                 std::string("PROXY TCP4 ::1 ::1 1 2\r\n"),
                                 std::string("PROXY TCP4  192.0.2.7 10.0.0.1 51221 1883\r\n"),
                                 std::string("PROXY TCP4 192.0.2.7 10.0.0.1 65536 1883\r\n"),
                                 std::string("PROXY TCP4 192.0.2.7 10.0.0.1 051221 1883\r\n"),
                                 std::string("PROXY TCP4 192.0.2.7 10.0.0.1 -1 1883\r\n"),
                                 std::string("PROXY TCP4 1\0 10.0.0.1 1 1\r\n"sv),
                                 version2('\x31', '\x11', std::string(12, 'x')),
                                 version2('\x22', '\x11', std::string(12, 'x')),
                                 version2('\x21', '\x12', std::string(12, 'x')),
                                 version2('\x21', '\x41', std::string(12, 'x')),
                                 version2('\x21', '\x11', std::string(11, 'x')),
                                 version2('\x21', '\x21', std::string(35, 'x')),
                                 version2('\x21', '\x11', std::string(3000, 'x')).substr(0, 16)}) {
    EXPECT_EQ(readProxyHeader(bad).outcome, Outcome::kBad) << testing::PrintToString(bad);
  }
}

class ProxyLayerTest : public LayerTest {
 protected:
  ProxyLayerTest() { put(proxiedSessions(probed())); }
};

TEST_F(ProxyLayerTest, TheSessionSeesTheAddressesThatAreTold) {
  receiveSlowly(kTcp4);
  ASSERT_NE(probe_.transport, nullptr);
  EXPECT_EQ(probe_.transport->peer(), "192.0.2.7:51221");
  EXPECT_EQ(toText(probe_.transport->local()), "10.0.0.1:1883");
  receive("hello");
  EXPECT_EQ(probe_.received, "hello");
  probe_.transport->send("world");
  EXPECT_EQ(lower_.sent, "world");
}

TEST_F(ProxyLayerTest, WhatStandsBehindTheHeaderGoesOn) {
  probe_.take = [](BytesView input) { return input.size() < 5 ? 0 : 5; };
  receive("PROXY TCP4 192.0.2.7 10.0.0.1 51221 1883\r\nhel");
  EXPECT_EQ(probe_.received, "");
  receive("lo");
  EXPECT_EQ(probe_.received, "hello");
}

TEST_F(ProxyLayerTest, TheProxysOwnConnectionHasItsOwnAddress) {
  receive("PROXY UNKNOWN\r\n");
  ASSERT_NE(probe_.transport, nullptr);
  EXPECT_EQ(probe_.transport->peer(), lower_.peer());
  EXPECT_EQ(probe_.transport->local().port, 1883);
}

TEST_F(ProxyLayerTest, WithoutAHeaderThereIsNoSession) {
  receive("\x10\x0f\x00\x04MQTT");
  EXPECT_TRUE(lower_.closed);
  EXPECT_THAT(lower_.reason, StartsWith("PROXY protocol: "));
  EXPECT_EQ(probe_.transport, nullptr);
  end();
}

TEST_F(ProxyLayerTest, TheEndIsPassedOn) {
  receive(kTcp4);
  layer_->onDrained();
  EXPECT_TRUE(probe_.drained);
  layer_->onShutdown();
  EXPECT_EQ(lower_.reason, "shutdown");
  end();
  EXPECT_EQ(probe_.closed, "shutdown");
}

}  // namespace
}  // namespace polylog
