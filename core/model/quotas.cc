#include "core/model/quotas.h"

#include <array>
#include <cmath>

namespace polylog {
namespace {

constexpr size_t kMaxNameBytes = 255;

}  // namespace

std::optional<QuotaSet::Match> QuotaSet::find(QuotaKind kind, const std::string& user,
                                              const std::string& clientId) const {
  const std::string others;
  // As Kafka orders them. Who has a limit of his own is not measured with others.
  const std::array<QuotaEntity, 8> candidates = {{{user, clientId},
                                                  {user, others},
                                                  {user, std::nullopt},
                                                  {others, clientId},
                                                  {others, others},
                                                  {others, std::nullopt},
                                                  {std::nullopt, clientId},
                                                  {std::nullopt, others}}};
  for (const QuotaEntity& candidate : candidates) {
    auto at = quotas.find(candidate);
    if (at == quotas.end()) continue;
    auto value = at->second.find(kind);
    if (value == at->second.end()) continue;
    Match match{value->second, {}};
    if (candidate.user) match.shared.user = user;
    if (candidate.clientId) match.shared.clientId = clientId;
    return match;
  }
  return std::nullopt;
}

std::optional<QuotaSet::Match> QuotaSet::findAddress(const std::string& ip) const {
  for (const std::string& candidate : {ip, std::string()}) {
    auto at = quotas.find({std::nullopt, std::nullopt, candidate});
    if (at == quotas.end()) continue;
    auto value = at->second.find(QuotaKind::kConnection);
    if (value != at->second.end()) {
      return Match{value->second, {std::nullopt, std::nullopt, ip}};
    }
  }
  return std::nullopt;
}

Result<> checkQuotas(const std::vector<QuotaChange>& changes) {
  for (const QuotaChange& change : changes) {
    const QuotaEntity& entity = change.entity;
    bool connects = change.kind == QuotaKind::kConnection;
    bool client = entity.user || entity.clientId;
    if (connects != entity.ip.has_value() || client == connects) {
      return fail(ErrorKind::kInvalid,
                  "a quota is for a user, a client id or both; of connections for an address");
    }
    if (entity.user.value_or("").size() > kMaxNameBytes ||
        entity.clientId.value_or("").size() > kMaxNameBytes ||
        entity.ip.value_or("").size() > kMaxNameBytes) {
      return fail(ErrorKind::kInvalid, "a quota's user and client id have 255 octets at most");
    }
    if (change.value && (!std::isfinite(*change.value) || *change.value <= 0)) {
      return fail(ErrorKind::kInvalid, "a quota is above 0");
    }
  }
  return {};
}

}  // namespace polylog
