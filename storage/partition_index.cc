#include "storage/partition_index.h"

#include <algorithm>

namespace polylog::storage {
namespace {

enum Flag : uint8_t {
  kHole = 1,         ///< a varuint follows: offsets missing before this entry
  kCount = 2,        ///< a varuint follows: the count isn't 1
  kFirstRecord = 4,  ///< a varuint follows: it isn't 0
  kAttributes = 8,   ///< a varuint follows: they differ from the entry's before
  kSameLength = 16,  ///< the length is the entry's before
  kShare = 32,       ///< a varuint follows: the octets that count, which aren't the length
};

void putVaruint(std::string& out, uint64_t v) {
  while (v >= 0x80U) {
    out.push_back(static_cast<char>(v | 0x80U));
    v >>= 7;
  }
  out.push_back(static_cast<char>(v));
}

void putVarint(std::string& out, int64_t v) {
  putVaruint(out, (static_cast<uint64_t>(v) << 1) ^ static_cast<uint64_t>(v >> 63));
}

/// Decodes from [at, to); sets `broken` instead of reading past the end.
uint64_t takeVaruint(const char*& at, const char* to, bool& broken) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (at == to) break;
    auto octet = static_cast<uint8_t>(*at++);
    value |= static_cast<uint64_t>(octet & 0x7FU) << shift;
    if ((octet & 0x80U) == 0) return value;
  }
  broken = true;
  return 0;
}

int64_t takeVarint(const char*& at, const char* to, bool& broken) {
  uint64_t raw = takeVaruint(at, to, broken);
  return static_cast<int64_t>((raw >> 1) ^ (~(raw & 1) + 1));
}

IndexEntry origin(Offset first, Position position) {
  IndexEntry entry;
  entry.base = first;
  entry.position = position;
  entry.maxTimestamp = 0;
  return entry;
}

}  // namespace

IndexRun::IndexRun(Offset first, Position originPosition)
    : first_(first), origin_(originPosition), last_(origin(first, originPosition)) {}

Result<IndexRun> IndexRun::parse(Offset first, Position originPosition, uint32_t entries,
                                 std::string bytes) {
  IndexRun run(first, originPosition);
  run.bytes_ = std::move(bytes);
  Cursor cursor = run.begin();
  IndexEntry entry;
  for (uint32_t i = 0; i < entries; ++i) {
    if (i != 0 && i % kRestartEvery == 0) {
      run.restarts_.push_back({static_cast<size_t>(cursor.at_ - run.bytes_.data()), cursor.last_});
    }
    if (cursor.at_ != cursor.to_) run.shares_ |= (static_cast<uint8_t>(*cursor.at_) & kShare) != 0;
    if (!cursor.next(entry)) return fail(ErrorKind::kCorrupt, "index run ends early");
  }
  if (cursor.at_ != cursor.to_) return fail(ErrorKind::kCorrupt, "index run is too long");
  run.entries_ = entries;
  run.last_ = cursor.last_;
  return run;
}

void IndexRun::append(const IndexEntry& entry) {
  if (entries_ != 0 && entries_ % kRestartEvery == 0) restarts_.push_back({bytes_.size(), last_});
  uint8_t flags = 0;
  if (entry.base > last_.base) flags |= kHole;
  if (entry.count != 1) flags |= kCount;
  if (entry.firstRecord != 0) flags |= kFirstRecord;
  if (entry.attributes != last_.attributes) flags |= kAttributes;
  if (entry.length == last_.length) flags |= kSameLength;
  if (entry.octets() != entry.length) flags |= kShare;
  bytes_.push_back(static_cast<char>(flags));
  putVarint(bytes_, static_cast<int64_t>(entry.position.value() - last_.position.value()));
  putVarint(bytes_, static_cast<int64_t>(static_cast<uint64_t>(entry.maxTimestamp) -
                                         static_cast<uint64_t>(last_.maxTimestamp)));
  if ((flags & kHole) != 0) putVaruint(bytes_, static_cast<uint64_t>(entry.base - last_.base));
  if ((flags & kCount) != 0) putVaruint(bytes_, entry.count);
  if ((flags & kFirstRecord) != 0) putVaruint(bytes_, entry.firstRecord);
  if ((flags & kAttributes) != 0) putVaruint(bytes_, entry.attributes);
  if ((flags & kSameLength) == 0) putVaruint(bytes_, entry.length);
  if ((flags & kShare) != 0) putVaruint(bytes_, entry.share);
  shares_ |= (flags & kShare) != 0;
  last_ = entry;
  last_.base = entry.end();
  ++entries_;
}

bool IndexRun::Cursor::next(IndexEntry& entry) {
  if (at_ == to_ || broken_) return false;
  auto flags = static_cast<uint8_t>(*at_++);
  entry = last_;
  entry.position = Position(last_.position.value() +
                            static_cast<uint64_t>(takeVarint(at_, to_, broken_)));
  entry.maxTimestamp =
      static_cast<int64_t>(static_cast<uint64_t>(last_.maxTimestamp) +
                           static_cast<uint64_t>(takeVarint(at_, to_, broken_)));
  if ((flags & kHole) != 0) {
    uint64_t hole = takeVaruint(at_, to_, broken_);
    if (hole > static_cast<uint64_t>(INT64_MAX - last_.base.value())) broken_ = true;
    if (!broken_) entry.base += static_cast<int64_t>(hole);
  }
  entry.count = (flags & kCount) != 0
                    ? static_cast<uint32_t>(takeVaruint(at_, to_, broken_)) : 1;
  entry.firstRecord = (flags & kFirstRecord) != 0
                          ? static_cast<uint32_t>(takeVaruint(at_, to_, broken_)) : 0;
  if ((flags & kAttributes) != 0) {
    entry.attributes = static_cast<uint32_t>(takeVaruint(at_, to_, broken_));
  }
  if ((flags & kSameLength) == 0) {
    entry.length = static_cast<uint32_t>(takeVaruint(at_, to_, broken_));
  }
  entry.share = (flags & kShare) != 0 ? static_cast<uint32_t>(takeVaruint(at_, to_, broken_)) : 0;
  if (broken_ || entry.base.value() > INT64_MAX - entry.count) {
    broken_ = true;
    return false;
  }
  last_ = entry;
  last_.base = entry.end();
  return true;
}

IndexRun::Cursor IndexRun::begin() const {
  Cursor cursor;
  cursor.at_ = bytes_.data();
  cursor.to_ = bytes_.data() + bytes_.size();
  cursor.last_ = origin(first_, origin_);
  return cursor;
}

IndexRun::Cursor IndexRun::seek(Offset offset) const {
  Cursor cursor = begin();
  // The last restart whose expected offset isn't above `offset`: what ends above it comes later.
  auto above = std::upper_bound(restarts_.begin(), restarts_.end(), offset,
                                [](Offset o, const Restart& r) { return o < r.last.base; });
  if (above != restarts_.begin()) {
    --above;
    cursor.at_ += above->at;
    cursor.last_ = above->last;
  }
  IndexEntry entry;
  Cursor before = cursor;
  while (cursor.next(entry) && entry.end() <= offset) before = cursor;
  return before;
}

size_t IndexRun::footprint() const {
  return sizeof(IndexRun) + bytes_.capacity() + restarts_.capacity() * sizeof(Restart);
}

}  // namespace polylog::storage
