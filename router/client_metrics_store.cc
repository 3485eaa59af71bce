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
  Resource resource{ResourceKind::kCluster, kClusterName};
  if (!core_.authorizer.permits(principal, Operation::kAlterConfigs, resource)) {
    return changes_.refuse(notPermitted(resource), std::move(done));
  }
  if (name.empty() || name.size() > kMaxNameBytes) {
    return changes_.refuse({ErrorKind::kInvalid, "a subscription's name has 1 to 255 octets"},
                           std::move(done));
  }
  auto prepare = [this, name = std::move(name), change = std::move(change)]() mutable {
    return prepared(name, change);
  };
  changes_.add(std::move(prepare), std::move(done));
}

/// Nobody else changes the set meanwhile.
Result<ChangeQueue::Prepared> ClientMetricsStore::prepared(const std::string& name,
                                                           Change& change) {
  std::shared_ptr<const ClientMetricsSet> before = current();
  auto there = before->subscriptions.find(name);
  const bool known = there != before->subscriptions.end();
  ClientMetricsSettings settings = known ? there->second : ClientMetricsSettings{};
  if (Result<> ok = change(settings); !ok) return std::unexpected(ok.error());
  ChangeQueue::Prepared out;
  if (known ? settings == there->second : settings.empty()) return out;
  if (!known && before->subscriptions.size() >= kMaxSubscriptions) {
    return fail(ErrorKind::kBusy, "there are as many subscriptions as are allowed");
  }
  std::optional<std::string> value;
  if (!settings.empty()) value = encodeClientMetrics(settings);
  out.state.push_back({StateTable::kClientMetrics, name, std::move(value)});
  out.apply = [this, name, settings = std::move(settings)](Task inForce) mutable {
    putInForce(name, std::move(settings));
    inForce();
  };
  return out;
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

}  // namespace polylog::router
