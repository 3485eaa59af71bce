// InitProducerId: an id for an idempotent producer, or a transactional id's next epoch.
#include "codecs/kafka/wire/init_producer_id.h"

#include <optional>

#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/handlers/transactions.h"

namespace polylog::kafka {
namespace {

constexpr int16_t kFirstFenced = 4;

void refuse(const CallRef& call, int16_t errorCode) {
  wire::InitProducerIdResponse response;
  response.errorCode = errorCode;
  response.producerEpoch = -1;
  call->answer(response);
}

void answer(const CallRef& call, const Result<ProducerIdentity>& made, Area area) {
  if (!made) {
    return refuse(call, area == Area::kTransaction
                            ? transactionCode(made.error(), call->version(), kFirstFenced)
                            : code(made.error(), area));
  }
  wire::InitProducerIdResponse response;
  response.producerId = made->id;
  response.producerEpoch = made->epoch;
  call->answer(response);
}

}  // namespace

void handleInitProducerId(const CallRef& call, wire::InitProducerIdRequest&& request) {
  // A producer without a transactional id gets a new id whatever it had before, as from Kafka: it
  // raises its epoch by itself.
  if (!request.transactionalId) {
    return call->broker().initProducer(
        call->principal(), std::nullopt,
        [call](const Result<ProducerIdentity>& made) { answer(call, made, Area::kCluster); });
  }
  if (request.transactionalId->empty() || (request.producerId < 0) != (request.producerEpoch < 0)) {
    return refuse(call, code(Code::kInvalidRequest));
  }
  if (request.transactionTimeoutMs <= 0 ||
      request.transactionTimeoutMs > call->options().maxTransactionTimeoutMs) {
    return refuse(call, code(Code::kInvalidTransactionTimeout));
  }
  TransactionInit init;
  init.id = std::string(*request.transactionalId);
  init.timeoutMs = request.transactionTimeoutMs;
  if (request.producerId >= 0) {
    init.current = ProducerIdentity{request.producerId, request.producerEpoch};
  }
  call->broker().initTransactions(
      call->principal(), std::move(init),
      [call](const Result<ProducerIdentity>& made) { answer(call, made, Area::kTransaction); });
}

}  // namespace polylog::kafka
