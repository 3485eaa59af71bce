// Outgoing connections: names, sockets, and TLS as its client against a listener of ours.
#include "core/net/connector.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <future>
#include <mutex>

#include "core/base/metrics.h"
#include "core/net/listener.h"
#include "core/net/tls_client.h"
#include "core/net/tls_layer.h"
#include "tests/support/certificates.h"
#include "tests/support/loop_thread.h"

namespace polylog {
namespace {

using test::CertificateFiles;
using test::LoopThread;
using test::TestAuthority;

/// Sends back what comes, and tells who has come.
class Echo final : public ProtocolSession {
 public:
  explicit Echo(Transport& transport) : transport_(transport) { transport.handshakeDone(); }
  size_t onBytes(const SharedBytes& input) override {
    transport_.send(input.view());
    return input.size();
  }
  void onShutdown() override { transport_.close("stop"); }
  void onClosed(std::string_view) override {}

 private:
  Transport& transport_;
};

/// Says something, and notes what comes back and why it ended.
class Caller final : public ProtocolSession {
 public:
  Caller(Transport& transport, std::string& heard) : transport_(transport), heard_(heard) {
    transport.handshakeDone();
    transport.send(BytesView("hello"));
  }
  size_t onBytes(const SharedBytes& input) override {
    heard_.append(input.view());
    if (heard_.size() >= 5) transport_.close("heard");
    return input.size();
  }
  void onShutdown() override { transport_.close("stop"); }
  void onClosed(std::string_view) override {}

 private:
  Transport& transport_;
  std::string& heard_;
};

class ConnectorTest : public testing::Test, public Connection::Owner {
 protected:
  ~ConnectorTest() override {
    if (listener_) {
      std::promise<void> stopped;
      listener_->stop(0, [&] { stopped.set_value(); });
      stopped.get_future().wait();
    }
    loop_.call([this] {
      connector_ = nullptr;
      connection_ = nullptr;
    });
  }
  void listen(SessionFactory sessions) {
    ListenerOptions options;
    options.protocol = "test";
    options.address = {"127.0.0.1", 0};
    auto opened = Listener::open(options, {&loop_.dispatcher()}, std::move(sessions));
    ASSERT_TRUE(opened) << opened.error().text;
    listener_ = *std::move(opened);
  }
  static SessionFactory echo() {
    return [](Transport& transport) { return std::make_unique<Echo>(transport); };
  }
  Result<std::vector<SocketAddress>> resolved(const HostPort& address) {
    std::promise<Result<std::vector<SocketAddress>>> found;
    auto future = found.get_future();
    resolver_.resolve(address, loop_.dispatcher(),
                      [&found](auto result) { found.set_value(std::move(result)); });
    return future.get();
  }
  Result<Connector::Connected> connected(const HostPort& address) {
    auto found = resolved(address);
    if (!found) return std::unexpected(found.error());
    std::promise<Result<Connector::Connected>> through;
    auto future = through.get_future();
    loop_.call([&] {
      connector_ = std::make_unique<Connector>(
          loop_.dispatcher(), found->front(), "peer", 5'000'000,
          [&through](auto result) { through.set_value(std::move(result)); });
    });
    return future.get();
  }
  /// Why the connection ended; what was heard is in heard_.
  std::string call(const SessionFactory& layer) {
    auto got = connected(listener_->bound());
    if (!got) return got.error().text;
    heard_.clear();
    gone_ = std::promise<std::string>();
    loop_.call([&] {
      connection_ = std::make_shared<Connection>(loop_.dispatcher(), got->fd,
                                                 Connection::Addresses{got->peer, got->local},
                                                 limits_, metrics_, *this);
      connection_->start(layer);
    });
    return gone_.get_future().get();
  }
  SessionFactory caller() {
    return [this](Transport& transport) { return std::make_unique<Caller>(transport, heard_); };
  }
  void onHandshakeDone(Connection&) override {}
  void onConnectionGone(Connection& connection) override {
    std::string why = connection.closeReason();
    loop_.dispatcher().defer([gone = std::move(connection_)] {});
    gone_.set_value(std::move(why));
  }

  LoopThread loop_;
  Resolver resolver_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Connector> connector_;
  std::shared_ptr<Connection> connection_;
  ConnectionLimits limits_;
  ConnectionMetrics metrics_{counter("test_received", ""), counter("test_sent", "")};
  std::promise<std::string> gone_;
  std::string heard_;
};

TEST_F(ConnectorTest, connectsByName) {
  listen(echo());
  auto got = connected({"localhost", listener_->bound().port});
  ASSERT_TRUE(got) << got.error().text;
  EXPECT_GE(got->fd, 0);
  EXPECT_EQ(got->peer, toText(listener_->bound()));
  ::close(got->fd);
  EXPECT_EQ(call(caller()), "heard");
  EXPECT_EQ(heard_, "hello");
}

TEST_F(ConnectorTest, whatCantBeReachedIsNamed) {
  listen(echo());
  HostPort address = listener_->bound();
  std::promise<void> stopped;
  listener_->stop(0, [&] { stopped.set_value(); });
  stopped.get_future().wait();
  listener_ = nullptr;
  auto got = connected(address);
  ASSERT_FALSE(got);
  EXPECT_NE(got.error().text.find("peer"), std::string::npos) << got.error().text;
  auto name = resolved({"no-such-host.invalid", 1});
  ASSERT_FALSE(name);
  EXPECT_NE(name.error().text.find("no-such-host.invalid"), std::string::npos);
}

TEST_F(ConnectorTest, anAttemptThatIsGivenUpSaysNothing) {
  listen(echo());
  auto found = resolved(listener_->bound());
  ASSERT_TRUE(found);
  bool called = false;
  loop_.call([&] {
    Connector attempt(loop_.dispatcher(), found->front(), "peer", 5'000'000,
                      [&called](auto) { called = true; });
  });
  loop_.call([] {});
  EXPECT_FALSE(called);
}

class TlsConnectorTest : public ConnectorTest {
 protected:
  void listen(const CertificateFiles& server, bool askForCertificate) {
    TlsOptions options;
    options.certificates = {server.certificate};
    options.keys = {server.key};
    if (askForCertificate) {
      options.clients = TlsOptions::Clients::kRequired;
      options.ca = authority_.file();
    }
    auto context = TlsContext::load(options);
    ASSERT_TRUE(context) << context.error().text;
    ConnectorTest::listen(tlsSessions(*context, {}, echo()));
  }
  std::string callOver(TlsClientOptions options, const std::string& host = "127.0.0.1") {
    auto tls = OutgoingTls::load(std::move(options));
    if (!tls) return tls.error().text;
    return call((*tls)->sessions(host, {}, caller()));
  }
  TlsClientOptions believing() {
    TlsClientOptions options;
    options.keyPrefix = "bridges.north.";
    options.ca = authority_.file();
    return options;
  }

  TestAuthority authority_;
  CertificateFiles server_ = authority_.issue("server", "server", "DNS:a.example,IP:127.0.0.1");
};

TEST_F(TlsConnectorTest, verifiesWhoTheServerIs) {
  listen(server_, false);
  EXPECT_EQ(callOver(believing()), "heard");
  EXPECT_EQ(heard_, "hello");
  EXPECT_EQ(callOver(believing(), "a.example"), "heard");
  EXPECT_NE(callOver(believing(), "b.example").find("mismatch"), std::string::npos);
  EXPECT_NE(callOver(believing(), "127.0.0.2").find("mismatch"), std::string::npos);
  TlsClientOptions lenient = believing();
  lenient.verifyHost = false;
  EXPECT_EQ(callOver(lenient, "b.example"), "heard");
  EXPECT_EQ(callOver(lenient, "127.0.0.2"), "heard");
}

TEST_F(TlsConnectorTest, believesNobodyElsesAuthority) {
  listen(server_, false);
  TestAuthority stranger("Stranger");
  TlsClientOptions options = believing();
  options.ca = stranger.file();
  options.verifyHost = false;
  const std::string why = callOver(options);
  EXPECT_NE(why.find("the server's certificate"), std::string::npos) << why;
  EXPECT_EQ(heard_, "");
}

TEST_F(TlsConnectorTest, showsItsCertificate) {
  listen(server_, true);
  EXPECT_NE(callOver(believing()), "heard");
  const CertificateFiles own = authority_.issue("bridge", "bridge", "DNS:bridge");
  TlsClientOptions options = believing();
  options.certificate = own.certificate;
  options.key = own.key;
  EXPECT_EQ(callOver(options), "heard");
}

TEST_F(TlsConnectorTest, anErrorNamesTheKeyAndTheFile) {
  TlsClientOptions options = believing();
  options.ca = "/nowhere/ca.pem";
  auto loaded = OutgoingTls::load(options);
  ASSERT_FALSE(loaded);
  EXPECT_NE(loaded.error().text.find("bridges.north.tls.ca"), std::string::npos);
  options = believing();
  options.certificate = server_.certificate;
  options.key = authority_.issue("other", "other", "DNS:x").key;
  loaded = OutgoingTls::load(options);
  ASSERT_FALSE(loaded);
  EXPECT_NE(loaded.error().text.find("bridges.north.tls.key"), std::string::npos);
}

}  // namespace
}  // namespace polylog
