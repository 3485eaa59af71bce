// Connections through a real listener and loopback sockets.
#include "core/net/connection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/event/event_dispatcher.h"
#include "core/net/listener.h"
#include "tests/support/loop_thread.h"
#include "tests/support/loopback.h"

namespace polylog {
namespace {

using test::LoopbackClient;
using test::LoopThread;
using testing::HasSubstr;
using testing::StartsWith;

/// What a test sees of the session that the listener made.
struct Probe {
  std::promise<std::string> closed;
  std::promise<void> drained;
  Transport* transport = nullptr;  // on the loop only
  ProtocolSession* session = nullptr;
  bool shutdownAsked = false;
};

/// Does what the test's function says with the input, and guards the interface's promises.
class ScriptedSession final : public ProtocolSession {
 public:
  using OnBytes = std::function<size_t(Transport&, const SharedBytes&)>;

  ScriptedSession(Transport& transport, Probe& probe, OnBytes onBytes)
      : transport_(transport), probe_(probe), onBytes_(std::move(onBytes)) {
    probe.transport = &transport;
    probe.session = this;
  }
  ~ScriptedSession() override { EXPECT_TRUE(closed_); }

  size_t onBytes(const SharedBytes& input) override {
    Guard guard(*this);
    return onBytes_(transport_, input);
  }
  size_t wanted() const override { return wanted_; }
  void onDrained() override {
    Guard guard(*this);
    EXPECT_FALSE(transport_.congested());
    probe_.drained.set_value();
  }
  void onShutdown() override {
    Guard guard(*this);
    probe_.shutdownAsked = true;
    transport_.close("good-bye");
  }
  void onClosed(std::string_view why) override {
    Guard guard(*this);
    EXPECT_FALSE(std::exchange(closed_, true));
    transport_.send("no effect");
    transport_.close("no effect");
    probe_.transport = nullptr;
    probe_.closed.set_value(std::string(why));
  }
  void want(size_t octets) { wanted_ = octets; }

 private:
  struct Guard {
    explicit Guard(ScriptedSession& of) : session(of) {
      EXPECT_FALSE(std::exchange(session.inside_, true)) << "re-entered";
      EXPECT_TRUE(session.transport_.dispatcher().isOwnThread());
    }
    ~Guard() { session.inside_ = false; }
    ScriptedSession& session;
  };
  Transport& transport_;
  Probe& probe_;
  OnBytes onBytes_;
  size_t wanted_ = 0;
  bool inside_ = false;
  bool closed_ = false;
};

size_t echo(Transport& transport, const SharedBytes& input) {
  transport.handshakeDone();
  transport.send(input);
  return input.size();
}

class ConnectionTest : public testing::Test {
 protected:
  void listen(ScriptedSession::OnBytes onBytes, ConnectionLimits limits = {}) {
    ListenerOptions options{
        .protocol = "test", .address = {"127.0.0.1", 0}, .limits = limits, .budget = nullptr};
    auto opened = Listener::open(
        options, {&loop_.dispatcher()}, [this, onBytes = std::move(onBytes)](Transport& transport) {
          return std::make_unique<ScriptedSession>(transport, probe_, onBytes);
        });
    ASSERT_TRUE(opened) << opened.error().text;
    listener_ = *std::move(opened);
  }
  void TearDown() override {
    if (listener_ == nullptr) return;
    std::promise<void> stopped;
    listener_->stop(0, [&] { stopped.set_value(); });
    stopped.get_future().get();
  }
  std::string closeReason() { return probe_.closed.get_future().get(); }
  ScriptedSession& session() { return static_cast<ScriptedSession&>(*probe_.session); }

  LoopThread loop_;
  Probe probe_;
  std::unique_ptr<Listener> listener_;
};

TEST_F(ConnectionTest, Echoes) {
  listen(echo);
  LoopbackClient client(listener_->bound());
  ASSERT_TRUE(client.send("hello"));
  EXPECT_EQ(client.read(5), "hello");
  client.close();
  EXPECT_EQ(closeReason(), "closed by the peer");
}

TEST_F(ConnectionTest, EchoesMegabytesUnharmed) {
  listen(echo);
  LoopbackClient client(listener_->bound());
  std::string sent;
  for (int i = 0; sent.size() < 8'000'000; ++i) sent += std::to_string(i) + ",";
  auto writer = std::async(std::launch::async, [&] { return client.send(sent); });
  std::string got = client.read(sent.size());
  EXPECT_TRUE(writer.get());
  EXPECT_TRUE(got == sent);
}

TEST_F(ConnectionTest, UnusedInputComesAgainWithMoreBehind) {
  // Packets of five octets, whatever way they come.
  listen([](Transport& transport, const SharedBytes& input) {
    transport.handshakeDone();
    size_t whole = input.size() / 5 * 5;
    transport.send(input.slice(0, whole));
    return whole;
  });
  LoopbackClient client(listener_->bound());
  ASSERT_TRUE(client.send("abc"));
  ASSERT_TRUE(client.send("defg"));
  EXPECT_EQ(client.read(5), "abcde");
  ASSERT_TRUE(client.send("hij"));
  EXPECT_EQ(client.read(5), "fghij");
}

TEST_F(ConnectionTest, InputThatIsKeptIsNotOverwritten) {
  std::mutex mutex;
  std::vector<SharedBytes> kept;
  listen([&](Transport& transport, const SharedBytes& input) {
    transport.handshakeDone();
    if (input.size() < 10) return size_t{0};
    {
      std::lock_guard lock(mutex);
      kept.push_back(input.slice(0, 10));
    }
    transport.send("k");
    return size_t{10};
  });
  LoopbackClient client(listener_->bound());
  for (char letter = 'a'; letter <= 'z'; ++letter) {
    ASSERT_TRUE(client.send(std::string(10, letter)));
    ASSERT_EQ(client.read(1), "k");
  }
  std::lock_guard lock(mutex);
  ASSERT_EQ(kept.size(), 26U);
  for (size_t i = 0; i < kept.size(); ++i) {
    EXPECT_EQ(kept[i].view(), std::string(10, static_cast<char>('a' + i)));
  }
}

TEST_F(ConnectionTest, LargePacketArrivesInOneBlock) {
  constexpr size_t kPacket = 1'048'700;
  std::promise<bool> whole;
  listen([&](Transport& transport, const SharedBytes& input) {
    transport.handshakeDone();
    session().want(kPacket);
    if (input.size() < kPacket) return size_t{0};
    session().want(0);
    whole.set_value(input.view() == std::string(kPacket, 'L'));
    return kPacket;
  });
  LoopbackClient client(listener_->bound());
  ASSERT_TRUE(client.send(std::string(kPacket, 'L')));
  EXPECT_TRUE(whole.get_future().get());
}

TEST_F(ConnectionTest, SilentHandshakeIsCutAtItsDeadline) {
  listen(echo, {.handshakeMicros = 20'000});
  LoopbackClient client(listener_->bound());
  EXPECT_EQ(client.readToEnd(), "");
  EXPECT_TRUE(client.ended());
  EXPECT_THAT(closeReason(), StartsWith("no handshake within 0.02 s"));
}

TEST_F(ConnectionTest, FinishedHandshakeHasNoDeadline) {
  listen(echo, {.handshakeMicros = 30'000});
  LoopbackClient client(listener_->bound());
  ASSERT_TRUE(client.send("x"));
  EXPECT_EQ(client.read(1), "x");
  // A second connection's deadline passes meanwhile.
  std::promise<void> later;
  auto timer = loop_.call([&] {
    auto made = loop_.dispatcher().makeTimer([&] { later.set_value(); });
    made->start(60'000);
    return made;
  });
  later.get_future().get();
  loop_.call([&] { timer.reset(); });
  ASSERT_TRUE(client.send("y"));
  EXPECT_EQ(client.read(1), "y");
}

TEST_F(ConnectionTest, OversizedHandshakeIsCut) {
  listen([](Transport&, const SharedBytes&) { return size_t{0}; }, {.handshakeInput = 100});
  LoopbackClient client(listener_->bound());
  client.send(std::string(200, 'x'));
  EXPECT_EQ(client.readToEnd(), "");
  EXPECT_TRUE(client.ended());
  EXPECT_THAT(closeReason(), HasSubstr("over the limit of 100"));
}

TEST_F(ConnectionTest, AnnouncedHandshakeOverTheLimitIsCutUnread) {
  listen(
      [this](Transport&, const SharedBytes&) {
        session().want(101);
        return size_t{0};
      },
      {.handshakeInput = 100});
  LoopbackClient client(listener_->bound());
  client.send("x");
  client.send("y");
  EXPECT_EQ(client.readToEnd(), "");
  EXPECT_THAT(closeReason(), HasSubstr("of 101 octets, over the limit of 100"));
}

TEST_F(ConnectionTest, PacketOverTheLimitIsCut) {
  listen(
      [](Transport& transport, const SharedBytes&) {
        transport.handshakeDone();
        return size_t{0};
      },
      {.maxInput = 10'000});
  LoopbackClient client(listener_->bound());
  client.send(std::string(20'000, 'x'));
  EXPECT_EQ(client.readToEnd(), "");
  EXPECT_THAT(closeReason(), HasSubstr("over the limit of 10000"));
}

TEST_F(ConnectionTest, CloseSendsWhatIsQueued) {
  constexpr size_t kSize = 4'000'000;
  listen([](Transport& transport, const SharedBytes& input) {
    transport.handshakeDone();
    transport.send(SharedBytes::own(std::string(kSize, 'z')));
    transport.close("enough");
    transport.send("never");
    return input.size();
  });
  LoopbackClient client(listener_->bound());
  client.send("go");
  EXPECT_TRUE(client.readToEnd() == std::string(kSize, 'z'));
  EXPECT_TRUE(client.ended());
  EXPECT_EQ(closeReason(), "enough");
}

TEST_F(ConnectionTest, LastWordsReachAPeerThatStillSends) {
  listen([](Transport& transport, const SharedBytes& input) {
    transport.handshakeDone();
    transport.send("malformed");
    transport.close("malformed");
    return input.size();
  });
  LoopbackClient client(listener_->bound());
  // More than is read: were the socket just closed, a reset would race the answer.
  client.send(std::string(600'000, 'x'));
  EXPECT_EQ(client.readToEnd(), "malformed");
}

TEST_F(ConnectionTest, CloseGivesUpOnAPeerThatDoesNotRead) {
  listen(
      [](Transport& transport, const SharedBytes& input) {
        transport.handshakeDone();
        transport.send(SharedBytes::own(std::string(size_t{64} * 1024 * 1024, 'z')));
        transport.close("enough");
        return input.size();
      },
      {.closeMicros = 30'000});
  LoopbackClient client(listener_->bound(), 4096);
  client.send("go");
  EXPECT_EQ(closeReason(), "enough");
}

TEST_F(ConnectionTest, WatermarksTellWhenToStopAndWhenToGoOn) {
  ConnectionLimits limits{.highWatermark = 100'000, .lowWatermark = 20'000};
  constexpr size_t kSize = size_t{32} * 1024 * 1024;
  std::promise<bool> congested;
  listen(
      [&](Transport& transport, const SharedBytes& input) {
        transport.handshakeDone();
        transport.send(std::string(100'000, 'a'));
        EXPECT_FALSE(transport.congested());
        transport.send(SharedBytes::own(std::string(kSize, 'b')));
        EXPECT_EQ(transport.unsent(), kSize + 100'000);
        congested.set_value(transport.congested());
        return input.size();
      },
      limits);
  LoopbackClient client(listener_->bound(), 4096);
  client.send("go");
  EXPECT_TRUE(congested.get_future().get());
  auto drained = probe_.drained.get_future();
  // The peer has read nothing: the kernel cannot have taken it all.
  loop_.call([&] { EXPECT_TRUE(probe_.transport->congested()); });
  EXPECT_EQ(drained.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  EXPECT_EQ(client.read(kSize + 100'000).size(), kSize + 100'000);
  drained.get();
  loop_.call([&] { EXPECT_LE(probe_.transport->unsent(), size_t{20'000}); });
}

TEST_F(ConnectionTest, PausedReadingPushesBackAndGoesOn) {
  size_t seen = 0;
  std::promise<void> first;
  listen([&](Transport& transport, const SharedBytes& input) {
    transport.handshakeDone();
    if (seen == 0) {
      transport.pauseReading(true);
      seen = 1;
      first.set_value();
      return size_t{1};
    }
    transport.send(input);
    return input.size();
  });
  LoopbackClient client(listener_->bound());
  client.send("12345");
  first.get_future().get();
  client.send("678");
  // Two rounds in which nothing may be delivered.
  loop_.call([] {});
  loop_.call([&] {
    EXPECT_EQ(probe_.transport->unsent(), 0U);
    probe_.transport->pauseReading(false);
  });
  EXPECT_EQ(client.read(7), "2345678");
}

TEST_F(ConnectionTest, ResetByThePeerIsAnOrdinaryEnd) {
  listen(echo);
  LoopbackClient client(listener_->bound());
  client.send("x");
  EXPECT_EQ(client.read(1), "x");
  client.reset();
  EXPECT_THAT(closeReason(), HasSubstr("reset"));
}

TEST_F(ConnectionTest, WritingToAPeerThatIsGoneRaisesNoSignal) {
  std::promise<void> got;
  listen([&](Transport& transport, const SharedBytes& input) {
    transport.handshakeDone();
    got.set_value();
    return input.size();
  });
  LoopbackClient client(listener_->bound());
  client.send("x");
  got.get_future().get();
  client.reset();
  for (int i = 0; i < 3; ++i) {
    loop_.call([&] {
      if (probe_.transport != nullptr) probe_.transport->send("more");
    });
  }
  EXPECT_NE(closeReason(), "");
}

TEST_F(ConnectionTest, LastInputOfAPeerThatClosedIsDelivered) {
  std::string all;
  listen([&](Transport& transport, const SharedBytes& input) {
    transport.handshakeDone();
    all += input.view();
    transport.send("answer that nobody reads");
    return input.size();
  });
  {
    LoopbackClient client(listener_->bound());
    client.send("first");
    client.send(std::string(100'000, 'x'));
    client.send("last");
    // Closing with the answer unread resets the connection, and what hasn't left by then is lost.
    ASSERT_TRUE(client.allArrived());
  }
  closeReason();
  EXPECT_EQ(all.size(), 100'009U);
}

TEST_F(ConnectionTest, HalfClosedPeerGetsItsAnswer) {
  listen(echo);
  LoopbackClient client(listener_->bound());
  client.send("question");
  client.finishSending();
  EXPECT_EQ(client.readToEnd(), "question");
}

TEST_F(ConnectionTest, IdleConnectionHoldsNoBuffers) {
  listen(echo);
  LoopbackClient client(listener_->bound());
  for (int i = 0; i < 50; ++i) {
    client.send(std::string(3000, 'x'));
    ASSERT_EQ(client.read(3000).size(), 3000U);
  }
  loop_.call([&] { EXPECT_LE(static_cast<Connection*>(probe_.transport)->bufferMemory(), 1024U); });
}

TEST_F(ConnectionTest, KnowsBothAddresses) {
  std::promise<std::pair<std::string, std::string>> addresses;
  listen([&](Transport& transport, const SharedBytes& input) {
    addresses.set_value({transport.peer(), toText(transport.local())});
    return input.size();
  });
  LoopbackClient client(listener_->bound());
  client.send("x");
  auto [peer, local] = addresses.get_future().get();
  EXPECT_THAT(peer, StartsWith("127.0.0.1:"));
  EXPECT_EQ(local, toText(listener_->bound()));
}

TEST_F(ConnectionTest, ShutdownAsksTheSessionAndWaits) {
  listen(echo);
  LoopbackClient client(listener_->bound());
  client.send("x");
  EXPECT_EQ(client.read(1), "x");
  std::promise<void> stopped;
  listener_->stop(10'000'000, [&] { stopped.set_value(); });
  EXPECT_EQ(client.readToEnd(), "");
  client.close();
  stopped.get_future().get();
  EXPECT_TRUE(probe_.shutdownAsked);
  EXPECT_EQ(closeReason(), "good-bye");
  listener_.reset();
}

}  // namespace
}  // namespace polylog
