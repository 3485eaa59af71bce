// Opens a listener as configured: what lies between a protocol's session and the socket (WebSocket,
// TLS, PROXY protocol), and the listener's limits.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/net/listener.h"
#include "core/net/tls_context.h"
#include "server/config.h"

namespace polylog {
class EventDispatcher;
}  // namespace polylog

namespace polylog::server {

struct OpenListener {
  std::string name;  ///< "mqtts=127.0.0.1:8883", with the port that was picked
  std::unique_ptr<Listener> listener;
  std::shared_ptr<TlsContext> tls;  ///< null without TLS
};

/// Not for `admin`. `own` is configFor(wanted). `workers` outlive it.
Result<OpenListener> openListener(const ListenerConfig& wanted, const Config& own,
                                  SessionFactory sessions,
                                  const std::vector<EventDispatcher*>& workers,
                                  std::shared_ptr<ConnectionBudget> budget);

}  // namespace polylog::server
