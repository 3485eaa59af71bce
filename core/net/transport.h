// What a protocol session sees of its connection, and what a connection sees of its session. A
// codec is bytes in, packets out: it knows these two interfaces and no socket, so tests and fuzzers
// drive it without one. Both live on one dispatcher's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/base/bytes.h"
#include "core/base/peer_identity.h"

namespace polylog {

class Dispatcher;

/// A host and a port, as numbers and letters reached us ("127.0.0.1", 9092). A Unix-domain socket
/// is the host "unix:/its/path" with port 0.
struct HostPort {
  std::string host;
  uint16_t port = 0;
};

/// The sending side of one connection. Owned by the connection; outlives its session.
class Transport {
 public:
  virtual ~Transport() = default;
  /// Queues a copy of `bytes`; the socket is written once a round. No effect after close().
  virtual void send(BytesView bytes) = 0;
  /// Queues by reference; worth it from about 1 KiB.
  virtual void send(SharedBytes bytes) = 0;
  /// Octets queued and not yet taken by the kernel.
  virtual size_t unsent() const = 0;
  /// True from the moment that unsent() passes the high watermark until it falls below the low
  /// one, when the session's onDrained() is called. A session stops producing while it is true.
  virtual bool congested() const = 0;
  /// Stops reading (and lets TCP push back) or starts again. May call onBytes() again later, never
  /// from inside.
  virtual void pauseReading(bool paused) = 0;
  /// Sends what is queued (5 s at most), then closes; onClosed(why) follows, never from inside.
  virtual void close(std::string_view why) = 0;
  /// Before this is called the connection is held to the handshake's limits (buffer, deadline).
  virtual void handshakeDone() = 0;
  /// The peer's address, "127.0.0.1:50123", for logs and errors. Behind a PROXY header the one it
  /// tells.
  virtual const std::string& peer() const = 0;
  /// The address of ours that the peer reached.
  virtual const HostPort& local() const = 0;
  /// What the peer has proved to be by a TLS client certificate; null without one. Settled before
  /// the session is made.
  virtual PeerIdentityRef identity() const { return nullptr; }
  virtual Dispatcher& dispatcher() = 0;
};

/// A protocol's state machine for one connection.
class ProtocolSession {
 public:
  virtual ~ProtocolSession() = default;
  /// Handles whole packets at the front of `input` and returns how many octets it used up; what is
  /// left comes again, with more behind it. `input` may be kept (it shares its memory).
  virtual size_t onBytes(const SharedBytes& input) = 0;
  /// How many octets the packet at the front of the unread input needs in all, when known: lets
  /// the connection make room once. 0 = unknown.
  virtual size_t wanted() const { return 0; }
  /// The output has fallen below its low watermark.
  virtual void onDrained() {}
  /// The broker is stopping: say good-bye in the protocol's way and close.
  virtual void onShutdown() = 0;
  /// The last call; the session is destroyed after it. `why` is for logs.
  virtual void onClosed(std::string_view why) = 0;
};

using SessionFactory = std::function<std::unique_ptr<ProtocolSession>(Transport&)>;

}  // namespace polylog
