// Access rules as Kafka's ACL messages have them, to and from the neutral ones. Names of topics are
// Kafka's spelling on the wire. Pure functions, any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "core/base/bytes.h"
#include "core/model/access.h"

namespace polylog::kafka {

/// An AclBinding's fields.
struct Acl {
  int8_t resourceType = 0;
  std::string resourceName;
  int8_t patternType = 0;
  std::string principal;
  std::string host;
  int8_t operation = 0;
  int8_t permissionType = 0;
};

/// kInvalid, with the reason, for what no rule can say.
Result<AccessRule> ruleOf(const Acl& acl);
/// Nothing for rules that Kafka has no words for (filters, queues, exchanges, sessions).
std::optional<Acl> aclOf(const AccessRule& rule);

/// What can be done with a resource of the kind; nothing for those that Kafka has no words for.
std::span<const Operation> operationsOf(ResourceKind kind);
/// Kafka's number of an operation; 0 if it has none.
int8_t aclOperation(Operation operation);

/// An AclBindingFilter's; null matches anything.
struct AclFilter {
  int8_t resourceType = 0;
  std::optional<BytesView> resourceName;
  int8_t patternType = 0;
  std::optional<BytesView> principal;
  std::optional<BytesView> host;
  int8_t operation = 0;
  int8_t permissionType = 0;
};

/// False for a filter with a value that Kafka doesn't know.
bool sound(const AclFilter& filter);
bool matches(const AclFilter& filter, const Acl& acl);

}  // namespace polylog::kafka
