// Quotas: kept in the state table kQuota, a row a value, changed through the journal, held in
// memory as one immutable set. A change is durable before it is in force and before anybody is
// told.
//
// current() may be called on any thread; the rest on a worker's.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "core/model/quotas.h"
#include "router/change_queue.h"

namespace polylog::router {

class QuotaStore final : public QuotaControl {
 public:
  explicit QuotaStore(Core& core)
      : core_(core), set_(std::make_shared<const QuotaSet>()), changes_(core) {}
  Result<> load();

  Result<std::shared_ptr<const QuotaSet>> quotas(const PrincipalRef& principal) override;
  Result<> mayAlter(const PrincipalRef& principal) const override;
  void alterQuotas(const PrincipalRef& principal, std::vector<QuotaChange> changes,
                   Done<Result<>> done) override;
  std::shared_ptr<const QuotaSet> current() const override;

 private:
  Result<ChangeQueue::Prepared> prepared(std::vector<QuotaChange> changes);
  void putInForce(const std::vector<QuotaChange>& changes);

  Core& core_;
  mutable std::mutex lock_;
  std::shared_ptr<const QuotaSet> set_;  ///< guarded by lock_
  ChangeQueue changes_;
};

std::string quotaKey(const QuotaEntity& entity, QuotaKind kind);
std::string encodeQuota(double value);
Result<QuotaChange> decodeQuota(BytesView key, BytesView value);

}  // namespace polylog::router
