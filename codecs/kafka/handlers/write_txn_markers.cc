// WriteTxnMarkers: brokers tell one another by it how transactions ended; here administrators abort
// one that is open. Committing is the producer's business alone.
#include "codecs/kafka/wire/write_txn_markers.h"

#include <memory>
#include <string>
#include <utility>

#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/handlers/transactions.h"

namespace polylog::kafka {
namespace {

/// One request under way. Places in the response must not move.
struct Aborting {
  explicit Aborting(CallRef c) : call(std::move(c)) {}
  void release() {
    if (--waiting == 0) call->answer(response);
  }

  CallRef call;
  wire::WriteTxnMarkersResponse response;
  size_t waiting = 1;
};

int16_t abortCode(const Error& error) {
  if (error.kind == ErrorKind::kUnauthorized) return code(error, Area::kCluster);
  if (error.kind == ErrorKind::kProducerFenced) return code(Code::kInvalidProducerEpoch);
  return code(error, Area::kTransaction);
}

}  // namespace

void handleWriteTxnMarkers(const CallRef& call, wire::WriteTxnMarkersRequest&& request) {
  auto aborting = std::make_shared<Aborting>(call);
  auto& markers = aborting->response.markers;
  markers.resize(request.markers.size());
  for (size_t i = 0; i < markers.size(); ++i) {
    const auto& asked = request.markers[i];
    markers[i].producerId = asked.producerId;
    markers[i].topics.resize(asked.topics.size());
    for (size_t j = 0; j < asked.topics.size(); ++j) {
      auto& topic = markers[i].topics[j];
      topic.name = asked.topics[j].name;
      for (int32_t index : asked.topics[j].partitions) topic.partitions.push_back({index, 0});
      Result<std::string> name = canonicalTopic(topic.name);
      for (auto& partition : topic.partitions) {
        if (asked.committed) {
          partition.errorCode = code(Code::kClusterAuthorizationFailed);
        } else if (!name) {
          partition.errorCode = code(Code::kUnknownTopicOrPartition);
        } else {
          ++aborting->waiting;
          call->broker().abortTransaction(call->principal(), *name, partition.index,
                                          {asked.producerId, asked.producerEpoch},
                                          [aborting, &partition](const Result<>& done) {
                                            if (!done)
                                              partition.errorCode = abortCode(done.error());
                                            aborting->release();
                                          });
        }
      }
    }
  }
  aborting->release();
}

}  // namespace polylog::kafka
