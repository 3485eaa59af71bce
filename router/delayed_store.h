// Publishes that wait for their time (MQTT's `$delayed`). Each is a record in one partition that
// nobody else reads, and a key in kDelayed that says when it is due. The entry that publishes it
// deletes the key, so that a crash around that time neither loses it nor publishes it twice. In
// memory it is sixteen octets: bodies are read when they are due.
//
// reserve(), release() and append() on any worker; the rest on worker 0, which publishes what is
// due.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/event/dispatcher.h"
#include "core/model/broker.h"
#include "router/core.h"
#include "storage/log_store.h"

namespace polylog::router {

/// kMeta: which partition holds them.
inline constexpr const char* kDelayedPartition = "delayed_partition";
std::string delayedKey(PartitionId partition, Offset offset);
/// Nothing for a key that is not one.
std::optional<std::pair<PartitionId, Offset>> parseDelayedKey(BytesView key);

/// What has to be known of a delayed publish beside its record (kDelayedHeader's value).
/// `own`: what the login's own rights say of it, which is gone when it is due.
std::string encodeDelayed(const Publish& publish, const Principal& principal, OwnVerdict own);
/// `publish` gets all but its record; its views point into `text`, which must live as long. False
/// if `value` can't be read.
bool decodeDelayed(BytesView value, Publish& publish, Principal& principal, std::string& text);

class DelayedStore {
 public:
  explicit DelayedStore(Core& core);
  ~DelayedStore();
  Result<> load();
  void start(Worker& worker);
  void stop();

  /// Room for one more, until append()'s entry fails or release(). False: there are as many as may
  /// be.
  bool reserve();
  void release(size_t count);

  /// Appends `request` with `batch`, whose records are due at `dueMs` (wall clock), one each, all
  /// reserved. `told` hears of it as request.done would.
  Result<storage::Appended> append(
      Worker& worker, storage::AppendRequest request, SharedBytes batch, std::vector<int64_t> dueMs,
      std::move_only_function<void(const Result<storage::Appended>&)> told);

 private:
  struct Item {
    int64_t dueMs = 0;
    int64_t offset = 0;
    /// For a heap whose front is due first; of those due together, what came first.
    bool operator<(const Item& other) const {
      return dueMs != other.dueMs ? dueMs > other.dueMs : offset > other.offset;
    }
  };
  struct Found;

  Result<Offset> nextOffset(storage::AppendRequest& request);
  void add(int64_t dueMs, int64_t offset);
  void runDue();
  void arm();
  void publish(Item item);
  Result<Found> read(int64_t offset);
  void settled(Item item, const Result<>& result);
  void retry(Item item);
  void finish(Item item);

  Core& core_;
  std::atomic<size_t> pending_{0};  ///< reserved, waiting or being published
  std::mutex mutex_;                ///< held over append(), which fixes the offsets
  std::optional<PartitionId> partition_;

  // Worker 0's.
  std::vector<Item> heap_;
  std::unique_ptr<Timer> timer_;
  bool held_ = false;  ///< until the timer fires: the disk is full
  size_t inFlight_ = 0;
  size_t inFlightBytes_ = 0;
  int64_t finishedEnd_ = 0;  ///< one past the last that was finished
};

}  // namespace polylog::router
