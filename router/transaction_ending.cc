// TransactionCoordinator: how a change is journaled, and a transaction's end, by its producer, by
// time or by an operator.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "core/base/log.h"
#include "router/catalogue.h"
#include "router/feed_router.h"
#include "router/group_coordinator.h"
#include "router/id_allocator.h"
#include "router/transaction_parts.h"

namespace polylog::router {
namespace {

constexpr int64_t kTickMicros = 1'000'000;
/// Partitions may be deleted between looking and appending: then it is looked again.
constexpr int kAttempts = 4;

}  // namespace

void TransactionCoordinator::start(Worker& worker) {
  tick_ = worker.dispatcher.makeTimer([this] { onTick(); });
  tick_->start(kTickMicros);
}

void TransactionCoordinator::stop(Worker&) {
  tick_ = nullptr;
}

Result<> TransactionCoordinator::abortOrphans() {
  auto covered = [this](const storage::OpenTransaction& open) {
    return std::ranges::any_of(transactions_, [&](const auto& each) {
      const TransactionState& state = each.second->state;
      return state.status == TransactionStatus::kOngoing && state.producer.id == open.producer.id &&
             std::ranges::binary_search(state.partitions, open.partition);
    });
  };
  for (const storage::OpenTransaction& open : core_.store.openTransactions()) {
    if (covered(open)) continue;
    logWarning(
        fmt::format("partition {}: the transaction of producer {} from offset {} on is "
                    "nobody's, and is aborted",
                    open.partition.value(), open.producer.id, open.first.value()));
    storage::AppendRequest request;
    storage::MessagesPart& part = request.messages.emplace_back();
    part.batch = SharedBytes::own(
        endMarkerBatch(EndMarker::kAbort, open.producer, core_.clock.wallMillis()));
    part.targets.push_back({open.partition, 0, 0, 0});
    request.admitted = true;
    auto appended = core_.store.append(std::move(request));
    if (!appended) return std::unexpected(appended.error());
  }
  return {};
}

// ---------------------------------------------------------------- ending

void TransactionCoordinator::end(const TransactionProducer& who, bool commit,
                                 Done<Result<ProducerIdentity>> done) {
  endWith(who, commit, std::nullopt, std::move(done));
}

/// What to answer if the transaction has ended already: the first answer was lost.
std::optional<Result<ProducerIdentity>> TransactionCoordinator::endedBefore(
    const TransactionProducer& who, TransactionStatus ended, const TransactionState& state) {
  bool over =
      state.status == TransactionStatus::kCommitted || state.status == TransactionStatus::kAborted;
  const ProducerIdentity& then = who.version >= 2 ? state.previous : state.producer;
  if (!over || who.producer != then) return std::nullopt;
  if (state.status == ended) return state.producer;
  return fail(ErrorKind::kInvalidTransaction,
              fmt::format("the transaction of '{}' has ended the other way", who.id));
}

void TransactionCoordinator::endWith(const TransactionProducer& who, bool commit,
                                     std::optional<int64_t> fresh,
                                     Done<Result<ProducerIdentity>> done) {
  auto answer = [&](Result<ProducerIdentity> result) {
    core_.here().later(
        [done = std::move(done), result = std::move(result)]() mutable { done(result); });
  };
  Ref transaction = find(who.id);
  if (!transaction) return answer(unknownTransaction(who.id));
  Locked lock(transaction->mutex);
  const TransactionState& state = transaction->state;
  TransactionStatus ended = commit ? TransactionStatus::kCommitted : TransactionStatus::kAborted;
  if (auto before = endedBefore(who, ended, state)) return answer(std::move(*before));
  if (auto ok = check(*transaction, who); !ok) return answer(std::unexpected(ok.error()));
  if (transaction->changing) {
    return transaction->await(core_.here(),
                              [this, who, commit, fresh, done = std::move(done)]() mutable {
                                endWith(who, commit, fresh, std::move(done));
                              });
  }
  bool raises = who.version >= 2;
  bool ongoing = state.status == TransactionStatus::kOngoing;
  // A producer of version 2 need not know whether anything has joined before it aborts.
  if (!ongoing && (commit || !raises)) {
    return answer(fail(ErrorKind::kInvalidTransaction,
                       fmt::format("no transaction of '{}' is under way", who.id)));
  }
  if (raises && state.producer.epoch >= kLastEpoch && !fresh) {
    lock.unlock();
    return core_.ids->nextProducer(
        [this, who, commit, done = std::move(done)](Result<int64_t> id) mutable {
          if (id) return endWith(who, commit, *id, std::move(done));
          done(std::unexpected(id.error()));
        });
  }
  Change change;
  change.next = state;
  change.next.status = ended;
  change.next.changedMs = core_.clock.wallMillis();
  change.markerEpoch = state.producer.epoch;
  if (raises) {
    change.markerEpoch = static_cast<int16_t>(state.producer.epoch + 1);
    change.next.previous = state.producer;
    change.next.producer = fresh ? ProducerIdentity{*fresh, 0}
                                 : ProducerIdentity{state.producer.id, change.markerEpoch};
  }
  if (ongoing) change.end = commit ? EndMarker::kCommit : EndMarker::kAbort;
  ProducerIdentity next = change.next.producer;
  journal(transaction, std::move(lock), std::move(change),
          [next, done = std::move(done)](const Result<>& result) mutable {
            if (result) return done(next);
            done(std::unexpected(result.error()));
          });
}

/// Aborts the transaction under way without its producer, which is fenced by it.
void TransactionCoordinator::abortLocked(const Ref& transaction, Locked lock, Done<Result<>> done) {
  Change change;
  change.next = transaction->state;
  change.next.status = TransactionStatus::kAborted;
  change.next.previous = {};
  if (change.next.producer.epoch < std::numeric_limits<int16_t>::max()) {
    ++change.next.producer.epoch;
  }
  change.end = EndMarker::kAbort;
  change.markerEpoch = change.next.producer.epoch;
  journal(transaction, std::move(lock), std::move(change), std::move(done));
}

void TransactionCoordinator::abort(PartitionId partition, ProducerIdentity producer,
                                   Done<Result<>> done) {
  auto answer = [&](Result<> result) {
    core_.here().later([done = std::move(done), result]() mutable { done(result); });
  };
  for (const Ref& transaction : all()) {
    Locked lock(transaction->mutex);
    const TransactionState& state = transaction->state;
    if (state.producer.id != producer.id || state.status != TransactionStatus::kOngoing ||
        !std::ranges::binary_search(state.partitions, partition)) {
      continue;
    }
    if (transaction->changing) return answer(concurrent(transaction->id));
    if (producer.epoch < state.producer.epoch) {
      return answer(fail(ErrorKind::kProducerFenced, "the transaction is of a later epoch"));
    }
    return abortLocked(transaction, std::move(lock), std::move(done));
  }
  // What abortOrphans() does at each start leaves nothing else.
  answer(fail(ErrorKind::kInvalidTransaction,
              fmt::format("producer {} has no transaction open there", producer.id)));
}

// ---------------------------------------------------------------- time

int64_t TransactionCoordinator::dueMs(const TransactionState& state) const {
  if (state.status == TransactionStatus::kOngoing) return state.startedMs + state.timeoutMs;
  return state.changedMs + core_.options.transactionalIdExpiryMillis;
}

void TransactionCoordinator::onTick() {
  int64_t nowMs = core_.clock.wallMillis();
  std::vector<Ref> due;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [id, transaction] : transactions_) {
      if (transaction->dueMs.load(std::memory_order_relaxed) < nowMs) due.push_back(transaction);
    }
  }
  for (const Ref& transaction : due) overdue(transaction, nowMs);
  tick_->start(kTickMicros);
}

void TransactionCoordinator::overdue(const Ref& transaction, int64_t nowMs) {
  Locked lock(transaction->mutex);
  if (transaction->changing || dueMs(transaction->state) >= nowMs) return;
  auto done = [id = transaction->id](const Result<>& result) {
    // It is tried again at the next tick.
    if (!result) logWarning(fmt::format("transaction of '{}': {}", id, result.error().text));
  };
  if (transaction->state.status == TransactionStatus::kOngoing) {
    logInfo(fmt::format("the transaction of '{}' timed out and is aborted", transaction->id));
    return abortLocked(transaction, std::move(lock), std::move(done));
  }
  Change change;
  change.forget = true;
  journal(transaction, std::move(lock), std::move(change), std::move(done));
}

// ---------------------------------------------------------------- the journal

void TransactionCoordinator::addMarkers(const TransactionState& state, const Change& change,
                                        storage::AppendRequest& request) const {
  SharedBytes marker = SharedBytes::own(endMarkerBatch(
      *change.end, {state.producer.id, change.markerEpoch}, core_.clock.wallMillis()));
  for (PartitionId partition : state.partitions) {
    auto start = core_.store.transactionStart(partition, ProducerId(state.producer.id));
    if (!start) continue;  // deleted with its topic
    storage::MessagesPart& part = request.messages.emplace_back();
    part.batch = marker;
    storage::Target& target = part.targets.emplace_back();
    target.partition = partition;
    if (!*start) continue;  // nothing was produced to it
    // Where the feed has to begin.
    target.attributes = static_cast<uint32_t>((*start)->value());
    TopicRef topic = core_.catalogue->findByPartition(partition);
    part.routeAfterCommit = *change.end == EndMarker::kCommit && topic && core_.feed->wants(*topic);
  }
  // What ends a transaction is let in when the disk is nearly full: its records are there already.
  request.admitted = true;
}

void TransactionCoordinator::addGroupOffsets(const TransactionState& state,
                                             storage::AppendRequest& request) const {
  for (const PendingOffsets& group : state.groups) {
    for (const PendingOffset& pending : group.offsets) {
      TopicRef topic = core_.catalogue->find(pending.topic);
      if (!topic || topic->id != pending.topicId) continue;
      request.state.push_back({storage::StateTable::kGroupOffset,
                               groupOffsetKey(group.group, pending.topic, pending.partition),
                               encodeOffset(pending.offset)});
    }
  }
}

storage::AppendRequest TransactionCoordinator::requestFor(const Transaction& transaction,
                                                          const Change& change) const {
  storage::AppendRequest request;
  if (change.end) addMarkers(transaction.state, change, request);
  if (change.end == EndMarker::kCommit) addGroupOffsets(transaction.state, request);
  std::optional<std::string> value;
  if (!change.forget) value = encodeTransaction(change.next);
  request.state.push_back({storage::StateTable::kTransaction, transaction.id, std::move(value)});
  request.durability = storage::Durability::kSynced;
  return request;
}

/// With the transaction's lock, which it lets go.
void TransactionCoordinator::journal(const Ref& transaction, Locked lock, Change change,
                                     Done<Result<>> done) {
  if (change.end) {
    change.next.partitions.clear();
    change.next.groups.clear();
    change.next.startedMs = -1;
    change.next.changedMs = core_.clock.wallMillis();
  }
  Worker& worker = core_.here();
  auto shared =
      std::make_shared<std::pair<Change, Done<Result<>>>>(std::move(change), std::move(done));
  transaction->changing = true;
  transaction->ending = shared->first.end.has_value() || shared->first.forget;
  Result<storage::Appended> appended;
  for (int i = 0; i < kAttempts; ++i) {
    storage::AppendRequest request = requestFor(*transaction, shared->first);
    request.sink = &worker.sink;
    request.done = [this, transaction, shared](const Result<storage::Appended>& result) {
      if (!result) ++core_.writeFailures;
      journaled(transaction, shared->first, result, std::move(shared->second));
    };
    appended = core_.store.append(std::move(request));
    if (appended || appended.error().kind != ErrorKind::kNotFound) break;
  }
  if (appended) return;
  transaction->changing = transaction->ending = false;
  lock.unlock();
  Error error = appended.error();
  if (error.kind == ErrorKind::kNotFound) error.kind = ErrorKind::kIo;  // may be tried again
  worker.later([this, transaction, shared, error] {
    shared->second(std::unexpected(error));
    releaseWaiting(transaction);
  });
}

void TransactionCoordinator::journaled(const Ref& transaction, Change& change,
                                       const Result<storage::Appended>& result,
                                       Done<Result<>> done) {
  std::vector<PendingOffsets> groups;
  {
    std::lock_guard map(mutex_);
    Locked lock(transaction->mutex);
    transaction->changing = transaction->ending = false;
    if (result) {
      if (change.end) groups = std::move(transaction->state.groups);
      transaction->state = std::move(change.next);
      transaction->dueMs = dueMs(transaction->state);
      transaction->gone = change.forget;
      if (change.forget) transactions_.erase(transaction->id);
    }
  }
  if (result) {
    bool commit = change.end == EndMarker::kCommit;
    settleGroups(transaction->id, std::move(groups), commit, result->position,
                 [done = std::move(done)]() mutable { done({}); });
  } else {
    done(std::unexpected(result.error()));
  }
  releaseWaiting(transaction);
}

/// In their order; those of this worker at once, so that what comes from it next comes behind them.
void TransactionCoordinator::releaseWaiting(const Ref& transaction) {
  std::vector<std::pair<Worker*, Task>> waiting;
  {
    Locked lock(transaction->mutex);
    if (transaction->changing) return;  // the next to be through sees to them
    waiting.swap(transaction->waiting);
  }
  for (auto& [worker, task] : waiting) {
    if (worker == &core_.here()) {
      task();
    } else {
      worker->post(std::move(task));
    }
  }
}

/// `then` on this worker once every group has what became of the offsets.
void TransactionCoordinator::settleGroups(const std::string& id, std::vector<PendingOffsets> groups,
                                          bool commit, Position position, Task then) {
  std::erase_if(groups, [](const PendingOffsets& group) { return group.offsets.empty(); });
  if (groups.empty()) return then();
  struct Gather {
    size_t left;
    Task then;
  };
  auto gather = std::make_shared<Gather>(groups.size(), std::move(then));
  for (PendingOffsets& group : groups) {
    core_.groups->transactionEnded(id, std::move(group), commit, position, [gather] {
      if (--gather->left == 0) gather->then();
    });
  }
}

}  // namespace polylog::router
