// The broker's own values below $SYS, as Broker::publishSystem() and publishConnection() say: kept
// in memory, and told when they change. publish() always on worker 0; publishConnection() on any.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "router/bridge_store.h"
#include "router/core.h"

namespace polylog::router {

class SystemValues {
 public:
  SystemValues(Core& core, const BridgeTable& bridges) : core_(core), bridges_(bridges) {}

  void publish(std::vector<std::pair<std::string, std::string>> values);
  void publishConnection(const PrincipalRef& principal, const std::string& name, bool connected);

 private:
  Core& core_;
  const BridgeTable& bridges_;
  std::map<std::string, std::string> told_;
  size_t foreignBridges_ = 0;  ///< of those
};

}  // namespace polylog::router
