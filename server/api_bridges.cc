#include "server/api.h"
#include "server/bridges.h"
#include "server/json.h"

namespace polylog::server {
namespace {

void describe(Json& json, const BridgeStatus& bridge) {
  json.object([&] {
    json.field("name", bridge.name);
    json.field("state", bridge.state);
    json.field("since_ms", bridge.sinceMs);
    json.field("address", bridge.address);
    json.field("version", bridge.version);
    json.field("waiting", bridge.backlog.waiting);
    json.field("in_flight", bridge.backlog.inFlight);
    json.field("dropped", bridge.backlog.dropped);
    json.field("sent", bridge.sent);
    json.field("received", bridge.received);
    json.field("denied", bridge.denied);
    json.field("refused", bridge.refused);
    json.field("last_error", bridge.lastError);
    json.field("last_error_ms", bridge.lastErrorMs);
  });
}

void answer(Reply& reply, const std::vector<BridgeStatus>& bridges) {
  Json json;
  json.object([&] {
    json.name("bridges");
    json.array([&] {
      for (const BridgeStatus& bridge : bridges) describe(json, bridge);
    });
  });
  reply.json(200, json.text());
}

}  // namespace

void Api::handleBridges(Call call) {
  if (call.method != "GET") {
    return call.reply.error({ErrorKind::kInvalid, "use GET on /api/bridges"});
  }
  if (bridges_ == nullptr) return answer(call.reply, {});
  bridges_->list([reply = std::move(call.reply)](const std::vector<BridgeStatus>& all) mutable {
    answer(reply, all);
  });
}

}  // namespace polylog::server
