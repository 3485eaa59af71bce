// Pre-shared keys of TLS (RFC 4279, RFC 8446): a file of identities and their keys, in mosquitto's
// form, in place of certificates. Immutable once loaded, any thread.
#pragma once

#include <openssl/types.h>

#include <memory>
#include <string>
#include <unordered_map>

#include "core/base/error.h"

namespace polylog {

class PskTable {
 public:
  /// A line each of IDENTITY:KEY, the key in hexadecimal digits; empty lines and those that begin
  /// with # are passed over. Errors name tls.psk_file and the line, and never a key.
  static Result<std::unique_ptr<const PskTable>> load(const std::string& path);

  /// Connections of `context`, which the table outlives, take these keys.
  void serve(SSL_CTX* context) const;
  /// The identity whose key the connection was made with; empty = none.
  static std::string identityOf(const SSL* connection);

 private:
  static unsigned int find(SSL* connection, const char* identity, unsigned char* key,
                           unsigned int room);

  std::unordered_map<std::string, std::string> keys_;
};

}  // namespace polylog
