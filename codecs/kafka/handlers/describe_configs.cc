// DescribeConfigs: every key of topics and of the broker, where its value comes from, and what
// would be in force if it weren't set.
#include "codecs/kafka/wire/describe_configs.h"

#include <algorithm>
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

struct Inquiry {
  const Call& call;
  const Request& request;
  mapping::TextArena& texts;

  Refusal describe(const Request::Resource& asked, Answer& answer);
  void fill(const Request::Resource& asked, std::vector<ConfigEntry> entries, Answer& answer);
};

Refusal Inquiry::describe(const Request::Resource& asked, Answer& answer) {
  switch (static_cast<ResourceType>(asked.type)) {
    case ResourceType::kTopic: {
      if (Result<std::string> name = canonicalTopic(asked.name); !name) {
        return {Code::kInvalidTopic, name.error().text};
      }
      TopicRef topic = findTopic(call, asked.name);
      if (topic == nullptr) {
        return {Code::kUnknownTopicOrPartition, "there is no topic " + owned(asked.name)};
      }
      fill(asked, describeTopicConfig(topic->config, limitsFor(call, topic->origin)), answer);
      return {};
    }
    case ResourceType::kBroker:
      if (!namesThisBroker(call, asked.name)) {
        return {Code::kInvalidRequest, "there is no broker " + owned(asked.name)};
      }
      // Without an id those are meant that are set for all brokers while they run: there are none.
      if (!asked.name.empty()) fill(asked, describeBroker(call), answer);
      return {};
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

}  // namespace

void handleDescribeConfigs(const CallRef& call, wire::DescribeConfigsRequest&& request) {
  wire::DescribeConfigsResponse response;
  mapping::TextArena texts;
  Inquiry inquiry{*call, request, texts};
  for (const auto& asked : request.resources) {
    Answer& answer = response.results.emplace_back();
    answer.type = asked.type;
    answer.name = asked.name;
    Refusal refusal = inquiry.describe(asked, answer);
    if (refusal.code == Code::kNone) continue;
    answer.errorCode = code(refusal.code);
    answer.errorMessage = texts.keep(std::move(refusal.text));
  }
  call->answer(response);
}

}  // namespace polylog::kafka
