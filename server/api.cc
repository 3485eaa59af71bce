#include "server/api.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <span>

#include "core/event/dispatcher.h"
#include "mapping/address.h"
#include "server/admin.h"
#include "server/json.h"
#include "server/scrape.h"

namespace polylog::server {
namespace {

constexpr size_t kBodyOverhead = 1 << 20;

void describeSession(Json& json, const SessionInfo& session) {
  json.object([&] {
    json.field("client_id", session.clientId);
    json.field("user", session.user);
    json.field("connected", session.connected);
    json.field("peer", session.peer);
    json.field("expiry_seconds", static_cast<int64_t>(session.expirySeconds));
    json.field("waiting", session.waiting);
    json.field("waiting_bytes", session.waitingBytes);
    json.field("in_flight", session.inFlight);
    json.field("dropped", session.dropped);
    json.name("subscriptions");
    json.array([&] {
      for (const SubscriptionInfo& subscription : session.subscriptions) {
        json.object([&] {
          json.field("filter", subscription.filter);
          json.field("qos", static_cast<int64_t>(subscription.guarantee) - 1);
        });
      }
    });
  });
}

void describeOffset(Json& json, Broker& broker, const PrincipalRef& principal,
                    const GroupOffset& offset) {
  json.object([&] {
    json.field("topic", offset.topic);
    json.field("partition", static_cast<int64_t>(offset.partition));
    json.field("offset", offset.offset);
    if (auto lag = lagOf(broker, principal, offset)) json.field("lag", *lag);
  });
}

/// Who assigns: the members themselves, or the broker (Kafka's group types).
const char* typeOf(const GroupDescription& group) {
  if (group.kind == GroupKind::kShare) return "share";
  return group.kind == GroupKind::kConsumer ? "consumer" : "classic";
}

void describeMember(Json& json, const GroupMemberDescription& member) {
  json.object([&] {
    json.field("member_id", member.memberId);
    json.field("client_id", member.clientId);
    json.field("client_host", member.clientHost);
    if (!member.consumer) return;
    json.field("epoch", static_cast<int64_t>(member.consumer->epoch));
    json.name("assigned");
    json.array([&] {
      for (const NamedPartitions& one : member.consumer->assigned) {
        for (int32_t partition : one.partitions) {
          json.object([&] {
            json.field("topic", one.topic);
            json.field("partition", static_cast<int64_t>(partition));
          });
        }
      }
    });
  });
}

constexpr const char* kSharePrefix = "$share/";

const char* stateOf(const SharedGroupInfo& group) {
  bool any = std::ranges::any_of(group.members, &SharedGroupInfo::Member::connected);
  return any ? "Stable" : "Empty";
}

void listShared(Json& json, const SharedGroupInfo& group) {
  json.object([&] {
    json.field("group", group.name);
    json.field("state", stateOf(group));
    json.field("protocol_type", "mqtt");
    json.field("members", static_cast<int64_t>(group.members.size()));
    json.field("lag", group.lag);
  });
}

/// A shared subscription, as a consumer group of one topic filter.
void describeShared(Json& json, const SharedGroupInfo& group) {
  json.object([&] {
    json.field("group", group.name);
    json.field("state", stateOf(group));
    json.field("protocol_type", "mqtt");
    json.field("protocol", "shared");
    json.name("members");
    json.array([&] {
      for (const auto& member : group.members) {
        json.object([&] {
          json.field("member_id", member.clientId);
          json.field("client_id", member.clientId);
          json.field("connected", member.connected);
        });
      }
    });
    json.name("offsets");
    json.array([&] {
      json.object([&] {
        size_t from = group.name.find('/', std::char_traits<char>::length(kSharePrefix));
        json.field("topic", group.name.substr(from + 1));
        json.field("lag", group.lag);
        json.field("in_flight", group.inFlight);
      });
    });
  });
}

}  // namespace

Api::Api(Broker& broker, const AdminSecurity& security, Dispatcher& dispatcher)
    : broker_(broker),
      access_(security.access),
      clients_(security.clients),
      tracer_(security.tracer),
      bridges_(security.bridges),
      quotas_(security.quotas),
      clientMetrics_(security.clientMetrics),
      topicDefaults_(security.topicDefaults),
      dispatcher_(dispatcher) {
  Principal principal;
  principal.clientId = "admin";
  principal.protocol = Protocol::kInternal;
  // Who asks has been judged at the listener.
  principal.trusted = true;
  principal_ = std::make_shared<const Principal>(std::move(principal));
}

Api::~Api() = default;

size_t Api::maxBody() const {
  return static_cast<size_t>(broker_.maxRecordBytes()) / 3 * 4 + kBodyOverhead;
}

Error notFound(const char* what, const std::string& name) {
  return {
      ErrorKind::kNotFound,
      fmt::format("there is no {0} `{1}`; `polylog {0} list` shows those there are", what, name)};
}

Result<> checkTopicName(const std::string& name) {
  if (mapping::canonicalTopicPossible(name)) return {};
  return fail(ErrorKind::kInvalid,
              fmt::format("`{}` can't be a topic's name: choose one without `/` that doesn't begin "
                          "with `$`",
                          name));
}

void Api::metrics(Reply reply) {
  scrape(broker_, principal_, [reply = std::move(reply)](std::string text) mutable {
    reply.send(200, text, "text/plain; version=0.0.4");
  });
}

void Api::handle(Call call) {
  const auto& path = call.path;
  if (path.size() >= 2 && path[0] == "api") {
    if (path[1] == "topics")
      return path.size() == 2 ? handleTopics(std::move(call)) : handleTopic(std::move(call));
    if (path[1] == "groups" && path.size() <= 3) return handleGroups(std::move(call));
    if (path[1] == "sessions" && path.size() <= 3) return handleSessions(std::move(call));
    if (path[1] == "queues" && path.size() <= 3) return handleQueues(std::move(call));
    if (path[1] == "users" && path.size() <= 4) return handleUsers(std::move(call));
    if (path[1] == "acls" && path.size() == 2) return handleRules(std::move(call));
    if (path[1] == "clients" && path.size() <= 3) return handleClients(std::move(call));
    if (path[1] == "slow_subscribers" && path.size() == 2) return listSlow(std::move(call));
    if (path[1] == "traces" && path.size() <= 3) return handleTraces(std::move(call));
    if (path[1] == "bridges" && path.size() == 2) return handleBridges(std::move(call));
    if (path[1] == "quotas" && path.size() == 2) return handleQuotas(std::move(call));
    if (path[1] == "client_metrics" && path.size() <= 3) {
      return handleClientMetrics(std::move(call));
    }
    if (path[1] == "topic_defaults" && path.size() == 2) {
      return handleTopicDefaults(std::move(call));
    }
    if (path[1] == "bans" && path.size() == 2) return handleBans(std::move(call));
    if (path[1] == "exchanges" && path.size() <= 3) return handleExchanges(std::move(call));
  }
  call.reply.error(
      {ErrorKind::kNotFound,
       "nothing here; there are /healthz, /readyz, /metrics, /api/topics, /api/groups, "
       "/api/sessions, /api/queues, /api/exchanges, /api/users, /api/acls, /api/clients, "
       "/api/slow_subscribers, /api/bans, /api/traces, /api/bridges, /api/quotas, "
       "/api/client_metrics and /api/topic_defaults"});
}

void Api::handleGroups(Call call) {
  bool one = call.path.size() == 3;
  if (!one && call.method == "GET") return listGroups(std::move(call));
  if (one && call.method == "GET") return describeGroup(std::move(call));
  if (one && call.method == "DELETE") {
    std::string group = call.path[2];
    if (group.starts_with(kSharePrefix)) {
      return call.reply.error({ErrorKind::kGroupNotEmpty,
                               "a shared subscription goes with its last member: end their "
                               "sessions (`polylog session delete`)"});
    }
    return broker_.deleteGroup(principal_, group,
                               acknowledged(std::move(call.reply), 200, notFound("group", group)));
  }
  call.reply.error(
      {ErrorKind::kInvalid, "use GET on /api/groups, GET or DELETE on /api/groups/ID"});
}

void Api::listGroups(Call call) {
  auto done = [this, reply = std::move(call.reply)](std::vector<GroupDescription> groups) mutable {
    Json json;
    json.object([&] {
      json.name("groups");
      json.array([&] {
        for (const GroupDescription& group : groups) {
          int64_t lag = 0;
          for (const GroupOffset& offset : group.offsets) {
            lag += lagOf(broker_, principal_, offset).value_or(0);
          }
          json.object([&] {
            json.field("group", group.group);
            json.field("state", group.state);
            json.field("protocol_type", group.protocolType);
            json.field("type", typeOf(group));
            json.field("members", static_cast<int64_t>(group.members.size()));
            json.field("lag", lag);
          });
        }
        for (const auto& group : broker_.sharedGroups(principal_)) listShared(json, group);
      });
    });
    reply.json(200, json.text());
  };
  broker_.listGroups(principal_, std::move(done));
}

void Api::describeGroup(Call call) {
  std::string group = call.path[2];
  if (group.starts_with(kSharePrefix)) {
    auto shared = broker_.sharedGroups(principal_);
    auto found = std::ranges::find(shared, group, &SharedGroupInfo::name);
    if (found == shared.end()) return call.reply.error(notFound("group", group));
    Json json;
    describeShared(json, *found);
    return call.reply.json(200, json.text());
  }
  auto done = [this, reply = std::move(call.reply),
               absent = notFound("group", group)](Result<GroupDescription> found) mutable {
    if (!found) {
      return reply.error(found.error().kind == ErrorKind::kNotFound ? absent : found.error());
    }
    Json json;
    json.object([&] {
      json.field("group", found->group);
      json.field("state", found->state);
      json.field("protocol_type", found->protocolType);
      json.field("type", typeOf(*found));
      json.field("protocol", found->protocol);
      json.name("members");
      json.array([&] {
        for (const auto& member : found->members) describeMember(json, member);
      });
      json.name("offsets");
      json.array([&] {
        for (const auto& offset : found->offsets) {
          describeOffset(json, broker_, principal_, offset);
        }
      });
    });
    reply.json(200, json.text());
  };
  broker_.describeGroup(principal_, std::move(group), std::move(done));
}

void Api::handleSessions(Call call) {
  bool one = call.path.size() == 3;
  if (one && call.method == "DELETE") {
    std::string client = call.path[2];
    return broker_.deleteSession(
        principal_, client, acknowledged(std::move(call.reply), 200, notFound("session", client)));
  }
  if (call.method != "GET") {
    return call.reply.error(
        {ErrorKind::kInvalid, "use GET on /api/sessions, GET or DELETE on /api/sessions/ID"});
  }
  if (!one) return listSessions(std::move(call));
  std::string client = call.path[2];
  broker_.listSessions(
      principal_, [reply = std::move(call.reply), client](std::vector<SessionInfo> all) mutable {
        auto found = std::ranges::find(all, client, &SessionInfo::clientId);
        if (found == all.end()) return reply.error(notFound("session", client));
        Json json;
        describeSession(json, *found);
        reply.json(200, json.text());
      });
}

/// All of them, or a page: `limit` behind the client id `after`.
void Api::listSessions(Call call) {
  const std::string after = call.query["after"];
  const std::string text = call.query["limit"];
  size_t limit = std::numeric_limits<size_t>::max();
  const char* end = text.data() + text.size();
  const bool given = !text.empty();
  if (given) {
    auto [at, error] = std::from_chars(text.data(), end, limit);
    if (error != std::errc() || at != end || limit == 0) {
      return call.reply.error({ErrorKind::kInvalid, "give limit=1 or more, after=CLIENT_ID"});
    }
  }
  broker_.listSessions(principal_, [reply = std::move(call.reply), after,
                                    limit](std::vector<SessionInfo> all) mutable {
    auto from = after.empty() ? all.begin()
                              : std::ranges::upper_bound(all, after, {}, &SessionInfo::clientId);
    const auto left = static_cast<size_t>(all.end() - from);
    const std::span<const SessionInfo> page(from, std::min(left, limit));
    Json json;
    json.object([&] {
      json.name("sessions");
      json.array([&] {
        for (const SessionInfo& session : page) describeSession(json, session);
      });
      if (page.size() < left) json.field("next", page.back().clientId);
    });
    reply.json(200, json.text());
  });
}

}  // namespace polylog::server
