#include "router/authorizer.h"

#include <string>

namespace polylog::router {

bool Authorizer::permits(const PrincipalRef& /*principal*/, Operation /*operation*/,
                         Resource /*resource*/) const {
  return true;
}

Error notPermitted(Resource resource) {
  const char* kind = "cluster";
  switch (resource.kind) {
    case ResourceKind::kTopic: kind = "topic"; break;
    case ResourceKind::kGroup: kind = "group"; break;
    case ResourceKind::kSession: kind = "session"; break;
    case ResourceKind::kQueue: kind = "queue"; break;
    case ResourceKind::kExchange: kind = "exchange"; break;
    case ResourceKind::kTransaction: kind = "transactional id"; break;
    case ResourceKind::kCluster: break;
  }
  return {ErrorKind::kUnauthorized,
          std::string("not permitted on ") + kind + " '" + std::string(resource.name) + "'"};
}

}  // namespace polylog::router
