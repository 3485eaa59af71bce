// The end of a rewriting: the copy, durable by now, takes the old segments' place in the manifest,
// then in memory, where partitions' chunks come to lie side by side; then the old files go.
#include <algorithm>

#include "core/base/log.h"
#include "storage/rewriting.h"

namespace polylog::storage {

/// False: a link to something that seemed dead came in between.
Result<bool> LogStoreImpl::swapRewritten(Rewriting& rewriting) {
  const auto& sources = rewriting.sources;
  for (const auto& source : sources) {
    if (auto done = journal_.keepOpen(*source); !done) return std::unexpected(done.error());
  }
  {
    std::lock_guard manifest(manifestMutex_);
    std::vector<SegmentInfo> infos;
    {
      Lock lock(mutex_);
      for (size_t i = 0; i < sources.size(); ++i) {
        if (sources[i]->links != rewriting.links[i]) return false;
      }
      for (const auto& source : sources) source->replaced = true;
      infos = journal_.infos();
    }
    auto at = std::find_if(infos.begin(), infos.end(), [&](const SegmentInfo& info) {
      return info.id == sources.front()->info.id;
    });
    auto after = infos.erase(at, at + static_cast<std::ptrdiff_t>(sources.size()));
    if (rewriting.copy) infos.insert(after, rewriting.copy->info);
    if (auto done = writeManifest(journal_.directory(), infos); !done) {
      if (done.error().fatal) fatalFromMaintenance(done.error().error);
      Lock lock(mutex_);
      for (const auto& source : sources) source->replaced = false;
      return std::unexpected(done.error().error);
    }
    Lock lock(mutex_);
    uint64_t liveChunks = 0;
    for (const auto& source : sources) liveChunks += source->liveChunks;
    for (size_t i = rewriting.copy ? 1 : 0; i < sources.size(); ++i) {
      journal_.remove(sources[i]->info.id);
    }
    if (rewriting.copy) {
      rewriting.copy->liveChunks = liveChunks;
      rewriting.copy->everHadChunks = true;
      journal_.replace(rewriting.copy);
    }
    settled_.notify_all();  // links may try again
  }
  for (Position position : rewriting.thinned) cache_.forget(position);  // of an earlier compaction
  for (PartitionId partition : rewriting.partitions) adoptRewritten(rewriting, partition);
  for (const auto& source : sources) {
    auto removed = journal_.directory().remove(source->info.file);
    if (!removed) logWarning("rewriting: " + removed.error().text);
  }
  return true;
}

void LogStoreImpl::adoptRewritten(const Rewriting& rewriting, PartitionId id) {
  auto run = std::lower_bound(
      rewriting.runs.begin(), rewriting.runs.end(), id,
      [](const FooterRun& one, PartitionId wanted) { return one.partition < wanted; });
  bool kept = run != rewriting.runs.end() && run->partition == id;
  Lock lock(mutex_);
  Partition* found = partitions_.find(id);
  if (found == nullptr) return;
  Partition& partition = *found;
  auto& chunks = partition.chunks;
  auto within = [&](Position bound) {
    auto at = std::partition_point(chunks.begin(), chunks.end(),
                                   [&](const Chunk& chunk) { return chunk.base < bound; });
    return static_cast<size_t>(at - chunks.begin());
  };
  joinChunks(partition, within(rewriting.base()), within(rewriting.end()));
  for (size_t at = within(rewriting.base()); at < within(rewriting.end());) {
    Chunk& chunk = chunks[at];
    if (chunk.dead) {
      ++at;
      continue;
    }
    if (kept) {
      chunk.footerAt = run->at;
      chunk.footerLength = run->length;
      chunk.minLink = run->minLink;
      uint64_t bytes = std::min(chunk.bytes, run->bytes);
      partition.bytes -= chunk.bytes - bytes;
      chunk.bytes = bytes;
      ++at;
    } else {
      releaseChunk(chunk.base);
      partition.bury(at);  // which may move what follows to its place
    }
  }
  markDirty(partition);
}

/// Of the partition's chunks [from, to), those become one whose segments have become one.
void LogStoreImpl::joinChunks(Partition& partition, size_t from, size_t to) {
  std::vector<Chunk>& chunks = partition.chunks;
  size_t kept = from;  // one past the last that is done
  for (size_t i = from; i < to; ++i) {
    Chunk& chunk = chunks[i];
    auto segment = journal_.at(chunk.base);
    if (segment && segment->info.rewritten) {
      chunk.segment = segment->info.id;
      chunk.base = segment->info.base;
    }
    if (kept == from || chunks[kept - 1].segment != chunk.segment) {
      if (kept != i) chunks[kept] = std::move(chunk);
      ++kept;
      continue;
    }
    Chunk& into = chunks[kept - 1];
    if (!into.dead && !chunk.dead) releaseChunk(into.base);
    into.end = chunk.end;
    into.bytes += chunk.bytes;
    into.maxTimestamp = std::max(into.maxTimestamp, chunk.maxTimestamp);
    into.minLink = std::min(into.minLink, chunk.minLink);
    into.footerAt = into.footerLength = 0;  // the directory knows
    into.dead = into.dead && chunk.dead;
  }
  chunks.erase(chunks.begin() + static_cast<std::ptrdiff_t>(kept),
               chunks.begin() + static_cast<std::ptrdiff_t>(to));
}

}  // namespace polylog::storage
