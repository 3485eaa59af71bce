// Who is banned: kept in kBan, changed through the journal, held in memory for judging. A ban that
// has run out counts for nothing, and its entry goes at the next change.
//
//   kBan  octet kind, what -> u64 created (ms), i64 until (ms), texts: reason, by
//
// judge() and all() on any thread; changes on worker 0, one after the other.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/model/client.h"
#include "core/net/ip_prefix.h"
#include "router/core.h"

namespace polylog::router {

/// Whose bans those are that flapping detection makes.
inline constexpr const char* kFlapping = "flapping";

class BanList {
 public:
  explicit BanList(Core& core) : core_(core) {}
  Result<> load();

  /// The ban that is about this client, if there is one in force.
  std::optional<Ban> judge(const Principal& principal) const;
  std::vector<Ban> all() const;

  /// `done` on worker 0, once it is durable and judge() knows of it. kInvalid, kBusy.
  void put(Ban ban, std::function<void(Result<>)> done);
  /// kNotFound.
  void remove(BanKind kind, const std::string& what, std::function<void(Result<>)> done);

 private:
  using Key = std::pair<BanKind, std::string>;

  bool runs(const Ban& ban) const;
  void insert(Ban ban);
  void erase(const Key& key);
  std::vector<Key> runOut() const;
  void append(std::vector<storage::StateChange> state, std::function<void()> apply,
              std::function<void(Result<>)> done);

  Core& core_;
  mutable std::mutex lock_;  ///< of what follows
  std::map<Key, Ban> bans_;
  std::map<IpPrefix, std::string> addresses_;  ///< to their name in bans_
  std::map<uint8_t, size_t> lengths_;          ///< of prefixes, and how many there are
  size_t inFlight_ = 0;                        ///< changes on their way; worker 0's alone
};

/// The name under which it is kept. kInvalid for what no client can be.
Result<std::string> banName(BanKind kind, const std::string& what);
/// "client_id", "user", "address".
const char* nameOf(BanKind kind);

}  // namespace polylog::router
