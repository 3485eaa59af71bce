// The manifest: which segments the journal consists of, in order. Replaced whole and atomically.
#pragma once

#include <string>
#include <vector>

#include "core/base/error.h"
#include "storage/file.h"
#include "storage/segment.h"

namespace polylog::storage {

inline constexpr const char* kManifestName = "MANIFEST";
inline constexpr const char* kManifestTemporary = "MANIFEST.tmp";

std::string encodeManifest(const std::vector<SegmentInfo>& segments);
Result<std::vector<SegmentInfo>> decodeManifest(BytesView bytes);

/// kNotFound when there is none, kCorrupt, kIo.
Result<std::vector<SegmentInfo>> readManifest(Directory& directory);

/// The same is in the file twice, one copy behind the other.
struct ManifestCopies {
  Result<std::vector<SegmentInfo>> first;
  Result<std::vector<SegmentInfo>> second;
  uint64_t fileBytes = 0;

  uint64_t middle() const { return fileBytes / 2; }
  /// The first that is sound, or why the first isn't.
  const Result<std::vector<SegmentInfo>>& best() const;
};
/// Both, as one version of the file has them. kNotFound, kIo; kCorrupt when it is far too large.
Result<ManifestCopies> readManifestCopies(Directory& directory);

struct DiskFailure {
  Error error;
  bool fatal = false;  ///< what is on disk now is not known
};
/// Writes the temporary file, syncs, renames, syncs the directory.
std::expected<void, DiskFailure> writeManifest(Directory& directory,
                                               const std::vector<SegmentInfo>& segments);

}  // namespace polylog::storage
