// The topics. Snapshots that anybody may hold on to; a change makes a new one. Thread-safe: lookups
// share a lock; whoever creates or deletes holds the creation lock over the append, so that a topic
// which can be found has been sequenced before any record that is appended to it afterwards.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/base/error.h"
#include "core/model/broker.h"
#include "core/model/topic.h"
#include "router/core.h"

namespace polylog::router {

class Catalogue {
 public:
  explicit Catalogue(Core& core) : core_(core) {}
  Result<> load();

  TopicRef find(BytesView name) const;
  TopicRef find(const TopicId& id) const;
  TopicRef findByPartition(PartitionId id) const;
  std::vector<TopicRef> all() const;
  size_t size() const { return size_.load(std::memory_order_relaxed); }

  /// For a publish: the topic, made if it may come by itself; past the limit of topics made by
  /// devices the topic `mqtt`, and `overflowed` is set. kNotFound, kInvalid, kBusy, append's errors.
  Result<TopicRef> forPublish(Worker& worker, BytesView name, Protocol protocol, bool& overflowed);

  /// `done` on the worker when it is durable. kAlreadyExists, kInvalid, kBusy, append's errors.
  void create(Worker& worker, TopicSpec spec, Protocol protocol, Done<Result<TopicRef>> done);
  /// `done` on the worker when it is durable, with the topic that there was.
  void remove(Worker& worker, const std::string& name, Done<Result<TopicRef>> done);

 private:
  using Finished = std::move_only_function<void(Result<TopicRef>)>;
  Result<TopicRef> createLocked(Worker& worker, TopicSpec spec, Protocol protocol,
                                storage::Durability durability, Finished done);
  void insert(TopicRef topic);
  void erase(const TopicRef& topic);
  TopicConfig defaultsFor(Protocol protocol) const;

  Core& core_;
  std::mutex creation_;
  mutable std::shared_mutex mutex_;
  std::map<std::string, TopicRef, std::less<>> sorted_;
  std::unordered_map<std::string, TopicRef, TextHash, std::equal_to<>> byName_;
  std::map<TopicId, TopicRef> byId_;
  std::unordered_map<PartitionId, TopicRef> byPartition_;
  size_t byDevices_ = 0;
  std::atomic<size_t> size_{0};
  std::atomic<bool> warned_{false};
};

/// A partition's retention as its topic's configuration says.
storage::Retention retentionOf(const TopicConfig& config);
inline bool madeByDevice(Protocol origin) {
  return origin == Protocol::kMqtt || origin == Protocol::kAmqp;
}

}  // namespace polylog::router
