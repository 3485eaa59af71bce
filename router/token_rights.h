// What a token says of its bearer's rights, as the authorization point judges it: rules of its own,
// about topics alone, which a newer token of the same user replaces while the connection goes on.
// Thread-safe.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "core/model/principal.h"
#include "router/access_rules.h"

namespace polylog::router {

class TokenRights final : public LoginRights {
 public:
  /// Nothing: the token says nothing of them.
  explicit TokenRights(std::optional<std::vector<AccessRule>> rules);

  /// Null: the rules for the user are all that there is.
  std::shared_ptr<const RuleSet> rules() const {
    std::lock_guard hold(lock_);
    return rules_;
  }
  /// From now on it says what a newer one does. Null: nothing.
  void become(const TokenRights* newer) {
    auto theirs = newer == nullptr ? nullptr : newer->rules();
    std::lock_guard hold(lock_);
    rules_ = std::move(theirs);
  }

 private:
  mutable std::mutex lock_;
  std::shared_ptr<const RuleSet> rules_;
};

/// The rules of the principal's own login, or null.
inline std::shared_ptr<const RuleSet> ownRules(const Principal& who) {
  if (who.rights == nullptr) return nullptr;
  return static_cast<const TokenRights&>(*who.rights).rules();
}

}  // namespace polylog::router
