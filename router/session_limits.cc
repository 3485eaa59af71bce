// What waits for a session has limits: which thread says that they are passed, and what follows.
#include <algorithm>
#include <utility>

#include "router/replay_lane.h"
#include "router/session.h"
#include "router/session_registry.h"

namespace polylog::router {
namespace {

/// How often what grows old is looked for at most, and at least while something waits.
constexpr int64_t kLeastWaitMs = 1000;
constexpr int64_t kMostWaitMs = 60'000;

}  // namespace

// ---------------------------------------------------------------- any thread

void Session::appended(Offset end, int64_t octets) {
  if (inbox_->appended(end.value(), octets)) askTrim();
}

bool Session::admits(int64_t octets) {
  if (inbox_->admit(octets)) {
    if (inbox_->nearsLimit(octets)) askTrim();
    return true;
  }
  core_.metrics.dropped(DropReason::kInboxFull).add();
  refused_.fetch_add(1, std::memory_order_relaxed);
  askTrim();
  return false;
}

void InboxRoom::sequenced() const {
  if (records > 0) session->inbox_->sequenced(end.value(), octets);
}

void InboxRoom::settle(bool stored) const {
  if (records == 0) return;
  if (stored) return session->inbox_->stored(end.value());
  session->inbox_->release(records, octets, end.value());
}

void Session::letIn(int64_t records, int64_t octets) {
  inbox_->letIn(records, octets);
}

void Session::askTrim() {
  if (trimAsked_.exchange(true)) return;
  home().post([self = shared_from_this()] { self->onHome([self] { self->trim(); }); });
}

// ---------------------------------------------------------------- its worker

void Session::trim() {
  trimAsked_.store(false);
  if (phase_ == Phase::kEnded) return;
  if (uint32_t refused = refused_.exchange(0); refused > 0) aside_.write().dropped += refused;
  if (core_.options.inboxDropsNew) return inbox_->weigh();
  const auto [dropped, later] = inbox_->trim();
  countDropped(DropReason::kInboxFull, dropped);
  if (!later || trimAsked_.exchange(true)) return;
  // Once more of it is visible, if only by what comes next.
  auto ends = core_.store.ends(inbox());
  auto again = [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->onHome([self] { self->trim(); });
  };
  if (!ends) return;
  if (ends->highWatermark >= ends->end) {  // since then, and nothing may come
    trimAsked_.store(false);
    return askTrim();
  }
  core_.store.watch(inbox(), ends->highWatermark, home().sink, std::move(again));
}

void Session::movedHere(std::span<const int64_t> ids) {
  for (int64_t id : ids) {
    int64_t octets = 0;
    if (core_.options.inboxBytes > 0) {
      auto pieces = core_.store.indexed(inbox(), Offset(id), 1);
      if (pieces && !pieces->empty()) octets = pieces->front().octets;
    }
    if (!core_.options.inboxDropsNew) {
      appended(Offset(id + 1), octets);
      continue;
    }
    letIn(1, octets);
    const InboxRoom room{shared_from_this(), 1, octets, Offset(id + 1)};
    room.sequenced();
    room.settle(true);
  }
}

void Session::countDropped(DropReason reason, int64_t count) {
  if (count == 0) return;
  aside_.write().dropped += count;
  core_.metrics.dropped(reason).add(count);
}

/// What comes from now on is not due before this is looked at again.
void Session::dropOld() {
  const int64_t most = core_.options.inboxMillis;
  if (most == 0 || !inbox_) return;
  const int64_t now = core_.clock.wallMillis();
  const auto [dropped, oldestMs] = inbox_->dropOld(now - most);
  countDropped(DropReason::kTooOld, dropped);
  if (dropped > 0 && aside_->replay) aside_->replay->inboxMoved(inbox_->acknowledgedUpTo());
  const int64_t due = oldestMs < 0 ? most : std::min(most, oldestMs + most - now + 1);
  checkOldIn(std::max(due, std::clamp(most / 16, kLeastWaitMs, kMostWaitMs)));
}

void Session::checkOldIn(int64_t millis) {
  const int64_t at = core_.clock.monotonicMicros() / 1'000'000 + (millis + 999) / 1000;
  checkOldAt_ = static_cast<uint32_t>(std::clamp<int64_t>(at, 1, UINT32_MAX));
}

/// Not for all sessions at once.
void Session::checkOldAfterRestart() {
  const int64_t most = core_.options.inboxMillis;
  if (most == 0) return;
  constexpr uint64_t kSpread = 64;
  const int64_t within = std::clamp(most / 16, kLeastWaitMs, kMostWaitMs);
  checkOldIn(within * static_cast<int64_t>(inbox().value() % kSpread) / int64_t{kSpread});
}

}  // namespace polylog::router
