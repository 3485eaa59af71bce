#include "storage/journal_liveness.h"

#include <algorithm>
#include <optional>

#include "storage/manifest.h"
#include "storage/segment_footer.h"

namespace polylog::storage {
namespace {

using Runs = IndexRuns::mapped_type;

/// From which offset on a partition's records are alive. nullopt: none is.
std::optional<Offset> aliveFrom(const JournalReport& report, PartitionId partition) {
  auto found = report.partitions.find(partition);
  if (found == report.partitions.end()) return Offset(0);
  if (found->second.deleted) return std::nullopt;
  return found->second.logStart.value_or(Offset(0));
}

/// The footer's. A broker may have put a rewritten copy in the segment's place since it was read:
/// then the copy's. nullopt: neither can be read.
std::optional<Runs> runsOf(Directory& journal, SegmentInfo info) {
  for (int look = 0; look < 2; ++look) {
    if (auto file = journal.open(info.file, OpenMode::kRead)) {
      auto footer = readFooter(**file, info);
      if (!footer) return std::nullopt;
      Runs runs;
      for (FooterRun& run : *footer) runs.emplace_back(run.partition, std::move(run.run));
      return runs;
    }
    auto infos = readManifest(journal);
    if (!infos) return std::nullopt;
    auto now = std::find_if(infos->begin(), infos->end(),
                            [&](const SegmentInfo& one) { return one.id == info.id; });
    if (now == infos->end()) return Runs();  // deleted, as nothing in it was alive
    info = *now;
  }
  return std::nullopt;
}

}  // namespace

void addUpAlive(Directory& journal, const IndexRuns& unsealed, JournalReport& report) {
  // Links lead to earlier segments only: from the last to the first, all that lead into a segment
  // are known when its turn comes.
  std::map<Position, uint64_t> alive;
  for (auto segment = report.segments.rbegin(); segment != report.segments.rend(); ++segment) {
    const SegmentInfo& info = segment->info;
    auto scanned = unsealed.find(info.id);
    std::optional<Runs> runs = scanned != unsealed.end() ? scanned->second : runsOf(journal, info);
    if (!runs) return;  // what its links keep alive isn't known
    for (const auto& [partition, run] : *runs) {
      std::optional<Offset> from = aliveFrom(report, partition);
      if (!from) continue;
      IndexRun::Cursor cursor = run->seek(*from);
      for (IndexEntry entry; cursor.next(entry);) alive[entry.position] = entry.length;
    }
    auto here = alive.lower_bound(info.base);
    uint64_t octets = 0;
    for (auto batch = here; batch != alive.end(); ++batch) octets += batch->second;
    alive.erase(here, alive.end());
    if (info.status == SegmentStatus::kSealed) segment->aliveBytes = octets;
  }
}

}  // namespace polylog::storage
