// TLS over real sockets and a real listener: what strings can't show.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>

#include "core/net/listener.h"
#include "core/net/tls_layer.h"
#include "tests/support/certificates.h"
#include "tests/support/loop_thread.h"
#include "tests/support/loopback.h"
#include "tests/support/tls_client.h"

namespace polylog {
namespace {

using test::CertificateFiles;
using test::LoopbackClient;
using test::LoopThread;
using test::TestAuthority;
using test::TlsSocket;

/// Sends back what it gets, holding back while the output is congested.
class EchoSession final : public ProtocolSession {
 public:
  EchoSession(Transport& transport, std::promise<std::string>& closed)
      : transport_(transport), closed_(closed) {}
  size_t onBytes(const SharedBytes& input) override {
    transport_.handshakeDone();
    transport_.send(input);
    if (transport_.congested()) transport_.pauseReading(true);
    if (input.view().find("quit") != BytesView::npos) transport_.close("asked to");
    return input.size();
  }
  void onDrained() override { transport_.pauseReading(false); }
  void onShutdown() override { transport_.close("shutdown"); }
  void onClosed(std::string_view why) override { closed_.set_value(std::string(why)); }

 private:
  Transport& transport_;
  std::promise<std::string>& closed_;
};

class TlsConnectionTest : public testing::Test {
 protected:
  void listen(ConnectionLimits limits = {}) {
    TlsOptions options;
    options.certificates = {server_.certificate};
    options.keys = {server_.key};
    auto context = TlsContext::load(options);
    ASSERT_TRUE(context) << context.error().text;
    budget_ = std::make_shared<ConnectionBudget>();
    ListenerOptions listening{
        .protocol = "tls", .address = {"127.0.0.1", 0}, .limits = limits, .budget = budget_};
    auto opened = Listener::open(listening, {&loop_.dispatcher()},
                                 tlsSessions(*context, {}, [this](Transport& transport) {
                                   return std::make_unique<EchoSession>(transport, closed_);
                                 }));
    ASSERT_TRUE(opened) << opened.error().text;
    listener_ = *std::move(opened);
  }
  void TearDown() override {
    std::promise<void> stopped;
    listener_->stop(0, [&] { stopped.set_value(); });
    stopped.get_future().get();
  }

  TestAuthority authority_;
  CertificateFiles server_ = authority_.issue("server", "broker", "IP:127.0.0.1");
  LoopThread loop_;
  std::promise<std::string> closed_;
  std::shared_ptr<ConnectionBudget> budget_;
  std::unique_ptr<Listener> listener_;
};

TEST_F(TlsConnectionTest, EchoesMegabytesUnharmed) {
  ConnectionLimits small;
  small.highWatermark = 100'000;
  small.lowWatermark = 10'000;
  listen(small);
  TlsSocket client(listener_->bound(), {.ca = authority_.file()});
  ASSERT_TRUE(client.handshake());
  std::string sent;
  for (int i = 0; sent.size() < 4'000'000; ++i) sent += std::to_string(i) + ",";
  std::string got;
  // One piece after the other: OpenSSL's client side takes no second thread.
  for (size_t at = 0; at < sent.size(); at += 300'000) {
    std::string piece = sent.substr(at, 300'000);
    ASSERT_TRUE(client.send(piece));
    got += client.read(piece.size());
  }
  EXPECT_TRUE(got == sent);
}

TEST_F(TlsConnectionTest, TheLastWordsComeBeforeTheGoodBye) {
  listen();
  TlsSocket client(listener_->bound(), {});
  ASSERT_TRUE(client.handshake());
  ASSERT_TRUE(client.send("and quit"));
  EXPECT_EQ(client.read(100), "and quit");
  EXPECT_EQ(client.status(), SSL_ERROR_ZERO_RETURN);
  EXPECT_EQ(closed_.get_future().get(), "asked to");
}

TEST_F(TlsConnectionTest, AStalledHandshakeIsCutAtTheDeadlineAndLeavesTheBudget) {
  ConnectionLimits limits;
  limits.handshakeMicros = 200'000;
  listen(limits);
  LoopbackClient silent(listener_->bound());
  LoopbackClient half(listener_->bound());
  ASSERT_TRUE(half.send(std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11)));
  EXPECT_EQ(silent.readToEnd(), "");
  EXPECT_TRUE(silent.ended());
  EXPECT_EQ(half.readToEnd(), "");
  EXPECT_TRUE(half.ended());
  // A finished TLS handshake without the protocol's is no better.
  TlsSocket idle(listener_->bound(), {});
  ASSERT_TRUE(idle.handshake());
  EXPECT_EQ(idle.read(1), "");
  silent.close();
  half.close();
  idle.socket().close();
  EXPECT_THAT(closed_.get_future().get(), testing::HasSubstr("no handshake within"));
  while (listener_->connections() > 0) usleep(1000);  // ctest bounds it
  EXPECT_EQ(budget_->inHandshake.load(), 0U);
  EXPECT_EQ(budget_->open.load(), 0U);
}

TEST_F(TlsConnectionTest, AConnectionThatJustEndsIsNoticed) {
  listen();
  {
    TlsSocket client(listener_->bound(), {});
    ASSERT_TRUE(client.handshake());
    ASSERT_TRUE(client.send("x"));
    EXPECT_EQ(client.read(1), "x");
    client.socket().reset();
  }
  EXPECT_NE(closed_.get_future().get(), "");
}

}  // namespace
}  // namespace polylog
