// ListConfigResources: what DescribeConfigs can be asked for. Version 0 asks for client metrics. Of
// those and of groups the ones are told for which something is set.
#include "codecs/kafka/wire/list_config_resources.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/handlers/configs.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {
namespace {

constexpr int8_t typeOf(ResourceType type) {
  return static_cast<int8_t>(type);
}

bool known(int8_t type) {
  return type == typeOf(ResourceType::kTopic) || type == typeOf(ResourceType::kBroker) ||
         type == typeOf(ResourceType::kClientMetrics) || type == typeOf(ResourceType::kGroup);
}

}  // namespace

void handleListConfigResources(const CallRef& call, wire::ListConfigResourcesRequest&& request) {
  auto pending = std::make_shared<Pending<wire::ListConfigResourcesResponse>>(call);
  auto& response = pending->response;
  if (!permits(*call, Operation::kDescribeConfigs, ResourceKind::kCluster, kClusterName)) {
    response.errorCode = code(Code::kClusterAuthorizationFailed);
    return call->answer(response);
  }
  if (call->version() == 0) request.types = {typeOf(ResourceType::kClientMetrics)};
  if (!std::ranges::all_of(request.types, known)) {
    response.errorCode = code(Code::kUnsupportedVersion);
    return call->answer(response);
  }
  mapping::TextArena& texts = pending->texts;
  auto asked = [&](ResourceType type) {
    return request.types.empty() ||
           std::ranges::find(request.types, typeOf(type)) != request.types.end();
  };
  if (asked(ResourceType::kTopic)) {
    for (const TopicRef& topic : call->broker().topics(call->principal())) {
      std::string name = kafkaName(*topic);
      if (name.empty()) continue;
      response.resources.push_back({texts.keep(std::move(name)), typeOf(ResourceType::kTopic)});
    }
  }
  if (asked(ResourceType::kBroker)) {
    response.resources.push_back(
        {texts.keep(std::to_string(call->options().nodeId)), typeOf(ResourceType::kBroker)});
  }
  ClientMetricsControl* metrics = call->options().clientMetrics;
  if (asked(ResourceType::kClientMetrics) && metrics != nullptr) {
    for (const auto& [name, settings] : metrics->current()->subscriptions) {
      response.resources.push_back({texts.keep(name), typeOf(ResourceType::kClientMetrics)});
    }
  }
  if (!asked(ResourceType::kGroup)) return pending->release();
  call->broker().configuredGroups(
      call->principal(), [pending](const std::vector<std::string>& groups) {
        for (const std::string& group : groups) {
          pending->response.resources.push_back(
              {pending->texts.keep(group), typeOf(ResourceType::kGroup)});
        }
        pending->release();
      });
}

}  // namespace polylog::kafka
