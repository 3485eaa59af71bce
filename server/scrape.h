// What /metrics answers: everything that the layers count as it happens (core/base/metrics.h), and
// what is only worth finding out when somebody asks: the process's memory, how far groups lag. A
// worker's thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/model/broker.h"

namespace polylog::server {

/// How many records of the partition the group has still before it; nothing when the partition is
/// gone. A group that has committed nothing there (-1) has all of them before it.
std::optional<int64_t> lagOf(Broker& broker, const PrincipalRef& principal,
                             const GroupOffset& offset);

/// Prometheus's text format 0.0.4. `done` as Broker's callbacks run.
void scrape(Broker& broker, const PrincipalRef& principal, Done<std::string> done);

}  // namespace polylog::server
