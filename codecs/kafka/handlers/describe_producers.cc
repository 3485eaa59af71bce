// DescribeProducers: which idempotent producers a partition knows.
#include "codecs/kafka/wire/describe_producers.h"

#include <string>
#include <utility>

#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {

void handleDescribeProducers(const CallRef& call, wire::DescribeProducersRequest&& request) {
  wire::DescribeProducersResponse response;
  mapping::TextArena texts;
  for (const auto& topic : request.topics) {
    auto& answer = response.topics.emplace_back();
    answer.name = topic.name;
    TopicRef found = findTopic(*call, topic.name);
    for (int32_t index : topic.partitions) {
      auto& out = answer.partitions.emplace_back();
      out.index = index;
      if (!hasPartition(found, index)) {
        out.errorCode = code(Code::kUnknownTopicOrPartition);
        continue;
      }
      auto producers = call->broker().activeProducers(call->principal(), found->name, index);
      if (!producers) {
        out.errorCode = code(producers.error(), Area::kTopic);
        out.errorMessage = texts.keep(std::move(producers.error().text));
        continue;
      }
      for (const ActiveProducer& producer : *producers) {
        auto& to = out.activeProducers.emplace_back();
        to.id = producer.producer.id;
        to.epoch = producer.producer.epoch;
        to.lastSequence = producer.lastSequence;
        to.lastTimestamp = producer.lastMs;
        to.coordinatorEpoch = -1;
        if (producer.transactionStart) {
          to.currentTxnStartOffset = producer.transactionStart->value();
        }
      }
    }
  }
  call->answer(response);
}

}  // namespace polylog::kafka
