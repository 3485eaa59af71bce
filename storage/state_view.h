// The state view: what all state entries of the journal up to a position add up to, in a RocksDB
// without a WAL. It is derived from its newest checkpoint and the journal behind that, and made anew
// at each start. One writer (the journal's writer thread); reads from any thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/strong.h"
#include "storage/file.h"

namespace polylog::storage {

/// One put, or a delete when `value` is empty (nullopt). Keys carry their table's octet in front.
struct ViewChange {
  std::string key;
  std::optional<std::string> value;
};

class StateView {
 public:
  virtual ~StateView() = default;

  /// Everything below this position has been applied.
  virtual Position applied() const = 0;
  /// Applies the changes and `applied` in one write batch. In memory until flush().
  virtual Result<> apply(std::span<const ViewChange> changes, Position applied) = 0;
  virtual std::optional<std::string> get(BytesView key) const = 0;
  /// Visits keys that begin with `prefix`, ascending, until `visit` returns false.
  virtual void scan(BytesView prefix,
                    const std::function<bool(BytesView key, BytesView value)>& visit) const = 0;

  /// Makes what is applied so far survive a power failure, takes a verified checkpoint of it and
  /// drops all but the newest two. Slow: call from the maintenance thread; apply() may go on meanwhile
  /// (the checkpoint then holds at least what was applied at the call).
  virtual Result<> checkpoint() = 0;
  /// The older of the checkpoints kept: segments wholly below it are not needed for replay.
  /// Position 0 while there are fewer than two.
  virtual Position safePosition() const = 0;
};

/// Opens the view in `directory` (sub-directories `view` and `checkpoint-<position>`), which the
/// caller has locked. It begins as the newest checkpoint that is whole and not above `journalEnd`,
/// or else empty at position 0; what stood in `view` is thrown away, for none of it has been
/// verified. What was found damaged is appended to `report`, a line each.
Result<std::unique_ptr<StateView>> openStateView(std::shared_ptr<Directory> directory,
                                                 Position journalEnd,
                                                 std::vector<std::string>& report);

}  // namespace polylog::storage
