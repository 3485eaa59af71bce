// AddPartitionsToTxn: begins a transaction, or has it cover more partitions; all of them or none.
// From version 4 on brokers ask it of each other, about several transactions at once.
#include "codecs/kafka/wire/add_partitions_to_txn.h"

#include <algorithm>
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

constexpr int16_t kFirstBetweenBrokers = 4;
constexpr int16_t kFirstWithAbortable = 5;

template <class Topics>
void setAll(Topics& topics, int16_t errorCode) {
  for (auto& topic : topics) {
    for (auto& partition : topic.partitions) partition.errorCode = errorCode;
  }
}

struct Asked {
  std::vector<std::pair<std::string, int32_t>> partitions;
  bool unknown = false;  ///< one that isn't there was asked for
};

/// Lays the answer out, with the errors of partitions that are not there.
template <class Request, class Answer>
Asked layOut(const Call& call, const Request& topics, Answer& answers) {
  Asked asked;
  for (const auto& topic : topics) {
    auto& answer = answers.emplace_back();
    answer.name = topic.name;
    Result<std::string> name = canonicalTopic(topic.name);
    TopicRef found = name ? call.broker().findTopic(call.principal(), *name) : nullptr;
    for (int32_t index : topic.partitions) {
      bool there = hasPartition(found, index);
      answer.partitions.push_back({index, there ? code(Code::kOperationNotAttempted)
                                                : code(Code::kUnknownTopicOrPartition)});
      asked.unknown |= !there;
      if (there) asked.partitions.emplace_back(*name, index);
    }
  }
  return asked;
}

/// Whether the producer's transaction under way covers them already.
int16_t verify(const Call& call, const TransactionProducer& who, const Asked& asked) {
  auto known = call.broker().describeTransaction(call.principal(), who.id);
  if (!known) return transactionCode(known.error(), call.version());
  if (known->producer.id != who.producer.id) return code(Code::kInvalidProducerIdMapping);
  if (known->producer.epoch != who.producer.epoch) return code(Code::kProducerFenced);
  bool covers = known->status == TransactionStatus::kOngoing &&
                std::ranges::all_of(asked.partitions, [&](const auto& one) {
                  return std::ranges::find(known->partitions, one) != known->partitions.end();
                });
  if (covers) return 0;
  return code(call.version() >= kFirstWithAbortable ? Code::kTransactionAbortable
                                                    : Code::kInvalidTxnState);
}

/// As who may act as a broker.
bool mayActAsBroker(const Call& call) {
  AccessControl* access = call.options().access;
  return access == nullptr || access->permits(call.principal(), Operation::kClusterAction,
                                              ResourceKind::kCluster, kClusterName);
}

void handleBatched(const CallRef& call, const wire::AddPartitionsToTxnRequest& request) {
  auto pending = std::make_shared<Pending<Response>>(call);
  if (!mayActAsBroker(*call)) {
    pending->response.errorCode = code(Code::kClusterAuthorizationFailed);
    return pending->release();
  }
  // Places in the response must not move from here on: callbacks refer to them.
  pending->response.transactions.resize(request.transactions.size());
  for (size_t i = 0; i < request.transactions.size(); ++i) {
    const auto& one = request.transactions[i];
    auto& answer = pending->response.transactions[i];
    answer.transactionalId = one.transactionalId;
    Asked asked = layOut(*call, one.topics, answer.topics);
    auto who = transactionProducer(one.transactionalId, one.producerId, one.producerEpoch);
    if (one.transactionalId.empty()) {
      setAll(answer.topics, code(Code::kInvalidRequest));
    } else if (asked.unknown) {
      continue;
    } else if (one.verifyOnly) {
      setAll(answer.topics, verify(*call, who, asked));
    } else {
      ++pending->waiting;
      call->broker().addToTransaction(
          call->principal(), std::move(who), std::move(asked.partitions),
          [pending, &answer](const Result<>& added) {
            setAll(answer.topics,
                   added ? int16_t{0} : transactionCode(added.error(), pending->call->version()));
            pending->release();
          });
    }
  }
  pending->release();
}

}  // namespace

void handleAddPartitionsToTxn(const CallRef& call, wire::AddPartitionsToTxnRequest&& request) {
  if (call->version() >= kFirstBetweenBrokers) return handleBatched(call, request);
  auto response = std::make_shared<Response>();
  Asked asked = layOut(*call, request.topics, response->topics);
  if (request.transactionalId.empty()) {
    setAll(response->topics, code(Code::kInvalidRequest));
    return call->answer(*response);
  }
  if (asked.unknown) return call->answer(*response);
  call->broker().addToTransaction(
      call->principal(),
      transactionProducer(request.transactionalId, request.producerId, request.producerEpoch),
      std::move(asked.partitions), [call, response](const Result<>& added) {
        setAll(response->topics,
               added ? int16_t{0} : transactionCode(added.error(), call->version()));
        call->answer(*response);
      });
}

}  // namespace polylog::kafka
