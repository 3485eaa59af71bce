// Where the batches of a rewritten segment stand in its file, by the positions that they had: part
// of its footer, in blocks with a checksum each. In memory a rewritten segment costs one position a
// block. Immutable; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/strong.h"
#include "storage/file.h"

namespace polylog::storage {

struct PlacedBatch {
  Position position;
  uint64_t place = 0;  ///< octet in the file, or kDamagedPlace
  /// How often compaction has taken records out: the position is the original batch's and so many more.
  uint8_t variant = 0;
};
/// The batch was damaged already when the segment was rewritten.
inline constexpr uint64_t kDamagedPlace = (uint64_t{1} << 56) - 1;
/// All of them are octets of the original's header.
inline constexpr uint8_t kMostVariants = 60;

/// `batches` ascending by position.
std::string encodePlaceMap(std::span<const PlacedBatch> batches);

/// All of the map of `count` batches at octet `at` of the file, verified. kCorrupt, kIo.
Result<std::vector<PlacedBatch>> readPlaceMap(const File& file, uint64_t at, uint64_t count);

class PlaceMap {
 public:
  /// Reads and verifies the map of `count` batches at octet `at` of the file. kCorrupt, kIo.
  static Result<PlaceMap> load(const File& file, uint64_t at, uint64_t count);
  /// One that was found by reading the segment's entries, its footer being damaged.
  static PlaceMap inMemory(std::vector<PlacedBatch> batches);

  /// nullopt: the batch wasn't kept. kCorrupt, kIo.
  Result<std::optional<PlacedBatch>> find(const File& file, Position position) const;

  /// Octets that a map of so many takes up.
  static uint64_t sizeOf(uint64_t count);

 private:
  Result<std::vector<PlacedBatch>> block(const File& file, size_t number) const;

  uint64_t at_ = 0;
  uint64_t count_ = 0;
  std::vector<Position> firsts_;       ///< of each block
  std::vector<PlacedBatch> inMemory_;  ///< instead
};

}  // namespace polylog::storage
