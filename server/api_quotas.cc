// /api/quotas and /api/client_metrics: how much Kafka's clients may ask of the broker, and which
// of their metrics they are asked for, by Kafka's names.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/client_metrics_config.h"
#include "codecs/kafka/quota_keys.h"
#include "core/model/client_metrics.h"
#include "core/model/quotas.h"
#include "mapping/address.h"
#include "server/api.h"
#include "server/json.h"

namespace polylog::server {
namespace {

using Query = decltype(Call::query);

/// What of a query names whom a quota is for. There and empty: whoever has none of their own.
struct Part {
  const char* key;
  const char* text;
  std::optional<std::string> QuotaEntity::* member;
};
constexpr Part kParts[] = {{"user", "user", &QuotaEntity::user},
                           {"client_id", "client id", &QuotaEntity::clientId},
                           {"ip", "ip", &QuotaEntity::ip}};

/// For people.
std::string inWords(const QuotaEntity& entity) {
  std::string out;
  for (const Part& part : kParts) {
    const std::optional<std::string>& name = entity.*part.member;
    if (!name) continue;
    if (!out.empty()) out += ", ";
    out += name->empty() ? fmt::format("every other {}", part.text)
                         : fmt::format("{} {}", part.text, *name);
  }
  return out;
}

void describe(Json& json, const QuotaEntity& entity, const QuotaSet::Values& values) {
  json.object([&] {
    json.field("of", inWords(entity));
    for (const Part& part : kParts) {
      if (const auto& name = entity.*part.member) json.field(part.key, *name);
    }
    for (const kafka::QuotaKey& key : kafka::quotaKeys()) {
      if (auto at = values.find(key.kind); at != values.end()) json.field(key.name, at->second);
    }
  });
}

/// Kafka's.
BytesView nameOf(QuotaKind kind) {
  const auto keys = kafka::quotaKeys();
  auto at = std::ranges::find(keys, kind, &kafka::QuotaKey::kind);
  return at == keys.end() ? "quota" : at->name;
}

/// Takes the parts out of the query.
Result<QuotaEntity> entityIn(Query& query) {
  QuotaEntity entity;
  for (const Part& part : kParts) {
    auto at = query.find(part.key);
    if (at == query.end()) continue;
    entity.*part.member = at->second;
    query.erase(at);
  }
  return kafka::checkedEntity(std::move(entity));
}

std::optional<double> numberIn(const std::string& text) {
  double value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// What is left of the query: quotas with their values, or without one to be removed.
Result<std::vector<QuotaChange>> changesIn(const QuotaEntity& entity, const Query& query,
                                           bool remove) {
  std::vector<QuotaChange> changes;
  for (const auto& [key, text] : query) {
    // What is no number is refused like one that no quota can have.
    std::optional<double> value;
    if (!remove) value = numberIn(text).value_or(std::nan(""));
    auto change = kafka::quotaChange(entity, key, value);
    if (!change) {
      return fail(
          change.error().kind,
          remove ? change.error().text : fmt::format("{}={}: {}", key, text, change.error().text));
    }
    changes.push_back(std::move(*change));
  }
  return changes;
}

}  // namespace

void Api::handleQuotas(Call call) {
  if (quotas_ == nullptr) {
    return call.reply.error({ErrorKind::kUnsupported, "this listener has no quotas"});
  }
  auto set = quotas_->quotas(principal_);
  if (!set) return call.reply.error(set.error());
  if (call.method == "GET") {
    Json json;
    json.object([&] {
      json.name("quotas");
      json.array([&] {
        for (const auto& [entity, values] : (*set)->quotas) describe(json, entity, values);
      });
    });
    return call.reply.json(200, json.text());
  }
  const bool remove = call.method == "DELETE";
  if (!remove && call.method != "POST") {
    return call.reply.error({ErrorKind::kInvalid, "use GET, POST or DELETE on /api/quotas"});
  }
  auto entity = entityIn(call.query);
  if (!entity) return call.reply.error(entity.error());
  auto changes = changesIn(*entity, call.query, remove);
  if (!changes) return call.reply.error(changes.error());
  auto known = (*set)->quotas.find(*entity);
  if (remove && known == (*set)->quotas.end()) {
    return call.reply.error(
        {ErrorKind::kNotFound, fmt::format("there are no quotas for {}; `polylog quota list` shows "
                                           "those there are",
                                           inWords(*entity))});
  }
  for (const QuotaChange& change : *changes) {
    if (change.value || known->second.contains(change.kind)) continue;
    return call.reply.error(
        {ErrorKind::kNotFound, fmt::format("there is no {} for {}; `polylog quota list` shows "
                                           "those there are",
                                           nameOf(change.kind), inWords(*entity))});
  }
  if (remove && changes->empty()) {
    for (const auto& [kind, value] : known->second) changes->push_back({*entity, kind, {}});
  }
  if (changes->empty()) {
    return call.reply.error(
        {ErrorKind::kInvalid,
         "name a quota and its value: producer_byte_rate=1048576 and the like"});
  }
  quotas_->alterQuotas(principal_, std::move(*changes), acknowledged(std::move(call.reply)));
}

void Api::handleClientMetrics(Call call) {
  if (clientMetrics_ == nullptr) {
    return call.reply.error({ErrorKind::kUnsupported, "this listener asks for no metrics"});
  }
  // Kafka's keys have a dot where ours have an underscore.
  constexpr std::pair<const char*, BytesView> kKeys[] = {
      {"metrics", "metrics"}, {"interval_ms", "interval.ms"}, {"match", "match"}};
  if (call.method == "GET" && call.path.size() == 2) {
    auto set = clientMetrics_->subscriptions(principal_);
    if (!set) return call.reply.error(set.error());
    Json json;
    json.object([&] {
      json.name("client_metrics");
      json.array([&] {
        for (const auto& [name, settings] : (*set)->subscriptions) {
          json.object([&] {
            json.field("name", name);
            auto entries = kafka::describeClientMetrics(settings);
            for (const auto& [ours, theirs] : kKeys) {
              auto at = std::ranges::find(entries, theirs, &kafka::ConfigEntry::key);
              if (at != entries.end()) json.field(ours, at->value.value_or(""));
            }
          });
        }
      });
    });
    return call.reply.json(200, json.text());
  }
  const bool remove = call.method == "DELETE";
  if (call.path.size() != 3 || (!remove && call.method != "POST")) {
    return call.reply.error({ErrorKind::kInvalid,
                             "use GET on /api/client_metrics, POST or DELETE on "
                             "/api/client_metrics/NAME"});
  }
  const std::string name = call.path[2];
  if (!mapping::isText(name)) {
    return call.reply.error({ErrorKind::kInvalid, "a subscription's name is UTF-8"});
  }
  if (remove && !call.query.empty()) {
    return call.reply.error(
        {ErrorKind::kInvalid, fmt::format("DELETE takes the whole subscription `{}` away: leave {} "
                                          "out, or set it anew with POST",
                                          name, call.query.begin()->first)});
  }
  auto change = [name, remove, query = std::move(call.query),
                 kKeys](ClientMetricsSettings& settings) -> Result<> {
    if (remove && settings.empty()) {
      return fail(ErrorKind::kNotFound,
                  fmt::format("there is no subscription `{}`; `polylog client-metrics list` shows "
                              "those there are",
                              name));
    }
    if (remove) {
      settings.clear();
      return {};
    }
    if (query.empty())
      return fail(ErrorKind::kInvalid, "set one of metrics, interval_ms and match");
    for (const auto& [key, value] : query) {
      auto known = std::ranges::find(kKeys, key, [](const auto& one) { return one.first; });
      if (known == std::end(kKeys)) return fail(ErrorKind::kInvalid, "there is no " + key);
      auto set = kafka::setClientMetrics(settings, known->second, BytesView(value));
      if (!set) return set;
    }
    return {};
  };
  clientMetrics_->alterSubscription(principal_, name, std::move(change),
                                    acknowledged(std::move(call.reply)));
}

}  // namespace polylog::server
