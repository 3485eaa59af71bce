// AlterConfigs: what isn't named goes back to its default.
#include "codecs/kafka/wire/alter_configs.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/handlers/configs.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/topic_config_keys.h"

namespace polylog::kafka {
namespace {

using Values = std::map<std::string, std::string, std::less<>>;

Result<> replaceAll(const Values& values, TopicConfig& config, const TopicConfigLimits& limits) {
  for (const ConfigKey& key : topicConfigKeys()) {
    if (values.contains(key.name)) continue;
    if (Result<> reset = resetTopicConfig(config, key.name, limits); !reset) return reset;
  }
  for (const auto& [key, value] : values) {
    if (Result<> set = setTopicConfig(config, key, BytesView(value), limits); !set) return set;
  }
  return checkTopicConfig(config, limits);
}

}  // namespace

void handleAlterConfigs(const CallRef& call, wire::AlterConfigsRequest&& request) {
  std::vector<ConfigChange> changes;
  for (const auto& resource : request.resources) {
    ConfigChange& change = changes.emplace_back();
    change.type = resource.type;
    change.name = resource.name;
    Values values;
    for (const auto& config : resource.configs) {
      if (!config.value) {
        change.refusal = {Code::kInvalidRequest, owned(config.name) + ": a value is missing"};
      } else if (!values.emplace(config.name, *config.value).second) {
        change.refusal = {Code::kInvalidRequest, owned(config.name) + " is set twice"};
      }
    }
    for (const auto& config : resource.configs) change.given.push_back(config.name);
    change.defaultsEdit = [values](TopicConfig& layer,
                                   const TopicConfigLimits& limits) -> Result<> {
      layer = {};
      for (const auto& [key, value] : values) {
        if (Result<> set = setTopicDefault(layer, key, value, limits); !set) return set;
      }
      return {};
    };
    change.groupEdit = [values](GroupConfig& config, const GroupDefaults& defaults) -> Result<> {
      config = {};
      for (const auto& [key, value] : values) {
        if (Result<> set = setGroupConfig(config, key, BytesView(value), defaults); !set)
          return set;
      }
      return {};
    };
    change.metricsEdit = [values](ClientMetricsSettings& settings) -> Result<> {
      settings.clear();
      for (const auto& [key, value] : values) {
        if (Result<> set = setClientMetrics(settings, key, BytesView(value)); !set) return set;
      }
      return {};
    };
    change.edit = [values = std::move(values)](TopicConfig& config,
                                               const TopicConfigLimits& limits) {
      return replaceAll(values, config, limits);
    };
  }
  changeConfigs<wire::AlterConfigsResponse>(call, std::move(changes), request.validateOnly);
}

}  // namespace polylog::kafka
