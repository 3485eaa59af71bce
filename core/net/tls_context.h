// The server side's certificates and rules of TLS, loaded from PEM files: what a listener's
// connections are made from. A reload replaces what was loaded as a whole or not at all;
// connections that are there go on with what they began with. Session tickets of before a reload
// are worth nothing after it, so that no revoked certificate is resumed.
//
// load() and reload() read files, for start-up and the thread that handles signals. current() may
// be called by any thread.
#pragma once

#include <openssl/types.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/base/peer_identity.h"

namespace polylog {

struct TlsOptions {
  enum class Clients : uint8_t { kNone, kOptional, kRequired };
  enum class Version : uint8_t { k12, k13 };
  /// What of a client's certificate is the name of its user. Of alternative names the first of the
  /// kind, of common names the last.
  enum class UserFrom : uint8_t { kNothing, kCommonName, kDistinguishedName, kDns, kEmail, kUri };

  /// PEM files, each a server's certificate with the chain that leads to its CA. The one that has
  /// the name a client asks for (SNI) is shown to it, else the first.
  std::vector<std::string> certificates;
  /// The private keys, in the order of the certificates; empty = each in its certificate's file.
  std::vector<std::string> keys;
  /// Whether clients show a certificate; `ca` verifies it, then.
  Clients clients = Clients::kNone;
  std::string ca;
  /// Certificates that are revoked: a list by every CA of the chain; empty = not checked.
  std::string crl;
  UserFrom userFrom = UserFrom::kNothing;
  /// Pre-shared keys, in place of certificates (core/net/tls_psk.h); empty = none.
  std::string pskFile;
  Version minVersion = Version::k12;
  /// OpenSSL's names; empty = OpenSSL's defaults. TLS 1.2's, and TLS 1.3's.
  std::string ciphers;
  std::string ciphersuites;
};

/// What was loaded at one time. Immutable.
class TlsKeys {
 public:
  virtual ~TlsKeys() = default;
  /// A new connection, of which the caller is the owner; null without memory. The keys must outlive
  /// it.
  virtual SSL* makeConnection() const = 0;
  /// False: they are a server's.
  virtual bool forClient() const { return false; }
  /// Who the peer has proved to be, once the connection's handshake is through; null = nothing. An
  /// error: its certificate has no name of the kind that is taken for the user.
  virtual Result<PeerIdentityRef> identify(const SSL* connection) const = 0;
};

class TlsContext {
 public:
  /// Errors name the key (tls.certificate, ...), the file and the remedy.
  static Result<std::shared_ptr<TlsContext>> load(TlsOptions options);
  Result<> reload();
  std::shared_ptr<const TlsKeys> current() const;

 private:
  explicit TlsContext(TlsOptions options) : options_(std::move(options)) {}

  TlsOptions options_;
  mutable std::mutex mutex_;
  std::shared_ptr<const TlsKeys> keys_;  // guarded by mutex_
};

/// The reason that OpenSSL noted last on this thread, in words; forgets all that it noted.
std::string takeTlsError();

}  // namespace polylog
