#include "router/inbox.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/base/log.h"
#include "router/address_tags.h"
#include "router/session.h"

namespace polylog::router {

Inbox::Inbox(Core& core, Session& session, PartitionId partition)
    : core_(core), session_(session), partition_(partition) {}

void Inbox::restore(InboxState state) {
  state_ = std::move(state);
  cursor_ = journaledFloor_ = state_.acknowledged.floor();
  taken_ = cursor_;
  floor_.store(cursor_, std::memory_order_relaxed);
}

void Inbox::rewind() {
  sentEnd_ = std::max(sentEnd_, taken_);
  cursor_ = state_.acknowledged.floor();
  reader_ = nullptr;
}

void Inbox::letGo() { reader_ = nullptr; }

// ---------------------------------------------------------------- reading

Inbox::Taken Inbox::take(Worker& worker, size_t max, int64_t idLimit, std::vector<Delivery>& out) {
  using Found = PartitionReader::Found;
  size_t taken = 0;
  while (taken < max && cursor_ < idLimit) {
    if (state_.acknowledged.contains(cursor_)) {
      ++cursor_;
      continue;
    }
    if (!reader_) reader_ = std::make_unique<PartitionReader>(core_, partition_);
    switch (reader_->find(worker, cursor_)) {
      case Found::kRecord:
        deliver(out);
        ++taken;
        break;
      case Found::kEnd:
      case Found::kDeleted: return Taken::kAtEnd;
      case Found::kGone:
        cursor_ = reader_->logStart();
        state_.acknowledged.raiseFloor(cursor_);
        changed();
        break;
      case Found::kGap:
        while (cursor_ < reader_->gapEnd()) state_.acknowledged.add(cursor_++);
        changed();
        break;
      case Found::kDamaged:
        logError(fmt::format("session '{}': messages {} to {} are damaged and dropped: {}",
                             session_.clientId(), cursor_, reader_->damagedEnd() - 1,
                             reader_->error().text));
        while (cursor_ < reader_->damagedEnd()) skip(cursor_);
        break;
      case Found::kFailed:
        logError(fmt::format("session '{}': its inbox can't be read: {}", session_.clientId(),
                             reader_->error().text));
        return Taken::kFailed;
    }
  }
  return Taken::kEnough;
}

void Inbox::deliver(std::vector<Delivery>& out) {
  uint32_t attributes = reader_->attributes();
  Delivery& delivery = out.emplace_back();
  delivery.record = reader_->record();
  delivery.id = cursor_;
  delivery.guarantee = guaranteeOf(attributes);
  delivery.retain = retainOf(attributes);
  delivery.redelivered = cursor_ < sentEnd_;
  delivery.accepted = delivery.guarantee == DeliveryGuarantee::kExactlyOnce &&
                      std::binary_search(state_.accepted.begin(), state_.accepted.end(), cursor_);
  if (uint32_t id = reader_->subscriptionId(); id != 0) delivery.subscriptionIds.push_back(id);
  ++cursor_;
  taken_ = std::max(taken_, cursor_);
}

void Inbox::skip(int64_t id) {
  core_.metrics.dropped(DropReason::kDamaged).add();
  state_.acknowledged.add(id);
  cursor_ = std::max(cursor_, id + 1);
  changed();
}

int64_t Inbox::waiting() const {
  auto ends = core_.store.ends(partition_);
  if (!ends) return 0;
  int64_t from = std::max(ends->logStart.value(), state_.acknowledged.floor());
  return std::max<int64_t>(0, ends->end.value() - from - state_.acknowledged.above());
}

int64_t Inbox::trim(int64_t most) {
  auto ends = core_.store.ends(partition_);
  if (!ends) return 0;
  int64_t floor = std::min(ends->end.value() - most, ends->highWatermark.value());
  int64_t before = state_.acknowledged.floor();
  if (floor <= before) return 0;
  int64_t acknowledged = 0;
  for (const auto& [first, end] : state_.acknowledged.ranges()) {
    acknowledged += std::max<int64_t>(0, std::min(end, floor) - first);
  }
  state_.acknowledged.raiseFloor(floor);
  std::erase_if(state_.accepted, [floor](int64_t id) { return id < floor; });
  cursor_ = std::max(cursor_, floor);
  changed();
  return floor - before - acknowledged;
}

// ---------------------------------------------------------------- acknowledging

void Inbox::acknowledge(int64_t id) {
  if (id < 0 || id >= taken_ || !state_.acknowledged.add(id)) return;
  auto at = std::lower_bound(state_.accepted.begin(), state_.accepted.end(), id);
  if (at != state_.accepted.end() && *at == id) state_.accepted.erase(at);
  changed();
}

void Inbox::changed() {
  floor_.store(state_.acknowledged.floor(), std::memory_order_relaxed);
  dirty_ = true;
  journalLazily();
}

void Inbox::accept(int64_t id, std::move_only_function<void(Result<>)> done) {
  if (id >= 0 && id < taken_ && !state_.acknowledged.contains(id)) {
    auto at = std::lower_bound(state_.accepted.begin(), state_.accepted.end(), id);
    if (at == state_.accepted.end() || *at != id) state_.accepted.insert(at, id);
  }
  accepts_.push_back({&session_.home(), std::move(done)});
  dirty_ = true;
  if (!acceptsOnTheirWay_) journalAccepted();
}

std::weak_ptr<Session> Inbox::alive() const { return session_.weak_from_this(); }

void Inbox::addChanges(storage::AppendRequest& request) {
  if (!dirty_) return;
  request.state.push_back(
      {storage::StateTable::kInbox, inboxKey(partition_), encodeInbox(state_)});
  int64_t floor = state_.acknowledged.floor();
  if (floor > journaledFloor_) {
    request.state.push_back(storage::logStartMoved(partition_, Offset(floor)));
  }
  dirty_ = false;
  journaledFloor_ = floor;
}

void Inbox::changesFailed() {
  dirty_ = true;
  journaledFloor_ = 0;  // what the journal has is not known any more
}

Result<> Inbox::append(storage::Durability durability,
                       std::move_only_function<void(const Result<storage::Appended>&)> done) {
  storage::AppendRequest request;
  dirty_ = true;
  addChanges(request);
  request.durability = durability;
  request.sink = &session_.home().sink;
  request.done = std::move(done);
  auto appended = core_.store.append(std::move(request));
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
  auto done = [weak = alive(), &core = core_, this](const Result<storage::Appended>& result) {
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
  auto told = std::make_shared<std::vector<Accept>>(std::exchange(accepts_, {}));
  if (session_.phase() == Session::Phase::kEnded) {
    return tell(*told, fail(ErrorKind::kNotFound, "the session has ended"));
  }
  auto done = [weak = alive(), &core = core_, this, told](const Result<storage::Appended>& result) {
    Result<> outcome;
    if (!result) {
      ++core.writeFailures;
      outcome = std::unexpected(result.error());
    }
    tell(*told, outcome);
    auto finish = [this, failed = !result.has_value()] {
      acceptsOnTheirWay_ = false;
      if (failed) changesFailed();
      if (!accepts_.empty()) return journalAccepted();
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
