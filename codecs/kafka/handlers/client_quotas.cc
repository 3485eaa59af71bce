// DescribeClientQuotas and AlterClientQuotas (KIP-546): how much users, client ids and addresses
// may ask of the broker.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/errors.h"
#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/quota_keys.h"
#include "codecs/kafka/wire/alter_client_quotas.h"
#include "codecs/kafka/wire/describe_client_quotas.h"

namespace polylog::kafka {
namespace {

constexpr BytesView kUser = "user";
constexpr BytesView kClientId = "client-id";
constexpr BytesView kIp = "ip";

enum Match : int8_t { kExact = 0, kDefault = 1, kSpecified = 2 };

struct Filter {
  const wire::DescribeClientQuotasRequest::Component* user = nullptr;
  const wire::DescribeClientQuotasRequest::Component* clientId = nullptr;
  const wire::DescribeClientQuotasRequest::Component* ip = nullptr;
  bool strict = false;
};

Error invalid(std::string text) {
  return {ErrorKind::kInvalid, std::move(text)};
}

Result<Filter> filterOf(const wire::DescribeClientQuotasRequest& request) {
  Filter filter;
  filter.strict = request.strict;
  for (const auto& component : request.components) {
    if (component.matchType < kExact || component.matchType > kSpecified ||
        (component.matchType == kExact) != component.match.has_value()) {
      return std::unexpected(invalid("a component of the filter has no match of its type"));
    }
    const wire::DescribeClientQuotasRequest::Component** place =
        component.entityType == kUser       ? &filter.user
        : component.entityType == kClientId ? &filter.clientId
        : component.entityType == kIp       ? &filter.ip
                                            : nullptr;
    if (place == nullptr) {
      return fail(ErrorKind::kUnsupported,
                  "quotas for '" + std::string(component.entityType) + "' are not known");
    }
    if (*place != nullptr) {
      return std::unexpected(
          invalid("the filter names '" + std::string(component.entityType) + "' twice"));
    }
    *place = &component;
  }
  if (filter.ip != nullptr && (filter.user != nullptr || filter.clientId != nullptr)) {
    return std::unexpected(invalid("quotas for an ip are for nothing beside it"));
  }
  return filter;
}

bool admits(const wire::DescribeClientQuotasRequest::Component* component, bool strict,
            const std::optional<std::string>& part) {
  if (component == nullptr) return !strict || !part;
  if (!part) return false;
  switch (component->matchType) {
    case kExact: return !part->empty() && *part == component->match;
    case kDefault: return part->empty();
    default: return true;
  }
}

template <class Part>
void addPart(std::vector<Part>& entity, BytesView type, const std::optional<std::string>& part) {
  if (!part) return;
  auto& added = entity.emplace_back();
  added.type = type;
  if (!part->empty()) added.name = BytesView(*part);
}

/// An entity as the request names it.
template <class Part>
Result<QuotaEntity> entityOf(const std::vector<Part>& parts) {
  QuotaEntity entity;
  for (const Part& part : parts) {
    std::optional<std::string>* place = part.type == kUser       ? &entity.user
                                        : part.type == kClientId ? &entity.clientId
                                        : part.type == kIp       ? &entity.ip
                                                                 : nullptr;
    if (place == nullptr) {
      return std::unexpected(invalid("quotas for '" + std::string(part.type) + "' are not known"));
    }
    if (*place) return std::unexpected(invalid("'" + std::string(part.type) + "' is named twice"));
    if (part.name && part.name->empty()) {
      return std::unexpected(invalid("the name of a " + std::string(part.type) + " is empty"));
    }
    *place = std::string(part.name.value_or(BytesView()));
  }
  return checkedEntity(std::move(entity));
}

Result<std::vector<QuotaChange>> changesOf(const wire::AlterClientQuotasRequest::Entry& entry) {
  auto entity = entityOf(entry.entity);
  if (!entity) return std::unexpected(entity.error());
  std::vector<QuotaChange> changes;
  for (const auto& op : entry.ops) {
    auto change = quotaChange(*entity, op.key, op.remove ? std::nullopt : std::optional(op.value));
    if (!change) return std::unexpected(change.error());
    if (std::ranges::find(changes, change->kind, &QuotaChange::kind) != changes.end()) {
      return std::unexpected(invalid("'" + std::string(op.key) + "' is named twice"));
    }
    changes.push_back(std::move(*change));
  }
  return changes;
}

}  // namespace

void handleDescribeClientQuotas(const CallRef& call, wire::DescribeClientQuotasRequest&& request) {
  wire::DescribeClientQuotasResponse response;
  auto refuse = [&](int16_t errorCode, BytesView text) {
    response.errorCode = errorCode;
    response.errorMessage = text;
    response.entries.reset();
    call->answer(response);
  };
  auto filter = filterOf(request);
  if (!filter) {
    bool unknown = filter.error().kind == ErrorKind::kUnsupported;
    return refuse(code(unknown ? Code::kUnsupportedVersion : Code::kInvalidRequest),
                  filter.error().text);
  }
  auto& entries = response.entries.emplace();
  QuotaControl* quotas = call->options().quotas;
  if (quotas == nullptr) return call->answer(response);
  auto set = quotas->quotas(call->principal());
  if (!set) return refuse(code(set.error(), Area::kCluster), set.error().text);
  for (const auto& [entity, values] : (*set)->quotas) {
    if (!admits(filter->user, filter->strict, entity.user) ||
        !admits(filter->clientId, filter->strict, entity.clientId) ||
        !admits(filter->ip, filter->strict, entity.ip)) {
      continue;
    }
    auto& entry = entries.emplace_back();
    addPart(entry.entity, kUser, entity.user);
    addPart(entry.entity, kClientId, entity.clientId);
    addPart(entry.entity, kIp, entity.ip);
    for (const QuotaKey& key : quotaKeys()) {
      if (auto at = values.find(key.kind); at != values.end()) {
        entry.values.push_back({key.name, at->second});
      }
    }
  }
  call->answer(response);
}

void handleAlterClientQuotas(const CallRef& call, wire::AlterClientQuotasRequest&& request) {
  auto pending = std::make_shared<Pending<wire::AlterClientQuotasResponse>>(call);
  QuotaControl* quotas = call->options().quotas;
  pending->response.entries.resize(request.entries.size());
  auto settle = [pending](size_t place, const Result<>& done) {
    if (done) return;
    auto& answer = pending->response.entries[place];
    bool malformed = done.error().kind == ErrorKind::kInvalid;
    answer.errorCode = malformed ? code(Code::kInvalidRequest) : code(done.error(), Area::kCluster);
    answer.errorMessage = pending->texts.keep(std::string(done.error().text));
  };
  // One change of all that may be changed.
  std::vector<QuotaChange> all;
  std::vector<size_t> places;
  for (size_t i = 0; i < request.entries.size(); ++i) {
    auto& answer = pending->response.entries[i];
    for (const auto& part : request.entries[i].entity) {
      answer.entity.push_back({part.type, part.name});
    }
    auto changes = changesOf(request.entries[i]);
    if (!changes) {
      settle(i, std::unexpected(changes.error()));
    } else if (quotas == nullptr) {
      settle(i, fail(ErrorKind::kInvalid, "there are no quotas here"));
    } else if (auto may = quotas->mayAlter(call->principal()); !may) {
      settle(i, may);
    } else if (auto sound = checkQuotas(*changes); !sound || request.validateOnly) {
      settle(i, sound);
    } else {
      std::ranges::move(*changes, std::back_inserter(all));
      places.push_back(i);
    }
  }
  if (!all.empty()) {
    ++pending->waiting;
    quotas->alterQuotas(call->principal(), std::move(all),
                        [pending, settle, places = std::move(places)](const Result<>& done) {
                          for (size_t place : places) settle(place, done);
                          pending->release();
                        });
  }
  pending->release();
}

}  // namespace polylog::kafka
