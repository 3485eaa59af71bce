// Reads who a TLS client is out of its certificate. Pure.
#pragma once

#include <openssl/types.h>

#include "core/base/error.h"
#include "core/base/peer_identity.h"
#include "core/net/tls_context.h"

namespace polylog {

/// The identity of the peer whose verified certificate the connection has, with the user that it
/// stands for; null without one. kUnauthorized if the certificate has no name of that kind.
Result<PeerIdentityRef> identityOf(const SSL* connection, TlsOptions::UserFrom userFrom);

/// The name that is taken for the user; empty if there is none.
std::string userOf(const PeerIdentity& identity, TlsOptions::UserFrom from);

/// The same of any certificate.
PeerIdentity identityOf(X509* certificate);

}  // namespace polylog
