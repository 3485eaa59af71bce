#include "storage/entry_scanner.h"

#include <algorithm>

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

}  // namespace polylog::storage
