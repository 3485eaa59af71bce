// Rewriting: what is alive in a sealed segment of which little is alive is copied to a new file,
// each batch once, sorted by partition; positions stay, and the new footer says where they are.
// Order: new file durable, manifest replaced, then memory, then the old file goes. Until the next
// checkpoint the state view knows the old places only; the new footer's directory corrects it. What
// follows once the copy is durable: rewriting_swap.cc.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "core/base/byte_reader.h"
#include "core/base/log.h"
#include "core/base/metrics.h"
#include "storage/copy_writer.h"
#include "storage/rewriting.h"

namespace polylog::storage {
namespace {

/// What a partition must hold before it is asked what of it is used up above its log start.
constexpr uint64_t kWorthAsking = 1U << 20;
constexpr size_t kMostDecoded = 256U << 20;

struct Metrics {
  Metric& segments = counter("polylog_journal_rewritten_segments_total",
                             "Segments of the journal that were rewritten or emptied");
  Metric& bytes = counter("polylog_journal_rewritten_bytes_total",
                          "Octets of batches that were copied when segments were rewritten");
};

Metrics& metrics() {
  static Metrics all;
  return all;
}

/// How many of [first, end) are in none of the ascending ranges.
uint64_t countOutside(Offset first, Offset end, const std::vector<OffsetRange>& ranges) {
  if (first >= end) return 0;
  auto count = static_cast<uint64_t>(end - first);
  for (const auto& [from, to] : ranges) {
    if (from >= end) break;
    int64_t inside = std::min(to, end) - std::max(from, first);
    if (inside > 0) count -= static_cast<uint64_t>(inside);
  }
  return count;
}

uint64_t shareOf(const Chunk& chunk, uint64_t records) {
  auto all = static_cast<uint64_t>(chunk.end - chunk.first);
  return all == 0 ? 0
                  : static_cast<uint64_t>(static_cast<double>(chunk.bytes) *
                                          static_cast<double>(records) / static_cast<double>(all));
}

}  // namespace

/// What is alive, by batches, in the order of their copies.
std::vector<LogStoreImpl::Rewriting::Batch> LogStoreImpl::Rewriting::inOrder() const {
  std::vector<Batch> batches;
  for (size_t from = 0; from < alive.size();) {
    Batch batch{from, from, 0};
    Position position = alive[from].entry.position;
    while (batch.to < alive.size() && alive[batch.to].entry.position == position) ++batch.to;
    batch.first = batch.to;
    for (size_t i = from; i < batch.to && batch.first == batch.to; ++i) {
      if (alive[i].own) batch.first = i;
    }
    batches.push_back(batch);
    from = batch.to;
  }
  // Those that only later segments refer to come last.
  auto rank = [&](const Batch& batch) {
    bool own = batch.first != batch.to;
    return std::tuple(!own, own ? alive[batch.first].partition : PartitionId(0),
                      own ? alive[batch.first].entry.base : Offset(0));
  };
  std::sort(batches.begin(), batches.end(),
            [&](const Batch& a, const Batch& b) { return rank(a) < rank(b); });
  return batches;
}

/// The index of each partition with something left, once all is copied. There may be millions of
/// entries: `alive` and `foreign` are used up.
void LogStoreImpl::Rewriting::index() {
  std::erase_if(alive, [](const Alive& one) { return !one.own; });
  alive.insert(alive.end(), foreign.begin(), foreign.end());
  foreign.clear();
  std::sort(alive.begin(), alive.end(), [](const Alive& a, const Alive& b) {
    return std::tuple(a.partition, a.entry.base) < std::tuple(b.partition, b.entry.base);
  });
  for (size_t i = 0; i < alive.size();) {
    FooterRun& run = runs.emplace_back();
    run.partition = alive[i].partition;
    run.first = alive[i].entry.base;
    auto built = std::make_shared<IndexRun>(run.first, base());
    for (; i < alive.size() && alive[i].partition == run.partition; ++i) {
      const IndexEntry& entry = alive[i].entry;
      built->append(entry);
      run.bytes += entry.octets();
      run.maxTimestamp = std::max(run.maxTimestamp, entry.maxTimestamp);
      if (entry.position < base()) run.minLink = std::min(run.minLink, entry.position.value());
    }
    run.end = built->end();
    built->setSparse();
    run.run = std::move(built);
  }
}

// ---------------------------------------------------------------- choosing

/// Sealed segments of whose octets less than half are alive, or less than half of what was when
/// they were looked at last (partitions that share batches count them several times).
std::vector<std::shared_ptr<Segment>> LogStoreImpl::scatteredSegments() {
  struct Asked {
    PartitionId partition;
    std::vector<Chunk> chunks;
  };
  std::unordered_map<uint64_t, uint64_t> alive;
  std::vector<Asked> asked;
  uint64_t linked = UINT64_MAX;
  {
    Lock lock(mutex_);
    linkedSince_ = UINT64_MAX;
  }
  (void)visitPartitions([&](Partition& partition) {
    bool worth = liveness_ != nullptr && partition.bytes >= kWorthAsking;
    if (worth) asked.push_back({partition.id, {}});
    for (const Chunk& chunk : partition.chunks) {
      linked = std::min(linked, chunk.minLink);
      if (chunk.dead) continue;
      uint64_t records = countOutside(std::max(chunk.first, partition.logStart), chunk.end, {});
      alive[chunk.segment] += shareOf(chunk, records);
      if (!worth) continue;
      Chunk& light = asked.back().chunks.emplace_back(chunk);
      light.first = std::max(chunk.first, partition.logStart);
      light.bytes = shareOf(chunk, records);
      light.run = nullptr;
    }
  });
  for (const Asked& one : asked) {
    std::vector<OffsetRange> dead = liveness_->usedUp(one.partition);
    if (dead.empty()) continue;
    for (const Chunk& chunk : one.chunks) {
      if (chunk.first >= chunk.end) continue;
      alive[chunk.segment] -=
          chunk.bytes - shareOf(chunk, countOutside(chunk.first, chunk.end, dead));
    }
  }
  Position routed = liveness_ != nullptr ? liveness_->routedUpTo() : Position(UINT64_MAX);
  std::vector<std::shared_ptr<Segment>> scattered;
  Lock lock(mutex_);
  linkedFrom_ = std::min(linked, linkedSince_);
  for (const auto& segment : journal_.segments()) {
    const SegmentInfo& info = segment->info;
    if (info.status != SegmentStatus::kSealed || info.end > routed) continue;
    uint64_t now = alive[info.id];
    if (segment->judgedBytes == 0) {
      segment->judgedBytes = info.rewritten ? now : std::max<uint64_t>(now, info.end - info.base);
    }
    if (now >= segment->judgedBytes / 2) continue;
    segment->judgedBytes = std::max<uint64_t>(now, 1);
    scattered.push_back(segment);
  }
  return scattered;
}

Result<> LogStoreImpl::rewriteScattered(const std::vector<std::shared_ptr<Segment>>& scattered) {
  for (const auto& segment : scattered) {
    {
      Lock lock(mutex_);
      if (fatal_) return std::unexpected(*fatal_);
      bool gone = journal_.byId(segment->info.id) != segment;
      if (gone || maintenanceStop_) continue;
      if (segment->info.end > securedEnd()) {
        segment->judgedBytes = 0;  // at the next round
        continue;
      }
    }
    if (auto done = rewriteSegments({segment}); !done) {
      Lock lock(mutex_);
      segment->judgedBytes = 0;  // at the next round
      return done;
    }
    checkSpace();  // the rest may take long
  }
  return {};
}

Result<> LogStoreImpl::rewriteSegments(std::vector<std::shared_ptr<Segment>> sources) {
  Rewriting rewriting;
  rewriting.sources = std::move(sources);
  if (auto done = gatherAlive(rewriting); !done) return done;
  const std::shared_ptr<Segment>& first = rewriting.sources.front();
  uint64_t size = rewriting.end() - rewriting.base();
  // Partitions shared more than it seemed.
  if (!first->info.rewritten && !rewriting.compacted && rewriting.bytes > size / 2) return {};
  if (!rewriting.alive.empty() || !rewriting.foreign.empty()) {
    if (auto done = writeRewritten(rewriting); !done) {
      if (rewriting.copy) (void)journal_.directory().remove(rewriting.copy->info.file);
      return done;
    }
  }
  auto swapped = swapRewritten(rewriting);
  if (!swapped) return std::unexpected(swapped.error());
  if (!*swapped) {
    if (rewriting.copy) (void)journal_.directory().remove(rewriting.copy->info.file);
    Lock lock(mutex_);
    first->judgedBytes = 0;
    return {};
  }
  metrics().segments.add(static_cast<int64_t>(rewriting.sources.size()));
  metrics().bytes.add(static_cast<int64_t>(rewriting.bytes));
  logDebug(fmt::format("{} was rewritten, {} in all: {} of {} octets were alive", first->info.file,
                       rewriting.sources.size(), rewriting.bytes, size));
  return {};
}

// ---------------------------------------------------------------- what is alive

/// Below its durable log start, and what is durably used up. Pending changes don't count: they may
/// still fail.
std::vector<OffsetRange> LogStoreImpl::deadRanges(PartitionId partition) const {
  auto value = view_->get(viewKey(StateTable::kPartition, partitionKey(partition, 's')));
  Offset start(value ? ByteReader(*value).i64() : 0);
  std::vector<OffsetRange> dead{{Offset(0), start}};
  if (liveness_ == nullptr) return dead;
  for (auto [first, end] : liveness_->usedUp(partition)) {
    // What was used up below the log start may still be told.
    first = std::max(first, start);
    if (first < end) dead.emplace_back(first, end);
  }
  return dead;
}

Result<> LogStoreImpl::gatherAlive(Rewriting& rewriting) {
  struct Wanted {
    PartitionId partition;
    Chunk chunk;
  };
  std::vector<Wanted> wanted;
  {
    Lock lock(mutex_);
    for (const auto& source : rewriting.sources) rewriting.links.push_back(source->links);
  }
  auto visit = [&](Partition& partition) {
    for (const Chunk& chunk : partition.chunks) {
      bool own = rewriting.covers(chunk.base);
      bool links = chunk.base >= rewriting.end() && chunk.minLink < rewriting.end().value();
      if (chunk.dead || (!own && !links)) continue;
      wanted.push_back({partition.id, chunk});
      // One that grows is copied.
      Chunk& copy = wanted.back().chunk;
      if (copy.run) copy.run = std::make_shared<IndexRun>(*copy.run);
    }
  };
  // None may be missed: what nobody claims is dropped. (What is made meanwhile counts by its
  // links.)
  if (auto done = visitPartitions(visit); !done) return done;
  auto key = [](const Wanted& one) { return std::pair(one.partition, one.chunk.segment); };
  // Of one that was met twice, having grown meanwhile, the first.
  std::ranges::sort(wanted, {}, [&key](const Wanted& one) {
    return std::pair(key(one), one.chunk.end);
  });
  auto twice = std::ranges::unique(wanted, {}, key);
  wanted.erase(twice.begin(), twice.end());
  for (const Wanted& one : wanted) {
    auto& own = rewriting.partitions;
    bool more = own.empty() || own.back() != one.partition;
    if (more && rewriting.covers(one.chunk.base)) own.push_back(one.partition);
    if (auto done = gatherFrom(rewriting, one.partition, one.chunk); !done) return done;
  }
  std::sort(rewriting.alive.begin(), rewriting.alive.end(), [](const auto& a, const auto& b) {
    return std::tuple(a.entry.position, a.partition, a.entry.base) <
           std::tuple(b.entry.position, b.partition, b.entry.base);
  });
  for (size_t i = 0; i < rewriting.alive.size(); ++i) {
    const IndexEntry& entry = rewriting.alive[i].entry;
    bool again = i > 0 && rewriting.alive[i - 1].entry.position == entry.position;
    if (!again) rewriting.bytes += entry.length;
  }
  return {};
}

Result<> LogStoreImpl::gatherFrom(Rewriting& rewriting, PartitionId partition, const Chunk& chunk) {
  std::shared_ptr<const IndexRun> run = chunk.run;
  if (!run) {
    auto loaded = runOf(partition, chunk);
    if (!loaded) return std::unexpected(loaded.error());
    run = std::move(*loaded);
  }
  std::vector<OffsetRange> dead = deadRanges(partition);
  Offset last;
  {
    // A partition's last record stays: reading there must find its end.
    Lock lock(mutex_);
    const Partition* found = partitions_.find(partition);
    if (found == nullptr) return {};
    last = found->end;
  }
  bool own = rewriting.covers(chunk.base);
  auto compacted = superseded_.find(partition);
  const OffsetSet* superseded = compacted == superseded_.end() ? nullptr : &compacted->second;
  IndexRun::Cursor cursor = run->begin();
  for (IndexEntry entry; cursor.next(entry);) {
    bool here = rewriting.sourceOf(entry.position) != nullptr;
    if (!own && !here) continue;
    bool ends = entry.end() == last;
    if (countOutside(entry.base, entry.end(), dead) == 0 && !ends) continue;
    uint64_t gone = superseded == nullptr ? 0 : superseded->count(entry.base, entry.end());
    rewriting.compacted |= gone != 0;
    if (gone == entry.count && !ends) continue;
    bool thinned = here && own && gone != 0 && gone != entry.count;
    (here ? rewriting.alive : rewriting.foreign).push_back({partition, entry, own, thinned});
  }
  return {};
}

// ---------------------------------------------------------------- the copy

namespace {

PlacedTarget targetOf(PartitionId partition, const IndexEntry& entry) {
  return {partition, entry.base, entry.firstRecord, entry.count, entry.attributes};
}

}  // namespace

Result<> LogStoreImpl::writeRewritten(Rewriting& rewriting) {
  auto& alive = rewriting.alive;
  auto copy = std::make_shared<Segment>();
  SegmentInfo& info = copy->info;
  info = rewriting.sources.front()->info;
  info.end = rewriting.end();
  info.rewritten = true;
  {
    Lock lock(mutex_);  // appends that begin a segment ask it too
    info.incarnation = static_cast<uint32_t>(random_.next());
  }
  info.file = rewrittenFileName(info.id, info.incarnation);
  rewriting.copy = copy;
  auto file = journal_.directory().open(info.file, OpenMode::kReplace);
  if (!file) return std::unexpected(file.error());
  std::string header = encodeSegmentHeader(info);
  BytesView piece = header;
  if (auto done = (*file)->write(0, {&piece, 1}); !done) return done;

  if (rewriting.compacted) {
    for (const Rewriting::Alive& one : alive) rewriting.taken.insert(one.entry.position.value());
  }
  CopyWriter writer(**file, info);
  std::vector<PlacedBatch>& map = rewriting.map;
  for (const Rewriting::Batch& batch : rewriting.inOrder()) {
    auto done = keepBatch(rewriting, batch.from, batch.to, writer);
    if (!done) return done;
  }
  for (const Rewriting::Alive& one : rewriting.foreign) {
    PlacedTarget target = targetOf(one.partition, one.entry);
    auto done =
        writer.link({one.entry.position, one.entry.length}, one.entry.maxTimestamp, {&target, 1});
    if (!done) return done;
  }
  auto end = writer.finish();
  if (!end) return std::unexpected(end.error());

  rewriting.index();
  std::sort(map.begin(), map.end(),
            [](const PlacedBatch& a, const PlacedBatch& b) { return a.position < b.position; });
  if (auto done = writeFooter(**file, info, *end, rewriting.runs, map); !done) return done;
  auto size = (*file)->size();
  if (!size) return std::unexpected(size.error());
  copy->fileBytes = *size;
  auto synced = (*file)->sync();
  if (synced) synced = journal_.directory().sync();
  if (!synced) fatalFromMaintenance(synced.error());
  return synced;
}

/// One batch for all who have it, and besides a thinner one for each whose compaction wants that.
Result<> LogStoreImpl::keepBatch(Rewriting& rewriting, size_t from, size_t to, CopyWriter& writer) {
  std::span all(rewriting.alive.begin() + static_cast<std::ptrdiff_t>(from), to - from);
  BatchPlace place{all[0].entry.position, all[0].entry.length};
  Segment& source = *rewriting.sourceOf(place.position);
  auto file = journal_.file(source);
  if (!file) return std::unexpected(file.error());
  uint8_t variant = 0;
  if (source.info.rewritten) {
    auto places = journal_.places(source);
    if (!places) return std::unexpected(places.error());
    auto found = (*places)->find(**file, place.position);
    if (!found) return std::unexpected(found.error());
    if (*found) variant = (*found)->variant;
  }
  auto batch = readUncached(source, **file, place);
  if (!batch && batch.error().kind != ErrorKind::kCorrupt) return std::unexpected(batch.error());
  auto keep = [&](std::span<const PlacedTarget> targets, const SharedBytes& octets,
                  Position position, uint8_t number) -> Result<> {
    auto written = writer.keep(position, targets, octets);
    if (!written) return std::unexpected(written.error());
    rewriting.map.push_back({position, *written, number});
    return {};
  };
  std::vector<PlacedTarget> targets;
  bool whole = false;
  uint64_t next = variant;
  for (auto& one : all) {
    bool thinned = false;
    if (one.thinned && batch && next < kMostVariants) {
      const OffsetSet& superseded = superseded_.at(one.partition);
      auto offsetOf = [&](int32_t delta) {
        return one.entry.base + (delta - static_cast<int32_t>(one.entry.firstRecord));
      };
      auto thin = filterRecordBatch(*batch, kMostDecoded, [&](int32_t delta) {
        return !superseded.contains(offsetOf(delta));
      });
      // These octets of the original's header are nobody else's.
      do {
        ++next;
      } while (!rewriting.taken.insert(place.position.value() + (next - variant)).second);
      if (thin && thin->size() < batch->size() && next <= kMostVariants) {
        one.entry.position = place.position + (next - variant);
        rewriting.thinned.push_back(one.entry.position);
        one.entry.length = static_cast<uint32_t>(thin->size());
        PlacedTarget target = targetOf(one.partition, one.entry);
        auto done = keep({&target, 1}, SharedBytes::own(std::move(*thin)), one.entry.position,
                         static_cast<uint8_t>(next));
        if (!done) return done;
        thinned = true;
      }
    }
    whole |= !thinned;
    if (!thinned && one.own) targets.push_back(targetOf(one.partition, one.entry));
  }
  if (!whole) return {};
  if (batch) return keep(targets, *batch, place.position, variant);
  rewriting.map.push_back({place.position, kDamagedPlace, variant});  // reading it fails, as it did
  return {};
}

}  // namespace polylog::storage
