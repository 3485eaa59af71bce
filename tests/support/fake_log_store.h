// A LogStore in memory that writes when a test says so. append() sequences at once; commit() makes
// all that is pending durable and visible and runs the completions, in order; failPending() fails
// it all and rewinds, as a failed write does. afterCrash() gives a store with what was durable.
// Thread-safe. Batches are kept as they came; retention, damage and disks are not its business.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/model/record_batch.h"
#include "storage/log_store.h"

namespace polylog::test {

class FakeLogStore final : public storage::LogStore {
 public:
  FakeLogStore() = default;

  // ---- for tests
  void commit();
  void failPending(const Error& error);
  /// A power failure: of what is pending the first entries are durable, which nobody hears of. To
  /// be followed by afterCrash(). State alone.
  void keepFirst(size_t entries);
  /// The next append() returns this error.
  void refuseNext(Error error);
  /// While full, messages that are not admitted are refused. Its end runs the space feed.
  void setFull(bool full);
  /// Reading `partition` at `offset` fails with kCorrupt.
  void damage(PartitionId partition, Offset offset);
  size_t pending() const;
  /// Appends so far, refused ones not counted.
  size_t appends() const { return appends_; }
  /// The latest append's request, without sink and completion.
  storage::AppendRequest last() const;
  /// As a restart finds it: what was not committed is gone.
  std::unique_ptr<FakeLogStore> afterCrash() const;
  size_t watches() const;
  bool exists(PartitionId partition) const;
  storage::Retention retentionOf(PartitionId partition) const;

  // ---- LogStore
  const storage::RecoveryReport& recovery() const override { return recovery_; }
  Result<storage::Appended> append(storage::AppendRequest request) override;
  Result<std::vector<storage::ReadBatch>> read(PartitionId partition, Offset from,
                                               size_t maxBytes) override;
  Result<SharedBytes> readAt(storage::BatchPlace place) override;
  Result<storage::PartitionEnds> ends(PartitionId partition) const override;
  Result<std::vector<storage::IndexedBatch>> indexed(PartitionId partition, Offset from,
                                                     size_t most) override;
  int64_t octetsFrom(PartitionId partition, Offset from) const override;
  Result<storage::Stability> stability(PartitionId partition, Offset from,
                                       Offset to) const override;
  Result<std::optional<Offset>> transactionStart(PartitionId partition,
                                                 ProducerId producer) const override;
  std::vector<storage::OpenTransaction> openTransactions() const override;
  Result<std::vector<storage::ProducerInfo>> producers(PartitionId partition) const override;
  Result<std::optional<Offset>> offsetAt(PartitionId partition, int64_t timestampMs) override;
  Result<std::optional<Offset>> offsetOfMaxTimestamp(PartitionId partition) override;
  WatchId watch(PartitionId partition, Offset offset, storage::CompletionSink& sink,
                std::move_only_function<void()> task, WatchFor what = WatchFor::kVisible) override;
  void unwatch(PartitionId partition, WatchId id) override;
  void setCommitFeed(std::function<void(std::vector<storage::CommittedBatch>)> feed) override;
  Result<Position> scanRouted(
      Position from, const std::function<bool(const storage::CommittedBatch&)>& visit) override;
  bool full() const override { return full_; }
  void setSpaceFeed(std::function<void()> resumed) override { spaceFeed_ = std::move(resumed); }
  void setLiveness(const storage::Liveness* /*liveness*/) override {}
  Position durableEnd() const override;
  Position fedEnd() const override;
  uint64_t failures() const override;
  Result<> waitDurable(Position position, uint64_t failures) override;
  void scanState(storage::StateTable table, BytesView keyPrefix,
                 const std::function<bool(BytesView, BytesView)>& visit) const override;
  std::optional<std::string> getState(storage::StateTable table, BytesView key) const override;
  Result<size_t> runRetention() override { return 0; }
  Result<> checkpoint() override { return {}; }
  void runOnce() override { commit(); }
  bool runStep() override {
    bool any = pending() > 0;
    commit();
    return any;
  }
  void shutDown() override;
  void close() override { shutDown(); }

 private:
  struct Watch {
    WatchId id;
    Offset offset;
    bool stable;
    storage::CompletionSink* sink;
    std::move_only_function<void()> task;
  };
  struct ProducerBatch {
    int32_t firstSequence;
    int32_t lastSequence;
    Offset base;
  };
  struct Producer {
    int16_t epoch = -1;
    std::vector<ProducerBatch> recent;
  };
  /// One that has no marker, or none that is durable.
  struct Transaction {
    ProducerIdentity producer;
    Offset first;
    std::optional<EndMarker> end;
    Offset marker;  ///< with `end`
  };
  struct Transactions {
    std::vector<Transaction> open;  ///< by their first offset
    std::vector<AbortedTransaction> aborted;

    const Transaction* find(int64_t producer) const;
    void began(ProducerIdentity producer, Offset first);
    void ended(int64_t producer, EndMarker end, Offset marker);
    void settle();
  };
  /// What sequencing decides by, and what a failure rewinds.
  struct Facts {
    bool deleted = false;
    Offset logStart;
    Offset end;
    storage::Retention retention;
    std::map<int64_t, Producer> producers;
    Transactions transactions;
  };
  struct Partition {
    Facts now;
    std::optional<Facts> durable;  ///< nothing: its creation is not durable
    std::vector<storage::ReadBatch> batches;
    std::vector<Watch> watches;
    Offset visible() const { return durable ? durable->end : Offset(0); }
    Offset stable() const {
      const auto& open = now.transactions.open;
      return open.empty() ? visible() : std::min(visible(), open.front().first);
    }
  };
  struct Pending {
    storage::AppendRequest request;
    storage::Appended result;
    bool duplicate = false;
  };
  using Completions =
      std::map<storage::CompletionSink*, std::vector<std::move_only_function<void()>>>;

  Result<> check(const storage::AppendRequest& request) const;
  Result<std::optional<Offset>> checkProducer(const storage::MessagesPart& part) const;
  const Partition* find(PartitionId id) const;
  void sequence(storage::AppendRequest& request, storage::Appended& out);
  void applyState(const std::vector<storage::StateChange>& state, bool creations);
  void place(const std::vector<storage::Target>& targets, const SharedBytes& batch,
             storage::BatchPlace at, size_t& offsetIndex, const Pending& pending);
  void makeDurable(Pending& pending, std::vector<storage::CommittedBatch>& routed);
  void fireWatches(Completions& completions);
  static void deliver(Completions& completions);

  mutable std::mutex mutex_;
  storage::RecoveryReport recovery_;
  std::unordered_map<PartitionId, Partition> partitions_;
  std::map<uint64_t, SharedBytes> batches_;  ///< by position; pending ones too
  std::vector<Pending> pending_;
  std::map<std::pair<storage::StateTable, std::string>, std::string> state_;
  std::vector<storage::CommittedBatch> routed_;
  uint64_t failures_ = 0;
  std::set<std::pair<uint64_t, int64_t>> damaged_;
  std::function<void(std::vector<storage::CommittedBatch>)> feed_;
  std::function<void()> spaceFeed_;
  std::atomic<bool> full_{false};
  std::optional<Error> refusal_;
  storage::AppendRequest last_;
  Position next_{64};
  Position durable_{64};
  WatchId nextWatch_ = 1;
  size_t appends_ = 0;
  bool closed_ = false;
};

}  // namespace polylog::test
