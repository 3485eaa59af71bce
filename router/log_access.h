// The log side of the broker: producing batches as they come, reading them, waiting for more,
// finding offsets by time, and producer ids. Any worker.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/model/broker.h"
#include "core/model/decompression_budget.h"
#include "core/model/record_batch.h"
#include "router/core.h"

namespace polylog::router {

class LogAccess {
 public:
  explicit LogAccess(Core& core) : core_(core), opened_(core.workers.size()) {}

  void produce(const PrincipalRef& principal, ProduceBatch batch, Done<Result<Produced>> done);
  Result<Fetched> fetch(const PrincipalRef& principal, const std::string& topic, int32_t partition,
                        Offset from, size_t maxBytes);
  std::unique_ptr<WaitHandle> awaitRecords(std::span<const Broker::FetchPoint> points,
                                           std::move_only_function<void()> wake);
  Result<PartitionBounds> bounds(const std::string& topic, int32_t partition);
  Result<std::optional<OffsetAtTime>> offsetAtTime(const std::string& topic, int32_t partition,
                                                   int64_t timestampMs);
  Result<std::optional<OffsetAtTime>> offsetOfMaxTimestamp(const std::string& topic,
                                                           int32_t partition);
  /// Broker::deleteRecords.
  void deleteRecords(const std::string& topic, int32_t partition, std::optional<Offset> before,
                     Done<Result<Offset>> done);
  Result<std::vector<ActiveProducer>> activeProducers(const std::string& topic, int32_t partition);
  void initProducer(std::optional<ProducerIdentity> current, Done<Result<ProducerIdentity>> done);

  Result<PartitionId> partitionOf(const std::string& topic, int32_t partition) const;

 private:
  /// What has been decompressed of the octets that a worker deals with, which came in one piece: a
  /// request's, or those of a few small ones.
  struct Opened {
    std::weak_ptr<const void> octets;
    DecompressionBudget budget{0, 0};
  };
  DecompressionBudget& budgetFor(const SharedBytes& batch);
  Result<> checkContents(const Topic& topic, const RecordBatchHeader& header, SharedBytes& batch);
  /// Gives the batch the compression that its topic's batches have.
  Result<> recompress(const Topic& topic, const RecordBatchHeader& header, int64_t limit,
                      SharedBytes& batch) const;
  Result<storage::AppendRequest> prepare(const PrincipalRef& principal, ProduceBatch& batch,
                                         TopicRef& topic, int64_t& stampedMs);
  Result<storage::Appended> append(const ProduceBatch& batch, storage::AppendRequest request);

  Core& core_;
  std::vector<Opened> opened_;  ///< by worker, each one's own
};

}  // namespace polylog::router
