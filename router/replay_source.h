// One partition that a replaying subscription reads: where it begins, the records that match, and
// the next one to look at. It reads committed records only, and never writes. On its session's
// worker only. Costs little while nothing is read.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/model/topic_filter.h"
#include "router/core.h"
#include "router/partition_reader.h"
#include "router/replay_state.h"

namespace polylog::router {

/// What a turn may still look at.
struct ReplayBudget {
  int64_t records = 0;
  int64_t bytes = 0;
  bool spent() const { return records <= 0 || bytes <= 0; }
};

/// Whether the filter matches the address: as the subscription trie does.
bool filterMatches(const TopicFilter& filter, const Address& address);

class ReplaySource {
 public:
  ReplaySource(Core& core, uint32_t replay, PartitionId partition, ReplayCursor cursor);

  const uint32_t replay;  ///< the number of its subscription
  const PartitionId partition;

  /// Whose partition it is, and which of them. Before anything is read.
  void belongsTo(const TopicRef& topic, int32_t number);
  bool known() const { return name_ != nullptr; }
  const std::shared_ptr<const std::string>& topic() const { return name_; }
  int32_t number() const { return number_; }

  enum class Found : uint8_t {
    kRecord,   ///< at reader(): pass() it, or it is found again
    kSpent,    ///< the budget is
    kEnd,      ///< nothing behind cursor() yet
    kDeleted,  ///< the partition is no more, or the store closes
    kFailed,   ///< the disk did not give it: try again later
  };
  /// On to the next record that matches.
  Found advance(Worker& worker, const TopicFilter& filter, ReplayBudget& budget);
  const PartitionReader& reader() const { return *reader_; }
  int64_t offset() const { return next_; }
  void pass() { ++next_; }

  /// How far it has come, as is to be journaled.
  ReplayCursor cursor() const;
  void moveTo(const ReplayCursor& cursor);
  /// Lets go of what is only for reading.
  void rest() { reader_ = nullptr; }

  // ---- the lane's
  bool gone = false;
  bool ready = false;
  bool dirty = false;  ///< has moved since it was journaled
  bool watching = false;
  storage::LogStore::WatchId watchId = 0;
  uint32_t tag = 0;  ///< of AddressTags, where it needs no journal entry any more
  Protocol tagOrigin = Protocol::kInternal;

 private:
  Found begin(Worker& worker, const TopicFilter& filter, ReplayBudget& budget);
  Found lookBack(Worker& worker, const TopicFilter& filter, ReplayBudget& budget);
  void beginAt(int64_t offset);
  bool tooEarly() const;
  void damaged();

  Core& core_;
  std::shared_ptr<const std::string> name_;
  int32_t number_ = 0;
  std::unique_ptr<PartitionReader> reader_;
  ReplayCursor start_;  ///< until it has begun
  bool begun_ = false;
  int64_t next_ = 0;
  /// Of what has not begun: an offset for a time is known but for records before it in its batch;
  /// or how many of the last ones lie behind lookedTo_.
  bool offsetKnown_ = false;
  int64_t lookedTo_ = -1;
  int64_t found_ = 0;
};

}  // namespace polylog::router
