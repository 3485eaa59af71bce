// All sessions by client id: opening, taking over, ending them, and waking them when something
// falls due. open(), list() and remove() from any worker; the rest on the session's own.
//
// A session is asked for on its own worker, one request after the other: an open posts there, where
// the old connection is told, and the session either moves to the worker that asked or ends and
// makes room for a new one. While it is being created or moved, further requests wait in it.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/base/linked_set.h"
#include "core/model/broker.h"
#include "router/core.h"
#include "router/deadlines.h"
#include "router/session.h"

namespace polylog::router {

class SessionRegistry {
 public:
  explicit SessionRegistry(Core& core);
  ~SessionRegistry();
  Result<> load();
  void start(Worker& worker);
  void stop(Worker& worker);

  void open(const PrincipalRef& principal, SubscriberOptions options, SubscriberListener* listener,
            Broker::OpenDone done);
  void list(Done<std::vector<SessionInfo>> done);
  void remove(const std::string& clientId, Done<Result<>> done);
  /// Any thread; null if there is none.
  std::shared_ptr<Session> find(BytesView clientId) const;

  /// The session is over: its will, its state, its name.
  void finish(const std::shared_ptr<Session>& session);
  /// onDeliverable(), once the current round is through.
  void notify(std::shared_ptr<Session> session);
  /// onDeadline() at that time (monotonic microseconds), instead of an earlier wish.
  void wakeAt(int64_t at, const std::shared_ptr<Session>& session);

 private:
  struct Exclusive;
  struct Opening;
  struct Removal;
  using OpeningRef = std::shared_ptr<Opening>;
  using SessionRef = std::shared_ptr<Session>;
  struct PerWorker {
    std::vector<SessionRef> toNotify;
    Deadlines<Session> deadlines;
    std::unique_ptr<Timer> timer;
  };

  struct ByName {
    using Link = SessionRef;
    static Link& next(Session& session) { return session.nextInRegistry; }
    static size_t hash(BytesView name) { return std::hash<BytesView>{}(name); }
    static size_t hash(const Session& session) { return hash(session.clientId()); }
    static bool is(const Session& session, BytesView name) { return session.clientId() == name; }
  };
  /// At a start, ascending by inbox.
  using ByInbox = std::vector<std::pair<PartitionId, Session*>>;

  void tryOpen(OpeningRef opening);
  void handOver(SessionRef existing, OpeningRef opening);
  void create(SessionRef fresh, OpeningRef opening);
  void created(SessionRef fresh, OpeningRef opening, const Result<storage::Appended>& result);
  void resume(SessionRef session, OpeningRef opening);
  void settled(SessionRef session, OpeningRef opening, Result<> result);
  void resumed(const SessionRef& session, const OpeningRef& opening, const Result<>& result);
  void attach(const SessionRef& session, Opening& opening, bool resumed);
  void removeAt(SessionRef session, std::shared_ptr<Removal> removal);
  bool onItsWorker(const SessionRef& session, Task again);
  void wakeWaiting(Session& session);
  void forget(const SessionRef& session);
  WhatIsDue dueOf(const Session& ended);
  void runNotifications(Worker& worker);
  void runDeadlines(Worker& worker);
  void arm(Worker& worker);
  void cancelWake(Session& session);
  /// The worker's, those that come or go meanwhile with luck; one may be named twice.
  std::vector<SessionRef> sessionsOf(uint32_t worker, bool (*wanted)(const Session& session)) const;
  Result<> loadSubscriptions(const ByInbox& byInbox);
  void restoreExclusive(std::vector<Exclusive> all, std::vector<storage::StateChange>& gone);

  Core& core_;
  /// Held over the appends that journal a session's name and over those that delete one late, so
  /// that these know what stands in the journal. Before mutex_.
  std::mutex naming_;
  mutable std::mutex mutex_;
  LinkedSet<Session, ByName> sessions_;
  std::vector<PerWorker> perWorker_;
};

}  // namespace polylog::router
