#include "codecs/mqtt/bridge_inbox.h"

#include <algorithm>
#include <utility>

#include "mapping/guarantee.h"
#include "mapping/mqtt.h"

namespace polylog::mqtt {
namespace {

/// One preparation on its way; held by its own callbacks.
class Preparation final : public SubscriberListener,
                          public std::enable_shared_from_this<Preparation> {
 public:
  Preparation(Broker& broker, std::shared_ptr<const BridgeOptions> options, BridgeMemory& memory,
              Done<Result<>> done)
      : broker_(broker), options_(std::move(options)), memory_(memory), done_(std::move(done)) {}

  void start() {
    broker_.openSession(options_->principal, bridgeSession(*options_), this,
                        [self = shared_from_this()](auto opened) { self->opened(opened); });
  }
  void onDeliverable() override {}
  void onTakenOver(bool) override {
    session_ = nullptr;
    finish(fail(ErrorKind::kBusy, "its session was ended by an operator"));
  }

 private:
  void opened(Result<std::shared_ptr<SubscriberSession>>& opened) {
    if (!opened) return finish(std::unexpected(opened.error()));
    if (!done_) return (*opened)->detach();
    session_ = std::move(*opened);
    next_ = memory_.record;
    // What went before has gone, and with it what packet identifiers stood for.
    if (!session_->resumed() || next_.life != session_->life()) next_ = BridgeRecord{};
    next_.life = session_->life();
    auto stale = staleFilters(next_.localFilters, options_->topics.local());
    if (stale.empty()) return subscribe();
    session_->unsubscribe(std::move(stale), [self = shared_from_this()](auto result) {
      if (!result) return self->finish(std::unexpected(result.error()));
      self->subscribe();
    });
  }

  void subscribe() {
    if (!session_) return;
    next_.localFilters.clear();
    for (const auto& [filter, qos] : options_->topics.local()) next_.localFilters.push_back(filter);
    auto wanted = bridgeSubscriptions(*options_, false);
    // What is retained goes out once there is a connection.
    for (Subscription& each : wanted) each.retainHandling = RetainHandling::kNever;
    if (wanted.empty()) return keep();
    session_->subscribe(std::move(wanted), [self = shared_from_this()](const auto& results) {
      for (const auto& result : results) {
        if (!result) return self->finish(std::unexpected(result.error()));
      }
      self->keep();
    });
  }

  void keep() {
    if (next_ == memory_.record) return finish({});
    memory_.keep(std::move(next_),
                 [self = shared_from_this()](Result<> result) { self->finish(std::move(result)); });
  }

  void finish(Result<> result) {
    if (session_) std::exchange(session_, nullptr)->detach();
    if (done_) std::exchange(done_, nullptr)(std::move(result));
  }

  Broker& broker_;
  std::shared_ptr<const BridgeOptions> options_;
  BridgeMemory& memory_;
  Done<Result<>> done_;
  std::shared_ptr<SubscriberSession> session_;
  BridgeRecord next_;
};

}  // namespace

SubscriberOptions bridgeSession(const BridgeOptions& options) {
  SubscriberOptions out;
  out.clientId = options.sessionId();
  out.cleanStart = false;
  out.expirySeconds = kNeverExpires;
  out.window = options.mqtt->maxInflight;
  return out;
}

std::vector<Subscription> bridgeSubscriptions(const BridgeOptions& options, bool retained) {
  std::vector<Subscription> all;
  for (const auto& [filter, qos] : options.topics.local()) {
    auto parsed = mapping::parseMqttFilter(filter);
    if (!parsed) continue;  // the configuration was checked
    Subscription& out = all.emplace_back();
    out.text = filter;
    out.filter = *std::move(parsed);
    out.guarantee = mapping::guaranteeFromQos(qos);
    out.noLocal = true;
    out.retainAsPublished = true;
    out.retainHandling = retained || qos == 0 ? RetainHandling::kAlways : RetainHandling::kNever;
  }
  return all;
}

std::vector<std::string> staleFilters(const std::vector<std::string>& had,
                                      const BridgeTopics::Filters& wanted) {
  std::vector<std::string> stale;
  std::ranges::copy_if(had, std::back_inserter(stale),
                       [&](const std::string& filter) { return !wanted.contains(filter); });
  return stale;
}

void prepareBridge(Broker& broker, std::shared_ptr<const BridgeOptions> options,
                   BridgeMemory& memory, Done<Result<>> done) {
  std::make_shared<Preparation>(broker, std::move(options), memory, std::move(done))->start();
}

}  // namespace polylog::mqtt
