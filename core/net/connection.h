// One accepted socket and the protocol session on top of it. A connection and all it owns live on
// one dispatcher's thread; only what its session keeps of the input crosses threads.
//
// Reading: at most ConnectionLimits::readPerRound octets a round, so that one busy peer starves
// nobody. Writing: what a session sends in a round is gathered and written at its end with as few
// sendmsg calls as it takes; the kernel is watched for writability only while it is full.
//
// The session's callbacks come from the loop, never from inside a Transport call and never one
// inside another. onClosed() is the last of them and comes exactly once; then the session is
// destroyed, then the connection.
//
// A layer between socket and session (TLS, WebSocket) is a ProtocolSession towards the connection
// and a Transport towards the session it wraps, put in place by the SessionFactory; nothing here
// knows of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/net/buffer.h"
#include "core/net/transport.h"

struct event;

namespace polylog {

class EventDispatcher;
class Metric;
class Timer;

/// Bounds of one connection, in octets and microseconds.
struct ConnectionLimits {
  /// Unread input: the largest packet that fits. A session has its own, lower limit, to answer a
  /// packet beyond it in the protocol's way; this one only closes.
  size_t maxInput = size_t{17} * 1024 * 1024;
  size_t readPerRound = size_t{256} * 1024;
  size_t highWatermark = size_t{1024} * 1024;
  size_t lowWatermark = size_t{256} * 1024;
  /// Before handshakeDone(). A session that cannot go on with a pipelined packet before then
  /// pauses reading; unread input of that size while it reads closes the connection.
  size_t handshakeInput = 4096;
  int64_t handshakeMicros = 10'000'000;
  /// How long close() goes on sending what is queued.
  int64_t closeMicros = 5'000'000;
  /// How long it then waits for the peer to close, reading and dropping, so that a reset doesn't
  /// overtake the last words.
  int64_t lingerMicros = 1'000'000;
};

/// Where a connection counts its octets; may be shared by many.
struct ConnectionMetrics {
  Metric& received;
  Metric& sent;
};

class Connection final : public Transport, public std::enable_shared_from_this<Connection> {
 public:
  /// Who holds the connection, on the same thread.
  class Owner {
   public:
    virtual ~Owner() = default;
    /// Once at most, from inside the session's call.
    virtual void onHandshakeDone(Connection& connection) = 0;
    /// Session and socket are gone; drop the reference. Once, never from inside a call of
    /// the owner's but abort() and the destructor.
    virtual void onConnectionGone(Connection& connection) = 0;
  };

  struct Addresses {
    std::string peer;
    HostPort local;
  };

  /// Takes over the connected, non-blocking socket `fd`. `limits`, `metrics` and `owner` outlive
  /// it.
  Connection(EventDispatcher& dispatcher, int fd, Addresses addresses,
             const ConnectionLimits& limits, const ConnectionMetrics& metrics, Owner& owner);
  ~Connection() override;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Makes the session and begins to read. Once, after a shared_ptr holds the connection.
  void start(const SessionFactory& makeSession);
  /// Tells the session that the broker stops (once, unless it is closing already).
  void shutdown();
  /// Ends it at once: what is queued is dropped, onClosed(why) and onConnectionGone() follow
  /// before it returns. Not from inside a session's call.
  void abort(std::string_view why);
  /// Why it has closed, for logs; empty while it is open.
  const std::string& closeReason() const { return closeReason_; }
  /// False once handshakeDone() was called or it is gone.
  bool inHandshake() const { return inHandshake_; }
  /// Octets of buffer memory held.
  size_t bufferMemory() const { return input_.capacity() + output_.capacity(); }

  void send(BytesView bytes) override;
  void send(SharedBytes bytes) override;
  size_t unsent() const override { return output_.size(); }
  bool congested() const override { return congested_; }
  void pauseReading(bool paused) override;
  void close(std::string_view why) override;
  void handshakeDone() override;
  const std::string& peer() const override { return addresses_.peer; }
  const HostPort& local() const override { return addresses_.local; }
  Dispatcher& dispatcher() override;

 private:
  enum class State : uint8_t { kNew, kOpen, kClosing, kLingering, kGone };

  void onReadable();
  void onWritable();
  void onTimer();
  bool readOnce(size_t& budget);
  size_t inputLimit() const;
  /// Closes and returns false if the unread input, or the packet it begins, is too large.
  bool withinLimit();
  void deliver();
  void drop();
  void afterSend();
  void afterOutput();
  void scheduleRound();
  void endOfRound();
  void flush();
  void onBrokenPipe(int error);
  void watchReading(bool on);
  void watchWriting(bool on);
  void startTimer(int64_t micros);
  /// Ends the session, then lingers for the peer or is gone.
  void finish(bool linger);
  void gone();

  EventDispatcher& dispatcher_;
  const ConnectionLimits& limits_;
  const ConnectionMetrics& metrics_;
  Owner& owner_;
  Addresses addresses_;
  int fd_;
  event* readEvent_ = nullptr;
  event* writeEvent_ = nullptr;
  std::unique_ptr<Timer> timer_;
  std::unique_ptr<ProtocolSession> session_;
  InputBuffer input_;
  OutputQueue output_;
  std::string closeReason_;
  size_t lingered_ = 0;
  State state_ = State::kNew;
  bool inHandshake_ = true;
  bool congested_ = false;
  bool paused_ = false;
  bool redeliver_ = false;
  bool roundScheduled_ = false;
  bool watchingRead_ = false;
  bool watchingWrite_ = false;
  bool peerClosed_ = false;  // nothing can be sent any more
  bool sawEnd_ = false;      // nothing will be received any more
  bool toldShutdown_ = false;
};

}  // namespace polylog
