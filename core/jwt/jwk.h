// The keys with which tokens are verified: PEM (public keys, certificates), a JWK set (RFC 7517) or
// a shared secret; and what signatures each may verify. A key is for the algorithms of its own kind
// and nothing else, whatever a token says (RFC 8725, 3.1): a public key is never taken for a shared
// secret, and `none` is no algorithm. Immutable once made, any thread.
#pragma once

#include <openssl/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/error.h"

namespace polylog::jwt {

/// RFC 7518, 3.1, and RFC 8037.
struct Algorithm {
  enum class Family : uint8_t { kHmac, kRsa, kRsaPss, kEcdsa, kEdDsa };
  const char* name;
  Family family;
  int bits;  ///< of the hash
};

/// Null if there is none of that name.
const Algorithm* findAlgorithm(BytesView name);
/// Their names, separated by commas.
std::string algorithmNames();

class Key {
 public:
  /// With the octets of a shared secret.
  static Key ofSecret(std::string id, std::string secret);
  /// Takes over a public key.
  static Key ofPublic(std::string id, EVP_PKEY* key);

  /// The JWK's `kid`; empty = it has none.
  const std::string& id() const { return id_; }
  /// Whether it may verify signatures of that algorithm: by its kind, curve and length.
  bool fits(const Algorithm& algorithm) const;
  /// Restricts it to one algorithm (the JWK's `alg`).
  void restrictTo(std::string algorithm) { only_ = std::move(algorithm); }
  bool fitsAny() const;
  /// Whether `signature` (RFC 7515's form) is that of `signedText`. Only if it fits().
  bool verifies(const Algorithm& algorithm, BytesView signedText, BytesView signature) const;

 private:
  bool verifiesHmac(const Algorithm& algorithm, BytesView text, BytesView signature) const;
  bool verifiesPublic(const Algorithm& algorithm, BytesView text, BytesView signature) const;

  std::string id_;
  std::string only_;
  std::string secret_;
  std::shared_ptr<EVP_PKEY> public_;
};

/// The keys in a file's text that can verify anything; those of a JWK set that are for something
/// else, or of an unknown kind, are passed over. kInvalid, with what is wrong and the remedy, if
/// there is none, or a private key where a public one belongs.
Result<std::vector<Key>> parseKeys(BytesView text);

/// Octets of base64url without padding (RFC 7515, 2); nothing unless `text` is exactly that.
std::optional<std::string> fromBase64Url(BytesView text);

}  // namespace polylog::jwt
