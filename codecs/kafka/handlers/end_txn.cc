// EndTxn: commits or aborts a transaction, answered when that is durable.
#include "codecs/kafka/wire/end_txn.h"

#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/handlers/transactions.h"

namespace polylog::kafka {
namespace {
constexpr int16_t kFirstWithNewEpoch = 5;
}  // namespace

void handleEndTxn(const CallRef& call, wire::EndTxnRequest&& request) {
  if (request.transactionalId.empty()) {
    wire::EndTxnResponse response;
    response.errorCode = code(Code::kInvalidRequest);
    return call->answer(response);
  }
  call->broker().endTransaction(
      call->principal(),
      transactionProducer(request.transactionalId, request.producerId, request.producerEpoch,
                          call->version() >= kFirstWithNewEpoch ? 2 : 1),
      request.committed, [call](const Result<ProducerIdentity>& ended) {
        wire::EndTxnResponse response;
        if (ended) {
          response.producerId = ended->id;
          response.producerEpoch = ended->epoch;
        } else {
          response.errorCode = transactionCode(ended.error(), call->version());
        }
        call->answer(response);
      });
}

}  // namespace polylog::kafka
