#include "server/bridges.h"

#include <fmt/format.h>

#include <algorithm>
#include <future>
#include <utility>

#include "codecs/mqtt/registration.h"
#include "core/base/log.h"
#include "core/event/event_dispatcher.h"
#include "server/config.h"

namespace polylog::server {
namespace {

/// Around the largest packet.
constexpr size_t kInputOverhead = size_t{1} << 20;

/// A bridge that was configured once. What is kept of it goes with its session.
void tellOfRemoved(BridgeStore& store, const std::string& name) {
  store.backlog(std::string(kBridgeSessions) + name,
                [&store, name](const std::optional<BridgeStore::Backlog>& found) {
                  if (!found) return store.remove(name, [](const Result<>&) {});
                  logWarning(fmt::format(
                      "bridge '{0}' isn't configured any more: its session `$bridge/{0}` goes on "
                      "collecting messages; `polylog session delete '$bridge/{0}'` ends that",
                      name));
                });
}

}  // namespace

Bridges::~Bridges() = default;

Result<std::unique_ptr<Bridges>> Bridges::open(const Config& config, Broker& broker,
                                               BridgeStore& store, mqtt::MqttOptions options,
                                               const std::vector<EventDispatcher*>& workers) {
  std::unique_ptr<Bridges> all(new Bridges(store));
  auto shared =
      std::make_shared<const mqtt::MqttOptions>(mqtt::withLimits(broker, std::move(options)));
  const size_t maxInput = shared->maxPacketBytes + kInputOverhead;
  const BridgeParts parts{broker, store,    all->resolver_,
                          shared, maxInput, config.mqttSysIntervalSeconds > 0};
  for (size_t i = 0; i < config.bridges.size(); ++i) {
    auto made = Bridge::make(config.bridges[i], parts, *workers[i % workers.size()]);
    if (!made) return std::unexpected(made.error());
    all->bridges_.push_back(*std::move(made));
  }
  std::ranges::sort(all->bridges_, {}, &Bridge::name);
  for (const std::string& name : store.names()) {
    if (std::ranges::find(config.bridges, name, &BridgeConfig::name) != config.bridges.end()) {
      continue;
    }
    workers.front()->post([&store, name] { tellOfRemoved(store, name); });
  }
  for (auto& bridge : all->bridges_) {
    bridge->dispatcher().post([each = bridge.get()] { each->start(); });
  }
  return all;
}

void Bridges::list(Done<std::vector<BridgeStatus>> done) const {
  struct Gather {
    std::vector<BridgeStatus> all;
    size_t left = 0;
    Done<std::vector<BridgeStatus>> done;
    void through() {
      if (--left == 0) done(std::move(all));
    }
  };
  auto gather = std::make_shared<Gather>();
  gather->done = std::move(done);
  gather->left = bridges_.size() + 1;
  for (const auto& bridge : bridges_) gather->all.push_back(bridge->status());
  for (size_t i = 0; i < bridges_.size(); ++i) {
    store_.backlog(bridges_[i]->sessionId(),
                   [gather, i](std::optional<BridgeStore::Backlog> found) {
                     if (found) gather->all[i].backlog = *found;
                     gather->through();
                   });
  }
  gather->through();
}

void Bridges::reload() {
  for (auto& bridge : bridges_) {
    if (auto loaded = bridge->reload(); !loaded) {
      logError(fmt::format("bridge '{}' goes on with the certificates that it has: {}",
                           bridge->name(), loaded.error().text));
    }
  }
}

void Bridges::stop() {
  std::vector<std::future<void>> gone;
  for (auto& bridge : bridges_) {
    auto done = std::make_shared<std::promise<void>>();
    gone.push_back(done->get_future());
    bridge->dispatcher().post(
        [each = bridge.get(), done] { each->stop([done] { done->set_value(); }); });
  }
  for (auto& each : gone) each.wait();
}

}  // namespace polylog::server
