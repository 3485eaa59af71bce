// InitProducerId: an id for an idempotent producer. Transactional ones are refused.
#include "codecs/kafka/wire/init_producer_id.h"

#include <optional>

#include "codecs/kafka/errors.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {

void handleInitProducerId(const CallRef& call, wire::InitProducerIdRequest&& request) {
  if (request.transactionalId) {
    wire::InitProducerIdResponse response;
    response.errorCode =
        code(request.transactionalId->empty() ? Code::kInvalidRequest : Code::kUnsupportedVersion);
    return call->answer(response);
  }
  // A producer without a transactional id gets a new id whatever it had before, as from Kafka: it
  // raises its epoch by itself.
  call->broker().initProducer(call->principal(), std::nullopt,
                              [call](const Result<ProducerIdentity>& made) {
                                wire::InitProducerIdResponse response;
                                if (made) {
                                  response.producerId = made->id;
                                  response.producerEpoch = made->epoch;
                                } else {
                                  response.errorCode = code(made.error(), Area::kCluster);
                                  response.producerEpoch = -1;
                                }
                                call->answer(response);
                              });
}

}  // namespace polylog::kafka
