// What an inbox may hold: how many records, how many octets, and how old. The octets are those that
// the index tells: nothing is read for it. Publishers, on any thread, count what they append and
// say when a limit may have been passed; what is exact is found out on the session's worker.
#include <algorithm>
#include <vector>

#include "router/address_tags.h"
#include "router/inbox.h"
#include "router/session.h"
#include "router/shared_lane.h"

namespace polylog::router {
namespace {

using storage::IndexedBatch;

/// Looked up in one hold of the store's lock.
constexpr size_t kPieces = 256;

/// Octets of a piece's records below `id`. Differences of it add up without loss.
int64_t octetsBelow(const IndexedBatch& piece, int64_t id) {
  const int64_t count = std::clamp<int64_t>(id - piece.base.value(), 0, piece.count);
  return static_cast<int64_t>(static_cast<double>(piece.octets) * static_cast<double>(count) /
                              static_cast<double>(std::max(1U, piece.count)));
}

}  // namespace

// ---------------------------------------------------------------- any thread

bool Inbox::appended(int64_t end, int64_t octets) {
  const RouterOptions& options = core().options;
  const bool many = end - used_.load(std::memory_order_relaxed) > options.inboxRecords;
  if (!counts_) return many;
  std::lock_guard lock(counts_->mutex);
  if (options.inboxBytes > 0 && end > counts_->weighedTo) counts_->octets += octets;
  if (!options.inboxDropsNew) return many || counts_->octets > options.inboxBytes;
  counts_->end = std::max(counts_->end, end);
  return false;
}

bool Inbox::admit(int64_t octets) {
  const RouterOptions& options = core().options;
  std::lock_guard lock(counts_->mutex);
  if (counts_->end - used_.load(std::memory_order_relaxed) >= options.inboxRecords) return false;
  if (options.inboxBytes > 0) {
    const int64_t before = counts_->octets;
    if (before > 0 && octets > options.inboxBytes - before) return false;
    counts_->octets += octets;
    counts_->owedOctets += octets;
  }
  ++counts_->end;
  return true;
}

void Inbox::letIn(int64_t records, int64_t octets) {
  std::lock_guard lock(counts_->mutex);
  counts_->end += records;
  if (core().options.inboxBytes == 0) return;
  counts_->octets += octets;
  counts_->owedOctets += octets;
}

void Inbox::sequenced(int64_t end, int64_t octets) {
  if (core().options.inboxBytes == 0) return;
  std::lock_guard lock(counts_->mutex);
  counts_->owedOctets -= octets;
  if (end <= counts_->weighedTo) {
    counts_->octets -= octets;  // counted by the index, too
  } else {
    counts_->underway.emplace_back(end, octets);
  }
}

void Inbox::stored(int64_t end) {
  if (core().options.inboxBytes == 0) return;
  std::lock_guard lock(counts_->mutex);
  counts_->storedTo = std::max(counts_->storedTo, end);
  std::erase_if(counts_->underway, [end](const auto& one) { return one.first <= end; });
}

void Inbox::release(int64_t records, int64_t octets, int64_t end) {
  std::lock_guard lock(counts_->mutex);
  counts_->end -= records;
  if (core().options.inboxBytes == 0) return;
  counts_->octets -= octets;
  if (end == 0) {
    counts_->owedOctets -= octets;
    return;
  }
  auto& underway = counts_->underway;
  auto at = std::ranges::find(underway, std::pair(end, octets));
  if (at != underway.end()) underway.erase(at);
}

bool Inbox::nearsLimit(int64_t octets) const {
  const int64_t most = core().options.inboxBytes;
  if (most == 0) return false;
  std::lock_guard lock(counts_->mutex);
  const int64_t now = counts_->octets;
  // Several publishers may have passed it together: once more, rather than not at all.
  auto passed = [&](int64_t mark) { return now > mark && now - 2 * octets <= mark; };
  return passed(most / 2) || passed(most - most / 4) || passed(most - most / 8);
}

// ---------------------------------------------------------------- weighing

/// Nothing if it can't be told; `whole`: also if the index has lost some of it, being used up.
std::optional<int64_t> Inbox::octetsOf(int64_t from, int64_t to, bool whole) const {
  int64_t sum = 0;
  while (from < to) {
    const size_t most = std::min<size_t>(kPieces, static_cast<size_t>(to - from));
    auto pieces = core().store.indexed(partition_, Offset(from), most);
    if (!pieces) return std::nullopt;
    const int64_t before = from;
    for (const IndexedBatch& piece : *pieces) {
      const int64_t base = piece.base.value();
      if (base >= to) break;
      if (whole && base > from) return std::nullopt;
      sum += octetsBelow(piece, to) - octetsBelow(piece, from);
      from = base + piece.count;
    }
    if (from != before) continue;
    if (whole) return std::nullopt;
    return sum;
  }
  return sum;
}

/// False: it can't be told.
bool Inbox::weighUpTo(int64_t end) {
  auto& known = session_.aside_.write().weight;
  const int64_t floor = state_.acknowledged.floor();
  end = std::max(floor, end);
  if (!known || known->from != floor || known->to > end) {
    known = std::make_unique<InboxWeight>(InboxWeight{floor, floor, 0, 0});
  }
  auto more = octetsOf(known->to, end, false);
  if (!more) return false;
  known->octets += *more;
  known->to = end;
  return true;
}

/// Octets of what waits. Goes on from what was weighed before.
std::optional<int64_t> Inbox::weight() {
  auto ends = core().store.ends(partition_);
  // What the disk is read for is weighed before publishers wait for the lock.
  if (!ends || !weighUpTo(ends->highWatermark.value())) return std::nullopt;
  // Nobody is let in or counted meanwhile: what is owed is neither missed nor counted twice.
  std::lock_guard lock(counts_->mutex);
  ends = core().store.ends(partition_);
  if (!ends) return std::nullopt;
  int64_t end = ends->end.value();
  // Beyond that a failed write may take it back.
  if (core().options.inboxDropsNew) end = std::max(ends->highWatermark.value(), counts_->storedTo);
  end = std::max(state_.acknowledged.floor(), end);
  if (!weighUpTo(end)) return std::nullopt;
  const auto& known = session_.aside_.write().weight;
  known->acknowledged = acknowledgedOctets(end);
  const int64_t total = known->octets - known->acknowledged;
  std::erase_if(counts_->underway, [end](const auto& one) { return one.first <= end; });
  counts_->octets = total + counts_->owedOctets;
  for (const auto& [at, octets] : counts_->underway) counts_->octets += octets;
  counts_->weighedTo = end;
  return total;
}

/// Of what has been acknowledged above the floor.
int64_t Inbox::acknowledgedOctets(int64_t end) const {
  int64_t sum = 0;
  for (const auto& [first, last] : state_.acknowledged.ranges()) {
    sum += octetsOf(first, std::min(last, end), false).value_or(0);
  }
  return sum;
}

void Inbox::weigh() {
  if (core().options.inboxBytes > 0) (void)weight();
}

/// What lies below the floor now doesn't wait any more. While it is in the index still: its space
/// is given back once the floor is journaled.
void Inbox::lighten() {
  if (!session_.aside_->weight) return;
  auto& known = session_.aside_.write().weight;
  const int64_t floor = state_.acknowledged.floor();
  if (floor <= known->from) return;
  auto gone = octetsOf(known->from, floor, true);
  if (!gone) {
    known.reset();
    return weigh();
  }
  // Some of it may have been taken off when it was acknowledged above the floor.
  const int64_t before = std::min(*gone, known->acknowledged);
  known->acknowledged -= before;
  std::lock_guard lock(counts_->mutex);
  counts_->octets -= *gone - before;
  known->octets -= *gone;
  known->from = floor;
  if (floor <= known->to) return;
  // Beyond what was weighed: the publishers' counts have gone by the index's now.
  known->octets = 0;
  known->to = floor;
}

// ---------------------------------------------------------------- dropping

/// Where the floor is once the `count` oldest are gone.
int64_t Inbox::without(int64_t count) const {
  int64_t at = state_.acknowledged.floor();
  for (const auto& [first, end] : state_.acknowledged.ranges()) {
    if (count <= first - at) break;
    count -= first - at;
    at = end;
  }
  return at + count;
}

/// Where it is once so many octets are gone, or all but the newest record.
int64_t Inbox::withoutOctets(int64_t excess, int64_t end) const {
  int64_t at = state_.acknowledged.floor();
  while (excess > 0 && at < end - 1) {
    auto pieces = core().store.indexed(partition_, Offset(at), kPieces);
    if (!pieces || pieces->empty()) return at;
    for (const IndexedBatch& piece : *pieces) {
      at = std::max(at, piece.base.value());
      const int64_t last = std::min(piece.base.value() + piece.count, end - 1);
      for (; excess > 0 && at < last; ++at) {
        if (!state_.acknowledged.contains(at)) {
          excess -= octetsBelow(piece, at + 1) - octetsBelow(piece, at);
        }
      }
      if (excess <= 0 || at >= end - 1) return std::min(at, end - 1);
    }
  }
  return at;
}

int64_t Inbox::dropBelow(int64_t floor) {
  const int64_t before = state_.acknowledged.floor();
  if (floor <= before) return 0;
  int64_t acknowledged = 0;
  for (const auto& [first, end] : state_.acknowledged.ranges()) {
    acknowledged += std::max<int64_t>(0, std::min(end, floor) - first);
  }
  keepReleases(floor);
  state_.acknowledged.raiseFloor(floor);
  if (reading_) reading_->cursor = std::max(reading_->cursor, floor);
  // What a shared subscription had moved here holds a place of its window.
  if (const auto& shared = session_.aside_->shared; reading_ && shared) {
    for (int64_t id = before; id < floor; ++id) shared->inboxAcknowledged(id);
  }
  changed();
  return floor - before - acknowledged;
}

Inbox::Trimmed Inbox::trim() {
  const RouterOptions& options = core().options;
  Trimmed out;
  auto ends = core().store.ends(partition_);
  if (!ends) return out;
  // What is not visible yet may be taken back, and its numbers be others' then.
  const int64_t visible = ends->highWatermark.value();
  const int64_t excess = waiting() - options.inboxRecords;
  if (excess > 0) {
    const int64_t floor = without(excess);
    out.dropped = dropBelow(std::min(floor, visible));
    out.later = floor > visible;
  }
  if (options.inboxBytes == 0) return out;
  const auto octets = weight();
  if (!octets || *octets <= options.inboxBytes) return out;
  const int64_t floor = withoutOctets(*octets - options.inboxBytes, ends->end.value());
  out.dropped += dropBelow(std::min(floor, visible));
  out.later |= floor > visible;
  return out;
}

Inbox::Aged Inbox::dropOld(int64_t cutoffMs) {
  Aged out;
  auto ends = core().store.ends(partition_);
  if (!ends) return out;
  RangeSet& acknowledged = state_.acknowledged;
  const int64_t nowMs = core().clock.wallMillis();
  const int64_t visible = ends->highWatermark.value();
  int64_t at = std::max(acknowledged.floor(), reading_ ? reading_->taken : 0);
  while (at < visible && out.oldestMs < 0) {
    auto pieces = core().store.indexed(partition_, Offset(at), kPieces);
    if (!pieces || pieces->empty()) break;
    for (const IndexedBatch& piece : *pieces) {
      at = std::max(at, piece.base.value());
      const int64_t end = std::min(piece.base.value() + piece.count, visible);
      const bool exactly = guaranteeOf(piece.attributes) == DeliveryGuarantee::kExactlyOnce;
      const bool begun = exactly && piece.base.value() < inFlightEnd();
      bool ages = piece.maxTimestamp >= 0 && !begun && !retainOf(piece.attributes);
      // A producer's clock that is ahead doesn't keep those behind it young.
      if (piece.maxTimestamp > nowMs) ages = false;
      if (ages && piece.maxTimestamp >= cutoffMs) {
        out.oldestMs = piece.maxTimestamp;
        break;
      }
      for (int64_t id = at; ages && id < end; ++id) {
        if (exactly && hasAccepted(id)) continue;
        // What a replay brings is old by nature.
        if (session_.placeOf(id, piece.position, 0) || !acknowledged.add(id)) continue;
        ++out.dropped;
        // What a shared subscription had moved here holds a place of its window.
        const auto& shared = session_.aside_->shared;
        if (reading_ && shared) shared->inboxAcknowledged(id);
      }
      at = std::max(at, end);
      if (at >= visible) break;
    }
  }
  if (out.dropped > 0) changed();
  return out;
}

}  // namespace polylog::router
