#include "codecs/kafka/quota_keys.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>

#include "core/base/units.h"
#include "core/net/ip_prefix.h"
#include "mapping/address.h"

namespace polylog::kafka {
namespace {

constexpr double kAnyNumber = 9e18;
constexpr QuotaKey kKeys[] = {
    {"producer_byte_rate", QuotaKind::kProduce, true, kAnyNumber},
    {"consumer_byte_rate", QuotaKind::kFetch, true, kAnyNumber},
    {"request_percentage", QuotaKind::kRequest, false, kAnyNumber},
    {"controller_mutation_rate", QuotaKind::kMutation, false, kAnyNumber},
    {"connection_creation_rate", QuotaKind::kConnection, true, INT32_MAX}};

/// An address as it is written in one way only. Nothing if it is none.
std::optional<std::string> address(const std::string& text) {
  std::optional<IpPrefix> parsed = IpPrefix::parse(text);
  if (!parsed || text.contains('/')) return std::nullopt;
  return parsed->text();
}

}  // namespace

std::span<const QuotaKey> quotaKeys() {
  return kKeys;
}

Result<QuotaEntity> checkedEntity(QuotaEntity entity) {
  if (!entity.user && !entity.clientId && !entity.ip) {
    return fail(ErrorKind::kInvalid, "a quota is for a user, a client id or both, or for an ip");
  }
  for (const auto& name : {entity.user, entity.clientId}) {
    if (name && !mapping::isText(*name)) {
      return fail(ErrorKind::kInvalid, "a user's name and a client id are UTF-8");
    }
  }
  if (!entity.ip) return entity;
  if (entity.user || entity.clientId) {
    return fail(ErrorKind::kInvalid, "quotas for an ip are for nothing beside it");
  }
  if (entity.ip->empty()) return entity;
  std::optional<std::string> ip = address(*entity.ip);
  if (!ip) return fail(ErrorKind::kInvalid, "'" + *entity.ip + "' is no IP address");
  entity.ip = std::move(ip);
  return entity;
}

Result<QuotaChange> quotaChange(const QuotaEntity& entity, BytesView name,
                                std::optional<double> value) {
  const auto* key = std::ranges::find(kKeys, name, &QuotaKey::name);
  if (key == std::end(kKeys) || (key->kind == QuotaKind::kConnection) != entity.ip.has_value()) {
    return fail(ErrorKind::kInvalid,
                "'" + std::string(name) + "' is no quota of " +
                    (entity.ip ? "an ip, which has connection_creation_rate"
                               : "users and client ids, which have producer_byte_rate, "
                                 "consumer_byte_rate, request_percentage and "
                                 "controller_mutation_rate"));
  }
  bool sound = value && std::isfinite(*value) && *value > 0 && *value <= key->most &&
               (!key->whole || *value == std::floor(*value));
  if (value && !sound) {
    return fail(ErrorKind::kInvalid,
                "'" + std::string(name) + "' is " +
                    (key->whole ? wholeNumberFor(name) : std::string("a number")) + " above 0");
  }
  return QuotaChange{entity, key->kind, value};
}

}  // namespace polylog::kafka
