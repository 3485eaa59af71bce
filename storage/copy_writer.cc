#include "storage/copy_writer.h"

#include <algorithm>

namespace polylog::storage {
namespace {

/// Entries are ended at this size.
constexpr size_t kEntryBytes = 64U << 10;
constexpr size_t kWriteAtOnce = 1U << 20;

}  // namespace

Result<uint64_t> CopyWriter::keep(Position position, std::span<const PlacedTarget> targets,
                                  const SharedBytes& batch) {
  if (auto done = beginEntry(batch.size() + targets.size() * kTargetBound); !done) {
    return std::unexpected(done.error());
  }
  size_t at = entries_.addKept(0, position,
                               targets.first(std::min(targets.size(), kMaxEntryTargets)), batch);
  uint64_t place = info_.place(entryAt_) + at;
  for (size_t from = kMaxEntryTargets; from < targets.size(); from += kMaxEntryTargets) {
    if (auto done = beginEntry(kMaxEntrySize); !done) return std::unexpected(done.error());
    entries_.addLink({position, static_cast<uint32_t>(batch.size())}, -1,
                     targets.subspan(from, std::min(targets.size() - from, kMaxEntryTargets)));
  }
  return place;
}

Result<> CopyWriter::link(BatchPlace place, int64_t maxTimestamp,
                          std::span<const PlacedTarget> targets) {
  if (auto done = beginEntry(kPartBound + targets.size() * kTargetBound); !done) return done;
  entries_.addLink(place, maxTimestamp, targets);
  return {};
}

Result<uint64_t> CopyWriter::finish() {
  endEntry();
  if (auto done = flush(); !done) return std::unexpected(done.error());
  return info_.place(next_);
}

Result<> CopyWriter::beginEntry(size_t more) {
  if (open_ && inEntry_ + more <= kEntryBytes) {
    inEntry_ += more;
    return {};
  }
  endEntry();
  if (entries_.size() >= kWriteAtOnce) {
    if (auto done = flush(); !done) return done;
  }
  entryAt_ = next_;
  entries_.begin(info_.incarnation, sequence_++, entryAt_, 0);
  open_ = true;
  inEntry_ = more;
  return {};
}

void CopyWriter::endEntry() {
  if (!open_) return;
  next_ += entries_.finish(false);
  open_ = false;
}

Result<> CopyWriter::flush() {
  entries_.seal(info_.base);
  pieces_.clear();
  entries_.pieces(pieces_);
  auto done = file_.write(info_.place(written_), pieces_);
  written_ = next_;
  entries_.clear();
  return done;
}

}  // namespace polylog::storage
