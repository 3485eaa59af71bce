// Outgoing TCP connections: names are looked up on a thread of their own, since the system's
// resolver may block, and sockets are connected on a dispatcher's loop without blocking.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/net/address.h"
#include "core/net/transport.h"

namespace polylog {

class EventDispatcher;

/// Looks names up, one after the other. Any thread; answers come to the dispatcher's.
class Resolver {
 public:
  using Done = std::move_only_function<void(Result<std::vector<SocketAddress>>)>;

  Resolver();
  /// Doesn't wait for a lookup that is under way; its answer is dropped. No answer comes after it,
  /// so dispatchers may go then.
  ~Resolver();
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  /// `done` is posted to `dispatcher`.
  void resolve(HostPort address, EventDispatcher& dispatcher, Done done);

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

/// One attempt to connect. On the dispatcher's thread; destroying it gives the attempt up.
class Connector {
 public:
  /// A connected, non-blocking socket, the caller's from then on, and the peer it is connected to.
  struct Connected {
    int fd = -1;
    std::string peer;
    HostPort local;
  };
  using Done = std::move_only_function<void(Result<Connected>)>;

  /// Begins. `name` is what error texts call the peer. `done` runs once, never from inside this
  /// call, and may destroy the connector.
  Connector(EventDispatcher& dispatcher, const SocketAddress& address, std::string name,
            int64_t timeoutMicros, Done done);
  ~Connector();
  Connector(const Connector&) = delete;
  Connector& operator=(const Connector&) = delete;

 private:
  struct Attempt;
  std::shared_ptr<Attempt> attempt_;
};

}  // namespace polylog
