#include "storage/journal_reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "storage/journal_liveness.h"
#include "storage/manifest.h"

namespace polylog::storage {
namespace {

/// How often a segment is looked at that has a fault, or has gone.
constexpr int kMostLooks = 3;

class JournalReader {
 public:
  JournalReader(Directory& journal, const JournalReadOptions& options)
      : journal_(journal), options_(options), reading_{options.verify, options.state} {}

  Result<JournalReport> read();

 private:
  /// A sealed segment's footer lacks the partition, whose entries there end here.
  struct Unindexed {
    std::string file;
    Position segmentEnd;
    PartitionId partition;
    Offset end;
  };

  Result<std::vector<SegmentInfo>> readInfos();
  Result<> readOne(SegmentInfo info);
  Result<bool> refresh(SegmentInfo& info, bool& changed);
  void take(SegmentContents contents, const SegmentInfo& atFirst);
  void takePartition(SegmentContents& contents, PartitionId id, const PartitionContents& found);
  void missing(SegmentContents& contents, const OffsetsLost& lost);
  void checkUnindexed();

  Directory& journal_;
  const JournalReadOptions& options_;
  JournalReport report_;
  std::vector<Unindexed> unindexed_;
  SegmentReadOptions reading_;
  IndexRuns unsealed_;
  Position gapless_;  ///< from here on no segment was removed or rewritten
};

Result<JournalReport> JournalReader::read() {
  auto infos = readInfos();
  if (!infos &&
      (infos.error().kind == ErrorKind::kCorrupt || infos.error().kind == ErrorKind::kNotFound)) {
    report_.faults.push_back({FaultKind::kManifest, kManifestName, 0, 0, infos.error().text, {}});
    return std::move(report_);
  }
  if (!infos) return std::unexpected(infos.error());
  for (SegmentInfo& info : *infos) {
    if (auto done = readOne(std::move(info)); !done) return std::unexpected(done.error());
  }
  if (options_.verify) checkUnindexed();
  if (options_.liveness) addUpAlive(journal_, unsealed_, report_);
  return std::move(report_);
}

/// What the manifest says; that one of its copies doesn't is a fault.
Result<std::vector<SegmentInfo>> JournalReader::readInfos() {
  auto copies = readManifestCopies(journal_);
  if (!copies) return std::unexpected(copies.error());
  auto best = copies->best();
  if (!options_.verify || !best) return best;
  auto blame = [&](uint64_t from, uint64_t to, std::string what) {
    report_.faults.push_back(
        {FaultKind::kIndex, kManifestName, from, to - from, std::move(what), {}});
  };
  const auto& [first, second, size] = *copies;
  if (!first) blame(0, copies->middle(), "the first of its two copies: " + first.error().text);
  if (!second) {
    blame(copies->middle(), size, "the second of its two copies: " + second.error().text);
  }
  if (first && second && *first != *second) blame(0, size, "its two copies differ");
  return best;
}

/// What the manifest says of the segment now. False: it has gone.
Result<bool> JournalReader::refresh(SegmentInfo& info, bool& changed) {
  auto infos = readManifest(journal_);
  if (!infos) return std::unexpected(infos.error());
  auto now = std::find_if(infos->begin(), infos->end(),
                          [&](const SegmentInfo& one) { return one.id == info.id; });
  if (now == infos->end()) return false;
  changed = *now != info;
  info = *now;
  return true;
}

Result<> JournalReader::readOne(SegmentInfo info) {
  const SegmentInfo atFirst = info;
  for (int look = 1;; ++look) {
    auto file = journal_.open(info.file, OpenMode::kRead);
    bool gone = !file && file.error().kind == ErrorKind::kNotFound;
    if (!file && !gone) return std::unexpected(file.error());
    SegmentContents contents;
    if (file) {
      auto read = readSegment(**file, info, reading_);
      if (!read) return std::unexpected(read.error());
      contents = std::move(*read);
      if (contents.faults.empty() && contents.tornBytes == 0) {
        take(std::move(contents), atFirst);
        return {};
      }
    }
    // A broker may have been writing what was read here, have ended the segment and put a footer
    // behind it, be making a footer anew after its start, or have put a copy in its place.
    bool changed = false;
    auto there = refresh(info, changed);
    if (!there) return std::unexpected(there.error());
    if (!*there) return {};
    if (changed && look < 2 * kMostLooks) continue;
    if ((gone || !contents.faults.empty()) && look < kMostLooks) {
      if (options_.pause) options_.pause();
      continue;
    }
    if (gone) {
      contents.info = info;
      contents.end = info.status == SegmentStatus::kActive ? info.base : info.end;
      contents.addFault(FaultKind::kRecords, 0, 0, "the manifest names it, but it isn't there");
    }
    take(std::move(contents), atFirst);
    return {};
  }
}

void JournalReader::take(SegmentContents contents, const SegmentInfo& atFirst) {
  const SegmentInfo& info = contents.info;
  bool follows = !report_.segments.empty() && report_.segments.back().end == info.base;
  if (!follows) gapless_ = info.base;
  if (info.rewritten) gapless_ = contents.end;
  for (const auto& [id, found] : contents.partitions) takePartition(contents, id, found);
  // What a footer made meanwhile leaves out may have died by an entry behind all that is read here.
  if (info != atFirst) contents.unindexed.clear();
  for (PartitionId id : contents.unindexed) {
    unindexed_.push_back({info.file, contents.end, id, contents.partitions.at(id).end});
  }
  for (StateChange& change : contents.state) {
    std::pair key(change.table, std::move(change.key));
    if (change.value) {
      report_.state[std::move(key)] = std::move(*change.value);
    } else {
      report_.state.erase(key);
    }
  }
  if (options_.liveness && info.status != SegmentStatus::kSealed) {
    auto& runs = unsealed_[info.id];
    for (auto& [id, found] : contents.partitions) {
      runs.emplace_back(id, std::make_shared<IndexRun>(std::move(found.run)));
    }
  }
  for (PartitionId id : contents.deleted) report_.partitions[id].deleted = true;
  for (const auto& [id, start] : contents.logStarts) {
    std::optional<Offset>& known = report_.partitions[id].logStart;
    known = std::max(known.value_or(start), start);
  }
  std::move(contents.faults.begin(), contents.faults.end(), std::back_inserter(report_.faults));
  report_.segments.push_back({info, contents.fileBytes, contents.end, contents.tornBytes,
                              contents.totals, contents.partitions.size()});
}

void JournalReader::takePartition(SegmentContents& contents, PartitionId id,
                                  const PartitionContents& found) {
  PartitionSummary& summary = report_.partitions[id];
  bool follows = summary.segments != 0 && summary.lastSegment >= gapless_;
  if (options_.verify && follows && found.first > summary.end) {
    missing(contents, {id, summary.end, found.first});
  }
  if (summary.segments == 0) summary.first = found.first;
  summary.end = std::max(summary.end, found.end);
  summary.offsets += found.offsets;
  summary.bytes += found.bytes;
  summary.lastSegment = contents.info.base;
  ++summary.segments;
}

/// Offsets between two segments: in what is damaged here, or else in what was before.
void JournalReader::missing(SegmentContents& contents, const OffsetsLost& lost) {
  for (auto* faults : {&contents.faults, &report_.faults}) {
    for (auto fault = faults->rbegin(); fault != faults->rend(); ++fault) {
      if (fault->kind == FaultKind::kRecords) return fault->lost.push_back(lost);
    }
  }
  contents.addFault(FaultKind::kRecords, 0, 0, "offsets before this segment are missing", {lost});
}

/// A footer leaves out partitions that were deleted or empty when it was written. Later state
/// changes say so, unless a segment that had them is gone or rewritten.
void JournalReader::checkUnindexed() {
  for (const Unindexed& one : unindexed_) {
    const PartitionSummary& summary = report_.partitions.at(one.partition);
    bool dead = summary.deleted || (summary.logStart && *summary.logStart >= one.end);
    if (dead || gapless_ > one.segmentEnd) continue;
    report_.faults.push_back({FaultKind::kIndex,
                              one.file,
                              0,
                              0,
                              fmt::format("the footer lacks partition {}", one.partition.value()),
                              {}});
  }
}

}  // namespace

Result<std::shared_ptr<Directory>> findJournal(std::shared_ptr<Directory> data) {
  if (data->exists(kManifestName)) return data;
  if (data->isDirectory("journal")) {
    auto journal = data->subdirectory("journal");
    if (!journal) return journal;
    auto names = (*journal)->list();
    if (!names) return std::unexpected(names.error());
    if (std::any_of(names->begin(), names->end(), [](const std::string& name) {
          return name == kManifestName || isSegmentFileName(name);
        })) {
      return journal;
    }
  }
  return fail(ErrorKind::kNotFound, data->path() +
                                        " holds no journal: give it the directory that "
                                        "`polylog serve --data` was given");
}

Result<JournalReport> readJournal(Directory& journal, const JournalReadOptions& options) {
  return JournalReader(journal, options).read();
}

}  // namespace polylog::storage
