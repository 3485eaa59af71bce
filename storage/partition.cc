#include "storage/partition.h"

#include <algorithm>

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"

namespace polylog::storage {
namespace {

constexpr uint8_t kDerivedVersion = 3;
constexpr uint8_t kWithoutTransactions = 2;
constexpr size_t kSmallestChunk = 9;

}  // namespace

void Chunk::add(const IndexEntry& entry) {
  run->append(entry);
  end = entry.end();
  bytes += entry.octets();
  maxTimestamp = std::max(maxTimestamp, entry.maxTimestamp);
  if (entry.position < base) minLink = std::min(minLink, entry.position.value());
}

void Partition::setRetention(Retention retention) {
  if (!aside.written() && retention == Retention()) return;
  aside.write().retention = std::move(retention);
  tidyAside();
}

ProducerTable& Partition::producersToChange() {
  auto& table = aside.write().producers;
  if (!table) table = std::make_unique<ProducerTable>();
  return *table;
}

TransactionTable& Partition::transactionsToChange() {
  auto& table = aside.write().transactions;
  if (!table) table = std::make_unique<TransactionTable>();
  return *table;
}

void Partition::tidyAside() {
  bool idle = aside->retention == Retention() && !aside->producers && !aside->transactions &&
              aside->watches.empty();
  if (idle) aside.reset();
}

Offset Partition::lastStable() const {
  if (transactions() == nullptr) return highWatermark;
  Offset open = transactions()->firstOpen().value_or(highWatermark);
  return std::min(highWatermark, std::max(open, logStart));
}

size_t Partition::chunkAt(Offset offset) const {
  auto found = std::partition_point(chunks.begin(), chunks.end(),
                                    [offset](const Chunk& chunk) { return chunk.end <= offset; });
  return static_cast<size_t>(found - chunks.begin());
}

Chunk* Partition::chunkIn(uint64_t segment) {
  if (chunks.empty() || chunks.back().segment < segment) return nullptr;
  auto found = std::lower_bound(chunks.begin(), chunks.end(), segment,
                                [](const Chunk& c, uint64_t wanted) { return c.segment < wanted; });
  return found != chunks.end() && found->segment == segment ? &*found : nullptr;
}

void Partition::bury(size_t at) {
  Chunk& chunk = chunks[at];
  bytes -= chunk.bytes;
  chunk.bytes = 0;
  chunk.maxTimestamp = -1;
  chunk.minLink = UINT64_MAX;
  chunk.footerAt = chunk.footerLength = 0;
  chunk.run = nullptr;
  chunk.dead = true;
  auto absorb = [this](size_t into) {
    if (into + 1 >= chunks.size() || !chunks[into].dead || !chunks[into + 1].dead) return;
    chunks[into].end = chunks[into + 1].end;
    chunks.erase(chunks.begin() + static_cast<std::ptrdiff_t>(into) + 1);
  };
  absorb(at);
  if (at > 0) absorb(at - 1);
}

std::vector<Position> Partition::truncate(Offset offset) {
  std::vector<Position> gone;
  while (!chunks.empty() && chunks.back().first >= offset) {
    bytes -= chunks.back().bytes;
    gone.push_back(chunks.back().base);
    chunks.pop_back();
  }
  if (!chunks.empty() && chunks.back().end > offset && chunks.back().run) {
    Chunk& chunk = chunks.back();
    Chunk kept = chunk;
    kept.run = std::make_shared<IndexRun>(chunk.first, chunk.base);
    kept.end = chunk.first;
    kept.bytes = 0;
    kept.maxTimestamp = -1;
    kept.minLink = UINT64_MAX;
    IndexRun::Cursor cursor = chunk.run->begin();
    for (IndexEntry entry; cursor.next(entry) && entry.end() <= offset;) {
      kept.add(entry);
    }
    bytes -= chunk.bytes;
    bytes += kept.bytes;
    chunk = std::move(kept);
  }
  end = offset;
  return gone;
}

std::string Partition::encodeDerived(Position floor, Position durable) const {
  auto above = std::find_if(chunks.begin(), chunks.end(),
                            [&](const Chunk& chunk) { return chunk.base >= floor; });
  // Offsets are dense: where the first chunk above begins is where those below ended.
  Offset endAtFloor = above != chunks.end() ? above->first : end;
  ByteWriter out;
  out.u8(kDerivedVersion);
  out.varuint(static_cast<uint64_t>(endAtFloor.value()));
  out.varuint(static_cast<uint64_t>(above - chunks.begin()));
  for (auto chunk = chunks.begin(); chunk != above; ++chunk) {
    out.varuint(chunk->segment);
    out.varuint(chunk->base.value());
    out.varuint(static_cast<uint64_t>(chunk->first.value()));
    out.varuint(static_cast<uint64_t>(chunk->end - chunk->first));
    out.varuint(chunk->bytes);
    out.varint(chunk->maxTimestamp);
    out.varuint(chunk->minLink + 1);  // 0: none
    out.varuint(chunk->footerAt);
    out.varuint(chunk->footerLength);
    out.u8(chunk->dead ? 1 : 0);
  }
  if (const ProducerTable* table = producers()) {
    table->encode(out, durable);
  } else {
    out.varuint(0);
  }
  const TransactionTable* known = transactions();
  if (known != nullptr && !known->empty()) known->encode(out, durable);
  return out.take();
}

bool Partition::decodeDerived(BytesView record, Position floor) {
  ByteReader in(record);
  uint8_t version = in.u8();
  if (version != kDerivedVersion && version != kWithoutTransactions) return false;
  end = Offset(static_cast<int64_t>(in.varuint()));
  size_t count = in.count(in.varuint(), kSmallestChunk);
  chunks.reserve(count);
  bool above = false;
  for (size_t i = 0; i < count; ++i) {
    Chunk chunk;
    chunk.segment = in.varuint();
    chunk.base = Position(in.varuint());
    chunk.first = Offset(static_cast<int64_t>(in.varuint()));
    chunk.end = chunk.first + static_cast<int64_t>(in.varuint());
    chunk.bytes = in.varuint();
    chunk.maxTimestamp = in.varint64();
    chunk.minLink = in.varuint() - 1;
    chunk.footerAt = in.varuint32();
    chunk.footerLength = in.varuint32();
    chunk.dead = in.u8() != 0;
    if (!in.ok()) return false;
    if (above) continue;
    if (chunk.base >= floor) {  // written by a checkpoint that did not come to its end
      above = true;
      end = chunk.first;
      continue;
    }
    bytes += chunk.bytes;
    chunks.push_back(std::move(chunk));
  }
  auto table = std::make_unique<ProducerTable>();
  if (!table->decode(in)) return false;
  if (!table->empty()) aside.write().producers = std::move(table);
  if (in.remaining() == 0) return true;
  return transactionsToChange().decode(in) && in.complete();
}

}  // namespace polylog::storage
