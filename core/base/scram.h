// SCRAM's arithmetic (RFC 5802, RFC 7677): what is kept of a password, how it is derived and how
// octets are compared without telling how many agree. Over OpenSSL. Pure functions, any thread;
// saltedPassword() takes milliseconds by intent and has no place on a worker's thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/base/bytes.h"
#include "core/base/clock.h"

namespace polylog::scram {

/// The octet is on disk: never renumber.
enum class Hash : uint8_t { kSha256 = 1, kSha512 = 2 };

/// RFC 7677's least, and the most that Apache Kafka takes.
inline constexpr uint32_t kMinIterations = 4096;
inline constexpr uint32_t kMaxIterations = 16384;
inline constexpr size_t kSaltBytes = 16;

/// What is kept of a password: enough to check one, not to log in anywhere.
struct Credential {
  Hash hash = Hash::kSha256;
  uint32_t iterations = kMinIterations;
  std::string salt;
  std::string storedKey;
  std::string serverKey;
  bool operator==(const Credential&) const = default;
};

/// "SCRAM-SHA-256" or "SCRAM-SHA-512".
const char* mechanismName(Hash hash);
size_t sizeOf(Hash hash);  ///< octets of a digest

std::string digest(Hash hash, BytesView data);
std::string hmac(Hash hash, BytesView key, BytesView data);
/// Hi() of RFC 5802: PBKDF2 with HMAC. Slow.
std::string saltedPassword(Hash hash, BytesView password, BytesView salt, uint32_t iterations);
/// StoredKey = H(HMAC(salted password, "Client Key")), alone: all that checking a password takes.
std::string storedKeyOf(Hash hash, BytesView saltedPassword);
Credential credentialOf(Hash hash, BytesView saltedPassword, std::string salt, uint32_t iterations);
/// A new credential with a random salt. Slow.
Credential derive(Hash hash, BytesView password, uint32_t iterations, Random& random);
/// Whether it is the password that `credential` was made of, in constant time. Slow.
bool matches(const Credential& credential, BytesView password);

/// In time that depends on the lengths only.
bool sameOctets(BytesView a, BytesView b);
/// `bytes` random octets.
std::string randomOctets(Random& random, size_t bytes);

std::string toBase64(BytesView octets);
/// Nothing unless `text` is exactly what toBase64() makes of something.
std::optional<std::string> fromBase64(BytesView text);

}  // namespace polylog::scram
