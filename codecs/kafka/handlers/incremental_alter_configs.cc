// IncrementalAlterConfigs: single keys are set, deleted, or extended where they are lists.
#include "codecs/kafka/wire/incremental_alter_configs.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/handlers/configs.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {
namespace {

// Kafka's AlterConfigOp.OpType.
constexpr int8_t kSet = 0;
constexpr int8_t kDelete = 1;
constexpr int8_t kSubtract = 3;  // 2 is APPEND

struct Step {
  std::string key;
  int8_t operation = kSet;
  std::string value;
};

Result<> take(const Step& step, TopicConfig& config, const TopicConfigLimits& limits) {
  if (step.operation == kDelete) return resetTopicConfig(config, step.key, limits);
  if (step.operation == kSet)
    return setTopicConfig(config, step.key, BytesView(step.value), limits);
  return extendTopicConfig(config, step.key, step.value, step.operation == kSubtract, limits);
}

Result<> takeDefault(const Step& step, TopicConfig& layer, const TopicConfigLimits& limits) {
  if (step.operation == kDelete) {
    resetTopicDefault(layer, step.key);
    return {};
  }
  if (step.operation == kSet) return setTopicDefault(layer, step.key, step.value, limits);
  return extendTopicDefault(layer, step.key, step.value, step.operation == kSubtract, limits);
}

Result<> take(const Step& step, GroupConfig& config, const GroupDefaults& defaults) {
  if (step.operation == kDelete) return resetGroupConfig(config, step.key);
  if (step.operation == kSet)
    return setGroupConfig(config, step.key, BytesView(step.value), defaults);
  return fail(ErrorKind::kInvalid, step.key + " is not a list");
}

Result<> take(const Step& step, ClientMetricsSettings& settings) {
  if (step.operation == kDelete) return resetClientMetrics(settings, step.key);
  if (step.operation == kSet) return setClientMetrics(settings, step.key, BytesView(step.value));
  return extendClientMetrics(settings, step.key, step.value, step.operation == kSubtract);
}

}  // namespace

void handleIncrementalAlterConfigs(const CallRef& call,
                                   wire::IncrementalAlterConfigsRequest&& request) {
  std::vector<ConfigChange> changes;
  for (const auto& resource : request.resources) {
    ConfigChange& change = changes.emplace_back();
    change.type = resource.type;
    change.name = resource.name;
    std::vector<Step> steps;
    std::set<BytesView> keys;
    for (const auto& config : resource.configs) {
      if (config.operation < kSet || config.operation > kSubtract) {
        change.refusal = {Code::kInvalidRequest, owned(config.name) + ": unknown operation " +
                                                     std::to_string(config.operation)};
      } else if (!config.value && config.operation != kDelete) {
        change.refusal = {Code::kInvalidRequest, owned(config.name) + ": a value is missing"};
      } else if (!keys.insert(config.name).second) {
        change.refusal = {Code::kInvalidRequest, owned(config.name) + " is named twice"};
      }
      if (config.operation != kDelete) change.given.push_back(config.name);
      steps.push_back(
          {owned(config.name), config.operation, owned(config.value.value_or(BytesView()))});
    }
    change.defaultsEdit = [steps](TopicConfig& layer, const TopicConfigLimits& limits) -> Result<> {
      for (const Step& step : steps) {
        if (Result<> taken = takeDefault(step, layer, limits); !taken) return taken;
      }
      return {};
    };
    change.groupEdit = [steps](GroupConfig& config, const GroupDefaults& defaults) -> Result<> {
      for (const Step& step : steps) {
        if (Result<> taken = take(step, config, defaults); !taken) return taken;
      }
      return {};
    };
    change.metricsEdit = [steps](ClientMetricsSettings& settings) -> Result<> {
      for (const Step& step : steps) {
        if (Result<> taken = take(step, settings); !taken) return taken;
      }
      return {};
    };
    change.edit = [steps = std::move(steps)](TopicConfig& config,
                                             const TopicConfigLimits& limits) -> Result<> {
      for (const Step& step : steps) {
        if (Result<> taken = take(step, config, limits); !taken) return taken;
      }
      return checkTopicConfig(config, limits);
    };
  }
  changeConfigs<wire::IncrementalAlterConfigsResponse>(call, std::move(changes),
                                                       request.validateOnly);
}

}  // namespace polylog::kafka
