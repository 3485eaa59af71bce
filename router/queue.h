// A destructive queue: a partition of the log store, what of it is used up, and its consumers. It
// has one worker, its home, where all that decides happens; publishers append to its partition
// straight, and consumers on other workers are handed deliveries by post.
//
// Ids are the partition's offsets. What is neither used up (AckSet) nor out with a consumer waits:
// ids from the cursor on that were never taken, and those in `returned_`, which go first, so that
// what comes back comes back in its place.
//
// Accepted ids are journaled lazily, what changed since once an append; a crash forgets the last
// few and delivers those again, as redelivered.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/model/queue.h"
#include "router/ack_set.h"
#include "router/core.h"
#include "router/partition_reader.h"
#include "storage/log_store.h"

namespace polylog::router {

/// A shared subscription's member whose exactly-once deliveries go to its inbox.
struct MoveTerms {
  PartitionId inbox;
  uint32_t subscriptionId = 0;
  bool retainAsPublished = false;
  /// Which ids they have there. On the client's worker.
  std::function<void(std::span<const int64_t>)> moved;
};

/// A consumer's half that its queue knows. Deliveries are in flight from the moment that they are
/// taken until the client says that they are sent.
struct Consumer {
  Consumer(Worker& itsWorker, QueueListener* itsListener, ConsumeOptions& options)
      : worker(itsWorker),
        acknowledges(options.acknowledges),
        exclusive(options.exclusive),
        window(options.window),
        channelWindow(options.channelWindow),
        connectionFlight(options.flight),
        returned(std::move(options.returned)),
        listener(itsListener) {}

  /// False: it has no room, and is blocked until it is told of some.
  bool reserve(int64_t octets);
  int64_t inFlight() const { return channelWindow ? channelWindow->used() : flight.count(); }
  /// What was taken and never handed over. On the client's worker.
  void giveBack(std::span<const QueueDelivery> deliveries);

  Worker& worker;
  const bool acknowledges;
  const bool exclusive;
  const DeliveryWindowRef window;
  const DeliveryWindowRef channelWindow;
  const DeliveryFlightRef connectionFlight;
  const std::function<void()> returned;
  /// Whose right to read is asked at each delivery; null: nobody's. To read the queue; of a shared
  /// subscription, the record's topic.
  PrincipalRef reader;
  std::optional<MoveTerms> moves;  ///< fixed once the queue knows it

  // Both workers'.
  DeliveryFlight flight{512, 1 << 20};
  std::atomic<bool> blocked{false};  ///< the queue waits to be told

  // The client's.
  QueueListener* listener;  ///< null once the consumer is over

  // The queue's.
  std::vector<QueueDelivery> batch;
  bool gone = false;

 private:
  bool tryTake(int64_t octets);
};
using ConsumerRef = std::shared_ptr<Consumer>;

class Queue final : public QueueRef, public std::enable_shared_from_this<Queue> {
 public:
  Queue(Core& core, Worker& home, QueueSpec spec, PartitionId partition, uint64_t owner);
  ~Queue() override;

  // ---- any worker
  const QueueSpec& spec() const { return spec_; }
  PartitionId partition() const { return partition_; }
  Worker& home() const { return home_; }
  /// The client that it is exclusive to; 0 = nobody.
  uint64_t owner() const { return owner_; }
  QueueInfo info() const;
  void settle(std::span<const Settlement> settlements) override;
  /// Runs `task` on the home worker, never inside the call.
  void onHome(Task task);
  void resume(const ConsumerRef& consumer);
  /// Deliveries that a consumer which is over never got.
  void giveBack(std::vector<QueueDelivery> deliveries);
  /// A record that is stored nowhere, of a shared subscription: to a member that is ready, or
  /// nobody.
  void offer(std::vector<RoutedRecordRef> records);
  /// A shared subscription's members are others: what is kept for one that is away is looked at
  /// again.
  void reconsider();
  /// Who asks for the queue no longer sees a consumer that is about to be removed (`by` 1), until it
  /// has been (-1).
  void leaving(int64_t by) { leaving_ += by; }

  // ---- on the home worker
  Result<> addConsumer(const ConsumerRef& consumer);
  /// True if it was the last one.
  bool removeConsumer(const ConsumerRef& consumer);
  bool hasConsumers() const { return !consumers_.empty(); }
  std::optional<QueueDelivery> takeOne();
  int64_t purge();
  /// Deleted: tells its consumers, delivers nothing any more.
  void end();
  bool ended() const { return ended_; }
  /// Declarations that are in the journal or on their way there, so that one that fails doesn't
  /// take away what another one was promised. The registry's, under its lock.
  int64_t standing = 0;
  std::atomic<bool> kept{false};  ///< its declaration is in the journal
  /// What deletes its state.
  void appendDeletion(std::vector<storage::StateChange>& state) const;

  // ---- life
  /// Before start: as it was journaled.
  void restoreFloor(int64_t logStart);
  bool restoreChunk(int64_t chunk, BytesView octets) { return acks_.restoreChunk(chunk, octets); }
  /// Ids below it may have been delivered before this start.
  void restoreSent(int64_t end) { sentEnd_ = end; }
  void restored();
  /// Journals what was kept back, and how far deliveries had come.
  void stop(LeaderEpoch epoch);

 private:
  struct Next {
    int64_t id = -1;
    bool fromReturned = false;
    bool redelivered = false;
    PartitionReader* reader = nullptr;
  };

  bool mayRead(const Consumer& consumer) const;
  void cancel(const ConsumerRef& consumer);
  /// Exactly once, on its way to a member's inbox.
  struct Move {
    ConsumerRef consumer;
    QueueDelivery delivery;
    storage::BatchPlace place;
    uint32_t index = 0;  ///< of the record in its batch
    uint32_t attributes = 0;
  };
  using Moves = std::vector<Move>;

  void pumpSoon();
  void retrySoon();
  void pump();
  std::deque<ConsumerRef>::iterator whoseTurn(const RoutedRecord& record);
  std::deque<ConsumerRef>::iterator turnOf(const ConsumerRef& consumer);
  ConsumerRef memberOf(size_t hash, const RoutedRecord& record) const;
  bool mayHave(const Consumer& consumer, const RoutedRecord& record) const;
  bool someoneMayHave(const RoutedRecord& record) const;
  bool absentMayHave(const RoutedRecord& record) const;
  void keep(const Next& next);
  void bringBack();
  bool movesTo(const Consumer& consumer, const Record& record) const;
  void move();
  Result<> addMove(const Move& move, storage::AppendRequest& request, std::vector<uint32_t>& fresh);
  void moved(const Moves& moves, const Result<storage::Appended>& result);
  bool findNext(Next& next);
  PartitionReader::Found look(Next& next);
  void skip(const Next& next, int64_t end, const char* why);
  void deny(const Next& next);
  QueueDelivery take(const Next& next);
  void hand(const ConsumerRef& consumer);
  void apply(std::span<const Settlement> settlements);
  void putBack(int64_t id, bool redelivered);
  void unblock();
  void watch();
  void unwatch();
  void counted();
  void changed();
  void journal();
  void journaled(bool ok);

  Core& core_;
  Worker& home_;
  const QueueSpec spec_;
  const PartitionId partition_;
  const uint64_t owner_;

  // Any thread.
  std::atomic<int64_t> used_{0};  ///< how many are used up
  std::atomic<int64_t> out_{0};   ///< with consumers
  std::atomic<int64_t> consumerCount_{0};
  std::atomic<int64_t> leaving_{0};  ///< consumers that have been cancelled and are still counted

  AckSet acks_;
  int64_t cursor_ = 0;
  int64_t sentEnd_ = 0;
  std::map<int64_t, bool> returned_;  ///< id, and whether it was delivered before
  /// As returned_, of a shared subscription: kept for members that are away, who alone may read it.
  std::map<int64_t, bool> kept_;
  uint64_t keptUnder_ = 0;            ///< the generation of rules by which it is
  std::set<int64_t> again_;           ///< out, and delivered before in this run
  std::vector<ConsumerRef> consumers_;
  std::deque<ConsumerRef> ready_;  ///< whose turn it is
  ConsumerRef sticky_;             ///< who gets all, if that is how records are divided
  Moves toMove_;
  std::unique_ptr<PartitionReader> reader_;
  std::unique_ptr<PartitionReader> returnedReader_;
  std::unique_ptr<Timer> retry_;
  storage::LogStore::WatchId watchId_ = 0;
  bool watching_ = false;
  bool pumpDue_ = false;
  bool ended_ = false;
  bool dirty_ = false;
  bool journalOnItsWay_ = false;
  int64_t journaledFloor_ = 0;
};

}  // namespace polylog::router
