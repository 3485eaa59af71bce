// What transaction_coordinator.cc (who has an id, what a transaction covers) and
// transaction_ending.cc (its end, and every change's way to the journal) share. For those alone.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "router/transaction_coordinator.h"

namespace polylog::router {

inline std::unexpected<Error> concurrent(const std::string& id) {
  return fail(ErrorKind::kConcurrentTransaction,
              "another change of the transaction of '" + id + "' is under way");
}

inline std::unexpected<Error> unknownTransaction(const std::string& id) {
  return fail(ErrorKind::kUnknownProducer, "transactional id '" + id + "' is not that producer's");
}

/// The last epoch is left for fencing: who would get it gets a new producer id.
inline constexpr int16_t kLastEpoch = std::numeric_limits<int16_t>::max() - 1;

struct TransactionCoordinator::Transaction {
  explicit Transaction(std::string name) : id(std::move(name)) {}

  const std::string id;
  std::mutex mutex;
  TransactionState state;  ///< as the journal has it
  bool changing = false;   ///< a change is on its way to the disk
  bool ending = false;     ///< one that ends the transaction: nothing is produced any more
  bool gone = false;       ///< the coordinator doesn't know it any more
  /// What wants to be done, on that worker, when the change under way is through.
  std::vector<std::pair<Worker*, Task>> waiting;

  /// With the lock.
  void await(Worker& worker, Task task) { waiting.emplace_back(&worker, std::move(task)); }
  /// When it times out or is to be forgotten. Also without the lock.
  std::atomic<int64_t> dueMs{INT64_MAX};
};

}  // namespace polylog::router
