// The directories in which the state view keeps itself: `view` and `checkpoint-<position>`, twenty
// digits, with `-<generation>` behind it for further ones of the same position. Knows nothing of
// what is in them but that files named *.sst never change and may be linked. A name without `.tmp`
// is always a whole directory: they are filled, and emptied, under a temporary name. Not
// thread-safe.
//
// What checkpoints hold may stand nowhere else, and they share their tables: a second copy of every
// file is kept (`NAME.copy`), and `SUMS` has the size and CRC-32C of each, so that no bit that
// turns over costs state, and nothing is read before it is known to be right.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/strong.h"
#include "storage/file.h"

namespace polylog::storage {

/// Later ones are greater. What storage derives from the journal may change without the position.
struct CheckpointId {
  Position position;
  uint32_t generation = 0;
  auto operator<=>(const CheckpointId&) const = default;
};

class Checkpoints {
 public:
  explicit Checkpoints(std::shared_ptr<Directory> directory) : directory_(std::move(directory)) {}

  static constexpr const char* kView = "view";
  /// Where a new checkpoint is filled before adopt().
  static constexpr const char* kFilling = "checkpoint.tmp";

  /// Removes what an interrupted run left and reads which checkpoints there are.
  Result<> load();
  /// Removes what an interrupted fill, restore or removal left.
  Result<> removeLeftovers();
  /// Ascending.
  const std::vector<CheckpointId>& kept() const { return kept_; }
  static std::string nameOf(CheckpointId id);

  /// Makes the filled directory, of which RocksDB has synced the files, the newest checkpoint for
  /// good; `position` is at or above the others'. Tables that the newest one holds are taken to be
  /// the same.
  Result<> adopt(Position position);
  /// Drops all but the newest `count`.
  Result<> keepNewest(size_t count);
  Result<> drop(CheckpointId id);
  /// Makes `view`, which must not exist, from a checkpoint, and returns the files that had to be
  /// taken from their second copy. kCorrupt if both are damaged.
  Result<std::vector<std::string>> restoreView(CheckpointId id);
  Result<> dropView();

 private:
  struct Sum {
    uint64_t size = 0;
    uint32_t crc = 0;
    bool operator==(const Sum&) const = default;
  };
  using Sums = std::map<std::string, Sum>;

  Result<> seal(Directory& filled);
  Result<> removeWhole(const std::string& name);
  static Result<> writeSums(Directory& into, const std::string& name, const Sums& sums);
  static Result<Sums> readSums(Directory& from, const std::string& name);
  static Result<Sum> sumOf(Directory& from, const std::string& name);
  static Result<Sum> copyFile(Directory& from, const std::string& name, Directory& into,
                              const std::string& newName);

  std::shared_ptr<Directory> directory_;
  std::vector<CheckpointId> kept_;
  Sums sealed_;  // of the newest one, if this object has sealed or restored it
};

}  // namespace polylog::storage
