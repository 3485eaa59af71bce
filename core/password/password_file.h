// A file of users and hashes of their passwords, a line each: USER:HASH, as mosquitto has it. Read
// when it is opened and again at reload(). Thread-safe.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/base/error.h"
#include "core/model/authentication.h"
#include "core/password/password_hash.h"

namespace polylog::password {

class PasswordFile final : public PasswordSource {
 public:
  /// kInvalid, naming the key of the configuration, the path, the line and the remedy.
  static Result<std::shared_ptr<PasswordFile>> open(std::string path);

  std::shared_ptr<const Entry> find(const std::string& user) const override;
  bool any() const override;
  void spendTheRest(const Entry* checked, BytesView password) const override;
  /// Reads it again. A file that can't be used leaves the users as they were.
  Result<> reload();
  size_t size() const;

 private:
  class Line;
  using Users = std::unordered_map<std::string, std::shared_ptr<const Line>>;
  explicit PasswordFile(std::string path) : path_(std::move(path)) {}
  Result<Users> read() const;

  const std::string path_;
  mutable std::mutex lock_;  ///< of what follows
  Users users_;
  std::vector<Hash> costliest_;  ///< of each kind
};

}  // namespace polylog::password
