#include "server/listeners.h"

#include <utility>

#include "core/net/address.h"
#include "core/net/proxy_layer.h"
#include "core/net/tls_layer.h"
#include "core/net/websocket_layer.h"
#include "server/listener_config.h"

namespace polylog::server {
namespace {

/// What a packet may have around its largest message (names, properties, other partitions).
constexpr int64_t kPacketOverhead = 1 << 20;

}  // namespace

Result<OpenListener> openListener(const ListenerConfig& wanted, const Config& own,
                                  SessionFactory sessions,
                                  const std::vector<EventDispatcher*>& workers,
                                  std::shared_ptr<ConnectionBudget> budget) {
  const ListenerKind& kind = *listenerKind(wanted.protocol);
  ListenerOptions options;
  options.protocol = wanted.protocol;
  options.address = wanted.address;
  options.limits.maxInput = static_cast<size_t>(own.maxMessageBytes + kPacketOverhead);
  options.limits.handshakeMicros = own.handshakeSeconds * 1'000'000;
  options.maxConnections = static_cast<size_t>(own.listenerConnections);
  options.maxConnectionRate = own.listenerConnectionRate;
  options.budget = std::move(budget);
  const LayerLimits layers{options.limits.maxInput, options.limits.handshakeInput};

  OpenListener opened;
  if (kind.webSocket) sessions = webSocketSessions(own.webSocket, layers, std::move(sessions));
  if (kind.tls) {
    auto loaded = TlsContext::load(own.tls);
    if (!loaded) return std::unexpected(loaded.error());
    opened.tls = *std::move(loaded);
    sessions = tlsSessions(opened.tls, layers, std::move(sessions));
  }
  if (own.proxyProtocol) sessions = proxiedSessions(std::move(sessions));
  auto listener = Listener::open(std::move(options), workers, std::move(sessions));
  if (!listener) return std::unexpected(listener.error());
  opened.listener = *std::move(listener);
  opened.name = wanted.protocol + "=" + toText(opened.listener->bound());
  return opened;
}

}  // namespace polylog::server
