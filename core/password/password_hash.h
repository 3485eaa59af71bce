// What a password file keeps of a password: scrypt (RFC 7914) as we make it, and mosquitto's two
// forms, so that its files move over. Slow by intent: no place on a worker's thread. Pure functions
// but for chance, any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/error.h"

namespace polylog::password {

/// One hash with all that it takes to check a password against it.
struct Hash {
  enum class Kind : uint8_t {
    kScrypt,  ///< `$scrypt$ln=15,r=8,p=1$SALT$HASH`, base64 without padding (PHC, passlib)
    kPbkdf2,  ///< mosquitto's `$7$ITERATIONS$SALT$HASH`: PBKDF2 with HMAC-SHA-512
    kSha512,  ///< mosquitto's older `$6$SALT$HASH`: SHA-512 of the password and the salt
  };
  Kind kind = Kind::kScrypt;
  uint32_t iterations = 0;          ///< PBKDF2's
  uint32_t logN = 0, r = 0, p = 0;  ///< scrypt's
  std::string salt;
  std::string digest;
  bool operator==(const Hash&) const = default;
};

/// Of scrypt, 128 * r * N: what one check may take. Larger ones are refused when they are read.
inline constexpr uint64_t kMaxScryptBytes = uint64_t{64} << 20;
inline constexpr uint32_t kMaxIterations = 1'000'000;
/// Of those that we make: 32 MiB, some 80 ms.
inline constexpr uint32_t kLogN = 15, kBlockSize = 8, kParallel = 1;

/// kInvalid, with what is wrong and the remedy.
Result<Hash> parse(BytesView text);
std::string toText(const Hash& hash);
/// Slow.
Hash make(BytesView password, Random& random);
/// Whether a check of it is more work than one of the other, which is of the same kind.
bool costsMore(const Hash& one, const Hash& other);
/// A hash that takes what is left of a check of `most`, once `done` has been checked (null: none
/// was). Nothing: so little that nobody can tell.
std::optional<Hash> restOf(const Hash& most, const Hash* done);
/// Whether it is the password; in constant time but for its length. Slow.
bool matches(const Hash& hash, BytesView password);

}  // namespace polylog::password
