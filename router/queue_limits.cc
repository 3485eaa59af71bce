// What may wait in the queue of a shared subscription: as much as in an inbox, by the same keys.
// What is with a member is its own to acknowledge, and counts, but isn't dropped. On the queue's
// home worker, but for admits().
#include <algorithm>
#include <utility>
#include <vector>

#include "router/queue.h"

namespace polylog::router {
namespace {

using storage::IndexedBatch;

/// Looked up in one hold of the store's lock.
constexpr size_t kPieces = 256;
/// How often octets and ages are looked at.
constexpr int64_t kLeastLookMs = 1000;
constexpr int64_t kMostLookMs = 60'000;

int64_t octetsOfOne(const IndexedBatch& piece) {
  return piece.octets / std::max<int64_t>(1, piece.count);
}

}  // namespace

/// From its first member on.
void Queue::beginLimits() {
  if (ended_ || core_.stopping.load()) return;
  const RouterOptions& options = core_.options;
  if (options.inboxBytes > 0 || options.inboxMillis > 0) {
    limitTimer_ = home_.dispatcher.makeTimer([this] { keepLimits(); });
  }
  keepLimits();
}

void Queue::keepLimits() {
  if (ended_ || core_.stopping.load()) return;
  const RouterOptions& options = core_.options;
  dropOverfull();
  if (options.inboxMillis > 0) dropOld();
  if (limitTimer_) {
    int64_t wait = kLeastLookMs;
    if (options.inboxBytes == 0) wait = std::clamp(options.inboxMillis / 16, wait, kMostLookMs);
    limitTimer_->start(wait * 1000);
  }
  watchLimit();
}

/// To be woken once there are too many.
void Queue::watchLimit() {
  auto ends = core_.store.ends(partition_);
  if (limitWatching_ || core_.options.inboxDropsNew || !ends) return;
  limitWatching_ = true;
  const int64_t full = used_.load() + core_.options.inboxRecords;
  const Offset from(std::max(full, ends->highWatermark.value()));
  limitWatchId_ = core_.store.watch(partition_, from, home_.sink, [weak = weak_from_this()] {
    auto self = weak.lock();
    if (!self || !self->limitWatching_) return;
    self->limitWatching_ = false;
    self->keepLimits();
  });
}

void Queue::endLimits() {
  limitTimer_ = nullptr;
  if (std::exchange(limitWatching_, false)) core_.store.unwatch(partition_, limitWatchId_);
}

bool Queue::admits(int64_t before) const {
  const RouterOptions& options = core_.options;
  auto ends = core_.store.ends(partition_);
  if (!ends) return true;
  const int64_t waiting = ends->end.value() - used_.load() + before;
  if (waiting >= options.inboxRecords) return false;
  if (options.inboxBytes == 0 || waiting == 0) return true;
  // Those that came since they were last weighed.
  const int64_t fresh = core_.store.octetsFrom(partition_, Offset(weighedTo_.load()));
  return weighed_.load() + fresh < options.inboxBytes;
}

/// Octets of what waits or is out. At least: acknowledged ones among them are looked for only if
/// it matters.
int64_t Queue::weigh(int64_t end) {
  int64_t octets = core_.store.octetsFrom(partition_, Offset(acks_.floor())) -
                   core_.store.octetsFrom(partition_, Offset(end));
  if (octets > core_.options.inboxBytes && acks_.above() > 0) {
    octets = 0;
    forPieces(acks_.floor(), end, [&](const IndexedBatch& piece, int64_t id) {
      if (!acks_.contains(id)) octets += octetsOfOne(piece);
      return true;
    });
  }
  weighed_ = octets;
  weighedTo_ = end;
  return octets;
}

/// visit(piece, id) of ids [from, end), until it says false.
template <class Visit>
void Queue::forPieces(int64_t from, int64_t end, Visit&& visit) {
  while (from < end) {
    auto pieces = core_.store.indexed(partition_, Offset(from), kPieces);
    if (!pieces || pieces->empty()) return;
    for (const IndexedBatch& piece : *pieces) {
      from = std::max(from, piece.base.value());
      for (const int64_t last = piece.base.value() + piece.count; from < last; ++from) {
        if (from >= end || !visit(piece, from)) return;
      }
    }
  }
}

/// Those with nobody, the oldest first. What isn't visible yet, a failed write could take back.
template <class Judge>
void Queue::dropWaiting(DropReason reason, int64_t visible, Judge&& judge) {
  std::vector<int64_t> apart;
  for (const auto& [id, before] : returned_) apart.push_back(id);
  for (const auto& [id, before] : kept_) apart.push_back(id);
  std::ranges::sort(apart);
  int64_t dropped = 0;
  bool goesOn = true;
  auto visit = [&](const IndexedBatch& piece, int64_t id) {
    if (acks_.contains(id)) return true;
    const Fate fate = judge(piece);
    goesOn = fate != Fate::kEnough;
    if (fate != Fate::kGoes) return goesOn;
    acks_.add(id);
    returned_.erase(id);
    kept_.erase(id);
    ++dropped;
    return true;
  };
  for (size_t i = 0; i < apart.size() && goesOn; ++i) forPieces(apart[i], apart[i] + 1, visit);
  if (goesOn) forPieces(std::max(cursor_, acks_.floor()), visible, visit);
  if (dropped == 0) return;
  core_.metrics.dropped(reason).add(dropped);
  changed();
}

void Queue::dropOverfull() {
  const RouterOptions& options = core_.options;
  auto ends = core_.store.ends(partition_);
  if (!ends) return;
  const int64_t visible = ends->highWatermark.value();
  int64_t left = visible - used_.load();
  int64_t excess = left - options.inboxRecords;
  int64_t octets = options.inboxBytes > 0 ? weigh(visible) - options.inboxBytes : 0;
  if (options.inboxDropsNew || (excess <= 0 && octets <= 0)) return;
  dropWaiting(DropReason::kInboxFull, visible, [&](const IndexedBatch& piece) {
    // One may always wait, however large.
    if (excess <= 0 && (octets <= 0 || left <= 1)) return Fate::kEnough;
    --excess;
    --left;
    octets -= octetsOfOne(piece);
    return Fate::kGoes;
  });
}

void Queue::dropOld() {
  auto ends = core_.store.ends(partition_);
  if (!ends) return;
  const int64_t now = core_.clock.wallMillis();
  const int64_t cutoff = now - core_.options.inboxMillis;
  dropWaiting(DropReason::kTooOld, ends->highWatermark.value(), [&](const IndexedBatch& piece) {
    // A producer's clock that is ahead doesn't keep those behind it young.
    if (piece.maxTimestamp < 0 || piece.maxTimestamp > now) return Fate::kStays;
    return piece.maxTimestamp < cutoff ? Fate::kGoes : Fate::kEnough;
  });
}

/// What a member would get has waited for too long.
bool Queue::outlived(const Record& record) const {
  const int64_t most = core_.options.inboxMillis;
  if (most == 0 || spec_.kind != QueueKind::kShared || record.timestampMs < 0) return false;
  return core_.clock.wallMillis() - record.timestampMs > most;
}

}  // namespace polylog::router
