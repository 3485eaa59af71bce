#include "router/inbox.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/base/log.h"
#include "router/address_tags.h"
#include "router/session.h"
#include "router/shared_lane.h"

namespace polylog::router {
namespace {

/// A client hasn't more packet identifiers than that for what comes from an inbox (0002).
constexpr int64_t kMostReleases = 49'150;

}  // namespace

Inbox::Inbox(Session& session, PartitionId partition)
    : session_(session),
      partition_(partition),
      counts_(core().options.inboxBytes > 0 || core().options.inboxDropsNew
                  ? std::make_unique<Counts>()
                  : nullptr) {}

Core& Inbox::core() const {
  return session_.core_;
}

void Inbox::restore(InboxState state) {
  state_ = std::move(state);
  const RangeSet& acknowledged = state_.acknowledged;
  used_.store(acknowledged.floor() + acknowledged.above(), std::memory_order_relaxed);
}

bool Inbox::restoreEnd(const storage::PartitionEnds& ends) {
  // Of what is accepted the ends may be lost, and as many more have been sent then.
  const int64_t mayBeOut = std::ssize(*state_.accepted) + core().options.maxInflight;
  setSent(ends.end.value(), std::min(ends.end.value(), used_.load() + mayBeOut));
  // Of its octets some may be acknowledged: weighed, if that matters.
  const int64_t most = core().options.inboxBytes;
  return appended(sentEnd_, ends.bytes) || (most > 0 && ends.bytes > most / 2);
}

void Inbox::rewind() {
  letGo();
  reading_ = std::make_unique<Reading>();
  reading_->cursor = reading_->releaseEnd = state_.acknowledged.floor();
}

void Inbox::letGo() {
  if (reading_) {
    setSent(std::max(sentEnd_, reading_->taken), std::max(inFlightEnd(), reading_->taken));
  }
  reading_ = nullptr;
}

/// More counts as in flight than is, at worst.
void Inbox::setSent(int64_t sentEnd, int64_t inFlightEnd) {
  sentEnd_ = sentEnd;
  queuedBelow_ = static_cast<uint32_t>(std::min<int64_t>(sentEnd - inFlightEnd, UINT32_MAX));
}

// ---------------------------------------------------------------- reading

Inbox::Taken Inbox::take(Worker& worker, size_t max, int64_t idLimit, std::vector<Delivery>& out) {
  using Found = PartitionReader::Found;
  int64_t& cursor = reading_->cursor;
  auto& reader = reading_->reader;
  // By themselves: what may be taken beside them depends on how many are in flight then.
  if (size_t released = takeReleases(max, out); released > 0) return Taken::kEnough;
  size_t taken = 0;
  while (taken < max && cursor < idLimit) {
    if (state_.acknowledged.contains(cursor)) {
      ++cursor;
      continue;
    }
    if (!reader) reader = std::make_unique<PartitionReader>(core(), partition_);
    switch (reader->find(worker, cursor)) {
      case Found::kRecord:
        if (outlived() && !mayHaveBegun(cursor)) {
          session_.countDropped(DropReason::kTooOld, 1);
          const auto& shared = session_.aside_->shared;
          if (shared) shared->inboxAcknowledged(cursor);
          state_.acknowledged.add(cursor++);
          changed();
          break;
        }
        deliver(out);
        ++taken;
        break;
      case Found::kEnd:
      case Found::kDeleted: return Taken::kAtEnd;
      case Found::kGone:
        cursor = reader->logStart();
        state_.acknowledged.raiseFloor(cursor);
        changed();
        break;
      case Found::kGap:
        while (cursor < reader->gapEnd()) state_.acknowledged.add(cursor++);
        changed();
        break;
      case Found::kDamaged:
        logError(fmt::format("session '{}': messages {} to {} are damaged and dropped: {}",
                             session_.clientId(), cursor, reader->damagedEnd() - 1,
                             reader->error().text));
        while (cursor < reader->damagedEnd()) skip(cursor);
        break;
      case Found::kFailed:
        logError(fmt::format("session '{}': its inbox can't be read: {}", session_.clientId(),
                             reader->error().text));
        return Taken::kFailed;
    }
  }
  return Taken::kEnough;
}

size_t Inbox::takeReleases(size_t max, std::vector<Delivery>& out) {
  int64_t& from = reading_->releaseFrom;
  if (state_.accepted->empty() || from >= reading_->releaseEnd) return 0;
  const std::vector<int64_t>& accepted = *state_.accepted;
  size_t taken = 0;
  auto at = std::lower_bound(accepted.begin(), accepted.end(), from);
  for (; taken < max && at != accepted.end() && *at < reading_->releaseEnd; ++at, ++taken) {
    Delivery& delivery = out.emplace_back();
    delivery.id = *at;
    delivery.guarantee = DeliveryGuarantee::kExactlyOnce;
    delivery.redelivered = delivery.accepted = true;
    from = *at + 1;
  }
  return taken;
}

void Inbox::deliver(std::vector<Delivery>& out) {
  const PartitionReader& reader = *reading_->reader;
  int64_t& cursor = reading_->cursor;
  uint32_t attributes = reader.attributes();
  Delivery& delivery = out.emplace_back();
  delivery.record = reader.record();
  delivery.id = cursor;
  delivery.guarantee = guaranteeOf(attributes);
  delivery.retain = retainOf(attributes);
  delivery.redelivered = cursor < sentEnd_;
  delivery.accepted =
      delivery.guarantee == DeliveryGuarantee::kExactlyOnce && hasAccepted(cursor);
  if (uint32_t id = reader.subscriptionId(); id != 0) delivery.subscriptionIds.push_back(id);
  delivery.place = session_.placeOf(cursor, reader.place().position, reader.index());
  if (!delivery.accepted && mayHaveBegun(cursor) && outlived()) {
    // Its packet identifier may be with the client: it is released, no more.
    delivery.accepted = true;
    session_.countDropped(DropReason::kTooOld, 1);
  }
  if (delivery.guarantee == DeliveryGuarantee::kAtMostOnce) {
    // Of a replay: nobody will acknowledge it.
    delivery.id = -1;
    state_.acknowledged.add(cursor);
    changed();
  }
  ++cursor;
  reading_->taken = std::max(reading_->taken, cursor);
}

/// Whether what the reader has found has waited for too long. State (retained), and what was asked
/// for because it is old (a replay), doesn't age.
bool Inbox::outlived() const {
  const PartitionReader& reader = *reading_->reader;
  const int64_t most = core().options.inboxMillis;
  if (most == 0 || retainOf(reader.attributes())) return false;
  const int64_t published = reader.record()->record.timestampMs;
  if (published < 0 || core().clock.wallMillis() - published <= most) return false;
  return !session_.placeOf(reading_->cursor, reader.place().position, reader.index());
}

/// An exactly-once delivery that the client may know under its packet identifier.
bool Inbox::mayHaveBegun(int64_t id) const {
  return (id < inFlightEnd() || hasAccepted(id)) &&
         guaranteeOf(reading_->reader->attributes()) == DeliveryGuarantee::kExactlyOnce;
}

bool Inbox::hasAccepted(int64_t id) const {
  return std::binary_search(state_.accepted->begin(), state_.accepted->end(), id);
}

void Inbox::skip(int64_t id) {
  core().metrics.dropped(DropReason::kDamaged).add();
  state_.acknowledged.add(id);
  reading_->cursor = std::max(reading_->cursor, id + 1);
  changed();
}

int64_t Inbox::waiting() const {
  auto ends = core().store.ends(partition_);
  if (!ends) return 0;
  int64_t from = std::max(ends->logStart.value(), state_.acknowledged.floor());
  return std::max<int64_t>(0, ends->end.value() - from - state_.acknowledged.above());
}

int64_t Inbox::waitingBytes() const {
  if (waiting() == 0) return 0;
  const int64_t all = core().store.octetsFrom(partition_, Offset(acknowledgedUpTo()));
  return std::max<int64_t>(0, all - acknowledgedOctets(INT64_MAX));
}

/// What is dropped below `end` may be with the client at QoS 2. Its packet identifier will be that
/// of another message some day, which the client would take for a repeat: it has to be released
/// first.
void Inbox::keepReleases(int64_t end) {
  end = std::min(end, std::max(inFlightEnd(), reading_ ? reading_->taken : 0));
  if (end <= state_.acknowledged.floor()) return;
  PartitionReader reader(core(), partition_);
  for (int64_t id = state_.acknowledged.floor(); id < end; ++id) {
    if (state_.acknowledged.contains(id)) continue;
    if (std::ssize(*state_.accepted) >= kMostReleases) return;
    const bool found = reader.find(session_.home(), id) == PartitionReader::Found::kRecord;
    if (found && guaranteeOf(reader.attributes()) == DeliveryGuarantee::kExactlyOnce) {
      addAccepted(id);
    }
  }
}

void Inbox::addAccepted(int64_t id) {
  std::vector<int64_t>& accepted = state_.accepted.write();
  auto at = std::lower_bound(accepted.begin(), accepted.end(), id);
  if (at == accepted.end() || *at != id) accepted.insert(at, id);
}

bool Inbox::eraseAccepted(int64_t id) {
  if (state_.accepted->empty()) return false;
  std::vector<int64_t>& accepted = state_.accepted.write();
  auto at = std::lower_bound(accepted.begin(), accepted.end(), id);
  const bool found = at != accepted.end() && *at == id;
  if (found) accepted.erase(at);
  if (accepted.empty()) state_.accepted.reset();
  return found;
}

// ---------------------------------------------------------------- acknowledging

void Inbox::acknowledge(int64_t id) {
  if (id < state_.acknowledged.floor()) {  // dropped, and released by now
    if (eraseAccepted(id)) changed();
    return;
  }
  if (id >= reading_->taken || !state_.acknowledged.add(id)) return;
  eraseAccepted(id);
  changed();
}

void Inbox::changed() {
  const RangeSet& acknowledged = state_.acknowledged;
  used_.store(acknowledged.floor() + acknowledged.above(), std::memory_order_relaxed);
  lighten();
  floorMoved_ = true;
  dirty_ = true;
  journalLazily();
}

void Inbox::accept(int64_t id, std::move_only_function<void(Result<>)> done) {
  if (id >= 0 && id < reading_->taken && !state_.acknowledged.contains(id)) addAccepted(id);
  journalAndTell(std::move(done));
}

void Inbox::forgetAccepted(std::move_only_function<void(Result<>)> done) {
  state_.accepted.reset();
  journalAndTell(std::move(done));
}

void Inbox::journalAndTell(std::move_only_function<void(Result<>)> done) {
  accepts_.write().push_back({&session_.home(), std::move(done)});
  dirty_ = true;
  if (!acceptsOnTheirWay_) journalAccepted();
}

std::weak_ptr<Session> Inbox::alive() const {
  return session_.weak_from_this();
}

void Inbox::addChanges(storage::AppendRequest& request) {
  if (!dirty_) return;
  request.state.push_back({storage::StateTable::kInbox, inboxKey(partition_), encodeInbox(state_)});
  const int64_t floor = state_.acknowledged.floor();
  if (floorMoved_ && floor > 0) {
    request.state.push_back(storage::logStartMoved(partition_, Offset(floor)));
  }
  dirty_ = floorMoved_ = false;
}

void Inbox::changesFailed() {
  dirty_ = floorMoved_ = true;  // what the journal has is not known any more
}

Result<> Inbox::append(storage::Durability durability,
                       std::move_only_function<void(const Result<storage::Appended>&)> done) {
  storage::AppendRequest request;
  dirty_ = true;
  addChanges(request);
  request.durability = durability;
  request.sink = &session_.home().sink;
  request.done = std::move(done);
  auto appended = core().store.append(std::move(request));
  if (appended) return {};
  changesFailed();
  return std::unexpected(appended.error());
}

// Completions come to the worker that appended; if the session lives elsewhere by then, they pass
// on what they have to say. The flags are the session's own worker's.
void Inbox::journalLazily() {
  if (!dirty_ || lazyOnItsWay_ || acceptsOnTheirWay_ ||
      session_.phase() == Session::Phase::kEnded) {
    return;
  }
  // The session may be gone when it completes.
  auto done = [weak = alive(), &core = core(), this](const Result<storage::Appended>& result) {
    if (!result) ++core.writeFailures;
    bool failed = !result;
    auto finish = [this, failed] {
      lazyOnItsWay_ = false;
      if (failed) return changesFailed();  // with the next acknowledgement
      journalLazily();
    };
    if (auto session = weak.lock()) session->onHome(std::move(finish));
  };
  lazyOnItsWay_ = append(storage::Durability::kUnwaited, std::move(done)).has_value();
}

void Inbox::journalAccepted() {
  auto told = std::make_shared<std::vector<Accept>>(std::move(accepts_.write()));
  accepts_.reset();
  if (session_.phase() == Session::Phase::kEnded) {
    return tell(*told, fail(ErrorKind::kNotFound, "the session has ended"));
  }
  auto done = [weak = alive(), &core = core(), this,
               told](const Result<storage::Appended>& result) {
    Result<> outcome;
    if (!result) {
      ++core.writeFailures;
      outcome = std::unexpected(result.error());
    }
    tell(*told, outcome);
    auto finish = [this, failed = !result.has_value()] {
      acceptsOnTheirWay_ = false;
      if (failed) changesFailed();
      if (!accepts_->empty()) return journalAccepted();
      if (!failed) journalLazily();
    };
    if (auto session = weak.lock()) session->onHome(std::move(finish));
  };
  Result<> appended = append(storage::Durability::kSynced, std::move(done));
  acceptsOnTheirWay_ = appended.has_value();
  if (appended) return;
  // Never from inside the caller's call.
  session_.home().later([told, error = appended.error()] { tell(*told, std::unexpected(error)); });
}

void Inbox::tell(std::vector<Accept>& accepts, const Result<>& result) {
  for (Accept& one : accepts) {
    if (Dispatcher::current() == &one.caller->dispatcher) {
      one.done(result);
    } else {
      one.caller->post([done = std::move(one.done), result]() mutable { done(result); });
    }
  }
}

void Inbox::flush() {
  if (!dirty_ || session_.phase() == Session::Phase::kEnded) return;
  if (auto done = append(storage::Durability::kUnwaited, nullptr); !done) {
    logWarning(fmt::format("session '{}': acknowledgements can't be journaled: {}",
                           session_.clientId(), done.error().text));
  }
}

}  // namespace polylog::router
