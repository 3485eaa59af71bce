// The log store: the only door to storage. One journal of entries, many ordered views of it
// (partitions), and the state view. Nothing above this header sees a path or a file.
//
// Threads: every method may be called from any thread unless it says otherwise. append() fixes the
// entry's journal position and all its offsets in one step under the sequencer's lock and returns;
// the journal's own writer thread writes and syncs groups of entries. Completions reach the caller
// through its CompletionSink, one call a sink a commit, in the order of appends.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/strong.h"
#include "core/model/transaction.h"
#include "storage/file.h"

namespace polylog::storage {

/// When an append is acknowledged and visible. Changes nothing in the file.
enum class Durability : uint8_t {
  kSynced,    ///< after fdatasync ("safe")
  kWritten,   ///< after write(); synced within the flush interval or not at all, as configured
  kUnwaited,  ///< nobody waits: synced within 100 ms, or with the next group that is waited for
};

/// Records [firstRecord, firstRecord + count) of a batch appear in `partition`. `count` 0 = the
/// whole batch (its offsetCount()). `attributes` are the router's and come back with read().
struct Target {
  PartitionId partition;
  uint32_t firstRecord = 0;
  uint32_t count = 0;
  uint32_t attributes = 0;
};

/// One record batch and where it appears. The batch has been validated (validateRecordBatch). A
/// control batch (endMarkerBatch) ends its producer's transaction in all its targets' partitions, a
/// transactional one whose producer is checked opens it in its first target's.
struct MessagesPart {
  SharedBytes batch;
  std::vector<Target> targets;
  /// Its producer's epoch and sequence are checked against targets[0]'s partition.
  bool checkProducer = false;
  /// Comes back through the commit feed once durable (and after a restart, through scanRouted()).
  bool routeAfterCommit = false;
};

/// Where a batch stands in the journal.
struct BatchPlace {
  Position position;
  uint32_t length = 0;
};

/// An earlier batch appears in further partitions, without being written again.
struct LinkPart {
  BatchPlace batch;
  std::vector<Target> targets;
};

/// Tables of the state view. The octet is on disk: never renumber.
enum class StateTable : uint8_t {
  kPartition = 1,  ///< storage's own; changed only through the functions below
  kDerived = 2,    ///< storage's own: segment lists, offset ends, producer state
  kMeta = 3,       ///< small facts: cluster id, leader epoch, id allocators, routed position
  kTopic = 4,
  kGroup = 5,
  kGroupOffset = 6,
  kSession = 7,
  kSubscription = 8,
  kInbox = 9,  ///< acknowledged out of order
  kHeldPublish = 10,
  kRetained = 11,
  kProducer = 12,
  kExchange = 13,
  kBinding = 14,
  kQueue = 15,
  kQueueAck = 16,  ///< of queues: acknowledged out of order
  kTransaction = 17,
  kGroupMember = 18,  ///< of groups whose assignments the broker makes
  kGroupConfig = 19,
  kWill = 20,
  kDelayed = 21,  ///< publishes that wait for their time
  kBan = 22,
  kUser = 24,
  kAccessRule = 25,
  kQuota = 26,
  kReplay = 28,
  kSharePartition = 29,  ///< what a share group has done with a partition
  kBridge = 31,          ///< what bridges to other brokers keep
  kClientMetrics = 32,   ///< subscriptions of clients' metrics
  kTopicDefaults = 34,   ///< what is set for topics that set nothing
};

/// A put, or a delete when `value` is nullopt.
struct StateChange {
  StateTable table;
  std::string key;
  std::optional<std::string> value;
};

/// Of each key only the latest record is kept, once it is old enough; a tombstone (a record without
/// a value) goes some time after what it deletes. Records without a key count as having one key.
struct Compaction {
  int64_t minLagMillis = 0;  ///< a batch stays as it is for so long, by its largest timestamp
  int64_t maxLagMillis = INT64_MAX;  ///< after so long a superseded record has gone
  int64_t deleteRetentionMillis = 24LL * 3600 * 1000;  ///< how long a tombstone stays at least
  int32_t minDirtyPercent = 50;  ///< of the octets, what must be new since the last time
  bool operator==(const Compaction&) const = default;
};

/// How long a partition's records are kept. -1 = without limit.
struct Retention {
  int64_t millis = -1;
  int64_t bytes = -1;
  std::shared_ptr<const Compaction> compaction = nullptr;  ///< null = none

  bool operator==(const Retention&) const = default;
};

/// Makes a partition, or changes its retention. A target's partition must exist: made earlier, or
/// by this entry's own state part.
StateChange partitionConfigured(PartitionId partition, Retention retention);
/// Its records are dead from here on; the id is never used again.
StateChange partitionDeleted(PartitionId partition);
/// Records below `offset` are dead (acknowledged, DeleteRecords).
StateChange logStartMoved(PartitionId partition, Offset offset);

/// What became of an append.
struct Appended {
  Position position;                ///< of the entry
  std::vector<BatchPlace> batches;  ///< of each messages part
  /// The base offset of every target: messages parts in order, then links.
  std::vector<Offset> offsets;
  bool duplicate = false;  ///< an idempotent producer's repeat: offsets are the original's
};

/// Where completions go: storage hands over all that one commit finished for this sink. Called on
/// the writer thread; must not block or call back into storage. (The router posts to a worker.)
class CompletionSink {
 public:
  virtual ~CompletionSink() = default;
  virtual void completed(std::vector<std::move_only_function<void()>> tasks) = 0;
};

/// All parts are applied or none. State parts may stand alone.
struct AppendRequest {
  std::vector<MessagesPart> messages;
  std::vector<LinkPart> links;
  std::vector<StateChange> state;
  Durability durability = Durability::kSynced;
  /// Its messages were let in before full() said yes: they are not refused for want of space.
  bool admitted = false;
  /// Refused (kIo) if failures() is another by now: what this builds on may have been taken back.
  std::optional<uint64_t> ifFailures;
  /// Run through `sink` when durable as asked, or when the write failed (kIo, kNoSpace, kShutdown).
  /// Both may be null. Not run when append() itself returns an error.
  CompletionSink* sink = nullptr;
  std::move_only_function<void(Result<Appended>)> done;
};

/// A piece of a partition: records [firstRecord, firstRecord + count) of `batch` are its offsets
/// from baseOffset on. The batch's CRC has been verified; its base offset field means nothing.
struct ReadBatch {
  SharedBytes batch;
  BatchPlace place;
  Offset baseOffset;
  uint32_t firstRecord = 0;
  uint32_t count = 0;
  uint32_t attributes = 0;
};

/// What the index says of a piece of a partition, which nothing was read of: `octets` is what its
/// records take of their batch.
struct IndexedBatch {
  Offset base;
  uint32_t count = 0;
  uint32_t attributes = 0;
  int64_t maxTimestamp = -1;
  int64_t octets = 0;
  Position position;  ///< of the batch
};

/// Offsets [first, second).
using OffsetRange = std::pair<Offset, Offset>;

struct PartitionEnds {
  Offset logStart;
  Offset highWatermark;  ///< one past the last visible record
  Offset end;            ///< one past the last sequenced record
  int64_t bytes = 0;     ///< of batches, roughly (for retention and listings)
  Offset lastStable;     ///< the lesser of highWatermark and the first open transaction
};

/// What a reader of committed records goes by, of one moment.
struct Stability {
  PartitionEnds ends;
  std::vector<AbortedTransaction> aborted;  ///< by their first offset
};

/// A producer's transaction in one partition, without a marker yet.
struct OpenTransaction {
  PartitionId partition;
  ProducerIdentity producer;
  Offset first;
};

/// What is remembered of an idempotent producer in a partition.
struct ProducerInfo {
  ProducerId id;
  int16_t epoch = 0;
  int32_t lastSequence = -1;
  int64_t lastMs = 0;                                     ///< when its last batch was appended
  std::optional<Offset> transactionStart = std::nullopt;  ///< of its open transaction
};

/// A batch that asked for routing after its commit.
struct CommittedBatch {
  PartitionId partition;
  ReadBatch batch;
  Position entry;  ///< where the entry that holds it begins
};

/// What the writer of state knows of who will read again, as far as that is durable: the space of
/// the rest is given back. Called on the maintenance thread; may read the store's state.
class Liveness {
 public:
  virtual ~Liveness() = default;
  /// Records above a partition's log start that nobody will read again, ascending; reads pass over
  /// those that are gone.
  virtual std::vector<OffsetRange> usedUp(PartitionId partition) const = 0;
  /// scanRouted() won't be asked for anything below again.
  virtual Position routedUpTo() const = 0;
};

/// What recovery found, for the start-up log and for tests.
struct RecoveryReport {
  Position durableEnd;
  uint64_t truncatedBytes = 0;  ///< of the torn tail
  uint64_t damagedEntries = 0;  ///< skipped below a later durable mark
  std::vector<std::string> notes;
};

struct LogStoreOptions {
  uint64_t segmentBytes = 256ULL << 20;
  uint64_t cacheBytes = 64ULL << 20;
  uint64_t checkpointBytes = 64ULL << 20;  ///< of journal between checkpoints of the state view
  int64_t unwaitedSyncMillis = 100;
  int64_t retentionCheckMillis = 10'000;
  /// Octets free on the disk below which messages are refused, and from which on they are taken
  /// again. What is below the first remains for state, footers, the manifest and rewriting.
  uint64_t diskHighMark = 256ULL << 20;
  uint64_t diskLowMark = 512ULL << 20;
  /// False in tests and simulation: nothing runs on its own; drive with runOnce() or runStep().
  bool threads = true;
};

class LogStore {
 public:
  virtual ~LogStore() = default;

  virtual const RecoveryReport& recovery() const = 0;

  /// Sequences the request. On success the result's fields are final unless the write fails.
  /// Errors, nothing appended: kNotFound (a target's partition), kProducerFenced,
  /// kOutOfOrderSequence, kTooLarge (the entry cap), kNoSpace (messages while full()), kShutdown.
  /// A duplicate batch succeeds with the original's offsets; `done` follows when that is durable.
  virtual Result<Appended> append(AppendRequest request) = 0;

  /// Batches from the one that holds `from` on, below the high watermark, until `maxBytes` is
  /// passed (always at least one if there is one). The first may begin above `from`: what is
  /// between was compacted away or used up. Empty at the high watermark. kOutOfRange below the log
  /// start or above the high watermark, kNotFound, kCorrupt (damaged there), kIo.
  virtual Result<std::vector<ReadBatch>> read(PartitionId partition, Offset from,
                                              size_t maxBytes) = 0;
  /// A batch by its place, once it is visible. kNotFound when its segment is gone.
  virtual Result<SharedBytes> readAt(BatchPlace place) = 0;
  virtual Result<PartitionEnds> ends(PartitionId partition) const = 0;
  /// Up to `most` pieces from the one that holds `from` on (or the log start, if that is above),
  /// sequenced ones too; none at the end. kNotFound, kIo.
  virtual Result<std::vector<IndexedBatch>> indexed(PartitionId partition, Offset from,
                                                    size_t most) = 0;
  /// Octets of the records from `from` on, roughly: by segments, without looking into an index.
  virtual int64_t octetsFrom(PartitionId partition, Offset from) const = 0;
  /// For who has read offsets [from, to): the ends, and the aborted transactions that touch them.
  /// kNotFound; kOutOfRange if the log start has passed `from`: what is known of the transactions
  /// below it may be gone.
  virtual Result<Stability> stability(PartitionId partition, Offset from, Offset to) const = 0;
  /// Where the producer's open transaction begins in the partition, sequenced records counted.
  /// kNotFound.
  virtual Result<std::optional<Offset>> transactionStart(PartitionId partition,
                                                         ProducerId producer) const = 0;
  /// Of all partitions: walks through them, for start-up and operators.
  virtual std::vector<OpenTransaction> openTransactions() const = 0;
  /// The first offset whose batch has a record at or after `timestampMs` (at batch precision: the
  /// caller opens the batch for the record), or nullopt. From the index, without a scan.
  virtual Result<std::optional<Offset>> offsetAt(PartitionId partition, int64_t timestampMs) = 0;
  /// The offset of the batch with the largest timestamp, or nullopt when empty.
  virtual Result<std::optional<Offset>> offsetOfMaxTimestamp(PartitionId partition) = 0;

  /// The idempotent producers that appended lately, by id.
  virtual Result<std::vector<ProducerInfo>> producers(PartitionId partition) const = 0;

  using WatchId = uint64_t;
  enum class WatchFor : uint8_t { kVisible, kStable };
  /// Runs `task` once through `sink` as soon as the partition's high watermark (kStable: its last
  /// stable offset) is above `offset` (at once if it is), or the partition is deleted. The returned
  /// id cancels it; a task already handed to the sink may still run after cancel.
  virtual WatchId watch(PartitionId partition, Offset offset, CompletionSink& sink,
                        std::move_only_function<void()> task,
                        WatchFor what = WatchFor::kVisible) = 0;
  virtual void unwatch(PartitionId partition, WatchId id) = 0;

  /// Where batches with routeAfterCommit go, in journal order, on the writer thread: must not
  /// block. Set once, before the first append.
  virtual void setCommitFeed(std::function<void(std::vector<CommittedBatch>)> feed) = 0;
  /// Visits durable batches that asked for routing in entries that begin at or after `from`, in
  /// journal order: what the feed had not delivered at a crash. Until `visit` returns false.
  /// Returns the position reached.
  virtual Result<Position> scanRouted(Position from,
                                      const std::function<bool(const CommittedBatch&)>& visit) = 0;
  /// Whether messages are refused for want of space on the disk. State changes never are.
  virtual bool full() const = 0;
  /// `resumed` runs on a thread of the store's or an appender's each time that full() has ended:
  /// must not block. Set once, before the first append.
  virtual void setSpaceFeed(std::function<void()> resumed) = 0;
  /// Set once, before the first append; outlives the store's last maintenance. Without it, what is
  /// above the log starts counts as alive and all as routed.
  virtual void setLiveness(const Liveness* liveness) = 0;
  /// One past the last durable entry.
  virtual Position durableEnd() const = 0;
  /// Everything below it that asked for routing has gone through the feed.
  virtual Position fedEnd() const = 0;
  /// How often a write failed and was taken back, with all that had been sequenced behind it.
  /// Counted before anybody hears of it.
  virtual uint64_t failures() const = 0;
  /// Waits until the entry at `position` is durable and applied. `failures`: failures() before it
  /// was appended. kIo if a write has failed since, kShutdown. Not on a worker.
  virtual Result<> waitDurable(Position position, uint64_t failures) = 0;

  /// State as of the last commit applied. At start-up: everything durable.
  virtual void scanState(
      StateTable table, BytesView keyPrefix,
      const std::function<bool(BytesView key, BytesView value)>& visit) const = 0;
  virtual std::optional<std::string> getState(StateTable table, BytesView key) const = 0;

  /// Applies retention, rewrites segments of which little is alive and drops dead ones now (also
  /// runs by itself every retentionCheckMillis). Returns how many segments went.
  virtual Result<size_t> runRetention() = 0;
  /// Checkpoints the state view now.
  virtual Result<> checkpoint() = 0;
  /// Only with options.threads == false: writes, syncs and completes what is pending.
  virtual void runOnce() = 0;
  /// The same, of what the clock says is due, and one step only: a write, a sync, or completions.
  /// False: nothing is due.
  virtual bool runStep() = 0;

  /// Finishes what is pending, and checkpoints. append() fails with kShutdown from here on; what is
  /// there may still be read.
  virtual void shutDown() = 0;
  /// The same, and lets go of the directory: nobody reads any more.
  virtual void close() = 0;
};

/// Opens the store in `directory` (created inside: LOCK, journal/, state/), recovering what a
/// crash left. kBusy when another process has it; kCorrupt when the journal can't be made sense of.
/// `onFatal` is called on a failed fsync, after which nothing is acknowledged any more; it should
/// end the process.
Result<std::unique_ptr<LogStore>> openLogStore(std::shared_ptr<Directory> directory,
                                               const LogStoreOptions& options, const Clock& clock,
                                               Random& random,
                                               std::function<void(const Error&)> onFatal);

}  // namespace polylog::storage
