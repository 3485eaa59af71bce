// Of which metrics clients are to tell the broker: subscriptions, each with a name and with
// settings as text, by the keys of the one protocol that has such a thing (Kafka's KIP-714). The
// router keeps them and implements ClientMetricsControl; what the settings mean is their protocol's
// to know.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "core/base/done.h"
#include "core/base/error.h"
#include "core/model/principal.h"

namespace polylog {

/// What is set, by key. One that has nothing set isn't there.
using ClientMetricsSettings = std::map<std::string, std::string, std::less<>>;

/// Immutable.
struct ClientMetricsSet {
  std::map<std::string, ClientMetricsSettings, std::less<>> subscriptions;
  uint64_t version = 0;  ///< rises with each change, from 1 at the start
};

/// Every call but current() on a worker; `done` later, on that worker, once the change is durable
/// and in force. The rights are those to see and to alter the cluster's configuration
/// (kUnauthorized).
class ClientMetricsControl {
 public:
  virtual ~ClientMetricsControl() = default;
  virtual Result<std::shared_ptr<const ClientMetricsSet>> subscriptions(
      const PrincipalRef& principal) = 0;
  /// Applied to the settings as they stand when their turn comes; an error changes nothing.
  using Change = std::move_only_function<Result<>(ClientMetricsSettings& settings)>;
  /// kInvalid, kBusy (too many), the change's own errors.
  virtual void alterSubscription(const PrincipalRef& principal, std::string name, Change change,
                                 Done<Result<>> done) = 0;
  /// What is in force. Never null; any thread.
  virtual std::shared_ptr<const ClientMetricsSet> current() const = 0;
};

}  // namespace polylog
