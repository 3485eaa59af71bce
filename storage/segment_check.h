// What one segment's file holds, read from its entries, and whether it is what its footer and the
// manifest say. For inspection: reads only, of files that a running broker may be writing. One
// thread.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/strong.h"
#include "storage/file.h"
#include "storage/log_store.h"
#include "storage/partition_index.h"
#include "storage/segment.h"

namespace polylog::storage {

struct OffsetsLost {
  PartitionId partition;
  Offset first;
  Offset end;  ///< one past the last
  bool operator==(const OffsetsLost&) const = default;
};

enum class FaultKind : uint8_t {
  kManifest,  ///< which segments there are isn't known
  kRecords,   ///< records or state changes can't be read
  kIndex,     ///< a copy of what the entries say: nothing is lost
};

/// One place that isn't as it was written.
struct JournalFault {
  FaultKind kind = FaultKind::kRecords;
  std::string file;
  uint64_t at = 0;      ///< octet in the file
  uint64_t length = 0;  ///< 0: not known
  std::string text;
  /// As far as anything tells: ascending, neighbours joined.
  std::vector<OffsetsLost> lost;
};

struct SegmentTotals {
  uint64_t entries = 0;
  uint64_t batches = 0;
  uint64_t batchBytes = 0;
  uint64_t records = 0;  ///< in batches, as their headers say
  uint64_t links = 0;    ///< parts that put an earlier batch into further partitions
  uint64_t offsets = 0;  ///< of all partitions: a record has one in each that it is in
  uint64_t stateChanges = 0;
};

struct PartitionContents {
  IndexRun run;  ///< of what could be read
  Offset first;  ///< what is known to be lost included
  Offset end;
  uint64_t bytes = 0;  ///< its share of batches, roughly
  uint64_t offsets = 0;
};

struct SegmentContents {
  SegmentInfo info;
  uint64_t fileBytes = 0;
  Position end;            ///< of the active segment as well
  uint64_t tornBytes = 0;  ///< behind the last entry of the active segment that counts
  SegmentTotals totals;
  std::map<PartitionId, PartitionContents> partitions;
  std::set<PartitionId> deleted;
  std::map<PartitionId, Offset> logStarts;
  /// Changes of the tables that were asked for, in order.
  std::vector<StateChange> state;
  std::vector<JournalFault> faults;
  /// Those that a sealed segment has entries of, but no run: dead when it was sealed, or else a
  /// fault.
  std::vector<PartitionId> unindexed;

  void addFault(FaultKind kind, uint64_t at, uint64_t length, std::string text,
                std::vector<OffsetsLost> lost = {});
};

struct SegmentReadOptions {
  bool verify = false;         ///< checks header, batches and footer as well
  std::set<StateTable> state;  ///< tables whose changes are kept
};

/// Reads all entries. Damage, unreadable sectors included, is told in `faults`. kIo when the file's
/// size can't be had.
Result<SegmentContents> readSegment(const File& file, const SegmentInfo& info,
                                    const SegmentReadOptions& options);

}  // namespace polylog::storage
