// parseKeys() of jwk.h: PEM and JWK sets.
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>

#include <cstdio>
#include <memory>
#include <utility>

#include "core/base/json_value.h"
#include "core/jwt/jwk.h"

namespace polylog::jwt {
namespace {

/// A set with more than that many is somebody's mistake.
constexpr size_t kMaxKeys = 1000;

std::unexpected<Error> wrong(const char* why) {
  ERR_clear_error();
  return fail(ErrorKind::kInvalid, why);
}

const unsigned char* octets(BytesView view) {
  return reinterpret_cast<const unsigned char*>(view.data());
}

// ---------------------------------------------------------------- PEM

/// The public key in a PEM block; null if it is none.
EVP_PKEY* publicKeyOf(BytesView kind, const unsigned char* der, long size) {
  if (kind == PEM_STRING_PUBLIC) return d2i_PUBKEY(nullptr, &der, size);
  if (kind == PEM_STRING_RSA_PUBLIC) return d2i_PublicKey(EVP_PKEY_RSA, nullptr, &der, size);
  if (kind != PEM_STRING_X509 && kind != PEM_STRING_X509_TRUSTED) return nullptr;
  X509* certificate = d2i_X509(nullptr, &der, size);
  EVP_PKEY* key = certificate == nullptr ? nullptr : X509_get_pubkey(certificate);
  X509_free(certificate);
  return key;
}

Result<std::vector<Key>> parsePem(BytesView text) {
  std::string copy(text);
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(fmemopen(copy.data(), copy.size(), "r"),
                                                       std::fclose);
  std::vector<Key> keys;
  char* name = nullptr;
  char* header = nullptr;
  unsigned char* der = nullptr;
  long size = 0;
  while (keys.size() < kMaxKeys && PEM_read(file.get(), &name, &header, &der, &size) == 1) {
    const std::string kind = name;
    EVP_PKEY* key = publicKeyOf(kind, der, size);
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_clear_free(der, static_cast<size_t>(size));
    if (key != nullptr) {
      keys.push_back(Key::ofPublic({}, key));
    } else if (kind.ends_with("PRIVATE KEY")) {
      return wrong(
          "holds a private key, which only the issuer should have: give its public key (openssl "
          "pkey -pubout)");
    }
  }
  ERR_clear_error();
  return keys;
}

// ---------------------------------------------------------------- JWK

std::optional<std::string> textAt(const JsonValue& jwk, std::string_view name) {
  const JsonValue* value = jwk.find(name);
  const std::string* text = value == nullptr ? nullptr : value->text();
  return text == nullptr ? std::nullopt : std::optional(*text);
}

std::optional<std::string> octetsAt(const JsonValue& jwk, std::string_view name) {
  auto text = textAt(jwk, name);
  auto decoded = text ? fromBase64Url(*text) : std::nullopt;
  return decoded && !decoded->empty() ? decoded : std::nullopt;
}

EVP_PKEY* keyFrom(const char* type, OSSL_PARAM_BLD* builder) {
  OSSL_PARAM* values = OSSL_PARAM_BLD_to_param(builder);
  EVP_PKEY_CTX* maker = EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr);
  EVP_PKEY* key = nullptr;
  if (values == nullptr || maker == nullptr || EVP_PKEY_fromdata_init(maker) != 1 ||
      EVP_PKEY_fromdata(maker, &key, EVP_PKEY_PUBLIC_KEY, values) != 1) {
    key = nullptr;
  }
  EVP_PKEY_CTX_free(maker);
  OSSL_PARAM_free(values);
  return key;
}

/// RFC 7518, 6.3.1.
EVP_PKEY* rsaKey(const JsonValue& jwk) {
  auto modulus = octetsAt(jwk, "n");
  auto exponent = octetsAt(jwk, "e");
  if (!modulus || !exponent || modulus->size() > 2048 || exponent->size() > 8) return nullptr;
  BIGNUM* n = BN_bin2bn(octets(*modulus), static_cast<int>(modulus->size()), nullptr);
  BIGNUM* e = BN_bin2bn(octets(*exponent), static_cast<int>(exponent->size()), nullptr);
  OSSL_PARAM_BLD* builder = OSSL_PARAM_BLD_new();
  OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n);
  OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e);
  EVP_PKEY* key = keyFrom("RSA", builder);
  OSSL_PARAM_BLD_free(builder);
  BN_free(n);
  BN_free(e);
  return key;
}

/// RFC 7518, 6.2.1.
EVP_PKEY* ecKey(const JsonValue& jwk) {
  constexpr std::pair<BytesView, const char*> kCurves[] = {
      {"P-256", "prime256v1"}, {"P-384", "secp384r1"}, {"P-521", "secp521r1"}};
  auto named = textAt(jwk, "crv");
  auto x = octetsAt(jwk, "x");
  auto y = octetsAt(jwk, "y");
  if (!named || !x || !y || x->size() != y->size()) return nullptr;
  const std::string point = '\x04' + *x + *y;
  for (const auto& [name, group] : kCurves) {
    if (name != *named) continue;
    OSSL_PARAM_BLD* builder = OSSL_PARAM_BLD_new();
    OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, group, 0);
    OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size());
    EVP_PKEY* key = keyFrom("EC", builder);
    OSSL_PARAM_BLD_free(builder);
    return key;
  }
  return nullptr;
}

/// RFC 8037, 2.
EVP_PKEY* edwardsKey(const JsonValue& jwk) {
  auto x = octetsAt(jwk, "x");
  if (textAt(jwk, "crv") != "Ed25519" || !x) return nullptr;
  return EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, octets(*x), x->size());
}

/// RFC 7517, 4.2 and 4.3.
bool forSignatures(const JsonValue& jwk) {
  auto use = textAt(jwk, "use");
  if (use && *use != "sig") return false;
  const JsonValue* operations = jwk.find("key_ops");
  if (operations == nullptr || operations->array() == nullptr) return true;
  for (const JsonValue& each : *operations->array()) {
    if (each.text() != nullptr && *each.text() == "verify") return true;
  }
  return false;
}

std::optional<Key> parseJwk(const JsonValue& jwk) {
  if (!forSignatures(jwk)) return std::nullopt;
  const std::string id = textAt(jwk, "kid").value_or("");
  const std::string type = textAt(jwk, "kty").value_or("");
  std::optional<Key> key;
  if (type == "oct") {
    if (auto secret = octetsAt(jwk, "k")) key = Key::ofSecret(id, *std::move(secret));
  } else {
    EVP_PKEY* made = type == "RSA"   ? rsaKey(jwk)
                     : type == "EC"  ? ecKey(jwk)
                     : type == "OKP" ? edwardsKey(jwk)
                                     : nullptr;
    if (made != nullptr) key = Key::ofPublic(id, made);
  }
  if (auto algorithm = textAt(jwk, "alg"); key && algorithm) key->restrictTo(*algorithm);
  return key;
}

Result<std::vector<Key>> parseJwks(BytesView text) {
  auto json = JsonValue::parse(text);
  if (!json || json->object() == nullptr) {
    return wrong("is neither PEM nor JSON: give a PEM file of public keys, or a JWK set");
  }
  std::vector<Key> keys;
  auto take = [&](const JsonValue& jwk) {
    if (auto key = parseJwk(jwk)) keys.push_back(*std::move(key));
  };
  const JsonValue* set = json->find("keys");
  if (set == nullptr || set->array() == nullptr) {
    take(*json);  // a JWK by itself
  } else {
    if (set->array()->size() > kMaxKeys) return wrong("holds more than 1000 keys");
    for (const JsonValue& jwk : *set->array()) take(jwk);
  }
  ERR_clear_error();
  return keys;
}

}  // namespace

Result<std::vector<Key>> parseKeys(BytesView text) {
  auto keys = text.find("-----BEGIN ") != BytesView::npos ? parsePem(text) : parseJwks(text);
  if (!keys) return keys;
  std::erase_if(*keys, [](const Key& key) { return !key.fitsAny(); });
  if (keys->empty()) {
    return wrong(
        "holds no key that verifies signatures (RSA of 2048 bits at least, P-256, P-384, P-521, "
        "Ed25519, or secrets of 256 bits at least)");
  }
  return keys;
}

}  // namespace polylog::jwt
