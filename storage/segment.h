// A segment: one file of the journal, holding the entries of [base, end). What is known of it and
// its header's form. Guarded as Journal says.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/error.h"
#include "core/base/strong.h"
#include "storage/file.h"

namespace polylog::storage {

inline constexpr size_t kSegmentHeaderSize = 64;
inline constexpr uint16_t kFormatVersion = 1;

enum class SegmentStatus : uint8_t {
  kActive = 0,   ///< grows; its end is wherever the last good entry ends
  kClosed = 1,   ///< full and durable, without a footer yet
  kSealed = 2,   ///< with a durable footer
  kPlanned = 3,  ///< sequenced into, but not on disk yet; never in the manifest
};

/// What the manifest says of a segment.
struct SegmentInfo {
  uint64_t id = 0;
  uint32_t incarnation = 0;
  Position base;
  uint64_t firstSequence = 0;  ///< of the entry at `base`
  int64_t createdMs = 0;
  SegmentStatus status = SegmentStatus::kPlanned;
  Position end;                ///< meaningless while active or planned
  std::string file;
  /// Only what was alive has been kept, under the positions it had; the footer says where it is.
  bool rewritten = false;

  bool operator==(const SegmentInfo&) const = default;
  /// Where a position is in the file, unless it is rewritten.
  uint64_t place(Position position) const { return kSegmentHeaderSize + (position - base); }
};

class PlaceMap;

/// A segment of the running store. A rewritten one takes its place as another object.
struct Segment {
  SegmentInfo info;
  uint64_t liveChunks = 0;     ///< partitions with a chunk here
  bool everHadChunks = false;
  /// Who has a chunk here, until the footer is written.
  std::vector<PartitionId> partitions;
  uint64_t indexBytes = 0;     ///< of runs in memory, roughly
  std::shared_ptr<File> file;  ///< opened when first needed; Journal's file lock
  std::shared_ptr<const PlaceMap> places;  ///< of a rewritten one; Journal's file lock
  uint64_t lastUse = 0;
  bool replaced = false;  ///< or about to be: nothing links into it any more
  uint64_t links = 0;     ///< how many links to its batches have been sequenced in this run
  /// What its partitions' chunks added up to when rewriting it was last thought about; 0 = never.
  uint64_t judgedBytes = 0;
  uint64_t fileBytes = 0;  ///< of a rewritten one, once known; maintenance's alone
};

/// "00000000000000000001.segment"
std::string segmentFileName(uint64_t id);
/// "00000000000000000001-89abcdef.segment"
std::string rewrittenFileName(uint64_t id, uint32_t incarnation);
bool isSegmentFileName(const std::string& name);

std::string encodeSegmentHeader(const SegmentInfo& info);
/// kCorrupt unless it is the header of exactly that segment.
Result<> checkSegmentHeader(BytesView header, const SegmentInfo& info);

}  // namespace polylog::storage
