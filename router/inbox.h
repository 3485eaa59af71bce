// What waits for a session that outlives its connection: a partition of the log store, and what of
// it the client has acknowledged. On its session's worker only, but for what says "any thread".
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
#include <mutex>
#include <optional>
#include <utility>
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

/// What of an inbox has been weighed: the octets of its records [from, to).
struct InboxWeight {
  int64_t from = 0;
  int64_t to = 0;
  int64_t octets = 0;
  int64_t acknowledged = 0;  ///< of them, which don't count any more although the floor is below
};

class Inbox {
 public:
  Inbox(Session& session, PartitionId partition);

  PartitionId partition() const { return partition_; }
  void restore(InboxState state);
  /// After restore(): all that waits may have been sent. True: it is more than the limits allow.
  bool restoreEnd(const storage::PartitionEnds& ends);

  // ---- any thread (inbox_limits.cc)
  /// Where the oldest are dropped: something was appended, up to `end`. True: the limits may have
  /// been passed.
  bool appended(int64_t end, int64_t octets);
  /// Where new ones are dropped: takes room for one more record, if there is some. What follows is
  /// release(), or sequenced() and then, once it is known what became of it, stored() or release().
  bool admit(int64_t octets);
  /// The same for what comes without asking, and has bounds of its own.
  void letIn(int64_t records, int64_t octets);
  /// What was let in is on its way to the journal, up to `end`.
  void sequenced(int64_t end, int64_t octets);
  /// It is in the journal.
  void stored(int64_t end);
  /// What was let in will not be there. `end`: as it was sequenced, or 0.
  void release(int64_t records, int64_t octets, int64_t end);
  /// After admit(octets): there is less room in octets than there was for long. As they may be
  /// counted too high: weigh(), before that matters.
  bool nearsLimit(int64_t octets) const;

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
    int64_t taken = reading_->taken - state_.acknowledged.floor();
    for (const auto& [first, end] : state_.acknowledged.ranges()) {
      taken -= std::max<int64_t>(0, std::min(end, reading_->taken) - first);
    }
    return std::max<int64_t>(0, taken);
  }
  int64_t waitingBytes() const;

  // ---- the limits (inbox_limits.cc)
  struct Trimmed {
    int64_t dropped = 0;
    bool later = false;  ///< more is to go, which is not visible yet
  };
  /// Drops the oldest beyond the limits. What of it may be with the client at QoS 2 is released
  /// when it comes again.
  Trimmed trim();
  /// What waits, by the index; so that acknowledgements give their octets back from now on.
  void weigh();
  struct Aged {
    int64_t dropped = 0;
    int64_t oldestMs = -1;  ///< when the oldest that remains was published
  };
  /// Drops what was published before `cutoffMs`, but for what is with the client, state (retained)
  /// and what a replay brought.
  Aged dropOld(int64_t cutoffMs);
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
  bool outlived() const;
  bool mayHaveBegun(int64_t id) const;
  /// Below it are those that may be with the client.
  int64_t inFlightEnd() const { return sentEnd_ - int64_t{queuedBelow_}; }
  void setSent(int64_t sentEnd, int64_t inFlightEnd);
  void keepReleases(int64_t end);
  int64_t dropBelow(int64_t floor);
  int64_t without(int64_t count) const;
  int64_t withoutOctets(int64_t excess, int64_t end) const;
  std::optional<int64_t> weight();
  bool weighUpTo(int64_t end);
  std::optional<int64_t> octetsOf(int64_t from, int64_t to, bool whole) const;
  int64_t acknowledgedOctets(int64_t end) const;
  void lighten();
  bool hasAccepted(int64_t id) const;
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
  // Any thread reads what is used up: below the floor, and above it.
  std::atomic<int64_t> used_{0};
  /// Any thread's, where the limits need it. Octets are counted if they are limited.
  struct Counts {
    std::mutex mutex;
    int64_t end = 0;     ///< where new ones are dropped: one past what was let in
    int64_t octets = 0;  ///< of what waits, at least
    int64_t weighedTo = 0;  ///< what lies below is in `octets` by what the index says
    /// Where new ones are dropped: let in and not sequenced; then, by where they end, what a failed
    /// write may still take back; and one past what none takes back any more.
    int64_t owedOctets = 0;
    std::vector<std::pair<int64_t, int64_t>> underway;
    int64_t storedTo = 0;
  };
  const std::unique_ptr<Counts> counts_;
  InboxState state_;
  int64_t sentEnd_ = 0;       ///< ids below it may have been sent on an earlier connection
  uint32_t queuedBelow_ = 0;  ///< so many of the last of those have not: see inFlightEnd()
  bool floorMoved_ = false;  ///< above what is journaled
  bool dirty_ = false;
  bool lazyOnItsWay_ = false;
  bool acceptsOnTheirWay_ = false;
  Seldom<std::vector<Accept>> accepts_;
  std::unique_ptr<Reading> reading_;
};

}  // namespace polylog::router
