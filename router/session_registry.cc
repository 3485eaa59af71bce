#include "router/session_registry.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include "core/base/log.h"
#include "router/access_store.h"
#include "router/client_registry.h"
#include "router/exclusive_table.h"
#include "router/id_allocator.h"
#include "router/state_codec.h"
#include "router/will_codec.h"

namespace polylog::router {
namespace {

/// Looked through in one hold of the lock.
constexpr size_t kBucketsAtOnce = 1024;
/// Room for sessions to notify that a worker keeps.
constexpr size_t kKeptToNotify = 256;

}  // namespace

struct SessionRegistry::Opening {
  PrincipalRef principal;
  SubscriberOptions options;
  SubscriberListener* listener = nullptr;
  Broker::OpenDone done;
  Worker* worker = nullptr;
  Worker* before = nullptr;                     ///< where the session was that is opened again
  std::optional<SessionState> stateBefore;      ///< and what it was
  std::vector<storage::StateChange> deletions;  ///< of the session that made room
  WhatIsDue due;                                ///< of them, if they fail
};

struct SessionRegistry::Exclusive {
  Session* session = nullptr;
  std::string key;
  SubscriptionState state;
};

struct SessionRegistry::Removal {
  Worker* worker = nullptr;
  Done<Result<>> done;
  void answer(Result<> result) {
    worker->post([done = std::move(done), result = std::move(result)]() mutable {
      done(std::move(result));
    });
  }
};

SessionRegistry::SessionRegistry(Core& core) : core_(core), perWorker_(core.workers.size()) {}

SessionRegistry::~SessionRegistry() {
  // Attachments and sessions hold one another while connected.
  sessions_.forEach([](Session& session) { session.abandon(); });
}

// ---------------------------------------------------------------- life of the registry

Result<> SessionRegistry::load() {
  Result<> result;
  ByInbox byInbox;
  int64_t nowMonotonic = core_.clock.monotonicMicros();
  int64_t nowWall = core_.clock.wallMillis();
  core_.store.scanState(storage::StateTable::kSession, "", [&](BytesView key, BytesView value) {
    Result<SessionState> state = decodeSession(key, value);
    if (!state) {
      result = std::unexpected(state.error());
      return false;
    }
    auto worker = static_cast<uint32_t>(core_.workerOf(key));
    auto session = std::make_shared<Session>(core_, std::string(key), worker);
    core_.ids->seen(state->inbox);
    session->restore(*state, nowMonotonic, nowWall);
    byInbox.emplace_back(state->inbox, session.get());
    session->scheduleDeadline();
    sessions_.insert(std::move(session));
    return true;
  });
  if (!result) return result;
  core_.metrics.sessions.set(static_cast<int64_t>(sessions_.size()));
  std::sort(byInbox.begin(), byInbox.end());
  if (result = loadSubscriptions(byInbox); !result) return result;
  for (const auto& [inbox, session] : byInbox) session->restoreEnd();
  return result;
}

Result<> SessionRegistry::loadSubscriptions(const ByInbox& byInbox) {
  Result<> result;
  using storage::StateTable;
  // What was left when a large session's end was cut short.
  std::vector<storage::StateChange> orphans;
  auto sessionOf = [&](StateTable table, BytesView key) -> Session* {
    ByteReader in(key);
    PartitionId inbox(in.u64());
    auto at = std::lower_bound(byInbox.begin(), byInbox.end(), std::pair(inbox, nullptr),
                               [](const auto& a, const auto& b) { return a.first < b.first; });
    if (in.ok() && at != byInbox.end() && at->first == inbox) return at->second;
    orphans.push_back({table, std::string(key), std::nullopt});
    return nullptr;
  };
  std::vector<Exclusive> exclusive;
  core_.store.scanState(StateTable::kSubscription, "", [&](BytesView key, BytesView value) {
    auto state = decodeSubscription(key, value);
    if (!state) result = std::unexpected(state.error());
    Session* session = sessionOf(StateTable::kSubscription, key);
    if (!session || !state) return result.has_value();
    if (state->subscription.exclusive && state->subscription.share.empty()) {
      exclusive.push_back({session, std::string(key), std::move(*state)});
    } else {
      session->restoreSubscription(*state);
    }
    return result.has_value();
  });
  restoreExclusive(std::move(exclusive), orphans);
  core_.store.scanState(StateTable::kInbox, "", [&](BytesView key, BytesView value) {
    auto state = decodeInbox(value);
    if (!state) result = std::unexpected(state.error());
    Session* session = sessionOf(StateTable::kInbox, key);
    if (session && state) session->restoreInbox(std::move(*state));
    return result.has_value();
  });
  core_.store.scanState(StateTable::kReplay, "", [&](BytesView key, BytesView value) {
    auto parsed = parseReplayKey(key);
    Session* session = sessionOf(StateTable::kReplay, key);
    if (!parsed) {
      result = std::unexpected(parsed.error());
    } else if (session) {
      if (auto restored = session->restoreReplay(*parsed, value); !restored) result = restored;
    }
    return result.has_value();
  });
  core_.store.scanState(StateTable::kWill, "", [&](BytesView key, BytesView value) {
    OwnVerdict own{};
    auto will = decodeWill(value, &own);
    if (!will) result = std::unexpected(will.error());
    Session* session = sessionOf(StateTable::kWill, key);
    if (session && will) session->restoreWill(std::move(*will), own);
    return result.has_value();
  });
  core_.store.scanState(StateTable::kHeldPublish, "", [&](BytesView key, BytesView) {
    auto parsed = parseHeldPublishKey(key);
    Session* session = sessionOf(StateTable::kHeldPublish, key);
    if (session && parsed) session->restoreHeld(parsed->second);
    return true;
  });
  while (result && !orphans.empty()) {
    storage::AppendRequest request;
    request.state = takePiece(orphans);
    request.durability = storage::Durability::kUnwaited;
    if (!core_.store.append(std::move(request))) break;  // at the next start
  }
  return result;
}

/// One is free for others before it is known durably that its session has it no longer: after a
/// crash there may be two. The later one was made when the other had gone.
void SessionRegistry::restoreExclusive(std::vector<Exclusive> all,
                                       std::vector<storage::StateChange>& gone) {
  std::ranges::sort(all, std::greater(), [](const Exclusive& one) { return one.state.since; });
  for (Exclusive& one : all) {
    const std::string& text = one.state.subscription.text;
    if (core_.exclusive->claim(text, *one.session)) {
      one.session->restoreSubscription(one.state);
      continue;
    }
    logWarning("session '" + one.session->clientId() + "' had given up '" + text + "'");
    gone.push_back({storage::StateTable::kSubscription, std::move(one.key), std::nullopt});
  }
}

void SessionRegistry::start(Worker& worker) {
  PerWorker& mine = perWorker_[worker.index];
  mine.timer = worker.dispatcher.makeTimer([this, &worker] { runDeadlines(worker); });
  arm(worker);
}

void SessionRegistry::stop(Worker& worker) {
  perWorker_[worker.index].timer = nullptr;
  auto dirty = [](const Session& session) { return session.dirty(); };
  for (const SessionRef& session : sessionsOf(worker.index, dirty)) session->flush();
}

std::vector<std::shared_ptr<Session>> SessionRegistry::sessionsOf(
    uint32_t worker, bool (*wanted)(const Session& session)) const {
  std::vector<SessionRef> found;
  auto visit = [&](Session& session) {
    if (session.worker() == worker && wanted(session)) found.push_back(session.shared_from_this());
  };
  for (size_t bucket = 0;; bucket += kBucketsAtOnce) {
    std::lock_guard lock(mutex_);
    if (bucket >= sessions_.buckets()) return found;
    sessions_.visit(bucket, bucket + kBucketsAtOnce, visit);
  }
}

// ---------------------------------------------------------------- opening

void SessionRegistry::open(const PrincipalRef& principal, SubscriberOptions options,
                           SubscriberListener* listener, Broker::OpenDone done) {
  auto opening = std::make_shared<Opening>();
  opening->principal = principal;
  opening->options = std::move(options);
  opening->listener = listener;
  opening->done = std::move(done);
  opening->worker = &core_.here();
  tryOpen(std::move(opening));
}

void SessionRegistry::tryOpen(OpeningRef opening) {
  SessionRef session;
  bool fresh = false;
  {
    std::lock_guard lock(mutex_);
    if (Session* there = sessions_.find(BytesView(opening->options.clientId))) {
      session = there->shared_from_this();
    } else {
      session = std::make_shared<Session>(core_, opening->options.clientId, opening->worker->index);
      sessions_.insert(session);
      core_.metrics.sessions.set(static_cast<int64_t>(sessions_.size()));
      fresh = true;
    }
  }
  if (fresh) return create(std::move(session), std::move(opening));
  session->home().post([this, session, opening] { handOver(session, opening); });
}

/// False: it lives on another worker, where `again` runs.
bool SessionRegistry::onItsWorker(const SessionRef& session, Task again) {
  Worker& home = session->home();
  if (Dispatcher::current() == &home.dispatcher) return true;
  home.post(std::move(again));
  return false;
}

void SessionRegistry::handOver(SessionRef existing, OpeningRef opening) {
  auto again = [this, existing, opening] { handOver(existing, opening); };
  if (!onItsWorker(existing, again)) return;
  switch (existing->phase()) {
    case Session::Phase::kEnded:
      return opening->worker->post([this, opening] { tryOpen(opening); });
    case Session::Phase::kOpening:
    case Session::Phase::kMoving: existing->whenThrough(again); return;
    case Session::Phase::kAttached:
    case Session::Phase::kDetached: break;
  }
  const std::string& owner = existing->user();
  const bool others = !owner.empty() && owner != opening->principal->user;
  const bool known = core_.options.access.usersElsewhere || core_.access->user(owner) != nullptr;
  if (others && known) {
    // What waits in it is that user's, and so is its connection.
    return opening->worker->post([opening] {
      opening->done(
          std::unexpected(notPermitted({ResourceKind::kSession, opening->options.clientId})));
    });
  }
  bool resumes =
      !opening->options.cleanStart && !others && existing->resumable(core_.clock.monotonicMicros());
  SubscriberListener* old = existing->listener();
  existing->dropAttachment();
  existing->connectionReplaced(resumes);
  cancelWake(*existing);
  if (resumes) {
    opening->before = &existing->home();
    existing->setPhase(Session::Phase::kMoving);
    existing->moveTo(opening->worker->index);
    opening->worker->post([this, existing, opening] { resume(existing, opening); });
  } else {
    opening->due = dueOf(*existing);
    existing->end(opening->deletions);
    auto fresh =
        std::make_shared<Session>(core_, opening->options.clientId, opening->worker->index);
    {
      std::lock_guard lock(mutex_);
      sessions_.remove(*existing);
      sessions_.insert(fresh);
    }
    opening->worker->post([this, fresh, opening] { create(fresh, opening); });
    wakeWaiting(*existing);
  }
  if (old != nullptr) old->onTakenOver(false);
}

void SessionRegistry::create(SessionRef fresh, OpeningRef opening) {
  storage::AppendRequest request;
  std::vector<storage::StateChange> rest = opening->deletions;
  request.state = takePiece(rest);
  Worker& worker = *opening->worker;
  auto refused = [this, fresh, opening, &worker](const Error& error) {
    worker.later(
        [this, fresh, opening, error] { created(fresh, opening, std::unexpected(error)); });
  };
  std::optional<PartitionId> inbox;
  if (opening->options.expirySeconds > 0) {
    auto id = core_.ids->nextPartition();
    if (!id) return refused(id.error());
    inbox = *id;
  }
  std::lock_guard naming(naming_);
  if (inbox) {
    fresh->giveInbox(*inbox, opening->options.expirySeconds, opening->principal->user);
    request.state.push_back(storage::partitionConfigured(*inbox, {}));
    request.state.push_back(
        {storage::StateTable::kSession, fresh->clientId(), encodeSession(fresh->state())});
    fresh->journalWill(opening->options.will, opening->principal, request);
  }
  if (request.state.empty()) {
    worker.later([this, fresh, opening] { created(fresh, opening, storage::Appended{}); });
    return;
  }
  request.durability = storage::Durability::kSynced;
  request.sink = &worker.sink;
  request.done = [this, fresh, opening,
                  rest = std::move(rest)](const Result<storage::Appended>& result) mutable {
    if (!result) {
      ++core_.writeFailures;
    } else if (!rest.empty()) {
      core_.appendEventually(*opening->worker, std::move(rest));
    }
    created(fresh, opening, result);
  };
  auto appended = core_.store.append(std::move(request));
  if (!appended) refused(appended.error());
}

void SessionRegistry::created(SessionRef fresh, OpeningRef opening,
                              const Result<storage::Appended>& result) {
  if (result) return attach(fresh, *opening, false);
  // The name is free again, once what the session that made room left in the journal goes when it
  // can.
  fresh->setPhase(Session::Phase::kEnded);
  if (fresh->persistent()) {
    opening->deletions.insert(opening->deletions.begin(),
                              {storage::StateTable::kSession, fresh->clientId(), std::nullopt});
    opening->due = dueOf(*fresh);
  }
  if (!opening->deletions.empty()) {
    core_.appendEventually(*opening->worker, std::move(opening->deletions), opening->due);
  }
  forget(fresh);
  wakeWaiting(*fresh);
  opening->done(std::unexpected(result.error()));
}

/// Opens it again once all that it asserts is durable: that it is there, which publishes it has
/// received and which deliveries the client has accepted.
void SessionRegistry::resume(SessionRef session, OpeningRef opening) {
  if (!opening->stateBefore) opening->stateBefore = session->state();
  storage::AppendRequest request;
  session->resumeWith(opening->options.expirySeconds, opening->principal->user, request);
  session->journalWill(opening->options.will, opening->principal, request);
  request.durability = storage::Durability::kSynced;
  request.sink = &opening->worker->sink;
  request.done = [this, session, opening](const Result<storage::Appended>& appended) {
    if (!appended) ++core_.writeFailures;
    Result<> result;
    if (!appended) result = std::unexpected(appended.error());
    settled(session, opening, result);
  };
  if (auto appended = core_.store.append(std::move(request)); !appended) {
    settled(session, opening, std::unexpected(appended.error()));
  }
}

/// What the session's earlier worker has to say of writes that have failed comes first.
void SessionRegistry::settled(SessionRef session, OpeningRef opening, Result<> result) {
  if (opening->before == opening->worker) return resumed(session, opening, result);
  opening->before->post([this, session, opening, result] {
    opening->worker->post([this, session, opening, result] { resumed(session, opening, result); });
  });
}

void SessionRegistry::resumed(const SessionRef& session, const OpeningRef& opening,
                              const Result<>& result) {
  if (result && session->allJournaled()) return attach(session, *opening, true);
  if (result) return resume(session, opening);
  session->resumeFailed(*opening->stateBefore);
  wakeWaiting(*session);
  opening->done(std::unexpected(result.error()));
}

void SessionRegistry::attach(const SessionRef& session, Opening& opening, bool resumed) {
  auto attachment = session->attach(opening.principal, opening.options, opening.listener, resumed);
  opening.done(std::move(attachment));
  core_.clients->opened(*opening.principal);
  wakeWaiting(*session);
}

void SessionRegistry::wakeWaiting(Session& session) {
  for (Task& task : session.takeWaiting()) session.home().post(std::move(task));
}

// ---------------------------------------------------------------- ending

void SessionRegistry::forget(const SessionRef& session) {
  std::lock_guard lock(mutex_);
  sessions_.remove(*session);
  core_.metrics.sessions.set(static_cast<int64_t>(sessions_.size()));
}

/// What is to be deleted of a session that ends: not its name, if another has it by then.
WhatIsDue SessionRegistry::dueOf(const Session& ended) {
  if (!ended.persistent()) return nullptr;
  auto superseded = [this, name = ended.clientId(), inbox = ended.inbox()] {
    std::lock_guard lock(mutex_);
    const Session* there = sessions_.find(BytesView(name));
    return there != nullptr && there->persistent() && there->inbox() != inbox;
  };
  return [this, superseded](std::vector<storage::StateChange>& changes,
                            const std::function<void()>& append) {
    std::lock_guard naming(naming_);
    if (superseded()) {
      std::erase_if(changes, [](const storage::StateChange& change) {
        return change.table == storage::StateTable::kSession;
      });
    }
    append();
  };
}

std::shared_ptr<Session> SessionRegistry::find(BytesView clientId) const {
  std::lock_guard lock(mutex_);
  Session* there = sessions_.find(clientId);
  return there == nullptr ? nullptr : there->shared_from_this();
}

void SessionRegistry::finish(const SessionRef& session) {
  SessionRef kept = session;
  cancelWake(*kept);
  kept->publishWill();
  std::vector<storage::StateChange> deletions;
  kept->end(deletions);
  // Before the name is free: who takes it stands behind this in the journal.
  if (!deletions.empty()) {
    core_.appendEventually(kept->home(), std::move(deletions), dueOf(*kept));
  }
  forget(kept);
}

void SessionRegistry::remove(const std::string& clientId, Done<Result<>> done) {
  auto removal = std::make_shared<Removal>();
  removal->worker = &core_.here();
  removal->done = std::move(done);
  SessionRef session = find(clientId);
  if (!session) {
    return removal->answer(fail(ErrorKind::kNotFound, "no session '" + clientId + "'"));
  }
  session->home().post([this, session, removal] { removeAt(session, removal); });
}

void SessionRegistry::removeAt(SessionRef session, std::shared_ptr<Removal> removal) {
  auto again = [this, session, removal] { removeAt(session, removal); };
  if (!onItsWorker(session, again)) return;
  switch (session->phase()) {
    case Session::Phase::kEnded:
      return removal->answer(
          fail(ErrorKind::kNotFound, "no session '" + session->clientId() + "'"));
    case Session::Phase::kOpening:
    case Session::Phase::kMoving: session->whenThrough(again); return;
    case Session::Phase::kAttached:
    case Session::Phase::kDetached: break;
  }
  SubscriberListener* listener = session->listener();
  session->dropAttachment();
  cancelWake(*session);
  session->publishWill();
  auto deletions = std::make_shared<std::vector<storage::StateChange>>();
  session->end(*deletions);
  Worker& worker = session->home();
  auto failed = [this, removal, deletions, due = dueOf(*session), &worker](const Error& error) {
    core_.appendEventually(worker, std::move(*deletions), due);
    removal->answer(std::unexpected(error));
  };
  // Before the name is free: who takes it stands behind this in the journal.
  if (deletions->empty()) {
    removal->answer({});
  } else {
    storage::AppendRequest request;
    std::vector<storage::StateChange> rest = *deletions;
    request.state = takePiece(rest);
    request.durability = storage::Durability::kSynced;
    request.sink = &worker.sink;
    request.done = [this, removal, failed, rest = std::move(rest),
                    &worker](const Result<storage::Appended>& result) mutable {
      if (!result) {
        ++core_.writeFailures;
        return failed(result.error());
      }
      if (!rest.empty()) core_.appendEventually(worker, std::move(rest));
      removal->answer({});
    };
    auto appended = core_.store.append(std::move(request));
    if (!appended) failed(appended.error());
  }
  forget(session);
  wakeWaiting(*session);
  if (listener != nullptr) listener->onTakenOver(true);
}

void SessionRegistry::list(Done<std::vector<SessionInfo>> done) {
  struct Gather {
    std::mutex mutex;
    std::vector<SessionInfo> all;
    size_t left = 0;
    Done<std::vector<SessionInfo>> done;
  };
  auto gather = std::make_shared<Gather>();
  gather->left = core_.workers.size();
  gather->done = std::move(done);
  Worker* caller = &core_.here();
  for (const auto& worker : core_.workers) {
    worker->post([this, gather, caller, index = worker->index] {
      std::vector<SessionInfo> mine;
      auto all = [](const Session&) { return true; };
      for (const SessionRef& session : sessionsOf(index, all)) {
        // May have moved on since: then it is its new worker's to describe, or nobody's this time.
        if (session->worker() == index) mine.push_back(session->describe());
      }
      std::lock_guard lock(gather->mutex);
      std::move(mine.begin(), mine.end(), std::back_inserter(gather->all));
      if (--gather->left > 0) return;
      std::ranges::sort(gather->all, {}, &SessionInfo::clientId);
      // Seen twice, while others came.
      auto twice = std::ranges::unique(gather->all, {}, &SessionInfo::clientId);
      gather->all.erase(twice.begin(), twice.end());
      caller->post([gather] { gather->done(std::move(gather->all)); });
    });
  }
}

// ---------------------------------------------------------------- waking

void SessionRegistry::notify(SessionRef session) {
  Worker& worker = session->home();
  PerWorker& mine = perWorker_[worker.index];
  mine.toNotify.push_back(std::move(session));
  if (mine.toNotify.size() == 1) worker.later([this, &worker] { runNotifications(worker); });
}

void SessionRegistry::runNotifications(Worker& worker) {
  PerWorker& mine = perWorker_[worker.index];
  std::vector<SessionRef> sessions = std::exchange(mine.toNotify, {});
  for (const SessionRef& session : sessions) {
    if (session->worker() != worker.index) continue;
    if (SubscriberListener* listener = session->listener()) listener->onDeliverable();
  }
  // Its memory is used again, but not a burst's kept.
  sessions.clear();
  if (mine.toNotify.empty() && sessions.capacity() <= kKeptToNotify) mine.toNotify.swap(sessions);
}

void SessionRegistry::wakeAt(int64_t at, const SessionRef& session) {
  PerWorker& mine = perWorker_[session->worker()];
  mine.deadlines.set(*session, at);
  if (session->wakePlace == 1) arm(session->home());
}

void SessionRegistry::cancelWake(Session& session) {
  perWorker_[session.worker()].deadlines.cancel(session);
}

void SessionRegistry::arm(Worker& worker) {
  PerWorker& mine = perWorker_[worker.index];
  if (!mine.timer || mine.deadlines.empty()) return;
  int64_t wait = mine.deadlines.next() - core_.clock.monotonicMicros();
  mine.timer->start(std::max<int64_t>(0, wait));
}

void SessionRegistry::runDeadlines(Worker& worker) {
  PerWorker& mine = perWorker_[worker.index];
  int64_t now = core_.clock.monotonicMicros();
  while (Session* due = mine.deadlines.takeDue(now)) {
    SessionRef session = due->shared_from_this();
    session->onDeadline(now);
  }
  arm(worker);
}

}  // namespace polylog::router
