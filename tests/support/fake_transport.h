// A Transport that keeps what is sent, for driving a ProtocolSession without a socket. The test
// says when it is congested. Own thread only.
#pragma once

#include <string>
#include <utility>

#include "core/net/transport.h"

namespace polylog::test {

class FakeTransport final : public Transport {
 public:
  explicit FakeTransport(Dispatcher& dispatcher) : dispatcher_(dispatcher) {}

  void send(BytesView bytes) override {
    if (!closed) sent.append(bytes);
  }
  void send(SharedBytes bytes) override {
    if (closed) return;
    sent.append(bytes.view());
    ++sentByReference;
  }
  size_t unsent() const override { return sent.size(); }
  bool congested() const override { return isCongested || sent.size() >= congestedAt; }
  void pauseReading(bool value) override { paused = value; }
  void close(std::string_view why) override {
    if (closed) return;
    closed = true;
    reason = std::string(why);
  }
  void handshakeDone() override { handshakeIsDone = true; }
  const std::string& peer() const override { return peer_; }
  const HostPort& local() const override { return local_; }
  Dispatcher& dispatcher() override { return dispatcher_; }

  PeerIdentityRef identity() const override { return identity_; }

  /// It has shown a certificate that stands for the user.
  void certifiedAs(const std::string& user) {
    PeerIdentity identity;
    identity.user = user;
    identity_ = std::make_shared<const PeerIdentity>(std::move(identity));
  }
  void peerIs(std::string peer) { peer_ = std::move(peer); }
  std::string takeSent() { return std::exchange(sent, {}); }

  std::string sent;
  size_t sentByReference = 0;
  bool isCongested = false;
  size_t congestedAt = SIZE_MAX;
  bool paused = false;
  bool closed = false;
  bool handshakeIsDone = false;
  std::string reason;

 private:
  Dispatcher& dispatcher_;
  std::string peer_ = "127.0.0.1:50123";
  HostPort local_{"127.0.0.1", 1883};
  PeerIdentityRef identity_;
};

}  // namespace polylog::test
