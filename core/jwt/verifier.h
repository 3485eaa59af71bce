// JSON Web Tokens (RFC 7519) signed as JWS in the compact form (RFC 7515), judged as RFC 8725
// advises: the algorithm is one that the configuration allows and that fits the key, there is an
// expiry, issuer and audience are as configured. Thread-safe.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/jwt/jwk.h"
#include "core/jwt/key_file.h"
#include "core/model/authentication.h"

namespace polylog::jwt {

struct Options {
  std::string keyFile;     ///< PEM or a JWK set; empty = none
  std::string secretFile;  ///< a shared secret; empty = none
  std::string issuer;
  std::vector<std::string> audiences;   ///< a token is for one of these, at least
  std::vector<std::string> algorithms;  ///< that are taken; empty = all that there are
  std::string userClaim = "sub";
  std::string aclClaim = "acl";  ///< of its bearer's rights (acl_claim.h); "none" = not looked at
  int64_t leewaySeconds = 30;    ///< by how much the issuer's clock may differ

  /// Whether any of it is configured.
  bool any() const {
    return !keyFile.empty() || !secretFile.empty() || !issuer.empty() || !audiences.empty();
  }
};

class Verifier final : public TokenVerifier {
 public:
  /// kInvalid, naming the key of the configuration that is missing or wrong, and the remedy.
  static Result<std::shared_ptr<Verifier>> open(Options options);

  /// The login expires when the token does, the leeway included.
  Result<Bearer> verify(BytesView token, int64_t nowMs) override;

 private:
  Verifier(Options options, std::unique_ptr<KeyFiles> keys)
      : options_(std::move(options)), keys_(std::move(keys)) {}
  const Options options_;
  const std::unique_ptr<KeyFiles> keys_;
};

}  // namespace polylog::jwt
