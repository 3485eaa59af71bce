// Who is connected, whatever the protocol: every session shows its client here once it has said who
// it is. Clients that are banned are turned away, the others can be listed and ended by operators.
// The router implements it. Calls on a worker's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/done.h"
#include "core/base/error.h"
#include "core/model/principal.h"

namespace polylog {

enum class BanKind : uint8_t { kClientId = 0, kUser = 1, kAddress = 2 };

struct Ban {
  BanKind kind = BanKind::kClientId;
  /// A client id, a user, or an address with or without a prefix length ("10.0.0.0/8").
  std::string what;
  int64_t createdMs = 0;
  int64_t untilMs = -1;  ///< -1 = for good
  std::string reason;
  std::string by;
};

struct ClientInfo {
  uint64_t id = 0;  ///< of the connection, rising
  Protocol protocol = Protocol::kInternal;
  std::string version;  ///< the protocol's, as people write it; may be empty
  std::string clientId;
  std::string user;
  std::string peer;
  int64_t connectedMs = 0;
  // Of subscriber sessions.
  int64_t waiting = 0;   ///< deliveries not acknowledged, those in flight among them
  int64_t waitingBytes = 0;  ///< of those in the log, roughly
  int64_t inFlight = 0;  ///< deliveries that it has been sent and not acknowledged
  int64_t dropped = 0;
};

/// A subscriber that was slow to take what was published while it was connected.
struct SlowSubscriber {
  std::string clientId;
  int64_t millis = 0;  ///< the longest that a record waited for it
  int64_t atMs = 0;    ///< when it last was slow
};

enum class ClientEnd : uint8_t { kByOperator, kBanned };

/// A client that was let in; it is connected for as long as this lives.
class ConnectedClient {
 public:
  virtual ~ConnectedClient() = default;
};

class Clients {
 public:
  virtual ~Clients() = default;

  /// `end` runs on this worker, never inside a call, while the result lives: the connection is to be
  /// closed. kUnauthorized, with what is banned and until when.
  virtual Result<std::unique_ptr<ConnectedClient>> admit(
      const PrincipalRef& principal, std::string version,
      std::move_only_function<void(ClientEnd)> end) = 0;

  // For operators. kUnauthorized without rights on the cluster (kDescribe to see, kAlter to
  // change).

  struct Query {
    uint64_t after = 0;  ///< connections with greater ids, in their order
    size_t limit = 1000;
    std::string clientId{};  ///< not empty: only its
    std::string user{};
  };
  virtual void clients(const PrincipalRef& asker, const Query& query,
                       Done<Result<std::vector<ClientInfo>>> done) = 0;
  /// The worst of the last five minutes, 100 at most, the worst first.
  virtual Result<std::vector<SlowSubscriber>> slow(const PrincipalRef& asker) = 0;
  /// Ends all connections of the client id (MQTT sessions stay); how many there were.
  virtual Result<size_t> kick(const PrincipalRef& asker, const std::string& clientId) = 0;

  /// Those in force, by kind and what.
  virtual Result<std::vector<Ban>> bans(const PrincipalRef& asker) = 0;
  /// Instead of an earlier one of the same. `done` when durable and in force; who is connected and
  /// banned by then is cut off. kInvalid, kBusy (too many).
  virtual void ban(const PrincipalRef& asker, Ban ban, Done<Result<>> done) = 0;
  /// kNotFound.
  virtual void unban(const PrincipalRef& asker, BanKind kind, std::string what,
                     Done<Result<>> done) = 0;
};

}  // namespace polylog
