// Tokens: who is taken for whom, and everything for which one is not.
#include "core/jwt/verifier.h"

#include <gmock/gmock.h>
#include <openssl/core_names.h>

#include <fstream>

#include "tests/support/temporary_directory.h"
#include "tests/support/token_maker.h"

namespace polylog::jwt {
namespace {

using namespace polylog::test;
using testing::HasSubstr;

constexpr int64_t kNow = 1'700'000'000'000;
const std::string kSecret(64, 's');

std::string claimsWith(const std::string& more) {
  return R"({"iss":"https://id.example","aud":"polylog","sub":"ann","exp":1700000100)" + more + "}";
}
const std::string kClaims = claimsWith("");

class VerifierTest : public testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& text) {
    const std::string path = directory_.path() + "/" + name;
    // In place of the old one at once, as whoever distributes keys should.
    std::ofstream(path + ".new") << text;
    std::rename((path + ".new").c_str(), path.c_str());
    return path;
  }
  Options options(const std::string& keys, const std::string& secret = "") {
    Options made;
    if (!keys.empty()) made.keyFile = write("keys", keys);
    if (!secret.empty()) made.secretFile = write("secret", secret);
    made.issuer = "https://id.example";
    made.audiences = {"other", "polylog"};
    return made;
  }
  void use(const Options& options) {
    auto opened = Verifier::open(options);
    ASSERT_TRUE(opened.has_value()) << opened.error().text;
    verifier_ = *opened;
  }
  /// The user, or why not.
  std::string verdict(const std::string& token, int64_t now = kNow) {
    auto bearer = verifier_->verify(token, now);
    return bearer ? bearer->user : bearer.error().text;
  }

  TemporaryDirectory directory_;
  std::shared_ptr<Verifier> verifier_;
};

TEST_F(VerifierTest, EveryAlgorithmByItsKey) {
  const KeyPair rsa = rsaPair();
  const KeyPair p256 = ecPair("P-256"), p384 = ecPair("P-384"), p521 = ecPair("P-521");
  const KeyPair ed = edPair();
  use(options(pemOf(rsa) + pemOf(p256) + pemOf(p384) + pemOf(p521) + pemOf(ed), kSecret));
  const std::pair<const char*, KeyPair> kinds[] = {
      {"RS256", rsa}, {"RS384", rsa},  {"RS512", rsa},  {"PS256", rsa},  {"PS384", rsa},
      {"PS512", rsa}, {"ES256", p256}, {"ES384", p384}, {"ES512", p521}, {"EdDSA", ed}};
  for (const auto& [algorithm, key] : kinds) {
    const std::string token = tokenBy(key, algorithm, kClaims);
    EXPECT_EQ(verdict(token), "ann") << algorithm;
    std::string forged = token;
    const size_t middle = forged.rfind('.') - 5;
    forged[middle] = forged[middle] == 'A' ? 'B' : 'A';
    EXPECT_NE(verdict(forged), "ann") << algorithm;
    std::string damaged = token;
    damaged[damaged.size() - 10] = damaged[damaged.size() - 10] == 'A' ? 'B' : 'A';
    EXPECT_EQ(verdict(damaged), "the token's signature is wrong") << algorithm;
  }
  for (const char* algorithm : {"HS256", "HS384", "HS512"}) {
    EXPECT_EQ(verdict(tokenBy(kSecret, algorithm, kClaims)), "ann") << algorithm;
    EXPECT_EQ(verdict(tokenBy("another", algorithm, kClaims)), "the token's signature is wrong");
  }
}

TEST_F(VerifierTest, AKeyIsForItsOwnAlgorithmsOnly) {
  const KeyPair rsa = rsaPair();
  const std::string pem = pemOf(rsa);
  use(options(pem));
  // The public key, known to all, is no shared secret.
  EXPECT_EQ(verdict(tokenBy(pem, "HS256", kClaims)), "there is no key for the token");
  EXPECT_EQ(verdict(unsignedToken("none", kClaims) + "."), "the token's algorithm is not allowed");
  EXPECT_EQ(verdict(unsignedToken("None", kClaims) + "."), "the token's algorithm is not allowed");
  EXPECT_EQ(verdict(tokenBy(ecPair("P-256"), "ES256", kClaims)), "there is no key for the token");
  EXPECT_EQ(verdict(unsignedToken("RS256", kClaims) + "."), "the token's signature is wrong");
  // P-384 belongs to ES384.
  const KeyPair p384 = ecPair("P-384");
  use(options(pemOf(p384)));
  EXPECT_EQ(verdict(tokenBy(p384, "ES256", kClaims)), "there is no key for the token");
  // A secret shorter than the hash (RFC 7518, 3.2).
  use(options("", std::string(32, 's') + "\n"));
  EXPECT_EQ(verdict(tokenBy(std::string(32, 's'), "HS256", kClaims)), "ann");
  EXPECT_EQ(verdict(tokenBy(std::string(32, 's'), "HS512", kClaims)),
            "there is no key for the token");
}

TEST_F(VerifierTest, AlgorithmsMayBeFewer) {
  const KeyPair rsa = rsaPair();
  Options fewer = options(pemOf(rsa));
  fewer.algorithms = {"PS256", "ES256"};
  use(fewer);
  EXPECT_EQ(verdict(tokenBy(rsa, "PS256", kClaims)), "ann");
  EXPECT_EQ(verdict(tokenBy(rsa, "RS256", kClaims)), "the token's algorithm is not allowed");
}

TEST_F(VerifierTest, ClaimsAreAsConfigured) {
  use(options("", kSecret));
  auto judged = [&](const std::string& claims) {
    return verdict(tokenBy(kSecret, "HS256", claims));
  };
  EXPECT_EQ(
      judged(R"({"iss":"https://id.example","aud":["x","polylog"],"sub":"ann","exp":1700000100})"),
      "ann");
  EXPECT_EQ(judged(R"({"iss":"https://id.example/","aud":"polylog","sub":"ann","exp":1700000100})"),
            "the token is of another issuer");
  EXPECT_EQ(judged(R"({"aud":"polylog","sub":"ann","exp":1700000100})"),
            "the token is of another issuer");
  for (const char* audience : {R"("polylog2")", "[]", "[1]", "null", "{}"}) {
    EXPECT_EQ(
        judged(std::string(R"({"iss":"https://id.example","sub":"ann","exp":1700000100,"aud":)") +
               audience + "}"),
        "the token is for another audience")
        << audience;
  }
  EXPECT_EQ(judged(R"({"iss":"https://id.example","aud":"polylog","exp":1700000100})"),
            "the token names no user (auth.jwt.user_claim)");
  EXPECT_EQ(judged(R"({"iss":"https://id.example","aud":"polylog","sub":7,"exp":1700000100})"),
            "the token names no user (auth.jwt.user_claim)");
  Options other = options("", kSecret);
  other.userClaim = "client_id";
  use(other);
  EXPECT_EQ(judged(claimsWith(R"(,"client_id":"device-17")")), "device-17");
}

TEST_F(VerifierTest, TimesAreKeptWithLeeway) {
  use(options("", kSecret));
  const std::string token = tokenBy(kSecret, "HS256", kClaims);
  auto bearer = verifier_->verify(token, kNow);
  ASSERT_TRUE(bearer.has_value());
  EXPECT_EQ(bearer->expiresAtMs, 1'700'000'130'000);
  EXPECT_EQ(verdict(token, 1'700'000'129'999), "ann");
  EXPECT_EQ(verdict(token, 1'700'000'130'000), "the token has expired");
  auto judged = [&](const std::string& claims) {
    return verdict(tokenBy(kSecret, "HS256", claims));
  };
  EXPECT_EQ(judged(claimsWith(R"(,"nbf":1700000030)")), "ann");
  EXPECT_EQ(judged(claimsWith(R"(,"nbf":1700000031)")), "the token is not valid yet (nbf)");
  EXPECT_EQ(judged(claimsWith(R"(,"nbf":"soon")")), "the token is not valid yet (nbf)");
  const std::string rest = R"("iss":"https://id.example","aud":"polylog","sub":"ann")";
  EXPECT_EQ(judged("{" + rest + "}"), "the token has no expiry (exp)");
  EXPECT_EQ(judged("{" + rest + R"(,"exp":"1700000100"})"), "the token has no expiry (exp)");
  EXPECT_EQ(judged("{" + rest + R"(,"exp":-1})"), "the token has no expiry (exp)");
  EXPECT_EQ(judged("{" + rest + R"(,"exp":1700000100.5})"), "ann");
  EXPECT_EQ(judged("{" + rest + R"(,"exp":1e300})"), "ann");
}

TEST_F(VerifierTest, WhatIsNoTokenIsRefused) {
  use(options("", kSecret));
  const std::string token = tokenBy(kSecret, "HS256", kClaims);
  const std::string signedText = token.substr(0, token.rfind('.'));
  for (const std::string& bad :
       {std::string(), std::string("."), std::string(".."), std::string("a.b.c"), signedText,
        token + "=", token + ".x", "=" + token, std::string(20'000, 'a') + ".b.c",
        base64Url("[]") + ".e30.", base64Url("{}") + ".e30."}) {
    EXPECT_EQ(verdict(bad), "malformed token") << bad.substr(0, 80);
  }
  EXPECT_EQ(verdict(tokenBy(kSecret, "HS256", "[1]")), "malformed token");
  EXPECT_EQ(verdict(tokenBy(kSecret, "HS256", kClaims, R"(,"crit":["b64"],"b64":false)")),
            "the token has critical headers");
}

TEST_F(VerifierTest, KeysOfASetByTheirId) {
  const std::string other(64, 'o');
  auto jwk = [](const std::string& id, const std::string& secret, const std::string& more = "") {
    return R"({"kty":"oct","kid":")" + id + R"(","k":")" + base64Url(secret) + "\"" + more + "}";
  };
  use(options(R"({"keys":[)" + jwk("a", kSecret) + "," + jwk("b", other, R"(,"alg":"HS384")") +
              "," + jwk("enc", std::string(64, 'e'), R"(,"use":"enc")") +
              R"(,{"kty":"new","kid":"n"},7]})"));
  auto judged = [&](const std::string& secret, const char* algorithm, const std::string& id) {
    return verdict(
        tokenBy(secret, algorithm, kClaims, id.empty() ? "" : R"(,"kid":")" + id + "\""));
  };
  EXPECT_EQ(judged(kSecret, "HS256", "a"), "ann");
  EXPECT_EQ(judged(kSecret, "HS256", ""), "ann");
  EXPECT_EQ(judged(kSecret, "HS256", "b"), "there is no key for the token") << "its alg is another";
  EXPECT_EQ(judged(other, "HS384", "b"), "ann");
  EXPECT_EQ(judged(other, "HS384", "a"), "the token's signature is wrong");
  EXPECT_EQ(judged(kSecret, "HS256", "c"), "there is no key for the token");
  EXPECT_EQ(judged(std::string(64, 'e'), "HS256", "enc"), "there is no key for the token");
}

/// A public key as a JWK, by OpenSSL's own words.
std::string jwkOf(const KeyPair& key) {
  auto number = [&](const char* name) {
    BIGNUM* value = nullptr;
    EVP_PKEY_get_bn_param(key.get(), name, &value);
    std::string octets(static_cast<size_t>(BN_num_bytes(value)), '\0');
    BN_bn2bin(value, reinterpret_cast<unsigned char*>(octets.data()));
    BN_free(value);
    return octets;
  };
  switch (EVP_PKEY_get_base_id(key.get())) {
    case EVP_PKEY_RSA:
      return R"({"kty":"RSA","n":")" + base64Url(number(OSSL_PKEY_PARAM_RSA_N)) + R"(","e":")" +
             base64Url(number(OSSL_PKEY_PARAM_RSA_E)) + "\"}";
    case EVP_PKEY_EC: {
      const std::string x = number(OSSL_PKEY_PARAM_EC_PUB_X), y = number(OSSL_PKEY_PARAM_EC_PUB_Y);
      auto padded = [](std::string v) { return std::string(32 - v.size(), '\0') + v; };
      return R"({"kty":"EC","crv":"P-256","x":")" + base64Url(padded(x)) + R"(","y":")" +
             base64Url(padded(y)) + "\"}";
    }
    default: {
      std::string raw(32, '\0');
      size_t size = raw.size();
      EVP_PKEY_get_raw_public_key(key.get(), reinterpret_cast<unsigned char*>(raw.data()), &size);
      return R"({"kty":"OKP","crv":"Ed25519","x":")" + base64Url(raw) + "\"}";
    }
  }
}

TEST_F(VerifierTest, PublicKeysOfASet) {
  const KeyPair rsa = rsaPair(), p256 = ecPair("P-256"), ed = edPair();
  use(options(R"({"keys":[)" + jwkOf(rsa) + "," + jwkOf(p256) + "," + jwkOf(ed) + "]}"));
  EXPECT_EQ(verdict(tokenBy(rsa, "RS256", kClaims)), "ann");
  EXPECT_EQ(verdict(tokenBy(p256, "ES256", kClaims)), "ann");
  EXPECT_EQ(verdict(tokenBy(ed, "EdDSA", kClaims)), "ann");
  EXPECT_EQ(verdict(tokenBy(rsaPair(), "RS256", kClaims)), "the token's signature is wrong");
}

TEST_F(VerifierTest, KeysAreReadAgainWhenTheyChange) {
  const KeyPair before = rsaPair(), after = rsaPair();
  use(options(pemOf(before)));
  const std::string first = tokenBy(before, "RS256", kClaims);
  const std::string second = tokenBy(after, "RS256", kClaims);
  EXPECT_EQ(verdict(first), "ann");
  write("keys", pemOf(after));
  EXPECT_EQ(verdict(second, kNow + 1000), "ann");
  EXPECT_EQ(verdict(first, kNow + 1000), "the token's signature is wrong");
  // What can't be used leaves things as they were.
  write("keys", "rubbish");
  EXPECT_EQ(verdict(second, kNow + 2000), "ann");
  write("keys", pemOf(before));
  EXPECT_EQ(verdict(first, kNow + 3000), "ann");
}

TEST_F(VerifierTest, HalfAConfigurationIsNone) {
  auto why = [](const Options& options) {
    auto opened = Verifier::open(options);
    return opened ? std::string("opened") : opened.error().text;
  };
  const Options whole = options(pemOf(rsaPair()));
  EXPECT_EQ(why(whole), "opened");
  Options part = whole;
  part.issuer.clear();
  EXPECT_THAT(why(part), HasSubstr("`auth.jwt.issuer` is missing"));
  part = whole;
  part.audiences.clear();
  EXPECT_THAT(why(part), HasSubstr("`auth.jwt.audience` is missing"));
  part = whole;
  part.keyFile.clear();
  EXPECT_THAT(why(part), HasSubstr("`auth.jwt.key_file` is missing"));
  part.keyFile = directory_.path() + "/nowhere";
  EXPECT_THAT(why(part), HasSubstr("nowhere`: can't be read"));
  EXPECT_THAT(why(options(pemOf(rsaPair(), true))), HasSubstr("holds a private key"));
  EXPECT_THAT(why(options(pemOf(rsaPair(1024)))), HasSubstr("2048"));
  EXPECT_THAT(why(options("rubbish")), HasSubstr("neither PEM nor JSON"));
  EXPECT_THAT(why(options(R"({"keys":[]})")), HasSubstr("holds no key"));
  EXPECT_THAT(why(options("", "short")), HasSubstr("fewer than 32 octets"));
}

}  // namespace
}  // namespace polylog::jwt
