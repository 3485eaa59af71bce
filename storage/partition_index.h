// The index of one partition within one segment: where each of its batches stands, delta-coded in
// one string that serves in memory while the segment is young and verbatim in its footer later. About
// ten octets an entry. Appending isn't thread-safe; a run that no longer grows may be read by any
// thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/strong.h"

namespace polylog::storage {

/// Records [firstRecord, firstRecord + count) of the batch are the offsets from `base` on.
struct IndexEntry {
  Offset base;
  uint32_t count = 0;
  Position position;
  uint32_t length = 0;
  uint32_t firstRecord = 0;
  uint32_t attributes = 0;
  int64_t maxTimestamp = -1;
  uint32_t share = 0;  ///< of the batch's octets, what counts for these records; 0 = all of them

  uint32_t octets() const { return share == 0 ? length : share; }
  Offset end() const { return base + count; }
  bool operator==(const IndexEntry&) const = default;
};

/// What `count` records of a batch of `records` take of its octets, as IndexEntry::share says it.
inline uint32_t shareOf(uint32_t length, uint32_t count, int64_t records) {
  if (records <= int64_t{count}) return 0;
  const uint64_t octets = uint64_t{length} * count / static_cast<uint64_t>(records);
  return octets == 0 ? 1 : static_cast<uint32_t>(octets);
}

/// Of a batch that a link's records are of, when all that is known of it is that it has the record
/// before `reached`: rather too little is put down to them than too much, for which limits would drop
/// what there is room for.
inline int64_t assumedRecords(int64_t reached) {
  constexpr int64_t kAssumed = 1000;
  return std::max(reached, kAssumed);
}

class IndexRun {
 public:
  /// `first`: the base offset of the first entry; `origin`: the segment's base position.
  IndexRun(Offset first, Position origin);
  /// Takes octets from bytes() back; kCorrupt when they don't decode to `entries` entries.
  static Result<IndexRun> parse(Offset first, Position origin, uint32_t entries,
                                std::string bytes);

  /// entry.base must not be below end(); above it, the offsets between are a hole.
  void append(const IndexEntry& entry);

  class Cursor {
   public:
    /// False at the end.
    bool next(IndexEntry& entry);

   private:
    friend class IndexRun;
    const char* at_ = nullptr;
    const char* to_ = nullptr;
    IndexEntry last_;  ///< what the next entry is coded against; base = the expected offset
    bool broken_ = false;
  };
  /// From the first entry that ends above `offset`.
  Cursor seek(Offset offset) const;
  Cursor begin() const;

  /// Offsets that it lacks are dead, not damaged.
  void setSparse() { sparse_ = true; }
  bool sparse() const { return sparse_; }
  /// Whether an entry of it counts for less than its batch.
  bool shares() const { return shares_; }

  Offset end() const { return last_.base; }
  uint32_t entries() const { return entries_; }
  const std::string& bytes() const { return bytes_; }
  /// Memory it takes, roughly.
  size_t footprint() const;

 private:
  static constexpr uint32_t kRestartEvery = 64;
  struct Restart {
    size_t at = 0;
    IndexEntry last;
  };

  Offset first_;
  Position origin_;
  IndexEntry last_;
  uint32_t entries_ = 0;
  bool sparse_ = false;
  bool shares_ = false;
  std::string bytes_;
  std::vector<Restart> restarts_;  ///< before entries 64, 128, ...
};

}  // namespace polylog::storage
