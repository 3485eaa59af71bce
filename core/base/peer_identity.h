// Who a peer has proved to be below its protocol: by a TLS client certificate that was verified up
// to a CA of ours, or by a pre-shared key, which makes only a user. Made once at the handshake,
// then immutable; any thread may read it.
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace polylog {

struct PeerIdentity {
  /// The certificate's subject as RFC 4514 writes it: "CN=device-17,O=Example".
  std::string subject;
  /// The subject's (last) common name in UTF-8; empty if it has none or one with a NUL.
  std::string commonName;
  /// Subject alternative names with their type: "DNS:a.example", "URI:spiffe://...", "email:...".
  std::vector<std::string> alternativeNames;
  /// SHA-256 of the certificate, in lower-case hexadecimal digits.
  std::string fingerprint;
  /// The user whom the listener takes the peer for (tls.user_from, or the key's identity); empty =
  /// nobody in particular.
  std::string user;
};

using PeerIdentityRef = std::shared_ptr<const PeerIdentity>;

}  // namespace polylog
