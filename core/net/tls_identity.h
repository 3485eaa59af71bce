// Reads who a TLS client is out of its certificate. Pure.
#pragma once

#include <openssl/types.h>

#include "core/base/peer_identity.h"

namespace polylog {

/// The identity of the peer whose verified certificate the connection has; null without one.
PeerIdentityRef identityOf(const SSL* connection);

/// The same of any certificate.
PeerIdentity identityOf(X509* certificate);

}  // namespace polylog
