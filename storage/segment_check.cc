#include "storage/segment_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <tuple>

#include "storage/entry_scanner.h"
#include "storage/log_store_impl.h"
#include "storage/place_map.h"
#include "storage/segment_footer.h"

namespace polylog::storage {
namespace {

/// Of an index entry whose batch doesn't say.
constexpr int64_t kUnknownTime = INT64_MIN;

/// A target, as the index has it.
struct Indexed {
  PartitionId partition;
  IndexEntry entry;
  uint64_t bytes = 0;
};

class SegmentReader {
 public:
  SegmentReader(const File& file, const SegmentInfo& info, const SegmentReadOptions& options,
                SegmentContents& out)
      : file_(file), info_(info), options_(options), verify_(options.verify), out_(out) {}

  Result<> read();

 private:
  void checkHeader();
  Position findExtent();
  void scan(Position to);
  void takeEntry(const EntryView& entry, BytesView bytes);
  void takePart(const EntryPart& part, uint64_t entryAt, BytesView entry);
  void takeState(const EntryPart& part, uint64_t entryAt);
  void checkSequence(const EntryHeader& header);
  void commitChain();
  void dropChain(const char* why);
  void index(const Indexed& one);
  void checkFooter();
  void checkRun(const FooterRun& run, const PartitionContents* scanned);
  void compare(const FooterRun& run, const PartitionContents* scanned);
  void checkMap();
  void findHoles(PartitionId partition, const IndexRun& run);
  void footerAlone(PartitionId partition, const IndexEntry& entry);
  std::optional<uint64_t> placeOf(Position position) const;
  JournalFault* recordsFaultAt(uint64_t place);
  void lose(JournalFault& fault, PartitionId partition, Offset first, Offset end);
  std::vector<OffsetsLost> lostOf(std::span<const Indexed> indexed);

  const File& file_;
  const SegmentInfo& info_;
  const SegmentReadOptions& options_;
  const bool verify_;
  SegmentContents& out_;
  std::optional<FooterLayout> layout_;
  std::optional<Error> layoutError_;
  Position position_;           ///< of the entry at hand
  std::vector<Indexed> chain_;  ///< targets of entries whose chain isn't complete yet
  uint64_t chainAt_ = 0;
  bool inChain_ = false;
  std::optional<uint64_t> sequence_;  ///< that the next entry has; none behind damage
  std::vector<Indexed> sorted_;       ///< of a rewritten segment, whose entries have another order
  std::vector<PlacedBatch> kept_;     ///< what entries of a rewritten segment hold, and where
  std::vector<PlacedBatch> map_;      ///< what its footer says of that
  std::set<std::pair<PartitionId, Offset>> named_;  ///< first offsets already told as lost
};

Result<> SegmentReader::read() {
  auto size = file_.size();
  if (!size) return std::unexpected(size.error());
  out_.info = info_;
  out_.fileBytes = *size;
  checkHeader();
  scan(findExtent());
  if (info_.rewritten) {
    std::sort(sorted_.begin(), sorted_.end(), [](const Indexed& a, const Indexed& b) {
      return std::tuple(a.partition, a.entry.base) < std::tuple(b.partition, b.entry.base);
    });
    for (const Indexed& one : sorted_) index(one);
  }
  if (!verify_) return {};
  if (info_.status == SegmentStatus::kSealed) {
    checkFooter();
  } else {
    for (const auto& [partition, contents] : out_.partitions) findHoles(partition, contents.run);
  }
  return {};
}

void SegmentReader::checkHeader() {
  char header[kSegmentHeaderSize];
  auto got = file_.read(0, header, sizeof header);
  Result<> ok = got ? checkSegmentHeader(BytesView(header, *got), info_)
                    : Result<>(std::unexpected(got.error()));
  if (!ok) out_.addFault(FaultKind::kIndex, 0, kSegmentHeaderSize, ok.error().text);
}

/// Up to which position there are entries.
Position SegmentReader::findExtent() {
  Position all = info_.base;
  if (out_.fileBytes > kSegmentHeaderSize) all += out_.fileBytes - kSegmentHeaderSize;
  out_.end = info_.end;
  if (info_.status == SegmentStatus::kActive) {
    auto found = findJournalEnd(file_, info_, all);
    out_.end = found ? found->end : all;
    out_.tornBytes = all - out_.end;
    return out_.end;
  }
  if (info_.status == SegmentStatus::kSealed) {
    auto layout = readFooterLayout(file_, info_);
    if (layout) {
      layout_ = *layout;
    } else {
      layoutError_ = layout.error();
    }
  }
  if (!info_.rewritten) return info_.end;
  return layout_ ? info_.base + (layout_->begin - kSegmentHeaderSize) : all;
}

void SegmentReader::scan(Position to) {
  EntryScanner scanner(file_, info_, info_.base, to);
  sequence_ = info_.rewritten ? 0 : info_.firstSequence;
  while (true) {
    auto step = scanner.step();
    position_ = scanner.position();
    uint64_t at = info_.place(position_);
    if (!step) {
      dropChain("its end can't be read");
      out_.addFault(FaultKind::kRecords, at, to - position_,
                    "can't be read from here on: " + step.error().text);
      return;
    }
    if (*step == EntryScanner::Step::kEnd) break;
    if (*step == EntryScanner::Step::kEntry) {
      takeEntry(scanner.entry(), scanner.entryBytes());
      continue;
    }
    sequence_ = std::nullopt;
    dropChain("its end is damaged");
    // Where entries end in a rewritten segment, only its footer tells.
    if (info_.rewritten && !layout_ && scanner.next() == to) break;
    out_.addFault(FaultKind::kRecords, at, scanner.next() - position_,
                  fmt::format("no valid entry from position {} to {}", position_.value(),
                              scanner.next().value()));
  }
  dropChain("its end is missing");
}

void SegmentReader::takeEntry(const EntryView& entry, BytesView bytes) {
  ++out_.totals.entries;
  checkSequence(entry.header);
  uint64_t at = info_.place(position_);
  bool continuation = (entry.header.flags & kChainContinuation) != 0;
  if (!continuation) dropChain("its end is missing");
  bool orphan = continuation && !inChain_;
  if (!inChain_) chainAt_ = at;
  for (const EntryPart& part : entry.parts) takePart(part, at, bytes);
  inChain_ = true;
  if (orphan) {
    dropChain("its beginning is damaged or missing");
  } else if ((entry.header.flags & kChainContinues) == 0) {
    commitChain();
  }
}

void SegmentReader::checkSequence(const EntryHeader& header) {
  if (verify_ && sequence_ && header.sequence != *sequence_) {
    out_.addFault(FaultKind::kRecords, info_.place(position_), header.length,
                  fmt::format("the entry's sequence number is {} where {} comes next",
                              header.sequence, *sequence_));
  }
  sequence_ = header.sequence + 1;
}

void SegmentReader::takeState(const EntryPart& part, uint64_t entryAt) {
  std::vector<StateChange> changes;
  if (!decodeState(part.list, changes)) {
    out_.addFault(FaultKind::kRecords, entryAt, 0,
                  fmt::format("malformed state changes at position {}", position_.value()));
  }
  out_.totals.stateChanges += changes.size();
  for (const StateChange& change : changes) {
    if (options_.state.contains(change.table)) out_.state.push_back(change);
    if (change.table != StateTable::kPartition) continue;
    auto parsed = parsePartitionChange(change);
    if (!parsed) continue;
    if (parsed->kind == PartitionChange::Kind::kDeleted) {
      out_.deleted.insert(parsed->partition);
    } else if (parsed->kind == PartitionChange::Kind::kLogStart) {
      Offset& start = out_.logStarts[parsed->partition];
      start = std::max(start, parsed->logStart);
    }
  }
}

void SegmentReader::takePart(const EntryPart& part, uint64_t entryAt, BytesView entry) {
  if (part.type == PartType::kState) return takeState(part, entryAt);
  std::vector<PlacedTarget> targets;
  if (!decodeTargets(part.list, targets)) {
    out_.addFault(FaultKind::kRecords, entryAt, 0,
                  fmt::format("malformed targets at position {}", position_.value()));
    return;
  }
  int64_t time = part.maxTimestamp;
  uint64_t count = 0;  // of the batch's offsets
  size_t from = chain_.size();
  for (const PlacedTarget& target : targets) {
    chain_.push_back({target.partition,
                      {target.base, target.count, part.place.position, part.place.length,
                       target.firstRecord, target.attributes, time},
                      part.place.length});
  }
  auto added = std::span(chain_).subspan(from);
  if (part.type == PartType::kLink) {
    ++out_.totals.links;
    // The rest of a long list of targets in a rewritten segment: the batch itself says when.
    if (info_.rewritten && time < 0) time = kUnknownTime;
  } else {
    ++out_.totals.batches;
    out_.totals.batchBytes += part.batch.size();
    uint64_t at = entryAt + static_cast<uint64_t>(part.batch.data() - entry.data());
    if (part.type == PartType::kKept) kept_.push_back({part.place.position, at});
    auto header = verify_ ? validateRecordBatch(part.batch) : parseRecordBatchHeader(part.batch);
    time = header ? header->maxTimestamp : kUnknownTime;
    if (header) {
      out_.totals.records += static_cast<uint64_t>(std::max(header->recordCount, 0));
      count = static_cast<uint64_t>(std::max(header->offsetCount(), 0));
    } else {
      out_.addFault(FaultKind::kRecords, at, part.batch.size(),
                    fmt::format("the batch at position {} is damaged: {}",
                                part.place.position.value(), header.error().text),
                    lostOf(added));
    }
  }
  for (Indexed& one : added) {
    one.entry.maxTimestamp = time;
    if (count != 0) one.bytes = one.bytes * one.entry.count / count;
  }
}

void SegmentReader::commitChain() {
  if (info_.rewritten) {
    sorted_.insert(sorted_.end(), chain_.begin(), chain_.end());
  } else {
    for (const Indexed& one : chain_) index(one);
  }
  chain_.clear();
  inChain_ = false;
}

void SegmentReader::dropChain(const char* why) {
  if (inChain_) {
    out_.addFault(FaultKind::kRecords, chainAt_, 0,
                  fmt::format("a chain of entries doesn't count: {}", why), lostOf(chain_));
  }
  chain_.clear();
  inChain_ = false;
}

void SegmentReader::index(const Indexed& one) {
  const IndexEntry& entry = one.entry;
  bool fits = entry.base.value() <= INT64_MAX - int64_t{entry.count};
  auto [found, isNew] = out_.partitions.try_emplace(
      one.partition, PartitionContents{IndexRun(entry.base, info_.base), entry.base, entry.base});
  PartitionContents& contents = found->second;
  if (!fits || entry.base < contents.run.end()) {
    out_.addFault(
        FaultKind::kIndex, 0, 0,
        fmt::format("partition {} has offset {} twice", one.partition.value(), entry.base.value()));
    return;
  }
  contents.run.append(entry);
  contents.end = entry.end();
  contents.bytes += one.bytes;
  contents.offsets += entry.count;
  out_.totals.offsets += entry.count;
}

// ---------------------------------------------------------------- the footer

void SegmentReader::checkFooter() {
  auto runs = readFooter(file_, info_);
  if (!runs) {
    uint64_t at = layout_ ? layout_->begin : std::min(info_.place(out_.end), out_.fileBytes);
    // Of a rewritten segment it isn't known where the footer begins if its trailer is damaged.
    if (info_.rewritten && !layout_) at = 0;
    const Error& error = layoutError_ ? *layoutError_ : runs.error();
    out_.addFault(FaultKind::kIndex, at, at == 0 ? 0 : out_.fileBytes - at, error.text);
    if (info_.rewritten) return;
    for (const auto& [partition, contents] : out_.partitions) findHoles(partition, contents.run);
    return;
  }
  if (info_.rewritten) checkMap();
  auto scanned = out_.partitions.begin();
  auto passOver = [&](std::optional<PartitionId> below) {
    for (; scanned != out_.partitions.end() && (!below || scanned->first < *below); ++scanned) {
      out_.unindexed.push_back(scanned->first);
    }
  };
  std::optional<PartitionId> last;
  for (const FooterRun& run : *runs) {
    if (last && run.partition <= *last) {
      out_.addFault(FaultKind::kIndex, layout_->directoryAt, 0,
                    "the footer's directory isn't in order");
      out_.unindexed.clear();  // it can't be compared
      return;
    }
    last = run.partition;
    passOver(run.partition);
    bool both = scanned != out_.partitions.end() && scanned->first == run.partition;
    checkRun(run, both ? &scanned->second : nullptr);
    if (both) ++scanned;
  }
  passOver(std::nullopt);
}

void SegmentReader::checkRun(const FooterRun& run, const PartitionContents* scanned) {
  compare(run, scanned);
  int64_t newest = -1;
  uint64_t minLink = UINT64_MAX;
  IndexRun::Cursor cursor = run.run->begin();
  for (IndexEntry entry; cursor.next(entry);) {
    newest = std::max(newest, entry.maxTimestamp);
    if (entry.position < info_.base) minLink = std::min(minLink, entry.position.value());
  }
  if (newest != run.maxTimestamp || minLink != run.minLink) {
    out_.addFault(FaultKind::kIndex, layout_->begin + run.at, run.length,
                  fmt::format("the footer's run of partition {} isn't what its entries add up to",
                              run.partition.value()));
  }
  if (!info_.rewritten) findHoles(run.partition, *run.run);
}

/// The footer's entries of a partition and those that were read, side by side.
void SegmentReader::compare(const FooterRun& run, const PartitionContents* scanned) {
  uint64_t runAt = layout_->begin + run.at;
  IndexRun::Cursor inFooter = run.run->begin();
  IndexRun::Cursor inEntries;
  if (scanned != nullptr) inEntries = scanned->run.begin();
  IndexEntry expected;
  IndexEntry read;
  bool more = inFooter.next(expected);
  bool moreRead = inEntries.next(read);
  while (more || moreRead) {
    if (more && (!moreRead || expected.base < read.base)) {
      footerAlone(run.partition, expected);
      more = inFooter.next(expected);
      continue;
    }
    bool same = more && expected.base == read.base;
    if (same) {
      if (read.maxTimestamp == kUnknownTime) read.maxTimestamp = expected.maxTimestamp;
      read.share = expected.share;  // of a link, the entries don't tell it
      same = read == expected;
      more = inFooter.next(expected);
    }
    if (!same) {
      out_.addFault(
          FaultKind::kIndex, runAt, run.length,
          fmt::format("the footer's run of partition {} differs from the entries at offset {}",
                      run.partition.value(), read.base.value()));
      return;
    }
    moreRead = inEntries.next(read);
  }
}

/// The footer of a sealed segment names what was in an entry that is damaged now.
void SegmentReader::footerAlone(PartitionId partition, const IndexEntry& entry) {
  if (named_.contains({partition, entry.base})) return;
  std::optional<uint64_t> place = placeOf(entry.position);
  JournalFault* fault = nullptr;
  if (place == kDamagedPlace) {
    std::string text =
        fmt::format("the batch at position {} was damaged before the segment was rewritten",
                    entry.position.value());
    auto told = std::find_if(out_.faults.begin(), out_.faults.end(),
                             [&](const JournalFault& one) { return one.text == text; });
    if (told != out_.faults.end()) {
      fault = &*told;
    } else {
      out_.addFault(FaultKind::kRecords, 0, 0, text);
      fault = &out_.faults.back();
    }
  } else {
    fault = recordsFaultAt(place.value_or(0));
  }
  if (fault == nullptr) {
    out_.addFault(FaultKind::kIndex, place.value_or(0), 0,
                  fmt::format("the footer names offset {} of partition {}, which no entry has",
                              entry.base.value(), partition.value()));
    return;
  }
  lose(*fault, partition, entry.base, entry.end());
}

/// Where the footer says that a batch of this segment is. nullopt: in another segment, or nowhere.
std::optional<uint64_t> SegmentReader::placeOf(Position position) const {
  if (position < info_.base || position >= info_.end) return std::nullopt;
  if (!info_.rewritten) return info_.place(position);
  auto found = std::lower_bound(
      map_.begin(), map_.end(), position,
      [](const PlacedBatch& batch, Position wanted) { return batch.position < wanted; });
  if (found == map_.end() || found->position != position) return std::nullopt;
  return found->place;
}

void SegmentReader::checkMap() {
  auto map = readPlaceMap(file_, layout_->mapAt, layout_->mapEntries);
  if (!map) {
    out_.addFault(FaultKind::kIndex, layout_->mapAt, layout_->directoryAt - layout_->mapAt,
                  map.error().text);
    return;
  }
  map_ = std::move(*map);
  auto byPosition = [](const PlacedBatch& a, const PlacedBatch& b) {
    return a.position < b.position;
  };
  std::sort(kept_.begin(), kept_.end(), byPosition);
  bool same = std::is_sorted(map_.begin(), map_.end(), byPosition);
  auto kept = kept_.begin();
  for (const PlacedBatch& batch : map_) {
    bool here = kept != kept_.end() && kept->position == batch.position;
    if (here) same = same && kept++->place == batch.place;
    // Damaged before, or now: then told as such.
    bool damaged = batch.place == kDamagedPlace || recordsFaultAt(batch.place) != nullptr;
    if (!here && !damaged) same = false;
  }
  if (same && kept == kept_.end()) return;
  out_.addFault(FaultKind::kIndex, layout_->mapAt, layout_->directoryAt - layout_->mapAt,
                "the map of a rewritten segment differs from its entries");
}

// ---------------------------------------------------------------- what is lost

/// A partition's offsets are dense until a segment is rewritten: what is missing was in what is
/// damaged.
void SegmentReader::findHoles(PartitionId partition, const IndexRun& run) {
  IndexRun::Cursor cursor = run.begin();
  IndexEntry entry;
  if (!cursor.next(entry)) return;
  for (IndexEntry before = entry; cursor.next(entry); before = entry) {
    if (entry.base == before.end() || named_.contains({partition, before.end()})) continue;
    uint64_t from = placeOf(before.position).value_or(0);
    auto fault = std::find_if(out_.faults.begin(), out_.faults.end(), [&](const JournalFault& one) {
      return one.kind == FaultKind::kRecords && one.at >= from;
    });
    JournalFault* hit = fault == out_.faults.end() ? recordsFaultAt(0) : &*fault;
    if (hit == nullptr) {
      out_.addFault(FaultKind::kRecords, from, 0,
                    fmt::format("offsets of partition {} are missing", partition.value()));
      hit = &out_.faults.back();
    }
    lose(*hit, partition, before.end(), entry.base);
  }
}

/// The one that covers this octet; else any, which a link's entry may have been in.
JournalFault* SegmentReader::recordsFaultAt(uint64_t place) {
  JournalFault* any = nullptr;
  for (JournalFault& fault : out_.faults) {
    if (fault.kind != FaultKind::kRecords) continue;
    if (place >= fault.at && place - fault.at < fault.length) return &fault;
    any = &fault;
  }
  return any;
}

void SegmentReader::lose(JournalFault& fault, PartitionId partition, Offset first, Offset end) {
  named_.insert({partition, first});
  fault.lost.push_back({partition, first, end});
}

std::vector<OffsetsLost> SegmentReader::lostOf(std::span<const Indexed> indexed) {
  std::vector<OffsetsLost> lost;
  for (const Indexed& one : indexed) {
    named_.insert({one.partition, one.entry.base});
    lost.push_back({one.partition, one.entry.base, one.entry.base + one.entry.count});
  }
  return lost;
}

void join(std::vector<OffsetsLost>& lost) {
  std::sort(lost.begin(), lost.end(), [](const OffsetsLost& a, const OffsetsLost& b) {
    return std::tuple(a.partition, a.first) < std::tuple(b.partition, b.first);
  });
  std::vector<OffsetsLost> joined;
  for (const OffsetsLost& one : lost) {
    bool next = !joined.empty() && joined.back().partition == one.partition &&
                one.first <= joined.back().end;
    if (next) {
      joined.back().end = std::max(joined.back().end, one.end);
    } else {
      joined.push_back(one);
    }
  }
  lost = std::move(joined);
}

}  // namespace

void SegmentContents::addFault(FaultKind kind, uint64_t at, uint64_t length, std::string text,
                               std::vector<OffsetsLost> lost) {
  faults.push_back({kind, info.file, at, length, std::move(text), std::move(lost)});
}

Result<SegmentContents> readSegment(const File& file, const SegmentInfo& info,
                                    const SegmentReadOptions& options) {
  SegmentContents contents;
  auto done = SegmentReader(file, info, options, contents).read();
  if (!done) return std::unexpected(done.error());
  for (JournalFault& fault : contents.faults) {
    join(fault.lost);
    for (const OffsetsLost& lost : fault.lost) {
      auto [found, isNew] = contents.partitions.try_emplace(
          lost.partition, PartitionContents{IndexRun(lost.first, info.base), lost.first, lost.end});
      found->second.first = std::min(found->second.first, lost.first);
      found->second.end = std::max(found->second.end, lost.end);
    }
  }
  return contents;
}

}  // namespace polylog::storage
