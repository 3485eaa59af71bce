// Quotas: kept in the state table kQuota, a row a value, changed through the journal, held in
// memory as one immutable set. A change is durable before it is in force and before anybody is
// told.
//
// current() may be called on any thread; the rest on a worker's.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "core/model/quotas.h"
#include "router/core.h"

namespace polylog::router {

class QuotaStore final : public QuotaControl {
 public:
  explicit QuotaStore(Core& core) : core_(core), set_(std::make_shared<const QuotaSet>()) {}
  Result<> load();

  Result<std::shared_ptr<const QuotaSet>> quotas(const PrincipalRef& principal) override;
  Result<> mayAlter(const PrincipalRef& principal) const override;
  void alterQuotas(const PrincipalRef& principal, std::vector<QuotaChange> changes,
                   Done<Result<>> done) override;
  std::shared_ptr<const QuotaSet> current() const override;

 private:
  using Key = std::pair<QuotaEntity, QuotaKind>;

  Result<> check(const std::vector<QuotaChange>& changes) const;
  void settled(const std::vector<QuotaChange>& changes, const Result<storage::Appended>& result);
  void apply(const std::vector<QuotaChange>& changes, Position at);

  Core& core_;
  mutable std::mutex lock_;  ///< of what is below
  std::shared_ptr<const QuotaSet> set_;
  size_t underWay_ = 0;
  /// Where the journal has what was put in force while changes are under way: of two the later one
  /// in the journal counts, whichever is heard of first.
  std::map<Key, Position> places_;
};

std::string quotaKey(const QuotaEntity& entity, QuotaKind kind);
std::string encodeQuota(double value);
Result<QuotaChange> decodeQuota(BytesView key, BytesView value);

}  // namespace polylog::router
