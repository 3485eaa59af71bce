#include "storage/entry.h"

#include <algorithm>

#include "core/base/byte_reader.h"
#include "core/base/crc32c.h"
#include "core/model/record_batch.h"

namespace polylog::storage {
namespace {

constexpr size_t kLengthAt = 4;
constexpr size_t kChecksumAt = 8;
constexpr size_t kAfterChecksum = 12;
constexpr size_t kDurableMarkAt = 32;
constexpr size_t kFlagsAt = 40;
constexpr size_t kBufferKept = 4U << 20;

constexpr size_t padding(size_t size) {
  return (kEntryAlignment - size % kEntryAlignment) % kEntryAlignment;
}

void patchU64(ByteWriter& out, size_t at, uint64_t v) {
  out.patchU32(at, static_cast<uint32_t>(v >> 32));
  out.patchU32(at + 4, static_cast<uint32_t>(v));
}

}  // namespace

void EntryBuffer::begin(uint32_t incarnation, uint64_t sequence, Position position,
                        uint16_t flags) {
  open_ = Mark{meta_.size(), 0, splices_.size(), 0};
  openPosition_ = position;
  openReferred_ = 0;
  openParts_ = 0;
  openFlags_ = flags;
  meta_.u32(kEntryMagic);
  meta_.u32(0);
  meta_.u32(0);
  meta_.u32(incarnation);
  meta_.u64(sequence);
  meta_.u64(position.value());
  meta_.u64(0);
  meta_.u32(0);
  meta_.u32(0);
}

size_t EntryBuffer::beginPart(PartType type, uint8_t flags) {
  ++openParts_;
  meta_.u8(static_cast<uint8_t>(type));
  meta_.u8(flags);
  meta_.u32(0);
  return meta_.size() - 4;
}

void EntryBuffer::endPart(size_t lengthAt, size_t referred) {
  meta_.patchU32(lengthAt, static_cast<uint32_t>(meta_.size() - lengthAt - 4 + referred));
}

void EntryBuffer::putTargets(std::span<const PlacedTarget> targets) {
  meta_.varuint(targets.size());
  uint64_t previous = 0;
  for (const PlacedTarget& target : targets) {
    // Ids are unsigned and differences wrap: the reader adds them up the same way.
    meta_.varint(static_cast<int64_t>(target.partition.value() - previous));
    previous = target.partition.value();
    meta_.varuint(static_cast<uint64_t>(target.base.value()));
    meta_.varuint(target.firstRecord);
    meta_.varuint(target.count);
    meta_.varuint(target.attributes);
  }
}

void EntryBuffer::addState(std::span<const StateChange> changes) {
  size_t lengthAt = beginPart(PartType::kState, 0);
  meta_.varuint(changes.size());
  for (const StateChange& change : changes) {
    meta_.u8(static_cast<uint8_t>(change.table));
    meta_.u8(change.value.has_value() ? 1 : 0);
    meta_.varuint(change.key.size());
    meta_.bytes(change.key);
    if (!change.value) continue;
    meta_.varuint(change.value->size());
    meta_.bytes(*change.value);
  }
  endPart(lengthAt, 0);
}

Position EntryBuffer::addMessages(uint8_t flags, std::span<const PlacedTarget> targets,
                                  const SharedBytes& batch) {
  size_t lengthAt = beginPart(PartType::kMessages, flags);
  meta_.u32(static_cast<uint32_t>(batch.size()));
  putTargets(targets);
  return openPosition_ + putBatch(lengthAt, batch);
}

size_t EntryBuffer::addKept(uint8_t flags, Position position,
                            std::span<const PlacedTarget> targets, const SharedBytes& batch) {
  size_t lengthAt = beginPart(PartType::kKept, flags);
  meta_.u64(position.value());
  meta_.u32(static_cast<uint32_t>(batch.size()));
  putTargets(targets);
  return putBatch(lengthAt, batch);
}

/// Ends the part with the batch. Returns where that is, from the entry's first octet.
size_t EntryBuffer::putBatch(size_t lengthAt, const SharedBytes& batch) {
  size_t at = meta_.size() - open_.from + openReferred_;
  if (batch.size() <= kCopiedBatch) {
    splices_.push_back({meta_.size(), batch.size(), {}});
    meta_.bytes(batch.view());
    endPart(lengthAt, 0);
  } else {
    splices_.push_back({meta_.size(), 0, batch});
    openReferred_ += batch.size();
    endPart(lengthAt, batch.size());
  }
  return at;
}

void EntryBuffer::addLink(BatchPlace batch, int64_t maxTimestamp,
                          std::span<const PlacedTarget> targets) {
  size_t lengthAt = beginPart(PartType::kLink, 0);
  meta_.u64(batch.position.value());
  meta_.u32(batch.length);
  meta_.i64(maxTimestamp);
  putTargets(targets);
  endPart(lengthAt, 0);
}

size_t EntryBuffer::finish(bool chainContinues) {
  static constexpr char kZeros[kEntryAlignment] = {};
  size_t size = meta_.size() - open_.from + openReferred_;
  meta_.bytes(BytesView(kZeros, padding(size)));
  size += padding(size);
  if (chainContinues) openFlags_ = static_cast<uint16_t>(openFlags_ | kChainContinues);
  meta_.patchU32(open_.from + kLengthAt, static_cast<uint32_t>(size));
  meta_.patchU32(open_.from + kFlagsAt,
                 (static_cast<uint32_t>(openFlags_) << 16) | openParts_);
  open_.to = meta_.size();
  open_.spliceTo = splices_.size();
  marks_.push_back(open_);
  size_ += size;
  return size;
}

uint32_t EntryBuffer::checksum(const Mark& mark) const {
  BytesView meta = meta_.view();
  uint32_t crc = crc32c(meta.substr(mark.from, kChecksumAt));
  size_t at = mark.from + kAfterChecksum;
  for (size_t i = mark.spliceFrom; i < mark.spliceTo; ++i) {
    const Splice& splice = splices_[i];
    crc = crc32c(meta.substr(at, splice.at - at), crc);
    BytesView batch = splice.copied != 0 ? meta.substr(splice.at) : splice.batch.view();
    crc = crc32c(batch.substr(0, kRecordBatchUncheckedSize), crc);
    at = splice.at + splice.copied;
  }
  return crc32c(meta.substr(at, mark.to - at), crc);
}

void EntryBuffer::seal(Position durableMark) {
  for (const Mark& mark : marks_) {
    patchU64(meta_, mark.from + kDurableMarkAt, durableMark.value());
    meta_.patchU32(mark.from + kChecksumAt, checksum(mark));
  }
}

void EntryBuffer::pieces(std::vector<BytesView>& out) const {
  BytesView meta = meta_.view();
  size_t at = 0;
  for (const Splice& splice : splices_) {
    if (splice.copied != 0) continue;
    if (splice.at > at) out.push_back(meta.substr(at, splice.at - at));
    out.push_back(splice.batch.view());
    at = splice.at;
  }
  if (at < meta.size()) out.push_back(meta.substr(at));
}

void EntryBuffer::clear() {
  if (meta_.size() > kBufferKept) {
    meta_ = ByteWriter();
  } else {
    meta_.clear();
  }
  splices_.clear();
  marks_.clear();
  size_ = 0;
}

std::optional<EntryHeader> peekEntry(BytesView bytes, uint32_t incarnation, Position position) {
  if (bytes.size() < kEntryHeaderSize) return std::nullopt;
  ByteReader in(bytes.substr(0, kEntryHeaderSize));
  if (in.u32() != kEntryMagic) return std::nullopt;
  EntryHeader header;
  header.length = in.u32();
  header.checksum = in.u32();
  header.incarnation = in.u32();
  header.sequence = in.u64();
  header.position = Position(in.u64());
  header.durableMark = Position(in.u64());
  header.flags = in.u16();
  header.parts = in.u16();
  bool sane = header.length >= kEntryHeaderSize && header.length <= kMaxEntrySize &&
              header.length % kEntryAlignment == 0 && header.incarnation == incarnation &&
              header.position == position && header.durableMark <= position;
  if (!sane) return std::nullopt;
  return header;
}

namespace {

/// Reads one part and carries the checksum over what it covers of it.
bool decodePart(ByteReader& in, BytesView entry, Position position, size_t& hashedTo,
                uint32_t& crc, EntryPart& part) {
  part.type = static_cast<PartType>(in.u8());
  part.flags = in.u8();
  BytesView body = in.bytes(in.u32());
  if (!in.ok()) return false;
  ByteReader fields(body);
  if (part.type == PartType::kState) {
    part.list = body;
    return true;
  }
  if (part.type == PartType::kLink) {
    part.place.position = Position(fields.u64());
    part.place.length = fields.u32();
    part.maxTimestamp = fields.i64();
    part.list = fields.rest();
    return fields.ok();
  }
  bool kept = part.type == PartType::kKept;
  if (!kept && part.type != PartType::kMessages) return false;
  Position given(kept ? fields.u64() : 0);
  size_t length = fields.u32();
  if (!fields.ok() || length < kRecordBatchHeaderSize || length > fields.remaining()) return false;
  part.list = fields.rest().substr(0, fields.remaining() - length);
  part.batch = fields.rest().substr(fields.remaining() - length);
  auto at = static_cast<size_t>(part.batch.data() - entry.data());
  part.place = {kept ? given : position + at, static_cast<uint32_t>(length)};
  crc = crc32c(entry.substr(hashedTo, at + kRecordBatchUncheckedSize - hashedTo), crc);
  hashedTo = at + length;
  return true;
}

}  // namespace

bool decodeEntry(BytesView bytes, uint32_t incarnation, Position position, EntryView& out) {
  out.parts.clear();
  std::optional<EntryHeader> header = peekEntry(bytes, incarnation, position);
  if (!header || header->length != bytes.size()) return false;
  out.header = *header;
  uint32_t crc = crc32c(bytes.substr(0, kChecksumAt));
  size_t hashedTo = kAfterChecksum;
  ByteReader in(bytes.substr(kEntryHeaderSize));
  for (size_t i = in.count(header->parts, 6); i > 0; --i) {
    if (!decodePart(in, bytes, position, hashedTo, crc, out.parts.emplace_back())) return false;
  }
  if (!in.ok() || in.remaining() >= kEntryAlignment) return false;
  return crc32c(bytes.substr(hashedTo), crc) == header->checksum;
}

bool decodeTargets(BytesView list, std::vector<PlacedTarget>& out) {
  ByteReader in(list);
  size_t count = in.count(in.varuint(), 5);
  out.reserve(out.size() + count);
  uint64_t partition = 0;
  for (size_t i = 0; i < count; ++i) {
    PlacedTarget target;
    partition += static_cast<uint64_t>(in.varint64());
    target.partition = PartitionId(partition);
    target.base = Offset(static_cast<int64_t>(in.varuint()));
    target.firstRecord = in.varuint32();
    target.count = in.varuint32();
    target.attributes = in.varuint32();
    if (!in.ok() || target.base.value() < 0 || target.count == 0) return false;
    out.push_back(target);
  }
  return in.complete();
}

bool decodeState(BytesView list, std::vector<StateChange>& out) {
  ByteReader in(list);
  size_t count = in.count(in.varuint(), 3);
  for (size_t i = 0; i < count; ++i) {
    StateChange change;
    change.table = static_cast<StateTable>(in.u8());
    bool put = in.u8() != 0;
    change.key = std::string(in.bytes(in.count(in.varuint(), 1)));
    if (put) change.value = std::string(in.bytes(in.count(in.varuint(), 1)));
    if (!in.ok()) return false;
    out.push_back(std::move(change));
  }
  return in.complete();
}

}  // namespace polylog::storage
