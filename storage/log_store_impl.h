// The log store's inside. One class over several files, a seam each:
//   sequencer.cc       append(): checks, positions, offsets, encoding
//   journal_writer.cc  the writer thread: group commit, rolling, rewinding, completion
//   log_reader.cc      read(), readAt(), offset lookups, scanRouted()
//   recovery.cc        opening: torn tail, damage, replay
//   maintenance.cc     the maintenance thread: footers, checkpoints; free space
//   retention.cc       log starts, dead segments
//   rewriting.cc       segments of which little is alive; rewriting_swap.cc: their copies' way in
//   merging.cc         neighbours of which rewriting left little
//   compaction.cc      what of compacted partitions is superseded
//   log_store.cc       partitions' state changes, watches, state reads, life cycle
//
// Locks, in the order in which one thread may take them:
//   maintenanceMutex_ -> manifestMutex_ -> viewMutex_ -> mutex_ -> (Journal's files, BatchCache)
// mutex_ guards all that is in memory: partitions, segments, groups, ends. It is never held over
// I/O, checksums of batches, completions or the commit feed. No lock is held across a callback.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "core/base/clock.h"
#include "core/model/record_batch.h"
#include "storage/batch_cache.h"
#include "storage/commit_group.h"
#include "storage/compaction.h"
#include "storage/disk_space.h"
#include "storage/entry_scanner.h"
#include "storage/journal.h"
#include "storage/log_store.h"
#include "storage/manifest.h"
#include "storage/partition.h"
#include "storage/run_cache.h"
#include "storage/segment_footer.h"
#include "storage/state_view.h"

namespace polylog::storage {

/// Keys of StateTable::kPartition and kDerived.
std::string partitionKey(PartitionId partition, char kind);  // kind: 'c'onfiguration, log 's'tart
std::string derivedKey(PartitionId partition);
inline constexpr char kFloorKey[] = "D";
std::string viewKey(StateTable table, BytesView key);

/// A StateChange of table kPartition, understood.
struct PartitionChange {
  enum class Kind : uint8_t { kConfigured, kDeleted, kLogStart };
  Kind kind = Kind::kConfigured;
  PartitionId partition;
  Retention retention;
  Offset logStart;
};
std::optional<PartitionChange> parsePartitionChange(const StateChange& change);
/// What the view is told of `changes`, which lose their values: a deleted partition takes all of
/// its keys along.
void appendViewChanges(std::vector<StateChange>& changes, std::vector<ViewChange>& out);

class CopyWriter;

class LogStoreImpl final : public LogStore {
 public:
  LogStoreImpl(std::shared_ptr<Directory> directory, const LogStoreOptions& options,
               const Clock& clock, Random& random, std::function<void(const Error&)> onFatal);
  ~LogStoreImpl() override;

  /// Takes the directory, recovers, starts the threads. Once, before anything else.
  Result<> open();

  const RecoveryReport& recovery() const override { return report_; }
  Result<Appended> append(AppendRequest request) override;
  Result<std::vector<ReadBatch>> read(PartitionId partition, Offset from, size_t maxBytes) override;
  Result<SharedBytes> readAt(BatchPlace place) override;
  Result<std::vector<IndexedBatch>> indexed(PartitionId partition, Offset from,
                                            size_t most) override;
  int64_t octetsFrom(PartitionId partition, Offset from) const override;
  Result<PartitionEnds> ends(PartitionId partition) const override;
  Result<Stability> stability(PartitionId partition, Offset from, Offset to) const override;
  Result<std::optional<Offset>> transactionStart(PartitionId partition,
                                                 ProducerId producer) const override;
  std::vector<OpenTransaction> openTransactions() const override;
  Result<std::vector<ProducerInfo>> producers(PartitionId partition) const override;
  Result<std::optional<Offset>> offsetAt(PartitionId partition, int64_t timestampMs) override;
  Result<std::optional<Offset>> offsetOfMaxTimestamp(PartitionId partition) override;
  WatchId watch(PartitionId partition, Offset offset, CompletionSink& sink,
                std::move_only_function<void()> task, WatchFor what) override;
  void unwatch(PartitionId partition, WatchId id) override;
  void setCommitFeed(std::function<void(std::vector<CommittedBatch>)> feed) override;
  Result<Position> scanRouted(Position from,
                              const std::function<bool(const CommittedBatch&)>& visit) override;
  bool full() const override { return space_.full(); }
  void setSpaceFeed(std::function<void()> resumed) override;
  void setLiveness(const Liveness* liveness) override;
  Position durableEnd() const override;
  Position fedEnd() const override;
  uint64_t failures() const override;
  Result<> waitDurable(Position position, uint64_t failures) override;
  void scanState(StateTable table, BytesView keyPrefix,
                 const std::function<bool(BytesView key, BytesView value)>& visit) const override;
  std::optional<std::string> getState(StateTable table, BytesView key) const override;
  Result<size_t> runRetention() override;
  Result<> checkpoint() override;
  void runOnce() override;
  bool runStep() override;
  void shutDown() override;
  void close() override;

 private:
  using Lock = std::unique_lock<std::mutex>;

  // ---- log_store.cc
  Partition* findPartition(PartitionId id) const;
  Result<const Partition*> partitionOf(PartitionId id) const;
  /// Visits all partitions under the lock, so many at a time; `between`, if given, runs without it.
  /// One that is made meanwhile may be missed; if any are, others may be visited twice.
  Result<> visitPartitions(const std::function<void(Partition&)>& visit,
                           const std::function<Result<>()>& between = nullptr);
  Partition& makePartition(PartitionId id, Retention retention);
  void erasePartition(Partition& partition);
  void dropChunks(Partition& partition, size_t count);
  void markDirty(Partition& partition);
  /// One fewer of the segment with that base; of the one that it has been merged into.
  void releaseChunk(Position base);
  void stopThreads();

  // ---- sequencer.cc
  struct Prepared;
  Result<> prepare(const AppendRequest& request, Prepared& prepared);
  Result<> prepareMessages(const MessagesPart& part, Prepared& prepared) const;
  Result<> prepareLink(const LinkPart& part, Prepared& prepared);
  Result<> prepareState(const AppendRequest& request, Prepared& prepared) const;
  Result<> admit(const AppendRequest& request);
  Result<> applyBefore(const Prepared& prepared, std::vector<PartitionEffect>& effects);
  Result<> resolve(const AppendRequest& request, const Prepared& prepared, bool& moved);
  Result<> checkLogStarts(const AppendRequest& request, const Prepared& prepared) const;
  Result<std::optional<ProducerBatch>> checkProducers(const AppendRequest& request,
                                                      const Prepared& prepared) const;
  void applyAfter(const Prepared& prepared, CommitGroup& group);
  void undo(const PartitionEffect& effect);
  /// `moved`: a link's batch was in a segment that has been or is being rewritten: prepare again.
  Result<Appended> sequence(AppendRequest& request, Prepared& prepared, bool& wake, bool& moved);
  Appended sequenceRepeat(AppendRequest& request, const ProducerBatch& original, bool& wake);
  CommitGroup& groupFor(size_t bound);
  CommitGroup& newGroup();
  void planRoll();
  Appended encode(AppendRequest& request, const Prepared& prepared, CommitGroup& group);
  void encodeMessages(const MessagesPart& part, const RecordBatchHeader& header,
                      std::span<Partition* const> partitions, CommitGroup& group, Appended& out);
  void encodeLinks(BatchPlace place, int64_t maxTimestamp, std::span<const Target> targets,
                   std::span<Partition* const> partitions, int32_t offsetCount, CommitGroup& group,
                   Appended& out);
  void beginEntry(CommitGroup& group, uint16_t flags);
  void continueChain(CommitGroup& group);
  void finishEntry(CommitGroup& group, bool continues);
  void place(std::span<const Target> targets, std::span<Partition* const> partitions,
             int32_t offsetCount, CommitGroup& group, Appended& out);
  void addToIndex(Partition& partition, Segment& segment, IndexEntry entry, int32_t offsetCount);
  void index(BatchPlace batch, int64_t maxTimestamp, int32_t offsetCount,
             std::span<Partition* const> partitions);
  void rememberProducer(const MessagesPart& part, const RecordBatchHeader& header, BatchPlace batch,
                        Partition& partition, CommitGroup& group);
  void noteTransaction(const MessagesPart& part, const RecordBatchHeader& header, BatchPlace batch,
                       std::span<Partition* const> partitions);
  void noteTransaction(Partition& partition, const RecordBatchHeader& header, const EndMarker* end,
                       Offset base, Position at);
  Chunk& chunkFor(Partition& partition, Segment& segment, Offset first);
  void finishAppend(AppendRequest& request, const Appended& appended, CommitGroup& group,
                    size_t targetsFrom, bool& wake);

  // ---- journal_writer.cc
  enum class WriterAction : uint8_t { kNothing, kTasks, kWrite, kSync };
  WriterAction nextAction(int64_t nowMicros, bool force, int64_t& waitMicros) const;
  void writerLoop();
  /// Does one thing; false when there was none to do.
  bool writerStep(Lock& lock, bool force, int64_t& waitMicros);
  void drain(Lock& lock);
  bool wakeWriter(bool atOnce);
  void writeFront(Lock& lock);
  std::expected<void, DiskFailure> writeGroup(CommitGroup& group);
  std::expected<void, DiskFailure> beginSegment(const std::shared_ptr<Segment>& segment);
  std::expected<void, DiskFailure> truncateToWritten();
  void rewind(Lock& lock, std::unique_ptr<CommitGroup> failed, const Error& error);
  void commitWritten(Lock& lock, CommitGroup& group);
  void syncWritten(Lock& lock);
  void advance(Partition& partition, Offset end, Completions& out);
  void fireWatches(Partition& partition, bool all, Completions& out);
  void settle(CommitGroup& group, Completions& out);
  void finish(Lock& lock, std::vector<std::unique_ptr<CommitGroup>> groups, Completions done);
  Result<> applyState(CommitGroup& group, Position end);
  void recycle(std::unique_ptr<CommitGroup> group);
  void failFatally(Lock& lock, Error error);
  void failAppends(CommitGroup& group, const Error& error, Completions& out);

  // ---- log_reader.cc
  struct Located {
    IndexEntry entry;
    std::shared_ptr<Segment> segment;
  };
  Result<std::vector<ReadBatch>> readOnce(PartitionId partition, Offset from, size_t maxBytes,
                                          bool& moved);
  /// `limit` becomes the high watermark that it went by.
  Result<std::vector<Located>> locate(PartitionId partition, Offset from, size_t maxBytes,
                                      Offset& limit);
  Result<bool> collect(const IndexRun& run, Offset& next, Offset limit, size_t maxBytes,
                       size_t& bytes, std::vector<Located>& out, bool lockHeld);
  Result<std::shared_ptr<const IndexRun>> runOf(PartitionId partition, const Chunk& chunk);
  Result<std::shared_ptr<const IndexRun>> rebuildRun(PartitionId partition, const Chunk& chunk,
                                                     const std::shared_ptr<Segment>& segment);
  /// Where the batch is in the segment's file. kNotFound: it isn't in there any more; kCorrupt.
  Result<uint64_t> placeOf(Segment& segment, const File& file, Position position);
  /// Reads located batches from `first` on that stand close together in one go.
  Result<size_t> fetchExtent(std::span<const Located> located, std::vector<ReadBatch>& out);
  Result<SharedBytes> fetchOne(Segment& segment, BatchPlace place);
  Result<SharedBytes> readUncached(Segment& segment, const File& file, BatchPlace place);
  /// Also where it was found.
  Result<SharedBytes> readAt(BatchPlace place, std::shared_ptr<Segment>& segment);
  Result<bool> scanSegment(const SegmentInfo& info, const File& file, Position from, Position to,
                           const std::function<bool(const CommittedBatch&)>& visit,
                           Position& reached);
  struct ChunkCopy;

  // ---- recovery.cc
  Result<> openJournal();
  Result<> createJournal();
  Result<Position> findEnd(Segment& active);
  Result<> loadPartitions(Position& floor);
  Result<> replay(Position floor);
  Result<> replaySegment(Segment& segment, Position end);
  void replayEntry(Segment& segment, const EntryView& entry);
  void replayTargets(Segment& segment, Position entry, const EntryPart& part);
  int32_t recordsOfLinked(BatchPlace batch, const std::vector<PlacedTarget>& targets) const;
  void replayTransaction(const EntryPart& part, const RecordBatchHeader& header,
                         std::span<const PlacedTarget> targets, bool checked);
  Result<> flushReplayed(bool force);
  void removeStrays();

  // ---- maintenance.cc
  void maintenanceLoop();
  void maintain(bool timers);
  Result<> sealSegments();
  Result<> sealSegment(const std::shared_ptr<Segment>& segment);
  Result<> writeDerived(Position floor);
  Result<> applyDerived(std::vector<ViewChange>& changes);
  Result<> checkpointLocked();
  std::expected<void, DiskFailure> saveManifest();
  void checkSpace();
  void reportSpace();
  void fatalFromMaintenance(const Error& error);

  // ---- retention.cc
  Result<size_t> retentionLocked();
  Result<> moveLogStarts();
  Offset expiredUpTo(const Partition& partition, int64_t nowMs, bool& rollWanted) const;
  Result<> appendChanges(std::vector<StateChange> changes);
  Result<size_t> dropDeadSegments();
  std::vector<std::shared_ptr<Segment>> deadSegments(Position below) const;
  Result<> secureCheckpoints(const std::vector<std::shared_ptr<Segment>>& scattered);
  /// Segments wholly below this one are needed by no checkpoint.
  Position securedEnd() const;

  // ---- rewriting.cc
  struct Rewriting;
  std::vector<std::shared_ptr<Segment>> scatteredSegments();
  Result<> rewriteScattered(const std::vector<std::shared_ptr<Segment>>& scattered);
  Result<> rewriteSegments(std::vector<std::shared_ptr<Segment>> sources);
  Result<> gatherAlive(Rewriting& rewriting);
  Result<> gatherFrom(Rewriting& rewriting, PartitionId partition, const Chunk& chunk);
  Result<> writeRewritten(Rewriting& rewriting);
  std::vector<OffsetRange> deadRanges(PartitionId partition) const;
  Result<> keepBatch(Rewriting& rewriting, size_t from, size_t to, CopyWriter& writer);

  // ---- rewriting_swap.cc
  Result<bool> swapRewritten(Rewriting& rewriting);
  void adoptRewritten(const Rewriting& rewriting, PartitionId partition);
  void joinChunks(Partition& partition, size_t from, size_t to);

  // ---- merging.cc
  struct Mergeable;
  Result<> mergeRewritten();
  Result<std::vector<Mergeable>> mergeableSegments();
  void limitSpans(std::vector<Mergeable>& all);

  // ---- compaction.cc
  struct CompactionDue;
  Result<> planCompaction(std::vector<std::shared_ptr<Segment>>& scattered);
  std::vector<CompactionDue> partitionsToCompact();
  std::optional<CompactionDue> whatToCompact(const Partition& partition, int64_t nowMs,
                                             Position routed);
  Result<OffsetSet> findSuperseded(const CompactionDue& due);
  /// Every record, and offsets in batches that earlier compactions left empty.
  Result<> forEachRecord(const CompactionDue& due,
                         const std::function<void(Offset, const Record&)>& visit,
                         const std::function<void(Offset, Offset)>& hole);

  const std::shared_ptr<Directory> directory_;
  const LogStoreOptions options_;
  const Clock& clock_;
  Random& random_;
  const std::function<void(const Error&)> onFatal_;

  std::shared_ptr<void> directoryLock_;
  std::unique_ptr<StateView> view_;
  RecoveryReport report_;
  BatchCache cache_;
  RunCache runs_;
  std::function<void(std::vector<CommittedBatch>)> feed_;
  std::function<void()> spaceFeed_;
  const Liveness* liveness_ = nullptr;

  std::mutex maintenanceMutex_;  ///< sealing, checkpoints, retention: one at a time
  std::mutex manifestMutex_;     ///< writing the manifest
  std::mutex viewMutex_;         ///< changing the view

  mutable std::mutex mutex_;
  Journal journal_;
  PartitionSet partitions_;
  std::vector<PartitionId> dirty_;
  std::shared_ptr<Segment> sequencing_;  ///< the segment that appends go to
  Position nextPosition_;
  uint64_t nextSequence_ = 0;
  std::deque<std::unique_ptr<CommitGroup>> groups_;
  std::vector<std::unique_ptr<CommitGroup>> spareGroups_;
  uint64_t pendingBytes_ = 0;
  /// Lowest position that a chunk of a later segment refers to: as of scatteredSegments()' last
  /// look, or lower. And what has come since the look that is going on began.
  uint64_t linkedFrom_ = UINT64_MAX;
  uint64_t linkedSince_ = UINT64_MAX;
  std::vector<Partition*> resolved_;  ///< scratch of sequence()
  std::vector<PlacedTarget> placed_;  ///< scratch of encode()
  size_t entryTargets_ = 0;           ///< in the entry being encoded
  Position durableEnd_;
  Position writtenEnd_;
  Position visibleEnd_;  ///< what readAt() may read
  uint64_t failures_ = 0;
  Position settledEnd_;  ///< durable, completed and applied to the view
  Completions ready_;    ///< for the writer thread to deliver
  uint64_t nextWatch_ = 1;
  bool closed_ = false;
  DiskSpace space_;
  bool spaceReported_ = false;  ///< what was last told of space_.full()
  bool syncAsked_ = false;
  bool rollAsked_ = false;
  std::optional<Error> fatal_;
  std::condition_variable settled_;

  // The writer's.
  std::condition_variable writerWork_;
  bool writerWaiting_ = false;
  bool writerTimed_ = false;
  bool writerSignalled_ = false;
  bool writerStop_ = false;
  std::vector<std::unique_ptr<CommitGroup>> unsynced_;  ///< written groups; the writer's alone
  uint64_t unsyncedBytes_ = 0;
  bool unsyncedUrgent_ = false;
  int64_t syncDeadline_ = 0;
  std::shared_ptr<Segment> writing_;
  std::shared_ptr<File> writingFile_;
  std::vector<BytesView> pieces_;
  std::thread writer_;

  // Maintenance's.
  bool anyCompacted_ = false;                              ///< as of moveLogStarts()' last look
  std::unordered_map<PartitionId, Offset> compactedTo_;    ///< in this run
  std::unordered_map<PartitionId, OffsetSet> superseded_;  ///< of the round that is going on
  std::atomic<bool> stopping_{false};
  std::condition_variable maintenanceWork_;
  bool maintenanceStop_ = false;
  bool maintenanceAsked_ = false;
  std::atomic<uint64_t> checkpointedAt_{0};
  Position derivedFloor_;       ///< of the newest checkpoint of this run
  Position olderDerivedFloor_;  ///< of the one before; 0 = none in this run
  int64_t retentionDue_ = 0;
  std::thread maintenance_;

  // Recovery's.
  Position replayApplied_;
  std::vector<ViewChange> replayChanges_;
  Position replayedTo_;
  std::unordered_map<uint64_t, int32_t> replayedBatches_;  ///< records of a batch, by its position
};

}  // namespace polylog::storage
