#include "router/transaction_coordinator.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/log.h"
#include "router/catalogue.h"
#include "router/group_coordinator.h"
#include "router/id_allocator.h"
#include "router/transaction_parts.h"

namespace polylog::router {
namespace {

/// Partitions, and octets of state (pending offsets above all), of one transaction.
constexpr size_t kMaxPartitions = 20'000;
constexpr size_t kMaxStateBytes = 16U << 20;
constexpr size_t kMaxIdBytes = 32'767;

std::unexpected<Error> fenced(const std::string& id) {
  return fail(ErrorKind::kProducerFenced,
              fmt::format("transactional id '{}' has been taken up by another producer, or its "
                          "transaction timed out",
                          id));
}

}  // namespace

TransactionCoordinator::TransactionCoordinator(Core& core) : core_(core) {}
TransactionCoordinator::~TransactionCoordinator() = default;

// ---------------------------------------------------------------- life

Result<> TransactionCoordinator::load() {
  Result<> result;
  core_.store.scanState(storage::StateTable::kTransaction, "", [&](BytesView key, BytesView value) {
    auto state = decodeTransaction(key, value);
    if (!state) {
      result = std::unexpected(state.error());
      return false;
    }
    auto transaction = std::make_shared<Transaction>(std::string(key));
    for (const PendingOffsets& group : state->groups) {
      for (const PendingOffset& offset : group.offsets) {
        core_.groups->restorePending(group.group, {offset.topic, offset.partition},
                                     transaction->id);
      }
    }
    transaction->dueMs = dueMs(*state);
    transaction->state = std::move(*state);
    transactions_[transaction->id] = transaction;
    return true;
  });
  return result;
}

TransactionCoordinator::Ref TransactionCoordinator::find(const std::string& id) const {
  std::lock_guard lock(mutex_);
  auto at = transactions_.find(id);
  return at == transactions_.end() ? nullptr : at->second;
}

Result<TransactionCoordinator::Ref> TransactionCoordinator::findOrMake(const std::string& id) {
  if (id.empty() || id.size() > kMaxIdBytes) {
    return fail(ErrorKind::kInvalid,
                fmt::format("a transactional id has 1 to {} octets", kMaxIdBytes));
  }
  std::lock_guard lock(mutex_);
  auto at = transactions_.find(id);
  if (at != transactions_.end()) return at->second;
  if (transactions_.size() >= core_.options.maxTransactionalIds) {
    return fail(ErrorKind::kBusy, "there are as many transactional ids as are allowed");
  }
  return transactions_[id] = std::make_shared<Transaction>(id);
}

/// One that was made for a request which came to nothing.
void TransactionCoordinator::forgetIfUnused(const Ref& transaction) {
  std::lock_guard map(mutex_);
  std::lock_guard lock(transaction->mutex);
  if (transaction->state.producer.id >= 0 || transaction->changing) return;
  transaction->gone = true;
  transactions_.erase(transaction->id);
}

std::vector<TransactionCoordinator::Ref> TransactionCoordinator::all() const {
  std::lock_guard lock(mutex_);
  std::vector<Ref> all;
  all.reserve(transactions_.size());
  for (const auto& [id, transaction] : transactions_) all.push_back(transaction);
  return all;
}

// ---------------------------------------------------------------- taking an id up

void TransactionCoordinator::init(TransactionInit init, Done<Result<ProducerIdentity>> done) {
  initWith(init, std::nullopt, std::move(done));
}

/// Who takes the id up when it is asked again because the answer was lost; nullopt: it is a new
/// epoch.
Result<std::optional<ProducerIdentity>> TransactionCoordinator::takenUp(
    const TransactionInit& init, const TransactionState& state) {
  if (!init.current || state.producer.id < 0 || *init.current == state.producer) {
    return std::nullopt;
  }
  // One that has begun another transaction since then has had the answer.
  bool begun = state.status == TransactionStatus::kOngoing;
  if (*init.current == state.previous && !begun) return state.producer;
  return fenced(init.id);
}

void TransactionCoordinator::initWith(const TransactionInit& init, std::optional<int64_t> fresh,
                                      Done<Result<ProducerIdentity>> done) {
  auto answer = [&](Result<ProducerIdentity> result) {
    core_.here().later([done = std::move(done), result = std::move(result)]() mutable {
      done(std::move(result));
    });
  };
  auto transaction = findOrMake(init.id);
  if (!transaction) return answer(std::unexpected(transaction.error()));
  Locked lock((*transaction)->mutex);
  if ((*transaction)->changing || (*transaction)->gone) return answer(concurrent(init.id));
  const TransactionState& state = (*transaction)->state;
  auto already = takenUp(init, state);
  if (!already) return answer(std::unexpected(already.error()));
  if (*already) return answer(**already);
  bool exhausted = state.producer.id < 0 || state.producer.epoch >= kLastEpoch;
  if (exhausted && !fresh) {
    lock.unlock();
    return core_.ids->nextProducer(
        [this, init, made = *transaction, done = std::move(done)](Result<int64_t> id) mutable {
          if (id) return initWith(init, *id, std::move(done));
          forgetIfUnused(made);
          done(std::unexpected(id.error()));
        });
  }
  Change change;
  change.next.producer = {state.producer.id, static_cast<int16_t>(state.producer.epoch + 1)};
  if (exhausted) change.next.producer = {*fresh, 0};
  if (init.current) change.next.previous = state.producer;
  change.next.timeoutMs = init.timeoutMs;
  change.next.changedMs = core_.clock.wallMillis();
  if (state.status == TransactionStatus::kOngoing) {
    change.end = EndMarker::kAbort;
    change.markerEpoch = static_cast<int16_t>(state.producer.epoch + 1);
  }
  ProducerIdentity identity = change.next.producer;
  journal(*transaction, std::move(lock), std::move(change),
          [this, identity, made = *transaction, done = std::move(done)](Result<> result) mutable {
            if (result) return done(identity);
            forgetIfUnused(made);
            done(std::unexpected(result.error()));
          });
}

// ---------------------------------------------------------------- what a transaction covers

Result<> TransactionCoordinator::check(const Transaction& transaction,
                                       const TransactionProducer& who) {
  const ProducerIdentity& producer = transaction.state.producer;
  if (transaction.gone || producer.id < 0 || producer.id != who.producer.id) {
    return unknownTransaction(who.id);
  }
  if (producer.epoch != who.producer.epoch) return fenced(who.id);
  return {};
}

Result<TransactionCoordinator::Ref> TransactionCoordinator::open(const TransactionProducer& who,
                                                                 Locked& lock) const {
  Ref transaction = find(who.id);
  if (!transaction) return unknownTransaction(who.id);
  lock = Locked(transaction->mutex);
  if (auto ok = check(*transaction, who); !ok) return std::unexpected(ok.error());
  return transaction;
}

/// The state with a transaction under way: the one that is, or a new one.
TransactionState TransactionCoordinator::begun(const TransactionState& state) const {
  TransactionState next = state;
  next.changedMs = core_.clock.wallMillis();
  if (next.status == TransactionStatus::kOngoing) return next;
  next.status = TransactionStatus::kOngoing;
  next.startedMs = next.changedMs;
  next.partitions.clear();
  next.groups.clear();
  return next;
}

void TransactionCoordinator::addPartitions(
    const TransactionProducer& who, const std::vector<std::pair<std::string, int32_t>>& partitions,
    Done<Result<>> done) {
  auto answer = [&](Result<> result) {
    core_.here().later([done = std::move(done), result]() mutable { done(result); });
  };
  std::vector<PartitionId> added;
  for (const auto& [name, index] : partitions) {
    TopicRef topic = core_.catalogue->find(name);
    if (!topic || index < 0 || static_cast<size_t>(index) >= topic->partitions.size()) {
      return answer(
          fail(ErrorKind::kNotFound, fmt::format("no partition {} of topic '{}'", index, name)));
    }
    added.push_back(topic->partitions[static_cast<size_t>(index)]);
  }
  Locked lock;
  auto transaction = open(who, lock);
  if (!transaction) return answer(std::unexpected(transaction.error()));
  if ((*transaction)->changing) {
    return (*transaction)
        ->await(core_.here(), [this, who, partitions, done = std::move(done)]() mutable {
          addPartitions(who, partitions, std::move(done));
        });
  }
  Change change{begun((*transaction)->state), std::nullopt, 0, false};
  std::vector<PartitionId>& covered = change.next.partitions;
  size_t before = covered.size();
  covered.insert(covered.end(), added.begin(), added.end());
  std::sort(covered.begin(), covered.end());
  covered.erase(std::unique(covered.begin(), covered.end()), covered.end());
  if (covered.size() > kMaxPartitions) {
    return answer(fail(ErrorKind::kTooLarge, "too many partitions in one transaction"));
  }
  bool ongoing = (*transaction)->state.status == TransactionStatus::kOngoing;
  if (ongoing && covered.size() == before) return answer({});
  journal(*transaction, std::move(lock), std::move(change), std::move(done));
}

void TransactionCoordinator::addGroup(const TransactionProducer& who, std::string group,
                                      Done<Result<>> done) {
  addOffsets(who, {std::move(group), {}}, std::move(done));
}

/// With offsets, the transaction must cover the group already, but for version 2.
void TransactionCoordinator::addOffsets(const TransactionProducer& who, PendingOffsets offsets,
                                        Done<Result<>> done) {
  auto answer = [&](Result<> result) {
    core_.here().later([done = std::move(done), result]() mutable { done(result); });
  };
  Locked lock;
  auto transaction = open(who, lock);
  if (!transaction) return answer(std::unexpected(transaction.error()));
  if ((*transaction)->changing) {
    return (*transaction)
        ->await(core_.here(),
                [this, who, offsets = std::move(offsets), done = std::move(done)]() mutable {
                  addOffsets(who, std::move(offsets), std::move(done));
                });
  }
  const TransactionState& state = (*transaction)->state;
  Change change{begun(state), std::nullopt, 0, false};
  auto& groups = change.next.groups;
  auto group = std::ranges::find(groups, offsets.group, &PendingOffsets::group);
  bool covered = group != groups.end();
  if (offsets.offsets.empty() && covered) return answer({});
  if (!offsets.offsets.empty() && !covered && who.version < 2) {
    return answer(fail(
        ErrorKind::kInvalidTransaction,
        fmt::format("the transaction of '{}' doesn't cover group '{}'", who.id, offsets.group)));
  }
  if (!covered) group = groups.insert(groups.end(), {offsets.group, {}});
  for (PendingOffset& offset : offsets.offsets) {
    auto same = std::ranges::find_if(group->offsets, [&](const PendingOffset& other) {
      return other.topic == offset.topic && other.partition == offset.partition;
    });
    if (same == group->offsets.end()) same = group->offsets.insert(same, PendingOffset{});
    *same = std::move(offset);
  }
  if (encodeTransaction(change.next).size() > kMaxStateBytes) {
    return answer(fail(ErrorKind::kTooLarge, "too many offsets in one transaction"));
  }
  journal(*transaction, std::move(lock), std::move(change), std::move(done));
}

Result<storage::Appended> TransactionCoordinator::append(const TransactionProducer& who,
                                                         PartitionId partition,
                                                         storage::AppendRequest request) {
  Ref transaction = find(who.id);
  if (!transaction) return unknownTransaction(who.id);
  Locked lock(transaction->mutex);
  if (auto ok = check(*transaction, who); !ok) return std::unexpected(ok.error());
  if (transaction->ending) return concurrent(who.id);
  const TransactionState& state = transaction->state;
  if (state.status != TransactionStatus::kOngoing ||
      !std::binary_search(state.partitions.begin(), state.partitions.end(), partition)) {
    return fail(ErrorKind::kInvalidTransaction,
                fmt::format("the partition has not been added to a transaction of '{}'", who.id));
  }
  return core_.store.append(std::move(request));
}

// ---------------------------------------------------------------- looking

TransactionDescription TransactionCoordinator::describe(Transaction& transaction) const {
  TransactionDescription out;
  std::vector<PartitionId> partitions;
  {
    Locked lock(transaction.mutex);
    const TransactionState& state = transaction.state;
    out = {transaction.id, state.status, state.producer, state.timeoutMs, -1, -1, {}};
    if (state.status != TransactionStatus::kOngoing) return out;
    out.startedMs = state.startedMs;
    out.runningMs = std::max<int64_t>(0, core_.clock.wallMillis() - state.startedMs);
    partitions = state.partitions;
  }
  for (PartitionId partition : partitions) {
    TopicRef topic = core_.catalogue->findByPartition(partition);
    if (!topic) continue;
    auto at = std::ranges::find(topic->partitions, partition);
    out.partitions.emplace_back(topic->name, static_cast<int32_t>(at - topic->partitions.begin()));
  }
  std::sort(out.partitions.begin(), out.partitions.end());
  return out;
}

std::vector<TransactionDescription> TransactionCoordinator::list() const {
  std::vector<TransactionDescription> out;
  for (const Ref& transaction : all()) {
    out.push_back(describe(*transaction));
    if (out.back().producer.id < 0) out.pop_back();
  }
  std::ranges::sort(out, {}, &TransactionDescription::id);
  return out;
}

Result<TransactionDescription> TransactionCoordinator::describe(const std::string& id) const {
  Ref transaction = find(id);
  TransactionDescription out;
  if (transaction) out = describe(*transaction);
  if (out.producer.id >= 0) return out;
  return unknownTransaction(id);
}

}  // namespace polylog::router
