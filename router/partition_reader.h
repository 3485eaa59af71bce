// Reads a partition's records one by one, in order or not: inboxes, queues and streams all read by
// it. Only on one worker's thread at a time. Costs little memory until it is read.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "core/model/delivery.h"
#include "router/core.h"
#include "router/routed_block.h"
#include "storage/log_store.h"

namespace polylog::router {

class PartitionReader {
 public:
  /// Records with no topic in their attributes have `topic`'s address (a stream's own), and only
  /// committed ones are found, below the last stable offset; may be null.
  PartitionReader(Core& core, PartitionId partition,
                  std::shared_ptr<const std::string> topic = nullptr,
                  Protocol origin = Protocol::kInternal)
      : core_(core), partition_(partition), ownTopic_(std::move(topic)), ownOrigin_(origin) {}

  enum class Found : uint8_t {
    kRecord,
    kEnd,      ///< nothing visible there yet
    kGone,     ///< below the log start: go on at logStart()
    kGap,      ///< compacted away, used up or not committed: go on at gapEnd()
    kDamaged,  ///< goes on at damagedEnd(); error() says what it is
    kDeleted,  ///< the partition is no more, or the store closes
    kFailed,   ///< the disk did not give it: try again later
  };
  /// The record at `id`. What it finds stays valid until the next call.
  Found find(Worker& worker, int64_t id);

  RoutedRecordRef record() const { return recordOf(block_, index_); }
  size_t bytes() const { return sizeOf(block_->records[index_].record); }
  storage::BatchPlace place() const { return ahead_.front().place; }
  /// Of the record in its batch, as a target says it.
  uint32_t index() const { return static_cast<uint32_t>(block_->deltaOf(index_)); }
  uint32_t attributes() const { return ahead_.front().attributes; }
  uint32_t subscriptionId() const { return subscriptionId_; }
  int64_t logStart() const { return logStart_; }
  int64_t gapEnd() const { return damagedEnd_; }
  int64_t damagedEnd() const { return damagedEnd_; }
  const Error& error() const { return error_; }

 private:
  Found load(int64_t id);
  Result<int64_t> keepCommitted(std::vector<storage::ReadBatch>& batches, int64_t from) const;
  bool open(Worker& worker);
  void describe(uint32_t attributes);

  Core& core_;
  const PartitionId partition_;
  const std::shared_ptr<const std::string> ownTopic_;
  const Protocol ownOrigin_;
  std::list<storage::ReadBatch> ahead_;  ///< unlike a deque, nothing while it is empty
  RoutedBlockRef block_;                 ///< of ahead_.front()
  size_t index_ = 0;
  std::shared_ptr<const std::string> topic_;
  uint32_t tag_ = 0;
  bool tagKnown_ = false;
  uint32_t subscriptionId_ = 0;
  Protocol origin_{};
  int64_t logStart_ = 0;
  int64_t damagedEnd_ = 0;
  Error error_;
};

}  // namespace polylog::router
