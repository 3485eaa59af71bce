// Accepts connections of one protocol and spreads them over the workers, one after the other. The
// accept event lies on every worker's loop; whoever accepts hands the socket to the worker whose
// turn it is, where the connection then lives and dies.
//
// open(), stop() and bound() are for the thread that starts and ends the broker. A listener must be
// destroyed before its dispatchers, after stop() has reported or with their loops not running.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/net/connection.h"
#include "core/net/transport.h"

namespace polylog {

class EventDispatcher;

/// How many connections there may be over all listeners that share it. Thread-safe.
struct ConnectionBudget {
  size_t maxOpen = 100'000;
  /// Of these, how many may be in the handshake still, each with its few KiB of buffer.
  size_t maxInHandshake = 10'000;
  std::atomic<size_t> open{0};
  std::atomic<size_t> inHandshake{0};
};

struct ListenerOptions {
  /// As in --listen: "mqtt". Labels metrics and begins error texts.
  std::string protocol;
  /// Port 0 picks a free one; `localhost` listens on 127.0.0.1 and, if there is one, ::1. A
  /// Unix-domain socket's file is made, in place of one that no program listens on any more, and
  /// removed at the end.
  HostPort address;
  ConnectionLimits limits;
  /// Connections of this listener alone; more are closed at once. 0 = as the budget has it.
  size_t maxConnections = 0;
  /// New connections in a second; more are closed at once. 0 = any number.
  int64_t maxConnectionRate = 0;
  /// Null: a budget of its own.
  std::shared_ptr<ConnectionBudget> budget;
};

class Listener {
 public:
  /// Binds, listens and begins to accept on all `workers` (>= 1), which must outlive it. Fails
  /// with kBusy, naming the address and the remedy, if the port is taken.
  static Result<std::unique_ptr<Listener>> open(ListenerOptions options,
                                                const std::vector<EventDispatcher*>& workers,
                                                SessionFactory makeSession);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  /// Where it listens, with the port that was picked.
  const HostPort& bound() const { return bound_; }
  size_t connections() const;

  /// Stops accepting, tells every session onShutdown(), waits `drainMicros` for the connections to
  /// end and then cuts what is left. `done` is called once, on a worker's thread. From any thread,
  /// once.
  void stop(int64_t drainMicros, std::function<void()> done);

 private:
  struct Shared;
  class Worker;
  Listener() = default;

  HostPort bound_;
  std::shared_ptr<Shared> shared_;
};

}  // namespace polylog
