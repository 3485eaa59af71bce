// DescribeCluster: this broker.
#include "codecs/kafka/wire/describe_cluster.h"

#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {
namespace {

constexpr int8_t kBrokers = 1;
constexpr int8_t kControllers = 2;

}  // namespace

void handleDescribeCluster(const CallRef& call, wire::DescribeClusterRequest&& request) {
  wire::DescribeClusterResponse response;
  response.endpointType = request.endpointType;
  if (request.endpointType != kBrokers) {
    bool known = request.endpointType == kControllers;
    response.errorCode =
        code(known ? Code::kMismatchedEndpointType : Code::kUnsupportedEndpointType);
    response.errorMessage = known ? "this is a broker's listener" : "unknown type of endpoint";
    return call->answer(response);
  }
  HostPort told = call->advertised();
  response.clusterId = call->broker().clusterId();
  response.controllerId = call->options().nodeId;
  response.brokers.push_back({call->options().nodeId, told.host, told.port, std::nullopt, false});
  if (request.includeAuthorizedOperations) {
    response.authorizedOperations =
        authorizedOperations(*call, ResourceKind::kCluster, kClusterName);
  }
  call->answer(response);
}

}  // namespace polylog::kafka
