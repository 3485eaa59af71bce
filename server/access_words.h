// Access rules in words, as the admin API and the command line have them. Pure functions.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/model/access.h"

namespace polylog::server {

const char* nameOf(Operation operation);
const char* nameOf(ResourceKind kind);
const char* nameOf(PatternKind pattern);

/// The words that rules may use, for help and checks.
std::vector<std::string> operationNames();
std::vector<std::string> resourceNames();
std::vector<std::string> patternNames();

/// permission, user, host, operation, resource, pattern, name. kInvalid names the one that is
/// wrong.
Result<AccessRule> ruleFromQuery(const std::map<std::string, std::string>& query);

}  // namespace polylog::server
