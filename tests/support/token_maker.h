// Signs JSON Web Tokens for tests, with keys made for the purpose.
#pragma once

#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include <algorithm>
#include <memory>
#include <string>

#include "core/base/scram.h"

namespace polylog::test {

using KeyPair = std::shared_ptr<EVP_PKEY>;

inline KeyPair rsaPair(unsigned bits = 2048) {
  return {EVP_RSA_gen(bits), EVP_PKEY_free};
}
inline KeyPair ecPair(const char* curve) {
  return {EVP_EC_gen(curve), EVP_PKEY_free};
}
inline KeyPair edPair() {
  return {EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"), EVP_PKEY_free};
}

inline std::string base64Url(std::string_view octets) {
  std::string text = scram::toBase64(octets);
  std::ranges::replace(text, '+', '-');
  std::ranges::replace(text, '/', '_');
  while (text.ends_with('=')) text.pop_back();
  return text;
}

inline std::string pemOf(const KeyPair& key, bool secret = false) {
  char* data = nullptr;
  size_t size = 0;
  std::FILE* file = open_memstream(&data, &size);
  if (secret) {
    PEM_write_PrivateKey(file, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  } else {
    PEM_write_PUBKEY(file, key.get());
  }
  std::fclose(file);
  std::string text(data, size);
  std::free(data);
  return text;
}

inline const EVP_MD* hashOf(const std::string& algorithm) {
  return algorithm.ends_with("256")   ? EVP_sha256()
         : algorithm.ends_with("384") ? EVP_sha384()
         : algorithm.ends_with("512") ? EVP_sha512()
                                      : nullptr;
}

/// r and s of fixed length from OpenSSL's DER (RFC 7518, 3.4).
inline std::string fixedOf(const std::string& der, int octets) {
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());
  ECDSA_SIG* pair = d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size()));
  std::string out(static_cast<size_t>(2 * octets), '\0');
  auto* to = reinterpret_cast<unsigned char*>(out.data());
  BN_bn2binpad(ECDSA_SIG_get0_r(pair), to, octets);
  BN_bn2binpad(ECDSA_SIG_get0_s(pair), to + octets, octets);
  ECDSA_SIG_free(pair);
  return out;
}

inline std::string signatureBy(const KeyPair& key, const std::string& algorithm,
                               const std::string& text) {
  EVP_MD_CTX* job = EVP_MD_CTX_new();
  EVP_PKEY_CTX* settings = nullptr;
  EVP_DigestSignInit(job, &settings, hashOf(algorithm), nullptr, key.get());
  if (algorithm.starts_with("PS")) {
    EVP_PKEY_CTX_set_rsa_padding(settings, RSA_PKCS1_PSS_PADDING);
    EVP_PKEY_CTX_set_rsa_pss_saltlen(settings, RSA_PSS_SALTLEN_DIGEST);
  }
  std::string out(1024, '\0');
  size_t size = out.size();
  EVP_DigestSign(job, reinterpret_cast<unsigned char*>(out.data()), &size,
                 reinterpret_cast<const unsigned char*>(text.data()), text.size());
  out.resize(size);
  EVP_MD_CTX_free(job);
  if (algorithm.starts_with("ES")) {
    out = fixedOf(out, algorithm == "ES256" ? 32 : algorithm == "ES384" ? 48 : 66);
  }
  return out;
}

inline std::string macBy(const std::string& secret, const std::string& algorithm,
                         const std::string& text) {
  std::string out(EVP_MAX_MD_SIZE, '\0');
  unsigned int size = 0;
  HMAC(hashOf(algorithm), secret.data(), static_cast<int>(secret.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(),
       reinterpret_cast<unsigned char*>(out.data()), &size);
  out.resize(size);
  return out;
}

/// `more`: further members of the header, beginning with a comma.
inline std::string unsignedToken(const std::string& algorithm, const std::string& claims,
                                 const std::string& more = "") {
  return base64Url(R"({"typ":"JWT","alg":")" + algorithm + "\"" + more + "}") + "." +
         base64Url(claims);
}
inline std::string tokenBy(const KeyPair& key, const std::string& algorithm,
                           const std::string& claims, const std::string& more = "") {
  std::string text = unsignedToken(algorithm, claims, more);
  return text + "." + base64Url(signatureBy(key, algorithm, text));
}
inline std::string tokenBy(const std::string& secret, const std::string& algorithm,
                           const std::string& claims, const std::string& more = "") {
  std::string text = unsignedToken(algorithm, claims, more);
  return text + "." + base64Url(macBy(secret, algorithm, text));
}

}  // namespace polylog::test
