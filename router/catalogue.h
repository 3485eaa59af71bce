// The topics. Snapshots that anybody may hold on to; a change makes a new one. Thread-safe: lookups
// share a lock; whoever creates or deletes holds the creation lock over the append, so that a topic
// which can be found has been sequenced before any record that is appended to it afterwards.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/base/error.h"
#include "core/model/broker.h"
#include "core/model/topic.h"
#include "core/model/topic_defaults.h"
#include "router/core.h"

namespace polylog::router {

class Catalogue {
 public:
  explicit Catalogue(Core& core) : core_(core) {}
  /// Before load().
  void beginWith(std::shared_ptr<const TopicDefaults> defaults);
  Result<> load();

  TopicRef find(BytesView name) const;
  TopicRef find(const TopicId& id) const;
  TopicRef findByPartition(PartitionId id) const;
  std::vector<TopicRef> all() const;
  size_t size() const { return size_.load(std::memory_order_relaxed); }
  /// Rises with every change that find() and all() show.
  uint64_t version() const { return version_.load(std::memory_order_acquire); }

  /// For a publish: the topic, made if it may come by itself; past the limit of topics made by
  /// devices the topic `mqtt`, and `overflowed` is set. kNotFound, kInvalid, kBusy, append's
  /// errors.
  Result<TopicRef> forPublish(Worker& worker, BytesView name, Protocol protocol, bool& overflowed);

  /// `done` on the worker when it is durable. kAlreadyExists, kInvalid, kBusy, append's errors.
  void create(Worker& worker, TopicSpec spec, Protocol protocol, Done<Result<TopicRef>> done);
  /// `done` on the worker when it is durable, with the topic that there was.
  void remove(Worker& worker, const std::string& name, Done<Result<TopicRef>> done);
  /// Broker::alterTopic and growTopic. What they change is seen once it is durable.
  void alter(Worker& worker, const std::string& name, Broker::ConfigChange change,
             Done<Result<TopicRef>> done);
  void grow(Worker& worker, const std::string& name, int32_t partitions,
            Done<Result<TopicRef>> done);
  TopicConfig defaultsFor(Protocol protocol) const { return defaults()->inForce(protocol); }
  std::shared_ptr<const TopicDefaults> defaults() const;

  /// Puts other defaults in force: all topics change at once that follow them. `done` on the worker
  /// once the journal's retention follows, too, or couldn't for now (it is tried again, and at the
  /// next start).
  void putDefaults(Worker& worker, std::shared_ptr<const TopicDefaults> defaults, Task done);
  /// For start-up: appends what the journal must know of topics that follow other defaults than
  /// when they were written.
  Result<> catchUpAtStart();
  /// On worker 0, before it ends.
  void stop() { retry_ = nullptr; }

 private:
  /// Makes a topic another one.
  using Change = std::move_only_function<Result<>(Topic& topic)>;
  /// One of the things done to a topic in turn, under the creation lock. True: a write is under
  /// way, at whose end it calls finished().
  using Step = std::move_only_function<bool()>;
  void inTurn(const std::string& name, Step step);
  void finished(const std::string& name);
  void finishLocked(const std::string& name);
  void changeInTurn(Worker& worker, const std::string& name, Change change,
                    Done<Result<TopicRef>> done);
  bool changeLocked(Worker& worker, const std::string& name, Change& change,
                    const std::shared_ptr<Done<Result<TopicRef>>>& done);
  void removeLocked(Worker& worker, const std::string& name,
                    const std::shared_ptr<Done<Result<TopicRef>>>& done);
  /// What is seen from here on: `changed`, by the defaults that are in force by now.
  TopicRef replace(const TopicRef& old, const TopicRef& changed);
  /// With mutex_ held. `topic` as it is by the defaults in force.
  TopicRef followingLocked(const TopicRef& topic) const;
  /// With mutex_ held: puts it in the place of the one of its name.
  void showLocked(const TopicRef& topic);

  // ---- topics of which the journal has another retention than they have (catalogue_defaults.cc)
  /// With creation_ held: topics as `before` had them become as by the defaults in force.
  void followLocked(const TopicDefaults& before);
  void showFollowing(const std::vector<std::pair<TopicRef, TopicRef>>& changed);
  void catchUpLocked();
  void catchUpFailedLocked();
  void caughtUp(const std::vector<std::string>& names, const Result<storage::Appended>& result);
  void tellCaughtUpLocked();
  void retryLater(int64_t micros);

  using Finished = std::move_only_function<void(Result<TopicRef>)>;
  Result<TopicRef> createLocked(Worker& worker, TopicSpec spec, Protocol protocol,
                                storage::Durability durability, Finished done);
  void insert(TopicRef topic);
  bool insertLocked(const TopicRef& topic);
  void erase(const TopicRef& topic);

  Core& core_;
  std::mutex creation_;
  /// Topics with a write under way, and what waits for its end. Guarded by creation_.
  std::map<std::string, std::deque<Step>, std::less<>> turns_;
  /// Topics whose row and partitions in the journal are to be written anew. Guarded by creation_,
  /// as are the next four.
  std::set<std::string, std::less<>> lagging_;
  size_t catchingUp_ = 0;  ///< writes under way
  /// Of catching up, less the successes since: the next piece is smaller, the pause before it
  /// longer.
  unsigned catchUpFailures_ = 0;
  bool pausing_ = false;  ///< nothing is written anew before the timer comes
  std::vector<std::pair<Worker*, std::shared_ptr<Task>>> awaitingCatchUp_;
  std::unique_ptr<Timer> retry_;  ///< worker 0's own
  mutable std::shared_mutex mutex_;
  std::shared_ptr<const TopicDefaults> defaults_ = std::make_shared<const TopicDefaults>();
  std::map<std::string, TopicRef, std::less<>> sorted_;
  std::unordered_map<std::string, TopicRef, TextHash, std::equal_to<>> byName_;
  std::map<TopicId, TopicRef> byId_;
  std::unordered_map<PartitionId, TopicRef> byPartition_;
  size_t byDevices_ = 0;
  std::atomic<size_t> size_{0};
  std::atomic<uint64_t> version_{1};
  std::atomic<bool> warned_{false};
};

/// A partition's retention as its topic's configuration says.
storage::Retention retentionOf(const TopicConfig& config);
bool sameRetention(const TopicConfig& a, const TopicConfig& b);
/// What the journal has to know of a topic: its row, and its partitions' retention.
void appendTopicState(const Topic& topic, std::vector<storage::StateChange>& state);

}  // namespace polylog::router
