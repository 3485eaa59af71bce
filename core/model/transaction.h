// Producers' identities and transactions, in neutral terms. Plain data.
//
// A transaction is known by a name that its producer gives it (the transactional id) and that
// outlives the producer: whoever takes it up next gets a higher epoch, which fences the one before.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/strong.h"

namespace polylog {

struct ProducerIdentity {
  int64_t id = -1;
  int16_t epoch = 0;
  bool operator==(const ProducerIdentity&) const = default;
};

/// A producer takes a transactional id up.
struct TransactionInit {
  std::string id;
  int32_t timeoutMs = 0;
  /// Who it is so far, if it is the one that has the id already: it goes on with the next epoch.
  std::optional<ProducerIdentity> current;
};

/// Who asks for something within a transaction.
struct TransactionProducer {
  std::string id;
  ProducerIdentity producer;
  /// Of the protocol between them (Kafka's KIP-890): in version 2 what is produced or committed
  /// joins the transaction by itself, and every end gives the producer a new epoch, so that nothing
  /// of one transaction can get into the next.
  int version = 1;
};

enum class TransactionStatus : uint8_t {
  kEmpty = 0,  ///< none yet since the producer took the id up
  kOngoing = 1,
  kCommitted = 2,  ///< the last one was
  kAborted = 3,
};

struct TransactionDescription {
  std::string id;
  TransactionStatus status = TransactionStatus::kEmpty;
  ProducerIdentity producer;
  int32_t timeoutMs = 0;
  int64_t startedMs = -1;                                   ///< -1 = none under way
  int64_t runningMs = -1;                                   ///< since then
  std::vector<std::pair<std::string, int32_t>> partitions;  ///< of the one under way
};

/// A transaction that was aborted, in one partition: the producer's transactional records in
/// [first, last] are not to be seen. `last` is its marker's offset.
struct AbortedTransaction {
  int64_t producer = -1;
  Offset first;
  Offset last;
  bool operator==(const AbortedTransaction&) const = default;
};

}  // namespace polylog
