// An AccessControl that lets everybody do everything but what a test denies.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/model/access.h"

namespace polylog::kafka::test {

class FakeAccess final : public AccessControl {
 public:
  bool anyUsers() const override { return true; }
  Result<std::vector<UserInfo>> users(const PrincipalRef&) override { return {}; }
  void setPassword(const PrincipalRef&, std::string, std::string, PasswordChange,
                   Done<Result<>>) override {}
  void alterCredentials(const PrincipalRef&, std::vector<CredentialChange>,
                        Done<Result<std::vector<Result<>>>>) override {}
  void deleteUser(const PrincipalRef&, std::string, Done<Result<>>) override {}
  Result<std::vector<AccessRule>> rules(const PrincipalRef&) override { return {}; }
  void addRules(const PrincipalRef&, std::vector<AccessRule>,
                Done<Result<std::vector<Result<>>>>) override {}
  void removeRules(const PrincipalRef&, std::vector<AccessRule>, Done<Result<>>) override {}
  bool permits(const PrincipalRef&, Operation operation, ResourceKind kind,
               BytesView name) const override {
    return !denies || !denies(operation, kind, name);
  }

  std::function<bool(Operation, ResourceKind, BytesView name)> denies;
};

}  // namespace polylog::kafka::test
