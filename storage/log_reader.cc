// Reading: from the index to places under the lock, from places to batches without it, through the
// cache, neighbours in one go.
#include <fmt/format.h>

#include <algorithm>

#include "core/base/log.h"
#include "storage/log_store_impl.h"

namespace polylog::storage {
namespace {

/// Batches one read() hands out, and octets one pread takes in, at most (a larger batch alone).
constexpr size_t kMaxBatches = 8192;
constexpr size_t kMaxExtent = 1U << 20;
/// Octets between two batches that it is cheaper to read than to skip.
constexpr size_t kMaxGap = 4096;
constexpr int kMostAttempts = 5;

std::unexpected<Error> damagedAt(PartitionId partition, Offset offset) {
  return fail(ErrorKind::kCorrupt, fmt::format("partition {}: offset {} was damaged on disk",
                                               partition.value(), offset.value()));
}

}  // namespace

/// What read() needs of a chunk once the lock is gone.
struct LogStoreImpl::ChunkCopy {
  Chunk chunk;
  std::shared_ptr<Segment> segment;
};

namespace {

std::shared_ptr<const IndexRun> emptyRun(const Chunk& chunk) {
  auto run = std::make_shared<IndexRun>(chunk.first, chunk.base);
  run->setSparse();
  return run;
}

Result<std::shared_ptr<const IndexRun>> readRun(const File& file, const SegmentInfo& info,
                                                PartitionId partition, const Chunk& chunk) {
  if (!info.rewritten) {
    auto read = readFooterRun(file, info, info.place(info.end), partition, chunk.footerAt,
                              chunk.footerLength);
    if (read && read->first != chunk.first) return fail(ErrorKind::kCorrupt, "another run");
    if (!read) return std::unexpected(read.error());
    return std::move(read->run);
  }
  auto layout = readFooterLayout(file, info);
  if (!layout) return std::unexpected(layout.error());
  auto read =
      readFooterRun(file, info, layout->begin, partition, chunk.footerAt, chunk.footerLength);
  if (read) return std::move(read->run);
  // After a crash the chunk may be as it was before the segment was rewritten.
  auto found = findFooterRun(file, info, *layout, partition);
  if (!found) return std::unexpected(found.error());
  return *found ? std::move((*found)->run) : emptyRun(chunk);
}

}  // namespace

Result<std::shared_ptr<const IndexRun>> LogStoreImpl::runOf(PartitionId partition,
                                                            const Chunk& chunk) {
  std::shared_ptr<Segment> segment;
  SegmentInfo info;
  {
    Lock lock(mutex_);
    segment = journal_.at(chunk.base);
    if (segment) info = segment->info;
  }
  if (!segment) return emptyRun(chunk);
  RunCache::Key key{info.id, info.incarnation, partition};
  if (auto run = runs_.find(key)) return run;
  auto file = journal_.file(*segment);
  if (!file) return std::unexpected(file.error());
  auto read = readRun(**file, info, partition, chunk);
  if (!read && read.error().kind != ErrorKind::kCorrupt) return std::unexpected(read.error());
  std::shared_ptr<const IndexRun> run;
  if (read) {
    run = std::move(*read);
  } else {
    logWarning(fmt::format("{}; reading the segment instead", read.error().text));
    auto rebuilt = rebuildRun(partition, chunk, segment);
    if (!rebuilt) return rebuilt;
    run = std::move(*rebuilt);
  }
  runs_.insert(key, run);
  return run;
}

/// The footer is damaged: the entries themselves say the same.
Result<std::shared_ptr<const IndexRun>> LogStoreImpl::rebuildRun(
    PartitionId partition, const Chunk& chunk, const std::shared_ptr<Segment>& segment) {
  SegmentInfo info;
  {
    Lock lock(mutex_);
    info = segment->info;
  }
  auto file = journal_.file(*segment);
  if (!file) return std::unexpected(file.error());
  Position to = info.end;
  if (info.rewritten) {
    auto size = (*file)->size();
    if (!size) return std::unexpected(size.error());
    to = info.base + (*size - kSegmentHeaderSize);
  }
  bool damaged = false;
  std::vector<IndexEntry> entries;
  std::vector<PlacedTarget> targets;
  EntryScanner scanner(**file, info, info.base, to);
  while (true) {
    auto step = scanner.step();
    if (!step) return std::unexpected(step.error());
    if (*step == EntryScanner::Step::kEnd) break;
    // What follows a rewritten segment's last entry is the footer, which is damaged.
    if (*step == EntryScanner::Step::kDamage) damaged |= scanner.next() != to;
    if (*step == EntryScanner::Step::kDamage) continue;
    for (const EntryPart& part : scanner.entry().parts) {
      if (part.type == PartType::kState) continue;
      targets.clear();
      if (!decodeTargets(part.list, targets)) continue;
      int64_t maxTimestamp = part.maxTimestamp;
      int64_t records = 0;
      if (part.type != PartType::kLink) {
        auto header = parseRecordBatchHeader(part.batch);
        if (header) maxTimestamp = header->maxTimestamp;
        if (header) records = header->offsetCount();
      } else {
        for (const PlacedTarget& target : targets) {
          records = std::max<int64_t>(records, int64_t{target.firstRecord} + target.count);
        }
        records = assumedRecords(records);
      }
      for (const PlacedTarget& target : targets) {
        if (target.partition != partition) continue;
        entries.push_back({target.base, target.count, part.place.position, part.place.length,
                           target.firstRecord, target.attributes, maxTimestamp,
                           shareOf(part.place.length, target.count, records)});
      }
    }
  }
  if (entries.empty() && info.rewritten && !damaged) return emptyRun(chunk);
  if (entries.empty()) {
    return fail(ErrorKind::kCorrupt, info.file + " has lost its index and its entries");
  }
  // In a rewritten segment they follow another order than the partition's.
  std::sort(entries.begin(), entries.end(),
            [](const IndexEntry& a, const IndexEntry& b) { return a.base < b.base; });
  auto run = std::make_shared<IndexRun>(entries[0].base, info.base);
  if (info.rewritten) run->setSparse();
  for (const IndexEntry& entry : entries) {
    if (entry.base >= run->end()) run->append(entry);
  }
  return run;
}

/// Takes entries from `run` on, beginning with the one that holds `next`. False when enough is
/// taken, or a hole ends it.
Result<bool> LogStoreImpl::collect(const IndexRun& run, Offset& next, Offset limit, size_t maxBytes,
                                   size_t& bytes, std::vector<Located>& out, bool lockHeld) {
  Lock lock(mutex_, std::defer_lock);
  if (!lockHeld) lock.lock();
  std::shared_ptr<Segment> segment = out.empty() ? nullptr : out.back().segment;
  IndexRun::Cursor cursor = run.seek(next);
  for (IndexEntry entry; cursor.next(entry);) {
    if (entry.base >= limit || (entry.base > next && !run.sparse())) return false;
    if (!out.empty() && (bytes + entry.length > maxBytes || out.size() >= kMaxBatches)) {
      return false;
    }
    // What is visible is in no planned segment: one that hasn't ended holds all from its base on.
    bool ended = segment && (segment->info.status == SegmentStatus::kClosed ||
                             segment->info.status == SegmentStatus::kSealed);
    bool same = segment && entry.position >= segment->info.base &&
                (!ended || entry.position < segment->info.end);
    if (!same) segment = journal_.at(entry.position);
    if (!segment) return false;
    out.push_back({entry, segment});
    bytes += entry.length;
    next = entry.end();
  }
  return true;
}

Result<std::vector<LogStoreImpl::Located>> LogStoreImpl::locate(PartitionId id, Offset from,
                                                                size_t maxBytes, Offset& limit) {
  std::vector<Located> located;
  size_t bytes = 0;
  Offset next = from;
  while (true) {
    Chunk sealed;
    {
      Lock lock(mutex_);
      const Partition* partition = findPartition(id);
      if (partition == nullptr) {
        return fail(ErrorKind::kNotFound, fmt::format("no partition {}", id.value()));
      }
      limit = partition->highWatermark;
      if (next < partition->logStart || next > limit) {
        if (!located.empty()) return located;
        return fail(ErrorKind::kOutOfRange,
                    fmt::format("there is no offset {}: records begin at {} and end before {}",
                                next.value(), partition->logStart.value(), limit.value()));
      }
      size_t at = partition->chunkAt(next);
      while (at < partition->chunks.size() && next < limit) {
        const Chunk& chunk = partition->chunks[at];
        if (chunk.dead) {
          next = std::max(next, chunk.end);
        } else if (chunk.run) {
          auto more = collect(*chunk.run, next, limit, maxBytes, bytes, located, true);
          if (!more || !*more) return located;
        } else {
          break;
        }
        at = partition->chunkAt(next);
      }
      if (next >= limit || at >= partition->chunks.size()) return located;
      sealed = partition->chunks[at];
    }
    if (sealed.first > next) return located;
    auto run = runOf(id, sealed);
    if (!run) {
      if (located.empty()) return std::unexpected(run.error());
      return located;
    }
    Offset before = next;
    auto more = collect(**run, next, limit, maxBytes, bytes, located, false);
    if (more && *more && (*run)->sparse()) next = std::max(next, sealed.end);
    if (!more || !*more || next == before) return located;
  }
}

Result<std::vector<ReadBatch>> LogStoreImpl::read(PartitionId partition, Offset from,
                                                  size_t maxBytes) {
  // A segment may be rewritten between looking up and reading: then it is looked up again.
  for (int attempt = 0;; ++attempt) {
    bool moved = false;
    auto batches = readOnce(partition, from, maxBytes, moved);
    if (batches || !moved || attempt == kMostAttempts) return batches;
  }
}

Result<std::vector<ReadBatch>> LogStoreImpl::readOnce(PartitionId partition, Offset from,
                                                      size_t maxBytes, bool& moved) {
  Offset limit;
  auto located = locate(partition, from, maxBytes, limit);
  if (!located) return std::unexpected(located.error());
  std::vector<ReadBatch> batches;
  if (located->empty()) {
    // By the high watermark that locate() went by: it may have risen since.
    if (from >= limit) return batches;
    auto bounds = ends(partition);
    if (!bounds) return std::unexpected(bounds.error());
    if (from < bounds->logStart) return fail(ErrorKind::kOutOfRange, "below the log start");
    return damagedAt(partition, from);
  }
  batches.reserve(located->size());
  while (batches.size() < located->size()) {
    auto done = fetchExtent(std::span(*located).subspan(batches.size()), batches);
    if (done) continue;
    // What was read before it is good; the next read meets the error again.
    if (!batches.empty()) break;
    moved = done.error().kind == ErrorKind::kNotFound;
    if (moved) {
      return fail(ErrorKind::kCorrupt, fmt::format("partition {}: offset {} has lost its batch",
                                                   partition.value(), from.value()));
    }
    return std::unexpected(done.error());
  }
  return batches;
}

Result<size_t> LogStoreImpl::fetchExtent(std::span<const Located> located,
                                         std::vector<ReadBatch>& out) {
  auto hand = [&](const Located& one, SharedBytes batch) {
    const IndexEntry& entry = one.entry;
    out.push_back({std::move(batch),
                   {entry.position, entry.length},
                   entry.base,
                   entry.firstRecord,
                   entry.count,
                   entry.attributes});
  };
  const IndexEntry& first = located[0].entry;
  if (auto cached = cache_.find(first.position, first.length)) {
    hand(located[0], std::move(*cached));
    return 1;
  }
  // How far one pread goes: the same segment, ascending, near, and not in the cache already.
  Segment& segment = *located[0].segment;
  auto file = journal_.file(segment);
  if (!file) return std::unexpected(file.error());
  auto place = placeOf(segment, **file, first.position);
  if (!place) return std::unexpected(place.error());
  std::vector<uint64_t> places{*place};
  uint64_t end = *place + first.length;
  size_t count = 1;
  for (; count < located.size(); ++count) {
    const IndexEntry& next = located[count].entry;
    if (located[count].segment.get() != &segment) break;
    bool again = next.position == located[count - 1].entry.position;
    auto there = again ? places.back() : placeOf(segment, **file, next.position);
    if (!there || (!again && (*there < end || *there - end > kMaxGap))) break;
    if (*there + next.length - *place > kMaxExtent) break;
    end = std::max(end, *there + next.length);
    places.push_back(*there);
  }
  auto size = static_cast<size_t>(end - *place);
  auto buffer = std::make_shared_for_overwrite<char[]>(size);
  auto got = (*file)->read(*place, buffer.get(), size);
  if (!got) return std::unexpected(got.error());
  BytesView octets(buffer.get(), *got);
  std::shared_ptr<const void> owner(buffer, buffer.get());
  std::vector<BatchCache::Slice> slices;
  slices.reserve(count);
  size_t done = 0;
  Result<> damaged;
  for (; done < count; ++done) {
    const IndexEntry& entry = located[done].entry;
    if (done > 0 && entry.position == located[done - 1].entry.position) {
      hand(located[done], out.back().batch);
      continue;
    }
    auto at = static_cast<size_t>(places[done] - *place);
    bool whole = at <= octets.size() && entry.length <= octets.size() - at;
    SharedBytes batch = whole ? SharedBytes(owner, octets.substr(at, entry.length)) : SharedBytes();
    auto valid = validateRecordBatch(batch.view());
    if (!valid) {
      damaged =
          fail(ErrorKind::kCorrupt, fmt::format("the batch at position {} is damaged on disk: {}",
                                                entry.position.value(), valid.error().text));
      break;
    }
    slices.push_back({entry.position, batch});
    hand(located[done], std::move(batch));
  }
  cache_.insert(std::move(slices), size);
  if (done == 0) return std::unexpected(damaged.error());
  return done;
}

Result<uint64_t> LogStoreImpl::placeOf(Segment& segment, const File& file, Position position) {
  if (!segment.info.rewritten) return segment.info.place(position);
  auto places = journal_.places(segment);
  if (!places) return std::unexpected(places.error());
  auto place = (*places)->find(file, position);
  if (!place) return std::unexpected(place.error());
  if (!*place) {
    return fail(ErrorKind::kNotFound, fmt::format("no batch at position {}", position.value()));
  }
  if ((*place)->place == kDamagedPlace) {
    return fail(ErrorKind::kCorrupt,
                fmt::format("the batch at position {} was damaged on disk", position.value()));
  }
  return (*place)->place;
}

Result<SharedBytes> LogStoreImpl::readUncached(Segment& segment, const File& file,
                                               BatchPlace place) {
  auto at = placeOf(segment, file, place.position);
  if (!at) return std::unexpected(at.error());
  auto buffer = std::make_shared_for_overwrite<char[]>(place.length);
  auto got = file.read(*at, buffer.get(), place.length);
  if (!got) return std::unexpected(got.error());
  SharedBytes batch(std::shared_ptr<const void>(buffer, buffer.get()),
                    BytesView(buffer.get(), *got));
  auto valid = validateRecordBatch(batch.view());
  if (!valid) {
    return fail(ErrorKind::kCorrupt, fmt::format("the batch at position {} is damaged on disk: {}",
                                                 place.position.value(), valid.error().text));
  }
  return batch;
}

Result<SharedBytes> LogStoreImpl::fetchOne(Segment& segment, BatchPlace place) {
  // What has been rewritten away may be in the cache still; nothing may come to rely on it again.
  auto cached = segment.info.rewritten ? std::nullopt : cache_.find(place.position, place.length);
  if (cached) return std::move(*cached);
  auto file = journal_.file(segment);
  if (!file) return std::unexpected(file.error());
  auto batch = readUncached(segment, **file, place);
  if (batch) cache_.insert({{place.position, *batch}}, place.length);
  return batch;
}

Result<SharedBytes> LogStoreImpl::readAt(BatchPlace place) {
  std::shared_ptr<Segment> segment;
  return readAt(place, segment);
}

Result<SharedBytes> LogStoreImpl::readAt(BatchPlace place, std::shared_ptr<Segment>& segment) {
  {
    Lock lock(mutex_);
    // Nothing but what is written can be at a place; the length is the caller's word.
    segment = nullptr;
    if (place.position < visibleEnd_ && place.length <= visibleEnd_ - place.position &&
        place.length <= kMaxEntrySize) {
      segment = journal_.at(place.position);
    }
  }
  if (!segment) {
    return fail(ErrorKind::kNotFound,
                fmt::format("no batch at position {}", place.position.value()));
  }
  return fetchOne(*segment, place);
}

Result<std::vector<IndexedBatch>> LogStoreImpl::indexed(PartitionId id, Offset from, size_t most) {
  std::vector<IndexedBatch> out;
  Offset next = from;
  auto gather = [&](const IndexRun& run, Offset end) {
    IndexRun::Cursor cursor = run.seek(next);
    for (IndexEntry entry; out.size() < most && cursor.next(entry);) {
      out.push_back({entry.base, entry.count, entry.attributes, entry.maxTimestamp,
                     int64_t{entry.octets()}, entry.position});
    }
    next = std::max(next, end);
  };
  while (true) {
    Chunk sealed;
    {
      Lock lock(mutex_);
      const Partition* partition = findPartition(id);
      if (partition == nullptr) {
        return fail(ErrorKind::kNotFound, fmt::format("no partition {}", id.value()));
      }
      next = std::max(next, partition->logStart);
      size_t at = partition->chunkAt(next);
      for (; at < partition->chunks.size() && out.size() < most; at = partition->chunkAt(next)) {
        const Chunk& chunk = partition->chunks[at];
        if (!chunk.dead && !chunk.run) break;
        if (chunk.run) gather(*chunk.run, chunk.end);
        next = std::max(next, chunk.end);
      }
      if (out.size() >= most || at >= partition->chunks.size()) return out;
      sealed = partition->chunks[at];
    }
    auto run = runOf(id, sealed);
    if (!run && out.empty()) return std::unexpected(run.error());
    if (!run) return out;
    gather(**run, sealed.end);
  }
}

Result<std::optional<Offset>> LogStoreImpl::offsetAt(PartitionId id, int64_t timestampMs) {
  Offset from(0);
  while (true) {
    Chunk chunk;
    Offset limit;
    Offset start;
    std::shared_ptr<const IndexRun> run;
    std::optional<Offset> found;
    auto search = [&](const IndexRun& in) {
      IndexRun::Cursor cursor = in.seek(std::max(start, from));
      for (IndexEntry entry; !found && cursor.next(entry) && entry.base < limit;) {
        if (entry.maxTimestamp >= timestampMs) found = std::max(entry.base, start);
      }
    };
    {
      Lock lock(mutex_);
      const Partition* partition = findPartition(id);
      if (partition == nullptr) {
        return fail(ErrorKind::kNotFound, fmt::format("no partition {}", id.value()));
      }
      limit = partition->highWatermark;
      start = partition->logStart;
      auto at =
          std::find_if(partition->chunks.begin(), partition->chunks.end(), [&](const Chunk& c) {
            return !c.dead && c.end > std::max(from, start) && c.maxTimestamp >= timestampMs;
          });
      if (at == partition->chunks.end() || at->first >= limit) return std::nullopt;
      if (at->run) search(*at->run);
      chunk = *at;
    }
    if (!chunk.run) {
      auto loaded = runOf(id, chunk);
      if (!loaded) return std::unexpected(loaded.error());
      search(**loaded);
    }
    if (found) return found;
    from = chunk.end;
  }
}

Result<std::optional<Offset>> LogStoreImpl::offsetOfMaxTimestamp(PartitionId id) {
  std::optional<Offset> best;
  int64_t bestTimestamp = INT64_MIN;
  Offset from(0);
  while (true) {
    Chunk chunk;
    Offset limit;
    Offset start;
    auto search = [&](const IndexRun& in) {
      IndexRun::Cursor cursor = in.seek(std::max(start, from));
      for (IndexEntry entry; cursor.next(entry) && entry.base < limit;) {
        if (best && entry.maxTimestamp <= bestTimestamp) continue;
        best = std::max(entry.base, start);
        bestTimestamp = entry.maxTimestamp;
      }
    };
    {
      Lock lock(mutex_);
      const Partition* partition = findPartition(id);
      if (partition == nullptr) {
        return fail(ErrorKind::kNotFound, fmt::format("no partition {}", id.value()));
      }
      limit = partition->highWatermark;
      start = partition->logStart;
      auto at =
          std::find_if(partition->chunks.begin(), partition->chunks.end(), [&](const Chunk& c) {
            return !c.dead && c.end > std::max(from, start) &&
                   (!best || c.maxTimestamp > bestTimestamp);
          });
      if (at == partition->chunks.end() || at->first >= limit) return best;
      if (at->run) search(*at->run);
      chunk = *at;
    }
    if (!chunk.run) {
      auto loaded = runOf(id, chunk);
      if (!loaded) return std::unexpected(loaded.error());
      search(**loaded);
    }
    from = chunk.end;
  }
}

Result<bool> LogStoreImpl::scanSegment(const SegmentInfo& info, const File& file, Position from,
                                       Position to,
                                       const std::function<bool(const CommittedBatch&)>& visit,
                                       Position& reached) {
  EntryScanner scanner(file, info, from, to, from != info.base);
  std::vector<PlacedTarget> targets;
  while (true) {
    auto step = scanner.step();
    if (!step) return std::unexpected(step.error());
    if (*step == EntryScanner::Step::kEnd) return true;
    if (*step == EntryScanner::Step::kDamage) continue;
    for (const EntryPart& part : scanner.entry().parts) {
      if (part.type != PartType::kMessages || (part.flags & kRouteAfterCommit) == 0) continue;
      targets.clear();
      if (!decodeTargets(part.list, targets) || targets.empty()) continue;
      if (!validateRecordBatch(part.batch)) continue;  // damaged: reads of it fail, told there
      const PlacedTarget& first = targets[0];
      reached = part.place.position + part.place.length;
      CommittedBatch batch{first.partition,
                           {SharedBytes::copyOf(part.batch), part.place, first.base,
                            first.firstRecord, first.count, first.attributes},
                           scanner.position()};
      if (!visit(batch)) return false;
    }
    reached = scanner.next();
  }
}

Result<Position> LogStoreImpl::scanRouted(Position from,
                                          const std::function<bool(const CommittedBatch&)>& visit) {
  Position reached = from;
  while (true) {
    std::shared_ptr<Segment> segment;
    SegmentInfo info;
    Position to;
    {
      Lock lock(mutex_);
      if (reached >= durableEnd_) return reached;
      for (const auto& candidate : journal_.segments()) {
        bool ended = candidate->info.status == SegmentStatus::kClosed ||
                     candidate->info.status == SegmentStatus::kSealed;
        if (ended && candidate->info.end <= reached) continue;
        segment = candidate;
        info = candidate->info;
        to = ended ? info.end : durableEnd_;
        break;
      }
    }
    if (!segment) return reached;
    if (info.rewritten) {  // below routedUpTo()
      reached = to;
      continue;
    }
    auto file = journal_.file(*segment);
    if (!file) return std::unexpected(file.error());
    reached = std::max(reached, info.base);
    auto more = scanSegment(info, **file, reached, to, visit, reached);
    if (!more) return std::unexpected(more.error());
    if (!*more) return reached;
    reached = to;
  }
}

}  // namespace polylog::storage
