// Who asks. Every Broker call carries one; the router's authorization point judges by it.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "core/base/peer_identity.h"
#include "core/model/topic.h"

namespace polylog {

/// What a login may and may not do by its own word (a token's claim), beside the rules for its
/// user. Made and read by the router alone. Any thread.
class LoginRights {
 public:
  virtual ~LoginRights() = default;
};
using LoginRightsRef = std::shared_ptr<const LoginRights>;

struct Principal {
  std::string user;      ///< as it has proved to be; empty = anonymous
  std::string clientId;  ///< as the client names itself
  std::string peer;      ///< "127.0.0.1:50123"
  Protocol protocol = Protocol::kInternal;
  /// What a TLS client certificate has proved; null without one.
  PeerIdentityRef certificate = nullptr;
  /// Turns true when the user is deleted; null for those who are nobody's user.
  std::shared_ptr<const std::atomic<bool>> revoked = nullptr;
  bool trusted = false;             ///< the broker's own: no rule applies
  LoginRightsRef rights = nullptr;  ///< null: the rules are all that there is

  bool isRevoked() const { return revoked != nullptr && revoked->load(std::memory_order_relaxed); }
};

/// One a connection, made at its handshake, shared by all its calls.
using PrincipalRef = std::shared_ptr<const Principal>;

}  // namespace polylog
