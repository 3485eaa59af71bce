#include "router/client_registry.h"

#include <fmt/format.h>

#include <atomic>
#include <utility>

#include "core/base/log.h"
#include "core/base/scram.h"
#include "core/model/bridge.h"
#include "router/session_registry.h"
#include "router/slow_subscribers.h"

namespace polylog::router {
namespace {

/// Longer ids are watched by their hash, so that those of many clients don't add up.
constexpr size_t kLongestWatched = 64;

std::string watchedName(const std::string& clientId) {
  if (clientId.size() <= kLongestWatched) return clientId;
  // No client's id has a NUL.
  return std::string(1, '\0') + scram::digest(scram::Hash::kSha256, clientId);
}

}  // namespace

struct ClientRegistry::Entry {
  ClientInfo info;
  PrincipalRef principal;
  Worker* worker = nullptr;
  // Its worker's.
  std::move_only_function<void(ClientEnd)> end;
  bool gone = false;
};

struct ClientRegistry::Table {
  std::mutex lock;
  std::map<uint64_t, EntryRef> entries;
  uint64_t next = 1;
};

class ClientRegistry::Held final : public ConnectedClient {
 public:
  Held(std::shared_ptr<Table> table, EntryRef entry)
      : table_(std::move(table)), entry_(std::move(entry)) {}
  ~Held() override {
    entry_->gone = true;
    std::lock_guard hold(table_->lock);
    table_->entries.erase(entry_->info.id);
  }

 private:
  std::shared_ptr<Table> table_;
  EntryRef entry_;
};

ClientRegistry::ClientRegistry(Core& core)
    : core_(core),
      bans_(core),
      flapping_(core.options.flapping),
      table_(std::make_shared<Table>()),
      refused_(counter("polylog_clients_banned_total", "Connections of clients that are banned")) {}

ClientRegistry::~ClientRegistry() = default;

Result<> ClientRegistry::may(const PrincipalRef& asker, Operation operation) const {
  const Resource cluster{ResourceKind::kCluster, kClusterName};
  if (core_.authorizer.permits(asker, operation, cluster)) return {};
  return std::unexpected(notPermitted(cluster));
}

Result<std::unique_ptr<ConnectedClient>> ClientRegistry::admit(
    const PrincipalRef& principal, std::string version,
    std::move_only_function<void(ClientEnd)> end) {
  Worker& worker = core_.here();
  const int64_t now = core_.clock.wallMillis();
  auto entry = std::make_shared<Entry>();
  entry->info = {0,
                 principal->protocol,
                 std::move(version),
                 principal->clientId,
                 principal->user,
                 principal->peer,
                 now};
  entry->principal = principal;
  entry->worker = &worker;
  entry->end = std::move(end);
  {
    // In the table before it is judged: a ban that comes into force meanwhile finds it there.
    std::lock_guard hold(table_->lock);
    entry->info.id = table_->next++;
    table_->entries.emplace(entry->info.id, entry);
  }
  auto held = std::make_unique<Held>(table_, entry);
  if (auto ban = bans_.judge(*principal)) {
    refused_.add();
    return fail(ErrorKind::kUnauthorized,
                fmt::format("the {} '{}' is banned{}{}", nameOf(ban->kind), ban->what,
                            ban->reason.empty() ? "" : ": ", ban->reason));
  }
  return held;
}

void ClientRegistry::opened(const Principal& who) {
  // Other protocols' clients don't have ids of their own.
  if (who.protocol != Protocol::kMqtt) return;
  // The broker's own bridges connect as often as the remote lets them.
  if (who.clientId.starts_with(kBridgeSessions)) return;
  if (!flapping_.connected(watchedName(who.clientId), core_.clock.monotonicMicros() / 1000)) return;
  const int64_t now = core_.clock.wallMillis();
  const int64_t millis = flapping_.options().banMillis;
  logWarning(fmt::format("client '{}' connects too often and is banned for {} s", who.clientId,
                         millis / 1000));
  put(core_.here(),
      Ban{BanKind::kClientId, who.clientId, now, now + millis, "it connects too often", kFlapping},
      [clientId = who.clientId](const Result<>& result) {
        if (result) return;
        logWarning(
            fmt::format("client '{}' could not be banned: {}", clientId, result.error().text));
      });
}

// ---------------------------------------------------------------- operators

void ClientRegistry::clients(const PrincipalRef& asker, const Query& query,
                             Done<Result<std::vector<ClientInfo>>> done) {
  if (auto ok = may(asker, Operation::kDescribe); !ok) {
    return core_.here().later(
        [done = std::move(done), error = ok.error()]() mutable { done(std::unexpected(error)); });
  }
  addBacklogs(page(query), std::move(done));
}

std::vector<ClientInfo> ClientRegistry::page(const Query& query) const {
  std::vector<ClientInfo> out;
  std::lock_guard hold(table_->lock);
  for (auto at = table_->entries.upper_bound(query.after);
       at != table_->entries.end() && out.size() < query.limit; ++at) {
    const ClientInfo& info = at->second->info;
    if (!query.clientId.empty() && info.clientId != query.clientId) continue;
    if (!query.user.empty() && info.user != query.user) continue;
    out.push_back(info);
  }
  return out;
}

/// Each worker looks at those of its own sessions.
void ClientRegistry::addBacklogs(std::vector<ClientInfo> page,
                                 Done<Result<std::vector<ClientInfo>>> done) {
  struct Gather {
    std::vector<ClientInfo> page;
    std::vector<std::shared_ptr<Session>> sessions;
    Done<Result<std::vector<ClientInfo>>> done;
    std::atomic<size_t> left;
  };
  auto gather = std::make_shared<Gather>();
  for (const ClientInfo& info : page) {
    const bool subscribes = info.protocol == Protocol::kMqtt;
    gather->sessions.push_back(subscribes ? core_.sessions->find(info.clientId) : nullptr);
  }
  gather->page = std::move(page);
  gather->done = std::move(done);
  gather->left = core_.workers.size();
  Worker* caller = &core_.here();
  for (const auto& worker : core_.workers) {
    worker->post([gather, caller, index = worker->index] {
      for (size_t i = 0; i < gather->page.size(); ++i) {
        const auto& session = gather->sessions[i];
        if (!session || session->worker() != index || !session->connected()) continue;
        const Session::Backlog backlog = session->backlog();
        gather->page[i].waiting = backlog.waiting;
        gather->page[i].waitingBytes = backlog.waitingBytes;
        gather->page[i].inFlight = backlog.inFlight;
        gather->page[i].dropped = backlog.dropped;
      }
      if (--gather->left > 0) return;
      caller->post([gather] { gather->done(std::move(gather->page)); });
    });
  }
}

template <class Wanted>
std::vector<ClientRegistry::EntryRef> ClientRegistry::matching(Wanted wanted) const {
  std::vector<EntryRef> out;
  std::lock_guard hold(table_->lock);
  for (const auto& [id, entry] : table_->entries) {
    if (wanted(*entry)) out.push_back(entry);
  }
  return out;
}

void ClientRegistry::end(const EntryRef& entry, ClientEnd why) const {
  entry->worker->post([entry, why] {
    if (!entry->gone) entry->end(why);
  });
}

Result<std::vector<SlowSubscriber>> ClientRegistry::slow(const PrincipalRef& asker) {
  if (auto ok = may(asker, Operation::kDescribe); !ok) return std::unexpected(ok.error());
  return core_.slow->all(core_.clock.wallMillis());
}

Result<size_t> ClientRegistry::kick(const PrincipalRef& asker, const std::string& clientId) {
  if (auto ok = may(asker, Operation::kAlter); !ok) return std::unexpected(ok.error());
  auto entries = matching([&](const Entry& entry) { return entry.info.clientId == clientId; });
  for (const EntryRef& entry : entries) end(entry, ClientEnd::kByOperator);
  return entries.size();
}

Result<std::vector<Ban>> ClientRegistry::bans(const PrincipalRef& asker) {
  if (auto ok = may(asker, Operation::kDescribe); !ok) return std::unexpected(ok.error());
  return bans_.all();
}

void ClientRegistry::put(Worker& caller, Ban ban, Done<Result<>> done) {
  auto told = std::make_shared<Done<Result<>>>(std::move(done));
  core_.onWorker(*core_.workers[0], [this, &caller, ban = std::move(ban), told]() mutable {
    bans_.put(std::move(ban), [this, &caller, told](Result<> result) {
      if (result) endBanned();
      core_.onWorker(caller, [told, result = std::move(result)] { (*told)(result); });
    });
  });
}

void ClientRegistry::endBanned() {
  for (const EntryRef& entry :
       matching([this](const Entry& each) { return bans_.judge(*each.principal).has_value(); })) {
    end(entry, ClientEnd::kBanned);
  }
}

void ClientRegistry::ban(const PrincipalRef& asker, Ban ban, Done<Result<>> done) {
  Worker& caller = core_.here();
  if (auto ok = may(asker, Operation::kAlter); !ok) {
    return caller.later(
        [done = std::move(done), error = ok.error()]() mutable { done(std::unexpected(error)); });
  }
  ban.createdMs = core_.clock.wallMillis();
  if (ban.by.empty()) ban.by = asker->user.empty() ? "operator" : asker->user;
  put(caller, std::move(ban), std::move(done));
}

void ClientRegistry::unban(const PrincipalRef& asker, BanKind kind, std::string what,
                           Done<Result<>> done) {
  Worker& caller = core_.here();
  if (auto ok = may(asker, Operation::kAlter); !ok) {
    return caller.later(
        [done = std::move(done), error = ok.error()]() mutable { done(std::unexpected(error)); });
  }
  auto told = std::make_shared<Done<Result<>>>(std::move(done));
  core_.onWorker(*core_.workers[0], [this, &caller, kind, what = std::move(what), told] {
    bans_.remove(kind, what, [this, &caller, told](Result<> result) {
      core_.onWorker(caller, [told, result = std::move(result)] { (*told)(result); });
    });
  });
}

}  // namespace polylog::router
