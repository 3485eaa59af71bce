// ReplayLane's way to the inbox of a session that outlives its connection: pieces, each an entry of
// links and of the cursors behind them, one on its way at a time.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/base/log.h"
#include "router/address_tags.h"
#include "router/replay_lane.h"
#include "router/session.h"

namespace polylog::router {
namespace {

/// Linked and not acknowledged, at most; it is filled up when half of that is left.
constexpr int64_t kMostLinked = 1024;
constexpr size_t kMostTargets = 512;

}  // namespace

struct ReplayLane::Piece {
  storage::AppendRequest request;
  std::vector<uint32_t> freshTags;
  std::vector<Linked> linked;                              ///< one a target, in their order
  std::vector<std::pair<SourceRef, ReplayCursor>> before;  ///< of those that it moves
  std::vector<storage::StateChange> owed;
  int64_t count = 0;
  int64_t octets = 0;  ///< of their batches, at least
  size_t given = 0;  ///< of linked, those that have ids
  InboxRoom room;    ///< where inboxes drop new ones
};

/// How many may be linked now.
int64_t ReplayLane::roomToLink() const {
  if (outstanding_ > kMostLinked / 2) return 0;
  // The others' share of the inbox is left to them: nothing is to be dropped for this.
  const int64_t mostBytes = core_.options.inboxBytes;
  if (mostBytes > 0 && session_.inboxBytes() > mostBytes / 2) return 0;
  int64_t share = std::max<int64_t>(1, core_.options.inboxRecords / 2);
  return std::min(kMostLinked - outstanding_, share - session_.inboxWaiting());
}

void ReplayLane::link() {
  if (!attached_ || linking_ || ready_.empty()) return;
  const int64_t room = roomToLink();
  if (room <= 0) return;
  auto piece = std::make_shared<Piece>();
  ReplayBudget budget = kTurn;
  Result<> result;
  bool waits = false;  // until it is tried again
  while (result && !ready_.empty() && !budget.spent() && piece->count < room &&
         piece->linked.size() < kMostTargets) {
    SourceRef source = ready_.front();
    auto replay = replays_.find(source->replay);
    if (source->gone || replay == replays_.end()) {
      ready_.pop_front();
      continue;
    }
    ReplayCursor was = source->cursor();
    auto found = source->advance(session_.home(), replay->second.subscription.filter, budget);
    bool moves = found == ReplaySource::Found::kRecord || source->cursor() != was;
    if (moves && !std::exchange(source->dirty, true)) moved_.push_back(source);
    if (found != ReplaySource::Found::kRecord) {
      waits = found == ReplaySource::Found::kFailed;
      if (!settle(source, found)) break;
      continue;
    }
    bool touched =
        std::ranges::any_of(piece->before, [&](const auto& one) { return one.first == source; });
    if (!touched) piece->before.emplace_back(source, source->cursor());
    result = addTarget(*piece, replay->second, *source);
    if (!result) break;
    source->pass();
    ++piece->count;
    if (++turn_ >= kInARow) rotate();
  }
  if (!result) {
    logWarning(
        fmt::format("session '{}': a replay waits: {}", session_.clientId(), result.error().text));
    session_.retrySoon();
  }
  if (piece->count > 0) return append(piece);
  if (result && !waits) goOn();
}

Result<> ReplayLane::addTarget(Piece& piece, const Replay& replay, ReplaySource& source) {
  const PartitionReader& reader = source.reader();
  auto tag = tagFor(piece, replay, source);
  if (!tag) return std::unexpected(tag.error());
  const Record& record = reader.record()->record;
  bool retain = record.retain && replay.subscription.retainAsPublished;
  uint32_t attributes = inboxAttributes(granted(record, replay.subscription), retain, *tag);
  storage::BatchPlace place = reader.place();
  auto& links = piece.request.links;
  const ReplayOrigin origin{place.position, source.number(),
                            source.offset() - int64_t{reader.index()}};
  if (links.empty() || links.back().batch.position != place.position) links.push_back({place, {}});
  auto& targets = links.back().targets;
  if (!targets.empty() && !piece.linked.empty()) {
    storage::Target& last = targets.back();
    // One batch may be in two partitions of a replay: in each it is a run of its own.
    bool goesOn = piece.linked.back().replay == replay.number &&
                  piece.linked.back().origin == origin && last.attributes == attributes &&
                  last.firstRecord + last.count == reader.index();
    if (goesOn) {
      ++last.count;
      ++piece.linked.back().end;
      return {};
    }
  }
  targets.push_back({session_.inbox(), reader.index(), 1, attributes});
  piece.octets += place.length;
  piece.linked.push_back({0, 1, replay.number, reader.index(), origin});
  return {};
}

Result<uint32_t> ReplayLane::tagFor(Piece& piece, const Replay& replay, ReplaySource& source) {
  Protocol origin = source.reader().record()->origin;
  if (source.tag != 0 && source.tagOrigin == origin) return source.tag;
  size_t freshBefore = piece.freshTags.size();
  auto tag = core_.tags->tagFor(*source.topic(), replay.subscription.id, origin,
                                piece.request.state, piece.freshTags);
  if (!tag) return tag;
  // Remembered only once it needs no journal entry any more.
  source.tag = piece.freshTags.size() == freshBefore ? *tag : 0;
  source.tagOrigin = origin;
  return tag;
}

// ---------------------------------------------------------------- the entry

/// The cursors of all that has moved, and where what is linked comes from.
void ReplayLane::putState(Piece& piece) {
  auto& state = piece.request.state;
  ReplayKey key{session_.inbox(), 0, ReplayKey::What::kCursor, {}};
  for (const SourceRef& source : std::exchange(moved_, {})) {
    source->dirty = false;
    if (source->gone) continue;
    key.number = source->replay;
    key.partition = source->partition;
    state.push_back(
        {storage::StateTable::kReplay, replayKey(key), encodeReplayCursor(source->cursor())});
  }
  piece.owed = std::exchange(owed_, {});
  state.insert(state.end(), piece.owed.begin(), piece.owed.end());
  key.what = ReplayKey::What::kOrigins;
  for (const auto& [number, replay] : replays_) {
    bool touched = std::ranges::any_of(piece.linked,
                                       [n = number](const Linked& one) { return one.replay == n; });
    if (!touched) continue;
    key.number = number;
    state.push_back({storage::StateTable::kReplay, replayKey(key), originsOf(replay, piece)});
  }
}

std::string ReplayLane::originsOf(const Replay& replay, const Piece& piece) const {
  std::vector<ReplayOrigin> origins = replay.restored;
  auto add = [&](const Linked& one) {
    if (one.replay != replay.number) return;
    if (origins.empty() || origins.back() != one.origin) origins.push_back(one.origin);
  };
  for (const Linked& one : linked_) add(one);
  for (const Linked& one : piece.linked) add(one);
  return encodeReplayOrigins(origins);
}

void ReplayLane::append(const std::shared_ptr<Piece>& piece) {
  putState(*piece);
  // Whatever comes again after a crash is then among the origins.
  session_.addInboxChanges(piece->request);
  storage::AppendRequest& request = piece->request;
  request.durability = storage::Durability::kSynced;
  request.sink = &session_.home().sink;
  // Whoever has the session by then hears of it there.
  request.done = [this, self = session_.weak_from_this(), lane = std::weak_ptr<bool>(alive_),
                  &core = core_, piece](const Result<storage::Appended>& result) {
    if (result) {
      core.tags->journaled(piece->freshTags);
    } else {
      ++core.writeFailures;
    }
    auto kept = self.lock();
    if (!kept) return;
    kept->onHome([this, lane, piece, stored = result.has_value()] {
      if (!lane.expired()) linked(piece, stored);
    });
  };
  linking_ = true;
  auto appended = core_.store.append(std::move(request));
  if (!appended) {
    logWarning(fmt::format("session '{}': a replay waits: {}", session_.clientId(),
                           appended.error().text));
    return linked(piece, false);
  }
  for (size_t i = 0; i < piece->linked.size() && i < appended->offsets.size(); ++i) {
    Linked one = piece->linked[i];
    one.first = appended->offsets[i].value();
    one.end += one.first;
    if (!firstLinked_) firstLinked_ = one.first;
    linked_.push_back(one);
    ++piece->given;
  }
  outstanding_ += piece->count;
  const Offset end(linked_.back().end);
  if (!core_.options.inboxDropsNew) return session_.appended(end, piece->octets);
  session_.letIn(piece->count, piece->octets);
  piece->room = {session_.shared_from_this(), piece->count, piece->octets, end};
  piece->room.sequenced();
}

/// The entry is through. If it failed, all is as it was before.
void ReplayLane::linked(const std::shared_ptr<Piece>& piece, bool stored) {
  linking_ = false;
  std::exchange(piece->room, {}).settle(stored);
  if (!stored) {
    session_.inboxChangesFailed();
    for (const auto& [source, before] : piece->before) {
      if (source->gone) continue;
      source->moveTo(before);
      if (!std::exchange(source->dirty, true)) moved_.push_back(source);
      if (std::exchange(source->watching, false)) {
        core_.store.unwatch(source->partition, source->watchId);
      }
      if (attached_) makeReady(source);
    }
    owed_.insert(owed_.end(), piece->owed.begin(), piece->owed.end());
    // Ids that were not given after all are given to others.
    for (; piece->given > 0 && !linked_.empty(); --piece->given) {
      outstanding_ -= linked_.back().end - linked_.back().first;
      linked_.pop_back();
    }
    if (linked_.empty()) firstLinked_ = std::nullopt;
    session_.retrySoon();
  }
  if (std::exchange(reloadDue_, false)) return reload();
  if (stored) goOn();
}

/// Cursors that have passed over what doesn't match: so that a restart needn't.
void ReplayLane::flush() {
  if (!session_.persistent() || (moved_.empty() && owed_.empty())) return;
  Piece piece;
  putState(piece);
  piece.request.durability = storage::Durability::kUnwaited;
  // A failure costs no more than looking through the same again.
  (void)core_.store.append(std::move(piece.request));
}

// ---------------------------------------------------------------- what the client has

void ReplayLane::inboxMoved(int64_t floor) {
  while (!linked_.empty() && linked_.front().end <= floor) {
    outstanding_ -= linked_.front().end - linked_.front().first;
    linked_.pop_front();
  }
  if (firstLinked_ && floor > *firstLinked_) {
    for (auto& [number, replay] : replays_) replay.restored.clear();
  }
  if (attached_ && !linking_ && !turnDue_ && !ready_.empty() && roomToLink() > 0) goOn();
}

/// An inbox asks it of each record that it could drop: cheap.
std::optional<LogPlace> ReplayLane::placeOf(int64_t id, Position batch, uint32_t index) const {
  auto at = std::upper_bound(linked_.begin(), linked_.end(), id,
                             [](int64_t value, const Linked& one) { return value < one.first; });
  if (at != linked_.begin()) {
    const Linked& one = *std::prev(at);
    if (id < one.end) {
      return LogPlace{one.origin.partition,
                      one.origin.base + int64_t{one.index} + (id - one.first)};
    }
  }
  for (const auto& [number, replay] : replays_) {
    auto origin = std::ranges::lower_bound(replay.restored, batch, {}, &ReplayOrigin::batch);
    if (origin != replay.restored.end() && origin->batch == batch) {
      return LogPlace{origin->partition, origin->base + int64_t{index}};
    }
  }
  return std::nullopt;
}

}  // namespace polylog::router
