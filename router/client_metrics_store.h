// Subscriptions of clients' metrics: kept in the state table kClientMetrics, a row a subscription,
// changed through the journal one after the other, held in memory as one immutable set. A change is
// durable before it is in force and before anybody is told.
//
// current() may be called on any thread; the rest on a worker's.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "core/model/client_metrics.h"
#include "router/change_queue.h"

namespace polylog::router {

class ClientMetricsStore final : public ClientMetricsControl {
 public:
  explicit ClientMetricsStore(Core& core)
      : core_(core), set_(std::make_shared<const ClientMetricsSet>()), changes_(core) {}
  Result<> load();

  Result<std::shared_ptr<const ClientMetricsSet>> subscriptions(
      const PrincipalRef& principal) override;
  void alterSubscription(const PrincipalRef& principal, std::string name, Change change,
                         Done<Result<>> done) override;
  std::shared_ptr<const ClientMetricsSet> current() const override;

 private:
  Result<ChangeQueue::Prepared> prepared(const std::string& name, Change& change);
  void putInForce(const std::string& name, ClientMetricsSettings settings);

  Core& core_;
  mutable std::mutex lock_;
  std::shared_ptr<const ClientMetricsSet> set_;  ///< guarded by lock_
  ChangeQueue changes_;
};

std::string encodeClientMetrics(const ClientMetricsSettings& settings);
Result<ClientMetricsSettings> decodeClientMetrics(BytesView value);

}  // namespace polylog::router
