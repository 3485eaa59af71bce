// The one authorization point: every Broker call passes it with the canonical name it is about,
// publishes and deliveries alike. Admits everybody until users and rules come with their issue.
// Thread-safe.
#pragma once

#include <cstdint>

#include "core/base/bytes.h"
#include "core/base/error.h"
#include "core/model/principal.h"

namespace polylog::router {

enum class Operation : uint8_t {
  kRead,      ///< fetch, subscribe, look at
  kWrite,     ///< publish, produce
  kCreate,
  kDelete,    ///< a topic's records too
  kAlter,     ///< a topic's configuration, its number of partitions
  kDescribe,  ///< list, see
  kJoin,      ///< take part in a group, commit its offsets
};

enum class ResourceKind : uint8_t {
  kTopic,
  kGroup,
  kSession,
  kCluster,
  kQueue,
  kExchange,
  kTransaction
};

struct Resource {
  ResourceKind kind;
  BytesView name;  ///< canonical; empty = all of the kind
};

class Authorizer {
 public:
  bool permits(const PrincipalRef& principal, Operation operation, Resource resource) const;
};

/// The answer to a call that was not permitted.
Error notPermitted(Resource resource);

}  // namespace polylog::router
