// The footer of a sealed segment: the index run of every partition that has batches in it, each
// with its own checksum so that one is read without the others; a directory; and a trailer that
// ends the file (docs/storage-format.md). No threads of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/base/error.h"
#include "core/base/strong.h"
#include "storage/file.h"
#include "storage/partition_index.h"
#include "storage/segment.h"

namespace polylog::storage {

/// What a partition has in one segment.
struct FooterRun {
  PartitionId partition;
  Offset first;
  Offset end;
  uint64_t bytes = 0;
  int64_t maxTimestamp = -1;
  uint64_t minLink = UINT64_MAX;  ///< lowest position before the segment that it refers to
  std::shared_ptr<const IndexRun> run;
  /// Where the run's record is, from the footer's first octet. writeFooter() fills them in.
  uint32_t at = 0;
  uint32_t length = 0;
};

/// Writes the footer behind the segment's entries (info.end); the caller syncs. Runs in ascending
/// order of partition.
Result<> writeFooter(File& file, const SegmentInfo& info, std::vector<FooterRun>& runs);

/// One partition's run. kCorrupt when it isn't what was asked for.
Result<FooterRun> readFooterRun(const File& file, const SegmentInfo& info, PartitionId partition,
                                uint32_t at, uint32_t length);

/// All of it, verified.
Result<std::vector<FooterRun>> readFooter(const File& file, const SegmentInfo& info);

}  // namespace polylog::storage
