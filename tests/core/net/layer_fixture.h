// A layer between a FakeTransport and a session that a test scripts: the test plays the connection.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/net/transport.h"
#include "tests/support/fake_transport.h"
#include "tests/support/manual_dispatcher.h"

namespace polylog {

/// What the session above a layer saw, and what it shall do.
struct UpperProbe {
  Transport* transport = nullptr;  ///< null until there is a session, and after it
  std::string received;            ///< used up, in order
  std::vector<size_t> deliveries;  ///< sizes of what it was called with
  std::string closed;              ///< why
  bool shutdown = false;
  bool drained = false;
  size_t wanted = 0;
  /// Returns how many octets are used up.
  std::function<size_t(BytesView)> take = [](BytesView input) { return input.size(); };
};

class ProbedSession final : public ProtocolSession {
 public:
  ProbedSession(Transport& transport, UpperProbe& probe) : probe_(probe) {
    probe_.transport = &transport;
  }
  size_t onBytes(const SharedBytes& input) override {
    EXPECT_FALSE(std::exchange(inside_, true)) << "re-entered";
    probe_.deliveries.push_back(input.size());
    size_t used = probe_.take(input.view());
    probe_.received.append(input.view().substr(0, used));
    inside_ = false;
    return used;
  }
  size_t wanted() const override { return probe_.wanted; }
  void onDrained() override { probe_.drained = true; }
  void onShutdown() override {
    probe_.shutdown = true;
    probe_.transport->close("shutdown");
  }
  void onClosed(std::string_view why) override {
    probe_.transport->send("no effect");
    probe_.transport = nullptr;
    probe_.closed = std::string(why);
  }

 private:
  UpperProbe& probe_;
  bool inside_ = false;
};

class LayerTest : public testing::Test {
 protected:
  SessionFactory probed() {
    return
        [this](Transport& transport) { return std::make_unique<ProbedSession>(transport, probe_); };
  }
  /// Makes the layer.
  void put(const SessionFactory& factory) { layer_ = factory(lower_); }
  /// Octets from the peer, as a connection gives them: what isn't used up comes again.
  void receive(BytesView bytes) {
    unread_ += bytes;
    giveUnread();
  }
  void receiveSlowly(BytesView bytes) {
    for (char octet : bytes) receive(BytesView(&octet, 1));
  }
  void giveUnread() {
    if (unread_.empty() || lower_.closed || lower_.paused) return;
    size_t used = layer_->onBytes(SharedBytes::copyOf(unread_));
    ASSERT_LE(used, unread_.size());
    unread_.erase(0, used);
  }
  /// The end of the round, with what a connection does when reading goes on.
  void endRound() {
    dispatcher_.runAll();
    giveUnread();
    dispatcher_.runAll();
  }
  /// What a connection does when it is through.
  void end() {
    layer_->onClosed(lower_.reason);
    layer_.reset();
  }

  test::FakeClock clock_;
  test::ManualDispatcher dispatcher_{clock_};
  test::FakeTransport lower_{dispatcher_};
  UpperProbe probe_;
  std::unique_ptr<ProtocolSession> layer_;
  std::string unread_;
};

}  // namespace polylog
