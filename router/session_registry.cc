#include "router/session_registry.h"

#include <algorithm>
#include <utility>

#include "core/base/log.h"
#include "router/id_allocator.h"
#include "router/state_codec.h"

namespace polylog::router {

struct SessionRegistry::Opening {
  PrincipalRef principal;
  SubscriberOptions options;
  SubscriberListener* listener = nullptr;
  Broker::OpenDone done;
  Worker* worker = nullptr;
  std::vector<storage::StateChange> deletions;  ///< of the session that made room
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
  for (auto& [name, session] : sessions_) {
    std::vector<storage::StateChange> unused;
    session->end(unused);
  }
}

// ---------------------------------------------------------------- life of the registry

Result<> SessionRegistry::load() {
  Result<> result;
  std::unordered_map<PartitionId, Session*> byInbox;
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
    session->restore(*state, nowMonotonic, nowWall);
    byInbox[state->inbox] = session.get();
    session->scheduleDeadline();
    sessions_.emplace(std::string(key), std::move(session));
    return true;
  });
  if (!result) return result;
  core_.metrics.sessions.set(static_cast<int64_t>(sessions_.size()));
  return loadSubscriptions(byInbox);
}

Result<> SessionRegistry::loadSubscriptions(
    const std::unordered_map<PartitionId, Session*>& byInbox) {
  Result<> result;
  auto sessionOf = [&](BytesView key) -> Session* {
    ByteReader in(key);
    auto at = byInbox.find(PartitionId(in.u64()));
    return in.ok() && at != byInbox.end() ? at->second : nullptr;
  };
  using storage::StateTable;
  core_.store.scanState(StateTable::kSubscription, "", [&](BytesView key, BytesView value) {
    auto state = decodeSubscription(key, value);
    if (!state) result = std::unexpected(state.error());
    if (Session* session = sessionOf(key); session && state) session->restoreSubscription(*state);
    return result.has_value();
  });
  core_.store.scanState(StateTable::kInbox, "", [&](BytesView key, BytesView value) {
    auto state = decodeInbox(value);
    if (!state) result = std::unexpected(state.error());
    if (Session* session = sessionOf(key); session && state) {
      session->restoreInbox(std::move(*state));
    }
    return result.has_value();
  });
  core_.store.scanState(StateTable::kHeldPublish, "", [&](BytesView key, BytesView) {
    auto parsed = parseHeldPublishKey(key);
    if (Session* session = sessionOf(key); session && parsed) session->restoreHeld(parsed->second);
    return true;
  });
  return result;
}

void SessionRegistry::start(Worker& worker) {
  PerWorker& mine = perWorker_[worker.index];
  mine.timer = worker.dispatcher.makeTimer([this, &worker] { runDeadlines(worker); });
  arm(worker);
}

void SessionRegistry::stop(Worker& worker) {
  perWorker_[worker.index].timer = nullptr;
  for (const SessionRef& session : sessionsOf(worker.index)) session->flush();
}

std::vector<std::shared_ptr<Session>> SessionRegistry::sessionsOf(uint32_t worker) const {
  std::vector<SessionRef> found;
  std::lock_guard lock(mutex_);
  for (const auto& [name, session] : sessions_) {
    if (session->worker() == worker) found.push_back(session);
  }
  return found;
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
    SessionRef& slot = sessions_[opening->options.clientId];
    if (!slot) {
      slot = std::make_shared<Session>(core_, opening->options.clientId, opening->worker->index);
      core_.metrics.sessions.set(static_cast<int64_t>(sessions_.size()));
      fresh = true;
    }
    session = slot;
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
    case Session::Phase::kMoving: existing->waiting.emplace_back(again); return;
    case Session::Phase::kAttached:
    case Session::Phase::kDetached: break;
  }
  bool resumes =
      !opening->options.cleanStart && existing->resumable(core_.clock.monotonicMicros());
  SubscriberListener* old = existing->listener();
  existing->dropAttachment();
  existing->connectionReplaced(resumes);
  cancelWake(*existing);
  if (resumes) {
    existing->setPhase(Session::Phase::kMoving);
    existing->moveTo(opening->worker->index);
    opening->worker->post([this, existing, opening] { resume(existing, opening); });
  } else {
    existing->end(opening->deletions);
    auto fresh = std::make_shared<Session>(core_, opening->options.clientId, opening->worker->index);
    {
      std::lock_guard lock(mutex_);
      sessions_[fresh->clientId()] = fresh;
    }
    opening->worker->post([this, fresh, opening] { create(fresh, opening); });
    wakeWaiting(*existing);
  }
  if (old != nullptr) old->onTakenOver(false);
}

void SessionRegistry::create(SessionRef fresh, OpeningRef opening) {
  storage::AppendRequest request;
  request.state = opening->deletions;
  Result<> ready;
  if (opening->options.expirySeconds > 0) {
    if (auto inbox = core_.ids->nextPartition(); inbox) {
      fresh->giveInbox(*inbox, opening->options.expirySeconds, opening->principal->user);
      request.state.push_back(storage::partitionConfigured(*inbox, {}));
      request.state.push_back({storage::StateTable::kSession, fresh->clientId(),
                               encodeSession(fresh->state())});
    } else {
      ready = std::unexpected(inbox.error());
    }
  }
  Worker& worker = *opening->worker;
  if (ready && request.state.empty()) {
    worker.later([this, fresh, opening] { created(fresh, opening, storage::Appended{}); });
    return;
  }
  request.durability = storage::Durability::kSynced;
  request.sink = &worker.sink;
  request.done = [this, fresh, opening](const Result<storage::Appended>& result) {
    if (!result) ++core_.writeFailures;
    created(fresh, opening, result);
  };
  if (ready) {
    auto appended = core_.store.append(std::move(request));
    if (!appended) ready = std::unexpected(appended.error());
  }
  if (ready) return;
  worker.later([this, fresh, opening, error = ready.error()] {
    created(fresh, opening, std::unexpected(error));
  });
}

void SessionRegistry::created(SessionRef fresh, OpeningRef opening,
                              const Result<storage::Appended>& result) {
  if (result) return attach(fresh, *opening, false);
  // The name is free again; what the session that made room left in the journal goes when it can.
  fresh->setPhase(Session::Phase::kEnded);
  forget(fresh);
  if (!opening->deletions.empty()) {
    core_.appendEventually(*opening->worker, std::move(opening->deletions));
  }
  wakeWaiting(*fresh);
  opening->done(std::unexpected(result.error()));
}

void SessionRegistry::resume(SessionRef session, OpeningRef opening) {
  bool changed = session->expirySeconds() != opening->options.expirySeconds;
  session->resumeWith(opening->options.expirySeconds, opening->principal->user);
  storage::AppendRequest request;
  request.state.push_back(
      {storage::StateTable::kSession, session->clientId(), encodeSession(session->state())});
  request.durability =
      changed ? storage::Durability::kSynced : storage::Durability::kUnwaited;
  if (changed) {
    request.sink = &opening->worker->sink;
    request.done = [this, session, opening](const Result<storage::Appended>& appended) {
      if (!appended) ++core_.writeFailures;
      attach(session, *opening, true);
    };
  }
  auto appended = core_.store.append(std::move(request));
  if (!appended) logWarning("a session's expiry can't be journaled: " + appended.error().text);
  if (!changed || !appended) attach(session, *opening, true);
}

void SessionRegistry::attach(const SessionRef& session, Opening& opening, bool resumed) {
  auto attachment = session->attach(opening.principal, opening.options.expirySeconds,
                                    opening.listener, resumed);
  opening.done(std::move(attachment));
  wakeWaiting(*session);
}

void SessionRegistry::wakeWaiting(Session& session) {
  for (Task& task : std::exchange(session.waiting, {})) session.home().post(std::move(task));
}

// ---------------------------------------------------------------- ending

void SessionRegistry::forget(const SessionRef& session) {
  std::lock_guard lock(mutex_);
  auto at = sessions_.find(session->clientId());
  if (at != sessions_.end() && at->second == session) sessions_.erase(at);
  core_.metrics.sessions.set(static_cast<int64_t>(sessions_.size()));
}

void SessionRegistry::finish(const SessionRef& session) {
  SessionRef kept = session;
  cancelWake(*kept);
  kept->publishWill();
  std::vector<storage::StateChange> deletions;
  kept->end(deletions);
  forget(kept);
  if (!deletions.empty()) core_.appendEventually(kept->home(), std::move(deletions));
}

void SessionRegistry::remove(const std::string& clientId, Done<Result<>> done) {
  auto removal = std::make_shared<Removal>();
  removal->worker = &core_.here();
  removal->done = std::move(done);
  SessionRef session;
  {
    std::lock_guard lock(mutex_);
    auto at = sessions_.find(clientId);
    if (at != sessions_.end()) session = at->second;
  }
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
    case Session::Phase::kMoving: session->waiting.emplace_back(again); return;
    case Session::Phase::kAttached:
    case Session::Phase::kDetached: break;
  }
  SubscriberListener* listener = session->listener();
  session->dropAttachment();
  cancelWake(*session);
  session->publishWill();
  storage::AppendRequest request;
  session->end(request.state);
  forget(session);
  wakeWaiting(*session);
  if (listener != nullptr) listener->onTakenOver(true);
  if (request.state.empty()) return removal->answer({});
  auto deletions = std::make_shared<std::vector<storage::StateChange>>(request.state);
  request.durability = storage::Durability::kSynced;
  Worker& worker = session->home();
  request.sink = &worker.sink;
  auto failed = [this, removal, deletions, &worker](const Error& error) {
    core_.appendEventually(worker, std::move(*deletions));
    removal->answer(std::unexpected(error));
  };
  request.done = [this, removal, failed](const Result<storage::Appended>& result) {
    if (result) return removal->answer({});
    ++core_.writeFailures;
    failed(result.error());
  };
  if (auto appended = core_.store.append(std::move(request)); !appended) failed(appended.error());
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
      for (const SessionRef& session : sessionsOf(index)) {
        // May have moved on since: then it is its new worker's to describe, or nobody's this time.
        if (session->worker() == index) mine.push_back(session->describe());
      }
      std::lock_guard lock(gather->mutex);
      std::move(mine.begin(), mine.end(), std::back_inserter(gather->all));
      if (--gather->left > 0) return;
      std::sort(gather->all.begin(), gather->all.end(),
                [](const auto& a, const auto& b) { return a.clientId < b.clientId; });
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
  std::vector<SessionRef> sessions = std::exchange(perWorker_[worker.index].toNotify, {});
  for (const SessionRef& session : sessions) {
    if (session->worker() != worker.index) continue;
    if (SubscriberListener* listener = session->listener()) listener->onDeliverable();
  }
}

void SessionRegistry::wakeAt(int64_t at, const SessionRef& session) {
  PerWorker& mine = perWorker_[session->worker()];
  if (session->deadline) mine.deadlines.erase(*session->deadline);
  session->deadline = mine.deadlines.emplace(at, session);
  if (*session->deadline == mine.deadlines.begin()) arm(session->home());
}

void SessionRegistry::cancelWake(Session& session) {
  if (!session.deadline) return;
  perWorker_[session.worker()].deadlines.erase(*session.deadline);
  session.deadline.reset();
}

void SessionRegistry::arm(Worker& worker) {
  PerWorker& mine = perWorker_[worker.index];
  if (!mine.timer || mine.deadlines.empty()) return;
  int64_t wait = mine.deadlines.begin()->first - core_.clock.monotonicMicros();
  mine.timer->start(std::max<int64_t>(0, wait));
}

void SessionRegistry::runDeadlines(Worker& worker) {
  PerWorker& mine = perWorker_[worker.index];
  int64_t now = core_.clock.monotonicMicros();
  while (!mine.deadlines.empty() && mine.deadlines.begin()->first <= now) {
    SessionRef session = mine.deadlines.begin()->second.lock();
    mine.deadlines.erase(mine.deadlines.begin());
    if (!session) continue;
    session->deadline.reset();
    session->onDeadline(now);
  }
  arm(worker);
}

}  // namespace polylog::router
