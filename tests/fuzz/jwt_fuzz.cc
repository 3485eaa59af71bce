// Tokens and keys as strangers may send them, and operators give them: a token that nobody has
// signed, claims that the issuer has, a file of keys, and Kafka's message around a token. Each
// takes the whole input.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "core/base/oauth_bearer.h"
#include "core/jwt/verifier.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/token_maker.h"

using namespace polylog;

namespace {

/// The key files are looked at from the second 1 on: never.
constexpr int64_t kNow = 500;

std::string randomSecret() {
  std::random_device random;
  std::string secret;
  for (int i = 0; i < 64; ++i) secret.push_back(static_cast<char>('a' + random() % 26));
  return secret;
}

std::shared_ptr<jwt::Verifier> verifierOf(const std::string& secret) {
  test::TemporaryDirectory directory;
  jwt::Options options;
  options.secretFile = directory.path() + "/secret";
  std::FILE* file = std::fopen(options.secretFile.c_str(), "w");
  std::fwrite(secret.data(), 1, secret.size(), file);
  std::fclose(file);
  options.issuer = "i";
  options.audiences = {"a"};
  auto opened = jwt::Verifier::open(std::move(options));
  if (!opened) std::abort();
  return *opened;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string secret = randomSecret();
  static const std::shared_ptr<jwt::Verifier> verifier = verifierOf(secret);
  const BytesView input(reinterpret_cast<const char*>(data), size);

  if (verifier->verify(input, kNow)) std::abort();  // nobody knows the secret
  if (auto bearer = verifier->verify(test::tokenBy(secret, "HS256", std::string(input)), kNow)) {
    if (bearer->user.empty() || bearer->expiresAtMs <= kNow) std::abort();
  }
  if (auto keys = jwt::parseKeys(input)) {
    if (keys->empty()) std::abort();
    for (const jwt::Key& key : *keys) {
      if (key.verifies(*jwt::findAlgorithm("RS256"), "text", "signature")) std::abort();
    }
  }
  if (auto message = parseBearer(input)) {
    if (message->token.empty() || input.find(message->token) == BytesView::npos) std::abort();
  }
  return 0;
}
