// Catalogue's topics that follow the defaults. What is in force for a topic follows at once, in
// memory; that the journal's retention follows is written topic by topic, in turn with other
// changes of each, many to an entry. A topic's row has its configuration as its partitions were
// last configured: where the two have parted at a crash, the next start sees it by that.
#include <fmt/format.h>

#include <utility>

#include "core/base/log.h"
#include "router/catalogue.h"

namespace polylog::router {
namespace {

constexpr int64_t kRetryMicros = 1'000'000;

/// Topics that go into one entry: until there is enough.
class Piece {
 public:
  bool full() const { return state.size() >= kChanges || octets_ >= kOctets; }
  void add(const Topic& topic) {
    size_t before = state.size();
    appendTopicState(topic, state);
    for (size_t i = before; i < state.size(); ++i) {
      octets_ += state[i].key.size() + state[i].value->size();
    }
  }

  std::vector<storage::StateChange> state;

 private:
  static constexpr size_t kChanges = 10'000;
  static constexpr size_t kOctets = 4U << 20;
  size_t octets_ = 0;
};

TopicRef following(const TopicRef& topic, const TopicConfig& defaults) {
  TopicConfig config = resolved(topic->config, defaults);
  if (config == topic->config) return topic;
  auto changed = std::make_shared<Topic>(*topic);
  changed->config = std::move(config);
  return changed;
}

}  // namespace

void Catalogue::beginWith(std::shared_ptr<const TopicDefaults> defaults) {
  std::unique_lock lock(mutex_);
  defaults_ = std::move(defaults);
}

std::shared_ptr<const TopicDefaults> Catalogue::defaults() const {
  std::shared_lock lock(mutex_);
  return defaults_;
}

TopicRef Catalogue::followingLocked(const TopicRef& topic) const {
  return following(topic, defaults_->inForce(topic->origin));
}

void Catalogue::showLocked(const TopicRef& topic) {
  byName_.find(topic->name)->second = topic;
  sorted_[topic->name] = topic;
  byId_[topic->id] = topic;
  for (PartitionId id : topic->partitions) byPartition_[id] = topic;
}

void Catalogue::putDefaults(Worker& worker, std::shared_ptr<const TopicDefaults> defaults,
                            Task done) {
  std::lock_guard creating(creation_);
  {
    std::unique_lock lock(mutex_);
    defaults_ = std::move(defaults);
    const TopicConfig devices = defaults_->inForce(Protocol::kMqtt);
    const TopicConfig others = defaults_->inForce(Protocol::kKafka);
    std::vector<TopicRef> changed;
    for (const auto& [name, topic] : sorted_) {
      TopicRef now = following(topic, madeByDevice(topic->origin) ? devices : others);
      if (now == topic) continue;
      if (!sameRetention(now->config, topic->config)) lagging_.insert(name);
      changed.push_back(std::move(now));
    }
    for (const TopicRef& topic : changed) showLocked(topic);
    version_.fetch_add(1, std::memory_order_release);
  }
  awaitingCatchUp_.emplace_back(&worker, std::make_shared<Task>(std::move(done)));
  catchUpLocked();
  if (lagging_.empty() && catchingUp_ == 0) tellCaughtUpLocked();
}

/// With creation_ held. A topic with a write under way is left for finished().
void Catalogue::catchUpLocked() {
  Piece piece;
  std::vector<std::string> names;
  auto at = lagging_.begin();
  while (at != lagging_.end() && !piece.full()) {
    if (turns_.contains(*at)) {
      ++at;
      continue;
    }
    if (TopicRef topic = find(*at)) {
      piece.add(*topic);
      names.push_back(*at);
    }
    at = lagging_.erase(at);
  }
  if (names.empty()) return;
  storage::AppendRequest request;
  request.state = std::move(piece.state);
  request.durability = storage::Durability::kSynced;
  request.sink = &core_.workers[0]->sink;
  request.done = [this, names](const Result<storage::Appended>& result) {
    caughtUp(names, result);
  };
  if (auto appended = core_.store.append(std::move(request)); !appended) {
    lagging_.insert(names.begin(), names.end());
    tellCaughtUpLocked();
    core_.workers[0]->post([this] { retryLater(); });
    return;
  }
  ++catchingUp_;
  for (const std::string& name : names) turns_.try_emplace(name);
}

/// On worker 0.
void Catalogue::caughtUp(const std::vector<std::string>& names,
                         const Result<storage::Appended>& result) {
  {
    std::lock_guard lock(creation_);
    --catchingUp_;
    if (!result) {
      ++core_.writeFailures;
      // Not at once again, and not by finished() either.
      tellCaughtUpLocked();
    }
  }
  for (const std::string& name : names) finished(name);
  std::lock_guard lock(creation_);
  if (!result) {
    logWarning(
        fmt::format("journal: retention of {} topics doesn't follow the defaults yet ({}); "
                    "trying again",
                    names.size(), result.error().text));
    lagging_.insert(names.begin(), names.end());
    return core_.workers[0]->post([this] { retryLater(); });
  }
  if (!lagging_.empty()) catchUpLocked();
  if (lagging_.empty() && catchingUp_ == 0) tellCaughtUpLocked();
}

void Catalogue::tellCaughtUpLocked() {
  for (auto& [worker, done] : std::exchange(awaitingCatchUp_, {})) {
    worker->post([told = std::move(done)] { (*told)(); });
  }
}

/// On worker 0.
void Catalogue::retryLater() {
  if (core_.stopping.load()) return;
  if (!retry_) {
    retry_ = core_.workers[0]->dispatcher.makeTimer([this] {
      std::lock_guard lock(creation_);
      catchUpLocked();
    });
  }
  retry_->start(kRetryMicros);
}

Result<> Catalogue::catchUpAtStart() {
  std::lock_guard lock(creation_);
  while (!lagging_.empty()) {
    Piece piece;
    while (!lagging_.empty() && !piece.full()) {
      if (TopicRef topic = find(*lagging_.begin())) piece.add(*topic);
      lagging_.erase(lagging_.begin());
    }
    storage::AppendRequest request;
    request.state = std::move(piece.state);
    request.durability = storage::Durability::kUnwaited;
    if (auto appended = core_.store.append(std::move(request)); !appended) {
      return std::unexpected(appended.error());
    }
  }
  return {};
}

}  // namespace polylog::router
