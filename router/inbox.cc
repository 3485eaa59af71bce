#include "router/inbox.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/base/log.h"
#include "router/address_tags.h"
#include "router/batch_cache.h"
#include "router/session.h"

namespace polylog::router {
namespace {

/// Octets read at a time: enough that small records come by the hundred, little enough that ten
/// thousand sessions may read at once.
constexpr size_t kReadBytes = 64U << 10;

}  // namespace

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
  size_t taken = 0;
  while (taken < max && cursor_ < idLimit) {
    if (state_.acknowledged.contains(cursor_)) {
      ++cursor_;
      continue;
    }
    if (!reader_) reader_ = std::make_unique<Reader>();
    auto& ahead = reader_->ahead;
    while (!ahead.empty() && ahead.front().baseOffset.value() + ahead.front().count <= cursor_) {
      passFront();
    }
    if (ahead.empty() || ahead.front().baseOffset.value() > cursor_) {
      ahead.clear();
      reader_->block = nullptr;
      switch (load()) {
        case Load::kGot:
        case Load::kAgain: continue;
        case Load::kEnd: return Taken::kAtEnd;
        case Load::kFailed: return Taken::kFailed;
      }
    }
    if (!openFront(worker)) continue;
    const storage::ReadBatch& front = ahead.front();
    size_t index = front.firstRecord + static_cast<size_t>(cursor_ - front.baseOffset.value());
    if (index >= reader_->block->records.size()) {
      skip(cursor_);
      continue;
    }
    Delivery& delivery = out.emplace_back();
    delivery.record = recordOf(reader_->block, index);
    delivery.id = cursor_;
    delivery.guarantee = guaranteeOf(front.attributes);
    delivery.retain = retainOf(front.attributes);
    delivery.redelivered = cursor_ < sentEnd_;
    delivery.accepted = delivery.guarantee == DeliveryGuarantee::kExactlyOnce &&
                        std::binary_search(state_.accepted.begin(), state_.accepted.end(), cursor_);
    if (reader_->subscriptionId != 0) delivery.subscriptionIds.push_back(reader_->subscriptionId);
    ++cursor_;
    ++taken;
    taken_ = std::max(taken_, cursor_);
  }
  return Taken::kEnough;
}

void Inbox::passFront() {
  reader_->ahead.pop_front();
  reader_->block = nullptr;
}

bool Inbox::openFront(Worker& worker) {
  const storage::ReadBatch& front = reader_->ahead.front();
  if (reader_->block) return true;
  if (uint32_t tag = tagOf(front.attributes); !reader_->tagKnown || reader_->tag != tag) {
    AddressTag meaning = core_.tags->find(tag);
    reader_->tag = tag;
    reader_->tagKnown = true;
    reader_->topic = std::move(meaning.topic);
    reader_->subscriptionId = meaning.subscriptionId;
    reader_->origin = meaning.origin;
  }
  BlockSource source;
  source.stored = true;
  source.place = front.place;
  source.partition = partition_;
  source.base = front.baseOffset;
  source.topic = reader_->topic;
  source.origin = reader_->origin;
  Result<RoutedBlockRef> block = core_.batches->open(worker, front.batch, std::move(source));
  if (block) {
    reader_->block = std::move(*block);
    return true;
  }
  logError(fmt::format("session '{}': a message can't be opened and is dropped: {}",
                       session_.clientId(), block.error().text));
  int64_t end = front.baseOffset.value() + front.count;
  while (cursor_ < end) skip(cursor_);
  return false;
}

Inbox::Load Inbox::load() {
  auto read = core_.store.read(partition_, Offset(cursor_), kReadBytes);
  if (read) {
    if (read->empty()) return Load::kEnd;
    for (auto& batch : *read) reader_->ahead.push_back(std::move(batch));
    const storage::ReadBatch& first = reader_->ahead.front();
    // Never ahead of what was asked for, but a gap must not hold the client up.
    while (cursor_ < first.baseOffset.value()) skip(cursor_);
    return Load::kGot;
  }
  switch (read.error().kind) {
    case ErrorKind::kOutOfRange: {
      auto ends = core_.store.ends(partition_);
      if (!ends || ends->logStart.value() <= cursor_) return Load::kEnd;
      state_.acknowledged.raiseFloor(ends->logStart.value());
      cursor_ = ends->logStart.value();
      changed();
      return Load::kAgain;
    }
    case ErrorKind::kCorrupt:
      logError(fmt::format("session '{}': message {} is damaged and dropped: {}",
                           session_.clientId(), cursor_, read.error().text));
      skip(cursor_);
      return Load::kAgain;
    case ErrorKind::kNotFound:
    case ErrorKind::kShutdown: return Load::kEnd;
    default:
      logError(fmt::format("session '{}': its inbox can't be read: {}", session_.clientId(),
                           read.error().text));
      return Load::kFailed;
  }
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

void Inbox::accept(int64_t id, AcceptDone done) {
  if (id >= 0 && id < taken_ && !state_.acknowledged.contains(id)) {
    auto at = std::lower_bound(state_.accepted.begin(), state_.accepted.end(), id);
    if (at == state_.accepted.end() || *at != id) state_.accepted.insert(at, id);
  }
  accepts_.push_back(std::move(done));
  dirty_ = true;
  if (!acceptsOnTheirWay_) journalAccepted();
}

std::weak_ptr<Session> Inbox::alive() const { return session_.weak_from_this(); }

Result<> Inbox::append(storage::Durability durability,
                       std::move_only_function<void(const Result<storage::Appended>&)> done) {
  storage::AppendRequest request;
  request.state.push_back(
      {storage::StateTable::kInbox, inboxKey(partition_), encodeInbox(state_)});
  int64_t floor = state_.acknowledged.floor();
  if (floor > journaledFloor_) {
    request.state.push_back(storage::logStartMoved(partition_, Offset(floor)));
  }
  request.durability = durability;
  request.sink = &session_.home().sink;
  request.done = std::move(done);
  auto appended = core_.store.append(std::move(request));
  if (!appended) return std::unexpected(appended.error());
  dirty_ = false;
  journaledFloor_ = floor;
  return {};
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
      if (failed) {
        dirty_ = true;
        journaledFloor_ = 0;  // what the journal has is not known any more
        return;               // with the next acknowledgement
      }
      journalLazily();
    };
    if (auto session = weak.lock()) session->onHome(std::move(finish));
  };
  lazyOnItsWay_ = append(storage::Durability::kUnwaited, std::move(done)).has_value();
}

void Inbox::journalAccepted() {
  auto told = std::make_shared<std::vector<AcceptDone>>(std::exchange(accepts_, {}));
  auto tell = [told](const Result<>& result) {
    for (AcceptDone& done : *told) done(result);
  };
  auto done = [weak = alive(), &core = core_, this, tell](const Result<storage::Appended>& result) {
    Result<> outcome;
    if (!result) {
      ++core.writeFailures;
      outcome = std::unexpected(result.error());
    }
    tell(outcome);
    auto finish = [this, failed = !result.has_value()] {
      acceptsOnTheirWay_ = false;
      if (failed) {
        dirty_ = true;
        journaledFloor_ = 0;
      }
      if (!accepts_.empty()) return journalAccepted();
      if (!failed) journalLazily();
    };
    if (auto session = weak.lock()) session->onHome(std::move(finish));
  };
  Result<> appended = append(storage::Durability::kSynced, std::move(done));
  acceptsOnTheirWay_ = appended.has_value();
  if (!appended) {
    session_.home().later([tell, error = appended.error()] { tell(std::unexpected(error)); });
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
