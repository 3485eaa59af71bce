// What the handlers of transactions share.
#pragma once

#include <cstdint>
#include <string>

#include "codecs/kafka/errors.h"
#include "core/base/bytes.h"
#include "core/model/transaction.h"

namespace polylog::kafka {

inline TransactionProducer transactionProducer(BytesView id, int64_t producer, int16_t epoch,
                                               int version = 1) {
  return {std::string(id), {producer, epoch}, version};
}

/// A transaction's error. Clients older than `firstFenced` don't know PRODUCER_FENCED.
inline int16_t transactionCode(const Error& error, int16_t version, int16_t firstFenced = 2) {
  if (error.kind == ErrorKind::kProducerFenced && version < firstFenced) {
    return code(Code::kInvalidProducerEpoch);
  }
  return code(error, Area::kTransaction);
}

/// As Kafka names them; commits and aborts take effect at once, so nobody sees them prepared.
inline const char* stateName(TransactionStatus status) {
  switch (status) {
    case TransactionStatus::kEmpty: return "Empty";
    case TransactionStatus::kOngoing: return "Ongoing";
    case TransactionStatus::kCommitted: return "CompleteCommit";
    case TransactionStatus::kAborted: return "CompleteAbort";
  }
  return "Empty";
}

}  // namespace polylog::kafka
