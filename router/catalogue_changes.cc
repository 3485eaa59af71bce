// Catalogue's changes of topics that are there: one after the other for each topic, each built on
// what is durable and seen once it is durable itself, so that a failed write leaves nothing to take
// back.
#include <fmt/format.h>

#include <utility>

#include "router/catalogue.h"
#include "router/id_allocator.h"
#include "router/replay_table.h"

namespace polylog::router {

// ---------------------------------------------------------------- in turn

void Catalogue::inTurn(const std::string& name, Step step) {
  std::lock_guard lock(creation_);
  if (auto at = turns_.find(name); at != turns_.end()) return at->second.push_back(std::move(step));
  if (step()) turns_.try_emplace(name);
}

void Catalogue::finishLocked(const std::string& name) {
  auto at = turns_.find(name);
  if (at == turns_.end()) return;
  while (!at->second.empty()) {
    Step step = std::move(at->second.front());
    at->second.pop_front();
    if (step()) return;
  }
  turns_.erase(at);
}

void Catalogue::finished(const std::string& name) {
  std::lock_guard lock(creation_);
  finishLocked(name);
  if (lagging_.contains(name)) catchUpLocked();
  // It may have been the last one that lagged, and have gone or been altered.
  if (lagging_.empty() && catchingUp_ == 0) tellCaughtUpLocked();
}

// ---------------------------------------------------------------- deleting

void Catalogue::remove(Worker& worker, const std::string& name, Done<Result<TopicRef>> done) {
  auto shared = std::make_shared<Done<Result<TopicRef>>>(std::move(done));
  inTurn(name, [this, &worker, name, shared] {
    removeLocked(worker, name, shared);
    return false;  // it is out of sight at once: there is nothing to wait for
  });
}

void Catalogue::removeLocked(Worker& worker, const std::string& name,
                             const std::shared_ptr<Done<Result<TopicRef>>>& done) {
  auto refuse = [&](Error error) {
    // Its turn may have come on another worker's thread.
    worker.post([done, error = std::move(error)] { (*done)(std::unexpected(error)); });
  };
  TopicRef topic = find(name);
  if (!topic) return refuse({ErrorKind::kNotFound, fmt::format("no topic '{}'", name)});
  storage::AppendRequest request;
  request.state.push_back({storage::StateTable::kTopic, name, std::nullopt});
  for (PartitionId id : topic->partitions) request.state.push_back(storage::partitionDeleted(id));
  request.durability = storage::Durability::kSynced;
  request.sink = &worker.sink;
  request.done = [this, topic, done](const Result<storage::Appended>& result) {
    if (result) return (*done)(topic);
    ++core_.writeFailures;
    // Unless there is a new one of the name by now. One whose write is under way may fail as well.
    inTurn(topic->name, [this, topic] {
      insert(topic);
      lagging_.insert(topic->name);  // the defaults may have changed meanwhile
      catchUpLocked();
      return false;
    });
    (*done)(std::unexpected(result.error()));
  };
  if (auto appended = core_.store.append(std::move(request)); !appended) {
    return refuse(appended.error());
  }
  erase(topic);
}

// ---------------------------------------------------------------- altering

TopicRef Catalogue::replace(const TopicRef& old, const TopicRef& changed) {
  TopicRef now = changed;
  {
    std::unique_lock lock(mutex_);
    auto at = byName_.find(old->name);
    if (at == byName_.end() || at->second->id != old->id) return changed;
    now = followingLocked(changed);
    showLocked(now);
    version_.fetch_add(1, std::memory_order_release);
  }
  if (now->partitions != old->partitions) core_.replays->topicAdded(now);
  return now;
}

void Catalogue::changeInTurn(Worker& worker, const std::string& name, Change change,
                             Done<Result<TopicRef>> done) {
  auto shared = std::make_shared<Done<Result<TopicRef>>>(std::move(done));
  inTurn(name, [this, &worker, name, shared, change = std::move(change)]() mutable {
    return changeLocked(worker, name, change, shared);
  });
}

bool Catalogue::changeLocked(Worker& worker, const std::string& name, Change& change,
                             const std::shared_ptr<Done<Result<TopicRef>>>& done) {
  auto answer = [&](Result<TopicRef> result) {
    worker.post([done, result = std::move(result)]() mutable { (*done)(std::move(result)); });
    return false;
  };
  TopicRef old = find(name);
  if (!old) return answer(fail(ErrorKind::kNotFound, fmt::format("no topic '{}'", name)));
  auto topic = std::make_shared<Topic>(*old);
  storage::AppendRequest request;
  if (Result<> ok = change(*topic); !ok) return answer(std::unexpected(ok.error()));
  topic->config = resolved(std::move(topic->config), defaultsFor(topic->origin));
  if (topic->partitions == old->partitions && topic->config == old->config) return answer(old);
  // The row never without the partitions: a start takes it that they are as their row says.
  appendTopicState(*topic, request.state);
  const bool lagged = lagging_.erase(name) > 0;
  request.durability = storage::Durability::kSynced;
  request.sink = &worker.sink;
  request.done = [this, old, lagged, changed = TopicRef(topic),
                  done](const Result<storage::Appended>& result) {
    TopicRef now = result ? replace(old, changed) : nullptr;
    if (!result) ++core_.writeFailures;
    if (result ? !sameRetention(now->config, changed->config) : lagged) {
      std::lock_guard lock(creation_);
      lagging_.insert(old->name);
    }
    finished(old->name);
    if (result) return (*done)(now);
    (*done)(std::unexpected(result.error()));
  };
  if (auto appended = core_.store.append(std::move(request)); !appended) {
    if (lagged) lagging_.insert(name);
    return answer(std::unexpected(appended.error()));
  }
  return true;
}

void Catalogue::alter(Worker& worker, const std::string& name, Broker::ConfigChange change,
                      Done<Result<TopicRef>> done) {
  auto apply = [change = std::move(change)](Topic& topic) mutable { return change(topic.config); };
  changeInTurn(worker, name, std::move(apply), std::move(done));
}

void Catalogue::grow(Worker& worker, const std::string& name, int32_t partitions,
                     Done<Result<TopicRef>> done) {
  auto apply = [this, partitions](Topic& topic) -> Result<> {
    auto there = static_cast<int32_t>(topic.partitions.size());
    if (partitions <= there) {
      return fail(ErrorKind::kInvalid, fmt::format("topic '{}' has {} partitions already, of which "
                                                   "none can be taken away",
                                                   topic.name, there));
    }
    if (partitions > core_.options.maxPartitionsPerTopic) {
      return fail(ErrorKind::kInvalid,
                  fmt::format("{} partitions, but a topic has {} at most", partitions,
                              core_.options.maxPartitionsPerTopic));
    }
    for (int32_t i = there; i < partitions; ++i) {
      Result<PartitionId> id = core_.ids->nextPartition();
      if (!id) return std::unexpected(id.error());
      topic.partitions.push_back(*id);
    }
    return {};
  };
  changeInTurn(worker, name, std::move(apply), std::move(done));
}

}  // namespace polylog::router
