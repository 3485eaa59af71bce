#include "router/replay_lane.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "core/base/log.h"
#include "router/catalogue.h"
#include "router/replay_table.h"
#include "router/session.h"
#include "router/state_codec.h"
#include "router/subscription_trie.h"

namespace polylog::router {
namespace {

/// Of one session.
constexpr size_t kMostReplays = 256;
constexpr size_t kMostPartitions = 20'000;
constexpr BytesView kOverflowTopic = "mqtt";

}  // namespace

DeliveryGuarantee ReplayLane::granted(const Record& record, const Subscription& subscription) {
  DeliveryGuarantee published = record.guarantee;
  if (published == DeliveryGuarantee::kUnspecified) published = DeliveryGuarantee::kAtLeastOnce;
  return std::min(published, subscription.guarantee);
}

ReplayLane::ReplayLane(Core& core, Session& session) : core_(core), session_(session) {}

ReplayLane::~ReplayLane() {
  detach();
  clear();
}

// ---------------------------------------------------------------- subscriptions

const Subscription* ReplayLane::find(const std::string& text) const {
  for (const auto& [number, replay] : replays_) {
    if (replay.subscription.text == text) return &replay.subscription;
  }
  return nullptr;
}

Result<> ReplayLane::add(const Subscription& subscription,
                         std::vector<storage::StateChange>& state) {
  const Subscription* there = find(subscription.text);
  if (there != nullptr && there->replay == subscription.replay) {
    auto at = std::ranges::find_if(
        replays_, [there](const auto& entry) { return &entry.second.subscription == there; });
    at->second.subscription = subscription;
    for (auto& [partition, source] : at->second.sources) source->tag = 0;
    if (session_.persistent()) {
      state.push_back({storage::StateTable::kReplay, replayKey({session_.inbox(), at->first}),
                       encodeReplay(session_.inbox(), subscription)});
    }
    return {};
  }
  Replay replay;
  replay.subscription = subscription;
  replay.number = nextNumber_;
  if (Result<> added = addSources(replay); !added) return added;
  ++nextNumber_;
  if (there != nullptr) remove(subscription.text, state);
  if (session_.persistent()) {
    ReplayKey key{session_.inbox(), replay.number};
    state.push_back({storage::StateTable::kReplay, replayKey(key),
                     encodeReplay(session_.inbox(), subscription)});
    key.what = ReplayKey::What::kCursor;
    for (const auto& [partition, source] : replay.sources) {
      if (source->cursor() == ReplayCursor{}) continue;
      key.partition = partition;
      state.push_back(
          {storage::StateTable::kReplay, replayKey(key), encodeReplayCursor(source->cursor())});
    }
  }
  core_.metrics.subscriptions.add(1);
  core_.metrics.replays.add(1);
  replays_.emplace(replay.number, std::move(replay));
  return {};
}

Result<> ReplayLane::addSources(Replay& replay) {
  const Subscription& wanted = replay.subscription;
  if (wanted.replay->kind == ReplayStart::Kind::kOffset) {
    if (Result<> ok = checkOffset(wanted); !ok) return ok;
  }
  if (replays_.size() >= kMostReplays) {
    return fail(ErrorKind::kBusy, fmt::format("{} subscriptions of the session replay, the most "
                                              "allowed",
                                              kMostReplays));
  }
  size_t others = 0;
  for (const auto& [number, other] : replays_) others += other.sources.size();
  for (const TopicRef& topic : candidates(wanted.filter)) {
    for (size_t i = 0; i < topic->partitions.size(); ++i) {
      PartitionId partition = topic->partitions[i];
      auto start = startOf(replay, *topic, partition);
      if (!start) continue;  // it has just been deleted
      auto source = std::make_shared<ReplaySource>(core_, replay.number, partition, *start);
      source->belongsTo(topic, static_cast<int32_t>(i));
      replay.sources.emplace(partition, std::move(source));
    }
    if (others + replay.sources.size() > kMostPartitions) {
      return fail(ErrorKind::kBusy,
                  fmt::format("'{}' could match records of so many partitions that the session's "
                              "replays would read more than {}, the most allowed",
                              wanted.text, kMostPartitions));
    }
  }
  return {};
}

/// An offset means something in one partition only.
Result<> ReplayLane::checkOffset(const Subscription& wanted) const {
  const FilterLevel& first = wanted.filter.levels.front();
  if (first.kind != FilterLevel::Kind::kLiteral) {
    return fail(ErrorKind::kInvalid,
                "a replay from an offset is of one topic: the filter's first level can't be a "
                "wildcard");
  }
  TopicRef topic = core_.catalogue->find(first.text);
  if (!topic) return {};
  if (topic->partitions.size() > 1) {
    return fail(ErrorKind::kInvalid,
                fmt::format("topic '{}' has {} partitions, in which one offset means nothing: "
                            "replay by time, or the last ones",
                            topic->name, topic->partitions.size()));
  }
  auto ends = core_.store.ends(topic->partitions.front());
  if (ends && wanted.replay->value > ends->lastStable.value()) {
    return fail(ErrorKind::kInvalid,
                fmt::format("topic '{}' has offsets {} to {}; the next will be {}", topic->name,
                            ends->logStart.value(), ends->lastStable.value() - 1,
                            ends->lastStable.value()));
  }
  return {};
}

Result<ReplayCursor> ReplayLane::startOf(const Replay& replay, const Topic& topic,
                                         PartitionId partition) {
  using Phase = ReplayCursor::Phase;
  const ReplayStart& wanted = *replay.subscription.replay;
  if (wanted.kind == ReplayStart::Kind::kEarliest) return ReplayCursor{};
  auto ends = core_.store.ends(partition);
  if (!ends) return std::unexpected(ends.error());
  int64_t end = ends->lastStable.value();
  switch (wanted.kind) {
    case ReplayStart::Kind::kEarliest: break;
    case ReplayStart::Kind::kOffset: {
      bool own = topic.name == replay.subscription.filter.levels.front().text;
      return ReplayCursor{Phase::kAt, own ? wanted.value : end, 0};
    }
    case ReplayStart::Kind::kTime: return ReplayCursor{Phase::kTime, wanted.value, end};
    case ReplayStart::Kind::kAgo: {
      int64_t from = std::max<int64_t>(0, core_.clock.wallMillis() - wanted.value);
      return ReplayCursor{Phase::kTime, from, end};
    }
    case ReplayStart::Kind::kLast:
      if (wanted.value == 0) return ReplayCursor{Phase::kAt, end, 0};
      return ReplayCursor{Phase::kLast, wanted.value, end};
  }
  return ReplayCursor{};
}

bool ReplayLane::remove(const std::string& text, std::vector<storage::StateChange>& state) {
  auto at = std::ranges::find_if(
      replays_, [&](const auto& entry) { return entry.second.subscription.text == text; });
  if (at == replays_.end()) return false;
  if (session_.persistent()) deletion(at->second, state);
  for (const auto& [partition, source] : at->second.sources) drop(source);
  replays_.erase(at);
  core_.metrics.subscriptions.add(-1);
  core_.metrics.replays.add(-1);
  return true;
}

void ReplayLane::deletion(const Replay& replay, std::vector<storage::StateChange>& state) const {
  ReplayKey key{session_.inbox(), replay.number};
  state.push_back({storage::StateTable::kReplay, replayKey(key), std::nullopt});
  key.what = ReplayKey::What::kOrigins;
  state.push_back({storage::StateTable::kReplay, replayKey(key), std::nullopt});
  key.what = ReplayKey::What::kCursor;
  for (const auto& [partition, source] : replay.sources) {
    key.partition = partition;
    state.push_back({storage::StateTable::kReplay, replayKey(key), std::nullopt});
  }
}

void ReplayLane::begin() {
  for (auto& [number, replay] : replays_) {
    if (std::exchange(replay.begun, true) || !attached_) continue;
    findTopics(replay);  // those that have come meanwhile
    for (const auto& [partition, source] : replay.sources) makeReady(source);
  }
  goOn();
}

void ReplayLane::clear() {
  core_.metrics.subscriptions.add(-static_cast<int64_t>(replays_.size()));
  core_.metrics.replays.add(-static_cast<int64_t>(replays_.size()));
  for (auto& [number, replay] : replays_) {
    for (const auto& [partition, source] : replay.sources) drop(source);
  }
  replays_.clear();
  ready_.clear();
  moved_.clear();
  owed_.clear();
}

void ReplayLane::end(std::vector<storage::StateChange>& state) {
  if (!session_.persistent()) return;
  for (const auto& [number, replay] : replays_) deletion(replay, state);
}

// ---------------------------------------------------------------- as it was journaled

Result<> ReplayLane::restore(const ReplayKey& key, BytesView value) {
  using What = ReplayKey::What;
  if (key.what == What::kSubscription) {
    auto subscription = decodeReplay(key.inbox, value);
    if (!subscription) return std::unexpected(subscription.error());
    Replay& replay = replays_[key.number];
    replay.subscription = std::move(*subscription);
    replay.number = key.number;
    replay.begun = true;
    nextNumber_ = std::max(nextNumber_, key.number + 1);
    core_.metrics.subscriptions.add(1);
    core_.metrics.replays.add(1);
    return {};
  }
  auto at = replays_.find(key.number);
  if (at == replays_.end()) return {};
  if (key.what == What::kOrigins) {
    auto origins = decodeReplayOrigins(value);
    if (!origins) return std::unexpected(origins.error());
    at->second.restored = std::move(*origins);
    std::ranges::sort(at->second.restored, {}, [](const ReplayOrigin& one) {
      return std::tuple(one.batch, one.partition, one.base);
    });
    return {};
  }
  auto cursor = decodeReplayCursor(value);
  if (!cursor) return std::unexpected(cursor.error());
  at->second.sources[key.partition] =
      std::make_shared<ReplaySource>(core_, key.number, key.partition, *cursor);
  return {};
}

void ReplayLane::reload() {
  if (!session_.persistent()) return;
  // What is on its way is not in the table yet.
  if (linking_) {
    reloadDue_ = true;
    return;
  }
  clear();
  core_.store.scanState(storage::StateTable::kReplay, inboxKey(session_.inbox()),
                        [&](BytesView key, BytesView value) {
                          auto parsed = parseReplayKey(key);
                          if (parsed) (void)restore(*parsed, value);
                          return true;
                        });
  if (!attached_) return;
  detach();
  attach();
}

// ---------------------------------------------------------------- topics

/// Rules and the limit on topics store records under other topics than the one they name.
bool ReplayLane::couldMatch(const Topic& topic, const TopicFilter& filter) const {
  const FilterLevel& first = filter.levels.front();
  const auto& byRule = core_.options.ruleTopics;
  if (std::ranges::find(byRule, topic.name) != byRule.end()) return true;
  if (first.kind != FilterLevel::Kind::kLiteral) return !hiddenFromWildcards(topic.name);
  return topic.name == first.text || topic.name == kOverflowTopic;
}

std::vector<TopicRef> ReplayLane::candidates(const TopicFilter& filter) const {
  const FilterLevel& first = filter.levels.front();
  if (first.kind != FilterLevel::Kind::kLiteral) {
    std::vector<TopicRef> all = core_.catalogue->all();
    std::erase_if(all, [&](const TopicRef& topic) { return !couldMatch(*topic, filter); });
    return all;
  }
  std::vector<std::string> names = core_.options.ruleTopics;
  names.push_back(first.text);
  names.emplace_back(kOverflowTopic);
  std::ranges::sort(names);
  auto twice = std::ranges::unique(names);
  names.erase(twice.begin(), twice.end());
  std::vector<TopicRef> found;
  for (const std::string& name : names) {
    if (TopicRef topic = core_.catalogue->find(name)) found.push_back(std::move(topic));
  }
  return found;
}

/// What was journaled of partitions that are no more goes, new ones come.
void ReplayLane::findTopics(Replay& replay) {
  for (const TopicRef& topic : candidates(replay.subscription.filter)) takeIn(replay, topic);
  ReplayKey key{{}, replay.number, ReplayKey::What::kCursor, {}};
  std::erase_if(replay.sources, [&](const auto& entry) {
    if (entry.second->known()) return false;
    if (session_.persistent()) {
      key.inbox = session_.inbox();
      key.partition = entry.first;
      owed_.push_back({storage::StateTable::kReplay, replayKey(key), std::nullopt});
    }
    return true;
  });
}

/// True if there is something new.
bool ReplayLane::takeIn(Replay& replay, const TopicRef& topic) {
  bool any = false;
  for (size_t i = 0; i < topic->partitions.size(); ++i) {
    SourceRef& source = replay.sources[topic->partitions[i]];
    if (!source) {
      source = std::make_shared<ReplaySource>(core_, replay.number, topic->partitions[i],
                                              ReplayCursor{});
    } else if (source->known()) {
      continue;
    }
    source->belongsTo(topic, static_cast<int32_t>(i));
    any = true;
  }
  return any;
}

void ReplayLane::topicAdded(const TopicRef& topic) {
  bool any = false;
  for (auto& [number, replay] : replays_) {
    if (!replay.begun || !couldMatch(*topic, replay.subscription.filter)) continue;
    if (!takeIn(replay, topic)) continue;
    any = true;
    for (PartitionId partition : topic->partitions) makeReady(replay.sources[partition]);
  }
  if (any) goOn();
}

// ---------------------------------------------------------------- a connection

void ReplayLane::attach() {
  attached_ = true;
  connection_ = std::make_shared<bool>(true);
  turnDue_ = false;
  budget_ = kTurn;
  core_.replays->join(session_.home(), *this);
  for (auto& [number, replay] : replays_) {
    if (!replay.begun) continue;
    findTopics(replay);
    for (const auto& [partition, source] : replay.sources) makeReady(source);
  }
  goOn();
}

void ReplayLane::detach() {
  if (!attached_) return;
  attached_ = false;
  connection_ = nullptr;
  core_.replays->leave(session_.home(), *this);
  for (auto& [number, replay] : replays_) {
    for (const auto& [partition, source] : replay.sources) {
      if (source->watching) core_.store.unwatch(partition, source->watchId);
      source->watching = source->ready = false;
      source->rest();
    }
  }
  ready_.clear();
  if (!core_.stopping.load() && !linking_) flush();
}

void ReplayLane::goOn() {
  if (!attached_ || ready_.empty()) return;
  if (!session_.persistent()) return session_.notify();
  if (turnDue_ || linking_) return;
  turnDue_ = true;
  session_.home().post(
      [this, self = session_.weak_from_this(), connection = std::weak_ptr<bool>(connection_)] {
        auto kept = self.lock();
        if (!kept || connection.expired()) return;
        turnDue_ = false;
        link();
      });
}

void ReplayLane::makeReady(const SourceRef& source) {
  if (source->ready || source->watching || source->gone) return;
  source->ready = true;
  ready_.push_back(source);
}

void ReplayLane::drop(const SourceRef& source) {
  if (source->watching) core_.store.unwatch(source->partition, source->watchId);
  source->watching = false;
  source->gone = true;
  source->rest();
}

void ReplayLane::rotate() {
  turn_ = 0;
  if (ready_.size() < 2) return;
  ready_.push_back(std::move(ready_.front()));
  ready_.pop_front();
}

void ReplayLane::watch(const SourceRef& source) {
  source->rest();
  source->watching = true;
  auto wake = [this, self = session_.weak_from_this(),
               connection = std::weak_ptr<bool>(connection_),
               weak = std::weak_ptr<ReplaySource>(source)] {
    auto kept = self.lock();
    auto woken = weak.lock();
    if (!kept || connection.expired() || !woken || woken->gone) return;
    woken->watching = false;
    makeReady(woken);
    goOn();
  };
  source->watchId =
      core_.store.watch(source->partition, Offset(source->offset()), session_.home().sink,
                        std::move(wake), storage::LogStore::WatchFor::kStable);
}

/// What becomes of the first of ready_ when it gives nothing more. False: no other is to be read
/// now.
bool ReplayLane::settle(const SourceRef& source, ReplaySource::Found found) {
  if (found == ReplaySource::Found::kSpent) return false;
  if (found == ReplaySource::Found::kFailed) {
    session_.retrySoon();
    rotate();
    return false;
  }
  turn_ = 0;
  source->ready = false;
  ready_.pop_front();
  if (found == ReplaySource::Found::kEnd) {
    watch(source);
    return true;
  }
  source->gone = true;
  source->rest();
  if (session_.persistent()) {
    ReplayKey key{session_.inbox(), source->replay, ReplayKey::What::kCursor, source->partition};
    owed_.push_back({storage::StateTable::kReplay, replayKey(key), std::nullopt});
  }
  if (auto at = replays_.find(source->replay); at != replays_.end()) {
    at->second.sources.erase(source->partition);
  }
  return true;
}

// ---------------------------------------------------------------- without an inbox

size_t ReplayLane::take(size_t max, int64_t idLimit, int64_t& nextId, std::vector<Delivery>& out) {
  if (!attached_ || session_.persistent()) return 0;
  size_t taken = 0;
  while (taken < max && !ready_.empty()) {
    SourceRef source = ready_.front();
    auto replay = replays_.find(source->replay);
    if (source->gone || replay == replays_.end()) {
      ready_.pop_front();
      continue;
    }
    auto found = source->advance(session_.home(), replay->second.subscription.filter, budget_);
    if (found == ReplaySource::Found::kRecord) {
      if (!deliver(replay->second, *source, idLimit, nextId, out)) break;
      ++taken;
      if (++turn_ >= kInARow) rotate();
    } else if (!settle(source, found)) {
      break;
    }
  }
  if (budget_.spent()) restSoon();
  return taken;
}

/// False: it needs an id above the limit.
bool ReplayLane::deliver(const Replay& replay, ReplaySource& source, int64_t idLimit,
                         int64_t& nextId, std::vector<Delivery>& out) {
  const Subscription& wanted = replay.subscription;
  RoutedRecordRef record = source.reader().record();
  DeliveryGuarantee guarantee = granted(record->record, wanted);
  bool plain = guarantee <= DeliveryGuarantee::kAtMostOnce;
  if (!plain && nextId >= idLimit) return false;
  Delivery& delivery = out.emplace_back();
  delivery.guarantee = guarantee;
  if (!plain) delivery.id = nextId++;
  delivery.retain = record->record.retain && wanted.retainAsPublished;
  if (wanted.id != 0) delivery.subscriptionIds.push_back(wanted.id);
  delivery.place = LogPlace{source.number(), source.offset()};
  delivery.record = std::move(record);
  source.pass();
  core_.metrics.replayed.add(1);
  return true;
}

/// The next turn comes behind the worker's other work.
void ReplayLane::restSoon() {
  if (turnDue_) return;
  turnDue_ = true;
  session_.home().post(
      [this, self = session_.weak_from_this(), connection = std::weak_ptr<bool>(connection_)] {
        auto kept = self.lock();
        if (!kept || connection.expired()) return;
        turnDue_ = false;
        budget_ = kTurn;
        if (!ready_.empty()) session_.notify();
      });
}

}  // namespace polylog::router
