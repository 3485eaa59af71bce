// A session's subscriptions that replay: each follows the logs of all topics that its filter could
// match, from where it wished to begin on and without an end. Since the past and what comes later
// are read from the same log by the same cursor, there is no seam between them.
//
// Of a session without an inbox, records are read as the client takes them. Of one that has an
// inbox they are linked to it in pieces, in one entry with the cursors: whatever the crash, each
// record is in the inbox once, and waits there for its acknowledgement. Only so many are linked as
// a client may be sent at a time; the log holds the rest.
//
// On the session's worker only. In turns, between which the worker does its other work.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/model/delivery.h"
#include "core/model/subscriber_session.h"
#include "router/core.h"
#include "router/replay_source.h"
#include "router/replay_state.h"

namespace polylog::router {

class Session;

class ReplayLane {
 public:
  ReplayLane(Core& core, Session& session);
  ~ReplayLane();

  /// Adds it, or changes what it wants; it begins with begin(). `state` gets what makes it durable,
  /// if the session outlives its connection. kInvalid, kBusy.
  Result<> add(const Subscription& subscription, std::vector<storage::StateChange>& state);
  /// False if there is none.
  bool remove(const std::string& text, std::vector<storage::StateChange>& state);
  /// Those that were added are durable.
  void begin();
  const Subscription* find(const std::string& text) const;
  size_t size() const { return replays_.size(); }
  /// visit(const Subscription&)
  template <class Visit>
  void forEach(Visit&& visit) const {
    for (const auto& [number, replay] : replays_) visit(replay.subscription);
  }
  /// Nothing of it is left.
  bool idle() const { return replays_.empty() && !linking_; }

  /// As it was journaled: entries in the order of their keys.
  Result<> restore(const ReplayKey& key, BytesView value);
  /// After a failed write: what the state table says is what holds.
  void reload();
  /// The session ends: what deletes its state.
  void end(std::vector<storage::StateChange>& state);

  /// A connection begins, and ends.
  void attach();
  void detach();
  void topicAdded(const TopicRef& topic);

  /// Of a session without an inbox: up to `max` deliveries, with ids from `nextId` on below the
  /// limit.
  size_t take(size_t max, int64_t idLimit, int64_t& nextId, std::vector<Delivery>& out);
  /// All below that id is acknowledged.
  void inboxMoved(int64_t floor);
  /// Where a record in the inbox comes from, if it was linked for a subscription of these.
  std::optional<LogPlace> placeOf(int64_t id, Position batch, uint32_t index) const;
  /// Tries again what could not be read or written.
  void goOn();

 private:
  using SourceRef = std::shared_ptr<ReplaySource>;
  struct Replay {
    Subscription subscription;
    uint32_t number = 0;
    bool begun = false;
    std::map<PartitionId, SourceRef> sources;
    std::vector<ReplayOrigin> restored;  ///< of records linked before the start, by their batches
  };
  /// Ids [first, end) of the inbox, the records of a batch one after the other.
  struct Linked {
    int64_t first = 0;
    int64_t end = 0;
    uint32_t replay = 0;
    uint32_t index = 0;  ///< of the first, in its batch
    ReplayOrigin origin;
  };
  struct Piece;
  /// What a turn looks at, before the worker's other work has its own.
  static constexpr ReplayBudget kTurn{1024, 1 << 20};
  /// Records in a row from one partition, before the next.
  static constexpr int kInARow = 64;

  static DeliveryGuarantee granted(const Record& record, const Subscription& subscription);
  Result<> addSources(Replay& replay);
  Result<ReplayCursor> startOf(const Replay& replay, const Topic& topic, PartitionId partition);
  Result<> checkOffset(const Subscription& subscription) const;
  bool couldMatch(const Topic& topic, const TopicFilter& filter) const;
  std::vector<TopicRef> candidates(const TopicFilter& filter) const;
  void findTopics(Replay& replay);
  bool takeIn(Replay& replay, const TopicRef& topic);
  void deletion(const Replay& replay, std::vector<storage::StateChange>& state) const;
  void clear();
  void makeReady(const SourceRef& source);
  void drop(const SourceRef& source);
  void watch(const SourceRef& source);
  void rotate();
  bool settle(const SourceRef& source, ReplaySource::Found found);

  bool deliver(const Replay& replay, ReplaySource& source, int64_t idLimit, int64_t& nextId,
               std::vector<Delivery>& out);
  void restSoon();

  int64_t roomToLink() const;
  void link();
  Result<> linkFrom(Piece& piece, const SourceRef& source, ReplayBudget& budget);
  Result<> addTarget(Piece& piece, const Replay& replay, ReplaySource& source);
  Result<uint32_t> tagFor(Piece& piece, const Replay& replay, ReplaySource& source);
  void append(const std::shared_ptr<Piece>& piece);
  void linked(const std::shared_ptr<Piece>& piece, bool stored);
  void putState(Piece& piece);
  void flush();
  std::string originsOf(const Replay& replay, const Piece& piece) const;

  Core& core_;
  Session& session_;
  std::map<uint32_t, Replay> replays_;
  uint32_t nextNumber_ = 1;
  std::deque<SourceRef> ready_;             ///< may have something to read
  std::vector<SourceRef> moved_;            ///< without an entry that says so
  std::vector<storage::StateChange> owed_;  ///< cursors of partitions that are no more
  bool attached_ = false;
  bool turnDue_ = false;
  int turn_ = 0;  ///< records in a row from the first of ready_
  ReplayBudget budget_;
  bool linking_ = false;
  bool reloadDue_ = false;
  std::deque<Linked> linked_;
  int64_t outstanding_ = 0;
  std::optional<int64_t> firstLinked_;  ///< since the start
  /// Of the lane, and of the connection: for what is still to run when they have gone.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::shared_ptr<bool> connection_;
};

}  // namespace polylog::router
