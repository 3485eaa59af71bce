// The records of one batch, opened for delivery and shared by all who get one of them. Immutable once
// made; any thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/strong.h"
#include "core/model/delivery.h"
#include "router/router.h"
#include "storage/log_store.h"

namespace polylog::router {

/// Where a block comes from and how its records' addresses are found again.
struct BlockSource {
  bool stored = false;  ///< false: an ephemeral publish, in no journal
  storage::BatchPlace place;
  PartitionId partition;  ///< the first it appears in, and where
  Offset base;
  std::shared_ptr<const std::string> topic;  ///< of the address, where no header says otherwise
  Protocol origin = Protocol::kInternal;
};

struct RoutedBlock {
  BlockSource source;
  std::vector<RoutedRecord> records;
  size_t bytes = 0;  ///< of memory that one record of it keeps alive
  /// Of each record, where compaction has left gaps; empty if record i is at offset i.
  std::vector<int32_t> offsetDeltas;

  bool compacted() const { return !offsetDeltas.empty(); }
  int32_t deltaOf(size_t index) const {
    return compacted() ? offsetDeltas[index] : static_cast<int32_t>(index);
  }
  /// The first record at or above an offset of the batch; records.size() if there is none.
  size_t indexOf(int32_t delta) const {
    if (!compacted()) return std::min(static_cast<size_t>(delta), records.size());
    return static_cast<size_t>(
        std::lower_bound(offsetDeltas.begin(), offsetDeltas.end(), delta) - offsetDeltas.begin());
  }
};

using RoutedBlockRef = std::shared_ptr<const RoutedBlock>;

/// One of a block's records, sharing its life.
inline RoutedRecordRef recordOf(const RoutedBlockRef& block, size_t index) {
  return {block, &block->records[index]};
}

/// Opens a batch whose CRC somebody has checked. kCorrupt, kTooLarge (options.maxDecodedBytes).
Result<RoutedBlockRef> openBlock(const SharedBytes& batch, BlockSource source,
                                 const RouterOptions& options);

/// Octets that count as a record's size in metrics and limits.
size_t sizeOf(const Record& record);

}  // namespace polylog::router
