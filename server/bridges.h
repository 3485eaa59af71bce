// All bridges of the configuration, over the workers. open(), reload() and stop() are for the
// thread that starts and ends the broker; list() for any worker's. Destroy it when the loops have
// ended.
#pragma once

#include <memory>
#include <vector>

#include "core/base/done.h"
#include "core/base/error.h"
#include "server/bridge.h"

namespace polylog {
class EventDispatcher;
}

namespace polylog::server {

struct Config;

class Bridges {
 public:
  /// Makes and starts them. What isn't configured any more and still has messages is told of.
  static Result<std::unique_ptr<Bridges>> open(const Config& config, Broker& broker,
                                               BridgeStore& store, mqtt::MqttOptions options,
                                               const std::vector<EventDispatcher*>& workers);
  ~Bridges();
  Bridges(const Bridges&) = delete;
  Bridges& operator=(const Bridges&) = delete;

  /// How each stands, by name, with what waits for it now.
  void list(Done<std::vector<BridgeStatus>> done) const;
  void reload();
  /// Waits until all connections have ended. The loops run.
  void stop();

 private:
  explicit Bridges(BridgeStore& store) : store_(store) {}

  BridgeStore& store_;
  Resolver resolver_;
  std::vector<std::unique_ptr<Bridge>> bridges_;
};

}  // namespace polylog::server
