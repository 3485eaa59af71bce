// Users and rules: kept in the state tables, changed through the journal one change at a time, held
// in memory for judging. Every change is durable before it is in force and before anybody is told.
//
// user() may be called on any thread; AccessControl on a worker's. Deriving passwords is the
// login service's threads' business.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/model/access.h"
#include "core/model/authentication.h"
#include "router/access_state.h"
#include "router/change_queue.h"

namespace polylog::router {

/// A user as it is; immutable but for what has been proved about it.
struct User {
  explicit User(UserState s) : state(std::move(s)) {}
  const UserState state;
  const ProvedPassword proved{};
};
using UserRef = std::shared_ptr<const User>;

class AccessStore final : public AccessControl {
 public:
  explicit AccessStore(Core& core) : core_(core), changes_(core) {}
  Result<> load();

  UserRef user(const std::string& name) const;  ///< null = none

  bool anyUsers() const override;
  Result<std::vector<UserInfo>> users(const PrincipalRef& principal) override;
  void setPassword(const PrincipalRef& principal, std::string user, std::string password,
                   PasswordChange how, Done<Result<>> done) override;
  void alterCredentials(const PrincipalRef& principal, std::vector<CredentialChange> changes,
                        Done<Result<std::vector<Result<>>>> done) override;
  void deleteUser(const PrincipalRef& principal, std::string user, Done<Result<>> done) override;
  Result<std::vector<AccessRule>> rules(const PrincipalRef& principal) override;
  void addRules(const PrincipalRef& principal, std::vector<AccessRule> rules,
                Done<Result<std::vector<Result<>>>> done) override;
  void removeRules(const PrincipalRef& principal, std::vector<AccessRule> rules,
                   Done<Result<>> done) override;
  bool permits(const PrincipalRef& principal, Operation operation, ResourceKind kind,
               BytesView name) const override {
    return core_.authorizer.permits(principal, operation, {kind, name});
  }

 private:
  /// What a change comes to, made when its turn has come.
  struct Prepared {
    std::vector<storage::StateChange> state;
    std::function<void()> apply;  ///< once it is durable, before the rules are seen to be others
  };
  void enqueue(std::function<Result<Prepared>()> prepare, Done<Result<>> done);

  Result<> mayAlter(const PrincipalRef& principal) const;
  Result<Prepared> putUser(const std::string& name, UserState state, bool isNew);
  void refreshRules();
  template <class T>
  void refuse(Done<Result<T>> done, Error error);

  Core& core_;
  mutable std::mutex lock_;  ///< of the two below
  std::unordered_map<std::string, UserRef> users_;
  std::vector<AccessRule> rules_;
  ChangeQueue changes_;
};

/// kInvalid, with the reason, for names that no user may have.
Result<> checkUserName(BytesView name);
Result<> checkRule(const AccessRule& rule);

}  // namespace polylog::router
