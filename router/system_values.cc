#include "router/system_values.h"

#include <memory>

#include "core/model/bridge.h"
#include "router/authorizer.h"
#include "router/publisher.h"
#include "router/retained_store.h"

namespace polylog::router {
namespace {

/// Bridges of other brokers whose state is kept below $SYS.
constexpr size_t kMaxForeignBridges = 10'000;

}  // namespace

/// Retained in memory alone; a publish that is stored nowhere brings a new value to who is there.
void SystemValues::publish(std::vector<std::pair<std::string, std::string>> values) {
  static const std::shared_ptr<Session> kNobody;
  std::vector<Publish> records;
  for (const auto& [name, text] : values) {
    std::string& known = told_[name];
    if (known == text) continue;
    known = text;
    Publish& publish = records.emplace_back();
    publish.topic = kSystemTopic;
    publish.address = {kSystemTopic, BytesView(name)};
    publish.ephemeral = true;
    Record& record = publish.record;
    record.key = name;
    record.value = text;
    record.guarantee = DeliveryGuarantee::kAtMostOnce;
    record.timestampMs = core_.clock.wallMillis();
    record.retain = true;
    std::string address;
    appendAddressText(publish.address, address);
    RetainedStore::Change change(*core_.retained);
    change.apply(address, SharedBytes::own(RetainedStore::encode(Protocol::kInternal, record)));
  }
  if (!records.empty()) core_.publisher->publish(brokerItself(), kNobody, records, nullptr);
}

void SystemValues::publishConnection(const PrincipalRef& principal, const std::string& name,
                                     bool connected) {
  std::string key = "broker/connection/" + name + "/state";
  Resource resource{ResourceKind::kTopic, kSystemTopic, Address{kSystemTopic, BytesView(key)}};
  if (!core_.authorizer.permits(principal, Operation::kWrite, resource)) return;
  const bool own = principal->clientId == std::string(kBridgeSessions) + name;
  // Nobody else tells of our own bridges.
  if (!own && bridges_.find(name)) return;
  // The worker on which the broker's values are told.
  core_.workers[0]->post([this, key = std::move(key), own, connected] {
    if (core_.stopping.load()) return;
    if (!own && !told_.contains(key)) {
      if (foreignBridges_ >= kMaxForeignBridges) return;
      ++foreignBridges_;
    }
    publish({{key, connected ? "1" : "0"}});
  });
}

}  // namespace polylog::router
