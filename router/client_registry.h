// The clients that are connected, of every protocol, and the bans that keep others out. Any
// worker's thread; a client's end runs on the worker that admitted it.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/model/client.h"
#include "router/ban_list.h"
#include "router/core.h"
#include "router/flapping.h"

namespace polylog::router {

class ClientRegistry final : public Clients {
 public:
  explicit ClientRegistry(Core& core);
  ~ClientRegistry() override;
  Result<> load() { return bans_.load(); }

  Result<std::unique_ptr<ConnectedClient>> admit(
      const PrincipalRef& principal, std::string version,
      std::move_only_function<void(ClientEnd)> end) override;
  /// That a client has got its session: who does too often is banned. Not before, as anybody may
  /// come under another's client id and be turned away. On a worker.
  void opened(const Principal& who);
  void clients(const PrincipalRef& asker, const Query& query,
               Done<Result<std::vector<ClientInfo>>> done) override;
  Result<std::vector<SlowSubscriber>> slow(const PrincipalRef& asker) override;
  Result<size_t> kick(const PrincipalRef& asker, const std::string& clientId) override;
  Result<std::vector<Ban>> bans(const PrincipalRef& asker) override;
  void ban(const PrincipalRef& asker, Ban ban, Done<Result<>> done) override;
  void unban(const PrincipalRef& asker, BanKind kind, std::string what,
             Done<Result<>> done) override;

 private:
  struct Entry;
  struct Table;
  class Held;
  using EntryRef = std::shared_ptr<Entry>;

  Result<> may(const PrincipalRef& asker, Operation operation) const;
  std::vector<ClientInfo> page(const Query& query) const;
  void addBacklogs(std::vector<ClientInfo> page, Done<Result<std::vector<ClientInfo>>> done);
  void put(Worker& caller, Ban ban, Done<Result<>> done);
  void endBanned();
  void end(const EntryRef& entry, ClientEnd why) const;
  template <class Wanted>
  std::vector<EntryRef> matching(Wanted wanted) const;

  Core& core_;
  BanList bans_;
  Flapping flapping_;
  /// Outlives this as long as anybody is connected.
  std::shared_ptr<Table> table_;
  Metric& refused_;
};

}  // namespace polylog::router
