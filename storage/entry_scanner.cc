#include "storage/entry_scanner.h"

#include <algorithm>
#include <deque>

#include "core/model/record_batch.h"

namespace polylog::storage {
namespace {

constexpr size_t kReadAhead = 1U << 20;

}  // namespace

EntryScanner::EntryScanner(const File& file, const SegmentInfo& segment, Position from,
                           Position to, bool seek)
    : file_(file), segment_(segment), to_(to), seek_(seek), position_(from), next_(from),
      bufferFrom_(from) {}

Result<BytesView> EntryScanner::window(Position at, size_t length) {
  if (at >= to_) return BytesView();
  length = static_cast<size_t>(std::min<uint64_t>(length, to_ - at));
  Position bufferEnd = bufferFrom_ + buffer_.size();
  if (at < bufferFrom_ || at + length > bufferEnd) {
    size_t want = static_cast<size_t>(std::min<uint64_t>(std::max(length, kReadAhead), to_ - at));
    buffer_.resize(want);
    auto got = file_.read(segment_.place(at), buffer_.data(), want);
    if (!got) {
      buffer_.clear();
      return std::unexpected(got.error());
    }
    buffer_.resize(*got);
    bufferFrom_ = at;
  }
  return BytesView(buffer_).substr(static_cast<size_t>(at - bufferFrom_), length);
}

Result<bool> EntryScanner::tryEntry(Position at) {
  auto head = window(at, kEntryHeaderSize);
  if (!head) return std::unexpected(head.error());
  auto header = peekEntry(*head, segment_.incarnation, at);
  if (!header || header->length > to_ - at) return false;
  auto whole = window(at, header->length);
  if (!whole) return std::unexpected(whole.error());
  if (!decodeEntry(*whole, segment_.incarnation, at, entry_)) return false;
  entryBytes_ = *whole;
  return true;
}

Result<Position> EntryScanner::resynchronise(Position from) {
  for (Position at = from; at < to_; at += kEntryAlignment) {
    auto head = window(at, kEntryHeaderSize);
    if (!head) return std::unexpected(head.error());
    if (head->size() < kEntryHeaderSize) break;
    if (!peekEntry(*head, segment_.incarnation, at)) continue;
    auto good = tryEntry(at);
    if (!good) return std::unexpected(good.error());
    if (*good) return at;
  }
  return to_;
}

Result<EntryScanner::Step> EntryScanner::step() {
  position_ = next_;
  if (position_ >= to_) return Step::kEnd;
  auto good = tryEntry(position_);
  if (!good) return std::unexpected(good.error());
  if (*good) {
    next_ = position_ + entry_.header.length;
    seek_ = false;
    return Step::kEntry;
  }
  uint64_t within = (position_ - segment_.base) % kEntryAlignment;
  auto next = resynchronise(position_ + (kEntryAlignment - within));
  if (!next) return std::unexpected(next.error());
  next_ = *next;
  if (!seek_) return Step::kDamage;
  seek_ = false;
  return step();
}

bool batchesIntact(const EntryView& entry) {
  return std::all_of(entry.parts.begin(), entry.parts.end(), [](const EntryPart& part) {
    return part.type != PartType::kMessages || validateRecordBatch(part.batch).has_value();
  });
}

Result<JournalEnd> findJournalEnd(const File& file, const SegmentInfo& info, Position to) {
  struct Piece {
    Position from;
    Position end;
    uint64_t sequence = 0;
    bool good = false;
    bool chainContinues = false;
  };
  std::deque<Piece> unmarked;  // what begins at or above every durable mark so far
  Position mark = info.base;   // all below it was durable once, so a fault there is damage
  JournalEnd found{info.base, info.firstSequence};
  auto keep = [&](const Piece& piece) {
    found.end = piece.end;
    if (piece.good) found.nextSequence = piece.sequence + 1;
  };
  EntryScanner scanner(file, info, info.base, to);
  while (true) {
    auto step = scanner.step();
    if (!step) return std::unexpected(step.error());
    if (*step == EntryScanner::Step::kEnd) break;
    Piece piece{scanner.position(), scanner.next(), 0, false, false};
    if (*step == EntryScanner::Step::kEntry) {
      const EntryHeader& entry = scanner.entry().header;
      piece.sequence = entry.sequence;
      piece.good = batchesIntact(scanner.entry());
      piece.chainContinues = (entry.flags & kChainContinues) != 0;
      mark = std::max(mark, entry.durableMark);
    }
    unmarked.push_back(piece);
    for (; !unmarked.empty() && unmarked.front().from < mark; unmarked.pop_front()) {
      keep(unmarked.front());
    }
  }
  // Above every mark the first fault ends the journal, and an unfinished chain doesn't count.
  for (const Piece& piece : unmarked) {
    if (!piece.good) break;
    if (!piece.chainContinues) keep(piece);
  }
  return found;
}

}  // namespace polylog::storage
