#include "router/queue.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/base/log.h"
#include "router/address_tags.h"
#include "router/state_codec.h"

namespace polylog::router {
namespace {

/// Deliveries in one go, before the worker's other work has its turn.
constexpr int kDeliveriesAtATime = 1024;
constexpr int64_t kRetryMicros = 1'000'000;

}  // namespace

// ---------------------------------------------------------------- consumers

bool Consumer::tryTake(int64_t octets) {
  if (!flight.tryTake(octets)) return false;
  if (!acknowledges || !window || window->tryTake()) {
    if (!acknowledges || !channelWindow || channelWindow->tryTake()) {
      // The connection's comes last, so that it is never taken and given back: other workers'
      // consumers are refused meanwhile, and giving back wakes nobody.
      if (!connectionFlight || connectionFlight->tryTake(octets)) return true;
      if (acknowledges && channelWindow) channelWindow->give(1);
    }
    if (acknowledges && window) window->give(1);
  }
  flight.give(1, octets);
  return false;
}

bool Consumer::reserve(int64_t octets) {
  if (tryTake(octets)) return true;
  // Asked once more, since room may have been made before the flag could be seen.
  blocked = true;
  if (!tryTake(octets)) return false;
  blocked = false;
  return true;
}

void Consumer::giveBack(std::span<const QueueDelivery> deliveries) {
  auto count = static_cast<int64_t>(deliveries.size());
  int64_t octets = 0;
  for (const QueueDelivery& delivery : deliveries) octets += delivery.octets;
  if (connectionFlight) connectionFlight->give(count, octets);
  if (acknowledges && window) window->give(count);
  if (acknowledges && channelWindow) channelWindow->give(count);
  if (returned) returned();
}

// ---------------------------------------------------------------- any worker

Queue::Queue(Core& core, Worker& home, QueueSpec spec, PartitionId partition, uint64_t owner)
    : core_(core), home_(home), spec_(std::move(spec)), partition_(partition), owner_(owner) {}

Queue::~Queue() = default;

QueueInfo Queue::info() const {
  QueueInfo info;
  info.spec = spec_;
  const int64_t leaving = leaving_.load();  // before the count, which falls first
  info.consumers = std::max<int64_t>(0, consumerCount_.load() - leaving);
  info.unacknowledged = std::max<int64_t>(0, out_.load());
  if (auto ends = core_.store.ends(partition_)) {
    info.ready =
        std::max<int64_t>(0, ends->highWatermark.value() - used_.load() - info.unacknowledged);
  }
  return info;
}

void Queue::onHome(Task task) {
  core_.onWorker(home_, std::move(task));
}

void Queue::settle(std::span<const Settlement> settlements) {
  onHome([self = shared_from_this(),
          kept = std::vector<Settlement>(settlements.begin(), settlements.end())] {
    self->apply(kept);
  });
}

void Queue::resume(const ConsumerRef& consumer) {
  if (!consumer->blocked.load()) return;
  onHome([self = shared_from_this(), consumer] {
    if (consumer->gone || !consumer->blocked.exchange(false)) return;
    self->ready_.push_back(consumer);
    self->pump();
  });
}

void Queue::giveBack(std::vector<QueueDelivery> deliveries) {
  onHome([self = shared_from_this(), kept = std::move(deliveries)] {
    for (const QueueDelivery& delivery : kept) {
      --self->out_;
      self->again_.erase(delivery.id);
      self->putBack(delivery.id, delivery.redelivered);
    }
    self->unblock();
    self->pump();
  });
}

// ---------------------------------------------------------------- on the home worker

Result<> Queue::addConsumer(const ConsumerRef& consumer) {
  if (ended_) return fail(ErrorKind::kNotFound, "no queue '" + spec_.name + "'");
  bool taken = std::any_of(consumers_.begin(), consumers_.end(),
                           [](const ConsumerRef& other) { return other->exclusive; });
  if (taken || (consumer->exclusive && !consumers_.empty())) {
    return fail(ErrorKind::kInUse, "queue '" + spec_.name + "' in exclusive use");
  }
  consumers_.push_back(consumer);
  ready_.push_back(consumer);
  bringBack();
  consumerCount_ = static_cast<int64_t>(consumers_.size());
  pumpSoon();
  return {};
}

bool Queue::removeConsumer(const ConsumerRef& consumer) {
  if (consumer->gone) return false;
  consumer->gone = true;
  std::erase(consumers_, consumer);
  std::erase(ready_, consumer);
  if (sticky_ == consumer) sticky_ = nullptr;
  consumerCount_ = static_cast<int64_t>(consumers_.size());
  if (consumers_.empty()) unwatch();
  if (spec_.kind == QueueKind::kShared) pumpSoon();  // whose turn it was may have been its own
  return consumers_.empty() && !ended_;
}

std::optional<QueueDelivery> Queue::takeOne() {
  Next next;
  if (ended_ || !findNext(next)) return std::nullopt;
  return take(next);
}

int64_t Queue::purge() {
  auto ends = core_.store.ends(partition_);
  if (!ends || ended_) return 0;
  int64_t gone = 0;
  int64_t end = ends->highWatermark.value();
  for (int64_t id = cursor_; id < end; ++id) gone += acks_.add(id) ? 1 : 0;
  bringBack();
  for (const auto& [id, before] : returned_) gone += acks_.add(id) ? 1 : 0;
  returned_.clear();
  cursor_ = std::max(cursor_, end);
  used_ = acks_.floor() + acks_.above();
  journal();  // now: the caller waits for what it appends next
  return gone;
}

void Queue::end() {
  if (ended_) return;
  ended_ = true;
  unwatch();
  retry_ = nullptr;
  for (const ConsumerRef& consumer : std::exchange(consumers_, {})) cancel(consumer);
  ready_.clear();
  sticky_ = nullptr;
  toMove_.clear();
  returned_.clear();
  kept_.clear();
  again_.clear();
  consumerCount_ = 0;
}

/// The right may have been taken away since it began.
bool Queue::mayRead(const Consumer& consumer) const {
  if (consumer.reader == nullptr || spec_.kind == QueueKind::kShared) return true;
  return core_.authorizer.permits(consumer.reader, Operation::kRead,
                                  {ResourceKind::kQueue, spec_.name});
}

void Queue::cancel(const ConsumerRef& consumer) {
  std::erase(consumers_, consumer);
  consumerCount_ = static_cast<int64_t>(consumers_.size());
  consumer->gone = true;
  core_.onWorker(consumer->worker, [consumer] {
    if (QueueListener* listener = std::exchange(consumer->listener, nullptr)) {
      listener->onCancelled();
    }
  });
}

void Queue::appendDeletion(std::vector<storage::StateChange>& state) const {
  state.push_back(storage::partitionDeleted(partition_));
  state.push_back({storage::StateTable::kQueue, spec_.name, std::nullopt});
  for (int64_t chunk : acks_.journaledChunks()) {
    state.push_back({storage::StateTable::kQueueAck, queueAckKey(partition_, chunk), std::nullopt});
  }
}

// ---------------------------------------------------------------- dispatching

void Queue::pumpSoon() {
  if (pumpDue_ || ended_) return;
  pumpDue_ = true;
  home_.later([self = shared_from_this()] {
    self->pumpDue_ = false;
    self->pump();
  });
}

void Queue::pump() {
  std::vector<ConsumerRef> given;
  int left = kDeliveriesAtATime;
  if (!kept_.empty() && keptUnder_ != core_.authorizer.generation()) bringBack();
  while (!ended_ && !ready_.empty() && left > 0) {
    Next next;
    if (!findNext(next)) break;
    RoutedRecordRef record = next.reader->record();
    auto turn = whoseTurn(*record);
    if (turn == ready_.end()) {
      if (spec_.kind != QueueKind::kShared || someoneMayHave(*record)) break;  // until it has room
      const bool room = static_cast<int64_t>(kept_.size()) < core_.options.inboxRecords;
      if (room && absentMayHave(*record)) {
        keep(next);
      } else {
        deny(next);
      }
      --left;
      continue;
    }
    ConsumerRef consumer = std::move(*turn);
    ready_.erase(turn);
    if (!mayRead(*consumer)) {
      cancel(consumer);
      continue;
    }
    if (!consumer->reserve(static_cast<int64_t>(next.reader->bytes()))) continue;
    if (movesTo(*consumer, record->record)) {
      const PartitionReader& reader = *next.reader;
      toMove_.push_back({consumer, {}, reader.place(), reader.index(), reader.attributes()});
      toMove_.back().delivery = take(next);
    } else {
      if (consumer->batch.empty()) given.push_back(consumer);
      consumer->batch.push_back(take(next));
    }
    ready_.push_back(std::move(consumer));
    --left;
  }
  for (const ConsumerRef& consumer : given) hand(consumer);
  move();
  if (left == 0) pumpSoon();
}

/// The next that waits, its record loaded. False: none, or the disk does not give it now; the queue
/// wakes by itself.
bool Queue::findNext(Next& next) {
  while (true) {
    if (!returned_.empty()) {
      next.id = returned_.begin()->first;
      next.redelivered = returned_.begin()->second;
      next.fromReturned = true;
    } else {
      cursor_ = std::max(cursor_, acks_.floor());
      while (acks_.contains(cursor_)) ++cursor_;
      next.id = cursor_;
      next.redelivered = cursor_ < sentEnd_;
      next.fromReturned = false;
    }
    switch (look(next)) {
      case PartitionReader::Found::kRecord: return true;
      case PartitionReader::Found::kEnd: watch(); return false;
      case PartitionReader::Found::kGone:
        // Only what is used up goes; the journal may have known it before we did.
        acks_.raiseFloor(next.reader->logStart());
        returned_.erase(returned_.begin(), returned_.lower_bound(acks_.floor()));
        changed();
        break;
      case PartitionReader::Found::kGap: {
        // Used up: journaled as such before it went.
        int64_t end = next.fromReturned ? next.id + 1 : next.reader->gapEnd();
        for (int64_t id = next.id; id < end; ++id) {
          acks_.add(id);
          returned_.erase(id);
        }
        changed();
        break;
      }
      case PartitionReader::Found::kDamaged:
        skip(next, std::max(next.id + 1, next.reader->damagedEnd()),
             next.reader->error().text.c_str());
        break;
      case PartitionReader::Found::kDeleted: return false;
      case PartitionReader::Found::kFailed:
        logError(
            fmt::format("queue '{}' can't be read: {}", spec_.name, next.reader->error().text));
        retrySoon();
        return false;
    }
  }
}

void Queue::retrySoon() {
  if (core_.stopping.load() || ended_) return;
  if (!retry_) retry_ = home_.dispatcher.makeTimer([this] { pump(); });
  retry_->start(kRetryMicros);
}

PartitionReader::Found Queue::look(Next& next) {
  auto& reader = next.fromReturned ? returnedReader_ : reader_;
  if (!reader) reader = std::make_unique<PartitionReader>(core_, partition_);
  next.reader = reader.get();
  return reader->find(home_, next.id);
}

/// Nobody can have these any more.
void Queue::skip(const Next& next, int64_t end, const char* why) {
  if (next.fromReturned) end = next.id + 1;
  logError(fmt::format("queue '{}': messages {} to {} are lost and skipped: {}", spec_.name,
                       next.id, end - 1, why));
  for (int64_t id = next.id; id < end; ++id) {
    if (acks_.add(id)) core_.metrics.dropped(DropReason::kDamaged).add();
    returned_.erase(id);
  }
  if (!next.fromReturned) cursor_ = std::max(cursor_, end);
  changed();
}

/// Out with a consumer, until it is settled: by the client, or for one that doesn't acknowledge as
/// it is handed over.
QueueDelivery Queue::take(const Next& next) {
  QueueDelivery delivery;
  delivery.record = next.reader->record();
  delivery.id = next.id;
  delivery.octets = static_cast<int64_t>(next.reader->bytes());
  delivery.redelivered = next.redelivered;
  if (next.fromReturned) {
    returned_.erase(next.id);
  } else {
    ++cursor_;
  }
  ++out_;
  if (next.redelivered && next.id >= sentEnd_) again_.insert(next.id);
  if (spec_.kind != QueueKind::kShared) {  // whose members count what they take
    core_.metrics.recordsOut(Protocol::kAmqp).add();
    core_.metrics.bytesOut(Protocol::kAmqp).add(delivery.octets);
  }
  return delivery;
}

void Queue::hand(const ConsumerRef& consumer) {
  auto deliver = [self = shared_from_this(), consumer,
                  batch = std::exchange(consumer->batch, {})]() mutable {
    if (consumer->listener == nullptr) {
      consumer->giveBack(batch);
      return self->giveBack(std::move(batch));
    }
    if (consumer->acknowledges) return consumer->listener->onDeliveries(batch);
    std::vector<Settlement> used;
    used.reserve(batch.size());
    for (const QueueDelivery& delivery : batch) used.push_back({delivery.id, Disposition::kAccept});
    consumer->listener->onDeliveries(batch);
    self->settle(used);
  };
  core_.onWorker(consumer->worker, std::move(deliver));
}

// ---------------------------------------------------------------- settling

void Queue::apply(std::span<const Settlement> settlements) {
  if (ended_) return;
  for (const Settlement& settlement : settlements) {
    --out_;
    bool before = settlement.id < sentEnd_ || again_.erase(settlement.id) > 0;
    switch (settlement.disposition) {
      case Disposition::kAccept:
      case Disposition::kReject: acks_.add(settlement.id); break;
      case Disposition::kRequeue: putBack(settlement.id, true); break;
      case Disposition::kReturn: putBack(settlement.id, before); break;
    }
  }
  changed();
  unblock();
  pump();
}

void Queue::putBack(int64_t id, bool redelivered) {
  if (!acks_.contains(id)) returned_.emplace(id, redelivered);
}

/// Windows have been given to: whoever waited may try again.
void Queue::unblock() {
  for (const ConsumerRef& consumer : consumers_) {
    if (consumer->blocked.exchange(false)) ready_.push_back(consumer);
  }
}

void Queue::watch() {
  if (watching_ || ready_.empty() || ended_) return;
  watching_ = true;
  watchId_ = core_.store.watch(partition_, Offset(cursor_), home_.sink, [weak = weak_from_this()] {
    auto self = weak.lock();
    if (!self || !self->watching_) return;
    self->watching_ = false;
    self->pump();
  });
}

void Queue::unwatch() {
  if (!watching_) return;
  watching_ = false;
  core_.store.unwatch(partition_, watchId_);
}

// ---------------------------------------------------------------- journaling

void Queue::changed() {
  used_ = acks_.floor() + acks_.above();
  dirty_ = true;
  if (!journalOnItsWay_ && !ended_) journal();
}

void Queue::journal() {
  storage::AppendRequest request;
  if (acks_.floor() > journaledFloor_) {
    request.state.push_back(storage::logStartMoved(partition_, Offset(acks_.floor())));
  }
  // A queue that goes with the broker needs no more than its space back.
  if (spec_.durable) {
    acks_.takeChanged([&](int64_t chunk, std::optional<std::string> octets) {
      request.state.push_back(
          {storage::StateTable::kQueueAck, queueAckKey(partition_, chunk), std::move(octets)});
    });
  }
  dirty_ = false;
  if (request.state.empty()) return;
  int64_t floor = acks_.floor();
  request.durability = storage::Durability::kUnwaited;
  request.sink = &home_.sink;
  request.done = [weak = weak_from_this(), &core = core_](const Result<storage::Appended>& result) {
    if (!result) ++core.writeFailures;
    if (auto self = weak.lock()) self->journaled(result.has_value());
  };
  if (core_.store.append(std::move(request))) {
    journalOnItsWay_ = true;
    journaledFloor_ = floor;
  } else {
    journaled(false);
  }
}

void Queue::journaled(bool ok) {
  journalOnItsWay_ = false;
  if (!ok) {
    acks_.allChanged();
    journaledFloor_ = 0;
    dirty_ = true;  // with the next acknowledgement, or when the router stops
    if (!toMove_.empty()) retrySoon();
    return;
  }
  move();
  if (dirty_ && !journalOnItsWay_ && !ended_) journal();
}

void Queue::restoreFloor(int64_t logStart) {
  acks_.raiseFloor(logStart);
  journaledFloor_ = logStart;
}

void Queue::restored() {
  cursor_ = acks_.floor();
  used_ = acks_.floor() + acks_.above();
}

void Queue::stop(LeaderEpoch epoch) {
  if (ended_) return;
  unwatch();
  retry_ = nullptr;
  if (!spec_.durable) return;
  if (dirty_) journal();
  // Delivered and not settled, or once sent back: all that is below the cursor.
  int64_t end = std::max(cursor_, sentEnd_);
  storage::AppendRequest request;
  request.state.push_back({storage::StateTable::kQueueAck, queueAckKey(partition_, kSentMark),
                           encodeSentMark(end, epoch)});
  request.durability = storage::Durability::kUnwaited;
  if (auto done = core_.store.append(std::move(request)); !done) {
    logWarning(fmt::format("queue '{}': how far deliveries came can't be journaled: {}", spec_.name,
                           done.error().text));
  }
}

}  // namespace polylog::router
