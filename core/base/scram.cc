#include "core/base/scram.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include <climits>
#include <utility>

namespace polylog::scram {
namespace {

const EVP_MD* algorithm(Hash hash) {
  return hash == Hash::kSha512 ? EVP_sha512() : EVP_sha256();
}

const unsigned char* octets(BytesView view) {
  return reinterpret_cast<const unsigned char*>(view.data());
}
unsigned char* octets(std::string& text) {
  return reinterpret_cast<unsigned char*>(text.data());
}

// OpenSSL's PBKDF2 sets up an HMAC anew for every iteration, which costs several times what the
// hashing does. With the two keyed states kept, a round is two compressions; for that OpenSSL has
// only its older interface, which it advises against for other reasons.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

struct Sha256 {
  using State = SHA256_CTX;
  static constexpr size_t kBlock = SHA256_CBLOCK, kDigest = SHA256_DIGEST_LENGTH;
  static void init(State& s) { SHA256_Init(&s); }
  static void update(State& s, const void* data, size_t size) { SHA256_Update(&s, data, size); }
  static void final(unsigned char* out, State& s) { SHA256_Final(out, &s); }
};

struct Sha512 {
  using State = SHA512_CTX;
  static constexpr size_t kBlock = SHA512_CBLOCK, kDigest = SHA512_DIGEST_LENGTH;
  static void init(State& s) { SHA512_Init(&s); }
  static void update(State& s, const void* data, size_t size) { SHA512_Update(&s, data, size); }
  static void final(unsigned char* out, State& s) { SHA512_Final(out, &s); }
};

/// PBKDF2 (RFC 8018) with HMAC and one block of output.
template <class H>
std::string pbkdf2(std::string key, BytesView salt, uint32_t iterations) {
  key.resize(H::kBlock, '\0');
  auto keyed = [&](char pad) {
    std::string block = key;
    for (char& c : block) c = static_cast<char>(c ^ pad);
    typename H::State state;
    H::init(state);
    H::update(state, block.data(), block.size());
    return state;
  };
  const typename H::State inner = keyed('\x36');
  const typename H::State outer = keyed('\x5c');
  unsigned char round[H::kDigest];
  auto finish = [&](typename H::State state) {
    H::final(round, state);
    typename H::State last = outer;
    H::update(last, round, sizeof round);
    H::final(round, last);
  };
  typename H::State first = inner;
  H::update(first, salt.data(), salt.size());
  H::update(first, "\0\0\0\1", 4);
  finish(first);
  std::string out(reinterpret_cast<const char*>(round), sizeof round);
  for (uint32_t i = 1; i < iterations; ++i) {
    typename H::State next = inner;
    H::update(next, round, sizeof round);
    finish(next);
    for (size_t at = 0; at < out.size(); ++at) {
      out[at] = static_cast<char>(static_cast<unsigned char>(out[at]) ^ round[at]);
    }
  }
  return out;
}

#pragma GCC diagnostic pop

}  // namespace

const char* mechanismName(Hash hash) {
  return hash == Hash::kSha512 ? "SCRAM-SHA-512" : "SCRAM-SHA-256";
}

size_t sizeOf(Hash hash) {
  return hash == Hash::kSha512 ? 64 : 32;
}

std::string digest(Hash hash, BytesView data) {
  std::string out(sizeOf(hash), '\0');
  unsigned int length = 0;
  EVP_Digest(data.data(), data.size(), octets(out), &length, algorithm(hash), nullptr);
  return out;
}

std::string hmac(Hash hash, BytesView key, BytesView data) {
  std::string out(sizeOf(hash), '\0');
  unsigned int length = 0;
  // A null key would mean the one before.
  const void* from = key.empty() ? "" : key.data();
  HMAC(algorithm(hash), from, static_cast<int>(key.size()), octets(data), data.size(), octets(out),
       &length);
  return out;
}

std::string saltedPassword(Hash hash, BytesView password, BytesView salt, uint32_t iterations) {
  if (hash == Hash::kSha512) {
    bool fits = password.size() <= Sha512::kBlock;
    return pbkdf2<Sha512>(fits ? std::string(password) : digest(hash, password), salt, iterations);
  }
  bool fits = password.size() <= Sha256::kBlock;
  return pbkdf2<Sha256>(fits ? std::string(password) : digest(hash, password), salt, iterations);
}

std::string storedKeyOf(Hash hash, BytesView saltedPassword) {
  return digest(hash, hmac(hash, saltedPassword, "Client Key"));
}

Credential credentialOf(Hash hash, BytesView saltedPassword, std::string salt,
                        uint32_t iterations) {
  return {hash, iterations, std::move(salt), storedKeyOf(hash, saltedPassword),
          hmac(hash, saltedPassword, "Server Key")};
}

Credential derive(Hash hash, BytesView password, uint32_t iterations, Random& random) {
  std::string salt = randomOctets(random, kSaltBytes);
  std::string salted = saltedPassword(hash, password, salt, iterations);
  return credentialOf(hash, salted, std::move(salt), iterations);
}

bool matches(const Credential& credential, BytesView password) {
  std::string salted =
      saltedPassword(credential.hash, password, credential.salt, credential.iterations);
  return sameOctets(storedKeyOf(credential.hash, salted), credential.storedKey);
}

bool sameOctets(BytesView a, BytesView b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string randomOctets(Random& random, size_t bytes) {
  std::string out;
  while (out.size() < bytes) {
    uint64_t bits = random.next();
    for (int i = 0; i < 8 && out.size() < bytes; ++i) {
      out.push_back(static_cast<char>(bits >> (8 * i)));
    }
  }
  return out;
}

std::string toBase64(BytesView data) {
  std::string out((data.size() + 2) / 3 * 4 + 1, '\0');
  int length = EVP_EncodeBlock(octets(out), octets(data), static_cast<int>(data.size()));
  out.resize(static_cast<size_t>(length));
  return out;
}

std::optional<std::string> fromBase64(BytesView text) {
  if (text.size() % 4 != 0 || text.size() > INT_MAX) return std::nullopt;
  std::string out(text.size() / 4 * 3 + 1, '\0');
  int length = EVP_DecodeBlock(octets(out), octets(text), static_cast<int>(text.size()));
  if (length < 0) return std::nullopt;
  size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  if (static_cast<size_t>(length) < padding) return std::nullopt;
  out.resize(static_cast<size_t>(length) - padding);
  // OpenSSL overlooks white space and bits that say nothing.
  if (toBase64(out) != text) return std::nullopt;
  return out;
}

}  // namespace polylog::scram
