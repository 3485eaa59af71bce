// AddPartitionsToTxn: begins a transaction, or has it cover more partitions; all of them or none.
#include "codecs/kafka/wire/add_partitions_to_txn.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/handlers/transactions.h"

namespace polylog::kafka {
namespace {

using Response = wire::AddPartitionsToTxnResponse;

void setAll(Response& response, int16_t errorCode) {
  for (auto& topic : response.topics) {
    for (auto& partition : topic.partitions) partition.errorCode = errorCode;
  }
}

}  // namespace

void handleAddPartitionsToTxn(const CallRef& call, wire::AddPartitionsToTxnRequest&& request) {
  auto response = std::make_shared<Response>();
  std::vector<std::pair<std::string, int32_t>> partitions;
  bool unknown = false;
  for (const auto& topic : request.topics) {
    auto& answer = response->topics.emplace_back();
    answer.name = topic.name;
    Result<std::string> name = canonicalTopic(topic.name);
    TopicRef found = name ? call->broker().findTopic(call->principal(), *name) : nullptr;
    for (int32_t index : topic.partitions) {
      bool there = found && index >= 0 && static_cast<size_t>(index) < found->partitions.size();
      answer.partitions.push_back({index, there ? code(Code::kOperationNotAttempted)
                                                : code(Code::kUnknownTopicOrPartition)});
      unknown |= !there;
      if (there) partitions.emplace_back(*name, index);
    }
  }
  if (request.transactionalId.empty()) {
    setAll(*response, code(Code::kInvalidRequest));
    return call->answer(*response);
  }
  if (unknown) return call->answer(*response);
  call->broker().addToTransaction(
      call->principal(),
      transactionProducer(request.transactionalId, request.producerId, request.producerEpoch),
      std::move(partitions), [call, response](const Result<>& added) {
        setAll(*response, added ? int16_t{0} : transactionCode(added.error(), call->version()));
        call->answer(*response);
      });
}

}  // namespace polylog::kafka
