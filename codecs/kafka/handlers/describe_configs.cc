// DescribeConfigs: every key of topics, of groups and of the broker, where its value comes from,
// and what would be in force if it weren't set.
#include "codecs/kafka/wire/describe_configs.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/broker_config.h"
#include "codecs/kafka/handlers/configs.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {
namespace {

using Request = wire::DescribeConfigsRequest;
using Answer = wire::DescribeConfigsResponse::Result;

struct Inquiry : Pending<wire::DescribeConfigsResponse> {
  Inquiry(CallRef c, Request&& asked) : Pending(std::move(c)), request(std::move(asked)) {}

  Refusal describe(const Request::Resource& asked, Answer& answer);
  void fill(const Request::Resource& asked, std::vector<ConfigEntry> entries, Answer& answer);
  void refuse(Answer& answer, int16_t errorCode, std::string why);

  Request request;
};

Refusal Inquiry::describe(const Request::Resource& asked, Answer& answer) {
  switch (static_cast<ResourceType>(asked.type)) {
    case ResourceType::kTopic: {
      if (Result<std::string> name = canonicalTopic(asked.name); !name) {
        return {Code::kInvalidTopic, name.error().text};
      }
      TopicRef topic = findTopic(*call, asked.name);
      if (topic == nullptr) {
        return {Code::kUnknownTopicOrPartition, "there is no topic " + owned(asked.name)};
      }
      if (!permits(*call, Operation::kDescribeConfigs, ResourceKind::kTopic, topic->name)) {
        return {Code::kTopicAuthorizationFailed,
                "not permitted to see the configuration of topic " + owned(asked.name)};
      }
      fill(asked, describeTopicConfig(topic->config, limitsFor(*call, topic->origin)), answer);
      return {};
    }
    case ResourceType::kClientMetrics: {
      ClientMetricsControl* control = call->options().clientMetrics;
      if (asked.name.empty() || control == nullptr) {
        return {Code::kInvalidRequest, "a subscription's name is needed"};
      }
      auto all = control->subscriptions(call->principal());
      if (!all) return {Code::kClusterAuthorizationFailed, all.error().text};
      auto known = (*all)->subscriptions.find(asked.name);
      bool there = known != (*all)->subscriptions.end();
      fill(asked, describeClientMetrics(there ? known->second : ClientMetricsSettings{}), answer);
      return {};
    }
    case ResourceType::kBroker: {
      if (!namesThisBroker(*call, asked.name)) {
        return {Code::kInvalidRequest, "there is no broker " + owned(asked.name)};
      }
      if (!permits(*call, Operation::kDescribeConfigs, ResourceKind::kCluster, kClusterName)) {
        return {Code::kClusterAuthorizationFailed,
                "not permitted to see the broker's configuration"};
      }
      TopicConfigLimits limits = limitsFor(*call, Protocol::kKafka);
      // Without an id those are meant that are set for all brokers while they run.
      fill(asked,
           asked.name.empty() ? describeClusterDefaults(limits) : describeBroker(*call, limits),
           answer);
      return {};
    }
    default:
      return {Code::kInvalidRequest,
              "resources of type " + std::to_string(asked.type) + " have no configuration here"};
  }
}

void Inquiry::fill(const Request::Resource& asked, std::vector<ConfigEntry> entries,
                   Answer& answer) {
  for (ConfigEntry& entry : entries) {
    if (asked.keys && std::ranges::find(*asked.keys, entry.key) == asked.keys->end()) continue;
    auto& out = answer.configs.emplace_back();
    out.name = entry.key;
    if (entry.value) out.value = texts.keep(std::move(*entry.value));
    out.readOnly = entry.readOnly;
    out.source = static_cast<int8_t>(entry.source);
    out.type = static_cast<int8_t>(entry.type);
    if (request.includeDocumentation) out.documentation = entry.documentation;
    if (!request.includeSynonyms) continue;
    for (ConfigSynonym& synonym : entry.synonyms) {
      out.synonyms.push_back(
          {synonym.key, texts.keep(std::move(synonym.value)), static_cast<int8_t>(synonym.source)});
    }
  }
}

void Inquiry::refuse(Answer& answer, int16_t errorCode, std::string why) {
  answer.errorCode = errorCode;
  answer.errorMessage = texts.keep(std::move(why));
}

void describeGroup(const std::shared_ptr<Inquiry>& inquiry, const Request::Resource& asked,
                   Answer& answer) {
  if (asked.name.empty()) {
    return inquiry->refuse(answer, code(Code::kInvalidRequest), "a group is needed");
  }
  Call& call = *inquiry->call;
  ++inquiry->waiting;
  call.broker().groupConfig(
      call.principal(), owned(asked.name),
      [inquiry, &asked, &answer,
       defaults = call.broker().groupDefaults()](const Result<GroupConfig>& config) {
        if (config) {
          inquiry->fill(asked, describeGroupConfig(*config, defaults), answer);
        } else {
          inquiry->refuse(answer, code(config.error(), Area::kGroup), config.error().text);
        }
        inquiry->release();
      });
}

}  // namespace

void handleDescribeConfigs(const CallRef& call, wire::DescribeConfigsRequest&& request) {
  auto inquiry = std::make_shared<Inquiry>(call, std::move(request));
  const auto& resources = inquiry->request.resources;
  auto& answers = inquiry->response.results;
  answers.resize(resources.size());
  for (size_t i = 0; i < answers.size(); ++i) {
    answers[i].type = resources[i].type;
    answers[i].name = resources[i].name;
    if (static_cast<ResourceType>(resources[i].type) == ResourceType::kGroup) {
      describeGroup(inquiry, resources[i], answers[i]);
      continue;
    }
    Refusal refusal = inquiry->describe(resources[i], answers[i]);
    if (refusal.code == Code::kNone) continue;
    inquiry->refuse(answers[i], code(refusal.code), std::move(refusal.text));
  }
  inquiry->release();
}

}  // namespace polylog::kafka
