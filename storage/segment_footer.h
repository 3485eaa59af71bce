// The footer of a sealed segment: the index run of every partition that has batches in it, each
// with its own checksum so that one is read without the others; a directory; and a trailer that
// ends the file (docs/storage-format.md). No threads of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/base/error.h"
#include "core/base/strong.h"
#include "storage/file.h"
#include "storage/partition_index.h"
#include "storage/place_map.h"
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

/// Writes the footer from octet `begin` on, behind the segment's entries; the caller syncs. Runs in
/// ascending order of partition, `map` (of a rewritten segment) of position.
Result<> writeFooter(File& file, const SegmentInfo& info, uint64_t begin,
                     std::vector<FooterRun>& runs, std::span<const PlacedBatch> map = {});

/// What the trailer says, in octets of the file.
struct FooterLayout {
  uint64_t begin = 0;
  uint64_t directoryAt = 0;
  uint64_t runs = 0;
  uint32_t directoryCrc = 0;
  uint64_t mapAt = 0;
  uint64_t mapEntries = 0;
};
Result<FooterLayout> readFooterLayout(const File& file, const SegmentInfo& info);

/// One partition's run, of a footer that begins at octet `begin`. kCorrupt when it isn't what was
/// asked for.
Result<FooterRun> readFooterRun(const File& file, const SegmentInfo& info, uint64_t begin,
                                PartitionId partition, uint32_t at, uint32_t length);
/// The same by the directory. nullopt: the partition has nothing in the segment.
Result<std::optional<FooterRun>> findFooterRun(const File& file, const SegmentInfo& info,
                                               const FooterLayout& layout, PartitionId partition);

/// All of it, verified.
Result<std::vector<FooterRun>> readFooter(const File& file, const SegmentInfo& info);

}  // namespace polylog::storage
