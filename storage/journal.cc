#include "storage/journal.h"

#include <algorithm>

#include "core/base/log.h"
#include "storage/entry_scanner.h"
#include "storage/segment_footer.h"

namespace polylog::storage {

void Journal::replace(std::shared_ptr<Segment> segment) {
  for (auto& old : segments_) {
    if (old->info.id == segment->info.id) old = segment;
  }
}

void Journal::remove(uint64_t id) {
  std::erase_if(segments_, [id](const auto& segment) { return segment->info.id == id; });
}

std::shared_ptr<Segment> Journal::at(Position position) const {
  auto above = std::upper_bound(
      segments_.begin(), segments_.end(), position,
      [](Position p, const std::shared_ptr<Segment>& segment) { return p < segment->info.base; });
  if (above == segments_.begin()) return nullptr;
  const std::shared_ptr<Segment>& segment = *--above;
  bool ended = segment->info.status == SegmentStatus::kClosed ||
               segment->info.status == SegmentStatus::kSealed;
  if (ended && position >= segment->info.end) return nullptr;
  return segment;
}

std::shared_ptr<Segment> Journal::from(Position position) const {
  auto found = std::lower_bound(
      segments_.begin(), segments_.end(), position,
      [](const std::shared_ptr<Segment>& segment, Position p) { return segment->info.base < p; });
  return found != segments_.end() ? *found : nullptr;
}

std::shared_ptr<Segment> Journal::byId(uint64_t id) const {
  auto found = std::lower_bound(
      segments_.begin(), segments_.end(), id,
      [](const std::shared_ptr<Segment>& segment, uint64_t i) { return segment->info.id < i; });
  return found != segments_.end() && (*found)->info.id == id ? *found : nullptr;
}

std::vector<SegmentInfo> Journal::infos() const {
  std::vector<SegmentInfo> infos;
  for (const auto& segment : segments_) {
    if (segment->info.status != SegmentStatus::kPlanned) infos.push_back(segment->info);
  }
  return infos;
}

Position Journal::footerFloor() const {
  for (const auto& segment : segments_) {
    if (segment->info.status != SegmentStatus::kSealed) return segment->info.base;
  }
  return Position(0);
}

Result<std::shared_ptr<File>> Journal::file(Segment& segment) {
  std::lock_guard lock(filesMutex_);
  segment.lastUse = ++uses_;
  if (segment.file) return segment.file;
  auto opened = directory_->open(segment.info.file, OpenMode::kReadWrite);
  if (!opened) return opened;
  if (open_.size() >= kOpenFiles) {
    auto oldest = std::min_element(open_.begin(), open_.end(), [](Segment* a, Segment* b) {
      return a->lastUse < b->lastUse;
    });
    (*oldest)->file = nullptr;  // whoever reads it holds it still
    open_.erase(oldest);
  }
  segment.file = std::move(*opened);
  open_.push_back(&segment);
  return segment.file;
}

void Journal::setFile(Segment& segment, std::shared_ptr<File> file) {
  std::lock_guard lock(filesMutex_);
  std::erase(open_, &segment);
  segment.file = std::move(file);
  segment.lastUse = ++uses_;
  open_.push_back(&segment);
}

Result<> Journal::keepOpen(Segment& segment) {
  auto opened = file(segment);
  if (!opened) return std::unexpected(opened.error());
  std::lock_guard lock(filesMutex_);
  std::erase(open_, &segment);
  segment.file = std::move(*opened);
  return {};
}

namespace {

/// What the map would say, from the entries.
Result<PlaceMap> mapByScan(const File& file, const SegmentInfo& info) {
  auto size = file.size();
  if (!size) return std::unexpected(size.error());
  std::vector<PlacedBatch> batches;
  EntryScanner scanner(file, info, info.base, info.base + (*size - kSegmentHeaderSize));
  while (true) {
    auto step = scanner.step();
    if (!step) return std::unexpected(step.error());
    if (*step == EntryScanner::Step::kEnd) break;
    if (*step == EntryScanner::Step::kDamage) continue;
    for (const EntryPart& part : scanner.entry().parts) {
      if (part.type != PartType::kKept) continue;
      auto within = static_cast<uint64_t>(part.batch.data() - scanner.entryBytes().data());
      batches.push_back({part.place.position, info.place(scanner.position()) + within});
    }
  }
  std::sort(batches.begin(), batches.end(), [](const PlacedBatch& a, const PlacedBatch& b) {
    return a.position < b.position;
  });
  return PlaceMap::inMemory(std::move(batches));
}

}  // namespace

Result<std::shared_ptr<const PlaceMap>> Journal::places(Segment& segment) {
  {
    std::lock_guard lock(filesMutex_);
    if (segment.places) return segment.places;
  }
  auto opened = file(segment);
  if (!opened) return std::unexpected(opened.error());
  auto layout = readFooterLayout(**opened, segment.info);
  Result<PlaceMap> map = layout ? PlaceMap::load(**opened, layout->mapAt, layout->mapEntries)
                                : Result<PlaceMap>(std::unexpected(layout.error()));
  if (!map && map.error().kind == ErrorKind::kCorrupt) {
    logWarning(map.error().text + "; reading the segment instead");
    map = mapByScan(**opened, segment.info);
  }
  if (!map) return std::unexpected(map.error());
  auto places = std::make_shared<const PlaceMap>(std::move(*map));
  std::lock_guard lock(filesMutex_);
  segment.places = places;
  return places;
}

void Journal::closeFile(Segment& segment) {
  std::lock_guard lock(filesMutex_);
  std::erase(open_, &segment);
  segment.file = nullptr;
}

}  // namespace polylog::storage
