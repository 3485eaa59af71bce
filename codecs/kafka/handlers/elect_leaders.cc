// ElectLeaders: this broker leads everything, so there is never anything to elect.
#include "codecs/kafka/wire/elect_leaders.h"

#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {
namespace {

constexpr int8_t kUnclean = 1;

}  // namespace

void handleElectLeaders(const CallRef& call, wire::ElectLeadersRequest&& request) {
  wire::ElectLeadersResponse response;
  if (request.electionType < 0 || request.electionType > kUnclean) {
    response.errorCode = code(Code::kInvalidRequest);
    return call->answer(response);
  }
  // Asked for all of them, Kafka tells only those where there was something to do.
  if (!request.topics) return call->answer(response);
  for (const auto& asked : *request.topics) {
    auto& topic = response.results.emplace_back();
    topic.name = asked.name;
    TopicRef found = findTopic(*call, asked.name);
    for (int32_t index : asked.partitions) {
      auto& out = topic.partitions.emplace_back();
      out.index = index;
      bool there = hasPartition(found, index);
      out.errorCode = code(there ? Code::kElectionNotNeeded : Code::kUnknownTopicOrPartition);
      out.errorMessage =
          there ? "the partition has its preferred leader" : "there is no such partition";
    }
  }
  call->answer(response);
}

}  // namespace polylog::kafka
