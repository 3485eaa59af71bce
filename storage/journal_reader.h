// Reads a whole journal without taking part in it, for `polylog journal`: takes no lock and writes
// nothing, so the broker whose journal it is may run, append, roll, rewrite and delete meanwhile. A
// segment that has gone is looked up in the manifest anew. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/strong.h"
#include "storage/file.h"
#include "storage/segment_check.h"

namespace polylog::storage {

struct JournalReadOptions {
  /// Checks everything that is written twice or has a checksum, instead of only adding up.
  bool verify = false;
  /// Adds up what is alive in each sealed segment.
  bool liveness = false;
  /// Tables of which what the journal still has is wanted.
  std::set<StateTable> state = {};
  /// Before a segment with a fault is looked at again: the broker may be about to end what it
  /// writes.
  std::function<void()> pause = nullptr;
};

struct SegmentSummary {
  SegmentInfo info;
  uint64_t fileBytes = 0;
  Position end;
  uint64_t tornBytes = 0;
  SegmentTotals totals;
  uint64_t partitions = 0;
  /// Octets of batches of a sealed segment of which a partition still has records, as far as the
  /// state changes in the journal tell: at most so much is alive. nullopt where footers can't be
  /// read.
  std::optional<uint64_t> aliveBytes = std::nullopt;
};

struct PartitionSummary {
  Offset first;
  Offset end;
  uint64_t offsets = 0;  ///< that are in the journal
  uint64_t bytes = 0;    ///< its share of batches, roughly
  uint64_t segments = 0;
  Position lastSegment;  ///< its base
  /// As far as state changes in the journal tell. Rewriting a segment drops those that it had.
  std::optional<Offset> logStart;
  bool deleted = false;
};

struct JournalReport {
  std::vector<SegmentSummary> segments;
  std::map<PartitionId, PartitionSummary> partitions;
  /// Keys and latest values of the tables that were wanted. Rewriting a segment drops those it had.
  std::map<std::pair<StateTable, std::string>, std::string> state;
  std::vector<JournalFault> faults;
};

/// The journal's directory inside of a data directory, or the directory itself if it is a
/// journal's. kNotFound when there is no journal.
Result<std::shared_ptr<Directory>> findJournal(std::shared_ptr<Directory> data);

/// kNotFound when there is no journal, kUnsupported when it has another format version, kIo.
Result<JournalReport> readJournal(Directory& journal, const JournalReadOptions& options);

}  // namespace polylog::storage
