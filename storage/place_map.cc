#include "storage/place_map.h"

#include <algorithm>

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"
#include "core/base/crc32c.h"

namespace polylog::storage {
namespace {

constexpr size_t kInBlock = 255;
constexpr size_t kBatchSize = 16;
constexpr size_t kBlockSize = kInBlock * kBatchSize + 4;  // the last one may be shorter

size_t countIn(uint64_t count, size_t number) {
  return static_cast<size_t>(std::min<uint64_t>(kInBlock, count - uint64_t{number} * kInBlock));
}

Result<std::vector<PlacedBatch>> readBlock(const File& file, uint64_t at, size_t count) {
  char octets[kBlockSize];
  size_t size = count * kBatchSize + 4;
  auto got = file.read(at, octets, size);
  if (!got) return std::unexpected(got.error());
  BytesView body(octets, size - 4);
  if (*got != size || ByteReader(BytesView(octets, size).substr(body.size())).u32() != crc32c(body)) {
    return fail(ErrorKind::kCorrupt, "the map of a rewritten segment is damaged");
  }
  std::vector<PlacedBatch> batches(count);
  ByteReader in(body);
  for (PlacedBatch& batch : batches) {
    batch.position = Position(in.u64());
    uint64_t place = in.u64();
    batch.variant = static_cast<uint8_t>(place >> 56);
    batch.place = place & kDamagedPlace;
  }
  return batches;
}

std::optional<PlacedBatch> findIn(std::span<const PlacedBatch> batches, Position position) {
  auto at = std::lower_bound(
      batches.begin(), batches.end(), position,
      [](const PlacedBatch& batch, Position wanted) { return batch.position < wanted; });
  if (at == batches.end() || at->position != position) return std::nullopt;
  return *at;
}

}  // namespace

uint64_t PlaceMap::sizeOf(uint64_t count) {
  return count * kBatchSize + (count + kInBlock - 1) / kInBlock * 4;
}

std::string encodePlaceMap(std::span<const PlacedBatch> batches) {
  ByteWriter out;
  out.reserve(PlaceMap::sizeOf(batches.size()));
  for (size_t from = 0; from < batches.size(); from += kInBlock) {
    size_t begin = out.size();
    for (const PlacedBatch& batch : batches.subspan(from, countIn(batches.size(), from / kInBlock))) {
      out.u64(batch.position.value());
      out.u64(uint64_t{batch.variant} << 56 | batch.place);
    }
    out.u32(crc32c(out.view().substr(begin)));
  }
  return out.take();
}

Result<std::vector<PlacedBatch>> readPlaceMap(const File& file, uint64_t at, uint64_t count) {
  std::vector<PlacedBatch> all;
  for (size_t number = 0; uint64_t{number} * kInBlock < count; ++number) {
    auto batches = readBlock(file, at + uint64_t{number} * kBlockSize, countIn(count, number));
    if (!batches) return batches;
    all.insert(all.end(), batches->begin(), batches->end());
  }
  return all;
}

Result<PlaceMap> PlaceMap::load(const File& file, uint64_t at, uint64_t count) {
  PlaceMap map;
  map.at_ = at;
  map.count_ = count;
  for (size_t number = 0; uint64_t{number} * kInBlock < count; ++number) {
    auto batches = map.block(file, number);
    if (!batches) return std::unexpected(batches.error());
    map.firsts_.push_back(batches->front().position);
  }
  return map;
}

PlaceMap PlaceMap::inMemory(std::vector<PlacedBatch> batches) {
  PlaceMap map;
  map.inMemory_ = std::move(batches);
  return map;
}

Result<std::vector<PlacedBatch>> PlaceMap::block(const File& file, size_t number) const {
  return readBlock(file, at_ + uint64_t{number} * kBlockSize, countIn(count_, number));
}

Result<std::optional<PlacedBatch>> PlaceMap::find(const File& file, Position position) const {
  if (firsts_.empty()) return findIn(inMemory_, position);
  auto above = std::upper_bound(firsts_.begin(), firsts_.end(), position);
  if (above == firsts_.begin()) return std::nullopt;
  auto batches = block(file, static_cast<size_t>(above - firsts_.begin()) - 1);
  if (!batches) return std::unexpected(batches.error());
  return findIn(*batches, position);
}

}  // namespace polylog::storage
