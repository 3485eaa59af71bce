#include "router/queue_registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "router/exchange_table.h"
#include "router/id_allocator.h"
#include "router/queue.h"
#include "router/state_codec.h"

namespace polylog::router {
namespace {

using storage::StateTable;

}  // namespace

QueueRegistry::QueueRegistry(Core& core) : core_(core) {}
QueueRegistry::~QueueRegistry() = default;

// ---------------------------------------------------------------- from disk

Result<> QueueRegistry::load(LeaderEpoch epoch) {
  epoch_ = epoch;
  Result<> result;
  std::vector<storage::StateChange> stale;
  std::unordered_map<PartitionId, Queue*> byPartition;
  core_.store.scanState(StateTable::kQueue, "", [&](BytesView name, BytesView value) {
    auto state = decodeQueue(name, value);
    if (!state) {
      result = std::unexpected(state.error());
      return false;
    }
    auto ends = core_.store.ends(state->partition);
    if (!ends || !state->spec.durable || state->spec.exclusive) {
      stale.push_back({StateTable::kQueue, std::string(name), std::nullopt});
      if (ends) stale.push_back(storage::partitionDeleted(state->partition));
      return true;
    }
    Worker& home = *core_.workers[core_.workerOf(name)];
    auto queue = std::make_shared<Queue>(core_, home, std::move(state->spec), state->partition, 0);
    byPartition.emplace(queue->partition(), queue.get());
    queue->restoreFloor(ends->logStart.value());
    queue->restoreSent(ends->end.value());
    queue->standing = 1;
    queue->kept = true;
    queues_.emplace(queue->spec().name, std::move(queue));
    return true;
  });
  if (result) result = loadAcknowledgements(byPartition, stale);
  if (!result) return result;
  for (const auto& [name, queue] : queues_) queue->restored();
  core_.metrics.queues.set(static_cast<int64_t>(queues_.size()));
  if (stale.empty()) return {};
  storage::AppendRequest request;
  request.state = std::move(stale);
  request.durability = storage::Durability::kUnwaited;
  auto appended = core_.store.append(std::move(request));
  if (!appended) return std::unexpected(appended.error());
  return {};
}

Result<> QueueRegistry::loadAcknowledgements(
    const std::unordered_map<PartitionId, Queue*>& byPartition,
    std::vector<storage::StateChange>& stale) {
  Result<> result;
  core_.store.scanState(StateTable::kQueueAck, "", [&](BytesView key, BytesView value) {
    auto parsed = parseQueueAckKey(key);
    if (!parsed) {
      result = std::unexpected(parsed.error());
      return false;
    }
    auto at = byPartition.find(parsed->partition);
    bool known = at != byPartition.end();
    if (known && parsed->chunk == kSentMark) {
      auto mark = decodeSentMark(value);
      if (!mark) {
        result = std::unexpected(mark.error());
        return false;
      }
      // Only what the run before this one said of itself: a crash says nothing.
      if (mark->second + 1 == epoch_) at->second->restoreSent(mark->first);
    } else if (known && !at->second->restoreChunk(parsed->chunk, value)) {
      result = fail(ErrorKind::kCorrupt,
                    "acknowledgements of queue '" + at->second->spec().name + "' can't be read");
      return false;
    }
    if (!known || parsed->chunk == kSentMark) {
      stale.push_back({StateTable::kQueueAck, std::string(key), std::nullopt});
    }
    return true;
  });
  return result;
}

void QueueRegistry::stop(Worker& worker) {
  for (const auto& queue : all()) {
    if (&queue->home() == &worker) queue->stop(epoch_);
  }
}

// ---------------------------------------------------------------- looking

std::shared_ptr<Queue> QueueRegistry::find(BytesView name) const {
  std::shared_lock lock(mutex_);
  auto at = queues_.find(name);
  return at == queues_.end() ? nullptr : at->second;
}

std::vector<std::shared_ptr<Queue>> QueueRegistry::all() const {
  std::shared_lock lock(mutex_);
  std::vector<std::shared_ptr<Queue>> queues;
  queues.reserve(queues_.size());
  for (const auto& [name, queue] : queues_) queues.push_back(queue);
  return queues;
}

size_t QueueRegistry::size() const {
  std::shared_lock lock(mutex_);
  return queues_.size();
}

void QueueRegistry::forget(const Queue& queue) {
  std::unique_lock lock(mutex_);
  auto at = queues_.find(queue.spec().name);
  if (at == queues_.end() || at->second.get() != &queue) return;
  queues_.erase(at);
  core_.metrics.queues.set(static_cast<int64_t>(queues_.size()));
}

// ---------------------------------------------------------------- changing

void QueueRegistry::declare(Worker& worker, uint64_t client, QueueSpec spec,
                            Done<Result<Declared>> done) {
  auto told = std::make_shared<Done<Result<Declared>>>(std::move(done));
  auto refuse = [&](Error error) {
    worker.later([told, error = std::move(error)] { (*told)(std::unexpected(error)); });
  };
  std::lock_guard lock(creation_);
  Declared declared{find(spec.name), false};
  if (!declared.queue) {
    if (size() >= core_.options.maxQueues) {
      return refuse({ErrorKind::kBusy, fmt::format("there are {} queues, the most allowed",
                                                   core_.options.maxQueues)});
    }
    Result<PartitionId> id = core_.ids->nextPartition();
    if (!id) return refuse(id.error());
    uint64_t owner = spec.exclusive ? client : 0;
    declared.queue = std::make_shared<Queue>(core_, worker, std::move(spec), *id, owner);
    declared.created = true;
  }
  const QueueSpec& made = declared.queue->spec();
  PartitionId partition = declared.queue->partition();
  bool wait = made.durable && !made.exclusive;
  auto answer = [told, declared] { (*told)(declared); };
  if (!declared.created && (!wait || declared.queue->kept)) return worker.later(answer);
  // One that was there already may not be durable yet, and may never be: all of it once more is the
  // simplest to wait for.
  storage::AppendRequest request;
  request.state.push_back(storage::partitionConfigured(partition, {}));
  request.state.push_back({StateTable::kQueue, made.name, encodeQueue({made, partition})});
  request.durability = wait ? storage::Durability::kSynced : storage::Durability::kUnwaited;
  request.sink = &worker.sink;
  request.done = [this, answer, told, queue = declared.queue,
                  wait](const Result<storage::Appended>& result) {
    if (!result) declareFailed(queue);
    if (!wait) return;
    if (result) {
      queue->kept = true;
      return answer();
    }
    (*told)(std::unexpected(result.error()));
  };
  if (auto appended = core_.store.append(std::move(request)); !appended) {
    return refuse(appended.error());
  }
  ++declared.queue->standing;
  if (!wait) worker.later(answer);
  if (!declared.created) return;
  std::unique_lock tables(mutex_);
  queues_.emplace(made.name, declared.queue);
  core_.metrics.queues.set(static_cast<int64_t>(queues_.size()));
}

void QueueRegistry::declareFailed(const std::shared_ptr<Queue>& queue) {
  ++core_.writeFailures;
  {
    std::lock_guard lock(creation_);
    if (--queue->standing > 0) return;
  }
  queue->onHome([this, queue] { takeAway(*queue, [&queue] { return queue->standing == 0; }); });
}

Result<int64_t> QueueRegistry::mayGo(const Queue& queue, bool ifUnused, bool ifEmpty) const {
  const std::string& name = queue.spec().name;
  if (queue.ended()) return fail(ErrorKind::kNotFound, "no queue '" + name + "'");
  int64_t ready = queue.info().ready;
  if (ifEmpty && ready > 0) return fail(ErrorKind::kNotEmpty, "queue '" + name + "' not empty");
  if (ifUnused && queue.hasConsumers()) {
    return fail(ErrorKind::kInUse, "queue '" + name + "' in use");
  }
  return ready;
}

/// Out of every table; the caller appends what comes back while it holds the creation lock, so that
/// a queue of the same name declared afterwards stands behind it in the journal.
std::vector<storage::StateChange> QueueRegistry::takeOut(Queue& queue) {
  std::vector<storage::StateChange> state;
  forget(queue);
  core_.exchanges->dropQueue(queue, state);
  queue.appendDeletion(state);
  queue.end();
  return state;
}

void QueueRegistry::remove(Worker& worker, std::shared_ptr<Queue> queue, bool ifUnused,
                           bool ifEmpty, Done<Result<int64_t>> done) {
  queue->onHome([this, &worker, queue, ifUnused, ifEmpty, done = std::move(done)]() mutable {
    auto told = std::make_shared<Done<Result<int64_t>>>(std::move(done));
    Result<int64_t> ready = mayGo(*queue, ifUnused, ifEmpty);
    if (!ready) return core_.onWorker(worker, [told, ready] { (*told)(ready); });
    std::vector<storage::StateChange> state;
    auto appended = [&] {
      std::lock_guard lock(creation_);
      state = takeOut(*queue);
      storage::AppendRequest request;
      request.state = state;
      request.durability = storage::Durability::kSynced;
      request.sink = &worker.sink;
      request.done = [this, told, ready, state](const Result<storage::Appended>& result) {
        if (result) return (*told)(ready);
        ++core_.writeFailures;
        core_.appendEventually(core_.here(), state, whatIsDue());
        (*told)(std::unexpected(result.error()));
      };
      return core_.store.append(std::move(request));
    }();
    if (appended) return;
    core_.appendEventually(core_.here(), std::move(state), whatIsDue());
    core_.onWorker(worker, [told, error = appended.error()] { (*told)(std::unexpected(error)); });
  });
}

void QueueRegistry::removeQuietly(std::shared_ptr<Queue> queue) {
  queue->onHome([this, queue] { takeAway(*queue, [] { return true; }); });
}

/// On its worker.
void QueueRegistry::takeAway(Queue& queue, const std::function<bool()>& still) {
  std::vector<storage::StateChange> state;
  {
    std::lock_guard lock(creation_);
    if (queue.ended() || !still()) return;
    state = takeOut(queue);
  }
  core_.appendEventually(queue.home(), std::move(state), whatIsDue());
}

/// Not what a queue of the same name, declared since, has written anew.
WhatIsDue QueueRegistry::whatIsDue() {
  return [this, bindingsToo = core_.exchanges->whatIsDue()](
             std::vector<storage::StateChange>& changes, const std::function<void()>& append) {
    std::lock_guard lock(creation_);
    std::erase_if(changes, [this](const storage::StateChange& change) {
      return change.table == StateTable::kQueue && find(change.key) != nullptr;
    });
    bindingsToo(changes, append);
  };
}

void QueueRegistry::purge(Worker& worker, std::shared_ptr<Queue> queue,
                          Done<Result<int64_t>> done) {
  queue->onHome([this, &worker, queue, done = std::move(done)]() mutable {
    auto told = std::make_shared<Done<Result<int64_t>>>(std::move(done));
    std::lock_guard lock(creation_);
    if (queue->ended() || !core_.store.ends(queue->partition())) {
      return core_.onWorker(worker,
                            [told] { (*told)(fail(ErrorKind::kNotFound, "the queue is gone")); });
    }
    int64_t gone = queue->purge();
    storage::AppendRequest request;
    // Behind what says that they are gone: when this is durable, that is.
    request.state.push_back(
        {StateTable::kQueue, queue->spec().name, encodeQueue({queue->spec(), queue->partition()})});
    request.durability = storage::Durability::kSynced;
    request.sink = &worker.sink;
    request.done = [told, gone](const Result<storage::Appended>& result) {
      if (result) return (*told)(gone);
      (*told)(std::unexpected(result.error()));
    };
    if (auto appended = core_.store.append(std::move(request)); !appended) {
      core_.onWorker(worker, [told, error = appended.error()] { (*told)(std::unexpected(error)); });
    }
  });
}

}  // namespace polylog::router
