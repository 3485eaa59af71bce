// The segments of the journal: which there are, and their files. The list is guarded by the store's
// lock; open files by a lock of their own, so that opening one stalls nobody.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "core/base/error.h"
#include "core/base/strong.h"
#include "storage/file.h"
#include "storage/place_map.h"
#include "storage/segment.h"

namespace polylog::storage {

class Journal {
 public:
  /// Once, before anything else.
  void use(std::shared_ptr<Directory> directory) { directory_ = std::move(directory); }

  Directory& directory() { return *directory_; }

  // ---- under the store's lock ----
  const std::vector<std::shared_ptr<Segment>>& segments() const { return segments_; }
  void add(std::shared_ptr<Segment> segment) { segments_.push_back(std::move(segment)); }
  void remove(uint64_t id);
  /// Puts it in the place of the segment with the same id.
  void replace(std::shared_ptr<Segment> segment);
  /// The segment that holds `position`, or null.
  std::shared_ptr<Segment> at(Position position) const;
  /// The first segment from `position` on, or null.
  std::shared_ptr<Segment> from(Position position) const;
  std::shared_ptr<Segment> byId(uint64_t id) const;
  /// What the manifest should say now.
  std::vector<SegmentInfo> infos() const;
  /// Base of the oldest segment without a durable footer: the index below it is in footers.
  Position footerFloor() const;

  // ---- without it ----
  /// Opens the segment's file if it isn't. At most kOpenFiles stay open for reading.
  Result<std::shared_ptr<File>> file(Segment& segment);
  void setFile(Segment& segment, std::shared_ptr<File> file);
  void closeFile(Segment& segment);
  /// The segment's file will be removed while readers may still come by this object: it stays open
  /// as long as they hold it.
  Result<> keepOpen(Segment& segment);
  /// Of a rewritten segment: read when first needed, from its entries if its footer is damaged.
  Result<std::shared_ptr<const PlaceMap>> places(Segment& segment);

 private:
  static constexpr size_t kOpenFiles = 256;

  std::shared_ptr<Directory> directory_;
  std::vector<std::shared_ptr<Segment>> segments_;  ///< ascending

  std::mutex filesMutex_;
  std::vector<Segment*> open_;
  uint64_t uses_ = 0;
};

}  // namespace polylog::storage
