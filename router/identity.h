// Which broker this is, and which of its runs: the cluster id that clients are told, made once, and
// the leader epoch, which rises at every start. On the thread that starts the router.
#pragma once

#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/strong.h"
#include "router/core.h"

namespace polylog::router {

struct Identity {
  std::string clusterId;
  LeaderEpoch leaderEpoch;

  /// Adds to `state` what has to be durable before anything is served.
  Result<> load(const Core& core, std::vector<storage::StateChange>& state);
};

}  // namespace polylog::router
