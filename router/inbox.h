// What waits for a session that outlives its connection: a partition of the log store, and what of
// it the client has acknowledged. On its session's worker only, but for floor().
//
// Acknowledgements promise the client nothing, so they are journaled lazily: the whole of them as
// one small value, one append on its way at a time. That a client accepted a record (PUBREC) is
// promised: it is journaled and waited for, again one append at a time, all that came meanwhile
// in the next.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "core/base/error.h"
#include "core/model/delivery.h"
#include "router/core.h"
#include "router/partition_reader.h"
#include "router/range_set.h"
#include "router/state_codec.h"
#include "storage/log_store.h"

namespace polylog::router {

class Session;

class Inbox {
 public:
  Inbox(Session& session, PartitionId partition);

  PartitionId partition() const { return partition_; }
  /// Any thread.
  int64_t floor() const { return floor_.load(std::memory_order_relaxed); }
  void restore(InboxState state);
  /// After a restart: all that waits may have been sent.
  void allMayHaveBeenSent(Offset end);

  /// A connection begins or ends: only in between is anything taken, acknowledged or accepted.
  void rewind();
  void letGo();

  enum class Taken : uint8_t { kEnough, kAtEnd, kFailed };
  /// Moves up to `max` deliveries with ids below `idLimit` to `out`. kAtEnd: nothing more is
  /// visible at cursor(); kFailed: the disk did not give it.
  Taken take(Worker& worker, size_t max, int64_t idLimit, std::vector<Delivery>& out);
  Offset cursor() const { return Offset(reading_->cursor); }

  void acknowledge(int64_t id);
  void accept(int64_t id, std::move_only_function<void(Result<>)> done);
  void forgetAccepted(std::move_only_function<void(Result<>)> done);
  bool has(int64_t id) const { return !state_.acknowledged.contains(id); }
  int64_t acknowledgedUpTo() const { return state_.acknowledged.floor(); }
  int64_t waiting() const;
  /// With the client, while there is one.
  int64_t inFlight() const {
    const int64_t taken = reading_->taken - state_.acknowledged.floor();
    return std::max<int64_t>(0, taken - state_.acknowledged.above());
  }
  /// Drops the oldest beyond `most`. Returns how many were dropped. What of it may be with the
  /// client at QoS 2 is released when it comes again.
  int64_t trim(int64_t most);
  /// Journals what was kept back.
  void flush();

  /// What is not journaled yet goes with `request`, if anything; changesFailed() if that fails.
  void addChanges(storage::AppendRequest& request);
  void changesFailed();
  bool dirty() const { return dirty_; }

 private:
  /// Who accepted something, and is told on the worker where it asked.
  struct Accept {
    Worker* caller;
    std::move_only_function<void(Result<>)> done;
  };

  /// A connection's.
  struct Reading {
    int64_t cursor = 0;
    int64_t taken = 0;  ///< one past the last id taken
    /// Between those stand what was dropped and has to be released.
    int64_t releaseFrom = 0;
    int64_t releaseEnd = 0;
    std::unique_ptr<PartitionReader> reader;
  };

  Core& core() const;
  void deliver(std::vector<Delivery>& out);
  size_t takeReleases(size_t max, std::vector<Delivery>& out);
  void keepReleases(int64_t end);
  void addAccepted(int64_t id);
  bool eraseAccepted(int64_t id);
  void skip(int64_t id);
  void changed();
  void journalLazily();
  void journalAccepted();
  void journalAndTell(std::move_only_function<void(Result<>)> done);
  static void tell(std::vector<Accept>& accepts, const Result<>& result);
  Result<> append(storage::Durability durability,
                  std::move_only_function<void(const Result<storage::Appended>&)> done);
  std::weak_ptr<Session> alive() const;

  Session& session_;
  const PartitionId partition_;
  std::atomic<int64_t> floor_{0};
  InboxState state_;
  int64_t sentEnd_ = 0;      ///< ids below it may have been sent on an earlier connection
  int64_t inFlightEnd_ = 0;  ///< of those, the ones that may not have been acknowledged
  int64_t journaledFloor_ = 0;
  bool dirty_ = false;
  bool lazyOnItsWay_ = false;
  bool acceptsOnTheirWay_ = false;
  Seldom<std::vector<Accept>> accepts_;
  std::unique_ptr<Reading> reading_;
};

}  // namespace polylog::router
