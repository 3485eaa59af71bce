#include "router/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/model/bridge.h"
#include "router/batch_cache.h"
#include "router/exclusive_table.h"
#include "router/publisher.h"
#include "router/replay_lane.h"
#include "router/session_registry.h"
#include "router/share_table.h"
#include "router/shared_lane.h"
#include "router/slow_subscribers.h"

namespace polylog::router {
namespace {

constexpr int64_t kMicros = 1'000'000;
constexpr int64_t kRetryMicros = kMicros;

/// What a bridge isn't given, because the user that it is here may not read it, is one of the
/// things that it doesn't carry: counted with the others (codecs/mqtt/bridge_side.cc).
void countForBridge(BytesView clientId, int64_t denied) {
  if (!clientId.starts_with(kBridgeSessions)) return;
  clientId.remove_prefix(kBridgeSessions.size());
  counter("polylog_bridge_dropped_total", "Messages that a bridge didn't carry, by reason",
          fmt::format(R"(bridge="{}",reason="denied")", clientId))
      .add(denied);
}

}  // namespace

Session::Session(Core& core, std::string clientId, uint32_t worker)
    : core_(core), clientId_(std::move(clientId)), worker_(worker) {}

Session::~Session() = default;
Session::Aside::Aside() = default;
Session::Aside::~Aside() = default;

bool Session::Aside::idle() const {
  return !will && !willJournaled && !shared && (!replay || replay->idle()) && retryAt < 0 &&
         dropped == 0 && held.empty() && waiting.empty() && walks.empty() && !walking;
}

// ---------------------------------------------------------------- any thread

void Session::onHome(Task task) {
  Worker& worker = home();
  if (Dispatcher::current() == &worker.dispatcher) return task();
  // It may have moved on when that runs, and nobody else may hold it by then.
  worker.post([self = shared_from_this(), task = std::move(task)]() mutable {
    self->onHome(std::move(task));
  });
}

// ---------------------------------------------------------------- life

std::vector<Task> Session::takeWaiting() {
  if (aside_->waiting.empty()) return {};
  std::vector<Task> tasks = std::exchange(aside_.write().waiting, {});
  tidy();
  return tasks;
}

void Session::giveInbox(PartitionId inbox, uint32_t expirySeconds, std::string user) {
  inbox_ = std::make_unique<Inbox>(*this, inbox);
  expirySeconds_ = expirySeconds;
  user_ = std::move(user);
}

void Session::resumeWith(uint32_t expirySeconds, std::string user,
                         storage::AppendRequest& request) {
  expirySeconds_ = expirySeconds;
  user_ = std::move(user);
  disconnectedWallMs_ = -1;
  request.state.push_back({storage::StateTable::kSession, clientId_, encodeSession(state())});
  inbox_->addChanges(request);
}

void Session::resumeFailed(SessionState before) {
  inbox_->changesFailed();
  expirySeconds_ = before.expirySeconds;
  user_ = std::move(before.user);
  disconnectedWallMs_ = before.disconnectedMs;
  if (disconnectedWallMs_ < 0) {
    disconnectedAt_ = core_.clock.monotonicMicros();
    disconnectedWallMs_ = core_.clock.wallMillis();
  }
  phase_ = Phase::kDetached;
  scheduleDeadline();
}

void Session::restore(const SessionState& state, int64_t nowMonotonic, int64_t nowWall) {
  giveInbox(state.inbox, state.expirySeconds, state.user);
  // One that was connected at a crash counts as disconnected now.
  disconnectedWallMs_ = state.disconnectedMs < 0 ? nowWall : state.disconnectedMs;
  int64_t awayMs = std::max<int64_t>(0, nowWall - disconnectedWallMs_);
  disconnectedAt_ = nowMonotonic - awayMs * 1000;
  phase_ = Phase::kDetached;
  checkOldAfterRestart();
}

void Session::restoreEnd() {
  auto ends = core_.store.ends(inbox());
  if (ends && inbox_->restoreEnd(*ends)) askTrim();
}

void Session::restoreSubscription(const SubscriptionState& state) {
  const Subscription& subscription = state.subscription;
  if (!subscription.share.empty()) {
    // Without its queue it has none before the client comes back: not worth refusing to start.
    if (auto joined = sharedLane().add(subscription, state.since); !joined) {
      logWarning(joined.error().text);
    }
    core_.metrics.subscriptions.add(1);
    return;
  }
  if (subscription.exclusive && !core_.exclusive->claim(subscription.text, *this)) {
    // Only where a write failed while another took it.
    return logWarning("session '" + clientId_ + "' has lost '" + subscription.text + "'");
  }
  TrieEntry entry{this,
                  nextNumber_++,
                  state.subscription.id,
                  state.subscription.guarantee,
                  state.subscription.noLocal,
                  state.subscription.retainAsPublished,
                  state.since};
  subscriptions_.put(state.subscription.text, core_.trie->add(state.subscription.filter, entry));
  core_.metrics.subscriptions.add(1);
}

std::shared_ptr<SubscriberSession> Session::attach(const PrincipalRef& principal,
                                                   SubscriberOptions& options,
                                                   SubscriberListener* listener, bool resumed) {
  live_ = std::make_unique<Live>();
  live_->listener = listener;
  live_->window = options.window;
  live_->since = core_.clock.wallMillis();
  live_->attachment = std::make_shared<Attachment>(shared_from_this(), resumed);
  live_->principal = principal;
  ++attachments_;
  user_ = principal->user;
  expirySeconds_ = options.expirySeconds;
  disconnectedWallMs_ = -1;
  if (aside_.written()) aside_.write().willAt = -1;
  adoptWill(std::move(options.will), principal);
  phase_ = Phase::kAttached;
  connected_.store(true, std::memory_order_relaxed);
  core_.metrics.sessionsConnected.add(1);
  if (inbox_) {
    dropOld();
    inbox_->weigh();
    inbox_->rewind();
    watch(inbox_->partition(), inbox_->cursor());
    scheduleDeadline();
  }
  if (aside_->shared) aside_->shared->attach(live_->window);
  if (aside_->replay) aside_->replay->attach();
  return live_->attachment;
}

void Session::dropAttachment() {
  connected_.store(false, std::memory_order_relaxed);
  if (!live_) return;
  core_.metrics.sessionsConnected.add(-1);
  if (aside_->shared) aside_->shared->detach();
  if (aside_->replay) aside_->replay->detach();
  if (live_->watching) core_.store.unwatch(live_->watchedPartition, live_->watchId);
  live_->attachment->invalidate();
  live_ = nullptr;
  ++attachments_;
  if (aside_.written()) {
    aside_.write().walks.remove_if([](const RetainedWalk& walk) { return walk.live; });
    aside_.write().walkPaused = false;
  }
  if (inbox_) inbox_->letGo();
}

void Session::abandon() {
  dropAttachment();
  size_t count = subscriptions_.size() + (aside_->shared ? aside_->shared->size() : 0);
  aside_.reset();
  core_.metrics.subscriptions.add(-static_cast<int64_t>(count));
}

bool Session::resumable(int64_t nowMonotonic) const {
  if (!persistent() || phase_ == Phase::kEnded || expirySeconds_ == 0) return false;
  if (phase_ != Phase::kDetached || expirySeconds_ == kNeverExpires) return true;
  return nowMonotonic < disconnectedAt_ + int64_t{expirySeconds_} * kMicros;
}

void Session::end(std::vector<storage::StateChange>& state) {
  dropAttachment();
  phase_ = Phase::kEnded;
  subscriptions_.forEach([this](const std::string& text, auto place) { drop(text, place); });
  using storage::StateTable;
  if (inbox_) {
    PartitionId id = inbox_->partition();
    state.push_back({StateTable::kSession, clientId_, std::nullopt});
    state.push_back(storage::partitionDeleted(id));
    state.push_back({StateTable::kInbox, inboxKey(id), std::nullopt});
    if (aside_->willJournaled) state.push_back({StateTable::kWill, inboxKey(id), std::nullopt});
    if (aside_->shared) {
      aside_->shared->forEach([&](const Subscription& shared) {
        state.push_back(
            {StateTable::kSubscription, subscriptionKey(id, shared.text), std::nullopt});
      });
    }
    subscriptions_.forEach([&](const std::string& text, auto) {
      state.push_back({StateTable::kSubscription, subscriptionKey(id, text), std::nullopt});
    });
    if (aside_->replay) aside_->replay->end(state);
    for (uint16_t held : aside_->held) {
      state.push_back({StateTable::kHeldPublish, heldPublishKey(id, held), std::nullopt});
    }
  }
  subscriptions_.clear();
  if (!aside_.written()) return;
  if (aside_->shared) {
    core_.metrics.subscriptions.add(-static_cast<int64_t>(aside_->shared->size()));
    aside_.write().shared = nullptr;
  }
  aside_.write().replay = nullptr;
  aside_.write().held.clear();
  aside_.write().walks.clear();
}

void Session::drop(const std::string& text, SubscriptionTrie::Place place) {
  core_.exclusive->release(text, *this);
  core_.trie->remove(place);
  core_.metrics.subscriptions.add(-1);
}

/// The share knows of it until what this returns goes.
std::shared_ptr<ShareMembership> Session::dropShared(const std::string& text) {
  core_.metrics.subscriptions.add(-1);
  return aside_.write().shared->remove(text);
}

SharedLane& Session::sharedLane() {
  auto& shared = aside_.write().shared;
  if (!shared) {
    shared = std::make_unique<SharedLane>(core_, *this);
    if (live_) shared->attach(live_->window);
  }
  return *shared;
}

SessionState Session::state() const {
  return {inbox_->partition(), expirySeconds_, disconnectedWallMs_, user_};
}

void Session::journalSession(storage::Durability durability) {
  if (!persistent()) return;
  storage::AppendRequest request;
  request.state.push_back({storage::StateTable::kSession, clientId_, encodeSession(state())});
  request.durability = durability;
  // A failure costs no more than an earlier idea of when the session was last connected.
  (void)core_.store.append(std::move(request));
}

void Session::detach() {
  if (phase_ != Phase::kAttached) return;
  dropAttachment();
  phase_ = Phase::kDetached;
  disconnectedAt_ = core_.clock.monotonicMicros();
  disconnectedWallMs_ = core_.clock.wallMillis();
  if (!persistent() || expirySeconds_ == 0) return core_.sessions->finish(shared_from_this());
  if (aside_->will && aside_->will->delaySeconds > 0) {
    aside_.write().willAt = disconnectedAt_ + int64_t{aside_->will->delaySeconds} * kMicros;
  } else {
    publishWill();
  }
  dropOld();
  inbox_->flush();
  journalSession(storage::Durability::kUnwaited);
  scheduleDeadline();
  tidy();
}

void Session::scheduleDeadline() {
  if (phase_ == Phase::kEnded) return;
  int64_t at = INT64_MAX;
  if (phase_ == Phase::kDetached) {
    if (aside_->willAt >= 0) at = std::min(at, aside_->willAt);
    if (expirySeconds_ != kNeverExpires) {
      at = std::min(at, disconnectedAt_ + int64_t{expirySeconds_} * kMicros);
    }
  }
  const bool settled = phase_ == Phase::kDetached || phase_ == Phase::kAttached;
  if (settled && checkOldAt_ != 0) at = std::min(at, int64_t{checkOldAt_} * kMicros);
  if (aside_->retryAt >= 0) at = std::min(at, aside_->retryAt);
  if (at != INT64_MAX) core_.sessions->wakeAt(at, shared_from_this());
}

void Session::onDeadline(int64_t nowMonotonic) {
  if (aside_->retryAt >= 0 && nowMonotonic >= aside_->retryAt) {
    aside_.write().retryAt = -1;
    notify();
    if (aside_->replay) aside_->replay->goOn();
  }
  if (phase_ == Phase::kDetached) {
    if (!resumable(nowMonotonic)) return core_.sessions->finish(shared_from_this());
    if (aside_->willAt >= 0 && nowMonotonic >= aside_->willAt) publishWill();
  } else if (phase_ != Phase::kAttached) {
    return;
  }
  if (checkOldAt_ != 0 && nowMonotonic >= int64_t{checkOldAt_} * kMicros) dropOld();
  scheduleDeadline();
  tidy();
}

Session::Backlog Session::backlog() const {
  Backlog out;
  out.dropped = aside_->dropped;
  if (inbox_) {
    out.waiting = inbox_->waiting();
    out.waitingBytes = inbox_->waitingBytes();
    if (live_) out.inFlight = std::min(out.waiting, inbox_->inFlight());
  } else if (live_) {
    out.inFlight = live_->nextId - live_->done.floor() - live_->done.above();
    out.waiting = out.inFlight + static_cast<int64_t>(live_->acknowledged.size());
  }
  return out;
}

SessionInfo Session::describe() const {
  SessionInfo info;
  info.clientId = clientId_;
  info.user = user_;
  info.connected = phase_ == Phase::kAttached;
  if (live_) info.peer = live_->principal->peer;
  info.expirySeconds = expirySeconds_;
  const Backlog behind = backlog();
  info.dropped = behind.dropped;
  info.waiting = behind.waiting;
  info.waitingBytes = behind.waitingBytes;
  info.inFlight = behind.inFlight;
  subscriptions_.forEach([&info](const std::string& text, SubscriptionTrie::Place place) {
    info.subscriptions.push_back({text, place->entry.guarantee});
  });
  if (aside_->shared) {
    aside_->shared->forEach([&info](const Subscription& shared) {
      info.subscriptions.push_back({shared.text, shared.guarantee});
    });
  }
  if (aside_->replay) {
    aside_->replay->forEach([&info](const Subscription& replay) {
      info.subscriptions.push_back({replay.text, replay.guarantee});
    });
  }
  return info;
}

void Session::setExpiry(uint32_t seconds) {
  // What began without an inbox can't outlive its connection any more.
  if (!persistent() || seconds == expirySeconds_) return;
  expirySeconds_ = seconds;
  journalSession(storage::Durability::kUnwaited);
}

// ---------------------------------------------------------------- delivery

void Session::pushLive(LiveItem item) {
  if (!live_) return;  // nobody is there: at most once is lost, and nothing else comes this way
  LiveQueue& queue = queueFor(item.guarantee);
  if (!queue.push(std::move(item), core_.options.liveRecords, core_.options.liveBytes)) {
    ++aside_.write().dropped;
    core_.metrics.dropped(DropReason::kQueueFull).add();
    return;
  }
  if (live_->hungry) notify();
}

LiveQueue& Session::queueFor(DeliveryGuarantee guarantee) {
  bool plain = guarantee == DeliveryGuarantee::kAtMostOnce || persistent();
  return plain ? live_->plain : live_->acknowledged;
}

void Session::notify() {
  if (!live_ || !live_->hungry) return;
  live_->hungry = false;
  core_.sessions->notify(shared_from_this());
}

bool Session::mayRead(const Address& address) const {
  if (!core_.authorizer.judges(*live_->principal)) return true;
  return core_.authorizer.permits(live_->principal, Operation::kRead,
                                  {ResourceKind::kTopic, address.topic, address});
}

/// Rules may have changed since a record was matched or stored: each is judged as it leaves. What
/// is denied counts as acknowledged. (SharedLane judges its own, which another member may read.)
size_t Session::withoutDenied(size_t from, std::vector<Delivery>& out) {
  auto denied = [this](const Delivery& delivery) {
    if (delivery.id >= kSharedIds || delivery.accepted) return false;
    if (mayRead(delivery.record->address)) return false;
    if (delivery.id >= 0) acknowledge(delivery.id);
    return true;
  };
  auto begin = out.begin() + static_cast<std::ptrdiff_t>(from);
  int64_t withheld = 0;
  // What the client may have under its packet identifier has to be released all the same.
  for (auto at = begin; at != out.end(); ++at) {
    const bool begun = at->redelivered && at->guarantee == DeliveryGuarantee::kExactlyOnce;
    if (begun && at->id < kSharedIds && !at->accepted && !mayRead(at->record->address)) {
      at->accepted = true;
      ++withheld;
    }
  }
  auto kept = std::remove_if(begin, out.end(), denied);
  auto count = static_cast<size_t>(out.end() - kept);
  out.erase(kept, out.end());
  withheld += static_cast<int64_t>(count);
  if (withheld > 0) {
    core_.metrics.dropped(DropReason::kDenied).add(withheld);
    countForBridge(clientId_, withheld);
  }
  return count;
}

size_t Session::take(size_t max, TakeLimits limits, std::vector<Delivery>& out) {
  size_t before = out.size();
  size_t taken = takeSome(max, limits, out);
  const bool judged = core_.authorizer.judges(*live_->principal);
  if (judged && taken > 0 && withoutDenied(before, out) > 0 && taken == max) {
    // There may be more, which the client would ask for only if it had got as many as it wanted.
    live_->hungry = true;
    notify();
  }
  taken = out.size() - before;
  if (taken == 0) return 0;
  watchTime(std::span(out).subspan(before));
  int64_t bytes = 0;
  for (size_t i = before; i < out.size(); ++i) {
    if (out[i].record) bytes += static_cast<int64_t>(sizeOf(out[i].record->record));
  }
  core_.metrics.recordsOut(live_->principal->protocol).add(static_cast<int64_t>(taken));
  core_.metrics.bytesOut(live_->principal->protocol).add(bytes);
  return taken;
}

/// How long what is published while the client is there waits for it.
void Session::watchTime(std::span<const Delivery> taken) {
  if (core_.options.slowSubscriberMillis == 0) return;
  const int64_t now = core_.clock.wallMillis();
  int64_t oldest = now;
  for (const Delivery& delivery : taken) {
    if (!delivery.record) continue;  // only released
    const Record& record = delivery.record->record;
    // Other protocols' clients say themselves when a record was made.
    if (delivery.record->origin != Protocol::kMqtt || delivery.retain) continue;
    if (record.timestampMs >= live_->since) oldest = std::min(oldest, record.timestampMs);
  }
  if (!core_.slow->isSlow(now - oldest)) return;
  core_.metrics.slowDeliveries.add();
  core_.slow->waited(clientId_, now - oldest, now);
}

size_t Session::takeSome(size_t max, TakeLimits limits, std::vector<Delivery>& out) {
  size_t before = out.size();
  // They take turns, so that none starves the others.
  constexpr unsigned kLanes = 4;
  live_->turn = static_cast<uint8_t>((live_->turn + 1) % kLanes);
  for (unsigned i = 0; i < kLanes && out.size() - before < max; ++i) {
    size_t left = max - (out.size() - before);
    switch ((live_->turn + i) % kLanes) {
      case 0: takePlain(left, out); break;
      case 1: takeAcknowledged(left, limits.own, out); break;
      case 2:
        if (aside_->replay) aside_->replay->take(left, limits.own, live_->nextId, out);
        break;
      default:
        if (aside_->shared) aside_->shared->take(left, limits.shared, out);
    }
  }
  size_t taken = out.size() - before;
  if (taken < max) live_->hungry = true;
  if (aside_->walkPaused) {
    aside_.write().walkPaused = false;
    goOnRetained();
  }
  return taken;
}

size_t Session::takePlain(size_t max, std::vector<Delivery>& out) {
  size_t taken = 0;
  while (taken < max && !live_->plain.empty()) {
    LiveItem item = live_->plain.pop();
    Delivery& delivery = out.emplace_back();
    delivery.retain = item.retain;
    delivery.subscriptionIds = std::move(item.subscriptionIds);
    const RoutedRecord* record = &item.block->records[item.index];
    delivery.record = RoutedRecordRef(std::move(item.block), record);
    ++taken;
  }
  return taken;
}

size_t Session::takeAcknowledged(size_t max, int64_t idLimit, std::vector<Delivery>& out) {
  if (inbox_) {
    size_t before = out.size();
    switch (inbox_->take(home(), max, idLimit, out)) {
      case Inbox::Taken::kEnough: break;
      case Inbox::Taken::kAtEnd: watch(inbox_->partition(), inbox_->cursor()); break;
      case Inbox::Taken::kFailed: retrySoon(); break;
    }
    if (aside_->replay) aside_->replay->inboxMoved(inbox_->acknowledgedUpTo());
    return out.size() - before;
  }
  size_t taken = 0;
  LiveQueue& queue = live_->acknowledged;
  while (taken < max && !queue.empty() && live_->nextId < idLimit) {
    bool wait = false;
    if (!bodyOf(queue.front(), wait)) {
      if (wait) break;
      queue.pop();
      ++aside_.write().dropped;
      core_.metrics.dropped(DropReason::kGone).add();
      continue;
    }
    LiveItem item = queue.pop();
    Delivery& delivery = out.emplace_back();
    delivery.id = live_->nextId++;
    delivery.guarantee = item.guarantee;
    delivery.retain = item.retain;
    delivery.subscriptionIds = std::move(item.subscriptionIds);
    const RoutedRecord* record = &item.block->records[item.index];
    delivery.record = RoutedRecordRef(std::move(item.block), record);
    ++taken;
  }
  return taken;
}

void Session::retrySoon() {
  aside_.write().retryAt = core_.clock.monotonicMicros() + kRetryMicros;
  scheduleDeadline();
}

/// Reads the body of an item again that waits as a reference. False: it is gone, or (`wait`) not
/// visible yet, and a watch has been set.
bool Session::bodyOf(LiveItem& item, bool& wait) {
  if (item.block) return true;
  const BlockSource& source = *item.parked;
  auto batch = core_.store.readAt(source.place);
  if (!batch) {
    auto ends = core_.store.ends(source.partition);
    wait = ends && ends->highWatermark <= source.base;
    if (wait) watch(source.partition, source.base);
    return false;
  }
  auto block = core_.batches->open(home(), *batch, source);
  if (!block || item.index >= (*block)->records.size()) return false;
  item.block = std::move(*block);
  return true;
}

void Session::watch(PartitionId partition, Offset offset) {
  if (live_->watching) return;
  live_->watching = true;
  live_->watchedPartition = partition;
  auto wake = [weak = weak_from_this(), worker = worker(), attachment = attachments_] {
    auto self = weak.lock();
    if (!self || self->worker() != worker || self->attachments_ != attachment) return;
    self->live_->watching = false;
    self->notify();
  };
  live_->watchId = core_.store.watch(partition, offset, home().sink, std::move(wake));
}

void Session::acknowledge(int64_t id) {
  const auto& shared = aside_->shared;
  if (id >= kSharedIds) return shared ? shared->acknowledge(id) : void();
  if (inbox_ && shared) shared->inboxAcknowledged(id);
  if (inbox_) {
    inbox_->acknowledge(id);
    if (aside_->replay) aside_->replay->inboxMoved(inbox_->acknowledgedUpTo());
    return;
  }
  if (id >= 0 && id < live_->nextId) live_->done.add(id);
}

void Session::accept(int64_t id, std::move_only_function<void(Result<>)> done) {
  if (id >= kSharedIds && aside_->shared) {
    aside_->shared->accept(id);
  } else if (inbox_) {
    return inbox_->accept(id, std::move(done));
  }
  home().later([done = std::move(done)]() mutable { done({}); });
}

void Session::forgetAccepted(std::move_only_function<void(Result<>)> done) {
  if (inbox_) return inbox_->forgetAccepted(std::move(done));
  home().later([done = std::move(done)]() mutable { done({}); });
}

int64_t Session::acknowledgedUpTo() const {
  return inbox_ ? inbox_->acknowledgedUpTo() : live_->done.floor();
}

int64_t Session::sharedAcknowledgedUpTo() const {
  return aside_->shared ? aside_->shared->acknowledgedUpTo() : kSharedIds;
}

// ---------------------------------------------------------------- exactly-once publishes of its
// own

void Session::holdPublishes(const std::vector<uint16_t>& ids) {
  std::vector<uint16_t>& held = aside_.write().held;
  for (uint16_t id : ids) {
    if (std::find(held.begin(), held.end(), id) == held.end()) held.push_back(id);
  }
}

void Session::unholdPublishes(const std::vector<uint16_t>& ids) {
  if (aside_->held.empty()) return;
  for (uint16_t id : ids) std::erase(aside_.write().held, id);
  tidy();
}

void Session::releasePublish(uint16_t id, std::move_only_function<void(Result<>)> done) {
  // Mostly in the order received: found at the front.
  auto at = std::find(aside_->held.begin(), aside_->held.end(), id);
  bool wasHeld = at != aside_->held.end();
  if (wasHeld) aside_.write().held.erase(at);
  if (!persistent() || !wasHeld) {
    home().later([done = std::move(done)]() mutable { done({}); });
    return;
  }
  auto shared = std::make_shared<std::move_only_function<void(Result<>)>>(std::move(done));
  storage::AppendRequest request;
  request.state.push_back(
      {storage::StateTable::kHeldPublish, heldPublishKey(inbox_->partition(), id), std::nullopt});
  request.durability = storage::Durability::kSynced;
  request.sink = &home().sink;
  auto failed = [id, weak = weak_from_this(), shared](const Error& error) {
    if (auto self = weak.lock()) self->onHome([self, id] { self->holdPublishes({id}); });
    (*shared)(std::unexpected(error));
  };
  request.done = [&core = core_, shared, failed](const Result<storage::Appended>& result) {
    if (result) return (*shared)({});
    ++core.writeFailures;
    failed(result.error());
  };
  if (auto appended = core_.store.append(std::move(request)); !appended) {
    home().later([failed, error = appended.error()] { failed(error); });
  }
}

}  // namespace polylog::router
