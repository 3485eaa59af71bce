// The session that a bridge has here, with its subscriptions: what leaves waits in it, like for any
// subscriber that is away. prepareBridge() makes them before there is a connection; BridgeSession
// goes on with them.
#pragma once

#include <memory>
#include <vector>

#include "codecs/mqtt/bridge_options.h"
#include "core/model/broker.h"

namespace polylog::mqtt {

/// The options of Broker::openSession().
SubscriberOptions bridgeSession(const BridgeOptions& options);
/// Nothing of what it brings in itself, and retained flags as published. With `retained`, the
/// retained records come first; of QoS 0 they do in any case, since nothing of it waits.
std::vector<Subscription> bridgeSubscriptions(const BridgeOptions& options, bool retained);
/// Of the filters that the session had, those that are not wanted any more.
std::vector<std::string> staleFilters(const std::vector<std::string>& had,
                                      const BridgeTopics::Filters& wanted);

/// Opens the bridge's session, subscribes it and leaves it again, so that from then on everything
/// waits, whenever the remote will be reached. `broker` and `memory` live until `done`; a session
/// that began anew is noted in memory.
void prepareBridge(Broker& broker, std::shared_ptr<const BridgeOptions> options,
                   BridgeMemory& memory, Done<Result<>> done);

}  // namespace polylog::mqtt
