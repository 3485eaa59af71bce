#include "core/base/scram.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include "core/base/scram_exchange.h"
#include "tests/support/scram_client.h"
#include "tests/support/seeded_random.h"

namespace polylog::scram {
namespace {

using test::ScramClient;
using test::SeededRandom;

// RFC 7677 section 3.
constexpr const char* kServerFirst =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

TEST(Scram, TheExampleOfRfc7677) {
  ScramClient client{"user", "pencil"};
  EXPECT_EQ(client.last(kServerFirst),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
  EXPECT_EQ(client.serverSignature, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

TEST(Scram, DerivesAsOpenSslDoes) {
  for (Hash hash : {Hash::kSha256, Hash::kSha512}) {
    for (const std::string& password :
         {std::string(), std::string("pencil"), std::string(128, 'x'), std::string(129, 'y')}) {
      std::string expected(sizeOf(hash), '\0');
      const unsigned char salt[] = {1, 2, 3, 0, 5};
      PKCS5_PBKDF2_HMAC(password.data(), static_cast<int>(password.size()), salt, sizeof salt, 37,
                        hash == Hash::kSha256 ? EVP_sha256() : EVP_sha512(),
                        static_cast<int>(expected.size()),
                        reinterpret_cast<unsigned char*>(expected.data()));
      BytesView view(reinterpret_cast<const char*>(salt), sizeof salt);
      EXPECT_EQ(saltedPassword(hash, password, view, 37), expected) << password.size();
    }
  }
}

TEST(Scram, ACredentialKnowsItsPasswordOnly) {
  SeededRandom random(1);
  for (Hash hash : {Hash::kSha256, Hash::kSha512}) {
    Credential credential = derive(hash, "secret", kMinIterations, random);
    EXPECT_EQ(credential.salt.size(), kSaltBytes);
    EXPECT_TRUE(matches(credential, "secret"));
    EXPECT_FALSE(matches(credential, "Secret"));
    EXPECT_FALSE(matches(credential, ""));
  }
}

TEST(Scram, Base64IsTakenInOneFormOnly) {
  EXPECT_EQ(fromBase64("YWI="), "ab");
  EXPECT_EQ(fromBase64(""), "");
  for (const char* bad : {"YWI", "YWJ=", "YW I=", "YWI=\n", "====", "Y===", "YWI=YWI="}) {
    EXPECT_FALSE(fromBase64(bad)) << bad;
  }
}

struct Exchange {
  SeededRandom random{3};
  ServerExchange server{Hash::kSha256, random};
  Credential credential = derive(Hash::kSha256, "pencil", kMinIterations, random);
};

TEST(ScramExchange, BothSidesProveThemselves) {
  Exchange x;
  ScramClient client{"user", "pencil"};
  ASSERT_TRUE(x.server.begin(client.first()));
  EXPECT_EQ(x.server.user(), "user");
  auto answer = x.server.finish(client.last(x.server.challenge(x.credential)));
  ASSERT_TRUE(answer.has_value()) << answer.error().text;
  EXPECT_EQ(*answer, client.serverSignature);
}

TEST(ScramExchange, TheNonceAsOlderLibrdkafkaSaysIt) {
  Exchange x;
  ScramClient client{"user", "pencil"};
  client.doubledNonce = true;
  ASSERT_TRUE(x.server.begin(client.first()));
  auto answer = x.server.finish(client.last(x.server.challenge(x.credential)));
  ASSERT_TRUE(answer.has_value()) << answer.error().text;
  EXPECT_EQ(*answer, client.serverSignature);
}

TEST(ScramExchange, AWrongPasswordAnotherNonceOrBindingProvesNothing) {
  auto kindOf = [](const char* password, auto change) {
    Exchange x;
    ScramClient client{"user", password};
    EXPECT_TRUE(x.server.begin(client.first()));
    auto answer = x.server.finish(change(client.last(x.server.challenge(x.credential))));
    EXPECT_FALSE(answer.has_value());
    return answer ? ErrorKind::kInternal : answer.error().kind;
  };
  auto as = [](std::string text) { return text; };
  EXPECT_EQ(kindOf("Pencil", as), ErrorKind::kUnauthorized);
  EXPECT_EQ(kindOf("pencil", [](std::string text) { return text.replace(7, 2, "r=x"); }),
            ErrorKind::kUnauthorized);
  EXPECT_EQ(kindOf("pencil", [](std::string text) { return text.replace(2, 4, "eSws"); }),
            ErrorKind::kUnauthorized);
  EXPECT_EQ(kindOf("pencil", [](std::string text) { return text.substr(0, 20); }),
            ErrorKind::kInvalid);
}

TEST(ScramExchange, WhatIsMalformedOrNotOfferedIsRefused) {
  auto kindOf = [](const std::string& message) {
    auto parsed = parseClientFirst(message);
    return parsed ? ErrorKind::kInternal : parsed.error().kind;
  };
  for (const char* bad : {"", "n", "n,", "n,,", "x,,n=u,r=a", "n,,n=,r=a", "n,,n=u", "n,,n=u,r=",
                          "n,,n=u=2c,r=a", "n,,n=u,r=a b", "n,b=u,n=u,r=a", "n,,r=a,n=u"}) {
    EXPECT_EQ(kindOf(bad), ErrorKind::kInvalid) << bad;
  }
  EXPECT_EQ(kindOf("p=tls-unique,,n=u,r=a"), ErrorKind::kUnsupported);
  EXPECT_EQ(kindOf("n,,m=x,n=u,r=a"), ErrorKind::kUnsupported);
  EXPECT_EQ(kindOf("n,a=other,n=u,r=a"), ErrorKind::kUnsupported);
  EXPECT_EQ(kindOf("n,,n=u,r=" + std::string(kMaxMessage, 'x')), ErrorKind::kInvalid);
  auto parsed = parseClientFirst("n,a=a=2Cb=3D,n=a=2Cb=3D,r=x,more=y");
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->user, "a,b=");
  EXPECT_EQ(parsed->gs2Header, "n,a=a=2Cb=3D,");
}

}  // namespace
}  // namespace polylog::scram
