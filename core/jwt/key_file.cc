#include "core/jwt/key_file.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

#include "core/base/log.h"

namespace polylog::jwt {
namespace {

constexpr size_t kMaxFileBytes = size_t{4} * 1024 * 1024;
constexpr int64_t kLookEveryMs = 1000;
constexpr size_t kMinSecretBytes = 32;

std::unexpected<Error> wrong(const char* key, const std::string& path, std::string_view why) {
  return fail(ErrorKind::kInvalid, fmt::format("`{}: {}`: {}", key, path, why));
}

Result<std::string> read(const char* key, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return wrong(key, path, fmt::format("can't be read: {}", std::strerror(errno)));
  std::string text(std::istreambuf_iterator<char>(file), {});
  if (file.bad()) return wrong(key, path, "can't be read");
  if (text.size() > kMaxFileBytes) return wrong(key, path, "is larger than 4 MiB");
  return text;
}

}  // namespace

KeyFiles::Stamp KeyFiles::stampOf(const std::string& path) {
  struct stat found {};
  if (path.empty() || ::stat(path.c_str(), &found) != 0) return {};
  auto nanos = [](const timespec& at) { return at.tv_sec * 1'000'000'000 + at.tv_nsec; };
  return {found.st_dev, found.st_ino, found.st_size, nanos(found.st_mtim), nanos(found.st_ctim)};
}

Result<KeyFiles::Keys> KeyFiles::load() const {
  auto keys = std::make_shared<std::vector<Key>>();
  if (!keyPath_.empty()) {
    auto text = read("auth.jwt.key_file", keyPath_);
    if (!text) return std::unexpected(text.error());
    auto parsed = parseKeys(*text);
    if (!parsed) return wrong("auth.jwt.key_file", keyPath_, parsed.error().text);
    *keys = std::move(*parsed);
  }
  if (!secretPath_.empty()) {
    auto secret = read("auth.jwt.secret_file", secretPath_);
    if (!secret) return std::unexpected(secret.error());
    if (secret->ends_with('\n')) secret->pop_back();
    if (secret->ends_with('\r')) secret->pop_back();
    if (secret->size() < kMinSecretBytes) {
      return wrong("auth.jwt.secret_file", secretPath_,
                   "holds fewer than 32 octets, which can be guessed: make a longer secret "
                   "(openssl rand -base64 48)");
    }
    keys->push_back(Key::ofSecret({}, std::move(*secret)));
  }
  return keys;
}

Result<std::unique_ptr<KeyFiles>> KeyFiles::open(std::string keys, std::string secret) {
  std::unique_ptr<KeyFiles> files(new KeyFiles(std::move(keys), std::move(secret)));
  // Before reading: what changes meanwhile is read again.
  files->keyStamp_ = stampOf(files->keyPath_);
  files->secretStamp_ = stampOf(files->secretPath_);
  auto loaded = files->load();
  if (!loaded) return std::unexpected(loaded.error());
  files->keys_ = std::move(*loaded);
  return files;
}

KeyFiles::Keys KeyFiles::current(int64_t nowMs) {
  std::lock_guard hold(lock_);
  // The clock may have been set back.
  if (nowMs >= lookedMs_ && nowMs - lookedMs_ < kLookEveryMs) return keys_;
  lookedMs_ = nowMs;
  Stamp key = stampOf(keyPath_);
  Stamp secret = stampOf(secretPath_);
  if (key == keyStamp_ && secret == secretStamp_) return keys_;
  keyStamp_ = key;
  secretStamp_ = secret;
  auto loaded = load();
  if (loaded) {
    keys_ = std::move(*loaded);
    logInfo(fmt::format("auth.jwt: read again, {} keys", keys_->size()));
  } else {
    logError(fmt::format("auth.jwt goes on with the keys that it has: {}", loaded.error().text));
  }
  return keys_;
}

}  // namespace polylog::jwt
