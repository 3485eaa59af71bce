#include "router/client_metrics_store.h"

#include <optional>
#include <utility>

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"
#include "router/authorizer.h"
#include "router/state_codec.h"

namespace polylog::router {
namespace {

using storage::StateTable;

constexpr uint8_t kVersion = 1;
constexpr size_t kMaxSubscriptions = 1000;
constexpr size_t kMaxNameBytes = 255;
constexpr size_t kMaxWaiting = 1000;

}  // namespace

std::string encodeClientMetrics(const ClientMetricsSettings& settings) {
  ByteWriter out;
  out.u8(kVersion);
  out.u16(static_cast<uint16_t>(settings.size()));
  for (const auto& [key, value] : settings) {
    putText(out, key);
    putText(out, value);
  }
  return out.take();
}

Result<ClientMetricsSettings> decodeClientMetrics(BytesView value) {
  ByteReader in(value);
  if (in.u8() != kVersion) in.fail();
  ClientMetricsSettings settings;
  for (uint16_t left = in.u16(); left > 0 && in.ok(); --left) {
    std::string key = getText(in);
    settings[std::move(key)] = getText(in);
  }
  if (in.complete()) return settings;
  return fail(ErrorKind::kCorrupt, "state of a subscription of clients' metrics can't be read");
}

Result<> ClientMetricsStore::load() {
  ClientMetricsSet set;
  set.version = 1;
  std::optional<Error> error;
  core_.store.scanState(StateTable::kClientMetrics, {}, [&](BytesView key, BytesView value) {
    auto settings = decodeClientMetrics(value);
    if (!settings) {
      error = settings.error();
      return false;
    }
    set.subscriptions.emplace(key, std::move(*settings));
    return true;
  });
  if (error) return std::unexpected(*error);
  set_ = std::make_shared<const ClientMetricsSet>(std::move(set));
  return {};
}

std::shared_ptr<const ClientMetricsSet> ClientMetricsStore::current() const {
  std::lock_guard hold(lock_);
  return set_;
}

Result<std::shared_ptr<const ClientMetricsSet>> ClientMetricsStore::subscriptions(
    const PrincipalRef& principal) {
  Resource resource{ResourceKind::kCluster, kClusterName};
  if (!core_.authorizer.permits(principal, Operation::kDescribeConfigs, resource)) {
    return std::unexpected(notPermitted(resource));
  }
  return current();
}

void ClientMetricsStore::alterSubscription(const PrincipalRef& principal, std::string name,
                                           Change change, Done<Result<>> done) {
  Worker& worker = core_.here();
  auto turn = std::make_shared<Turn>(worker, std::move(name), std::move(change), std::move(done));
  auto refuse = [&](Error error) {
    worker.later([turn, error = std::move(error)] { turn->done(std::unexpected(error)); });
  };
  Resource resource{ResourceKind::kCluster, kClusterName};
  if (!core_.authorizer.permits(principal, Operation::kAlterConfigs, resource)) {
    return refuse(notPermitted(resource));
  }
  if (turn->name.empty() || turn->name.size() > kMaxNameBytes) {
    return refuse({ErrorKind::kInvalid, "a subscription's name has 1 to 255 octets"});
  }
  {
    std::lock_guard hold(lock_);
    if (turns_.size() < kMaxWaiting) {
      turns_.push_back(turn);
      if (turns_.size() == 1) worker.later([this, turn] { take(turn); });
      return;
    }
  }
  refuse({ErrorKind::kBusy, "too many changes of subscriptions wait: try again"});
}

/// On the turn's worker. Nobody else changes the set meanwhile.
void ClientMetricsStore::take(const TurnRef& turn) {
  std::shared_ptr<const ClientMetricsSet> before = current();
  auto there = before->subscriptions.find(turn->name);
  const bool known = there != before->subscriptions.end();
  ClientMetricsSettings settings = known ? there->second : ClientMetricsSettings{};
  if (Result<> ok = turn->change(settings); !ok) return finish(*turn, ok);
  if (known ? settings == there->second : settings.empty()) return finish(*turn, {});
  if (!known && before->subscriptions.size() >= kMaxSubscriptions) {
    return finish(*turn, fail(ErrorKind::kBusy, "there are as many subscriptions as are allowed"));
  }
  storage::AppendRequest request;
  std::optional<std::string> value;
  if (!settings.empty()) value = encodeClientMetrics(settings);
  request.state.push_back({StateTable::kClientMetrics, turn->name, std::move(value)});
  request.durability = storage::Durability::kSynced;
  request.sink = &turn->worker.sink;
  request.done = [this, turn,
                  settings = std::move(settings)](const Result<storage::Appended>& result) mutable {
    if (result) {
      putInForce(turn->name, std::move(settings));
      return finish(*turn, {});
    }
    ++core_.writeFailures;
    finish(*turn, std::unexpected(result.error()));
  };
  if (auto appended = core_.store.append(std::move(request)); !appended) {
    finish(*turn, std::unexpected(appended.error()));
  }
}

void ClientMetricsStore::putInForce(const std::string& name, ClientMetricsSettings settings) {
  std::lock_guard hold(lock_);
  auto set = std::make_shared<ClientMetricsSet>(*set_);
  ++set->version;
  if (settings.empty()) {
    set->subscriptions.erase(name);
  } else {
    set->subscriptions[name] = std::move(settings);
  }
  set_ = std::move(set);
}

void ClientMetricsStore::finish(Turn& turn, const Result<>& result) {
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
