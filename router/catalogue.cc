#include "router/catalogue.h"

#include <fmt/format.h>

#include <utility>

#include "core/base/log.h"
#include "router/id_allocator.h"
#include "router/replay_table.h"
#include "router/state_codec.h"

namespace polylog::router {
namespace {

constexpr BytesView kOverflowTopic = "mqtt";
constexpr size_t kLongestName = 65535;

Result<> checkName(BytesView name) {
  if (name.starts_with('$')) {
    return fail(ErrorKind::kInvalid,
                fmt::format("'{}': names that begin with '$' are the broker's own", name));
  }
  if (name.find('/') != BytesView::npos || name.size() > kLongestName) {
    return fail(ErrorKind::kInvalid, fmt::format("'{}' can't be a topic's name", name));
  }
  return {};
}

}  // namespace

storage::Retention retentionOf(const TopicConfig& config) {
  storage::Retention retention;
  const CleanupPolicy& cleanup = config.cleanup;
  if (cleanup.deletes) {
    retention.millis = config.retentionMs;
    retention.bytes = config.retentionBytes;
  }
  if (cleanup.compacts) {
    retention.compaction = std::make_shared<storage::Compaction>(
        storage::Compaction{cleanup.minCompactionLagMs, cleanup.maxCompactionLagMs,
                            cleanup.deleteRetentionMs, cleanup.minDirtyPercent});
  }
  return retention;
}

bool sameRetention(const TopicConfig& a, const TopicConfig& b) {
  storage::Retention before = retentionOf(a);
  storage::Retention after = retentionOf(b);
  bool sameCompaction = before.compaction && after.compaction
                            ? *before.compaction == *after.compaction
                            : before.compaction == after.compaction;
  return before.millis == after.millis && before.bytes == after.bytes && sameCompaction;
}

void appendTopicState(const Topic& topic, std::vector<storage::StateChange>& state) {
  storage::Retention retention = retentionOf(topic.config);
  for (PartitionId id : topic.partitions) {
    state.push_back(storage::partitionConfigured(id, retention));
  }
  state.push_back({storage::StateTable::kTopic, topic.name, encodeTopic(topic)});
}

Result<> Catalogue::load() {
  Result<> result;
  core_.store.scanState(storage::StateTable::kTopic, "", [&](BytesView key, BytesView value) {
    bool unmarked = false;
    Result<Topic> topic = decodeTopic(key, value, &unmarked);
    if (!topic) {
      result = std::unexpected(topic.error());
      return false;
    }
    for (PartitionId id : topic->partitions) core_.ids->seen(id);
    // Written before it was kept what was set: what is as the file says counts as not set. `flush`
    // was nobody's to set but by keys that are kept.
    if (unmarked) {
      TopicFields set = differing(topic->config, defaults_->file(topic->origin));
      set.remove(TopicField::kFlush);
      topic->config.own.add(set);
    }
    const TopicConfig written = topic->config;
    topic->config = resolved(std::move(topic->config), defaults_->inForce(topic->origin));
    if (unmarked || !sameRetention(written, topic->config)) lagging_.insert(topic->name);
    insert(std::make_shared<const Topic>(std::move(*topic)));
    return true;
  });
  return result;
}

TopicRef Catalogue::find(BytesView name) const {
  std::shared_lock lock(mutex_);
  auto at = byName_.find(name);
  return at == byName_.end() ? nullptr : at->second;
}

TopicRef Catalogue::find(const TopicId& id) const {
  std::shared_lock lock(mutex_);
  auto at = byId_.find(id);
  return at == byId_.end() ? nullptr : at->second;
}

TopicRef Catalogue::findByPartition(PartitionId id) const {
  std::shared_lock lock(mutex_);
  auto at = byPartition_.find(id);
  return at == byPartition_.end() ? nullptr : at->second;
}

std::vector<TopicRef> Catalogue::all() const {
  std::shared_lock lock(mutex_);
  std::vector<TopicRef> topics;
  topics.reserve(sorted_.size());
  for (const auto& [name, topic] : sorted_) topics.push_back(topic);
  return topics;
}

void Catalogue::insert(TopicRef topic) {
  {
    std::unique_lock lock(mutex_);
    topic = followingLocked(topic);
    if (!insertLocked(topic)) return;
  }
  if (core_.replays) core_.replays->topicAdded(topic);
}

bool Catalogue::insertLocked(const TopicRef& topic) {
  if (!byName_.emplace(topic->name, topic).second) return false;
  sorted_.emplace(topic->name, topic);
  byId_.emplace(topic->id, topic);
  for (PartitionId id : topic->partitions) byPartition_.emplace(id, topic);
  if (madeByDevice(topic->origin)) ++byDevices_;
  size_.store(byName_.size(), std::memory_order_relaxed);
  core_.metrics.topics.set(static_cast<int64_t>(byName_.size()));
  version_.fetch_add(1, std::memory_order_release);
  return true;
}

void Catalogue::erase(const TopicRef& topic) {
  std::unique_lock lock(mutex_);
  auto at = byName_.find(topic->name);
  // Its configuration may be another one by now.
  if (at == byName_.end() || at->second->id != topic->id) return;
  byName_.erase(at);
  sorted_.erase(topic->name);
  byId_.erase(topic->id);
  for (PartitionId id : topic->partitions) byPartition_.erase(id);
  if (madeByDevice(topic->origin)) --byDevices_;
  size_.store(byName_.size(), std::memory_order_relaxed);
  core_.metrics.topics.set(static_cast<int64_t>(byName_.size()));
  version_.fetch_add(1, std::memory_order_release);
}

Result<TopicRef> Catalogue::createLocked(Worker& worker, TopicSpec spec, Protocol protocol,
                                         storage::Durability durability, Finished done) {
  if (Result<> ok = checkName(spec.name); !ok) return std::unexpected(ok.error());
  if (find(spec.name)) {
    return fail(ErrorKind::kAlreadyExists, fmt::format("there is a topic '{}' already", spec.name));
  }
  if (size() >= core_.options.maxTopics) {
    return fail(ErrorKind::kBusy, fmt::format("there are {} topics, the most allowed", size()));
  }
  int32_t partitions = spec.partitions == -1 ? core_.options.defaultPartitions : spec.partitions;
  if (partitions < 1 || partitions > core_.options.maxPartitionsPerTopic) {
    return fail(ErrorKind::kInvalid,
                fmt::format("'{}': {} partitions, but it is 1 to {}", spec.name, partitions,
                            core_.options.maxPartitionsPerTopic));
  }
  auto topic = std::make_shared<Topic>();
  topic->name = std::move(spec.name);
  topic->config =
      resolved(spec.config ? std::move(*spec.config) : TopicConfig(), defaultsFor(protocol));
  topic->origin = protocol;
  topic->createdMs = core_.clock.wallMillis();
  for (size_t i = 0; i < topic->id.size(); i += 8) {
    uint64_t bits = core_.random.next();
    for (size_t j = 0; j < 8; ++j) topic->id[i + j] = static_cast<uint8_t>(bits >> (8 * j));
  }
  storage::AppendRequest request;
  for (int32_t i = 0; i < partitions; ++i) {
    Result<PartitionId> id = core_.ids->nextPartition();
    if (!id) return std::unexpected(id.error());
    topic->partitions.push_back(*id);
  }
  appendTopicState(*topic, request.state);
  request.durability = durability;
  request.sink = &worker.sink;
  TopicRef made = topic;
  request.done = [this, made,
                  done = std::move(done)](const Result<storage::Appended>& result) mutable {
    if (!result) {
      ++core_.writeFailures;
      erase(made);
    }
    TopicRef now = result ? find(made->id) : nullptr;
    finished(made->name);
    if (!done) return;
    if (result) {
      done(now ? now : made);
    } else {
      done(std::unexpected(result.error()));
    }
  };
  if (auto appended = core_.store.append(std::move(request)); !appended) {
    return std::unexpected(appended.error());
  }
  insert(made);
  turns_.try_emplace(made->name);  // whoever changes it builds on what is durable
  return made;
}

Result<TopicRef> Catalogue::forPublish(Worker& worker, BytesView name, Protocol protocol,
                                       bool& overflowed) {
  overflowed = false;
  if (TopicRef topic = find(name)) return topic;
  if (Result<> ok = checkName(name); !ok) return std::unexpected(ok.error());
  if (!core_.options.autoCreateTopics) {
    return fail(ErrorKind::kNotFound,
                fmt::format("no topic '{}', and topics don't come by themselves "
                            "(topics.auto_create)",
                            name));
  }
  std::lock_guard lock(creation_);
  if (TopicRef topic = find(name)) return topic;  // somebody was faster
  BytesView made = name;
  if (madeByDevice(protocol)) {
    size_t byDevices = 0;
    {
      std::shared_lock reading(mutex_);
      byDevices = byDevices_;
    }
    if (byDevices >= core_.options.maxTopicsByDevices) {
      overflowed = true;
      if (!warned_.exchange(true)) {
        logWarning(
            fmt::format("{} topics were made by MQTT or AMQP publishes, the most allowed "
                        "(topics.max_by_devices); what is published to further names, '{}' "
                        "the first, goes to topic 'mqtt' with the full name as key",
                        byDevices, name));
      }
      if (TopicRef topic = find(kOverflowTopic)) return topic;
      made = kOverflowTopic;
    }
  }
  TopicSpec spec;
  spec.name = std::string(made);
  return createLocked(worker, std::move(spec), protocol, storage::Durability::kUnwaited, nullptr);
}

void Catalogue::create(Worker& worker, TopicSpec spec, Protocol protocol,
                       Done<Result<TopicRef>> done) {
  auto shared = std::make_shared<Done<Result<TopicRef>>>(std::move(done));
  std::lock_guard lock(creation_);
  Result<TopicRef> made =
      createLocked(worker, std::move(spec), protocol, storage::Durability::kSynced,
                   [shared](Result<TopicRef> result) { (*shared)(std::move(result)); });
  if (made) return;
  worker.later([shared, error = made.error()] { (*shared)(std::unexpected(error)); });
}

}  // namespace polylog::router
