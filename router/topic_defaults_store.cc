#include "router/topic_defaults_store.h"

#include <optional>
#include <utility>

#include "router/authorizer.h"
#include "router/catalogue.h"
#include "router/state_codec.h"

namespace polylog::router {
namespace {

using storage::StateTable;

const char* rowOf(DefaultsScope scope) {
  return scope == DefaultsScope::kCluster ? "cluster" : "broker";
}

TopicConfig& layerOf(TopicDefaults& defaults, DefaultsScope scope) {
  return scope == DefaultsScope::kCluster ? defaults.cluster : defaults.broker;
}

bool empty(const TopicConfig& layer) {
  return layer.overrides.empty() && layer.own == TopicFields();
}

}  // namespace

Result<> TopicDefaultsStore::load() {
  TopicDefaults defaults;
  defaults.fileMqtt = core_.options.defaultsMqtt;
  defaults.fileKafka = core_.options.defaultsKafka;
  for (DefaultsScope scope : {DefaultsScope::kCluster, DefaultsScope::kBroker}) {
    auto row = core_.store.getState(StateTable::kTopicDefaults, rowOf(scope));
    if (!row) continue;
    auto layer = decodeTopicDefaults(rowOf(scope), *row);
    if (!layer) return std::unexpected(layer.error());
    layerOf(defaults, scope) = std::move(*layer);
  }
  core_.catalogue->beginWith(std::make_shared<const TopicDefaults>(std::move(defaults)));
  return {};
}

std::shared_ptr<const TopicDefaults> TopicDefaultsStore::current() const {
  return core_.catalogue->defaults();
}

Result<> TopicDefaultsStore::mayAlter(const PrincipalRef& principal) const {
  Resource resource{ResourceKind::kCluster, kClusterName};
  if (core_.authorizer.permits(principal, Operation::kAlterConfigs, resource)) return {};
  return std::unexpected(notPermitted(resource));
}

void TopicDefaultsStore::alter(const PrincipalRef& principal, DefaultsScope scope, Change change,
                               Done<Result<>> done) {
  if (Result<> may = mayAlter(principal); !may) {
    return changes_.refuse(may.error(), std::move(done));
  }
  auto prepare = [this, scope, change = std::move(change)]() mutable {
    return prepared(scope, change);
  };
  changes_.add(std::move(prepare), std::move(done));
}

/// Nobody else changes the defaults meanwhile.
Result<ChangeQueue::Prepared> TopicDefaultsStore::prepared(DefaultsScope scope, Change& change) {
  const TopicConfig before = current()->layer(scope);
  TopicConfig layer = before;
  if (Result<> ok = change(layer); !ok) return std::unexpected(ok.error());
  ChangeQueue::Prepared out;
  if (layer == before) return out;
  std::optional<std::string> value;
  if (!empty(layer)) value = encodeTopicDefaults(layer);
  out.state.push_back({StateTable::kTopicDefaults, rowOf(scope), std::move(value)});
  out.apply = [this, scope, layer = std::move(layer)](Task inForce) mutable {
    TopicDefaults changed = *current();
    layerOf(changed, scope) = std::move(layer);
    core_.catalogue->putDefaults(core_.here(),
                                 std::make_shared<const TopicDefaults>(std::move(changed)),
                                 std::move(inForce));
  };
  return out;
}

}  // namespace polylog::router
