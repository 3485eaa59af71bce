// A subscriber's session: subscriptions, what waits for it, what it acknowledged, its will.
//
// A session belongs to one worker: where its connection is, or was last. Everything not marked "any
// thread" is called on that worker only. It moves to another worker when its client connects there
// (SessionRegistry); from then on the old worker leaves it alone.
//
// A session that outlives its connection ("persistent") has an inbox, a partition of the log store:
// what it gets at least once is a target of the record's own entry, read below the high watermark
// when the client takes it; its ids are the inbox's offsets. All else waits in memory (LiveQueue)
// while the client is connected, and not otherwise. Most persistent sessions sleep: what only a
// connected one needs goes with its connection, what few have stands aside.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/mostly_one.h"
#include "core/base/seldom.h"
#include "core/model/broker.h"
#include "core/model/subscriber_session.h"
#include "router/core.h"
#include "router/inbox.h"
#include "router/live_queue.h"
#include "router/replay_state.h"
#include "router/retained_store.h"
#include "router/state_codec.h"
#include "router/subscription_trie.h"

namespace polylog::router {

class Attachment;
class ReplayLane;
class SharedLane;

class ShareMembership;

class Session final : public std::enable_shared_from_this<Session> {
 public:
  Session(Core& core, std::string clientId, uint32_t worker);
  ~Session();

  // ---- any thread
  const std::string& clientId() const { return clientId_; }
  uint32_t worker() const { return worker_.load(std::memory_order_acquire); }
  bool connected() const { return connected_.load(std::memory_order_relaxed); }
  /// Fixed before anybody but its worker knows the session.
  bool persistent() const { return inbox_ != nullptr; }
  PartitionId inbox() const { return inbox_->partition(); }
  /// Where the oldest are dropped: something was appended to the inbox, up to `end`. If that is
  /// more than may wait, it is seen to soon.
  void appended(Offset end, int64_t octets);
  /// Where new ones are dropped (options.inboxDropsNew): whether one more of so many octets may be
  /// appended. If not, it counts as dropped; if so, an InboxRoom is to be settled.
  bool admits(int64_t octets);
  /// The same for what comes without asking: replays and deliveries of shared subscriptions, which
  /// have bounds of their own.
  void letIn(int64_t records, int64_t octets);

  // ---- life, by SessionRegistry
  enum class Phase : uint8_t { kOpening, kAttached, kDetached, kMoving, kEnded };
  Phase phase() const { return phase_; }
  void setPhase(Phase phase) { phase_ = phase; }
  /// Makes it persistent: before it is known to anybody.
  void giveInbox(PartitionId inbox, uint32_t expirySeconds, std::string user);
  /// As it was journaled; connected or not then, it is disconnected now.
  void restore(const SessionState& state, int64_t nowMonotonic, int64_t nowWall);
  /// Asks the store how far the inbox reaches, once restored. Quickest in the inboxes' order, with
  /// a million.
  void restoreEnd();
  void restoreSubscription(const SubscriptionState& state);
  void restoreInbox(InboxState state) { inbox_->restore(std::move(state)); }
  /// After restore(): due as if the connection had been lost when it was last known of.
  void restoreWill(Will will, OwnVerdict own);
  /// Whose the session is, while no client of its is there. `rights`: its last login's own.
  PrincipalRef nameOnly(LoginRightsRef rights) const;
  /// The same of the client that is there now, for when it has gone. Null: the session goes, too.
  PrincipalRef sleeper() const;
  void restoreHeld(uint16_t id) { aside_.write().held.push_back(id); }
  /// An entry of the table of replays, in the order of the keys.
  Result<> restoreReplay(const ReplayKey& key, BytesView value);

  std::shared_ptr<SubscriberSession> attach(const PrincipalRef& principal,
                                            SubscriberOptions& options,
                                            SubscriberListener* listener, bool resumed);
  /// Ends the attachment without telling anybody; the will is left alone.
  void dropAttachment();
  SubscriberListener* listener() const { return live_ ? live_->listener : nullptr; }
  void moveTo(uint32_t worker) { worker_.store(worker, std::memory_order_release); }
  /// Whether it may be opened again instead of beginning anew.
  bool resumable(int64_t nowMonotonic) const;
  /// Out of the trie; never delivers again. Appends what deletes its state: first what makes it one
  /// that nobody knows, then (there may be much) what is only found by its inbox.
  void end(std::vector<storage::StateChange>& state);
  SessionState state() const;
  /// Something falls due: a delayed will, the expiry, a read to be tried again.
  void onDeadline(int64_t nowMonotonic);
  void publishWill();
  /// The will of the connection to come, durable with `request`; for a session with an inbox.
  void journalWill(const std::optional<Will>& will, const PrincipalRef& by,
                   storage::AppendRequest& request);
  /// The will of a connection that was replaced: sent unless the session goes on and it has a
  /// delay.
  void connectionReplaced(bool resumes);
  SessionInfo describe() const;
  struct Backlog {
    int64_t waiting = 0;       ///< deliveries not acknowledged
    int64_t waitingBytes = 0;  ///< of those in the log, roughly
    int64_t inFlight = 0;      ///< of those, with the client
    int64_t dropped = 0;
  };
  Backlog backlog() const;
  uint32_t expirySeconds() const { return expirySeconds_; }
  /// Whose it is; empty = anybody's.
  const std::string& user() const { return user_; }
  /// At its resumption: what is to be durable before the client hears of it. A failure is followed
  /// by resumeFailed() with what state() was before.
  void resumeWith(uint32_t expirySeconds, std::string user, storage::AppendRequest& request);
  void resumeFailed(SessionState before);
  /// False: a write that it had begun earlier has failed meanwhile.
  bool allJournaled() const { return !inbox_->dirty(); }
  /// The broker ends; the session doesn't.
  void abandon();
  void scheduleDeadline();
  bool dirty() const { return inbox_ && inbox_->dirty(); }
  void flush() {
    if (inbox_) inbox_->flush();
  }
  /// Requests that wait until the one at hand is through.
  void whenThrough(Task task) { aside_.write().waiting.push_back(std::move(task)); }
  std::vector<Task> takeWaiting();
  uint32_t wakePlace = 0;  ///< among its worker's Deadlines

 private:
  uint32_t checkOldAt_ = 0;  ///< monotonic seconds; 0 = never. Here it takes no room.

 public:
  std::shared_ptr<Session> nextInRegistry;  ///< the registry's

  // ---- by SubscriberSession, through Attachment
  std::vector<uint16_t> heldPublishIds() const { return aside_->held; }
  void subscribe(std::vector<Subscription> subscriptions, SubscriberSession::SubscribeDone done);
  void unsubscribe(std::vector<std::string> filters,
                   std::move_only_function<void(Result<std::vector<bool>>)> done);
  size_t take(size_t max, TakeLimits limits, std::vector<Delivery>& out);
  void acknowledge(int64_t id);
  void accept(int64_t id, std::move_only_function<void(Result<>)> done);
  void forgetAccepted(std::move_only_function<void(Result<>)> done);
  int64_t acknowledgedUpTo() const;
  int64_t sharedAcknowledgedUpTo() const;
  bool inboxHas(int64_t id) const { return inbox_ && inbox_->has(id); }
  void releasePublish(uint16_t id, std::move_only_function<void(Result<>)> done);
  void setWill(std::optional<Will> will);
  void loginRenewed(std::move_only_function<void(Result<>)> done);
  void setExpiry(uint32_t seconds);
  void detach();

  // ---- by the router's parts
  void pushLive(LiveItem item);
  void holdPublishes(const std::vector<uint16_t>& ids);
  void unholdPublishes(const std::vector<uint16_t>& ids);
  /// Tells the listener, once the current round is through, that there is something to take.
  void notify();
  /// Of the client that is connected.
  const PrincipalRef& principal() const { return live_->principal; }
  bool mayRead(const Address& address) const;
  /// What could not be read or written is tried again in a second.
  void retrySoon();
  int64_t inboxWaiting() const { return inbox_->waiting(); }
  int64_t inboxBytes() const { return inbox_->waitingBytes(); }
  /// A record of a shared subscription was moved to the inbox.
  void movedHere(std::span<const int64_t> ids);
  /// What is acknowledged becomes durable with `request`; a failure is followed by
  /// inboxChangesFailed().
  void addInboxChanges(storage::AppendRequest& request) { inbox_->addChanges(request); }
  void inboxChangesFailed() { inbox_->changesFailed(); }
  /// Where in its topic the inbox's record stands, if a replay brought it there.
  std::optional<LogPlace> placeOf(int64_t id, Position batch, uint32_t index) const;
  Worker& home() const { return *core_.workers[worker()]; }
  /// Runs `task` on the worker that the session belongs to: here and now if that is this one. The
  /// session lives until then.
  void onHome(Task task);

 private:
  friend class Inbox;
  friend struct InboxRoom;

  /// What only a connected session needs.
  struct Live {
    SubscriberListener* listener = nullptr;
    PrincipalRef principal;
    std::shared_ptr<Attachment> attachment;
    bool hungry = true;      ///< the client waits to be told
    uint8_t turn = 0;        ///< whose it is in take()
    int64_t since = 0;       ///< wall milliseconds
    int64_t window = 0;
    LiveQueue plain;         ///< at most once
    LiveQueue acknowledged;  ///< the others, of a session without an inbox
    int64_t nextId = 0;
    RangeSet done;
    bool watching = false;
    storage::LogStore::WatchId watchId = 0;
    PartitionId watchedPartition;
  };
  struct SubscribeCall;
  /// Retained records on their way to a new subscription, a piece at a time: to the inbox, then
  /// those that wait in memory.
  struct RetainedWalk {
    std::string text;
    TopicFilter filter;
    DeliveryGuarantee guarantee{};
    uint32_t id = 0;
    bool live = false;      ///< of those that wait in memory
    bool sawPlain = false;  ///< the way to the inbox passed some of those
    bool cutOff = false;    ///< there are more than the inbox holds
    int64_t stored = 0;
    int64_t octets = 0;
    uint32_t attachment = 0;
    RetainedStore::Cursor cursor;
  };
  struct RetainedPiece;
  /// What few sessions have, and fewer still while they sleep.
  struct Aside {
    Aside();
    ~Aside();

    std::unique_ptr<Will> will;
    PrincipalRef willBy;
    bool willJournaled = false;          ///< one may stand in the journal
    std::unique_ptr<SharedLane> shared;  ///< its shared subscriptions
    std::unique_ptr<ReplayLane> replay;  ///< its subscriptions that replay
    int64_t willAt = -1;
    int64_t retryAt = -1;
    int64_t dropped = 0;
    std::unique_ptr<InboxWeight> weight;  ///< once it mattered; can be found out anew
    std::vector<uint16_t> held;  ///< exactly-once publishes of its own
    std::vector<Task> waiting;
    std::list<RetainedWalk> walks;
    bool walking = false;     ///< a step is posted, or its entry on its way
    bool walkPaused = false;  ///< until the client has taken something

    bool idle() const;
  };

  /// Leaves what a sleeping session doesn't need.
  void tidy() {
    if (!live_ && aside_.written() && aside_->idle()) aside_.reset();
  }
  Result<DeliveryGuarantee> addOne(const Subscription& subscription, SubscribeCall& call);
  Result<DeliveryGuarantee> addShared(const Subscription& subscription, SubscribeCall& call);
  Result<DeliveryGuarantee> addReplay(const Subscription& subscription, SubscribeCall& call);
  void appendSubscriptions(const std::shared_ptr<SubscribeCall>& call);
  void subscribed(SubscribeCall& call, const Result<storage::Appended>& result);
  void startRetained(std::list<RetainedWalk> walks);
  void goOnRetained();
  void walkRetained();
  void walkToInbox(RetainedWalk& walk, RetainedPiece& piece);
  bool addToPiece(RetainedWalk& walk, RetainedPiece& piece, BytesView text,
                  const SharedBytes& value);
  bool walkLive(RetainedWalk& walk, size_t& left);
  void appendPiece(const std::shared_ptr<RetainedPiece>& piece);
  void retainedLinked(RetainedPiece& piece, Offset last);
  void retainedSettled(const RetainedPiece& piece, bool stored);
  Result<LiveItem> openRetained(const RetainedWalk& walk, BytesView text,
                                const SharedBytes& value) const;
  size_t takeSome(size_t max, TakeLimits limits, std::vector<Delivery>& out);
  size_t withoutDenied(size_t from, std::vector<Delivery>& out);
  void watchTime(std::span<const Delivery> taken);
  LiveQueue& queueFor(DeliveryGuarantee guarantee);
  bool hasRoomFor(const LiveItem& item);
  void drop(const std::string& text, SubscriptionTrie::Place place);
  SharedLane& sharedLane();
  ReplayLane& replayLane();
  std::shared_ptr<ShareMembership> dropShared(const std::string& text);
  void adoptWill(std::optional<Will> will, const PrincipalRef& by);
  void reloadSubscriptions();
  size_t takePlain(size_t max, std::vector<Delivery>& out);
  size_t takeAcknowledged(size_t max, int64_t idLimit, std::vector<Delivery>& out);
  bool bodyOf(LiveItem& item, bool& wait);
  void watch(PartitionId partition, Offset offset);
  void askTrim();
  void trim();
  void countDropped(DropReason reason, int64_t count);
  void dropOld();
  void checkOldIn(int64_t millis);
  void checkOldAfterRestart();
  void journalSession(storage::Durability durability);

  // A million sleep: what is added here counts (tests/router/sleepers_test.cc).
  Core& core_;
  const std::string clientId_;
  std::string user_;
  MostlyOne<SubscriptionTrie::Place> subscriptions_;
  std::unique_ptr<Inbox> inbox_;
  std::unique_ptr<Live> live_;
  Seldom<Aside> aside_;
  int64_t disconnectedAt_ = 0;  ///< monotonic microseconds
  int64_t disconnectedWallMs_ = -1;
  std::atomic<uint32_t> worker_;
  uint32_t expirySeconds_ = 0;
  uint32_t nextNumber_ = 1;
  uint32_t attachments_ = 0;  ///< tells one connection's wake-ups from another's
  std::atomic<bool> connected_{false};
  std::atomic<bool> trimAsked_{false};
  Phase phase_ = Phase::kOpening;
  std::atomic<uint32_t> refused_{0};  ///< and not yet counted in `dropped`
};

/// What admits() or letIn() gave to records on their way to the disk. Settled once it is known
/// whether they have come there, and not before: so a failed write takes nobody's room away.
struct InboxRoom {
  std::shared_ptr<Session> session;
  int64_t records = 0;
  int64_t octets = 0;
  Offset end;  ///< of the records in the inbox, if they were appended
  // ---- any thread
  void sequenced() const;
  void settle(bool stored) const;
};

/// What a codec holds of a session: answers nothing any more once it was taken over or detached.
class Attachment final : public SubscriberSession {
 public:
  Attachment(std::shared_ptr<Session> session, bool resumed)
      : session_(std::move(session)), resumed_(resumed) {}
  void invalidate() { session_ = nullptr; }
  const std::shared_ptr<Session>& session() const { return session_; }

  bool resumed() const override { return resumed_; }
  uint64_t life() const override;
  std::vector<uint16_t> heldPublishIds() const override;
  void subscribe(std::vector<Subscription> subscriptions, SubscribeDone done) override;
  void unsubscribe(std::vector<std::string> filters,
                   std::move_only_function<void(Result<std::vector<bool>>)> done) override;
  size_t take(size_t max, TakeLimits limits, std::vector<Delivery>& out) override;
  void acknowledge(int64_t id) override;
  void accept(int64_t id, std::move_only_function<void(Result<>)> done) override;
  void forgetAccepted(std::move_only_function<void(Result<>)> done) override;
  int64_t acknowledgedUpTo() const override;
  int64_t sharedAcknowledgedUpTo() const override;
  void releasePublish(uint16_t id, std::move_only_function<void(Result<>)> done) override;
  void setWill(std::optional<Will> will) override;
  void loginRenewed(std::move_only_function<void(Result<>)> done) override;
  void setExpiry(uint32_t seconds) override;
  void detach() override;

 private:
  std::shared_ptr<Session> session_;
  bool resumed_;
};

}  // namespace polylog::router
