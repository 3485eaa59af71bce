// The client's side of TLS for connections that the broker makes: whom it believes, and what it
// shows of itself. load() and reload() read files, for start-up and the thread that handles
// signals; sessions() may be called by any thread.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "core/base/error.h"
#include "core/net/layer.h"
#include "core/net/tls_context.h"

namespace polylog {

struct TlsClientOptions {
  /// What stands before the keys' names in error texts ("bridges.north.").
  std::string keyPrefix;
  std::string ca;           ///< PEM; empty = the system's
  std::string certificate;  ///< PEM with its chain, shown if asked for; empty = none
  std::string key;          ///< empty = in the certificate's file
  /// Whether the server's certificate has to have the name of the host that is connected to. Who
  /// has signed it is verified in any case.
  bool verifyHost = true;
  TlsOptions::Version minVersion = TlsOptions::Version::k12;
};

class OutgoingTls {
 public:
  /// Errors name the key, the file and the remedy.
  static Result<std::shared_ptr<OutgoingTls>> load(TlsClientOptions options);
  Result<> reload();

  /// Wraps `inner` in TLS to the server that is called `host` (a name or an IP address).
  SessionFactory sessions(const std::string& host, const LayerLimits& limits,
                          SessionFactory inner) const;

 private:
  struct Loaded;
  class Keys;
  explicit OutgoingTls(TlsClientOptions options) : options_(std::move(options)) {}

  const TlsClientOptions options_;
  mutable std::mutex mutex_;
  std::shared_ptr<const Loaded> loaded_;  // guarded by mutex_
};

}  // namespace polylog
