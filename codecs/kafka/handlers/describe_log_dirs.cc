// DescribeLogDirs: the data directory, which every partition is in.
#include "codecs/kafka/wire/describe_log_dirs.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {
namespace {

using Out = wire::DescribeLogDirsResponse::Result;

void addPartition(const Call& call, const Topic& topic, int32_t index, Out::Topic& out) {
  auto bounds = call.broker().bounds(call.principal(), topic.name, index);
  if (bounds) out.partitions.push_back({index, bounds->bytes, 0, false});
}

void addAll(const Call& call, mapping::TextArena& texts, Out& out) {
  for (const TopicRef& topic : call.broker().topics(call.principal())) {
    std::string name = kafkaName(*topic);
    if (name.empty()) continue;
    auto& answer = out.topics.emplace_back();
    answer.name = texts.keep(std::move(name));
    for (size_t i = 0; i < topic->partitions.size(); ++i) {
      addPartition(call, *topic, static_cast<int32_t>(i), answer);
    }
  }
}

}  // namespace

void handleDescribeLogDirs(const CallRef& call, wire::DescribeLogDirsRequest&& request) {
  wire::DescribeLogDirsResponse response;
  mapping::TextArena texts;
  const BrokerFacts& facts = call->options().facts;
  Out& out = response.results.emplace_back();
  out.logDir = facts.dataDirectory;
  if (facts.disk) {
    DiskSpace space = facts.disk();
    out.totalBytes = space.totalBytes;
    out.usableBytes = space.usableBytes;
  }
  if (!request.topics) {
    addAll(*call, texts, out);
    return call->answer(response);
  }
  // What isn't there isn't in the directory.
  for (const auto& asked : *request.topics) {
    TopicRef topic = findTopic(*call, asked.name);
    if (topic == nullptr) continue;
    auto& answer = out.topics.emplace_back();
    answer.name = asked.name;
    for (int32_t index : asked.partitions) addPartition(*call, *topic, index, answer);
  }
  call->answer(response);
}

}  // namespace polylog::kafka
