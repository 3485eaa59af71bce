// Catalogue's topics that follow the defaults. What is in force for a topic follows at once, in
// memory; that the journal's retention follows is written topic by topic, in turn with other
// changes of each, many to an entry. A topic's row has its configuration as its partitions were
// last configured: where the two have parted at a crash, the next start sees it by that.
#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <utility>

#include "core/base/log.h"
#include "router/catalogue.h"

namespace polylog::router {
namespace {

constexpr int64_t kRetryMicros = 1'000'000;
constexpr int64_t kLongestRetryMicros = 60 * kRetryMicros;
constexpr unsigned kMostFailuresCounted = 13;  // a piece is a topic then
/// Topics that change while lookups wait.
constexpr size_t kShownAtOnce = 256;
/// Pieces that wait to be durable at start-up.
constexpr size_t kPiecesAtOnce = 8;

/// Topics that go into one entry: until there is enough, which is less after failures.
class Piece {
 public:
  explicit Piece(unsigned failures = 0)
      : changes_(kChanges >> failures), most_(kOctets >> failures) {}
  bool full() const { return !state.empty() && (state.size() >= changes_ || octets_ >= most_); }
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
  size_t changes_;
  size_t most_;
  size_t octets_ = 0;
};

TopicRef following(const TopicRef& topic, const TopicConfig& defaults) {
  // Most follow already: seen without a copy.
  const unsigned differ = differing(topic->config, defaults).bits();
  if ((differ & ~unsigned{topic->config.own.bits()}) == 0) return topic;
  auto changed = std::make_shared<Topic>(*topic);
  changed->config = resolved(std::move(changed->config), defaults);
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
  std::shared_ptr<const TopicDefaults> before;
  {
    // Whatever comes to be seen from here on follows these.
    std::unique_lock lock(mutex_);
    before = std::exchange(defaults_, std::move(defaults));
  }
  followLocked(*before);
  awaitingCatchUp_.emplace_back(&worker, std::make_shared<Task>(std::move(done)));
  catchUpLocked();
  if (pausing_ || (lagging_.empty() && catchingUp_ == 0)) tellCaughtUpLocked();
}

void Catalogue::followLocked(const TopicDefaults& before) {
  const std::shared_ptr<const TopicDefaults> now = defaults();
  const TopicConfig devices = now->inForce(Protocol::kMqtt);
  const TopicConfig others = now->inForce(Protocol::kKafka);
  const bool devicesToo = devices != before.inForce(Protocol::kMqtt);
  const bool othersToo = others != before.inForce(Protocol::kKafka);
  std::vector<std::pair<TopicRef, TopicRef>> changed;
  for (TopicRef& topic : all()) {
    const bool device = madeByDevice(topic->origin);
    if (!(device ? devicesToo : othersToo)) continue;
    TopicRef follows = following(topic, device ? devices : others);
    if (follows != topic) changed.emplace_back(std::move(topic), std::move(follows));
  }
  showFollowing(changed);
}

/// A few at a time: lookups come in between.
void Catalogue::showFollowing(const std::vector<std::pair<TopicRef, TopicRef>>& changed) {
  for (std::span rest(changed); !rest.empty();) {
    auto some = rest.first(std::min(rest.size(), kShownAtOnce));
    rest = rest.subspan(some.size());
    std::unique_lock lock(mutex_);
    for (const auto& [old, follows] : some) {
      // Another one in its place follows already, and whoever put it there has seen to the rest.
      auto at = byName_.find(old->name);
      if (at == byName_.end() || at->second != old) continue;
      if (!sameRetention(follows->config, old->config)) lagging_.insert(old->name);
      showLocked(follows);
    }
    version_.fetch_add(1, std::memory_order_release);
  }
}

/// With creation_ held. A topic with a write under way is left for finished().
void Catalogue::catchUpLocked() {
  if (pausing_) return;
  Piece piece(catchUpFailures_);
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
    return catchUpFailedLocked();
  }
  ++catchingUp_;
  for (const std::string& name : names) turns_.try_emplace(name);
}

/// On worker 0.
void Catalogue::caughtUp(const std::vector<std::string>& names,
                         const Result<storage::Appended>& result) {
  std::lock_guard lock(creation_);
  --catchingUp_;
  if (result) {
    if (catchUpFailures_ > 0) --catchUpFailures_;
  } else {
    ++core_.writeFailures;
    logWarning(
        fmt::format("journal: retention of {} topics doesn't follow the defaults yet ({}); "
                    "trying again",
                    names.size(), result.error().text));
    // Before their next change is begun, which builds on what the journal has.
    lagging_.insert(names.begin(), names.end());
    catchUpFailedLocked();
  }
  for (const std::string& name : names) finishLocked(name);
  if (!lagging_.empty()) catchUpLocked();
  if (lagging_.empty() && catchingUp_ == 0) tellCaughtUpLocked();
}

/// Each failure takes back what others have appended since: not at once again, whoever asks.
void Catalogue::catchUpFailedLocked() {
  tellCaughtUpLocked();
  if (std::exchange(pausing_, true)) return;
  int64_t pause = std::min(kRetryMicros << catchUpFailures_, kLongestRetryMicros);
  catchUpFailures_ = std::min(catchUpFailures_ + 1, kMostFailuresCounted);
  core_.workers[0]->post([this, pause] { retryLater(pause); });
}

void Catalogue::tellCaughtUpLocked() {
  for (auto& [worker, done] : std::exchange(awaitingCatchUp_, {})) {
    worker->post([told = std::move(done)] { (*told)(); });
  }
}

/// On worker 0.
void Catalogue::retryLater(int64_t micros) {
  if (core_.stopping.load()) return;
  if (!retry_) {
    retry_ = core_.workers[0]->dispatcher.makeTimer([this] {
      std::lock_guard lock(creation_);
      pausing_ = false;
      catchUpLocked();
    });
  }
  retry_->start(micros);
}

Result<> Catalogue::catchUpAtStart() {
  std::lock_guard lock(creation_);
  const uint64_t failures = core_.store.failures();
  for (size_t pieces = 1; !lagging_.empty(); ++pieces) {
    Piece piece;
    while (!lagging_.empty() && !piece.full()) {
      if (TopicRef topic = find(*lagging_.begin())) piece.add(*topic);
      lagging_.erase(lagging_.begin());
    }
    storage::AppendRequest request;
    request.state = std::move(piece.state);
    const bool waits = pieces % kPiecesAtOnce == 0;
    request.durability = waits ? storage::Durability::kSynced : storage::Durability::kUnwaited;
    auto appended = core_.store.append(std::move(request));
    if (!appended) return std::unexpected(appended.error());
    if (!waits) continue;  // but for whatever is waited for next
    if (auto durable = core_.store.waitDurable(appended->position, failures); !durable) {
      return durable;
    }
  }
  return {};
}

}  // namespace polylog::router
