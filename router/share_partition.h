// What a share group has done with one partition (Kafka's share-partition, KIP-932): where it
// starts, and runs of offsets above that with what became of each: with a member until a time,
// given back, or done with. It knows no log: its owner says which offsets there are. Whole runs
// change together, so that it is small where members take and accept in order.
//
// On its group's worker only.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/model/share_group.h"

namespace polylog::router {

class SharePartition {
 public:
  using Member = std::shared_ptr<const std::string>;

 private:
  enum class State : uint8_t {
    kAvailable = 0,
    kDone = 1,
    kNothing = 2,  ///< no record, or one that nobody is to see
    kAcquired = 3,
  };
  struct Run {
    int64_t end = 0;  ///< exclusive
    State state = State::kAvailable;
    int16_t deliveries = 0;
    Member member;
    int64_t deadline = 0;
    bool finished() const { return state == State::kDone || state == State::kNothing; }
    bool alike(const Run& other) const {
      return state == other.state && deliveries == other.deliveries && member == other.member &&
             deadline == other.deadline;
    }
  };

 public:
  explicit SharePartition(int64_t start) : start_(start), end_(start) {}

  /// All below is dealt with.
  int64_t start() const { return start_; }
  /// From here on nothing was ever given out.
  int64_t end() const { return end_; }
  /// Offsets from start() on that hold a place: those with a record that aren't new.
  int64_t held() const;
  /// Offsets from start() on that are done with, or hold nothing.
  int64_t finished() const { return progress(start_).finished; }
  struct Progress {
    int64_t start = 0;
    int64_t finished = 0;
  };
  /// What start() and finished() would be after raiseStart(logStart).
  Progress progress(int64_t logStart) const;
  /// The records below have gone from the log.
  void raiseStart(int64_t to);

  /// The first offset at or above `from` that can be acquired; end() if only new ones can.
  int64_t nextAvailable(int64_t from) const;
  /// There is nothing to be had at the offsets [first, last], as far as they could be acquired.
  void skip(int64_t first, int64_t last);

  struct Terms {
    Member member;
    int64_t deadline = 0;  ///< monotonic microseconds
    int64_t most = 0;      ///< records in all
    int64_t mostNew = 0;   ///< of those, new ones
  };
  /// Gives a member what can be acquired of [first, last]; how many that were. Adds to `out`.
  int64_t acquire(int64_t first, int64_t last, Terms& terms, std::vector<ShareRange>& out);

  /// A run of offsets that a verdict has changed: as it was, and what has become of it.
  struct Settled {
    int64_t first = 0;
    Run before;
    State after = State::kDone;
  };
  /// All of it or nothing: kLocked unless all that is spoken of is with the member. Offsets below
  /// start() are passed over. What has changed, but for what was renewed.
  Result<std::vector<Settled>> settle(const Member& member,
                                      const std::vector<ShareVerdicts>& batches, int32_t limit,
                                      int64_t deadline);
  /// What settle() has changed, and nobody else since, is with its member again, until the time it
  /// was with it before.
  void takeBack(const std::vector<Settled>& changed);
  /// What the member has goes back, as if it hadn't been given out: it said nothing of it, and may
  /// never have seen it (as Kafka counts). Whether there was any.
  bool release(const std::string& member);
  /// The same, of some ranges alone, as far as they were given out with that very `grant`
  /// (Terms::member) and not since.
  bool undo(const Member& grant, const std::vector<ShareRange>& ranges);
  /// What was with members for too long goes back, or is done with if it has been delivered `limit`
  /// times. Whether there was any.
  bool expire(int64_t now, int32_t limit);
  /// Of what is with members; nothing if nothing is.
  std::optional<int64_t> nextDeadline() const;

  /// As kSharePartition has it. What is with members counts as waiting, and not as delivered.
  std::string encode() const;
  static Result<SharePartition> decode(const std::string& key, BytesView value);

 private:
  using Runs = std::map<int64_t, Run>;

  Runs::iterator runAt(int64_t offset);
  void split(int64_t at);
  void append(int64_t to, Run run);
  static void finish(Run& run, State state);
  static void giveBack(Run& run, int32_t limit);
  static void neverGiven(Run& run);
  void merge(int64_t first, int64_t last);
  void advance();
  Result<> check(const Member& member, const ShareVerdicts& batch);
  void apply(int64_t first, int64_t last, ShareVerdict verdict, int32_t limit, int64_t deadline,
             std::vector<Settled>& changed);
  template <class Change>
  bool changeAcquired(const Change& change);

  int64_t start_;
  int64_t end_;
  Runs runs_;  ///< by their first offset: all of [start_, end_), without a hole
};

/// u16 length and group name, topic id, u32 partition.
std::string sharePartitionKey(BytesView group, const SharePlace& place);
Result<std::pair<std::string, SharePlace>> parseSharePartitionKey(BytesView key);

}  // namespace polylog::router
