// /api/clients and /api/bans: who is connected, whom to cut off, and whom to keep out.
#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "core/base/clock.h"
#include "core/model/client.h"
#include "server/api.h"
#include "server/json.h"

namespace polylog::server {
namespace {

constexpr size_t kPage = 100;
constexpr size_t kLargestPage = 1000;
constexpr const char* kKinds[] = {"client_id", "user", "address"};

Error noClients() {
  return {ErrorKind::kUnsupported, "this listener doesn't know who is connected"};
}

std::string get(const Call& call, const char* key) {
  auto found = call.query.find(key);
  return found == call.query.end() ? std::string() : found->second;
}

/// A whole number; nothing if it is none.
std::optional<uint64_t> numberIn(const Call& call, const char* key, uint64_t otherwise) {
  const std::string text = get(call, key);
  if (text.empty()) return otherwise;
  uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<BanKind> kindOf(const std::string& text) {
  for (size_t i = 0; i < std::size(kKinds); ++i) {
    if (text == kKinds[i]) return static_cast<BanKind>(i);
  }
  return std::nullopt;
}

void describe(Json& json, const ClientInfo& client) {
  json.object([&] {
    json.field("id", static_cast<int64_t>(client.id));
    json.field("protocol", protocolName(client.protocol));
    json.field("version", client.version);
    json.field("client_id", client.clientId);
    json.field("user", client.user);
    json.field("peer", client.peer);
    json.field("connected_ms", client.connectedMs);
    json.field("waiting", client.waiting);
    json.field("waiting_bytes", client.waitingBytes);
    json.field("in_flight", client.inFlight);
    json.field("dropped", client.dropped);
  });
}

void describe(Json& json, const Ban& ban) {
  json.object([&] {
    json.field("kind", kKinds[static_cast<size_t>(ban.kind)]);
    json.field("what", ban.what);
    json.field("created_ms", ban.createdMs);
    json.field("until_ms", ban.untilMs);
    json.field("reason", ban.reason);
    json.field("by", ban.by);
  });
}

}  // namespace

void Api::handleClients(Call call) {
  if (clients_ == nullptr) return call.reply.error(noClients());
  const bool one = call.path.size() == 3;
  if (call.method == "GET" && !one) return listClients(std::move(call));
  if (call.method != "DELETE" || !one) {
    return call.reply.error(
        {ErrorKind::kInvalid, "use GET on /api/clients, DELETE on /api/clients/CLIENT_ID"});
  }
  if (call.path[2].empty()) {  // which is what clients without a name have
    return call.reply.error({ErrorKind::kInvalid, "give the client id"});
  }
  auto ended = clients_->kick(principal_, call.path[2]);
  if (!ended) return call.reply.error(ended.error());
  if (*ended == 0) {
    return call.reply.error(
        {ErrorKind::kNotFound,
         fmt::format("no client `{}` is connected; `polylog client list` shows those that are",
                     call.path[2])});
  }
  Json json;
  json.object([&] { json.field("ended", static_cast<int64_t>(*ended)); });
  call.reply.json(200, json.text());
}

void Api::listClients(Call call) {
  auto after = numberIn(call, "after", 0);
  auto limit = numberIn(call, "limit", kPage);
  if (!after || !limit || *limit == 0 || *limit > kLargestPage) {
    return call.reply.error({ErrorKind::kInvalid, "give after=ID and limit=1 to 1000"});
  }
  Clients::Query query{*after, *limit, get(call, "client_id"), get(call, "user")};
  clients_->clients(
      principal_, query,
      [reply = std::move(call.reply), most = *limit](Result<std::vector<ClientInfo>> page) mutable {
        if (!page) return reply.error(page.error());
        Json json;
        json.object([&] {
          json.name("clients");
          json.array([&] {
            for (const ClientInfo& client : *page) describe(json, client);
          });
          if (page->size() == most) json.field("next", static_cast<int64_t>(page->back().id));
        });
        reply.json(200, json.text());
      });
}

void Api::listSlow(Call call) {
  if (clients_ == nullptr) return call.reply.error(noClients());
  auto slow = clients_->slow(principal_);
  if (!slow) return call.reply.error(slow.error());
  Json json;
  json.object([&] {
    json.name("slow_subscribers");
    json.array([&] {
      for (const SlowSubscriber& each : *slow) {
        json.object([&] {
          json.field("client_id", each.clientId);
          json.field("waited_ms", each.millis);
          json.field("at_ms", each.atMs);
        });
      }
    });
  });
  call.reply.json(200, json.text());
}

void Api::handleBans(Call call) {
  if (clients_ == nullptr) return call.reply.error(noClients());
  if (call.method == "GET") {
    auto bans = clients_->bans(principal_);
    if (!bans) return call.reply.error(bans.error());
    Json json;
    json.object([&] {
      json.name("bans");
      json.array([&] {
        for (const Ban& ban : *bans) describe(json, ban);
      });
    });
    return call.reply.json(200, json.text());
  }
  auto kind = kindOf(get(call, "kind"));
  auto seconds = numberIn(call, "seconds", 0);
  const bool known = call.method == "POST" || call.method == "DELETE";
  constexpr uint64_t kMostSeconds = 100ULL * 366 * 86'400;
  if (!known || !kind || !seconds || *seconds > kMostSeconds) {
    return call.reply.error(
        {ErrorKind::kInvalid,
         "use GET, or POST or DELETE with kind=client_id, user or address, "
         "what=WHOM, and with POST seconds=HOW_LONG (0 = for good), reason=TEXT"});
  }
  std::string what = get(call, "what");
  if (call.method == "DELETE") {
    return clients_->unban(principal_, *kind, std::move(what), acknowledged(std::move(call.reply)));
  }
  Ban ban;
  ban.kind = *kind;
  ban.what = std::move(what);
  ban.reason = get(call, "reason");
  ban.by = call.user;
  if (*seconds > 0) {
    ban.untilMs = systemClock().wallMillis() + static_cast<int64_t>(*seconds) * 1000;
  }
  clients_->ban(principal_, std::move(ban), acknowledged(std::move(call.reply), 201));
}

}  // namespace polylog::server
