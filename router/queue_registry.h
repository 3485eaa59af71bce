// All destructive queues by name: declaring, deleting, and taking them up after a restart. Looking
// up from any thread; changes hold the lock over their append.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/model/queue.h"
#include "router/core.h"

namespace polylog::router {

class Queue;

class QueueRegistry {
 public:
  explicit QueueRegistry(Core& core);
  ~QueueRegistry();
  /// After the catalogue, before bindings. `epoch` is this start's.
  Result<> load(LeaderEpoch epoch);
  void stop(Worker& worker);

  /// Shared subscriptions' queues, too.
  std::shared_ptr<Queue> find(BytesView name) const;
  std::vector<std::shared_ptr<Queue>> all() const;

  struct Declared {
    std::shared_ptr<Queue> queue;
    bool created = false;
  };
  /// `client`: whose it is if it is exclusive. `done` on the worker: when it is durable, if it is
  /// to be.
  void declare(Worker& worker, uint64_t client, QueueSpec spec, Done<Result<Declared>> done);
  /// How many records went. `done` on the worker when that is durable.
  void remove(Worker& worker, std::shared_ptr<Queue> queue, bool ifUnused, bool ifEmpty,
              Done<Result<int64_t>> done);
  /// Nobody waits for it: exclusive and auto-delete queues.
  void removeQuietly(std::shared_ptr<Queue> queue);
  void purge(Worker& worker, std::shared_ptr<Queue> queue, Done<Result<int64_t>> done);

 private:
  Result<> loadAcknowledgements(const std::unordered_map<PartitionId, Queue*>& byPartition,
                                std::vector<storage::StateChange>& stale);
  // On the queue's worker.
  Result<int64_t> mayGo(const Queue& queue, bool ifUnused, bool ifEmpty) const;
  std::vector<storage::StateChange> takeOut(Queue& queue);
  void takeAway(Queue& queue, const std::function<bool()>& still);

  void declareFailed(const std::shared_ptr<Queue>& queue);
  WhatIsDue whatIsDue();
  void forget(const Queue& queue);
  size_t size() const;

  Core& core_;
  LeaderEpoch epoch_;
  std::mutex creation_;
  mutable std::shared_mutex mutex_;
  std::unordered_map<std::string, std::shared_ptr<Queue>, TextHash, std::equal_to<>> queues_;
};

}  // namespace polylog::router
