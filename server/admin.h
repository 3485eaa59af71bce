// The admin listener: health, metrics and the management API (JSON), over HTTP/1.1 on one worker's
// loop. It calls the Broker like any protocol does. What outside tools may rely on:
// docs/operations.md.
//
// open() and stop() are for the thread that starts and ends the broker, while the worker's loop
// runs; destroy it after that loop has ended. Requests are answered on the worker.
#pragma once

#include <functional>
#include <memory>

#include "core/base/error.h"
#include "core/net/transport.h"

namespace polylog {
class AccessControl;
class Authenticator;
class Broker;
class ClientMetricsControl;
class Clients;
class DynamicDefaults;
class EventDispatcher;
class QuotaControl;
namespace mqtt {
class Tracer;
}
}  // namespace polylog

namespace polylog::server {

class Bridges;

/// Who may use the API. Until there are users, everybody on this machine; from then on users with
/// rights on the cluster (kDescribe to look, kAlter to change), by HTTP's Basic. /healthz and
/// /readyz are for everybody, /metrics for everybody on this machine and such users.
struct AdminSecurity {
  Authenticator* authenticator = nullptr;  ///< null: everybody may do everything
  AccessControl* access = nullptr;
  bool allowAnonymous = false;       ///< the rules of ANONYMOUS hold for those without a user
  Clients* clients = nullptr;        ///< null: who is connected can't be seen
  mqtt::Tracer* tracer = nullptr;    ///< null: nothing can be traced
  const Bridges* bridges = nullptr;  ///< null: there are none
  QuotaControl* quotas = nullptr;    ///< null: Kafka's clients can't be slowed down
  ClientMetricsControl* clientMetrics = nullptr;  ///< null: nor asked for their metrics
  DynamicDefaults* topicDefaults = nullptr;       ///< null: the configuration's stay while it runs
};

class AdminServer {
 public:
  virtual ~AdminServer() = default;

  /// kBusy, naming the address and the remedy, if the port is taken. `ready` says what /readyz
  /// answers; it is called on the worker.
  static Result<std::unique_ptr<AdminServer>> open(const HostPort& address, EventDispatcher& worker,
                                                   Broker& broker, std::function<bool()> ready,
                                                   AdminSecurity security = {});
  /// Where it listens, with the port that was picked.
  virtual const HostPort& bound() const = 0;
  /// Closes its connections and accepts no more.
  virtual void stop() = 0;
};

}  // namespace polylog::server
