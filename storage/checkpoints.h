// The directories in which the state view keeps itself: `view` and `checkpoint-<position>`, twenty
// digits, with `-<generation>` behind it for further ones of the same position. Knows nothing of
// what is in them but that files named *.sst never change and may be linked. A name without `.tmp`
// is always a whole directory: they are filled, and emptied, under a temporary name. Not
// thread-safe.
#pragma once

#include <compare>
#include <cstdint>
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

  /// Makes the filled directory the newest checkpoint for good; `position` is at or above the
  /// others'. The files in it must have been synced.
  Result<> adopt(Position position);
  /// Drops all but the newest `count`.
  Result<> keepNewest(size_t count);
  Result<> drop(CheckpointId id);
  /// Makes `view`, which must not exist, from a checkpoint.
  Result<> restoreView(CheckpointId id);
  Result<> dropView();

 private:
  Result<> removeWhole(const std::string& name);

  std::shared_ptr<Directory> directory_;
  std::vector<CheckpointId> kept_;
};

}  // namespace polylog::storage
