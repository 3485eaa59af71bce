// What a token says of its bearer's rights to topics: a claim in either of the two forms that EMQX
// has. What can't be understood is an error, since a condition that is passed over would give more,
// or take less, than its issuer meant. Pure functions, any thread.
#pragma once

#include <vector>

#include "core/base/error.h"
#include "core/base/json_value.h"
#include "core/model/access.h"

namespace polylog::jwt {

/// Rules that one claim may make.
inline constexpr size_t kMaxClaimRules = 256;

/// `{"pub": [FILTER...], "sub": [...], "all": [...]}`, or a list of
/// `{"permission": "allow"|"deny", "action": "publish"|"subscribe"|"all", "topic": FILTER}`. In a
/// filter, `${clientid}` or `%c` is the client's id, `${username}` or `%u` the user. The rules are
/// about everybody (who bears the token) and not yet checked as checkRule() does. kUnauthorized,
/// with the reason for the log.
Result<std::vector<AccessRule>> rulesOfClaim(const JsonValue& claim);

}  // namespace polylog::jwt
