// AddOffsetsToTxn: has a transaction cover a consumer group's offsets.
#include "codecs/kafka/wire/add_offsets_to_txn.h"

#include <string>

#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/handlers/transactions.h"

namespace polylog::kafka {

void handleAddOffsetsToTxn(const CallRef& call, wire::AddOffsetsToTxnRequest&& request) {
  wire::AddOffsetsToTxnResponse response;
  if (request.transactionalId.empty()) {
    response.errorCode = code(Code::kInvalidRequest);
    return call->answer(response);
  }
  if (request.groupId.empty()) {
    response.errorCode = code(Code::kInvalidGroupId);
    return call->answer(response);
  }
  call->broker().addGroupToTransaction(
      call->principal(),
      transactionProducer(request.transactionalId, request.producerId, request.producerEpoch),
      owned(request.groupId), [call](const Result<>& added) {
        wire::AddOffsetsToTxnResponse out;
        if (!added) out.errorCode = transactionCode(added.error(), call->version());
        call->answer(out);
      });
}

}  // namespace polylog::kafka
