#include "router/quota_store.h"

#include <bit>
#include <set>
#include <utility>

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"
#include "router/authorizer.h"
#include "router/state_codec.h"

namespace polylog::router {
namespace {

using storage::StateTable;

constexpr uint8_t kVersion = 1;
constexpr size_t kMaxQuotas = 10'000;

void putPart(ByteWriter& out, const std::optional<std::string>& part) {
  out.u8(part ? 1 : 0);
  if (part) putText(out, *part);
}
std::optional<std::string> getPart(ByteReader& in) {
  uint8_t there = in.u8();
  if (there > 1) in.fail();
  if (there != 1) return std::nullopt;
  return getText(in);
}

}  // namespace

std::string quotaKey(const QuotaEntity& entity, QuotaKind kind) {
  ByteWriter out;
  out.u8(static_cast<uint8_t>(kind));
  putPart(out, entity.user);
  putPart(out, entity.clientId);
  if (kind == QuotaKind::kConnection) putPart(out, entity.ip);
  return out.take();
}

std::string encodeQuota(double value) {
  ByteWriter out;
  out.u8(kVersion);
  out.u64(std::bit_cast<uint64_t>(value));
  return out.take();
}

Result<QuotaChange> decodeQuota(BytesView key, BytesView value) {
  ByteReader name(key);
  QuotaChange quota;
  uint8_t kind = name.u8();
  if (kind > static_cast<uint8_t>(QuotaKind::kConnection)) name.fail();
  quota.kind = static_cast<QuotaKind>(kind);
  quota.entity.user = getPart(name);
  quota.entity.clientId = getPart(name);
  if (quota.kind == QuotaKind::kConnection) quota.entity.ip = getPart(name);
  ByteReader in(value);
  if (in.u8() != kVersion) in.fail();
  quota.value = std::bit_cast<double>(in.u64());
  if (name.complete() && in.complete()) return quota;
  return fail(ErrorKind::kCorrupt, "state of a quota can't be read");
}

Result<> QuotaStore::load() {
  QuotaSet set;
  std::optional<Error> error;
  core_.store.scanState(StateTable::kQuota, {}, [&](BytesView key, BytesView value) {
    auto quota = decodeQuota(key, value);
    if (!quota) {
      error = quota.error();
      return false;
    }
    set.quotas[quota->entity][quota->kind] = *quota->value;
    return true;
  });
  if (error) return std::unexpected(*error);
  set_ = std::make_shared<const QuotaSet>(std::move(set));
  return {};
}

std::shared_ptr<const QuotaSet> QuotaStore::current() const {
  std::lock_guard hold(lock_);
  return set_;
}

Result<std::shared_ptr<const QuotaSet>> QuotaStore::quotas(const PrincipalRef& principal) {
  Resource resource{ResourceKind::kCluster, kClusterName};
  if (!core_.authorizer.permits(principal, Operation::kDescribeConfigs, resource)) {
    return std::unexpected(notPermitted(resource));
  }
  return current();
}

Result<> QuotaStore::mayAlter(const PrincipalRef& principal) const {
  Resource resource{ResourceKind::kCluster, kClusterName};
  if (core_.authorizer.permits(principal, Operation::kAlterConfigs, resource)) return {};
  return std::unexpected(notPermitted(resource));
}

void QuotaStore::alterQuotas(const PrincipalRef& principal, std::vector<QuotaChange> changes,
                             Done<Result<>> done) {
  Result<> may = mayAlter(principal);
  if (may) may = checkQuotas(changes);
  if (!may) return changes_.refuse(may.error(), std::move(done));
  auto prepare = [this, changes = std::move(changes)]() mutable {
    return prepared(std::move(changes));
  };
  changes_.add(std::move(prepare), std::move(done));
}

/// Nobody else changes the quotas meanwhile.
Result<ChangeQueue::Prepared> QuotaStore::prepared(std::vector<QuotaChange> changes) {
  std::shared_ptr<const QuotaSet> before = current();
  std::set<QuotaEntity> added;
  ChangeQueue::Prepared out;
  for (const QuotaChange& change : changes) {
    if (change.value && !before->quotas.contains(change.entity)) added.insert(change.entity);
    std::optional<std::string> value;
    if (change.value) value = encodeQuota(*change.value);
    out.state.push_back(
        {StateTable::kQuota, quotaKey(change.entity, change.kind), std::move(value)});
  }
  if (!added.empty() && before->quotas.size() + added.size() > kMaxQuotas) {
    return fail(ErrorKind::kBusy, "there are as many quotas as are allowed: remove some first");
  }
  out.apply = [this, changes = std::move(changes)](Task inForce) {
    putInForce(changes);
    inForce();
  };
  return out;
}

void QuotaStore::putInForce(const std::vector<QuotaChange>& changes) {
  std::lock_guard hold(lock_);
  auto set = std::make_shared<QuotaSet>(*set_);
  for (const QuotaChange& change : changes) {
    QuotaSet::Values& values = set->quotas[change.entity];
    if (change.value) {
      values[change.kind] = *change.value;
    } else {
      values.erase(change.kind);
    }
    if (values.empty()) set->quotas.erase(change.entity);
  }
  set_ = std::move(set);
}

}  // namespace polylog::router
