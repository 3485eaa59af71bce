// Transactions: who has which transactional id, what the transaction under way covers, and its end.
// An end is one journal entry: a marker in every partition, the groups' offsets, and the
// transaction's state take effect together or not at all, so there is nothing in between to go on
// with after a crash. docs/decisions/0011-transactions.md.
//
// Any worker. Each transaction has a lock, held over append(): what is produced and what ends the
// transaction are in the journal in the order in which they were let through. One change of a
// transaction is on its way to the disk at a time; until it is there, what was before it counts,
// and its producer's next changes wait in their order. Whoever takes the id up meanwhile, or aborts for
// the operator, is told to try again.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/model/broker.h"
#include "core/model/record_batch.h"
#include "router/core.h"
#include "router/transaction_state.h"

namespace polylog::router {

class TransactionCoordinator {
 public:
  explicit TransactionCoordinator(Core& core);
  ~TransactionCoordinator();
  /// After the catalogue's and the groups' load().
  Result<> load();
  /// Aborts what is open in a partition though no transaction covers it (its state was in a damaged
  /// entry): nobody would ever end it. After load().
  Result<> abortOrphans();
  void start(Worker& worker);
  void stop(Worker& worker);

  // As Broker has them.
  void init(TransactionInit init, Done<Result<ProducerIdentity>> done);
  void addPartitions(const TransactionProducer& who,
                     const std::vector<std::pair<std::string, int32_t>>& partitions,
                     Done<Result<>> done);
  void addGroup(const TransactionProducer& who, std::string group, Done<Result<>> done);
  void end(const TransactionProducer& who, bool commit, Done<Result<ProducerIdentity>> done);
  void abort(PartitionId partition, ProducerIdentity producer, Done<Result<>> done);
  std::vector<TransactionDescription> list() const;
  Result<TransactionDescription> describe(const std::string& id) const;

  /// Offsets that a group has checked. `done` on the calling worker.
  void addOffsets(const TransactionProducer& who, PendingOffsets offsets, Done<Result<>> done);
  /// Appends records of a transaction that covers the partition.
  Result<storage::Appended> append(const TransactionProducer& who, PartitionId partition,
                                   storage::AppendRequest request);

 private:
  struct Transaction;
  using Ref = std::shared_ptr<Transaction>;
  using Locked = std::unique_lock<std::mutex>;
  /// What a change makes of a transaction.
  struct Change {
    TransactionState next;
    std::optional<EndMarker> end;  ///< of the transaction under way
    int16_t markerEpoch = 0;       ///< with `end`
    bool forget = false;           ///< the id
  };

  Ref find(const std::string& id) const;
  Result<Ref> findOrMake(const std::string& id);
  void forgetIfUnused(const Ref& transaction);
  std::vector<Ref> all() const;
  static Result<> check(const Transaction& transaction, const TransactionProducer& who);
  /// The transaction of that producer, locked.
  Result<Ref> open(const TransactionProducer& who, Locked& lock) const;

  void initWith(const TransactionInit& init, std::optional<int64_t> fresh,
                Done<Result<ProducerIdentity>> done);
  static Result<std::optional<ProducerIdentity>> takenUp(const TransactionInit& init,
                                                         const TransactionState& state);
  TransactionState begun(const TransactionState& state) const;
  void endWith(const TransactionProducer& who, bool commit, std::optional<int64_t> fresh,
               Done<Result<ProducerIdentity>> done);
  static std::optional<Result<ProducerIdentity>> endedBefore(const TransactionProducer& who,
                                                             TransactionStatus ended,
                                                             const TransactionState& state);
  void abortLocked(const Ref& transaction, Locked lock, Done<Result<>> done);
  void journal(const Ref& transaction, Locked lock, Change change, Done<Result<>> done);
  storage::AppendRequest requestFor(const Transaction& transaction, const Change& change) const;
  void addMarkers(const TransactionState& state, const Change& change,
                  storage::AppendRequest& request) const;
  void addGroupOffsets(const TransactionState& state, storage::AppendRequest& request) const;
  void journaled(const Ref& transaction, Change& change, const Result<storage::Appended>& result,
                 Done<Result<>> done);
  void releaseWaiting(const Ref& transaction);
  void settleGroups(const std::string& id, std::vector<PendingOffsets> groups, bool commit,
                    Position position, Task then);
  int64_t dueMs(const TransactionState& state) const;
  TransactionDescription describe(Transaction& transaction) const;
  void onTick();
  void overdue(const Ref& transaction, int64_t nowMs);

  Core& core_;
  mutable std::mutex mutex_;
  std::unordered_map<std::string, Ref> transactions_;
  std::unique_ptr<Timer> tick_;  ///< worker 0's
};

}  // namespace polylog::router
