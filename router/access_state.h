// How users and rules stand in the state tables, in the way of state_codec.h:
//
//   kUser        user name -> when it was made, credentials
//   kAccessRule  the rule, all of it -> nothing but the version octet
#pragma once

#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/model/access.h"

namespace polylog::router {

struct UserState {
  int64_t createdMs = 0;
  std::vector<scram::Credential> credentials;  ///< at most one a hash
};
std::string encodeUser(const UserState& state);
Result<UserState> decodeUser(BytesView name, BytesView value);

std::string accessRuleKey(const AccessRule& rule);
std::string encodeAccessRule();
Result<AccessRule> decodeAccessRule(BytesView key, BytesView value);

}  // namespace polylog::router
