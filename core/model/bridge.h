// What a bridge to another broker keeps with the journal, beside the session that it has like any
// subscriber. Implemented by the router; on any worker, `done` as of Broker.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/done.h"
#include "core/base/error.h"

namespace polylog {

/// Client identifiers that begin so, with the bridge's name behind it, are those of the broker's
/// own bridges: no client can have one.
inline constexpr BytesView kBridgeSessions = "$bridge/";

class BridgeStore {
 public:
  struct Backlog {
    int64_t waiting = 0;   ///< not acknowledged by the remote
    int64_t inFlight = 0;  ///< of those, sent to it
    int64_t dropped = 0;   ///< since the broker started: past the inbox's limit or retention
  };

  virtual ~BridgeStore() = default;
  /// Of whom something is kept.
  virtual std::vector<std::string> names() const = 0;
  /// What was stored last: octets of the bridge's own. Nothing: none was.
  virtual std::optional<std::string> find(const std::string& name) const = 0;
  /// `done` when durable. One at a time of a name.
  virtual void store(const std::string& name, std::string value, Done<Result<>> done) = 0;
  /// Nothing is kept of it any more.
  virtual void remove(const std::string& name, Done<Result<>> done) = 0;
  /// Of a session; nothing if there is none.
  virtual void backlog(const std::string& clientId, Done<std::optional<Backlog>> done) = 0;
};

}  // namespace polylog
