#include "core/jwt/jwk.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>

#include <algorithm>
#include <array>
#include <utility>

#include "core/base/scram.h"

namespace polylog::jwt {
namespace {

using Family = Algorithm::Family;

constexpr std::array kAlgorithms = {
    Algorithm{"RS256", Family::kRsa, 256},    Algorithm{"RS384", Family::kRsa, 384},
    Algorithm{"RS512", Family::kRsa, 512},    Algorithm{"PS256", Family::kRsaPss, 256},
    Algorithm{"PS384", Family::kRsaPss, 384}, Algorithm{"PS512", Family::kRsaPss, 512},
    Algorithm{"ES256", Family::kEcdsa, 256},  Algorithm{"ES384", Family::kEcdsa, 384},
    Algorithm{"ES512", Family::kEcdsa, 512},  Algorithm{"EdDSA", Family::kEdDsa, 0},
    Algorithm{"HS256", Family::kHmac, 256},   Algorithm{"HS384", Family::kHmac, 384},
    Algorithm{"HS512", Family::kHmac, 512},
};

/// RFC 7518, 3.3.
constexpr int kMinRsaBits = 2048;

const EVP_MD* hashOf(const Algorithm& algorithm) {
  switch (algorithm.bits) {
    case 256: return EVP_sha256();
    case 384: return EVP_sha384();
    case 512: return EVP_sha512();
    default: return nullptr;  // EdDSA has its own
  }
}

const unsigned char* octets(BytesView view) {
  return reinterpret_cast<const unsigned char*>(view.data());
}

/// RFC 7518, 3.4: the curve that belongs to the hash, and the octets of a coordinate.
struct Curve {
  const char* name;
  size_t octets;
};
Curve curveOf(const Algorithm& algorithm) {
  switch (algorithm.bits) {
    case 256: return {"prime256v1", 32};
    case 384: return {"secp384r1", 48};
    default: return {"secp521r1", 66};
  }
}

bool isOnCurve(const EVP_PKEY* key, const char* name) {
  std::array<char, 64> group{};
  size_t size = 0;
  return EVP_PKEY_get_group_name(key, group.data(), group.size(), &size) == 1 &&
         BytesView(group.data(), size) == name;
}

/// OpenSSL's form (DER) of a signature that is two numbers of fixed length (RFC 7518, 3.4).
std::string derOf(BytesView signature) {
  const size_t half = signature.size() / 2;
  auto number = [](BytesView part) {
    return BN_bin2bn(octets(part), static_cast<int>(part.size()), nullptr);
  };
  ECDSA_SIG* pair = ECDSA_SIG_new();
  // The numbers are the pair's from then on.
  ECDSA_SIG_set0(pair, number(signature.substr(0, half)), number(signature.substr(half)));
  unsigned char* der = nullptr;
  const int size = i2d_ECDSA_SIG(pair, &der);
  std::string out(reinterpret_cast<char*>(der), size > 0 ? static_cast<size_t>(size) : 0);
  OPENSSL_free(der);
  ECDSA_SIG_free(pair);
  return out;
}

}  // namespace

const Algorithm* findAlgorithm(BytesView name) {
  const auto* found = std::ranges::find(kAlgorithms, name, &Algorithm::name);
  return found == kAlgorithms.end() ? nullptr : found;
}

std::string algorithmNames() {
  std::string names;
  for (const Algorithm& each : kAlgorithms)
    names += (names.empty() ? "" : ", ") + std::string(each.name);
  return names;
}

Key Key::ofSecret(std::string id, std::string secret) {
  Key key;
  key.id_ = std::move(id);
  key.secret_ = std::move(secret);
  return key;
}

Key Key::ofPublic(std::string id, EVP_PKEY* publicKey) {
  Key key;
  key.id_ = std::move(id);
  key.public_ = std::shared_ptr<EVP_PKEY>(publicKey, EVP_PKEY_free);
  return key;
}

bool Key::fits(const Algorithm& algorithm) const {
  if (!only_.empty() && only_ != algorithm.name) return false;
  if (algorithm.family == Family::kHmac) {
    // RFC 7518, 3.2: as long as the hash, at least.
    return !public_ && secret_.size() * 8 >= static_cast<size_t>(algorithm.bits);
  }
  if (!public_) return false;
  const int kind = EVP_PKEY_get_base_id(public_.get());
  switch (algorithm.family) {
    case Family::kRsa:
      return kind == EVP_PKEY_RSA && EVP_PKEY_get_bits(public_.get()) >= kMinRsaBits;
    case Family::kRsaPss:
      return (kind == EVP_PKEY_RSA || kind == EVP_PKEY_RSA_PSS) &&
             EVP_PKEY_get_bits(public_.get()) >= kMinRsaBits;
    case Family::kEcdsa:
      return kind == EVP_PKEY_EC && isOnCurve(public_.get(), curveOf(algorithm).name);
    case Family::kEdDsa: return kind == EVP_PKEY_ED25519;
    case Family::kHmac: break;
  }
  return false;
}

bool Key::fitsAny() const {
  return std::ranges::any_of(kAlgorithms, [this](const Algorithm& each) { return fits(each); });
}

bool Key::verifies(const Algorithm& algorithm, BytesView signedText, BytesView signature) const {
  if (!fits(algorithm)) return false;
  const bool right = algorithm.family == Family::kHmac
                         ? verifiesHmac(algorithm, signedText, signature)
                         : verifiesPublic(algorithm, signedText, signature);
  ERR_clear_error();
  return right;
}

bool Key::verifiesHmac(const Algorithm& algorithm, BytesView text, BytesView signature) const {
  std::array<unsigned char, EVP_MAX_MD_SIZE> mac{};
  unsigned int size = 0;
  if (HMAC(hashOf(algorithm), secret_.data(), static_cast<int>(secret_.size()), octets(text),
           text.size(), mac.data(), &size) == nullptr) {
    return false;
  }
  return scram::sameOctets(BytesView(reinterpret_cast<const char*>(mac.data()), size), signature);
}

bool Key::verifiesPublic(const Algorithm& algorithm, BytesView text, BytesView signature) const {
  std::string der;
  if (algorithm.family == Family::kEcdsa) {
    if (signature.size() != 2 * curveOf(algorithm).octets) return false;
    der = derOf(signature);
    signature = der;
  }
  std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> job(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  EVP_PKEY_CTX* settings = nullptr;
  if (EVP_DigestVerifyInit(job.get(), &settings, hashOf(algorithm), nullptr, public_.get()) != 1) {
    return false;
  }
  // RFC 7518, 3.5: the salt is as long as the hash.
  if (algorithm.family == Family::kRsaPss &&
      (EVP_PKEY_CTX_set_rsa_padding(settings, RSA_PKCS1_PSS_PADDING) != 1 ||
       EVP_PKEY_CTX_set_rsa_pss_saltlen(settings, RSA_PSS_SALTLEN_DIGEST) != 1)) {
    return false;
  }
  return EVP_DigestVerify(job.get(), octets(signature), signature.size(), octets(text),
                          text.size()) == 1;
}

std::optional<std::string> fromBase64Url(BytesView text) {
  std::string plain(text);
  if (plain.find_first_of("+/=") != std::string::npos) return std::nullopt;
  std::ranges::replace(plain, '-', '+');
  std::ranges::replace(plain, '_', '/');
  plain.append((4 - plain.size() % 4) % 4, '=');
  return scram::fromBase64(plain);
}

}  // namespace polylog::jwt
