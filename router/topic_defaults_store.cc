#include "router/topic_defaults_store.h"

#include <optional>
#include <utility>

#include "router/authorizer.h"
#include "router/catalogue.h"
#include "router/state_codec.h"

namespace polylog::router {
namespace {

using storage::StateTable;

constexpr size_t kMaxWaiting = 1000;

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
  Worker& worker = core_.here();
  auto turn = std::make_shared<Turn>(worker, scope, std::move(change), std::move(done));
  auto refuse = [&](Error error) {
    worker.later([turn, error = std::move(error)] { turn->done(std::unexpected(error)); });
  };
  if (Result<> may = mayAlter(principal); !may) return refuse(may.error());
  {
    std::lock_guard hold(lock_);
    if (turns_.size() < kMaxWaiting) {
      turns_.push_back(turn);
      if (turns_.size() == 1) worker.later([this, turn] { take(turn); });
      return;
    }
  }
  refuse({ErrorKind::kBusy, "too many changes of the broker's configuration wait: try again"});
}

/// On the turn's worker. Nobody else changes the defaults meanwhile.
void TopicDefaultsStore::take(const TurnRef& turn) {
  const TopicConfig before = current()->layer(turn->scope);
  TopicConfig layer = before;
  if (Result<> ok = turn->change(layer); !ok) return finish(*turn, ok);
  if (layer == before) return finish(*turn, {});
  storage::AppendRequest request;
  std::optional<std::string> value;
  if (!empty(layer)) value = encodeTopicDefaults(layer);
  request.state.push_back({StateTable::kTopicDefaults, rowOf(turn->scope), std::move(value)});
  request.durability = storage::Durability::kSynced;
  request.sink = &turn->worker.sink;
  request.done = [this, turn,
                  layer = std::move(layer)](const Result<storage::Appended>& result) mutable {
    if (result) return putInForce(turn, std::move(layer));
    ++core_.writeFailures;
    finish(*turn, std::unexpected(result.error()));
  };
  if (auto appended = core_.store.append(std::move(request)); !appended) {
    finish(*turn, std::unexpected(appended.error()));
  }
}

void TopicDefaultsStore::putInForce(const TurnRef& turn, TopicConfig layer) {
  TopicDefaults changed = *current();
  layerOf(changed, turn->scope) = std::move(layer);
  core_.catalogue->putDefaults(turn->worker,
                               std::make_shared<const TopicDefaults>(std::move(changed)),
                               [this, turn] { finish(*turn, {}); });
}

void TopicDefaultsStore::finish(Turn& turn, const Result<>& result) {
  {
    std::lock_guard hold(lock_);
    turns_.pop_front();
    if (!turns_.empty()) {
      TurnRef next = turns_.front();
      next->worker.post([this, next] { take(next); });
    }
  }
  turn.done(result);
}

}  // namespace polylog::router
