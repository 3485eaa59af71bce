// Opening: manifest, the journal's valid end (torn tail cut, damage told apart), the state view,
// and replay of what the view lacks. Crashing in here and starting over gives the same.
#include <fmt/format.h>

#include <algorithm>

#include "core/base/byte_reader.h"
#include "core/base/log.h"
#include "storage/log_store_impl.h"

namespace polylog::storage {
namespace {

constexpr size_t kReplayedAtOnce = 4096;
constexpr size_t kMostReplayedBatches = 65'536;

}  // namespace

Result<> LogStoreImpl::open() {
  auto held = directory_->lock("LOCK");
  if (!held) return std::unexpected(held.error());
  directoryLock_ = std::move(*held);
  closed_ = true;  // until it is open: a failed opening takes no checkpoint
  auto journal = directory_->subdirectory("journal");
  if (!journal) return std::unexpected(journal.error());
  auto state = directory_->subdirectory("state");
  if (!state) return std::unexpected(state.error());
  if (auto done = directory_->sync(); !done) return done;
  journal_.use(*journal);
  if (auto done = openJournal(); !done) return done;
  auto view = openStateView(*state, durableEnd_, report_.notes);
  if (!view) return std::unexpected(view.error());
  view_ = std::move(*view);
  Position floor;
  if (auto done = loadPartitions(floor); !done) return done;
  if (auto done = replay(floor); !done) return done;
  report_.durableEnd = durableEnd_;
  checkpointedAt_ = std::min(floor, view_->applied()).value();
  removeStrays();
  for (const std::string& note : report_.notes) logWarning("recovery: " + note);
  closed_ = false;
  checkSpace();
  retentionDue_ = clock_.monotonicMicros() + options_.retentionCheckMillis * 1000;
  if (!options_.threads) return {};
  writer_ = std::thread([this] { writerLoop(); });
  maintenance_ = std::thread([this] { maintenanceLoop(); });
  return {};
}

Result<> LogStoreImpl::createJournal() {
  Directory& directory = journal_.directory();
  auto names = directory.list();
  if (!names) return std::unexpected(names.error());
  // A crash at the very first start leaves at most a segment without entries.
  for (const std::string& name : *names) {
    if (!isSegmentFileName(name)) continue;
    auto file = directory.open(name, OpenMode::kRead);
    auto size = file ? (*file)->size() : Result<uint64_t>(std::unexpected(file.error()));
    if (!size) return std::unexpected(size.error());
    if (*size > kSegmentHeaderSize) {
      return fail(ErrorKind::kCorrupt,
                  fmt::format("{}: segments are there, but no MANIFEST: restore it from a backup",
                              directory.path()));
    }
  }
  auto segment = std::make_shared<Segment>();
  SegmentInfo& info = segment->info;
  info.id = 1;
  info.incarnation = static_cast<uint32_t>(random_.next());
  info.createdMs = clock_.wallMillis();
  info.status = SegmentStatus::kActive;
  info.file = segmentFileName(info.id);
  auto file = directory.open(info.file, OpenMode::kReplace);
  if (!file) return std::unexpected(file.error());
  std::string header = encodeSegmentHeader(info);
  BytesView piece = header;
  auto done = (*file)->write(0, {&piece, 1});
  if (done) done = (*file)->sync();
  if (done) done = directory.sync();
  if (!done) return done;
  auto saved = writeManifest(directory, {info});
  if (!saved) return std::unexpected(saved.error().error);
  journal_.add(std::move(segment));
  return {};
}

Result<> LogStoreImpl::openJournal() {
  auto infos = readManifest(journal_.directory());
  if (infos) {
    for (SegmentInfo& info : *infos) {
      auto segment = std::make_shared<Segment>();
      segment->info = std::move(info);
      journal_.add(std::move(segment));
    }
  } else if (infos.error().kind != ErrorKind::kNotFound) {
    return std::unexpected(infos.error());
  } else if (auto made = createJournal(); !made) {
    return made;
  }
  writing_ = sequencing_ = journal_.segments().back();
  auto file = journal_.file(*writing_);
  if (!file) {
    return fail(ErrorKind::kCorrupt, "the journal's last segment: " + file.error().text);
  }
  writingFile_ = *file;
  auto end = findEnd(*writing_);
  if (!end) return std::unexpected(end.error());
  durableEnd_ = writtenEnd_ = visibleEnd_ = nextPosition_ = *end;
  return {};
}

/// Scans the active segment for the journal's valid end, cuts the torn tail off and makes that
/// durable, the tail's good entries included.
Result<Position> LogStoreImpl::findEnd(Segment& active) {
  const SegmentInfo& info = active.info;
  auto size = writingFile_->size();
  if (!size) return std::unexpected(size.error());
  char header[kSegmentHeaderSize];
  auto got = writingFile_->read(0, header, sizeof header);
  if (!got) return std::unexpected(got.error());
  if (auto ok = checkSegmentHeader(BytesView(header, *got), info); !ok) {
    report_.notes.push_back(ok.error().text);  // the manifest says all that the header does
  }
  Position to = info.base + (*size > kSegmentHeaderSize ? *size - kSegmentHeaderSize : 0);

  auto found = findJournalEnd(*writingFile_, info, to);
  if (!found) return std::unexpected(found.error());
  Position end = found->end;
  nextSequence_ = found->nextSequence;
  report_.truncatedBytes = to - end;
  if (to != end) {
    report_.notes.push_back(
        fmt::format("the last write was cut short: {} octets from position {} on were dropped",
                    report_.truncatedBytes, end.value()));
  }
  if (*size != info.place(end)) {
    auto done = writingFile_->truncate(info.place(end));
    if (!done) return std::unexpected(done.error());
  }
  // What a killed process left unsynced is visible from here on: it must not vanish later.
  if (auto done = writingFile_->sync(); !done) return std::unexpected(done.error());
  return end;
}

Result<> LogStoreImpl::loadPartitions(Position& floor) {
  floor = Position(0);
  if (auto value = view_->get(viewKey(StateTable::kDerived, kFloorKey))) {
    ByteReader in(*value);
    floor = Position(in.u64());
  }
  std::string table(1, static_cast<char>(StateTable::kPartition));
  view_->scan(table, [&](BytesView key, BytesView value) {
    auto change = parsePartitionChange(
        {StateTable::kPartition, std::string(key.substr(1)), std::string(value)});
    if (!change) return true;
    if (change->kind == PartitionChange::Kind::kConfigured) {
      makePartition(change->partition, change->retention);
    } else if (Partition* partition = findPartition(change->partition)) {
      partition->logStart = change->logStart;
    }
    return true;
  });
  bool malformed = false;
  std::string derived = viewKey(StateTable::kDerived, "p");
  view_->scan(derived, [&](BytesView key, BytesView value) {
    ByteReader in(key.substr(derived.size()));
    Partition* partition = findPartition(PartitionId(in.u64()));
    if (partition == nullptr || !in.complete()) return true;
    if (!partition->decodeDerived(value, floor)) malformed = true;
    return !malformed;
  });
  if (malformed) {
    report_.notes.push_back("the index in the state view is malformed: reading the whole journal");
    floor = Position(0);
  }
  partitions_.forEach([&](Partition& partition) {
    if (malformed) {
      partition.chunks.clear();
      if (partition.producers() != nullptr) partition.aside.write().producers = nullptr;
      if (partition.transactions() != nullptr) partition.aside.write().transactions = nullptr;
      partition.end = Offset(0);
      partition.bytes = 0;
    }
    for (Chunk& chunk : partition.chunks) {
      if (chunk.dead) continue;
      if (auto segment = journal_.at(chunk.base)) {
        ++segment->liveChunks;
        segment->everHadChunks = true;
      } else {
        // Rewritten to nothing, or dead, before a checkpoint could say so: the manifest knows.
        chunk.dead = true;
        partition.bytes -= std::exchange(chunk.bytes, 0);
        chunk.minLink = UINT64_MAX;
        chunk.maxTimestamp = -1;
      }
      linkedFrom_ = std::min(linkedFrom_, chunk.minLink);
    }
    // The record may be older than a merging.
    joinChunks(partition, 0, partition.chunks.size());
  });
  return {};
}

Result<> LogStoreImpl::replay(Position floor) {
  replayApplied_ = view_->applied();
  Position from = std::min(floor, replayApplied_);
  Position reached = from;
  for (const auto& segment : journal_.segments()) {
    SegmentInfo& info = segment->info;
    bool active = segment == writing_;
    Position end = active ? durableEnd_ : info.end;
    if (end <= from && !active) continue;
    if (info.rewritten) {
      return fail(ErrorKind::kCorrupt,
                  fmt::format("{} was rewritten, and the state view lacks what stood in it up to "
                              "position {}: restore the data directory from a backup",
                              info.file, info.end.value()));
    }
    if (info.base > std::max(reached, replayApplied_)) {
      return fail(ErrorKind::kCorrupt,
                  fmt::format("the journal lacks positions {} to {}, which the state view needs: "
                              "restore the data directory from a backup",
                              reached.value(), info.base.value()));
    }
    // Its runs are in memory again: it gets a footer again.
    if (!active && info.base >= floor) info.status = SegmentStatus::kClosed;
    if (auto done = replaySegment(*segment, end); !done) return done;
    reached = end;
  }
  if (reached < replayApplied_ || durableEnd_ < replayApplied_) {
    return fail(ErrorKind::kCorrupt, "the state view is ahead of the journal");
  }
  replayedTo_ = settledEnd_ = durableEnd_;
  replayedBatches_ = {};
  if (auto done = flushReplayed(true); !done) return done;
  partitions_.forEach([&](Partition& partition) {
    partition.end = std::max(partition.end, partition.logStart);
    partition.highWatermark = partition.end;
    if (TransactionTable* transactions = partition.transactions()) {
      transactions->settle(partition.end);
      transactions->forget(partition.logStart);
    }
    size_t dead = partition.chunkAt(partition.logStart);
    if (dead != 0) {
      dropChunks(partition, dead);
      markDirty(partition);
    }
    // Producers came from entries that the next checkpoint's floor may leave behind.
    bool derived = partition.producers() != nullptr || partition.transactions() != nullptr;
    if (derived && !partition.chunks.empty()) markDirty(partition);
  });
  return {};
}

Result<> LogStoreImpl::replaySegment(Segment& segment, Position end) {
  auto file = journal_.file(segment);
  if (!file) {
    return fail(ErrorKind::kCorrupt, "a segment that the manifest names: " + file.error().text);
  }
  EntryScanner scanner(**file, segment.info, segment.info.base, end);
  std::vector<std::string> chain;  // entries of a chain that isn't complete yet
  Position chainFrom;
  auto dropChain = [&] {
    if (chain.empty()) return;
    report_.damagedEntries += chain.size();
    report_.notes.push_back(fmt::format("an incomplete chain of entries at position {} was dropped",
                                        chainFrom.value()));
    chain.clear();
  };
  while (true) {
    auto step = scanner.step();
    if (!step) return std::unexpected(step.error());
    if (*step == EntryScanner::Step::kEnd) break;
    if (*step == EntryScanner::Step::kDamage) {
      ++report_.damagedEntries;
      report_.notes.push_back(fmt::format("{} is damaged from position {} to {}: skipped",
                                          segment.info.file, scanner.position().value(),
                                          scanner.next().value()));
      dropChain();
      continue;
    }
    uint16_t flags = scanner.entry().header.flags;
    bool continuation = (flags & kChainContinuation) != 0;
    bool continues = (flags & kChainContinues) != 0;
    if (!continuation) dropChain();
    if (continuation && chain.empty()) {  // its beginning is damaged
      ++report_.damagedEntries;
      continue;
    }
    if (continues) {
      if (chain.empty()) chainFrom = scanner.position();
      chain.emplace_back(scanner.entryBytes());
      continue;
    }
    Position at = chainFrom;
    EntryView earlier;
    for (const std::string& bytes : std::exchange(chain, {})) {
      if (decodeEntry(bytes, segment.info.incarnation, at, earlier)) replayEntry(segment, earlier);
      at += bytes.size();
    }
    replayEntry(segment, scanner.entry());
    replayedTo_ = scanner.next();
    if (auto done = flushReplayed(false); !done) return done;
  }
  dropChain();
  return {};
}

void LogStoreImpl::replayEntry(Segment& segment, const EntryView& entry) {
  std::vector<StateChange> changes;
  for (const EntryPart& part : entry.parts) {
    if (part.type == PartType::kState && !decodeState(part.list, changes)) {
      report_.notes.push_back(
          fmt::format("malformed state changes at position {}", entry.header.position.value()));
    }
  }
  // As when sequenced: what is made comes before the targets, what is deleted or moved after.
  std::vector<PartitionChange> after;
  for (const StateChange& change : changes) {
    if (change.table != StateTable::kPartition) continue;
    auto parsed = parsePartitionChange(change);
    if (!parsed) continue;
    if (parsed->kind != PartitionChange::Kind::kConfigured) {
      after.push_back(*parsed);
    } else if (Partition* partition = findPartition(parsed->partition)) {
      partition->setRetention(parsed->retention);
    } else {
      makePartition(parsed->partition, parsed->retention);
    }
  }
  for (const EntryPart& part : entry.parts) {
    if (part.type != PartType::kState) replayTargets(segment, entry.header.position, part);
  }
  for (const PartitionChange& change : after) {
    Partition* partition = findPartition(change.partition);
    if (partition == nullptr) continue;
    if (change.kind == PartitionChange::Kind::kDeleted) {
      erasePartition(*partition);
    } else {
      partition->logStart = std::max(partition->logStart, change.logStart);
      // Not to the log start that the view may know already: batches up to there are still to come
      // in the replay, and the last of them may reach beyond it.
      partition->end = std::max(partition->end, change.logStart);
    }
  }
  if (entry.header.position < replayApplied_) return;
  appendViewChanges(changes, replayChanges_);
}

/// How many records a batch has stands with it: mostly shortly before the link.
int32_t LogStoreImpl::recordsOfLinked(BatchPlace batch,
                                      const std::vector<PlacedTarget>& targets) const {
  auto known = replayedBatches_.find(batch.position.value());
  if (known != replayedBatches_.end()) return known->second;
  int64_t reached = 0;
  for (const PlacedTarget& target : targets) {
    reached = std::max<int64_t>(reached, int64_t{target.firstRecord} + target.count);
  }
  return static_cast<int32_t>(std::min<int64_t>(assumedRecords(reached), INT32_MAX));
}

void LogStoreImpl::replayTargets(Segment& segment, Position entry, const EntryPart& part) {
  std::vector<PlacedTarget> targets;
  if (!decodeTargets(part.list, targets)) {
    report_.notes.push_back(
        fmt::format("malformed targets of the batch at position {}", part.place.position.value()));
    return;
  }
  int64_t maxTimestamp = part.maxTimestamp;
  int32_t offsetCount = 0;
  Result<RecordBatchHeader> header = fail(ErrorKind::kInvalid, "");
  if (part.type == PartType::kMessages) {
    header = validateRecordBatch(part.batch);
    if (header) {
      maxTimestamp = header->maxTimestamp;
      offsetCount = header->offsetCount();
    } else {
      report_.notes.push_back(fmt::format("the batch at position {} is damaged: reading it fails",
                                          part.place.position.value()));
    }
  }
  if (part.type == PartType::kLink) offsetCount = recordsOfLinked(part.place, targets);
  if (header) {
    if (replayedBatches_.size() >= kMostReplayedBatches) replayedBatches_.clear();
    replayedBatches_[part.place.position.value()] = offsetCount;
  }
  for (const PlacedTarget& target : targets) {
    Partition* partition = findPartition(target.partition);
    if (partition == nullptr && entry >= replayApplied_ && report_.damagedEntries != 0) {
      // What made it was in a damaged entry; what it holds is sound.
      partition = &makePartition(target.partition, {});
      report_.notes.push_back(
          fmt::format("partition {} was made by a damaged entry: it is kept, "
                      "without limits",
                      target.partition.value()));
    }
    // Deleted later on, or known from the view already.
    if (partition == nullptr || target.base < partition->end) continue;
    addToIndex(*partition, segment,
               {target.base, target.count, part.place.position, part.place.length,
                target.firstRecord, target.attributes, maxTimestamp},
               offsetCount);
    partition->end = target.base + target.count;
  }
  if (part.type != PartType::kMessages || !header || targets.empty()) return;
  bool checked = (part.flags & kProducerChecked) != 0;
  if (header->transactional()) replayTransaction(part, *header, targets, checked);
  if (!checked) return;
  Partition* partition = findPartition(targets[0].partition);
  if (partition == nullptr) return;
  ProducerBatch batch = producerBatch(*header);
  batch.base = targets[0].base;
  batch.position = part.place.position;
  batch.length = part.place.length;
  partition->producersToChange().add(ProducerId(header->producerId), batch, clock_.wallMillis(),
                                     durableEnd_);
}

void LogStoreImpl::replayTransaction(const EntryPart& part, const RecordBatchHeader& header,
                                     std::span<const PlacedTarget> targets, bool checked) {
  auto end = header.control() ? endMarkerOf(part.batch) : Result<EndMarker>();
  if (!end || (!header.control() && !checked)) return;
  for (const PlacedTarget& target : targets) {
    if (Partition* partition = findPartition(target.partition)) {
      noteTransaction(*partition, header, header.control() ? &*end : nullptr, target.base,
                      part.place.position);
      // All that is replayed is durable.
      if (TransactionTable* known = partition->transactions()) known->settle(target.base + 1);
    }
    if (!header.control()) return;
  }
}

Result<> LogStoreImpl::flushReplayed(bool force) {
  if (!force && replayChanges_.size() < kReplayedAtOnce) return {};
  if (replayedTo_ < view_->applied()) return {};
  auto done = view_->apply(replayChanges_, replayedTo_);
  replayChanges_.clear();
  return done;
}

/// Removes what a crash left between a manifest and the files it names.
void LogStoreImpl::removeStrays() {
  Directory& directory = journal_.directory();
  auto names = directory.list();
  if (!names) return;
  for (const std::string& name : *names) {
    bool known = std::any_of(journal_.segments().begin(), journal_.segments().end(),
                             [&](const auto& segment) { return segment->info.file == name; });
    bool stray = name == kManifestTemporary || (isSegmentFileName(name) && !known);
    if (!stray) continue;
    if (auto done = directory.remove(name); !done) report_.notes.push_back(done.error().text);
  }
}

}  // namespace polylog::storage
