#include "core/net/websocket_upgrade.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <initializer_list>
#include <string>

namespace polylog {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using Outcome = Upgrade::Outcome;

constexpr size_t kLimit = 4096;

struct Parts {
  std::string line = "GET /mqtt HTTP/1.1";
  std::string host = "Host: broker:8080\r\n";
  std::string upgrade = "Upgrade: websocket\r\n";
  std::string connection = "Connection: Upgrade\r\n";
  std::string key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
  std::string version = "Sec-WebSocket-Version: 13\r\n";
  std::string protocol = "Sec-WebSocket-Protocol: mqtt\r\n";
  std::string more;
  std::string text() const {
    return line + "\r\n" + host + upgrade + connection + key + version + protocol + more + "\r\n";
  }
};

class UpgradeTest : public testing::Test {
 protected:
  Upgrade read(const std::string& text) { return readUpgrade(text, kLimit, options_); }
  /// The status of the answer.
  std::string status(const std::function<void(Parts&)>& change) {
    Parts parts;
    change(parts);
    return read(parts.text()).response.substr(9, 3);
  }
  WebSocketOptions options_;
};

TEST_F(UpgradeTest, AcceptsWhatBrowsersAndProgramsSend) {
  EXPECT_EQ(read(Parts().text()).outcome, Outcome::kAccepted);
  EXPECT_EQ(read(Parts().text() + "frames").used, Parts().text().size());
  for (auto change : std::initializer_list<std::function<void(Parts&)>>{
           [](Parts& p) { p.line = "GET / HTTP/1.1"; },
           [](Parts& p) { p.line = "GET /mqtt?token=x HTTP/1.1"; },
           [](Parts& p) { p.connection = "connection:keep-alive , upgrade\r\n"; },
           [](Parts& p) { p.upgrade = "UPGRADE: WebSocket\r\n"; },
           [](Parts& p) { p.protocol = "Sec-WebSocket-Protocol: mqttv3.1, mqtt\r\n"; },
           [](Parts& p) {
             p.protocol = "Sec-WebSocket-Protocol: a\r\nSec-Websocket-Protocol: mqtt\r\n";
           },
           [](Parts& p) {
             p.more = "Content-Length: 0\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";
           },
           [](Parts& p) { p.more = "Origin: http://broker:8080\r\n"; },
           [](Parts& p) { p.more = "Cookie: \xc3\xa4\tb\r\nX-Empty:\r\n"; }}) {
    EXPECT_EQ(status(change), "101");
  }
}

TEST_F(UpgradeTest, NeverAnswersWithAnExtension) {
  Parts parts;
  parts.more = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
  EXPECT_THAT(read(parts.text()).response, Not(HasSubstr("Extensions")));
}

TEST_F(UpgradeTest, WaitsForTheRest) {
  std::string text = Parts().text();
  for (size_t size = 0; size < text.size(); ++size) {
    EXPECT_EQ(read(text.substr(0, size)).outcome, Outcome::kNeedMore) << size;
  }
}

TEST_F(UpgradeTest, RefusesWhatIsNoHttpAtOnce) {
  for (const char* text : {"P", "\x10", "GEX", "get /", "GET mqtt", "\r\n"}) {
    EXPECT_EQ(read(text).outcome, Outcome::kRefused) << text;
  }
}

TEST_F(UpgradeTest, RefusesWithTheStatusThatSuits) {
  EXPECT_EQ(status([](Parts& p) { p.line = "GET /other HTTP/1.1"; }), "404");
  EXPECT_EQ(status([](Parts& p) { p.line = "GET /mqtt HTTP/1.0"; }), "400");
  EXPECT_EQ(status([](Parts& p) { p.line = "GET /mqtt  HTTP/1.1"; }), "400");
  EXPECT_EQ(status([](Parts& p) { p.line = "GET /mqtt"; }), "400");
  EXPECT_EQ(status([](Parts& p) { p.host = ""; }), "400");
  EXPECT_EQ(status([](Parts& p) { p.host += p.host; }), "400");
  EXPECT_EQ(status([](Parts& p) { p.upgrade = ""; }), "426");
  EXPECT_EQ(status([](Parts& p) { p.connection = "Connection: close\r\n"; }), "426");
  EXPECT_EQ(status([](Parts& p) { p.version = "Sec-WebSocket-Version: 8\r\n"; }), "426");
  EXPECT_EQ(status([](Parts& p) { p.version += p.version; }), "426");
  EXPECT_EQ(status([](Parts& p) { p.key = ""; }), "400");
  EXPECT_EQ(status([](Parts& p) { p.key = "Sec-WebSocket-Key: short==\r\n"; }), "400");
  EXPECT_EQ(status([](Parts& p) { p.key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j!Q==\r\n"; }),
            "400");
  EXPECT_EQ(status([](Parts& p) { p.key += p.key; }), "400");
  EXPECT_EQ(status([](Parts& p) { p.protocol = ""; }), "400");
  EXPECT_EQ(status([](Parts& p) { p.protocol = "Sec-WebSocket-Protocol: MQTT\r\n"; }), "400");
  EXPECT_EQ(status([](Parts& p) { p.protocol = "Sec-WebSocket-Protocol: mqttx,amqp\r\n"; }), "400");
  EXPECT_EQ(status([](Parts& p) { p.more = "Content-Length: 5\r\n"; }), "400");
  EXPECT_EQ(status([](Parts& p) { p.more = "Transfer-Encoding: chunked\r\n"; }), "400");
  EXPECT_EQ(status([](Parts& p) { p.more = " folded\r\n"; }), "400");
  EXPECT_EQ(status([](Parts& p) { p.more = "No Colon\r\n"; }), "400");
  EXPECT_EQ(status([](Parts& p) { p.more = "Space : x\r\n"; }), "400");
  EXPECT_EQ(status([](Parts& p) { p.more = "X: a\rb\r\n"; }), "400");
  EXPECT_EQ(status([](Parts& p) { p.more = "X: a\nY: b\r\n"; }), "400");
  EXPECT_EQ(status([](Parts& p) { p.more = std::string("X: \0\r\n", 6); }), "400");
  EXPECT_EQ(status([](Parts& p) {
              for (size_t i = 0; i < kMaxUpgradeHeaders; ++i) p.more += "X: y\r\n";
            }),
            "431");
  EXPECT_THAT(read("GET /mqtt HTTP/1.1\r\nX: " + std::string(kLimit, 'x')).response,
              StartsWith("HTTP/1.1 431"));
}

TEST_F(UpgradeTest, PagesFromElsewhereNeedToBeListed) {
  auto from = [&](const char* origin) {
    return status([&](Parts& p) { p.more = std::string("Origin: ") + origin + "\r\n"; });
  };
  EXPECT_EQ(from("http://broker:8080"), "101");
  EXPECT_EQ(from("https://evil.example"), "403");
  EXPECT_EQ(from("http://broker:8081"), "403");
  EXPECT_EQ(from("null"), "403");
  EXPECT_EQ(from(""), "403");
  EXPECT_EQ(from("http://broker:8080\r\nOrigin: https://evil.example"), "403");
  options_.origins = {"https://app.example"};
  EXPECT_EQ(from("https://app.example"), "101");
  EXPECT_EQ(from("http://app.example"), "403");
  options_.origins = {"*"};
  EXPECT_EQ(from("https://evil.example"), "101");
}

}  // namespace
}  // namespace polylog
