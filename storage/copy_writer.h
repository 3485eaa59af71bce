// Writes the entries of a rewritten segment into its file, one after the other: kept batches, and
// links to batches elsewhere. Not thread-safe; the caller syncs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/error.h"
#include "core/base/strong.h"
#include "storage/entry.h"
#include "storage/file.h"
#include "storage/segment.h"

namespace polylog::storage {

class CopyWriter {
 public:
  /// Both outlive it.
  CopyWriter(File& file, const SegmentInfo& info) : file_(file), info_(info) {}

  /// `batch`, whose position is `position`, with the targets of its own partitions. Returns its
  /// place.
  Result<uint64_t> keep(Position position, std::span<const PlacedTarget> targets,
                        const SharedBytes& batch);
  Result<> link(BatchPlace place, int64_t maxTimestamp, std::span<const PlacedTarget> targets);
  /// Writes what is left. Returns the octet behind it.
  Result<uint64_t> finish();

 private:
  Result<> beginEntry(size_t more);
  void endEntry();
  Result<> flush();

  File& file_;
  const SegmentInfo& info_;
  EntryBuffer entries_;
  std::vector<BytesView> pieces_;
  // Entries stand as if the file were not rewritten, so that the same scanner reads them.
  Position next_ = info_.base;
  Position written_ = info_.base;
  Position entryAt_ = info_.base;
  uint64_t sequence_ = 0;
  size_t inEntry_ = 0;
  bool open_ = false;
};

}  // namespace polylog::storage
