// The files that verification keys come from, read again when they change. Thread-safe; looks at
// the files a second apart at most.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/jwt/jwk.h"

namespace polylog::jwt {

class KeyFiles {
 public:
  using Keys = std::shared_ptr<const std::vector<Key>>;

  /// `keys`: PEM or a JWK set; `secret`: a file whose octets, but for a line's end, are a shared
  /// secret. Empty = there is none. Errors name the key of the configuration.
  static Result<std::unique_ptr<KeyFiles>> open(std::string keys, std::string secret);

  /// What is to be used now. A file that can't be read or used any more leaves the keys as they
  /// were, and the log says so.
  Keys current(int64_t nowMs);

 private:
  /// Enough to notice that a file is another, or has been written to.
  struct Stamp {
    uint64_t device = 0, inode = 0;
    int64_t size = -1, changedNanos = 0;
    int64_t statusNanos = 0;  ///< who may read it counts as well
    bool operator==(const Stamp&) const = default;
  };
  KeyFiles(std::string keys, std::string secret)
      : keyPath_(std::move(keys)), secretPath_(std::move(secret)) {}
  static Stamp stampOf(const std::string& path);
  Result<Keys> load() const;

  const std::string keyPath_;
  const std::string secretPath_;
  std::mutex lock_;  ///< of what follows
  Keys keys_;
  Stamp keyStamp_, secretStamp_;
  int64_t lookedMs_ = 0;
};

}  // namespace polylog::jwt
