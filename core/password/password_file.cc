#include "core/password/password_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

namespace polylog::password {
namespace {

constexpr size_t kMaxUsers = 1'000'000;
constexpr size_t kMaxLine = 4096;

std::unexpected<Error> wrong(const std::string& path, std::string_view why) {
  return fail(ErrorKind::kInvalid, fmt::format("`auth.password_file: {}`: {}", path, why));
}

}  // namespace

class PasswordFile::Line final : public Entry {
 public:
  explicit Line(Hash hash) : hash_(std::move(hash)) {}
  bool matches(BytesView password) const override { return password::matches(hash_, password); }
  const Hash& hash() const { return hash_; }

 private:
  const Hash hash_;
};

Result<PasswordFile::Users> PasswordFile::read() const {
  std::ifstream file(path_, std::ios::binary);
  if (!file) return wrong(path_, fmt::format("can't be read: {}", std::strerror(errno)));
  Users users;
  std::string line;
  for (size_t number = 1; std::getline(file, line); ++number) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() || line.starts_with('#')) continue;
    auto bad = [&](std::string_view why) {
      return wrong(path_, fmt::format("line {}: {}", number, why));
    };
    const size_t colon = line.find(':');
    if (colon == std::string::npos || colon == 0 || line.size() > kMaxLine) {
      return bad("give USER:HASH, as `polylog password USER` makes it");
    }
    auto hash = parse(BytesView(line).substr(colon + 1));
    if (!hash) return bad(hash.error().text);
    const bool fresh =
        users.emplace(line.substr(0, colon), std::make_shared<const Line>(std::move(*hash))).second;
    if (!fresh) return bad(fmt::format("user {} has a line already", line.substr(0, colon)));
    if (users.size() > kMaxUsers) return bad(fmt::format("more than {} users", kMaxUsers));
  }
  if (file.bad()) return wrong(path_, "can't be read");
  return users;
}

Result<std::shared_ptr<PasswordFile>> PasswordFile::open(std::string path) {
  std::shared_ptr<PasswordFile> made(new PasswordFile(std::move(path)));
  if (auto read = made->reload(); !read) return std::unexpected(read.error());
  return made;
}

Result<> PasswordFile::reload() {
  auto users = read();
  if (!users) return std::unexpected(users.error());
  std::vector<Hash> costliest;
  for (const auto& [name, line] : *users) {
    auto same = std::ranges::find(costliest, line->hash().kind, &Hash::kind);
    if (same == costliest.end()) {
      costliest.push_back(line->hash());
    } else if (costsMore(line->hash(), *same)) {
      *same = line->hash();
    }
  }
  std::lock_guard hold(lock_);
  costliest_ = std::move(costliest);
  // Who has the same line as before is known again as before.
  for (auto& [name, line] : *users) {
    auto before = users_.find(name);
    if (before != users_.end() && before->second->hash() == line->hash()) line = before->second;
  }
  users_ = std::move(*users);
  return {};
}

std::shared_ptr<const PasswordSource::Entry> PasswordFile::find(const std::string& user) const {
  std::lock_guard hold(lock_);
  auto found = users_.find(user);
  return found == users_.end() ? nullptr : found->second;
}

bool PasswordFile::any() const {
  std::lock_guard hold(lock_);
  return !users_.empty();
}

void PasswordFile::spendTheRest(const Entry* checked, BytesView password) const {
  std::vector<Hash> costliest;
  {
    std::lock_guard hold(lock_);
    costliest = costliest_;
  }
  const Hash* done = checked == nullptr ? nullptr : &static_cast<const Line*>(checked)->hash();
  for (const Hash& most : costliest) {
    if (auto rest = restOf(most, done)) (void)password::matches(*rest, password);
  }
}

size_t PasswordFile::size() const {
  std::lock_guard hold(lock_);
  return users_.size();
}

}  // namespace polylog::password
