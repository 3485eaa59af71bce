// DescribeTransactions: state and partitions of transactions, by their ids.
#include "codecs/kafka/wire/describe_transactions.h"

#include <string>

#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/handlers/transactions.h"
#include "mapping/address.h"
#include "mapping/kafka.h"

namespace polylog::kafka {
namespace {

using Transaction = wire::DescribeTransactionsResponse::Transaction;

void addPartitions(const TransactionDescription& found, Transaction& out,
                   mapping::TextArena& texts) {
  const std::string* topic = nullptr;
  for (const auto& [canonical, index] : found.partitions) {  // by topic
    if (topic == nullptr || *topic != canonical) {
      std::string name;
      if (!mapping::appendKafkaTopic(canonical, name)) continue;
      topic = &canonical;
      out.topics.emplace_back().name = texts.keep(std::move(name));
    }
    out.topics.back().partitions.push_back(index);
  }
}

}  // namespace

void handleDescribeTransactions(const CallRef& call, wire::DescribeTransactionsRequest&& request) {
  wire::DescribeTransactionsResponse response;
  mapping::TextArena texts;
  for (BytesView id : request.transactionalIds) {
    Transaction& out = response.transactions.emplace_back();
    out.transactionalId = id;
    out.startTimeMs = out.producerId = -1;
    auto found = call->broker().describeTransaction(call->principal(), owned(id));
    if (!found) {
      out.errorCode = found.error().kind == ErrorKind::kUnknownProducer
                          ? code(Code::kTransactionalIdNotFound)
                          : code(found.error(), Area::kTransaction);
      continue;
    }
    out.state = stateName(found->status);
    out.timeoutMs = found->timeoutMs;
    out.startTimeMs = found->startedMs;
    out.producerId = found->producer.id;
    out.producerEpoch = found->producer.epoch;
    addPartitions(*found, out, texts);
  }
  call->answer(response);
}

}  // namespace polylog::kafka
