// Who asks. Every Broker call carries one; the router's authorization point judges by it.
#pragma once

#include <memory>
#include <string>

#include "core/base/peer_identity.h"
#include "core/model/topic.h"

namespace polylog {

struct Principal {
  std::string user;      ///< empty = anonymous
  std::string clientId;  ///< as the client names itself
  std::string peer;      ///< "127.0.0.1:50123"
  Protocol protocol = Protocol::kInternal;
  /// What a TLS client certificate has proved; null without one.
  PeerIdentityRef certificate = nullptr;
};

/// One a connection, made at its handshake, shared by all its calls.
using PrincipalRef = std::shared_ptr<const Principal>;

}  // namespace polylog
