// What the handlers of configurations share: resources, values, and changes of topics', groups' and
// the broker's keys.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "codecs/kafka/client_metrics_config.h"
#include "codecs/kafka/group_config.h"
#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/topic_config.h"

namespace polylog::kafka {

/// Kafka's ConfigResource.Type.
enum class ResourceType : int8_t { kTopic = 2, kBroker = 4, kClientMetrics = 16, kGroup = 32 };

/// For topics of that origin.
TopicConfigLimits limitsFor(const Call& call, Protocol origin);

struct Refusal {
  Code code = Code::kNone;
  std::string text;
};

/// Whether `name` means this broker; an empty one means all of them.
bool namesThisBroker(const Call& call, BytesView name);

/// Puts what one resource's part of a request asks for to a configuration. Runs more than once.
using ConfigEdit = std::function<Result<>(TopicConfig& config, const TopicConfigLimits& limits)>;

using GroupConfigEdit = std::function<Result<>(GroupConfig& config, const GroupDefaults& defaults)>;

using ClientMetricsEdit = std::function<Result<>(ClientMetricsSettings& settings)>;

/// One resource of (Incremental)AlterConfigs: what is asked for, checked as far as it can be
/// without the resource.
struct ConfigChange {
  int8_t type = 0;
  BytesView name;
  Refusal refusal;  ///< kNone: the edits are set
  ConfigEdit edit;  ///< of a topic
  ConfigEdit defaultsEdit;       ///< of a layer of the broker's
  std::vector<BytesView> given;  ///< keys that get a value
  GroupConfigEdit groupEdit;
  ClientMetricsEdit metricsEdit;
};

/// Makes the changes, or only says whether they could be made, and answers when they are durable.
/// `Response` is one of the two APIs'; the call's frame keeps the names alive.
template <class Response>
void changeConfigs(const CallRef& call, std::vector<ConfigChange> changes, bool validateOnly);

}  // namespace polylog::kafka
