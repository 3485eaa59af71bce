#include "core/password/password_hash.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <charconv>
#include <utility>
#include <vector>

#include "core/base/scram.h"

namespace polylog::password {
namespace {

constexpr size_t kSha512Bytes = 64;
constexpr size_t kScryptBytes = 32;
constexpr uint32_t kMaxParallel = 16;  ///< scrypt's
constexpr size_t kMaxOctets = 128;     ///< of a salt, of a digest

std::unexpected<Error> wrong(std::string why) {
  return fail(ErrorKind::kInvalid, std::move(why));
}

/// `$a$b$c` in its parts; nothing unless it begins with `$`.
std::vector<BytesView> partsOf(BytesView text) {
  std::vector<BytesView> parts;
  if (!text.starts_with('$')) return parts;
  text.remove_prefix(1);
  while (true) {
    const size_t end = text.find('$');
    parts.push_back(text.substr(0, end));
    if (end == BytesView::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::optional<uint32_t> numberIn(BytesView text) {
  uint32_t value = 0;
  const char* end = text.data() + text.size();
  auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || at != end) return std::nullopt;
  return value;
}

/// Base64, with its padding or without.
std::optional<std::string> octetsIn(BytesView text) {
  std::string padded(text);
  while (padded.size() % 4 != 0) padded.push_back('=');
  auto octets = scram::fromBase64(padded);
  if (!octets || octets->empty() || octets->size() > kMaxOctets) return std::nullopt;
  return octets;
}

std::string unpadded(BytesView octets) {
  std::string text = scram::toBase64(octets);
  while (text.ends_with('=')) text.pop_back();
  return text;
}

/// `ln=15,r=8,p=1`.
bool readCosts(BytesView text, Hash& out) {
  for (auto [name, value] :
       {std::pair<BytesView, uint32_t*>{"ln=", &out.logN}, {"r=", &out.r}, {"p=", &out.p}}) {
    const BytesView part = text.substr(0, text.find(','));
    auto number = part.starts_with(name) ? numberIn(part.substr(name.size())) : std::nullopt;
    if (!number) return false;
    *value = *number;
    text.remove_prefix(std::min(text.size(), part.size() + 1));
  }
  return text.empty();
}

Result<Hash> takeDigest(Hash hash, BytesView salt, BytesView digest, size_t expected) {
  auto saltOctets = octetsIn(salt);
  auto octets = octetsIn(digest);
  if (!saltOctets || !octets) return wrong("salt and hash are base64");
  if (octets->size() != expected) return wrong(fmt::format("the hash has {} octets", expected));
  hash.salt = std::move(*saltOctets);
  hash.digest = std::move(*octets);
  return hash;
}

std::string derive(const Hash& hash, BytesView password) {
  std::string out(hash.digest.size(), '\0');
  auto* to = reinterpret_cast<unsigned char*>(out.data());
  const auto* salt = reinterpret_cast<const unsigned char*>(hash.salt.data());
  bool done = false;
  switch (hash.kind) {
    case Hash::Kind::kScrypt:
      // Somewhat more than 128 * r * N is used besides.
      done = EVP_PBE_scrypt(password.data(), password.size(), salt, hash.salt.size(),
                            uint64_t{1} << hash.logN, hash.r, hash.p, kMaxScryptBytes * 2, to,
                            out.size()) == 1;
      break;
    case Hash::Kind::kPbkdf2:
      done =
          PKCS5_PBKDF2_HMAC(password.data(), static_cast<int>(password.size()), salt,
                            static_cast<int>(hash.salt.size()), static_cast<int>(hash.iterations),
                            EVP_sha512(), static_cast<int>(out.size()), to) == 1;
      break;
    case Hash::Kind::kSha512: {
      const std::string salted = std::string(password) + hash.salt;
      unsigned int size = 0;
      done = EVP_Digest(salted.data(), salted.size(), to, &size, EVP_sha512(), nullptr) == 1;
      break;
    }
  }
  return done ? out : std::string();
}

/// Of one kind, in proportion to the time that a check takes.
uint64_t workOf(const Hash& hash) {
  switch (hash.kind) {
    case Hash::Kind::kScrypt: return uint64_t{hash.r} * hash.p << hash.logN;
    case Hash::Kind::kPbkdf2: return hash.iterations;
    case Hash::Kind::kSha512: break;
  }
  return 0;
}

}  // namespace

Result<Hash> parse(BytesView text) {
  const auto parts = partsOf(text);
  Hash hash;
  if (parts.size() == 4 && parts[0] == "scrypt") {
    if (!readCosts(parts[1], hash)) return wrong("scrypt's costs are ln=N,r=N,p=N");
    const bool sound = hash.logN >= 1 && hash.logN <= 24 && hash.r >= 1 && hash.r <= 64 &&
                       hash.p >= 1 && hash.p <= kMaxParallel &&
                       (uint64_t{128} * hash.r << hash.logN) <= kMaxScryptBytes;
    if (!sound) {
      return wrong(
          fmt::format("scrypt's costs are beyond what is checked: 128 * r * 2^ln is {} at "
                      "most, and p 16",
                      kMaxScryptBytes));
    }
    return takeDigest(std::move(hash), parts[2], parts[3], kScryptBytes);
  }
  if (parts.size() == 4 && parts[0] == "7") {
    const auto iterations = numberIn(parts[1]);
    if (!iterations || *iterations == 0 || *iterations > kMaxIterations) {
      return wrong(fmt::format("$7$ has 1 to {} iterations", kMaxIterations));
    }
    hash.kind = Hash::Kind::kPbkdf2;
    hash.iterations = *iterations;
    return takeDigest(std::move(hash), parts[2], parts[3], kSha512Bytes);
  }
  if (parts.size() == 3 && parts[0] == "6") {
    hash.kind = Hash::Kind::kSha512;
    return takeDigest(std::move(hash), parts[1], parts[2], kSha512Bytes);
  }
  return wrong(
      "hashes are $scrypt$..., as `polylog password` makes them, and mosquitto_passwd's $7$ and "
      "$6$");
}

std::string toText(const Hash& hash) {
  const std::string salt = scram::toBase64(hash.salt);
  const std::string digest = scram::toBase64(hash.digest);
  switch (hash.kind) {
    case Hash::Kind::kPbkdf2: return fmt::format("$7${}${}${}", hash.iterations, salt, digest);
    case Hash::Kind::kSha512: return fmt::format("$6${}${}", salt, digest);
    case Hash::Kind::kScrypt: break;
  }
  return fmt::format("$scrypt$ln={},r={},p={}${}${}", hash.logN, hash.r, hash.p,
                     unpadded(hash.salt), unpadded(hash.digest));
}

Hash make(BytesView password, Random& random) {
  Hash hash;
  hash.logN = kLogN;
  hash.r = kBlockSize;
  hash.p = kParallel;
  hash.salt = scram::randomOctets(random, scram::kSaltBytes);
  hash.digest.resize(kScryptBytes);
  hash.digest = derive(hash, password);
  return hash;
}

bool costsMore(const Hash& one, const Hash& other) {
  return workOf(one) > workOf(other);
}

std::optional<Hash> restOf(const Hash& most, const Hash* done) {
  const bool begun = done != nullptr && done->kind == most.kind;
  const uint64_t before = begun ? workOf(*done) : 0;
  if (before >= workOf(most)) return std::nullopt;
  const uint64_t left = workOf(most) - before;
  Hash rest = most;
  if (most.kind == Hash::Kind::kPbkdf2) rest.iterations = static_cast<uint32_t>(left);
  if (most.kind != Hash::Kind::kScrypt || !begun) return rest;
  // More lanes as large as that one's; of many small ones it is next to nothing of the whole.
  const uint64_t lanes = left / (uint64_t{done->r} << done->logN);
  if (lanes == 0) return std::nullopt;
  if (lanes > kMaxParallel) return rest;
  rest.logN = done->logN;
  rest.r = done->r;
  rest.p = static_cast<uint32_t>(lanes);
  return rest;
}

bool matches(const Hash& hash, BytesView password) {
  const std::string derived = derive(hash, password);
  return !derived.empty() && scram::sameOctets(derived, hash.digest);
}

}  // namespace polylog::password
