#include "codecs/kafka/handlers/configs.h"

#include <map>
#include <memory>
#include <type_traits>
#include <utility>

#include "codecs/kafka/wire/alter_configs.h"
#include "codecs/kafka/wire/incremental_alter_configs.h"

namespace polylog::kafka {
namespace {

int16_t changeCode(const Error& error) {
  if (error.kind == ErrorKind::kInvalid) return code(Code::kInvalidConfig);
  return code(error, Area::kTopic);
}

/// Kafka's answers (KIP-226): what can't be changed while the broker runs is all named.
Refusal checkBroker(const Call& call, const ConfigChange& change) {
  if (!namesThisBroker(call, change.name)) {
    return {Code::kInvalidRequest, "Unexpected broker id, expected " +
                                       std::to_string(call.options().nodeId) +
                                       " or empty string, but received " + owned(change.name)};
  }
  std::string fixed;
  for (BytesView key : change.given) {
    if (call.options().dynamicDefaults != nullptr && isTopicDefault(key)) continue;
    fixed += (fixed.empty() ? "" : ", ") + owned(key);
  }
  if (fixed.empty()) return {};
  return {Code::kInvalidRequest, "Cannot update these configs dynamically: Set(" + fixed + ")"};
}

Refusal unchangeable(const Call& call, const ConfigChange& change) {
  switch (static_cast<ResourceType>(change.type)) {
    case ResourceType::kTopic: return {};
    case ResourceType::kGroup:
      if (!change.name.empty()) return {};
      return {Code::kInvalidRequest, "a group is needed: there is no configuration of all groups"};
    case ResourceType::kClientMetrics:
      if (call.options().clientMetrics == nullptr) {
        return {Code::kInvalidRequest, "clients can't be asked for metrics here"};
      }
      if (!change.name.empty()) return {};
      return {Code::kInvalidRequest, "a subscription's name is needed"};
    case ResourceType::kBroker: return checkBroker(call, change);
    default:
      return {Code::kInvalidRequest,
              "resources of type " + std::to_string(change.type) + " have no configuration here"};
  }
}

template <class Response>
using Answer = std::remove_reference_t<decltype(Response().responses.front())>;

template <class Response>
void refuse(Pending<Response>& pending, Answer<Response>& answer, int16_t errorCode,
            std::string text) {
  answer.errorCode = errorCode;
  answer.errorMessage = pending.texts.keep(std::move(text));
}

template <class Response>
void changeGroup(const std::shared_ptr<Pending<Response>>& pending, Answer<Response>& answer,
                 ConfigChange&& change, bool validateOnly) {
  Call& call = *pending->call;
  ++pending->waiting;
  auto finish = [pending, &answer](const Result<>& result) {
    if (!result) {
      int16_t errorCode = result.error().kind == ErrorKind::kInvalid
                              ? code(Code::kInvalidConfig)
                              : code(result.error(), Area::kGroup);
      refuse(*pending, answer, errorCode, result.error().text);
    }
    pending->release();
  };
  auto edit = [edit = std::move(change.groupEdit),
               defaults = call.broker().groupDefaults()](GroupConfig& config) -> Result<> {
    if (Result<> edited = edit(config, defaults); !edited) return edited;
    return checkGroupConfig(config, defaults);
  };
  if (!validateOnly) {
    return call.broker().alterGroupConfig(call.principal(), owned(change.name), std::move(edit),
                                          std::move(finish));
  }
  call.broker().groupConfig(call.principal(), owned(change.name),
                            [edit, finish](Result<GroupConfig> config) {
                              finish(config ? edit(*config) : std::unexpected(config.error()));
                            });
}

template <class Response>
void changeMetrics(const std::shared_ptr<Pending<Response>>& pending, Answer<Response>& answer,
                   ConfigChange&& change, bool validateOnly) {
  Call& call = *pending->call;
  ClientMetricsControl& control = *call.options().clientMetrics;
  auto settle = [pending, &answer](const Result<>& result) {
    if (result) return;
    int16_t errorCode = result.error().kind == ErrorKind::kInvalid ? code(Code::kInvalidRequest)
                        : result.error().kind == ErrorKind::kInvalidPattern
                            ? code(Code::kInvalidConfig)
                            : code(result.error(), Area::kCluster);
    refuse(*pending, answer, errorCode, result.error().text);
  };
  if (validateOnly) {
    if (!permits(call, Operation::kAlterConfigs, ResourceKind::kCluster, kClusterName)) {
      return settle(fail(ErrorKind::kUnauthorized, "not permitted to alter the cluster's"));
    }
    auto all = control.current();
    auto known = all->subscriptions.find(change.name);
    ClientMetricsSettings tried;
    if (known != all->subscriptions.end()) tried = known->second;
    return settle(change.metricsEdit(tried));
  }
  ++pending->waiting;
  control.alterSubscription(call.principal(), owned(change.name), std::move(change.metricsEdit),
                            [pending, settle](const Result<>& result) {
                              settle(result);
                              pending->release();
                            });
}

template <class Response>
void changeDefaults(const std::shared_ptr<Pending<Response>>& pending, Answer<Response>& answer,
                    ConfigChange&& change, bool validateOnly) {
  Call& call = *pending->call;
  DynamicDefaults* control = call.options().dynamicDefaults;
  if (control == nullptr) return;  // nothing is set, and nothing can be: what is asked for is so
  DefaultsScope scope = change.name.empty() ? DefaultsScope::kCluster : DefaultsScope::kBroker;
  auto settle = [pending, &answer](const Result<>& result) {
    if (result) return;
    // Not INVALID_CONFIG: KAFKA-13609.
    int16_t errorCode = result.error().kind == ErrorKind::kInvalid
                            ? code(Code::kInvalidRequest)
                            : code(result.error(), Area::kCluster);
    refuse(*pending, answer, errorCode, result.error().text);
  };
  auto edit = [edit = std::move(change.defaultsEdit), limits = limitsFor(call, Protocol::kKafka)](
                  TopicConfig& layer) { return edit(layer, limits); };
  if (validateOnly) {
    if (Result<> may = control->mayAlter(call.principal()); !may) return settle(may);
    TopicConfig tried = control->current()->layer(scope);
    return settle(edit(tried));
  }
  ++pending->waiting;
  control->alter(call.principal(), scope, std::move(edit),
                 [pending, settle](const Result<>& result) {
                   settle(result);
                   pending->release();
                 });
}

template <class Response>
void changeOne(const std::shared_ptr<Pending<Response>>& pending, Answer<Response>& answer,
               ConfigChange&& change, bool validateOnly) {
  Call& call = *pending->call;
  if (change.refusal.code == Code::kNone) {
    Refusal refusal = unchangeable(call, change);
    if (refusal.code != Code::kNone) change.refusal = std::move(refusal);
  }
  if (change.refusal.code != Code::kNone) {
    return refuse(*pending, answer, code(change.refusal.code), std::move(change.refusal.text));
  }
  if (static_cast<ResourceType>(change.type) == ResourceType::kGroup) {
    return changeGroup(pending, answer, std::move(change), validateOnly);
  }
  if (static_cast<ResourceType>(change.type) == ResourceType::kClientMetrics) {
    return changeMetrics(pending, answer, std::move(change), validateOnly);
  }
  if (static_cast<ResourceType>(change.type) == ResourceType::kBroker) {
    return changeDefaults(pending, answer, std::move(change), validateOnly);
  }
  TopicRef topic = findTopic(call, change.name);
  if (topic == nullptr) {
    return refuse(*pending, answer, code(Code::kUnknownTopicOrPartition),
                  "there is no topic " + owned(change.name));
  }
  TopicConfigLimits limits = limitsFor(call, topic->origin);
  TopicConfig tried = topic->config;
  if (Result<> ok = change.edit(tried, limits); !ok) {
    return refuse(*pending, answer, changeCode(ok.error()), ok.error().text);
  }
  if (validateOnly) return;
  ++pending->waiting;
  call.broker().alterTopic(
      call.principal(), topic->name,
      [edit = std::move(change.edit), limits = std::move(limits)](TopicConfig& config) {
        return edit(config, limits);
      },
      [pending, &answer](const Result<TopicRef>& result) {
        if (!result) {
          refuse(*pending, answer, changeCode(result.error()), result.error().text);
        }
        pending->release();
      });
}

}  // namespace

TopicConfigLimits limitsFor(const Call& call, Protocol origin) {
  return limitsFor(call.broker(), call.options().dynamicDefaults, origin);
}

bool namesThisBroker(const Call& call, BytesView name) {
  return name.empty() || name == std::to_string(call.options().nodeId);
}

template <class Response>
void changeConfigs(const CallRef& call, std::vector<ConfigChange> changes, bool validateOnly) {
  auto pending = std::make_shared<Pending<Response>>(call);
  auto& answers = pending->response.responses;
  answers.resize(changes.size());
  std::map<std::pair<int8_t, BytesView>, int> named;
  for (const ConfigChange& change : changes) ++named[{change.type, change.name}];
  for (size_t i = 0; i < changes.size(); ++i) {
    ConfigChange& change = changes[i];
    answers[i].type = change.type;
    answers[i].name = change.name;
    if (named[{change.type, change.name}] > 1) {
      change.refusal = {Code::kInvalidRequest, "the request names this resource twice"};
    }
    changeOne(pending, answers[i], std::move(change), validateOnly);
  }
  pending->release();
}

template void changeConfigs<wire::AlterConfigsResponse>(const CallRef&, std::vector<ConfigChange>,
                                                        bool);
template void changeConfigs<wire::IncrementalAlterConfigsResponse>(const CallRef&,
                                                                   std::vector<ConfigChange>, bool);

}  // namespace polylog::kafka
