// A connection's door to exchanges, queues and streams: what core/model/queue.h promises, over the
// exchange table, the queue registry and the catalogue. On its connection's worker.
#pragma once

#include <memory>

#include "core/model/principal.h"
#include "core/model/queue.h"
#include "router/core.h"

namespace polylog::router {

std::unique_ptr<QueueClient> makeQueueClient(Core& core, const PrincipalRef& principal);

}  // namespace polylog::router
